#include <stdlib.h>

#include "base/bytes.h"
#include "http/h1_response.h"
#include "tests/check.h"
#include "tests/guarded.h"

/* ---- a response as one line of text, however it was cut ---- */

#define OK  "HTTP/1.1 200 OK\r\n"
#define CHK OK "Transfer-Encoding: chunked\r\n\r\n"

static struct guarded input;

static uint64_t random_next(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33;
}

static void log_text(struct il_bytes *log, const char *text)
{
    CHECK(il_bytes_append(log, text, strlen(text)) == IL_OK);
}

static void log_headers(struct il_bytes *log, const struct il_headers *headers)
{
    const char *name, *value;

    for (size_t i = 0; il_headers_at(headers, i, &name, &value) == IL_OK; i++) {
        log_text(log, " ");
        log_text(log, name);
        log_text(log, "=");
        log_text(log, value);
    }
}

static void log_head(struct il_bytes *log, const struct h1_response *r)
{
    static const char *const framings[] = { "none", "sized", "chunked", "to-close", "tunnel" };
    char text[128];

    (void)snprintf(text, sizeof(text), "%u/1.%u '%s' %s", r->status, r->version_minor, r->reason,
                   framings[r->framing]);
    log_text(log, text);
    log_headers(log, &r->headers);
    log_text(log, " | ");
}

/* Take body bytes as one who receives them right where he wants them does, and not by feeding. */
static bool takes_body;

static bool take_body(struct h1_response *r, const char **at, size_t *size, struct il_bytes *body)
{
    size_t taken = (size_t)il_min_u64(*size, h1_response_body_left(r));

    if (!takes_body || taken == 0) {
        return false;
    }
    CHECK(il_bytes_append(body, *at, taken) == IL_OK);
    h1_response_took(r, taken);
    *at += taken;
    *size -= taken;
    return true;
}

/* Take one step; false at the end of the response or of the input. */
static bool run_step(struct h1_response *r, const char **at, size_t *size, struct il_bytes *log,
                     struct il_bytes *body, enum il_code *ret_code)
{
    struct il_error err = { 0 };
    struct h1_step step = { 0 };

    if (take_body(r, at, size, body)) {
        return true;
    }
    *ret_code = h1_response_feed(r, *at, *size, &step, &err);
    if (*ret_code != IL_OK) {
        CHECK_EQ(err.code, *ret_code);
        CHECK(err.message[0] != '\0');
        return false;
    }
    CHECK(step.consumed <= *size);
    if (step.event == H1_BODY) {
        CHECK(step.body_size > 0);
        CHECK(step.body >= *at && step.body + step.body_size <= *at + *size);
        CHECK(il_bytes_append(body, step.body, step.body_size) == IL_OK);
    } else if (step.event == H1_HEAD) {
        log_head(log, r);
    } else if (step.event == H1_INFORMATIONAL) {
        char text[96];

        (void)snprintf(text, sizeof(text), "%u '%s'", r->status, r->reason);
        log_text(log, text);
        log_headers(log, &r->headers);
        log_text(log, " | ");
    }
    *at += step.consumed;
    *size -= step.consumed;
    CHECK(step.event != H1_NEED_MORE || *size == 0);
    return step.event != H1_NEED_MORE && step.event != H1_COMPLETE;
}

/* Feed `data` in pieces of `piece` bytes (0: sizes drawn from *seed), then the end of the stream if
 * that is needed; write what came of it into `log`. */
static void run_cut(struct h1_response *r, const char *method, const char *data, size_t size,
                    size_t piece, uint64_t *seed, struct il_bytes *log)
{
    enum il_code code = IL_OK;
    struct il_bytes body;
    size_t used = 0;

    il_bytes_init(&body);
    il_bytes_consume(log, il_bytes_size(log));
    h1_response_begin(r, method);
    while (used < size && code == IL_OK && !r->is_complete) {
        size_t want = piece > 0 ? piece : 1 + random_next(seed) % 24;
        size_t left = want < size - used ? want : size - used, before = left;
        const char *at = guarded_put(&input, data + used, left);

        takes_body = piece == 0 && random_next(seed) % 2 == 0;
        while (run_step(r, &at, &left, log, &body, &code)) {
        }
        used += before - left;
    }
    if (code == IL_OK) {
        struct il_error err;

        code = h1_response_finish_eof(r, &err);
    }
    if (il_bytes_size(&body) > 0) {
        log_text(log, "body '");
        CHECK(il_bytes_append(log, il_bytes_data(&body), il_bytes_size(&body)) == IL_OK);
        log_text(log, "' ");
    }
    if (code != IL_OK) {
        log_text(log, il_code_name(code));
    } else {
        char text[64];

        CHECK(r->is_complete);
        CHECK_EQ(il_bytes_size(&body), r->body_received);
        if (il_headers_count(&r->trailers) > 0) {
            log_text(log, "trailers");
            log_headers(log, &r->trailers);
            log_text(log, " ");
        }
        (void)snprintf(text, sizeof(text), "%s extra %zu", r->is_reusable ? "reusable" : "close",
                       size - used);
        log_text(log, text);
    }
    CHECK(il_bytes_append(log, "", 1) == IL_OK);
    il_bytes_deinit(&body);
}

