"""`lockstep job`: the creator's commands."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lockstep.cli import show
from lockstep.cli.options import (
    ConfigOption,
    DirectoryOption,
    JsonOption,
    KeyOption,
    PublicUrlOption,
    RpcOption,
    ServeOption,
    default_rpc,
)
from lockstep.client.views import Job, JobState
from lockstep.creator.chain import Chain, PostedJob, connect, job_terms
from lockstep.creator.spec import Prepared, load_script, prepare
from lockstep.errors import JobRefused

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True, help="Post jobs, watch them, fetch what was trained."
)

JobArgument = Annotated[int, typer.Argument(help="The job's number.", min=1)]
_CREATOR_DIRECTORY = Path("~/.lockstep/creator")


@app.command(
    epilog="Example: lockstep job submit examples/digits_mlp.py --key creator.key"
)
def submit(  # noqa: PLR0913 - an argument for each option
    script: Annotated[
        Path, typer.Argument(help="Python file that defines job = JobSpec(...).")
    ],
    *,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only print what the job is and costs."),
    ] = False,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait/--no-wait",
            help="Serve the data until the job is at its end; without it, serve the "
            "artifacts folder yourself at --public-url.",
        ),
    ] = True,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the job, instead of the script's."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the weights here at the end."),
    ] = None,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    directory: DirectoryOption = _CREATOR_DIRECTORY,
    serve: ServeOption = "127.0.0.1:0",
    public_url: PublicUrlOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Capture a training script's step and offer the training as a job."""
    del config  # read by its callback
    spec = load_script(script)
    prepared = prepare(spec if seed is None else replace(spec, seed=seed))
    here = directory.expanduser()
    if dry_run:
        chain = connect(rpc, directory=here)
        _describe(prepared, chain.market.dispute_gas_budget(), as_json=as_json)
        return
    account = here / "key" if key is None else key
    with connect(
        rpc, account, directory=here, serve=serve, public_url=public_url
    ) as chain:
        job = chain.post(prepared)
        posted: dict[str, object] = {"job": job.id, "url": chain.serve()}
        if job.receipt is not None:
            posted["transaction"] = job.receipt.transaction
        show.mapping(posted, as_json=as_json)
        if wait:
            _see_through(job, output, as_json=as_json)


@app.command("wait", epilog="Example: lockstep job wait 3 -o weights.safetensors")
def wait_for(
    job_id: JobArgument,
    *,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the weights here at the end."),
    ] = None,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    directory: DirectoryOption = _CREATOR_DIRECTORY,
    serve: ServeOption = "127.0.0.1:0",
    as_json: JsonOption = False,
) -> None:
    """Go on where `submit` was interrupted: serve the data, wait, collect."""
    here = directory.expanduser()
    account = here / "key" if key is None else key
    with connect(rpc, account, directory=here, serve=serve) as chain:
        chain.serve()
        _see_through(chain.job(job_id), output, as_json=as_json)


@app.command("ls", epilog="Example: lockstep job ls --json")
def list_jobs(
    *,
    rpc: RpcOption = default_rpc,
    as_json: JsonOption = False,
) -> None:
    """List all jobs."""
    chain = connect(rpc)
    jobs = [chain.market.job(i + 1) for i in range(chain.market.job_count())]
    show.rows(
        [
            {
                "job": job.id,
                "state": job.state.name.lower(),
                "creator": job.creator,
                "solver": job.solver,
                "steps": job.terms.steps,
                "price": show.amount(job.price or job.terms.maximum_price),
                "root": job.root,
            }
            for job in jobs
        ],
        as_json=as_json,
        empty="no jobs yet; post one with `lockstep job submit SCRIPT`",
    )


@app.command("show", epilog="Example: lockstep job show 3")
def show_job(
    job_id: JobArgument, *, rpc: RpcOption = default_rpc, as_json: JsonOption = False
) -> None:
    """Show everything about a job."""
    chain = connect(rpc)
    job = chain.market.job(job_id)
    chain.history.refresh()
    show.mapping(_facts(chain, job), as_json=as_json)


