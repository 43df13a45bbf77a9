"""The DisputeGame, the Evidence and the Demands as Python objects."""

from collections.abc import Sequence
from typing import cast

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from lockstep.client.connection import Connection, Receipt
from lockstep.client.views import Challenge, Clocks, Demand, DisputeParameters, Docket
from lockstep.errors import ChainError
from ml_verifier.judge import ReplayCall

__all__ = ["Demands", "Disputes", "Evidence", "seal"]

_NAME = "DisputeGame"
_REPLAY_TYPES = (
    "bytes32",
    "uint256",
    "bytes32",
    "bytes32",
    "bytes32",
    "bytes32",
    "uint256",
    "uint256",
    "bytes",
)
_REPLAY = keccak(f"replay({','.join(_REPLAY_TYPES)})".encode())[:4]


def seal(trial: bytes, challenger: str, step: int, salt: bytes) -> bytes:
    """The commitment to a place in a trajectory; only its challenger can reveal it."""
    return keccak(
        encode(
            ["bytes32", "address", "uint256", "bytes32"],
            [trial, challenger, step, salt],
        )
    )


class Disputes:
    """Challenges, their moves and their ends."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ── views ────────────────────────────────────────────────────────────────

    def parameters(self) -> DisputeParameters:
        """Windows, clocks and bonds of this chain."""
        answer = self._connection.call(_NAME, "parameters")
        return DisputeParameters(*cast("Sequence[int]", answer))

    def challenge_count(self) -> int:
        """Number of challenges; their ids start at 1."""
        return cast("int", self._connection.call(_NAME, "challenge_count"))

    def challenge(self, challenge_id: int) -> Challenge:
        """A challenge.

        Raises:
            ChainError: there is none of this id.
        """
        answer = self._connection.call(_NAME, "challenge", challenge_id)
        found = Challenge.from_abi(challenge_id, answer)
        if found is None:
            raise ChainError(
                f"there is no challenge {challenge_id}; the newest is "
                f"{self.challenge_count()}"
            )
        return found

    def clocks(self, challenge_id: int) -> Clocks:
        """Whose clock runs, and what both have burned."""
        answer = self._connection.call(_NAME, "clocks", challenge_id)
        return Clocks(*cast("tuple[int, int, bool]", answer))

    def docket(self, trial: bytes) -> Docket:
        """The sums over all challenges of a commitment."""
        answer = self._connection.call(_NAME, "docket", trial)
        return Docket(*cast("tuple[int, int, int, int, int, bool, int, int]", answer))

    def minimum_bond(self, job_id: int) -> int:
        """Wei that a challenge must put down now."""
        return cast("int", self._connection.call(_NAME, "minimum_bond", job_id))

    def credit(self, address: str) -> int:
        """Wei that the game owes to an address."""
        return cast("int", self._connection.call(_NAME, "credit_of", address))

    def can_reveal(self, challenge_id: int, step: int, salt: bytes) -> bool:
        """Whether `challenge_reveal` would be accepted now."""
        return self._connection.accepts(
            _NAME, "challenge_reveal", challenge_id, step, salt
        )

    def can(self, function: str, number: int) -> bool:
        """Whether `timeout`, `settle` or `claim` of a number would be accepted now."""
        return self._connection.accepts(_NAME, function, number)

    # ── the challenger's moves ───────────────────────────────────────────────

    def challenge_commit(self, job_id: int, commitment: bytes, bond: int) -> Receipt:
        """Challenge a commitment without saying where."""
        return self._connection.send(
            _NAME, "challenge_commit", job_id, commitment, value=bond
        )

    def challenge_reveal(self, challenge_id: int, step: int, salt: bytes) -> Receipt:
        """Say where."""
        return self._connection.send(
            _NAME, "challenge_reveal", challenge_id, step, salt
        )

    def descend(
        self, challenge_id: int, child: int, node: bytes, siblings: Sequence[bytes]
    ) -> Receipt:
        """Follow one child of the opened node at which the challenge stands."""
        return self._connection.send(
            _NAME, "descend", challenge_id, child, node, list(siblings)
        )

    def descend_inner(
        self, challenge_id: int, roots: Sequence[bytes], part: int
    ) -> Receipt:
        """Follow one part of a segment whose inner roots are posted."""
        return self._connection.send(
            _NAME, "descend_inner", challenge_id, list(roots), part
        )

    def convict(
        self,
        challenge_id: int,
        pre_root: bytes,
        pre_proof: Sequence[bytes],
        post_root: bytes,
        post_proof: Sequence[bytes],
    ) -> Receipt:
        """End a challenge that stands at one step by the verdict on it."""
        return self._connection.send(
            _NAME,
            "convict",
            challenge_id,
            pre_root,
            list(pre_proof),
            post_root,
            list(post_proof),
        )

    # ── ends ─────────────────────────────────────────────────────────────────

    def timeout(self, challenge_id: int) -> Receipt:
        """End a challenge in which one side has used up its time."""
        return self._connection.send(_NAME, "timeout", challenge_id)

    def settle(self, job_id: int) -> Receipt:
        """Share out a convicted solver's stake."""
        return self._connection.send(_NAME, "settle", job_id)

    def claim(self, challenge_id: int) -> Receipt:
        """Credit a challenger with its bond and its part of the share."""
        return self._connection.send(_NAME, "claim", challenge_id)

    def withdraw(self) -> Receipt:
        """Pay out everything the game owes to this account."""
        return self._connection.send(_NAME, "withdraw")


