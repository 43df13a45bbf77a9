"""Every rule of the staking contract, in a success and a refusal."""

from typing import Any

import pytest

from chain import addresses
from chain.crypto import bls_prove_possession, bls_sign
from tests.contracts.chain import TOKEN, Reverted, account, mix_of
from tests.contracts.election import NOBODY, Election, keys, refused, validator


@pytest.fixture
def election() -> Election:
    """One validator at genesis, and seats for three."""
    return Election()


# -- joining --------------------------------------------------------------------------


def test_genesis_places_validators(election: Election) -> None:
    assert election.set_by_address() == {validator("ann"): 4 * TOKEN}
    seen = election.view("ann")
    assert seen.operator == account("ann")
    assert seen.public_key_x + seen.public_key_y == keys("ann").public_key
    assert seen.beacon_key_head + seen.beacon_key_tail == keys("ann").beacon_key
    assert (seen.stake, seen.power, seen.seated) == (4 * TOKEN, 4 * TOKEN, True)
    assert election.held() == 4 * TOKEN
    place = ("Validators", "place", account("ben"), keys("ben").public_key)
    arguments = (*place, keys("ben").beacon_key, TOKEN)
    refused("validators: only at genesis", election.chain.system, *arguments)


@pytest.mark.parametrize(
    ("placed", "reason"),
    [
        ({"ann": TOKEN - 1}, "below the minimum stake"),
        ({"ann": TOKEN, "ben": TOKEN, "cat": TOKEN, "dan": TOKEN}, "too many"),
    ],
)
def test_genesis_obeys_the_rules(placed: dict[str, int], reason: str) -> None:
    with pytest.raises(Reverted, match=reason):
        Election(placed)


def test_who_registers_votes_from_the_next_border(election: Election) -> None:
    receipt = election.register("ben", 2 * TOKEN)
    assert receipt.output == validator("ben")
    assert receipt.event("Registered").public_key == keys("ben").public_key
    assert receipt.event("Staked").stake == 2 * TOKEN
    assert election.view("ben").seated
    assert election.view("ben").power == 0
    assert election.set_by_address().keys() == {validator("ann")}
    while (election.chain.number + 3) % 10:
        election.mine()
    assert validator("ben") not in election.set_by_address()
    election.mine()  # two blocks before the border, as its state is read
    assert (election.chain.number + 2) % 10 == 0
    assert election.set_by_address()[validator("ben")] == 2 * TOKEN


def test_the_registration_must_be_whole(election: Election) -> None:
    ben, eve = keys("ben"), keys("eve")
    wrong_tag = bls_sign(ben.beacon_key, ben.beacon_secret)
    other_chain = ben.consent(account("ben"), bytes(32))
    consent = ben.consent(account("ben"))
    for changes, reason in (
        ({"public_key": ben.public_key[:63]}, "public key"),
        ({"beacon_key": ben.beacon_key[:47]}, "beacon key"),
        ({"possession": bytes(95)}, "possession"),
        ({"possession": wrong_tag}, "possession"),
        ({"possession": bls_prove_possession(eve.beacon_secret)}, "possession"),
        ({"beacon_key": eve.beacon_key}, "possession"),
        ({"consent": consent[:64]}, "consent"),
        ({"consent": consent[:64] + b"\x02"}, "consent"),
        ({"consent": bytes(65)}, "consent"),
        ({"consent": other_chain}, "consent"),
        ({"consent": eve.consent(account("ben"))}, "consent"),
        ({"consent": ben.consent(account("eve"))}, "consent"),
        ({"public_key": eve.public_key}, "consent"),
    ):
        given: dict[str, Any] = {**changes}
        with pytest.raises(Reverted, match=f"^validators: {reason}$"):
            election.register("ben", TOKEN, **given)
    refused("validators: below the minimum stake", election.register, "ben", TOKEN - 1)
    election.register("ben")


def test_keys_are_registered_once(election: Election) -> None:
    election.register("ben")
    refused("validators: known already", election.register, "ben")
    refused("validators: known already", election.register, "ann")
    ben, eve = keys("ben"), keys("eve")
    # The consent names the beacon key, so the thief signs for the one that it steals.
    stolen = type(eve)(eve.secret, ben.beacon_secret)
    refused(
        "validators: beacon key taken",
        election.register,
        "eve",
        beacon_key=ben.beacon_key,
        possession=bls_prove_possession(ben.beacon_secret),
        consent=stolen.consent(account("eve")),
    )


# -- stake ----------------------------------------------------------------------------


