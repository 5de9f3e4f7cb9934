#include "http/h1_request.h"
#include "tests/check.h"

struct request_case {
    const char *name, *method, *url;
    enum h1_target_form target_form;
    enum h1_body_kind body_kind;
    uint64_t body_size;
    const char *headers[8]; /* name, value, name, value, ... NULL */
    const char *want;       /* the head, or the error's message */
};

static void headers_fill(struct il_headers *headers, const char *const *pairs)
{
    struct il_error err;

    headers_init(headers);
    for (; *pairs != NULL; pairs += 2) {
        CHECK_OK(headers_add(headers, pairs[0], pairs[1], &err));
    }
}

static void check_request(const struct request_case *c)
{
    struct h1_request_head head = { .method = c->method,
                                    .target_form = c->target_form,
                                    .body_kind = c->body_kind,
                                    .body_size = c->body_size };
    struct il_headers headers;
    struct il_bytes out;
    struct il_error err;
    struct url url;
    enum il_code code;

    CHECK_OK(url_parse(c->url, &url, &err));
    headers_fill(&headers, c->headers);
    head.url = &url;
    head.headers = c->headers[0] != NULL ? &headers : NULL;
    il_bytes_init(&out);
    CHECK(il_bytes_append(&out, "before|", 7) == IL_OK);
    code = h1_request_write(&out, &head, &err);
    CHECK(il_bytes_append(&out, "", 1) == IL_OK);
    CHECK(memcmp(il_bytes_data(&out), "before|", 7) == 0);
    if (code != IL_OK) {
        CHECK_EQ(code, IL_EREQUEST);
        CHECK_STR(il_bytes_data(&out), "before|");
        if (strcmp(err.message, c->want) != 0) {
            check_fail(__FILE__, __LINE__, "%s: %s", c->name, err.message);
        }
    } else if (strcmp(il_bytes_data(&out) + 7, c->want) != 0) {
        check_fail(__FILE__, __LINE__, "%s: wrote\n%s", c->name, il_bytes_data(&out));
    }
    il_bytes_deinit(&out);
    headers_deinit(&headers);
    url_deinit(&url);
}

#define DEFAULTS "User-Agent: interloop/0.1\r\nAccept: */*\r\n"

