/* Checks the correctly rounded functions of the kernels on all 2^32 inputs.
 *
 * usage: exhaustive <library> <isa> <function 0..5> [first] [count]
 *
 * The reference is the C library's double function with a margin of 32 units in the last
 * place; where that does not decide, the quad-precision function does. */
#include <dlfcn.h>
#include <math.h>
#include <quadmath.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 16 };
static const double MARGIN = 0x1p-48;

/* As lockstep_unary_range counts them. */
static double (*const plain[])(double) = {exp, log, tanh, erf, sin, cos};
static __float128 (*const quad[])(__float128) = {expq, logq, tanhq, erfq, sinq, cosq};
enum { FUNCTIONS = sizeof plain / sizeof plain[0] };

static float reference(int function, float x, uint64_t *hard) {
    double y = plain[function](x);
    float low = (float)(y * (1 - MARGIN)), high = (float)(y * (1 + MARGIN));
    if (low == high || y != y) return low;
    ++*hard;
    return (float)quad[function](x);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) return fprintf(stderr, "%s\n", dlerror()), 2;
    int (*set_isa)(const char *) = dlsym(library, "lockstep_set_isa");
    void (*range)(int, uint32_t, int64_t, float *) = dlsym(library, "lockstep_unary_range");
    if (!set_isa || !range || set_isa(argv[2])) return fprintf(stderr, "no %s\n", argv[2]), 2;
    int function = atoi(argv[3]);
    if (function < 0 || function >= FUNCTIONS) return fprintf(stderr, "no function\n"), 2;
    uint64_t first = argc > 4 ? strtoull(argv[4], NULL, 0) : 0;
    uint64_t count = argc > 5 ? strtoull(argv[5], NULL, 0) : 1ull << 32;
    uint64_t wrong = 0, hard = 0;
    static float y[BLOCK];
    for (uint64_t u = first; u < first + count; u += BLOCK) {
        range(function, (uint32_t)u, BLOCK, y);
        for (uint32_t i = 0; i < BLOCK; i++) {
            uint32_t bits = (uint32_t)u + i, got;
            float x, want;
            memcpy(&x, &bits, 4);
            memcpy(&got, y + i, 4);
            want = reference(function, x, &hard);
            uint32_t expected;
            memcpy(&expected, &want, 4);
            if (got == expected || (want != want && y[i] != y[i])) continue;
            if (wrong++ < 8) printf("%a: got %a, expected %a\n", x, y[i], want);
        }
    }
    printf("%llu inputs, %llu hard, %llu wrong\n", (unsigned long long)count,
           (unsigned long long)hard, (unsigned long long)wrong);
    return wrong != 0;
}
