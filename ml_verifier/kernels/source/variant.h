/* Compiled once per instruction set, with ISA the variant's name. All functions of the
 * variant are static; only its table is visible to the dispatcher. */
#ifndef LOCKSTEP_VARIANT_H
#define LOCKSTEP_VARIANT_H

#include "kernels.h"

#include <float.h>
#include <stddef.h>
#include <string.h>

#ifdef __FAST_MATH__
#error "kernels must not be compiled with -ffast-math: they define IEEE-754 results"
#endif
#if FLT_EVAL_METHOD != 0
#error "float expressions must be evaluated in float (x87 arithmetic is not supported)"
#endif

#define restrict __restrict__
#define INLINE static inline __attribute__((always_inline))

/* Before a loop whose iterations touch different elements (an output may be the very
 * buffer of an input): the compiler need not test for overlaps. */
#ifdef __clang__
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define INDEPENDENT _Pragma("GCC ivdep")
#endif

/* Before a loop with a small constant count that must live in registers. */
#define UNROLL _Pragma("GCC unroll 16")

enum { LANES = 32 }; /* of the one reduction order */

#define INFINITY_F __builtin_inff()
#define NAN_F __builtin_nanf("")

INLINE uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE uint64_t double_bits(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

INLINE double bits_double(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE int64_t minimum(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t maximum(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/* The outputs [low, high) for which index * stride + shift lies in [0, extent). */
INLINE void inside(int64_t shift, int64_t stride, int64_t extent, int64_t outputs,
                   int64_t *low, int64_t *high) {
    *low = shift >= 0 ? 0 : minimum(outputs, ceil_div(-shift, stride));
    *high = extent <= shift ? 0 : minimum(outputs, ceil_div(extent - shift, stride));
    *high = maximum(*low, *high);
}

#if defined(__FMA__) || defined(__aarch64__)
#define HARDWARE_FMA 1
#endif
#ifdef LOCKSTEP_PORTABLE
#undef HARDWARE_FMA
#endif

/* a * b + c in one rounding. Without the instruction: the product is exact in double;
 * the sum is rounded to odd there (its error is known exactly from two-sum), and
 * rounding an odd-rounded 53-bit value to 24 bits is the single rounding wanted
 * (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums", 2008). */
INLINE float fma_f(float a, float b, float c) {
#ifdef HARDWARE_FMA
    return __builtin_fmaf(a, b, c);
#else
    double product = (double)a * (double)b;
    double addend = (double)c;
    double sum = product + addend;
    double part = sum - product;
    double error = (product - (sum - part)) + (addend - part);
    uint64_t bits = double_bits(sum);
    uint64_t sign_of_step = (double_bits(error) ^ bits) >> 63; /* 1: toward zero */
    /* A NaN error comes from an infinite or NaN sum, which stands as it is. */
    uint64_t inexact_and_even = (uint64_t)((error < 0.0) | (error > 0.0)) & ~bits & 1;
    bits += inexact_and_even - 2 * (inexact_and_even & sign_of_step);
    return (float)bits_double(bits);
#endif
}

/* Splits [0, n) into tasks of `grain` and runs them on the pool; small work stays here. */
typedef void (*range_body)(const void *context, int64_t first, int64_t last,
                           const struct worker *worker);
struct range_job {
    range_body body;
    const void *context;
    int64_t n, grain;
};

static void range_task(const void *context, int64_t task, const struct worker *worker) {
    const struct range_job *job = context;
    int64_t first = task * job->grain;
    job->body(job->context, first, minimum(first + job->grain, job->n), worker);
}

/* `cost` is the work of one index in elementary operations. */
static void parallel_range(range_body body, const void *context, int64_t n, int64_t cost) {
    enum { SMALLEST = LOCKSTEP_SMALLEST_TASK, PIECES = 4 };
    int64_t least = maximum(1, SMALLEST / maximum(cost, 1));
    int64_t even = ceil_div(n, PIECES * pool_threads());
    int64_t grain = maximum(least, even);
    if (pool_threads() == 1) grain = maximum(n, 1);
    /* Whole cache lines of float per task where the index is an element. */
    if (cost < 64) grain = ceil_div(grain, 64) * 64;
    struct range_job job = {body, context, n, grain};
    pool_run(range_task, &job, ceil_div(n, grain));
}

#endif
