/* h1_response.c: fuzz target for the response parser.
 *
 * The first byte of the input says what was asked (see `asked`), the second seeds the cutting, the
 * rest is what a server sends. Two things must hold: the result does not depend on how the input is
 * cut; and what we take for a complete message, llhttp alone takes for the same one, although the
 * framing of bodies is ours. */
#include <llhttp.h>
#include <string.h>

#include "base/bytes.h"
#include "http/h1_response.h"
#include "tests/fuzz/fuzz.h"
#include "tests/guarded.h"

enum { INPUT_SIZE_MAX = 512 * 1024 };

static struct guarded input;

static const struct h1_response_limits small_limits = {
    .head_size_max = 200,
    .line_size_max = 60,
    .field_count_max = 5,
    .trailer_size_max = 40,
    .chunk_ext_size_max = 8,
    .informational_max = 2,
};

struct asked {
    const char *method;
    const struct h1_response_limits *limits;
};

static struct asked asked_by(uint8_t byte)
{
    switch (byte) {
    case 'H':
        return (struct asked){ .method = "HEAD" };
    case 'C':
        return (struct asked){ .method = "CONNECT" };
    case 'S':
        return (struct asked){ .method = "GET", .limits = &small_limits };
    default:
        return (struct asked){ .method = "GET" };
    }
}

/* ---- one run ---- */

struct outcome {
    enum il_code code;
    size_t used;         /* of the input, up to the end of the response */
    struct il_bytes log; /* heads and trailers */
    struct il_bytes body;
};

static void append(struct il_bytes *bytes, const void *data, size_t size)
{
    FUZZ_CHECK(il_bytes_append(bytes, data, size) == IL_OK);
}

static void log_headers(struct outcome *out, const struct il_headers *headers)
{
    const char *name, *value;

    for (size_t i = 0; il_headers_at(headers, i, &name, &value) == IL_OK; i++) {
        FUZZ_CHECK(http_is_token(name, strlen(name)));
        FUZZ_CHECK(http_is_field_value(value, strlen(value)));
        append(&out->log, name, strlen(name) + 1);
        append(&out->log, value, strlen(value) + 1);
    }
}

static void log_head(struct outcome *out, const struct h1_response *r)
{
    FUZZ_CHECK(r->status >= 100 && r->status <= 999);
    FUZZ_CHECK(http_is_field_value(r->reason, strlen(r->reason)));
    append(&out->log, &r->status, sizeof(r->status));
    append(&out->log, &r->version_minor, sizeof(r->version_minor));
    append(&out->log, &r->framing, sizeof(r->framing));
    append(&out->log, r->reason, strlen(r->reason) + 1);
    log_headers(out, &r->headers);
}

/* Feed one piece, event by event; false when the response has ended, well or not. */
static bool feed_piece(struct h1_response *r, const char *at, size_t size, struct outcome *out)
{
    for (;;) {
        struct h1_step step;
        struct il_error err;

        out->code = h1_response_feed(r, at, size, &step, &err);
        if (out->code != IL_OK) {
            FUZZ_CHECK(err.code == out->code && err.message[0] != '\0');
            for (const char *c = err.message; *c != '\0'; c++) {
                FUZZ_CHECK(*c >= ' ' && *c < 0x7f);
            }
            return false;
        }
        FUZZ_CHECK(step.consumed <= size);
        if (step.event == H1_HEAD || step.event == H1_INFORMATIONAL) {
            log_head(out, r);
        } else if (step.event == H1_BODY) {
            FUZZ_CHECK(step.body >= at && step.body + step.body_size <= at + size);
            FUZZ_CHECK(step.body_size > 0);
            append(&out->body, step.body, step.body_size);
        }
        at += step.consumed;
        size -= step.consumed;
        out->used += step.consumed;
        if (step.event == H1_COMPLETE) {
            return false;
        }
        if (step.event == H1_NEED_MORE) {
            FUZZ_CHECK(size == 0);
            return true;
        }
    }
}

static void run(struct h1_response *r, const struct asked *asked, const uint8_t *data, size_t size,
                unsigned piece_max, uint64_t seed, struct outcome *out)
{
    bool goes_on = true;

    h1_response_begin(r, asked->method);
    for (size_t fed = 0; fed < size && goes_on;) {
        size_t piece = size - fed;

        if (piece_max > 0) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            piece = il_min_u64(piece, 1 + (seed >> 33) % piece_max);
        }
        goes_on = feed_piece(r, guarded_put(&input, data + fed, piece), piece, out);
        fed += piece;
    }
    if (out->code == IL_OK) {
        struct il_error err;

        out->code = h1_response_finish_eof(r, &err);
        FUZZ_CHECK(out->code == IL_OK || out->code == IL_EPEERCLOSED);
    }
    if (out->code == IL_OK) {
        FUZZ_CHECK(r->is_complete);
        FUZZ_CHECK(r->body_received == il_bytes_size(&out->body));
        FUZZ_CHECK(r->framing != H1_FRAMING_SIZED || r->body_received == r->body_size);
        append(&out->log, &r->is_reusable, sizeof(r->is_reusable));
        log_headers(out, &r->trailers);
    }
}

