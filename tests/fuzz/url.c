/* url.c: fuzz target for url_parse.
 *
 * The input is a URL. What is accepted must be safe to put into a request line and a Host header,
 * and must mean the same when it is written out and read again. */
#include <string.h>

#include "http/url.h"
#include "tests/fuzz/fuzz.h"
#include "tests/guarded.h"

enum { INPUT_SIZE_MAX = 70 * 1024 };

static struct guarded input;

static void check_same(const struct url *a, const struct url *b)
{
    FUZZ_CHECK(a->scheme == b->scheme);
    FUZZ_CHECK(a->port == b->port);
    FUZZ_CHECK(a->has_trailing_dot == b->has_trailing_dot);
    FUZZ_CHECK(a->is_ipv4_literal == b->is_ipv4_literal);
    FUZZ_CHECK(strcmp(a->host, b->host) == 0);
    FUZZ_CHECK(strcmp(a->authority, b->authority) == 0);
    FUZZ_CHECK(strcmp(a->path_and_query, b->path_and_query) == 0);
}

static void check_parts(const struct url *url)
{
    FUZZ_CHECK(url->port != 0);
    FUZZ_CHECK(url->host_size > 0 && url->host_size <= URL_HOST_SIZE_MAX);
    FUZZ_CHECK(strlen(url->host) == url->host_size);
    FUZZ_CHECK(strlen(url->authority) == url->authority_size);
    FUZZ_CHECK(strlen(url->path_and_query) == url->path_and_query_size);
    FUZZ_CHECK(strspn(url->host, url->is_ipv6_literal
                                     ? "0123456789abcdef:."
                                     : "0123456789abcdefghijklmnopqrstuvwxyz-._") ==
               url->host_size);
    FUZZ_CHECK(url->path_and_query[0] == '/');
    for (const char *c = url->path_and_query; *c != '\0'; c++) {
        FUZZ_CHECK(*c > ' ' && *c < 0x7f && *c != '#');
    }
}

/* What was accepted, written out and read again. It can only be too long by what was escaped. */
static void check_round_trip(const struct url *url)
{
    size_t size = sizeof("https://") + url->authority_size + url->path_and_query_size;
    char *text = malloc(size);
    struct il_error err;
    struct url again;
    enum il_code code;

    FUZZ_CHECK(text != NULL);
    snprintf(text, size, "%s://%s%s", url_scheme_name(url->scheme), url->authority,
             url->path_and_query);
    code = url_parse(text, &again, &err);
    FUZZ_CHECK(code == IL_OK || (code == IL_EURL && strlen(text) > URL_SIZE_MAX));
    if (code == IL_OK) {
        check_same(url, &again);
        FUZZ_CHECK(again.userinfo == NULL);
        url_deinit(&again);
    }
    free(text);
}

static void check_url(const struct url *url)
{
    check_parts(url);
    check_round_trip(url);
}

static void check_error(enum il_code code, const struct il_error *err)
{
    FUZZ_CHECK(code == IL_EURL);
    FUZZ_CHECK(err->code == code);
    FUZZ_CHECK(err->message[0] != '\0');
    for (const char *c = err->message; *c != '\0'; c++) {
        FUZZ_CHECK(*c >= ' ' && *c < 0x7f);
    }
}

/* As guarded_put, with a NUL behind it. */
static char *put_string(struct guarded *guarded, const uint8_t *data, size_t size)
{
    char *text = guarded->memory + guarded->room - size - 1;

    FUZZ_CHECK(size < guarded->room);
    memcpy(text, data, size);
    text[size] = '\0';
    return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct il_error err;
    struct url url;
    enum il_code code;

    if (size > INPUT_SIZE_MAX - 2) {
        return 0;
    }
    if (input.memory == NULL) {
        input = guarded_new(INPUT_SIZE_MAX);
    }
    code = url_parse(put_string(&input, data, size), &url, &err);
    if (code != IL_OK) {
        check_error(code, &err);
        return 0;
    }
    check_url(&url);
    url_deinit(&url);
    return 0;
}
