/* Matrix products in the specified order: for each element, blocks of 256 along the
 * depth, inside a block one chain of fma from +0 in ascending depth, block sums added
 * left to right. Tiles, packing and threads choose only which elements are computed
 * together, so they change no bit.
 *
 * A tile of C is rows x columns; a micro-kernel broadcasts elements of A along vectors of
 * B. It comes in three forms of access to its operands:
 *   packed: A as [depth][rows], B rows at a constant step
 *   offset: A as [depth][rows], B rows at tabulated offsets (convolution)
 *   gather: A by row pointers and tabulated offsets, B rows at a constant step */
#ifndef LOCKSTEP_MATMUL_H
#define LOCKSTEP_MATMUL_H

#include "vector.h"

enum { DEPTH_BLOCK = 256, COLUMN_BLOCK = 1024 };

struct tile_operands {
    const float *a;             /* packed, offset */
    const float *const *a_rows; /* gather */
    const int64_t *a_offset;    /* gather, per depth */
    const float *b;
    int64_t b_step;          /* packed, gather */
    const int64_t *b_offset; /* offset, per depth */
};

enum tile_form { FORM_PACKED, FORM_OFFSET, FORM_GATHER };

/* One depth: sum += column of A times row of B. */
INLINE void micro_step(int rows, int vectors, const float *a, const float *const *a_rows,
                       int64_t shift, const float *b, vector sum[MAX_ROWS][PANEL_VECTORS]) {
    vector line[PANEL_VECTORS];
    UNROLL for (int v = 0; v < vectors; v++) line[v] = vector_load(b + v * VECTOR);
    UNROLL for (int i = 0; i < rows; i++) {
        vector element = vector_set(a_rows ? a_rows[i][shift] : a[i]);
        UNROLL for (int v = 0; v < vectors; v++)
            sum[i][v] = vector_fma(element, line[v], sum[i][v]);
    }
}

/* Four depths a turn: the counting would take as many instructions as a row of A. */
INLINE void micro_kernel(enum tile_form form, int rows, int vectors,
                         const struct tile_operands *operands, int64_t depth,
                         float *c, int64_t c_step, int accumulate) {
    vector sum[MAX_ROWS][PANEL_VECTORS];
    const float *a = operands->a, *b = operands->b;
    const int64_t *a_offset = operands->a_offset, *b_offset = operands->b_offset;
    const int64_t b_step = operands->b_step;
    const float *row[MAX_ROWS];
    UNROLL for (int i = 0; i < rows; i++) {
        UNROLL for (int v = 0; v < vectors; v++) sum[i][v] = vector_set(0.0f);
        if (form == FORM_GATHER) row[i] = operands->a_rows[i];
    }
    int64_t k = 0;
#define STEP                                                                        \
    do {                                                                            \
        micro_step(rows, vectors, a, form == FORM_GATHER ? row : NULL,              \
                   form == FORM_GATHER ? a_offset[k] : 0,                           \
                   form == FORM_OFFSET ? b + b_offset[k] : b, sum);                 \
        if (form != FORM_GATHER) a += rows;                                         \
        if (form != FORM_OFFSET) b += b_step;                                       \
        k++;                                                                        \
    } while (0)
    while (k + 4 <= depth) {
        STEP;
        STEP;
        STEP;
        STEP;
    }
    while (k < depth) STEP;
#undef STEP
    if (accumulate)
        UNROLL for (int i = 0; i < rows; i++)
            UNROLL for (int v = 0; v < vectors; v++)
                sum[i][v] = vector_add(vector_load(c + i * c_step + v * VECTOR), sum[i][v]);
    UNROLL for (int i = 0; i < rows; i++)
        UNROLL for (int v = 0; v < vectors; v++)
            vector_store(c + i * c_step + v * VECTOR, sum[i][v]);
}

typedef void (*tile_kernel)(const struct tile_operands *operands, int64_t depth, float *c,
                            int64_t c_step, int accumulate);

#define DEFINE_KERNEL(form, name, rows, vectors)                                    \
    static void name##_##rows##_##vectors(const struct tile_operands *operands,     \
                                          int64_t depth, float *c, int64_t c_step,  \
                                          int accumulate) {                         \
        micro_kernel(form, rows, vectors, operands, depth, c, c_step, accumulate);  \
    }
#define FOR_EACH_ROWS_4(X, ...) \
    X(__VA_ARGS__, 1) X(__VA_ARGS__, 2) X(__VA_ARGS__, 3) X(__VA_ARGS__, 4)
