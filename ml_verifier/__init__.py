"""Programs, reproducible kernels, commitments and adjudication: the public surface.

    decode_program   canonical bytes as a validated ``Program``
    inspect          what a program costs, by node and by operator
    initial_state    the state before the first step, from a seed
    Session          training, step by step: ``run``, ``state``, ``root``
    Trajectory       the roots of a run as a commitment
    build_witness    all that a replay of one step needs
    replay           the verdict about one step: ``replay(h_i) == h_{i+1}``
    open_tile        one tile of a state, opened; checked by ``verify_opening``
    open_pieces      pieces of 1 KiB of a tensor; checked by ``verify_pieces``
    trace_step       all values of one step, for a dispute about one operator

An ordinary PyTorch training step becomes a program by ``ml_verifier.capture.capture``,
the one part that loads torch. Names are loaded when they are used, so that importing a
part does not import the rest.
``docs/library.md`` walks through all of them.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ml_verifier.adjudication.trace import trace_step
    from ml_verifier.commitment import (
        open_tile,
        state_root,
        tensor_root,
        verify_opening,
    )
    from ml_verifier.data import Dataset, encode_records
    from ml_verifier.inspection import Report, inspect
    from ml_verifier.judge import ReplayCall, replay
    from ml_verifier.pieces import open_pieces, verify_pieces
    from ml_verifier.program import Program, decode_program
    from ml_verifier.session import Session, initial_state
    from ml_verifier.state import State, Trap
    from ml_verifier.trajectory import Trajectory
    from ml_verifier.witness import build_witness

__all__ = [
    "Dataset",
    "Program",
    "ReplayCall",
    "Report",
    "Session",
    "State",
    "Trajectory",
    "Trap",
    "build_witness",
    "decode_program",
    "encode_records",
    "initial_state",
    "inspect",
    "open_pieces",
    "open_tile",
    "replay",
    "state_root",
    "tensor_root",
    "trace_step",
    "verify_opening",
    "verify_pieces",
]

_HOMES = {
    "adjudication.trace": ("trace_step",),
    "commitment": ("open_tile", "state_root", "tensor_root", "verify_opening"),
    "data": ("Dataset", "encode_records"),
    "inspection": ("Report", "inspect"),
    "judge": ("ReplayCall", "replay"),
    "pieces": ("open_pieces", "verify_pieces"),
    "program": ("Program", "decode_program"),
    "session": ("Session", "initial_state"),
    "state": ("State", "Trap"),
    "trajectory": ("Trajectory",),
    "witness": ("build_witness",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = importlib.import_module(f"{__name__}.{_HOME_OF[name]}")
    value: object = getattr(home, name)
    return value
