"""The signer under every crash: what left never contradicts itself, nor goes back.

The machine asks for anything in any order, stops during any operation of the disk,
loses what was not synced or not, and starts again. Everything that a caller got is kept
as what the world has seen.
"""

from pathlib import Path

from hypothesis import settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from chain.block import Block
from chain.crypto import sha256
from consensus.votes import NIL, Subject, VoteKind, verify_signature
from node.errors import DoubleSignError, KeyFileError
from node.signer import LocalSigner
from node.signstate import Signed, order
from node.validatorkey import ValidatorKey
from tests.node.blocks import make_block
from tests.node.fakedisk import EVERYTHING, NOTHING, FakeDisk, Luck, PowerLoss

HOME = Path("/validator")
GENESIS = sha256(b"chain")
KEY = ValidatorKey.from_seed(sha256(b"secret"), bytes(63) + b"1")
BLOCKS = {
    (height, variant): make_block(height, timestamp=variant)
    for height in (1, 2, 3)
    for variant in (1, 2)
}
HASHES = (NIL, sha256(b"a"), sha256(b"b"))

heights = st.sampled_from((1, 2, 3))
rounds = st.integers(0, 2)
lucks = st.one_of(
    st.just(NOTHING),
    st.just(EVERYTHING),
    st.builds(
        lambda names, size, sector: Luck(
            names=lambda n: min(n, names),
            size=lambda old, new: (old, new, (old + new) // 2)[size],
            sector=lambda start: bool(start // 16 % 2) == sector,
        ),
        st.integers(0, 5),
        st.integers(0, 2),
        st.booleans(),
    ),
)
# Most requests end without a crash; a signature takes at most this many operations.
crashes = st.one_of(st.none(), st.none(), st.integers(0, 14))


class Signing(RuleBasedStateMachine):
    """One key over many lives."""

    def __init__(self) -> None:
        super().__init__()
        self.disk = FakeDisk()
        self.signer = LocalSigner(HOME, GENESIS, KEY, disk=self.disk)
        self.left: list[Signed] = []  # in the order in which they were given out
        self.proposed: dict[tuple[int, int], Block] = {}

    def start(self, disk: FakeDisk) -> None:
        self.disk = disk
        self.signer = LocalSigner(HOME, GENESIS, KEY, disk=disk)

    def ask(self, subject: Subject | None, block: Block | None, **to: int) -> None:
        """Ask for a vote, or for a proposal; the power may fail meanwhile."""
        try:
            if subject is not None:
                got = self.signer.sign(subject)
            else:
                assert block is not None
                polka = to["polka"] if to["polka"] < to["round_"] else None
                got = self.signer.sign_proposal(to["round_"], polka, block)
                self.proposed[block.number, to["round_"]] = block
        except DoubleSignError:
            return
        verify_signature(GENESIS, got.subject, got.signature, KEY.address)
        if got in self.left:
            return
        if self.left:
            assert order(got.subject) > order(self.left[-1].subject)
        self.left.append(got)

    def ask_until(
        self, crash: int | None, luck: Luck, *wanted: object, **to: int
    ) -> None:
        subject, block = wanted
        assert subject is None or isinstance(subject, Subject)
        assert block is None or isinstance(block, Block)
        if crash is not None:
            self.disk.crash_at = len(self.disk.operations) + crash
            self.disk.torn = crash * 13
        try:
            self.ask(subject, block, **to)
        except PowerLoss:
            self.start(self.disk.after_power_loss(luck))
        self.disk.crash_at = None

    @rule(
        height=heights,
        round_=rounds,
        kind=st.sampled_from((VoteKind.PREVOTE, VoteKind.PRECOMMIT)),
        block_hash=st.sampled_from(HASHES),
        time=st.integers(0, 3),
        crash=crashes,
        luck=lucks,
    )
    def vote(
        self,
        height: int,
        round_: int,
        kind: VoteKind,
        block_hash: bytes,
        time: int,
        crash: int | None,
        luck: Luck,
    ) -> None:
        detail = time if kind is VoteKind.PRECOMMIT else 0
        subject = Subject(kind, height, round_, block_hash, detail)
        self.ask_until(crash, luck, subject, None)

    @rule(
        height=heights,
        variant=st.sampled_from((1, 2)),
        round_=rounds,
        polka=rounds,
        crash=crashes,
        luck=lucks,
    )
    def propose(
        self,
        height: int,
        variant: int,
        round_: int,
        polka: int,
        crash: int | None,
        luck: Luck,
    ) -> None:
        block = BLOCKS[height, variant]
        self.ask_until(crash, luck, None, block, round_=round_, polka=polka)

    @rule()
    def restart(self) -> None:
        self.start(self.disk.after_kill())

    @rule(luck=lucks)
    def lose_power(self, luck: Luck) -> None:
        self.start(self.disk.after_power_loss(luck))

    @invariant()
    def nothing_contradicts(self) -> None:
        places = [order(each.subject) for each in self.left]
        assert places == sorted(set(places))

    @invariant()
    def the_state_reaches_what_left(self) -> None:
        if self.left:
            last = self.signer.last
            assert last is not None
            assert order(last.subject) >= order(self.left[-1].subject)

    @invariant()
    def the_last_proposal_can_be_made_again(self) -> None:
        last = self.signer.last
        if last is None:
            return
        place = last.subject.height, last.subject.round
        try:
            found = self.signer.pending_proposal(*place)
        except KeyFileError as error:
            raise AssertionError(f"the block of {place} is lost") from error
        if place in self.proposed:
            assert found == self.proposed[place]


Signing.TestCase.settings = settings(stateful_step_count=30, deadline=None)
TestSigning = Signing.TestCase
