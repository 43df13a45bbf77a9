"""Build script: compile the contracts into ``contracts/artifacts``, or check them.

    python -m contracts.compile            write the artifacts
    python -m contracts.compile --check    exit 1 if one differs from its source

The compiler is Vyper 0.4.3 (a development dependency), for ``prague``, optimised for
gas by the default pipeline: Venom, the experimental one, makes smaller code at the same
gas, which is not worth trusting money to an experiment (docs/spec/contracts.md).
"""

import argparse
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final, TypeAlias, cast

from contracts import NAMES

Entry: TypeAlias = dict[str, object]

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = Path("contracts")
ARTIFACTS: Final = ROOT / SOURCES / "artifacts"

EVM_VERSION: Final = "prague"
OPTIMISER: Final = "gas"

# A function that its contract takes raw, through `__default__`, is missing from the ABI
# that the compiler writes: contract -> (interface that declares it, its name).
RAW_CALLS: Final = {"Evidence": ("interfaces/IMlVerifier.vyi", "replay")}


def _compile(source: Path, formats: str) -> list[str]:
    """Return what the compiler prints, a line for each of the formats."""
    command = [sys.executable, "-m", "vyper.cli.vyper_compile", "-f", formats]
    command += ["--evm-version", EVM_VERSION, "--optimize", OPTIMISER, str(source)]
    done = subprocess.run(  # noqa: S603  # our own interpreter, our own sources
        command, cwd=ROOT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{source} does not compile:\n{done.stderr}")
    return done.stdout.splitlines()


def _raw_call(source: str, function: str) -> Entry:
    """ABI entry of a function that a contract takes raw and that changes its state."""
    (abi,) = _compile(SOURCES / source, "abi")
    declared = cast("list[Entry]", json.loads(abi))
    entry = next(e for e in declared if e.get("name") == function)
    return {**entry, "stateMutability": "nonpayable"}


def built(name: str) -> str:
    """Return the text of a contract's artifact, compiled from its source."""
    abi, bytecode, integrity = _compile(
        SOURCES / f"{name}.vy", "abi,bytecode,integrity"
    )
    entries = cast("list[Entry]", json.loads(abi))
    if name in RAW_CALLS:
        entries.append(_raw_call(*RAW_CALLS[name]))
    artifact = {
        "name": name,
        "compiler": f"vyper {version('vyper')}, {EVM_VERSION}, optimised: {OPTIMISER}",
        "integrity": integrity,
        "bytecode": bytecode.removeprefix("0x"),
        "abi": entries,
    }
    return json.dumps(artifact, indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the artifacts, or with ``--check`` name those that differ."""
    parser = argparse.ArgumentParser(prog="python -m contracts.compile")
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check: bool = parser.parse_args(arguments).check
    stale: list[str] = []
    for name in NAMES:
        text, path = built(name), ARTIFACTS / f"{name}.json"
        if check:
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(name)
        else:
            path.write_text(text, encoding="utf-8")
    if stale:
        sys.stderr.write(f"artifacts differ from their sources: {', '.join(stale)}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
