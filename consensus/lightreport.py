"""What light clients found, for JSON: a header, and a fork as evidence.

Hashes, addresses and encodings are hexadecimal; the encodings are all it takes to check
the evidence anew.
"""

from chain.header import Header
from consensus.light import Fork, LightBlock


def header_document(header: Header) -> dict[str, object]:
    """What people look for in a header, and its encoding."""
    return {
        "number": header.number,
        "hash": "0x" + header.hash.hex(),
        "state_root": "0x" + header.state_root.hex(),
        "timestamp": header.timestamp,
        "validators": "0x" + header.extra_data.hex(),
        "encoded": "0x" + header.encode().hex(),
    }


def fork_document(proved: Fork) -> dict[str, object]:
    """Two certified headers of one height, and who signed both in one round."""
    return {
        "common": header_document(proved.common.header),
        "first": _light_block(proved.first),
        "second": _light_block(proved.second),
        "equivocators": ["0x" + each.hex() for each in proved.equivocators],
    }


def _light_block(block: LightBlock) -> dict[str, object]:
    return {
        "header": header_document(block.header),
        "certificate": "0x" + block.certificate.encode().hex(),
        "validators": "0x" + block.validators.encode().hex(),
    }
