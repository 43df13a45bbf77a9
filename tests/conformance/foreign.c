/* Serves kernel calls over a pipe, so that a program elsewhere computes on this machine.
 *
 * usage: foreign <instruction set> <threads>. It first writes one line: the build, and the
 * instruction set in use. Then, until the end of input, it reads calls and answers them;
 * everything is little-endian.
 *
 * call: the operator's name (32 bytes), sizes (int64 each), scalars (float each), bytes of
 * each input and output (int64 each, -1 where there is none), contents of the inputs, then
 * of the outputs as they are before the call. answer: int64 status, contents of the
 * outputs. */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lockstep_run(const struct call *call);
int64_t lockstep_operator(const char *name);
int lockstep_prepare(const struct call *call, int64_t limit);
int lockstep_set_isa(const char *name);
int lockstep_selfcheck(const char *name);
int lockstep_set_threads(int64_t threads);
const char *lockstep_build(void);
const char *lockstep_isa(void);

static const int64_t SCRATCH_LIMIT = INT64_C(1) << 32;

static void fail(const char *why, const char *what) {
    fprintf(stderr, "foreign: %s: %s\n", why, what);
    exit(2);
}

static void take(void *target, size_t bytes) {
    if (bytes && fread(target, bytes, 1, stdin) != 1) fail("input ends early", "call");
}

static void give(const void *source, size_t bytes) {
    if (bytes && fwrite(source, bytes, 1, stdout) != 1) fail("cannot write", "answer");
}

/* A buffer of its own, aligned like numpy's at best: kernels may not rely on more. */
static void *take_buffer(int64_t bytes) {
    if (bytes < 0) return NULL;
    void *buffer = malloc((size_t)bytes + 1);
    if (!buffer) fail("no memory", "buffer");
    take(buffer, (size_t)bytes);
    return buffer;
}

static void serve(const char *name) {
    struct call call = {.operator_index = lockstep_operator(name)};
    int64_t input_bytes[CALL_BUFFERS], output_bytes[CALL_BUFFERS];
    if (call.operator_index < 0) fail("no such operator", name);
    take(call.size, sizeof call.size);
    take(call.scalar, sizeof call.scalar);
    take(input_bytes, sizeof input_bytes);
    take(output_bytes, sizeof output_bytes);
    for (int i = 0; i < CALL_BUFFERS; i++) call.in[i] = take_buffer(input_bytes[i]);
    for (int i = 0; i < CALL_BUFFERS; i++) call.out[i] = take_buffer(output_bytes[i]);
    if (lockstep_prepare(&call, SCRATCH_LIMIT)) fail("no memory for scratch", name);
    int64_t status = lockstep_run(&call);
    give(&status, sizeof status);
    for (int i = 0; i < CALL_BUFFERS; i++) {
        if (output_bytes[i] > 0) give(call.out[i], (size_t)output_bytes[i]);
        free(call.out[i]);
        free((void *)call.in[i]);
    }
    if (fflush(stdout)) fail("cannot write", "answer");
}

int main(int argc, char **argv) {
    if (argc != 3) fail("usage", "foreign <instruction set> <threads>");
    if (lockstep_set_isa(argv[1])) fail("no such instruction set here", argv[1]);
    if (lockstep_set_threads(atoi(argv[2]))) fail("bad number of threads", argv[2]);
    if (lockstep_selfcheck(argv[1])) fail("not IEEE-754 arithmetic", argv[1]);
    printf("%s; %s\n", lockstep_build(), lockstep_isa());
    fflush(stdout);
    char name[32];
    while (fread(name, sizeof name, 1, stdin) == 1) serve(name);
    return 0;
}
