"""The door to the chain: the only package that imports web3.

`connection` speaks JSON-RPC for one account, `events` reads the chain's history,
`views` gives contract answers types, `market`, `disputes` and `verification` are the
contracts as Python objects, and `chain` is what a training script uses.
"""
