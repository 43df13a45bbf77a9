/* Comparisons, booleans, choice and integers: broadcasting loops, see nest.h. */
#ifndef LOCKSTEP_LOGIC_H
#define LOCKSTEP_LOGIC_H

#include "cast.h"
#include "nest.h"

/* size[WALK_END]: the type of the two operands, f32 or i64. */
#define DEFINE_COMPARISON(name, sign)                                               \
    DEFINE_RUN_2(name##_f32, float, uint8_t, u sign v)                              \
    DEFINE_RUN_2(name##_i64, int64_t, uint8_t, u sign v)                            \
    static int name##_operator(const struct call *call) {                           \
        int is_float = call->size[WALK_END] == TYPE_F32;                            \
        int64_t bytes = is_float ? 4 : 8;                                           \
        struct walk_job job = {.call = call,                                        \
                               .run = is_float ? name##_f32 : name##_i64,           \
                               .operands = 2,                                       \
                               .bytes = {bytes, bytes},                             \
                               .out_bytes = 1};                                     \
        return walk(&job);                                                          \
    }
DEFINE_COMPARISON(eq, ==)
DEFINE_COMPARISON(ne, !=)
DEFINE_COMPARISON(lt, <)
DEFINE_COMPARISON(le, <=)
DEFINE_COMPARISON(gt, >)
DEFINE_COMPARISON(ge, >=)

#define DEFINE_OF_ONE_TYPE(name, type, expression)                                  \
    DEFINE_RUN_2(name##_run, type, type, expression)                                \
    static int name##_operator(const struct call *call) {                           \
        struct walk_job job = {.call = call,                                        \
                               .run = name##_run,                                   \
                               .operands = 2,                                       \
                               .bytes = {sizeof(type), sizeof(type)},               \
                               .out_bytes = sizeof(type)};                          \
        return walk(&job);                                                          \
    }
DEFINE_OF_ONE_TYPE(and, uint8_t, u & v)
DEFINE_OF_ONE_TYPE(or, uint8_t, u | v)
DEFINE_OF_ONE_TYPE(xor, uint8_t, u ^ v)

static void not_range(const void *context, int64_t first, int64_t last,
                      const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    const uint8_t *restrict x = call->in[0];
    uint8_t *restrict y = call->out[0];
    for (int64_t i = first; i < last; i++) y[i] = x[i] ^ 1;
}

static int not_operator(const struct call *call) {
    parallel_range(not_range, call, call->size[0], 1);
    return RUN_OK;
}

/* Modulo 2^64: unsigned arithmetic wraps, where signed arithmetic would be undefined. */
DEFINE_OF_ONE_TYPE(int_add, uint64_t, u + v)
DEFINE_OF_ONE_TYPE(int_sub, uint64_t, u - v)
DEFINE_OF_ONE_TYPE(int_mul, uint64_t, u * v)

/* Rounded toward -infinity; by 0 gives 0; the smallest integer by -1 is itself. */
INLINE int64_t floor_quotient(int64_t a, int64_t b) {
    if (b == 0) return 0;
    if (b == -1) return (int64_t)(0 - (uint64_t)a);
    int64_t quotient = a / b;
    return quotient - (a % b != 0 && (a < 0) != (b < 0));
}

/* What is left by floor_quotient: of the divisor's sign; by 0 gives 0. */
INLINE int64_t floor_remainder(int64_t a, int64_t b) {
    if (b == 0 || b == -1) return 0;
    int64_t remainder = a % b;
    return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
}
DEFINE_OF_ONE_TYPE(int_floordiv, int64_t, floor_quotient(u, v))
DEFINE_OF_ONE_TYPE(int_remainder, int64_t, floor_remainder(u, v))

/* in: condition, a, b; size[WALK_END]: bytes of an element. */
#define DEFINE_WHERE(type, name)                                                    \
    INLINE void name##_stepping(const uint8_t *restrict c, int64_t step_c,          \
                                const type *restrict a, int64_t step_a,             \
                                const type *restrict b, int64_t step_b,             \
                                type *restrict y, int64_t n) {                      \
        INDEPENDENT for (int64_t i = 0; i < n; i++) {                               \
            type u = a[i * step_a], v = b[i * step_b];                              \
            y[i] = c[i * step_c] ? u : v;                                           \
        }                                                                           \
    }                                                                               \
    static void name(const void *const in[], const int64_t step[], void *out,       \
                     int64_t n) {                                                   \
        if (!step[0]) { /* one choice for all */                                    \
            int chosen = *(const uint8_t *)in[0] ? 1 : 2;                           \
            const type *restrict x = in[chosen];                                    \
            type *restrict y = out;                                                 \
            if (step[chosen])                                                       \
                memcpy(y, x, (size_t)n * sizeof *y);                                \
            else                                                                    \
                for (int64_t i = 0; i < n; i++) y[i] = x[0];                        \
        } else if (step[1] && step[2])                                              \
            name##_stepping(in[0], 1, in[1], 1, in[2], 1, out, n);                  \
        else if (step[1])                                                           \
            name##_stepping(in[0], 1, in[1], 1, in[2], 0, out, n);                  \
        else if (step[2])                                                           \
            name##_stepping(in[0], 1, in[1], 0, in[2], 1, out, n);                  \
        else                                                                        \
            name##_stepping(in[0], 1, in[1], 0, in[2], 0, out, n);                  \
    }
DEFINE_WHERE(uint8_t, where_run_1)
DEFINE_WHERE(uint16_t, where_run_2)
DEFINE_WHERE(uint32_t, where_run_4)
DEFINE_WHERE(uint64_t, where_run_8)

static int where_operator(const struct call *call) {
    int64_t bytes = call->size[WALK_END];
    struct walk_job job = {.call = call,
                           .run = bytes == 1   ? where_run_1
                                  : bytes == 2 ? where_run_2
                                  : bytes == 4 ? where_run_4
                                               : where_run_8,
                           .operands = 3,
                           .bytes = {1, bytes, bytes},
                           .out_bytes = bytes};
    return walk(&job);
}

#endif
