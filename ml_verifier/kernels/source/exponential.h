/* exp in vectors of floats, correctly rounded like exp_doubles: arithmetic of three floats'
 * precision, and where that does not decide, the double path.
 *
 * exp(x) = 2^k T (1 + r + t): T = 2^(j/N) is the sum of two floats from a table, n = kN + j
 * the integer nearest to x N / ln 2, r = x - n ln 2 / N without its last bits (the products
 * by two short parts of ln 2 / N and their differences are exact), t those bits and the rest
 * of the series. T + T r is exact as a sum of two floats; what is added below them carries
 * the errors, together under EXP_ERROR beside a value in [1, 2): the check of all inputs in
 * tests/kernels is the proof. When the interval of that width rounds to one float, that float
 * is the answer. Results that are denormal or overflow, and NaN, take the double path; below
 * 2^-150 all is +0. */
#ifndef LOCKSTEP_EXPONENTIAL_H
#define LOCKSTEP_EXPONENTIAL_H

#include "elementary.h"
#include "vector.h"

#if !defined(LOCKSTEP_PORTABLE) && (defined(__AVX512F__) || defined(__AVX2__))
#define VECTOR_EXP 1

#define EXP_ZERO (-104.0f)  /* and below: less than half of the smallest float */
#define EXP_LOW (-87.0f)    /* and above: not denormal */
#define EXP_HIGH 88.0f      /* and below: no overflow */
#define NEAREST 0x1.8p23f   /* adding it leaves a nearest integer in the low bits */

#if defined(__AVX512F__)

enum { POWERS = 32, POWERS_LOG = 5 };
static const float power_high[32] = {
    0x1p+0f, 0x1.059b0ep+0f, 0x1.0b5586p+0f, 0x1.11301ep+0f, 0x1.172b84p+0f, 0x1.1d4874p+0f,
    0x1.2387a6p+0f, 0x1.29e9ep+0f, 0x1.306fep+0f, 0x1.371a74p+0f, 0x1.3dea64p+0f,
    0x1.44e086p+0f, 0x1.4bfdaep+0f, 0x1.5342b6p+0f, 0x1.5ab07ep+0f, 0x1.6247ecp+0f,
    0x1.6a09e6p+0f, 0x1.71f75ep+0f, 0x1.7a1148p+0f, 0x1.82589ap+0f, 0x1.8ace54p+0f,
    0x1.93737cp+0f, 0x1.9c4918p+0f, 0x1.a5503cp+0f, 0x1.ae89fap+0f, 0x1.b7f77p+0f,
    0x1.c199bep+0f, 0x1.cb720ep+0f, 0x1.d5818ep+0f, 0x1.dfc974p+0f, 0x1.ea4afap+0f,
    0x1.f50766p+0f,
};
static const float power_low[32] = {
    0.0f, -0x1.9d4f52p-25f, 0x1.9f3122p-25f, -0x1.fdb496p-25f, -0x1.c15742p-27f,
    -0x1.d2e8cap-25f, 0x1.ceac48p-25f, -0x1.5c0424p-25f, 0x1.4636e2p-25f, -0x1.18aac6p-25f,
    0x1.824684p-25f, 0x1.8624b4p-30f, -0x1.593abcp-25f, -0x1.2c561p-25f, -0x1.5bd5ecp-27f,
    -0x1.f8b55p-25f, 0x1.9fcef4p-26f, 0x1.1d8beep-25f, -0x1.829fdp-25f, -0x1.accc7cp-26f,
    0x1.15506ep-27f, -0x1.e64744p-25f, 0x1.51f848p-27f, -0x1.b83b54p-25f, -0x1.a94b14p-26f,
    -0x1.a09438p-25f, -0x1.3d56b2p-27f, -0x1.8837ccp-27f, -0x1.822dbcp-27f,
    -0x1.908c94p-25f, 0x1.52486cp-27f, -0x1.246ebp-26f,
};
#define POWERS_LN2_HIGH 0x1.62cp-6f /* 11 bits of ln(2) / 32 */
#define POWERS_LN2_MIDDLE 0x1.214p-17f
#define POWERS_LN2_LOW 0x1.fbe8e8p-28f
#define POWERS_LN2_INVERSE 0x1.715476p+5f
#define EXP_ERROR 0x1.6a09e6p-35f

