"""The Whistleblower: replays whole jobs, points at the first fake, and proves it."""
