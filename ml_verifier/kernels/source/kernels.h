/* What the per-ISA variants, the dispatcher and the thread pool share.
 *
 * Every operator is a function of one prepared `struct call`: the Python side fills
 * it once per bound call, so that running an operator passes a single pointer. */
#ifndef LOCKSTEP_KERNELS_H
#define LOCKSTEP_KERNELS_H

#include <stdint.h>

enum { CALL_BUFFERS = 8, CALL_SIZES = 48, CALL_SCALARS = 8 };

/* Mirrored field by field by `Call` in ml_verifier/kernels/library.py. */
struct call {
    int64_t operator_index;
    const void *in[CALL_BUFFERS];
    void *out[CALL_BUFFERS];
    int64_t size[CALL_SIZES];
    float scalar[CALL_SCALARS];
};

/* A tensor to be hashed. The first fields are packed by ml_verifier/kernels/hashing.py,
 * the others filled in by hash_tensors. */
enum { HASHED_RANK = 8 };
struct tensor {
    const uint8_t *data;
    int64_t itemsize, code, rank, shape[HASHED_RANK];
    int64_t rows, columns, across, tiles, leaves, first_tile;
    uint8_t *nodes; /* of its tree: the leaves, then level by level up to the top */
};

/* The result of running an operator. */
enum { RUN_OK = 0, RUN_TRAP = 1 };

#define LOCKSTEP_OPERATORS(X)                                                       \
    X(matmul) X(bmm)                                                                \
    X(add) X(sub) X(mul) X(div)                                                     \
    X(relu) X(relu_backward)                                                        \
    X(exp) X(log) X(tanh) X(sigmoid) X(sqrt)                                        \
    X(tanh_backward) X(sigmoid_backward)                                            \
    X(erf) X(sin) X(cos)                                                            \
    X(neg) X(abs) X(sign) X(floor) X(ceil) X(trunc) X(round) X(rsqrt)               \
    X(maximum) X(minimum)                                                           \
    X(gelu) X(gelu_backward) X(gelu_tanh) X(gelu_tanh_backward)                     \
    X(silu) X(silu_backward)                                                        \
    X(sum)                                                                          \
    X(log_softmax) X(log_softmax_backward)                                          \
    X(softmax) X(softmax_backward)                                                  \
    X(nll_loss) X(nll_loss_backward)                                                \
    X(conv2d) X(conv2d_backward_input) X(conv2d_backward_weight)                    \
    X(max_pool2d) X(max_pool2d_backward)                                            \
    X(avg_pool2d) X(avg_pool2d_backward)                                            \
    X(batch_norm) X(batch_norm_backward)                                            \
    X(layer_norm) X(layer_norm_backward)                                            \
    X(sgd) X(adamw) X(correction)                                                   \
    X(take) X(scatter_rows) X(gather) X(scatter_add) X(scatter)                     \
    X(sort) X(cumsum) X(amax) X(argmax)                                             \
    X(strided_copy) X(fill) X(pad) X(concat) X(iota) X(cast)                        \
    X(eq) X(ne) X(lt) X(le) X(gt) X(ge)                                             \
    X(and) X(or) X(xor) X(not) X(where)                                             \
    X(int_add) X(int_sub) X(int_mul) X(int_floordiv) X(int_remainder)               \
    X(uniform) X(dropout_mask) X(lion)                                              \
    X(canonicalise) X(all_finite) X(require_finite) X(philox_uniform)                                 \
    X(hash_tensors) X(hash_messages)

enum operator_index {
#define X(name) OPERATOR_##name,
    LOCKSTEP_OPERATORS(X)
#undef X
    OPERATOR_COUNT
};

typedef int (*operator_run)(const struct call *call);

/* What the self-check of a build can find; bit i of its result is the i-th of these. */
#define LOCKSTEP_FAULTS(X)                                                          \
    X(CONTRACTION, "contraction")             /* a * b + c became a fused one */    \
    X(DENORMALS, "flushed denormals")         /* flushed to zero */                 \
    X(REASSOCIATION, "reassociation")         /* (a + b) - b was simplified */      \
    X(NAN, "NaN tests removed")               /* x != x became false */             \
    X(SIGNED_ZERO, "signed zeros ignored")    /* x + 0 was simplified to x */       \
    X(RECIPROCAL, "reciprocal division")      /* a / b became a * (1 / b) */        \
    X(ROUNDING, "rounding mode")              /* not to nearest even */             \
    X(FMA, "fma rounds twice")                /* fma_f does */                      \
    X(PRECISION, "excess precision")          /* floats kept in a wider format */   \
    X(CONSTANTS, "single-precision constants") /* 0.1 became 0.1f */

/* Ranges of less work than this, in elementary operations, are not shared by threads.
 * Another value changes no result; conformance is checked with a tiny one too. */
#ifndef LOCKSTEP_SMALLEST_TASK
#define LOCKSTEP_SMALLEST_TASK 16384
#endif

/* One instruction set's build of every operator. */
struct variant {
    const char *name;
    operator_run run[OPERATOR_COUNT];
    /* 0 when the build's arithmetic is IEEE-754 as specified; else a bit per fault. */
    int (*selfcheck)(void);
    /* exp, log, tanh, erf, sin, cos over n consecutive bit patterns, for exhaustive
     * checks. */
    void (*unary_range)(int function, uint32_t first, int64_t n, float *out);
    /* Bytes of scratch that the call needs, shared and per worker. */
    void (*scratch_needed)(const struct call *call, int64_t *shared, int64_t *worker);
};

/* ---- thread pool (pool.c) ---- */

struct worker {
    void *scratch; /* 64-byte aligned, as large as the largest reservation */
};

typedef void (*pool_task)(const void *context, int64_t task, const struct worker *worker);

/* Runs task(context, 0..tasks-1), in any order, on any of the pool's threads; returns
 * when all are done. Tasks must write disjoint memory. Call only inside pool_enter. */
void pool_run(pool_task task, const void *context, int64_t tasks);
int64_t pool_threads(void);
/* The one scratch area shared by all threads of a call. */
void *pool_shared_scratch(void);

/* Serialise callers: one operator runs at a time in a process. */
void pool_enter(void);
void pool_leave(void);

/* 0, or ENOMEM. */
int pool_reserve(int64_t shared_bytes, int64_t worker_bytes);
int pool_set_threads(int64_t threads);
void pool_initialise(void);

/* ---- floating-point environment (library.c) ---- */

/* Round to nearest even, denormals kept, exceptions masked. Returns what was set. */
uint64_t float_environment_enter(void);
void float_environment_leave(uint64_t saved);

#endif