#define FOR_EACH_ROWS_6(X, ...) FOR_EACH_ROWS_4(X, __VA_ARGS__) X(__VA_ARGS__, 5) X(__VA_ARGS__, 6)
#define FOR_EACH_ROWS_12(X, ...)                                                    \
    FOR_EACH_ROWS_6(X, __VA_ARGS__)                                                 \
    X(__VA_ARGS__, 7) X(__VA_ARGS__, 8) X(__VA_ARGS__, 9) X(__VA_ARGS__, 10)        \
    X(__VA_ARGS__, 11) X(__VA_ARGS__, 12)
#define FOR_EACH_ROWS_14(X, ...) \
    FOR_EACH_ROWS_12(X, __VA_ARGS__) X(__VA_ARGS__, 13) X(__VA_ARGS__, 14)
#if defined(LOCKSTEP_PORTABLE)
#define FOR_EACH_ROWS FOR_EACH_ROWS_4
#elif defined(__AVX512F__)
#define FOR_EACH_ROWS FOR_EACH_ROWS_14
#elif defined(__AVX2__)
#define FOR_EACH_ROWS FOR_EACH_ROWS_6
#else
#define FOR_EACH_ROWS FOR_EACH_ROWS_12
#endif

#define DEFINE_BOTH(form, name, rows) \
    DEFINE_KERNEL(form, name, rows, 1) DEFINE_KERNEL(form, name, rows, 2)
FOR_EACH_ROWS(DEFINE_BOTH, FORM_PACKED, packed)
FOR_EACH_ROWS(DEFINE_BOTH, FORM_OFFSET, offset)
FOR_EACH_ROWS(DEFINE_BOTH, FORM_GATHER, gather)

/* [rows - 1][vectors - 1] */
#define ENTRY(name, rows) {name##_##rows##_1, name##_##rows##_2},
static const tile_kernel packed_kernels[MAX_ROWS][PANEL_VECTORS] = {
    FOR_EACH_ROWS(ENTRY, packed)};
static const tile_kernel offset_kernels[MAX_ROWS][PANEL_VECTORS] = {
    FOR_EACH_ROWS(ENTRY, offset)};
static const tile_kernel gather_kernels[MAX_ROWS][PANEL_VECTORS] = {
    FOR_EACH_ROWS(ENTRY, gather)};

/* Rows per tile for `total` rows: as even as possible, at most MAX_ROWS. */
INLINE int64_t even_rows(int64_t total) {
    return ceil_div(total, maximum(1, ceil_div(total, MAX_ROWS)));
}

INLINE int vectors_for(int64_t columns) { return columns > VECTOR ? 2 : 1; }

/* Runs a kernel on a tile that may be narrower than its vectors. */
INLINE void run_tile(tile_kernel kernel, int64_t rows, int64_t columns, int vectors,
                     const struct tile_operands *operands, int64_t depth, float *c,
                     int64_t c_step, int accumulate) {
    if (columns == vectors * VECTOR) {
        kernel(operands, depth, c, c_step, accumulate);
        return;
    }
    float tile[MAX_ROWS * PANEL];
    kernel(operands, depth, tile, PANEL, 0);
    for (int64_t i = 0; i < rows; i++) {
        float *restrict target = c + i * c_step;
        const float *restrict source = tile + i * PANEL;
        if (accumulate)
            for (int64_t j = 0; j < columns; j++) target[j] = target[j] + source[j];
        else
            for (int64_t j = 0; j < columns; j++) target[j] = source[j];
    }
}

/* A matrix read by strides: element (i, j) at data[i * row_step + j * column_step]; one
 * of the two steps is 1. */
struct strided {
    const float *data;
    int64_t row_step, column_step;
};

#if defined(__AVX2__) && !defined(LOCKSTEP_PORTABLE)
/* out[j * out_step + i] = in[i * in_step + j] for an 8 x 8 block; rows past `last`
 * repeat it. Columns are stored in ascending order: see `transpose`. */
