/* Convolutions as matrix products over an implied im2col, one sample and group at a time.
 *
 * The padded sample is laid out as a *grid*, in which output (oh, ow) of tap k = (c, i, j)
 * reads grid[tap[k] + oh * grid_width + ow]. In its usual form the grid is the padded
 * sample split by stride phase, so that the inputs of adjacent outputs are adjacent; the
 * im2col matrix is never written out, and columns ow >= OW are computed along and dropped.
 * With stride 1 the zeros to the left of a row serve as those to the right of the one
 * above. Where wide padding or dilation would make all this larger than the im2col matrix,
 * the grid is that matrix.
 *
 * size: [0] N, [1] C, [2] H, [3] W, [4] O, [5] kh, [6] kw, [7] OH, [8] OW, [9] [10]
 * stride, [11] [12] padding, [13] [14] dilation, [15] groups, [16] [17] height and width
 * of a grid plane, [18] grid floats per channel, [19] 1 when the grid is im2col. */
#ifndef LOCKSTEP_CONVOLUTION_H
#define LOCKSTEP_CONVOLUTION_H

#include "matmul.h"

enum { WIDEST_VECTOR = 16, WIDEST_PANEL = 32, MOST_ROWS = 14, STRIP_COLUMNS = 512 };
/* Bounds on scratch for huge kernels: taps added together, floats of a weight tile. */
enum { TOGETHER_TAPS = 128, WEIGHT_TILE_FLOATS = 1 << 20 };

struct convolution {
    int64_t samples, channels, height, width, outputs, kernel_h, kernel_w, out_h, out_w;
    int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
    /* Derived. */
    int64_t group_channels, group_outputs, taps, positions;
    int64_t grid_height, grid_width, grid_channel, grid_columns;
    int64_t splits, split_step;
    int weights_finite;
    /* Shared scratch. */
    int64_t *tap;      /* [taps] offset of (c, i, j) in the grid */
    int64_t *position; /* [positions] offset of (oh, ow) in the grid */
    float *packed;     /* weights as tiles, or the gradient transposed */
    const float *in0, *in1;
    float *out;
};

static struct convolution convolution_of(const struct call *call) {
    const int64_t *s = call->size;
    struct convolution c = {
        .samples = s[0], .channels = s[1], .height = s[2], .width = s[3], .outputs = s[4],
        .kernel_h = s[5], .kernel_w = s[6], .out_h = s[7], .out_w = s[8],
        .stride_h = s[9], .stride_w = s[10], .pad_h = s[11], .pad_w = s[12],
        .dilation_h = s[13], .dilation_w = s[14], .groups = s[15], .grid_height = s[16],
        .grid_width = s[17], .grid_channel = s[18], .grid_columns = s[19],
        .in0 = call->in[0], .in1 = call->in[1], .out = call->out[0]};
    c.group_channels = c.channels / c.groups;
    c.group_outputs = c.outputs / c.groups;
    c.taps = c.group_channels * c.kernel_h * c.kernel_w;
    c.positions = c.out_h * c.out_w;
    c.tap = pool_shared_scratch();
    c.position = c.tap + c.taps;
    c.packed = (float *)(c.position + c.positions);
    return c;
}

static int64_t round_up(int64_t n, int64_t unit) { return ceil_div(n, unit) * unit; }

/* Past the last row: the zeros to its right, and what whole vectors run over. */
static int64_t grid_slack(const struct convolution *c) {
    return (c->grid_columns ? 0 : c->pad_w) + 3 * WIDEST_PANEL;
}

static int64_t grid_floats(const struct convolution *c) {
    return c->group_channels * c->grid_channel + grid_slack(c);
}

/* Columns of all outputs in the grid's layout. */
static int64_t virtual_columns(const struct convolution *c) {
    return round_up(c->out_h * c->grid_width, WIDEST_PANEL);
}

static int64_t strip_step(const struct convolution *c) {
    return round_up(maximum(STRIP_COLUMNS, c->grid_width), WIDEST_PANEL) + WIDEST_PANEL;
}

/* Lines of outputs that are computed together. */
static int64_t strip_lines(const struct convolution *c) {
    return maximum(1, STRIP_COLUMNS / c->grid_width);
}

