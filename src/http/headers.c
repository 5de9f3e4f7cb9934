/* headers.c: an ordered list of header fields in two blocks of memory.
 *
 * Owns: one block of bytes (names and values, each with its NUL) and one array of entries that
 *   point into it by offset, so both can grow. A list that is reset keeps both and soon stops
 *   allocating. Threads: one at a time; readers may share. Ends: headers_deinit. */
#include "http/headers.h"
#include "base/bytes.h"

enum { HEADERS_CAPACITY_MIN = 1024, HEADERS_ENTRIES_MIN = 16, HEADERS_KEEP_MAX = 64 * 1024 };
enum headers_open { HEADERS_OPEN_NONE, HEADERS_OPEN_NAME, HEADERS_OPEN_VALUE };

_Static_assert(sizeof(struct headers_entry) == 16, "four entries to a cache line");
_Static_assert(HEADERS_SIZE_MAX < UINT32_MAX / 4,
               "sizes are 32 bits, and doubling cannot overflow");

/* ---- character classes ---- */

enum { CLASS_TOKEN = 1, CLASS_VALUE = 2 };

#define T (CLASS_TOKEN | CLASS_VALUE)
#define V CLASS_VALUE
/* clang-format off */
static const uint8_t byte_class[256] = {
    /* 0x00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, V, 0, 0, 0, 0, 0, 0,
    /* 0x10 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 0x20    sp !  "  #  $  %  &  '  (  )  *  +  ,  -  .  /  */
    /* 0x20 */ V, T, V, T, T, T, T, T, V, V, T, T, V, T, T, V,
    /* 0x30 */ T, T, T, T, T, T, T, T, T, T, V, V, V, V, V, V,
    /* 0x40 */ V, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T,
    /* 0x50 */ T, T, T, T, T, T, T, T, T, T, T, V, V, V, T, T,
    /* 0x60 */ T, T, T, T, T, T, T, T, T, T, T, T, T, T, T, T,
    /* 0x70 */ T, T, T, T, T, T, T, T, T, T, T, V, T, V, T, 0,
    /* 0x80 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0x90 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0xa0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0xb0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0xc0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0xd0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0xe0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 0xf0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
};
/* clang-format on */
#undef T
#undef V

bool http_is_token_byte(unsigned char byte)
{
    return byte_class[byte] & CLASS_TOKEN;
}

static bool text_is_all(const char *text, size_t size, uint8_t class)
{
    for (size_t i = 0; i < size; i++) {
        if (!(byte_class[(unsigned char)text[i]] & class)) {
            return false;
        }
    }
    return true;
}

bool http_is_token(const char *text, size_t size)
{
    return size > 0 && text_is_all(text, size, CLASS_TOKEN);
}

bool http_is_field_value(const char *text, size_t size)
{
    return text_is_all(text, size, CLASS_VALUE);
}

static unsigned char lower(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

bool http_equals_ignoring_case(const char *a, size_t a_size, const char *b, size_t b_size)
{
    if (a_size != b_size) {
        return false;
    }
    for (size_t i = 0; i < a_size; i++) {
        if (lower(a[i]) != lower(b[i])) {
            return false;
        }
    }
    return true;
}

/* ---- life ---- */

void headers_init(struct il_headers *headers)
{
    *headers = (struct il_headers){ 0 };
}

void headers_deinit(struct il_headers *headers)
{
    il_free(headers->entries);
    il_free(headers->bytes);
    *headers = (struct il_headers){ 0 };
}

void headers_reset(struct il_headers *headers)
{
    if (headers->capacity > HEADERS_KEEP_MAX) { /* one huge response must not cost for ever */
        headers_deinit(headers);
        return;
    }
    headers->count = 0;
    headers->size = 0;
    headers->open_state = HEADERS_OPEN_NONE;
}

void headers_swap(struct il_headers *a, struct il_headers *b)
{
    struct il_headers held = *a;

    *a = *b;
    *b = held;
}

/* ---- memory ---- */

static enum il_code headers_reserve_bytes_slow(struct il_headers *headers, size_t more)
{
    size_t want = (size_t)headers->size + more;
    size_t capacity = headers->capacity == 0 ? HEADERS_CAPACITY_MIN : headers->capacity;
    char *bytes;

    if (want > HEADERS_SIZE_MAX) {
        return IL_ELIMIT;
    }
    while (capacity < want) {
        capacity *= 2;
    }
    bytes = il_realloc(headers->bytes, capacity);
    if (bytes == NULL) {
        return IL_ENOMEM;
    }
    headers->bytes = bytes;
    headers->capacity = (uint32_t)capacity;
    return IL_OK;
}

static inline enum il_code headers_reserve_bytes(struct il_headers *headers, size_t more)
{
    if (IL_LIKELY(headers->capacity - headers->size >= more)) {
        return IL_OK;
    }
    return headers_reserve_bytes_slow(headers, more);
}

static enum il_code headers_reserve_entry(struct il_headers *headers)
{
    uint32_t capacity = headers->entry_capacity;
    struct headers_entry *entries;

    if (IL_LIKELY(headers->count < capacity)) {
        return IL_OK;
    }
    if (headers->count >= HEADERS_COUNT_MAX) {
        return IL_ELIMIT;
    }
    capacity = capacity == 0 ? HEADERS_ENTRIES_MIN : capacity * 2;
    capacity = capacity < HEADERS_COUNT_MAX ? capacity : HEADERS_COUNT_MAX;
    entries = il_realloc(headers->entries, capacity * sizeof(*entries));
    if (entries == NULL) {
        return IL_ENOMEM;
    }
    headers->entries = entries;
    headers->entry_capacity = capacity;
    return IL_OK;
}

/* ---- building ---- */

enum il_code headers_append_name(struct il_headers *headers, const char *data, size_t size)
{
    enum il_code code = headers_reserve_bytes(headers, size + 1); /* + the name's end */

    il_assert(headers->open_state != HEADERS_OPEN_VALUE);
    if (code != IL_OK) {
        return code;
    }
    if (headers->open_state == HEADERS_OPEN_NONE) {
        code = headers_reserve_entry(headers);
        if (code != IL_OK) {
            return code;
        }
        headers->open_state = HEADERS_OPEN_NAME;
        headers->entries[headers->count] = (struct headers_entry){ .name_offset = headers->size };
    }
    memcpy(headers->bytes + headers->size, data, size);
    headers->size += (uint32_t)size;
    headers->entries[headers->count].name_size += (uint32_t)size;
    return IL_OK;
}

enum il_code headers_append_value(struct il_headers *headers, const char *data, size_t size)
{
    struct headers_entry *entry = &headers->entries[headers->count];
    enum il_code code = headers_reserve_bytes(headers, size + 2); /* + both ends */

    il_assert(headers->open_state != HEADERS_OPEN_NONE);
    if (code != IL_OK) {
        return code;
    }
    if (headers->open_state == HEADERS_OPEN_NAME) {
        headers->bytes[headers->size++] = '\0';
        headers->open_state = HEADERS_OPEN_VALUE;
        entry->value_offset = headers->size;
    }
    memcpy(headers->bytes + headers->size, data, size);
    headers->size += (uint32_t)size;
    return IL_OK;
}

static size_t trimmed_size(const char *value, size_t size)
{
    while (size > 0 && (value[size - 1] == ' ' || value[size - 1] == '\t')) {
        size--;
    }
    return size;
}

enum il_code headers_commit(struct il_headers *headers)
{
    struct headers_entry *entry = &headers->entries[headers->count];
    enum il_code code;

    code = headers_append_value(headers, "", 0); /* a header without a value has an empty one */
    if (code != IL_OK) {
        return code;
    }
    entry->value_size = (uint32_t)trimmed_size(headers->bytes + entry->value_offset,
                                               headers->size - entry->value_offset);
    headers->size = entry->value_offset + entry->value_size;
    headers->bytes[headers->size++] = '\0';
    headers->open_state = HEADERS_OPEN_NONE;
    headers->count++;
    return IL_OK;
}

static enum il_code headers_append_exactly(struct il_headers *headers, const char *name,
                                           size_t name_size, const char *value, size_t value_size)
{
    enum il_code code;
    char *at;

    il_assert(headers->open_state == HEADERS_OPEN_NONE);
    if ((code = headers_reserve_entry(headers)) != IL_OK ||
        (code = headers_reserve_bytes(headers, name_size + value_size + 2)) != IL_OK) {
        return code;
    }
    headers->entries[headers->count++] = (struct headers_entry){
        .name_offset = headers->size,
        .name_size = (uint32_t)name_size,
        .value_offset = headers->size + (uint32_t)name_size + 1,
        .value_size = (uint32_t)value_size,
    };
    at = headers->bytes + headers->size;
    memcpy(at, name, name_size);
    at[name_size] = '\0';
    memcpy(at + name_size + 1, value, value_size);
    at[name_size + 1 + value_size] = '\0';
    headers->size += (uint32_t)(name_size + value_size + 2);
    return IL_OK;
}

enum il_code headers_append(struct il_headers *headers, const char *name, size_t name_size,
                            const char *value, size_t value_size)
{
    return headers_append_exactly(headers, name, name_size, value, trimmed_size(value, value_size));
}

const char *headers_open_name(struct il_headers *headers)
{
    if (headers->open_state == HEADERS_OPEN_NONE) {
        return "";
    }
    if (headers->open_state == HEADERS_OPEN_NAME) {
        headers->bytes[headers->size] = '\0'; /* reserved by headers_append_name */
    }
    return headers->bytes + headers->entries[headers->count].name_offset;
}

bool headers_is_open(const struct il_headers *headers)
{
    return headers->open_state != HEADERS_OPEN_NONE;
}

bool headers_is_in_value(const struct il_headers *headers)
{
    return headers->open_state == HEADERS_OPEN_VALUE;
}

/* ---- adding what a user gives ---- */

static enum il_code headers_check(const char *name, size_t name_size, const char *value,
                                  size_t value_size, struct il_error *err)
{
    char text[64];

    if (name_size == 0) {
        return il_fail(err, IL_EREQUEST, "a header has an empty name");
    }
    for (size_t i = 0; i < name_size; i++) {
        if (!http_is_token_byte((unsigned char)name[i])) {
            char byte[8];

            return il_fail(err, IL_EREQUEST,
                           "header name \"%s\" is not valid: \"%s\" at byte %zu is not allowed",
                           il_escape(text, sizeof(text), name, name_size),
                           il_escape(byte, sizeof(byte), name + i, 1), i);
        }
    }
    for (size_t i = 0; i < value_size; i++) {
        if (!(byte_class[(unsigned char)value[i]] & CLASS_VALUE)) {
            return il_fail(err, IL_EREQUEST,
                           "value of header \"%s\" is not valid: byte 0x%02x at byte %zu is not "
                           "allowed",
                           il_escape(text, sizeof(text), name, name_size), (unsigned char)value[i],
                           i);
        }
    }
    return IL_OK;
}

enum il_code headers_add(struct il_headers *headers, const char *name, const char *value,
                         struct il_error *err)
{
    size_t name_size = strlen(name), value_size = strlen(value);
    char text[64];
    enum il_code code;

    code = headers_check(name, name_size, value, value_size, err);
    if (code != IL_OK) {
        return code;
    }
    code = headers_append_exactly(headers, name, name_size, value, value_size);
    if (code == IL_ELIMIT) {
        return il_fail(
            err, code, "no room for header \"%s\": at most %d headers and %d bytes are allowed",
            il_escape(text, sizeof(text), name, name_size), HEADERS_COUNT_MAX, HEADERS_SIZE_MAX);
    }
    if (code != IL_OK) {
        return il_fail(err, code, "out of memory for header \"%s\"",
                       il_escape(text, sizeof(text), name, name_size));
    }
    return IL_OK;
}

/* The first header called `name` at or after `from`; count if there is none. */
static uint32_t headers_find(const struct il_headers *headers, const char *name, size_t name_size,
                             size_t from)
{
    for (size_t i = from; i < headers->count; i++) {
        const struct headers_entry *entry = &headers->entries[i];

        if (entry->name_size == name_size &&
            http_equals_ignoring_case(headers->bytes + entry->name_offset, name_size, name,
                                      name_size)) {
            return (uint32_t)i;
        }
    }
    return headers->count;
}

enum il_code headers_copy(struct il_headers *to, const struct il_headers *from)
{
    struct il_headers copy = { .count = from->count, .size = from->size };

    il_assert(from->open_state == HEADERS_OPEN_NONE);
    if (from->count == 0) {
        headers_reset(to);
        return IL_OK;
    }
    copy.entry_capacity = from->count;
    copy.capacity = from->size;
    copy.entries = il_malloc(copy.entry_capacity * sizeof(copy.entries[0]));
    copy.bytes = il_malloc(copy.capacity);
    if (copy.entries == NULL || copy.bytes == NULL) {
        headers_deinit(&copy);
        return IL_ENOMEM;
    }
    memcpy(copy.entries, from->entries, copy.count * sizeof(copy.entries[0]));
    memcpy(copy.bytes, from->bytes, copy.size);
    headers_deinit(to);
    *to = copy;
    return IL_OK;
}

/* ---- looking ---- */

const char *il_headers_get_next(const struct il_headers *headers, const char *name, size_t *index)
{
    uint32_t found;

    if (headers == NULL || name == NULL || index == NULL) {
        return NULL;
    }
    found = headers_find(headers, name, strlen(name), *index);
    if (found == headers->count) {
        *index = found;
        return NULL;
    }
    *index = (size_t)found + 1;
    return headers->bytes + headers->entries[found].value_offset;
}

const char *il_headers_get(const struct il_headers *headers, const char *name)
{
    size_t index = 0;

    return il_headers_get_next(headers, name, &index);
}

size_t il_headers_count(const struct il_headers *headers)
{
    return headers == NULL ? 0 : headers->count;
}

enum il_code il_headers_at(const struct il_headers *headers, size_t index, const char **ret_name,
                           const char **ret_value)
{
    if (headers == NULL || index >= headers->count) {
        return IL_EINVAL;
    }
    if (ret_name != NULL) {
        *ret_name = headers->bytes + headers->entries[index].name_offset;
    }
    if (ret_value != NULL) {
        *ret_value = headers->bytes + headers->entries[index].value_offset;
    }
    return IL_OK;
}

static bool list_has_token(const char *list, const char *token, size_t token_size)
{
    while (*list != '\0') {
        size_t size, trimmed_size;

        list += strspn(list, " \t,");
        size = trimmed_size = strcspn(list, ",");
        while (trimmed_size > 0 &&
               (list[trimmed_size - 1] == ' ' || list[trimmed_size - 1] == '\t')) {
            trimmed_size--;
        }
        if (http_equals_ignoring_case(list, trimmed_size, token, token_size)) {
            return true;
        }
        list += size;
    }
    return false;
}

bool headers_has_token(const struct il_headers *headers, const char *name, const char *token)
{
    size_t token_size = strlen(token), index = 0;
    const char *list;

    while ((list = il_headers_get_next(headers, name, &index)) != NULL) {
        if (token_size > 0 && list_has_token(list, token, token_size)) {
            return true;
        }
    }
    return false;
}
