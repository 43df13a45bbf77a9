"""What a training script talks to: a chain, and jobs on it.

chain = lockstep.connect("http://127.0.0.1:8545", key="creator.key")
job = chain.submit(model, loss, optimizer, data=(x, y), batch=32, steps=300)
job.wait()
job.load_into(model)
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from eth_account.signers.local import LocalAccount

from lockstep import keyfile
from lockstep.artifacts.fetch import Fetcher
from lockstep.artifacts.kinds import Kind
from lockstep.artifacts.server import Server, resumed
from lockstep.artifacts.store import Store
from lockstep.client.connection import Connection, Receipt
from lockstep.client.contracts import deployed
from lockstep.client.history import History
from lockstep.client.market import Market
from lockstep.client.views import Job, JobState, JobTerms
from lockstep.creator.spec import JobSpec, Prepared, Terms, prepare, tokens
from lockstep.errors import (
    ArtifactUnavailable,
    ChainError,
    ContractReverted,
    JobRefused,
    NodeUnreachable,
)
from lockstep.intake import Intake
from lockstep.weights import Module, load_into, save, weights
from ml_verifier.program import Initialiser, Program
from ml_verifier.state import State

__all__ = ["DEFAULT_URL", "Chain", "NoResult", "PostedJob", "connect", "job_terms"]

DEFAULT_URL = "http://127.0.0.1:8545"
_DIRECTORY = Path("~/.lockstep/creator")
_POLL_SECONDS = 0.5
_KEEP_SECONDS = 5.0  # between attempts to fetch a result early
_NODE_PATIENCE_SECONDS = 120.0


class NoResult(ChainError):
    """The job has not been trained, or never will be."""


def connect(
    url: str = DEFAULT_URL,
    key: str | Path | LocalAccount | None = None,
    *,
    directory: str | Path = _DIRECTORY,
    serve: str = "127.0.0.1:0",
    public_url: str | None = None,
) -> "Chain":
    """Connect to a chain.

    Args:
        url: of a node's JSON-RPC.
        key: a key file's path, a key in hexadecimal or an account; None only reads.
        directory: where data is kept and served from while jobs run.
        serve: `host:port` to serve it on; port 0 takes a free one.
        public_url: what solvers are told, if it is another URL.

    Raises:
        NodeUnreachable: no node answers there.
        ConfigurationError: the key is unusable.
    """
    connection = Connection(url, deployed(), _account(key))
    return Chain(connection, Path(directory).expanduser(), serve, public_url)


class Chain:
    """A chain, seen by a creator."""

    def __init__(
        self,
        connection: Connection,
        directory: Path,
        serve: str = "127.0.0.1:0",
        public_url: str | None = None,
    ) -> None:
        self.connection = connection
        self.market = Market(connection)
        self.history = History(connection)
        self._directory = directory
        self._serve = serve
        self._public_url = public_url
        self._server: Server | None = None

    @cached_property
    def store(self) -> Store:
        """What is served, and what was fetched; made when it is first needed."""
        return Store(str(self._directory / "artifacts"))

    def submit(  # noqa: PLR0913 - a job has this many parts
        self,
        model: Any,  # noqa: ANN401 - a torch module; torch is not imported here
        loss: Callable[..., Any],
        optimizer: Any,  # noqa: ANN401 - a torch optimiser
        *,
        data: Sequence[Any],
        batch: int,
        steps: int,
        price: float = 1.0,
        seed: int | None = None,
        initialise: Mapping[str, Initialiser] | None = None,
        schedule: Any = None,  # noqa: ANN401 - of `lockstep.schedules` or torch
        clip_norm: float | None = None,
        clip_value: float | None = None,
        accumulate: int = 1,
        ema: float | None = None,
    ) -> "PostedJob":
        """Have a model trained; see `JobSpec` for the arguments, and for more of them.

        Raises:
            JobRefused: the step cannot be a job on this chain.
            InsufficientFunds: the account does not hold the price.
        """
        spec = JobSpec(
            model=model,
            loss=loss,
            optimizer=optimizer,
            data=data,
            batch=batch,
            steps=steps,
            seed=seed,
            initialise=initialise,
            schedule=schedule,
            clip_norm=clip_norm,
            clip_value=clip_value,
            accumulate=accumulate,
            ema=ema,
            terms=Terms(price=price),
        )
        return self.post(prepare(spec))

    def submit_spec(self, spec: JobSpec) -> "PostedJob":
        """Have trained what a `JobSpec` describes; like `submit`."""
        return self.post(prepare(spec))

    def post(self, prepared: Prepared) -> "PostedJob":
        """Offer a prepared job; its data is served from this process from now on.

        Raises:
            JobRefused: the chain would refuse it.
        """
        obstacles = prepared.obstacles(self.market.dispute_gas_budget())
        if obstacles:
            raise JobRefused("; ".join(obstacles))
        program, dataset = prepared.captured.program, prepared.dataset
        self.store.put(Kind.PROGRAM, program.root, program.encoded)
        self.store.put(Kind.DATA, dataset.root, dataset.data)
        receipt = self.market.post(program.encoded, job_terms(prepared), self.serve())
        job_id = cast("int", receipt.event("JobPosted").fields["job_id"])
        return PostedJob(self, job_id, receipt)

    def serve(self) -> str:
        """Serve the store from this process; returns the URL."""
        if self._server is None:
            note = self._directory / "address"
            self._server = resumed(self.store, self._serve, self._public_url, note)
            self._server.start()
        return self._server.url

    def job(self, job_id: int) -> "PostedJob":
        """A job on the chain.

        Raises:
            ChainError: there is none of this id.
        """
        self.market.job(job_id)
        return PostedJob(self, job_id)

    def intake(self, fetcher: Fetcher) -> Intake:
        """How to get at artifacts of jobs."""
        self.history.refresh()
        return Intake(self.history, self.store, fetcher)

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def __enter__(self) -> Self:
        """Use as a context manager to stop serving at the end."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop serving."""
        self.close()


