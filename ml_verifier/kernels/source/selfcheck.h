/* Proof, at run time, that this translation unit was compiled with IEEE-754 arithmetic:
 * each expression changes its value under a compiler option that the kernels forbid. */
#ifndef LOCKSTEP_SELFCHECK_H
#define LOCKSTEP_SELFCHECK_H

enum {
    FAULT_CONTRACTION = 1,   /* a * b + c became a fused multiply-add */
    FAULT_DENORMALS = 2,     /* a denormal was flushed to zero */
    FAULT_REASSOCIATION = 4, /* (a + b) - b was simplified */
    FAULT_NAN = 8,           /* NaN tests were removed */
    FAULT_SIGNED_ZERO = 16,  /* x + 0 was simplified to x */
    FAULT_RECIPROCAL = 32,   /* a / b became a * (1 / b) */
    FAULT_ROUNDING = 64,     /* not rounding to nearest even */
    FAULT_FMA = 128,         /* fma_f rounds twice */
    FAULT_PRECISION = 256    /* float expressions kept in a wider format */
};

static int selfcheck(void) {
    /* Volatile, so that nothing is folded at compile time. */
    volatile float tiny_bit = 0x1p-12f, one = 1.0f, zero = 0.0f, three = 3.0f;
    volatile float denormal = 0x1p-149f, smallest = 0x1p-126f, big = 0x1p24f;
    volatile float numerator = 5.0f, divisor = 41.0f, nan = __builtin_nanf("");
    int faults = 0;

    float a = one + tiny_bit; /* a * a = 1 + 2^-11 + 2^-24, whose last bit rounds off */
    float square = 1.0f + 0x1p-11f;
    if (a * a - square != 0.0f) faults |= FAULT_CONTRACTION;
    if (denormal + denormal == 0.0f || smallest * 0.5f == 0.0f) faults |= FAULT_DENORMALS;
    if ((one + big) - big != 0.0f) faults |= FAULT_REASSOCIATION;
    if (nan == nan || !(nan != nan)) faults |= FAULT_NAN;
    volatile float negative_zero = -zero;
    float sum = negative_zero + zero;
    if (float_bits(sum) != 0) faults |= FAULT_SIGNED_ZERO;
    volatile float reciprocal = one / divisor;
    volatile float product = numerator * reciprocal;
    float quotient = numerator / divisor;
    if (float_bits(quotient) != 0x3df9c190u || float_bits(product) == float_bits(quotient))
        faults |= FAULT_RECIPROCAL;
    if ((big + one) != big || (big + three) != big + 4.0f) faults |= FAULT_ROUNDING;
    if ((-big - one) != -big || (-big - three) != -big - 4.0f) faults |= FAULT_ROUNDING;
    if (fma_f(a, a, -square) != 0x1p-24f) faults |= FAULT_FMA;
    /* 1 + 2^-24 + 2^-60: rounded to double first, it would tie to 1. */
    volatile float p = 1774001.0f * 0x1p-30f, q = 38737.0f * 0x1p-30f;
    if (fma_f(p, q, one) != 1.0f + 0x1p-23f) faults |= FAULT_FMA;
    volatile float huge = 0x1p100f;
    if (huge * huge * 0x1p-100f != INFINITY_F)
        faults |= FAULT_PRECISION;
    return faults;
}

#endif
