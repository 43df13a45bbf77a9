"""The error of a lowering rule."""


class Unsupported(Exception):
    """A call has no reproducible operator; the message says what to write instead."""
