"""A network in virtual time: one seed, one heap of events, one history.

Everything random comes from one `random.Random(seed)`: who takes part, with what stake,
which nodes lie, how fast clocks run, how long messages travel, what is lost, when the
network falls apart and heals, who crashes after which step and when it returns. The
history hash covers every event and effect in order, so equal hashes mean equal runs.

A run is a series of storms, each followed by a calm. Storms lose, repeat and delay
messages, partition the network and cut power. When a storm ends, every honest node must
commit two more blocks within `Setting.patience`, or liveness is violated; then the
network runs quietly for some heights more. Byzantine nodes lie all the time.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from hashlib import sha256
from heapq import heappop, heappush
from random import Random

from typing_extensions import override

from consensus.accountability import investigate, votes_in
from consensus.machine import Decide, Effect, Sign, Step, TimeoutKind
from consensus.votes import Vote
from tests.simulation.byzantine import Liar
from tests.simulation.laws import Laws, Violation
from tests.simulation.node import Node, PowerCut
from tests.simulation.wire import Commit, Message, Roster
from tests.simulation.words import words

MILLISECOND = 1_000
SECOND = 1_000 * MILLISECOND
_COMMITS_AFTER_STORM = 2
_ROUNDS_OF_PATIENCE = 8


@dataclass(frozen=True, slots=True)
class Setting:
    """What a seed stands for; times in microseconds.

    Attributes:
        stakes: Of all nodes, by number; those not in the present set look on.
        liars: The Byzantine ones.
        epoch: Heights between changes of the validator set; 0 for none.
        speeds: By node: a timeout takes that many percent of its nominal time.
        latency: Least time of a message.
        spread: A message takes up to that much more.
        loss: In a storm, per cent of messages lost.
        repeat: In a storm, per cent of messages that come twice.
        delay: In a storm, per cent of messages that come much later.
        cuts: In a storm, mean time between partitions; 0 for none.
        crashes: In a storm, mean time between crashes; 0 for none.
        propose, prevote, precommit: Nominal timeouts of round 0.
        longer: How much each of them grows per round.
        interval: Between a commit and the next height.
        tick: Between two statements of where a node is, while it makes no progress.
        storms: How many storms come.
        storm: How long one lasts.
        calm: Heights between storms.
        archive: Keep the logs and hold them against `consensus.accountability`.
    """

    stakes: tuple[int, ...]
    liars: frozenset[int]
    epoch: int
    speeds: tuple[int, ...]
    latency: int
    spread: int
    loss: int
    repeat: int
    delay: int
    cuts: int
    crashes: int
    propose: int
    prevote: int
    precommit: int
    longer: int
    interval: int
    tick: int
    storms: int
    storm: int
    calm: int
    archive: bool


def draw(source: Random) -> Setting:
    """A setting in which the liars have less than a third of the stake.

    One of twenty is harsh: most messages are lost and timeouts are far too short at
    first, so that a height takes dozens of rounds. No clock is twice as fast as
    another: where timeouts of all kinds are as long as each other, a slower proposer
    would come too late in every round, however long they get.
    """
    size = source.choice((4, 4, 4, 4, 5, 6, 7, 7, 10))
    outsiders = source.choice((0, 0, 0, 1, 2))
    even = source.random() < 0.6
    stakes = tuple(
        10 if even else source.randint(1, 20) for _ in range(size + outsiders)
    )
    if max(stakes) * 3 > sum(stakes) * 2:
        stakes = (10,) * len(stakes)  # one that decides alone would leave all behind
    epoch = source.choice((0, 2, 3, 8, 16)) if outsiders else 0
    latency = source.randint(1, 20) * MILLISECOND
    spread = source.randint(1, 60) * MILLISECOND
    harsh = source.random() < 0.05
    base = (latency + spread) * source.randint(1, 4) // (8 if harsh else 1)
    interval = source.randint(0, 200) * MILLISECOND
    return Setting(
        stakes=stakes,
        liars=_liars(source, stakes),
        epoch=epoch,
        speeds=tuple(source.randint(75, 135) for _ in stakes),
        latency=latency,
        spread=spread,
        loss=source.choice((60, 75, 90) if harsh else (0, 5, 20, 50)),
        repeat=source.choice((0, 5, 30)),
        delay=source.choice((0, 5, 30)),
        cuts=source.choice((0, 300, 1_000, 3_000)) * MILLISECOND,
        crashes=source.choice((0, 200, 700, 2_000)) * MILLISECOND,
        propose=base * 2,
        prevote=base,
        precommit=base,
        longer=base // source.randint(1, 8 if harsh else 4),
        interval=interval,
        tick=interval + 8 * (latency + spread),
        storms=source.randint(1, 3),
        storm=source.randint(1, 10) * SECOND,
        calm=2 if harsh else source.choice((5, 20, 40)),
        archive=source.random() < 0.25,
    )


def quiet(size: int, **changes: object) -> Setting:
    """Equal, honest nodes under a clear sky, but for `changes`."""
    plain = Setting(
        stakes=(10,) * size,
        liars=frozenset(),
        epoch=0,
        speeds=(100,) * size,
        latency=5 * MILLISECOND,
        spread=10 * MILLISECOND,
        loss=0,
        repeat=0,
        delay=0,
        cuts=0,
        crashes=0,
        propose=60 * MILLISECOND,
        prevote=30 * MILLISECOND,
        precommit=30 * MILLISECOND,
        longer=10 * MILLISECOND,
        interval=20 * MILLISECOND,
        tick=200 * MILLISECOND,
        storms=1,
        storm=MILLISECOND,
        calm=10,
        archive=True,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def _liars(source: Random, stakes: tuple[int, ...]) -> frozenset[int]:
    """As many as a third of the stake allows, most of the time."""
    liars: set[int] = set()
    if source.random() < 0.2:
        return frozenset()
    for number in source.sample(range(len(stakes)), len(stakes)):
        stake = sum(stakes[each] for each in liars) + stakes[number]
        if 3 * stake < sum(stakes):
            liars.add(number)
    return frozenset(liars)


@dataclass(slots=True)
class Outcome:
    """What a run has come to.

    Attributes:
        heights: Decided.
        late: Of these, decided in a later round than the first.
        contested: Of these, two blocks had a polka, in different rounds.
        rounds: The highest round of a decision, plus one.
        events: Delivered.
        crashes: Of nodes.
        slowest: The greatest part of the patience that a recovery took.
        digest: The history hash.
    """

    heights: int = 0
    late: int = 0
    contested: int = 0
    rounds: int = 0
    events: int = 0
    crashes: int = 0
    recoveries: int = 0
    slowest: float = 0.0
    digest: str = ""


Trace = Callable[[str], None]
_Action = Callable[[], None]


@dataclass(slots=True)
class _Timer:
    """Something that a node waits for; void once it has crashed or gone on."""

    incarnation: int
    height: int
    action: Callable[[], None]

    @override
    def __str__(self) -> str:
        return f"a wait of height {self.height} is over"


class _Tick:
    """A node looks whether it has moved."""


_TICK = _Tick()


@dataclass(slots=True)
class _Weather:
    """How the network is now."""

    storm: bool = False
    groups: list[int] = field(default_factory=list[int])
    cut: bool = False


_Event = Message | _Timer | _Tick | _Action


class Network:
    """All nodes of one run, and the world between them."""

    def __init__(
        self, seed: int, setting: Setting | None = None, trace: Trace | None = None
    ) -> None:
        """Set a run up.

        Args:
            seed: Everything follows from it.
            setting: Instead of the one that the seed draws.
            trace: Is told every event in words.
        """
        self.source = Random(seed)  # noqa: S311 - a simulation
        drawn = draw(self.source)
        self.setting = setting = drawn if setting is None else setting
        self.seed = seed
        self.now = 0
        self.size = len(setting.stakes)
        honest = frozenset(range(self.size)) - setting.liars
        self.laws = Laws(honest)
        self.honest = sorted(honest)
        self.outcome = Outcome()
        self._trace = trace
        self._digest = sha256(b"history")
        self._heap: list[tuple[int, int, int, _Event]] = []
        self._sequence = 0
        self._weather = _Weather(groups=[0] * self.size)
        self._rosters: dict[tuple[int, bytes], Roster] = {}
        self._first = Roster(self._drop_outsiders(self._stakes()))
        self._top = 0
        self.nodes: list[Node] = [
            Liar(number, number, self, self.source)
            if number in setting.liars
            else Node(number, number, self, archive=setting.archive)
            for number in range(self.size)
        ]

    # -- validator sets ----------------------------------------------------------------

    def _stakes(self) -> dict[int, int]:
        return dict(enumerate(self.setting.stakes))

    def _drop_outsiders(self, stakes: dict[int, int]) -> dict[int, int]:
        """The set of the first epoch: outsiders are the last honest ones, if any."""
        if not self.setting.epoch:
            return stakes
        return self._tolerable(stakes, Random(self.seed))  # noqa: S311 - a simulation

    def _tolerable(self, stakes: dict[int, int], source: Random) -> dict[int, int]:
        """Some of the nodes, with changed stakes, less than a third of it liars'."""
        while True:
            members = {
                number: source.randint(1, 2 * stake)
                for number, stake in stakes.items()
                if source.random() < 0.8
            }
            false = sum(members.get(each, 0) for each in self.setting.liars)
            if len(members) >= 4 and 3 * false < sum(members.values()):
                return members

    def roster(self, height: int, chain: list[Commit]) -> Roster:
        """The set changes at multiples of `epoch`, by the block two heights before."""
        epoch = self.setting.epoch
        if not epoch or height < max(epoch, 2):
            return self._first
        border = height - height % epoch
        if border < 2:
            return self._first
        deciding = chain[border - 3].block.hash if border >= 3 else bytes(32)
        key = (border, deciding)
        roster = self._rosters.get(key)
        if roster is None:
            source = Random(f"{self.seed}/{border}/{deciding.hex()}")  # noqa: S311
            roster = Roster(self._tolerable(self._stakes(), source))
            self._rosters[key] = roster
        return roster

    # -- the world of a node -----------------------------------------------------------

    def clock(self) -> int:
        """Milliseconds."""
        return self.now // MILLISECOND

    def _push(self, time: int, target: int, what: _Event) -> None:
        self._sequence += 1
        heappush(self._heap, (time, self._sequence, target, what))

    def send(self, source: int, target: int, message: Message) -> None:
        """One message, as the weather allows."""
        setting, weather = self.setting, self._weather
        draw_float = self.source.random
        time = self.now + setting.latency + int(draw_float() * setting.spread)
        if weather.storm:
            if weather.cut and weather.groups[source] != weather.groups[target]:
                return
            percent = 100 * draw_float()
            if percent < setting.loss:
                return
            percent = 100 * draw_float()
            if percent < setting.repeat:
                self._push(time + int(draw_float() * SECOND), target, message)
            elif percent > 100 - setting.delay:
                time += int(draw_float() * SECOND)
        self._sequence += 1
        heappush(self._heap, (time, self._sequence, target, message))

    def broadcast(self, source: int, message: Message) -> None:
        """To everybody else."""
        if self._weather.storm:
            for target in range(self.size):
                if target != source:
                    self.send(source, target, message)
            return
        now = self.now + self.setting.latency
        spread, draw_float, heap = self.setting.spread, self.source.random, self._heap
        sequence = self._sequence
        for target in range(self.size):
            if target != source:
                sequence += 1
                time = now + int(draw_float() * spread)
                heappush(heap, (time, sequence, target, message))
        self._sequence = sequence

    def _after(self, node: Node, nominal: int, action: Callable[[], None]) -> None:
        time = nominal * self.setting.speeds[node.number] // 100
        timer = _Timer(node.incarnation, node.height, action)
        self._push(self.now + time, node.number, timer)

    def wait(self, node: Node, kind: TimeoutKind, round_: int) -> None:
        """Timeouts grow with the round and run by the node's own clock."""
        setting = self.setting
        base = {
            TimeoutKind.PROPOSE: setting.propose,
            TimeoutKind.PREVOTE: setting.prevote,
            TimeoutKind.PRECOMMIT: setting.precommit,
        }[kind]
        self._after(
            node, base + round_ * setting.longer, lambda: node.time_out(kind, round_)
        )

    def wait_for_height(self, node: Node) -> None:
        """The pause between two blocks."""
        self._after(node, self.setting.interval, node.begin)

    def wait_for_build(self, node: Node, round_: int) -> None:
        """Building takes a while."""
        self._after(node, self.setting.latency // 2, lambda: node.built(round_))

    def note(self, node: int, effect: Effect) -> None:
        """Part of the history; decisions are counted."""
        if type(effect) is Sign:
            subject = effect.subject
            self._digest.update(
                b"%d %d %d" % (node, subject.kind, subject.round) + subject.block_hash
            )
        elif type(effect) is Decide:
            self._digest.update(
                b"%d %d %d" % (node, effect.height, effect.round) + effect.block_hash
            )
            if effect.height > self._top and node in self.laws.bound:
                self._top = effect.height
                outcome = self.outcome
                outcome.heights += 1
                outcome.late += effect.round > 0
                outcome.contested += self.laws.contested(
                    effect.height, self.nodes[node].roster
                )
                outcome.rounds = max(outcome.rounds, effect.round + 1)
                # A node may be far behind those who decide without it.
                self.laws.forget(
                    min(self.nodes[each].height for each in self.laws.bound)
                )
        if self._trace is not None:
            self._trace(f"{self.now / SECOND:10.4f}  node {node}  {words(effect)}")

    # -- weather -----------------------------------------------------------------------

    def _plan_storm(self) -> int:
        """Arrange partitions, crashes and returns; tell when it is over."""
        setting, source = self.setting, self.source
        end = self.now + setting.storm
        for mean, action in (
            (setting.cuts, self._cut),
            (setting.crashes, self._arrange_crash),
            (setting.crashes, self._return),
        ):
            time = self.now
            while mean and (time := time + source.randint(1, 2 * mean)) < end:
                self._push(time, -1, action)
        self._weather.storm = True
        self._tell("storm")
        return end

    def _cut(self) -> None:
        weather, source = self._weather, self.source
        weather.cut = source.random() < 0.7
        weather.groups = [source.randint(0, 1) for _ in range(self.size)]
        self._tell(f"partition {weather.groups}" if weather.cut else "joined")

    def _arrange_crash(self) -> None:
        """A node will lose power, now or at a step that is soon to come."""
        node = self.nodes[self.source.choice(self.honest)]
        if node.up:
            node.fuse = self.source.randint(0, 30)
            if not node.fuse:
                self._crash(node)

    def _crash(self, node: Node) -> None:
        left = len(node.log) - node.synced
        node.crash(self.source.randint(0, left) if left else 0)
        self.outcome.crashes += 1
        self._tell(f"node {node.number} loses power, {len(node.log)} inputs are left")

    def _return(self) -> None:
        down = [node for node in self.nodes if not node.up]
        if down:
            self._restart(self.source.choice(down))

    def _restart(self, node: Node) -> None:
        self._tell(f"node {node.number} returns at height {node.height}")
        try:
            node.restart()
        except PowerCut:
            self._crash(node)

    def _heal(self) -> None:
        self._weather.storm = self._weather.cut = False
        self._tell("calm")
        for node in self.nodes:
            node.fuse = 0
            if not node.up:
                self._restart(node)

    def patience(self) -> int:
        """How long a recovery may take: rounds long enough for the slowest message.

        Timeouts grow until the shortest exceeds what a round of messages and gossip
        needs; from there the bound allows `_ROUNDS_OF_PATIENCE` rounds, by the slowest
        clock, for each block that is to be committed. Whoever missed blocks that others
        decided without it fetches one in a round trip to a peer that has it.
        """
        setting = self.setting
        needed = 4 * (setting.latency + setting.spread) * 100
        enough = 0
        while (setting.prevote + enough * setting.longer) * min(
            setting.speeds
        ) < needed:
            enough += 1
        highest = max(node.state.round for node in self.nodes)
        last = max(highest, enough) + _ROUNDS_OF_PATIENCE
        total = 0
        for round_ in range(min(highest, enough), last):
            total += (
                setting.propose
                + setting.prevote
                + setting.precommit
                + 3 * round_ * setting.longer
            )
        first = setting.interval + SECOND + 4 * setting.tick
        slowest = max(setting.speeds)
        missed = self._top - min(len(self.nodes[each].chain) for each in self.honest)
        fetch = 2 * (setting.latency + setting.spread) * len(self.nodes)
        return _COMMITS_AFTER_STORM * (first + total * slowest // 100) + missed * fetch

    # -- running -----------------------------------------------------------------------

    def run(self) -> Outcome:
        """Storms and calms, then the verdict.

        Raises:
            Violation: a law was broken, or the network did not recover in time.
        """
        self._begin()
        for _ in range(self.setting.storms):
            self._until(self._plan_storm())
            self._heal()
            self._recover()
            self._run_to(self._top + self.setting.calm)
        if self.setting.archive:
            self.hold_accountable()
        self.outcome.digest = self._digest.hexdigest()
        return self.outcome

    def run_quietly(self, height: int) -> None:
        """No storms, until every honest node has committed that height.

        Raises:
            Violation: a law was broken, or it takes far too long.
        """
        self._begin()
        self._run_to(height)

    def _begin(self) -> None:
        for node in self.nodes:
            self.wait_for_height(node)
            self._push(self.source.randint(1, self.setting.tick), node.number, _TICK)

    def _recover(self) -> None:
        goal = self._top + _COMMITS_AFTER_STORM
        patience = self.patience()
        healed = self.now
        self._until(healed + patience, goal)
        behind = [each for each in self.honest if len(self.nodes[each].chain) < goal]
        if behind:
            raise Violation(
                f"liveness: {patience / SECOND:.1f} s after healing, nodes {behind} "
                f"have not committed height {goal}: "
                + ", ".join(
                    f"{node.number} is at {node.height}/{node.state.round} "
                    f"{node.state.step.name}"
                    for node in self.nodes
                )
            )
        self.outcome.recoveries += 1
        self.outcome.slowest = max(self.outcome.slowest, (self.now - healed) / patience)

    def _run_to(self, height: int) -> None:
        """Until every honest node has committed that height."""
        ahead = height - min(len(self.nodes[each].chain) for each in self.honest)
        self._until(self.now + max(ahead, 1) * self.patience(), height)
        if any(len(self.nodes[each].chain) < height for each in self.honest):
            raise Violation(f"liveness: height {height} is not reached in calm weather")

    def _until(self, end: int, goal: int = 0) -> None:
        """Deliver events until a time, or until all honest nodes have `goal` blocks."""
        heap, nodes, trace = self._heap, self.nodes, self._trace
        update, pack = self._digest.update, struct.Struct("<Qi").pack
        events = 0
        waiting = {each for each in self.honest if len(nodes[each].chain) < goal}
        while heap and heap[0][0] <= end and (waiting or not goal):
            self.now, _, target, what = heappop(heap)
            events += 1
            update(pack(self.now, target))
            if target < 0:
                what()  # type: ignore[operator]
                continue
            node = nodes[target]
            if what is _TICK:
                self._tock(node)
                continue
            if trace is not None:
                trace(f"{self.now / SECOND:10.4f}  node {target}  {words(what)}")
            if not node.up:
                continue
            try:
                if type(what) is not _Timer:
                    node.receive(what)  # type: ignore[arg-type]
                elif what.incarnation == node.incarnation and (
                    what.height == node.state.height
                ):
                    what.action()
            except PowerCut:
                self._crash(node)
            if target in waiting and len(node.chain) >= goal:
                waiting.discard(target)
        self.now = self.now if goal else end
        self.outcome.events += events

    def _tock(self, node: Node) -> None:
        """A node that has not moved since its last tick tells where it is."""
        place = (node.height, node.incarnation)
        if node.up and place == node.last_place and node.state.step is not Step.NEW:
            node.tell()
        node.last_place = place
        self._push(self.now + self.setting.tick, node.number, _TICK)

    # -- afterwards --------------------------------------------------------------------

    def hold_accountable(self) -> int:
        """Hold the logs of the honest against the rules; tell how many are named.

        Raises:
            Violation: an honest validator is named.
        """
        named = 0
        for height in range(1, self._top + 1):
            votes: list[Vote] = []
            for each in self.honest:
                archive = self.nodes[each].archive
                if archive is not None and len(archive) >= height:
                    votes.extend(votes_in(archive[height - 1]))
            roster = self.roster(height, self.nodes[self.honest[0]].chain)
            for finding in investigate(votes, roster.set, height):
                named += 1
                if roster.identities[finding.validator] in self.laws.bound:
                    raise Violation(f"no framing: {finding}")
        return named

    def _tell(self, text: str) -> None:
        self._digest.update(text.encode())
        if self._trace is not None:
            self._trace(f"{self.now / SECOND:10.4f}  {text}")