static void outcome_deinit(struct outcome *out)
{
    il_bytes_deinit(&out->log);
    il_bytes_deinit(&out->body);
}

static bool bytes_are_equal(const struct il_bytes *a, const struct il_bytes *b)
{
    return il_bytes_size(a) == il_bytes_size(b) &&
           (il_bytes_size(a) == 0 ||
            memcmp(il_bytes_data(a), il_bytes_data(b), il_bytes_size(a)) == 0);
}

static void check_cut(struct h1_response *r, const struct asked *asked, const uint8_t *data,
                      size_t size, unsigned piece_max, uint64_t seed, const struct outcome *whole)
{
    struct outcome cut = { 0 };

    run(r, asked, data, size, piece_max, seed, &cut);
    FUZZ_CHECK(cut.code == whole->code);
    FUZZ_CHECK(bytes_are_equal(&cut.log, &whole->log));
    FUZZ_CHECK(bytes_are_equal(&cut.body, &whole->body));
    if (cut.code == IL_OK) {
        FUZZ_CHECK(cut.used == whole->used);
    }
    outcome_deinit(&cut);
}

/* ---- llhttp's opinion ---- */

struct opinion {
    struct il_bytes body;
    unsigned status;
    bool is_complete;
};

static int opinion_on_body(llhttp_t *llhttp, const char *at, size_t size)
{
    struct opinion *opinion = llhttp->data;

    append(&opinion->body, at, size);
    return 0;
}

static int opinion_on_message_complete(llhttp_t *llhttp)
{
    struct opinion *opinion = llhttp->data;

    if (llhttp->status_code / 100 == 1) {
        return 0;
    }
    opinion->status = llhttp->status_code;
    opinion->is_complete = true;
    return HPE_PAUSED;
}

/* Is what llhttp objects to one of the few things that it is stricter about? A Content-Length said
 * twice, some chunk extensions. */
static bool is_stricter(llhttp_errno_t code, const struct h1_response *r, const uint8_t *data,
                        const struct outcome *out)
{
    return code == HPE_UNEXPECTED_CONTENT_LENGTH ||
           (code != HPE_OK && code != HPE_PAUSED && r->framing == H1_FRAMING_CHUNKED &&
            memchr(data, ';', out->used) != NULL);
}

/* llhttp is asked where the two can be compared: it does not know what was asked for, and believes
 * what a 204 or an informational response says about its body, although it has none. */
static void check_llhttp_agrees(const struct h1_response *r, const uint8_t *data, size_t size,
                                const struct outcome *out)
{
    const llhttp_settings_t settings = { .on_body = opinion_on_body,
                                         .on_message_complete = opinion_on_message_complete };
    struct opinion opinion = { 0 };
    llhttp_errno_t code;
    llhttp_t llhttp;

    if (r->framing == H1_FRAMING_TUNNEL || r->is_head_request || r->status == 204 ||
        r->status == 304 || r->informational_count > 0) {
        return;
    }
    llhttp_init(&llhttp, HTTP_RESPONSE, &settings);
    llhttp.data = &opinion;
    code = llhttp_execute(&llhttp, (const char *)data, size);
    if (code == HPE_OK) {
        (void)llhttp_finish(&llhttp); /* completes what lasts until the end */
    }
    if (is_stricter(code, r, data, out)) {
        il_bytes_deinit(&opinion.body);
        return;
    }
    FUZZ_CHECK(opinion.is_complete);
    FUZZ_CHECK(opinion.status == r->status);
    FUZZ_CHECK(bytes_are_equal(&opinion.body, &out->body));
    if (code == HPE_PAUSED) {
        FUZZ_CHECK(llhttp_get_error_pos(&llhttp) == (const char *)data + out->used);
    }
    il_bytes_deinit(&opinion.body);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct outcome whole = { 0 };
    struct h1_response r;
    struct asked asked;
    uint64_t seed;

    if (size < 2 || size > INPUT_SIZE_MAX) {
        return 0;
    }
    if (input.memory == NULL) {
        input = guarded_new(INPUT_SIZE_MAX);
    }
    asked = asked_by(data[0]);
    seed = data[1];
    data += 2;
    size -= 2;
    h1_response_init(&r, asked.limits);
    run(&r, &asked, data, size, 0, 0, &whole);
    if (whole.code == IL_OK) {
        check_llhttp_agrees(&r, data, size, &whole);
    }
    check_cut(&r, &asked, data, size, 1, seed, &whole);
    check_cut(&r, &asked, data, size, 40, seed, &whole);
    h1_response_deinit(&r);
    outcome_deinit(&whole);
    return 0;
}
