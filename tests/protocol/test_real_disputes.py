"""The two promises with nothing replaced: contracts, precompile, judge and kernels.

`tests/contracts/test_properties.py` plays thousands of disputes over toy states. Here
the states are those of real training, the cheats are those that the solver offers, and
the verdict is the kernels'. Random are the job, the cheat and its step, how sparse the
commitment is, and what hostile challengers present to the judge.
"""

import hashlib
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings, strategies as st
from typing_extensions import override

from lockstep.solver import cheats
from lockstep.training import Run, Work
from ml_verifier import judge
from ml_verifier.session import AnyState, Session
from ml_verifier.state import State
from ml_verifier.witness import build_witness
from tests.contracts.chain import Chain, Receipt, Reverted
from tests.contracts.play import (
    CLAIMED,
    FINALISED,
    LOST,
    PRICE,
    SLASHED,
    STAKE,
    WITHHELD,
    Game,
    Terms,
    replay_data,
)
from tests.contracts.toy import Trajectory
from tests.lockstep.workload import work

CHEATS = ["fake-step", "wrong-lr", "swap-batches", "bit-flip", "noise", "other-data"]
CHEATS += ["copy"]
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # fsync costs nothing there
LONG_ENOUGH = 20 + 8 + 2 * 20 + 30


@dataclass
class RealGame(Game):
    """A job whose program, data and states are real.

    Attributes:
        work: What is trained.
        truth: The states of an honest run.
    """

    work: Work = field(default_factory=work)
    truth: list[AnyState] = field(default_factory=list[AnyState])

    @override
    def post(self) -> Receipt:
        receipt = self.chain.send(
            self.creator,
            "JobMarket",
            "post",
            self.work.program.encoded,
            self.terms.abi,
            "http://creator",
            value=self.terms.maximum_price,
        )
        self.job_id = receipt.output
        return receipt

    @override
    def judge(self, position: int, who: bytes | None = None) -> bytes:
        """Replay with the honest witness, which everybody can make."""
        pre, post = self.trajectory.states[position : position + 2]
        receipt = self.present(position, pre, post, self.witness(position), who)
        output: bytes = receipt.output
        return output

    def witness(self, position: int) -> bytes:
        """The witness of the honest run's step."""
        job = self.work
        state = self.truth[position]
        return build_witness(job.program, job.seed, job.dataset, state)

    def present(
        self,
        position: int,
        pre: bytes,
        post: bytes,
        witness: bytes,
        who: bytes | None = None,
        **other: Any,  # noqa: ANN401  (facts of several types)
    ) -> Receipt:
        """Put any question to the judge."""
        facts = {
            "program_root": self.work.program.root,
            "data_root": self.work.dataset.root,
            "seed": self.work.seed,
            "records": self.work.dataset.records,
            **other,
        }
        data = replay_data(self.trial, position, pre, post, witness, **facts)
        return self.chain.send_raw(who or self.creator, "Evidence", data)


def run(job: Work, make: cheats.RunFactory = Run) -> list[bytes]:
    """Train in a throw-away directory; return every root."""
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        running = make(job, Path(folder))
        while not running.done:
            running.step()
        return running.roots


def honest_states(job: Work) -> list[AnyState]:
    """Every state of an honest run."""
    session = Session(job.program, job.seed, job.dataset)
    return [session.state(), *(session.state() for _ in session.run(job.steps))]


def game_of(job: Work, roots: list[bytes]) -> RealGame:
    """Post, take and commit to these roots."""
    terms = replace(
        Terms(),
        data_root=job.dataset.root,
        records=job.dataset.records,
        seed=job.seed,
    )
    trajectory = Trajectory(roots, job.commit_every)
    game = RealGame(Chain(judge), trajectory, terms, work=job, truth=honest_states(job))
    game.start()
    return game


jobs = st.builds(
    lambda steps, every, rate, seed: replace(
        work(steps, min(every, steps), rate), seed=seed
    ),
    steps=st.integers(2, 90),
    every=st.sampled_from([1, 1, 3, 70]),
    rate=st.sampled_from([0.01, 0.5, 1e30]),
    seed=st.integers(0, 2**64 - 1),
)
few = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking costs minutes
)