def test_the_strongest_are_seated(election: Election) -> None:
    for name, stake in (("ben", 2), ("cat", 3), ("dan", 2), ("eve", 1)):
        election.register(name, stake * TOKEN)
    assert election.chain.call("Validators", "candidates") == (3, 2)
    smaller = min("ben", "dan", key=lambda name: keys(name).public_key)
    election.to_border()
    assert election.set_by_address() == {
        validator("ann"): 4 * TOKEN,
        validator("cat"): 3 * TOKEN,
        validator(smaller): 2 * TOKEN,
    }
    election.act("eve", "add_stake", value=2 * TOKEN)
    election.act("ann", "unbond", 4 * TOKEN)
    election.to_border()
    assert election.set_by_address() == {
        validator("eve"): 3 * TOKEN,
        validator("cat"): 3 * TOKEN,
        validator(smaller): 2 * TOKEN,
    }


def test_one_who_waits_takes_the_first_free_seat(election: Election) -> None:
    for name, stake in (("ben", 3), ("cat", 2), ("dan", 1)):
        election.register(name, stake * TOKEN)
    assert election.chain.call("Validators", "candidates") == (3, 1)
    assert not election.view("dan").seated
    election.act("ben", "unbond", 3 * TOKEN)
    assert election.view("dan").seated
    assert election.chain.call("Validators", "candidates") == (3, 0)
    election.act("ann", "unbond", 4 * TOKEN)
    assert election.chain.call("Validators", "candidates") == (2, 0)


def test_stake_is_added_by_the_operator(election: Election) -> None:
    receipt = election.act("ann", "add_stake", value=TOKEN)
    assert receipt.event("Staked").stake == 5 * TOKEN
    refused("validators: nothing sent", election.act, "ann", "add_stake")
    election.chain.fund("eve")
    for function, arguments in (
        ("add_stake", ()),
        ("unbond", (1,)),
        ("withdraw", ()),
        ("unjail", ()),
    ):
        with pytest.raises(Reverted, match=r"^validators: not its operator$"):
            election.act("ann", function, *arguments, by="eve")
        with pytest.raises(Reverted, match=r"^validators: not its operator$"):
            election.act("nobody", function, *arguments, by="eve")


def test_no_stake_is_larger_than_its_field() -> None:
    most = 2**128 - 1
    election = Election({"ann": most})
    refused(
        "validators: more stake than can be", election.act, "ann", "add_stake", value=1
    )
    election.to_border()
    assert election.set_by_address() == {validator("ann"): most}


def test_unbonding_stake_leaves_after_its_time(election: Election) -> None:
    before = election.chain.balance(account("ann"))
    receipt = election.act("ann", "unbond", TOKEN)
    assert receipt.event("Unbonding").release_at == election.chain.number + 31
    seen = election.view("ann")
    assert (seen.stake, seen.unbonding) == (3 * TOKEN, TOKEN)
    assert seen.power == 4 * TOKEN  # until the border
    election.mine(30)
    refused("validators: still unbonding", election.act, "ann", "withdraw")
    election.mine()
    assert election.act("ann", "withdraw").output == TOKEN
    assert election.chain.balance(account("ann")) == before + TOKEN
    refused("validators: nothing to withdraw", election.act, "ann", "withdraw")
    refused("validators: nothing to unbond", election.act, "ann", "unbond", 0)
    refused(
        "validators: not enough stake", election.act, "ann", "unbond", 3 * TOKEN + 1
    )


def test_unbonding_again_delays_all_of_it(election: Election) -> None:
    election.act("ann", "unbond", TOKEN)
    election.mine(31)
    election.act("ann", "unbond", TOKEN)
    refused("validators: still unbonding", election.act, "ann", "withdraw")
    election.mine(31)
    assert election.act("ann", "withdraw").output == 2 * TOKEN


def test_below_the_minimum_one_leaves_at_the_border(election: Election) -> None:
    election.register("ben", 2 * TOKEN)
    election.to_border()
    election.act("ben", "unbond", TOKEN + 1)
    assert validator("ben") in election.set_by_address()
    election.to_border()
    assert validator("ben") not in election.set_by_address()
    election.act("ben", "add_stake", value=1)
    election.to_border()
    assert election.set_by_address()[validator("ben")] == TOKEN


def test_a_set_is_never_empty(election: Election) -> None:
    election.act("ann", "unbond", 4 * TOKEN)
    number = election.chain.call("Validators", "set_number")
    election.to_border()
    assert election.set_by_address() == {validator("ann"): 4 * TOKEN}
    assert election.chain.call("Validators", "set_number") == number
    election.register("ben")
    election.to_border()
    assert election.set_by_address() == {validator("ben"): TOKEN}


# -- jail -----------------------------------------------------------------------------


def jailed() -> Election:
    """Ben has just missed 6 of the 10 blocks of an epoch."""
    election = Election({"ann": 4 * TOKEN, "ben": 2 * TOKEN})
    while election.chain.number % 10:
        election.mine()
    election.mine(6, absent=[validator("ben")])
    return election


