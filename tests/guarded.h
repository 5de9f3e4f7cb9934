/* guarded.h: memory that faults one byte behind its end.
 *
 * Tests put a parser's input there, so that reading past it is a crash and not luck. */
#ifndef TESTS_GUARDED_H
#define TESTS_GUARDED_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct guarded {
    char *memory; /* mapped: `room` bytes, then a page without access */
    size_t room;
};

static inline struct guarded guarded_new(size_t size_max)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (size_max / page + 1) * page;
    char *memory =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED || mprotect(memory + room, page, PROT_NONE) != 0) {
        abort(); /* also for the fuzzers, which are not tests */
    }
    return (struct guarded){ memory, room };
}

/* A copy of `data` that ends where the memory does; replaces the one before. */
static inline char *guarded_put(struct guarded *guarded, const void *data, size_t size)
{
    if (size > guarded->room) {
        abort();
    }
    return memcpy(guarded->memory + guarded->room - size, data, size);
}

static inline void guarded_free(struct guarded *guarded)
{
    munmap(guarded->memory, guarded->room + (size_t)sysconf(_SC_PAGESIZE));
}

#endif
