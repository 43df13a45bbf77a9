/* Pooling over windows of [planes, H, W]; planes are independent.
 * size: [0] planes, [1] H, [2] W, [3] OH, [4] OW, [5] [6] kernel, [7] [8] stride,
 * [9] [10] padding, [11] [12] dilation, [13] count_include_pad. */
#ifndef LOCKSTEP_POOLING_H
#define LOCKSTEP_POOLING_H

#include "variant.h"

#include <stdatomic.h>

enum { POOL_CHUNK = 128 };

struct pooling {
    int64_t planes, height, width, out_h, out_w, kernel_h, kernel_w, stride_h, stride_w;
    int64_t pad_h, pad_w, dilation_h, dilation_w, include_pad;
};

static struct pooling pooling_of(const struct call *call) {
    struct pooling p;
    memcpy(&p, call->size, sizeof p);
    return p;
}

/* Offers one tap of the window to `n` adjacent outputs. */
INLINE void offer_maximum(const float *row, int64_t stride, int32_t index, int64_t n,
                          float *restrict best, int32_t *restrict where) {
    for (int64_t i = 0; i < n; i++) {
        float v = row[i * stride];
        int better = (v > best[i]) | (v != v) | (where[i] < 0);
        best[i] = better ? v : best[i];
        where[i] = better ? index + (int32_t)(i * stride) : where[i];
    }
}

/* Outputs [first, first + count) of row oh; `where` holds indices into the plane, -1 for a
 * window that lies outside of it (then the maximum is -inf). */
static void max_pool_chunk(const struct pooling *p, const float *x, int64_t oh, int64_t first,
                           int64_t count, float *best, int32_t *where) {
    for (int64_t i = 0; i < count; i++) {
        best[i] = -INFINITY_F;
        where[i] = -1;
    }
    /* Only the taps that some output finds in bounds: kernels may be huge. */
    int64_t top = oh * p->stride_h - p->pad_h, left = first * p->stride_w - p->pad_w;
    int64_t last = left + (count - 1) * p->stride_w, i, i_end, j_start, j_end, unused;
    inside(top, p->dilation_h, p->height, p->kernel_h, &i, &i_end);
    inside(last, p->dilation_w, p->width, p->kernel_w, &j_start, &unused);
    inside(left, p->dilation_w, p->width, p->kernel_w, &unused, &j_end);
    for (; i < i_end; i++)
        for (int64_t j = j_start; j < j_end; j++) {
            int64_t low, high, shift = left + j * p->dilation_w;
            inside(shift, p->stride_w, p->width, count, &low, &high);
            if (high <= low) continue;
            int64_t start = (top + i * p->dilation_h) * p->width + shift + low * p->stride_w;
            if (p->stride_w == 1)
                offer_maximum(x + start, 1, (int32_t)start, high - low, best + low, where + low);
            else if (p->stride_w == 2)
                offer_maximum(x + start, 2, (int32_t)start, high - low, best + low, where + low);
            else
                offer_maximum(x + start, p->stride_w, (int32_t)start, high - low, best + low,
                              where + low);
        }
}

static void max_pool2d_planes(const void *context, int64_t first, int64_t last,
                              const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    struct pooling p = pooling_of(call);
    float best[POOL_CHUNK];
    int32_t where[POOL_CHUNK];
    for (int64_t row = first * p.out_h; row < last * p.out_h; row++) {
        const float *x = (const float *)call->in[0] + row / p.out_h * p.height * p.width;
        float *y = (float *)call->out[0] + row * p.out_w;
        int64_t *index = (int64_t *)call->out[1] + row * p.out_w;
        for (int64_t ow = 0; ow < p.out_w; ow += POOL_CHUNK) {
            int64_t count = minimum(POOL_CHUNK, p.out_w - ow);
            max_pool_chunk(&p, x, row % p.out_h, ow, count, best, where);
            for (int64_t i = 0; i < count; i++) y[ow + i] = best[i];
            for (int64_t i = 0; i < count; i++) index[ow + i] = where[i];
        }
    }
}

static int max_pool2d_operator(const struct call *call) {
    struct pooling p = pooling_of(call);
    parallel_range(max_pool2d_planes, call, p.planes,
                   p.out_h * p.out_w * p.kernel_h * p.kernel_w);
    return RUN_OK;
}

