/* exp, log and tanh of a float, correctly rounded.
 *
 * First path: double arithmetic with a relative error below 2^-50 (argument reductions
 * are exact or carry 2^-93 of ln 2; the polynomials are interpolations at Chebyshev
 * nodes with truncation errors 2^-54.5 (exp) and 2^-60 (log); a handful of roundings of
 * 2^-53 each follow). When the interval of +-2^-48 about the result rounds to one float,
 * that float is the answer.
 * With AVX-512, exp needs less: r within ln(2) / 32 of a sixteenth of a power of two, an
 * error below 2^-45, and a margin of 2^-44 tested on the bits that rounding drops.
 * Second path, a few hundred of all 2^32 elements: double-double arithmetic good to more
 * than 2^-75, which decides every one of the 2^32 inputs, as the exhaustive check in
 * tests/kernels shows. */
#ifndef LOCKSTEP_ELEMENTARY_H
#define LOCKSTEP_ELEMENTARY_H

#include "vector.h"

#ifdef MARGIN /* a test widens it, to send all elements down the second path */
#define MARGIN_WIDENED 1
#else
#define MARGIN 0x1p-48
#endif
#define LN2_HIGH 0x1.62e42fefa2000p-1 /* 40 bits of ln 2: products by small integers are exact */
#define LN2_MIDDLE 0x1.9ef35793c7673p-41
#define LN2_LOW 0x1.f97b57a079a19p-103
#define LOG2_E 0x1.71547652b82fep+0
#define ROUND_SHIFT 0x1.8p52 /* adding it leaves a nearest integer in the low bits */

#ifdef HARDWARE_FMA
#define FMA_D(a, b, c) __builtin_fma((a), (b), (c))
#else
#define FMA_D(a, b, c) ((a) * (b) + (c)) /* the error bound holds with two roundings too */
#endif

/* (exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2, highest power first. */
INLINE double exp_tail(double r) {
    double q = 0x1.af38aa3dc1703p-26;
    q = FMA_D(q, r, 0x1.289185d3af9d2p-22);
    q = FMA_D(q, r, 0x1.71de0dae2883ep-19);
    q = FMA_D(q, r, 0x1.a019b90ccaa6cp-16);
    q = FMA_D(q, r, 0x1.a01a01a7c42c9p-13);
    q = FMA_D(q, r, 0x1.6c16c1788bf1dp-10);
    q = FMA_D(q, r, 0x1.11111111109b3p-7);
    q = FMA_D(q, r, 0x1.5555555553d63p-5);
    q = FMA_D(q, r, 0x1.5555555555556p-3);
    return FMA_D(q, r, 0x1.0000000000001p-1);
}

/* exp(x) = scale * (1 + m): m with full relative precision, scale a power of two. */
struct scaled {
    double m, scale;
};

INLINE struct scaled exp_parts(double x) {
    double shifted = x * LOG2_E + ROUND_SHIFT;
    double n = shifted - ROUND_SHIFT;
    double r = (x - n * LN2_HIGH) - n * LN2_MIDDLE;
    struct scaled parts;
    parts.m = FMA_D(r * r, exp_tail(r), r);
    parts.scale = bits_double((double_bits(shifted) + 1023) << 52);
    return parts;
}

INLINE double exp_fast(float value) {
    double x = (double)value;
    x = x < -110.0 ? -110.0 : x; /* below: rounds to 0; above: overflows; NaN passes */
    x = x > 95.0 ? 95.0 : x;
    struct scaled e = exp_parts(x);
    return e.scale * (1.0 + e.m);
}

INLINE double log_fast(float value) {
    const uint64_t root_half = 0x3fe6a09e667f3bcdULL; /* sqrt(1/2) */
    const uint64_t one = 0x3ff0000000000000ULL;
    double x = (double)value;
    uint64_t bits = double_bits(x);
    uint64_t biased = (bits - root_half + one) >> 52; /* exponent + 1023 */
    double e = bits_double(biased | 0x4330000000000000ULL) - (0x1p52 + 1023.0);
    double f = bits_double(bits - (biased << 52) + one) - 1.0; /* in [sqrt(1/2), sqrt(2)) - 1 */
    double s = f / (2.0 + f);
    double z = s * s;
    double p = 0x1.0c04595972ab8p-3;
    p = FMA_D(p, z, 0x1.0fbe83c2cbcf3p-3);
    p = FMA_D(p, z, 0x1.3b1c360763b8ap-3);
    p = FMA_D(p, z, 0x1.745cf901605f7p-3);
    p = FMA_D(p, z, 0x1.c71c720160b47p-3);
    p = FMA_D(p, z, 0x1.2492492476c87p-2);
    p = FMA_D(p, z, 0x1.9999999999a38p-2);
    p = FMA_D(p, z, 0x1.5555555555555p-1);
    double log1p_f = FMA_D(s * z, p, s + s); /* 2 atanh(s) */
    double y = e * LN2_HIGH + (e * LN2_MIDDLE + log1p_f);
    y = value == INFINITY_F ? (double)INFINITY_F : y;
    y = value == 0.0f ? -(double)INFINITY_F : y;
    y = value < 0.0f ? (double)NAN_F : y;
    return value != value ? x : y;
}