INLINE void transpose_8x8(const float *in, int64_t in_step, int64_t last, float *out,
                          int64_t out_step) {
    __m256 half[2][4];
    for (int h = 0; h < 2; h++)
        for (int i = 0; i < 4; i++) {
            const float *upper = in + minimum(i, last) * in_step + 4 * h;
            const float *lower = in + minimum(i + 4, last) * in_step + 4 * h;
            __m256 row = _mm256_castps128_ps256(_mm_loadu_ps(upper));
            half[h][i] = _mm256_insertf128_ps(row, _mm_loadu_ps(lower), 1);
        }
    for (int h = 0; h < 2; h++) {
        __m256 a = _mm256_unpacklo_ps(half[h][0], half[h][1]);
        __m256 b = _mm256_unpackhi_ps(half[h][0], half[h][1]);
        __m256 c = _mm256_unpacklo_ps(half[h][2], half[h][3]);
        __m256 d = _mm256_unpackhi_ps(half[h][2], half[h][3]);
        float *target = out + 4 * h * out_step;
        _mm256_storeu_ps(target, _mm256_shuffle_ps(a, c, 0x44));
        _mm256_storeu_ps(target + out_step, _mm256_shuffle_ps(a, c, 0xee));
        _mm256_storeu_ps(target + 2 * out_step, _mm256_shuffle_ps(b, d, 0x44));
        _mm256_storeu_ps(target + 3 * out_step, _mm256_shuffle_ps(b, d, 0xee));
    }
}
enum { TRANSPOSE_BLOCK = 8 };
#define TRANSPOSE_FULL_BLOCK transpose_8x8
#elif defined(__aarch64__) && !defined(LOCKSTEP_PORTABLE)
INLINE void transpose_4x4(const float *in, int64_t in_step, int64_t last, float *out,
                          int64_t out_step) {
    float32x4_t row[4];
    for (int i = 0; i < 4; i++) row[i] = vld1q_f32(in + minimum(i, last) * in_step);
    float32x4x2_t a = vtrnq_f32(row[0], row[1]), b = vtrnq_f32(row[2], row[3]);
    for (int h = 0; h < 2; h++)
        vst1q_f32(out + h * out_step,
                  vcombine_f32(vget_low_f32(a.val[h]), vget_low_f32(b.val[h])));
    for (int h = 0; h < 2; h++)
        vst1q_f32(out + (h + 2) * out_step,
                  vcombine_f32(vget_high_f32(a.val[h]), vget_high_f32(b.val[h])));
}
enum { TRANSPOSE_BLOCK = 4 };
#define TRANSPOSE_FULL_BLOCK transpose_4x4
#else
enum { TRANSPOSE_BLOCK = 4 };
INLINE void transpose_plain(const float *in, int64_t in_step, int64_t last, float *out,
                            int64_t out_step) {
    for (int j = 0; j < TRANSPOSE_BLOCK; j++)
        for (int i = 0; i < TRANSPOSE_BLOCK; i++)
            out[j * out_step + i] = in[minimum(i, last) * in_step + j];
}
#define TRANSPOSE_FULL_BLOCK transpose_plain
#endif

/* out[j * out_step + i] = in[i * in_step + j] for rows x columns. A last block of rows
 * overlaps the one before it; of fewer rows than a block, each column's surplus lies where
 * the next column goes. */
static void transpose(const float *in, int64_t in_step, int64_t rows, int64_t columns,
                      float *out, int64_t out_step) {
    enum { B = TRANSPOSE_BLOCK };
    int64_t j = 0;
    if (rows >= B)
        for (; j + B <= columns; j += B)
            for (int64_t next = 0; next < rows; next += B) {
                int64_t i = minimum(next, rows - B);
                TRANSPOSE_FULL_BLOCK(in + i * in_step + j, in_step, B - 1,
                                     out + j * out_step + i, out_step);
            }
    else if (out_step == rows)
        for (; (j + B - 1) * rows + B <= columns * rows; j += B)
            TRANSPOSE_FULL_BLOCK(in + j, in_step, rows - 1, out + j * rows, rows);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t k = j; k < columns; k++) out[k * out_step + i] = in[i * in_step + k];
}

/* n floats, n at most a few vectors: fours, the last one overlapping. */
INLINE void copy_few(float *restrict out, const float *restrict in, int64_t n) {
    enum { W = 4 };
    if (n < W) {
        for (int64_t i = 0; i < n; i++) out[i] = in[i];
        return;
    }
    for (int64_t next = 0; next < n; next += W) {
        int64_t i = minimum(next, n - W);
        for (int w = 0; w < W; w++) out[i + w] = in[i + w];
    }
}

/* rows x depth of A as [depth][rows]. */
static void pack_a(struct strided a, int64_t rows, int64_t depth, float *out) {
    if (a.column_step == 1)
        transpose(a.data, a.row_step, rows, depth, out, rows);
    else
        for (int64_t k = 0; k < depth; k++)
            copy_few(out + k * rows, a.data + k * a.column_step, rows);
}

