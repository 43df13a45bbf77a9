"""How a node that is behind catches up.

- `messages`, `assembly`: blocks and certificates on the wire.
- `scheduler`: which heights to ask of whom, and what came back; pure.
- `verification`: what is checked of a block before it is executed.
- `blocks`: the reactor that joins them, and that serves others.
- `sets`: validator sets by hash, from the database.

    sync = BlockSync(database, sets.find, import_block)
    switch = Switch(key, network, settings, [sync, ...])
    nursery.start_soon(sync.run)
    await sync.caught_up.wait()

The wire formats are docs/spec/sync.md.
"""
