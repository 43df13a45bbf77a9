/* Hashes of tensors: tiles, the tree over them and its root, as docs/spec/commitments.md
 * defines them, straight from row-major memory. */
#ifndef LOCKSTEP_HASHING_H
#define LOCKSTEP_HASHING_H

#include "blake3.h"

#include <errno.h>
#include <stdlib.h>

enum {
    TILE = 64,
    TILES_AT_ONCE = 16,   /* of one task; their chunks and nodes fill the lanes */
    PAIRS_AT_ONCE = 1024, /* likewise, in the tree above */
    MOST_ITEM_BYTES = 8,
    MOST_CHUNKS = TILE * TILE * MOST_ITEM_BYTES / CHUNK_BYTES,
    HEADER_BYTES = 2 + 4 * HASHED_RANK
};

/* Sizes that follow from the type; the leaves of the tree are padded to a power of two. */
static void measure(struct tensor *tensor) {
    int64_t rows = 1, columns = 1;
    for (int64_t d = 0; d < tensor->rank; d++) {
        rows *= columns;
        columns = tensor->shape[d];
    }
    tensor->rows = rows;
    tensor->columns = columns;
    tensor->across = ceil_div(columns, TILE);
    tensor->tiles = ceil_div(rows, TILE) * tensor->across;
    tensor->leaves = 1;
    while (tensor->leaves < tensor->tiles) tensor->leaves *= 2;
}

/* A tile, as a message that may be longer than a chunk. */
static struct message tile_of(const struct tensor *tensor, int64_t tile) {
    int64_t top = tile / tensor->across * TILE, left = tile % tensor->across * TILE;
    int64_t height = minimum(TILE, tensor->rows - top);
    int64_t width = minimum(TILE, tensor->columns - left) * tensor->itemsize;
    int64_t stride = tensor->columns * tensor->itemsize;
    struct message message = {
        .row = tensor->data + top * stride + left * tensor->itemsize,
        .row_bytes = width == stride ? height * width : width, /* one row without gaps */
        .stride = stride,
        .bytes = height * width,
    };
    return message;
}

static struct message chunk_of(const struct message *tile, int64_t k) {
    struct message chunk = *tile;
    int64_t skipped = k * CHUNK_BYTES;
    chunk.row += skipped / tile->row_bytes * tile->stride;
    chunk.place = skipped % tile->row_bytes;
    chunk.bytes = minimum(CHUNK_BYTES, tile->bytes - skipped);
    chunk.counter = (uint32_t)k;
    return chunk;
}

/* A message of one run. */
static struct message run_of(const uint8_t *at, int64_t bytes) {
    struct message message = {.row = at, .row_bytes = bytes, .bytes = bytes};
    return message;
}

struct tree_job {
    struct tensor *tensors;
    int64_t count, tiles;
    const uint32_t (*keys)[HASH_WORDS]; /* of tiles, nodes and roots */
};

/* Chaining values of the chunks of up to TILES_AT_ONCE tiles, then BLAKE3's own tree
 * over them, level by level: pairs become parents, an odd last node moves up. */
