/* The exported functions: dispatch over the instruction sets, floating-point
 * environment, reservations. Everything else has hidden visibility. */
#include "kernels.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif !defined(__aarch64__)
#include <fenv.h>
#endif

#define EXPORT __attribute__((visibility("default")))

/* With LOCKSTEP_PORTABLE the portable variant is the only one. */
#if defined(LOCKSTEP_PORTABLE)
#elif defined(__x86_64__)
#define LOCKSTEP_X86
extern const struct variant lockstep_variant_avx512, lockstep_variant_avx2;
#elif defined(__aarch64__)
#define LOCKSTEP_ARM
extern const struct variant lockstep_variant_neon;
#endif
extern const struct variant lockstep_variant_portable;

/* Best first. */
static const struct variant *const variants[] = {
#if defined(LOCKSTEP_X86)
    &lockstep_variant_avx512,
    &lockstep_variant_avx2,
#elif defined(LOCKSTEP_ARM)
    &lockstep_variant_neon,
#endif
    &lockstep_variant_portable,
};
enum { VARIANTS = sizeof variants / sizeof variants[0] };

static const struct variant *active = &lockstep_variant_portable;

static const char *const operator_names[OPERATOR_COUNT] = {
#define X(name) #name,
    LOCKSTEP_OPERATORS(X)
#undef X
};

