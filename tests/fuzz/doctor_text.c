/* doctor_text.c: fuzz target for the text that the doctor reads of a process: names of its
 * functions, and what /proc says of its threads.
 *
 * What must hold: what is shown to people can be printed on any terminal, ends within its room, and
 * the same text is read the same way again. */
#include <string.h>

#include "doctor/demangle.h"
#include "doctor/look.h"
#include "doctor/waits.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_SIZE_MAX = 8192, NAME_SIZE = 200 };

static void check_printable(const char *text, size_t size)
{
    FUZZ_CHECK(strnlen(text, size) < size);
    for (const char *at = text; *at != '\0'; at++) {
        FUZZ_CHECK((unsigned char)*at >= ' ' && *at != 0x7f);
    }
}

static void check_symbol(const char *text, size_t room)
{
    char name[NAME_SIZE];

    memset(name, 'x', sizeof(name));
    demangle(text, name, room);
    check_printable(name, room);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[INPUT_SIZE_MAX + 1];
    struct thread_wait wait, again;
    char clean[NAME_SIZE];

    if (size > INPUT_SIZE_MAX) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = '\0';
    check_symbol(text, NAME_SIZE);
    check_symbol(text, 1 + size % (NAME_SIZE - 1));
    memset(clean, 'x', sizeof(clean));
    look_clean(clean, sizeof(clean), text);
    check_printable(clean, sizeof(clean));
    waits_of_syscall(text, &wait);
    waits_of_syscall(text, &again);
    FUZZ_CHECK(waits_are_same(&wait, &again) == (wait.kind != WAIT_RUNNING));
    FUZZ_CHECK(wait.sp == waits_stack_pointer(text));
    waits_of_wchan(text, &wait);
    waits_of_wchan(text, &again);
    FUZZ_CHECK(wait.kind == again.kind);
    return 0;
}