static void hash_tiles(const void *context, int64_t task, const struct worker *worker) {
    (void)worker;
    const struct tree_job *job = context;
    int64_t first = task * TILES_AT_ONCE;
    int64_t count = minimum(TILES_AT_ONCE, job->tiles - first);
    const struct tensor *tensor = job->tensors;
    while (first >= tensor->first_tile + tensor->tiles) tensor++;

    uint8_t value[TILES_AT_ONCE][MOST_CHUNKS][HASH_BYTES];
    uint8_t *hash[TILES_AT_ONCE];
    int64_t width[TILES_AT_ONCE], widest = 1;
    struct queue queue;
    queue_open(&queue, job->keys[0], DERIVE_KEY_MATERIAL);
    for (int64_t i = 0; i < count; i++) {
        while (first + i == tensor->first_tile + tensor->tiles) tensor++;
        int64_t index = first + i - tensor->first_tile;
        struct message tile = tile_of(tensor, index);
        hash[i] = tensor->nodes + index * HASH_BYTES;
        width[i] = ceil_div(tile.bytes, CHUNK_BYTES);
        widest = maximum(widest, width[i]);
        for (int64_t k = 0; k < width[i]; k++) {
            struct message chunk = chunk_of(&tile, k);
            chunk.first = CHUNK_START;
            chunk.last = CHUNK_END | (width[i] == 1 ? ROOT : 0);
            chunk.out = width[i] == 1 ? hash[i] : value[i][k];
            queue_push(&queue, &chunk);
        }
    }
    queue_flush(&queue);
    for (; widest > 1; widest = ceil_div(widest, 2)) {
        for (int64_t i = 0; i < count; i++)
            for (int64_t k = 0; k < width[i] / 2; k++) {
                struct message parent = run_of(value[i][2 * k], BLOCK_BYTES);
                parent.first = PARENT;
                parent.last = width[i] == 2 ? ROOT : 0;
                parent.out = width[i] == 2 ? hash[i] : value[i][k];
                queue_push(&queue, &parent);
            }
        queue_flush(&queue);
        for (int64_t i = 0; i < count; i++) {
            if (width[i] > 1 && width[i] % 2 == 1)
                memcpy(value[i][width[i] / 2], value[i][width[i] - 1], HASH_BYTES);
            width[i] = ceil_div(width[i], 2);
        }
    }
}

/* Neighbours of one level and where their parents go. */
struct pairs {
    const uint8_t *children;
    uint8_t *parents;
    int64_t count;
    const uint32_t *key;
};

static void push_pairs(struct queue *queue, const struct pairs *pairs, int64_t first,
                       int64_t last) {
    for (int64_t k = first; k < last; k++) {
        struct message pair = run_of(pairs->children + 2 * k * HASH_BYTES, BLOCK_BYTES);
        pair.first = CHUNK_START;
        pair.last = CHUNK_END | ROOT;
        pair.out = pairs->parents + k * HASH_BYTES;
        queue_push(queue, &pair);
    }
}

static void hash_pairs(const void *context, int64_t task, const struct worker *worker) {
    (void)worker;
    const struct pairs *pairs = context;
    int64_t first = task * PAIRS_AT_ONCE;
    struct queue queue;
    queue_open(&queue, pairs->key, DERIVE_KEY_MATERIAL);
    push_pairs(&queue, pairs, first, minimum(first + PAIRS_AT_ONCE, pairs->count));
    queue_flush(&queue);
}

/* All trees, level by level: wide levels are shared among threads, the others of all
 * trees share the lanes. A level follows the one below it in memory. */
static void hash_nodes(const struct tree_job *job) {
    struct queue queue;
    queue_open(&queue, job->keys[1], DERIVE_KEY_MATERIAL);
    for (int64_t level = 0, more = 1; more; level++) {
        more = 0;
        for (int64_t i = 0; i < job->count; i++) {
            int64_t leaves = job->tensors[i].leaves, nodes = leaves >> level;
            if (nodes < 2) continue;
            more = 1;
            uint8_t *children = job->tensors[i].nodes + 2 * (leaves - nodes) * HASH_BYTES;
            struct pairs pairs = {
                children, children + nodes * HASH_BYTES, nodes / 2, job->keys[1]};
            if (pairs.count > PAIRS_AT_ONCE)
                pool_run(hash_pairs, &pairs, ceil_div(pairs.count, PAIRS_AT_ONCE));
            else
                push_pairs(&queue, &pairs, 0, pairs.count);
        }
        queue_flush(&queue);
    }
}

