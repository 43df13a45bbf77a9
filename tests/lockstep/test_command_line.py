"""Help, options, configuration files and errors of `lockstep`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lockstep.cli import GROUPS, app, main
from lockstep.errors import LockstepError

runner = CliRunner()
OURS = [
    *("job", "solver", "verifier", "whistleblower", "dispute", "program"),
    "validator",
]


def refusal(*arguments: str) -> str:
    """What a command that must fail says."""
    result = runner.invoke(app, list(arguments))
    assert isinstance(result.exception, LockstepError), result.output
    return str(result.exception)


def test_help_names_every_group_and_loads_none() -> None:
    code = (
        "import sys; sys.argv = ['lockstep', '--help']\n"
        "from lockstep.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('web3', 'torch', 'numpy', 'eth', 'trio')"
        " if m in sys.modules])"
    )
    done = subprocess.run(  # noqa: S603 - our own code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert all(name in done.stdout for name in GROUPS)


@pytest.mark.parametrize("group", OURS)
def test_every_command_has_help_and_an_example(group: str) -> None:
    assert runner.invoke(app, [group, "--help"]).exit_code == 0
    commands = {
        "job": ["submit", "wait", "ls", "show", "logs", "fetch", "cancel"],
        "dispute": ["ls", "show"],
        "program": ["show"],
        "validator": [
            *("prepare", "register", "stake", "unbond", "withdraw", "unjail", "show"),
        ],
    }.get(group, ["run"])
    for command in commands:
        result = runner.invoke(app, [group, command, "--help"])
        assert result.exit_code == 0
        assert f"Example: lockstep {group} {command}" in result.output


@pytest.mark.parametrize(
    "command",
    [
        *("init", "node", "export", "import", "snapshot", "restore", "rollback"),
        "prune",
    ],
)
def test_what_operators_do_is_one_word(command: str) -> None:
    result = runner.invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "--data-dir" in result.output


def test_node_run_is_node() -> None:
    one, other = (
        runner.invoke(app, [*words, "--help"]).output
        for words in (["node"], ["node", "run"])
    )
    assert one == other
    assert "--rpc-port" in one


def test_cheating_is_not_advertised() -> None:
    assert "cheat" not in runner.invoke(app, ["solver", "run", "--help"]).output


def test_an_unknown_group_is_corrected() -> None:
    result = runner.invoke(app, ["solvr"])
    assert result.exit_code == 2
    assert "solver" in result.output


def test_a_node_that_is_away_is_named() -> None:
    said = refusal("job", "ls", "--rpc", "http://127.0.0.1:1")
    assert "no node answers at http://127.0.0.1:1" in said
    assert "lockstep devnet" in said


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    said = refusal("solver", "run", "--directory", str(tmp_path))
    assert f"no key file at {tmp_path / 'key'}" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cheat", "charmingly"], "no cheat is called"),
        (["--creator", "0x12"], "expected an address"),
        (["--minimum-price", "-1"], "expected tokens"),
    ],
)
def test_an_unusable_option_is_named(
    tmp_path: Path, options: list[str], said: str
) -> None:
    assert said in refusal("solver", "run", "-d", str(tmp_path), *options)


def test_a_configuration_file_gives_values_that_flags_override(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "solver.toml"
    config.write_text('rpc = "http://127.0.0.1:1"\ndirectory = "elsewhere"\n')
    said = refusal("solver", "run", "--config", str(config), "-d", str(tmp_path))
    assert f"no key file at {tmp_path / 'key'}" in said
    said = refusal("solver", "run", "--config", str(config))
    assert "no key file at elsewhere/key" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [("colour = 1", "does not know"), ("rpc = ", "cannot read")],
)
def test_an_unusable_configuration_file_is_named(
    tmp_path: Path, text: str, said: str
) -> None:
    config = tmp_path / "solver.toml"
    config.write_text(text)
    assert said in refusal("solver", "run", "--config", str(config))


def test_an_error_is_one_line_or_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["lockstep", "job", "ls", "--rpc", "http://127.0.0.1:1"]
    monkeypatch.setattr(sys, "argv", call)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: no node answers")
    monkeypatch.setattr(sys, "argv", [*call, "--json"])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(capsys.readouterr().err)["error"] == "NodeUnreachable"


def test_a_file_that_is_no_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "program"
    path.write_bytes(b"LSTPnonsense")
    assert "is no program" in refusal("program", "show", str(path))
    assert "cannot read" in refusal("program", "show", str(tmp_path / "nothing"))


def test_a_program_is_listed(tmp_path: Path) -> None:
    from tests.lockstep.workload import program  # noqa: PLC0415 - numpy is slow

    path = tmp_path / "program"
    path.write_bytes(program().encoded)
    result = runner.invoke(app, ["program", "show", str(path), "--json"])
    assert result.exit_code == 0
    first, *rest = map(json.loads, result.output.splitlines())
    assert first["root"] == "0x" + program().root.hex()
    assert first["fits a one-step dispute"] == "yes"
    costs = [row for row in rest if "nodes" in row]
    assert sum(row["nodes"] for row in costs) == len(program().nodes)
    assert sum(row["multiply-adds"] for row in costs) == first["multiply-adds"]
    result = runner.invoke(app, ["program", "show", str(path), "--nodes", "--json"])
    rows = [json.loads(line) for line in result.output.splitlines()]
    assert any(row.get("name", "").startswith("sgd [") for row in rows)


def test_a_program_too_big_for_a_job_is_shown_all_the_same(tmp_path: Path) -> None:
    from ml_verifier.program import Constant, Field, Slot, build  # noqa: PLC0415
    from ml_verifier.types import f32  # noqa: PLC0415

    slots = (Slot("loss", f32(), Constant(0.0)), Slot("w", f32(1 << 17), Constant(0.0)))
    path = tmp_path / "program"
    path.write_bytes(build(1, slots, (Field("x", f32()),), (), (0, 1)).encoded)
    result = runner.invoke(app, ["program", "show", str(path), "--json"])
    assert result.exit_code == 0
    fits = json.loads(result.output.splitlines()[0])["fits a one-step dispute"]
    assert "witness of at most 262144 bytes" in fits
