/* url.c: taking absolute http and https URLs apart.
 *
 * Owns: nothing; a parsed url owns one block with its strings. Threads: any. Ends: url_deinit.
 *
 * The work is done in two steps: find the parts, checking every byte; then, when nothing can be
 * wrong any more, allocate once and copy. */
#include <arpa/inet.h>

#include "base/bytes.h"
#include "http/headers.h"
#include "http/url.h"

enum { URL_LABEL_SIZE_MAX = 63 };

/* A stretch of the text. */
struct part {
    const char *at;
    size_t size;
};

struct parts {
    const char *text; /* the whole, to count positions from */
    size_t size;
    bool has_high_bytes; /* beyond ASCII */
    enum url_scheme scheme;
    struct part userinfo, host, port, target;
    bool has_userinfo, is_bracketed, has_port;
};

/* `at` is the byte that is wrong. */
#define URL_FAIL(err, parts, where, format, ...)                                                   \
    il_fail(err, IL_EURL, "URL is not valid: " format " (at byte %zu)", ##__VA_ARGS__,             \
            (size_t)((where) - (parts)->text))

uint16_t url_default_port(enum url_scheme scheme)
{
    return scheme == URL_HTTPS ? 443 : 80;
}

const char *url_scheme_name(enum url_scheme scheme)
{
    return scheme == URL_HTTPS ? "https" : "http";
}

/* ---- bytes that may stand nowhere ---- */

static enum il_code scan_bytes(struct parts *parts, struct il_error *err)
{
    const char *c = parts->text;
    unsigned char byte, seen = 0;

    while ((byte = (unsigned char)*c) > ' ' && byte != 0x7f) {
        seen |= byte;
        c++;
    }
    if (byte == ' ') {
        return URL_FAIL(err, parts, c, "a space must be written as %%20");
    }
    if (byte != '\0') {
        return URL_FAIL(err, parts, c, "control character 0x%02x is not allowed", byte);
    }
    parts->size = (size_t)(c - parts->text);
    parts->has_high_bytes = seen & 0x80;
    if (parts->size == 0) {
        return il_fail(err, IL_EURL, "URL is empty");
    }
    if (parts->size > URL_SIZE_MAX) {
        return il_fail(err, IL_EURL, "URL is longer than %d bytes", URL_SIZE_MAX);
    }
    return IL_OK;
}

/* ---- scheme ---- */

