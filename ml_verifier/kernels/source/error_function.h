/* The Gauss error function of a float, correctly rounded.
 *
 * First path: erf(x) = x * Q(|x|), where Q is a polynomial of the distance to the middle of
 * the interval that |x| falls into: interpolations at Chebyshev nodes with a relative
 * error below 2^-43. The argument is clamped to where the result is 1. A vector register
 * holds one coefficient for all intervals, so their number follows the instruction set:
 * 16 with AVX-512 (and where plain loads fetch them), 4 with AVX2.
 * With AVX2 a look-up costs more than an operation, so a vector with all |x| below 2 is
 * first tried without a table, as x times one polynomial of x^2.
 * Second path: erf(x) = 2 / sqrt(pi) exp(-x^2) sum of 2^k x^(2k+1) / (1 * 3 * ... * (2k+1))
 * in double-double; all terms have one sign. */
#ifndef LOCKSTEP_ERROR_FUNCTION_H
#define LOCKSTEP_ERROR_FUNCTION_H

#include "elementary.h"

#define ERF_LIMIT 3.9921875f /* erf rounds to 1 from 3.92 on */
#define ERF_MARGIN (MARGIN * 64)

#if defined(__AVX2__) && !defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
enum { ERF_INTERVALS = 4, ERF_DEGREE = 13 }; /* [k, k + 1) */
static const double erf_table[ERF_DEGREE + 1][ERF_INTERVALS] __attribute__((aligned(64))) = {
    {0x1.0a7ef5c18ef16p+0, 0x1.49c38e4b7a6bap-1, 0x1.996eed90a1606p-2, 0x1.24923ae50c3a9p-2},
    {-0x1.4c3884e5e2d33p-2, -0x1.667ed552b82bfp-2, -0x1.45c31f8201856p-3,
     -0x1.4e5c5c0d426ecp-4},
    {-0x1.d6dd159000c6dp-3, 0x1.d4d9711c24e58p-4, 0x1.f76000f8dcf4ap-5, 0x1.7e09c39c8fdc6p-6},
    {0x1.55cfc810fefefp-3, 0x1.0946e1033f682p-6, -0x1.5bfa13d2ce243p-6, -0x1.b3d2b39ab3febp-8},
    {0x1.0915afaf624cfp-5, -0x1.4bfeaf15311fep-5, 0x1.4abb8ad9cf6b8p-8, 0x1.ed02f47ec1d56p-10},
    {-0x1.9a2fafce62135p-5, 0x1.1847c358fed49p-6, 0x1.c11cfaa6147dbp-12,
     -0x1.0d6b8e949c0a2p-11},
    {0x1.f34958990cbbfp-15, 0x1.83d6c5cd26a64p-10, -0x1.525a8454fbab3p-10,
     0x1.0553381fc8e28p-13},
    {0x1.5e54ff6128e0dp-7, -0x1.0fddf6deb52cep-8, 0x1.806f61e24b98ep-11,
     -0x1.3e5e36947a9c1p-16},
    {-0x1.515b1caac5098p-10, 0x1.380b00c2723e1p-10, -0x1.8c7e93a598c65p-13,
     -0x1.24e5baa1b0416p-18},
    {-0x1.cd5861a6effdep-10, 0x1.6b25fe4a96feep-12, -0x1.9b11dc49ab5c7p-16,
     0x1.79a24aa78185dp-18},
    {0x1.8c66f90a9b7f5p-12, -0x1.325e6fcf8f91ap-12, 0x1.5c264cc107d5bp-15,
     -0x1.8b62f4404d395p-19},
    {0x1.e6a1ad748161fp-13, 0x1.a4b7c1a44dc0cp-16, -0x1.e58f4f8f71f68p-17,
     0x1.041c20fcd7bbap-20},
    {-0x1.0bb4c2abcb045p-14, 0x1.151f16853177fp-15, -0x1.99b8eff3804f9p-22,
     -0x1.ebdde80b32063p-24},
    {-0x1.86f83646e27b2p-16, -0x1.48f7ca987c0c4p-17, 0x1.e5663c4299e05p-20,
     -0x1.d3167d18f9560p-25},
};
#else
enum { ERF_INTERVALS = 16, ERF_DEGREE = 8 }; /* nearest multiple of ERF_STEP */
#define ERF_STEP 0x1.08p-2
#define ERF_STEPS_PER_UNIT 0x1.f07c1f07c1f08p+1
static const double erf_table[ERF_DEGREE + 1][ERF_INTERVALS] __attribute__((aligned(64))) = {
    {0x1.20dd750429b6dp+0, 0x1.1a9735d3bf9d3p+0, 0x1.092f1a3911852p+0, 0x1.e0921c9ad5117p-1,
     0x1.a8a126994babfp-1, 0x1.720f2685ff664p-1, 0x1.417dbe1b17c56p-1, 0x1.18ab379d61678p-1,
     0x1.eebaa9dc6cd65p-2, 0x1.b8dd31be8e43cp-2, 0x1.8d15041fb667fp-2, 0x1.690eda9a240dfp-2,
     0x1.4afc62e19a290p-2, 0x1.31874aba1e8b3p-2, 0x1.1bb49dd9249c0p-2, 0x1.08caba6e4fe82p-2},
    {0.0, -0x1.7db8122e206f3p-3, -0x1.5373cd9eeb38bp-2, -0x1.a554844139fcep-2,
     -0x1.b4af99acb724dp-2, -0x1.9401a74da4c1dp-2, -0x1.5b6a06da00db2p-2, -0x1.1e63b4ec1fc2bp-2,
     -0x1.cfd13eabf8b83p-3, -0x1.776eb75ac39c2p-3, -0x1.32e0303d68c39p-3, -0x1.fcbca92ffb67fp-4,
     -0x1.abd653c4bb3cep-4, -0x1.6c9f2ef45f375p-4, -0x1.3a6822bc7333ep-4,
     -0x1.11e2a8cf10021p-4},
    {-0x1.812746b02d984p-2, -0x1.54da664fa8bdbp-2, -0x1.c6bf7e7ab1c0bp-3, -0x1.6a1355abc030bp-4,
     0x1.886c32533e402p-6, 0x1.78544257eab57p-4, 0x1.dc0f42898a18cp-4, 0x1.c8caa24fc1610p-4,
     0x1.8017a093c887cp-4, 0x1.2e63ec12c92ccp-4, 0x1.d01f2315cdd2cp-5, 0x1.63ce925fc5045p-5,
     0x1.13eff54250642p-5, 0x1.b2ebf82cf80eap-6, 0x1.5c6490fd5b771p-6, 0x1.1b491f988257dp-6},
    {0.0, 0x1.b83f169b998bep-4, 0x1.59b40a73d1324p-3, 0x1.559e453c4505dp-3,
     0x1.e621ac334d8eep-4, 0x1.d648510f9b694p-5, 0x1.25f3b798c39bep-7, -0x1.1f6f967990608p-6,
     -0x1.aa2cb43fed150p-6, -0x1.923779507dd89p-6, -0x1.41e58742f75b9p-6, -0x1.e0c7140a58947p-7,
     -0x1.5fbacc46562e4p-7, -0x1.027d443bf6be0p-7, -0x1.81b8b0a5797dep-8,
     -0x1.24f4a7a2c65e8p-8},
    {0x1.ce2f21228faa5p-4, 0x1.66e018394b370p-4, 0x1.d21acbd0a6b07p-6, -0x1.de22963a2845bp-6,
     -0x1.de6ccdca808fdp-5, -0x1.cb63aa0eefdeep-5, -0x1.2ade82fbc3210p-5, -0x1.01a4af7647c1cp-6,
     -0x1.1403e53a81973p-9, 0x1.fbe30ad415a59p-9, 0x1.4eb8e1228b733p-8, 0x1.1f3694838e01ap-8,
     0x1.ab06cdd84de29p-9, 0x1.2e26cd1e8be33p-9, 0x1.a8f78c0b1ac79p-10, 0x1.2e97a354c5a1bp-10},
    {0.0, -0x1.2d53952707607p-5, -0x1.99affa0f4625cp-5, -0x1.2496b38dd2830p-5,
     -0x1.318f6e2db3088p-7, 0x1.63871948c2877p-7, 0x1.1c135d8234424p-6, 0x1.c470b1d44a3e7p-7,
     0x1.e02df05f09a12p-8, 0x1.370ca99581cc5p-9, -0x1.708be25b09cfep-14, -0x1.b8ded541564d2p-11,
     -0x1.b703be2143755p-11, -0x1.4b94f1cef2c7ep-11, -0x1.ca5566b296a9bp-12,
     -0x1.36a425f55ade9p-12},
    {-0x1.b82b395c9228ep-6, -0x1.255ad4919c2e5p-6, 0x1.3fa67ce2f7bdap-10, 0x1.f823379e99939p-7,
     0x1.0ff09a2034058p-6, 0x1.1ccdf2766b248p-7, 0x1.979fd1eb9d5cfp-13, -0x1.0180698249f5cp-8,
     -0x1.03b7f71aa8e62p-8, -0x1.358e06c9fc583p-9, -0x1.e3c532793a49ep-11,
     -0x1.4c58ded4988a6p-13, 0x1.b6c3d6052aa74p-14, 0x1.2517552f65103p-13,
     0x1.c9d5bd8da33e4p-14, 0x1.3709f6f4e015dp-14},
    {0.0, 0x1.28b8d9a71c9d7p-7, 0x1.567c363fbccd5p-7, 0x1.1fff787d12ef3p-8,
     -0x1.5214d35924d77p-9, -0x1.5705de268d6ffp-8, -0x1.e10cd51205f71p-9,
     -0x1.f9b9bb09fd2c2p-11, 0x1.554f02e19b1e3p-11, 0x1.ebe935026ef27p-11,
     0x1.40de7b30355a2p-11, 0x1.0eba295e9f03ep-12, 0x1.06841cf3c25f5p-14,
     -0x1.fd7f7ab70b1bfp-18, -0x1.5ae7d6b9b07d6p-16, -0x1.1d1e35482541ap-16},
    {0x1.544579a324fbdp-8, 0x1.7c92eea770d08p-9, -0x1.8d231bcc10052p-10, -0x1.ed58699250963p-9,
     -0x1.4df023ed8519fp-9, -0x1.02aa5cfc1c662p-14, 0x1.54386183c3000p-10,
     0x1.2b1ba5164113cp-10, 0x1.b6981c538ea28p-12, -0x1.3416e3cd594e4p-14,
     -0x1.98d60664f7289p-13, -0x1.1c19fd54310c6p-13, -0x1.e99cae3eb21ebp-15,
     -0x1.0460882e4a9d6p-16, -0x1.2cdf47ee2b978p-22, 0x1.77f6cbc904ddap-19},
};
#endif

