"""`python -m benchmarks [part ...]`: measure, print a table, write latest.jsonl."""

import importlib
import sys

from benchmarks.harness import report

PARTS = (
    "training",
    "zoo",
    "memory",
    "adjudication",
    "executor",
    "dispute",
    "hashing",
    "p2p",
    "sync",
    "network",
)


def main() -> None:
    """Run the named parts, or all."""
    parts = sys.argv[1:] or PARTS
    unknown = set(parts) - set(PARTS)
    if unknown:
        sys.exit(f"expected parts of {', '.join(PARTS)}; got {', '.join(unknown)}")
    modules = [importlib.import_module(f"benchmarks.{part}") for part in parts]
    report(figure for module in modules for figure in module.figures())


if __name__ == "__main__":
    main()
