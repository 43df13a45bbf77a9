"""Getting a job's program and data, whole and verified, before anything is risked.

Nothing that a creator claims is believed: the program must hash to its root and pass
the same admission as on the chain, the data must hash to its root, and the state drawn
from the seed must be h_0. What passed is kept in the actor's own store, from where it
is also served on.
"""

from dataclasses import dataclass

from lockstep.artifacts import expected
from lockstep.artifacts.fetch import Fetcher
from lockstep.artifacts.kinds import Expected, Kind
from lockstep.artifacts.store import Store
from lockstep.client.history import History
from lockstep.client.views import Job
from lockstep.errors import ArtifactError, JobRefused
from lockstep.training import Work
from ml_verifier.data import Dataset
from ml_verifier.errors import Malformed
from ml_verifier.judge import admit
from ml_verifier.program import Program, decode_program
from ml_verifier.session import initial_state
from ml_verifier.state import State, state_from_bytes
from ml_verifier.trajectory import Trajectory

__all__ = ["DEFAULT_MOST_DATA", "Intake"]

DEFAULT_MOST_DATA = 1 << 30


@dataclass(frozen=True, slots=True)
class Intake:
    """How an actor gets at artifacts.

    Attributes:
        history: knows who serves what.
        store: the actor's own artifacts.
        fetcher: asks the others.
        most_data: bytes of a job's data, at most; it is held in memory.
    """

    history: History
    store: Store
    fetcher: Fetcher
    most_data: int = DEFAULT_MOST_DATA

    def program(self, job: Job) -> Program:
        """A job's program: from our store, the chain, or whoever serves it.

        Raises:
            ArtifactUnavailable: nobody has it.
            JobRefused: it is no admissible program.
        """
        wanted = expected.program(job.program_root)
        found = self._kept(wanted) or self.history.posted_program(job.id)
        if found is None or not wanted.matches(found):
            found = self.fetcher.fetch(wanted, self.history.sources(job.id))
        try:
            admit(found, job.terms.records)
            decoded = decode_program(found)
        except Malformed as error:
            raise JobRefused(f"job {job.id}: program refused: {error}") from error
        self._keep(wanted, found)
        return decoded

    def work(self, job: Job) -> Work:
        """Everything that a job's trajectory follows from.

        Raises:
            ArtifactUnavailable: program or data is served by nobody.
            JobRefused: the program is refused, or h_0 does not follow from the seed.
        """
        program = self.program(job)
        terms = job.terms
        wanted = expected.data(terms.data_root, program, terms.records)
        if wanted.largest > self.most_data:
            raise JobRefused(
                f"job {job.id}: its data has {wanted.largest:,} bytes, the most taken "
                f"here is {self.most_data:,}; raise --maximum-data"
            )
        data = self._get(wanted, job)
        if initial_state(program, terms.seed).root != terms.initial_root:
            raise JobRefused(
                f"job {job.id}: h_0 on the chain is {terms.initial_root.hex()}, the "
                "state drawn from the seed has another root"
            )
        return Work(
            program, terms.seed, Dataset(program, data), terms.steps, terms.commit_every
        )

    def trajectory(self, job: Job) -> Trajectory:
        """The published leaves of a commitment.

        Raises:
            ArtifactUnavailable: they are published by nobody.
        """
        terms = job.terms
        wanted = expected.leaves(job.root, terms.steps, terms.commit_every)
        found = self._get(wanted, job)
        return Trajectory.from_bytes(terms.steps, terms.commit_every, found)

    def final_state(self, job: Job, program: Program) -> State:
        """The state that was trained.

        Raises:
            ArtifactUnavailable: nobody serves it.
        """
        wanted = expected.state(job.final_root, program, job.terms.steps)
        return state_from_bytes(program, job.terms.steps, self._get(wanted, job))

    def losses(self, job: Job, program: Program, leaves: Trajectory) -> list[float]:
        """The loss of each committed state, each opened against its leaf.

        Raises:
            ArtifactUnavailable: nobody publishes them.
        """
        wanted = expected.losses(job.root, program, leaves.leaves)
        found = self._get(wanted, job)
        return expected.opened_losses(found, program, leaves.leaves) or []

    def _get(self, wanted: Expected, job: Job) -> bytes:
        found = self._kept(wanted)
        if found is None:
            found = self.fetcher.fetch(wanted, self.history.sources(job.id))
            if wanted.kind in {Kind.DATA, Kind.PROGRAM}:
                self._keep(wanted, found)
        return found

    def _kept(self, wanted: Expected) -> bytes | None:
        try:
            return self.store.get(wanted)
        except ArtifactError:
            return None

    def _keep(self, wanted: Expected, found: bytes) -> None:
        if not self.store.has(wanted.kind, wanted.root):
            self.store.put(wanted.kind, wanted.root, found)