static float erf_exact(float value);

#ifdef BY_EIGHT

INLINE uint8_t erf_eight(const float *x, float *y) {
    __m256 limit = _mm256_set1_ps(ERF_LIMIT), bottom = _mm256_set1_ps(-ERF_LIMIT);
    __m256 given = _mm256_loadu_ps(x);
    __m256 clamped = _mm256_max_ps(bottom, _mm256_min_ps(limit, given));
    __m512d value = _mm512_cvtps_pd(clamped); /* NaN passes both */
    __m512d a = _mm512_abs_pd(value), shift = _mm512_set1_pd(ROUND_SHIFT);
    __m512d shifted = _mm512_fmadd_pd(a, _mm512_set1_pd(ERF_STEPS_PER_UNIT), shift);
    __m512i interval = _mm512_castpd_si512(shifted); /* its low four bits count */
    __m512d middle = _mm512_sub_pd(shifted, shift);
    __m512d d = _mm512_fnmadd_pd(middle, _mm512_set1_pd(ERF_STEP), a);
    __m512d q = _mm512_setzero_pd();
    UNROLL for (int k = ERF_DEGREE; k >= 0; k--) {
        __m512d first = _mm512_load_pd(erf_table[k]);
        __m512d second = _mm512_load_pd(erf_table[k] + 8);
        __m512d term = _mm512_permutex2var_pd(first, interval, second);
        q = k == ERF_DEGREE ? term : _mm512_fmadd_pd(q, d, term);
    }
    __m512d result = _mm512_mul_pd(value, q);
    _mm256_storeu_ps(y, _mm512_cvtpd_ps(result));
    return near_middle(result, ERF_MARGIN) | _mm256_fpclass_ps_mask(given, 0x20); /* denormal */
}

