"""Whatever operators and the system do, the set is the strongest and no wei is lost."""

from typing import ClassVar

from hypothesis import settings, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)

from tests.contracts.chain import TOKEN, Reverted
from tests.contracts.election import NOBODY, Election, keys, validator

NAMES = ("ann", "ben", "cat", "dan", "eve", "fay", "gus")
names = st.sampled_from(NAMES)
amounts = st.integers(0, 4).map(lambda halves: halves * TOKEN // 2)


class Stakes(RuleBasedStateMachine):
    """The contract beside a model that sorts lists."""

    seats: ClassVar[int] = 3

    def __init__(self) -> None:
        super().__init__()
        self.election = Election({"ann": 2 * TOKEN, "ben": TOKEN})
        self.stakes = dict(self.election.genesis)
        self.unbonding: dict[str, int] = {}
        self.release: dict[str, int] = {}
        self.missed: dict[str, int] = {}
        self.jailed: dict[str, int] = {}
        self.punished: set[str] = set()
        self.elected = dict(self.stakes)

    @property
    def number(self) -> int:
        """Height of the block under way."""
        return self.election.chain.number

    def candidates(self) -> list[str]:
        """Who stands for election, the strongest first."""
        return sorted(
            (
                name
                for name, stake in self.stakes.items()
                if stake >= TOKEN
                and name not in self.jailed
                and name not in self.punished
            ),
            key=lambda name: (-self.stakes[name], keys(name).public_key),
        )

    def attempt(
        self, name: str, function: str, *arguments: int, value: int = 0
    ) -> bool:
        """Whether the contract lets it happen."""
        try:
            self.election.act(name, function, *arguments, value=value)
        except Reverted:
            return False
        return True

    @rule(name=names, stake=amounts)
    def register(self, name: str, stake: int) -> None:
        """Come as a validator."""
        try:
            self.election.register(name, stake)
        except Reverted:
            assert name in self.stakes or stake < TOKEN
        else:
            assert name not in self.stakes
            assert stake >= TOKEN
            self.stakes[name] = stake

    @rule(name=names, amount=amounts)
    def add(self, name: str, amount: int) -> None:
        """Stake more."""
        allowed = name in self.stakes and name not in self.punished and amount > 0
        if name not in self.stakes:
            self.election.chain.fund(name)
        assert self.attempt(name, "add_stake", value=amount) == allowed
        if allowed:
            self.stakes[name] += amount

    @rule(name=names, amount=amounts)
    def unbond(self, name: str, amount: int) -> None:
        """Take stake out."""
        allowed = 0 < amount <= self.stakes.get(name, 0)
        assert self.attempt(name, "unbond", amount) == allowed
        if allowed:
            self.stakes[name] -= amount
            self.unbonding[name] = self.unbonding.get(name, 0) + amount
            self.release[name] = self.number + 31

    @rule(name=names)
    def withdraw(self, name: str) -> None:
        """Get it back."""
        allowed = self.unbonding.get(name, 0) > 0 and self.number >= self.release[name]
        assert self.attempt(name, "withdraw") == allowed
        if allowed:
            self.unbonding[name] = 0

    @rule(name=names)
    def unjail(self, name: str) -> None:
        """Come back."""
        allowed = (
            name not in self.punished
            and name in self.jailed
            and self.number >= self.jailed[name]
        )
        assert self.attempt(name, "unjail") == allowed
        if allowed:
            del self.jailed[name]
            self.missed.pop(name, None)

    @precondition(lambda self: len(self.stakes) > len(self.punished))
    @rule(data=st.data())
    def punish(self, data: st.DataObject) -> None:
        """Contradict oneself."""
        name = data.draw(st.sampled_from(sorted(self.stakes)))
        try:
            self.election.punish(name)
        except Reverted:
            assert name in self.punished
            return
        assert name not in self.punished
        self.punished.add(name)
        self.stakes[name] -= self.stakes[name] // 10
        left = self.unbonding.get(name, 0)
        self.unbonding[name] = left - left // 10

    @rule(
        count=st.integers(1, 7),
        absent=st.frozensets(names, max_size=4),
        proposer=st.sampled_from((*NAMES, "")),
    )
    def mine(self, count: int, absent: frozenset[str], proposer: str) -> None:
        """Make blocks."""
        who = validator(proposer) if proposer else NOBODY
        for _ in range(count):
            left_out = sorted(absent)
            self.election.mine(1, who, [validator(name) for name in left_out])
            self.count_missed(left_out)
            if (self.number + 2) % 10 == 0:
                seated = self.candidates()[: self.seats]
                if seated:
                    self.elected = {name: self.stakes[name] for name in seated}

    def count_missed(self, absent: list[str]) -> None:
        """The model's part of a block's start."""
        if (self.number - 1) % 10 == 0:
            self.missed.clear()
        for name in absent:
            self.missed[name] = self.missed.get(name, 0) + 1
            standing = self.candidates()
            if self.missed[name] > 5 and name in standing and len(standing) > 1:
                self.jailed[name] = self.number + 15

    @invariant()
    def money_is_kept(self) -> None:
        """The contract owns what it owes."""
        owed = sum(self.stakes.values()) + sum(self.unbonding.values())
        assert self.election.held() == owed
        self.election.chain.check_conservation()
        for name, stake in self.stakes.items():
            seen = self.election.view(name)
            assert (seen.stake, seen.unbonding) == (stake, self.unbonding.get(name, 0))

    @invariant()
    def the_strongest_are_seated(self) -> None:
        """Seats and the set are what sorting gives."""
        standing = self.candidates()
        for name in self.stakes:
            assert self.election.view(name).seated == (name in standing[: self.seats])
        expected = {validator(name): stake for name, stake in self.elected.items()}
        assert self.election.set_by_address() == expected

    @invariant()
    def seeds_are_fixed_by_a_third(self) -> None:
        """Every recent seed is what looking at every block gives."""
        for height in range(max(self.number - 12, 0), self.number + 2):
            assert self.election.seed(height) == self.election.expected_seed(height)


Stakes.TestCase.settings = settings(
    max_examples=settings().max_examples // 5 or 1,
    stateful_step_count=25,
    deadline=None,
)
TestStakes = Stakes.TestCase