/* The zeros on either side of an im2col row when a channel's rows are added together: as
 * wide as its taps lie apart in the grid, and a vector more. Else 0. */
static int64_t tap_reach(const struct convolution *c) {
    if (c->grid_columns || c->stride_h != 1 || c->stride_w != 1) return 0;
    if (c->kernel_h * c->kernel_w > TOGETHER_TAPS) return 0;
    int64_t reach = (c->kernel_h - 1) * c->dilation_h * c->grid_width +
                    (c->kernel_w - 1) * c->dilation_w + WIDEST_VECTOR;
    /* Beyond, more zeros would be cleared and added than columns. */
    return reach > 4 * STRIP_COLUMNS ? 0 : round_up(reach, WIDEST_PANEL);
}

/* Im2col rows that the strip holds: a channel's, or one tile's. */
static int64_t backward_strip_rows(const struct convolution *c) {
    return tap_reach(c) > 0 ? c->kernel_h * c->kernel_w : MOST_ROWS;
}

/* Against an im2col grid the strip holds all outputs: see scatter_columns. */
static int64_t backward_strip_step(const struct convolution *c) {
    int64_t columns = c->grid_columns ? virtual_columns(c) : strip_step(c);
    return columns + 2 * tap_reach(c);
}

/* Taps whose weight gradients one task accumulates, at most. */
static int64_t weight_tile_taps(const struct convolution *c) {
    int64_t row = round_up(c->group_outputs, WIDEST_VECTOR);
    return minimum(c->taps, maximum(MOST_ROWS, WEIGHT_TILE_FLOATS / row));
}

static void convolution_scratch(const struct call *call, int64_t *shared, int64_t *worker) {
    struct convolution c = convolution_of(call);
    int64_t tables = (int64_t)sizeof(int64_t) * (c.taps + c.positions);
    int64_t floats = 0, grid = grid_floats(&c);
    *worker = 0;
    switch (call->operator_index) {
    case OPERATOR_conv2d:
        floats = c.outputs * c.taps;
        *worker = grid + MOST_ROWS * strip_step(&c);
        break;
    case OPERATOR_conv2d_backward_input:
        floats = c.outputs * c.taps;
        *worker = grid + c.group_outputs * virtual_columns(&c) +
                  backward_strip_rows(&c) * backward_strip_step(&c);
        break;
    case OPERATOR_conv2d_backward_weight: {
        floats = c.samples * c.outputs * c.positions + WIDEST_PANEL;
        *worker = grid + 2 * weight_tile_taps(&c) * round_up(c.group_outputs, WIDEST_VECTOR);
        break;
    }
    default:
        break;
    }
    *shared = tables + (int64_t)sizeof(float) * floats;
    *worker *= (int64_t)sizeof(float);
}

static void fill_tables(struct convolution *c) {
    int64_t plane = c->grid_height * c->grid_width, k = 0, l = 0;
    for (int64_t oh = 0; oh < c->out_h; oh++)
        for (int64_t ow = 0; ow < c->out_w; ow++) c->position[l++] = oh * c->grid_width + ow;
    if (c->grid_columns) {
        for (; k < c->taps; k++) c->tap[k] = k * c->positions;
        return;
    }
    for (int64_t channel = 0; channel < c->group_channels; channel++)
        for (int64_t i = 0; i < c->kernel_h; i++)
            for (int64_t j = 0; j < c->kernel_w; j++) {
                int64_t h = i * c->dilation_h, w = j * c->dilation_w;
                int64_t phase = h % c->stride_h * c->stride_w + w % c->stride_w;
                c->tap[k++] = channel * c->grid_channel + phase * plane +
                              h / c->stride_h * c->grid_width + w / c->stride_w;
            }
}

/* Short runs, too short to be worth a call of memcpy; the empty assembly keeps compilers
 * from turning the loops into one. */
#define KEEP_LOOP(pointer) __asm__("" : "+r"(pointer))