DEFINE_BY_EIGHT(erf)

#elif defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
#define ERF_NORMAL 0x1p-126f /* and above: results are not denormal */

/* Interpolation of erf(x) / x in x^2 for |x| below 2, with a relative error below 2^-37.8. */
#define ERF_NEAR 2.0f
#define ERF_NEAR_MARGIN (MARGIN * 2048)
enum { ERF_NEAR_DEGREE = 12 };
static const double erf_near[ERF_NEAR_DEGREE + 1] = {
    0x1.20dd750426e96p+0, -0x1.812746ac838f8p-2, 0x1.ce2f20cff5e8cp-4,
    -0x1.b82cd10681c13p-6, 0x1.565afc39f66aap-8, -0x1.c022693a729f1p-11,
    0x1.f93e2707c6035p-14, -0x1.f26f6a99cd61ap-17, 0x1.afe2577d434fbp-20,
    -0x1.41f1f52c853fdp-23, 0x1.82d449c6f2864p-27, -0x1.45b4ec7d4ca02p-31,
    0x1.1723854c43f3cp-36,
};

/* Rounds four results; lanes of `open` become ones where a middle between two floats lies
 * within `margin`: of the 29 bits that rounding drops, all but the first and the last few
 * are equal, and differ from the first. */
INLINE __m128 erf_rounded(__m256d y, double margin, __m256i *open) {
    const int64_t middle = 1LL << 28;
    int64_t width = margin < 0x1p-25 ? (int64_t)(margin * 0x1p53) : middle;
    __m256i shifted = _mm256_add_epi64(_mm256_castpd_si256(y), _mm256_set1_epi64x(middle + width));
    __m256i dropped = _mm256_set1_epi64x((2 * middle - 1) & -(2 * width));
    __m256i kept = _mm256_and_si256(shifted, dropped);
    *open = _mm256_cmpeq_epi64(kept, _mm256_setzero_si256());
    return _mm256_cvtpd_ps(y);
}

