/* Fused optimiser steps; every operation and rounding is spelled out. size[0] elements.
 * With size[2] set, an element of an output that is not finite is a trap. */
#ifndef LOCKSTEP_OPTIMISER_H
#define LOCKSTEP_OPTIMISER_H

#include "variant.h"

#include <stdatomic.h>

struct optimiser_job {
    const struct call *call;
    _Atomic int *found;
};

/* The larger of the magnitudes, as bits: a value that is not finite is above all others. */
INLINE uint32_t greater_magnitude(uint32_t greatest, float value) {
    uint32_t magnitude = float_bits(value) & 0x7fffffffu;
    return magnitude > greatest ? magnitude : greatest;
}

static int run_optimiser(range_body body, const struct call *call, int64_t cost) {
    _Atomic int found = 0;
    struct optimiser_job job = {call, &found};
    parallel_range(body, &job, call->size[0], cost);
    return call->size[2] && atomic_load(&found) ? RUN_TRAP : RUN_OK;
}

INLINE void report(const struct optimiser_job *job, uint32_t greatest) {
    if (greatest >= 0x7f800000u) atomic_store(job->found, 1);
}

/* The rate of this step: in[last] is the schedule's factor. */
INLINE float scheduled(float rate, const void *factor) { return rate * *(const float *)factor; }

/* in: p, g, m, factor; out: p', m'; scalar: lr, momentum, weight_decay; size[1]: nesterov. */
static void sgd_range(const void *context, int64_t first, int64_t last,
                      const struct worker *worker) {
    (void)worker;
    const struct optimiser_job *job = context;
    const struct call *call = job->call;
    uint32_t greatest = 0;
    const float *p = call->in[0], *g = call->in[1], *m = call->in[2];
    float *next_p = call->out[0], *next_m = call->out[1];
    float rate = scheduled(call->scalar[0], call->in[3]);
    float momentum = call->scalar[1], decay = call->scalar[2];
    if (call->size[1])
        INDEPENDENT for (int64_t i = first; i < last; i++) {
            float gradient = fma_f(decay, p[i], g[i]);
            float moment = fma_f(momentum, m[i], gradient);
            float next = fma_f(-rate, fma_f(momentum, moment, gradient), p[i]);
            next_m[i] = moment;
            next_p[i] = next;
            greatest = greater_magnitude(greater_magnitude(greatest, moment), next);
        }
    else
        INDEPENDENT for (int64_t i = first; i < last; i++) {
            float moment = fma_f(momentum, m[i], fma_f(decay, p[i], g[i]));
            float next = fma_f(-rate, moment, p[i]);
            next_m[i] = moment;
            next_p[i] = next;
            greatest = greater_magnitude(greater_magnitude(greatest, moment), next);
        }
    report(job, greatest);
}

static int sgd_operator(const struct call *call) {
    return run_optimiser(sgd_range, call, 3);
}

/* in: p, g, m, v, c1, c2 (1 - beta^t), factor; out: p', m', v';
 * scalar: lr, beta1, beta2, eps, weight_decay. */
static void adamw_range(const void *context, int64_t first, int64_t last,
                        const struct worker *worker) {
    (void)worker;
    const struct optimiser_job *job = context;
    const struct call *call = job->call;
    uint32_t greatest = 0;
    const float *p = call->in[0], *g = call->in[1];
    const float *m = call->in[2], *v = call->in[3];
    float *next_p = call->out[0], *next_m = call->out[1];
    float *next_v = call->out[2];
    float beta1 = call->scalar[1], beta2 = call->scalar[2], eps = call->scalar[3];
    float rest1 = 1.0f - beta1, rest2 = 1.0f - beta2;
    float rate = scheduled(call->scalar[0], call->in[6]);
    float decay = fma_f(-rate, call->scalar[4], 1.0f);
    float step = rate / *(const float *)call->in[4];
    float correction = 1.0f / __builtin_sqrtf(*(const float *)call->in[5]);
    INDEPENDENT for (int64_t i = first; i < last; i++) {
        float gradient = g[i];
        float mean = fma_f(beta1, m[i], rest1 * gradient);
        float square = fma_f(beta2, v[i], (rest2 * gradient) * gradient);
        float denominator = fma_f(__builtin_sqrtf(square), correction, eps);
        float next = fma_f(-step, mean / denominator, p[i] * decay);
        next_m[i] = mean;
        next_v[i] = square;
        next_p[i] = next;
        greatest = greater_magnitude(greater_magnitude(greatest, mean), next);
        greatest = greater_magnitude(greatest, square);
    }
    report(job, greatest);
}

static int adamw_operator(const struct call *call) {
    return run_optimiser(adamw_range, call, 6);
}

/* in: p, g, m, factor; out: p', m'; scalar: lr, beta1, beta2, weight_decay. */
static void lion_range(const void *context, int64_t first, int64_t last,
                       const struct worker *worker) {
    (void)worker;
    const struct optimiser_job *job = context;
    const struct call *call = job->call;
    uint32_t greatest = 0;
    const float *p = call->in[0], *g = call->in[1], *m = call->in[2];
    float *next_p = call->out[0], *next_m = call->out[1];
    float beta1 = call->scalar[1], beta2 = call->scalar[2];
    float rest1 = 1.0f - beta1, rest2 = 1.0f - beta2;
    float rate = scheduled(call->scalar[0], call->in[3]);
    float decay = fma_f(-rate, call->scalar[3], 1.0f);
    INDEPENDENT for (int64_t i = first; i < last; i++) {
        float gradient = g[i], moment = m[i];
        float c = fma_f(beta1, moment, rest1 * gradient);
        float sign = c > 0.0f ? 1.0f : c < 0.0f ? -1.0f : c != c ? c : 0.0f;
        float next_moment = fma_f(beta2, moment, rest2 * gradient);
        float next = fma_f(-rate, sign, p[i] * decay);
        next_m[i] = next_moment;
        next_p[i] = next;
        greatest = greater_magnitude(greater_magnitude(greatest, next_moment), next);
    }
    report(job, greatest);
}

static int lion_operator(const struct call *call) {
    return run_optimiser(lion_range, call, 4);
}

static int correction_operator(const struct call *call) {
    float beta = call->scalar[0];
    *(float *)call->out[0] = fma_f(beta, *(const float *)call->in[0], 1.0f - beta);
    return RUN_OK;
}

#endif
