/* h1_response.c: reading HTTP/1.1 responses: which head counts, where the body ends, may the
 * connection be used again.
 *
 * Owns: the two header lists. Threads: one at a time. Ends: h1_response_deinit.
 *
 *     HEAD <--1xx--+
 *      |-----------+
 *      |--> SIZED ---------------------------------------------+
 *      |--> TO_CLOSE --(end of stream)-------------------------+
 *      |--> CHUNK_SIZE --> CHUNK_EXT --> CHUNK_SIZE_LF         +--> COMPLETE --> DONE
 *      |        ^                          |      |            |
 *      |        |                    CHUNK_DATA   +--> TRAILER-+
 *      |        +-- CHUNK_DATA_LF <-- CHUNK_DATA_CR            |
 *      +-------------------------------------------------------+
 *
 * The framing of the body (RFC 9112 6 and 7) is decided and followed here and not by llhttp: it is
 * a small part, it is where the attacks are, and it must be exact about limits and about the byte
 * at which it stops. The fuzzers compare it with llhttp's. */
#include <inttypes.h>
#include <stdio.h>

#include "base/bytes.h"
#include "http/h1_response.h"

enum response_state {
    STATE_HEAD,
    STATE_SIZED,
    STATE_TO_CLOSE,
    STATE_CHUNK_SIZE,
    STATE_CHUNK_EXT,
    STATE_CHUNK_SIZE_LF,
    STATE_CHUNK_DATA,
    STATE_CHUNK_DATA_CR,
    STATE_CHUNK_DATA_LF,
    STATE_TRAILER,
    STATE_COMPLETE, /* not told yet */
    STATE_DONE,     /* told */
    STATE_FAILED,
};

enum { CHUNK_DIGITS_MAX = 16 };

const struct h1_response_limits h1_response_limits_default = {
    .head_size_max = 300 * 1024,
    .line_size_max = 100 * 1024,
    .field_count_max = 5000,
    .trailer_size_max = 64 * 1024,
    .chunk_ext_size_max = 16 * 1024,
    .informational_max = 10,
};

/* ---- life ---- */

void h1_response_init(struct h1_response *r, const struct h1_response_limits *limits)
{
    *r = (struct h1_response){
        .limits = limits != NULL ? *limits : h1_response_limits_default,
        .state = STATE_DONE,
    };
    headers_init(&r->headers);
    headers_init(&r->trailers);
}

void h1_response_deinit(struct h1_response *r)
{
    headers_deinit(&r->headers);
    headers_deinit(&r->trailers);
}

static void begin_head(struct h1_response *r, enum h1_section section)
{
    struct h1_head_limits limits = {
        .size_max = r->limits.head_size_max,
        .line_size_max = r->limits.line_size_max,
        .field_count_max = r->limits.field_count_max,
    };

    h1_head_begin(&r->head, section, &limits, &r->headers);
    r->state = STATE_HEAD;
}

static void begin_trailer(struct h1_response *r)
{
    struct h1_head_limits limits = {
        .size_max = r->limits.trailer_size_max,
        .line_size_max = r->limits.line_size_max,
        .field_count_max = r->limits.field_count_max,
    };

    h1_head_begin(&r->head, H1_SECTION_TRAILER, &limits, &r->trailers);
    r->state = STATE_TRAILER;
}

void h1_response_set_limits(struct h1_response *r, const struct h1_response_limits *limits)
{
    r->limits = *limits;
}

void h1_response_begin(struct h1_response *r, const char *method)
{
    r->status = 0;
    r->version_minor = 0;
    r->is_complete = false;
    r->is_reusable = false;
    r->framing = H1_FRAMING_NONE;
    r->body_size = 0;
    r->body_received = 0;
    r->reason[0] = '\0';
    r->informational_count = 0;
    r->is_head_request = strcmp(method, "HEAD") == 0;
    r->is_connect = strcmp(method, "CONNECT") == 0;
    r->is_keep_alive = false;
    r->remaining = 0;
    r->chunk_ext_size = 0;
    r->chunk_digits = 0;
    headers_reset(&r->trailers);
    begin_head(r, H1_SECTION_HEAD);
}

bool h1_response_has_begun(const struct h1_response *r)
{
    return r->state != STATE_HEAD || r->head.lines.size > 0;
}

static void set_complete(struct h1_response *r)
{
    r->state = STATE_COMPLETE;
    r->is_complete = true;
    r->is_reusable =
        r->is_keep_alive && r->framing != H1_FRAMING_TO_CLOSE && r->framing != H1_FRAMING_TUNNEL;
}

