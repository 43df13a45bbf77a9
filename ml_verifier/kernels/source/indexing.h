/* Reads and writes through indices along one axis. An operand is seen as [outer, D, inner]
 * around the axis; every index is tested before it is used, and one out of [0, D) traps.
 * Where several indices name one element, they take effect in ascending order: tasks share
 * out the outer and the inner axis, so that one task alone walks along each index. */
#ifndef LOCKSTEP_INDEXING_H
#define LOCKSTEP_INDEXING_H

#include "variant.h"

#include <stdatomic.h>

struct axis_view {
    int64_t outer, extent, count, inner;
};

static struct axis_view axis_view_of(const struct call *call) {
    struct axis_view view;
    memcpy(&view, call->size, sizeof view);
    return view;
}

struct indexed_call {
    const struct call *call;
    int64_t blocks, width; /* of the inner axis, per task */
    _Atomic int *trapped;
};

INLINE int in_range(int64_t index, int64_t extent) {
    return (uint64_t)index < (uint64_t)extent;
}

/* ---- take ---- in: x[outer, D, bytes], index[S]. out: y[outer, S, bytes].
 * size: [0] outer, [1] D, [2] S, [3] bytes of x[o, d]. */

static void take_rows(const void *context, int64_t first, int64_t last,
                      const struct worker *worker) {
    (void)worker;
    const struct indexed_call *job = context;
    struct axis_view view = axis_view_of(job->call);
    const char *restrict x = job->call->in[0];
    const int64_t *restrict index = job->call->in[1];
    char *restrict y = job->call->out[0];
    size_t bytes = (size_t)view.inner;
    while (first < last) {
        int64_t o = first / view.count, s = first % view.count;
        int64_t end = minimum(view.count, s + last - first);
        const char *restrict from = x + o * view.extent * view.inner;
        char *restrict to = y + o * view.count * view.inner;
        first += end - s;
#define TAKE(size)                                                                  \
    for (; s < end && in_range(index[s], view.extent); s++)                         \
        memcpy(to + s * view.inner, from + index[s] * view.inner, size);            \
    break
        switch (bytes) {
        case 1: TAKE(1);
        case 2: TAKE(2);
        case 4: TAKE(4);
        case 8: TAKE(8);
        default: TAKE(bytes);
        }
#undef TAKE
        if (s == end) continue;
        atomic_store(job->trapped, 1);
        return;
    }
}

static int take_operator(const struct call *call) {
    _Atomic int trapped = 0;
    struct indexed_call job = {.call = call, .trapped = &trapped};
    struct axis_view view = axis_view_of(call);
    parallel_range(take_rows, &job, view.outer * view.count, 2 + view.inner / 4);
    return atomic_load(&trapped) ? RUN_TRAP : RUN_OK;
}

/* ---- gather ---- in: x[outer, D, inner], index[outer, I, inner]. out: y like index.
 * size: [0] outer, [1] D, [2] I, [3] inner, [4] bytes of an element. */

/* Defines name(x, index, y, inner, n, extent): one row [inner] of indices, or with inner
 * of 1 a column of n. Returns whether all are in range. */
#define DEFINE_GATHER(type, name)                                                   \
    static int name(const type *restrict x, const int64_t *restrict index,          \
                    type *restrict y, int64_t step, int64_t n, int64_t extent) {    \
        for (int64_t i = 0; i < n; i++) {                                           \
            if (!in_range(index[i], extent)) return 0;                              \
            y[i] = step == 1 ? x[index[i]] : x[index[i] * step + i];                \
        }                                                                           \
        return 1;                                                                   \
    }
DEFINE_GATHER(uint8_t, gather_run_1)
DEFINE_GATHER(uint16_t, gather_run_2)
DEFINE_GATHER(uint32_t, gather_run_4)
DEFINE_GATHER(uint64_t, gather_run_8)

