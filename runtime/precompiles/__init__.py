"""The precompiled contracts, pure functions each, one file per family.

Every one has a price in gas, which is Ethereum's, and one in interpreter steps, which
is measured (`benchmarks/worst_block.py`): the ratio of time to gas differs a
thousandfold between BN254 in Python and BLS12-381 in Rust.
"""
