"""A job's data: fixed-size records under a Merkle root, read batch by batch."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from ml_verifier import merkle
from ml_verifier.bfloat import narrowed
from ml_verifier.commitment import Array
from ml_verifier.errors import MalformedData
from ml_verifier.merkle import Purpose, Tree
from ml_verifier.program import Field, Program
from ml_verifier.types import DType


class Dataset:
    """All records of a job, concatenated, in their program's layout."""

    def __init__(self, program: Program, data: bytes) -> None:
        """Wrap ``data``.

        Raises:
            MalformedData: It is empty or no whole number of records.
        """
        self.record_bytes = program.record_bytes
        if not data or len(data) % self.record_bytes:
            raise MalformedData(
                f"expected whole records of {self.record_bytes} bytes, got {len(data)}"
            )
        self.data = data
        self.records = len(data) // self.record_bytes
        self.columns = split_fields(program.fields, data, self.records)

    def record(self, index: int) -> bytes:
        """Return the bytes of one record."""
        return self.data[index * self.record_bytes : (index + 1) * self.record_bytes]

    @cached_property
    def tree(self) -> Tree:
        """The Merkle tree over the records."""
        leaves = [
            merkle.leaf(Purpose.RECORD, self.record(i)) for i in range(self.records)
        ]
        return Tree(Purpose.RECORD, leaves)

    @property
    def root(self) -> bytes:
        """The data root that a job commits to."""
        return self.tree.root

    def path(self, index: int) -> list[bytes]:
        """Return the siblings that open record ``index``."""
        return self.tree.path(index)


def split_fields(
    fields: Sequence[Field], data: bytes, records: int
) -> tuple[Array, ...]:
    """Return one array [records, *field.shape] per field of concatenated records."""
    table = np.frombuffer(data, np.uint8).reshape(records, -1)
    columns: list[Array] = []
    offset = 0
    for field in fields:
        end = offset + field.type.nbytes
        column = np.ascontiguousarray(table[:, offset:end])
        shape = (records, *field.type.shape)
        columns.append(column.view(field.type.dtype.numpy).reshape(shape))
        offset = end
    return tuple(columns)


def encode_records(program: Program, columns: Sequence[Array]) -> bytes:
    """Return the concatenated records of columns [records, *field.shape].

    A bf16 field takes floats, which are rounded, or its bits as uint16.

    Raises:
        MalformedData: A column does not have its field's shape, or holds no floats.
    """
    if len(columns) != len(program.fields):
        raise MalformedData(
            f"expected {len(program.fields)} columns, got {len(columns)}"
        )
    records = len(columns[0])
    pieces: list[Array] = []
    for field, column in zip(program.fields, columns, strict=True):
        expected = (records, *field.type.shape)
        if column.shape != expected:
            raise MalformedData(
                f"{field.name}: expected {expected}, got {column.shape}"
            )
        typed = np.ascontiguousarray(_held(field, column), field.type.dtype.numpy)
        pieces.append(typed.reshape(records, -1).view(np.uint8).reshape(records, -1))
    return np.concatenate(pieces, axis=1).tobytes()


def _held(field: Field, column: Array) -> Array:
    """A column as its field holds it, but for the width of its numbers."""
    if field.type.dtype is not DType.BF16 or column.dtype == field.type.dtype.numpy:
        return column
    if column.dtype.kind != "f":
        raise MalformedData(
            f"{field.name}: expected floats, or bf16's bits as uint16, got "
            f"{column.dtype}"
        )
    return narrowed(column)
