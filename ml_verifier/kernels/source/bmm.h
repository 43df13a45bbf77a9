/* Products of many matrices, each in the order of matmul.h. The operands are read and the
 * result is written by strides, so that a permutation of axes costs no copy.
 * size: [0] m, [1] n, [2] k, [3] and [4] extents of the two batch axes, then for a, b and
 * the result: strides of the two batch axes, the rows and the columns. One of a matrix's
 * last two strides is 1; of the result's it is the last. */
#ifndef LOCKSTEP_BMM_H
#define LOCKSTEP_BMM_H

#include "matmul.h"

struct batch {
    const struct call *call;
    int64_t pieces, row_step;
};

static const int64_t *bmm_strides(const struct call *call, int operand) {
    return call->size + 5 + 4 * operand;
}

static int64_t bmm_offset(const struct call *call, int operand, int64_t entry) {
    const int64_t *stride = bmm_strides(call, operand);
    return entry / call->size[4] * stride[0] + entry % call->size[4] * stride[1];
}

static struct strided bmm_operand(const struct call *call, int operand, int64_t entry) {
    const int64_t *stride = bmm_strides(call, operand);
    const float *data = (const float *)call->in[operand] + bmm_offset(call, operand, entry);
    return (struct strided){data, stride[2], stride[3]};
}

static void bmm_task(const void *context, int64_t task, const struct worker *worker) {
    const struct batch *batch = context;
    const struct call *call = batch->call;
    int64_t entry = task / batch->pieces, row = task % batch->pieces * batch->row_step;
    struct product product = {
        call->size[0], call->size[1], call->size[2],
        bmm_operand(call, 0, entry), bmm_operand(call, 1, entry),
        (float *)call->out[0] + bmm_offset(call, 2, entry),
        bmm_strides(call, 2)[2],
    };
    multiply_region(&product, row, minimum(row + batch->row_step, product.m), 0, product.n,
                    worker->scratch);
}

static int bmm_operator(const struct call *call) {
    int64_t m = call->size[0], n = call->size[1];
    int64_t entries = call->size[3] * call->size[4], threads = pool_threads();
    if (entries == 0 || m == 0 || n == 0) return RUN_OK;
    /* Whole matrices where each thread gets several, or as many as any other. */
    int64_t pieces = 1;
    if (entries < 4 * threads && entries % threads != 0)
        pieces = minimum(threads, ceil_div(m, MAX_ROWS));
    struct batch batch = {call, pieces, ceil_div(m, pieces)};
    batch.pieces = ceil_div(m, batch.row_step);
    pool_run(bmm_task, &batch, entries * batch.pieces);
    return RUN_OK;
}

#endif
