"""Which jobs a solver wants: its owner's conditions, and what speaks against a job."""

from dataclasses import dataclass

from lockstep.client.views import Job

__all__ = ["Conditions", "objections"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the solver's owner asks for.

    Attributes:
        minimum_price: wei; a job is left alone until its Dutch price is there.
        maximum_stake: wei that may be locked by one job; None: whatever there is.
        creators: addresses whose jobs are taken; empty: anybody's.
        maximum_jobs: how many jobs may be unfinished at a time.
    """

    minimum_price: int = 0
    maximum_stake: int | None = None
    creators: frozenset[str] = frozenset()
    maximum_jobs: int = 4


def objections(job: Job, price: int, funds: int, conditions: Conditions) -> list[str]:
    """Why not to take an open job; empty if it should be taken.

    Args:
        job: the job.
        price: wei it pays now.
        funds: wei that can be staked: free stake and balance, less what fees need.
        conditions: the owner's.
    """
    found: list[str] = []
    if conditions.creators and job.creator not in conditions.creators:
        found.append(f"its creator is {job.creator}")
    if price < conditions.minimum_price:
        found.append(f"it pays {price} wei, not {conditions.minimum_price} yet")
    maximum = conditions.maximum_stake
    if maximum is not None and job.terms.stake > maximum:
        found.append(f"it asks for a stake of {job.terms.stake} wei, above {maximum}")
    if job.terms.stake > funds:
        found.append(f"it asks for a stake of {job.terms.stake} wei, we have {funds}")
    return found
