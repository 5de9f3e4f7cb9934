/* http.h: header fields, as a response shows them.
 *
 * A list of headers belongs to what it came from (a response) and lives as long; so do the strings
 * handed out here. NULL for a list is an empty list. Thread: whoever may use the object it belongs
 * to; reading from several threads at once is allowed. Since 0.1. */
#ifndef INTERLOOP_HTTP_H
#define INTERLOOP_HTTP_H

#include "interloop/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct il_headers; /* name/value pairs in the order in which they came */

/* The value of the first header called `name` (upper or lower case does not matter), or NULL. A
 * header without a value has the value "". Borrows; the result lives as long as the list. */
IL_API const char *il_headers_get(const struct il_headers *headers, const char *name);

/* Every value of a header that may come more than once:
 *
 *     size_t index = 0;
 *     while ((value = il_headers_get_next(headers, "set-cookie", &index)) != NULL) ...
 *
 * NULL after the last. */
IL_API const char *il_headers_get_next(const struct il_headers *headers, const char *name,
                                       size_t *index);

/* How many headers there are; one that came twice counts twice. */
IL_API size_t il_headers_count(const struct il_headers *headers);

/* The header at `index`, counted from 0. `ret_name` and `ret_value` may be NULL when not wanted;
 * the name is spelled as it came. IL_EINVAL when there is no such index. */
IL_API enum il_code il_headers_at(const struct il_headers *headers, size_t index,
                                  const char **ret_name, const char **ret_value);

#ifdef __cplusplus
}
#endif
#endif
