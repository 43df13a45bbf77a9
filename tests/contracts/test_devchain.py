"""A whole dispute on the product's chain: signed transactions, the real judge."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest

from chain import addresses
from ml_verifier.commitment import open_tile
from ml_verifier.data import Dataset, encode_records
from ml_verifier.program import Program
from ml_verifier.session import AnyState, Session
from ml_verifier.state import State
from ml_verifier.trajectory import Trajectory
from ml_verifier.witness import build_witness, witness_program
from tests.contracts.play import (
    DEMANDED,
    FINALISED,
    SLASHED,
    WITHHELD,
    replay_data,
    seal,
)
from tests.support.devchain import DevChain, Reverted, Sent

VECTORS: Final = Path(__file__).parent.parent / "vectors"
TOKEN: Final = 10**18
PRICE, STAKE = 10 * TOKEN, 20 * TOKEN
STEPS, WRONG, SEED, RECORDS = 6, 3, 7, 11
SALT: Final = b"\x05" * 32
CREATOR, SOLVER, ALICE = range(3)


@functools.cache
def program() -> Program:
    """An MLP under SGD with momentum, as the vector of `replay` carries it."""
    vector = json.loads((VECTORS / "replay.json").read_text(encoding="utf-8"))
    return witness_program(bytes.fromhex(vector["witness"]))


@functools.cache
def training() -> tuple[Dataset, tuple[AnyState, ...]]:
    """The honest states of the job."""
    generator = np.random.default_rng(1)
    x = generator.standard_normal(
        (RECORDS, *program().fields[0].type.shape), np.float32
    )
    y = generator.integers(0, 3, RECORDS)
    data = Dataset(program(), encode_records(program(), [x, y]))
    session = Session(program(), SEED, data)
    initial = session.state()
    return data, (initial, *(session.state() for _ in session.run(STEPS)))


def one_bit_off(states: Sequence[AnyState]) -> list[bytes]:
    """Roots of a trajectory in which one bit of one step is wrong, then go on."""
    data, _ = training()
    wrong = states[WRONG + 1]
    assert isinstance(wrong, State)
    tensors = [t.copy() for t in wrong.tensors]
    tensors[1].view(np.uint32).flat[0] ^= np.uint32(1)
    session = Session(program(), SEED, data)
    session.resume(State(WRONG + 1, tuple(tensors)))
    roots = [s.root for s in states[: WRONG + 1]] + [session.root()]
    roots += [session.root() for _ in session.run(STEPS)]
    return roots


@dataclass
class Stage:
    """The job on a devnet.

    Attributes:
        roots: What the solver commits to.
    """

    chain: DevChain
    roots: Sequence[bytes]
    job_id: int = 0

    @property
    def trajectory(self) -> Trajectory:
        return Trajectory(STEPS, 1, tuple(self.roots))

    def send(
        self, who: int, contract: str, function: str, *given: object, value: int = 0
    ) -> Sent:
        """Send as one of the devnet's accounts."""
        return self.chain.contract(contract).send(
            function, *given, sender=self.chain.accounts[who], value=value
        )

    def call(self, contract: str, function: str, *given: object) -> Any:  # noqa: ANN401  (ABI values)
        """Call a view."""
        return self.chain.contract(contract).call(function, *given)

    def start(self) -> "Stage":
        """Post, take and commit."""
        data, states = training()
        terms = (
            *(data.root, RECORDS, SEED, states[0].root, STEPS, 1),
            *(PRICE, PRICE, 0, 50, STAKE, False),
        )
        posted = self.send(
            *(CREATOR, "JobMarket", "post", program().encoded, terms, "http://c"),
            value=PRICE,
        )
        self.job_id = posted.event("JobPosted")["job_id"]
        self.send(SOLVER, "Staking", "deposit", value=STAKE)
        self.send(SOLVER, "JobMarket", "take", self.job_id, "http://s")
        shown = self.trajectory
        self.send(
            *(SOLVER, "JobMarket", "commit", self.job_id, shown.root, shown.leaves[-1]),
            *(shown.path(0), shown.path(STEPS)),
        )
        return self

    @property
    def state(self) -> int:
        return int(self.call("JobMarket", "job", self.job_id)["state"])

    @property
    def trial(self) -> bytes:
        found: bytes = self.call("JobMarket", "trial", self.job_id)
        return found

    def accuse(self, step: int) -> int:
        """Alice commits and reveals a challenge."""
        alice = self.chain.accounts[ALICE].address
        bond = self.call("DisputeGame", "minimum_bond", self.job_id)
        sealed = seal(self.trial, alice, step, SALT)
        sent = self.send(
            *(ALICE, "DisputeGame", "challenge_commit", self.job_id, sealed), value=bond
        )
        challenge_id = int(sent.event("ChallengeCommitted")["challenge_id"])
        self.send(ALICE, "DisputeGame", "challenge_reveal", challenge_id, step, SALT)
        return challenge_id

    def replay(self, step: int, who: int = ALICE) -> Sent:
        """Replay one step with the witness of the honest state before it."""
        data, states = training()
        call = replay_data(
            self.trial,
            step,
            self.roots[step],
            self.roots[step + 1],
            build_witness(program(), SEED, data, states[step]),
            program_root=program().root,
            data_root=data.root,
            seed=SEED,
            records=RECORDS,
        )
        return self.chain.send(
            self.chain.accounts[who], to=addresses.EVIDENCE, data=call
        )

    def convict(self, challenge_id: int, step: int) -> Sent:
        """Anyone brings the challenge to its end."""
        shown = self.trajectory
        return self.send(
            *(SOLVER, "DisputeGame", "convict", challenge_id),
            *(shown.leaves[step], shown.path(step)),
            *(shown.leaves[step + 1], shown.path(step + 1)),
        )

    def check_conservation(self, supply: int) -> None:
        """Genesis supply = what is held + what base fees burned."""
        holders = {
            *(a.address for a in self.chain.accounts),
            *addresses.SYSTEM_CONTRACTS.values(),
            *(addresses.ZERO, b"\xcb" * 20),
        }
        held = sum(self.chain.balance(holder) for holder in holders)
        assert held + self.burned_fees() == supply

    def burned_fees(self) -> int:
        """Base fees of all blocks."""
        headers = self.chain.database.headers(1, self.chain.head.number)
        return sum(h.base_fee_per_gas * h.gas_used for h in headers)


