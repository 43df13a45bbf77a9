"""Artifacts: what actors hand to each other off the chain, addressed by its root.

A program, a data set, the leaves of a trajectory, a state, the losses: each is named by
a root that stands on the chain, so it does not matter who serves it. `store` keeps
them in a folder or a bucket, `server` offers them over HTTP, `fetch` gets one from the
first source that delivers bytes which hash to the root.
"""
