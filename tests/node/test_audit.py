"""The audit: a sound chain passes, and every flipped byte that matters is found."""

import io
import itertools
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
from eth_abi.abi import encode

from chain import rlp
from chain.addresses import ML_VERIFIER, STAKING
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.store import Store
from chain.transaction import Unsigned, decode
from genesis import ChainSpec, open_chain
from genesis.accounts import account, validator
from ml_verifier import judge
from node.audit import (
    AuditMismatch,
    Auditor,
    DatabaseSource,
    FileSource,
    Verdict,
)
from node.author import Validator
from node.chainfile import ChainFileReader, Record, write_chain_file
from node.config import load_config
from node.doppelganger import Guard
from node.exporting import records
from node.opening import encode_spec
from node.service import Chain, Node
from node.signer import LocalSigner
from node.upkeep import import_records, roll_back
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog

VECTORS = Path(__file__).parents[1] / "vectors"
SPEC = ChainSpec.load("devnet")
REPLAY = json.loads((VECTORS / "replay.json").read_text())
BLOCKS = 4
DEPOSIT = keccak(b"deposit()")[:4]


def transaction(nonce: int, to: bytes, value: int, data: bytes = b"") -> bytes:
    return Unsigned(
        chain_id=SPEC.chain_id,
        nonce=nonce,
        gas=2_000_000,
        max_fee_per_gas=10**10,
        max_priority_fee_per_gas=10**9,
        to=to,
        value=value,
        data=data,
    ).sign(account(0).secret)


Calls = Sequence[tuple[bytes, bytes]]


def grow(store: Store, directory: Path, blocks: Sequence[Calls]) -> None:
    """Make a chain as a node does, one block for each list of (contract, data)."""
    database = open_chain(SPEC, store)
    keys = validator(0)
    key = ValidatorKey.checked(keys.secret, keys.beacon_secret)
    signer = LocalSigner(directory, database.genesis_hash(), key)
    chain = Chain(
        database,
        encode_spec(SPEC),
        SPEC.rules,
        SPEC.validator_set,
        epoch_blocks=SPEC.consensus.epoch_blocks,
        evidence_age=SPEC.consensus.evidence_age_blocks,
    )
    node = Node(
        load_config(environment={}),
        chain,
        Validator(signer, Guard(signer, 0, heights=0)),
        WriteAheadLog(directory / "wal"),
        now=lambda: float(SPEC.genesis_time),
    )

    async def main() -> None:
        nonce = itertools.count()
        for calls in blocks:
            for to, data in calls:
                value = 0 if to == ML_VERIFIER else 10**15
                raw = transaction(next(nonce), to, value, data)
                node.mempool.add(decode(raw, SPEC.chain_id), 10**9)
            await node.engine.step()

    trio.run(main)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    """Every entry of a sound database."""
    store = Store.memory()
    blocks = [[(b"\x11" * 20, b""), (STAKING, DEPOSIT)]] * BLOCKS
    grow(store, tmp_path_factory.mktemp("validator"), blocks)
    return dict(store.scan(b""))


def stored(rows: dict[bytes, bytes]) -> Store:
    store = Store.memory()
    store.write(rows)
    return store


def audit(store: Store, *, use_oracle: bool = False) -> Auditor:
    auditor = Auditor(
        SPEC, DatabaseSource(store), Store.memory(), use_oracle=use_oracle
    )
    auditor.run()
    return auditor


def hash_at(rows: dict[bytes, bytes], number: int) -> bytes:
    return rows[b"n" + number.to_bytes(8)]


def test_sound_chain_passes(rows: dict[bytes, bytes]) -> None:
    heights: list[int] = []
    auditor = Auditor(
        SPEC, DatabaseSource(stored(rows)), Store.memory(), use_oracle=False
    )
    report = auditor.run(heights.append)
    assert heights == list(range(BLOCKS + 1))
    assert report.blocks == BLOCKS + 1
    assert report.transactions == 2 * BLOCKS
    assert report.certificates == BLOCKS
    assert report.events == {"Staking.Deposited": BLOCKS}
    assert report.head_hash == hash_at(rows, BLOCKS)
    assert (report.jobs, report.disputes, report.verdicts) == (0, 0, [])


def flips(rows: dict[bytes, bytes]) -> Iterator[tuple[bytes, int]]:
    """One random byte of every entry, and each byte of some small ones."""
    source = random.Random(0)  # noqa: S311 - a test's choice
    for key, value in rows.items():
        yield key, source.randrange(len(value))
    for key in (b"g", b"l", b"f"):
        yield from ((key, at) for at in range(len(rows[key])))


def test_every_flipped_byte_of_a_value_is_found(rows: dict[bytes, bytes]) -> None:
    store = stored(rows)
    for key, at in flips(rows):
        value = bytearray(rows[key])
        value[at] ^= 0x01
        store.write({key: bytes(value)})
        with pytest.raises(AuditMismatch):
            audit(store)
        store.write({key: rows[key]})
    audit(store)


