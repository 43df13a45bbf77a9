"""The JobMarket, Staking and the Clock as Python objects."""

from collections.abc import Sequence
from typing import cast

from lockstep.client.connection import Connection, Receipt
from lockstep.client.views import Job, JobTerms
from lockstep.errors import ChainError

__all__ = ["Market", "Staking", "ticks"]

_NAME = "JobMarket"


def ticks(connection: Connection) -> int:
    """The dispute clock's time: one tick for each block that was not stuffed."""
    return cast("int", connection.call("Clock", "now"))


class Market:
    """Jobs from posting to payment."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # ── views ────────────────────────────────────────────────────────────────

    def job_count(self) -> int:
        """Number of jobs posted; their ids start at 1."""
        return cast("int", self._connection.call(_NAME, "job_count"))

    def job(self, job_id: int) -> Job:
        """A job.

        Raises:
            ChainError: there is none of this id.
        """
        found = Job.from_abi(job_id, self._connection.call(_NAME, "job", job_id))
        if found is None:
            raise ChainError(
                f"there is no job {job_id}; the newest is {self.job_count()}"
            )
        return found

    def price(self, job_id: int) -> int:
        """Wei that a solver which takes the open job now will earn."""
        return cast("int", self._connection.call(_NAME, "price", job_id))

    def dispute_gas_budget(self) -> int:
        """Most gas that replaying one step of a job may cost."""
        answer = self._connection.call(_NAME, "parameters")
        return cast("Sequence[int]", answer)[0]

    def credit(self, address: str) -> int:
        """Wei that the market owes to an address."""
        return cast("int", self._connection.call(_NAME, "credit_of", address))

    # ── moves ────────────────────────────────────────────────────────────────

    def post(self, program: bytes, terms: JobTerms, url: str) -> Receipt:
        """Offer a job; pays the maximum price into escrow."""
        return self._connection.send(
            _NAME, "post", program, terms.to_abi(), url, value=terms.maximum_price
        )

    def cancel(self, job_id: int) -> Receipt:
        """Withdraw a job that nobody has taken."""
        return self._connection.send(_NAME, "cancel", job_id)

    def take(self, job_id: int, url: str) -> Receipt:
        """Take an open job at its present price; locks the stake it asks for."""
        return self._connection.send(_NAME, "take", job_id, url)

    def commit(
        self,
        job_id: int,
        root: bytes,
        final_root: bytes,
        initial_proof: Sequence[bytes],
        final_proof: Sequence[bytes],
    ) -> Receipt:
        """Commit to the trajectory, opening h_0 and h_T."""
        return self._connection.send(
            _NAME,
            "commit",
            job_id,
            root,
            final_root,
            list(initial_proof),
            list(final_proof),
        )

    def diverge(
        self,
        job_id: int,
        leaf: int,
        state_root: bytes,
        state_proof: Sequence[bytes],
        trap_proof: Sequence[bytes],
        last_root: bytes,
    ) -> Receipt:
        """Record that the trajectory ends in the trap after a leaf."""
        return self._connection.send(
            _NAME,
            "diverge",
            job_id,
            leaf,
            state_root,
            list(state_proof),
            list(trap_proof),
            last_root,
        )

    def finalise(self, job_id: int) -> Receipt:
        """Pay the solver once nothing can be held against its commitment."""
        return self._connection.send(_NAME, "finalise", job_id)

    def can_finalise(self, job_id: int) -> bool:
        """Whether `finalise` would be accepted now."""
        return self._connection.accepts(_NAME, "finalise", job_id)

    def can_expire(self, job_id: int) -> bool:
        """Whether `expire` would be accepted now."""
        return self._connection.accepts(_NAME, "expire", job_id)

    def expire(self, job_id: int) -> Receipt:
        """End an assignment whose deadline has passed."""
        return self._connection.send(_NAME, "expire", job_id)

    def withdraw(self) -> Receipt:
        """Pay out everything the market owes to this account."""
        return self._connection.send(_NAME, "withdraw")


class Staking:
    """Stakes: free, locked by jobs, or unbonding."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def free(self, address: str) -> int:
        """Wei that its owner may lock for a job or unbond."""
        return cast("int", self._connection.call("Staking", "free_of", address))

    def locked(self, address: str) -> int:
        """Wei that answer for jobs."""
        return cast("int", self._connection.call("Staking", "locked_of", address))

    def deposit(self, amount: int) -> Receipt:
        """Add wei to the free stake."""
        return self._connection.send("Staking", "deposit", value=amount)

    def unbond(self, amount: int) -> Receipt:
        """Take free stake out of service."""
        return self._connection.send("Staking", "unbond", amount)

    def withdraw(self) -> Receipt:
        """Pay out unbonded stake."""
        return self._connection.send("Staking", "withdraw")
