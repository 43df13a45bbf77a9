/* Elementwise operators. Unary: size[0] elements. Binary with broadcasting: a strided
 * loop nest prepared at bind time, see `struct nest`. */
#ifndef LOCKSTEP_ELEMENTWISE_H
#define LOCKSTEP_ELEMENTWISE_H

#include "activations.h"
#include "error_function.h"
#include "exponential.h"
#include "trigonometric.h"

/* size[0] dimensions (1 to 8, adjacent ones merged), then three rows of 8: extents,
 * strides of a, strides of b. The innermost strides are 0 or 1. */
enum { NEST_RANK = 8 };
struct nest {
    int64_t rank;
    const int64_t *extent, *stride_a, *stride_b;
};

static struct nest nest_of(const struct call *call) {
    const int64_t *size = call->size;
    return (struct nest){size[0], size + 1, size + 1 + NEST_RANK, size + 1 + 2 * NEST_RANK};
}

static int64_t outer_extent(const struct nest *nest) {
    int64_t product = 1;
    for (int64_t d = 0; d + 1 < nest->rank; d++) product *= nest->extent[d];
    return product;
}

/* Offsets of the inner run with flat outer index `outer`. */
static void nest_offsets(const struct nest *nest, int64_t outer, int64_t *a, int64_t *b) {
    *a = *b = 0;
    for (int64_t d = nest->rank - 2; d >= 0; d--) {
        int64_t i = outer % nest->extent[d];
        outer /= nest->extent[d];
        *a += i * nest->stride_a[d];
        *b += i * nest->stride_b[d];
    }
}

#define DEFINE_BINARY(name, expression)                                             \
    static void name##_run_of(const float *a, int64_t step_a, const float *b,       \
                              int64_t step_b, float *y, int64_t n) {                \
        if (step_a && step_b)                                                       \
            INDEPENDENT for (int64_t i = 0; i < n; i++) {                           \
                float u = a[i], v = b[i];                                           \
                y[i] = (expression);                                                \
            }                                                                       \
        else if (step_a)                                                            \
            INDEPENDENT for (int64_t i = 0; i < n; i++) {                           \
                float u = a[i], v = b[0];                                           \
                y[i] = (expression);                                                \
            }                                                                       \
        else                                                                        \
            INDEPENDENT for (int64_t i = 0; i < n; i++) {                           \
                float u = a[0], v = b[i * step_b];                                  \
                y[i] = (expression);                                                \
            }                                                                       \
    }                                                                               \
    static void name##_flat(const void *context, int64_t first, int64_t last,       \
                            const struct worker *worker) {                          \
        (void)worker;                                                               \
        const struct call *call = context;                                          \
        struct nest nest = nest_of(call);                                           \
        int64_t step_a = nest.stride_a[0], step_b = nest.stride_b[0];               \
        name##_run_of((const float *)call->in[0] + first * step_a, step_a,          \
                      (const float *)call->in[1] + first * step_b, step_b,          \
                      (float *)call->out[0] + first, last - first);                 \
    }                                                                               \
    static void name##_rows(const void *context, int64_t first, int64_t last,       \
                            const struct worker *worker) {                          \
        (void)worker;                                                               \
        const struct call *call = context;                                          \
        struct nest nest = nest_of(call);                                           \
        int64_t inner = nest.rank - 1, n = nest.extent[inner];                      \
        for (int64_t row = first; row < last; row++) {                              \
            int64_t a, b;                                                           \
            nest_offsets(&nest, row, &a, &b);                                       \
            name##_run_of((const float *)call->in[0] + a, nest.stride_a[inner],     \
                          (const float *)call->in[1] + b, nest.stride_b[inner],     \
                          (float *)call->out[0] + row * n, n);                      \
        }                                                                           \
    }                                                                               \
    static int name##_operator(const struct call *call) {                           \
        struct nest nest = nest_of(call);                                           \
        if (nest.rank == 1)                                                         \
            parallel_range(name##_flat, call, nest.extent[0], 1);                   \
        else                                                                        \
            parallel_range(name##_rows, call, outer_extent(&nest),                  \
                           nest.extent[nest.rank - 1]);                             \
        return RUN_OK;                                                              \
    }

DEFINE_BINARY(add, u + v)
DEFINE_BINARY(sub, u - v)
DEFINE_BINARY(mul, u * v)
DEFINE_BINARY(div, u / v)
DEFINE_BINARY(maximum, u != u ? u : (v != v ? v : (u >= v ? u : v)))
DEFINE_BINARY(minimum, u != u ? u : (v != v ? v : (u <= v ? u : v)))

/* Rounding to an integer, without the instructions that some machines lack. From 2^23 on
 * every float is one. */
INLINE float with_sign(float magnitude, float of) {
    return bits_float(float_bits(magnitude) | (float_bits(of) & 0x80000000u));
}

INLINE float round_f(float x) {
    float a = bits_float(float_bits(x) & 0x7fffffffu);
    return a < 0x1p23f ? with_sign((a + 0x1p23f) - 0x1p23f, x) : x;
}

