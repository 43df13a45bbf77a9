"""A program: one training step as a flat graph of operators with static shapes.

Values are numbered: first the state slots, then the record fields (batched), then
the outputs of each node in order. Slot 0 is the step's loss. A program says which
value becomes the next content of each slot; it says nothing about how many steps
there are, which data they see or from which seed: the job does.

The bytes are canonical by construction: integers have a fixed width (big-endian),
there is exactly one way to write a program, and the decoder accepts nothing else.
``docs/spec/program.md`` is the format's page.
"""

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from ml_verifier import initial
from ml_verifier.errors import MalformedProgram
from ml_verifier.initial import Constant, Initialiser, Normal, Uniform, ZeroRow
from ml_verifier.operators import (
    BY_CODE,
    VARIADIC,
    AttributeKind,
    AttributeValue,
    Operator,
    ShapeError,
    infer,
)
from ml_verifier.types import MAX_ELEMENTS, MAX_RANK, DType, TensorType, f32

__all__ = [
    "EMA",
    "LOSS",
    "MAGIC",
    "MAX_FIELDS",
    "MAX_NODES",
    "MAX_POSTED_BYTES",
    "MAX_PROGRAM_BYTES",
    "MAX_RECORD_BYTES",
    "MAX_SLOTS",
    "MAX_VALUE_BYTES",
    "NUMERICS_VERSION",
    "OPTIMISER",
    "Constant",
    "Field",
    "Initialiser",
    "Node",
    "Normal",
    "Program",
    "Slot",
    "Uniform",
    "ZeroRow",
    "build",
    "decode_program",
    "program_root",
]

MAGIC = b"LSTP"
NUMERICS_VERSION = 1
MAX_PROGRAM_BYTES = 1 << 20
MAX_POSTED_BYTES = 65_536  # of a program that is posted as a job (JobMarket.vy)
MAX_NODES = 16_384
MAX_SLOTS = 4_096
MAX_FIELDS = 16
MAX_RECORD_BYTES = 16_384  # a demanded record must fit one transaction's answer
MAX_VALUE_BYTES = 1 << 44  # all values of a step together
LOSS = "loss"
OPTIMISER = "optimiser."  # begins the names of slots that an optimiser keeps
EMA = "ema."  # begins the names of slots that average a weight


@dataclass(frozen=True, slots=True)
class Slot:
    """One named tensor of the state and how it starts."""

    name: str
    type: TensorType
    initialiser: Initialiser


@dataclass(frozen=True, slots=True)
class Field:
    """One named tensor of a data record, without the batch dimension."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Node:
    """One operator applied to earlier values."""

    operator: Operator
    inputs: tuple[int, ...]
    attributes: Mapping[str, AttributeValue]


@dataclass(frozen=True, eq=False)
class Program:
    """A validated program; build one with ``build`` or ``decode_program``.

    Programs compare by identity, so that what is derived from one can be cached;
    compare ``root`` to ask whether two are the same step.

    Attributes:
        batch: Records per step; the first dimension of every field's value.
        slots: The state, slot 0 being the scalar loss.
        fields: Layout of one record.
        nodes: The step in execution order.
        next_state: For each slot, the value that it holds after the step.
        types: Type of every value, in numbering order.
    """

    batch: int
    slots: tuple[Slot, ...]
    fields: tuple[Field, ...]
    nodes: tuple[Node, ...]
    next_state: tuple[int, ...]
    types: tuple[TensorType, ...]

    @cached_property
    def encoded(self) -> bytes:
        """The canonical bytes."""
        return _encode(self)

    @cached_property
    def root(self) -> bytes:
        """The 32 bytes that a job commits to."""
        return program_root(self.encoded)

    @cached_property
    def record_bytes(self) -> int:
        """Size of one data record."""
        return sum(field.type.nbytes for field in self.fields)

    @cached_property
    def state_bytes(self) -> int:
        """Size of one state, all slots concatenated."""
        return sum(slot.type.nbytes for slot in self.slots)

    @cached_property
    def first_output(self) -> tuple[int, ...]:
        """Number of the first output value of each node."""
        numbers: list[int] = []
        number = len(self.slots) + len(self.fields)
        for node in self.nodes:
            numbers.append(number)
            number += len(self.node_types(node)[1])
        return tuple(numbers)

    def node_types(
        self, node: Node
    ) -> tuple[tuple[TensorType, ...], tuple[TensorType, ...]]:
        """Return the input and output types of a node."""
        inputs = tuple(self.types[i] for i in node.inputs)
        return inputs, infer(node.operator, inputs, node.attributes)


def program_root(encoded: bytes) -> bytes:
    """Return the root of a program's canonical bytes."""
    return hashlib.sha256(b"lockstep/program" + encoded).digest()


# ── validation ───────────────────────────────────────────────────────────────


