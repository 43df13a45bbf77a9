"""What is checked of a block from a peer before it is executed. Pure.

The parent is final here, so its `extraData` names the set that votes at this height.
A block passes when more than two thirds of that set's stake precommitted it, and when
its transactions and sidecar are the ones that its header commits to: the certificate
covers the header alone, and a wrong body must be its sender's fault, not the chain's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chain.block import Block
from chain.errors import Malformed
from chain.header import Header
from chain.sidecar import CommitCertificate
from chain.trie import ordered_root
from consensus.certificate import verify_certificate
from consensus.errors import InvalidCertificate
from consensus.validators import ValidatorSet
from node.sync.assembly import EncodedBlock
from node.sync.errors import BadBlockError, ForkError

FindSet = Callable[[bytes], ValidatorSet | None]


@dataclass(frozen=True, slots=True)
class Final:
    """A block with the proof that it is final."""

    block: Block
    certificate: CommitCertificate


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came out of a batch of consecutive blocks.

    Attributes:
        good: The first ones, verified.
        bad: Why the next one is not final; None when it is, or was not tried because
            its validators are not known yet.
    """

    good: tuple[Final, ...]
    bad: BadBlockError | None = None


def verify_body(block: Block) -> None:
    """Check that transactions and sidecar are those of the header.

    Raises:
        BadBlockError: they are not.
    """
    header = block.header
    for name, expected, got in (
        (
            "transactionsRoot",
            header.transactions_root,
            ordered_root(block.transactions),
        ),
        (
            "parentBeaconBlockRoot",
            header.parent_beacon_block_root,
            block.sidecar.root(),
        ),
    ):
        if expected != got:
            raise BadBlockError(
                f"block {block.number}: {name}: expected 0x{expected.hex()}, "
                f"its body gives 0x{got.hex()}"
            )


def verify_block(
    genesis_hash: bytes,
    parent: Header,
    validators: ValidatorSet,
    received: EncodedBlock,
) -> Final:
    """Decode and check one block.

    Args:
        genesis_hash: Of the chain.
        parent: The final header before it.
        validators: The set whose hash is the parent's `extraData`.
        received: From a peer.

    Raises:
        BadBlockError: it is not the final block after `parent`.
        ForkError: it is final, but does not follow `parent`.
    """
    try:
        block = Block.decode(received.block)
        certificate = CommitCertificate.decode(received.certificate)
        if block.number != parent.number + 1:
            raise BadBlockError(
                f"expected block {parent.number + 1}, got block {block.number}"
            )
        verify_certificate(
            genesis_hash,
            certificate,
            validators,
            height=block.number,
            block_hash=block.hash,
        )
    except (Malformed, InvalidCertificate) as error:
        raise BadBlockError(f"block {parent.number + 1}: {error}") from error
    if block.header.parent_hash != parent.hash:
        raise ForkError(
            f"block {block.number} 0x{block.hash.hex()} is final and follows "
            f"0x{block.header.parent_hash.hex()}; ours follows 0x{parent.hash.hex()}"
        )
    verify_body(block)
    return Final(block, certificate)


def verify_blocks(
    genesis_hash: bytes,
    parent: Header,
    find_set: FindSet,
    batch: Sequence[EncodedBlock],
) -> Verdict:
    """Check consecutive blocks as far as their validators are known.

    Raises:
        ForkError: see `verify_block`.
    """
    good: list[Final] = []
    for received in batch:
        validators = find_set(parent.extra_data)
        if validators is None:
            break
        try:
            final = verify_block(genesis_hash, parent, validators, received)
        except BadBlockError as error:
            return Verdict(tuple(good), error)
        good.append(final)
        parent = final.block.header
    return Verdict(tuple(good))
