/* Data movement, canonical NaN, finiteness, and the counter-based generator. */
#ifndef LOCKSTEP_MOVEMENT_H
#define LOCKSTEP_MOVEMENT_H

#include "variant.h"

#include <stdatomic.h>

/* transpose, broadcast, reshape: the output in row-major order, the input by strides.
 * size: [0] bytes of an element (4 or 8), [1] rank (1 to 8), [2..9] output extents,
 * [10..17] input strides in elements. */
#define DEFINE_STRIDED(type, name)                                                  \
    static void name(const type *restrict x, int64_t stride, type *restrict y,      \
                     int64_t n) {                                                   \
        if (stride == 1)                                                            \
            memcpy(y, x, (size_t)n * sizeof *y);                                    \
        else                                                                        \
            for (int64_t i = 0; i < n; i++) y[i] = x[i * stride];                   \
    }
DEFINE_STRIDED(uint32_t, strided_run_4)
DEFINE_STRIDED(uint64_t, strided_run_8)

static void strided_rows(const void *context, int64_t first, int64_t last,
                         const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    const int64_t *extent = call->size + 2, *stride = call->size + 10;
    int64_t inner = call->size[1] - 1, n = extent[inner];
    for (int64_t row = first; row < last; row++) {
        int64_t offset = 0, rest = row;
        for (int64_t d = inner - 1; d >= 0; d--) {
            offset += rest % extent[d] * stride[d];
            rest /= extent[d];
        }
        if (call->size[0] == 4)
            strided_run_4((const uint32_t *)call->in[0] + offset, stride[inner],
                          (uint32_t *)call->out[0] + row * n, n);
        else
            strided_run_8((const uint64_t *)call->in[0] + offset, stride[inner],
                          (uint64_t *)call->out[0] + row * n, n);
    }
}

static int strided_copy_operator(const struct call *call) {
    const int64_t *extent = call->size + 2;
    int64_t rows = 1;
    for (int64_t d = 0; d + 1 < call->size[1]; d++) rows *= extent[d];
    parallel_range(strided_rows, call, rows, extent[call->size[1] - 1]);
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

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC11). out[i] = fma(u, width, low), u = (word >> 8) * 2^-24, where element i
 * is word i mod 4 of block i / 4. size: [0] elements, [1] key, [2] and [3] counter words
 * 2 and 3. scalar: width, low. */
static void philox_block(uint32_t counter[4], uint32_t key0, uint32_t key1) {
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xd2511f53u * counter[0];
        uint64_t p1 = (uint64_t)0xcd9e8d57u * counter[2];
        uint32_t c0 = (uint32_t)(p1 >> 32) ^ counter[1] ^ key0;
        uint32_t c2 = (uint32_t)(p0 >> 32) ^ counter[3] ^ key1;
        counter[1] = (uint32_t)p1;
        counter[3] = (uint32_t)p0;
        counter[0] = c0;
        counter[2] = c2;
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
}

static void philox_range(const void *context, int64_t first, int64_t last,
                         const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    float *out = call->out[0];
    uint64_t key = (uint64_t)call->size[1];
    for (int64_t block = first; block < last; block++) {
        uint32_t word[4] = {(uint32_t)block, (uint32_t)((uint64_t)block >> 32),
                            (uint32_t)call->size[2], (uint32_t)call->size[3]};
        philox_block(word, (uint32_t)key, (uint32_t)(key >> 32));
        for (int64_t w = 0; w < 4 && 4 * block + w < call->size[0]; w++)
            out[4 * block + w] =
                fma_f((float)(word[w] >> 8) * 0x1p-24f, call->scalar[0], call->scalar[1]);
    }
}

static int philox_uniform_operator(const struct call *call) {
    parallel_range(philox_range, call, ceil_div(call->size[0], 4), 40);
    return RUN_OK;
}

#endif