INLINE double tanh_fast(float value) {
    double x = (double)value;
    double a = x < 0.0 ? -x : x;
    a = a > 10.0 ? 10.0 : a; /* tanh(10) already rounds to 1 */
    struct scaled e = exp_parts(a + a);
    double expm1 = e.scale * e.m + (e.scale - 1.0);
    double t = expm1 / (expm1 + 2.0);
    uint64_t sign = double_bits(x) & 0x8000000000000000ULL;
    return bits_double(double_bits(t) | sign);
}

/* ---- second path: double-double ---- */

struct pair {
    double high, low;
};

static struct pair two_sum(double a, double b) {
    double sum = a + b;
    double part = sum - a;
    return (struct pair){sum, (a - (sum - part)) + (b - part)};
}

#ifdef HARDWARE_FMA
static struct pair two_product(double a, double b) {
    double product = a * b;
    return (struct pair){product, __builtin_fma(a, b, -product)};
}
#else
static struct pair split(double a) {
    double scaled = a * 134217729.0; /* 2^27 + 1: Veltkamp */
    double high = scaled - (scaled - a);
    return (struct pair){high, a - high};
}

static struct pair two_product(double a, double b) {
    double product = a * b;
    struct pair x = split(a), y = split(b);
    double error = ((x.high * y.high - product) + x.high * y.low + x.low * y.high) +
                   x.low * y.low; /* Dekker */
    return (struct pair){product, error};
}
#endif

static struct pair pair_add(struct pair a, struct pair b) {
    struct pair s = two_sum(a.high, b.high), t = two_sum(a.low, b.low);
    s = two_sum(s.high, s.low + t.high);
    return two_sum(s.high, s.low + t.low);
}

static struct pair pair_multiply(struct pair a, struct pair b) {
    struct pair p = two_product(a.high, b.high);
    return two_sum(p.high, p.low + (a.high * b.low + a.low * b.high));
}

static struct pair pair_divide(struct pair a, struct pair b) {
    double q = a.high / b.high;
    struct pair product = pair_multiply(b, (struct pair){q, 0.0});
    struct pair rest = pair_add(a, (struct pair){-product.high, -product.low});
    double correction = rest.high / b.high;
    struct pair again = pair_multiply(b, (struct pair){correction, 0.0});
    struct pair last = pair_add(rest, (struct pair){-again.high, -again.low});
    struct pair sum = two_sum(q, correction);
    return two_sum(sum.high, sum.low + last.high / b.high);
}

/* a / k for a positive integer k. */
static struct pair pair_divide_by(struct pair a, double k) {
    double q = a.high / k;
    struct pair product = two_product(q, k);
    return two_sum(q, (((a.high - product.high) - product.low) + a.low) / k);
}

/* exp(r) - 1 by its series; 30 terms leave less than 2^-150 for |r| <= ln(2) / 2. */
static struct pair expm1_series(struct pair r) {
    enum { TERMS = 30 };
    const struct pair one = {1.0, 0.0};
    struct pair sum = one;
    for (int k = TERMS; k >= 2; k--) {
        struct pair step = pair_divide(r, (struct pair){(double)k, 0.0});
        sum = pair_add(one, pair_multiply(step, sum));
    }
    return pair_multiply(r, sum);
}

/* exp(x) = 2^n * (1 + m). */
static struct pair exp_pair(double x, double *n) {
    *n = (x * LOG2_E + ROUND_SHIFT) - ROUND_SHIFT;
    struct pair high = two_sum(x, -*n * LN2_HIGH); /* the product is exact */
    struct pair middle = two_product(-*n, LN2_MIDDLE);
    struct pair r = pair_add(high, middle);
    return expm1_series(pair_add(r, (struct pair){-*n * LN2_LOW, 0.0}));
}

static double power_of_two(double n) { return bits_double((uint64_t)((int64_t)n + 1023) << 52); }

/* Rounds high + low to float once, through a round-to-odd double. */
static float round_pair(struct pair value, double scale) {
    struct pair v = two_sum(value.high, value.low);
    uint64_t bits = double_bits(v.high);
    if (v.low != 0.0 && (bits & 1) == 0)
        bits = (v.low < 0.0) == (v.high < 0.0) ? bits + 1 : bits - 1;
    return (float)(bits_double(bits) * scale);
}

