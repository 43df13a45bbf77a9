"""Pruning: old blocks and old states are removed, and the rest stays whole.

In steps that may be interrupted anywhere, and are gone through again the next time:

1. `a` and `o` say which blocks and states count from now on (`chain.database`);
2. blocks below are removed one by one, headers stay;
3. *mark*: every kept state is walked, of genesis and from `o` to the head;
4. *sweep*: nodes that were not marked are removed.

Until 3 is complete no node is removed, and what is committed meanwhile never is
(`node.watching`): a block writes every node of its state that its parent's has not, and
the head's state is marked or committed later. Codes
and validator sets stay; they are few. Memory: about 100 bytes for each kept node.

A generator does a bounded piece at a time, so that a running node rests in between.
"""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice

from chain import rlp
from chain.database import ChainDatabase
from chain.header import EMPTY_TRIE_ROOT
from genesis import ChainSpec
from node.errors import ConfigError, LedgerError
from node.sync.snapshots import MIN_HISTORY
from node.sync.walk import ACCOUNTS, CODE, Wanted, below
from node.watching import WatchedStore

MIN_STATES = 16
_NODES_AT_ONCE = 256
_BLOCKS_AT_ONCE = 16


def window(spec: ChainSpec) -> int:
    """How many blocks a pruned node keeps at least.

    As far back as evidence may reach, stake stays slashable and light clients trust,
    and disputes go on; the clock of disputes does not tick in full blocks, so twice.
    """
    named = spec.parameters.get
    dispute = named("challenge_window", 0) + named("reveal_window", 0)
    return max(
        MIN_HISTORY,
        spec.consensus.evidence_age_blocks,
        named("unbonding_blocks", 0),
        2 * dispute,
    )


def blocks_to_keep(spec: ChainSpec, wanted: int) -> int:
    """How many blocks a node keeps that is to keep so many; 0: the fewest.

    Raises:
        ConfigError: they are fewer than `window`.
    """
    least = window(spec)
    if 0 < wanted < least:
        raise ConfigError(
            f"cannot keep {wanted} blocks only: evidence, unbonding, light clients and "
            f"disputes of this chain reach {least} blocks back"
        )
    return wanted or least


@dataclass(frozen=True, slots=True)
class Plan:
    """What is kept.

    Attributes:
        base: The lowest block.
        state_base: The lowest state.
    """

    base: int
    state_base: int

    @classmethod
    def of(cls, database: ChainDatabase, blocks: int, states: int) -> "Plan":
        """Keep so many of the newest blocks and states, and what cannot be less."""
        head = database.head().number
        base = max(database.base(), head - blocks + 1)
        lowest = max(base - 1, database.state_base())
        return cls(base, max(lowest, head - states + 1))


@dataclass(slots=True)
class Pruned:
    """How far it is.

    Attributes:
        phase: "blocks", "mark" or "sweep".
        blocks: Removed.
        kept: Nodes of kept states.
        nodes: Removed.
        bytes: Of the removed nodes.
    """

    phase: str = "blocks"
    blocks: int = 0
    kept: int = 0
    nodes: int = 0
    bytes: int = 0


def prune(
    database: ChainDatabase, plan: Plan, *, dry: bool = False
) -> Generator[Pruned]:
    """Do a piece at a time and say how far it is; the last one says what was done.

    Args:
        database: Nobody else prunes it; blocks may be committed meanwhile.
        plan: What is kept.
        dry: Only count.

    Raises:
        LedgerError: a kept state is not whole; no node was removed.
        StoreError: the plan keeps what is not here.
    """
    done, store = Pruned(), WatchedStore.of(database)
    if not dry and database.head().number:
        database.begin_pruning(plan.base, plan.state_base)
    yield from _blocks(database, plan, done, dry=dry)
    with store.watched():
        yield from _states(database, store, plan, done, dry=dry)
    if not dry:
        database.end_pruning()
    yield done


def _blocks(
    database: ChainDatabase, plan: Plan, done: Pruned, *, dry: bool
) -> Iterator[Pruned]:
    going_on = database.pruning()
    start = database.base() if going_on is None else going_on
    for number in range(start, plan.base):
        if not dry:
            database.remove_block(number)
        done.blocks += 1
        if done.blocks % _BLOCKS_AT_ONCE == 0:
            yield done


def _states(
    database: ChainDatabase,
    store: WatchedStore,
    plan: Plan,
    done: Pruned,
    *,
    dry: bool,
) -> Iterator[Pruned]:
    done.phase = "mark"
    marked: set[bytes] = set()
    head = database.head().number  # later ones are watched
    for number in (0, *range(plan.state_base, head + 1)):
        for _ in _mark(database, number, marked):
            done.kept = len(marked)
            yield done
    done.kept, done.phase = len(marked), "sweep"
    yield done
    rows = iter(store.scan(b"s"))
    while batch := tuple(islice(rows, _NODES_AT_ONCE)):
        doomed = {key: value for key, value in batch if key[1:] not in marked}
        removed = len(doomed) if dry else store.remove_nodes(doomed)
        done.nodes += removed
        done.bytes += sum(len(key) + len(value) for key, value in doomed.items())
        yield done


def _mark(database: ChainDatabase, number: int, marked: set[bytes]) -> Iterator[None]:
    """Walk the part of a state that is not marked yet."""
    header = database.header_at(number)
    if header is None:
        raise LedgerError(f"the header of block {number} is not here")
    stack: list[Wanted] = [(ACCOUNTS, header.state_root)]
    visited = 0
    while stack:
        kind, digest = stack.pop()
        if kind == CODE or digest in marked or digest == EMPTY_TRIE_ROOT:
            continue
        data = database.store.get(b"s" + digest)
        if data is None:
            raise LedgerError(
                f"the state of block {number} is not whole: node 0x{digest.hex()} is "
                "missing; nothing of any state was removed"
            )
        marked.add(digest)
        stack += below(kind, rlp.decode(data))
        visited += 1
        if visited % _NODES_AT_ONCE == 0:
            yield