def test_every_missing_entry_is_found(rows: dict[bytes, bytes]) -> None:
    store = stored(rows)
    for key, value in rows.items():
        store.write({}, [key])
        with pytest.raises(AuditMismatch):
            audit(store)
        store.write({key: value})


def test_entry_that_should_not_be_there_is_found(rows: dict[bytes, bytes]) -> None:
    forged = b"t" + keccak(b"a transaction that never was")
    store = stored(rows | {forged: hash_at(rows, 1) + bytes(12)})
    with pytest.raises(AuditMismatch, match=r"transaction index .* no such entry"):
        audit(store)


def test_a_rolled_back_database_passes_and_its_left_overs_are_counted(
    rows: dict[bytes, bytes],
) -> None:
    store = stored(rows)
    roll_back(ChainDatabase(store))
    report = audit(store).report
    assert report.head == BLOCKS - 1
    assert report.left_over > 0
    (record,) = list(records(ChainDatabase(stored(rows))))[BLOCKS:]
    import_records(SPEC, ChainDatabase(store), [record])
    assert audit(store).report.left_over == 0


@pytest.mark.parametrize("kind", [b"s", b"k", b"v", b"t"])
def test_a_rollback_excuses_nothing_that_is_not_what_its_key_says(
    rows: dict[bytes, bytes], kind: bytes
) -> None:
    store = stored(rows)
    roll_back(ChainDatabase(store))
    store.write({kind + bytes(32): b"forged"})
    with pytest.raises(AuditMismatch, match="no such entry"):
        audit(store)


def test_without_a_rollback_nothing_is_left_over(rows: dict[bytes, bytes]) -> None:
    store = stored(rows | {b"s" + keccak(b"stray"): b"stray"})
    with pytest.raises(AuditMismatch, match=r"state node .* no such entry"):
        audit(store)


def receipts_of(rows: dict[bytes, bytes], number: int) -> tuple[bytes, list[bytes]]:
    key = b"r" + hash_at(rows, number)
    return key, [rlp.as_bytes(each) for each in rlp.decode_list(rows[key])]


def spoil_status(rows: dict[bytes, bytes]) -> None:
    key, (first, second) = receipts_of(rows, 2)
    # 0x02 || list prefix (3 bytes) || status
    assert first[4:5] == b"\x01"
    rows[key] = rlp.encode([first[:4] + b"\x80" + first[5:], second])


def spoil_log(rows: dict[bytes, bytes]) -> None:
    key, (first, second) = receipts_of(rows, 3)
    amount = (10**15).to_bytes(32)
    assert amount in second
    spoiled = second.replace(amount, (10**15 + 1).to_bytes(32))
    rows[key] = rlp.encode([first, spoiled])


def spoil_receipt_count(rows: dict[bytes, bytes]) -> None:
    key, (first, _) = receipts_of(rows, 1)
    rows[key] = rlp.encode([first])


def spoil_body(rows: dict[bytes, bytes]) -> None:
    key = b"b" + hash_at(rows, 2)
    value = (10**15).to_bytes(7)
    at = rows[key].index(value)
    rows[key] = rows[key][:at] + (10**15 + 1).to_bytes(7) + rows[key][at + 7 :]


def spoil_reveal(rows: dict[bytes, bytes]) -> None:
    database = ChainDatabase(stored(rows))
    block = database.block(hash_at(rows, 3))
    other = database.block(hash_at(rows, 2))
    sidecar = replace(block.sidecar, reveal=other.sidecar.reveal)
    spoiled = replace(block, sidecar=sidecar)
    rows[b"b" + block.hash] = spoiled.encode_body()


def spoil_certificate(rows: dict[bytes, bytes]) -> None:
    here, other = hash_at(rows, 3), hash_at(rows, 2)
    rows[b"c" + here] = rows[b"c" + other]


def spoil_steps(rows: dict[bytes, bytes]) -> None:
    rows[b"w" + hash_at(rows, 4)] = bytes(8)


def spoil_index(rows: dict[bytes, bytes]) -> None:
    raw = transaction(0, b"\x11" * 20, 10**15)
    key = b"t" + keccak(raw)
    rows[key] = rows[key][:-1] + b"\x01"


@pytest.mark.parametrize(
    ("spoil", "block", "transaction_index", "field"),
    [
        (spoil_status, 2, 0, "receipt status"),
        (spoil_log, 3, 1, "log 0 (Staking.Deposited) data"),
        (spoil_receipt_count, 1, None, "receipts"),
        (spoil_body, 2, 0, "transaction"),
        (spoil_reveal, 3, None, "parentBeaconBlockRoot"),
        (spoil_certificate, 3, None, "certificate"),
        (spoil_steps, 4, None, "steps"),
        (spoil_index, 1, None, "transaction index"),
    ],
)
def test_mismatch_names_its_place(
    rows: dict[bytes, bytes],
    spoil: Callable[[dict[bytes, bytes]], None],
    block: int,
    transaction_index: int | None,
    field: str,
) -> None:
    spoiled = dict(rows)
    spoil(spoiled)
    with pytest.raises(AuditMismatch) as caught:
        audit(stored(spoiled))
    found = caught.value
    assert (found.block, found.transaction) == (block, transaction_index)
    assert found.field.startswith(field)
    assert found.expected != found.got
    assert found.expected in str(found)