INLINE void copy_run(float *restrict target, const float *restrict source, int64_t n) {
#if defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
    for (; n >= VECTOR; n -= VECTOR, target += VECTOR, source += VECTOR) {
        KEEP_LOOP(target);
        vector_store(target, vector_load(source));
    }
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    _mm512_mask_storeu_ps(target, mask, _mm512_maskz_loadu_ps(mask, source));
#else
    if (n >= VECTOR) {
        for (int64_t i = 0; i + VECTOR <= n; i += VECTOR) {
            KEEP_LOOP(target);
            vector_store(target + i, vector_load(source + i));
        }
        vector_store(target + n - VECTOR, vector_load(source + n - VECTOR));
    } else {
        for (int64_t i = 0; i < n; i++) target[i] = source[i];
    }
#endif
}

INLINE void zero_run(float *target, int64_t n) {
    for (; n >= VECTOR; n -= VECTOR, target += VECTOR) {
        KEEP_LOOP(target);
        vector_store(target, vector_set(0.0f));
    }
    for (; n > 0; n--) *target++ = 0.0f;
}

/* target[i] += source[i] */
INLINE void add_run(float *restrict target, const float *restrict source, int64_t n) {
#if defined(__AVX512F__) && !defined(LOCKSTEP_PORTABLE)
    for (; n >= VECTOR; n -= VECTOR, target += VECTOR, source += VECTOR)
        vector_store(target, vector_add(vector_load(target), vector_load(source)));
    __mmask16 mask = (__mmask16)((1u << n) - 1);
    __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, target),
                               _mm512_maskz_loadu_ps(mask, source));
    _mm512_mask_storeu_ps(target, mask, sum);
#else
    for (int64_t i = 0; i < n; i++) target[i] += source[i];
#endif
}

/* Rows h = r * stride_h + shift_h, for r < grid_height, of one plane; in each, columns
 * w = q * stride_w + shift_w; zeros outside of the plane. */
static float *fill_grid_plane(const struct convolution *c, const float *plane, int64_t shift_h,
                              int64_t shift_w, float *out) {
    int64_t low, high, width = c->grid_width, step = c->stride_w;
    inside(shift_w, step, c->width, width, &low, &high);
    for (int64_t r = 0; r < c->grid_height; r++, out += width) {
        int64_t h = r * c->stride_h + shift_h;
        if (h < 0 || h >= c->height) {
            zero_run(out, width);
            continue;
        }
        const float *row = plane + h * c->width + shift_w;
        zero_run(out, low);
        if (step == 1)
            copy_run(out + low, row + low, high - low);
        else
            for (int64_t q = low; q < high; q++) out[q] = row[q * step];
        zero_run(out + high, width - high);
    }
    return out;
}

/* The grid of `channels` planes starting at x, and the slack that vectors may read. */
static void fill_grid(const struct convolution *c, const float *x, int64_t channels,
                      float *grid) {
    float *out = grid;
    for (int64_t channel = 0; channel < channels; channel++, x += c->height * c->width) {
        int64_t high = c->grid_columns ? c->kernel_h : c->stride_h;
        int64_t wide = c->grid_columns ? c->kernel_w : c->stride_w;
        int64_t step_h = c->grid_columns ? c->dilation_h : 1;
        int64_t step_w = c->grid_columns ? c->dilation_w : 1;
        for (int64_t a = 0; a < high; a++)
            for (int64_t b = 0; b < wide; b++)
                out = fill_grid_plane(c, x, a * step_h - c->pad_h, b * step_w - c->pad_w,
                                      out);
    }
    zero_run(out, grid_slack(c));
}

/* Packs a matrix of rows x depth for all row tiles and depth blocks: the tile at row r
 * and depth d starts at out + r * depth_total + rows * d. */
static void pack_tiles(struct strided a, int64_t rows_total, int64_t depth_total, float *out) {
    int64_t step = even_rows(rows_total);
    for (int64_t r = 0; r < rows_total; r += step) {
        int64_t rows = minimum(step, rows_total - r);
        for (int64_t d = 0; d < depth_total; d += DEPTH_BLOCK) {
            struct strided block = {a.data + r * a.row_step + d * a.column_step, a.row_step,
                                    a.column_step};
            pack_a(block, rows, minimum(DEPTH_BLOCK, depth_total - d),
                   out + r * depth_total + rows * d);
        }
    }
}

