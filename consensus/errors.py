"""What a peer, a file or we ourselves can get wrong about consensus."""


class ConsensusError(Exception):
    """Base of everything that this package raises."""


class InvalidValidatorSet(ConsensusError):
    """A validator set is empty, has duplicates, or a member is malformed."""


class InvalidVote(ConsensusError):
    """A vote is for another height or round, or not by the validator it names."""


class InvalidCertificate(ConsensusError):
    """A commit certificate does not prove what it claims."""


class InvalidPart(ConsensusError):
    """A part of a block does not belong to the proposal it came with."""


class InvalidEvidence(ConsensusError):
    """A piece of evidence proves nothing."""


class InvalidMessage(ConsensusError):
    """Bytes from a peer are no message of the consensus protocol."""


class InvalidReveal(ConsensusError):
    """A beacon reveal is not the proposer's signature for this height."""


class InvalidProposal(ConsensusError):
    """A proposed block breaks a rule of consensus.

    Attributes:
        field: The header or sidecar field that is wrong.
        expected: What the rules demand, printable.
        got: What the block says, printable.
    """

    def __init__(self, field: str, expected: object, got: object) -> None:
        super().__init__(f"{field}: expected {_shown(expected)}, got {_shown(got)}")
        self.field = field
        self.expected = expected
        self.got = got


class Impossible(ConsensusError):
    """More than two thirds of the stake agreed on what our own rules refuse.

    Either a third of the stake is faulty or this program is: stop, and let people look.
    """


class IllegalInput(ConsensusError):
    """The shell fed the state machine something its present state does not take."""


def _shown(value: object) -> str:
    return "0x" + value.hex() if isinstance(value, bytes) else str(value)