typedef __m512i vector_bits;
typedef __mmask16 vector_mask;
INLINE vector vector_sub(vector a, vector b) { return _mm512_sub_ps(a, b); }
INLINE vector vector_mul(vector a, vector b) { return _mm512_mul_ps(a, b); }
INLINE vector vector_fms(vector a, vector b, vector c) { return _mm512_fmsub_ps(a, b, c); }
INLINE vector vector_fnma(vector a, vector b, vector c) { return _mm512_fnmadd_ps(a, b, c); }
INLINE vector power_of(const float *table, vector n) {
    return _mm512_permutex2var_ps(_mm512_loadu_ps(table), _mm512_castps_si512(n),
                                  _mm512_loadu_ps(table + 16));
}
/* 2^k y, of a normal result; n holds kN + j in its low bits. */
INLINE vector scale_by(vector y, vector n) {
    vector_bits k = _mm512_slli_epi32(_mm512_castps_si512(n), 23 - POWERS_LOG);
    k = _mm512_and_si512(k, _mm512_set1_epi32((int)0xff800000u));
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(y), k));
}
/* (e^r - 1 - r) / r^2 for |r| <= ln(2) / 64 */
INLINE vector exp_quotient(vector r) {
    vector q = vector_fma(vector_set(0x1.5555dap-5f), r, vector_set(0x1.5555c8p-3f));
    return vector_fma(q, r, vector_set(0.5f));
}
/* The lanes of y that are exp(x); the others become 0 where x <= EXP_ZERO (in `zero`). */
INLINE vector_mask exp_decided(vector x, vector down, vector up) {
    vector_mask in = _mm512_cmp_ps_mask(x, vector_set(EXP_LOW), _CMP_GT_OQ);
    in = _mm512_mask_cmp_ps_mask(in, x, vector_set(EXP_HIGH), _CMP_LT_OQ);
    return _mm512_mask_cmp_ps_mask(in, down, up, _CMP_EQ_OQ);
}
INLINE vector exp_select(vector x, vector y, vector_mask decided, int *undecided) {
    vector_mask zero = _mm512_cmp_ps_mask(x, vector_set(EXP_ZERO), _CMP_LE_OQ);
    *undecided = (vector_mask)(~(decided | zero)) != 0;
    return _mm512_maskz_mov_ps((vector_mask)~zero, y);
}

#else

enum { POWERS = 8, POWERS_LOG = 3 };
static const float power_high[8] = {
    0x1p+0f, 0x1.172b84p+0f, 0x1.306fep+0f, 0x1.4bfdaep+0f, 0x1.6a09e6p+0f, 0x1.8ace54p+0f,
    0x1.ae89fap+0f, 0x1.d5818ep+0f,
};
static const float power_low[8] = {
    0.0f, -0x1.c15742p-27f, 0x1.4636e2p-25f, -0x1.593abcp-25f, 0x1.9fcef4p-26f,
    0x1.15506ep-27f, -0x1.a94b14p-26f, -0x1.822dbcp-27f,
};
#define POWERS_LN2_HIGH 0x1.62ep-4f /* 13 bits of ln(2) / 8 */
#define POWERS_LN2_MIDDLE 0x1.0bcp-18f /* to 2^-28, the last bit of x and so of r */
#define POWERS_LN2_LOW 0x1.df473ep-29f
#define POWERS_LN2_INVERSE 0x1.715476p+3f
#define EXP_ERROR 0x1p-31f