INLINE __m256d erf_by_polynomial(__m128 x) {
    __m256d value = _mm256_cvtps_pd(x), z = _mm256_mul_pd(value, value);
    __m256d q = _mm256_set1_pd(erf_near[ERF_NEAR_DEGREE]);
    UNROLL for (int k = ERF_NEAR_DEGREE - 1; k >= 0; k--)
        q = _mm256_fmadd_pd(q, z, _mm256_set1_pd(erf_near[k]));
    return _mm256_mul_pd(value, q);
}

INLINE __m256d erf_by_table(__m128 x) {
    __m128 limit = _mm_set1_ps(ERF_LIMIT), bottom = _mm_set1_ps(-ERF_LIMIT);
    __m128 clamped = _mm_max_ps(bottom, _mm_min_ps(limit, x));
    __m256d value = _mm256_cvtps_pd(clamped); /* NaN passes both */
    __m256d half = _mm256_set1_pd(0.5), shift = _mm256_set1_pd(ROUND_SHIFT);
    __m256d a = _mm256_sub_pd(_mm256_andnot_pd(_mm256_set1_pd(-0.0), value), half);
    __m256d shifted = _mm256_add_pd(a, shift);
    __m256d d = _mm256_sub_pd(a, _mm256_sub_pd(shifted, shift));
    /* A double is two floats: 2k and 2k + 1 pick it out of four. */
    __m256i k2 = _mm256_slli_epi32(_mm256_castps_si256(_mm256_moveldup_ps(_mm256_castpd_ps(shifted))), 1);
    __m256i halves = _mm256_or_si256(k2, _mm256_set1_epi64x(0x100000000));
    __m256d q = _mm256_setzero_pd();
    UNROLL for (int k = ERF_DEGREE; k >= 0; k--) {
        __m256 row = _mm256_castpd_ps(_mm256_load_pd(erf_table[k]));
        __m256d term = _mm256_castps_pd(_mm256_permutevar8x32_ps(row, halves));
        q = k == ERF_DEGREE ? term : _mm256_fmadd_pd(q, d, term);
    }
    return _mm256_mul_pd(value, q);
}

/* Eight results stored; a bit for each that is not decided. */
INLINE unsigned erf_store(float *y, __m256d low, __m256d high, double margin) {
    __m256i first, second;
    __m128 left = erf_rounded(low, margin, &first), right = erf_rounded(high, margin, &second);
    _mm256_storeu_ps(y, _mm256_set_m128(right, left));
    unsigned open = (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(second));
    return open << 4 | (unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(first));
}