static int gather_run(int64_t bytes, const void *x, const int64_t *index, void *y,
                      int64_t step, int64_t n, int64_t extent) {
    switch (bytes) {
    case 1: return gather_run_1(x, index, y, step, n, extent);
    case 2: return gather_run_2(x, index, y, step, n, extent);
    case 4: return gather_run_4(x, index, y, step, n, extent);
    default: return gather_run_8(x, index, y, step, n, extent);
    }
}

/* Rows [inner] of the output. */
static void gather_rows(const void *context, int64_t first, int64_t last,
                        const struct worker *worker) {
    (void)worker;
    const struct indexed_call *job = context;
    const struct call *call = job->call;
    struct axis_view view = axis_view_of(call);
    int64_t bytes = call->size[4], o = first / view.count, end = (o + 1) * view.count;
    for (int64_t row = first, rows; row < last; row += rows) {
        int64_t at = row * view.inner;
        rows = view.inner == 1 ? minimum(last, end) - row : 1;
        if (!gather_run(bytes, (const char *)call->in[0] + o * view.extent * view.inner * bytes,
                        (const int64_t *)call->in[1] + at, (char *)call->out[0] + at * bytes,
                        view.inner, view.inner == 1 ? rows : view.inner, view.extent)) {
            atomic_store(job->trapped, 1);
            return;
        }
        if (row + rows < end) continue;
        o++;
        end += view.count;
    }
}

static int gather_operator(const struct call *call) {
    _Atomic int trapped = 0;
    struct indexed_call job = {.call = call, .trapped = &trapped};
    struct axis_view view = axis_view_of(call);
    parallel_range(gather_rows, &job, view.outer * view.count, 2 * view.inner);
    return atomic_load(&trapped) ? RUN_TRAP : RUN_OK;
}

/* ---- writes ---- first the output is filled, then tasks of (outer, a block of inner)
 * walk along the indices. */

static void copy_bytes(const void *context, int64_t first, int64_t last,
                       const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    memcpy((char *)call->out[0] + first, (const char *)call->in[0] + first,
           (size_t)(last - first));
}

static void clear_bytes(const void *context, int64_t first, int64_t last,
                        const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    memset((char *)call->out[0] + first, 0, (size_t)(last - first));
}

/* Runs `body` over (outer, blocks of inner): whole rows where there are enough of them. */
static int run_in_order(range_body body, const struct call *call) {
    enum { NARROWEST = 64, PIECES = 4 };
    _Atomic int trapped = 0;
    struct axis_view view = axis_view_of(call);
    int64_t wanted = ceil_div(PIECES * pool_threads(), maximum(view.outer, 1));
    int64_t width = maximum(ceil_div(view.inner, wanted), NARROWEST);
    if (pool_threads() == 1) width = maximum(view.inner, 1);
    width = ceil_div(width, 16) * 16;
    struct indexed_call job = {call, ceil_div(view.inner, width), width, &trapped};
    int64_t work = view.count * (2 + minimum(view.inner, width));
    /* At least the 64 with which whole cache lines of indices are not asked for. */
    parallel_range(body, &job, view.outer * job.blocks, maximum(work, 64));
    return atomic_load(&trapped) ? RUN_TRAP : RUN_OK;
}

/* ---- scatter_rows ---- in: g[outer, S, inner], index[S]. out: dx[outer, D, inner].
 * size: [0] outer, [1] D, [2] S, [3] inner, [4] the index that is skipped, or -1. */

static void scatter_rows_blocks(const void *context, int64_t first, int64_t last,
                                const struct worker *worker) {
    (void)worker;
    const struct indexed_call *job = context;
    const struct call *call = job->call;
    struct axis_view view = axis_view_of(call);
    const int64_t *restrict index = call->in[1];
    int64_t skipped = call->size[4];
    for (int64_t task = first; task < last; task++) {
        int64_t o = task / job->blocks, column = task % job->blocks * job->width;
        int64_t n = minimum(job->width, view.inner - column);
        const float *restrict g = (const float *)call->in[0] + o * view.count * view.inner + column;
        float *restrict dx = (float *)call->out[0] + o * view.extent * view.inner + column;
        for (int64_t s = 0; s < view.count; s++) {
            if (index[s] == skipped && skipped != -1) continue;
            if (!in_range(index[s], view.extent)) {
                atomic_store(job->trapped, 1);
                return;
            }
            float *restrict to = dx + index[s] * view.inner;
            for (int64_t j = 0; j < n; j++) to[j] += g[s * view.inner + j];
        }
    }
}

