"""The Solver at work: one tick looks at the chain and does the next thing.

A job's life here: wanted (its owner's conditions), verified whole, staked for, taken,
trained in slices, published, committed, defended, finalised, paid. Where a job stands
is on the chain and in its run's directory, so a killed solver goes on by looking.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

from lockstep.actor import Status
from lockstep.artifacts.kinds import Kind
from lockstep.client.connection import Event
from lockstep.client.views import (
    Challenge,
    ChallengeStatus,
    DemandStatus,
    Job,
    JobState,
)
from lockstep.equipment import Equipment
from lockstep.errors import ArtifactUnavailable, ContractReverted, JobRefused
from lockstep.solver.appraisal import Conditions, lateness, objections
from lockstep.solver.cheats import Cheat
from lockstep.solver.defence import (
    OpenNode,
    answer_record,
    answer_tile,
    bound_path,
    owed_opening,
    stands_up,
    step_call,
)
from lockstep.training import Run, Work
from ml_verifier.state import State, Trap

__all__ = ["Solver"]

_SLICE_SECONDS = 0.5
_REPORT_SECONDS = 2.0
_FETCH_AGAIN_SECONDS = 2.0
_LONGEST_DELAY_SECONDS = 300.0
_FEE_RESERVE = 10**17  # wei kept back for fees: a tenth of a token


@dataclass
class Solver:
    """One solver.

    Attributes:
        equipment: its things.
        conditions: which jobs it wants.
        cheat: how it cheats; None for an honest solver.
    """

    equipment: Equipment
    conditions: Conditions
    cheat: Cheat | None = None
    _runs: dict[int, Run] = field(default_factory=dict[int, Run])
    _ended: set[int] = field(default_factory=set[int])
    _gone: set[int] = field(default_factory=set[int])
    _told: set[tuple[int, str]] = field(default_factory=set[tuple[int, str]])
    _retry_at: dict[int, float] = field(default_factory=dict[int, float])
    _delays: dict[int, float] = field(default_factory=dict[int, float])
    _reported_at: float = 0.0

    def tick(self) -> Status:
        """Look once, act once."""
        self.equipment.history.refresh()
        status = Status.IDLE
        active = 0
        for job in self._assigned():
            if not job.state.is_end:
                active += 1
                status = max(status, self._advance(job))
            elif job.state is JobState.SLASHED:
                self._tell(job.id, "slashed", stake=str(job.terms.stake))
        if status is not Status.WORKING and active < self.conditions.maximum_jobs:
            status = max(status, self._take_one())
        self.equipment.withdraw()
        return status

    # ── taking ───────────────────────────────────────────────────────────────

    def _assigned(self) -> list[Job]:
        """Jobs that are assigned to us, and those that ended since the last look."""
        kit = self.equipment
        events = kit.history.select("JobAssigned", solver=kit.address)
        ids = {cast("int", event.fields["job_id"]) for event in events} - self._ended
        jobs = [kit.market.job(job_id) for job_id in sorted(ids)]
        self._ended |= {job.id for job in jobs if job.state.is_end}
        return [job for job in jobs if job.solver == kit.address]

    def _open(self) -> Iterator[Job]:
        """Open jobs. A commitment never reopens, so others' are looked at no more."""
        kit = self.equipment
        for job_id in kit.history.jobs():
            if job_id in self._gone:
                continue
            job = kit.market.job(job_id)
            if job.state is JobState.OPEN:
                yield job
            elif job.state is not JobState.ASSIGNED:
                self._gone.add(job_id)

    def _take_one(self) -> Status:
        """Take the first open job that we want; WAITING while one cannot be had yet."""
        kit = self.equipment
        status = Status.IDLE
        for job in self._open():
            if not self._wants(job):
                continue
            if time.monotonic() < self._retry_at.get(job.id, 0.0):
                status = Status.WAITING
                continue
            try:
                run = self._run(job, kit.intake.work(job))
                self._check_pace(job, run)
            except (ArtifactUnavailable, JobRefused) as error:
                self._postpone(job.id)
                self._tell(job.id, "refused", reason=str(error))
                continue
            return self._take(job, run)
        return status

    def _postpone(self, job_id: int) -> None:
        """Look at a refused job again, but ever less often."""
        delay = self._delays.get(job_id, _FETCH_AGAIN_SECONDS)
        self._delays[job_id] = min(2 * delay, _LONGEST_DELAY_SECONDS)
        self._retry_at[job_id] = time.monotonic() + delay

    def _wants(self, job: Job) -> bool:
        kit = self.equipment
        funds = kit.staking.free(kit.address) + max(
            0, kit.connection.balance(kit.address) - _FEE_RESERVE
        )
        posted = kit.history.latest("JobPosted", job_id=job.id)
        units = cast("int", posted.fields["work_units"]) if posted else 0
        found = objections(
            job,
            kit.market.price(job.id),
            units * job.terms.steps,
            funds,
            self.conditions,
        )
        if found:
            self._tell(job.id, "passed over", reason="; ".join(found))
        return not found

    def _check_pace(self, job: Job, run: Run) -> None:
        """Train a little, to see whether the rest can be done in time.

        Raises:
            JobRefused: it cannot; being late costs a part of the stake.
        """
        began, first = time.monotonic(), run.position
        run.advance(_SLICE_SECONDS)
        if run.done:
            return
        rate = (run.position - first) / max(time.monotonic() - began, 1e-9)
        left = job.terms.training_ticks * self.equipment.connection.block_seconds()
        found = lateness(run.work.steps - run.position, rate, left)
        if found is not None:
            raise JobRefused(f"job {job.id}: {found}")

    def _take(self, job: Job, run: Run) -> Status:
        kit = self.equipment
        missing = job.terms.stake - kit.staking.free(kit.address)
        if missing > 0:
            kit.staking.deposit(missing)
            kit.report("staked", wei=str(missing))
        try:
            receipt = kit.market.take(job.id, kit.url)
        except ContractReverted as error:
            kit.report("not taken", job=job.id, reason=error.reason)
            return Status.WAITING
        self._runs[job.id] = run
        kit.report(
            "taken",
            job=job.id,
            price=str(receipt.event("JobAssigned").fields["price"]),
            steps=run.work.steps,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    # ── training and committing ──────────────────────────────────────────────

    def _run(self, job: Job, work: Work) -> Run:
        directory = self.equipment.settings.directory / "jobs" / str(job.id)
        return (self.cheat.run if self.cheat else Run)(work, directory)

    def _advance(self, job: Job) -> Status:
        if job.id not in self._runs:
            self._runs[job.id] = self._run(job, self.equipment.intake.work(job))
        run = self._runs[job.id]
        if job.state is JobState.COMMITTED:
            return self._defend(job, run)
        if not run.done:
            run.advance(_SLICE_SECONDS)
            self._report_training(job, run)
            return Status.WORKING
        return self._commit(job, run)

    def _report_training(self, job: Job, run: Run) -> None:
        now = time.monotonic()
        if run.done or now - self._reported_at > _REPORT_SECONDS:
            self._reported_at = now
            self.equipment.report(
                "training",
                job=job.id,
                step=run.position,
                steps=run.work.steps,
                loss=run.loss,
            )

    def _commit(self, job: Job, run: Run) -> Status:
        kit = self.equipment
        trajectory = run.trajectory()
        self._publish(run)
        last = len(trajectory.leaves) - 1
        try:
            receipt = kit.market.commit(
                job.id,
                trajectory.root,
                trajectory.leaves[-1],
                trajectory.path(0),
                trajectory.path(last),
            )
        except ContractReverted as error:
            self._tell(job.id, "not committed", reason=error.reason)
            if kit.market.can_expire(job.id):
                # Late: the penalty is due; the rest of the stake need not stay locked.
                kit.market.expire(job.id)
                self._tell(job.id, "expired")
            return Status.WAITING
        kit.report(
            "committed",
            job=job.id,
            root=trajectory.root,
            leaves=last + 1,
            gas=receipt.gas,
            transaction=receipt.transaction,
        )
        return Status.WAITING

    def _publish(self, run: Run) -> None:
        """Serve what the commitment is about; program and data are served already."""
        trajectory = run.trajectory()
        final = run.state_at(run.work.steps)
        artifacts = [
            (Kind.LEAVES, trajectory.root, trajectory.to_bytes()),
            (Kind.LOSSES, trajectory.root, run.openings()),
        ]
        if isinstance(final, State):
            artifacts.append((Kind.STATE, final.root, final.to_bytes()))
        withheld = self.cheat.withholds if self.cheat else frozenset[Kind]()
        for kind, root, data in artifacts:
            if kind not in withheld:
                self.equipment.store.put(kind, root, data)

    # ── defending ────────────────────────────────────────────────────────────

    def _defend(self, job: Job, run: Run) -> Status:
        status = Status.WAITING
        for challenge in self._challenges(job):
            status = max(status, self._answer(job, run, challenge))
        for event in self._demands(job):
            status = max(status, self._answer_demand(job, run, event))
        if status is Status.WAITING:
            self._finalise(job, run)
        return status

    def _challenges(self, job: Job) -> list[Challenge]:
        """Revealed challenges of the job that have no result yet."""
        kit = self.equipment
        events = kit.history.select("ChallengeRevealed", job_id=job.id)
        ids = [cast("int", event.fields["challenge_id"]) for event in events]
        challenges = (kit.disputes.challenge(number) for number in ids)
        return [c for c in challenges if c.status is ChallengeStatus.PENDING]

    def _demands(self, job: Job) -> list[Event]:
        """The demands about the job that wait for an answer."""
        kit = self.equipment
        return [
            event
            for name in ("RecordDemanded", "TileDemanded")
            for event in kit.history.select(name, job_id=job.id)
            if kit.demands.demand(cast("int", event.fields["demand_id"])).status
            is DemandStatus.PENDING
        ]

    def _answer(self, job: Job, run: Run, challenge: Challenge) -> Status:
        """Make the move that a challenge asks of us, if any."""
        kit = self.equipment
        try:
            clocks = kit.disputes.clocks(challenge.id)
            if self.cheat is not None and not self.cheat.answers_dispute:
                return Status.WAITING
            owed = owed_opening(challenge, clocks, run)
            if owed is None:
                return self._acquit(job, run, challenge)
            if isinstance(owed, OpenNode):
                receipt = kit.evidence.open_node(
                    job.id, owed.level, owed.index, owed.children
                )
                place = f"node {owed.level}/{owed.index}"
            else:
                receipt = kit.evidence.post_inner(
                    job.id, owed.start, owed.end, owed.roots
                )
                place = f"states {owed.start}..{owed.end}"
        except ContractReverted as error:
            # Somebody else moved first; the next look shows it.
            self._tell(challenge.id, "move refused", reason=error.reason)
            return Status.WAITING
        kit.report(
            "opened", job=job.id, challenge=challenge.id, place=place, gas=receipt.gas
        )
        return Status.WORKING

    def _acquit(self, job: Job, run: Run, challenge: Challenge) -> Status:
        """Have a challenge of a right step judged, or timed out, at once."""
        kit = self.equipment
        if kit.disputes.can("timeout", challenge.id):
            kit.disputes.timeout(challenge.id)
            kit.report("challenger timed out", job=job.id, challenge=challenge.id)
            return Status.WORKING
        if not challenge.is_pinned:
            return Status.WAITING
        step = challenge.start
        call = step_call(job, run, step)
        if not stands_up(call):
            self._tell(job.id, "indefensible", step=step)
            return Status.WAITING
        verdict = kit.evidence.verdict(call.trial, step, call.pre_root, call.post_root)
        if verdict is None:
            kit.evidence.replay(call)
        receipt = kit.disputes.convict(
            challenge.id,
            call.pre_root,
            bound_path(run, step),
            call.post_root,
            bound_path(run, step + 1),
        )
        kit.report(
            "acquitted",
            job=job.id,
            challenge=challenge.id,
            step=step,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _answer_demand(self, job: Job, run: Run, demanded: Event) -> Status:
        kit = self.equipment
        if self.cheat is not None and not self.cheat.answers_demands:
            return Status.WAITING
        fields = demanded.fields
        demand_id = cast("int", fields["demand_id"])
        try:
            if demanded.name == "RecordDemanded":
                index = cast("int", fields["record"])
                record = answer_record(run, index)
                kit.demands.answer_record(job.id, index, record.payload, record.path)
                what = f"record {index}"
            else:
                position, slot, tile = (
                    cast("int", fields[name]) for name in ("position", "slot", "tile")
                )
                found = answer_tile(run, position, slot, tile)
                kit.demands.answer_tile(
                    job.id,
                    position,
                    slot,
                    tile,
                    found.state_root,
                    found.path,
                    found.opening,
                )
                what = f"state {position} slot {slot} tile {tile}"
        except ContractReverted as error:
            self._tell(demand_id, "answer refused", reason=error.reason)
            return Status.WAITING
        kit.report("answered", job=job.id, demand=demand_id, what=what)
        return Status.WORKING

    # ── the end ──────────────────────────────────────────────────────────────

    def _finalise(self, job: Job, run: Run) -> None:
        kit = self.equipment
        if not kit.market.can_finalise(job.id):
            return
        if job.steps_done == job.terms.steps:
            self._record_divergence(job, run)
        receipt = kit.market.finalise(job.id)
        paid = receipt.event("JobFinalised").fields["paid"]
        kit.report(
            "finalised", job=job.id, paid=str(paid), transaction=receipt.transaction
        )

    def _record_divergence(self, job: Job, run: Run) -> None:
        """Say that the job trapped: only the steps before are ours to be paid for."""
        final = run.state_at(run.work.steps)
        if not isinstance(final, Trap):
            return
        trajectory = run.trajectory()
        last = trajectory.leaves.index(final.root) - 1
        self.equipment.market.diverge(
            job.id,
            last,
            trajectory.leaves[last],
            trajectory.path(last),
            trajectory.path(last + 1),
            final.previous,
        )
        self.equipment.report("diverged", job=job.id, leaf=last)

    def _tell(self, number: int, event: str, **fields: str | int) -> None:
        """Report something that stays true for many ticks only once."""
        if (number, event) not in self._told:
            self._told.add((number, event))
            self.equipment.report(event, job=number, **fields)