class PostedJob:
    """A job on the chain.

    Attributes:
        id: its number.
        receipt: of the transaction that posted it; None if it was looked up.
    """

    def __init__(
        self, chain: Chain, job_id: int, receipt: Receipt | None = None
    ) -> None:
        self.chain = chain
        self.id = job_id
        self.receipt = receipt
        self._keep_at = 0.0

    def view(self) -> Job:
        """The job as it stands now."""
        return self.chain.market.job(self.id)

    @property
    def state(self) -> JobState:
        """Where the job is in its life."""
        return self.view().state

    @cached_property
    def program(self) -> Program:
        """The job's program."""
        with closing(Fetcher()) as fetcher:
            return self.chain.intake(fetcher).program(self.view())

    def wait(
        self,
        until: JobState = JobState.FINALISED,
        *,
        seconds: float | None = None,
        progress: bool = True,
    ) -> JobState:
        """Wait until the job has come as far as `until`, or to any end.

        Args:
            until: COMMITTED waits for the training only, FINALISED also until nobody
                can object any more.
            seconds: give up after so long; None waits for ever.
            progress: show a line on the terminal.

        Raises:
            NoResult: the time is over.
        """
        from lockstep.creator.progress import Progress  # noqa: PLC0415 - rich is slow

        deadline = None if seconds is None else time.monotonic() + seconds
        with Progress(self.id, shown=progress) as line:
            while True:
                job = self._patient_view()
                line.update(job, self.chain.connection)
                if job.state >= until or job.state.is_end:
                    return job.state
                self._see_to(job)
                if deadline is not None and time.monotonic() > deadline:
                    raise NoResult(
                        f"job {self.id} is {job.state.name.lower()} after {seconds} s, "
                        f"not {until.name.lower()}"
                    )
                time.sleep(_POLL_SECONDS)

    def _patient_view(self) -> Job:
        """The job; a node that restarts is waited for, one that is gone is not."""
        patience = time.monotonic() + _NODE_PATIENCE_SECONDS
        while True:
            try:
                return self.view()
            except NodeUnreachable:
                if time.monotonic() > patience:
                    raise
                time.sleep(_POLL_SECONDS)

    def _see_to(self, job: Job) -> None:
        """Do what a creator should while its job is under way."""
        if job.state is JobState.ASSIGNED and self.chain.connection.account:
            self.expire()
        if job.state is JobState.COMMITTED and time.monotonic() >= self._keep_at:
            self._keep_at = time.monotonic() + _KEEP_SECONDS
            self._keep_result()

    def _keep_result(self) -> None:
        """Fetch the result while withholding it can still be punished."""
        try:
            state = self.final_state()
        except (ArtifactUnavailable, NoResult):
            return  # tried again; whoever needs it in the end is told
        self.chain.store.put(Kind.STATE, state.root, state.to_bytes())
        self._keep_at = math.inf

    def expire(self) -> bool:
        """End the assignment of a solver that missed the deadline, if it did.

        Returns:
            Whether this call ended it; the refund waits to be withdrawn.
        """
        market = self.chain.market
        if not market.can_expire(self.id):
            return False
        try:
            market.expire(self.id)
        except ContractReverted:
            return False  # somebody else was faster
        return True

    def final_state(self) -> State:
        """What was trained, verified against the root on the chain.

        Raises:
            NoResult: nothing is committed, or what was is proven wrong.
            ArtifactUnavailable: nobody serves it.
        """
        job = self.view()
        if job.state not in {JobState.COMMITTED, JobState.FINALISED, JobState.DIVERGED}:
            raise NoResult(
                f"job {self.id} is {job.state.name.lower()}: there is no result"
            )
        if job.steps_done < job.terms.steps:
            raise NoResult(
                f"job {self.id} diverged after {job.steps_done} of {job.terms.steps} "
                "steps; lower the learning rate and post it again"
            )
        with closing(Fetcher()) as fetcher:
            return self.chain.intake(fetcher).final_state(job, self.program)

    def losses(self) -> list[tuple[int, float]]:
        """Step and loss of each committed state, each opened against its leaf.

        Raises:
            NoResult: nothing is committed.
            ArtifactUnavailable: nobody serves them.
        """
        job = self.view()
        if job.state < JobState.COMMITTED or not any(job.root):
            raise NoResult(f"job {self.id} is {job.state.name.lower()}: no losses yet")
        with closing(Fetcher()) as fetcher:
            intake = self.chain.intake(fetcher)
            values = intake.losses(job, self.program, intake.trajectory(job))
        steps, every = job.terms.steps, job.terms.commit_every
        # The loss in the initial state is a placeholder: no step led there.
        return [
            (min(leaf * every, steps), loss) for leaf, loss in enumerate(values) if leaf
        ]

    def weights(self, *, averaged: bool = False) -> dict[str, np.ndarray]:
        """The trained weights, by the module's own names.

        A bf16 tensor is its bits, as uint16 (`ml_verifier.bfloat.widened` reads them).

        Args:
            averaged: their moving averages instead; the job was submitted with `ema`.

        Raises:
            NoResult: there is none.
            ArtifactUnavailable: nobody serves them.
            WeightsMismatch: the job kept no averages.
        """
        return weights(self.program, self.final_state(), averaged=averaged)

    def fetch(self, path: str | Path, *, averaged: bool = False) -> Path:
        """Write the trained weights as safetensors; arguments as of `weights`."""
        target = Path(path)
        save(target, self.weights(averaged=averaged), str(self.id))
        return target

    def load_into(self, model: Module, *, averaged: bool = False) -> None:
        """Copy the trained weights into the model that was submitted.

        Raises:
            NoResult: there is none.
            WeightsMismatch: it is another model, or the job kept no averages.
        """
        load_into(model, self.weights(averaged=averaged))

    def cancel(self) -> Receipt:
        """Take the job back, if nobody has taken it."""
        return self.chain.market.cancel(self.id)

    def withdraw(self) -> int:
        """Fetch refunds that the market owes to the creator; returns wei."""
        market, address = self.chain.market, self.chain.connection.address
        owed = market.credit(address)
        if owed:
            try:
                market.withdraw()
            except ContractReverted:
                if market.credit(address):
                    raise
                return 0  # another process of this account was faster
        return owed


def job_terms(prepared: Prepared) -> JobTerms:
    """A prepared job's terms as the contract takes them.

    Raises:
        JobRefused: an amount is no amount of tokens.
    """
    terms = prepared.terms
    try:
        maximum = tokens(terms.price)
        floor = maximum // 2 if terms.floor is None else tokens(terms.floor)
        stake = 2 * maximum if terms.stake is None else tokens(terms.stake)
    except (ValueError, ArithmeticError) as error:
        raise JobRefused(f"unusable amount: {error}") from error
    return JobTerms(
        data_root=prepared.dataset.root,
        records=prepared.dataset.records,
        seed=prepared.seed,
        initial_root=prepared.initial_root,
        steps=prepared.steps,
        commit_every=prepared.commit_every,
        floor_price=floor,
        maximum_price=maximum,
        auction_ticks=terms.auction,
        training_ticks=terms.deadline,
        stake=stake,
        reopen=terms.reopen,
    )


def _account(key: str | Path | LocalAccount | None) -> LocalAccount | None:
    if key is None or isinstance(key, LocalAccount):
        return key
    text = str(key)
    if text.startswith("0x") and len(text) == 66:
        return keyfile.account(text)
    return keyfile.load(Path(text).expanduser())
