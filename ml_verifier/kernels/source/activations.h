/* GELU, SiLU and their gradients: each a chain of single operations around erf, exp or
 * tanh, done block by block so that what lies between stays in the first-level cache. */
#ifndef LOCKSTEP_ACTIVATIONS_H
#define LOCKSTEP_ACTIVATIONS_H

#include "exponential.h"
#include "error_function.h"

#define ROOT_HALF 0x1.6a09e6p-1f        /* sqrt(1/2) */
#define INVERSE_ROOT_2PI 0x1.988454p-2f /* 1 / sqrt(2 pi) */
#define ROOT_2_OVER_PI 0x1.988454p-1f   /* sqrt(2 / pi) */
#define GELU_CUBE 0x1.6e4e26p-5f        /* 0.044715 */
#define GELU_CUBE_3 0x1.12ba9ep-3f      /* 3 * 0.044715, rounded once */

enum { ACTIVATION_BLOCK = 256 };

/* One input x. `before` turns x into the function's argument; `after` makes the result of
 * x and the function's value v. */
#define DEFINE_ACTIVATION(name, function, before, after)                            \
    static void name##_array(const float *restrict in, float *restrict y, int64_t n) { \
        float argument[ACTIVATION_BLOCK], value[ACTIVATION_BLOCK];                  \
        for (int64_t start = 0; start < n; start += ACTIVATION_BLOCK) {             \
            int64_t count = minimum(ACTIVATION_BLOCK, n - start);                   \
            for (int64_t i = 0; i < count; i++) {                                   \
                float x = in[start + i];                                            \
                argument[i] = (before);                                             \
            }                                                                       \
            function##_array(argument, value, count);                               \
            for (int64_t i = 0; i < count; i++) {                                   \
                float x = in[start + i], v = value[i];                              \
                y[start + i] = (after);                                             \
            }                                                                       \
        }                                                                           \
    }

/* The same with a gradient g beside x. */
#define DEFINE_ACTIVATION_BACKWARD(name, function, before, after)                   \
    static void name##_array(const float *g_in, const float *in, float *restrict y, \
                             int64_t n) {                                           \
        float argument[ACTIVATION_BLOCK], value[ACTIVATION_BLOCK];                  \
        for (int64_t start = 0; start < n; start += ACTIVATION_BLOCK) {             \
            int64_t count = minimum(ACTIVATION_BLOCK, n - start);                   \
            for (int64_t i = 0; i < count; i++) {                                   \
                float x = in[start + i];                                            \
                argument[i] = (before);                                             \
            }                                                                       \
            function##_array(argument, value, count);                               \
            for (int64_t i = 0; i < count; i++) {                                   \
                float g = g_in[start + i], x = in[start + i], v = value[i];         \
                y[start + i] = (after);                                             \
            }                                                                       \
        }                                                                           \
    }

INLINE float gelu_tanh_argument(float x) {
    float s = x * x;
    return ROOT_2_OVER_PI * fma_f(GELU_CUBE * s, x, x);
}

INLINE float gelu_tanh_slope(float x, float t) {
    float s = x * x;
    float left = 0.5f * (1.0f + t);
    float dt = 1.0f - t * t;
    float di = ROOT_2_OVER_PI * fma_f(GELU_CUBE_3, s, 1.0f);
    return fma_f((0.5f * x) * dt, di, left);
}

INLINE float silu_slope(float x, float e) {
    float s = 1.0f / (1.0f + e);
    return s * fma_f(x, 1.0f - s, 1.0f);
}

DEFINE_ACTIVATION(sigmoid, exp, -x, ((void)x, 1.0f / (1.0f + v)))
DEFINE_ACTIVATION(gelu, erf, x * ROOT_HALF, (0.5f * x) * (1.0f + v))
DEFINE_ACTIVATION(gelu_tanh, tanh, gelu_tanh_argument(x), (0.5f * x) * (1.0f + v))
DEFINE_ACTIVATION(silu, exp, -x, x / (1.0f + v))
DEFINE_ACTIVATION_BACKWARD(gelu_tanh_backward, tanh, gelu_tanh_argument(x),
                           g * gelu_tanh_slope(x, v))
DEFINE_ACTIVATION_BACKWARD(silu_backward, exp, -x, g * silu_slope(x, v))

static void gelu_backward_array(const float *g, const float *x, float *restrict dx, int64_t n) {
    float argument[ACTIVATION_BLOCK], e[ACTIVATION_BLOCK], density[ACTIVATION_BLOCK];
    for (int64_t start = 0; start < n; start += ACTIVATION_BLOCK) {
        int64_t count = minimum(ACTIVATION_BLOCK, n - start);
        for (int64_t i = 0; i < count; i++) argument[i] = x[start + i] * ROOT_HALF;
        erf_array(argument, e, count);
        for (int64_t i = 0; i < count; i++)
            argument[i] = (x[start + i] * x[start + i]) * -0.5f;
        exp_array(argument, density, count);
        for (int64_t i = 0; i < count; i++) {
            float p = density[i] * INVERSE_ROOT_2PI, cdf = 0.5f * (1.0f + e[i]);
            dx[start + i] = g[start + i] * fma_f(x[start + i], p, cdf);
        }
    }
}

#endif