def stage(roots: Sequence[bytes]) -> tuple[Stage, int]:
    """A devnet and its supply."""
    chain = DevChain()
    supply = sum(chain.balance(a.address) for a in chain.accounts)
    supply += chain.balance(addresses.VALIDATORS)
    return Stage(chain, roots), supply


def honest_roots() -> list[bytes]:
    return [s.root for s in training()[1]]


def test_one_wrong_bit_costs_the_stake() -> None:
    _, states = training()
    case, supply = stage(one_bit_off(states))
    case.start()
    challenge_id = case.accuse(WRONG)
    recorded = case.replay(WRONG).event("VerdictRecorded")
    assert recorded["valid"] is False
    case.convict(challenge_id, WRONG)
    assert case.state == SLASHED
    case.send(ALICE, "DisputeGame", "settle", case.job_id)
    case.send(ALICE, "DisputeGame", "claim", challenge_id)
    before = case.chain.balance(case.chain.accounts[ALICE].address)
    case.send(ALICE, "DisputeGame", "withdraw")
    case.send(CREATOR, "JobMarket", "withdraw")
    assert case.chain.balance(case.chain.accounts[ALICE].address) > before + STAKE // 3
    assert case.chain.balance(addresses.DISPUTE_GAME) == 0
    assert case.chain.balance(addresses.JOB_MARKET) == 0
    case.check_conservation(supply)


