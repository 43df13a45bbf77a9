"""Errors of the verifier: whoever raises one says whose fault it is."""


class VerifierError(Exception):
    """Root of every error this package raises on purpose."""


class Malformed(VerifierError):
    """Bytes that came from somebody else break a rule; nobody is convicted by them."""


class MalformedProgram(Malformed):
    """A program's bytes do not decode, or its graph breaks a rule of the format."""


class MalformedWitness(Malformed):
    """A witness does not decode, or does not hash to the roots it is offered for."""


class MalformedOpening(Malformed):
    """An opening does not decode, or does not lead to the root it is offered for."""


class MalformedData(Malformed):
    """A data set, state or trajectory has the wrong size or the wrong root."""


class UnsupportedModel(VerifierError):
    """A model uses operators that have no reproducible kernel.

    Attributes:
        problems: One line per unsupported call: what, where, and what to write instead.
    """

    def __init__(self, problems: tuple[str, ...]) -> None:
        self.problems = problems
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{len(problems)} unsupported call(s):\n{lines}")
