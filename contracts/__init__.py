"""The system contracts as the rest of the code sees them: interface and bytecode.

The sources are Vyper (``contracts/*.vy``, modules and interfaces beside them); what
runs is the committed artifact, which ``python -m contracts.compile --check`` reproduces
bit by bit. Genesis runs ``Artifact.deployment`` at each contract's fixed address.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final, TypeAlias, cast

from eth_abi.abi import encode

__all__ = [
    "NAMES",
    "AbiEntry",
    "Argument",
    "Artifact",
    "ArtifactError",
    "ConstructorMismatch",
    "UnknownContract",
    "artifact",
]

AbiEntry: TypeAlias = Mapping[str, object]
Argument: TypeAlias = int | bytes | str

NAMES: Final = (
    "Clock",
    "Staking",
    "JobMarket",
    "DisputeGame",
    "Verification",
    "Evidence",
    "Demands",
    "Validators",
)


class ArtifactError(Exception):
    """An artifact was asked for what it does not have."""


class UnknownContract(ArtifactError):
    """No system contract has this name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"expected one of {', '.join(NAMES)}, got {name!r}")


class ConstructorMismatch(ArtifactError):
    """A constructor was given other parameters than it has."""

    def __init__(self, name: str, missing: set[str], unknown: set[str]) -> None:
        super().__init__(
            f"{name}'s constructor: missing {sorted(missing)}, "
            f"unknown {sorted(unknown)}"
        )


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    Attributes:
        name: Name of its source, such as ``JobMarket``.
        abi: Its interface in Ethereum's JSON form.
        bytecode: Creation code, without the constructor's arguments.
        compiler: Compiler version and settings.
        integrity: The compiler's hash over all of its sources.
    """

    name: str
    abi: Sequence[AbiEntry]
    bytecode: bytes
    compiler: str
    integrity: str

    @property
    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Names and ABI types of the constructor's parameters, in order."""
        for entry in self.abi:
            if entry["type"] == "constructor":
                inputs = cast("Sequence[Mapping[str, str]]", entry["inputs"])
                return tuple((i["name"], i["type"]) for i in inputs)
        return ()

    def deployment(self, arguments: Mapping[str, Argument]) -> bytes:
        """Return creation code followed by the constructor's encoded arguments.

        Args:
            arguments: By name, exactly the constructor's parameters; an address is 20
                bytes.

        Raises:
            ConstructorMismatch: A parameter is missing or unknown.
        """
        expected = {name for name, _ in self.parameters}
        if expected != set(arguments):
            given = set(arguments)
            raise ConstructorMismatch(self.name, expected - given, given - expected)
        return self.bytecode + encode(
            [abi_type for _, abi_type in self.parameters],
            [arguments[name] for name, _ in self.parameters],
        )


@cache
def artifact(name: str) -> Artifact:
    """Return the committed artifact of a system contract.

    Raises:
        UnknownContract: There is none of that name.
    """
    if name not in NAMES:
        raise UnknownContract(name)
    path = resources.files("contracts") / "artifacts" / f"{name}.json"
    loaded = json.loads(path.read_text(encoding="utf-8"))
    return Artifact(
        name=name,
        abi=loaded["abi"],
        bytecode=bytes.fromhex(loaded["bytecode"]),
        compiler=loaded["compiler"],
        integrity=loaded["integrity"],
    )