def test_missing_more_than_the_share_jails() -> None:
    election = jailed()
    seen = election.view("ben")
    assert seen.missed == 6
    assert seen.jailed_until == election.chain.number + 15
    assert not seen.seated
    assert seen.power == 2 * TOKEN  # until the border
    election.to_border()
    assert election.set_by_address() == {validator("ann"): 4 * TOKEN}
    assert election.held() == 6 * TOKEN  # a jail costs nothing
    refused("validators: still jailed", election.act, "ben", "unjail")
    election.act("ben", "add_stake", value=TOKEN)  # buys nobody out
    election.mine(14)
    assert election.set_by_address() == {validator("ann"): 4 * TOKEN}
    receipt = election.act("ben", "unjail")
    assert receipt.event("Unjailed").validator == validator("ben")
    assert election.view("ben").missed == 0
    refused("validators: not jailed", election.act, "ben", "unjail")
    election.to_border()
    assert election.set_by_address()[validator("ben")] == 3 * TOKEN


def test_the_share_itself_is_forgiven_and_epochs_count_alone() -> None:
    election = Election({"ann": 4 * TOKEN, "ben": 2 * TOKEN})
    while election.chain.number % 10:
        election.mine()
    for _ in range(3):
        election.mine(5, absent=[validator("ben")])
        assert election.view("ben").missed == 5
        election.mine(5)
    assert election.view("ben").jailed_until == 0
    election.mine()
    assert election.view("ben").missed == 0


def test_a_missed_block_counts_for_its_own_epoch() -> None:
    election = Election({"ann": 4 * TOKEN, "ben": 2 * TOKEN})
    while election.chain.number % 10 != 4:
        election.mine()
    # Blocks 4 to 9 of one epoch are missed, as blocks 5 to 0 tell.
    election.mine(6, absent=[validator("ben")])
    assert election.chain.number % 10 == 0
    assert election.view("ben").jailed_until > 0


def test_the_last_one_is_not_jailed(election: Election) -> None:
    election.mine(30, absent=[validator("ann")])
    assert election.view("ann").seated
    assert election.view("ann").jailed_until == 0


def test_strangers_are_absent_without_consequence(election: Election) -> None:
    election.mine(12, absent=[NOBODY])
    assert election.chain.call("Validators", "validator", NOBODY).operator == bytes(20)


# -- punishment -----------------------------------------------------------------------


