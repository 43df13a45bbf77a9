# pyright: basic
# torch.fx and torch.func carry no complete types; mypy --strict still applies.
"""Where in the user's code a traced call comes from."""

import re
from pathlib import Path

import torch
from torch.fx import Node

BACKWARD = "in the backward pass"
_FRAME = re.compile(r'File "(?P<file>.+)", line (?P<line>\d+), in (?P<function>\S+)')
_TORCH = str(Path(torch.__file__).parent)


def location(node: Node) -> str:
    """Return file, line and source text of the innermost frame outside torch."""
    lines = (node.stack_trace or "").splitlines()
    found = ""
    for index, line in enumerate(lines):
        match = _FRAME.search(line)
        if match and not match["file"].startswith(_TORCH):
            text = lines[index + 1].strip() if index + 1 < len(lines) else ""
            found = f"{match['file']}:{match['line']}: {text}"
    return found or BACKWARD
