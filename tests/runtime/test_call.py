"""eth_call, eth_estimateGas and eth_getProof."""

import pytest

from benchmarks.blocks import forever
from chain import rlp
from chain.crypto import keccak
from chain.trie import verify
from runtime.call import CallRequest, call, estimate_gas
from runtime.errors import CallFailed, CallLimitExceeded, ExecutionReverted
from tests.runtime.programs import COUNTER, REVERTS, initcode, returns_call
from tests.support.devchain import DevChain


@pytest.fixture
def chain() -> DevChain:
    return DevChain()


def _estimate(chain: DevChain, **fields: object) -> int:
    head = chain.head
    request = CallRequest(**fields)  # type: ignore[arg-type]  # by the tests below
    return estimate_gas(chain.spec.rules.at(head.number), chain.database, head, request)


def test_calls_change_nothing(chain: DevChain) -> None:
    counter = chain.deploy(initcode(COUNTER))
    for _ in range(2):
        assert int.from_bytes(chain.call(counter, b""), "big") == 1
    assert chain.view().storage(counter, 0) == 0


def test_old_states_answer(chain: DevChain) -> None:
    counter = chain.deploy(initcode(COUNTER))
    for _ in range(3):
        chain.send(to=counter)
    rules = chain.spec.rules.at(0)
    for number in range(1, 5):
        header = chain.database.header_at(number)
        assert header is not None
        result = call(rules, chain.database, header, CallRequest(to=counter))
        assert int.from_bytes(result.output, "big") == number


def test_a_creation_can_be_called(chain: DevChain) -> None:
    head = chain.head
    request = CallRequest(data=initcode(COUNTER))
    result = call(chain.spec.rules.at(0), chain.database, head, request)
    assert (result.succeeded, result.output) == (True, COUNTER)


def test_limits(chain: DevChain) -> None:
    spin = chain.deploy(initcode(forever(b"\x5b")))
    with pytest.raises(CallLimitExceeded, match="interpreter steps"):
        chain.call(spin, b"")
    for request, reason in (
        (CallRequest(to=spin, gas=20_000), "below the 21000"),
        (CallRequest(data=bytes(49_153)), "at most 49152"),
        (CallRequest(to=spin, value=1), "does not cover"),
        (CallRequest(to=spin, gas_price=1, gas=30_000), "does not cover"),
    ):
        with pytest.raises(CallFailed, match=reason):
            call(chain.spec.rules.at(0), chain.database, chain.head, request)


def test_estimates_suffice_and_are_tight(chain: DevChain) -> None:
    assert _estimate(chain, to=b"\x77" * 20) == 21_000
    counter = chain.deploy(initcode(COUNTER))
    nested = chain.deploy(
        initcode(returns_call(0xF1, int.from_bytes(counter, "big"), 0))
    )
    for target in (counter, nested):
        estimate = _estimate(chain, to=target)
        sent = chain.send(to=target, gas=estimate)
        assert sent.receipt.succeeded
        assert sent.gas_used <= estimate <= sent.gas_used * 1.1 + 2_000
    creation = _estimate(chain, data=initcode(COUNTER))
    assert chain.send(data=initcode(COUNTER), gas=creation).receipt.succeeded


def test_estimates_cover_what_is_refunded(chain: DevChain) -> None:
    """Clearing storage is refunded at the end and must be paid for until then."""
    clear = b"".join(bytes((0x5F, 0x35, 0x60, slot, 0x55)) for slot in range(20))
    contract = chain.deploy(initcode(clear))
    chain.send(to=contract, data=b"\1" * 32, gas=1_000_000)
    estimate = _estimate(chain, to=contract)
    sent = chain.send(to=contract, gas=estimate)
    assert sent.receipt.succeeded
    assert sent.gas_used < estimate < sent.gas_used * 1.3


def test_estimates_respect_the_purse(chain: DevChain) -> None:
    poor = b"\x99" * 20
    chain.send(to=poor, value=30_000 * 10**9)
    fields = {"sender": poor, "to": b"\x77" * 20, "gas_price": 10**9}
    assert _estimate(chain, **fields) == 21_000
    with pytest.raises(CallFailed, match="below the 21000"):
        _estimate(chain, **fields, value=10_000 * 10**9)
    with pytest.raises(CallFailed, match="does not cover the value"):
        _estimate(chain, **fields, value=10**18)


def test_estimating_a_failure_says_why(chain: DevChain) -> None:
    contract = chain.deploy(initcode(REVERTS))
    with pytest.raises(ExecutionReverted) as caught:
        _estimate(chain, to=contract, data=b"why?")
    assert caught.value.output == b"why?"


def test_proofs_lead_to_the_root(chain: DevChain) -> None:
    counter = chain.deploy(initcode(COUNTER))
    chain.send(to=counter)
    root = chain.head.state_root
    found = chain.view().proof(counter, [0, 1])
    account = verify(root, keccak(counter), found.account_proof)
    assert account is not None
    nonce, balance, storage_root, code_hash = rlp.decode_list(account)
    assert rlp.as_uint(nonce) == found.nonce == 1
    assert rlp.as_uint(balance) == found.balance == 0
    assert storage_root == found.storage_root
    assert code_hash == found.code_hash == keccak(COUNTER)
    one, none = found.storage
    key = keccak(one.slot.to_bytes(32, "big"))
    assert verify(found.storage_root, key, one.proof) == b"\1"
    assert (one.value, none.value) == (1, 0)
    absent = keccak(none.slot.to_bytes(32, "big"))
    assert verify(found.storage_root, absent, none.proof) is None


def test_absence_is_proved(chain: DevChain) -> None:
    found = chain.view().proof(b"\xee" * 20, [0])
    assert (
        verify(chain.head.state_root, keccak(b"\xee" * 20), found.account_proof) is None
    )
    assert (found.nonce, found.balance, found.storage[0].value) == (0, 0, 0)
