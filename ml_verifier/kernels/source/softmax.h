/* softmax over the last axis and its gradient. size: [0] rows, [1] classes; softmax: [2] 1
 * when a row whose maximum is -inf gives zeros. */
#ifndef LOCKSTEP_SOFTMAX_H
#define LOCKSTEP_SOFTMAX_H

#include "reduction.h"

/* e = exp(x - most), returning the sum; d is scratch for SOFTMAX_BLOCK values. */
static float exponentials(const float *restrict x, float *restrict e, float *restrict d,
                          float most, int64_t classes) {
    struct lanes lanes;
    lanes_clear(&lanes);
    for (int64_t start = 0; start < classes; start += SOFTMAX_BLOCK) {
        int64_t n = minimum(SOFTMAX_BLOCK, classes - start);
        for (int64_t j = 0; j < n; j++) d[j] = x[start + j] - most;
        exp_array(d, e + start, n);
        feed_sum(&lanes, e + start, e + start, 0.0f, 0.0f, n);
    }
    return lanes_fold(&lanes);
}

/* y holds a row's exponentials. */
static void softmax_finish(float *restrict y, float sum, int zero, int64_t classes) {
    if (zero)
        memset(y, 0, (size_t)classes * sizeof *y);
    else
        for (int64_t j = 0; j < classes; j++) y[j] = y[j] / sum;
}

static void softmax_rows(const void *context, int64_t first, int64_t last,
                         const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t classes = call->size[1], safe = call->size[2];
    int64_t together = maximum(1, SOFTMAX_BLOCK / maximum(classes, 1));
    float d[SOFTMAX_BLOCK], most[SOFTMAX_BLOCK];
    for (int64_t row = first; row < last; row += together) {
        int64_t rows = minimum(together, last - row);
        const float *x = (const float *)call->in[0] + row * classes;
        float *y = (float *)call->out[0] + row * classes;
        for (int64_t r = 0; r < rows; r++)
            most[r] = row_maximum(x + r * classes, classes);
        if (rows == 1) {
            float sum = exponentials(x, y, d, most[0], classes);
            softmax_finish(y, sum, safe && most[0] == -INFINITY_F, classes);
            continue;
        }
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = 0; j < classes; j++)
                d[r * classes + j] = x[r * classes + j] - most[r];
        exp_array(d, y, rows * classes);
        for (int64_t r = 0; r < rows; r++) {
            float sum = lanes_sum(y + r * classes, classes);
            softmax_finish(y + r * classes, sum, safe && most[r] == -INFINITY_F, classes);
        }
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