struct trapping_call {
    const struct call *call;
    _Atomic int *trapped;
};

/* in: g, index. size as above; [3] [4] give the outputs. */
static void max_pool2d_backward_planes(const void *context, int64_t first, int64_t last,
                                       const struct worker *worker) {
    (void)worker;
    const struct trapping_call *trapping = context;
    const struct call *call = trapping->call;
    struct pooling p = pooling_of(call);
    int64_t outputs = p.out_h * p.out_w, inputs = p.height * p.width;
    for (int64_t plane = first; plane < last; plane++) {
        const float *g = (const float *)call->in[0] + plane * outputs;
        const int64_t *index = (const int64_t *)call->in[1] + plane * outputs;
        float *dx = (float *)call->out[0] + plane * inputs;
        memset(dx, 0, (size_t)inputs * sizeof *dx);
        for (int64_t i = 0; i < outputs; i++) {
            if (index[i] < 0 || index[i] >= inputs) {
                atomic_store(trapping->trapped, 1);
                return;
            }
            dx[index[i]] += g[i];
        }
    }
}

static int max_pool2d_backward_operator(const struct call *call) {
    struct pooling p = pooling_of(call);
    _Atomic int trapped = 0;
    struct trapping_call trapping = {call, &trapped};
    parallel_range(max_pool2d_backward_planes, &trapping, p.planes,
                   p.height * p.width + p.out_h * p.out_w);
    return atomic_load(&trapped) ? RUN_TRAP : RUN_OK;
}

struct window {
    int64_t top, bottom, left, right; /* in bounds */
    float count;
};

static struct window window_of(const struct pooling *p, int64_t oh, int64_t ow) {
    int64_t h = oh * p->stride_h - p->pad_h, w = ow * p->stride_w - p->pad_w;
    struct window window = {maximum(h, 0), minimum(h + p->kernel_h, p->height),
                            maximum(w, 0), minimum(w + p->kernel_w, p->width), 0.0f};
    int64_t count = p->include_pad ? p->kernel_h * p->kernel_w
                                   : (window.bottom - window.top) * (window.right - window.left);
    window.count = (float)count;
    return window;
}

static void avg_pool2d_planes(const void *context, int64_t first, int64_t last,
                              const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    struct pooling p = pooling_of(call);
    float *y = (float *)call->out[0] + first * p.out_h * p.out_w;
    for (int64_t plane = first; plane < last; plane++) {
        const float *x = (const float *)call->in[0] + plane * p.height * p.width;
        for (int64_t oh = 0; oh < p.out_h; oh++)
            for (int64_t ow = 0; ow < p.out_w; ow++) {
                struct window window = window_of(&p, oh, ow);
                float sum = 0.0f;
                for (int64_t h = window.top; h < window.bottom; h++)
                    for (int64_t w = window.left; w < window.right; w++)
                        sum += x[h * p.width + w];
                *y++ = sum / window.count;
            }
    }
}

static int avg_pool2d_operator(const struct call *call) {
    struct pooling p = pooling_of(call);
    parallel_range(avg_pool2d_planes, call, p.planes,
                   p.out_h * p.out_w * (4 + p.kernel_h * p.kernel_w));
    return RUN_OK;
}

static void avg_pool2d_backward_planes(const void *context, int64_t first, int64_t last,
                                       const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    struct pooling p = pooling_of(call);
    const float *g = (const float *)call->in[0] + first * p.out_h * p.out_w;
    for (int64_t plane = first; plane < last; plane++) {
        float *dx = (float *)call->out[0] + plane * p.height * p.width;
        memset(dx, 0, (size_t)(p.height * p.width) * sizeof *dx);
        for (int64_t oh = 0; oh < p.out_h; oh++)
            for (int64_t ow = 0; ow < p.out_w; ow++) {
                struct window window = window_of(&p, oh, ow);
                float share = *g++ / window.count;
                for (int64_t h = window.top; h < window.bottom; h++)
                    for (int64_t w = window.left; w < window.right; w++)
                        dx[h * p.width + w] += share;
            }
    }
}

static int avg_pool2d_backward_operator(const struct call *call) {
    struct pooling p = pooling_of(call);
    parallel_range(avg_pool2d_backward_planes, call, p.planes,
                   p.height * p.width + p.out_h * p.out_w * (4 + p.kernel_h * p.kernel_w));
    return RUN_OK;
}

#endif