/* ---- after a head: what kind of response, and how its body ends (RFC 9112 6.3) ---- */

static bool is_tunnel(const struct h1_response *r)
{
    return r->is_connect && r->status >= 200 && r->status < 300;
}

static bool has_no_body(const struct h1_response *r)
{
    return r->is_head_request || r->status == 204 || r->status == 304;
}

static enum il_code frame_by_transfer_encoding(struct h1_response *r, struct il_error *err)
{
    size_t index = 0;
    const char *coding = il_headers_get_next(&r->headers, "transfer-encoding", &index);
    char text[48];

    if (il_headers_get_next(&r->headers, "transfer-encoding", &index) != NULL) {
        return il_fail(err, IL_EPROTOCOL, "the response has two Transfer-Encoding headers");
    }
    if (http_equals_ignoring_case(coding, strlen(coding), "chunked", 7)) {
        r->framing = H1_FRAMING_CHUNKED;
        r->state = STATE_CHUNK_SIZE;
        return IL_OK;
    }
    if (http_equals_ignoring_case(coding, strlen(coding), "identity", 8)) {
        r->framing = H1_FRAMING_TO_CLOSE;
        r->state = STATE_TO_CLOSE;
        return IL_OK;
    }
    /* We never say that we could undo another coding, so a server must not use one; to hand its
     * output on as if it were the body would be worse than to fail. */
    return il_fail(err, IL_EPROTOCOL,
                   "the response has transfer coding \"%s\", which was not asked for",
                   il_escape(text, sizeof(text), coding, strlen(coding)));
}

static enum il_code frame_body(struct h1_response *r, struct il_error *err)
{
    if (is_tunnel(r)) {
        r->framing = H1_FRAMING_TUNNEL;
        set_complete(r);
        return IL_OK;
    }
    if (r->head.has_transfer_encoding && r->head.has_content_length) {
        return il_fail(err, IL_EPROTOCOL,
                       "the response has both Content-Length and Transfer-Encoding: where it ends "
                       "is anyone's guess");
    }
    if (has_no_body(r)) {
        r->framing = H1_FRAMING_NONE;
        set_complete(r);
        return IL_OK;
    }
    if (r->head.has_transfer_encoding) {
        return frame_by_transfer_encoding(r, err);
    }
    if (!r->head.has_content_length) {
        r->framing = H1_FRAMING_TO_CLOSE;
        r->state = STATE_TO_CLOSE;
        return IL_OK;
    }
    r->body_size = r->remaining = r->head.content_length;
    if (r->remaining == 0) {
        r->framing = H1_FRAMING_NONE;
        set_complete(r);
    } else {
        r->framing = H1_FRAMING_SIZED;
        r->state = STATE_SIZED;
    }
    return IL_OK;
}

/* HTTP/1.0 keeps a connection only when it says so, and never after Transfer-Encoding, which it
 * does not know (RFC 9112 6.1, 9.3). llhttp also listens to Proxy-Connection, so in this rare case
 * the header itself is asked. */
static bool head_keeps_alive(const struct h1_response *r)
{
    if (r->head.connection_close) {
        return false;
    }
    if (r->version_minor >= 1) {
        return true;
    }
    return r->head.connection_keep_alive && !r->head.has_transfer_encoding &&
           headers_has_token(&r->headers, "connection", "keep-alive");
}

static enum il_code on_head(struct h1_response *r, struct h1_step *step, struct il_error *err)
{
    r->status = r->head.status;
    r->version_minor = r->head.version_minor;
    memcpy(r->reason, r->head.reason, (size_t)r->head.reason_size + 1);
    if (r->status < 100) {
        return il_fail(err, IL_EPROTOCOL, "the response has status %03u; the least is 100",
                       r->status);
    }
    if (r->status == 101) {
        return il_fail(err, IL_EPROTOCOL,
                       "the response switches protocols (101), which was not asked for");
    }
    if (r->status < 200) {
        if (++r->informational_count > r->limits.informational_max) {
            return il_fail(err, IL_EPROTOCOL,
                           "more than %u informational (1xx) responses came before the final one",
                           r->limits.informational_max);
        }
        step->event = H1_INFORMATIONAL;
        return IL_OK; /* the head is begun anew at the next call, until then it can be looked at */
    }
    r->is_keep_alive = head_keeps_alive(r);
    step->event = H1_HEAD;
    return frame_body(r, err);
}

static enum il_code feed_head(struct h1_response *r, const char *data, size_t size,
                              struct h1_step *step, struct il_error *err)
{
    enum il_code code;

