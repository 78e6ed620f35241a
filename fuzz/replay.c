/* SPDX-License-Identifier: MIT */
/* Feeds files to the fuzzer's function without a fuzzer: to look at a find, and for the corpus in make check. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv)
{
    static uint8_t data[1 << 16];
    LLVMFuzzerInitialize(&argc, &argv);
    for (int i = 1; i < argc; i++) {
        FILE *f = fopen(argv[i], "rb");
        if (!f) {
            perror(argv[i]);
            return EXIT_FAILURE;
        }
        size_t n = fread(data, 1, sizeof data, f);
        fclose(f);
        fprintf(stderr, "%s: %zu bytes\n", argv[i], n);
        LLVMFuzzerTestOneInput(data, n);
    }
    return EXIT_SUCCESS;
}
