"""The Whistleblower at work: one tick looks at the chain and does the next thing.

Every commitment is replayed from h_0 by this machine alone. If the roots agree it is
right; what it trained must also be there for the creator, else it is demanded. If they
differ, the first difference is challenged: sealed, revealed, walked down to one step,
judged, convicted, claimed. The salt of a seal is on disk before the seal is sent; all
else can be read from the chain again.
"""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from lockstep.actor import Status
from lockstep.client.disputes import seal
from lockstep.client.views import (
    Challenge,
    ChallengeStatus,
    Demand,
    DemandStatus,
    DisputeParameters,
    Job,
    JobState,
)
from lockstep.equipment import Equipment
from lockstep.errors import ArtifactUnavailable, ContractReverted, JobRefused
from lockstep.training import Run
from lockstep.whistleblower.finding import Finding, compare, differing_part
from lockstep.whistleblower.opened import OpenedTree
from ml_verifier.commitment import open_tile, tile_count
from ml_verifier.judge import ReplayCall
from ml_verifier.session import initial_state
from ml_verifier.state import Trap
from ml_verifier.trajectory import Trajectory
from ml_verifier.witness import build_witness

__all__ = ["Whistleblower"]

_SLICE_SECONDS = 0.5
_REPORT_SECONDS = 2.0
_PATIENCE_TICKS = 4


