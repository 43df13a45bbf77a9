/* softmax over the last axis and its gradient. size: [0] rows, [1] classes; softmax: [2] 1
 * when a row whose maximum is -inf gives zeros. */
#ifndef LOCKSTEP_SOFTMAX_H
#define LOCKSTEP_SOFTMAX_H

#include "reduction.h"

static void softmax_rows(const void *context, int64_t first, int64_t last,
                         const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t classes = call->size[1], safe = call->size[2];
    for (int64_t row = first; row < last; row++) {
        const float *restrict x = (const float *)call->in[0] + row * classes;
        float *restrict y = (float *)call->out[0] + row * classes;
        float most = row_maximum(x, classes);
        if (safe && most == -INFINITY_F) {
            memset(y, 0, (size_t)classes * sizeof *y);
            continue;
        }
        float sum = exponentials(x, most, y, classes);
        for (int64_t j = 0; j < classes; j++) y[j] = y[j] / sum;
    }
}

static int softmax_operator(const struct call *call) {
    if (call->size[1] > 0)
        parallel_range(softmax_rows, call, call->size[0], 12 * call->size[1]);
    return RUN_OK;
}

/* in: g, y; out: dx. */
static void softmax_backward_rows(const void *context, int64_t first, int64_t last,
                                  const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t classes = call->size[1];
    for (int64_t row = first; row < last; row++) {
        const float *restrict g = (const float *)call->in[0] + row * classes;
        const float *restrict y = (const float *)call->in[1] + row * classes;
        float *restrict dx = (float *)call->out[0] + row * classes;
        struct lanes lanes;
        lanes_clear(&lanes);
        feed_dot(&lanes, g, y, 0.0f, 0.0f, classes);
        float sum = lanes_fold(&lanes);
        for (int64_t j = 0; j < classes; j++) dx[j] = y[j] * (g[j] - sum);
    }
}

static int softmax_backward_operator(const struct call *call) {
    parallel_range(softmax_backward_rows, call, call->size[0], 3 * call->size[1] + 64);
    return RUN_OK;
}

#endif
