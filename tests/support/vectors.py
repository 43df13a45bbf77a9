"""Vectors: a test that asserts them can also write them."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "vectors"


@dataclass(frozen=True)
class Vectors:
    """Access to ``tests/vectors``; with ``write``, ``check`` rewrites the file."""

    write: bool

    def check(self, name: str, computed: Any) -> None:  # noqa: ANN401 - any JSON
        """Assert that the vector file ``name`` holds exactly ``computed``."""
        self.check_file(FOLDER / f"{name}.json", computed)

    def check_file(self, path: Path, computed: Any) -> None:  # noqa: ANN401 - any JSON
        """Assert that a JSON file holds exactly ``computed``."""
        if self.write:
            path.write_text(json.dumps(computed, indent=1, sort_keys=True) + "\n")
        expected = json.loads(path.read_text())
        assert json.loads(json.dumps(computed)) == expected
