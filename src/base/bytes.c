/* bytes.c: the growing byte buffer, and making bytes printable. No state of its own. */
#include "base/bytes.h"

enum { BYTES_CAPACITY_MIN = 512 };

void il_bytes_init(struct il_bytes *bytes)
{
    *bytes = (struct il_bytes){ 0 };
}

void il_bytes_deinit(struct il_bytes *bytes)
{
    il_free(bytes->memory);
    *bytes = (struct il_bytes){ 0 };
}

enum il_code il_bytes_reserve_slow(struct il_bytes *bytes, size_t size)
{
    size_t held = il_bytes_size(bytes);
    size_t capacity = bytes->capacity;
    char *memory;

    if (size > SIZE_MAX / 4 - held) {
        return IL_ENOMEM;
    }
    /* Moving down is cheaper than growing, but only while it cannot happen at every append. */
    if (held + size <= capacity && bytes->begin >= held) {
        memcpy(bytes->memory, bytes->memory + bytes->begin, held);
        bytes->begin = 0;
        bytes->end = held;
        return IL_OK;
    }
    capacity = capacity < BYTES_CAPACITY_MIN ? BYTES_CAPACITY_MIN : capacity;
    while (capacity < held + size) {
        capacity *= 2;
    }
    if (bytes->begin > 0) {
        memory = il_malloc(capacity);
        if (memory == NULL) {
            return IL_ENOMEM;
        }
        memcpy(memory, bytes->memory + bytes->begin, held);
        il_free(bytes->memory);
    } else {
        memory = il_realloc(bytes->memory, capacity);
        if (memory == NULL) {
            return IL_ENOMEM;
        }
    }
    *bytes = (struct il_bytes){ .memory = memory, .end = held, .capacity = capacity };
    return IL_OK;
}

enum il_code il_bytes_append(struct il_bytes *bytes, const void *data, size_t size)
{
    if (il_bytes_reserve(bytes, size) != IL_OK) {
        return IL_ENOMEM;
    }
    if (size > 0) {
        memcpy(il_bytes_tail(bytes), data, size);
        bytes->end += size;
    }
    return IL_OK;
}

size_t il_decimal(char out[static IL_DECIMAL_SIZE_MAX], uint64_t value)
{
    char digits[IL_DECIMAL_SIZE_MAX];
    size_t size = 0;

    do {
        digits[sizeof(digits) - ++size] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    memcpy(out, digits + sizeof(digits) - size, size);
    return size;
}

/* One byte as text, 1 to 4 characters. */
static size_t escape_byte(char *out, unsigned char byte)
{
    static const char hex[] = "0123456789abcdef";

    if (byte >= 0x20 && byte < 0x7f && byte != '"' && byte != '\\') {
        out[0] = (char)byte;
        return 1;
    }
    out[0] = '\\';
    switch (byte) {
    case '\r':
        out[1] = 'r';
        return 2;
    case '\n':
        out[1] = 'n';
        return 2;
    case '\t':
        out[1] = 't';
        return 2;
    case '"':
    case '\\':
        out[1] = (char)byte;
        return 2;
    default:
        out[1] = 'x';
        out[2] = hex[byte >> 4];
        out[3] = hex[byte & 15];
        return 4;
    }
}

const char *il_escape(char *text, size_t text_size, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    size_t used = 0, room;

    il_assert(text_size >= 8); /* one escaped byte, "..." and the end */
    room = text_size - 4;
    for (size_t i = 0; i < size; i++) {
        char one[4];
        size_t one_size = escape_byte(one, bytes[i]);

        if (used + one_size > room) {
            memcpy(text + used, "...", 4);
            return text;
        }
        memcpy(text + used, one, one_size);
        used += one_size;
    }
    text[used] = '\0';
    return text;
}