@app.command(epilog="Example: lockstep job logs 3")
def logs(
    job_id: JobArgument, *, rpc: RpcOption = default_rpc, as_json: JsonOption = False
) -> None:
    """Print the training's losses, each opened against the committed trajectory."""
    losses = connect(rpc).job(job_id).losses()
    show.rows(
        [{"step": step, "loss": f"{loss:.6f}"} for step, loss in losses]
        if not as_json
        else [{"step": step, "loss": loss} for step, loss in losses],
        as_json=as_json,
        empty="the job diverged in its first step",
    )


@app.command(epilog="Example: lockstep job fetch 3 weights.safetensors")
def fetch(
    job_id: JobArgument,
    path: Annotated[Path, typer.Argument(help="Where to write the weights.")],
    *,
    averaged: Annotated[
        bool, typer.Option(help="The moving averages of a job with ema instead.")
    ] = False,
    rpc: RpcOption = default_rpc,
    as_json: JsonOption = False,
) -> None:
    """Fetch the trained weights, verified against the root on the chain."""
    job = connect(rpc).job(job_id)
    written = job.fetch(path, averaged=averaged)
    show.mapping({"path": str(written), "root": job.view().final_root}, as_json=as_json)


@app.command(epilog="Example: lockstep job cancel 3 --key creator.key")
def cancel(
    job_id: JobArgument,
    *,
    rpc: RpcOption = default_rpc,
    key: KeyOption = None,
    directory: DirectoryOption = _CREATOR_DIRECTORY,
    as_json: JsonOption = False,
) -> None:
    """Take back a job that no solver has taken, and its escrow."""
    here = directory.expanduser()
    account = here / "key" if key is None else key
    job = connect(rpc, account, directory=here).job(job_id)
    receipt = job.cancel()
    show.mapping(
        {
            "job": job_id,
            "refunded": show.amount(job.withdraw()),
            "transaction": receipt.transaction,
        },
        as_json=as_json,
    )


def _see_through(job: PostedJob, output: Path | None, *, as_json: bool) -> None:
    """Serve and wait; then fetch refunds and, if wanted, the weights."""
    state = job.wait(progress=not as_json)
    ending: dict[str, object] = {"job": job.id, "state": state.name.lower()}
    if output is not None and state is JobState.FINALISED:
        ending["weights"] = str(job.fetch(output))
    ending["refunded"] = show.amount(job.withdraw())
    show.mapping(ending, as_json=as_json)


def _describe(prepared: Prepared, budget: int, *, as_json: bool) -> None:
    """What a job is and costs, and whether the chain takes it."""
    program, admission = prepared.captured.program, prepared.admission
    obstacles = prepared.obstacles(budget)
    terms = job_terms(prepared)
    show.mapping(
        {
            "program root": program.root,
            "data root": prepared.dataset.root,
            "records": prepared.dataset.records,
            "steps": prepared.steps,
            "operators": len(program.nodes),
            "parameters and optimiser state": program.state_bytes // 4,
            "work units": prepared.work_units,
            "price": show.amount(terms.maximum_price),
            "stake": show.amount(terms.stake),
            "witness bytes": admission.witness_bytes,
            "replay gas": admission.replay_gas,
            "peak memory": admission.peak_memory,
            "disputable": not obstacles,
        }
        | ({"why not": "; ".join(obstacles)} if obstacles else {}),
        as_json=as_json,
    )
    if obstacles:
        raise JobRefused(f"the chain would refuse this job: {'; '.join(obstacles)}")


def _facts(chain: Chain, job: Job) -> dict[str, object]:
    terms = job.terms
    return {
        "job": job.id,
        "state": job.state.name.lower(),
        "creator": job.creator,
        "solver": job.solver,
        "program root": job.program_root,
        "data root": terms.data_root,
        "records": terms.records,
        "seed": str(terms.seed),
        "initial root": terms.initial_root,
        "steps": terms.steps,
        "commit every": terms.commit_every,
        "price": show.amount(job.price),
        "maximum price": show.amount(terms.maximum_price),
        "stake": show.amount(terms.stake),
        "deadline tick": job.deadline,
        "commitment": job.root,
        "final root": job.final_root,
        "committed at tick": job.committed_at,
        "steps paid": job.steps_done,
        "dispute gas": job.dispute_gas,
        "sources": ", ".join(chain.history.sources(job.id)),
    }
