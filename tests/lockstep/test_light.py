"""The light client over JSON-RPC: a real node, lying nodes, the command."""

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner
from typing_extensions import override

from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.light import Policy
from consensus.validators import ValidatorSet
from lockstep.cli.light import ForkFound, app
from lockstep.client.raw import RawNode
from lockstep.errors import ChainError, ConfigurationError, NodeUnreachable
from lockstep.light import LightClient, VerificationFailed
from tests.consensus.committee import GENESIS
from tests.consensus.test_light import CHAIN, NOW, OTHER, START, LightChain

POLICY = Policy(1_000)


class Fake:
    """A node made of headers."""

    def __init__(self, chain: LightChain, url: str = "memory") -> None:
        self.chain = chain
        self.url = url

    def head(self) -> int:
        return len(self.chain.headers) - 1

    def genesis_hash(self) -> bytes:
        return GENESIS

    def header(self, height: int) -> Header:
        if not 0 <= height <= self.head():
            raise ChainError(f"no block {height}")
        return self.chain.headers[height]

    def certificate(self, height: int) -> CommitCertificate:
        return self.chain.certificate(height)

    def validators(self, height: int) -> ValidatorSet:
        return self.chain.voters(height)


class Foreign(Fake):
    @override
    def genesis_hash(self) -> bytes:
        return bytes(32)


class Unsigned(Fake):
    """Makes headers up; nobody signed them."""

    @override
    def certificate(self, height: int) -> CommitCertificate:
        return CommitCertificate(height, 0, self.chain.headers[height].hash, ())


UNRELATED = LightChain(40, CHAIN.groups, salt=b"unrelated")


def client(*witnesses: Fake, sequential: bool = False) -> LightClient:
    return LightClient(Fake(CHAIN), witnesses, POLICY, sequential=sequential)


def test_the_head_is_verified_and_witnesses_agree() -> None:
    found = client(Fake(CHAIN), Fake(CHAIN)).verify(2, CHAIN.headers[2].hash, now=NOW)
    assert found.header == CHAIN.headers[40]
    assert found.fetched == 2
    assert [each.agrees for each in found.witnesses] == [True, True]
    assert found.forks == ()


def test_sequential_fetches_everything() -> None:
    found = client(sequential=True).verify(2, CHAIN.headers[2].hash, 12, now=NOW)
    assert found.header == CHAIN.headers[12]
    assert found.fetched == 10


def test_backwards() -> None:
    found = client().verify(9, CHAIN.headers[9].hash, 4, now=NOW)
    assert (found.header, found.fetched) == (CHAIN.headers[4], 5)
    same = client().verify(9, CHAIN.headers[9].hash, 9, now=NOW)
    assert (same.header, same.fetched) == (CHAIN.headers[9], 0)


def test_a_fork_is_proved_by_both_headers() -> None:
    found = client(Fake(OTHER)).verify(2, CHAIN.headers[2].hash, 18, now=NOW)
    (fork,) = found.forks
    assert fork.common.height == 2
    assert (fork.first, fork.second) == (CHAIN.block(18), OTHER.block(18))
    assert not found.witnesses[0].agrees
    assert len(fork.equivocators) == 4


@pytest.mark.parametrize(
    ("witness", "problem"),
    [
        (Foreign(CHAIN), "another chain"),
        (Unsigned(OTHER), "0 signed block 18"),
        (Fake(UNRELATED), "another block at the trusted height"),
        (Fake(LightChain(5, CHAIN.groups)), "no block 18"),
    ],
)
def test_a_witness_that_proves_nothing_is_faulty(witness: Fake, problem: str) -> None:
    found = client(witness).verify(2, CHAIN.headers[2].hash, 18, now=NOW)
    (told,) = found.witnesses
    assert (told.agrees, told.fork) == (False, None)
    assert problem in told.problem or "more than 2/3" in told.problem


def test_a_primary_that_lies_is_found_out() -> None:
    for primary, reason in (
        (Fake(UNRELATED), "trusted hash"),
        (Unsigned(CHAIN), "more than 2/3"),
    ):
        lying = LightClient(primary, (), POLICY)
        with pytest.raises(VerificationFailed, match=reason):
            lying.verify(2, CHAIN.headers[2].hash, 3, now=NOW)


def test_trust_expires() -> None:
    with pytest.raises(VerificationFailed, match="trust a newer one"):
        client().verify(2, CHAIN.headers[2].hash, 18, now=START + 2_000)


# -- over HTTP -------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer: bytes = self.server.answer(json.loads(body))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    @override
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _result(fake: Fake, method: str, params: list[str]) -> object:
    height = int(params[0], 16) if params else 0
    if method == "eth_blockNumber":
        return hex(fake.head())
    if method == "lockstep_genesisHash":
        return "0x" + fake.genesis_hash().hex()
    if method == "debug_getRawHeader":
        return "0x" + fake.header(height).encode().hex()
    if method == "lockstep_certificate":
        return {"encoded": "0x" + fake.certificate(height).encode().hex()}
    assert method == "lockstep_validators"
    return {"encoded": "0x" + fake.validators(height).encode().hex()}