def build(
    batch: int,
    slots: tuple[Slot, ...],
    fields: tuple[Field, ...],
    nodes: tuple[Node, ...],
    next_state: tuple[int, ...],
) -> Program:
    """Check every rule of the format and return the program.

    Raises:
        MalformedProgram: A rule is broken; the message says which, and where.
    """
    _check_interface(batch, slots, fields)
    types = [slot.type for slot in slots]
    types += [TensorType(f.type.dtype, (batch, *f.type.shape)) for f in fields]
    total = sum(t.nbytes for t in types)
    for position, node in enumerate(nodes):
        where = f"node {position} ({node.operator.name})"
        if any(i >= len(types) for i in node.inputs):
            raise MalformedProgram(f"{where}: reads a value that does not exist yet")
        try:
            outputs = infer(
                node.operator, [types[i] for i in node.inputs], node.attributes
            )
        except ShapeError as error:
            raise MalformedProgram(f"{where}: {error}") from None
        types.extend(outputs)
        total += sum(t.nbytes for t in outputs)
        if total > MAX_VALUE_BYTES:
            raise MalformedProgram(f"{where}: values exceed {MAX_VALUE_BYTES} bytes")
    if len(next_state) != len(slots):
        raise MalformedProgram(
            f"expected a next value for each of {len(slots)} slots, "
            f"got {len(next_state)}"
        )
    for slot, value in zip(slots, next_state, strict=True):
        if value >= len(types) or types[value] != slot.type:
            got = str(types[value]) if value < len(types) else "a missing value"
            raise MalformedProgram(f"slot {slot.name}: expected {slot.type}, got {got}")
    return Program(batch, slots, fields, nodes, next_state, tuple(types))


def _check_interface(
    batch: int, slots: tuple[Slot, ...], fields: tuple[Field, ...]
) -> None:
    if not 0 < batch <= 65_536:
        raise MalformedProgram(f"expected a batch of 1..65536 records, got {batch}")
    if not slots or slots[0].name != LOSS or slots[0].type != f32():
        raise MalformedProgram(f"expected slot 0 to be the scalar f32 {LOSS!r}")
    if not fields:
        raise MalformedProgram("expected at least one record field, got none")
    for slot in slots:
        initial.check(slot.name, slot.type, slot.initialiser)
    names = [s.name for s in slots] + [f.name for f in fields]
    if len(set(names)) != len(names):
        raise MalformedProgram("expected every slot and field to have its own name")
    _check_dtypes(slots, fields)
    record = sum(f.type.nbytes for f in fields)
    if record > MAX_RECORD_BYTES:
        raise MalformedProgram(
            f"expected records of at most {MAX_RECORD_BYTES} bytes, got {record}"
        )
    interface: tuple[Slot | Field, ...] = (*slots, *fields)
    for item in interface:
        if not (item.name.isascii() and item.name.isprintable() and item.name):
            raise MalformedProgram(f"expected printable ASCII names, got {item.name!r}")
        if not 0 < item.type.size <= MAX_ELEMENTS:
            raise MalformedProgram(f"{item.name}: unusable type {item.type}")


def _check_dtypes(slots: tuple[Slot, ...], fields: tuple[Field, ...]) -> None:
    for slot in slots:
        if slot.type.dtype not in {DType.F32, DType.BF16}:
            raise MalformedProgram(
                f"slot {slot.name}: expected f32 or bf16, got {slot.type}"
            )
    for field in fields:
        if field.type.dtype is DType.BOOL:  # a byte of a record may be any number
            raise MalformedProgram(
                f"field {field.name}: expected f32, i64 or bf16, got {field.type}"
            )


# ── canonical bytes ──────────────────────────────────────────────────────────


def _encode(program: Program) -> bytes:
    out = bytearray(MAGIC)
    out += struct.pack(">HIHHH", NUMERICS_VERSION, program.batch, len(program.slots),
                       len(program.fields), len(program.nodes))  # fmt: skip
    for slot in program.slots:
        out += _encode_interface(slot.name, slot.type)
        out += initial.encode(slot.initialiser)
    for field in program.fields:
        out += _encode_interface(field.name, field.type)
    for node in program.nodes:
        out += encode_node(node)
    out += struct.pack(f">{len(program.next_state)}H", *program.next_state)
    return bytes(out)


def encode_node(node: Node) -> bytes:
    """Return the bytes of one node."""
    out = bytearray((node.operator.code,))
    if node.operator.arity == VARIADIC:
        out.append(len(node.inputs))
    out += struct.pack(f">{len(node.inputs)}H", *node.inputs)
    for name, kind in node.operator.attributes:
        out += _encode_attribute(kind, node.attributes[name])
    return bytes(out)


def _encode_interface(name: str, type_: TensorType) -> bytes:
    shape = type_.shape
    return struct.pack(
        f">B{len(name)}sBB{len(shape)}I",
        len(name), name.encode("ascii"), type_.dtype, len(shape), *shape,
    )  # fmt: skip


