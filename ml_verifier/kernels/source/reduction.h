/* The one reduction order: element e joins lane e mod 32 in ascending order, then the
 * lanes fold by halves. Folding in a lane that received nothing, +0, can only turn a -0
 * into +0: with fewer than 32 elements such lanes are skipped, and +0 is added once. */
#ifndef LOCKSTEP_REDUCTION_H
#define LOCKSTEP_REDUCTION_H

#include "exponential.h"

struct lanes {
    float lane[LANES];
    int64_t fed; /* elements so far */
};

INLINE void lanes_clear(struct lanes *lanes) { memset(lanes, 0, sizeof *lanes); }

static float lanes_fold(struct lanes *lanes) {
    float *lane = lanes->lane;
    if (lanes->fed >= LANES) {
        for (int w = LANES / 2; w > 0; w /= 2)
            for (int j = 0; j < w; j++) lane[j] = lane[j] + lane[j + w];
    } else {
        int active = (int)lanes->fed;
        for (int w = LANES / 2; w > 0; w /= 2) {
            for (int j = 0; j + w < active; j++) lane[j] = lane[j] + lane[j + w];
            active = active < w ? active : w;
        }
        return lane[0] + 0.0f;
    }
    return lane[0];
}

/* Defines name(lanes, x, z, c, n): feeds n terms made of u = x[i], v = z[i] and c. */
#define DEFINE_LANES_FEED(name, expression)                                         \
    static void name(struct lanes *lanes, const float *restrict x,                  \
                     const float *restrict z, float c, float d, int64_t n) {        \
        int64_t i = 0;                                                              \
        (void)c;                                                                    \
        (void)d;                                                                    \
        for (; i < n && (lanes->fed + i) % LANES != 0; i++) {                       \
            float u = x[i], v = z[i], a = lanes->lane[(lanes->fed + i) % LANES];    \
            (void)v;                                                                \
            lanes->lane[(lanes->fed + i) % LANES] = (expression);                   \
        }                                                                           \
        float lane[LANES];                                                          \
        memcpy(lane, lanes->lane, sizeof lane);                                     \
        for (; i + LANES <= n; i += LANES)                                          \
            for (int j = 0; j < LANES; j++) {                                       \
                float u = x[i + j], v = z[i + j], a = lane[j];                      \
                (void)v;                                                            \
                lane[j] = (expression);                                             \
            }                                                                       \
        for (int j = 0; i + j < n; j++) {                                           \
            float u = x[i + j], v = z[i + j], a = lane[j];                          \
            (void)v;                                                                \
            lane[j] = (expression);                                                 \
        }                                                                           \
        memcpy(lanes->lane, lane, sizeof lane);                                     \
        lanes->fed += n;                                                            \
    }

DEFINE_LANES_FEED(feed_sum, a + u)
/* The variance: (x - c)^2. */
DEFINE_LANES_FEED(feed_square, fma_f(u - c, u - c, a))
/* A sum of products. */
DEFINE_LANES_FEED(feed_dot, fma_f(u, v, a))
/* The gradient of a scale: g * ((x - c) * d). */
DEFINE_LANES_FEED(feed_product, fma_f(v, (u - c) * d, a))

static float lanes_sum(const float *x, int64_t n) {
    struct lanes lanes;
    lanes_clear(&lanes);
    feed_sum(&lanes, x, x, 0.0f, 0.0f, n);
    return lanes_fold(&lanes);
}

/* ---- sum ----
 * size: [0] outer kept rank, [1] outer reduced rank, [2] 1 when the innermost run is
 * kept (0: reduced), [3] its length, [4..7] kept extents, [8..11] kept strides,
 * [12..15] reduced extents, [16..19] reduced strides. Adjacent axes are merged. */
enum { SUM_RANK = 4 };

static int64_t product_of(const int64_t *extent, int64_t rank) {
    int64_t product = 1;
    for (int64_t d = 0; d < rank; d++) product *= extent[d];
    return product;
}

static int64_t offset_of(int64_t flat, const int64_t *extent, const int64_t *stride,
                         int64_t rank) {
    int64_t offset = 0;
    for (int64_t d = rank - 1; d >= 0; d--) {
        offset += flat % extent[d] * stride[d];
        flat /= extent[d];
    }
    return offset;
}

enum { SUM_COLUMNS = 64 };

static void sum_runs(const void *context, int64_t first, int64_t last,
                     const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    const int64_t *size = call->size;
    int64_t reduced = product_of(size + 12, size[1]);
    for (int64_t i = first; i < last; i++) {
        const float *x = call->in[0];
        x += offset_of(i, size + 4, size + 8, size[0]);
        struct lanes lanes;
        lanes_clear(&lanes);
        for (int64_t r = 0; r < reduced; r++) {
            const float *run = x + offset_of(r, size + 12, size + 16, size[1]);
            feed_sum(&lanes, run, run, 0.0f, 0.0f, size[3]);
        }
        ((float *)call->out[0])[i] = lanes_fold(&lanes);
    }
}

/* Sums `width` adjacent columns of `reduced` rows. Sums from +0 are never -0, so the
 * lanes that received nothing are skipped. */
