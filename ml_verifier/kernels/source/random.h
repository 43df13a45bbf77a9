/* The counter-based generator and what is drawn from it. */
#ifndef LOCKSTEP_RANDOM_H
#define LOCKSTEP_RANDOM_H

#include "vector.h"

/* Vectors of 64-bit lanes whose lower halves are words of the generator: a product of
 * lower halves is one instruction and leaves the high word one shift away. What stands
 * in the upper halves never matters. */
#if defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
enum { WORDS = 8, WORD_VECTORS = 4 };
typedef __m512i words;
INLINE words words_load(const uint64_t *p) { return _mm512_loadu_si512(p); }
INLINE void words_store(uint64_t *p, words a) { _mm512_storeu_si512(p, a); }
INLINE words words_set(uint64_t x) { return _mm512_set1_epi64((long long)x); }
INLINE words words_product(words a, words b) { return _mm512_mul_epu32(a, b); }
INLINE words words_high(words a) { return _mm512_srli_epi64(a, 32); }
INLINE words words_xor(words a, words b) { return _mm512_xor_si512(a, b); }
#elif defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
enum { WORDS = 4, WORD_VECTORS = 2 };
typedef __m256i words;
INLINE words words_load(const uint64_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
INLINE void words_store(uint64_t *p, words a) { _mm256_storeu_si256((__m256i *)p, a); }
INLINE words words_set(uint64_t x) { return _mm256_set1_epi64x((long long)x); }
INLINE words words_product(words a, words b) { return _mm256_mul_epu32(a, b); }
INLINE words words_high(words a) { return _mm256_srli_epi64(a, 32); }
INLINE words words_xor(words a, words b) { return _mm256_xor_si256(a, b); }
#else
enum { WORDS = 4, WORD_VECTORS = 1 };
typedef struct {
    uint64_t lane[WORDS];
} words;
#define DEFINE_WORDS(name, expression)                                              \
    INLINE words name(words a, words b) {                                           \
        (void)b;                                                                    \
        for (int i = 0; i < WORDS; i++) {                                           \
            uint64_t u = a.lane[i], v = b.lane[i];                                  \
            (void)v;                                                                \
            a.lane[i] = (expression);                                               \
        }                                                                           \
        return a;                                                                   \
    }
DEFINE_WORDS(words_product, (uint64_t)(uint32_t)u * (uint32_t)v)
DEFINE_WORDS(words_xor, u ^ v)
DEFINE_WORDS(words_shifted, u >> 32)
INLINE words words_high(words a) { return words_shifted(a, a); }
INLINE words words_load(const uint64_t *p) {
    words a;
    memcpy(&a, p, sizeof a);
    return a;
}
INLINE void words_store(uint64_t *p, words a) { memcpy(p, &a, sizeof a); }
INLINE words words_set(uint64_t x) {
    words a;
    for (int i = 0; i < WORDS; i++) a.lane[i] = x;
    return a;
}
#endif

enum { BLOCKS = WORDS * WORD_VECTORS, DRAWN = 4 * BLOCKS };

/* A key, and the counter's words 2 and 3; words 0 and 1 number the block. */
struct stream {
    uint64_t key;
    uint32_t word2, word3;
};

/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
 * 1, 2, 3", SC11): the words of BLOCKS consecutive blocks. */
static void philox_blocks(const struct stream *stream, uint64_t first, uint32_t *restrict out) {
    uint64_t lane[4][BLOCKS];
    words c0[WORD_VECTORS], c1[WORD_VECTORS], c2[WORD_VECTORS], c3[WORD_VECTORS];
    uint32_t key0 = (uint32_t)stream->key, key1 = (uint32_t)(stream->key >> 32);
    words m0 = words_set(0xd2511f53u), m1 = words_set(0xcd9e8d57u);
    for (int i = 0; i < BLOCKS; i++) lane[0][i] = first + (uint64_t)i;
    UNROLL for (int v = 0; v < WORD_VECTORS; v++) {
        c0[v] = words_load(lane[0] + v * WORDS);
        c1[v] = words_high(c0[v]);
        c2[v] = words_set(stream->word2);
        c3[v] = words_set(stream->word3);
    }
    for (int round = 0; round < 10; round++) {
        words k0 = words_set(key0), k1 = words_set(key1);
        UNROLL for (int v = 0; v < WORD_VECTORS; v++) {
            words p0 = words_product(m0, c0[v]), p1 = words_product(m1, c2[v]);
            c0[v] = words_xor(words_xor(words_high(p1), c1[v]), k0);
            c2[v] = words_xor(words_xor(words_high(p0), c3[v]), k1);
            c1[v] = p1;
            c3[v] = p0;
        }
        key0 += 0x9e3779b9u;
        key1 += 0xbb67ae85u;
    }
    UNROLL for (int v = 0; v < WORD_VECTORS; v++) {
        words_store(lane[0] + v * WORDS, c0[v]);
        words_store(lane[1] + v * WORDS, c1[v]);
        words_store(lane[2] + v * WORDS, c2[v]);
        words_store(lane[3] + v * WORDS, c3[v]);
    }
    for (int i = 0; i < BLOCKS; i++)
        for (int w = 0; w < 4; w++) out[4 * i + w] = (uint32_t)lane[w][i];
}

/* In [0, 1), a multiple of 2^-24. */
INLINE float unit(uint32_t word) { return (float)(int32_t)(word >> 8) * 0x1p-24f; }

struct draw {
    const struct call *call;
    struct stream stream;
    float first, second;
    uint32_t threshold;
};

/* Blocks [first, last): the body of a loop over words drawn, output `at + i` from word
 * `drawn[i]`. */
#define DEFINE_DRAW(name, expression)                                               \
    static void name##_range(const void *context, int64_t first, int64_t last,      \
                             const struct worker *worker) {                         \
        (void)worker;                                                               \
        const struct draw *draw = context;                                          \
        float a = draw->first, b = draw->second;                                    \
        uint32_t t = draw->threshold, drawn[DRAWN];                                 \
        (void)a, (void)b, (void)t;                                                  \
        for (int64_t block = first; block < last; block += BLOCKS) {                \
            int64_t end = minimum(4 * last, draw->call->size[0]);                   \
            int64_t count = minimum(DRAWN, end - 4 * block);                        \
            float *restrict y = (float *)draw->call->out[0] + 4 * block;            \
            philox_blocks(&draw->stream, (uint64_t)block, drawn);                   \
            for (int64_t i = 0; i < count; i++) {                                   \
                uint32_t w = drawn[i];                                              \
                y[i] = (expression);                                                \
            }                                                                       \
        }                                                                           \
    }
