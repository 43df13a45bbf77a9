"""Plans of the operators with sliding windows: convolutions and pools."""

from ml_verifier.kernels.plan import Plan
from ml_verifier.kernels.request import INDEX, Array, Request, Shape

MAX_PLANE = 2**31 - 1  # positions of a plane; indices are 32-bit inside the kernels
MAX_WINDOW = 2**31 - 1  # kernel, stride, padding and dilation


def _extent(size: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _outputs(
    request: Request, planes: Shape, kernel: Shape, dilation: Shape
) -> tuple[int, int]:
    """Height and width of a window's outputs over planes of [H, W]."""
    stride = request.integers("stride", 2, low=1)
    padding = request.integers("padding", 2)
    for part in (*kernel, *stride, *padding, *dilation):
        if part > MAX_WINDOW:
            raise request.refusal(f"windows reach at most {MAX_WINDOW}, got {part}")
    height, width = (
        _extent(planes[i], kernel[i], stride[i], padding[i], dilation[i])
        for i in range(2)
    )
    if height < 1 or width < 1:
        raise request.refusal(f"a window of {kernel} never fits into {planes}")
    return height, width


def _grid(request: Request, x: Shape, w: Shape, out: Shape) -> tuple[Shape, Shape]:
    """Effective stride, and the grid's plane, floats per channel and form.

    The grid is described in source/convolution.h.
    """
    dilation = request.integers("dilation", 2, low=1)
    # Nothing strides over a single output: the step would only widen the grid.
    stride = tuple(
        step if size > 1 else 1
        for step, size in zip(request.integers("stride", 2, low=1), out, strict=True)
    )
    height, width = (
        out[i] - 1 + (w[2 + i] - 1) * dilation[i] // stride[i] + 1 for i in range(2)
    )
    if stride[1] == 1:
        width = min(width, max(out[1], x[3] + request.integers("padding", 2)[1]))
    phases = stride[0] * stride[1] * height * width
    columns = w[2] * w[3] * out[0] * out[1]
    # The second bound is on the gradient, which is laid out like the grid's outputs.
    if phases > columns + x[2] * x[3] or width > 4 * out[1]:
        return stride, (out[0], out[1], columns, 1)
    return stride, (height, width, phases, 0)


def _convolution(request: Request, x: Shape, w: Shape) -> tuple[Shape, tuple[int, ...]]:
    """Output shape and sizes of the convolution of x with w."""
    groups = request.integer("groups", low=1)
    fits = len(x) == len(w) == 4 and x[1] == w[1] * groups and w[0] % groups == 0
    if not fits or 0 in (*x, *w):
        raise request.refusal(
            "expected x[N, C, H, W] and w[O, C/groups, kh, kw], none empty, with"
            f" groups={groups}, got {x} and {w}"
        )
    dilation = request.integers("dilation", 2, low=1)
    out = _outputs(request, x[2:], w[2:], dilation)
    stride, grid = _grid(request, x, w, out)
    padding = request.integers("padding", 2)
    sizes = (*x, w[0], *w[2:], *out, *stride, *padding, *dilation, groups, *grid)
    return (x[0], w[0], *out), sizes


GEOMETRY = ("stride", "padding", "dilation", "groups")


def conv2d(request: Request) -> Plan:
    """x, w -> y."""
    request.expect(2, 1, *GEOMETRY)
    x, w = request.input(0), request.input(1)
    shape, sizes = _convolution(request, x.shape, w.shape)
    return Plan("conv2d", (x, w), (request.output(0, shape),), sizes)


def conv2d_backward_input(request: Request) -> Plan:
    """g, w -> dx."""
    request.expect(2, 1, "input_shape", *GEOMETRY)
    w, x_shape = request.input(1), request.integers("input_shape", 4)
    shape, sizes = _convolution(request, x_shape, w.shape)
    g, dx = request.input(0, shape), request.output(0, x_shape)
    return Plan(request.name, (g, w), (dx,), sizes)


def conv2d_backward_weight(request: Request) -> Plan:
    """g, x -> dw."""
    request.expect(2, 1, "weight_shape", *GEOMETRY)
    x, w_shape = request.input(1), request.integers("weight_shape", 4)
    shape, sizes = _convolution(request, x.shape, w_shape)
    g, dw = request.input(0, shape), request.output(0, w_shape)
    return Plan(request.name, (g, x), (dw,), sizes)


def _plane(request: Request, shape: Shape) -> int:
    """Number of planes of [N, C, H, W]; refuses what 32-bit indices do not reach."""
    if len(shape) != 4 or 0 in shape:
        raise request.refusal(f"expected [N, C, H, W], none empty, got {shape}")
    if shape[2] * shape[3] > MAX_PLANE:
        raise request.refusal(f"a plane has at most {MAX_PLANE} positions, got {shape}")
    return shape[0] * shape[1]


def _pool(request: Request, x: Shape) -> tuple[Shape, tuple[int, ...]]:
    """Output shape and sizes of a pool over x."""
    planes = _plane(request, x)
    kernel = request.integers("kernel", 2, low=1)
    dilation: Shape = (1, 1)
    if "dilation" in request.attributes:
        dilation = request.integers("dilation", 2, low=1)
    out = _outputs(request, x[2:], kernel, dilation)
    stride, padding = (request.integers(name, 2) for name in ("stride", "padding"))
    sizes = (planes, *x[2:], *out, *kernel, *stride, *padding, *dilation)
    return (*x[:2], *out), sizes


def max_pool2d(request: Request) -> Plan:
    """X -> y, index."""
    request.expect(1, 2, "kernel", "stride", "padding", "dilation")
    x = request.input(0)
    shape, sizes = _pool(request, x.shape)
    outputs = request.output(0, shape), request.output(1, shape, INDEX)
    return Plan(request.name, (x,), outputs, sizes)


def max_pool2d_backward(request: Request) -> Plan:
    """g, index -> dx."""
    request.expect(2, 1, "input_shape")
    shape = request.integers("input_shape", 4)
    g = request.input(0)
    planes = _plane(request, shape)
    if g.ndim != 4 or g.shape[:2] != shape[:2]:
        raise request.refusal(f"g of {g.shape} was not pooled from {shape}")
    index, dx = request.input(1, g.shape, INDEX), request.output(0, shape)
    return Plan(request.name, (g, index), (dx,), (planes, *shape[2:], *g.shape[2:]))


def _average(request: Request, x: Shape) -> tuple[Shape, tuple[int, ...]]:
    shape, sizes = _pool(request, x)
    return shape, (*sizes, request.integer("count_include_pad", high=1))


AVERAGE = ("kernel", "stride", "padding", "count_include_pad")


def avg_pool2d(request: Request) -> Plan:
    """X -> y."""
    request.expect(1, 1, *AVERAGE)
    x: Array = request.input(0)
    shape, sizes = _average(request, x.shape)
    return Plan(request.name, (x,), (request.output(0, shape),), sizes)


def avg_pool2d_backward(request: Request) -> Plan:
    """G -> dx."""
    request.expect(1, 1, "input_shape", *AVERAGE)
    x_shape = request.integers("input_shape", 4)
    shape, sizes = _average(request, x_shape)
    g, dx = request.input(0, shape), request.output(0, x_shape)
    return Plan(request.name, (g,), (dx,), sizes)