    if (r->head.is_complete) { /* of an informational response */
        begin_head(r, H1_SECTION_NEXT_HEAD);
        r->status = 0;
        r->reason[0] = '\0';
    }
    if (size == 0) {
        return IL_OK;
    }
    code = h1_head_feed(&r->head, data, size, &step->consumed, err);
    if (code != IL_OK || !r->head.is_complete) {
        return code;
    }
    return on_head(r, step, err);
}

/* ---- bodies ---- */

static void give_body(struct h1_response *r, const char *data, size_t size, struct h1_step *step)
{
    step->event = H1_BODY;
    step->body = data;
    step->body_size = size;
    step->consumed += size;
    r->body_received += size;
}

static void feed_sized(struct h1_response *r, const char *data, size_t size, struct h1_step *step)
{
    size_t given = (size_t)il_min_u64(size, r->remaining);

    if (given > 0) {
        give_body(r, data, given, step);
        r->remaining -= given;
        if (r->remaining == 0) {
            set_complete(r);
        }
    }
}

uint64_t h1_response_body_left(const struct h1_response *r)
{
    switch ((enum response_state)r->state) {
    case STATE_SIZED:
    case STATE_CHUNK_DATA:
        return r->remaining;
    case STATE_TO_CLOSE:
        return UINT64_MAX;
    default:
        return 0;
    }
}

void h1_response_took(struct h1_response *r, uint64_t size)
{
    il_assert(size <= h1_response_body_left(r));
    r->body_received += size;
    if (r->state == STATE_TO_CLOSE) {
        return;
    }
    r->remaining -= size;
    if (r->remaining > 0) {
        return;
    }
    if (r->state == STATE_SIZED) {
        set_complete(r);
    } else {
        r->state = STATE_CHUNK_DATA_CR;
    }
}

/* ---- chunked bodies (RFC 9112 7.1) ---- */

static enum il_code fail_chunk(const char *what, const char *at, size_t left, struct il_error *err)
{
    char text[80];

    return il_fail(err, IL_EPROTOCOL, "the response's chunked body is not valid: %s, at \"%s\"",
                   what, il_escape(text, sizeof(text), at, left < 16 ? left : 16));
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* One byte of a chunk's size, up to what ends it. */
static enum il_code on_chunk_size(struct h1_response *r, const char *at, size_t left,
                                  struct il_error *err)
{
    int digit = hex_digit(*at);

    if (digit >= 0) {
        if (r->chunk_digits == CHUNK_DIGITS_MAX || r->remaining > (uint64_t)INT64_MAX >> 4) {
            return fail_chunk("a chunk size is too large", at, left, err);
        }
        r->chunk_digits++;
        r->remaining = r->remaining << 4 | (uint64_t)digit;
        return IL_OK;
    }
    if (r->chunk_digits == 0) {
        return fail_chunk("a chunk size is missing", at, left, err);
    }
    if (*at == '\r') {
        r->state = STATE_CHUNK_SIZE_LF;
    } else if (*at == ';') {
        r->state = STATE_CHUNK_EXT;
    } else {
        return fail_chunk("a chunk size is not followed by CR LF", at, left, err);
    }
    return IL_OK;
}

/* One byte of a chunk extension. Nobody knows any; they are only measured. */
static enum il_code on_chunk_ext(struct h1_response *r, const char *at, size_t left,
                                 struct il_error *err)
{
    if (*at == '\r') {
        r->state = STATE_CHUNK_SIZE_LF;
        return IL_OK;
    }
    if (!http_is_field_value(at, 1)) {
        return fail_chunk("a control character in a chunk extension", at, left, err);
    }
    if (r->chunk_ext_size == r->limits.chunk_ext_size_max) {
        return il_fail(err, IL_EPROTOCOL,
                       "the response's chunk extensions are larger than the limit of %u bytes",
                       r->limits.chunk_ext_size_max);
    }
    r->chunk_ext_size++;
    return IL_OK;
}

static enum il_code on_chunk_line_end(struct h1_response *r, const char *at, size_t left,
                                      struct il_error *err)
{
    if (*at != '\n') {
        return fail_chunk("CR without LF after a chunk size", at, left, err);
    }
    r->chunk_digits = 0;
    if (r->remaining > 0) {
        r->state = STATE_CHUNK_DATA;
    } else {
        begin_trailer(r);
    }
    return IL_OK;
}

static enum il_code on_chunk_data_end(struct h1_response *r, const char *at, size_t left,
                                      struct il_error *err)
{
    if (*at != (r->state == STATE_CHUNK_DATA_CR ? '\r' : '\n')) {
        return fail_chunk("a chunk is not followed by CR LF", at, left, err);
    }
    r->state = r->state == STATE_CHUNK_DATA_CR ? STATE_CHUNK_DATA_LF : STATE_CHUNK_SIZE;
    return IL_OK;
}

static enum il_code feed_trailer(struct h1_response *r, const char *data, size_t size,
                                 struct h1_step *step, struct il_error *err)
{
    size_t consumed;
    enum il_code code = h1_head_feed(&r->head, data, size, &consumed, err);

