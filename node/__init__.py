"""The shell of a Lockstep node: everything that touches clocks, files and sockets.

`engine` asks the pure packages (`consensus`, `runtime`) what to do and does it: it
builds a block a second, signs it, writes it in one atomic batch and tells the mempool.
`rpc` answers clients from the same database. `audit` replays a chain from genesis and
trusts nothing that was stored.
"""