@dataclass
class Whistleblower:
    """One whistleblower.

    Attributes:
        equipment: its things.
        patience: ticks that something unserved is asked for before it is demanded.
        creators: addresses whose jobs are checked; empty: everybody's.
    """

    equipment: Equipment
    patience: int = _PATIENCE_TICKS
    creators: frozenset[str] = frozenset()
    _runs: dict[bytes, Run] = field(default_factory=dict[bytes, Run])
    _done: set[bytes] = field(default_factory=set[bytes])
    _missing_since: dict[tuple[bytes, str], int] = field(
        default_factory=dict[tuple[bytes, str], int]
    )
    _told: set[tuple[object, str]] = field(default_factory=set[tuple[object, str]])
    _reported_at: float = 0.0
    _rules: DisputeParameters | None = None

    def tick(self) -> Status:
        """Look once, act once."""
        kit = self.equipment
        kit.history.refresh()
        status = Status.IDLE
        for event in list(kit.history.select("JobCommitted")):
            trial = cast("bytes", event.fields["trial"])
            if trial not in self._done:
                job = kit.market.job(cast("int", event.fields["job_id"]))
                status = max(status, self._watch(job))
            if status is Status.WORKING:
                break
        kit.withdraw()
        return status

    @property
    def rules(self) -> DisputeParameters:
        """The chain's windows and clocks."""
        if self._rules is None:
            self._rules = self.equipment.disputes.parameters()
        return self._rules

    # ── one commitment ───────────────────────────────────────────────────────

    def _watch(self, job: Job) -> Status:
        """Do the next thing about one commitment."""
        kit = self.equipment
        status = Status.IDLE
        for challenge in self._challenges(job):
            status = max(status, self._follow(job, challenge))
        for demand in self._demands(job):
            status = max(status, self._insist(demand))
        if status is not Status.IDLE or job.trial in self._done:
            return status
        wanted = not self.creators or job.creator in self.creators
        closes = job.committed_at + self.rules.challenge_window
        if job.state is not JobState.COMMITTED or not wanted or kit.ticks() > closes:
            self._done.add(job.trial)
            return Status.IDLE
        try:
            return self._examine(job)
        except ContractReverted as error:
            self._tell(job.trial, "move refused", job=job.id, reason=str(error))
            return Status.WAITING

    def _challenges(self, job: Job) -> list[Challenge]:
        """Our own challenges of the job, not yet at their end."""
        kit = self.equipment
        ids = {
            cast("int", event.fields["challenge_id"])
            for name in ("ChallengeCommitted", "SolverConvicted")
            for event in kit.history.select(name, job_id=job.id, challenger=kit.address)
        }
        found = [kit.disputes.challenge(number) for number in sorted(ids)]
        for challenge in found:
            if challenge.status is ChallengeStatus.LOST:
                # The judge found us wrong once: asking again would cost a bond again.
                self._done.add(job.trial)
                self._tell(challenge.id, "lost", job=job.id, challenge=challenge.id)
        over = {ChallengeStatus.LOST, ChallengeStatus.CLAIMED}
        return [challenge for challenge in found if challenge.status not in over]

    def _demands(self, job: Job) -> list[Demand]:
        """Our own demands about the job that wait for an answer."""
        kit = self.equipment
        found = [
            kit.demands.demand(cast("int", event.fields["demand_id"]))
            for name in ("RecordDemanded", "TileDemanded")
            for event in kit.history.select(name, job_id=job.id, demander=kit.address)
        ]
        return [demand for demand in found if demand.status is DemandStatus.PENDING]

    # ── examining ────────────────────────────────────────────────────────────

    def _examine(self, job: Job) -> Status:
        """Replay the job, compare, and challenge or demand what is wrong."""
        run = self._run(job)
        if run is None:
            return Status.WAITING
        if not run.done:
            run.advance(_SLICE_SECONDS)
            self._report_replay(job, run)
            return Status.WORKING
        published = self._published(job, run)
        if published is Status.WAITING:
            return Status.WAITING
        leaves = published.leaves if isinstance(published, Trajectory) else None
        finding = compare(run.trajectory(), job.root, leaves)
        if finding is not None:
            return self._challenge(job, run, finding)
        return self._check_delivery(job, run)

    def _run(self, job: Job) -> Run | None:
        """Our own training run of the job; None while its data cannot be had."""
        if job.trial in self._runs:
            return self._runs[job.trial]
        kit = self.equipment
        try:
            work = kit.intake.work(job)
        except ArtifactUnavailable as error:
            if self._is_missing(job, "data", str(error)):
                self._demand_record(job)
            return None
        except JobRefused as error:
            self._tell(job.id, "ignored", reason=str(error))
            self._done.add(job.trial)
            return None
        directory = kit.settings.directory / "jobs" / f"{job.id}-{job.trial.hex()[:8]}"
        self._runs[job.trial] = Run(work, directory)
        kit.report("replaying", job=job.id, root=job.root, steps=work.steps)
        return self._runs[job.trial]

    def _report_replay(self, job: Job, run: Run) -> None:
        now = time.monotonic()
        if run.done or now - self._reported_at > _REPORT_SECONDS:
            self._reported_at = now
            self.equipment.report(
                "replaying", job=job.id, step=run.position, steps=run.work.steps
            )

    def _published(self, job: Job, run: Run) -> Trajectory | Status | None:
        """The solver's leaves; WAITING while they may still come, None if withheld."""
        if run.trajectory().root == job.root:
            return run.trajectory()
        try:
            return self.equipment.intake.trajectory(job)
        except ArtifactUnavailable as error:
            missing = self._is_missing(job, "leaves", str(error))
            return None if missing else Status.WAITING

    def _is_missing(self, job: Job, what: str, reason: str) -> bool:
        """Whether something has been unserved for longer than we are patient."""
        now = self.equipment.ticks()
        if (job.trial, what) not in self._missing_since:
            self._missing_since[job.trial, what] = now
            self.equipment.report("missing", job=job.id, what=what, reason=reason)
        return now - self._missing_since[job.trial, what] >= self.patience

    def _check_delivery(self, job: Job, run: Run) -> Status:
        """The commitment is right; is the result there for its creator, too?"""
        kit = self.equipment
        self._tell(job.trial, "verified", job=job.id, steps=run.work.steps)
        if isinstance(run.state_at(run.work.steps), Trap):
            self._done.add(job.trial)
            return Status.IDLE
        try:
            kit.intake.final_state(job, run.work.program)
        except ArtifactUnavailable as error:
            if self._is_missing(job, "final state", str(error)):
                return self._demand_tile(job, run)
            return Status.WAITING
        self._done.add(job.trial)
        return Status.IDLE

    # ── demanding ────────────────────────────────────────────────────────────

    def _demand_record(self, job: Job) -> None:
        """Demand a random record, once."""
        kit = self.equipment
        if kit.journal.latest("demand", trial=job.trial.hex(), what="record"):
            return
        record = secrets.randbelow(job.terms.records)
        kit.journal.append("demand", trial=job.trial.hex(), what="record")
        bond = kit.demands.minimum_bond()
        receipt = kit.demands.demand_record(job.id, record, bond)
        kit.report(
            "demanded",
            job=job.id,
            what=f"record {record}",
            transaction=receipt.transaction,
        )

    def _demand_tile(self, job: Job, run: Run) -> Status:
        """Demand a random tile of the final state, once."""
        kit = self.equipment
        if kit.journal.latest("demand", trial=job.trial.hex(), what="tile"):
            self._done.add(job.trial)
            return Status.IDLE
        slots = run.work.program.slots
        slot = secrets.randbelow(len(slots))
        tile = secrets.randbelow(tile_count(slots[slot].type.shape))
        first = initial_state(run.work.program, run.work.seed)
        opening = open_tile(0, first.tensors, slot, tile).encode()
        kit.journal.append("demand", trial=job.trial.hex(), what="tile")
        bond = kit.demands.minimum_bond()
        receipt = kit.demands.demand_tile(
            job.id, job.terms.steps, slot, tile, opening, bond
        )
        kit.report(
            "demanded",
            job=job.id,
            what=f"final state, slot {slot} tile {tile}",
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _insist(self, demand: Demand) -> Status:
        """Convict a solver whose time to answer is over; take the bond back after."""
        kit = self.equipment
        if kit.demands.can("refund", demand.id):
            kit.demands.refund(demand.id)
            return Status.WORKING
        if not kit.demands.can("timeout", demand.id):
            return Status.WAITING
        receipt = kit.demands.timeout(demand.id)
        kit.report(
            "demand unanswered",
            job=demand.job_id,
            demand=demand.id,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    # ── challenging ──────────────────────────────────────────────────────────

    def _challenge(self, job: Job, run: Run, finding: Finding) -> Status:
        """Seal the place and put down the bond."""
        kit = self.equipment
        withheld = finding.leaf is None
        kit.report(
            "found",
            job=job.id,
            step="withheld" if withheld else finding.named,
            ours=run.roots[finding.named + 1] if not withheld else run.roots[-1],
            theirs=job.root,
        )
        salt = secrets.token_bytes(32)
        kit.journal.append(
            "challenge",
            trial=job.trial.hex(),
            step=str(finding.named),
            salt=salt.hex(),
        )
        sealed = seal(job.trial, kit.address, finding.named, salt)
        bond = kit.disputes.minimum_bond(job.id)
        receipt = kit.disputes.challenge_commit(job.id, sealed, bond)
        kit.report(
            "challenged",
            job=job.id,
            challenge=receipt.event("ChallengeCommitted").fields["challenge_id"],  # type: ignore[arg-type]  # the ABI's type
            bond=str(bond),
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _follow(self, job: Job, challenge: Challenge) -> Status:
        """The next move in one of our challenges or demands."""
        try:
            if challenge.status is ChallengeStatus.SEALED:
                return self._reveal(job, challenge)
            if challenge.status is ChallengeStatus.PENDING:
                return self._pursue(job, challenge)
            return self._collect(job, challenge)
        except ContractReverted as error:
            # The chain moved between the look and the move; the next look shows how.
            self._tell(challenge.id, "move refused", job=job.id, reason=str(error))
            return Status.WAITING

    def _reveal(self, job: Job, challenge: Challenge) -> Status:
        kit = self.equipment
        entry = next(
            (
                entry
                for entry in kit.journal.select("challenge", trial=job.trial.hex())
                if seal(
                    job.trial,
                    kit.address,
                    int(cast("str", entry["step"])),
                    bytes.fromhex(cast("str", entry["salt"])),
                )
                == challenge.commitment
            ),
            None,
        )
        if entry is None:
            self._tell(challenge.id, "salt unknown", job=job.id)
            return self._collect(job, challenge)
        step = int(cast("str", entry["step"]))
        salt = bytes.fromhex(cast("str", entry["salt"]))
        if not kit.disputes.can_reveal(challenge.id, step, salt):
            return self._collect(job, challenge)
        receipt = kit.disputes.challenge_reveal(challenge.id, step, salt)
        kit.report(
            "revealed",
            job=job.id,
            challenge=challenge.id,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _pursue(self, job: Job, challenge: Challenge) -> Status:
        """A revealed challenge: time out, descend, or have the step judged."""
        kit = self.equipment
        if kit.disputes.can("timeout", challenge.id):
            receipt = kit.disputes.timeout(challenge.id)
            kit.report(
                "solver timed out",
                job=job.id,
                challenge=challenge.id,
                transaction=receipt.transaction,
            )
            return Status.WORKING
        if kit.disputes.can("claim", challenge.id):
            return self._collect(job, challenge)
        if kit.disputes.clocks(challenge.id).solver_moves:
            return Status.WAITING
        run = self._run(job)
        if run is None:
            return Status.WAITING
        if not run.done:
            run.advance(_SLICE_SECONDS)
            return Status.WORKING
        return self._move(job, run, challenge)

    def _move(self, job: Job, run: Run, challenge: Challenge) -> Status:
        if challenge.level > 0:
            return self._descend(job, run, challenge)
        if not challenge.is_pinned:
            return self._descend_inner(job, run, challenge)
        return self._convict(job, run, challenge)

    def _descend(self, job: Job, run: Run, challenge: Challenge) -> Status:
        kit = self.equipment
        move = self._opened(job, run).move(challenge.level, challenge.index)
        if move is None:
            return Status.WAITING
        receipt = kit.disputes.descend(
            challenge.id, move.child, move.node, move.siblings
        )
        kit.report(
            "descended",
            job=job.id,
            challenge=challenge.id,
            level=challenge.level,
            child=move.child,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _descend_inner(self, job: Job, run: Run, challenge: Challenge) -> Status:
        kit = self.equipment
        posted = self._posted(job, challenge.start, challenge.end)
        if posted is None:
            return Status.WAITING
        part = differing_part(run.roots, challenge.start, challenge.end, posted)
        receipt = kit.disputes.descend_inner(challenge.id, posted, part)
        kit.report(
            "descended",
            job=job.id,
            challenge=challenge.id,
            start=challenge.start,
            end=challenge.end,
            part=part,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _convict(self, job: Job, run: Run, challenge: Challenge) -> Status:
        """At one step: have it judged, then convict by the verdict."""
        kit = self.equipment
        step = challenge.start
        pre_root, pre_proof = self._bound(job, run, step)
        post_root, post_proof = self._bound(job, run, step + 1)
        work = run.work
        if kit.evidence.verdict(job.trial, step, pre_root, post_root) is None:
            witness = build_witness(
                work.program, work.seed, work.dataset, run.state_at(step)
            )
            receipt = kit.evidence.replay(
                ReplayCall(
                    trial=job.trial,
                    position=step,
                    pre_root=pre_root,
                    post_root=post_root,
                    program_root=job.program_root,
                    data_root=job.terms.data_root,
                    seed=work.seed,
                    records=work.dataset.records,
                    witness=witness,
                )
            )
            kit.report(
                "judged",
                job=job.id,
                step=step,
                valid=bool(receipt.event("VerdictRecorded").fields["valid"]),
                witness_bytes=len(witness),
                gas=receipt.gas,
                transaction=receipt.transaction,
            )
        receipt = kit.disputes.convict(
            challenge.id, pre_root, pre_proof, post_root, post_proof
        )
        kit.report(
            "convicted",
            job=job.id,
            challenge=challenge.id,
            step=step,
            gas=receipt.gas,
            transaction=receipt.transaction,
        )
        return Status.WORKING

    # ── what the solver is bound to ──────────────────────────────────────────

    def _bound(self, job: Job, run: Run, position: int) -> tuple[bytes, list[bytes]]:
        """The solver's root at a position and its path, empty between leaves."""
        every, steps = job.terms.commit_every, job.terms.steps
        if position % every and position != steps:
            return self._inner_root(job, run, position), []
        leaf = -(-position // every)
        try:
            published = self.equipment.intake.trajectory(job)
        except ArtifactUnavailable:
            opened = self._opened(job, run)
            return opened.leaf(leaf), opened.path(leaf)
        return published.leaves[leaf], published.path(leaf)

    def _inner_root(self, job: Job, run: Run, position: int) -> bytes:
        """What the solver posted at a position; ours if it posted nothing else."""
        for event in self.equipment.history.select("InnerPosted", job_id=job.id):
            start, end = (cast("int", event.fields[name]) for name in ("start", "end"))
            roots = cast("Sequence[bytes]", event.fields["roots"])
            parts = len(roots) + 1
            for part, root in enumerate(roots, 1):
                if start + (end - start) * part // parts == position:
                    return root
        return run.roots[position]

    def _posted(self, job: Job, start: int, end: int) -> Sequence[bytes] | None:
        event = self.equipment.history.latest(
            "InnerPosted", job_id=job.id, start=start, end=end
        )
        return None if event is None else cast("Sequence[bytes]", event.fields["roots"])

    def _opened(self, job: Job, run: Run) -> OpenedTree:
        history = self.equipment.history

        def openings(level: int, index: int, node: bytes) -> Sequence[bytes] | None:
            event = history.latest(
                "NodeOpened", job_id=job.id, level=level, index=index, node=node
            )
            if event is None:
                return None
            return cast("Sequence[bytes]", event.fields["children"])

        return OpenedTree(job.root, run.trajectory(), openings)

    # ── money ────────────────────────────────────────────────────────────────

    def _collect(self, job: Job, challenge: Challenge) -> Status:
        """After a conviction: share out the stake, and claim bond and reward."""
        kit = self.equipment
        if kit.disputes.can("settle", job.id):
            kit.disputes.settle(job.id)
            kit.report("settled", job=job.id)
        if not kit.disputes.can("claim", challenge.id):
            return Status.WAITING
        receipt = kit.disputes.claim(challenge.id)
        fields = receipt.event("ChallengeClaimed").fields
        kit.report(
            "claimed",
            job=job.id,
            challenge=challenge.id,
            bond=str(fields["bond"]),
            share=str(fields["share"]),
            transaction=receipt.transaction,
        )
        return Status.WORKING

    def _tell(self, number: object, event: str, **fields: str | int) -> None:
        """Report something that stays true for many ticks only once."""
        if (number, event) not in self._told:
            self._told.add((number, event))
            self.equipment.report(event, **fields)
