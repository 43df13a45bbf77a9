"""The file `addresses.json`: addresses and bans, across restarts."""

import json
from pathlib import Path
from typing import Any, Final

from node.files import write_durably
from node.p2p.address import ID_BYTES, PeerAddress
from node.p2p.book import OPERATOR, AddressBook, Entry
from node.p2p.errors import AddressBookFileError, AddressError
from node.p2p.standing import WORST, Standing

BOOK_FILE: Final = "addresses.json"
VERSION: Final = 1
MAX_BYTES: Final = 4 << 20


def save_book(path: Path, content: bytes) -> None:
    """Replace the file; it survives power loss."""
    write_durably(path, content)


def book_content(book: AddressBook, bans: dict[bytes, Standing]) -> bytes:
    """What the file holds."""
    document = {
        "version": VERSION,
        "addresses": [
            {
                "address": str(entry.address),
                "source": entry.source,
                "tried": entry.tried,
                "failures": entry.failures,
                "not_before": entry.not_before,
            }
            for entry in book.entries()
            if entry.source != OPERATOR
        ],
        "bans": [
            {"id": ident.hex(), "until": ban.banned_until, "faults": ban.faults}
            for ident, ban in bans.items()
        ],
    }
    return json.dumps(document, indent=1).encode() + b"\n"


def load_book(path: Path) -> tuple[list[Entry], dict[bytes, Standing]]:
    """Addresses and bans of a file; none of a file that is not there yet.

    Raises:
        AddressBookFileError: unreadable or damaged. The file is a cache: an operator
            may delete it.
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return [], {}
    except OSError as error:
        raise AddressBookFileError(f"cannot read {path}: {error}") from error
    try:
        return _parse(content)
    except (ValueError, KeyError, TypeError, RecursionError, AddressError) as error:
        raise AddressBookFileError(
            f"{path} is damaged ({type(error).__name__}: {error}); delete it to "
            "begin with an empty address book"
        ) from error


def _parse(content: bytes) -> tuple[list[Entry], dict[bytes, Standing]]:
    if len(content) > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    document: dict[str, Any] = dict(json.loads(content))
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']}, expected {VERSION}")
    entries = [_entry(row) for row in document["addresses"]]
    return entries, dict(_ban(row) for row in document["bans"])


def _entry(row: dict[str, Any]) -> Entry:
    return Entry(
        address=PeerAddress.parse(str(row["address"])),
        source=str(row["source"]),
        tried=bool(row["tried"]),
        failures=int(row["failures"]),
        not_before=float(row["not_before"]),
    )


def _ban(row: dict[str, Any]) -> tuple[bytes, Standing]:
    ident = bytes.fromhex(str(row["id"]))
    if len(ident) != ID_BYTES:
        raise ValueError(f"an id of {len(ident)} bytes")
    return ident, Standing(WORST, int(row["faults"]), float(row["until"]))
