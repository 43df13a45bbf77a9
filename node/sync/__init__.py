"""How a node that is behind catches up.

- `messages`, `assembly`: blocks and certificates on the wire.
- `scheduler`: which heights to ask of whom, and what came back; pure.
- `verification`: what is checked of a block before it is executed.
- `blocks`: the reactor that joins them, and that serves others.
- `sets`: validator sets by hash, from the database.
- `snapshots`, `walk`, `merkle`: a state and what belongs to it, in chunks; pure.
- `restore`: a snapshot checked record by record, into an empty database.
- `snapshotfile`, `snapshotmessages`, `snapshotsync`: files of snapshots, and the
  reactor that serves and fetches them.
- `lightmessages`, `lightsync`: light blocks, and headers verified with them.

    sync = BlockSync(database, sets.find, import_block)
    switch = Switch(key, network, settings, [sync, ...])
    nursery.start_soon(sync.run)
    await sync.caught_up.wait()

    write_snapshot(path, database, height, history)
    served = SnapshotSync([SnapshotFile(stream)])          # as another reactor
    header = await SnapshotSync().fetch(begin)    # makes a Restorer of a manifest

The wire formats are docs/spec/sync.md.
"""
