"""Questions to a node, and a load of transfers on all of them."""

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import requests

from chain.transaction import Unsigned
from genesis.accounts import account

_SECONDS = 5.0
_STUCK_SECONDS = 4.0
_IN_FLIGHT = 40
_RECEIVER = b"\x22" * 20


class RpcError(Exception):
    """A node did not answer, or with an error."""


def ask(url: str, method: str, *params: object) -> Any:  # noqa: ANN401 - any JSON
    """The result of a call.

    Raises:
        RpcError: there is none.
    """
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    headers = {"content-type": "application/json"}
    try:
        response = requests.post(
            url, data=json.dumps(body), headers=headers, timeout=_SECONDS
        )
        answer: dict[str, Any] = response.json()
    except (requests.RequestException, ValueError) as error:
        raise RpcError(f"{url} {method}: {error}") from error
    if "error" in answer:
        raise RpcError(f"{url} {method}: {answer['error']}")
    return answer["result"]


def height(url: str) -> int:
    """Number of the head.

    Raises:
        RpcError: no answer.
    """
    return int(ask(url, "eth_blockNumber"), 16)


class Load:
    """Transfers from a few accounts to whichever nodes answer, none of them lost.

    Each account has some on their way; what is not in a block after a while is sent
    again, to another node, as a wallet does.
    """

    def __init__(
        self,
        rate: float,
        chain_id: int,
        accounts: Sequence[int],
        urls: Callable[[], Sequence[str]],
    ) -> None:
        """Describe it.

        Args:
            rate: transfers per second, over all accounts.
            chain_id: of the chain.
            accounts: indices of accounts that nobody else uses.
            urls: nodes that should answer now.
        """
        self._rate, self._chain_id, self._urls = rate, chain_id, urls
        self._senders = [_Sender(index) for index in accounts]
        self._turn = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.refused: list[str] = []

    @property
    def sent(self) -> int:
        """Transfers that some node took."""
        return sum(len(sender.raw) for sender in self._senders)

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Send no more."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def missing(self, url: str) -> int:
        """How many are in no block yet, as this node sees it; sends those again."""
        count = 0
        for sender in self._senders:
            included = sender.included(url)
            count += len(sender.raw) - included
            for raw in sender.raw[included:]:
                self._send(url, raw)
        return count

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / self._rate, time.monotonic() - 1)
            urls = self._urls()
            if not urls:
                continue
            self._turn += 1
            url = urls[self._turn % len(urls)]
            try:
                self._one(self._senders[self._turn % len(self._senders)], url)
            except RpcError as error:
                self.refused.append(str(error))

    def _one(self, sender: "_Sender", url: str) -> None:
        now = time.monotonic()
        if len(sender.raw) - sender.nonce >= _IN_FLIGHT or now > sender.looked + 1:
            included = sender.included(url)
            sender.looked = now
            if included > sender.nonce:
                sender.nonce, sender.moved = included, now
            elif len(sender.raw) == sender.nonce:
                sender.moved = now
        if now > sender.moved + _STUCK_SECONDS:
            sender.moved = now
            for raw in sender.raw[sender.nonce :]:
                self._send(url, raw)
        if len(sender.raw) - sender.nonce < _IN_FLIGHT:
            raw = sender.sign(self._chain_id)
            if self._send(url, raw):
                sender.raw.append(raw)

    def _send(self, url: str, raw: bytes) -> bool:
        try:
            ask(url, "eth_sendRawTransaction", "0x" + raw.hex())
        except RpcError as error:
            if "already known" in str(error) or "nonce too low" in str(error):
                return True
            self.refused.append(str(error))
            return False
        return True


class _Sender:
    """One account and everything that it sent."""

    def __init__(self, index: int) -> None:
        self._account = account(index)
        self.raw: list[bytes] = []
        self.nonce = 0
        self.moved = self.looked = time.monotonic()

    def included(self, url: str) -> int:
        address = "0x" + self._account.address.hex()
        return int(ask(url, "eth_getTransactionCount", address, "latest"), 16)

    def sign(self, chain_id: int) -> bytes:
        return Unsigned(
            chain_id=chain_id,
            nonce=len(self.raw),
            gas=21_000,
            max_fee_per_gas=10**10,
            max_priority_fee_per_gas=10**9,
            to=_RECEIVER,
            value=1,
            type=2,
        ).sign(self._account.secret)
