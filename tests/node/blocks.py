"""Blocks that were never executed, for code that only stores and moves them."""

from chain.block import Block
from chain.header import EMPTY_TRIE_ROOT, Header
from chain.sidecar import CommitCertificate, CommitSignature, Sidecar
from chain.transaction import Unsigned

SECRET = b"\x01" * 32


def make_block(
    number: int = 1,
    timestamp: int = 1,
    transactions: tuple[bytes, ...] = (),
    sidecar: Sidecar | None = None,
) -> Block:
    chosen = Sidecar() if sidecar is None else sidecar
    return Block(
        Header(
            parent_hash=bytes(32),
            number=number,
            coinbase=bytes(20),
            state_root=EMPTY_TRIE_ROOT,
            transactions_root=EMPTY_TRIE_ROOT,
            receipts_root=EMPTY_TRIE_ROOT,
            logs_bloom=bytes(256),
            gas_limit=30_000_000,
            gas_used=0,
            timestamp=timestamp,
            extra_data=bytes(32),
            mix_hash=bytes(32),
            base_fee_per_gas=7,
            parent_beacon_block_root=chosen.root(),
        ),
        transactions,
        chosen,
    )


def make_transaction(nonce: int = 0, kind: int = 2) -> bytes:
    return Unsigned(
        chain_id=4242,
        nonce=nonce,
        gas=21_000,
        max_fee_per_gas=10**10,
        to=b"\x22" * 20,
        value=nonce,
        type=kind,
    ).sign(SECRET)


def make_certificate(block: Block) -> CommitCertificate:
    signature = CommitSignature(b"\x33" * 20, 0, b"\x44" * 65)
    return CommitCertificate(block.number, 0, block.hash, (signature,))