def test_an_offence_is_punished_once() -> None:
    election = Election({"ann": 4 * TOKEN, "ben": 2 * TOKEN})
    election.act("ben", "unbond", TOKEN // 2)
    election.punish("ben")
    seen = election.view("ben")
    assert seen.stake == 3 * TOKEN // 2 * 9 // 10
    assert seen.unbonding == TOKEN // 2 * 9 // 10
    assert election.chain.burned == 2 * TOKEN // 10
    assert election.held() == 4 * TOKEN + seen.stake + seen.unbonding
    assert election.chain.call("Validators", "is_punished", validator("ben"))
    assert not election.chain.call("Validators", "is_punished", validator("ann"))
    refused("validators: punished already", election.punish, "ben")
    election.to_border()
    assert election.set_by_address() == {validator("ann"): 4 * TOKEN}


def test_the_punished_never_come_back_and_get_the_rest() -> None:
    election = jailed()
    election.punish("ben")
    election.mine(20)
    refused("validators: punished", election.act, "ben", "unjail")
    refused("validators: punished", election.act, "ben", "add_stake", value=TOKEN)
    refused("validators: known already", election.register, "ben")
    rest = election.view("ben").stake
    election.act("ben", "unbond", rest)
    election.mine(31)
    assert election.act("ben", "withdraw").output == rest == 2 * TOKEN * 9 // 10
    assert election.held() == 4 * TOKEN


def test_stake_answers_until_no_evidence_can_come() -> None:
    """Who leaves right after an election votes for an epoch, and pays for its votes."""
    election = Election({"ann": 4 * TOKEN, "ben": 2 * TOKEN})
    election.to_border()
    start = election.chain.number
    election.act("ben", "unbond", 2 * TOKEN)
    election.to_border()
    last_vote = election.chain.number + 1
    assert last_vote == start + 10 + 1
    election.mine(last_vote + 20 - election.chain.number - 1)
    # The last block that may carry evidence of the last vote.
    election.chain.mine()
    assert election.chain.number == last_vote + 20 == start + 31
    election.punish("ben", last_vote)
    election.begin()
    assert election.act("ben", "withdraw").output == 2 * TOKEN * 9 // 10


@pytest.mark.parametrize(
    ("age", "fits"), [(0, False), (1, True), (20, True), (21, False)]
)
def test_evidence_has_an_age(*, age: int, fits: bool) -> None:
    election = Election({"ann": 4 * TOKEN, "ben": 2 * TOKEN})
    election.mine(30)
    height = election.chain.number - age
    if fits:
        election.punish("ben", height)
        return
    refused("validators: evidence of another age", election.punish, "ben", height)


def test_strangers_cannot_be_punished(election: Election) -> None:
    refused("validators: unknown", election.punish, "eve")
    assert election.chain.call("Validators", "is_punished", validator("eve"))
    nothing = ("Validators", "punish", validator("ann"), bytes(32), 0)
    refused("validators: no evidence", election.chain.system, *nothing)


def test_the_system_alone_begins_and_punishes(election: Election) -> None:
    eve = election.chain.fund("eve")
    send = election.chain.send
    refused(
        "validators: only the system begins blocks",
        send,
        *(eve, "Validators", "begin_block", eve, []),
    )
    refused(
        "validators: only the system punishes",
        send,
        *(eve, "Validators", "punish", validator("ann"), bytes(32), 0),
    )
    assert election.chain.balance(addresses.VALIDATORS) == 4 * TOKEN


# -- the seed -------------------------------------------------------------------------


def test_a_seed_is_fixed_by_a_third() -> None:
    election = Election({"ann": 3 * TOKEN, "ben": 3 * TOKEN, "cat": 3 * TOKEN})
    height = election.chain.number
    assert election.seed(height) == (False, bytes(32))
    assert election.seed(height + 5) == (False, bytes(32))
    election.mine(3, validator("ann"))  # a third is not more than a third
    assert election.seed(height) == (False, bytes(32))
    election.mine(1, NOBODY)
    election.mine(1, validator("ben"))
    assert election.seed(height) == (True, mix_of(election.chain.number))
    # Since ann's last block only ben has revealed.
    assert election.seed(height + 2) == (True, mix_of(election.chain.number))
    assert election.seed(height + 3) == (False, bytes(32))
    fixed_at = election.chain.number
    election.mine(5, validator("cat"))
    assert election.seed(height) == (True, mix_of(fixed_at))
    assert election.seed(height + 3) == (True, mix_of(fixed_at + 1))


def test_one_who_holds_more_than_a_third_fixes_alone(election: Election) -> None:
    election.mine(2, validator("ann"))
    number = election.chain.number
    assert election.seed(number - 1) == (True, mix_of(number))
    assert election.seed(number) == (False, bytes(32))


@pytest.mark.usefixtures("soak")
def test_old_seeds_are_forgotten() -> None:
    election = Election({"ann": 4 * TOKEN, "ben": TOKEN})
    chain = election.chain
    first = chain.number
    for proposer, blocks in (("ann", 8_192), ("ben", 9_000), ("ann", 40)):
        who = validator(proposer)
        for _ in range(blocks):
            chain.mine()
            chain.system("Validators", "begin_block", who, ())
        oldest = chain.number - 8_191
        refused("beacon: seed forgotten", election.seed, oldest - 1)
        if chain.number < first + 9_000:
            assert election.seed(oldest) == (True, mix_of(oldest + 1))
        elif proposer == "ben":  # a fifth alone fixes nothing
            assert election.seed(oldest) == (False, bytes(32))
        else:  # one block fixes 256 heights
            assert election.seed(oldest) == (True, mix_of(chain.number - 39))
            assert election.seed(oldest + 300) == (True, mix_of(chain.number - 38))
    assert election.seed(chain.number - 1) == (True, mix_of(chain.number))
    assert election.seed(chain.number) == (False, bytes(32))


def test_seeds_are_kept_for_their_time(election: Election) -> None:
    first = election.chain.number
    election.mine(1, validator("ann"))
    election.chain.skip(8_191)
    assert election.seed(first + 1) == (False, bytes(32))
    refused("beacon: seed forgotten", election.seed, first)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"epoch_blocks": 0}, "no epoch"),
        ({"unbonding_blocks": 30}, "unbonding ends before evidence does"),
        ({"minimum_validator_stake": 0}, "minimum stake"),
        ({"minimum_validator_stake": 2**128}, "minimum stake"),
        ({"max_validators": 0}, "set size"),
        ({"max_validators": 129}, "set size"),
        ({"max_missed_percent": 101}, "missed percent"),
        ({"jail_blocks": 9}, "jail shorter than an epoch"),
        ({"slash_percent": 0}, "slash percent"),
        ({"slash_percent": 101}, "slash percent"),
    ],
)
def test_parameters_that_cannot_be(parameters: dict[str, int], reason: str) -> None:
    with pytest.raises(Reverted, match=f"^validators: {reason}$"):
        Election(None, **parameters)


def test_parameters_can_be_read(election: Election) -> None:
    seen = vars(election.chain.call("Validators", "parameters"))
    given = election.chain.parameters
    assert seen == {name: given[name] for name in seen}
    assert seen["unbonding_blocks"] == 31
