"""JSON-RPC error objects, with go-ethereum's codes and wording.

Client libraries recognise failures by these very numbers and phrases ("nonce too
low", "execution reverted"), so the wording is part of the interface.
"""

from typing import Any

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
SERVER_ERROR = -32000
RESPONSE_TOO_LARGE = -32003
LIMIT_EXCEEDED = -32005
PRUNED = 4444  # EIP-4444, as ethereum/execution-apis has it
REVERTED = 3


class RpcError(Exception):
    """An answer in the `error` member of a response."""

    def __init__(self, code: int, message: str, data: object = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_object(self) -> dict[str, Any]:
        """The error object of JSON-RPC 2.0, section 5.1."""
        answer: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            answer["data"] = self.data
        return answer


def invalid_params(message: str) -> RpcError:
    """A parameter is missing, of a wrong type, or out of range."""
    return RpcError(INVALID_PARAMS, message)


def server_error(message: str) -> RpcError:
    """The request was understood and cannot be served."""
    return RpcError(SERVER_ERROR, message)


def missing_state(root: bytes, what: str) -> RpcError:
    """A state that was pruned here, or that came before the snapshot."""
    return server_error(
        f"missing trie node {root.hex()} (path ) {what} is not available on this node; "
        "ask an archive node"
    )


def limit_exceeded(message: str) -> RpcError:
    """The request asks for more than one answer may carry or cost."""
    return RpcError(LIMIT_EXCEEDED, message)
