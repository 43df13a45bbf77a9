"""The Solver: takes jobs, trains them, commits to the trajectory and defends it."""