def test_an_honest_solver_is_paid_through_a_false_challenge() -> None:
    case, supply = stage(honest_roots())
    case.start()
    challenge_id = case.accuse(WRONG)
    assert case.replay(WRONG, SOLVER).event("VerdictRecorded")["valid"] is True
    case.convict(challenge_id, WRONG).event("ChallengeLost")
    case.chain.mine(22)
    case.send(CREATOR, "JobMarket", "finalise", case.job_id)
    assert case.state == FINALISED
    case.send(SOLVER, "JobMarket", "withdraw")
    case.send(SOLVER, "DisputeGame", "withdraw")
    case.check_conservation(supply)


def test_withheld_leaves_are_opened_and_judged() -> None:
    _, states = training()
    case, supply = stage(one_bit_off(states))
    case.start()
    challenge_id = case.accuse(WITHHELD)
    case.send(
        *(SOLVER, "Evidence", "open_node", case.job_id, 3, 0),
        [*case.roots, bytes(32)],
    )
    case.send(ALICE, "DisputeGame", "descend", challenge_id, WRONG + 1, bytes(32), [])
    case.replay(WRONG)
    case.convict(challenge_id, WRONG)
    assert case.state == SLASHED
    case.check_conservation(supply)


def test_full_blocks_stop_the_clock() -> None:
    case, _ = stage(honest_roots())
    case.start()
    challenge_id = case.accuse(WITHHELD)
    case.chain.mine(3, ticks=False)
    before = case.call("DisputeGame", "clocks", challenge_id)
    case.chain.mine(4, ticks=False)
    assert case.call("DisputeGame", "clocks", challenge_id) == before


def test_a_tile_of_the_trained_state_is_shown_on_demand() -> None:
    data, states = training()
    case, supply = stage(honest_roots())
    case.start()
    initial, final = states[0], states[-1]
    assert isinstance(initial, State)
    assert isinstance(final, State)
    shown = open_tile(0, initial.tensors, 1, 0).encode()
    bond = case.call("Demands", "minimum_bond")
    with pytest.raises(Reverted):
        case.send(
            *(ALICE, "Demands", "demand_tile", case.job_id, STEPS, 1, 0, shown[:-1]),
            value=bond,
        )
    case.send(
        *(ALICE, "Demands", "demand_tile", case.job_id, STEPS, 1, 0, shown), value=bond
    )
    case.send(
        *(SOLVER, "Demands", "answer_tile", case.job_id, STEPS, 1, 0),
        *(final.root, case.trajectory.path(STEPS)),
        open_tile(STEPS, final.tensors, 1, 0).encode(),
    )
    case.send(ALICE, "Demands", "demand_record", case.job_id, 4, value=bond)
    case.send(
        *(SOLVER, "Demands", "answer_record", case.job_id, 4, data.record(4)),
        data.path(4),
    )
    assert case.call("Demands", "unanswered", case.trial) == 0
    case.send(SOLVER, "Demands", "withdraw")
    case.check_conservation(supply)


def test_the_judge_refuses_a_forged_witness() -> None:
    data, states = training()
    case, _ = stage(honest_roots())
    case.start()
    forged = bytearray(build_witness(program(), SEED, data, states[WRONG]))
    forged[-1] ^= 1
    call = replay_data(
        case.trial,
        WRONG,
        case.roots[WRONG],
        case.roots[WRONG + 1],
        bytes(forged),
        program_root=program().root,
        data_root=data.root,
        seed=SEED,
        records=RECORDS,
    )
    with pytest.raises(Reverted):
        case.chain.send(to=addresses.EVIDENCE, data=call)
    verdict = case.call(
        *("Evidence", "verdict", case.trial, WRONG), *case.roots[WRONG : WRONG + 2]
    )
    assert verdict == 0
    assert DEMANDED == WITHHELD - 1