static float exp_exact(float value) {
    double n;
    double x = (double)value;
    x = x < -110.0 ? -110.0 : x;
    x = x > 95.0 ? 95.0 : x;
    struct pair m = exp_pair(x, &n);
    return round_pair(pair_add((struct pair){1.0, 0.0}, m), power_of_two(n));
}

/* One Newton step from the double result: log x = y + log(x exp(-y)). */
static float log_exact(float value) {
    double n;
    double y = log_fast(value);
    struct pair m = exp_pair(-y, &n);
    struct pair e = pair_add((struct pair){1.0, 0.0}, m);
    struct pair product = pair_multiply(e, (struct pair){(double)value * power_of_two(n), 0.0});
    struct pair d = pair_add(product, (struct pair){-1.0, 0.0}); /* about 2^-50 */
    struct pair half_square = {-0.5 * d.high * d.high, 0.0};
    return round_pair(pair_add((struct pair){y, 0.0}, pair_add(d, half_square)), 1.0);
}

static float tanh_exact(float value) {
    double n;
    double a = value < 0.0f ? -(double)value : (double)value;
    struct pair m = exp_pair(2.0 * (a > 10.0 ? 10.0 : a), &n);
    double scale = power_of_two(n);
    struct pair scaled = {m.high * scale, m.low * scale};
    struct pair expm1 = pair_add(scaled, (struct pair){scale - 1.0, 0.0});
    struct pair t = pair_divide(expm1, pair_add(expm1, (struct pair){2.0, 0.0}));
    return round_pair(t, value < 0.0f ? -1.0 : 1.0);
}

/* ---- arrays ---- */

/* Both ends of the interval in which the exact result lies, rounded: when they are one
 * float, that is the answer. */
#define DEFINE_BOUNDS(name, margin)                                                 \
    static void name##_bounds(const float *restrict x, float *restrict low,         \
                              float *restrict high, int count) {                    \
        const double lower = 1.0 - (margin), upper = 1.0 + (margin);                \
        for (int i = 0; i < count; i++) {                                           \
            double value = name##_fast(x[i]);                                       \
            low[i] = (float)(value * lower);                                        \
            high[i] = (float)(value * upper);                                       \
        }                                                                           \
    }

#define DEFINE_CORRECTLY_ROUNDED(name) DEFINE_CORRECTLY_ROUNDED_AS(name, name##_array)
#define DEFINE_CORRECTLY_ROUNDED_AS(name, array)                                    \
    static void array(const float *restrict x, float *restrict y, int64_t n) {      \
        enum { BLOCK = 128 };                                                       \
        for (int64_t start = 0; start < n; start += BLOCK) {                        \
            const float *restrict in = x + start;                                   \
            float *restrict out = y + start;                                        \
            int count = (int)minimum(BLOCK, n - start);                             \
            float other[BLOCK];                                                     \
            name##_bounds(in, out, other, count);                                   \
            uint32_t unsafe = 0;                                                    \
            for (int i = 0; i < count; i++)                                         \
                unsafe |= float_bits(out[i]) ^ float_bits(other[i]);                \
            if (unsafe == 0) continue;                                              \
            for (int i = 0; i < count; i++)                                         \
                if (float_bits(out[i]) != float_bits(other[i]))                     \
                    out[i] = name##_exact(in[i]);                                   \
        }                                                                           \
    }

#if defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
#define BY_EIGHT 1

/* The same with the eight results of one vector at a time: name##_eight stores them and
 * returns the lanes that the second path must decide. */
#define DEFINE_BY_EIGHT(name) DEFINE_BY_EIGHT_AS(name, name##_array)
#define DEFINE_BY_EIGHT_AS(name, array)                                             \
    static void array(const float *restrict x, float *restrict y, int64_t n) {      \
        enum { BLOCK = 128, WIDTH = 8 };                                            \
        for (int64_t start = 0; start < n; start += BLOCK) {                        \
            const float *restrict in = x + start;                                   \
            float *restrict out = y + start;                                        \
            int count = (int)minimum(BLOCK, n - start);                             \
            int whole = count / WIDTH * WIDTH;                                      \
            uint8_t unsafe[BLOCK / WIDTH];                                          \
            unsigned any = 0;                                                       \
            for (int i = 0; i < whole; i += WIDTH) {                                \
                unsafe[i / WIDTH] = name##_eight(in + i, out + i);                  \
                any |= unsafe[i / WIDTH];                                           \
            }                                                                       \
            if (whole < count) {                                                    \
                float last[WIDTH] = {0}, result[WIDTH];                             \
                size_t bytes = (size_t)(count - whole) * sizeof *x;                 \
                memcpy(last, in + whole, bytes);                                    \
                unsafe[whole / WIDTH] = name##_eight(last, result);                 \
                any |= unsafe[whole / WIDTH];                                       \
                memcpy(out + whole, result, bytes);                                 \
            }                                                                       \
            if (any == 0) continue;                                                 \
            for (int i = 0; i < count; i++)                                         \
                if (unsafe[i / WIDTH] >> i % WIDTH & 1) out[i] = name##_exact(in[i]); \
        }                                                                           \
    }

