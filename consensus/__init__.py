"""Tendermint consensus as pure functions and one state machine.

- `validators`: who may vote, with how much stake; the proposer of a round.
- `votes`: what a vote signs, and how votes are checked.
- `certificate`: precommits of more than two thirds of the stake for one block.
- `beacon`: the BLS reveal of a proposer and the `mixHash` that follows from it.
- `proposal`: the header fields that consensus fixes, made and checked.
- `light`: headers verified from a trusted one, without executing.
- `machine`: one height as `apply(state, input) -> (state, effects)`.

No clock, no randomness, no files: the shell (`node`) performs the effects.
"""