static void sum_column_block(const struct call *call, const float *x, float *y,
                             int64_t width, int64_t reduced) {
    const int64_t *size = call->size;
    float lane[LANES][SUM_COLUMNS];
    int active = (int)minimum(reduced, LANES);
    memset(lane, 0, (size_t)active * sizeof lane[0]);
    for (int64_t r = 0; r < reduced; r++) {
        const float *restrict row = x + offset_of(r, size + 12, size + 16, size[1]);
        float *restrict target = lane[r % LANES];
        if (width == SUM_COLUMNS)
            for (int j = 0; j < SUM_COLUMNS; j++) target[j] += row[j];
        else
            for (int64_t j = 0; j < width; j++) target[j] += row[j];
    }
    for (int w = LANES / 2; w > 0; w /= 2) {
        for (int l = 0; l + w < active; l++)
            for (int j = 0; j < SUM_COLUMNS; j++) lane[l][j] += lane[l + w][j];
        active = active < w ? active : w;
    }
    if (reduced == 0) memset(lane[0], 0, sizeof lane[0]);
    memcpy(y, lane[0], (size_t)width * sizeof *y);
}

static void sum_columns(const void *context, int64_t first, int64_t last,
                        const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    const int64_t *size = call->size;
    int64_t blocks = ceil_div(size[3], SUM_COLUMNS);
    int64_t reduced = product_of(size + 12, size[1]);
    for (int64_t i = first; i < last; i++) {
        int64_t outer = i / blocks, column = i % blocks * SUM_COLUMNS;
        const float *x = call->in[0];
        float *y = call->out[0];
        sum_column_block(call, x + offset_of(outer, size + 4, size + 8, size[0]) + column,
                         y + outer * size[3] + column,
                         minimum(SUM_COLUMNS, size[3] - column), reduced);
    }
}

static int sum_operator(const struct call *call) {
    const int64_t *size = call->size;
    int64_t kept = product_of(size + 4, size[0]), reduced = product_of(size + 12, size[1]);
    if (size[2])
        parallel_range(sum_columns, call, kept * ceil_div(size[3], SUM_COLUMNS),
                       reduced * SUM_COLUMNS);
    else
        parallel_range(sum_runs, call, kept, reduced * size[3]);
    return RUN_OK;
}

/* ---- softmax and its loss ---- size: [0] rows, [1] classes; the loss: [2] the target
 * that is ignored. */

INLINE float greater(float v, float most) { return v > most ? v : most; }

/* The greatest element, of either sign where that is zero; NaN where there is one. */
static float row_maximum(const float *x, int64_t n) {
    enum { FEW = 8 };
    float best[LANES], few[FEW], most = -INFINITY_F;
    int nan = 0;
    int64_t i = 0;
    for (int j = 0; j < FEW; j++) few[j] = -INFINITY_F;
    if (n >= LANES) {
        for (int j = 0; j < LANES; j++) best[j] = -INFINITY_F;
        for (; i + LANES <= n; i += LANES)
            for (int j = 0; j < LANES; j++) {
                nan |= x[i + j] != x[i + j];
                best[j] = greater(x[i + j], best[j]);
            }
        for (int w = LANES / 2; w >= FEW; w /= 2)
            for (int j = 0; j < w; j++) best[j] = greater(best[j + w], best[j]);
        memcpy(few, best, sizeof few);
    }
    for (; i + FEW <= n; i += FEW)
        for (int j = 0; j < FEW; j++) {
            nan |= x[i + j] != x[i + j];
            few[j] = greater(x[i + j], few[j]);
        }
    for (; i < n; i++) {
        nan |= x[i] != x[i];
        most = greater(x[i], most);
    }
    for (int w = FEW / 2; w > 0; w /= 2)
        for (int j = 0; j < w; j++) few[j] = greater(few[j + w], few[j]);
    return nan ? NAN_F : greater(few[0], most);
}

/* Rows or elements together in one block of the stack. */
enum { SOFTMAX_BLOCK = 1024 };

#ifdef VECTOR_EXP
/* lanes(exp(x - most)); the exponentials go to e unless that is NULL. Behind the last
 * element come lanes of exp(-inf) = +0, which change no sum of exponentials. */
