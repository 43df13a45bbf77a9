/* BLAKE3 (O'Connor, Aumasson, Neves, Wilcox-O'Hearn, 2020), many messages side by side.
 *
 * A vector lane works on one message of at most a chunk (1 KiB), or on one parent node,
 * which is a message of one block with other flags. Messages are pushed to a queue and
 * hashed when all lanes are taken; lanes may be of different lengths and purposes, and
 * only share the key. Words are little-endian on every platform that compiles. */
#ifndef LOCKSTEP_BLAKE3_H
#define LOCKSTEP_BLAKE3_H

#include "variant.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "hashing reads words and tensors as they lie in memory: little-endian only"
#endif

enum { HASH_BYTES = 32, HASH_WORDS = 8, BLOCK_BYTES = 64, BLOCK_WORDS = 16 };
enum { CHUNK_BYTES = 1024, CHUNK_BLOCKS = CHUNK_BYTES / BLOCK_BYTES };

enum {
    CHUNK_START = 1,
    CHUNK_END = 2,
    PARENT = 4,
    ROOT = 8,
    DERIVE_KEY_CONTEXT = 32,
    DERIVE_KEY_MATERIAL = 64
};

#if defined(LOCKSTEP_PORTABLE)
enum { HASH_LANES = 4 };
#elif defined(__AVX512F__)
#include <immintrin.h>
enum { HASH_LANES = 16 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { HASH_LANES = 8 };
#else
enum { HASH_LANES = 4 };
#endif

typedef uint32_t lanes __attribute__((vector_size(4 * HASH_LANES)));

static const uint32_t initial_value[HASH_WORDS] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
    0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

INLINE lanes all_lanes(uint32_t word) { return (lanes){0} + word; }

INLINE lanes load_lanes(const uint32_t *p) {
    lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

#define ROTATE_BY_SHIFTS(x, n) ((x) >> (n) | (x) << (32 - (n)))

/* Rotations to the right, as the processor does them best. */
#if defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
#define ROTATE(x, n) ((lanes)_mm512_ror_epi32((__m512i)(x), (n)))
#define ROTATE_16(x) ROTATE(x, 16)
#define ROTATE_8(x) ROTATE(x, 8)
#elif defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
#define ROTATE(x, n) ROTATE_BY_SHIFTS(x, n)
INLINE lanes move_bytes(lanes x, int64_t high, int64_t low) {
    return (lanes)_mm256_shuffle_epi8((__m256i)x,
                                      _mm256_set_epi64x(high, low, high, low));
}
#define ROTATE_16(x) move_bytes(x, 0x0d0c0f0e09080b0a, 0x0504070601000302)
#define ROTATE_8(x) move_bytes(x, 0x0c0f0e0d080b0a09, 0x0407060500030201)
#else
#define ROTATE(x, n) ROTATE_BY_SHIFTS(x, n)
#define ROTATE_16(x) ROTATE(x, 16)
#define ROTATE_8(x) ROTATE(x, 8)
#endif

#if defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
INLINE void transpose_words(__m256i row[8]) {
    __m256i pair[8], quad[8];
    UNROLL for (int i = 0; i < 8; i += 2) {
        pair[i] = _mm256_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm256_unpackhi_epi32(row[i], row[i + 1]);
    }
    UNROLL for (int i = 0; i < 8; i += 4) {
        quad[i] = _mm256_unpacklo_epi64(pair[i], pair[i + 2]);
        quad[i + 1] = _mm256_unpackhi_epi64(pair[i], pair[i + 2]);
        quad[i + 2] = _mm256_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        quad[i + 3] = _mm256_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    UNROLL for (int i = 0; i < 4; i++) {
        row[i] = _mm256_permute2x128_si256(quad[i], quad[4 + i], 0x20);
        row[4 + i] = _mm256_permute2x128_si256(quad[i], quad[4 + i], 0x31);
    }
}
#endif

/* word[w] holds word w of each lane's block. */
INLINE void transposed_blocks(const uint8_t *const block[HASH_LANES],
                              lanes word[BLOCK_WORDS]) {
#if defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
    __m512i row[16], pair[16], quad[16];
    UNROLL for (int i = 0; i < 16; i++) row[i] = _mm512_loadu_si512(block[i]);
    UNROLL for (int i = 0; i < 16; i += 2) {
        pair[i] = _mm512_unpacklo_epi32(row[i], row[i + 1]);
        pair[i + 1] = _mm512_unpackhi_epi32(row[i], row[i + 1]);
    }
    UNROLL for (int i = 0; i < 16; i += 4) {
        quad[i] = _mm512_unpacklo_epi64(pair[i], pair[i + 2]);
        quad[i + 1] = _mm512_unpackhi_epi64(pair[i], pair[i + 2]);
        quad[i + 2] = _mm512_unpacklo_epi64(pair[i + 1], pair[i + 3]);
        quad[i + 3] = _mm512_unpackhi_epi64(pair[i + 1], pair[i + 3]);
    }
    /* quad[4q + j] holds, in its k-th quarter, word 4k + j of the blocks 4q .. 4q+3. */
    UNROLL for (int j = 0; j < 4; j++) {
        __m512i even_low = _mm512_shuffle_i32x4(quad[j], quad[4 + j], 0x88);
        __m512i even_high = _mm512_shuffle_i32x4(quad[8 + j], quad[12 + j], 0x88);
        __m512i odd_low = _mm512_shuffle_i32x4(quad[j], quad[4 + j], 0xdd);
        __m512i odd_high = _mm512_shuffle_i32x4(quad[8 + j], quad[12 + j], 0xdd);
        word[j] = (lanes)_mm512_shuffle_i32x4(even_low, even_high, 0x88);
        word[4 + j] = (lanes)_mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
        word[8 + j] = (lanes)_mm512_shuffle_i32x4(even_low, even_high, 0xdd);
        word[12 + j] = (lanes)_mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
    }
#elif defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
    UNROLL for (int half = 0; half < 2; half++) {
        __m256i row[8];
        UNROLL for (int i = 0; i < 8; i++)
            row[i] = _mm256_loadu_si256((const __m256i *)(block[i] + 32 * half));
        transpose_words(row);
        UNROLL for (int i = 0; i < 8; i++) word[8 * half + i] = (lanes)row[i];
    }
#else
    for (int w = 0; w < BLOCK_WORDS; w++) {
        uint32_t column[HASH_LANES];
        for (int i = 0; i < HASH_LANES; i++) memcpy(&column[i], block[i] + 4 * w, 4);
        word[w] = load_lanes(column);
    }
#endif
}

/* The inverse for chaining values: each lane's eight words to where it wants them. */
INLINE void store_values(const lanes value[HASH_WORDS], uint8_t *const out[HASH_LANES]) {
#if defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
    UNROLL for (int part = 0; part < HASH_LANES / 8; part++) {
        __m256i row[8];
        UNROLL for (int i = 0; i < 8; i++)
            memcpy(&row[i], (const char *)&value[i] + 32 * part, sizeof row[i]);
        transpose_words(row);
        UNROLL for (int i = 0; i < 8; i++)
            memcpy(out[8 * part + i], &row[i], sizeof row[i]);
    }
#else
    for (int i = 0; i < HASH_LANES; i++)
        for (int w = 0; w < HASH_WORDS; w++) {
            uint32_t word = value[w][i];
            memcpy(out[i] + 4 * w, &word, sizeof word);
        }
#endif
}

/* Which message word each step of a round takes: the permutation of the paper, iterated. */
static const uint8_t schedule[7][BLOCK_WORDS] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1},
    {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4},
    {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13},
};

#define MIX(a, b, c, d, x, y)                                                       \
    do {                                                                            \
        v[a] = v[a] + word[x] + v[b];                                               \
        v[d] = ROTATE_16(v[d] ^ v[a]);                                              \
        v[c] = v[c] + v[d];                                                         \
        v[b] = ROTATE(v[b] ^ v[c], 12);                                             \
        v[a] = v[a] + word[y] + v[b];                                               \
        v[d] = ROTATE_8(v[d] ^ v[a]);                                               \
        v[c] = v[c] + v[d];                                                         \
        v[b] = ROTATE(v[b] ^ v[c], 7);                                              \
    } while (0)

/* One block of each lane: `value` becomes the next chaining value. */
INLINE void compress(lanes value[HASH_WORDS], const lanes word[BLOCK_WORDS],
                     lanes counter, lanes bytes, lanes flags) {
    lanes v[16];
    UNROLL for (int i = 0; i < 8; i++) v[i] = value[i];
    UNROLL for (int i = 0; i < 4; i++) v[8 + i] = all_lanes(initial_value[i]);
    v[12] = counter;
    v[13] = all_lanes(0);
    v[14] = bytes;
    v[15] = flags;
    UNROLL for (int round = 0; round < 7; round++) {
        const uint8_t *s = schedule[round];
        MIX(0, 4, 8, 12, s[0], s[1]);
        MIX(1, 5, 9, 13, s[2], s[3]);
        MIX(2, 6, 10, 14, s[4], s[5]);
        MIX(3, 7, 11, 15, s[6], s[7]);
        MIX(0, 5, 10, 15, s[8], s[9]);
        MIX(1, 6, 11, 12, s[10], s[11]);
        MIX(2, 7, 8, 13, s[12], s[13]);
        MIX(3, 4, 9, 14, s[14], s[15]);
    }
    UNROLL for (int i = 0; i < 8; i++) value[i] = v[i] ^ v[8 + i];
}

/* What is hashed: `bytes` of memory from `place` on, where memory is a matrix of rows of
 * `row_bytes`, `stride` bytes apart. */
struct message {
    const uint8_t *row;
    int64_t place, row_bytes, stride;
    int64_t bytes;        /* at most CHUNK_BYTES */
    uint32_t counter;     /* place of a chunk among its siblings, else 0 */
    uint32_t first, last; /* flags of the first and of the last block */
    uint8_t *out;         /* HASH_BYTES */
};

/* One message of the queue. A row has 2^row_shift blocks. */
struct queue {
    uint8_t gathered[HASH_LANES][CHUNK_BYTES];
    const uint8_t *at[HASH_LANES];
    int64_t stride[HASH_LANES];
    uint32_t row_shift[HASH_LANES];
    uint32_t bytes[HASH_LANES], final[HASH_LANES], counter[HASH_LANES];
    uint32_t first[HASH_LANES], last[HASH_LANES];
    uint8_t *out[HASH_LANES];
    const uint32_t *key;
    uint32_t purpose; /* flag of every block */
    int used, alike;  /* alike: all messages lie in memory in the same way */
};

static void queue_open(struct queue *queue, const uint32_t *key, uint32_t purpose) {
    queue->key = key;
    queue->purpose = purpose;
    queue->used = 0;
}

INLINE int64_t block_offset(const struct queue *queue, int i, uint32_t b) {
    uint32_t here = b < queue->final[i] ? b : queue->final[i];
    uint32_t row = here >> queue->row_shift[i];
    uint32_t place = here - (row << queue->row_shift[i]);
    return row * queue->stride[i] + place * BLOCK_BYTES;
}

/* Where block b of each lane is; of its last block, when it has fewer. */
INLINE void find_blocks(const struct queue *queue, uint32_t b,
                        const uint8_t *block[HASH_LANES]) {
    if (queue->alike) {
        int64_t offset = block_offset(queue, 0, b);
        UNROLL for (int i = 0; i < HASH_LANES; i++) block[i] = queue->at[i] + offset;
    } else {
        for (int i = 0; i < HASH_LANES; i++)
            block[i] = queue->at[i] + block_offset(queue, i, b);
    }
}

/* Hashes what is in the queue. All inputs of a block are read before any output is
 * written. Lanes without a message repeat the first one. */
static void queue_flush(struct queue *queue) {
    if (queue->used == 0) return;
    for (int i = queue->used; i < HASH_LANES; i++) {
        queue->at[i] = queue->at[0];
        queue->stride[i] = queue->stride[0];
        queue->row_shift[i] = queue->row_shift[0];
        queue->bytes[i] = queue->bytes[0];
        queue->final[i] = queue->final[0];
        queue->counter[i] = queue->counter[0];
        queue->first[i] = queue->first[0];
        queue->last[i] = queue->last[0];
        queue->out[i] = queue->out[0];
    }
    uint32_t longest = 0;
    for (int i = 0; i < HASH_LANES; i++)
        if (queue->final[i] > longest) longest = queue->final[i];
    lanes value[HASH_WORDS], next[HASH_WORDS], word[BLOCK_WORDS];
    UNROLL for (int w = 0; w < HASH_WORDS; w++) value[w] = all_lanes(queue->key[w]);
    lanes bytes = load_lanes(queue->bytes), final = load_lanes(queue->final);
    lanes counter = load_lanes(queue->counter), first = load_lanes(queue->first);
    lanes last = load_lanes(queue->last), purpose = all_lanes(queue->purpose);
    for (uint32_t b = 0; b <= longest; b++) {
        const uint8_t *block[HASH_LANES];
        find_blocks(queue, b, block);
        transposed_blocks(block, word);
        lanes ends = (lanes)(final == all_lanes(b)), runs = (lanes)(final >= all_lanes(b));
        lanes length = (ends & (bytes - b * BLOCK_BYTES)) | (~ends & BLOCK_BYTES);
        lanes flags = purpose | (ends & last);
        if (b == 0) flags |= first;
        UNROLL for (int w = 0; w < HASH_WORDS; w++) next[w] = value[w];
        compress(next, word, counter, length, flags);
        UNROLL for (int w = 0; w < HASH_WORDS; w++)
            value[w] = (next[w] & runs) | (value[w] & ~runs);
    }
    store_values(value, queue->out);
    queue->used = 0;
}

/* Copies a message into one run, with zeros up to a whole block. */
static const uint8_t *gather(uint8_t *copy, const struct message *message) {
    const uint8_t *row = message->row;
    int64_t place = message->place, done = 0;
    while (done < message->bytes) {
        int64_t run = minimum(message->row_bytes - place, message->bytes - done);
        memcpy(copy + done, row + place, (size_t)run);
        row += message->stride;
        done += run;
        place = 0;
    }
    int64_t padded = maximum(1, ceil_div(done, BLOCK_BYTES)) * BLOCK_BYTES;
    memset(copy + done, 0, (size_t)(padded - done));
    return copy;
}

/* Messages whose blocks lie whole in memory are read where they are when the queue is
 * flushed; any other is copied now. */
static void queue_push(struct queue *queue, const struct message *message) {
    int i = queue->used++;
    int64_t row = message->row_bytes, bytes = message->bytes;
    queue->bytes[i] = (uint32_t)bytes;
    queue->final[i] = (uint32_t)(maximum(bytes - 1, 0) / BLOCK_BYTES);
    queue->counter[i] = message->counter;
    queue->first[i] = message->first;
    queue->last[i] = message->last;
    queue->out[i] = message->out;
    queue->at[i] = message->row + message->place;
    queue->stride[i] = 0;
    queue->row_shift[i] = 4; /* one row: the whole chunk */
    int whole_blocks = bytes > 0 && bytes % BLOCK_BYTES == 0;
    int one_run = message->place + bytes <= row;
    int whole_rows = message->place == 0 && row >= BLOCK_BYTES && (row & (row - 1)) == 0;
    if (whole_blocks && !one_run && whole_rows) {
        queue->row_shift[i] = (uint32_t)__builtin_ctzll((uint64_t)row / BLOCK_BYTES);
        queue->stride[i] = message->stride;
    } else if (!whole_blocks || !one_run) {
        queue->at[i] = gather(queue->gathered[i], message);
    }
    queue->alike = i == 0 || (queue->alike && queue->final[i] == queue->final[0] &&
                              queue->row_shift[i] == queue->row_shift[0] &&
                              queue->stride[i] == queue->stride[0]);
    if (queue->used == HASH_LANES) queue_flush(queue);
}

#endif