/* Cuts `units` of one task into pieces when samples and groups are too few for the pool. */
static void split_tasks(struct convolution *c, int64_t tasks, int64_t units, int64_t unit) {
    int64_t wanted = ceil_div(pool_threads(), maximum(1, tasks));
    c->split_step = round_up(ceil_div(units, minimum(wanted, maximum(1, units))), unit);
    c->splits = ceil_div(units, c->split_step);
}

/* ---- forward: in x, w ---- */

static void forward_strip(const struct convolution *c, const float *grid, const float *tiles,
                          int64_t rows, int64_t columns, float *strip) {
    int64_t step = strip_step(c);
    for (int64_t d = 0; d < c->taps; d += DEPTH_BLOCK) {
        int64_t depth = minimum(DEPTH_BLOCK, c->taps - d);
        for (int64_t j = 0; j < columns; j += PANEL) {
            int vectors = vectors_for(columns - j);
            struct tile_operands operands = {
                .a = tiles + rows * d, .b = grid + j, .b_offset = c->tap + d};
            offset_kernels[rows - 1][vectors - 1](&operands, depth, strip + j, step, d > 0);
        }
    }
}

static void conv2d_task(const void *context, int64_t task, const struct worker *worker) {
    const struct convolution *c = context;
    int64_t split = task % c->splits, group = task / c->splits % c->groups;
    int64_t sample = task / c->splits / c->groups;
    float *grid = worker->scratch, *strip = grid + grid_floats(c);
    int64_t first_channel = sample * c->channels + group * c->group_channels;
    fill_grid(c, c->in0 + first_channel * c->height * c->width, c->group_channels, grid);

    const float *tiles = c->packed + group * c->group_outputs * c->taps;
    int64_t last = minimum((split + 1) * c->split_step, c->group_outputs);
    int64_t step = even_rows(c->group_outputs), width = c->grid_width;
    float *y = c->out + (sample * c->outputs + group * c->group_outputs) * c->positions;
    for (int64_t oh = 0; oh < c->out_h; oh += strip_lines(c)) {
        int64_t lines = minimum(strip_lines(c), c->out_h - oh);
        for (int64_t o = split * c->split_step; o < last; o += step) {
            int64_t rows = minimum(step, c->group_outputs - o);
            forward_strip(c, grid + oh * width, tiles + o * c->taps, rows,
                          (lines - 1) * width + c->out_w, strip);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t line = 0; line < lines; line++)
                    copy_run(y + (o + r) * c->positions + (oh + line) * c->out_w,
                             strip + r * strip_step(c) + line * width, c->out_w);
        }
    }
}

static int conv2d_operator(const struct call *call) {
    struct convolution c = convolution_of(call);
    if (c.samples * c.outputs * c.positions == 0) return RUN_OK;
    fill_tables(&c);
    for (int64_t g = 0; g < c.groups; g++) {
        int64_t start = g * c.group_outputs * c.taps;
        struct strided weights = {c.in1 + start, c.taps, 1};
        pack_tiles(weights, c.group_outputs, c.taps, c.packed + start);
    }
    split_tasks(&c, c.samples * c.groups, c.group_outputs, even_rows(c.group_outputs));
    pool_run(conv2d_task, &c, c.samples * c.groups * c.splits);
    return RUN_OK;
}

/* ---- gradient of the input: in g, w ----
 *
 * Each sample's gradient is laid out like the grid's outputs, zeros in the columns past
 * OW, so that adding one im2col row (that of one tap) into the grid is one long run. The
 * zeros contribute products of weights with 0: these are +-0, which change no sum that
 * started from +0, unless a weight is infinite or NaN; then the lines are added singly.
 *
 * Lines are taken in strips from the last to the first. Grid element e receives tap k
 * from output e - tap[k], which falls as k rises: so its taps still arrive in order.
 *
 * The strip holds the im2col rows of one tile of taps, or with stride 1 of one channel:
 * then they are added into the grid together, each element with its taps in order, for
 * which the rows stand between zeros as wide as the taps reach. */

static void lay_out_gradient(const struct convolution *c, const float *g, float *out) {
    int64_t step = virtual_columns(c);
    for (int64_t o = 0; o < c->group_outputs; o++, out += step) {
        float *line = out;
        for (int64_t oh = 0; oh < c->out_h; oh++, g += c->out_w, line += c->grid_width) {
            copy_run(line, g, c->out_w);
            zero_run(line + c->out_w, c->grid_width - c->out_w);
        }
        zero_run(line, out + step - line);
    }
}

