/* assert.c: how the library dies when a state is wrong. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

void il_assert_failed(const char *condition, const char *file, int line, const char *function)
{
    char text[512];
    int length = snprintf(
        text, sizeof(text),
        "interloop: %s:%d: %s: assertion failed: %s\n"
        "interloop: this is a defect of the library; please report it with a stack trace\n",
        file, line, function, condition);

    if (length > 0) {
        size_t size = (size_t)length < sizeof(text) ? (size_t)length : sizeof(text) - 1;

        (void)!write(STDERR_FILENO, text, size); /* nothing is left to do if this fails too */
    }
    abort();
}
