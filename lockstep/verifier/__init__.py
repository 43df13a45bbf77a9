"""The Verifier: recomputes random segments of committed jobs and proves it."""