/* strip = the im2col rows of `rows` taps, for `columns` columns of the gradient. */
static void backward_strip(const struct convolution *c, const float *gradient,
                           const float *tile, int64_t rows, int64_t columns, float *strip) {
    int64_t step = virtual_columns(c), strip_row = backward_strip_step(c);
    for (int64_t d = 0; d < c->group_outputs; d += DEPTH_BLOCK) {
        int64_t depth = minimum(DEPTH_BLOCK, c->group_outputs - d);
        for (int64_t j = 0; j < columns; j += PANEL) {
            int vectors = vectors_for(columns - j);
            struct tile_operands operands = {
                .a = tile + rows * d, .b = gradient + d * step + j, .b_step = step};
            packed_kernels[rows - 1][vectors - 1](&operands, depth, strip + j, strip_row,
                                                  d > 0);
        }
    }
}

/* Adds the im2col rows of `rows` taps from k, of `lines` lines, into the grid. */
static void scatter_lines(const struct convolution *c, const float *strip, int64_t k,
                          int64_t rows, int64_t lines, float *grid) {
    for (int64_t t = 0; t < rows; t++) {
        const float *row = strip + t * backward_strip_step(c);
        float *target = grid + c->tap[k + t];
        if (c->weights_finite)
            add_run(target, row, (lines - 1) * c->grid_width + c->out_w);
        else
            for (int64_t line = 0; line < lines; line++)
                add_run(target + line * c->grid_width, row + line * c->grid_width, c->out_w);
    }
}

/* The same for a whole channel, element by element; zeros precede the rows. */
static void scatter_together(const struct convolution *c, float *strip, int64_t k,
                             int64_t columns, float *grid) {
    int64_t step = backward_strip_step(c), reach = tap_reach(c);
    int64_t taps = c->kernel_h * c->kernel_w;
    const int64_t *tap = c->tap + k;
    for (int64_t t = 0; t < taps; t++) zero_run(strip + t * step + columns, reach);
    for (int64_t e = 0; e < columns + reach - WIDEST_VECTOR; e += VECTOR) {
        float *target = grid + tap[0] + e;
        vector sum = vector_load(target);
        const float *row = strip + e + tap[0];
        for (int64_t t = 0; t < taps; t++, row += step)
            sum = vector_add(sum, vector_load(row - tap[t]));
        vector_store(target, sum);
    }
}

/* Against an im2col grid: adds rows of taps of one channel, of all lines, into dx. */
static void scatter_columns(const struct convolution *c, const float *strip, int64_t first_tap,
                            int64_t rows, float *dx) {
    for (int64_t r = 0; r < rows; r++) {
        const float *row = strip + r * backward_strip_step(c);
        int64_t i = (first_tap + r) / c->kernel_w, j = (first_tap + r) % c->kernel_w;
        int64_t shift_h = i * c->dilation_h - c->pad_h;
        int64_t shift_w = j * c->dilation_w - c->pad_w;
        int64_t low, high;
        inside(shift_w, c->stride_w, c->width, c->out_w, &low, &high);
        for (int64_t oh = 0; oh < c->out_h; oh++) {
            int64_t h = oh * c->stride_h + shift_h;
            if (h < 0 || h >= c->height) continue;
            for (int64_t ow = low; ow < high; ow++)
                dx[h * c->width + shift_w + ow * c->stride_w] += row[oh * c->out_w + ow];
        }
    }
}

/* Copies the grid's planes of inputs back to dx. */
static void collect_grid(const struct convolution *c, const float *grid, int64_t channels,
                         float *dx) {
    for (int64_t channel = 0; channel < channels; channel++, dx += c->height * c->width) {
        /* Inputs past the last window belong to no grid position. */
        zero_run(dx, c->height * c->width);
        for (int64_t a = 0; a < c->stride_h; a++)
            for (int64_t b = 0; b < c->stride_w; b++)
                for (int64_t r = 0; r < c->grid_height; r++, grid += c->grid_width) {
                    int64_t low, high, h = r * c->stride_h + a - c->pad_h, w = b - c->pad_w;
                    if (h < 0 || h >= c->height) continue;
                    inside(w, c->stride_w, c->width, c->grid_width, &low, &high);
                    float *line = dx + h * c->width + w;
                    if (c->stride_w == 1)
                        copy_run(line + low, grid + low, high - low);
                    else
                        for (int64_t q = low; q < high; q++) line[q * c->stride_w] = grid[q];
                }
    }
}

