"""`make demo`: two honest trainings, two faked ones, and how the fakes are found.

A devnet and nine actors run as separate processes with directories and keys of their
own. Which fakes are played, and at which step, is drawn anew in every run; the
whistleblower is told nothing. What is printed is read from the chain as it happens.
"""
