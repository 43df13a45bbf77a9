/* sin and cos of a float, correctly rounded over the whole range.
 *
 * First path, |x| <= 2^17: x = n pi + r with n an integer (sin) or half of an odd one
 * (cos), so that the result is +-sin(r), |r| <= pi / 2, an odd polynomial (interpolation at
 * Chebyshev nodes, relative error 2^-50). n * PI_HIGH is exact and its difference from x
 * too where it cancels; the error of r is below 2^-72, and no float in the range comes
 * nearer than 2^-29 to a zero, so r carries less than 2^-43 of relative error.
 * Second path, larger arguments: the same with x / pi reduced in 64-bit integers (Payne and
 * Hanek, "Radian reduction for trigonometric functions", 1983).
 * Third path, whatever the margin leaves undecided: x * 2/pi in 160-bit integers, then the
 * Taylor series in double-double. */
#ifndef LOCKSTEP_TRIGONOMETRIC_H
#define LOCKSTEP_TRIGONOMETRIC_H

#include "elementary.h"

#define INVERSE_PI 0x1.45f306dc9c883p-2
#define PI_HIGH 0x1.921fb5444p+1 /* 36 bits: products by n are exact */
#define PI_LOW 0x1.68c234c4c6629p-38
#define REDUCED_LIMIT 0x1p17
#define PI_MARGIN (MARGIN * 64)
#define UNDECIDED (1.0 + 0x1p-24) /* halfway between two floats: takes the second path */

/* sin(r) for |r| <= pi / 2. */
INLINE double sin_reduced(double r) {
    double z = r * r;
    double q = -0x1.a107aa4ff3268p-41;
    q = FMA_D(q, z, 0x1.60f6e596d15bbp-33);
    q = FMA_D(q, z, -0x1.ae63bdc1b948fp-26);
    q = FMA_D(q, z, 0x1.71de394dd5acep-19);
    q = FMA_D(q, z, -0x1.a01a019e68892p-13);
    q = FMA_D(q, z, 0x1.111111111005ap-7);
    q = FMA_D(q, z, -0x1.555555555554fp-3);
    return r * FMA_D(q, z, 1.0); /* keeps the sign of zero */
}

INLINE double pi_reduced(double x, double n) {
    return FMA_D(n, -PI_LOW, FMA_D(n, -PI_HIGH, x));
}

INLINE double sin_fast(float value) {
    double x = (double)value;
    double shifted = FMA_D(x, INVERSE_PI, ROUND_SHIFT);
    double y = sin_reduced(pi_reduced(x, shifted - ROUND_SHIFT));
    y = bits_double(double_bits(y) ^ (double_bits(shifted) << 63));
    double a = x < 0.0 ? -x : x;
    return a > REDUCED_LIMIT ? UNDECIDED : y;
}

INLINE double cos_fast(float value) {
    double x = (double)value;
    double shifted = FMA_D(x, INVERSE_PI, 0.5) + ROUND_SHIFT;
    double y = sin_reduced(pi_reduced(x, (shifted - ROUND_SHIFT) - 0.5));
    y = bits_double(double_bits(y) ^ (double_bits(shifted) << 63));
    double a = x < 0.0 ? -x : x;
    return a > REDUCED_LIMIT ? UNDECIDED : y;
}

/* 2 / pi from 2^31 downwards, as far as 160 bits for the largest float reach. */
static const uint32_t two_over_pi[10] = {
    0x00000000, 0xa2f9836e, 0x4e441529, 0xfc2757d1, 0xf534ddc0,
    0xdb629599, 0x3c439041, 0xfe5163ab, 0xdebbc561, 0xb7246e3a,
};

/* 32 bits of 2 / pi, the first of them of weight 2^(31 - start). */
INLINE uint32_t two_over_pi_word(unsigned start) {
    const uint32_t *word = two_over_pi + start / 32;
    return (uint32_t)((((uint64_t)word[0] << 32 | word[1]) << start % 32) >> 32);
}

/* value = mantissa * 2^(exponent - 150), for normal values. */
INLINE uint32_t mantissa_of(float value) {
    return (float_bits(value) & 0x7fffffu) | 0x800000u;
}
INLINE unsigned exponent_of(float value) { return float_bits(value) >> 23 & 0xff; }

/* sin(|value| + quarter * pi / 2) for finite |value| >= 1: |value| / pi modulo 2, by three
 * words of 1 / pi, carries an error below 2^-62. */
