"""The two promises, under random trajectories, cheats, meddlers and orders of moves.

An honest solver that answers in time is never convicted and is paid in the end. A wrong
commitment with the right h_0 is convicted by one honest challenger that plays within
its clocks, and that challenger never loses its bond. Every call of every example also
checks that no token is made or lost (`Chain`).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from hypothesis import given, strategies as st

from tests.contracts import toy
from tests.contracts.chain import Chain, Reverted
from tests.contracts.play import (
    CLAIMED,
    FINALISED,
    LOST,
    PENDING,
    PRICE,
    SEALED,
    SLASHED,
    STAKE,
    WITHHELD,
    Game,
)
from tests.contracts.toy import Trajectory, honest

WINDOW, CLOCK = 20, 20
# Window, reveals, both clocks of the last challenge, and a block for each move; in
# the end nobody meddles, so the honest need not look at every block.
LONG_ENOUGH: Final = 20 + 8 + 2 * CLOCK + 30
STRIDE: Final = 5


@dataclass(frozen=True, slots=True)
class Meddling:
    """One thing that somebody with an interest of his own tries; it may be refused."""

    deed: str
    which: int
    where: int


def legal(game: Game, place: int) -> int:
    """Something that a challenge may name."""
    every = game.trajectory.every
    step = place % game.trajectory.steps
    return WITHHELD if place % 3 == 0 else step - step % every


def advance(game: Game, challenge_id: int, place: int) -> None:
    """Whatever move a challenge can make, towards anywhere."""
    if game.view(challenge_id).status == SEALED:
        game.reveal(challenge_id)
    elif game.solver_moves(challenge_id):
        game.answer(challenge_id)
    else:
        game.descend(
            challenge_id,
            lambda children, level, _: place % (len(children) + (level == -1)),
        )


DEEDS: Final[dict[str, Callable[[Game, bytes, int, int], object]]] = {
    "accuse": lambda g, who, _, place: g.accuse(who, legal(g, place)),
    "challenge": lambda g, who, _, place: g.challenge(who, legal(g, place)),
    "babble": lambda g, who, which, place: g.accuse(who, place + 100 * which),
    "advance": lambda g, who, which, place: advance(g, own(g, who, which), place),
    "press on": lambda g, who, _, place: advance(g, own(g, who, -1), place),
    "open": lambda g, who, which, _: g.open_node(
        g.view(pick(g, which)).level, g.view(pick(g, which)).index, who
    ),
    "judge": lambda g, who, _, place: g.judge(place % g.trajectory.steps, who),
    "convict": lambda g, who, which, _: g.convict(pick(g, which), who),
    "timeout": lambda g, _, which, __: g.timeout(pick(g, which)),
    "demand": lambda g, who, which, place: g.chain.send(
        *(who, "Demands", "demand_record", g.job_id, place % 7),
        value=(2 - which % 2) * 2 * 1_500_000 * 10**9,
    ),
    "silence": lambda g, who, which, _: g.chain.send(
        who, "Demands", "timeout", 1 + which % 4
    ),
    "finalise": lambda g, *_: g.finalise(),
    "settle": lambda g, *_: g.settle(),
    "claim": lambda g, _, which, __: g.claim(pick(g, which)),
    "withdraw": lambda g, who, *_: g.chain.send(who, "DisputeGame", "withdraw"),
    "commit again": lambda g, *_: g.commit(),
    "expire": lambda g, who, *_: g.chain.send(who, "JobMarket", "expire", g.job_id),
    "wait": lambda g, *_: g.chain.mine(),
    "stuff": lambda g, *_: g.chain.mine(3, ticks=False),
}

# Disputes are long: most of the time somebody goes on with one.
OFTEN: Final = ["accuse", "advance", "press on", "press on"]
meddling = st.builds(
    Meddling,
    st.sampled_from(sorted(DEEDS) + 2 * OFTEN),
    st.integers(0, 7),
    st.integers(0, 400),
)
shapes = st.tuples(st.integers(1, 150), st.integers(1, 160)).map(
    lambda shape: (shape[0], min(shape))
)


def pick(game: Game, which: int) -> int:
    """One of the challenges there are."""
    ids = sorted(game.challenges)
    if not ids:
        raise Reverted("nobody has challenged yet")
    return ids[which % len(ids)]


def own(game: Game, who: bytes, which: int) -> int:
    """One of a person's own challenges; nobody moves another's."""
    ids = [i for i in sorted(game.challenges) if game.view(i).challenger == who]
    if not ids:
        raise Reverted("this person has not challenged yet")
    return ids[which % len(ids)]


def meddle(game: Game, who: bytes, deeds: Sequence[Meddling]) -> None:
    """Try what the contracts let happen."""
    for each in deeds:
        try:
            DEEDS[each.deed](game, who, each.which, each.where)
        except Reverted:
            continue


def blocks(deeds: Sequence[Meddling]) -> list[Sequence[Meddling]]:
    """The deeds, a few for each block."""
    size = max(1, len(deeds) // 20)
    return [deeds[i : i + size] for i in range(0, len(deeds), size)]


def defend(game: Game) -> None:
    """An honest solver's block: answer what is asked, end what is judged VALID."""
    for challenge_id in game.live():
        c = game.view(challenge_id)
        if c.status != PENDING:
            continue
        if game.solver_moves(challenge_id):
            game.answer(challenge_id)
        elif c.awaits == bytes(32):
            if not game.verdict(c.start):
                game.judge(c.start, game.solver)
            game.convict(challenge_id, game.solver)
    if not game.chain.call("Demands", "unanswered", game.trial):
        return
    for record in range(len(toy.DATA)):
        fact = game.chain.call("Demands", "record_fact", game.trial, record)
        demand_id = game.chain.call("Demands", "demand_of", fact)
        if demand_id and game.chain.call("Demands", "demand", demand_id).status == 1:
            game.chain.send(
                *(game.solver, "Demands", "answer_record", game.job_id, record),
                *(toy.DATA[record], toy.data_tree().path(record)),
            )


