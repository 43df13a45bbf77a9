"""Noise_XX_25519_ChaChaPoly_SHA256, sans I/O (the Noise specification, revision 34).

    XX:
      -> e
      <- e, ee, s, es
      -> s, se

`Handshake.write` and `read` take turns as `_PATTERN` says; an illegal turn is a bug of
the caller and raises `RuntimeError`. After the third message `split` gives the two
ciphers of the transport. Bytes that do not fit raise `NoiseError`, after which the
handshake is of no use; nothing was returned from the bad message.

Beyond the specification's MUSTs: an all-zero Diffie-Hellman result (a public key of
small order) is refused, as section 12.1 allows.
"""

import hashlib
import hmac
from enum import Enum, auto
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from node.p2p.errors import GarbageError

PROTOCOL: Final = b"Noise_XX_25519_ChaChaPoly_SHA256"
MAX_MESSAGE: Final = 65_535
TAG: Final = 16
KEY: Final = 32
_LAST_NONCE: Final = (1 << 64) - 2


class NoiseError(GarbageError):
    """A message that no holder of the right keys sent."""


class Token(Enum):
    """What a handshake message is made of; names as in the specification."""

    E = auto()
    S = auto()
    EE = auto()
    ES = auto()
    SE = auto()


_PATTERN: Final = (
    (Token.E,),
    (Token.E, Token.EE, Token.S, Token.ES),
    (Token.S, Token.SE),
)
MESSAGES: Final = len(_PATTERN)


class CipherState:
    """One direction: a key and the number of messages so far."""

    __slots__ = ("_aead", "_nonce")

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)
        self._nonce = 0

    def _next_nonce(self) -> bytes:
        if self._nonce > _LAST_NONCE:
            raise NoiseError("2^64 - 1 messages under one key; connect again")
        nonce = bytes(4) + self._nonce.to_bytes(8, "little")
        self._nonce += 1
        return nonce

    def encrypt(self, plaintext: bytes, data: bytes = b"") -> bytes:
        """Ciphertext and tag; `data` is authenticated with it."""
        return self._aead.encrypt(self._next_nonce(), plaintext, data)

    def decrypt(self, ciphertext: bytes | bytearray, data: bytes = b"") -> bytes:
        """The plaintext.

        Raises:
            NoiseError: not what the other side encrypted as its next message.
        """
        try:
            return self._aead.decrypt(self._next_nonce(), ciphertext, data)
        except InvalidTag:
            raise NoiseError("a message does not authenticate") from None


class _SymmetricState:
    """Chaining key, transcript hash and, from the first secret on, a cipher."""

    def __init__(self) -> None:
        # The name has exactly 32 bytes, so it is the hash as it stands (section 5.2).
        self.transcript = PROTOCOL
        self._chaining_key = PROTOCOL
        self._cipher: CipherState | None = None

    def mix_hash(self, data: bytes) -> None:
        self.transcript = hashlib.sha256(self.transcript + data).digest()

    def mix_key(self, secret: bytes) -> None:
        self._chaining_key, key = _hkdf(self._chaining_key, secret)
        self._cipher = CipherState(key)

    @property
    def overhead(self) -> int:
        """What encryption adds to a part of a message now."""
        return 0 if self._cipher is None else TAG

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        if self._cipher is None:
            ciphertext = plaintext
        else:
            ciphertext = self._cipher.encrypt(plaintext, self.transcript)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        if self._cipher is None:
            plaintext = ciphertext
        else:
            plaintext = self._cipher.decrypt(ciphertext, self.transcript)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        first, second = _hkdf(self._chaining_key, b"")
        return CipherState(first), CipherState(second)


def _hkdf(chaining_key: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF with two outputs (section 4.3)."""
    extracted = hmac.digest(chaining_key, material, "sha256")
    first = hmac.digest(extracted, b"\x01", "sha256")
    second = hmac.digest(extracted, first + b"\x02", "sha256")
    return first, second


class Handshake:
    """One side of one handshake.

    Args:
        initiator: Whether this side speaks first.
        prologue: Bytes that both sides must hold equally.
        static: This side's long-term X25519 secret.
        ephemeral: A fresh X25519 secret, never used twice.
    """

    def __init__(
        self, *, initiator: bool, prologue: bytes, static: bytes, ephemeral: bytes
    ) -> None:
        self._initiator = initiator
        self._static = X25519PrivateKey.from_private_bytes(static)
        self._ephemeral = X25519PrivateKey.from_private_bytes(ephemeral)
        self._remote_ephemeral = b""
        self._remote_static = b""
        self._turn = 0
        self._symmetric = _SymmetricState()
        self._symmetric.mix_hash(prologue)

    @property
    def remote_static(self) -> bytes:
        """The other side's public key; empty until it is known."""
        return self._remote_static

    @property
    def transcript(self) -> bytes:
        """The handshake hash (section 11.2): unique to this session once done."""
        return self._symmetric.transcript

    def write(self, payload: bytes = b"") -> bytes:
        """The next message of this side."""
        parts: list[bytes] = []
        for token in self._tokens(mine=True):
            if token is Token.E:
                public = self._ephemeral.public_key().public_bytes_raw()
                self._symmetric.mix_hash(public)
                parts.append(public)
            elif token is Token.S:
                public = self._static.public_key().public_bytes_raw()
                parts.append(self._symmetric.encrypt_and_hash(public))
            else:
                self._symmetric.mix_key(self._agree(token))
        parts.append(self._symmetric.encrypt_and_hash(payload))
        return b"".join(parts)

    def read(self, message: bytes) -> bytes:
        """The payload of the next message of the other side.

        Raises:
            NoiseError: cut off, forged, or for other keys or another prologue.
        """
        rest = message
        for token in self._tokens(mine=False):
            if token is Token.E:
                self._remote_ephemeral, rest = _cut(rest, KEY)
                self._symmetric.mix_hash(self._remote_ephemeral)
            elif token is Token.S:
                part, rest = _cut(rest, KEY + self._symmetric.overhead)
                self._remote_static = self._symmetric.decrypt_and_hash(part)
            else:
                self._symmetric.mix_key(self._agree(token))
        return self._symmetric.decrypt_and_hash(rest)

    def split(self) -> tuple[CipherState, CipherState]:
        """The ciphers to send and to receive with, once all messages went by."""
        if self._turn != MESSAGES:
            raise RuntimeError(f"split after {self._turn} of {MESSAGES} messages")
        forth, back = self._symmetric.split()
        return (forth, back) if self._initiator else (back, forth)

    def _tokens(self, *, mine: bool) -> tuple[Token, ...]:
        turn = self._turn
        if turn == MESSAGES or mine != (self._initiator == (turn % 2 == 0)):
            raise RuntimeError(f"not the turn of this call after {turn} messages")
        self._turn += 1
        return _PATTERN[turn]

    def _agree(self, token: Token) -> bytes:
        """The Diffie-Hellman secret of a token: initiator's key first, as named."""
        mine_is_static = token is (Token.SE if self._initiator else Token.ES)
        theirs_is_static = token is (Token.ES if self._initiator else Token.SE)
        mine = self._static if mine_is_static else self._ephemeral
        theirs = self._remote_static if theirs_is_static else self._remote_ephemeral
        try:
            return mine.exchange(X25519PublicKey.from_public_bytes(theirs))
        except ValueError:
            raise NoiseError("a public key of small order") from None


def _cut(data: bytes, size: int) -> tuple[bytes, bytes]:
    if len(data) < size:
        raise NoiseError(f"a handshake message is cut off: {len(data)} of {size} bytes")
    return data[:size], data[size:]
