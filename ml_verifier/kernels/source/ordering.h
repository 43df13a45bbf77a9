/* Order along the last axis: sort, cumulative sum, greatest element and where it is.
 * size: [0] rows, [1] C, at least 1; sort: [2] descending. */
#ifndef LOCKSTEP_ORDERING_H
#define LOCKSTEP_ORDERING_H

#include "reduction.h"

/* ---- sort ---- in: x. out: values, indices i64.
 * A row's elements become words of key << 32 | index; the keys order as the elements do,
 * -0 equal to +0 and every NaN equal and greatest. A stable radix sort by the key alone
 * then leaves equal keys in ascending index, since that is how they came. */

enum { SORT_LENGTH = 16384, DIGIT = 8, DIGITS = 32 / DIGIT, BUCKETS = 1 << DIGIT };
enum { INSERTION = 48 }; /* rows up to this long are sorted by insertion */

struct sort_scratch {
    uint64_t words[2][SORT_LENGTH];
};

INLINE uint32_t sort_key(float value, uint32_t flip) {
    uint32_t bits = float_bits(value);
    bits = bits == 0x80000000u ? 0 : bits;
    uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    key = (bits & 0x7fffffffu) > 0x7f800000u ? 0xffffffffu : key;
    return key ^ flip;
}

static void insertion_sort(uint64_t *words, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        uint64_t word = words[i];
        int64_t j = i;
        for (; j > 0 && words[j - 1] > word; j--) words[j] = words[j - 1];
        words[j] = word;
    }
}

/* Returns where the sorted words are. */
static const uint64_t *radix_sort(struct sort_scratch *scratch, int64_t n) {
    uint32_t start[DIGITS][BUCKETS];
    uint64_t *from = scratch->words[0], *to = scratch->words[1];
    memset(start, 0, sizeof start);
    for (int64_t i = 0; i < n; i++)
        for (int d = 0; d < DIGITS; d++)
            start[d][from[i] >> (32 + DIGIT * d) & (BUCKETS - 1)]++;
    for (int d = 0; d < DIGITS; d++) {
        int shift = 32 + DIGIT * d;
        if (start[d][from[0] >> shift & (BUCKETS - 1)] == n) continue; /* all alike */
        uint32_t sum = 0;
        for (int b = 0; b < BUCKETS; b++) {
            uint32_t count = start[d][b];
            start[d][b] = sum;
            sum += count;
        }
        for (int64_t i = 0; i < n; i++)
            to[start[d][from[i] >> shift & (BUCKETS - 1)]++] = from[i];
        uint64_t *other = from;
        from = to;
        to = other;
    }
    return from;
}

static void sort_rows(const void *context, int64_t first, int64_t last,
                      const struct worker *worker) {
    const struct call *call = context;
    struct sort_scratch *scratch = worker->scratch;
    int64_t n = call->size[1];
    uint32_t flip = call->size[2] ? 0xffffffffu : 0;
    for (int64_t row = first; row < last; row++) {
        const float *restrict x = (const float *)call->in[0] + row * n;
        float *restrict values = (float *)call->out[0] + row * n;
        int64_t *restrict indices = (int64_t *)call->out[1] + row * n;
        const uint64_t *sorted = scratch->words[0];
        for (int64_t i = 0; i < n; i++)
            scratch->words[0][i] = (uint64_t)sort_key(x[i], flip) << 32 | (uint64_t)i;
        if (n <= INSERTION)
            insertion_sort(scratch->words[0], n);
        else
            sorted = radix_sort(scratch, n);
        for (int64_t i = 0; i < n; i++) indices[i] = (int64_t)(sorted[i] & 0xffffffffu);
        for (int64_t i = 0; i < n; i++) values[i] = x[sorted[i] & 0xffffffffu];
    }
}

static int sort_operator(const struct call *call) {
    parallel_range(sort_rows, call, call->size[0], 32 * call->size[1]);
    return RUN_OK;
}

/* ---- cumsum ---- in: x. out: y. Rows side by side: each is one chain of additions. */

enum { SIDE_BY_SIDE = 8 };

static void cumsum_together(const float *restrict x, float *restrict y, int64_t n) {
    float sum[SIDE_BY_SIDE] = {0};
    for (int64_t j = 0; j < n; j++)
        UNROLL for (int r = 0; r < SIDE_BY_SIDE; r++) {
            sum[r] = sum[r] + x[r * n + j];
            y[r * n + j] = sum[r];
        }
}

static void cumsum_rows(const void *context, int64_t first, int64_t last,
                        const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t n = call->size[1], row = first;
    const float *x = call->in[0];
    float *y = call->out[0];
    for (; row + SIDE_BY_SIDE <= last; row += SIDE_BY_SIDE)
        cumsum_together(x + row * n, y + row * n, n);
    for (; row < last; row++) {
        float sum = 0.0f;
        for (int64_t j = row * n; j < (row + 1) * n; j++) {
            sum = sum + x[j];
            y[j] = sum;
        }
    }
}

static int cumsum_operator(const struct call *call) {
    parallel_range(cumsum_rows, call, call->size[0], 2 * call->size[1]);
    return RUN_OK;
}

/* ---- amax, argmax ---- in: x. out: y, an element a row. */

static void amax_rows(const void *context, int64_t first, int64_t last,
                      const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t n = call->size[1];
    for (int64_t row = first; row < last; row++) {
        const float *x = (const float *)call->in[0] + row * n;
        float most = row_maximum(x, n);
        if (most == 0.0f) { /* of either sign: +0 if there is one */
            int64_t j = 0;
            while (j < n && float_bits(x[j]) != 0) j++;
            most = j < n ? 0.0f : -0.0f;
        }
        ((float *)call->out[0])[row] = most;
    }
}

static int amax_operator(const struct call *call) {
    parallel_range(amax_rows, call, call->size[0], 2 + call->size[1] / 8);
    return RUN_OK;
}

/* The first element that equals `wanted`, or for a NaN the first NaN. */
static int64_t first_like(const float *x, float wanted, int64_t n) {
    enum { BLOCK = 64 };
    int64_t j = 0;
    for (; j + BLOCK <= n; j += BLOCK) {
        int found = 0;
        for (int i = 0; i < BLOCK; i++)
            found |= (x[j + i] == wanted) | ((x[j + i] != x[j + i]) & (wanted != wanted));
        if (found) break;
    }
    while (!(x[j] == wanted || (x[j] != x[j] && wanted != wanted))) j++;
    return j;
}

static void argmax_rows(const void *context, int64_t first, int64_t last,
                        const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t n = call->size[1];
    for (int64_t row = first; row < last; row++) {
        const float *x = (const float *)call->in[0] + row * n;
        ((int64_t *)call->out[0])[row] = first_like(x, row_maximum(x, n), n);
    }
}

static int argmax_operator(const struct call *call) {
    parallel_range(argmax_rows, call, call->size[0], 2 + call->size[1] / 4);
    return RUN_OK;
}

#endif
