"""Encrypted keys: Web3 Secret Storage for secp256k1, EIP-2335 for BLS12-381.

The one place that uses `eth_keyfile`, which does the cryptography of both (versions 3
and 4 of the format). Around it: what a file may ask of this machine is bounded, nothing
but the algorithms of the two standards is accepted, and passwords are prepared as
EIP-2335 says: NFKD, without control characters, UTF-8.
"""

import json
import unicodedata
from typing import Any, Final, Literal, cast

from node.errors import KeyFileError

MAX_KEYSTORE_BYTES: Final = 16_384
# Costs that one waits for a second or two; hostile files would ask for hours.
_MAX_SCRYPT_BYTES: Final = 1 << 30
_MAX_SCRYPT_WORK: Final = 1 << 25
_MAX_PBKDF2_ROUNDS: Final = 10_000_000
SCRYPT_N = 262_144  # that of both standards

Kind = Literal[3, 4]
Document = dict[str, Any]


def seal(kind: Kind, secret: bytes, password: str) -> bytes:
    """Encrypt 32 bytes into a JSON file.

    Args:
        kind: 3 for a secp256k1 key (Web3 Secret Storage), 4 for BLS (EIP-2335).
        secret: The key, big-endian.
        password: Not empty.

    Raises:
        KeyFileError: the password is empty.
    """
    if not password:
        raise KeyFileError("the password is empty; a key file needs one")
    from eth_keyfile.keyfile import create_keyfile_json  # noqa: PLC0415 - half a second

    document = create_keyfile_json(
        secret,
        _prepared(kind, password),
        version=kind,
        kdf="scrypt",
        iterations=SCRYPT_N,
    )
    if kind == 3:
        document["address"] = str(document["address"]).lower()
    return json.dumps(document, indent=1).encode() + b"\n"


def unseal(kind: Kind, content: bytes, password: str, name: str) -> bytes:
    """The 32 bytes in a file that `seal` or any other program of the standard wrote.

    Args:
        kind: Which of the two it must be.
        content: The file.
        password: Of the file.
        name: Of the file, for errors.

    Raises:
        KeyFileError: no such file, another password, or it asks for too much.
    """
    document = read_document(content, name)
    try:
        _check(kind, document)
    except (LookupError, TypeError, ValueError) as error:
        raise KeyFileError(f"{name} is no key file of version {kind}: {error}") from (
            error
        )
    from eth_keyfile.keyfile import decode_keyfile_json  # noqa: PLC0415 - half a second

    try:
        secret = decode_keyfile_json(document, _prepared(kind, password))
    except (LookupError, TypeError, ValueError) as error:
        # Both standards have a checksum that only the right password fits.
        raise KeyFileError(
            f"{name} can't be decrypted: another password, or it is damaged "
            f"({type(error).__name__}: {error})"
        ) from None
    if len(secret) != 32:
        raise KeyFileError(f"{name} holds {len(secret)} bytes, expected a key of 32")
    return secret


def read_document(content: bytes, name: str) -> Document:
    """The JSON object of a key file, undecrypted.

    Raises:
        KeyFileError: it is none.
    """
    try:
        document: object = json.loads(content)
    except ValueError as error:
        raise KeyFileError(f"{name} is no JSON: {type(error).__name__}") from None
    if not isinstance(document, dict):
        raise KeyFileError(f"{name} is no JSON object")
    return cast("Document", document)


def _prepared(kind: Kind, password: str) -> bytes:
    if kind == 4:
        password = "".join(
            each
            for each in unicodedata.normalize("NFKD", password)
            if not (ord(each) < 0x20 or 0x7F <= ord(each) < 0xA0)
        )
    return password.encode()


def _check(kind: Kind, document: Document) -> None:
    """Refuse other algorithms, and costs beyond the bounds.

    Raises:
        ValueError: one of these; also LookupError and TypeError for other shapes.
    """
    if document["version"] != kind:
        raise ValueError(f"it is of version {document['version']!r}")
    crypto = document["crypto"] if "crypto" in document else document["Crypto"]
    if kind == 3:
        kdf, params, cipher = crypto["kdf"], crypto["kdfparams"], crypto["cipher"]
    else:
        kdf, params = crypto["kdf"]["function"], crypto["kdf"]["params"]
        cipher = crypto["cipher"]["function"]
        if crypto["checksum"]["function"] != "sha256":
            raise ValueError("its checksum is not sha256")
    if cipher != "aes-128-ctr":
        raise ValueError(f"its cipher is {cipher!r}, expected aes-128-ctr")
    _check_cost(kdf, params)


def _check_cost(kdf: str, params: Document) -> None:
    """See `_check`."""
    if params["dklen"] != 32:
        raise ValueError(f"its dklen is {params['dklen']!r}, expected 32")
    if kdf == "scrypt":
        n, r, p = (int(params[each]) for each in "nrp")
        if min(n, r, p) < 1 or 128 * n * r > _MAX_SCRYPT_BYTES:
            raise ValueError(f"scrypt with n={n}, r={r} needs more memory than allowed")
        if n * r * p > _MAX_SCRYPT_WORK:
            raise ValueError(f"scrypt with n={n}, r={r}, p={p} takes too long")
    elif kdf == "pbkdf2":
        if params["prf"] != "hmac-sha256":
            raise ValueError(f"its prf is {params['prf']!r}, expected hmac-sha256")
        if not 0 < int(params["c"]) <= _MAX_PBKDF2_ROUNDS:
            raise ValueError(f"pbkdf2 with c={params['c']} takes too long")
    else:
        raise ValueError(f"its kdf is {kdf!r}, expected scrypt or pbkdf2")