static float exponentials(const float *x, float most, float *e, int64_t n) {
    enum { VECTORS = LANES / VECTOR };
    vector sum[VECTORS], shift = vector_set(most);
    for (int v = 0; v < VECTORS; v++) sum[v] = vector_set(0.0f);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int v = 0; v < VECTORS; v++) {
            vector value = exp_vector(vector_sub(vector_load(x + i + v * VECTOR), shift));
            if (e != NULL) vector_store(e + i + v * VECTOR, value);
            sum[v] = vector_add(sum[v], value);
        }
    for (int v = 0; i < n; v++, i += VECTOR) {
        int64_t left = minimum(VECTOR, n - i);
        float d[VECTOR];
        for (int j = 0; j < VECTOR; j++) d[j] = j < left ? x[i + j] - most : -INFINITY_F;
        vector value = exp_vector(vector_load(d));
        if (e != NULL) vector_store_part(e + i, left, value);
        sum[v] = vector_add(sum[v], value);
    }
    struct lanes lanes;
    for (int v = 0; v < VECTORS; v++) vector_store(lanes.lane + v * VECTOR, sum[v]);
    lanes.fed = LANES;
    return lanes_fold(&lanes);
}
#else
static float exponentials(const float *x, float most, float *e, int64_t n) {
    float d[SOFTMAX_BLOCK], block[SOFTMAX_BLOCK];
    struct lanes lanes;
    lanes_clear(&lanes);
    for (int64_t start = 0; start < n; start += SOFTMAX_BLOCK) {
        int64_t count = minimum(SOFTMAX_BLOCK, n - start);
        float *to = e != NULL ? e + start : block;
        for (int64_t j = 0; j < count; j++) d[j] = x[start + j] - most;
        exp_array(d, to, count);
        feed_sum(&lanes, to, to, 0.0f, 0.0f, count);
    }
    return lanes_fold(&lanes);
}
#endif

static void log_softmax_rows(const void *context, int64_t first, int64_t last,
                             const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t classes = call->size[1];
    int64_t together = maximum(1, SOFTMAX_BLOCK / classes);
    float most[SOFTMAX_BLOCK], sum[SOFTMAX_BLOCK], logarithm[SOFTMAX_BLOCK];
    for (int64_t row = first; row < last; row += together) {
        int64_t rows = minimum(together, last - row);
        const float *x = (const float *)call->in[0] + row * classes;
        float *y = (float *)call->out[0] + row * classes;
        for (int64_t r = 0; r < rows; r++) {
            most[r] = row_maximum(x + r * classes, classes);
            sum[r] = exponentials(x + r * classes, most[r], NULL, classes);
        }
        log_array(sum, logarithm, rows);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t j = r * classes; j < (r + 1) * classes; j++)
                y[j] = (x[j] - most[r]) - logarithm[r];
    }
}

static int log_softmax_operator(const struct call *call) {
    if (call->size[1] > 0)
        parallel_range(log_softmax_rows, call, call->size[0], 12 * call->size[1]);
    return RUN_OK;
}

static void log_softmax_backward_rows(const void *context, int64_t first, int64_t last,
                                      const struct worker *worker) {
    (void)worker;
    const struct call *call = context;
    int64_t classes = call->size[1];
    for (int64_t row = first; row < last; row++) {
        const float *restrict g = (const float *)call->in[0] + row * classes;
        const float *restrict y = (const float *)call->in[1] + row * classes;
        float *restrict dx = (float *)call->out[0] + row * classes;
        float sum = lanes_sum(g, classes), e[SOFTMAX_BLOCK];
        for (int64_t start = 0; start < classes; start += SOFTMAX_BLOCK) {
            int64_t n = minimum(SOFTMAX_BLOCK, classes - start);
            exp_array(y + start, e, n);
            for (int64_t j = 0; j < n; j++)
                dx[start + j] = fma_f(-e[j], sum, g[start + j]);
        }
    }
}

static int log_softmax_backward_operator(const struct call *call) {
    parallel_range(log_softmax_backward_rows, call, call->size[0], 12 * call->size[1]);
    return RUN_OK;
}

/* How many targets are not the ignored one; -1 when another is out of range. */
static int64_t targets_counted(const struct call *call, const int64_t *target) {
    int64_t rows = call->size[0], classes = call->size[1], ignored = call->size[2];
    int64_t counted = 0;
    int valid = 1;
    for (int64_t i = 0; i < rows; i++) {
        valid &= (target[i] >= 0 && target[i] < classes) || target[i] == ignored;
        counted += target[i] != ignored;
    }
    return valid ? counted : -1;
}

static int nll_loss_operator(const struct call *call) {
    int64_t rows = call->size[0], classes = call->size[1];
    const float *log_probability = call->in[0];
    const int64_t *target = call->in[1];
    int64_t ignored = call->size[2], counted = targets_counted(call, target);
    if (counted < 0) return RUN_TRAP;
    struct lanes lanes;
    lanes_clear(&lanes);
    for (int64_t i = 0; i < rows; i++)
        lanes.lane[i % LANES] +=
            target[i] == ignored ? 0.0f : -log_probability[i * classes + target[i]];
    lanes.fed = rows;
    *(float *)call->out[0] = lanes_fold(&lanes) / (float)counted;
    *(float *)call->out[1] = (float)counted;
    return RUN_OK;
}

static int nll_loss_backward_operator(const struct call *call) {
    int64_t rows = call->size[0], classes = call->size[1];
    const int64_t *target = call->in[1];
    float *dx = call->out[0];
    if (targets_counted(call, target) < 0) return RUN_TRAP;
    float share = -(*(const float *)call->in[0] / *(const float *)call->in[2]);
    memset(dx, 0, (size_t)(rows * classes) * sizeof *dx);
    for (int64_t i = 0; i < rows; i++)
        if (target[i] != call->size[2]) dx[i * classes + target[i]] = share;
    return RUN_OK;
}

#endif