def _encode_attribute(kind: AttributeKind, value: AttributeValue) -> bytes:
    if kind == "ints":
        assert isinstance(value, tuple)  # noqa: S101 - build() has checked kinds
        return struct.pack(f">B{len(value)}I", len(value), *value)
    if kind == "bytes":
        assert isinstance(value, bytes)  # noqa: S101 - likewise
        return struct.pack(">I", len(value)) + value
    return struct.pack(">I" if kind == "int" else ">f", value)


class _Reader:
    """A cursor over hostile bytes; every read is bounded by what is there."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, layout: str) -> tuple[int, ...]:
        """Unpack big-endian unsigned integers."""
        return struct.unpack(">" + layout, self.bytes(struct.calcsize(">" + layout)))

    def bytes(self, count: int) -> bytes:
        """Take ``count`` bytes."""
        end = self._at + count
        if end > len(self._data):
            raise MalformedProgram(
                f"truncated: expected {count} bytes at offset {self._at}, "
                f"got {len(self._data) - self._at}"
            )
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def float(self) -> float:
        """Take a float32; NaN has many encodings and is refused."""
        value: float = struct.unpack(">f", self.bytes(4))[0]
        if math.isnan(value):
            raise MalformedProgram(f"NaN constant at offset {self._at - 4}")
        return value

    def interface(self) -> tuple[str, TensorType]:
        """Take a name and a type."""
        (length,) = self.take("B")
        try:
            name = self.bytes(length).decode("ascii")
        except UnicodeDecodeError:
            raise MalformedProgram(f"non-ASCII name at offset {self._at}") from None
        code, rank = self.take("BB")
        if code not in set(DType) or rank > MAX_RANK:
            raise MalformedProgram(f"{name}: unknown dtype {code} or rank {rank}")
        return name, TensorType(DType(code), self.take(f"{rank}I"))

    def attribute(self, kind: AttributeKind) -> AttributeValue:
        """Take one attribute of the kind that the operator's row names."""
        if kind == "float":
            return self.float()
        if kind == "int":
            return self.take("I")[0]
        if kind == "bytes":
            return self.bytes(self.take("I")[0])
        (count,) = self.take("B")
        if count > MAX_RANK:
            raise MalformedProgram(f"expected at most {MAX_RANK} numbers, got {count}")
        return self.take(f"{count}I")

    def end(self) -> None:
        """Refuse trailing bytes."""
        if self._at != len(self._data):
            raise MalformedProgram(f"{len(self._data) - self._at} trailing bytes")


@lru_cache(maxsize=16)
def decode_program(data: bytes) -> Program:
    """Decode canonical bytes, checking every rule before anything is allocated.

    Raises:
        MalformedProgram: The bytes are not exactly one program of this version.
    """
    if len(data) > MAX_PROGRAM_BYTES:
        raise MalformedProgram(
            f"expected at most {MAX_PROGRAM_BYTES} bytes, got {len(data)}"
        )
    reader = _Reader(data)
    if reader.bytes(len(MAGIC)) != MAGIC:
        raise MalformedProgram(f"expected magic {MAGIC!r}")
    version, batch, slot_count, field_count, node_count = reader.take("HIHHH")
    if version != NUMERICS_VERSION:
        raise MalformedProgram(
            f"expected numerics version {NUMERICS_VERSION}, got {version}"
        )
    for what, count, limit in (
        ("slots", slot_count, MAX_SLOTS),
        ("fields", field_count, MAX_FIELDS),
        ("nodes", node_count, MAX_NODES),
    ):
        if count > limit:
            raise MalformedProgram(f"expected at most {limit} {what}, got {count}")
    slots = tuple(_decode_slot(reader) for _ in range(slot_count))
    fields = tuple(Field(*reader.interface()) for _ in range(field_count))
    nodes = tuple(_decode_node(reader, i) for i in range(node_count))
    next_state = reader.take(f"{slot_count}H")
    reader.end()
    return build(batch, slots, fields, nodes, next_state)


def _decode_slot(reader: _Reader) -> Slot:
    name, type_ = reader.interface()
    return Slot(name, type_, initial.decode(name, reader))


def decode_node(data: bytes, position: int) -> Node:
    """Decode the bytes of one node, whose place is named in errors.

    Raises:
        MalformedProgram: The bytes are not exactly one node.
    """
    reader = _Reader(data)
    node = _decode_node(reader, position)
    reader.end()
    return node


def _decode_node(reader: _Reader, position: int) -> Node:
    (code,) = reader.take("B")
    operator = BY_CODE.get(code)
    if operator is None:
        raise MalformedProgram(f"node {position}: unknown operator {code}")
    arity = reader.take("B")[0] if operator.arity == VARIADIC else operator.arity
    inputs = reader.take(f"{arity}H")
    attributes = {name: reader.attribute(kind) for name, kind in operator.attributes}
    return Node(operator, inputs, attributes)
