/* Layer normalisation of x[R, C] over its rows. size: [0] R, [1] C. */
#ifndef LOCKSTEP_LAYER_NORM_H
#define LOCKSTEP_LAYER_NORM_H

#include "reduction.h"

/* in: x, w, b; out: y, mean, rstd; scalar: eps. */
static void layer_norm_rows(const void *context, int64_t first, int64_t last,
                            const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t width = call->size[1];
    const float *restrict w = call->in[1], *restrict b = call->in[2];
    float count = (float)width;
    for (int64_t row = first; row < last; row++) {
        const float *restrict x = (const float *)call->in[0] + row * width;
        float *restrict y = (float *)call->out[0] + row * width;
        struct lanes lanes;
        float mean = lanes_sum(x, width) / count;
        lanes_clear(&lanes);
        feed_square(&lanes, x, x, mean, 0.0f, width);
        float rstd = 1.0f / __builtin_sqrtf(lanes_fold(&lanes) / count + call->scalar[0]);
        for (int64_t j = 0; j < width; j++) y[j] = fma_f((x[j] - mean) * rstd, w[j], b[j]);
        ((float *)call->out[1])[row] = mean;
        ((float *)call->out[2])[row] = rstd;
    }
}

static int layer_norm_operator(const struct call *call) {
    parallel_range(layer_norm_rows, call, call->size[0], 4 * call->size[1] + 64);
    return RUN_OK;
}

/* The gradient. Row r joins lane r mod 32 of the sums down the columns, so a task takes
 * adjacent lanes with all their rows: it writes those rows of dx and owns those lanes.
 * in: g, x, w, mean, rstd; out: dx, dw, db; shared scratch: [active lanes][2][C]. */
enum { LANES_TOGETHER = 4 };

static int64_t active_lanes(int64_t rows) { return minimum(rows, LANES); }

static int64_t layer_norm_backward_scratch(const struct call *call) {
    return active_lanes(call->size[0]) * 2 * call->size[1] * (int64_t)sizeof(float);
}

static void layer_norm_backward_row(const struct call *call, int64_t row,
                                    float *restrict dw, float *restrict db) {
    int64_t width = call->size[1];
    const float *restrict g = (const float *)call->in[0] + row * width;
    const float *restrict x = (const float *)call->in[1] + row * width;
    const float *restrict w = call->in[2];
    float *restrict dx = (float *)call->out[0] + row * width;
    float mean = ((const float *)call->in[3])[row], rstd = ((const float *)call->in[4])[row];
    float count = (float)width;
    struct lanes plain, weighted;
    lanes_clear(&plain);
    lanes_clear(&weighted);
    for (int64_t start = 0; start < width; start += LANES) {
        int64_t n = minimum(LANES, width - start);
        for (int64_t j = 0; j < n; j++) {
            float gradient = g[start + j], normal = (x[start + j] - mean) * rstd;
            float scaled = gradient * w[start + j];
            plain.lane[j] = plain.lane[j] + scaled;
            weighted.lane[j] = fma_f(scaled, normal, weighted.lane[j]);
            db[start + j] = db[start + j] + gradient;
            dw[start + j] = fma_f(gradient, normal, dw[start + j]);
        }
    }
    plain.fed = weighted.fed = width;
    float c1 = lanes_fold(&plain) / count, c2 = lanes_fold(&weighted) / count;
    for (int64_t j = 0; j < width; j++)
        dx[j] = rstd * ((g[j] * w[j] - c1) - ((x[j] - mean) * rstd) * c2);
}

static void layer_norm_backward_lanes(const void *context, int64_t task,
                                      const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t rows = call->size[0], width = call->size[1];
    int64_t first = task * LANES_TOGETHER;
    int64_t last = minimum(first + LANES_TOGETHER, active_lanes(rows));
    float *sums = (float *)pool_shared_scratch() + first * 2 * width;
    memset(sums, 0, (size_t)((last - first) * 2 * width) * sizeof *sums);
    for (int64_t block = 0; block < rows; block += LANES)
        for (int64_t lane = first; lane < last && block + lane < rows; lane++) {
            float *sum = sums + (lane - first) * 2 * width;
            layer_norm_backward_row(call, block + lane, sum, sum + width);
        }
}

/* Folds the lanes of the columns given; +0 is added once for lanes without rows. */
static void layer_norm_backward_fold(const void *context, int64_t first, int64_t last,
                                     const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t width = call->size[1], active = active_lanes(call->size[0]);
    float *sums = pool_shared_scratch();
    for (int w = LANES / 2; w > 0; w /= 2) {
        for (int64_t l = 0; l + w < active; l++)
            for (int64_t half = 0; half < 2; half++) {
                float *restrict into = sums + (2 * l + half) * width;
                const float *restrict from = sums + (2 * (l + w) + half) * width;
                for (int64_t j = first; j < last; j++) into[j] = into[j] + from[j];
            }
        active = minimum(active, w);
    }
    float *restrict dw = call->out[1], *restrict db = call->out[2];
    for (int64_t j = first; j < last; j++) {
        dw[j] = sums[j] + 0.0f;
        db[j] = sums[width + j] + 0.0f;
    }
}

static int layer_norm_backward_operator(const struct call *call) {
    int64_t rows = call->size[0], width = call->size[1];
    if (rows == 0 || width == 0) {
        memset(call->out[1], 0, (size_t)width * sizeof(float));
        memset(call->out[2], 0, (size_t)width * sizeof(float));
        return RUN_OK;
    }
    pool_run(layer_norm_backward_lanes, call, ceil_div(active_lanes(rows), LANES_TOGETHER));
    parallel_range(layer_norm_backward_fold, call, width, 63);
    return RUN_OK;
}

#endif