    if (code == IL_OK) {
        step->consumed += consumed;
        if (r->head.is_complete) {
            set_complete(r);
        }
    }
    return code;
}

/* Go on until some of the body can be given out, the response is complete, or the input ends. */
static enum il_code feed_chunked(struct h1_response *r, const char *data, size_t size,
                                 struct h1_step *step, struct il_error *err)
{
    while (step->consumed < size) {
        const char *at = data + step->consumed;
        size_t left = size - step->consumed, given;
        enum il_code code = IL_OK;

        switch ((enum response_state)r->state) {
        case STATE_CHUNK_SIZE:
            code = on_chunk_size(r, at, left, err);
            break;
        case STATE_CHUNK_EXT:
            code = on_chunk_ext(r, at, left, err);
            break;
        case STATE_CHUNK_SIZE_LF:
            code = on_chunk_line_end(r, at, left, err);
            break;
        case STATE_CHUNK_DATA:
            given = (size_t)il_min_u64(left, r->remaining);
            give_body(r, at, given, step);
            r->remaining -= given;
            if (r->remaining == 0) {
                r->state = STATE_CHUNK_DATA_CR;
            }
            return IL_OK;
        case STATE_CHUNK_DATA_CR:
        case STATE_CHUNK_DATA_LF:
            code = on_chunk_data_end(r, at, left, err);
            break;
        case STATE_TRAILER:
            return feed_trailer(r, at, left, step, err);
        default:
            il_assert(!"a state of a chunked body");
        }
        if (code != IL_OK) {
            return code;
        }
        step->consumed++;
    }
    return IL_OK;
}

/* ---- feeding ---- */

enum il_code h1_response_feed(struct h1_response *r, const char *data, size_t size,
                              struct h1_step *ret_step, struct il_error *err)
{
    struct h1_step step = { .event = H1_NEED_MORE };
    enum il_code code = IL_OK;

    switch ((enum response_state)r->state) {
    case STATE_HEAD:
        code = feed_head(r, data, size, &step, err);
        break;
    case STATE_SIZED:
        feed_sized(r, data, size, &step);
        break;
    case STATE_TO_CLOSE:
        if (size > 0) {
            give_body(r, data, size, &step);
        }
        break;
    case STATE_COMPLETE:
        break;
    case STATE_DONE:
    case STATE_FAILED:
        il_assert(!"feed after the end");
        break;
    default:
        code = feed_chunked(r, data, size, &step, err);
        break;
    }
    if (code != IL_OK) {
        r->state = STATE_FAILED;
        return code;
    }
    if (r->state == STATE_COMPLETE && step.event == H1_NEED_MORE) {
        step.event = H1_COMPLETE;
        r->state = STATE_DONE;
    }
    *ret_step = step;
    return IL_OK;
}

enum il_code h1_response_finish_eof(struct h1_response *r, struct il_error *err)
{
    switch ((enum response_state)r->state) {
    case STATE_COMPLETE:
    case STATE_DONE:
        return IL_OK;
    case STATE_TO_CLOSE:
        set_complete(r);
        return IL_OK;
    case STATE_HEAD:
        if (!h1_response_has_begun(r)) {
            return il_fail(err, IL_EPEERCLOSED,
                           "the server closed the connection before the first byte of a response");
        }
        return il_fail(err, IL_EPEERCLOSED,
                       "the server closed the connection in the response's header, after %u byte%s",
                       r->head.lines.size, il_plural(r->head.lines.size));
    case STATE_SIZED:
        if (IL_MUTANT(SHORT_BODY)) {
            set_complete(r);
            return IL_OK;
        }
        return il_fail(err, IL_EPEERCLOSED,
                       "the server closed the connection after %" PRIu64 " of %" PRIu64
                       " byte%s of the response's body",
                       r->body_received, r->body_size, il_plural(r->body_size));
    case STATE_FAILED:
        il_assert(!"eof after a failure");
        return IL_EPROTOCOL;
    default:
        return il_fail(err, IL_EPEERCLOSED,
                       "the server closed the connection in the response's chunked body, after "
                       "%" PRIu64 " byte%s of it and before its end",
                       r->body_received, il_plural(r->body_received));
    }
}
