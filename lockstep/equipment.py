"""What every actor works with: account, contracts, journal, artifacts, voice.

Opened once at the start of a process; see `lockstep.actor` for the directory.
"""

from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass

from lockstep import keyfile
from lockstep.actor import Settings
from lockstep.artifacts.fetch import Fetcher
from lockstep.artifacts.server import resumed
from lockstep.artifacts.store import Store
from lockstep.client.connection import Connection
from lockstep.client.contracts import deployed
from lockstep.client.disputes import Demands, Disputes, Evidence
from lockstep.client.history import History
from lockstep.client.market import Market, Staking, ticks
from lockstep.client.verification import Verification
from lockstep.intake import Intake
from lockstep.journal import Journal
from lockstep.report import Report

__all__ = ["Equipment", "equipped"]


@dataclass(frozen=True, slots=True)
class Equipment:
    """An actor's things.

    Attributes:
        settings: what it was told.
        report: its voice.
        journal: its memory.
        connection: its account at its node.
        market: the JobMarket.
        staking: Staking.
        disputes: the DisputeGame.
        evidence: the Evidence.
        demands: the Demands.
        verification: the Verification contract.
        history: the chain's events.
        store: its artifacts.
        url: where it serves them.
        intake: how it gets at other people's.
    """

    settings: Settings
    report: Report
    journal: Journal
    connection: Connection
    market: Market
    staking: Staking
    disputes: Disputes
    evidence: Evidence
    demands: Demands
    verification: Verification
    history: History
    store: Store
    url: str
    intake: Intake

    @property
    def address(self) -> str:
        """The actor's address."""
        return self.connection.address

    def ticks(self) -> int:
        """The dispute clock's time."""
        return ticks(self.connection)

    def withdraw(self) -> None:
        """Fetch what the contracts owe to this account."""
        purses: dict[str, Market | Disputes | Demands] = {
            "JobMarket": self.market,
            "DisputeGame": self.disputes,
            "Demands": self.demands,
        }
        for name, purse in purses.items():
            if purse.credit(self.address):
                receipt = purse.withdraw()
                amount = receipt.event("Withdrawn").fields["amount"]
                self.report("withdrawn", contract=name, wei=str(amount))


@contextmanager
def equipped(actor: str, settings: Settings) -> Generator[Equipment]:
    """Open everything, wait for what the last process left pending, close at the end.

    Raises:
        LockstepError: the directory is in use, the key or the node is unusable.
    """
    with ExitStack() as stack:
        report = Report(actor, settings.as_json)
        journal = stack.enter_context(closing(Journal(settings.directory / "journal")))
        account = keyfile.load(settings.key_path)
        store = Store(settings.artifacts_url)
        note = settings.directory / "address"
        server = stack.enter_context(
            closing(resumed(store, settings.serve, settings.public_url, note))
        )
        server.start()
        fetcher = stack.enter_context(closing(Fetcher()))
        connection = Connection(settings.rpc, deployed(), account)
        connection.settle()
        history = History(connection)
        report("started", address=account.address, url=server.url)
        yield Equipment(
            settings=settings,
            report=report,
            journal=journal,
            connection=connection,
            market=Market(connection),
            staking=Staking(connection),
            disputes=Disputes(connection),
            evidence=Evidence(connection),
            demands=Demands(connection),
            verification=Verification(connection),
            history=history,
            store=store,
            url=server.url,
            intake=Intake(history, store, fetcher, settings.most_data),
        )
        report("stopped")