/* A panel [depth][PANEL] of at most PANEL columns of B; what lies past the last column is
 * read into vectors, but into no result: it is zeroed. */
static void pack_panel(struct strided b, int64_t depth, int64_t width, float *out) {
    if (width < PANEL) memset(out, 0, (size_t)(depth * PANEL) * sizeof *out);
    if (b.column_step != 1)
        transpose(b.data, b.column_step, width, depth, out, PANEL);
    else
        for (int64_t k = 0; k < depth; k++)
            memcpy(out + k * PANEL, b.data + k * b.row_step, (size_t)width * sizeof *out);
}

/* depth x columns of B as panels; several side by side, to read memory in longer runs. */
static void pack_b(struct strided b, int64_t depth, int64_t columns, float *out) {
    enum { TOGETHER = 8 };
    int64_t j = 0, full = b.column_step == 1 ? columns / PANEL : 0;
    for (int64_t first = 0; first < full; first += TOGETHER) {
        int64_t panels = minimum(TOGETHER, full - first);
        j = (first + panels) * PANEL;
        for (int64_t k = 0; k < depth; k++) {
            const float *row = b.data + k * b.row_step + first * PANEL;
            float *target = out + first * PANEL * depth + k * PANEL;
            for (int64_t i = 0; i < panels; i++, row += PANEL, target += depth * PANEL)
                for (int v = 0; v < PANEL_VECTORS; v++)
                    vector_store(target + v * VECTOR, vector_load(row + v * VECTOR));
        }
    }
    for (; j < columns; j += PANEL) {
        struct strided panel = {b.data + j * b.column_step, b.row_step, b.column_step};
        pack_panel(panel, depth, minimum(PANEL, columns - j), out + j * depth);
    }
}

struct product {
    int64_t m, n, k;
    struct strided a, b;
    float *c;
    int64_t c_step;
};

enum {
    GROUP = 8,          /* tiles of A that are packed together */
    DIRECT_COLUMNS = 64 /* so few columns do not repay packing A */
};

/* Worker scratch of one product. */
struct product_scratch {
    float a[GROUP * MAX_ROWS * DEPTH_BLOCK];
    float b[DEPTH_BLOCK * COLUMN_BLOCK];
};

/* Rows of A as tiles [depth][step], the last one of fewer rows. */
static void pack_group(struct strided a, int64_t rows, int64_t step, int64_t depth,
                       float *out) {
    if (a.column_step == 1) {
        for (int64_t i = 0; i < rows; i += step)
            transpose(a.data + i * a.row_step, a.row_step, minimum(step, rows - i), depth,
                      out + i * depth, minimum(step, rows - i));
        return;
    }
    for (int64_t k = 0; k < depth; k++)
        for (int64_t i = 0; i < rows; i += step) {
            int64_t few = minimum(step, rows - i);
            copy_few(out + i * depth + k * few, a.data + k * a.column_step + i, few);
        }
}

/* Asks the memory for a share of rows x depth of A: `part` of `parts`. */
INLINE void fetch(struct strided a, int64_t rows, int64_t depth, int64_t part,
                  int64_t parts) {
    enum { LINE = 64 / sizeof(float) };
    int64_t runs = rows, length = depth, step = a.row_step;
    if (a.column_step != 1) runs = depth, length = rows, step = a.column_step;
    for (int64_t run = part * runs / parts; run < (part + 1) * runs / parts; run++)
        for (int64_t i = 0; i < length; i += LINE)
            __builtin_prefetch(a.data + run * step + i, 0, 2);
}

