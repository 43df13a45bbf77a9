"""Polling filters: their life time and their number."""

from dataclasses import dataclass, field

import pytest

from node.rpc.errors import RpcError
from node.rpc.filters import IDLE_SECONDS, BlockFilter, Filters


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Numbers:
    given: list[int] = field(default_factory=list[int])

    def __call__(self) -> int:
        self.given.append(len(self.given) + 1)
        return self.given[-1]


def table(clock: Clock | None = None, most: int = 10) -> Filters:
    return Filters(clock or Clock(), Numbers(), most)


def test_installed_filter_is_polled_until_removed() -> None:
    filters, wanted = table(), BlockFilter(5)
    name = filters.install(wanted)
    assert filters.poll(name) is wanted
    assert filters.remove(name)
    assert not filters.remove(name)
    with pytest.raises(RpcError, match="filter not found"):
        filters.poll(name)


@pytest.mark.parametrize("name", ["0x99", "", 1, None, [], {}])
def test_unknown_names_are_refused(name: object) -> None:
    filters = table()
    with pytest.raises(RpcError, match="filter not found"):
        filters.poll(name)
    assert not filters.remove(name)


def test_idle_filter_expires_and_a_polled_one_does_not() -> None:
    clock = Clock()
    filters = table(clock)
    idle, polled = filters.install(BlockFilter(1)), filters.install(BlockFilter(2))
    clock.seconds = IDLE_SECONDS - 1
    filters.poll(polled)
    clock.seconds = IDLE_SECONDS
    filters.poll(polled)
    with pytest.raises(RpcError):
        filters.poll(idle)
    assert len(filters) == 1


def test_oldest_filter_makes_room() -> None:
    filters = table(most=2)
    names = [filters.install(BlockFilter(number)) for number in range(3)]
    assert len(filters) == 2
    with pytest.raises(RpcError):
        filters.poll(names[0])
    assert filters.poll(names[2]) == BlockFilter(2)