static bool is_scheme_byte(char c, bool is_first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           (!is_first && ((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.'));
}

/* The size of the scheme `text` begins with, without its colon; 0 if there is none. */
static size_t scheme_size(const char *text)
{
    size_t size = 0;

    while (is_scheme_byte(text[size], size == 0)) {
        size++;
    }
    return text[size] == ':' ? size : 0;
}

static enum il_code parse_scheme(struct parts *parts, const char **cursor, struct il_error *err)
{
    size_t size = scheme_size(parts->text);
    char text[32];

    if (http_equals_ignoring_case(parts->text, size, "http", 4)) {
        parts->scheme = URL_HTTP;
    } else if (http_equals_ignoring_case(parts->text, size, "https", 5)) {
        parts->scheme = URL_HTTPS;
    } else if (size > 0 && strncmp(parts->text + size, "://", 3) == 0) {
        return URL_FAIL(err, parts, parts->text,
                        "scheme \"%s\" is not supported, only http and https are",
                        il_escape(text, sizeof(text), parts->text, size));
    } else {
        return URL_FAIL(err, parts, parts->text, "it must begin with http:// or https://");
    }
    if (strncmp(parts->text + size, "://", 3) != 0) {
        return URL_FAIL(err, parts, parts->text + size, "\"%s\" must be followed by \"://\"",
                        url_scheme_name(parts->scheme));
    }
    *cursor = parts->text + size + 3;
    return IL_OK;
}

/* ---- authority: [userinfo@]host[:port] ---- */

static enum il_code split_authority(struct parts *parts, const char *authority, size_t size,
                                    struct il_error *err)
{
    const char *end = authority + size, *host = authority, *at = memrchr(authority, '@', size);
    const char *backslash = memchr(authority, '\\', size), *host_end, *colon;

    if (backslash != NULL) { /* some parsers take it for a slash: the host would be another */
        return URL_FAIL(err, parts, backslash, "a backslash is not allowed before the path");
    }
    if (at != NULL) {
        parts->has_userinfo = true;
        parts->userinfo = (struct part){ authority, (size_t)(at - authority) };
        host = at + 1;
        if (memchr(authority, '@', parts->userinfo.size) != NULL) {
            return URL_FAIL(err, parts, at, "there are two '@' before the host; write %%40");
        }
    }
    if (host < end && *host == '[') {
        const char *bracket = memchr(host, ']', (size_t)(end - host));

        if (bracket == NULL) {
            return URL_FAIL(err, parts, host, "'[' of an IPv6 address has no ']'");
        }
        parts->is_bracketed = true;
        parts->host = (struct part){ host + 1, (size_t)(bracket - host - 1) };
        host_end = bracket + 1;
        if (host_end < end && *host_end != ':') {
            return URL_FAIL(err, parts, host_end, "']' must be followed by ':port' or '/'");
        }
    } else {
        colon = memchr(host, ':', (size_t)(end - host));
        host_end = colon != NULL ? colon : end;
        parts->host = (struct part){ host, (size_t)(host_end - host) };
    }
    if (parts->host.size == 0) {
        return URL_FAIL(err, parts, host, "the host is empty");
    }
    if (host_end < end) {
        parts->has_port = true;
        parts->port = (struct part){ host_end + 1, (size_t)(end - host_end - 1) };
    }
    return IL_OK;
}

static enum il_code parse_port(const struct parts *parts, uint16_t *ret_port, struct il_error *err)
{
    unsigned port = 0;

    if (!parts->has_port || parts->port.size == 0) { /* "host:" is "host", RFC 3986 3.2.3 */
        *ret_port = url_default_port(parts->scheme);
        return IL_OK;
    }
    for (size_t i = 0; i < parts->port.size; i++) {
        char c = parts->port.at[i];

        if (c < '0' || c > '9') {
            if (c == ':' && !parts->is_bracketed) {
                return URL_FAIL(err, parts, parts->port.at + i,
                                "a second ':' in the host; an IPv6 address goes in brackets");
            }
            return URL_FAIL(err, parts, parts->port.at + i, "the port is not a number");
        }
        port = port * 10 + (unsigned)(c - '0');
        if (port > UINT16_MAX) {
            return URL_FAIL(err, parts, parts->port.at, "the port is larger than 65535");
        }
    }
    if (port == 0) {
        return URL_FAIL(err, parts, parts->port.at, "port 0 cannot be connected to");
    }
    *ret_port = (uint16_t)port;
    return IL_OK;
}

/* ---- host ---- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool is_host_byte(unsigned char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_';
}

/* One byte of the host that is more than a letter, digit, dot or the like: unescaped, in lower
 * case; moves `*index` past it. */
static enum il_code host_next_byte(const struct parts *parts, size_t *index, char *ret_byte,
                                   struct il_error *err)
{
    const char *at = parts->host.at + *index;
    size_t left = parts->host.size - *index;
    unsigned char c = (unsigned char)*at;
    char text[8];

    *index += 1;
    if (c == '%') {
        int high = left > 2 ? hex_value(at[1]) : -1, low = left > 2 ? hex_value(at[2]) : -1;

        if (high < 0 || low < 0) {
            return URL_FAIL(err, parts, at, "'%%' in the host is not followed by two hex digits");
        }
        c = (unsigned char)(high * 16 + low);
        *index += 2;
    }
    if (c >= 'A' && c <= 'Z') {
        c |= 0x20;
    }
    if (c >= 0x80) {
        return URL_FAIL(err, parts, at,
                        "the host has a character beyond ASCII; write its \"xn--\" form");
    }
    if (!is_host_byte(c)) {
        return URL_FAIL(err, parts, at, "the host must not hold \"%s\"",
                        il_escape(text, sizeof(text), &c, 1));
    }
    *ret_byte = (char)c;
    return IL_OK;
}

static enum il_code check_labels(const struct parts *parts, const char *host, struct il_error *err)
{
    size_t size = 0; /* of the label that `c` is in */

    for (const char *c = host;; c++) {
        if (*c != '.' && *c != '\0') {
            size++;
            continue;
        }
        if (size == 0) {
            return URL_FAIL(err, parts, parts->host.at, "the host has an empty label");
        }
        if (size > URL_LABEL_SIZE_MAX) {
            return URL_FAIL(err, parts, parts->host.at,
                            "a label of the host is longer than %d bytes", URL_LABEL_SIZE_MAX);
        }
        if (*c == '\0') {
            return IL_OK;
        }
        size = 0;
    }
}

/* Does the name end in a number? Then it is an IPv4 address or nothing: "127.1", "0x7f000001" and
 * "2130706433" mean 127.0.0.1 to some and a name to others, which has been used to get past
 * filters. */
static bool ends_in_number(const char *host)
{
    const char *dot = strrchr(host, '.'), *label = dot != NULL ? dot + 1 : host;

    if (label[0] == '0' && label[1] == 'x') {
        return label[2 + strspn(label + 2, "0123456789abcdef")] == '\0';
    }
    return label[0] != '\0' && label[strspn(label, "0123456789")] == '\0';
}

static enum il_code parse_name(const struct parts *parts, char *host, struct url *url,
                               struct il_error *err)
{
    struct in_addr address;
    size_t size = 0, index = 0;

    while (index < parts->host.size) {
        enum il_code code;

        if (size > URL_HOST_SIZE_MAX) { /* one more than the most: it may be the trailing dot */
            break;
        }
        if (is_host_byte((unsigned char)parts->host.at[index])) { /* as nearly always */
            host[size++] = parts->host.at[index++];
            continue;
        }
        code = host_next_byte(parts, &index, &host[size], err);
        if (code != IL_OK) {
            return code;
        }
        size++;
    }
    if (size > 0 && host[size - 1] == '.') {
        url->has_trailing_dot = true;
        size--;
    }
    if (size > URL_HOST_SIZE_MAX || index < parts->host.size) {
        return URL_FAIL(err, parts, parts->host.at, "the host is longer than %d bytes",
                        URL_HOST_SIZE_MAX);
    }
    host[size] = '\0';
    url->host_size = (uint32_t)size;
    if (ends_in_number(host)) {
        if (inet_pton(AF_INET, host, &address) != 1) {
            return URL_FAIL(err, parts, parts->host.at,
                            "the host ends in a number but is not an IPv4 address like 127.0.0.1");
        }
        url->is_ipv4_literal = true;
        return IL_OK;
    }
    return check_labels(parts, host, err);
}

static enum il_code parse_ipv6(const struct parts *parts, char *host, struct url *url,
                               struct il_error *err)
{
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];
    const char *zone = memchr(parts->host.at, '%', parts->host.size);

    if (zone != NULL) {
        return URL_FAIL(err, parts, zone, "a zone id in an IPv6 address is not supported");
    }
    if (parts->host.size < sizeof(text)) {
        memcpy(text, parts->host.at, parts->host.size);
        text[parts->host.size] = '\0';
        if (inet_pton(AF_INET6, text, &address) == 1) {
            /* Written back in its one short form, so that equal addresses are equal strings. */
            const char *written = inet_ntop(AF_INET6, &address, host, INET6_ADDRSTRLEN);

            il_assert(written == host); /* the room is enough for any address */
            url->host_size = (uint32_t)strlen(host);
            url->is_ipv6_literal = true;
            return IL_OK;
        }
    }
    return URL_FAIL(err, parts, parts->host.at, "what stands in brackets is not an IPv6 address");
}

/* ---- target and the whole ---- */

/* Not inlined: where gcc can see that the size is small it copies with "rep movs", whose start took
 * a third of url_parse's time. */
static IL_NOINLINE char *put(char *out, const void *data, size_t size)
{
    memcpy(out, data, size);
    return out + size;
}

/* "host", "host:8080", "[::1]:8080". */
static char *put_authority(char *out, const struct url *url)
{
    if (url->is_ipv6_literal) {
        *out++ = '[';
    }
    out = put(out, url->host, url->host_size);
    if (url->is_ipv6_literal) {
        *out++ = ']';
    }
    if (url->has_trailing_dot) {
        *out++ = '.';
    }
    if (url->port != url_default_port(url->scheme)) {
        *out++ = ':';
        out += il_decimal(out, url->port);
    }
    return out;
}

/* Bytes beyond ASCII cannot be sent as they are; they are escaped, as browsers do. */
static char *put_target(char *out, const struct parts *parts)
{
    static const char hex[] = "0123456789ABCDEF";
    const struct part *target = &parts->target;

    if (target->size == 0 || target->at[0] == '?') {
        *out++ = '/';
    }
    if (!parts->has_high_bytes) {
        return put(out, target->at, target->size);
    }
    for (size_t i = 0; i < target->size; i++) {
        unsigned char c = (unsigned char)target->at[i];

        if (c < 0x80) {
            *out++ = (char)c;
        } else {
            *out++ = '%';
            *out++ = hex[c >> 4];
            *out++ = hex[c & 15];
        }
    }
    return out;
}

/* Nothing is wrong any more: put the strings into one block. */
static enum il_code url_build(const struct parts *parts, const char *host, struct url *url,
                              struct il_error *err)
{
    size_t authority_max = url->host_size + sizeof("[].:") + IL_DECIMAL_SIZE_MAX;
    size_t target_max = 1 + parts->target.size * (parts->has_high_bytes ? 3 : 1) + 1;
    size_t size = url->host_size + 1 + authority_max + target_max + parts->userinfo.size + 1;
    char *at = il_malloc(size);

    if (at == NULL) {
        return il_fail(err, IL_ENOMEM, "out of memory for a URL");
    }
    url->memory = at;
    url->host = at;
    at = put(at, host, url->host_size);
    *at++ = '\0';
    url->authority = at;
    at = put_authority(at, url);
    url->authority_size = (uint32_t)(at - url->authority);
    *at++ = '\0';
    url->path_and_query = at;
    at = put_target(at, parts);
    url->path_and_query_size = (uint32_t)(at - url->path_and_query);
    *at++ = '\0';
    if (parts->has_userinfo) {
        url->userinfo = at;
        at = put(at, parts->userinfo.at, parts->userinfo.size);
        *at++ = '\0';
    }
    il_assert((size_t)(at - url->memory) <= size);
    return IL_OK;
}

/* Where the authority that begins at `at` ends. */
static const char *authority_end(const char *at)
{
    while (*at != '\0' && *at != '/' && *at != '?' && *at != '#') {
        at++;
    }
    return at;
}

enum il_code url_parse(const char *text, struct url *ret_url, struct il_error *err)
{
    struct parts parts = { .text = text };
    char host[URL_HOST_SIZE_MAX + 2]; /* with a trailing dot while it is read */
    struct url url = { 0 };
    const char *authority = text, *end, *fragment;
    enum il_code code;

    if ((code = scan_bytes(&parts, err)) != IL_OK ||
        (code = parse_scheme(&parts, &authority, err)) != IL_OK) {
        return code;
    }
    end = text + parts.size;
    parts.target.at = authority_end(authority);
    fragment = memchr(parts.target.at, '#', (size_t)(end - parts.target.at));
    parts.target.size = (size_t)((fragment != NULL ? fragment : end) - parts.target.at);
    code = split_authority(&parts, authority, (size_t)(parts.target.at - authority), err);
    if (code != IL_OK || (code = parse_port(&parts, &url.port, err)) != IL_OK) {
        return code;
    }
    url.scheme = parts.scheme;
    code = parts.is_bracketed ? parse_ipv6(&parts, host, &url, err)
                              : parse_name(&parts, host, &url, err);
    if (code == IL_OK) {
        code = url_build(&parts, host, &url, err);
    }
    if (code == IL_OK) {
        *ret_url = url;
    }
    return code;
}

enum il_code url_copy(const struct url *url, struct url *ret_url)
{
    /* url_build puts the strings one behind the other, from the host on */
    const char *end = url->userinfo != NULL ? url->userinfo + strlen(url->userinfo) + 1
                                            : url->path_and_query + url->path_and_query_size + 1;
    size_t size = (size_t)(end - url->memory);
    char *memory = il_malloc(size);

    if (memory == NULL) {
        return IL_ENOMEM;
    }
    memcpy(memory, url->memory, size);
    *ret_url = *url;
    ret_url->memory = memory;
    ret_url->host = memory + (url->host - url->memory);
    ret_url->authority = memory + (url->authority - url->memory);
    ret_url->path_and_query = memory + (url->path_and_query - url->memory);
    ret_url->userinfo = url->userinfo != NULL ? memory + (url->userinfo - url->memory) : NULL;
    return IL_OK;
}

void url_deinit(struct url *url)
{
    if (url->userinfo != NULL) {
        explicit_bzero(url->memory + (url->userinfo - url->memory), strlen(url->userinfo));
    }
    il_free(url->memory);
    *url = (struct url){ 0 };
}
