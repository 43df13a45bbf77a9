"""The job of `digits_job.py`, committing to every tenth state only."""

import runpy
from dataclasses import replace
from pathlib import Path

_dense = runpy.run_path(str(Path(__file__).with_name("digits_job.py")))["job"]
job = replace(_dense, commit_every=10)
