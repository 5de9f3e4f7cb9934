/* bytes.h: a growing byte buffer that is filled at its end and consumed at its start.
 *
 * What a connection has yet to send, or has received and not yet used. The memory is kept when the
 * buffer runs empty, so a reused buffer stops allocating. Thread: one at a time. */
#ifndef IL_BYTES_H
#define IL_BYTES_H

#include "base/base.h"

struct il_bytes {
    char *memory;
    size_t begin, end; /* what is held: memory[begin, end) */
    size_t capacity;
};

void il_bytes_init(struct il_bytes *bytes);
void il_bytes_deinit(struct il_bytes *bytes);

/* What is held; may be NULL when that is nothing. */
static inline const char *il_bytes_data(const struct il_bytes *bytes)
{
    return bytes->memory == NULL ? NULL : bytes->memory + bytes->begin;
}

static inline size_t il_bytes_size(const struct il_bytes *bytes)
{
    return bytes->end - bytes->begin;
}

/* Make room for `size` more bytes at the end. IL_ENOMEM leaves the buffer as it was. */
IL_MUST_USE enum il_code il_bytes_reserve_slow(struct il_bytes *bytes, size_t size);

IL_MUST_USE static inline enum il_code il_bytes_reserve(struct il_bytes *bytes, size_t size)
{
    if (IL_LIKELY(bytes->capacity - bytes->end >= size)) {
        return IL_OK;
    }
    return il_bytes_reserve_slow(bytes, size);
}

/* Where the next bytes go; valid for as many as were reserved. Write there, then `added`. */
static inline char *il_bytes_tail(struct il_bytes *bytes)
{
    return bytes->memory == NULL ? NULL : bytes->memory + bytes->end;
}

static inline void il_bytes_added(struct il_bytes *bytes, size_t size)
{
    il_assert(size <= bytes->capacity - bytes->end);
    bytes->end += size;
}

IL_MUST_USE enum il_code il_bytes_append(struct il_bytes *bytes, const void *data, size_t size);

/* Forget the first `size` bytes, which are there. */
static inline void il_bytes_consume(struct il_bytes *bytes, size_t size)
{
    il_assert(size <= il_bytes_size(bytes));
    bytes->begin += size;
    if (bytes->begin == bytes->end) {
        bytes->begin = bytes->end = 0;
    }
}

/* Cut back to `size` bytes, which is not more than there are: undoes a half-done append. */
static inline void il_bytes_truncate(struct il_bytes *bytes, size_t size)
{
    il_assert(size <= il_bytes_size(bytes));
    bytes->end = bytes->begin + size;
}

/* Write `value` in decimal, without a NUL. Returns the digits written. */
#define IL_DECIMAL_SIZE_MAX 20
size_t il_decimal(char out[static IL_DECIMAL_SIZE_MAX], uint64_t value);

/* Write `data` into `text` so that it is safe to print: printable ASCII as it is, but for quotes
 * and backslashes; the rest as \r, \n, \t or \xNN. Ends with "..." where `text_size` is too small.
 * Returns `text`. */
const char *il_escape(char *text, size_t text_size, const void *data, size_t size);

#endif
