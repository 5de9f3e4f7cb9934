/* fuzz.h: what a fuzz target is.
 *
 * A target takes any bytes, hands them to the code under test and aborts when something that must
 * always hold does not. It is linked with libFuzzer (meson option `fuzz`, clang), which looks for
 * inputs that do so, or with replay.c, which runs the corpus and its mutations with any compiler.
 */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

#endif
