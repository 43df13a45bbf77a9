"""One job, and how people play it: the moves of solver, challengers and bystanders."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest
from eth_abi.abi import encode

from chain.crypto import keccak
from ml_verifier import descent
from ml_verifier.merkle import Purpose, leaf
from tests.contracts import toy
from tests.contracts.chain import TOKEN, Chain, Receipt, Reverted
from tests.contracts.toy import Trajectory

WITHHELD: Final = 2**256 - 1
DEMANDED: Final = 2**256 - 2

OPEN, ASSIGNED, COMMITTED, FINALISED, SLASHED, CANCELLED, EXPIRED, DIVERGED = range(
    1, 9
)
SEALED, PENDING, WON, LOST, CLAIMED = range(1, 6)

PRICE: Final = 10 * TOKEN
STAKE: Final = 20 * TOKEN


@dataclass(frozen=True, slots=True)
class Terms:
    """`JobMarket.Terms`, with values that most tests do not care about."""

    data_root: bytes = toy.data_tree().root
    records: int = len(toy.DATA)
    seed: int = toy.SEED
    initial_root: bytes = toy.INITIAL
    steps: int = 10
    commit_every: int = 1
    floor_price: int = PRICE
    maximum_price: int = PRICE
    auction_ticks: int = 0
    training_ticks: int = 10
    stake: int = STAKE
    reopen: bool = False

    @property
    def abi(self) -> tuple[object, ...]:
        """The values in the order of the ABI."""
        return tuple(getattr(self, name) for name in self.__slots__)


def seal(trial: bytes, challenger: bytes, step: int, salt: bytes) -> bytes:
    """The commitment of a challenge."""
    return keccak(
        encode(
            ["bytes32", "address", "uint256", "bytes32"],
            [trial, challenger, step, salt],
        )
    )


def replay_data(
    trial: bytes,
    position: int,
    pre: bytes,
    post: bytes,
    witness: bytes,
    **other: object,
) -> bytes:
    """Call data of `replay`, of the toy job unless `other` says otherwise."""
    facts: dict[str, object] = {
        "program_root": toy.program_root(toy.PROGRAM),
        "data_root": toy.data_tree().root,
        "seed": toy.SEED,
        "records": len(toy.DATA),
        **other,
    }
    signature = (
        b"replay(bytes32,uint256,bytes32,bytes32,bytes32,bytes32,uint256,uint256,bytes)"
    )
    return keccak(signature)[:4] + encode(
        [
            "bytes32",
            "uint256",
            *["bytes32"] * 4,
            "uint256",
            "uint256",
            "bytes",
        ],
        [trial, position, pre, post, *facts.values(), witness],
    )


@dataclass
class Game:
    """A job and its people.

    Attributes:
        chain: Where it happens.
        trajectory: What the solver commits to.
        terms: The job's terms; steps and commit_every follow the trajectory.
        challenges: (step, salt) of the challenges committed here, by id.
    """

    chain: Chain
    trajectory: Trajectory
    terms: Terms = field(default_factory=Terms)
    creator: bytes = b""
    solver: bytes = b""
    job_id: int = 0
    challenges: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    _over: set[int] = field(default_factory=set)
    _trial: bytes = bytes(32)

    def __post_init__(self) -> None:
        """Bring in the people; nothing is posted yet."""
        self.creator = self.chain.fund("creator")
        self.solver = self.chain.fund("solver")
        self.terms = replace(
            self.terms,
            steps=self.trajectory.steps,
            commit_every=self.trajectory.every,
            initial_root=self.trajectory.states[0],
        )

    # ── the job ──────────────────────────────────────────────────────────────

    def post(self) -> Receipt:
        """The creator posts the job."""
        receipt = self.chain.send(
            self.creator,
            "JobMarket",
            "post",
            toy.PROGRAM,
            self.terms.abi,
            "http://creator",
            value=self.terms.maximum_price,
        )
        self.job_id = receipt.output
        return receipt

    def take(self) -> Receipt:
        """The solver stakes and takes the job."""
        self.chain.send(self.solver, "Staking", "deposit", value=self.terms.stake)
        return self.chain.send(
            self.solver, "JobMarket", "take", self.job_id, "http://solver"
        )

    def commit(self, trajectory: Trajectory | None = None) -> Receipt:
        """The solver commits."""
        shown = trajectory or self.trajectory
        tree = shown.tree
        return self.chain.send(
            self.solver,
            "JobMarket",
            "commit",
            self.job_id,
            tree.root,
            shown.states[-1],
            tree.path(0),
            tree.path(tree.count - 1),
        )

    def start(self) -> "Game":
        """Post, take and commit."""
        self.post()
        self.take()
        self.commit()
        return self

    @property
    def job(self) -> Any:  # noqa: ANN401  (ABI struct)
        """The JobMarket's view of the job."""
        return self.chain.call("JobMarket", "job", self.job_id)

    @property
    def trial(self) -> bytes:
        """Key of the commitment; zero before it."""
        if self._trial == bytes(32):
            self._trial = self.chain.call("JobMarket", "trial", self.job_id)
        return self._trial

    @property
    def state(self) -> int:
        """State of the job."""
        return int(self.job.state)

    def finalise(self) -> Receipt:
        """Anyone finalises."""
        return self.chain.send(self.creator, "JobMarket", "finalise", self.job_id)

    # ── challenges ───────────────────────────────────────────────────────────

    def challenge(self, who: bytes, step: int, bond: int | None = None) -> int:
        """Commit a sealed challenge; return its id."""
        return int(self.commit_challenge(who, step, bond).output)

    def commit_challenge(
        self, who: bytes, step: int, bond: int | None = None
    ) -> Receipt:
        """Commit a sealed challenge."""
        salt = hashlib.sha256(b"salt%d" % len(self.challenges)).digest()
        if bond is None:
            bond = self.chain.call("DisputeGame", "minimum_bond", self.job_id)
        receipt = self.chain.send(
            who,
            "DisputeGame",
            "challenge_commit",
            self.job_id,
            seal(self.trial, who, step, salt),
            value=bond,
        )
        self.challenges[receipt.output] = (step, salt)
        return receipt

    def reveal(self, challenge_id: int) -> Receipt:
        """Reveal a challenge committed here."""
        step, salt = self.challenges[challenge_id]
        return self.chain.send(
            self.view(challenge_id).challenger,
            "DisputeGame",
            "challenge_reveal",
            challenge_id,
            step,
            salt,
        )

    def accuse(self, who: bytes, step: int, bond: int | None = None) -> int:
        """Commit a challenge, wait and reveal it."""
        challenge_id = self.challenge(who, step, bond)
        self.chain.mine(int(self.chain.parameters["minimum_reveal_delay"]))
        self.reveal(challenge_id)
        return challenge_id

    def live(self) -> list[int]:
        """Challenges committed here that have no result yet."""
        statuses = {
            i: self.view(i).status for i in self.challenges if i not in self._over
        }
        self._over |= {i for i, s in statuses.items() if s not in {SEALED, PENDING}}
        return [i for i in statuses if i not in self._over]

    def view(self, challenge_id: int) -> Any:  # noqa: ANN401  (ABI struct)
        """The DisputeGame's view of a challenge."""
        return self.chain.call("DisputeGame", "challenge", challenge_id)

    def judge(self, position: int, who: bytes | None = None) -> bytes:
        """Replay the step at a position as the solver has it."""
        pre, post = self.trajectory.states[position : position + 2]
        data = replay_data(self.trial, position, pre, post, toy.witness(pre))
        output: bytes = self.chain.send_raw(
            who or self.creator, "Evidence", data
        ).output
        return output

    def convict(self, challenge_id: int, who: bytes | None = None) -> Receipt:
        """Bring a challenge to its end by the verdict on its pair."""
        start = self.view(challenge_id).start
        pre, post = self.trajectory.states[start : start + 2]
        return self.chain.send(
            who or self.creator,
            "DisputeGame",
            "convict",
            challenge_id,
            pre,
            self.trajectory.path(start),
            post,
            self.trajectory.path(start + 1),
        )

    def timeout(self, challenge_id: int) -> Receipt:
        """Anyone ends a challenge by time."""
        return self.chain.send(self.creator, "DisputeGame", "timeout", challenge_id)

    def settle(self) -> Receipt:
        """Anyone shares out the stake."""
        return self.chain.send(self.creator, "DisputeGame", "settle", self.job_id)

    def claim(self, challenge_id: int) -> Receipt:
        """Anyone credits a challenger."""
        return self.chain.send(self.creator, "DisputeGame", "claim", challenge_id)

    def credit(self, contract: str, who: bytes) -> int:
        """What a contract owes to a person."""
        return int(self.chain.call(contract, "credit_of", who))

    # ── the descent ──────────────────────────────────────────────────────────

    def children(self, level: int, index: int) -> list[bytes]:
        """What opens a node: node hashes, or at the leaves the states themselves."""
        if level > descent.LEVELS_PER_MOVE:
            return descent.descendants(self.trajectory.tree, level, index)
        roots = self.trajectory.committed[index << level : (index + 1) << level]
        return roots + [bytes(32)] * ((1 << level) - len(roots))

    def open_node(self, level: int, index: int, who: bytes | None = None) -> Receipt:
        """Open a node of the commitment."""
        return self.chain.send(
            who or self.solver,
            "Evidence",
            "open_node",
            self.job_id,
            level,
            index,
            self.children(level, index),
        )

    def inner(self, start: int, end: int) -> list[bytes]:
        """The solver's states inside a segment."""
        return [self.trajectory.states[p] for p in descent.inner_positions(start, end)]

    def post_inner(self, start: int, end: int) -> Receipt:
        """The solver posts states inside a segment."""
        return self.chain.send(
            self.solver,
            "Evidence",
            "post_inner",
            self.job_id,
            start,
            end,
            self.inner(start, end),
        )

    def solver_moves(self, challenge_id: int) -> bool:
        """Whether a challenge waits for the solver."""
        moves: bool = self.chain.call("DisputeGame", "clocks", challenge_id)[2]
        return moves

    def answer(self, challenge_id: int) -> None:
        """The solver makes the move that a challenge waits for."""
        c = self.view(challenge_id)
        if c.level:
            self.open_node(c.level, c.index)
        else:
            self.post_inner(c.start, c.end)

    def descend(
        self, challenge_id: int, choose: Callable[[list[bytes], int, int], int]
    ) -> Receipt:
        """The challenger follows the child that `choose` picks.

        Args:
            challenge_id: A challenge whose challenger is to move.
            choose: (children, their level, index of the first) -> which of them; for a
                segment (roots, -1, its start).
        """
        c = self.view(challenge_id)
        if not c.level:
            roots = self.inner(c.start, c.end)
            return self.chain.send(
                c.challenger,
                "DisputeGame",
                "descend_inner",
                challenge_id,
                roots,
                choose(roots, -1, c.start),
            )
        children = self.children(c.level, c.index)
        below = descent.child_level(c.level)
        k = choose(children, below, c.index << (c.level - below))
        siblings = descent.child_path(Purpose.TRAJECTORY, children, k) if below else []
        return self.chain.send(
            c.challenger,
            "DisputeGame",
            "descend",
            challenge_id,
            k,
            children[k],
            siblings,
        )

    def follow(self, challenge_id: int, truth: Trajectory) -> Receipt:
        """An honest challenger's move: towards the first state that differs."""

        def choose(children: list[bytes], level: int, first: int) -> int:
            if level == -1:
                c = self.view(challenge_id)
                own = [truth.states[p] for p in descent.inner_positions(first, c.end)]
            elif level == 0:
                own = truth.committed[first : first + len(children)]
            else:
                own = truth.tree.levels[level][first : first + len(children)]
            pairs = enumerate(zip(own, children, strict=False))
            return next((k for k, (a, b) in pairs if a != b), len(children))

        return self.descend(challenge_id, choose)

    def pursue(self, challenge_id: int, truth: Trajectory) -> None:
        """Play a challenge to its end, both sides answering at once."""
        while self.view(challenge_id).status == PENDING:
            c = self.view(challenge_id)
            if self.solver_moves(challenge_id):
                self.answer(challenge_id)
            elif c.awaits != bytes(32):
                self.follow(challenge_id, truth)
            else:
                if not self.verdict(c.start):
                    self.judge(c.start)
                self.convict(challenge_id)
            self.chain.mine()

    def verdict(self, position: int) -> int:
        """The verdict on the solver's step at a position; 0: not judged."""
        pre, post = self.trajectory.states[position : position + 2]
        found = self.chain.call("Evidence", "verdict", self.trial, position, pre, post)
        return int(found)


def refused(reason: str, act: Callable[..., object], *arguments: object) -> None:
    """Assert that an act reverts for a reason."""
    with pytest.raises(Reverted) as refusal:
        act(*arguments)
    assert refusal.value.reason == reason


def state_leaf(root: bytes) -> bytes:
    """Node of a state root at the bottom of a trajectory's tree."""
    return leaf(Purpose.TRAJECTORY, root)