static void check_transcript(const char *name, const char *how, const struct il_bytes *log,
                             const char *want)
{
    if (strcmp(il_bytes_data(log), want) != 0) {
        check_fail(__FILE__, __LINE__, "%s (%s):\n  got  %s\n  want %s", name, how,
                   il_bytes_data(log), want);
    }
}

struct response_case {
    const char *name, *method, *data, *want;
};

static void run_cases_limited(const struct response_case *cases, size_t count,
                              const struct h1_response_limits *limits)
{
    struct h1_response r;
    struct il_bytes log;
    uint64_t seed = 1;

    input = guarded_new(64 * 1024);
    il_bytes_init(&log);
    h1_response_init(&r, limits);
    for (size_t i = 0; i < count; i++) {
        const struct response_case *c = &cases[i];
        size_t size = strlen(c->data);

        run_cut(&r, c->method, c->data, size, size, &seed, &log);
        check_transcript(c->name, "at once", &log, c->want);
        run_cut(&r, c->method, c->data, size, 1, &seed, &log);
        check_transcript(c->name, "byte by byte", &log, c->want);
        for (int n = 0; n < 100; n++) {
            run_cut(&r, c->method, c->data, size, 0, &seed, &log);
            check_transcript(c->name, "cut at random", &log, c->want);
        }
    }
    h1_response_deinit(&r);
    il_bytes_deinit(&log);
    guarded_free(&input);
}

static void run_cases(const struct response_case *cases, size_t count)
{
    run_cases_limited(cases, count, NULL);
}

/* ---- what is accepted ---- */

