/* Batch normalisation of x[N, C, L]: a channel's elements are enumerated over (n, l).
 * size: [0] N, [1] C, [2] L. */
#ifndef LOCKSTEP_NORMALISATION_H
#define LOCKSTEP_NORMALISATION_H

#include "reduction.h"

typedef void (*feed)(struct lanes *lanes, const float *x, const float *z, float c, float d,
                     int64_t n);

/* Feeds a channel of x (and z beside it) over all samples. */
static float channel_reduction(feed feed_run, const struct call *call, const float *x,
                               const float *z, float c, float d) {
    int64_t samples = call->size[0], stride = call->size[1] * call->size[2];
    struct lanes lanes;
    lanes_clear(&lanes);
    for (int64_t n = 0; n < samples; n++)
        feed_run(&lanes, x + n * stride, z + n * stride, c, d, call->size[2]);
    return lanes_fold(&lanes);
}

/* in: x, w, b, running mean, running variance; out: y, mean, rstd, running mean',
 * running variance'; scalar: momentum, eps. */
static void batch_norm_channels(const void *context, int64_t first, int64_t last,
                                const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t samples = call->size[0], channels = call->size[1], length = call->size[2];
    float count = (float)(samples * length), momentum = call->scalar[0];
    for (int64_t c = first; c < last; c++) {
        const float *x = (const float *)call->in[0] + c * length;
        float weight = ((const float *)call->in[1])[c], bias = ((const float *)call->in[2])[c];
        float mean = channel_reduction(feed_sum, call, x, x, 0.0f, 0.0f) / count;
        float square = channel_reduction(feed_square, call, x, x, mean, 0.0f);
        float rstd = 1.0f / __builtin_sqrtf(square / count + call->scalar[1]);
        for (int64_t n = 0; n < samples; n++) {
            const float *from = x + n * channels * length;
            float *to = (float *)call->out[0] + (n * channels + c) * length;
            INDEPENDENT for (int64_t l = 0; l < length; l++)
                to[l] = fma_f((from[l] - mean) * rstd, weight, bias);
        }
        float rest = 1.0f - momentum;
        ((float *)call->out[1])[c] = mean;
        ((float *)call->out[2])[c] = rstd;
        ((float *)call->out[3])[c] =
            fma_f(momentum, mean, rest * ((const float *)call->in[3])[c]);
        ((float *)call->out[4])[c] =
            fma_f(momentum, square / (count - 1.0f), rest * ((const float *)call->in[4])[c]);
    }
}

static int batch_norm_operator(const struct call *call) {
    parallel_range(batch_norm_channels, call, call->size[1], 6 * call->size[0] * call->size[2]);
    return RUN_OK;
}

/* in: g, x, w, mean, rstd; out: dx, dw, db. */
static void batch_norm_backward_channels(const void *context, int64_t first, int64_t last,
                                         const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t samples = call->size[0], channels = call->size[1], length = call->size[2];
    float count = (float)(samples * length);
    for (int64_t c = first; c < last; c++) {
        const float *g = (const float *)call->in[0] + c * length;
        const float *x = (const float *)call->in[1] + c * length;
        float mean = ((const float *)call->in[3])[c], rstd = ((const float *)call->in[4])[c];
        float db = channel_reduction(feed_sum, call, g, g, 0.0f, 0.0f);
        float dw = channel_reduction(feed_product, call, x, g, mean, rstd);
        float c1 = db / count, c2 = dw / count;
        float scale = ((const float *)call->in[2])[c] * rstd;
        for (int64_t n = 0; n < samples; n++) {
            const float *gradient = g + n * channels * length;
            const float *from = x + n * channels * length;
            float *to = (float *)call->out[0] + (n * channels + c) * length;
            INDEPENDENT for (int64_t l = 0; l < length; l++)
                to[l] = scale * ((gradient[l] - c1) - ((from[l] - mean) * rstd) * c2);
        }
        ((float *)call->out[1])[c] = dw;
        ((float *)call->out[2])[c] = db;
    }
}

static int batch_norm_backward_operator(const struct call *call) {
    parallel_range(batch_norm_backward_channels, call, call->size[1],
                   6 * call->size[0] * call->size[2]);
    return RUN_OK;
}

#endif