TEST(request_heads_are_written)
{
    static const struct request_case cases[] = {
        { "plain", "GET", "http://u:p@Example.com/a?b#c",
          .want = "GET /a?b HTTP/1.1\r\nHost: example.com\r\n" DEFAULTS "\r\n" },
        { "port", "GET", "https://a:8443",
          .want = "GET / HTTP/1.1\r\nHost: a:8443\r\n" DEFAULTS "\r\n" },
        { "IPv6", "GET", "http://[::1]:81/",
          .want = "GET / HTTP/1.1\r\nHost: [::1]:81\r\n" DEFAULTS "\r\n" },
        { "path that looks like a host", "GET", "http://a//evil.example/",
          .want = "GET //evil.example/ HTTP/1.1\r\nHost: a\r\n" DEFAULTS "\r\n" },
        { "to a proxy", "GET", "http://u:p@a:81/b", .target_form = H1_TARGET_ABSOLUTE,
          .want = "GET http://a:81/b HTTP/1.1\r\nHost: a:81\r\n" DEFAULTS "\r\n" },
        { "tunnel", "CONNECT", "https://a/", .target_form = H1_TARGET_AUTHORITY,
          .want = "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n" DEFAULTS "\r\n" },
        { "tunnel to another port", "CONNECT", "https://[::1]:8443/",
          .target_form = H1_TARGET_AUTHORITY,
          .want = "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n" DEFAULTS "\r\n" },
        { "user's headers", "GET", "http://a/", .headers = { "X-A", "b", "Y", "" },
          .want = "GET / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "X-A: b\r\nY: \r\n\r\n" },
        { "defaults replaced", "GET", "http://a/",
          .headers = { "accept", "x/y", "USER-AGENT", "z", "host", "b:1" },
          .want = "GET / HTTP/1.1\r\naccept: x/y\r\nUSER-AGENT: z\r\nhost: b:1\r\n\r\n" },
        { "sized body", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 5,
          .want = "POST / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "Content-Length: 5\r\n\r\n" },
        { "largest body", "PUT", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = UINT64_MAX,
          .want = "PUT / HTTP/1.1\r\nHost: a\r\n" DEFAULTS
                  "Content-Length: 18446744073709551615\r\n\r\n" },
        { "empty body", "GET", "http://a/", .body_kind = H1_BODY_SIZED,
          .want = "GET / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "Content-Length: 0\r\n\r\n" },
        { "chunked body", "POST", "http://a/", .body_kind = H1_BODY_CHUNKED,
          .want = "POST / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "Transfer-Encoding: chunked\r\n\r\n" },
        { "POST without a body says so", "POST", "http://a/",
          .want = "POST / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "Content-Length: 0\r\n\r\n" },
        { "DELETE without a body", "DELETE", "http://a/",
          .want = "DELETE / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "\r\n" },
        { "right Content-Length", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 12,
          .headers = { "content-length", "12" },
          .want = "POST / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "content-length: 12\r\n\r\n" },
        { "right Transfer-Encoding", "POST", "http://a/", .body_kind = H1_BODY_CHUNKED,
          .headers = { "Transfer-Encoding", "Chunked" },
          .want = "POST / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "Transfer-Encoding: Chunked\r\n\r\n" },
        { "extension method", "M-SEARCH", "http://a/",
          .want = "M-SEARCH / HTTP/1.1\r\nHost: a\r\n" DEFAULTS "\r\n" },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        check_request(&cases[i]);
    }
}

TEST(requests_that_contradict_themselves_are_refused)
{
#define DIFFERS(size)                                                                              \
    "header \"Content-Length\" differs from the body's size, " size                                \
    " bytes; leave it out and it will be right"
    static const struct request_case cases[] = {
        { "no method", "", "http://a/", .want = "the request's method is empty" },
        { "space in method", "GET /x", "http://a/",
          .want = "request method \"GET /x\" is not valid: it must be one word of letters" },
        { "injection by method", "GET / HTTP/1.1\r\nX: y", "http://a/",
          .want = "request method \"GET / HTTP/1.1\\r\\nX: y\" is not valid: it must be one word "
                  "of letters" },
        { "endless method", "XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX",
          "http://a/", .want = "the request's method is longer than 64 bytes" },
        { "wrong length", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 5,
          .headers = { "Content-Length", "6" }, .want = DIFFERS("5") },
        { "length with a plus", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 5,
          .headers = { "Content-Length", "+5" }, .want = DIFFERS("5") },
        { "length with a zero", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 5,
          .headers = { "Content-Length", "05" }, .want = DIFFERS("5") },
        { "length without a body", "GET", "http://a/", .headers = { "Content-Length", "5" },
          .want = DIFFERS("0") },
        { "length of a chunked body", "POST", "http://a/", .body_kind = H1_BODY_CHUNKED,
          .headers = { "Content-Length", "5" },
          .want = "header \"Content-Length\" cannot be set: the body is sent in chunks" },
        { "length twice", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 5,
          .headers = { "Content-Length", "5", "content-length", "5" },
          .want = "header \"Content-Length\" is set twice; leave it out" },
        { "chunked and sized", "POST", "http://a/", .body_kind = H1_BODY_SIZED, .body_size = 5,
          .headers = { "Transfer-Encoding", "chunked" },
          .want = "header \"Transfer-Encoding\" cannot be set: the body is not sent in chunks" },
        { "gzip", "POST", "http://a/", .body_kind = H1_BODY_CHUNKED,
          .headers = { "Transfer-Encoding", "gzip, chunked" },
          .want = "header \"Transfer-Encoding\" can only be \"chunked\"; leave it out" },
        { "chunked twice", "POST", "http://a/", .body_kind = H1_BODY_CHUNKED,
          .headers = { "Transfer-Encoding", "chunked", "Transfer-Encoding", "chunked" },
          .want = "header \"Transfer-Encoding\" is set twice; leave it out" },
        { "two hosts", "GET", "http://a/", .headers = { "Host", "a", "Host", "b" },
          .want = "header \"Host\" is set twice" },
        { "empty host", "GET", "http://a/", .headers = { "Host", "" },
          .want = "header \"Host\" is empty" },
        { "host with a path", "GET", "http://a/", .headers = { "Host", "b/c" },
          .want = "header \"Host\" is not a host, or host:port (at byte 1)" },
        { "host beyond ASCII", "GET", "http://a/", .headers = { "Host", "\xc3\xa4" },
          .want = "header \"Host\" is not a host, or host:port (at byte 0)" },
        { "host with userinfo", "GET", "http://a/", .headers = { "Host", "u@b" },
          .want = "header \"Host\" is not a host, or host:port (at byte 1)" },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        check_request(&cases[i]);
    }
}

TEST(request_write_that_runs_out_of_memory_writes_nothing)
{
    struct h1_request_head head = { .method = "GET" };
    struct il_bytes out;
    struct il_error err;
    struct url url;

    CHECK_OK(url_parse("http://a/", &url, &err));
    head.url = &url;
    il_bytes_init(&out);
    il_memory_fail_after(0);
    CHECK_EQ(h1_request_write(&out, &head, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    CHECK_EQ(il_bytes_size(&out), 0);
    CHECK_CONTAINS(err.message, "out of memory for a request");
    CHECK_OK(h1_request_write(&out, &head, &err));
    il_bytes_deinit(&out);
    url_deinit(&url);
}

TEST(longest_url_fits_a_request_head)
{
    static char text[URL_SIZE_MAX + 1] = "https://a:8443/";
    struct h1_request_head head = { .method = "GET", .target_form = H1_TARGET_ABSOLUTE };
    struct il_bytes out;
    struct il_error err;
    struct url url;

    memset(text + 15, '\xff', URL_SIZE_MAX - 15); /* each becomes three */
    CHECK_OK(url_parse(text, &url, &err));
    head.url = &url;
    il_bytes_init(&out);
    CHECK_OK(h1_request_write(&out, &head, &err));
    CHECK(il_bytes_size(&out) > 3 * (URL_SIZE_MAX - 15));
    il_bytes_deinit(&out);
    url_deinit(&url);
}

TEST(chunk_heads_are_hexadecimal)
{
    static const struct {
        uint64_t size;
        const char *want;
    } cases[] = {
        { 1, "1\r\n" },
        { 15, "f\r\n" },
        { 16, "10\r\n" },
        { 4096, "1000\r\n" },
        { 0xabcdef, "abcdef\r\n" },
        { UINT64_MAX, "ffffffffffffffff\r\n" },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        char text[H1_CHUNK_HEAD_MAX + 1];

        text[h1_chunk_head(text, cases[i].size)] = '\0';
        CHECK_STR(text, cases[i].want);
    }
    CHECK_EQ(strlen(H1_CHUNK_TAIL), H1_CHUNK_TAIL_SIZE);
    CHECK_EQ(strlen(H1_CHUNK_END), H1_CHUNK_END_SIZE);
}
