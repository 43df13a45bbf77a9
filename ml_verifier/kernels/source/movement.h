/* Data movement, canonical NaN, and finiteness. */
#ifndef LOCKSTEP_MOVEMENT_H
#define LOCKSTEP_MOVEMENT_H

#include "nest.h"

#include <stdatomic.h>

/* reshape, transpose, broadcast, slice, flip, literal: the output in row-major order, the
 * input by strides. size: as in nest.h for one operand, then at WALK_END the bytes of an
 * element (1, 2, 4 or 8) and the input's first element. */
#define DEFINE_STRIDED(type, name)                                                  \
    static void name(const void *const in[], const int64_t step[], void *out,       \
                     int64_t n) {                                                   \
        const type *restrict x = in[0];                                             \
        type *restrict y = out;                                                     \
        int64_t stride = step[0];                                                   \
        if (stride == 1)                                                            \
            memcpy(y, x, (size_t)n * sizeof *y);                                    \
        else if (stride == 0)                                                       \
            for (int64_t i = 0; i < n; i++) y[i] = x[0];                            \
        else if (stride == -1)                                                      \
            for (int64_t i = 0; i < n; i++) y[i] = x[-i];                           \
        else                                                                        \
            for (int64_t i = 0; i < n; i++) y[i] = x[i * stride];                   \
    }
DEFINE_STRIDED(uint8_t, strided_run_1)
DEFINE_STRIDED(uint16_t, strided_run_2)
DEFINE_STRIDED(uint32_t, strided_run_4)
DEFINE_STRIDED(uint64_t, strided_run_8)

static int strided_copy_operator(const struct call *call) {
    int64_t bytes = call->size[WALK_END];
    struct walk_job job = {.call = call,
                           .run = bytes == 1   ? strided_run_1
                                  : bytes == 2 ? strided_run_2
                                  : bytes == 4 ? strided_run_4
                                               : strided_run_8,
                           .operands = 1,
                           .bytes = {bytes},
                           .out_bytes = bytes,
                           .offset = call->size[WALK_END + 1]};
    return walk(&job);
}

/* n elements of `bytes` bytes, each holding the low bits of `pattern`. */
static void fill_elements(void *out, int64_t bytes, uint64_t pattern, int64_t n) {
    if (bytes == 1)
        memset(out, (int)pattern, (size_t)n);
    else if (bytes == 2)
        for (int64_t i = 0; i < n; i++) ((uint16_t *)out)[i] = (uint16_t)pattern;
    else if (bytes == 4)
        for (int64_t i = 0; i < n; i++) ((uint32_t *)out)[i] = (uint32_t)pattern;
    else
        for (int64_t i = 0; i < n; i++) ((uint64_t *)out)[i] = pattern;
}

/* size: [0] bytes of an element, [1] rank (1 to 8), then rows of 8: [2] output extents,
 * [10] padding before, [18] input extents; [26] the bits of a padding element. */
enum { PAD_OUT = 2, PAD_BEFORE = 10, PAD_IN = 18, PAD_BITS = 26 };

static void pad_range(const void *context, int64_t first, int64_t last,
                      const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    const int64_t *extent = call->size + PAD_OUT, *before = call->size + PAD_BEFORE;
    const int64_t *source = call->size + PAD_IN;
    int64_t bytes = call->size[0], inner = call->size[1] - 1, index[8], rest = first;
    uint64_t bits = (uint64_t)call->size[PAD_BITS];
    for (int64_t d = inner; d >= 0; d--) {
        index[d] = rest % extent[d];
        rest /= extent[d];
    }
    while (first < last) {
        char *y = (char *)call->out[0] + first * bytes;
        int64_t start = index[inner], end = minimum(extent[inner], start + last - first);
        int64_t row = 0, within = 1;
        for (int64_t d = 0; d < inner; d++) {
            int64_t k = index[d] - before[d];
            within &= k >= 0 && k < source[d];
            row = row * source[d] + k;
        }
        /* The part of [start, end) that the input's row covers. */
        int64_t low = maximum(start, minimum(before[inner], end));
        int64_t high = maximum(low, minimum(before[inner] + source[inner], end));
        if (!within) low = high = end;
        fill_elements(y, bytes, bits, low - start);
        if (high > low)
            memcpy(y + (low - start) * bytes,
                   (const char *)call->in[0] +
                       (row * source[inner] + low - before[inner]) * bytes,
                   (size_t)((high - low) * bytes));
        fill_elements(y + (high - start) * bytes, bytes, bits, end - high);
        first += end - start;
        index[inner] = 0;
        for (int64_t d = inner - 1; d >= 0 && ++index[d] == extent[d]; d--) index[d] = 0;
    }
}

