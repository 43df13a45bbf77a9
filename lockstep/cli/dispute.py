"""`lockstep dispute`: look at challenges and verdicts."""

from typing import Annotated

import typer

from lockstep.cli import show
from lockstep.cli.options import JsonOption, RpcOption, default_rpc
from lockstep.client.disputes import Disputes
from lockstep.client.views import DEMANDED, WITHHELD, Challenge, ChallengeStatus
from lockstep.creator.chain import connect

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Look at challenges and verdicts.")


@app.command("ls", epilog="Example: lockstep dispute ls --job 3")
def list_disputes(
    *,
    job: Annotated[int | None, typer.Option(help="Only this job's.", min=1)] = None,
    rpc: RpcOption = default_rpc,
    as_json: JsonOption = False,
) -> None:
    """List all challenges."""
    disputes = Disputes(connect(rpc).connection)
    found = [disputes.challenge(i + 1) for i in range(disputes.challenge_count())]
    show.rows(
        [
            {
                "challenge": challenge.id,
                "job": challenge.job_id,
                "status": challenge.status.name.lower(),
                "challenger": challenge.challenger,
                "named": _named(challenge),
                "bond": show.amount(challenge.bond),
            }
            for challenge in found
            if job in (None, challenge.job_id)
        ],
        as_json=as_json,
        empty="no challenges",
    )


@app.command("show", epilog="Example: lockstep dispute show 1")
def show_dispute(
    challenge_id: Annotated[int, typer.Argument(help="The challenge.", min=1)],
    *,
    rpc: RpcOption = default_rpc,
    as_json: JsonOption = False,
) -> None:
    """Show where a challenge stands, its clocks, and what the chain recorded of it."""
    chain = connect(rpc)
    disputes = Disputes(chain.connection)
    challenge = disputes.challenge(challenge_id)
    facts: dict[str, object] = {
        "challenge": challenge.id,
        "job": challenge.job_id,
        "status": challenge.status.name.lower(),
        "challenger": challenge.challenger,
        "named": _named(challenge),
        "bond": show.amount(challenge.bond),
        "stands at": _place(challenge),
    }
    if challenge.status is ChallengeStatus.PENDING:
        clocks = disputes.clocks(challenge_id)
        facts |= {
            "ticks burned by the solver": clocks.solver,
            "ticks burned by the challenger": clocks.challenger,
            "to move": "solver" if clocks.solver_moves else "challenger",
        }
    show.mapping(facts, as_json=as_json)
    chain.history.refresh()
    job = chain.market.job(challenge.job_id)
    show.rows(
        [
            {
                "block": event.block,
                "event": event.name,
                "transaction": event.transaction,
            }
            for event in chain.history.of_job(job.id)
        ],
        as_json=as_json,
        empty="",
    )


def _named(challenge: Challenge) -> object:
    if challenge.status is ChallengeStatus.SEALED:
        return "sealed"
    places = {WITHHELD: "withheld leaves", DEMANDED: "unanswered demand"}
    return places.get(challenge.named, challenge.named)


def _place(challenge: Challenge) -> str:
    if challenge.level:
        return f"node {challenge.index} of level {challenge.level}"
    if challenge.end:
        return f"states {challenge.start} and {challenge.end}"
    return "nowhere yet"