static int processor_has(const struct variant *variant) {
#if defined(LOCKSTEP_X86)
    if (variant == &lockstep_variant_avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (variant == &lockstep_variant_avx2)
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    (void)variant; /* NEON and its fma are part of the AArch64 baseline */
    return 1;
}

uint64_t float_environment_enter(void) {
#if defined(__x86_64__)
    unsigned saved = _mm_getcsr();
    _mm_setcsr(0x1f80); /* all exceptions masked, nearest even, no FTZ, no DAZ */
    return saved;
#elif defined(__aarch64__)
    uint64_t saved;
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return saved;
#else
    uint64_t saved = (uint64_t)fegetround();
    fesetround(FE_TONEAREST);
    return saved;
#endif
}

void float_environment_leave(uint64_t saved) {
#if defined(__x86_64__)
    _mm_setcsr((unsigned)saved);
#elif defined(__aarch64__)
    __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#else
    fesetround((int)saved);
#endif
}

__attribute__((constructor)) static void initialise(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    for (int i = 0; i < VARIANTS; i++)
        if (processor_has(variants[i])) {
            active = variants[i];
            break;
        }
    pool_initialise();
}

static int run(enum operator_index index, const struct call *call) {
    pool_enter();
    uint64_t saved = float_environment_enter();
    int result = active->run[index](call);
    float_environment_leave(saved);
    pool_leave();
    return result;
}

EXPORT int lockstep_run(const struct call *call) {
    return run((enum operator_index)call->operator_index, call);
}

/* All of them in order; stops at the first that traps. */
EXPORT int lockstep_run_all(const struct call *const *calls, int64_t count) {
    int result = RUN_OK;
    pool_enter();
    uint64_t saved = float_environment_enter();
    for (int64_t i = 0; i < count && result == RUN_OK; i++)
        result = active->run[calls[i]->operator_index](calls[i]);
    float_environment_leave(saved);
    pool_leave();
    return result;
}

/* Over whole arrays, called too often to be prepared like an operator. */

EXPORT int lockstep_all_finite(const float *x, int64_t n) {
    struct call call = {.in = {x}, .size = {n}};
    return run(OPERATOR_all_finite, &call);
}

EXPORT void lockstep_canonicalise(float *x, int64_t n) {
    struct call call = {.out = {x}, .size = {n}};
    run(OPERATOR_canonicalise, &call);
}

EXPORT void lockstep_philox_uniform(float *out, int64_t n, uint64_t key, uint32_t counter2,
                                    uint32_t counter3, float width, float low) {
    struct call call = {.out = {out},
                        .size = {n, (int64_t)key, counter2, counter3},
                        .scalar = {width, low}};
    run(OPERATOR_philox_uniform, &call);
}

/* Bytes of a description, of which Python packs the beginning. */
EXPORT int64_t lockstep_tensor_bytes(void) { return (int64_t)sizeof(struct tensor); }

/* Roots of n tensors under three keys, and, unless `nodes` is NULL, the `count` nodes of
 * their trees. 0, ENOMEM, or EINVAL for another count. */
EXPORT int lockstep_hash_tensors(struct tensor *tensors, int64_t n, const void *keys,
                                 void *roots, void *nodes, int64_t count) {
    struct call call = {
        .in = {keys}, .out = {tensors, roots, nodes}, .size = {n, count}};
    return run(OPERATOR_hash_tensors, &call);
}

/* n BLAKE3 messages of at most a chunk each; `table` has five numbers for each: offset in
 * `bytes`, length, counter, flags of the first and of the last block. */
EXPORT void lockstep_hash_messages(const void *bytes, const int64_t *table, int64_t n,
                                   const void *key, uint32_t purpose, void *hashes) {
    struct call call = {
        .in = {bytes, table, key}, .out = {hashes}, .size = {n, purpose}};
    run(OPERATOR_hash_messages, &call);
}

/* -1 when there is no such operator. */
EXPORT int64_t lockstep_operator(const char *name) {
    for (int i = 0; i < OPERATOR_COUNT; i++)
        if (strcmp(name, operator_names[i]) == 0) return i;
    return -1;
}

static const char *const fault_names[] = {
#define X(fault, name) name,
    LOCKSTEP_FAULTS(X)
#undef X
};

/* What bit `bit` of the self-check's result means; NULL past the last. */
EXPORT const char *lockstep_fault(int64_t bit) {
    int64_t count = (int64_t)(sizeof fault_names / sizeof fault_names[0]);
    return 0 <= bit && bit < count ? fault_names[bit] : NULL;
}

#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)
#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "an unknown compiler"
#endif
#ifdef __OPTIMIZE__
#define OPTIMISED "optimised"
#else
#define OPTIMISED "not optimised"
#endif

/* How the library was built, for people to read. */
EXPORT const char *lockstep_build(void) {
    return COMPILER ", " OPTIMISED ", tasks of " TEXT(LOCKSTEP_SMALLEST_TASK);
}

EXPORT int64_t lockstep_call_bytes(void) { return (int64_t)sizeof(struct call); }

/* The name of the i-th variant that this processor runs, best first; NULL at the end. */
EXPORT const char *lockstep_isa_at(int64_t i) {
    for (int v = 0; v < VARIANTS; v++)
        if (processor_has(variants[v]) && i-- == 0) return variants[v]->name;
    return NULL;
}

EXPORT const char *lockstep_isa(void) { return active->name; }

static const struct variant *find(const char *name) {
    for (int v = 0; v < VARIANTS; v++)
        if (strcmp(variants[v]->name, name) == 0 && processor_has(variants[v]))
            return variants[v];
    return NULL;
}

EXPORT int lockstep_set_isa(const char *name) {
    const struct variant *variant = find(name);
    if (variant == NULL) return -1;
    pool_enter();
    active = variant;
    pool_leave();
    return 0;
}

EXPORT int lockstep_selfcheck(const char *name) {
    const struct variant *variant = find(name);
    if (variant == NULL) return -1;
    pool_enter();
    uint64_t saved = float_environment_enter();
    int result = variant->selfcheck();
    float_environment_leave(saved);
    pool_leave();
    return result;
}

/* function: 0 exp, 1 log, 2 tanh, 3 erf, 4 sin, 5 cos. */
EXPORT void lockstep_unary_range(int function, uint32_t first, int64_t n, float *out) {
    pool_enter();
    uint64_t saved = float_environment_enter();
    active->unary_range(function, first, n, out);
    float_environment_leave(saved);
    pool_leave();
}

/* Reserves the scratch that the call needs in any variant: 0, ENOMEM, or -1 when that is
 * more than `limit` bytes in one area. */
EXPORT int lockstep_prepare(const struct call *call, int64_t limit) {
    int64_t shared = 0, worker = 0;
    for (int v = 0; v < VARIANTS; v++) {
        int64_t shared_here, worker_here;
        variants[v]->scratch_needed(call, &shared_here, &worker_here);
        if (shared_here > shared) shared = shared_here;
        if (worker_here > worker) worker = worker_here;
    }
    if (shared > limit || worker > limit) return -1;
    return pool_reserve(shared, worker);
}

EXPORT int lockstep_set_threads(int64_t threads) { return pool_set_threads(threads); }

EXPORT int64_t lockstep_threads(void) { return pool_threads(); }