class Servers:
    """Fake nodes behind real sockets."""

    def __init__(self) -> None:
        self._servers: list[HTTPServer] = []

    def start(self, answer: object) -> str:
        server = HTTPServer(("127.0.0.1", 0), _Handler)
        server.answer = answer  # type: ignore[attr-defined]
        Thread(target=server.serve_forever, daemon=True).start()
        self._servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    def node(self, fake: Fake) -> str:
        def answer(request: dict[str, Any]) -> bytes:
            result = _result(fake, request["method"], request["params"])
            return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()

        return self.start(answer)

    def stop(self) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()


@pytest.fixture
def servers() -> Iterator[Servers]:
    found = Servers()
    yield found
    found.stop()


@pytest.fixture(autouse=True)
def _at_the_time_of_the_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: float(NOW))


def _arguments(url: str, *more: str) -> list[str]:
    trusted = "0x" + CHAIN.headers[2].hash.hex()
    return [
        *("--rpc", url, "--trusted-number", "2", "--trusted-hash", trusted),
        *("--trust-period", "1000s", *more),
    ]


def _run(*arguments: str) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(app, ["verify", *arguments])
    return done.stdout, done.exception


@pytest.mark.network
def test_the_command_verifies(servers: Servers) -> None:
    url, witness = servers.node(Fake(CHAIN)), servers.node(Fake(CHAIN))
    said, error = _run(*_arguments(url, "--witness", witness, "--json"))
    assert error is None
    document = json.loads(said)
    assert document["header"]["number"] == 40
    assert document["header"]["hash"] == "0x" + CHAIN.headers[40].hash.hex()
    assert document["fetched"] == 2
    assert document["witnesses"] == [
        {"url": witness, "agrees": True, "problem": "", "fork": None}
    ]
    said, error = _run(*_arguments(url, "--witness", witness, "--to", "7"))
    assert error is None
    assert "number       7\n" in said
    assert f"{witness}: agrees" in said
    said, error = _run(*_arguments(url, "--genesis-hash", "0x" + "11" * 32))
    assert isinstance(error, VerificationFailed)


@pytest.mark.network
def test_the_command_shows_a_fork(servers: Servers) -> None:
    url, witness = servers.node(Fake(CHAIN)), servers.node(Fake(OTHER))
    wanted = _arguments(url, "--witness", witness, "--to", "18")
    said, error = _run(*wanted, "--json")
    assert isinstance(error, ForkFound)
    fork = json.loads(said)["witnesses"][0]["fork"]
    assert fork["common"]["number"] == 2
    for name, chain in (("first", CHAIN), ("second", OTHER)):
        encoded = bytes.fromhex(fork[name]["header"]["encoded"][2:])
        assert Header.decode(encoded) == chain.headers[18]
        certificate = bytes.fromhex(fork[name]["certificate"][2:])
        assert CommitCertificate.decode(certificate) == chain.certificate(18)
    assert len(fork["equivocators"]) == 4
    said, error = _run(*wanted)
    assert isinstance(error, ForkFound)
    assert "PROVES A FORK" in said


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--trust-period", "2w"], "s, m, h or d"),
        (["--trusted-hash", "0x12"], "--trusted-hash: expected 64"),
        (["--genesis-hash", "12"], "--genesis-hash: expected 64"),
    ],
)
def test_the_command_refuses_bad_options(arguments: list[str], reason: str) -> None:
    _, error = _run(*_arguments("http://127.0.0.1:1", *arguments))
    assert isinstance(error, ConfigurationError)
    assert reason in str(error)


@pytest.mark.network
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"[" * 100_000, "unusable"),
        (b"[]", "unusable"),
        (b"not json", "unusable"),
        (b'{"error": {"message": "no"}}', "refused"),
        (b'{"result": 5}', "unusable"),
        (b'{"result": "0xzz"}', "unusable"),
        (b'{"result": "0x12"}', "unusable"),
        (b"x" * ((4 << 20) + 1), "more than"),
    ],
)
def test_unusable_answers(servers: Servers, answer: bytes, reason: str) -> None:
    node = RawNode(servers.start(lambda _: answer))
    for method in (node.header, node.certificate, node.validators):
        with pytest.raises(ChainError, match=reason):
            method(1)
    node.close()


@pytest.mark.network
@pytest.mark.parametrize("result", ["null", '{"encoded": "0xc0"}', '{"x": 1}'])
def test_unusable_objects(servers: Servers, result: str) -> None:
    node = RawNode(servers.start(lambda _: b'{"result": %s}' % result.encode()))
    for method in (node.certificate, node.validators):
        with pytest.raises(ChainError, match=r"no answer|unusable"):
            method(1)
    for call in (node.head, node.genesis_hash):
        with pytest.raises(ChainError, match="unusable"):
            call()
    node.close()


def test_nobody_there() -> None:
    node = RawNode("http://127.0.0.1:1")
    with pytest.raises(NodeUnreachable, match="no node answers"):
        node.head()
    node.close()
