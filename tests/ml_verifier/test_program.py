"""Programs: canonical bytes and everything the decoder refuses."""

import struct

import pytest
from hypothesis import given, strategies as st

from ml_verifier.errors import MalformedProgram
from ml_verifier.initial import Initialiser, Normal, ZeroRow, encode
from ml_verifier.operators import BY_NAME, AttributeValue
from ml_verifier.program import (
    MAX_PROGRAM_BYTES,
    Constant,
    Field,
    Node,
    Program,
    Slot,
    Uniform,
    build,
    decode_program,
)
from ml_verifier.types import TensorType, bf16, f32, i64
from tests.ml_verifier.jobs import cnn_job, mlp_job
from tests.support.vectors import Vectors

LOSS_SLOT = Slot("loss", f32(), Constant(0.0))


def tiny() -> Program:
    """loss' = sum(w * x), w' = w - x."""
    weight = Slot("w", f32(1, 3), Uniform(-0.5, 0.5))
    nodes = (
        Node(BY_NAME["mul"], (1, 2), {}),
        Node(BY_NAME["sum"], (3,), {"axes": (0, 1), "keepdim": 0}),
        Node(BY_NAME["sub"], (1, 2), {}),
    )
    return build(1, (LOSS_SLOT, weight), (Field("x", f32(3)),), nodes, (4, 5))


def test_vectors(vectors: Vectors) -> None:
    vectors.check(
        "program",
        [
            {"encoded": p.encoded.hex(), "root": p.root.hex()}
            for p in (tiny(), mlp_job().program, cnn_job().program)
        ],
    )


@pytest.mark.parametrize("job", [mlp_job, cnn_job])
def test_decoding_inverts_encoding(job: object) -> None:
    program = mlp_job().program if job is mlp_job else cnn_job().program
    decoded = decode_program(program.encoded)
    assert decoded.encoded == program.encoded
    assert decoded.types == program.types


@given(st.data())
def test_a_changed_byte_is_refused_or_another_program(data: st.DataObject) -> None:
    encoded = bytearray(mlp_job().program.encoded)
    index = data.draw(st.integers(0, len(encoded) - 1))
    encoded[index] ^= data.draw(st.integers(1, 255))
    try:
        decoded = decode_program(bytes(encoded))
    except MalformedProgram:
        return
    assert decoded.encoded == bytes(encoded)  # canonical: no second spelling


@given(st.binary(max_size=300), st.integers(0, 200))
def test_noise_is_refused_or_another_program(noise: bytes, keep: int) -> None:
    candidate = tiny().encoded[:keep] + noise
    try:
        decoded = decode_program(candidate)
    except MalformedProgram:
        return
    assert decoded.encoded == candidate


def test_truncated_and_trailing_bytes() -> None:
    encoded = tiny().encoded
    with pytest.raises(MalformedProgram, match="truncated"):
        decode_program(encoded[:-1])
    with pytest.raises(MalformedProgram, match="1 trailing bytes"):
        decode_program(encoded + b"\0")


def test_sizes_are_bounded_before_anything_is_read() -> None:
    with pytest.raises(MalformedProgram, match="at most 1048576 bytes"):
        decode_program(bytes(MAX_PROGRAM_BYTES + 1))
    head = b"LSTP" + struct.pack(">HIHHH", 1, 1, 65_535, 1, 0)
    with pytest.raises(MalformedProgram, match="slots"):
        decode_program(head)


def test_another_numerics_version_is_named() -> None:
    encoded = b"LSTP" + struct.pack(">H", 2) + tiny().encoded[6:]
    with pytest.raises(MalformedProgram, match="numerics version 1, got 2"):
        decode_program(encoded)


def test_unknown_operator() -> None:
    encoded = tiny().encoded.replace(bytes([4, 0, 1, 0, 2]), bytes([99, 0, 1, 0, 2]))
    with pytest.raises(MalformedProgram, match="unknown operator 99"):
        decode_program(encoded)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ((Node(BY_NAME["mul"], (1, 9), {}),), "does not exist yet"),
        ((Node(BY_NAME["matmul"], (1, 2), {"ta": 0, "tb": 0}),), "inner dimensions"),
        ((Node(BY_NAME["relu_backward"], (0, 1), {}),), "one shape"),
        ((Node(BY_NAME["sum"], (1,), {"axes": (1, 0), "keepdim": 0}),), "axes"),
        (
            (
                Node(
                    BY_NAME["constant"], (), {"shape": (1 << 20, 1 << 20), "value": 0.0}
                ),
            ),
            "elements",
        ),
        ((Node(BY_NAME["reshape"], (1,), {"shape": (4,)}),), "as many elements"),
    ],
)
def test_broken_nodes_are_named(nodes: tuple[Node, ...], message: str) -> None:
    slots = (LOSS_SLOT, Slot("w", f32(1, 3), Constant(0.0)))
    with pytest.raises(MalformedProgram, match=message):
        build(1, slots, (Field("x", f32(3)),), nodes, (0, 1))


def test_values_together_are_bounded() -> None:
    big = Node(BY_NAME["constant"], (), {"shape": (1 << 16, 1 << 15), "value": 0.0})
    with pytest.raises(MalformedProgram, match="values exceed"):
        build(1, (LOSS_SLOT,), (Field("x", f32(3)),), (big,) * 2049, (0,))


