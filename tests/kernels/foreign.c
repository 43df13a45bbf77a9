/* Replays recorded kernel calls on another machine and compares their bits.
 *
 * usage: foreign <file>. The file, little-endian: int64 calls; per call the operator's
 * name (32 bytes), sizes, scalars, then inputs and outputs: int64 count, and for each an
 * int64 (1: float32, else 0), int64 bytes and the contents, which for outputs are the
 * expected ones with canonical NaN. */
#include "kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int lockstep_run(const struct call *call);
int64_t lockstep_operator(const char *name);
int lockstep_prepare(const struct call *call, int64_t limit);
int lockstep_set_isa(const char *name);
int lockstep_selfcheck(const char *name);
const char *lockstep_isa_at(int64_t i);
int lockstep_set_threads(int64_t threads);
void lockstep_canonicalise(float *x, int64_t n);

static FILE *file;

static void take(void *target, size_t bytes) {
    if (bytes && fread(target, bytes, 1, file) != 1) exit(2);
}

static int64_t take_int(void) {
    int64_t value;
    take(&value, sizeof value);
    return value;
}

struct buffer {
    int64_t is_float, bytes;
    char *data;
};

static struct buffer take_buffer(void) {
    struct buffer buffer = {take_int(), take_int(), NULL};
    buffer.data = malloc((size_t)buffer.bytes + 1);
    take(buffer.data, (size_t)buffer.bytes);
    return buffer;
}

/* Runs one call and returns the number of outputs that differ. */
static int replay(struct call *call, const struct buffer *expected, int outputs) {
    int wrong = 0;
    for (int i = 0; i < outputs; i++) {
        call->out[i] = malloc((size_t)expected[i].bytes + 1);
        memset(call->out[i], 0xa5, (size_t)expected[i].bytes);
    }
    if (lockstep_prepare(call, INT64_C(1) << 32) || lockstep_run(call)) return outputs;
    for (int i = 0; i < outputs; i++) {
        if (expected[i].is_float) lockstep_canonicalise(call->out[i], expected[i].bytes / 4);
        wrong += memcmp(call->out[i], expected[i].data, (size_t)expected[i].bytes) != 0;
        free(call->out[i]);
    }
    return wrong;
}

int main(int argc, char **argv) {
    if (argc < 2 || !(file = fopen(argv[1], "rb"))) return 2;
    int64_t calls = take_int();
    int wrong = 0;
    for (int64_t c = 0; c < calls; c++) {
        struct call call;
        struct buffer inputs[CALL_BUFFERS], outputs[CALL_BUFFERS];
        char name[32];
        memset(&call, 0, sizeof call);
        take(name, sizeof name);
        take(call.size, sizeof call.size);
        take(call.scalar, sizeof call.scalar);
        call.operator_index = lockstep_operator(name);
        int64_t input_count = take_int();
        for (int64_t i = 0; i < input_count; i++) {
            inputs[i] = take_buffer();
            call.in[i] = inputs[i].data;
        }
        int64_t output_count = take_int();
        for (int64_t i = 0; i < output_count; i++) outputs[i] = take_buffer();
        for (int64_t v = 0; lockstep_isa_at(v); v++)
            for (int threads = 1; threads <= 2; threads++) {
                lockstep_set_isa(lockstep_isa_at(v));
                lockstep_set_threads(threads);
                int here = replay(&call, outputs, (int)output_count);
                if (here) printf("%s: call %d, %s\n", lockstep_isa_at(v), (int)c, name);
                wrong += here;
            }
    }
    for (int64_t v = 0; lockstep_isa_at(v); v++) {
        int faults = lockstep_selfcheck(lockstep_isa_at(v));
        printf("%s: faults %d\n", lockstep_isa_at(v), faults);
        wrong += faults != 0;
    }
    printf("%d calls, %d wrong\n", (int)calls, wrong);
    return wrong != 0;
}
