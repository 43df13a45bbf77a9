"""Reading a validator set out of a state, whatever the contract answers."""

from dataclasses import replace

import pytest

from chain.addresses import VALIDATORS
from chain.header import Header
from runtime.errors import ValidatorSetUnreadable
from runtime.validators import (
    MAX_MEMBERS,
    Member,
    decode_validator_set,
    read_validator_set,
)
from runtime.world import World
from tests.support.devchain import DevChain

TWO: tuple[Member, ...] = (
    (b"\x22" * 64, b"\x01" * 48, 9),
    (b"\x11" * 64, b"\x02" * 48, 7),
)


def encoded(members: tuple[Member, ...]) -> bytes:
    words = [(32).to_bytes(32, "big"), len(members).to_bytes(32, "big")]
    for public_key, beacon_key, stake in members:
        words += [public_key, beacon_key, bytes(16), stake.to_bytes(32, "big")]
    return b"".join(words)


def answering(output: bytes) -> bytes:
    """Code that returns `output` to every call."""
    size = len(output).to_bytes(2, "big")
    head = b"\x61" + size + b"\x60\x0d\x5f\x39\x61" + size + b"\x5f\xf3"
    return head.ljust(13, b"\0") + output


def with_contract(chain: DevChain, code: bytes) -> Header:
    """A header whose state has `code` in the place of the staking contract."""
    world = World(chain.database, chain.head.state_root)
    world.set_code(VALIDATORS, code)
    root, writes = world.commit()
    chain.database.store.write(writes)
    return replace(chain.head, state_root=root)


def read(code: bytes) -> tuple[Member, ...]:
    chain = DevChain()
    header = with_contract(chain, code)
    return read_validator_set(chain.spec.rules.at(0), chain.database, header)


def test_the_set_is_read_and_ordered() -> None:
    assert read(answering(encoded(TWO))) == TWO
    assert read(answering(encoded(TWO[::-1]))) == TWO
    same = tuple((key, beacon, 5) for key, beacon, _ in TWO)
    assert read(answering(encoded(same))) == same[::-1]  # by public key


def test_reading_changes_nothing() -> None:
    chain = DevChain()
    header = with_contract(chain, answering(encoded(TWO)))
    before = dict(chain.database.store.scan(b""))
    for _ in range(2):
        read_validator_set(chain.spec.rules.at(0), chain.database, header)
    assert dict(chain.database.store.scan(b"")) == before


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (b"", "no Validators contract"),
        (b"\xfe", "failed"),
        (b"\x5f\x5f\xfd", "failed"),
        (b"\x5b\x5f\x56", "more than 1000000 steps"),
        (answering(b""), "block 0: no array"),
    ],
)
def test_a_contract_that_gives_no_answer(code: bytes, reason: str) -> None:
    with pytest.raises(ValidatorSetUnreadable, match=reason):
        read(code)


def test_every_form_but_one_is_refused() -> None:
    whole = encoded(TWO)
    many = tuple(
        (number.to_bytes(64, "big"), number.to_bytes(48, "big"), 1)
        for number in range(MAX_MEMBERS + 1)
    )
    assert len(decode_validator_set(encoded(many[:-1]))) == MAX_MEMBERS
    for output, reason in (
        (whole[:-1], "no array"),
        (whole[:-32], "expected 1 to"),
        (whole + bytes(32), "expected 1 to"),
        (bytes(31) + b"\x40" + whole[32:], "no array"),
        (encoded(()), "expected 1 to"),
        (encoded(many), "expected 1 to"),
        (whole[:-64] + b"\x01" * 64, "more than 48 bytes"),
        (encoded((TWO[0], (*TWO[1][:2], 0))), "has no stake"),
        (encoded((TWO[0], (TWO[0][0], *TWO[1][1:]))), "public key occurs twice"),
        (encoded((TWO[0], (TWO[1][0], TWO[0][1], 1))), "beacon key occurs twice"),
    ):
        with pytest.raises(ValidatorSetUnreadable, match=reason):
            decode_validator_set(output)
