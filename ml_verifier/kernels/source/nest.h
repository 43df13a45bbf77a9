/* Walks over an output in row-major order whose operands step by strides, 0 where they
 * broadcast. size: [0] rank (1 to 8), then rows of 8: [1] the output's extents, and for
 * each operand its strides in elements, [9], [17], [25]. Where an operand's steps matter
 * to the loops (all but the copies), the innermost ones are 0 or 1. */
#ifndef LOCKSTEP_NEST_H
#define LOCKSTEP_NEST_H

#include "variant.h"

enum { WALK_RANK = 8, WALK_OPERANDS = 3, WALK_END = 1 + (1 + WALK_OPERANDS) * WALK_RANK };

/* n consecutive outputs from operands that step by `step` elements. */
typedef void (*walk_run)(const void *const in[], const int64_t step[], void *out, int64_t n);

struct walk_job {
    const struct call *call;
    walk_run run;
    int64_t operands;
    int64_t bytes[WALK_OPERANDS], out_bytes; /* of an element */
    int64_t offset;                          /* of operand 0's first element */
};

/* Outputs [first, last): a task may begin and end within a row. */
static void walk_range(const void *context, int64_t first, int64_t last,
                       const struct worker *worker) {
    (void)worker;
    const struct walk_job *job = context;
    const int64_t *extent = job->call->size + 1, inner = job->call->size[0] - 1;
    const int64_t *stride = extent + WALK_RANK;
    int64_t operands = job->operands, index[WALK_RANK], rest = first;
    int64_t offset[WALK_OPERANDS] = {job->offset}, step[WALK_OPERANDS] = {0};
    for (int64_t d = inner; d >= 0; d--) {
        index[d] = rest % extent[d];
        rest /= extent[d];
        for (int64_t o = 0; o < operands; o++) offset[o] += index[d] * stride[o * WALK_RANK + d];
    }
    for (int64_t o = 0; o < operands; o++) step[o] = stride[o * WALK_RANK + inner];
    while (first < last) {
        const void *in[WALK_OPERANDS];
        int64_t n = minimum(extent[inner] - index[inner], last - first);
        for (int64_t o = 0; o < operands; o++)
            in[o] = (const char *)job->call->in[o] + offset[o] * job->bytes[o];
        job->run(in, step, (char *)job->call->out[0] + first * job->out_bytes, n);
        first += n;
        for (int64_t o = 0; o < operands; o++) offset[o] -= index[inner] * step[o];
        index[inner] = 0;
        for (int64_t d = inner - 1; d >= 0; d--) {
            for (int64_t o = 0; o < operands; o++) offset[o] += stride[o * WALK_RANK + d];
            if (++index[d] < extent[d]) break;
            for (int64_t o = 0; o < operands; o++)
                offset[o] -= extent[d] * stride[o * WALK_RANK + d];
            index[d] = 0;
        }
    }
}

static int walk(const struct walk_job *job) {
    int64_t n = 1;
    for (int64_t d = 0; d < job->call->size[0]; d++) n *= job->call->size[1 + d];
    parallel_range(walk_range, job, n, 1);
    return RUN_OK;
}

/* The run of y = expression of u and v, with each combination of steps a loop of its own. */
#define DEFINE_RUN_2(name, in_type, out_type, expression)                           \
    INLINE void name##_stepping(const in_type *restrict a, int64_t step_a,          \
                                const in_type *restrict b, int64_t step_b,          \
                                out_type *restrict y, int64_t n) {                  \
        INDEPENDENT for (int64_t i = 0; i < n; i++) {                               \
            in_type u = a[i * step_a], v = b[i * step_b];                           \
            y[i] = (out_type)(expression);                                          \
        }                                                                           \
    }                                                                               \
    static void name(const void *const in[], const int64_t step[], void *out,       \
                     int64_t n) {                                                   \
        if (step[0] && step[1])                                                     \
            name##_stepping(in[0], 1, in[1], 1, out, n);                            \
        else if (step[0])                                                           \
            name##_stepping(in[0], 1, in[1], 0, out, n);                            \
        else                                                                        \
            name##_stepping(in[0], 0, in[1], 1, out, n);                            \
    }

#endif
