"""Execution: the EVM behind one door, precompiles, limits, the block transition."""