TEST(responses_are_read_the_same_however_they_are_cut)
{
    static const struct response_case cases[] = {
        { "sized", "GET", OK "Content-Length: 5\r\nX-A: b\r\n\r\nhello",
          "200/1.1 'OK' sized Content-Length=5 X-A=b | body 'hello' reusable extra 0" },
        { "empty body", "GET", OK "Content-Length: 0\r\n\r\n",
          "200/1.1 'OK' none Content-Length=0 | reusable extra 0" },
        { "extra bytes stay", "GET", OK "Content-Length: 1\r\n\r\naHTTP/1.1 200",
          "200/1.1 'OK' sized Content-Length=1 | body 'a' reusable extra 12" },
        { "extra bytes behind no body stay", "GET", OK "Content-Length: 0\r\n\r\n\r\n",
          "200/1.1 'OK' none Content-Length=0 | reusable extra 2" },
        { "until close", "GET", OK "\r\nabc", "200/1.1 'OK' to-close | body 'abc' close extra 0" },
        { "until close, nothing", "GET", OK "\r\n", "200/1.1 'OK' to-close | close extra 0" },
        { "identity is until close", "GET", OK "Transfer-Encoding: Identity\r\n\r\nab",
          "200/1.1 'OK' to-close Transfer-Encoding=Identity | body 'ab' close extra 0" },
        { "HEAD has no body", "HEAD", OK "Content-Length: 5\r\n\r\nhello",
          "200/1.1 'OK' none Content-Length=5 | reusable extra 5" },
        { "HEAD without any framing is reusable", "HEAD", OK "\r\n",
          "200/1.1 'OK' none | reusable extra 0" },
        { "HEAD of a chunked resource", "HEAD", CHK,
          "200/1.1 'OK' none Transfer-Encoding=chunked | reusable extra 0" },
        { "204 has no body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc",
          "204/1.1 'No Content' none Content-Length=3 | reusable extra 3" },
        { "304 has no body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\n\r\n",
          "304/1.1 'Not Modified' none Content-Length=3 | reusable extra 0" },
        { "close", "GET", OK "Connection: close\r\nContent-Length: 0\r\n\r\n",
          "200/1.1 'OK' none Connection=close Content-Length=0 | close extra 0" },
        { "close among others", "GET", OK "Connection: x, Close\r\nContent-Length: 0\r\n\r\n",
          "200/1.1 'OK' none Connection=x, Close Content-Length=0 | close extra 0" },
        { "close and keep-alive", "GET",
          OK "Connection: close\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
          "200/1.1 'OK' none Connection=close Connection=keep-alive Content-Length=0 | close extra "
          "0" },
        { "1.0 closes", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
          "200/1.0 'OK' sized Content-Length=1 | body 'a' close extra 0" },
        { "1.0 keeps when it says so", "GET",
          "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 1\r\n\r\na",
          "200/1.0 'OK' sized Connection=Keep-Alive Content-Length=1 | body 'a' reusable extra 0" },
        { "1.0 ignores Proxy-Connection", "GET",
          "HTTP/1.0 200 OK\r\nProxy-Connection: keep-alive\r\nContent-Length: 0\r\n\r\n",
          "200/1.0 'OK' none Proxy-Connection=keep-alive Content-Length=0 | close extra 0" },
        { "1.0 chunked is never reused", "GET",
          "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
          "0\r\n\r\n",
          "200/1.0 'OK' chunked Connection=keep-alive Transfer-Encoding=chunked | close extra 0" },
        { "no reason", "GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n",
          "200/1.1 '' none Content-Length=0 | reusable extra 0" },
        { "no reason and no space", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
          "200/1.1 '' none Content-Length=0 | reusable extra 0" },
        { "long reason is cut off", "GET",
          "HTTP/1.1 404 0123456789012345678901234567890123456789012345678901234567890123456789\r\n"
          "Content-Length: 0\r\n\r\n",
          "404/1.1 '012345678901234567890123456789012345678901234567890123456789012' none "
          "Content-Length=0 | reusable extra 0" },
        { "values are trimmed, not changed", "GET",
          OK "A:b\r\nB: \t c \t d \t \r\nC:\r\nD:  \r\nE: \x80\xff\r\nContent-Length: 0\r\n\r\n",
          "200/1.1 'OK' none A=b B=c \t d C= D= E=\x80\xff Content-Length=0 | reusable extra 0" },
        { "same Content-Length twice", "GET",
          OK "Content-Length: 2\r\nX: y\r\ncontent-length: 02\r\n\r\nab",
          "200/1.1 'OK' sized Content-Length=2 X=y content-length=02 | body 'ab' reusable extra "
          "0" },
        { "chunked", "GET", CHK "3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'abc0123456789' reusable extra "
          "0" },
        { "chunked, nothing", "GET", CHK "0\r\n\r\n!",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | reusable extra 1" },
        { "chunk size with zeros", "GET", CHK "0002\r\nab\r\n000\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'ab' reusable extra 0" },
        { "chunk extensions", "GET", CHK "1;a=b;c=\"d\\\"e\"\r\nx\r\n0;z\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'x' reusable extra 0" },
        { "trailers", "GET", CHK "1\r\nx\r\n0\r\nA: b\r\nContent-Length: 9\r\n\r\nrest",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'x' trailers A=b Content-Length=9 "
          "reusable extra 4" },
        { "CHUNKED in capitals", "GET", OK "transfer-encoding: CHUNKED\r\n\r\n0\r\n\r\n",
          "200/1.1 'OK' chunked transfer-encoding=CHUNKED | reusable extra 0" },
        { "informational", "POST",
          "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" OK
          "Content-Length: 0\r\n\r\n",
          "100 'Continue' | 103 'Early Hints' Link=x | 200/1.1 'OK' none Content-Length=0 | "
          "reusable extra 0" },
        { "CONNECT is a tunnel", "CONNECT", OK "Content-Length: 7\r\n\r\n\x16\x03\x01",
          "200/1.1 'OK' tunnel Content-Length=7 | close extra 3" },
        { "CONNECT refused has a body", "CONNECT", "HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nab",
          "407/1.1 'No' sized Content-Length=2 | body 'ab' reusable extra 0" },
    };

    run_cases(cases, il_array_count(cases));
}

TEST(hostile_responses_are_refused_however_they_are_cut)
{
    static const struct response_case cases[] = {
        { "not HTTP", "GET", "SSH-2.0-OpenSSH_9.2\r\n", "IL_EPROTOCOL" },
        { "TLS", "GET", "\x15\x03\x01", "IL_EPROTOCOL" },
        { "empty line first", "GET", "\r\n" OK "\r\n", "IL_EPROTOCOL" },
        { "HTTP/0.9", "GET", "HTTP/0.9 200 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "HTTP/2.0", "GET", "HTTP/2.0 200 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "HTTP/1.2", "GET", "HTTP/1.2 200 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "http in small letters", "GET", "http/1.1 200 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "two spaces", "GET", "HTTP/1.1  200 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "status of two digits", "GET", "HTTP/1.1 99 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "status of four digits", "GET", "HTTP/1.1 2000 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "status below 100", "GET", "HTTP/1.1 099 OK\r\n\r\n", "IL_EPROTOCOL" },
        { "status with a letter", "GET", "HTTP/1.1 20x OK\r\n\r\n", "IL_EPROTOCOL" },
        { "control character in the reason", "GET", "HTTP/1.1 200 O\x01K\r\n\r\n", "IL_EPROTOCOL" },
        { "LF ends the status line", "GET", "HTTP/1.1 200 OK\n\r\n", "IL_EPROTOCOL" },
        { "LF right behind the status", "GET", "HTTP/1.1 200\n\r\n", "IL_EPROTOCOL" },
        { "LF ends a header", "GET", OK "A: b\nC: d\r\n\r\n", "IL_EPROTOCOL" },
        { "LF ends an empty header", "GET", OK "A:\nC: d\r\n\r\n", "IL_EPROTOCOL" },
        { "LF ends the section", "GET", OK "A: b\r\n\n", "IL_EPROTOCOL" },
        { "CR in a value", "GET", OK "A: b\rC: d\r\n\r\n", "IL_EPROTOCOL" },
        { "CR ends an empty header", "GET", OK "A:\rC: d\r\n\r\n", "IL_EPROTOCOL" },
        { "CR CR LF", "GET", OK "A: b\r\r\n\r\n", "IL_EPROTOCOL" },
        { "CR in the reason", "GET", "HTTP/1.1 200 O\rK\r\n\r\n", "IL_EPROTOCOL" },
        { "folded header", "GET", OK "A: b\r\n c\r\n\r\n", "IL_EPROTOCOL" },
        { "folded Content-Length", "GET", OK "Content-Length: 1\r\n 2\r\n\r\n", "IL_EPROTOCOL" },
        { "space before the first header", "GET", OK " A: b\r\n\r\n", "IL_EPROTOCOL" },
        { "space before the colon", "GET", OK "A : b\r\n\r\n", "IL_EPROTOCOL" },
        { "header without a colon", "GET", OK "A\r\n\r\n", "IL_EPROTOCOL" },
        { "header without a name", "GET", OK ": b\r\n\r\n", "IL_EPROTOCOL" },
        { "non-token in a name", "GET", OK "A\x80: b\r\n\r\n", "IL_EPROTOCOL" },
        { "control character in a value", "GET", OK "A: b\x01\r\n\r\n", "IL_EPROTOCOL" },
        { "delete in a value", "GET", OK "A: b\x7f\r\n\r\n", "IL_EPROTOCOL" },
        { "differing Content-Length", "GET", OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
          "IL_EPROTOCOL" },
        { "list of Content-Length", "GET", OK "Content-Length: 1, 2\r\n\r\n", "IL_EPROTOCOL" },
        { "plus", "GET", OK "Content-Length: +3\r\n\r\nabc", "IL_EPROTOCOL" },
        { "minus", "GET", OK "Content-Length: -1\r\n\r\nabc", "IL_EPROTOCOL" },
        { "hex", "GET", OK "Content-Length: 0x3\r\n\r\nabc", "IL_EPROTOCOL" },
        { "two numbers", "GET", OK "Content-Length: 1 2\r\n\r\nabc", "IL_EPROTOCOL" },
        { "empty Content-Length", "GET", OK "Content-Length:\r\n\r\n", "IL_EPROTOCOL" },
        { "Content-Length beyond 64 bits", "GET", OK "Content-Length: 18446744073709551616\r\n\r\n",
          "IL_EPROTOCOL" },
        { "Content-Length beyond 63 bits", "GET", OK "Content-Length: 9223372036854775808\r\n\r\n",
          "IL_EPROTOCOL" },
        { "CL and TE", "GET", OK "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
          "IL_EPROTOCOL" },
        { "TE and CL", "GET", OK "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
          "IL_EPROTOCOL" },
        { "CL and empty TE", "GET", OK "Transfer-Encoding:\r\nContent-Length: 1\r\n\r\na",
          "IL_EPROTOCOL" },
        { "empty TE", "GET", OK "Transfer-Encoding: \r\n\r\n", "IL_EPROTOCOL" },
        { "gzip, chunked", "GET", OK "Transfer-Encoding: gzip, chunked\r\n\r\n", "IL_EPROTOCOL" },
        { "chunked twice", "GET", OK "Transfer-Encoding: chunked, chunked\r\n\r\n",
          "IL_EPROTOCOL" },
        { "chunked in two headers", "GET",
          OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "IL_EPROTOCOL" },
        { "chunked, then identity", "GET",
          OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", "IL_EPROTOCOL" },
        { "xchunked", "GET", OK "Transfer-Encoding: xchunked\r\n\r\n", "IL_EPROTOCOL" },
        { "chunked with a vertical tab", "GET", OK "Transfer-Encoding: \vchunked\r\n\r\n",
          "IL_EPROTOCOL" },
        { "101 not asked for", "GET",
          "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
          "IL_EPROTOCOL" },
#define BAD_CHUNK(name, data)                                                                      \
    { name, "GET", CHK data, "200/1.1 'OK' chunked Transfer-Encoding=chunked | IL_EPROTOCOL" }
#define BAD_CHUNK_AFTER(name, data, body)                                                          \
    {                                                                                              \
        name, "GET", CHK data,                                                                     \
            "200/1.1 'OK' chunked Transfer-Encoding=chunked | body '" body "' IL_EPROTOCOL"        \
    }
        BAD_CHUNK("LF behind a chunk size", "1\na\r\n0\r\n\r\n"),
        BAD_CHUNK("CR and no LF behind a chunk size", "1\ra\r\n0\r\n\r\n"),
        BAD_CHUNK("space behind a chunk size", "1 \r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("space before a chunk size", " 1\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("0x", "0x1\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("plus", "+1\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("minus", "-1\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("no size", "\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("no size but an extension", ";a\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("17 digits", "00000000000000001\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("beyond 64 bits", "10000000000000000\r\na"),
        BAD_CHUNK("beyond 63 bits", "8000000000000000\r\na"),
        BAD_CHUNK("LF ends an extension", "1;a\na\r\n0\r\n\r\n"),
        BAD_CHUNK("CR in an extension", "1;a\rb\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK("control character in an extension", "1;a\x01\r\na\r\n0\r\n\r\n"),
        BAD_CHUNK_AFTER("chunk longer than its size", "1\r\nab\r\n0\r\n\r\n", "a"),
        BAD_CHUNK_AFTER("LF behind a chunk", "1\r\na\n0\r\n\r\n", "a"),
        BAD_CHUNK_AFTER("CR and no LF behind a chunk", "1\r\na\r0\r\n\r\n", "a"),
        BAD_CHUNK("LF ends the trailers", "0\r\n\n"),
        BAD_CHUNK("LF ends a trailer", "0\r\nA: b\n\r\n"),
        BAD_CHUNK("CR and no LF ends the trailers", "0\r\n\rx"),
        BAD_CHUNK("folded trailer", "0\r\nA: b\r\n c\r\n\r\n"),
        BAD_CHUNK("trailer begins with a space", "0\r\n A: b\r\n\r\n"),
        BAD_CHUNK("trailer without a colon", "0\r\nAb\r\n\r\n"),
        BAD_CHUNK("trailer without a name", "0\r\n: b\r\n\r\n"),
    };

    run_cases(cases, il_array_count(cases));
}

TEST(early_end_of_stream_is_EPEERCLOSED)
{
    static const struct response_case cases[] = {
        { "nothing", "GET", "", "IL_EPEERCLOSED" },
        { "in the status line", "GET", "HTTP/1.1 20", "IL_EPEERCLOSED" },
        { "in a header", "GET", OK "Content-Le", "IL_EPEERCLOSED" },
        { "before the empty line", "GET", OK "Content-Length: 0\r\n", "IL_EPEERCLOSED" },
        { "after an informational", "GET", "HTTP/1.1 100 Continue\r\n\r\n",
          "100 'Continue' | IL_EPEERCLOSED" },
        { "in a sized body", "GET", OK "Content-Length: 9\r\n\r\nabc",
          "200/1.1 'OK' sized Content-Length=9 | body 'abc' IL_EPEERCLOSED" },
        { "before a chunk", "GET", CHK,
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | IL_EPEERCLOSED" },
        { "in a chunk", "GET", CHK "5\r\nabc",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'abc' IL_EPEERCLOSED" },
        { "before the last chunk", "GET", CHK "3\r\nabc\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'abc' IL_EPEERCLOSED" },
        { "behind the last chunk", "GET", CHK "0\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | IL_EPEERCLOSED" },
        { "in the trailers", "GET", CHK "0\r\nA: b\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | IL_EPEERCLOSED" },
    };

    run_cases(cases, il_array_count(cases));
}

/* ---- limits ---- */

static const struct h1_response_limits small_limits = {
    .head_size_max = 80,
    .line_size_max = 30,
    .field_count_max = 3,
    .trailer_size_max = 12,
    .chunk_ext_size_max = 4,
    .informational_max = 2,
};

TEST(limits_hold_to_the_byte_however_the_response_is_cut)
{
    static const struct response_case cases[] = {
        /* 17 + 30 + 31 + 2 bytes; the last field's line has 30 without its LF */
        { "head as large as allowed", "HEAD",
          OK "A: 4567890123456789012345678\r\nB: 45678901234567890123456789\r\n\r\n",
          "200/1.1 'OK' none A=4567890123456789012345678 B=45678901234567890123456789 | reusable "
          "extra 0" },
        { "head one byte too large", "HEAD",
          OK "A: 45678901234567890123456789\r\nB: 45678901234567890123456789\r\n\r\n",
          "IL_EHEADERSIZE" },
        { "line one byte too long", "HEAD", OK "A: 456789012345678901234567890\r\n\r\n",
          "IL_EHEADERSIZE" },
        { "status line too long", "HEAD", "HTTP/1.1 200 45678901234567890\r\n\r\n",
          "IL_EHEADERSIZE" },
        { "three fields", "HEAD", OK "A: b\r\nA: b\r\nA: b\r\n\r\n",
          "200/1.1 'OK' none A=b A=b A=b | reusable extra 0" },
        { "four fields", "HEAD", OK "A: b\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", "IL_EHEADERSIZE" },
        { "four fields, one of them a trailer", "GET",
          OK "Transfer-Encoding: chunked\r\nA: b\r\nA: b\r\n\r\n0\r\nA: b\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked A=b A=b | IL_EHEADERSIZE" },
        { "four fields, one of them informational", "HEAD",
          "HTTP/1.1 103 \r\nA: b\r\n\r\n" OK "A: b\r\nA: b\r\nA: b\r\n\r\n",
          "103 '' A=b | IL_EHEADERSIZE" },
        { "informational heads count", "HEAD",
          "HTTP/1.1 103 \r\nA: 456789012345678\r\n\r\n" OK "A: 45678901234567\r\nA: b\r\n\r\n",
          "103 '' A=456789012345678 | IL_EHEADERSIZE" },
        { "two informational", "HEAD", "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\n\r\n" OK "\r\n",
          "100 '' | 103 '' | 200/1.1 'OK' none | reusable extra 0" },
        { "three informational", "HEAD",
          "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\n\r\nHTTP/1.1 103 \r\n\r\n" OK "\r\n",
          "100 '' | 103 '' | IL_EPROTOCOL" },
        { "trailers of 12 bytes", "GET", CHK "0\r\nA: 45678\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | trailers A=45678 reusable extra 0" },
        { "trailers of 13 bytes", "GET", CHK "0\r\nA: 456789\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | IL_EHEADERSIZE" },
        { "four bytes of chunk extensions", "GET", CHK "1;ab\r\na\r\n0;cd\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'a' reusable extra 0" },
        { "five bytes of chunk extensions", "GET", CHK "1;ab\r\na\r\n0;cde\r\n\r\n",
          "200/1.1 'OK' chunked Transfer-Encoding=chunked | body 'a' IL_EPROTOCOL" },
        { "an earlier fault is named before a later limit", "GET",
          OK "A\x01: b\r\nB: 4567890123456789012345678901234567890\r\n\r\n", "IL_EPROTOCOL" },
        { "an earlier limit is named before a later fault", "GET",
          OK "B: 4567890123456789012345678901234567890\r\nA\x01: b\r\n\r\n", "IL_EHEADERSIZE" },
    };

    run_cases_limited(cases, il_array_count(cases), &small_limits);
}

/* The whole of `data` at once. */
static enum il_code feed_all(struct h1_response *r, const char *data, size_t size,
                             struct il_error *err)
{
    enum il_code code;
    struct h1_step step = { 0 };

    do {
        code = h1_response_feed(r, data, size, &step, err);
        data += step.consumed;
        size -= step.consumed;
    } while (code == IL_OK && step.event != H1_COMPLETE && step.event != H1_NEED_MORE);
    return code;
}

static enum il_code feed_repeated(struct h1_response *r, const char *first, const char *again,
                                  size_t count, const char *last, struct il_error *err)
{
    enum il_code code = feed_all(r, first, strlen(first), err);

    for (size_t i = 0; i < count && code == IL_OK; i++) {
        code = feed_all(r, again, strlen(again), err);
    }
    return code == IL_OK ? feed_all(r, last, strlen(last), err) : code;
}

TEST(default_limits_are_reached_and_named)
{
    struct h1_response r;
    struct il_error err;

    h1_response_init(&r, NULL);
    h1_response_begin(&r, "HEAD");
    CHECK_OK(feed_repeated(&r, OK, "A: b\r\n", 5000, "\r\n", &err));
    CHECK_EQ(il_headers_count(&r.headers), 5000);
    h1_response_begin(&r, "HEAD");
    CHECK_EQ(feed_repeated(&r, OK, "A: b\r\n", 5001, "\r\n", &err), IL_EHEADERSIZE);
    CHECK_STR(err.message, "the response's header has too many fields; the limit is 5000");

    h1_response_begin(&r, "HEAD");
    CHECK_OK(feed_repeated(&r, OK "A: ", "0123456789", 10239, "\r\n\r\n", &err));
    h1_response_begin(&r, "HEAD");
    CHECK_EQ(feed_repeated(&r, OK "A: ", "0123456789", 10240, "\r\n\r\n", &err), IL_EHEADERSIZE);
    CHECK_STR(err.message,
              "the response's header has a line that is too long; the limit is 102400 bytes");

    h1_response_begin(&r, "HEAD"); /* 3,000 lines of 102 bytes are 306,000 */
    CHECK_OK(feed_repeated(&r, OK,
                           "A: 0123456789012345678901234567890123456789012345678901234567890123456"
                           "78901234567890123456789012345678\r\n",
                           2950, "\r\n", &err));
    h1_response_begin(&r, "HEAD");
    CHECK_EQ(feed_repeated(&r, OK,
                           "A: 0123456789012345678901234567890123456789012345678901234567890123456"
                           "789012345678901234567890123456789\r\n",
                           3100, "\r\n", &err),
             IL_EHEADERSIZE);
    CHECK_STR(err.message, "the response's header has too many bytes; the limit is 307200 bytes "
                           "(header_size_max)");

    h1_response_begin(&r, "GET");
    CHECK_EQ(feed_repeated(&r, CHK "0\r\n", "A: 0123456789\r\n", 4400, "\r\n", &err),
             IL_EHEADERSIZE);
    CHECK_STR(err.message, "the response's trailer has too many bytes; the limit is 65536 bytes");

    h1_response_begin(&r, "GET");
    CHECK_EQ(feed_repeated(&r, CHK, "1;0123456789\r\na\r\n", 1640, "0\r\n\r\n", &err),
             IL_EPROTOCOL);
    CHECK_STR(err.message,
              "the response's chunk extensions are larger than the limit of 16384 bytes");

    h1_response_begin(&r, "GET");
    CHECK_EQ(feed_repeated(&r, "", "HTTP/1.1 100 \r\n\r\n", 11, OK, &err), IL_EPROTOCOL);
    CHECK_STR(err.message, "more than 10 informational (1xx) responses came before the final one");
    h1_response_deinit(&r);
}

/* ---- messages ---- */

static void check_message(const char *data, const char *want)
{
    struct h1_response r;
    struct il_error err = { 0 };
    enum il_code code;

    h1_response_init(&r, NULL);
    h1_response_begin(&r, "GET");
    code = feed_all(&r, data, strlen(data), &err);
    if (code == IL_OK) {
        code = h1_response_finish_eof(&r, &err);
    }
    CHECK(code != IL_OK);
    CHECK_STR(err.message, want);
    h1_response_deinit(&r);
}

TEST(errors_say_what_was_wrong_and_show_the_bytes)
{
#define HEADER_IS  "the response's header is not valid: "
#define CHUNKS_ARE "the response's chunked body is not valid: "
    check_message("SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n",
                  HEADER_IS "it does not begin with \"HTTP/1.1 \" or \"HTTP/1.0 \" and a status, "
                            "at \"SSH-2.0-OpenSSH_9.2p1 De\"");
    check_message("\x15\x03\x03\x00", HEADER_IS
                  "it does not begin with \"HTTP/1.1 \" or \"HTTP/1.0 \" and a status, at "
                  "\"\\x15\\x03\\x03\"");
    check_message(OK "X-A: b\nC: d\r\n", HEADER_IS "LF without CR in header \"X-A\", at \"\\n\"");
    check_message(OK "X-A: b\rC: d\r\n", HEADER_IS "CR without LF in header \"X-A\", at \"C\"");
    check_message(OK "Bad Name: b\r\n", HEADER_IS "Invalid header token, at \" Name:\"");
    check_message(OK "Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
                  HEADER_IS "two Content-Length headers that differ, at \"\\r\\n\"");
    check_message(OK "Content-Length: 5x\r\n", HEADER_IS
                  "Invalid character in Content-Length in header \"Content-Length\", at \"x\"");
    check_message(CHK "5\nhello",
                  CHUNKS_ARE "a chunk size is not followed by CR LF, at \"\\nhello\"");
    check_message(CHK "xyz\r\n", CHUNKS_ARE "a chunk size is missing, at \"xyz\\r\\n\"");
    check_message(CHK "1\r\nabc", CHUNKS_ARE "a chunk is not followed by CR LF, at \"bc\"");
    check_message(OK "Transfer-Encoding: gzip, chunked\r\n\r\n",
                  "the response has transfer coding \"gzip, chunked\", which was not asked for");
    check_message(OK "Content-Length: 100\r\n\r\n0123456789",
                  "the server closed the connection after 10 of 100 bytes of the response's body");
    check_message("", "the server closed the connection before the first byte of a response");
    check_message(OK "X", "the server closed the connection in the response's header, after 18 "
                          "bytes");
    check_message(CHK "3\r\nabc\r\n",
                  "the server closed the connection in the response's chunked body, after 3 bytes "
                  "of it and before its end");
}

TEST(errors_never_show_what_a_header_held)
{
    static const char *const secrets[] = {
        OK "Set-Cookie: secret\x01secret\r\n\r\n",
        OK "Set-Cookie: secret\nsecret\r\n\r\n",
        OK "Set-Cookie: secret\rsecret\r\n\r\n",
        OK "Set-Cookie: x\r\n secret\r\n\r\n",
        OK "Set-Cookie : secret\r\n\r\n",
        OK "Set Cookie: secret\r\n\r\n",
        OK ": secret\r\n\r\n",
    };

    for (size_t i = 0; i < il_array_count(secrets); i++) {
        struct h1_response r;
        struct il_error err;

        h1_response_init(&r, NULL);
        h1_response_begin(&r, "GET");
        CHECK_EQ(feed_all(&r, secrets[i], strlen(secrets[i]), &err), IL_EPROTOCOL);
        if (strstr(err.message, "secret") != NULL) {
            check_fail(__FILE__, __LINE__, "case %zu shows its secret: %s", i, err.message);
        }
        h1_response_deinit(&r);
    }
}

/* ---- use ---- */

TEST(complete_is_known_with_the_last_body_bytes_and_told_once)
{
    static const char data[] = OK "Content-Length: 3\r\n\r\nabc";
    struct h1_response r;
    struct h1_step step;
    struct il_error err;
    size_t used;

    h1_response_init(&r, NULL);
    h1_response_begin(&r, "GET");
    CHECK(!h1_response_has_begun(&r));
    CHECK_OK(h1_response_feed(&r, data, 0, &step, &err));
    CHECK_EQ(step.event, H1_NEED_MORE);
    CHECK(!h1_response_has_begun(&r));
    CHECK_OK(h1_response_feed(&r, data, 1, &step, &err));
    CHECK(h1_response_has_begun(&r));
    CHECK_OK(h1_response_feed(&r, data + 1, sizeof(data) - 2, &step, &err));
    CHECK_EQ(step.event, H1_HEAD);
    CHECK(!r.is_complete);
    used = 1 + step.consumed;
    CHECK_OK(h1_response_feed(&r, data + used, sizeof(data) - 1 - used, &step, &err));
    CHECK_EQ(step.event, H1_BODY);
    CHECK(step.body == data + used);
    CHECK(r.is_complete && r.is_reusable);
    CHECK_OK(h1_response_feed(&r, NULL, 0, &step, &err));
    CHECK_EQ(step.event, H1_COMPLETE);
    CHECK_OK(h1_response_finish_eof(&r, &err));
    h1_response_deinit(&r);
}

TEST(informational_head_is_gone_when_the_next_one_begins)
{
    static const char data[] = "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" OK "A: b\r\n\r\n";
    struct h1_response r;
    struct h1_step step;
    struct il_error err;

    h1_response_init(&r, NULL);
    h1_response_begin(&r, "HEAD");
    CHECK_OK(h1_response_feed(&r, data, sizeof(data) - 1, &step, &err));
    CHECK_EQ(step.event, H1_INFORMATIONAL);
    CHECK_EQ(r.status, 103);
    CHECK_STR(il_headers_get(&r.headers, "link"), "x");
    CHECK_OK(h1_response_feed(&r, data + step.consumed, 0, &step, &err));
    CHECK_EQ(step.event, H1_NEED_MORE);
    CHECK_EQ(r.status, 0);
    CHECK(il_headers_get(&r.headers, "link") == NULL);
    h1_response_deinit(&r);
}

static const char typical[] = OK "Server: nginx/1.22.1\r\n"
                                 "Date: Mon, 01 Jan 2024 00:00:00 GMT\r\n"
                                 "Content-Type: application/json\r\n"
                                 "Content-Length: 13\r\n"
                                 "Connection: keep-alive\r\n"
                                 "\r\n{\"ok\": true}\n";

TEST(reused_parser_does_not_allocate)
{
    static const char *const data[] = { typical, CHK "3\r\nabc\r\n0\r\nA: b\r\n\r\n" };
    struct h1_response r;
    struct il_memory_use before, after;
    struct il_error err;

    h1_response_init(&r, NULL);
    for (int n = 0; n < 100; n++) {
        if (n == 2) {
            il_memory_use(&before);
        }
        h1_response_begin(&r, "GET");
        CHECK_OK(feed_all(&r, data[n % 2], strlen(data[n % 2]), &err));
        CHECK(r.is_complete);
    }
    il_memory_use(&after);
    CHECK_EQ(after.allocation_count, before.allocation_count);
    h1_response_deinit(&r);
}

TEST(nothing_of_the_response_before_is_left)
{
    static const char trailed[] = CHK "3\r\nabc\r\n0\r\nA: b\r\n\r\n", sized[] = OK "\r\n";
    struct h1_response r;
    struct il_error err;

    h1_response_init(&r, NULL);
    h1_response_begin(&r, "GET");
    CHECK_OK(feed_all(&r, trailed, sizeof(trailed) - 1, &err));
    CHECK_EQ(il_headers_count(&r.trailers), 1);
    h1_response_begin(&r, "HEAD");
    CHECK(!h1_response_has_begun(&r));
    CHECK_EQ(r.status, 0);
    CHECK_STR(r.reason, "");
    CHECK_EQ(il_headers_count(&r.headers), 0);
    CHECK_OK(feed_all(&r, sized, sizeof(sized) - 1, &err));
    CHECK_EQ(il_headers_count(&r.trailers), 0);
    CHECK_EQ(r.body_received, 0);
    CHECK_EQ(r.framing, H1_FRAMING_NONE);
    h1_response_begin(&r, "GET"); /* in the middle of one, after a cancel */
    CHECK_OK(feed_all(&r, trailed, 40, &err));
    h1_response_begin(&r, "HEAD");
    CHECK_OK(feed_all(&r, sized, sizeof(sized) - 1, &err));
    CHECK(r.is_complete && r.is_reusable);
    h1_response_deinit(&r);
}

TEST(huge_header_does_not_stay_in_memory)
{
    struct h1_response r;
    struct il_memory_use before, after;
    struct il_error err;

    h1_response_init(&r, NULL);
    il_memory_use(&before);
    h1_response_begin(&r, "HEAD");
    CHECK_OK(feed_repeated(&r, OK "A: ", "0123456789", 10000, "\r\n\r\n", &err));
    h1_response_begin(&r, "HEAD");
    il_memory_use(&after);
    CHECK_EQ(after.live_bytes, before.live_bytes);
    h1_response_deinit(&r);
}

TEST(each_allocation_can_fail_and_the_parser_is_usable_afterwards)
{
    static const char first[] = OK "Transfer-Encoding: chunked\r\n", again[] = "Header-Name: v\r\n",
                      last[] = "\r\n3\r\nabc\r\n0\r\nTrailer: x\r\n\r\n";
    struct h1_response r;
    struct il_memory_use before, after;
    struct il_error err;
    uint64_t failures = 0;

    il_memory_use(&before);
    h1_response_init(&r, NULL);
    for (;; failures++) {
        enum il_code code;

        h1_response_begin(&r, "GET");
        h1_response_deinit(&r); /* cold again, so that everything is allocated anew */
        il_memory_fail_after(failures);
        code = feed_repeated(&r, first, again, 200, last, &err);
        il_memory_fail_after(UINT64_MAX);
        if (code == IL_OK) {
            break;
        }
        CHECK_EQ(code, IL_ENOMEM);
        CHECK_STR(err.message, "out of memory for the response's headers");
    }
    CHECK(failures >= 6); /* bytes and entries, both grown, and the same for trailers */
    CHECK(r.is_complete);
    CHECK_STR(il_headers_get(&r.trailers, "trailer"), "x");
    h1_response_deinit(&r);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
}
