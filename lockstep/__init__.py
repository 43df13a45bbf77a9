"""Lockstep, for people: buy training, sell it, check it, and prove who cheated."""
