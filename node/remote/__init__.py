"""A validator's keys in a process of their own, perhaps on a machine of their own.

`lockstep signer run` holds the keys and the last-sign-state and serves `server`; a node
asks it through `client.RemoteSigner`, which the engine can't tell from a signer of its
own. The bytes are docs/spec/remote-signer.md.
"""