/* C[first_row.., first_column..] of one depth block and at most COLUMN_BLOCK columns. */
static void multiply_block(const struct product *p, int64_t depth_start, int64_t row_end,
                           int64_t row_start, int64_t column, int64_t columns,
                           struct product_scratch *scratch) {
    int64_t depth = minimum(DEPTH_BLOCK, p->k - depth_start);
    int64_t step = even_rows(row_end - row_start), panels = ceil_div(columns, PANEL);
    struct strided b = p->b;
    b.data += depth_start * b.row_step + column * b.column_step;
    pack_b(b, depth, columns, scratch->b);
    int direct = columns <= DIRECT_COLUMNS;
    int64_t offset[DEPTH_BLOCK];
    if (direct)
        for (int64_t k = 0; k < depth; k++) offset[k] = k * p->a.column_step;
    for (int64_t first = row_start; first < row_end; first += GROUP * step) {
        int64_t group = minimum(GROUP * step, row_end - first);
        int64_t later = minimum(group, row_end - first - group);
        int64_t parts = ceil_div(group, step) * panels, part = 0;
        struct strided a = p->a, next = a;
        a.data += first * a.row_step + depth_start * a.column_step;
        next.data = a.data + group * a.row_step;
        if (!direct) pack_group(a, group, step, depth, scratch->a);
        for (int64_t i = 0; i < group; i += step) {
            int64_t rows = minimum(step, group - i);
            const float *row[MAX_ROWS];
            if (direct)
                for (int64_t r = 0; r < rows; r++) row[r] = a.data + (i + r) * a.row_step;
            for (int64_t j = 0; j < columns; j += PANEL) {
                int64_t width = minimum(PANEL, columns - j);
                int vectors = vectors_for(width);
                struct tile_operands operands = {
                    scratch->a + i * depth, row, offset, scratch->b + j * depth, PANEL,
                    NULL};
                tile_kernel kernel = direct ? gather_kernels[rows - 1][vectors - 1]
                                            : packed_kernels[rows - 1][vectors - 1];
                /* The next group of A comes from memory while this one is at work. */
                if (later > 0) fetch(next, later, depth, part++, parts);
                run_tile(kernel, rows, width, vectors, &operands, depth,
                         p->c + (first + i) * p->c_step + column + j, p->c_step,
                         depth_start > 0);
            }
        }
    }
}

/* The rows and columns of C given, on one thread. */
static void multiply_region(const struct product *p, int64_t row_start, int64_t row_end,
                            int64_t column_start, int64_t column_end,
                            struct product_scratch *scratch) {
    if (p->k == 0)
        for (int64_t i = row_start; i < row_end; i++)
            memset(p->c + i * p->c_step + column_start, 0,
                   (size_t)(column_end - column_start) * sizeof *p->c);
    for (int64_t j = column_start; j < column_end; j += COLUMN_BLOCK)
        for (int64_t k = 0; k < p->k; k += DEPTH_BLOCK)
            multiply_block(p, k, row_end, row_start, j,
                           minimum(COLUMN_BLOCK, column_end - j), scratch);
}

struct grid {
    const struct product *product;
    int64_t columns, row_step, column_step;
};

static void multiply_task(const void *context, int64_t task, const struct worker *worker) {
    const struct grid *grid = context;
    const struct product *p = grid->product;
    int64_t row = task / grid->columns * grid->row_step;
    int64_t column = task % grid->columns * grid->column_step;
    multiply_region(p, row, minimum(row + grid->row_step, p->m), column,
                    minimum(column + grid->column_step, p->n), worker->scratch);
}

/* One region per thread: of the ways to cut, the one that repeats the least packing. */
static void multiply(const struct product *p) {
    enum { SMALLEST = 1 << 17 };
    int64_t most = p->m * p->n * maximum(p->k, 1) / SMALLEST;
    int64_t threads = maximum(1, minimum(pool_threads(), most));
    struct grid best = {p, 1, p->m, p->n};
    int64_t least = -1;
    for (int64_t columns = 1; columns <= threads; columns++) {
        int64_t rows = threads / columns;
        int64_t row_step = ceil_div(p->m, rows);
        int64_t column_step = ceil_div(ceil_div(p->n, columns), PANEL) * PANEL;
        int64_t work = ceil_div(row_step, MAX_ROWS) * MAX_ROWS * column_step;
        int64_t cost = work + 16 * (row_step + column_step);
        if (least >= 0 && cost >= least) continue;
        least = cost;
        best = (struct grid){p, ceil_div(p->n, column_step), row_step, column_step};
    }
    if (p->m == 0 || p->n == 0) return;
    pool_run(multiply_task, &best, ceil_div(p->m, best.row_step) * best.columns);
}

/* size: m, n, k, ta, tb. */
static int matmul_operator(const struct call *call) {
    int64_t m = call->size[0], n = call->size[1], k = call->size[2];
    struct strided a = {call->in[0], k, 1}, b = {call->in[1], n, 1};
    if (call->size[3]) a = (struct strided){call->in[0], 1, m};
    if (call->size[4]) b = (struct strided){call->in[1], 1, k};
    struct product product = {m, n, k, a, b, call->out[0], n};
    multiply(&product);
    return RUN_OK;
}

#endif
