/* A small persistent thread pool.
 *
 * A job is (task, context, count) published under a `ticket`: generation << 32 | next
 * task. A thread claims a task by compare-and-swap on the ticket, so a late thread can
 * never claim from a job that is over: its generation has passed. The publisher works
 * too, and returns when the count of finished tasks reaches the job's count; it never
 * waits for a thread that claimed nothing.
 *
 * Idle threads poll the ticket for some microseconds, then sleep on a condition.
 * After fork() the child has no threads and starts new ones at its next job. */
#define _GNU_SOURCE
#include "kernels.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sched.h>
#endif

enum { MAX_THREADS = 256, SPINS = 2000, ALIGNMENT = 64, STACK_BYTES = 1 << 20 };

#define CLOSED UINT32_MAX /* "next task" of a ticket that offers none */

static pthread_mutex_t entry_mutex = PTHREAD_MUTEX_INITIALIZER; /* one call at a time */
static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_condition = PTHREAD_COND_INITIALIZER;
static pthread_cond_t done_condition = PTHREAD_COND_INITIALIZER;

static _Atomic uint64_t ticket;
static _Atomic(pool_task) job_task;
static _Atomic(const void *) job_context;
static _Atomic int64_t job_count;
static _Atomic int64_t job_done;
static _Atomic int sleepers;
static _Atomic int publisher_sleeps;
static _Atomic int stopping;

static pthread_t thread_ids[MAX_THREADS];
static int64_t thread_target = 1; /* including the caller's thread */
static int64_t thread_started;    /* not including it */

static struct worker workers[MAX_THREADS];
static int64_t worker_bytes_reserved;
static void *shared_scratch;
static int64_t shared_bytes_reserved;

static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static inline uint32_t generation_of(uint64_t value) { return (uint32_t)(value >> 32); }

static inline uint64_t make_ticket(uint32_t generation, uint32_t next) {
    return (uint64_t)generation << 32 | next;
}

/* Claims and runs tasks of the current job until none is left. */
static void work(const struct worker *worker) {
    for (;;) {
        uint64_t seen = atomic_load(&ticket);
        uint32_t next = (uint32_t)seen;
        pool_task task = atomic_load(&job_task);
        const void *context = atomic_load(&job_context);
        int64_t count = atomic_load(&job_count);
        if (next == CLOSED || next >= count) return;
        if (!atomic_compare_exchange_weak(&ticket, &seen, seen + 1)) continue;
        task(context, next, worker);
        if (atomic_fetch_add(&job_done, 1) + 1 == count && atomic_load(&publisher_sleeps)) {
            pthread_mutex_lock(&sleep_mutex);
            pthread_cond_signal(&done_condition);
            pthread_mutex_unlock(&sleep_mutex);
        }
    }
}

static void await_job(uint32_t generation) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (generation_of(atomic_load(&ticket)) != generation) return;
        relax();
    }
    pthread_mutex_lock(&sleep_mutex);
    atomic_fetch_add(&sleepers, 1);
    while (generation_of(atomic_load(&ticket)) == generation)
        pthread_cond_wait(&work_condition, &sleep_mutex);
    atomic_fetch_sub(&sleepers, 1);
    pthread_mutex_unlock(&sleep_mutex);
}

/* The generation is read before the work: a thread that missed a change of job while it
 * worked finds another generation at once and comes round again. */
static void *thread_main(void *argument) {
    float_environment_enter();
    for (;;) {
        uint32_t generation = generation_of(atomic_load(&ticket));
        if (atomic_load(&stopping)) return NULL;
        work(argument);
        await_job(generation);
    }
}

static void publish(uint64_t value) {
    atomic_store(&ticket, value);
    if (atomic_load(&sleepers) > 0) {
        pthread_mutex_lock(&sleep_mutex);
        pthread_cond_broadcast(&work_condition);
        pthread_mutex_unlock(&sleep_mutex);
    }
}

