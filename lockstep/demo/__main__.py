"""`python -m lockstep.demo [--seed N]`."""

from lockstep.demo.stage import main

main()
