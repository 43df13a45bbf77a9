/* Hashes two tensors of known bytes on another machine and prints the roots, a line per
 * instruction set. tests/kernels/test_foreign.py computes what they must be. */
#include "kernels.h"

#include <stdio.h>
#include <string.h>

int lockstep_hash_tensors(struct tensor *tensors, int64_t n, const void *keys, void *roots,
                          void *nodes, int64_t count);
int lockstep_set_isa(const char *name);
const char *lockstep_isa_at(int64_t i);

int main(void) {
    static uint8_t data[300 * 333 * 4], keys[96], roots[2][32];
    for (uint32_t i = 0; i < sizeof data; i++) data[i] = (uint8_t)(i * 2654435761u >> 13);
    for (int k = 0; lockstep_isa_at(k) != NULL; k++) {
        struct tensor tensors[2] = {
            {.data = data, .itemsize = 4, .code = 1, .rank = 2, .shape = {300, 333}},
            {.data = data, .itemsize = 8, .code = 2, .rank = 1, .shape = {77}},
        };
        if (lockstep_set_isa(lockstep_isa_at(k)) != 0) return 2;
        if (lockstep_hash_tensors(tensors, 2, keys, roots, NULL, 0) != 0) return 3;
        for (int i = 0; i < 64; i++) printf("%02x", roots[i / 32][i % 32]);
        printf("\n");
    }
    return 0;
}
