"""`python -m benchmarks.page [prefix ...]`: the last run's figures as Markdown rows."""

import json
import sys

from benchmarks.harness import LATEST


def main() -> None:
    """Print one row per figure whose name starts with one of the prefixes, or all."""
    prefixes = tuple(sys.argv[1:]) or ("",)
    if not LATEST.exists():
        sys.exit(f"expected {LATEST}: run `make bench` first")
    sys.stdout.write("| figure | value | ratio | against |\n|---|---|---|---|\n")
    for line in LATEST.read_text().splitlines():
        figure = json.loads(line)
        if figure["name"].startswith(prefixes):
            value = f"{figure['value']:.4g} {figure['unit']}"
            row = (figure["name"], value, f"{figure['ratio']:.2f}", figure["against"])
            sys.stdout.write(f"| {' | '.join(row)} |\n")


if __name__ == "__main__":
    main()
