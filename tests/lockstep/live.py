"""A devnet with actors as processes, and creators in the test's own process."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from eth_account import Account as EthAccount

from lockstep.artifacts.kinds import Kind
from lockstep.artifacts.server import Server
from lockstep.artifacts.store import Store
from lockstep.client.connection import Connection
from lockstep.client.contracts import deployed
from lockstep.client.disputes import Demands, Disputes, Evidence
from lockstep.client.market import Market
from lockstep.client.views import JobTerms
from lockstep.creator.spec import tokens
from lockstep.keyfile import account
from lockstep.localnet import Account, Localnet, Process
from lockstep.training import Work
from ml_verifier.session import initial_state

POLL = ("--poll", "0.1")


class Live:
    """What the tests do on a running devnet.

    Attributes:
        net: the devnet.
        bank: the account that pays for all the others.
    """

    def __init__(self, net: Localnet, store: Store, url: str) -> None:
        self.net = net
        self._store = store
        self._url = url
        self.bank = self.connection(net.accounts[0])

    def connection(self, who: Account) -> Connection:
        return Connection(self.net.url, deployed(), account(who.key))

    def rich(self, amount: int = 100) -> Account:
        """A new account with some tokens."""
        made = EthAccount.create()
        self.bank.transfer(made.address, tokens(amount))
        return Account(made.address, made.key.hex())

    def post(
        self,
        creator: Account,
        work: Work,
        stake: int = 2,
        training_ticks: int = 2_000,
    ) -> int:
        """Offer a job at one token; returns its id."""
        program, dataset = work.program, work.dataset
        self._store.put(Kind.PROGRAM, program.root, program.encoded)
        self._store.put(Kind.DATA, dataset.root, dataset.data)
        terms = JobTerms(
            data_root=dataset.root,
            records=dataset.records,
            seed=work.seed,
            initial_root=initial_state(program, work.seed).root,
            steps=work.steps,
            commit_every=work.commit_every,
            floor_price=tokens(1),
            maximum_price=tokens(1),
            auction_ticks=1,
            training_ticks=training_ticks,
            stake=tokens(stake),
            reopen=False,
        )
        market = Market(self.connection(creator))
        receipt = market.post(program.encoded, terms, self._url)
        return cast("int", receipt.event("JobPosted").fields["job_id"])

    def solver(
        self, name: str, who: Account, creator: Account, *options: str
    ) -> Process:
        only = ("--creator", creator.address)
        return self.net.actor(name, "solver", who, *POLL, *only, *options)

    def whistleblower(self, name: str, who: Account, *options: str) -> Process:
        return self.net.actor(
            name, "whistleblower", who, *POLL, "--patience", "3", *options
        )

    @property
    def market(self) -> Market:
        return Market(self.bank)

    @property
    def disputes(self) -> Disputes:
        return Disputes(self.bank)

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.bank)

    @property
    def demands(self) -> Demands:
        return Demands(self.bank)


@contextmanager
def live(directory: Path, **parameters: int) -> Iterator[Live]:
    store = Store(str(directory / "creators"))
    server = Server(store, "127.0.0.1:0")
    server.start()
    try:
        with Localnet(directory / "net", block_time=0.2, parameters=parameters) as net:
            yield Live(net, store, server.url)
    finally:
        server.close()
