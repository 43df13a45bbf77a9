/* The widest float vector of the instruction set, and the micro-kernel's shape. */
#ifndef LOCKSTEP_VECTOR_H
#define LOCKSTEP_VECTOR_H

#include "variant.h"

#if defined(LOCKSTEP_PORTABLE)

enum { VECTOR = 4, MAX_ROWS = 4 };
typedef struct {
    float lane[VECTOR];
} vector;

INLINE vector vector_load(const float *p) {
    vector v;
    memcpy(&v, p, sizeof v);
    return v;
}
INLINE void vector_store(float *p, vector v) { memcpy(p, &v, sizeof v); }
INLINE vector vector_set(float x) {
    vector v;
    for (int i = 0; i < VECTOR; i++) v.lane[i] = x;
    return v;
}
INLINE vector vector_add(vector a, vector b) {
    for (int i = 0; i < VECTOR; i++) a.lane[i] += b.lane[i];
    return a;
}
INLINE vector vector_fma(vector a, vector b, vector c) {
    for (int i = 0; i < VECTOR; i++) c.lane[i] = fma_f(a.lane[i], b.lane[i], c.lane[i]);
    return c;
}

#elif defined(__AVX512F__)

#include <immintrin.h>
enum { VECTOR = 16, MAX_ROWS = 14 };
typedef __m512 vector;
INLINE vector vector_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void vector_store(float *p, vector v) { _mm512_storeu_ps(p, v); }
INLINE vector vector_set(float x) { return _mm512_set1_ps(x); }
INLINE vector vector_add(vector a, vector b) { return _mm512_add_ps(a, b); }
INLINE vector vector_fma(vector a, vector b, vector c) { return _mm512_fmadd_ps(a, b, c); }

#elif defined(__AVX2__)

#include <immintrin.h>
enum { VECTOR = 8, MAX_ROWS = 6 };
typedef __m256 vector;
INLINE vector vector_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void vector_store(float *p, vector v) { _mm256_storeu_ps(p, v); }
INLINE vector vector_set(float x) { return _mm256_set1_ps(x); }
INLINE vector vector_add(vector a, vector b) { return _mm256_add_ps(a, b); }
INLINE vector vector_fma(vector a, vector b, vector c) { return _mm256_fmadd_ps(a, b, c); }

#elif defined(__aarch64__)

#include <arm_neon.h>
enum { VECTOR = 4, MAX_ROWS = 12 };
typedef float32x4_t vector;
INLINE vector vector_load(const float *p) { return vld1q_f32(p); }
INLINE void vector_store(float *p, vector v) { vst1q_f32(p, v); }
INLINE vector vector_set(float x) { return vdupq_n_f32(x); }
INLINE vector vector_add(vector a, vector b) { return vaddq_f32(a, b); }
INLINE vector vector_fma(vector a, vector b, vector c) { return vfmaq_f32(c, a, b); }

#else
#error "no vector definition for this variant"
#endif

/* A micro-kernel's tile is at most MAX_ROWS x PANEL. */
enum { PANEL_VECTORS = 2, PANEL = PANEL_VECTORS * VECTOR };

#endif