static void start_threads(void) {
    sigset_t all, before;
    pthread_attr_t attributes;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0) return;
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals stay with Python's threads */
    while (thread_started < thread_target - 1) {
        struct worker *worker = &workers[thread_started + 1];
        /* Fewer threads are slower and compute the same bits: go on without. */
        if (pthread_create(&thread_ids[thread_started], &attributes, thread_main, worker))
            break;
        thread_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void stop_threads(void) {
    if (thread_started == 0) return;
    atomic_store(&stopping, 1);
    publish(make_ticket(generation_of(atomic_load(&ticket)) + 1, CLOSED));
    for (int64_t i = 0; i < thread_started; i++) pthread_join(thread_ids[i], NULL);
    thread_started = 0;
    atomic_store(&stopping, 0);
}

void pool_run(pool_task task, const void *context, int64_t tasks) {
    if (thread_target == 1 || tasks <= 1) {
        for (int64_t i = 0; i < tasks; i++) task(context, i, &workers[0]);
        return;
    }
    if (thread_started < thread_target - 1) start_threads();
    /* The last job is over and its ticket exhausted; close it before its fields change. */
    uint32_t generation = generation_of(atomic_load(&ticket)) + 1;
    atomic_store(&ticket, make_ticket(generation, CLOSED));
    atomic_store(&job_task, task);
    atomic_store(&job_context, context);
    atomic_store(&job_count, tasks);
    atomic_store(&job_done, 0);
    publish(make_ticket(generation + 1, 0));
    work(&workers[0]);
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load(&job_done) == tasks) return;
        relax();
    }
    pthread_mutex_lock(&sleep_mutex);
    atomic_store(&publisher_sleeps, 1);
    while (atomic_load(&job_done) < tasks) pthread_cond_wait(&done_condition, &sleep_mutex);
    atomic_store(&publisher_sleeps, 0);
    pthread_mutex_unlock(&sleep_mutex);
}

int64_t pool_threads(void) { return thread_target; }

void *pool_shared_scratch(void) { return shared_scratch; }

void pool_enter(void) { pthread_mutex_lock(&entry_mutex); }

void pool_leave(void) { pthread_mutex_unlock(&entry_mutex); }

static int grow(void **buffer, int64_t bytes) {
    void *fresh = NULL;
    if (posix_memalign(&fresh, ALIGNMENT, (size_t)bytes) != 0) return ENOMEM;
    free(*buffer);
    *buffer = fresh;
    return 0;
}

static int scratch_for(int64_t first, int64_t last, int64_t bytes) {
    for (int64_t i = first; i < last; i++)
        if (grow(&workers[i].scratch, bytes)) return ENOMEM;
    return 0;
}

int pool_reserve(int64_t shared_bytes, int64_t worker_bytes) {
    int status = 0;
    pool_enter();
    if (shared_bytes > shared_bytes_reserved) {
        status = grow(&shared_scratch, shared_bytes);
        if (status == 0) shared_bytes_reserved = shared_bytes;
    }
    if (status == 0 && worker_bytes > worker_bytes_reserved) {
        status = scratch_for(0, thread_target, worker_bytes);
        if (status == 0) worker_bytes_reserved = worker_bytes;
    }
    pool_leave();
    return status;
}

int pool_set_threads(int64_t threads) {
    if (threads < 1 || threads > MAX_THREADS) return EINVAL;
    int status = 0;
    pool_enter();
    if (threads != thread_target) {
        stop_threads();
        if (threads > thread_target && worker_bytes_reserved > 0)
            status = scratch_for(thread_target, threads, worker_bytes_reserved);
        if (status == 0) thread_target = threads;
    }
    pool_leave();
    return status;
}

static void before_fork(void) { pool_enter(); }

static void after_fork_in_parent(void) { pool_leave(); }

static void after_fork_in_child(void) {
    pthread_mutex_init(&entry_mutex, NULL);
    pthread_mutex_init(&sleep_mutex, NULL);
    pthread_cond_init(&work_condition, NULL);
    pthread_cond_init(&done_condition, NULL);
    atomic_store(&sleepers, 0);
    atomic_store(&publisher_sleeps, 0);
    thread_started = 0;
}

static int64_t usable_cores(void) {
    int64_t cores = 0;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) cores = CPU_COUNT(&set);
#endif
    if (cores < 1) cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (cores < 1) return 1;
    return cores > MAX_THREADS ? MAX_THREADS : cores;
}

void pool_initialise(void) {
    thread_target = usable_cores();
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