/* Lanes of y, each a normal float's size, that lie within `margin` of the middle between
 * two floats: of the 29 bits that rounding drops, all but the first and the last few are
 * equal, and differ from the first. */
INLINE uint8_t near_middle(__m512d y, double margin) {
    const int64_t middle = 1LL << 28;
    int64_t width = margin < 0x1p-25 ? (int64_t)(margin * 0x1p53) : middle;
    __m512i shifted = _mm512_add_epi64(_mm512_castpd_si512(y), _mm512_set1_epi64(middle + width));
    __m512i dropped = _mm512_set1_epi64((2 * middle - 1) & -(2 * width));
    return (uint8_t)_mm512_testn_epi64_mask(shifted, dropped);
}

/* 2^(i/16), the exponent lowered by i / 16. */
static const uint64_t exp_table[16] __attribute__((aligned(64))) = {
    0x3ff0000000000000, 0x3fefb5586cf9890f, 0x3fef72b83c7d517b, 0x3fef387a6e756238,
    0x3fef06fe0a31b715, 0x3feedea64c123422, 0x3feebfdad5362a27, 0x3feeab07dd485429,
    0x3feea09e667f3bcd, 0x3feea11473eb0187, 0x3feeace5422aa0db, 0x3feec49182a3f090,
    0x3feee89f995ad3ad, 0x3fef199bdd85529c, 0x3fef5818dcfba487, 0x3fefa4afa2a490da,
};

/* exp(x) = 2^(k/16) exp(r), |r| <= ln(2) / 32, relative error below 2^-45. */
INLINE uint8_t exp_eight(const float *x, float *y) {
    __m256 given = _mm256_loadu_ps(x);
    /* Results in the range of denormal floats and near it are left to the second path. */
    uint8_t small = _mm256_cmp_ps_mask(given, _mm256_set1_ps(-87.0f), _CMP_LT_OQ) &
                    _mm256_cmp_ps_mask(given, _mm256_set1_ps(-105.0f), _CMP_GT_OQ);
    __m256 clamped = _mm256_min_ps(_mm256_set1_ps(95.0f),
                                   _mm256_max_ps(_mm256_set1_ps(-110.0f), given));
    __m512d value = _mm512_cvtps_pd(clamped); /* NaN passes both */
    __m512d shift = _mm512_set1_pd(ROUND_SHIFT);
    __m512d shifted = _mm512_fmadd_pd(value, _mm512_set1_pd(16.0 * LOG2_E), shift);
    __m512d k = _mm512_sub_pd(shifted, shift);
    __m512d r = _mm512_fnmadd_pd(k, _mm512_set1_pd(0x1.62e42fefa39efp-5), value);
    __m512d q = _mm512_set1_pd(0x1.1111d8fc466d4p-7);
    q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(0x1.5556b33118113p-5));
    q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(0x1.55555555254ebp-3));
    q = _mm512_fmadd_pd(q, r, _mm512_set1_pd(0x1.ffffffff57e8bp-2));
    __m512d m = _mm512_fmadd_pd(_mm512_mul_pd(r, r), q, r);
    __m512i index = _mm512_castpd_si512(shifted); /* its low bits count */
    __m512i first = _mm512_load_si512(exp_table), second = _mm512_load_si512(exp_table + 8);
    __m512i root = _mm512_permutex2var_epi64(first, index, second);
    __m512d scale =
        _mm512_castsi512_pd(_mm512_add_epi64(root, _mm512_slli_epi64(index, 48)));
    __m512d result = _mm512_fmadd_pd(scale, m, scale);
    _mm256_storeu_ps(y, _mm512_cvtpd_ps(result));
    return near_middle(result, MARGIN * 16) | small;
}

DEFINE_BY_EIGHT_AS(exp, exp_doubles) /* exp_array: see exponential.h */
#else
DEFINE_BOUNDS(exp, MARGIN)
DEFINE_CORRECTLY_ROUNDED_AS(exp, exp_doubles)
#endif
DEFINE_BOUNDS(log, MARGIN)
DEFINE_BOUNDS(tanh, MARGIN)
DEFINE_CORRECTLY_ROUNDED(log)
DEFINE_CORRECTLY_ROUNDED(tanh)

#endif
