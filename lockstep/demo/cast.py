"""Who plays what: roles, accounts and the drawn fakes."""

import random
from dataclasses import dataclass

__all__ = ["FAKES", "Fake", "Part", "draw_fakes", "parts"]

FAKES = (
    "fake-step",
    "noise",
    "other-data",
    "wrong-lr",
    "swap-batches",
    "copy",
    "bit-flip",
    "withhold-leaves",
)
_WHOLESALE = {"noise", "other-data", "copy"}


@dataclass(frozen=True, slots=True)
class Fake:
    """One drawn fake.

    Attributes:
        name: of the cheat.
        step: at which it starts.
    """

    name: str
    step: int

    @property
    def option(self) -> str:
        """As the solver's hidden option takes it."""
        return self.name if self.name in _WHOLESALE else f"{self.name}@{self.step}"


@dataclass(frozen=True, slots=True)
class Part:
    """One job of the demonstration.

    Attributes:
        model: `mlp` or `cnn`, naming the example script.
        steps: the script's number of steps.
        creator: index of the creator's account.
        solver: index of the solver's account.
        fake: how the solver cheats; None if it is honest.
    """

    model: str
    steps: int
    creator: int
    solver: int
    fake: Fake | None

    @property
    def name(self) -> str:
        """What the job is called in directories."""
        return f"{self.model}-{'honest' if self.fake is None else 'faked'}"


def draw_fakes(random_source: random.Random, steps: int) -> Fake:
    """A fake and its step, both by chance."""
    name = random_source.choice(FAKES)
    step = 0 if name in _WHOLESALE else random_source.randrange(steps - 1)
    return Fake(name, step)


def parts(random_source: random.Random) -> list[Part]:
    """The four jobs: each model once honest, once faked."""
    sizes = {"mlp": 300, "cnn": 200}
    honest = [
        Part(model, steps, creator, 4, None)
        for creator, (model, steps) in enumerate(sizes.items())
    ]
    faked = [
        Part(model, steps, 2 + i, 5 + i, draw_fakes(random_source, steps))
        for i, (model, steps) in enumerate(sizes.items())
    ]
    return honest + faked