typedef __m256i vector_bits;
typedef __m256 vector_mask;
INLINE vector vector_sub(vector a, vector b) { return _mm256_sub_ps(a, b); }
INLINE vector vector_mul(vector a, vector b) { return _mm256_mul_ps(a, b); }
INLINE vector vector_fms(vector a, vector b, vector c) { return _mm256_fmsub_ps(a, b, c); }
INLINE vector vector_fnma(vector a, vector b, vector c) { return _mm256_fnmadd_ps(a, b, c); }
INLINE vector power_of(const float *table, vector n) {
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), _mm256_castps_si256(n));
}
INLINE vector scale_by(vector y, vector n) {
    vector_bits k = _mm256_slli_epi32(_mm256_castps_si256(n), 23 - POWERS_LOG);
    k = _mm256_and_si256(k, _mm256_set1_epi32((int)0xff800000u));
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), k));
}
/* (e^r - 1 - r) / r^2 for |r| <= ln(2) / 16 */
INLINE vector exp_quotient(vector r) {
    vector q = vector_fma(vector_set(0x1.11163ep-7f), r, vector_set(0x1.555cf4p-5f));
    q = vector_fma(q, r, vector_set(0x1.555556p-3f));
    return vector_fma(q, r, vector_set(0.5f));
}
INLINE vector_mask exp_decided(vector x, vector down, vector up) {
    vector_mask in = _mm256_and_ps(_mm256_cmp_ps(x, vector_set(EXP_LOW), _CMP_GT_OQ),
                                   _mm256_cmp_ps(x, vector_set(EXP_HIGH), _CMP_LT_OQ));
    return _mm256_and_ps(in, _mm256_cmp_ps(down, up, _CMP_EQ_OQ));
}
INLINE vector exp_select(vector x, vector y, vector_mask decided, int *undecided) {
    vector_mask zero = _mm256_cmp_ps(x, vector_set(EXP_ZERO), _CMP_LE_OQ);
    *undecided = _mm256_movemask_ps(_mm256_or_ps(decided, zero)) != 0xff;
    return _mm256_andnot_ps(zero, y);
}

#endif

#ifdef MARGIN_WIDENED /* all elements take the double path, and those that must the next */
#define EXP_MARGIN 1.0f
#else
#define EXP_MARGIN EXP_ERROR
#endif

static __attribute__((noinline)) vector exp_by_doubles(vector x) {
    float in[VECTOR], out[VECTOR];
    vector_store(in, x);
    exp_doubles(in, out, VECTOR);
    return vector_load(out);
}

INLINE vector exp_vector(vector x) {
    vector shifted = vector_fma(x, vector_set(POWERS_LN2_INVERSE), vector_set(NEAREST));
    vector n = vector_sub(shifted, vector_set(NEAREST));
    vector r = vector_fnma(n, vector_set(POWERS_LN2_HIGH), x);
    r = vector_fnma(n, vector_set(POWERS_LN2_MIDDLE), r);
    vector rest = vector_mul(n, vector_set(-POWERS_LN2_LOW));
    vector whole = vector_add(r, rest);
    vector t = vector_fma(vector_mul(whole, whole), exp_quotient(whole), rest);
    vector power = power_of(power_high, shifted), tail = power_of(power_low, shifted);
    vector product = vector_mul(power, r);
    vector low = vector_fms(power, r, product);
    low = vector_fma(power, t, low);
    low = vector_add(vector_fma(tail, r, low), tail);
    vector high = vector_add(power, product);
    low = vector_add(vector_sub(product, vector_sub(high, power)), low);
    vector down = vector_add(high, vector_sub(low, vector_set(EXP_MARGIN)));
    vector up = vector_add(high, vector_add(low, vector_set(EXP_MARGIN)));
    int undecided;
    vector y = exp_select(x, scale_by(down, shifted), exp_decided(x, down, up), &undecided);
    if (__builtin_expect(undecided, 0)) y = exp_by_doubles(x);
    return y;
}

/* The first n (fewer than VECTOR) elements; the others are `fill`. */
INLINE vector vector_load_part(const float *x, int64_t n, float fill) {
    float part[VECTOR];
    for (int i = 0; i < VECTOR; i++) part[i] = fill;
    memcpy(part, x, (size_t)n * sizeof *x);
    return vector_load(part);
}

INLINE void vector_store_part(float *y, int64_t n, vector value) {
    float part[VECTOR];
    vector_store(part, value);
    memcpy(y, part, (size_t)n * sizeof *y);
}

static void exp_array(const float *restrict x, float *restrict y, int64_t n) {
    int64_t i = 0;
    for (; i + VECTOR <= n; i += VECTOR) vector_store(y + i, exp_vector(vector_load(x + i)));
    if (i < n) vector_store_part(y + i, n - i, exp_vector(vector_load_part(x + i, n - i, 0.0f)));
}

#else

static void exp_array(const float *restrict x, float *restrict y, int64_t n) {
    exp_doubles(x, y, n);
}

#endif

#endif