static int scatter_rows_operator(const struct call *call) {
    struct axis_view view = axis_view_of(call);
    parallel_range(clear_bytes, call, view.outer * view.extent * view.inner * 4, 1);
    return run_in_order(scatter_rows_blocks, call);
}

/* ---- scatter, scatter_add ---- in: base[outer, D, inner], index[outer, I, inner], source
 * like index. out: y like base. size: as gather; scatter_add is of 4 bytes. */

#define DEFINE_SCATTER(type, name, operation)                                       \
    static int name(type *restrict y, const int64_t *restrict index,                \
                    const type *restrict source, int64_t step, int64_t n,           \
                    int64_t extent) {                                               \
        for (int64_t i = 0; i < n; i++) {                                           \
            if (!in_range(index[i], extent)) return 0;                              \
            y[step == 1 ? index[i] : index[i] * step + i] operation source[i];      \
        }                                                                           \
        return 1;                                                                   \
    }
DEFINE_SCATTER(uint8_t, scatter_run_1, =)
DEFINE_SCATTER(uint16_t, scatter_run_2, =)
DEFINE_SCATTER(uint32_t, scatter_run_4, =)
DEFINE_SCATTER(uint64_t, scatter_run_8, =)
DEFINE_SCATTER(float, scatter_add_run, +=)

static int scatter_run(int64_t bytes, void *y, const int64_t *index, const void *source,
                       int64_t step, int64_t n, int64_t extent) {
    switch (bytes) {
    case 1: return scatter_run_1(y, index, source, step, n, extent);
    case 2: return scatter_run_2(y, index, source, step, n, extent);
    case 4: return scatter_run_4(y, index, source, step, n, extent);
    default: return scatter_run_8(y, index, source, step, n, extent);
    }
}

INLINE void scatter_blocks_of(const struct indexed_call *job, int64_t first, int64_t last,
                              int adds) {
    const struct call *call = job->call;
    struct axis_view view = axis_view_of(call);
    int64_t bytes = call->size[4];
    int64_t rows = view.inner == 1 ? 1 : view.count;
    for (int64_t task = first; task < last; task++) {
        int64_t o = task / job->blocks, column = task % job->blocks * job->width;
        int64_t n = view.inner == 1 ? view.count : minimum(job->width, view.inner - column);
        char *y = (char *)call->out[0] + (o * view.extent * view.inner + column) * bytes;
        for (int64_t i = 0; i < rows; i++) {
            int64_t at = (o * view.count + i) * view.inner + column;
            const int64_t *index = (const int64_t *)call->in[1] + at;
            const void *source = (const char *)call->in[2] + at * bytes;
            int fine = adds ? scatter_add_run((float *)y, index, source, view.inner, n, view.extent)
                            : scatter_run(bytes, y, index, source, view.inner, n, view.extent);
            if (fine) continue;
            atomic_store(job->trapped, 1);
            return;
        }
    }
}

static void scatter_blocks(const void *context, int64_t first, int64_t last,
                           const struct worker *worker) {
    (void)worker;
    scatter_blocks_of(context, first, last, 0);
}

static void scatter_add_blocks(const void *context, int64_t first, int64_t last,
                               const struct worker *worker) {
    (void)worker;
    scatter_blocks_of(context, first, last, 1);
}

static int scatter_into_copy(const struct call *call, range_body body) {
    struct axis_view view = axis_view_of(call);
    parallel_range(copy_bytes, call, view.outer * view.extent * view.inner * call->size[4], 1);
    return run_in_order(body, call);
}

static int scatter_operator(const struct call *call) {
    return scatter_into_copy(call, scatter_blocks);
}

static int scatter_add_operator(const struct call *call) {
    return scatter_into_copy(call, scatter_add_blocks);
}

#endif