INLINE int erf_is_near(__m256 x) {
    __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
    __m256 below = _mm256_cmp_ps(a, _mm256_set1_ps(ERF_NEAR), _CMP_LT_OQ);
    __m256 normal = _mm256_cmp_ps(a, _mm256_set1_ps(ERF_NORMAL), _CMP_GE_OQ);
    return _mm256_movemask_ps(_mm256_and_ps(below, normal)) == 0xff;
}

/* The vectors that the polynomial does not reach or decide. */
static __attribute__((noinline)) void erf_far(const float *x, float *y) {
    __m256 given = _mm256_loadu_ps(x);
    __m128 low = _mm256_castps256_ps128(given), high = _mm256_extractf128_ps(given, 1);
    unsigned open = erf_store(y, erf_by_table(low), erf_by_table(high), ERF_MARGIN);
    __m256 a = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), given), zero = _mm256_setzero_ps();
    __m256 tiny = _mm256_and_ps(_mm256_cmp_ps(a, _mm256_set1_ps(ERF_NORMAL), _CMP_LT_OQ),
                                _mm256_cmp_ps(a, zero, _CMP_GT_OQ));
    open |= (unsigned)_mm256_movemask_ps(tiny);
    for (int i = 0; open != 0; i++, open >>= 1)
        if (open & 1) y[i] = erf_exact(x[i]);
}

INLINE void erf_vector(const float *x, float *y) {
    __m256 given = _mm256_loadu_ps(x);
    __m128 low = _mm256_castps256_ps128(given), high = _mm256_extractf128_ps(given, 1);
    if (!erf_is_near(given) ||
        erf_store(y, erf_by_polynomial(low), erf_by_polynomial(high), ERF_NEAR_MARGIN) != 0)
        erf_far(x, y);
}

static void erf_array(const float *restrict x, float *restrict y, int64_t n) {
    int64_t i = 0;
    for (; i + VECTOR <= n; i += VECTOR) erf_vector(x + i, y + i);
    if (i == n) return;
    float last[VECTOR] = {0}, result[VECTOR];
    size_t bytes = (size_t)(n - i) * sizeof *x;
    memcpy(last, x + i, bytes);
    erf_vector(last, result);
    memcpy(y + i, result, bytes);
}

#else
INLINE double erf_fast(float x) {
    double value = (double)x;
    value = value > (double)ERF_LIMIT ? (double)ERF_LIMIT : value; /* NaN passes both */
    value = value < -(double)ERF_LIMIT ? -(double)ERF_LIMIT : value;
    double a = value < 0.0 ? -value : value;
    double shifted = FMA_D(a, ERF_STEPS_PER_UNIT, ROUND_SHIFT);
    uint64_t interval = double_bits(shifted) % ERF_INTERVALS;
    double d = FMA_D(shifted - ROUND_SHIFT, -ERF_STEP, a);
    double q = erf_table[ERF_DEGREE][interval];
    UNROLL for (int k = ERF_DEGREE - 1; k >= 0; k--) q = FMA_D(q, d, erf_table[k][interval]);
    return value * q;
}

DEFINE_BOUNDS(erf, ERF_MARGIN)
DEFINE_CORRECTLY_ROUNDED(erf)
#endif

static float erf_exact(float value) {
    const struct pair one = {1.0, 0.0};
    const struct pair two_over_root_pi = {0x1.20dd750429b6dp+0, 0x1.1ae3a914fed80p-56};
    double n, x = (double)value, sign = x < 0.0 ? -1.0 : 1.0;
    if (x != x) return value;
    if (x * sign > (double)ERF_LIMIT) return (float)sign;
    struct pair square = {x * x, 0.0}; /* exact: 48 bits */
    struct pair sum = one;
    /* What is left out is less than 2^-80 of the sum. */
    for (int k = 25 + (int)(14.0 * (x * sign)); k >= 1; k--) {
        struct pair term = pair_multiply(sum, (struct pair){2.0 * square.high, 0.0});
        sum = pair_add(one, pair_divide_by(term, (double)(2 * k + 1)));
    }
    struct pair y = pair_multiply(sum, pair_multiply(two_over_root_pi, (struct pair){x * sign, 0.0}));
    struct pair gauss = pair_add(one, exp_pair(-square.high, &n));
    return round_pair(pair_multiply(y, gauss), sign * power_of_two(n));
}

#endif