DEFINE_DRAW(uniform, fma_f(unit(w), a, b))
DEFINE_DRAW(dropout_mask, w >> 8 < t ? 0.0f : a)

/* out[i] = fma(u, width, low), u = (word >> 8) * 2^-24, where element i is word i mod 4
 * of block i / 4. size: [0] elements, [1] key, [2] and [3] counter words 2 and 3.
 * scalar: width, low. */
static int philox_uniform_operator(const struct call *call) {
    const int64_t *size = call->size;
    struct draw draw = {.call = call,
                        .stream = {(uint64_t)size[1], (uint32_t)size[2], (uint32_t)size[3]},
                        .first = call->scalar[0],
                        .second = call->scalar[1]};
    parallel_range(uniform_range, &draw, ceil_div(size[0], 4), 40);
    return RUN_OK;
}

/* in: seed, step; size[1]: the counter's word 2. Word 3 is never that of initial values. */
static struct stream stream_of(const struct call *call) {
    uint64_t seed = *(const uint64_t *)call->in[0], step = *(const uint64_t *)call->in[1];
    return (struct stream){seed, (uint32_t)call->size[1], (uint32_t)(step % 0xffffffffu)};
}

/* size: [0] elements, [1] stream; scalar: low, high. */
static int uniform_operator(const struct call *call) {
    float low = call->scalar[0], high = call->scalar[1];
    struct draw draw = {
        .call = call, .stream = stream_of(call), .first = high - low, .second = low};
    parallel_range(uniform_range, &draw, ceil_div(call->size[0], 4), 40);
    return RUN_OK;
}

/* size: [0] elements, [1] stream, [2] as many of 2^24 words are dropped; scalar: p. */
static int dropout_mask_operator(const struct call *call) {
    float kept = 1.0f - call->scalar[0];
    struct draw draw = {.call = call,
                        .stream = stream_of(call),
                        .first = 1.0f / kept,
                        .threshold = (uint32_t)call->size[2]};
    parallel_range(dropout_mask_range, &draw, ceil_div(call->size[0], 4), 40);
    return RUN_OK;
}

#endif
