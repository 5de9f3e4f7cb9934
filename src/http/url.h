/* url.h: absolute http and https URLs, taken apart.
 *
 * What is accepted is the part of RFC 3986 that names an HTTP resource; what could mean two things
 * to two parsers (backslashes, odd IPv4 spellings, zone ids, control characters) is refused with a
 * message that says what and where and never shows userinfo or query. Thread: one at a time;
 * readers may share. */
#ifndef IL_HTTP_URL_H
#define IL_HTTP_URL_H

#include "base/base.h"

#define URL_SIZE_MAX      (64 * 1024)
#define URL_HOST_SIZE_MAX 253 /* the longest name DNS can hold */

enum url_scheme { URL_HTTP, URL_HTTPS };

struct url {
    enum url_scheme scheme;
    uint16_t port; /* the scheme's own (80, 443) unless the URL named one */
    bool is_ipv6_literal;
    bool is_ipv4_literal;
    bool has_trailing_dot;      /* "example.com.": absolute for the resolver, else the same host */
    const char *host;           /* lower case; without brackets, without the trailing dot */
    const char *path_and_query; /* begins with '/'; no fragment; nothing below '!' or above '~' */
    const char *authority;      /* "host", "host:8080", "[::1]:8080": as the Host header and
                                 * messages show it; the port only if not the scheme's own */
    const char *userinfo;       /* as written, without '@'; NULL if none. Secret: never log it */
    uint32_t host_size, path_and_query_size, authority_size;
    char *memory; /* all the strings */
};

/* Take `text` apart. IL_EURL or IL_ENOMEM; `ret_url` is written only on success, and then wants
 * url_deinit. */
IL_MUST_USE enum il_code url_parse(const char *text, struct url *ret_url, struct il_error *err);

/* `ret_url` becomes a copy of `url`, with memory of its own. IL_ENOMEM. */
IL_MUST_USE enum il_code url_copy(const struct url *url, struct url *ret_url);

/* Free what url_parse made; a zeroed url is fine. */
void url_deinit(struct url *url);

uint16_t url_default_port(enum url_scheme scheme);
const char *url_scheme_name(enum url_scheme scheme);

#endif