static double sin_large(float value, unsigned quarter) {
    uint64_t mantissa = mantissa_of(value);
    unsigned start = exponent_of(value) - 150 + 30; /* the first bit counts whole pi */
    uint64_t window = (uint64_t)two_over_pi_word(start) << 32 | two_over_pi_word(start + 32);
    uint64_t turns = window * mantissa + (two_over_pi_word(start + 64) * mantissa >> 32);
    turns += (uint64_t)quarter << 62;
    uint64_t odd = (turns >> 63) ^ (turns >> 62 & 1); /* multiple of pi, the nearest */
    int64_t fraction = (int64_t)(turns << 1);         /* of pi, in units of 2^-64 */
    if (fraction < 1LL << 46 && fraction > -(1LL << 46)) return UNDECIDED;
    double y = sin_reduced((double)fraction * (0x1.921fb54442d18p+1 * 0x1p-64));
    return odd ? -y : y;
}

/* |value| = k pi / 2 + r with |r| <= pi / 4 (k = 0 below 1/2); returns k mod 4. */
static unsigned quadrant(float value, struct pair *r) {
    enum { WORDS = 5 }; /* bits of weight 2^1 down to 2^-158 */
    const struct pair half_pi = {0x1.921fb54442d18p+0, 0x1.1a62633145c07p-54};
    float a = value < 0.0f ? -value : value;
    if (a < 0.5f) {
        *r = (struct pair){(double)a, 0.0};
        return 0;
    }
    uint64_t mantissa = mantissa_of(a), carry = 0;
    unsigned start = exponent_of(a) - 150 + 30;
    uint32_t product[WORDS];
    for (int i = WORDS - 1; i >= 0; i--) {
        uint64_t sum = two_over_pi_word(start + 32 * (unsigned)i) * mantissa + carry;
        product[i] = (uint32_t)sum;
        carry = sum >> 32;
    }
    unsigned k = product[0] >> 30;
    int past_half = product[0] >> 29 & 1;
    struct pair fraction = {0.0, 0.0};
    double weight = 0x1p-158;
    for (int i = WORDS - 1; i >= 0; i--, weight *= 0x1p32) {
        uint32_t word = past_half ? ~product[i] : product[i];
        if (i == 0) word &= 0x3fffffffu;
        fraction = pair_add(fraction, (struct pair){(double)word * weight, 0.0});
    }
    *r = pair_multiply(fraction, half_pi);
    if (past_half) *r = (struct pair){-r->high, -r->low};
    return (k + (unsigned)past_half) & 3;
}

/* 1 - z / (f (f+1)) (1 - z / ((f+2) (f+3)) ( ... )): sin(r) / r for f = 2, cos(r) for f = 1.
 * 14 terms leave less than 2^-100 for |r| <= pi / 4. */
static struct pair alternating_series(struct pair r, int f) {
    enum { TERMS = 14 };
    const struct pair one = {1.0, 0.0};
    struct pair z = pair_multiply(r, r), sum = one;
    for (int k = TERMS - 1; k >= 0; k--) {
        double divisor = (double)((f + 2 * k) * (f + 2 * k + 1));
        struct pair term = pair_divide_by(pair_multiply(z, sum), divisor);
        sum = pair_add(one, (struct pair){-term.high, -term.low});
    }
    return sum;
}

static float sin_or_cos_exact(float value, unsigned quarter) {
    if (!(value - value == 0.0f)) return NAN_F;
    if (value == 0.0f && quarter == 0) return value;
    int mirrored = quarter == 0 && value < 0.0f;
    if (value > REDUCED_LIMIT || value < -REDUCED_LIMIT) {
        double large = sin_large(value, quarter);
        float low = (float)(large * (1.0 - PI_MARGIN)), high = (float)(large * (1.0 + PI_MARGIN));
        if (low == high) return mirrored ? -low : low;
    }
    struct pair r;
    unsigned k = quadrant(value, &r) + quarter;
    struct pair y = k & 1 ? alternating_series(r, 1)
                          : pair_multiply(r, alternating_series(r, 2));
    int negative = (int)(k >> 1 & 1) ^ mirrored;
    return round_pair(y, negative ? -1.0 : 1.0);
}

static float sin_exact(float value) { return sin_or_cos_exact(value, 0); }
static float cos_exact(float value) { return sin_or_cos_exact(value, 1); }

DEFINE_BOUNDS(sin, PI_MARGIN)
DEFINE_BOUNDS(cos, PI_MARGIN)
DEFINE_CORRECTLY_ROUNDED(sin)
DEFINE_CORRECTLY_ROUNDED(cos)

#endif
