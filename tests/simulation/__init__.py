"""Whole networks of validators, simulated: `python -m tests.simulation --help`."""
