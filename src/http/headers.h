/* headers.h: an ordered list of header fields in two blocks of memory.
 *
 * Offers: validated adding for what goes out, piecewise adding for the parser, lookup (the public
 *   half is interloop/http.h). What is in a list is always valid: names are tokens, values hold no
 *   control character but the tab. Thread: one at a time; readers may share. */
#ifndef IL_HTTP_HEADERS_H
#define IL_HTTP_HEADERS_H

#include "base/base.h"
#include "interloop/http.h"

#define HEADERS_SIZE_MAX  (1024 * 1024) /* names, values and their ends, all together */
#define HEADERS_COUNT_MAX 10000

struct headers_entry {
    uint32_t name_offset, name_size;
    uint32_t value_offset, value_size;
};

struct il_headers {
    struct headers_entry *entries;
    char *bytes; /* name NUL value NUL name NUL value NUL ... in the order of the entries */
    uint32_t count, entry_capacity;
    uint32_t size, capacity;
    uint8_t open_state; /* enum headers_open: the entry at `count` is being built */
};

void headers_init(struct il_headers *headers);
void headers_deinit(struct il_headers *headers);

/* Empty the list; the memory stays for the next use unless it has grown beyond the usual. */
void headers_reset(struct il_headers *headers);

/* Exchange two lists, memory and all: how a response takes what a parser has read. */
void headers_swap(struct il_headers *a, struct il_headers *b);

/* Append a header. A name that is no token or a value with a control character is IL_EREQUEST with
 * the header named; nothing is ever stripped. IL_ELIMIT when the list is full. Copies both. */
IL_MUST_USE enum il_code headers_add(struct il_headers *headers, const char *name,
                                     const char *value, struct il_error *err);

/* `to` becomes a copy of `from`; on IL_ENOMEM `to` is as it was. */
IL_MUST_USE enum il_code headers_copy(struct il_headers *to, const struct il_headers *from);

/* Is `token` (lower case) in the comma-separated lists of all headers called `name`? */
bool headers_has_token(const struct il_headers *headers, const char *name, const char *token);

/* ---- for the parser, which has checked the bytes: a header whole, or, when it comes cut in
 * pieces, name pieces, then value pieces, then commit. The end of a value loses its spaces and
 * tabs, which are not part of it (RFC 9112 5.1). IL_ENOMEM or IL_ELIMIT leave the open entry to be
 * dropped by headers_reset. ---- */

IL_MUST_USE enum il_code headers_append(struct il_headers *headers, const char *name,
                                        size_t name_size, const char *value, size_t value_size);

IL_MUST_USE enum il_code headers_append_name(struct il_headers *headers, const char *data,
                                             size_t size);
IL_MUST_USE enum il_code headers_append_value(struct il_headers *headers, const char *data,
                                              size_t size);
IL_MUST_USE enum il_code headers_commit(struct il_headers *headers);

/* The name of the entry being built, "" if there is none; for messages. */
const char *headers_open_name(struct il_headers *headers);
bool headers_is_open(const struct il_headers *headers);
bool headers_is_in_value(const struct il_headers *headers);

/* ---- RFC 9110 character classes ---- */

/* May `byte` stand in a token (method, header name)? */
bool http_is_token_byte(unsigned char byte);
/* A token is not empty. */
bool http_is_token(const char *text, size_t size);
/* A field value: visible characters, spaces, tabs, and bytes from 0x80 up. */
bool http_is_field_value(const char *text, size_t size);

/* Compare without regard to upper and lower case (ASCII only, whatever the locale). */
bool http_equals_ignoring_case(const char *a, size_t a_size, const char *b, size_t b_size);

#endif
