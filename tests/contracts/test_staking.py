import pytest

from tests.contracts.chain import TOKEN, Chain
from tests.contracts.play import refused


def test_a_deposit_is_free_stake(chain: Chain, alice: bytes) -> None:
    receipt = chain.send(alice, "Staking", "deposit", value=3 * TOKEN)
    assert chain.call("Staking", "free_of", alice) == 3 * TOKEN
    assert receipt.event("Deposited").amount == 3 * TOKEN
    refused("staking: nothing sent", chain.send, alice, "Staking", "deposit")


def test_stake_leaves_after_the_unbonding_time(chain: Chain, alice: bytes) -> None:
    before = chain.balance(alice)
    chain.send(alice, "Staking", "deposit", value=3 * TOKEN)
    receipt = chain.send(alice, "Staking", "unbond", 2 * TOKEN)
    assert receipt.event("Unbonding").release_at == chain.now + 40
    chain.mine(39)
    refused("staking: still unbonding", chain.send, alice, "Staking", "withdraw")
    chain.mine()
    assert chain.send(alice, "Staking", "withdraw").output == 2 * TOKEN
    assert chain.balance(alice) == before - TOKEN
    refused("staking: nothing to withdraw", chain.send, alice, "Staking", "withdraw")


def test_unbonding_again_delays_all_of_it(chain: Chain, alice: bytes) -> None:
    chain.send(alice, "Staking", "deposit", value=2 * TOKEN)
    chain.send(alice, "Staking", "unbond", TOKEN)
    chain.mine(40)
    chain.send(alice, "Staking", "unbond", TOKEN)
    refused("staking: still unbonding", chain.send, alice, "Staking", "withdraw")
    chain.mine(40)
    assert chain.send(alice, "Staking", "withdraw").output == 2 * TOKEN


@pytest.mark.parametrize(
    ("amount", "reason"),
    [(0, "staking: nothing to unbond"), (TOKEN + 1, "staking: not enough free stake")],
)
def test_only_free_stake_unbonds(
    chain: Chain, alice: bytes, amount: int, reason: str
) -> None:
    chain.send(alice, "Staking", "deposit", value=TOKEN)
    refused(reason, chain.send, alice, "Staking", "unbond", amount)


@pytest.mark.parametrize(
    ("function", "more"), [("lock", ()), ("unlock", ()), ("slash", (bytes(20),))]
)
def test_only_the_market_touches_stakes(
    chain: Chain, alice: bytes, function: str, more: tuple[bytes, ...]
) -> None:
    chain.send(alice, "Staking", "deposit", value=TOKEN)
    reason = "staking: only the job market"
    refused(reason, chain.send, alice, "Staking", function, alice, 1, *more)
