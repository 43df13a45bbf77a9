"""The table of methods, and how one call is answered.

A method says how many parameters it takes and how it runs: `inline` in the event loop
(reads of a few keys), or in a worker thread behind `WorkBench` (anything that executes
code, scans blocks or decodes their transactions). Between two members of a batch others
have their turn. Every failure becomes a JSON-RPC error; a failure that nobody
foresaw is logged with its traceback and answered with "internal error", so that one
bad request cannot take the node down.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import structlog
import trio

from chain.errors import MissingNode, NotFound
from node.rpc.envelope import (
    BadRequest,
    Body,
    Request,
    error_object,
    read_body,
    result_object,
    write_body,
)
from node.rpc.errors import (
    INTERNAL_ERROR,
    METHOD_NOT_FOUND,
    PRUNED,
    RESPONSE_TOO_LARGE,
    RpcError,
    invalid_params,
    limit_exceeded,
    missing_state,
)

T = TypeVar("T")
Params = Sequence[Any]
Handler = Callable[[Params], Awaitable[object]]

# What go-ethereum allows; a larger answer would be built in memory first.
MAX_RESPONSE_BYTES = 25_000_000
_ANY_NUMBER = 2**31

_log = structlog.get_logger("node.rpc")


@dataclass(frozen=True, slots=True)
class Method:
    """A handler that takes between `least` and `most` parameters."""

    handler: Handler
    least: int = 0
    most: int = 0


def inline(call: Callable[[Params], object], least: int = 0, most: int = 0) -> Method:
    """A method that runs at once in the event loop."""

    async def handler(params: Params) -> object:
        return call(params)

    return Method(handler, least, most)


@dataclass(frozen=True, slots=True)
class BenchLimits:
    """How much work may be under way. `seconds` is per call."""

    threads: int
    queue: int
    seconds: float


class WorkBench:
    """Worker threads for heavy calls, bounded in number, waiting line and time."""

    def __init__(self, limits: BenchLimits) -> None:
        self._limits = limits
        self._limiter = trio.CapacityLimiter(limits.threads)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a thread.

        A call that exceeds its time is abandoned: the caller gets an error, and the
        thread keeps its place until the step cap of the execution ends it.

        Raises:
            RpcError: too many wait already, or the time is up.
        """
        if self._limiter.statistics().tasks_waiting >= self._limits.queue:
            raise limit_exceeded("server busy: too many calls are waiting")
        with trio.move_on_after(self._limits.seconds):
            return await trio.to_thread.run_sync(
                work, abandon_on_cancel=True, limiter=self._limiter
            )
        raise limit_exceeded(f"execution timeout: {self._limits.seconds} s are over")

    async def drain(self, seconds: float) -> None:
        """Wait until every thread has ended, abandoned ones too, or time is up."""
        with trio.move_on_after(seconds):
            for _ in range(self._limits.threads):
                await self._limiter.acquire_on_behalf_of(object())

    def threaded(
        self, call: Callable[[Params], object], least: int = 0, most: int = 0
    ) -> Method:
        """A method that runs on this bench."""

        async def handler(params: Params) -> object:
            return await self.run(lambda: call(params))

        return Method(handler, least, most)


class Observer(Protocol):
    """Told about every answered call; metrics implement it."""

    def answered(self, method: str, seconds: float, *, failed: bool) -> None:
        """A call was answered. Unknown methods are reported as "unknown"."""


def absent(name: str) -> RpcError:
    """What calling a method raises that does not exist."""
    return RpcError(
        METHOD_NOT_FOUND, f"the method {name} does not exist/is not available"
    )


class Dispatcher:
    """Answers bodies with the methods of a table."""

    def __init__(
        self,
        methods: Mapping[str, Method],
        observer: Observer,
        *,
        max_batch: int,
        otherwise: Callable[[str], RpcError] = absent,
    ) -> None:
        self._methods = methods
        self._observer = observer
        self._max_batch = max_batch
        self._otherwise = otherwise  # what a method that is not in the table raises

    async def answer(self, body: bytes) -> bytes:
        """The response body; empty when everything was a notification."""
        try:
            parsed: Body = read_body(body, max_batch=self._max_batch)
        except RpcError as error:
            return write_body(error_object(None, error))
        answers: list[bytes] = []
        left = MAX_RESPONSE_BYTES
        for member in parsed.members:
            await trio.lowlevel.checkpoint()
            answer = await self._answer_member(member, left)
            if answer:
                answers.append(answer)
                left -= len(answer)
        if not answers:
            return b""
        return b"[" + b",".join(answers) + b"]" if parsed.batch else answers[0]

    async def _answer_member(self, member: Request | BadRequest, left: int) -> bytes:
        """One encoded answer, not much longer than `left`; empty for a notification."""
        if isinstance(member, BadRequest):
            return write_body(error_object(member.id, member.error))
        try:
            if left <= 0:
                raise _too_large()
            result = write_body(result_object(member.id, await self._call(member)))
            if len(result) > left:
                raise _too_large()
        except RpcError as error:
            result = write_body(error_object(member.id, error))
        return result if member.answered else b""

    async def _call(self, request: Request) -> object:
        method = self._methods.get(request.method)
        name = request.method
        if method is None:
            method, name = self._refusing(name), "unknown"
        started, failed = trio.current_time(), True
        try:
            result = await method.handler(_checked(method, request.params))
            failed = False
        except RpcError:
            raise
        # A pruned node, or one that began at a snapshot, lacks old blocks and states.
        except MissingNode as error:
            _log.info("rpc method failed", method=name, reason=str(error))
            raise missing_state(error.digest, "state") from error
        except NotFound as error:
            _log.info("rpc method failed", method=name, reason=str(error))
            raise RpcError(
                PRUNED, f"pruned history unavailable: {error} on this node"
            ) from error
        # The one place where everything is caught: a bug in one method must not stop
        # the node. It is logged in full and the client learns that it was ours.
        except Exception as error:
            _log.exception("rpc method failed", method=name)
            raise RpcError(INTERNAL_ERROR, "internal error") from error
        finally:
            seconds = trio.current_time() - started
            self._observer.answered(name, seconds, failed=failed)
        return result

    def _refusing(self, name: str) -> Method:
        def refuse(_: Params) -> object:
            raise self._otherwise(name)

        return inline(refuse, most=_ANY_NUMBER)


def _too_large() -> RpcError:
    return RpcError(RESPONSE_TOO_LARGE, "response too large")


def _checked(method: Method, params: Params) -> Params:
    given = list(params)
    while len(given) > method.least and given[-1] is None:
        given.pop()
    if len(given) > method.most:
        raise invalid_params(f"too many arguments, want at most {method.most}")
    for index in range(method.least):
        if index >= len(given) or given[index] is None:
            raise invalid_params(f"missing value for required argument {index}")
    if method.most < _ANY_NUMBER:
        given += [None] * (method.most - len(given))
    return given
