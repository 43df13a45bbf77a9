/* Conversions between element types. size: [0] elements, [1] and [2] the codes of the
 * input's and the output's type, as in ml_verifier/types.py. */
#ifndef LOCKSTEP_CAST_H
#define LOCKSTEP_CAST_H

#include "variant.h"

enum { TYPE_F32 = 1, TYPE_I64 = 2, TYPE_BF16 = 3, TYPE_BOOL = 4 };

INLINE float bf16_float(uint16_t bits) { return bits_float((uint32_t)bits << 16); }

/* To nearest even; a NaN to the canonical one. */
INLINE uint16_t float_bf16(float value) {
    uint32_t bits = float_bits(value);
    uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}

/* Toward zero; saturates; NaN gives 0. */
INLINE int64_t float_i64(float value) {
    int inside = value >= -0x1p63f && value < 0x1p63f;
    int64_t whole = (int64_t)(inside ? value : 0.0f);
    int64_t outside = value >= 0x1p63f ? INT64_MAX : value < 0.0f ? INT64_MIN : 0;
    return inside ? whole : outside;
}

#define DEFINE_CAST(name, in_type, out_type, expression)                            \
    static void name(const void *in, void *out, int64_t first, int64_t last) {      \
        const in_type *restrict x = in;                                             \
        out_type *restrict y = out;                                                 \
        for (int64_t i = first; i < last; i++) {                                    \
            in_type u = x[i];                                                       \
            y[i] = (out_type)(expression);                                          \
        }                                                                           \
    }
DEFINE_CAST(cast_f32_f32, uint32_t, uint32_t, u)
DEFINE_CAST(cast_f32_i64, float, int64_t, float_i64(u))
DEFINE_CAST(cast_f32_bf16, float, uint16_t, float_bf16(u))
DEFINE_CAST(cast_f32_bool, float, uint8_t, u != 0.0f)
DEFINE_CAST(cast_i64_f32, int64_t, float, u)
DEFINE_CAST(cast_i64_i64, uint64_t, uint64_t, u)
DEFINE_CAST(cast_i64_bf16, int64_t, uint16_t, float_bf16((float)u))
DEFINE_CAST(cast_i64_bool, int64_t, uint8_t, u != 0)
DEFINE_CAST(cast_bf16_f32, uint16_t, float, bf16_float(u))
DEFINE_CAST(cast_bf16_i64, uint16_t, int64_t, float_i64(bf16_float(u)))
DEFINE_CAST(cast_bf16_bf16, uint16_t, uint16_t, u)
DEFINE_CAST(cast_bf16_bool, uint16_t, uint8_t, (u & 0x7fffu) != 0)
DEFINE_CAST(cast_bool_f32, uint8_t, float, u)
DEFINE_CAST(cast_bool_i64, uint8_t, int64_t, u)
DEFINE_CAST(cast_bool_bf16, uint8_t, uint16_t, u ? 0x3f80 : 0)
DEFINE_CAST(cast_bool_bool, uint8_t, uint8_t, u)

typedef void (*cast_run)(const void *in, void *out, int64_t first, int64_t last);

static void cast_range(const void *context, int64_t first, int64_t last,
                       const struct worker *worker) {
    static const cast_run runs[4][4] = {
        {cast_f32_f32, cast_f32_i64, cast_f32_bf16, cast_f32_bool},
        {cast_i64_f32, cast_i64_i64, cast_i64_bf16, cast_i64_bool},
        {cast_bf16_f32, cast_bf16_i64, cast_bf16_bf16, cast_bf16_bool},
        {cast_bool_f32, cast_bool_i64, cast_bool_bf16, cast_bool_bool},
    };
    (void)worker;
    const struct call *call = context;
    runs[call->size[1] - 1][call->size[2] - 1](call->in[0], call->out[0], first, last);
}

static int cast_operator(const struct call *call) {
    parallel_range(cast_range, call, call->size[0], 1);
    return RUN_OK;
}

#endif