/* One channel of the group, and one strip of lines from line oh. */
static void backward_channel(const struct convolution *c, const float *gradient,
                             const float *tiles, int64_t k, int64_t oh, int64_t lines,
                             float *strip, float *grid, float *dx) {
    int64_t area = c->kernel_h * c->kernel_w, tile_rows = even_rows(area);
    int64_t column = oh * c->grid_width, columns = (lines - 1) * c->grid_width + c->out_w;
    int together = tap_reach(c) > 0 && c->weights_finite;
    for (int64_t t = 0; t < area; t += tile_rows) {
        int64_t rows = minimum(tile_rows, area - t);
        float *target = strip + (together ? t * backward_strip_step(c) : 0);
        backward_strip(c, gradient + column, tiles + (k + t) * c->group_outputs, rows,
                       columns, target);
        if (c->grid_columns)
            scatter_columns(c, strip, t, rows, dx);
        else if (!together)
            scatter_lines(c, strip, k + t, rows, lines, grid + column);
    }
    if (together) scatter_together(c, strip, k, columns, grid + column);
}

static void conv2d_backward_input_task(const void *context, int64_t task,
                                       const struct worker *worker) {
    const struct convolution *c = context;
    int64_t split = task % c->splits, group = task / c->splits % c->groups;
    int64_t sample = task / c->splits / c->groups, area = c->kernel_h * c->kernel_w;
    float *grid = worker->scratch, *gradient = grid + grid_floats(c);
    float *strip = gradient + c->group_outputs * virtual_columns(c);
    int64_t first_output = sample * c->outputs + group * c->group_outputs;
    lay_out_gradient(c, c->in0 + first_output * c->positions, gradient);

    int64_t first = group * c->group_channels + split * c->split_step;
    int64_t channels =
        minimum(c->split_step, c->group_channels - split * c->split_step);
    int64_t plane = c->height * c->width;
    float *dx = c->out + (sample * c->channels + first) * plane;
    const float *tiles = c->packed + first * area * c->group_outputs;
    if (c->grid_columns)
        zero_run(dx, channels * plane);
    else
        zero_run(grid, channels * c->grid_channel + grid_slack(c));
    for (int64_t row = 0; row < backward_strip_rows(c); row++)
        zero_run(strip + row * backward_strip_step(c), tap_reach(c));
    strip += tap_reach(c);

    int64_t full = c->grid_columns ? c->out_h : strip_lines(c);
    for (int64_t oh = (c->out_h - 1) / full * full; oh >= 0; oh -= full)
        for (int64_t channel = 0; channel < channels; channel++)
            backward_channel(c, gradient, tiles, channel * area, oh,
                             minimum(full, c->out_h - oh), strip, grid,
                             dx + channel * plane);
    if (!c->grid_columns) collect_grid(c, grid, channels, dx);
}

static int all_weights_finite(const float *w, int64_t n) {
    uint32_t bad = 0;
    for (int64_t i = 0; i < n; i++)
        bad |= (uint32_t)((float_bits(w[i]) & 0x7f800000u) == 0x7f800000u);
    return !bad;
}

static int conv2d_backward_input_operator(const struct call *call) {
    struct convolution c = convolution_of(call);
    if (c.samples * c.channels * c.height * c.width == 0) return RUN_OK;
    fill_tables(&c);
    c.weights_finite = all_weights_finite(c.in1, c.outputs * c.taps);
    split_tasks(&c, c.samples * c.groups, c.group_channels, 1);
    int64_t area = c.kernel_h * c.kernel_w;
    for (int64_t channel = 0; channel < c.channels; channel++) {
        int64_t group = channel / c.group_channels;
        const float *w = c.in1 + group * c.group_outputs * c.taps +
                         channel % c.group_channels * area;
        pack_tiles((struct strided){w, 1, c.taps}, area, c.group_outputs,
                   c.packed + channel * area * c.group_outputs);
    }
    pool_run(conv2d_backward_input_task, &c, c.samples * c.groups * c.splits);
    return RUN_OK;
}

