"""Peers: encrypted, authenticated, bounded.

Two nodes that meet first compare chains in the clear (`preface`), then run Noise XX
(`noise`, `handshake`), then cut their messages into encrypted frames (`frames`,
`outbox`, `connection`). `switch` decides with whom: it listens, dials, keeps one
connection per node, scores and bans. `book` remembers addresses and `exchange` trades
them. What peers say to each other is the business of reactors (`interface`).

    switch = Switch(key, network, settings, reactors, book=book, surroundings=...)
    async with trio.open_nursery() as nursery:
        address = await nursery.start(switch.run)   # `id@host:port` it listens on
        switch.peers()                              # list[PeerStatus]
        switch.counters                             # for metrics

`run` ends by cancellation only. The wire format is docs/spec/p2p.md.
"""