class Evidence:
    """Permanent facts: verdicts, opened nodes, inner roots. Anyone may add a truth."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def verdict(
        self, trial: bytes, position: int, pre_root: bytes, post_root: bytes
    ) -> bool | None:
        """What the judge said about a step; None if it was not asked."""
        answer = self._connection.call(
            "Evidence", "verdict", trial, position, pre_root, post_root
        )
        return {0: None, 1: True, 2: False}[cast("int", answer)]

    def replay(self, call: ReplayCall) -> Receipt:
        """Have the judge replay a step and record its verdict."""
        arguments = (
            call.trial,
            call.position,
            call.pre_root,
            call.post_root,
            call.program_root,
            call.data_root,
            call.seed,
            call.records,
            call.witness,
        )
        data = _REPLAY + encode(_REPLAY_TYPES, arguments)
        return self._connection.send_data("Evidence", "replay", data)

    def open_node(
        self, job_id: int, level: int, index: int, children: Sequence[bytes]
    ) -> Receipt:
        """Open a node of the commitment's tree by its descendants."""
        return self._connection.send(
            "Evidence", "open_node", job_id, level, index, list(children)
        )

    def post_inner(
        self, job_id: int, start: int, end: int, roots: Sequence[bytes]
    ) -> Receipt:
        """Commit to the states inside a segment; the solver only."""
        return self._connection.send(
            "Evidence", "post_inner", job_id, start, end, list(roots)
        )


class Demands:
    """Demands for withheld data, and their answers."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def demand(self, demand_id: int) -> Demand:
        """A demand.

        Raises:
            ChainError: there is none of this id.
        """
        answer = self._connection.call("Demands", "demand", demand_id)
        found = Demand.from_abi(demand_id, answer)
        if found is None:
            raise ChainError(f"there is no demand {demand_id}")
        return found

    def minimum_bond(self) -> int:
        """Wei that a demand must put down."""
        return cast("int", self._connection.call("Demands", "minimum_bond"))

    def credit(self, address: str) -> int:
        """Wei that the contract owes to an address."""
        return cast("int", self._connection.call("Demands", "credit_of", address))

    def can(self, function: str, demand_id: int) -> bool:
        """Whether `timeout` or `refund` of a demand would be accepted now."""
        return self._connection.accepts("Demands", function, demand_id)

    def demand_record(self, job_id: int, record: int, bond: int) -> Receipt:
        """Demand one record of the data."""
        return self._connection.send(
            "Demands", "demand_record", job_id, record, value=bond
        )

    def demand_tile(
        self,
        job_id: int,
        position: int,
        slot: int,
        tile: int,
        opening: bytes,
        bond: int,
    ) -> Receipt:
        """Demand one tile of a committed state, showing the same tile of h_0."""
        return self._connection.send(
            "Demands", "demand_tile", job_id, position, slot, tile, opening, value=bond
        )

    def answer_record(
        self, job_id: int, record: int, payload: bytes, path: Sequence[bytes]
    ) -> Receipt:
        """Answer a demand for a record."""
        return self._connection.send(
            "Demands", "answer_record", job_id, record, payload, list(path)
        )

    def answer_tile(
        self,
        job_id: int,
        position: int,
        slot: int,
        tile: int,
        state_root: bytes,
        path: Sequence[bytes],
        opening: bytes,
    ) -> Receipt:
        """Answer a demand for a tile of a committed state."""
        return self._connection.send(
            "Demands",
            "answer_tile",
            job_id,
            position,
            slot,
            tile,
            state_root,
            list(path),
            opening,
        )

    def timeout(self, demand_id: int) -> Receipt:
        """Convict a solver that has let a demand go unanswered."""
        return self._connection.send("Demands", "timeout", demand_id)

    def refund(self, demand_id: int) -> Receipt:
        """Get back the bond of a demand that a conviction has overtaken."""
        return self._connection.send("Demands", "refund", demand_id)

    def withdraw(self) -> Receipt:
        """Pay out everything the contract owes to this account."""
        return self._connection.send("Demands", "withdraw")
