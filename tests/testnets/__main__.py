"""Networks of real processes: `python -m tests.testnets [manifest ...]`.

Exits with 1 when a check failed. What the network leaves is kept then, and told.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from tests.testnets.manifest import ManifestError, named, names
from tests.testnets.namespaces import is_inside, refusal, run_inside
from tests.testnets.runner import Runner


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _play(name: str) -> bool:
    manifest = named(name)
    if manifest.cuts and not is_inside():
        why = refusal()
        if why is not None:
            _say(f"{name}: SKIPPED, {why}")
            return True
        return run_inside([name]) == 0
    directory = Path(tempfile.mkdtemp(prefix=f"lockstep-{name}-"))
    passed = Runner(manifest, directory / "net").run()
    if passed:
        shutil.rmtree(directory)
    else:
        _say(f"{name}: FAILED; databases and logs are in {directory}")
    return passed


def main() -> None:
    """Play the named manifests, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.testnets")
    parser.add_argument("manifest", nargs="*", help=f"of {', '.join(names())}")
    chosen = parser.parse_args().manifest or names()
    try:
        for name in chosen:
            named(name)
        passed = [_play(name) for name in chosen]
    except ManifestError as error:
        sys.exit(str(error))
    sys.exit(not all(passed))


if __name__ == "__main__":
    main()