static int pad_operator(const struct call *call) {
    int64_t n = 1;
    for (int64_t d = 0; d < call->size[1]; d++) n *= call->size[PAD_OUT + d];
    parallel_range(pad_range, call, n, 1);
    return RUN_OK;
}

/* size: [0] inputs (1 to 8), [1] rows, [2..9] bytes of a row of each. A row of the output
 * is theirs, one after the other. */
static void concat_range(const void *context, int64_t first, int64_t last,
                         const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    const int64_t *part = call->size + 2;
    int64_t inputs = call->size[0], width = 0;
    for (int64_t i = 0; i < inputs; i++) width += part[i];
    int64_t row = first / width, at = first % width; /* where the next byte goes */
    while (first < last) {
        int64_t start = 0;
        for (int64_t i = 0; i < inputs && first < last; start += part[i++]) {
            int64_t skip = at - start, n = minimum(part[i] - skip, last - first);
            if (n <= 0) continue;
            memcpy((char *)call->out[0] + first,
                   (const char *)call->in[i] + row * part[i] + skip, (size_t)n);
            first += n;
            at += n;
        }
        at = 0;
        row++;
    }
}

static int concat_operator(const struct call *call) {
    int64_t width = 0;
    for (int64_t i = 0; i < call->size[0]; i++) width += call->size[2 + i];
    parallel_range(concat_range, call, call->size[1] * width, 1);
    return RUN_OK;
}

static void iota_range(const void *context, int64_t first, int64_t last,
                       const struct worker *worker) {
    (void)worker;
    int64_t *y = ((const struct call *)context)->out[0];
    for (int64_t i = first; i < last; i++) y[i] = i;
}

static int iota_operator(const struct call *call) {
    parallel_range(iota_range, call, call->size[0], 1);
    return RUN_OK;
}

static int fill_operator(const struct call *call) {
    float *restrict y = call->out[0];
    float value = call->scalar[0];
    for (int64_t i = 0; i < call->size[0]; i++) y[i] = value;
    return RUN_OK;
}

/* In place; as integers, so that no instruction touches a payload. */
static void canonicalise_range(const void *context, int64_t first, int64_t last,
                               const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    uint32_t *x = call->out[0];
    for (int64_t i = first; i < last; i++) {
        uint32_t bits = x[i];
        x[i] = (bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc00000u : bits;
    }
}

static int canonicalise_operator(const struct call *call) {
    parallel_range(canonicalise_range, call, call->size[0], 1);
    return RUN_OK;
}

struct finite_job {
    const uint32_t *x;
    _Atomic int *found; /* an element that is not finite */
};

/* The bits of a bfloat16, two elements in each word. */
static void all_finite_halves(const void *context, int64_t first, int64_t last,
                              const struct worker *worker) {
    (void)worker;
    const struct finite_job *job = context;
    const uint16_t *x = (const uint16_t *)job->x;
    uint16_t bad = 0;
    for (int64_t i = first; i < last; i++) bad |= (uint16_t)((x[i] & 0x7f80u) == 0x7f80u);
    if (bad) atomic_store(job->found, 1);
}

static void all_finite_range(const void *context, int64_t first, int64_t last,
                             const struct worker *worker) {
    enum { BLOCK = 4096 };
    (void)worker;
    const struct finite_job *job = context;
    for (int64_t start = first; start < last; start += BLOCK) {
        int64_t end = minimum(start + BLOCK, last);
        uint32_t bad = 0;
        for (int64_t i = start; i < end; i++)
            bad |= (uint32_t)((job->x[i] & 0x7f800000u) == 0x7f800000u);
        if (!bad) continue;
        atomic_store(job->found, 1);
        return;
    }
}

/* The result is 1 when all elements are finite, else 0. */
static int all_finite_operator(const struct call *call) {
    _Atomic int found = 0;
    struct finite_job job = {call->in[0], &found};
    parallel_range(all_finite_range, &job, call->size[0], 1);
    return !atomic_load(&found);
}

/* Traps unless all elements are finite; size[1]: bytes of one, 4 or 2. */
static int require_finite_operator(const struct call *call) {
    _Atomic int found = 0;
    struct finite_job job = {call->in[0], &found};
    range_body body = call->size[1] == 2 ? all_finite_halves : all_finite_range;
    parallel_range(body, &job, call->size[0], 1);
    return atomic_load(&found) ? RUN_TRAP : RUN_OK;
}

#endif
