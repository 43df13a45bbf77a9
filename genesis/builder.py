"""Block 0: balances, precompile and system accounts, contracts built in place.

A contract's constructor runs at the contract's fixed address, so immutables and
storage are what its source says; nothing is copied from a compiler's "runtime code".
The result depends on the specification alone, and so does its hash.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from eth_abi.abi import encode

from chain import addresses
from chain.block import Block
from chain.crypto import keccak
from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT, Header
from chain.sidecar import Sidecar
from chain.store import Store
from contracts import Artifact, artifact
from genesis.spec import ChainSpec, SpecError
from runtime.evm import execute
from runtime.machine import BlockContext, Call
from runtime.precompile_table import precompiles
from runtime.rules import BLOCK_GAS_LIMIT
from runtime.steps import StepMeter
from runtime.system import (
    BEACON_ROOTS_CODE,
    HISTORY_STORAGE_CODE,
    revert_reason,
)
from runtime.world import World

_CONSTRUCTOR_GAS: Final = 1 << 28
_CONSTRUCTOR_STEPS: Final = 10_000_000
# Solidity and Vyper call only accounts with code; this one is INVALID, never run.
_PRECOMPILE_CODE: Final = b"\xfe"

PLACE: Final = keccak(b"place(address,bytes,bytes,uint256)")[:4]
_PLACE_TYPES: Final = ("address", "bytes", "bytes", "uint256")

# Constructor parameters that are addresses, by name.
ADDRESS_PARAMETERS: Final[Mapping[str, bytes]] = {
    "clock": addresses.CLOCK,
    "staking": addresses.STAKING,
    "job_market": addresses.JOB_MARKET,
    "dispute_game": addresses.DISPUTE_GAME,
    "verification": addresses.VERIFICATION,
    "evidence": addresses.EVIDENCE,
    "demands": addresses.DEMANDS,
    "validators": addresses.VALIDATORS,
    "ml_verifier": addresses.ML_VERIFIER,
    "p256verify": addresses.P256VERIFY,
    "bls_possession": addresses.BLS_POSSESSION,
}


@dataclass(frozen=True, slots=True)
class Genesis:
    """Block 0 and the state it carries.

    Attributes:
        block: Its hash names the chain.
        writes: State and code, keyed as `chain.database` says.
    """

    block: Block
    writes: Mapping[bytes, bytes]


def build(spec: ChainSpec) -> Genesis:
    """Make block 0 of a specification.

    Raises:
        SpecError: A parameter is missing or unused, an allocation collides with a
            system account, or a constructor refuses its arguments.
    """
    database = ChainDatabase(Store.memory())
    world = World(database, EMPTY_TRIE_ROOT)
    context = _context(spec)
    _allocate(world, spec)
    _place(world, addresses.BEACON_ROOTS, BEACON_ROOTS_CODE)
    _place(world, addresses.HISTORY_STORAGE, HISTORY_STORAGE_CODE)
    _place(world, addresses.ML_VERIFIER, _PRECOMPILE_CODE)
    artifacts = [artifact(name) for name in spec.contracts]
    _check_parameters(spec, artifacts)
    for each in artifacts:
        _construct(world, context, spec, each)
    if spec.elects:
        _place_validators(world, context, spec)
    state_root, writes = world.commit()
    sidecar = Sidecar()
    header = Header(
        parent_hash=bytes(32),
        coinbase=addresses.ZERO,
        state_root=state_root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        number=0,
        gas_limit=context.gas_limit,
        gas_used=0,
        timestamp=spec.genesis_time,
        extra_data=spec.validator_set.hash,
        mix_hash=spec.mix_hash,
        base_fee_per_gas=spec.base_fee,
        parent_beacon_block_root=sidecar.root(),
    )
    return Genesis(Block(header, (), sidecar), writes)


def open_chain(spec: ChainSpec, store: Store) -> ChainDatabase:
    """The database in `store`, with block 0 written if the store was empty.

    Raises:
        SpecError: The store holds another chain, or the specification is wrong.
    """
    database = ChainDatabase(store)
    genesis = build(spec)
    if database.is_empty():
        database.commit(genesis.block, (), genesis.writes)
    elif database.genesis_hash() != genesis.block.hash:
        raise SpecError(
            f"{spec.name}: the data directory holds a chain with genesis "
            f"{database.genesis_hash().hex()}, the specification makes "
            f"{genesis.block.hash.hex()}"
        )
    return database


def _context(spec: ChainSpec) -> BlockContext:
    return BlockContext(
        chain_id=spec.chain_id,
        number=0,
        timestamp=spec.genesis_time,
        coinbase=addresses.ZERO,
        gas_limit=BLOCK_GAS_LIMIT,
        base_fee=spec.base_fee,
        mix_hash=spec.mix_hash,
        block_hash=lambda _: None,
        precompiles=precompiles(spec.rules.at(0)),
    )


def _allocate(world: World, spec: ChainSpec) -> None:
    reserved = {
        *addresses.SYSTEM_CONTRACTS.values(),
        addresses.BEACON_ROOTS,
        addresses.HISTORY_STORAGE,
        addresses.ML_VERIFIER,
    }
    for address, balance in spec.alloc.items():
        if address in reserved:
            raise SpecError(
                f"{spec.name}: alloc: {address.hex()} belongs to the system"
            )
        world.set_balance(address, balance)


def _place(world: World, address: bytes, code: bytes) -> None:
    world.set_nonce(address, 1)
    world.set_code(address, code)


def _check_parameters(spec: ChainSpec, artifacts: list[Artifact]) -> None:
    wanted = {name for each in artifacts for name, _ in each.parameters}
    values = wanted - ADDRESS_PARAMETERS.keys() - spec.consensus.parameters.keys()
    given = spec.parameters.keys()
    if missing := values - given:
        raise SpecError(f"{spec.name}: parameters: missing {sorted(missing)}")
    if unused := given - values:
        raise SpecError(f"{spec.name}: parameters: {sorted(unused)} name nothing")


def _construct(
    world: World, context: BlockContext, spec: ChainSpec, contract: Artifact
) -> None:
    known: dict[str, int | bytes] = {
        **ADDRESS_PARAMETERS,
        **spec.consensus.parameters,
        **spec.parameters,
    }
    initcode = contract.deployment(
        {name: known[name] for name, _ in contract.parameters}
    )
    call = Call(
        origin=addresses.SYSTEM,
        gas_price=0,
        to=addresses.SYSTEM_CONTRACTS[contract.name],
        gas=_CONSTRUCTOR_GAS,
        code=initcode,
        is_create=True,
    )
    _run(world, context, call, f"{spec.name}: the constructor of {contract.name}")


def _place_validators(world: World, context: BlockContext, spec: ChainSpec) -> None:
    """Give the contract the stakes of the specification, and its validators."""
    stakes = sum(entry.stake for entry in spec.validators)
    world.set_balance(
        addresses.VALIDATORS, world.balance(addresses.VALIDATORS) + stakes
    )
    for index, entry in enumerate(spec.validators):
        arguments = (entry.operator_address, entry.public_key, entry.beacon_key)
        call = Call(
            origin=addresses.SYSTEM,
            gas_price=0,
            to=addresses.VALIDATORS,
            gas=_CONSTRUCTOR_GAS,
            data=PLACE + encode(_PLACE_TYPES, (*arguments, entry.stake)),
        )
        _run(world, context, call, f"{spec.name}: validators.{index}")


def _run(world: World, context: BlockContext, call: Call, what: str) -> None:
    world.begin()
    result = execute(world, context, StepMeter(_CONSTRUCTOR_STEPS), call)
    if not result.succeeded:
        reason = revert_reason(result.output) or result.output.hex()
        raise SpecError(f"{what} failed: {result.error} {reason}")
