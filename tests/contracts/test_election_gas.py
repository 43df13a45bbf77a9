"""Gas and steps of the staking contract with 100 validators; a script prints them.

python -m tests.contracts.test_election_gas
"""

import functools
import sys

import pytest

from chain.crypto import sha256
from runtime.system import SYSTEM_CALL_GAS, SYSTEM_CALL_STEPS
from tests.contracts.chain import TOKEN, Receipt
from tests.contracts.election import Election, keys, validator

COUNT = 100
NAMES = [f"validator {number}" for number in range(COUNT)]
SETTINGS = {
    "max_validators": COUNT,
    "epoch_blocks": 40,
    "unbonding_blocks": 61,
    "jail_blocks": 40,
    "max_missed_percent": 5,
}

# Name -> most gas, most steps; measured figures, rounded up by a tenth or so.
BOUNDS = {
    "begin_block": (77_000, 2_500),
    "begin_block, election": (1_630_000, 65_000),
    "begin_block, 33 absent": (900_000, 11_500),
    "begin_block, 99 absent, 8 jailed": (1_140_000, 47_000),
    "punish": (105_000, 3_500),
    "register": (440_000, 8_000),
    "add_stake": (57_000, 3_000),
    "unbond": (195_000, 6_800),
    "withdraw": (39_000, 1_500),
    "unjail": (95_000, 2_800),
    "active_set": (1_280_000, 63_000),
    "seed": (26_000, 1_100),
}


def crowd() -> Election:
    """One hundred validators at genesis, whose stakes are spread and often equal."""
    return Election(
        {name: TOKEN * (2 + index % 9) for index, name in enumerate(NAMES)}, **SETTINGS
    )


@functools.cache
def measured() -> dict[str, tuple[int, int]]:
    """Play a life of the contract; return what each call cost."""
    found: dict[str, tuple[int, int]] = {}
    election = crowd()
    chain = election.chain
    members = [validator(name) for name in NAMES]

    def begin(name: str, absent: list[bytes]) -> None:
        chain.mine()
        proposer = members[chain.number % COUNT]
        cost = chain.system("Validators", "begin_block", proposer, absent)
        if name:
            found[name] = cost

    def note(name: str, receipt: Receipt) -> None:
        found[name] = (receipt.gas, receipt.steps)

    while chain.number < 37:
        begin("begin_block", [])
    begin("begin_block, election", [])
    begin("begin_block, 33 absent", members[:33])
    data = ("Validators", "punish", members[50], sha256(b""), chain.number - 1)
    found["punish"] = chain.system(*data)
    note("register", election.register("late", 11 * TOKEN))
    note("add_stake", election.act("late", "add_stake", value=TOKEN))
    note("unbond", election.act("late", "unbond", 11 * TOKEN))
    while chain.number % 40:
        begin("", [])
    for _ in range(2):
        begin("", members[1:])
    begin("begin_block, 99 absent, 8 jailed", members[1:])
    assert chain.call("Validators", "candidates")[0] == COUNT - 8
    for _ in range(61):
        begin("", [])
    note("withdraw", election.act("late", "withdraw"))
    note("unjail", election.act(NAMES[8], "unjail"))
    sender = validator("late")
    for name, arguments in (("active_set", ()), ("seed", (chain.number - 20,))):
        chain.fund("late")
        note(name, chain.send(sender, "Validators", name, *arguments))
    return found


@pytest.mark.slow
def test_every_call_stays_in_its_bounds() -> None:
    found = measured()
    assert found.keys() == BOUNDS.keys()
    for name, (gas, steps) in found.items():
        assert gas <= BOUNDS[name][0], f"{name}: {gas} gas"
        assert steps <= BOUNDS[name][1], f"{name}: {steps} steps"
        # A bound that is far too wide would notice nothing.
        assert gas >= BOUNDS[name][0] // 2, f"{name}: {gas} gas"


@pytest.mark.slow
def test_the_worst_block_start_fits_a_system_call() -> None:
    """The largest set, all but one absent too long in the very block that elects."""
    names = [f"member {number}" for number in range(128)]
    placed = {name: TOKEN * (2 + index) for index, name in enumerate(names)}
    election = Election(placed, **{**SETTINGS, "max_validators": 128})
    chain = election.chain
    members = [validator(name) for name in names]
    for number in range(64):  # those who are jailed make room for these
        election.register(f"waiting {number}")
    while chain.number < 35:
        election.mine()
    election.mine(2, absent=members[1:])
    assert len(election.set_by_address()) == 128
    chain.mine()
    assert (chain.number + 2) % 40 == 0
    gas, steps = chain.system("Validators", "begin_block", members[0], members[1:])
    jailed = set(members) - election.set_by_address().keys()
    assert len(jailed) == 8
    assert len(election.set_by_address()) == 128
    assert gas < SYSTEM_CALL_GAS // 2
    assert steps < SYSTEM_CALL_STEPS // 2
    election.mine(2, absent=members[1:])
    assert sum(election.view(name).jailed_until > 0 for name in names) == 24


@pytest.mark.slow
def test_a_hundred_stakes_that_move_stay_sorted() -> None:
    """The seats are what sorting gives, whatever path each took through the heaps."""
    placed = {name: TOKEN * (1 + index % 5) for index, name in enumerate(NAMES[:9])}
    election = Election(placed, **{**SETTINGS, "max_validators": 9})
    stakes = dict(placed)
    for index, name in enumerate(NAMES[9:60]):
        stakes[name] = TOKEN * (1 + (index * 7) % 11)
        election.register(name, stakes[name])
    for turn in range(120):
        digest = sha256(b"turn %d" % turn)
        name = NAMES[digest[0] % 60]
        amount = min(TOKEN * (1 + digest[1] % 4), stakes[name])
        if digest[2] % 2 or not amount:
            election.act(name, "add_stake", value=amount or TOKEN)
            stakes[name] += amount or TOKEN
        else:
            election.act(name, "unbond", amount)
            stakes[name] -= amount
        standing = sorted(
            (each for each, stake in stakes.items() if stake >= TOKEN),
            key=lambda each: (-stakes[each], keys(each).public_key),
        )
        assert election.chain.call("Validators", "candidates") == (
            9,
            len(standing) - 9,
        )
        if turn % 10 == 0:
            seated = {each for each in stakes if election.view(each).seated}
            assert seated == set(standing[:9])


if __name__ == "__main__":
    for call, (used, taken) in measured().items():
        sys.stdout.write(f"| {call} | {used:,} | {taken:,} |\n")
