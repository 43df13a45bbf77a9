"""What travels beside a block's body: certificate, reveal, evidence.

The header commits to it in `parentBeaconBlockRoot`, a field that every Ethereum tool
carries and none interprets:

    root = sha256("lockstep/sidecar" || sha256(certificate) || sha256(reveal)
                  || uint32(number of evidence items) || sha256(item) ...)

The certificate of the parent is absent (empty bytes) only in block 1, whose parent
is the genesis that nobody voted on.
"""

from dataclasses import dataclass
from typing import Final

from chain import rlp
from chain.crypto import sha256
from chain.errors import MalformedBlock, MalformedRLP

REVEAL_BYTES: Final = 96
SIGNATURE_BYTES: Final = 65
MAX_SIGNATURES: Final = 1_024
MAX_EVIDENCE: Final = 64
MAX_EVIDENCE_BYTES: Final = 65_536
MAX_SIDECAR_BYTES: Final = 4 << 20

_TAG: Final = b"lockstep/sidecar"


@dataclass(frozen=True, slots=True)
class CommitSignature:
    """One validator's precommit.

    Attributes:
        validator: Address, 20 bytes.
        time: The validator's wall clock when it signed, milliseconds since 1970.
        signature: secp256k1, 65 bytes.
    """

    validator: bytes
    time: int
    signature: bytes

    def __post_init__(self) -> None:
        """Check sizes; raise `MalformedBlock`."""
        if len(self.validator) != 20 or len(self.signature) != SIGNATURE_BYTES:
            raise MalformedBlock(
                "a commit signature is a 20-byte address and 65 bytes, got "
                f"{len(self.validator)} and {len(self.signature)}"
            )
        if self.time < 0 or self.time >> 64:
            raise MalformedBlock(f"time of a precommit out of range: {self.time}")


@dataclass(frozen=True, slots=True)
class CommitCertificate:
    """More than two thirds of the stake precommitted this block.

    Who signed, and with how much stake, is consensus' to check.
    """

    height: int
    round: int
    block_hash: bytes
    signatures: tuple[CommitSignature, ...]

    def __post_init__(self) -> None:
        """Check sizes; raise `MalformedBlock`."""
        if len(self.block_hash) != 32:
            raise MalformedBlock(
                f"certificate for a hash of {len(self.block_hash)} bytes, expected 32"
            )
        if len(self.signatures) > MAX_SIGNATURES:
            raise MalformedBlock(
                f"certificate with {len(self.signatures)} signatures, at most "
                f"{MAX_SIGNATURES}"
            )
        for name, value in (("height", self.height), ("round", self.round)):
            if value < 0 or value >> 64:
                raise MalformedBlock(f"certificate {name} out of range: {value}")

    def items(self) -> list[rlp.Item]:
        """The nested sequence that RLP encodes."""
        return [
            rlp.encode_uint(self.height),
            rlp.encode_uint(self.round),
            self.block_hash,
            [
                [each.validator, rlp.encode_uint(each.time), each.signature]
                for each in self.signatures
            ],
        ]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return rlp.encode(self.items())

    @classmethod
    def decode(cls, data: bytes) -> "CommitCertificate":
        """Read `encode`'s output.

        Raises:
            MalformedBlock: Anything else.
        """
        try:
            return cls.from_items(rlp.decode(data, max_items=5 * MAX_SIGNATURES))
        except MalformedRLP as error:
            raise MalformedBlock(f"commit certificate: {error}") from error

    @classmethod
    def from_items(cls, item: rlp.Decoded) -> "CommitCertificate":
        """Read the decoded sequence."""
        height, round_, block_hash, signatures = rlp.as_list(item, 4)
        entries = (rlp.as_list(each, 3) for each in rlp.as_list(signatures))
        return cls(
            height=rlp.as_uint(height, 64),
            round=rlp.as_uint(round_, 64),
            block_hash=rlp.as_bytes(block_hash, 32),
            signatures=tuple(
                CommitSignature(
                    rlp.as_bytes(who, 20), rlp.as_uint(when, 64), rlp.as_bytes(what, 65)
                )
                for who, when, what in entries
            ),
        )


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Everything of a block that execution does not read.

    Attributes:
        parent_certificate: Commit of the parent; None only in block 1.
        reveal: The proposer's BLS signature over (genesis hash, height), 96 bytes;
            empty only in the genesis block and in chains without a beacon.
        evidence: Encoded proofs of equivocation, opaque here.
    """

    parent_certificate: CommitCertificate | None = None
    reveal: bytes = b""
    evidence: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Check sizes; raise `MalformedBlock`."""
        if len(self.reveal) not in (0, REVEAL_BYTES):
            raise MalformedBlock(
                f"a reveal has {REVEAL_BYTES} bytes or none, got {len(self.reveal)}"
            )
        if len(self.evidence) > MAX_EVIDENCE:
            raise MalformedBlock(
                f"{len(self.evidence)} pieces of evidence, at most {MAX_EVIDENCE}"
            )
        for piece in self.evidence:
            if len(piece) > MAX_EVIDENCE_BYTES:
                raise MalformedBlock(
                    f"evidence of {len(piece)} bytes, at most {MAX_EVIDENCE_BYTES}"
                )

    def root(self) -> bytes:
        """What the header's parentBeaconBlockRoot must hold."""
        certificate = self.parent_certificate
        return sha256(
            _TAG
            + sha256(b"" if certificate is None else certificate.encode())
            + sha256(self.reveal)
            + len(self.evidence).to_bytes(4, "big")
            + b"".join(sha256(piece) for piece in self.evidence)
        )

    def items(self) -> list[rlp.Item]:
        """The nested sequence that RLP encodes."""
        certificate = self.parent_certificate
        return [
            [] if certificate is None else certificate.items(),
            self.reveal,
            list(self.evidence),
        ]

    def encode(self) -> bytes:
        """Canonical bytes."""
        return rlp.encode(self.items())

    @classmethod
    def decode(cls, data: bytes) -> "Sidecar":
        """Read `encode`'s output.

        Raises:
            MalformedBlock: Anything else.
        """
        if len(data) > MAX_SIDECAR_BYTES:
            raise MalformedBlock(
                f"sidecar of {len(data)} bytes, at most {MAX_SIDECAR_BYTES}"
            )
        try:
            return cls.from_items(rlp.decode(data, max_items=8 * MAX_SIGNATURES))
        except MalformedRLP as error:
            raise MalformedBlock(f"sidecar: {error}") from error

    @classmethod
    def from_items(cls, item: rlp.Decoded) -> "Sidecar":
        """Read the decoded sequence."""
        certificate, reveal, evidence = rlp.as_list(item, 3)
        return cls(
            parent_certificate=CommitCertificate.from_items(certificate)
            if rlp.as_list(certificate)
            else None,
            reveal=rlp.as_bytes(reveal),
            evidence=tuple(rlp.as_bytes(piece) for piece in rlp.as_list(evidence)),
        )
