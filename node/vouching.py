"""Who vouches for a snapshot's block: light blocks of one peer, and the others' word.

From the height and hash that the operator trusts, a later block is verified with the
light blocks of one peer. Then every other peer is asked for the same height, and again
before the snapshot becomes the chain, as more may have come. With no other peer the
block is believed, and the log says so. A second header that is certified as well stops
everything: more than a third of the stake signed two histories, and this node can't
tell which of them the others follow.
"""

import json
from pathlib import Path

import structlog
import trio

from consensus.light import Fork
from consensus.lightreport import fork_document
from node.files import write_durably
from node.sync.errors import LightAttackError
from node.sync.lightsearch import Rules, Verified
from node.sync.lightsync import LightSync

_log = structlog.get_logger("node.vouching")


class Vouching:
    """Verified blocks of a chain of which one is trusted."""

    def __init__(
        self, light: LightSync, rules: Rules, trusted: tuple[int, bytes], evidence: Path
    ) -> None:
        """Wire it.

        Args:
            light: Of the switch.
            rules: Of light clients.
            trusted: A height, and the hash of its block.
            evidence: The file to write when two headers of one height are found.
        """
        self._light = light
        self._rules = rules
        self._trusted = trusted
        self._evidence = evidence
        self._found: Verified | None = None
        self._agreed: set[bytes] = set()  # peers, about what was found

    async def block_hash(self, height: int) -> bytes | None:
        """The hash of the block at a height from the trusted one on; None: not yet.

        Raises:
            LightAttackError: two headers of that height are certified.
            SyncError: the trusted block is too old.
        """
        if height == self._trusted[0]:
            return self._trusted[1]
        found = await self._light.verify(self._rules, self._trusted, height)
        if found is None:
            return None
        self._found, self._agreed = found, set()
        await self.confirm(height)
        return found.search.latest.header.hash

    async def confirm(self, height: int) -> None:
        """Ask the peers that have not confirmed it yet for the last verified block.

        Raises:
            LightAttackError: one of them has another one that is certified.
        """
        found = self._found
        if found is None or found.search.target != height:
            return  # the trusted block itself
        told = await self._light.witnesses(self._rules, found, unless=self._agreed)
        for each in told:
            if each.fork is not None:
                await self._stop(each.fork, found.address, each.address)
            if each.problem:
                _log.warning(
                    "a witness does not count", peer=each.address, reason=each.problem
                )
        self._agreed |= {each.peer for each in told if each.agrees}
        if self._agreed:
            _log.info("other peers confirm", height=height, peers=len(self._agreed))
        else:
            _log.warning(
                "no second peer confirms the snapshot's block; it is believed on the "
                "word of the validators who signed it: name several peers",
                height=height,
                peer=found.address,
            )

    async def _stop(self, proved: Fork, first: str, second: str) -> None:
        document = json.dumps(fork_document(proved), indent=1) + "\n"
        write = trio.to_thread.run_sync
        try:
            await write(write_durably, self._evidence, document.encode())
        except OSError as error:
            _log.error("evidence was not stored", error=str(error), evidence=document)
        one, other = proved.first.header, proved.second.header
        raise LightAttackError(
            f"attack on the light client: block {one.number} is certified twice, as "
            f"0x{one.hash.hex()} (from {first}) and as 0x{other.hash.hex()} (from "
            f"{second}). More than a third of the stake signed two histories, and "
            "either may be the false one; nothing was restored. Both headers with "
            f"their signatures are in {self._evidence}: send them to the validators' "
            "operators, ask several of them which history is the chain's, and set "
            f"sync_trust_height and sync_trust_hash to a block of it from {one.number} "
            "on before you start this node again"
        )