/* u8 dtype || u8 rank || u32 dimensions, big-endian || top of the tree. */
static void hash_roots(const struct tree_job *job, uint8_t *out) {
    struct queue queue;
    queue_open(&queue, job->keys[2], DERIVE_KEY_MATERIAL);
    for (int64_t i = 0; i < job->count; i++) {
        const struct tensor *tensor = &job->tensors[i];
        uint8_t text[HEADER_BYTES + HASH_BYTES], *to = text;
        *to++ = (uint8_t)tensor->code;
        *to++ = (uint8_t)tensor->rank;
        for (int64_t d = 0; d < tensor->rank; d++)
            for (int shift = 24; shift >= 0; shift -= 8)
                *to++ = (uint8_t)(tensor->shape[d] >> shift);
        memcpy(to, tensor->nodes + 2 * (tensor->leaves - 1) * HASH_BYTES, HASH_BYTES);
        /* Never whole blocks, so that it is copied when it is pushed. */
        struct message message = run_of(text, to + HASH_BYTES - text);
        message.first = CHUNK_START;
        message.last = CHUNK_END | ROOT;
        message.out = out + i * HASH_BYTES;
        queue_push(&queue, &message);
    }
    queue_flush(&queue);
}

static void run_all(pool_task task, const void *context, int64_t tasks, int64_t bytes) {
    enum { WORTH_SHARING = 1 << 17 };
    static const struct worker nobody = {NULL};
    if (bytes >= WORTH_SHARING)
        pool_run(task, context, tasks);
    else
        for (int64_t i = 0; i < tasks; i++) task(context, i, &nobody);
}

/* in: [0] the keys of tiles, nodes and roots. out: [0] the tensors, whose sizes are
 * filled in, [1] roots, [2] the nodes of all trees, or NULL. size: [0] tensors, [1] how
 * many nodes there are, unless NULL. 0, ENOMEM, or EINVAL for another number of nodes. */
static int hash_tensors_operator(const struct call *call) {
    struct tree_job job = {.tensors = call->out[0], .count = call->size[0],
                           .keys = call->in[0]};
    int64_t nodes = 0, bytes = 0;
    for (int64_t i = 0; i < job.count; i++) {
        struct tensor *tensor = &job.tensors[i];
        measure(tensor);
        tensor->first_tile = job.tiles;
        job.tiles += tensor->tiles;
        nodes += 2 * tensor->leaves - 1;
        bytes += tensor->rows * tensor->columns * tensor->itemsize;
    }
    uint8_t *own = NULL, *memory = call->out[2];
    if (memory != NULL && call->size[1] != nodes) return EINVAL;
    if (memory == NULL) memory = own = malloc((size_t)(nodes * HASH_BYTES));
    if (memory == NULL) return ENOMEM;
    for (int64_t i = 0; i < job.count; i++) {
        struct tensor *tensor = &job.tensors[i];
        tensor->nodes = memory;
        memset(memory + tensor->tiles * HASH_BYTES, 0,
               (size_t)((tensor->leaves - tensor->tiles) * HASH_BYTES));
        memory += (2 * tensor->leaves - 1) * HASH_BYTES;
    }
    run_all(hash_tiles, &job, ceil_div(job.tiles, TILES_AT_ONCE), bytes);
    hash_nodes(&job);
    hash_roots(&job, call->out[1]);
    free(own);
    return RUN_OK;
}

/* Chunks and parents of trees that are put together elsewhere. in: [0] bytes, [1] a
 * table of [offset, bytes, counter, first flags, last flags] per message, [2] key.
 * out: [0] hashes. size: [0] messages, [1] flag of every block. */
static int hash_messages_operator(const struct call *call) {
    enum { COLUMNS = 5 };
    struct queue queue;
    queue_open(&queue, call->in[2], (uint32_t)call->size[1]);
    const int64_t *row = call->in[1];
    for (int64_t i = 0; i < call->size[0]; i++, row += COLUMNS) {
        struct message message = run_of((const uint8_t *)call->in[0] + row[0], row[1]);
        message.counter = (uint32_t)row[2];
        message.first = (uint32_t)row[3];
        message.last = (uint32_t)row[4];
        message.out = (uint8_t *)call->out[0] + i * HASH_BYTES;
        queue_push(&queue, &message);
    }
    queue_flush(&queue);
    return RUN_OK;
}

#endif