def test_resealed_block_is_found(rows: dict[bytes, bytes]) -> None:
    """Not a flipped bit but a forger who repairs every hash that he can."""
    database = ChainDatabase(stored(rows))
    block = database.block(hash_at(rows, BLOCKS))
    header = replace(block.header, gas_used=block.header.gas_used + 1)
    forged = replace(block, header=header)
    spoiled = dict(rows)
    spoiled[b"h" + forged.hash] = header.encode()
    for kind in (b"b", b"r", b"w"):
        spoiled[kind + forged.hash] = spoiled[kind + block.hash]
    certificate = database.certificate(block.hash)
    assert certificate is not None
    resealed = replace(certificate, block_hash=forged.hash)
    spoiled[b"c" + forged.hash] = resealed.encode()
    spoiled[b"n" + BLOCKS.to_bytes(8)] = forged.hash
    spoiled[b"l"] = forged.hash
    with pytest.raises(AuditMismatch, match=r"block 4, gasUsed: expected \d+, got"):
        audit(stored(spoiled))


def test_chain_file_passes_and_its_lies_are_found(rows: dict[bytes, bytes]) -> None:
    chain = list(records(ChainDatabase(stored(rows))))

    def audit_file(changed: list[Record]) -> None:
        stream = io.BytesIO()
        write_chain_file(stream, encode_spec(SPEC), changed)
        stream.seek(0)
        reader = ChainFileReader(stream)
        spec = ChainSpec.parse(reader.specification, "file")
        source = FileSource(reader.records())
        Auditor(spec, source, Store.memory(), use_oracle=False).run()

    audit_file(chain)
    chain[2] = replace(chain[2], steps=chain[2].steps + 1)
    with pytest.raises(AuditMismatch, match="block 2, steps"):
        audit_file(chain)
    with pytest.raises(AuditMismatch, match="genesis"):
        audit_file([])


def test_database_of_another_specification_is_found(rows: dict[bytes, bytes]) -> None:
    other = SPEC.with_parameters(challenge_window=21)
    auditor = Auditor(
        other, DatabaseSource(stored(rows)), Store.memory(), use_oracle=False
    )
    with pytest.raises(AuditMismatch, match="block 0, stateRoot"):
        auditor.run()


def test_encoded_specification_reads_back_to_itself() -> None:
    assert ChainSpec.parse(encode_spec(SPEC), "here") == SPEC


def replay_question(*, honest: bool) -> bytes:
    """Call data for the precompile's replay, from the vector; a lie on request."""
    fields = dict(REPLAY)
    if not honest:
        fields["post_root"] = "11" * 32
    roots = [
        bytes.fromhex(fields[name])
        for name in ("trial", "pre_root", "post_root", "program_root", "data_root")
    ]
    trial, *four = roots
    arguments = [trial, fields["position"], *four]
    arguments += [fields["seed"], fields["records"], bytes.fromhex(fields["witness"])]
    types = ["bytes32", "uint256", *["bytes32"] * 4, "uint256", "uint256", "bytes"]
    selector = keccak(f"replay({','.join(types)})".encode())[:4]
    return selector + encode(types, arguments)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[bytes, bytes]:
    """A database whose chain holds one VALID and one INVALID verdict."""
    store = Store.memory()
    questions = [(ML_VERIFIER, replay_question(honest=h)) for h in (True, False)]
    grow(store, tmp_path_factory.mktemp("validator"), [[], questions])
    return dict(store.scan(b""))


@pytest.mark.parametrize("use_oracle", [False, True])
def test_verdicts_are_computed_again(
    judged: dict[bytes, bytes], *, use_oracle: bool
) -> None:
    report = audit(stored(judged), use_oracle=use_oracle).report
    agreed = True if use_oracle else None
    trial, position = bytes.fromhex(REPLAY["trial"]), REPLAY["position"]
    assert report.verdicts == [
        Verdict(2, 0, trial, position, valid=True, agreed_by_oracle=agreed),
        Verdict(2, 1, trial, position, valid=False, agreed_by_oracle=agreed),
    ]


def test_disagreement_of_kernels_and_oracle_is_found(
    judged: dict[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = judge.replay

    def lying(call: judge.ReplayCall, **how: Any) -> bool:  # noqa: ANN401
        return not replay(call) if "backend" in how else replay(call)

    monkeypatch.setattr(judge, "replay", lying)
    expected = r"block 2, transaction 0, verdict of position 1 .* False .* True"
    with pytest.raises(AuditMismatch, match=expected):
        audit(stored(judged), use_oracle=True)
    audit(stored(judged))


def test_long_values_are_shown_where_they_differ() -> None:
    stored = bytearray(bytes(range(256)) * 3)
    stored[700] ^= 1
    error = AuditMismatch(4, "log 0 data", bytes(range(256)) * 3, bytes(stored))
    assert error.expected != error.got
    assert "from byte 672 of 768" in error.got