@given(shape=shapes, deeds=st.lists(meddling, min_size=5, max_size=60))
def test_an_honest_solver_is_never_convicted(
    shape: tuple[int, int], deeds: list[Meddling]
) -> None:
    game = Game(Chain(), honest(*shape)).start()
    mallory = game.chain.fund("mallory")
    for each in blocks(deeds):
        meddle(game, mallory, each)
        defend(game)
        game.chain.mine()
    for _ in range(0, LONG_ENOUGH, STRIDE):
        defend(game)
        game.chain.mine(STRIDE)
    for challenge_id in game.live():
        game.timeout(challenge_id)
    if game.state != FINALISED:
        game.finalise()
    assert game.credit("JobMarket", game.solver) == PRICE
    assert game.chain.call("Staking", "free_of", game.solver) == STAKE


@dataclass(frozen=True, slots=True)
class Cheat:
    """How a solver cheats.

    Attributes:
        leaf: A committed state that is wrong, counted from the second.
        follows: Whether true steps follow the wrong state, or the true states.
        noise: Further wrong states, by position.
        blank: Whether these are zero instead of random: a root that is none.
        answers: Whether it answers, block by block; else it is silent.
    """

    leaf: int
    follows: bool
    noise: frozenset[int]
    blank: bool
    answers: bool

    def trajectory(self, steps: int, every: int) -> Trajectory:
        """What it commits to."""
        truth = honest(steps, every)
        wrong = min((1 + self.leaf % (len(truth.committed) - 1)) * every, steps)
        states = list(truth.states)
        for position in sorted({wrong, *(1 + n % steps for n in self.noise)}):
            fake = hashlib.sha256(b"fake%d" % position).digest()
            states[position] = bytes(32) if self.blank and position != wrong else fake
            for later in range(position + 1, steps + 1 if self.follows else 0):
                states[later] = toy.step(states[later - 1])
        return Trajectory(states, every)


cheats = st.builds(
    Cheat,
    leaf=st.integers(0, 200),
    follows=st.booleans(),
    noise=st.frozensets(st.integers(0, 200), max_size=3),
    blank=st.booleans(),
    answers=st.booleans(),
)


def accusation(game: Game, truth: Trajectory, *, withheld: bool) -> int:
    """What an honest challenger names: the segment of the first wrong leaf."""
    if withheld:
        return WITHHELD
    pairs = zip(game.trajectory.committed, truth.committed, strict=True)
    first = next(k for k, (shown, true) in enumerate(pairs) if shown != true)
    return (first - 1) * truth.every


def prosecute(game: Game, challenge_id: int, truth: Trajectory) -> None:
    """An honest challenger's block."""
    c = game.view(challenge_id)
    if c.status == SEALED and game.state != SLASHED:
        game.reveal(challenge_id)
    elif c.status == PENDING and game.state != SLASHED:
        solver_spent = game.chain.call("DisputeGame", "clocks", challenge_id)[0]
        if solver_spent > CLOCK:
            game.timeout(challenge_id)
        elif not game.solver_moves(challenge_id):
            if c.awaits != bytes(32):
                game.follow(challenge_id, truth)
            else:
                if not game.verdict(c.start):
                    game.judge(c.start, c.challenger)
                game.convict(challenge_id, c.challenger)


def evade(game: Game) -> None:
    """A cheater's block: answer what can be answered, in the hope of an error."""
    for challenge_id in game.live():
        pending = game.view(challenge_id).status == PENDING
        if pending and game.solver_moves(challenge_id):
            try:
                game.answer(challenge_id)
            except Reverted:
                continue


@given(
    shape=shapes,
    cheat=cheats,
    withheld=st.booleans(),
    late=st.integers(0, 15),
    deeds=st.lists(meddling, max_size=60),
)
def test_one_honest_challenger_convicts_any_cheater(
    shape: tuple[int, int],
    cheat: Cheat,
    withheld: bool,  # noqa: FBT001  (hypothesis names its arguments)
    late: int,
    deeds: list[Meddling],
) -> None:
    truth = honest(*shape)
    game = Game(Chain(), cheat.trajectory(*shape)).start()
    mallory, alice = game.chain.fund("mallory"), game.chain.fund("alice")
    mine = 0
    meddlings = blocks(deeds)
    while late and meddlings and game.chain.now < WINDOW - 4:
        meddle(game, mallory, meddlings.pop(0))
        game.chain.mine()
        late -= 1
    if game.state != SLASHED:
        mine = game.challenge(alice, accusation(game, truth, withheld=withheld))
    for each in [*meddlings, *[()] * LONG_ENOUGH]:
        game.chain.mine()
        if game.state == SLASHED:
            break
        meddle(game, mallory, each)
        if cheat.answers:
            evade(game)
        prosecute(game, mine, truth)
    assert game.state == SLASHED
    if mine:
        assert game.view(mine).status != LOST
    game.chain.mine(LONG_ENOUGH)
    if not game.chain.call("DisputeGame", "docket", game.trial).settled:
        game.settle()
    if mine and game.view(mine).status != CLAIMED:
        game.claim(mine)
    if mine:
        assert game.credit("DisputeGame", alice) >= game.view(mine).bond
