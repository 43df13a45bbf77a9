"""Worker threads for heavy calls: bounded in number, waiting line and time."""

import json
import threading
from functools import partial

import pytest
import trio
import trio.testing

from node.rpc.dispatch import (
    MAX_RESPONSE_BYTES,
    BenchLimits,
    Dispatcher,
    Method,
    WorkBench,
    inline,
)
from node.rpc.errors import LIMIT_EXCEEDED, RpcError

FOREVER = 3_600.0


class Silent:
    """Hears nothing."""

    def answered(self, method: str, seconds: float, *, failed: bool) -> None:
        """Forget it."""


def test_work_runs_in_a_thread_of_its_own() -> None:
    async def main() -> tuple[int, int]:
        bench = WorkBench(BenchLimits(1, 1, FOREVER))
        return threading.get_ident(), await bench.run(threading.get_ident)

    here, there = trio.run(main)
    assert here != there


def test_waiting_line_is_bounded_and_other_methods_answer_meanwhile() -> None:
    release = threading.Event()

    async def main() -> bytes:
        bench = WorkBench(BenchLimits(1, 1, FOREVER))
        methods = {
            "slow": bench.threaded(lambda _: release.wait()),
            "quick": inline(lambda _: "here"),
        }
        dispatcher = Dispatcher(methods, Silent(), max_batch=2)
        slow = b'{"jsonrpc":"2.0","id":1,"method":"slow"}'
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(dispatcher.answer, slow)
            await trio.testing.wait_all_tasks_blocked()
            refused = await dispatcher.answer(slow)
            quick = slow.replace(b"slow", b"quick")
            assert b'"here"' in await dispatcher.answer(quick)
            release.set()
        return refused

    assert b"server busy" in trio.run(main)


def test_time_is_bounded() -> None:
    release = threading.Event()

    async def main() -> None:
        bench = WorkBench(BenchLimits(1, 1, 5.0))
        with pytest.raises(RpcError, match="execution timeout") as caught:
            await bench.run(release.wait)
        assert caught.value.code == LIMIT_EXCEEDED
        release.set()

    # The clock jumps as soon as nothing but the abandoned thread is left.
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_drain_waits_for_abandoned_threads() -> None:
    release, ended = threading.Event(), threading.Event()

    def work() -> None:
        release.wait()
        ended.set()

    async def main() -> bool:
        bench = WorkBench(BenchLimits(2, 1, FOREVER))
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bench.run, work)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
        release.set()
        await bench.drain(FOREVER)
        return ended.is_set()

    assert trio.run(main)


def test_answers_are_bounded_in_size() -> None:
    size = MAX_RESPONSE_BYTES // 2
    dispatcher = Dispatcher(
        {"big": inline(lambda _: "x" * size)}, Silent(), max_batch=4
    )
    member = b'{"jsonrpc":"2.0","id":%d,"method":"big"}'
    body = b"[" + b",".join(member % number for number in range(4)) + b"]"
    answers = json.loads(trio.run(partial(dispatcher.answer, body)))
    assert "result" in answers[0]
    too_large = {"code": -32003, "message": "response too large"}
    assert [answer.get("error") for answer in answers[1:]] == [too_large] * 3


def test_fault_in_a_method_is_an_internal_error_and_tells_nothing() -> None:
    def faulty(_: object) -> object:
        raise KeyError("a secret of the node")

    dispatcher = Dispatcher({"faulty": inline(faulty)}, Silent(), max_batch=1)
    body = b'{"jsonrpc":"2.0","id":1,"method":"faulty"}'
    answer = trio.run(partial(dispatcher.answer, body))
    assert b"-32603" in answer
    assert b"secret" not in answer


async def echo(params: object) -> object:
    return params


@pytest.mark.parametrize(
    ("params", "answer"),
    [
        ("[1]", b'"result":[1,null]'),
        ("[1,null]", b'"result":[1,null]'),
        ("[1,2]", b'"result":[1,2]'),
        ("[]", b"missing value for required argument 0"),
        ("[null,2]", b"missing value for required argument 0"),
        ("[1,2,3]", b"too many arguments, want at most 2"),
    ],
)
def test_parameters_are_counted(params: str, answer: bytes) -> None:
    dispatcher = Dispatcher({"echo": Method(echo, 1, 2)}, Silent(), max_batch=1)
    body = f'{{"jsonrpc":"2.0","id":1,"method":"echo","params":{params}}}'.encode()
    assert answer in trio.run(partial(dispatcher.answer, body))
