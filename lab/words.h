/* words.h: what commands print. No state. Thread: any. */
#ifndef LAB_WORDS_H
#define LAB_WORDS_H

#include <stdint.h>

/* What a noun ends with behind a number: "%u request%s". */
static inline const char *lab_plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

#endif
