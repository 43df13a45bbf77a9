/* Proof, at run time, that this translation unit was compiled with IEEE-754 arithmetic:
 * each expression changes its value under a compiler option that the kernels forbid. */
#ifndef LOCKSTEP_SELFCHECK_H
#define LOCKSTEP_SELFCHECK_H

enum {
#define X(fault, name) FAULT_BIT_##fault,
    LOCKSTEP_FAULTS(X)
#undef X
#define X(fault, name) FAULT_##fault = 1 << FAULT_BIT_##fault,
    LOCKSTEP_FAULTS(X)
#undef X
};

/* A value that the compiler does not know. */
INLINE float unknown(float value) {
    volatile float hidden = value;
    return hidden;
}

INLINE double unknown_double(double value) {
    volatile double hidden = value;
    return hidden;
}

static int selfcheck(void) {
    float one = unknown(1.0f), zero = unknown(0.0f), big = unknown(0x1p24f);
    int faults = 0;

    float a = one + unknown(0x1p-12f); /* a * a = 1 + 2^-11 + 2^-24: the last bit rounds off */
    float square = 1.0f + 0x1p-11f;
    if (a * a - square != 0.0f) faults |= FAULT_CONTRACTION;

    double wide = 1.0 + unknown_double(0x1p-27); /* likewise, with 2^-54 */
    if (wide * wide - (1.0 + 0x1p-26) != 0.0) faults |= FAULT_CONTRACTION;

    float denormal = unknown(0x1p-149f), smallest = unknown(0x1p-126f);
    if (float_bits(denormal + denormal) != 2 || float_bits(smallest * 0.5f) != 0x400000u)
        faults |= FAULT_DENORMALS;

    if ((one + big) - big != 0.0f) faults |= FAULT_REASSOCIATION;
    double huge_double = unknown_double(0x1p53);
    if (((double)one + huge_double) - huge_double != 0.0) faults |= FAULT_REASSOCIATION;

    float nan = unknown(__builtin_nanf(""));
    if (nan == nan || !(nan != nan)) faults |= FAULT_NAN;

    if (float_bits(unknown(-zero) + 0.0f) != 0) faults |= FAULT_SIGNED_ZERO;

    if (float_bits(unknown(5.0f) / 41.0f) != 0x3df9c190u) faults |= FAULT_RECIPROCAL;

    float three = unknown(3.0f);
    if (big + one != big || big + three != big + 4.0f) faults |= FAULT_ROUNDING;
    if (-big - one != -big || -big - three != -big - 4.0f) faults |= FAULT_ROUNDING;

    if (fma_f(a, a, -square) != 0x1p-24f) faults |= FAULT_FMA;
    /* 1 + 2^-24 + 2^-60: rounded to double first, it would tie to 1. */
    float p = unknown(1774001.0f * 0x1p-30f), q = unknown(38737.0f * 0x1p-30f);
    if (fma_f(p, q, one) != 1.0f + 0x1p-23f) faults |= FAULT_FMA;

    float huge = unknown(0x1p100f);
    if (huge * huge * 0x1p-100f != INFINITY_F) faults |= FAULT_PRECISION;

    if (0.1 == 0.1f) faults |= FAULT_CONSTANTS;
    return faults;
}

#endif