INLINE float trunc_f(float x) {
    float a = bits_float(float_bits(x) & 0x7fffffffu);
    float nearest = (a + 0x1p23f) - 0x1p23f;
    return a < 0x1p23f ? with_sign(nearest > a ? nearest - 1.0f : nearest, x) : x;
}

INLINE float floor_f(float x) {
    float nearest = round_f(x);
    return nearest > x ? with_sign(nearest - 1.0f, x) : nearest;
}

/* One or two inputs of equal shape, one output. */
#define DEFINE_POINTWISE(name, cost, expression)                                    \
    static void name##_range(const void *context, int64_t first, int64_t last,      \
                             const struct worker *worker) {                         \
        (void)worker;                                                               \
        const struct call *call = context;                                          \
        const float *first_input = call->in[0];                                     \
        const float *second_input = call->in[1];                                    \
        float *y = call->out[0];                                                    \
        INDEPENDENT for (int64_t i = first; i < last; i++) {                        \
            float u = first_input[i], v = second_input[i];                          \
            (void)v;                                                                \
            y[i] = (expression);                                                    \
        }                                                                           \
    }                                                                               \
    static int name##_operator(const struct call *call) {                           \
        parallel_range(name##_range, call, call->size[0], cost);                    \
        return RUN_OK;                                                              \
    }

/* The binding passes the one input of a unary operator in both places. */
DEFINE_POINTWISE(relu, 1, u != u ? u : (u > 0.0f ? u : 0.0f))
DEFINE_POINTWISE(relu_backward, 1, v <= 0.0f ? 0.0f : u)
DEFINE_POINTWISE(neg, 1, bits_float(float_bits(u) ^ 0x80000000u))
DEFINE_POINTWISE(abs, 1, bits_float(float_bits(u) & 0x7fffffffu))
DEFINE_POINTWISE(sign, 1, u != u ? u : (u > 0.0f ? 1.0f : (u < 0.0f ? -1.0f : 0.0f)))
DEFINE_POINTWISE(floor, 2, floor_f(u))
DEFINE_POINTWISE(ceil, 2, -floor_f(-u))
DEFINE_POINTWISE(trunc, 2, trunc_f(u))
DEFINE_POINTWISE(round, 2, round_f(u))
DEFINE_POINTWISE(sqrt, 2, __builtin_sqrtf(u))
DEFINE_POINTWISE(rsqrt, 4, 1.0f / __builtin_sqrtf(u))
DEFINE_POINTWISE(tanh_backward, 1, u * (1.0f - v * v))
DEFINE_POINTWISE(sigmoid_backward, 1, (u * (1.0f - v)) * v)

#define DEFINE_UNARY_ARRAY(name)                                                    \
    static void name##_range(const void *context, int64_t first, int64_t last,      \
                             const struct worker *worker) {                         \
        (void)worker;                                                               \
        const struct call *call = context;                                          \
        name##_array((const float *)call->in[0] + first,                            \
                     (float *)call->out[0] + first, last - first);                  \
    }                                                                               \
    static int name##_operator(const struct call *call) {                           \
        parallel_range(name##_range, call, call->size[0], 8);                       \
        return RUN_OK;                                                              \
    }

DEFINE_UNARY_ARRAY(exp)
DEFINE_UNARY_ARRAY(log)
DEFINE_UNARY_ARRAY(tanh)
DEFINE_UNARY_ARRAY(sigmoid)
DEFINE_UNARY_ARRAY(erf)
DEFINE_UNARY_ARRAY(sin)
DEFINE_UNARY_ARRAY(cos)
DEFINE_UNARY_ARRAY(gelu)
DEFINE_UNARY_ARRAY(gelu_tanh)
DEFINE_UNARY_ARRAY(silu)

#define DEFINE_BACKWARD_ARRAY(name)                                                 \
    static void name##_range(const void *context, int64_t first, int64_t last,      \
                             const struct worker *worker) {                         \
        (void)worker;                                                               \
        const struct call *call = context;                                          \
        name##_array((const float *)call->in[0] + first,                            \
                     (const float *)call->in[1] + first,                            \
                     (float *)call->out[0] + first, last - first);                  \
    }                                                                               \
    static int name##_operator(const struct call *call) {                           \
        parallel_range(name##_range, call, call->size[0], 8);                       \
        return RUN_OK;                                                              \
    }

DEFINE_BACKWARD_ARRAY(gelu_backward)
DEFINE_BACKWARD_ARRAY(gelu_tanh_backward)
DEFINE_BACKWARD_ARRAY(silu_backward)

static void unary_range(int function, uint32_t first, int64_t n, float *out) {
    enum { BLOCK = 1024 };
    float x[BLOCK];
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t count = minimum(BLOCK, n - start);
        for (int64_t i = 0; i < count; i++) x[i] = bits_float(first + (uint32_t)(start + i));
        if (function == 0) exp_array(x, out + start, count);
        if (function == 1) log_array(x, out + start, count);
        if (function == 2) tanh_array(x, out + start, count);
        if (function == 3) erf_array(x, out + start, count);
        if (function == 4) sin_array(x, out + start, count);
        if (function == 5) cos_array(x, out + start, count);
    }
}

#endif