@few
@given(
    job=jobs,
    name=st.sampled_from(CHEATS),
    where=st.integers(0, 1000),
    withheld=st.booleans(),
)
def test_every_cheat_is_convicted(
    job: Work,
    name: str,
    where: int,
    withheld: bool,  # noqa: FBT001  (hypothesis names its arguments)
) -> None:
    if not all(isinstance(s, State) for s in honest_states(job)):
        return  # the cheats leave diverging jobs alone
    step = where % (job.steps - 1)
    truth = run(job)
    faked = run(job, cheats.parse(f"{name}@{step}").run)
    if faked == truth:
        return  # e.g. swapped batches of the same records
    game = game_of(job, faked)
    honest = Trajectory(truth, job.commit_every)
    shown = zip(game.trajectory.committed, honest.committed, strict=True)
    differing = [k for k, (a, b) in enumerate(shown) if a != b]
    if not differing:
        return  # a sparse commitment to nothing that is wrong
    whistleblower = game.chain.fund("whistleblower")
    start = (differing[0] - 1) * job.commit_every
    challenge_id = game.accuse(whistleblower, WITHHELD if withheld else start)
    game.pursue(challenge_id, honest)
    assert game.state == SLASHED
    assert game.credit("JobMarket", game.creator) >= PRICE
    game.chain.mine(LONG_ENOUGH)
    game.settle()
    game.claim(challenge_id)
    assert game.view(challenge_id).status == CLAIMED
    bond = game.view(challenge_id).bond
    assert game.credit("DisputeGame", whistleblower) > bond + STAKE // 3


LIES = st.sampled_from(
    ["noise", "next", "seed", "records", "program", "data", "flip", "truncate", "post"]
)


@few
@given(
    job=jobs,
    attacks=st.lists(
        st.tuples(LIES, st.integers(0, 1000), st.integers(0, 10**6)),
        max_size=5,
        unique=True,
    ),
)
def test_no_honest_solver_is_convicted(
    job: Work, attacks: list[tuple[str, int, int]]
) -> None:
    truth = run(job)
    game = game_of(job, truth)
    mallory = game.chain.fund("mallory")
    for lie, where, byte in attacks:
        step = where % job.steps
        start = step - step % job.commit_every
        challenge_id = game.accuse(mallory, start)
        while game.view(challenge_id).awaits != bytes(32):
            if game.solver_moves(challenge_id):
                game.answer(challenge_id)
            game.descend(
                challenge_id, lambda roots, *_, place=where: place % (len(roots) + 1)
            )
        position = game.view(challenge_id).start
        _lie(game, lie, position, byte)
        if not game.verdict(position):
            game.judge(position, game.solver)
        game.convict(challenge_id, game.solver)
        assert game.view(challenge_id).status == LOST
    game.chain.mine(LONG_ENOUGH)
    game.finalise()
    assert game.state == FINALISED
    assert game.credit("JobMarket", game.solver) == PRICE


def _lie(game: RealGame, lie: str, position: int, byte: int) -> None:
    """Present something false; it must be refused, or say nothing about this pair."""
    pre, post = game.trajectory.states[position : position + 2]
    witness = bytearray(game.witness(position))
    other: dict[str, Any] = {}
    if lie == "noise":
        witness = bytearray(byte.to_bytes(8, "big") * 50)
    elif lie == "next":
        position += 1
    elif lie in {"seed", "records"}:
        other[lie] = getattr(game.terms, lie) + 1
    elif lie in {"program", "data"}:
        other[f"{lie}_root"] = bytes(32)
    elif lie == "flip":
        witness[byte % len(witness)] ^= 1 << byte % 8
    elif lie == "truncate":
        del witness[byte % len(witness) :]
    else:  # true, and about a pair that the solver never committed to
        other_post = hashlib.sha256(byte.to_bytes(8, "big")).digest()
        verdict = game.present(position, pre, other_post, bytes(witness))
        assert verdict.output == b"INVALID".ljust(32, b"\0")
        return
    try:
        game.present(position, pre, post, bytes(witness), **other)
    except Reverted:
        return
    raise AssertionError(f"a false witness ({lie}) was accepted")
