"""Virtual time for code that works in threads."""

import trio
from trio.testing import MockClock

_STILL_SECONDS = 0.05


def virtual_clock() -> MockClock:
    """A clock that jumps when all tasks wait and trio's default threads are at rest.

    trio's own jumps while a thread works, if that takes long: time-outs then pass that
    would not have, on a machine that is busy.
    """
    clock = MockClock(autojump_threshold=_STILL_SECONDS)
    jump = clock._autojump

    def jump_at_rest() -> None:
        if not trio.to_thread.current_default_thread_limiter().borrowed_tokens:
            jump()

    clock._autojump = jump_at_rest  # type: ignore[method-assign]  # no public way
    return clock