/* ---- gradient of the weight: in g, x ---- */

/* Of each sample and group, the gradient as [position][output]. A vector at the end of a
 * row reads into the next one; those lanes are dropped. */
static void transpose_gradient_task(const void *context, int64_t task,
                                    const struct worker *worker) {
    (void)worker;
    const struct convolution *c = context;
    int64_t start = task * c->group_outputs * c->positions;
    transpose(c->in0 + start, c->positions, c->group_outputs, c->positions, c->packed + start,
              c->group_outputs);
}

/* t = product of one sample for taps [first, last): rows are taps, columns outputs. */
static void weight_product(const struct convolution *c, const float *grid, const float *g,
                           int64_t first, int64_t last, float *t) {
    int64_t row = round_up(c->group_outputs, VECTOR), step = even_rows(last - first);
    int64_t first_channel = first / (c->kernel_h * c->kernel_w);
    const float *origin = grid - first_channel * c->grid_channel;
    for (int64_t d = 0; d < c->positions; d += DEPTH_BLOCK) {
        int64_t depth = minimum(DEPTH_BLOCK, c->positions - d);
        for (int64_t j = 0; j < row; j += PANEL)
            for (int64_t k = first; k < last; k += step) {
                int64_t rows = minimum(step, last - k);
                int vectors = vectors_for(row - j);
                const float *pointers[MAX_ROWS];
                for (int64_t r = 0; r < rows; r++) pointers[r] = origin + c->tap[k + r];
                struct tile_operands operands = {.a_rows = pointers,
                                                 .a_offset = c->position + d,
                                                 .b = g + d * c->group_outputs + j,
                                                 .b_step = c->group_outputs};
                gather_kernels[rows - 1][vectors - 1](
                    &operands, depth, t + (k - first) * row + j, row, d > 0);
            }
    }
}

static void conv2d_backward_weight_task(const void *context, int64_t task,
                                        const struct worker *worker) {
    const struct convolution *c = context;
    int64_t group = task / c->splits, first = task % c->splits * c->split_step;
    int64_t last = minimum(first + c->split_step, c->taps);
    int64_t row = round_up(c->group_outputs, VECTOR), count = (last - first) * row;
    int64_t area = c->kernel_h * c->kernel_w;
    int64_t low = first / area, high = ceil_div(last, area);
    float *grid = worker->scratch, *total = grid + grid_floats(c), *t = total + count;
    memset(total, 0, (size_t)count * sizeof *total);
    for (int64_t n = 0; n < c->samples; n++) {
        int64_t channel = n * c->channels + group * c->group_channels + low;
        fill_grid(c, c->in1 + channel * c->height * c->width, high - low, grid);
        const float *g =
            c->packed + (n * c->groups + group) * c->positions * c->group_outputs;
        if (c->positions == 0) memset(t, 0, (size_t)count * sizeof *t);
        weight_product(c, grid, g, first, last, t);
        for (int64_t i = 0; i < count; i++) total[i] = total[i] + t[i];
    }
    float *dw = c->out + group * c->group_outputs * c->taps;
    for (int64_t k = first; k < last; k++)
        for (int64_t o = 0; o < c->group_outputs; o++)
            dw[o * c->taps + k] = total[(k - first) * row + o];
}

static int conv2d_backward_weight_operator(const struct call *call) {
    struct convolution c = convolution_of(call);
    if (c.outputs * c.taps == 0) return RUN_OK;
    fill_tables(&c);
    memset(c.packed + c.samples * c.outputs * c.positions, 0, WIDEST_PANEL * sizeof(float));
    pool_run(transpose_gradient_task, &c, c.samples * c.groups);
    split_tasks(&c, c.groups, c.taps, 1);
    if (c.splits > 1) c.split_step = round_up(c.split_step, minimum(MAX_ROWS, c.split_step));
    c.split_step = minimum(c.split_step, weight_tile_taps(&c));
    c.splits = ceil_div(c.taps, c.split_step);
    pool_run(conv2d_backward_weight_task, &c, c.groups * c.splits);
    return RUN_OK;
}

#endif
