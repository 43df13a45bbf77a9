"""Which jobs a solver wants: its owner's conditions, and what speaks against a job."""

from dataclasses import dataclass

from lockstep.client.views import Job

__all__ = ["Conditions", "lateness", "objections"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the solver's owner asks for.

    Attributes:
        minimum_price: wei; a job is left alone until its Dutch price is there.
        minimum_rate: wei for 10^12 work units.
        maximum_stake: wei that may be locked by one job; None: whatever there is.
        creators: addresses whose jobs are taken; empty: anybody's.
        maximum_jobs: how many jobs may be unfinished at a time.
    """

    minimum_price: int = 0
    minimum_rate: int = 0
    maximum_stake: int | None = None
    creators: frozenset[str] = frozenset()
    maximum_jobs: int = 4


TERA = 10**12
_SAFETY = 2  # a machine that shares its cores is not always as fast as just now


def lateness(steps: int, rate: float, deadline: float) -> str | None:
    """Why a job would not be trained in time; None if it would, twice over.

    Args:
        steps: left to train.
        rate: steps per second, as measured here.
        deadline: seconds that the job leaves.
    """
    needed = _SAFETY * steps / rate
    if needed <= deadline:
        return None
    return (
        f"training it takes {steps / rate:.0f} s here and is to be had twice over in "
        f"the {deadline:.0f} s it leaves"
    )


def objections(
    job: Job, price: int, work_units: int, funds: int, conditions: Conditions
) -> list[str]:
    """Why not to take an open job; empty if it should be taken.

    Args:
        job: the job.
        price: wei it pays now.
        work_units: of the whole training.
        funds: wei that can be staked: free stake and balance, less what fees need.
        conditions: the owner's.
    """
    found: list[str] = []
    if conditions.creators and job.creator not in conditions.creators:
        found.append(f"its creator is {job.creator}")
    if price < conditions.minimum_price:
        found.append(f"it pays {price} wei, not {conditions.minimum_price} yet")
    if price * TERA < conditions.minimum_rate * work_units:
        found.append(
            f"it pays {price * TERA // work_units} wei for 10^12 work units, not "
            f"{conditions.minimum_rate}"
        )
    maximum = conditions.maximum_stake
    if maximum is not None and job.terms.stake > maximum:
        found.append(f"it asks for a stake of {job.terms.stake} wei, above {maximum}")
    if job.terms.stake > funds:
        found.append(f"it asks for a stake of {job.terms.stake} wei, we have {funds}")
    return found