@pytest.mark.parametrize(
    ("slots", "fields", "next_state", "message"),
    [
        ((), (Field("x", f32(3)),), (), "slot 0"),
        ((Slot("loss", f32(2), Constant(0)),), (Field("x", f32(3)),), (0,), "slot 0"),
        ((LOSS_SLOT,), (), (0,), "record field"),
        ((LOSS_SLOT,), (Field("loss", f32(3)),), (0,), "own name"),
        ((LOSS_SLOT,), (Field("x\n", f32(3)),), (0,), "printable"),
        ((LOSS_SLOT,), (Field("x", f32(5000)),), (0,), "at most 16384 bytes"),
        ((LOSS_SLOT,), (Field("x", f32(3)),), (1,), "expected f32"),
        ((LOSS_SLOT,), (Field("x", f32(3)),), (), "next value"),
        (
            (LOSS_SLOT, Slot("n", i64(), Constant(0))),
            (Field("x", f32(3)),),
            (0, 1),
            "expected f32 or bf16",
        ),
    ],
)
def test_broken_interfaces_are_named(
    slots: tuple[Slot, ...],
    fields: tuple[Field, ...],
    next_state: tuple[int, ...],
    message: str,
) -> None:
    with pytest.raises(MalformedProgram, match=message):
        build(1, slots, fields, (), next_state)


def test_nan_constants_are_refused() -> None:
    encoded = tiny().encoded.replace(struct.pack(">f", -0.5), b"\x7f\xc0\0\0")
    with pytest.raises(MalformedProgram, match="NaN"):
        decode_program(encoded)


def test_types_print_as_they_are_written() -> None:
    assert str(TensorType(f32().dtype, (2, 3))) == "f32[2, 3]"


@pytest.mark.parametrize(
    "initialiser",
    [
        Constant(float("inf")),
        Uniform(float("-inf"), 0.0),
        Uniform(0.0, float("inf")),
        Uniform(-3e38, 3e38),
        Normal(3e38, 1e37),
        Normal(0.0, float("inf")),
        Normal(0.0, -1.0),
        ZeroRow(1, Constant(float("inf"))),
    ],
)
def test_initial_values_are_finite(initialiser: Initialiser) -> None:
    slots = (LOSS_SLOT, Slot("w", f32(2), initialiser))
    with pytest.raises(MalformedProgram, match="finite initial values"):
        build(1, slots, (Field("x", f32(3)),), (), (0, 1))


def test_initial_values_of_bf16_are_finite_after_rounding() -> None:
    slots = (LOSS_SLOT, Slot("w", bf16(2), Constant(3.4e38)))
    with pytest.raises(MalformedProgram, match="finite initial values"):
        build(1, slots, (Field("x", f32(3)),), (), (0, 1))


@pytest.mark.parametrize(("type_", "row"), [(f32(2), 2), (f32(), 0)])
def test_rows_of_zeros_exist(type_: TensorType, row: int) -> None:
    slots = (LOSS_SLOT, Slot("w", type_, ZeroRow(row, Constant(1.0))))
    with pytest.raises(MalformedProgram, match=f"no row {row} in"):
        build(1, slots, (Field("x", f32(3)),), (), (0, 1))


@pytest.mark.parametrize(
    "initialiser",
    [Normal(0.25, 0.5), ZeroRow(1, Uniform(-0.5, 0.5)), ZeroRow(0, Normal(0.0, 1.0))],
)
def test_initial_values_survive_encoding(initialiser: Initialiser) -> None:
    slots = (LOSS_SLOT, Slot("w", f32(2), initialiser))
    program = build(1, slots, (Field("x", f32(3)),), (), (0, 1))
    assert decode_program(program.encoded).slots == slots
    position = program.encoded.index(encode(initialiser))
    nested = isinstance(initialiser, ZeroRow)
    for offset, kind in ((0, 4), (5, 3)) if nested else ((0, 4),):
        broken = bytearray(program.encoded)
        broken[position + offset] = kind
        with pytest.raises(MalformedProgram, match=f"unknown initialiser {kind}"):
            decode_program(bytes(broken))


@pytest.mark.parametrize(
    ("stride", "padding", "message"),
    [
        ((1, 2**31 - 1), (0, 2**30 - 2), "padding of at most 65"),
        ((1, 2**31 - 1), (0, 1 << 26), "padding of at most 65"),
        ((1, 2**31), (0, 0), "at most 2147483647"),
    ],
)
def test_padding_that_only_costs_memory_is_refused(
    stride: tuple[int, int], padding: tuple[int, int], message: str
) -> None:
    slots = (LOSS_SLOT, Slot("w", f32(1, 1, 1, 1), Constant(1.0)))
    attributes: dict[str, AttributeValue] = {
        "padding": padding,
        "stride": stride,
        "dilation": (1, 1),
        "groups": 1,
    }
    node = Node(BY_NAME["conv2d"], (2, 1), attributes)
    with pytest.raises(MalformedProgram, match=message):
        build(1, slots, (Field("x", f32(1, 1, 1)),), (node,), (0, 1))
