/* server_behaviour.c: what the lab server can do: one function for each behaviour, and the one
 * table that requests are routed by and the help is made from.
 *
 * A behaviour reads its exchange and writes a script; it waits for nothing and sends nothing.
 * Owns: nothing. Threads: the server's; the table is constant, for any thread. */
#include <stdio.h>

#include "lab/server_inside.h"

/* ---- plain answers ---- */

static void on_hello(struct exchange *x)
{
    answer_text(x, 200, "hello\n");
}

static void on_unknown(struct exchange *x)
{
    answer_text(x, 404, "no such path; /help lists those there are\n");
}

static void on_help(struct exchange *x)
{
    const char *help = x->conn->server->help;

    answer_begin(x, 200);
    answer_end_length(x, strlen(help));
    answer_body(x, help, strlen(help));
}

static void on_id(struct exchange *x)
{
    answer_begin(x, 200);
    answer_put(x, "X-Token: ");
    answer_put_size(x, x->argument, x->argument_size);
    answer_put(x, "\r\n");
    answer_end_length(x, x->argument_size);
    answer_body(x, x->argument, x->argument_size);
}

static void on_status(struct exchange *x)
{
    uint64_t status = exchange_argument_number(x, 100, 999);

    answer_begin(x, (unsigned)status);
    if (status < 200 || status == 204 || status == 304) {
        answer_end(x);
        return;
    }
    answer_end_length(x, 7);
    answer_body(x, "status\n", 7);
}

static void on_redirect(struct exchange *x)
{
    bool is_loop = x->argument_size == 4 && memcmp(x->argument, "loop", 4) == 0;
    uint64_t left = is_loop ? 1 : exchange_argument_number(x, 0, 1000000);
    uint64_t status = exchange_number(x, "status", 302, 399);
    size_t to_size;
    const char *to = exchange_query(x, "to", &to_size);

    if (left == 0) {
        answer_text(x, 200, "arrived\n");
        return;
    }
    answer_begin(x, (unsigned)il_max_u64(status, 300));
    answer_put(x, "Location: ");
    if (to != NULL) {
        answer_put_decoded(x, to, to_size);
    } else if (is_loop) {
        answer_put(x, "/redirect/loop");
    } else {
        answer_put(x, "/redirect/");
        answer_put_number(x, left - 1);
    }
    if (to == NULL && x->query[0] != '\0') {
        answer_put(x, "?");
        answer_put(x, x->query);
    }
    answer_put(x, "\r\n");
    answer_end_length(x, 0);
}

static void on_counters(struct exchange *x)
{
    struct lab_server_counters c;
    char text[512];
    int size;

    server_snapshot(x->conn->server, &c);
    size = snprintf(
        text, sizeof(text),
        "{\"accepted\": %llu, \"open\": %llu, \"idle\": %llu, \"held\": %llu, \"queued\": %llu, "
        "\"requests\": %llu, \"answered\": %llu, \"dropped\": %llu, "
        "\"abandoned\": %llu, \"bad\": %llu}\n",
        (unsigned long long)c.accepted_count, (unsigned long long)c.open_count,
        (unsigned long long)c.idle_count, (unsigned long long)c.held_count,
        (unsigned long long)c.queued_count, (unsigned long long)c.request_count,
        (unsigned long long)c.answered_count, (unsigned long long)c.dropped_count,
        (unsigned long long)c.abandoned_count, (unsigned long long)c.bad_count);
    il_assert(size > 0 && (size_t)size < sizeof(text));
    answer_text_size(x, 200, text, (size_t)size);
}

/* ---- bodies ---- */

static void on_echo(struct exchange *x)
{
    const struct conn *conn = x->conn;
    const char *method = llhttp_method_name((llhttp_method_t)x->method);
    const char *version = conn->stream != NULL           ? " HTTP/2\n"
                          : conn->parser.http_minor == 0 ? " HTTP/1.0\n"
                                                         : " HTTP/1.1\n";
    size_t line_size = strlen(method) + 1 + x->target_size + strlen(version);
    bool has_head = !exchange_flag(x, "only_body");

    answer_begin(x, 200);
    answer_header(x, "X-Method", method);
    answer_header_number(x, "X-Body-Bytes", conn->body.size);
    answer_end_length(x, (has_head ? line_size + conn->head.size + 1 : 0) + conn->body.size);
    if (x->is_head) {
        return;
    }
    if (has_head) {
        answer_put(x, method);
        answer_put(x, " ");
        answer_put_size(x, conn->target, x->target_size);
        answer_put(x, version);
        answer_part(x);
        answer_bytes(x, conn->head.data, conn->head.size);
        answer_bytes(x, "\n", 1);
    }
    answer_bytes(x, conn->body.data, conn->body.size);
}

static void on_sink(struct exchange *x)
{
    char text[96];
    int size = snprintf(text, sizeof(text), "bytes %llu\nhash %016llx\n",
                        (unsigned long long)x->body_bytes, (unsigned long long)x->body_hash);

    il_assert(size > 0 && (size_t)size < sizeof(text));
    answer_text_size(x, 200, text, (size_t)size);
}

/* A part of the pattern, [from, to). */
static void answer_pattern(struct exchange *x, uint64_t from, uint64_t to)
{
    struct step *step = answer_step(x, STEP_BODY);

    il_assert(from <= to);
    step->seed = exchange_number(x, "seed", 0, UINT64_MAX);
    step->from = from;
    step->length = to - from;
    if (exchange_flag(x, "chunked") && !x->is_http10) {
        step->chunk = il_max_u64(exchange_number(x, "chunk", 4096, CHUNK_MAX), 1);
    }
}

/* The body of /bytes: `end` of `size` bytes, with a pause if one is asked for. */
static void answer_paused_pattern(struct exchange *x, uint64_t size, uint64_t end)
{
    uint64_t pause_ms = exchange_number(x, "pause_ms", 0, WAIT_MS_MAX);
    uint64_t pause_at = il_min_u64(exchange_number(x, "pause_at", size / 2, BODY_MAX), end);
    size_t name_size;
    const char *name = exchange_query(x, "pause_hold", &name_size);

    if (pause_ms == 0 && name == NULL) {
        answer_pattern(x, 0, end);
        return;
    }
    answer_pattern(x, 0, pause_at);
    if (pause_ms > 0) {
        answer_wait(x, pause_ms);
    }
    if (name != NULL) {
        answer_hold(x, name, name_size);
    }
    answer_pattern(x, pause_at, end);
}

static void on_bytes(struct exchange *x)
{
    uint64_t size = exchange_argument_number(x, 0, BODY_MAX);
    uint64_t cut_at = exchange_number(x, "cut_at", UINT64_MAX, BODY_MAX);
    uint64_t rst_at = exchange_number(x, "rst_at", UINT64_MAX, BODY_MAX);
    uint64_t end = il_min_u64(size, il_min_u64(cut_at, rst_at));
    bool is_chunked = exchange_flag(x, "chunked") && exchange_may_chunk(x);
    bool is_to_close = exchange_flag(x, "close") || exchange_flag(x, "chunked");

    x->closes = x->closes || (is_to_close && !is_chunked);
    answer_begin(x, 200);
    if (is_chunked) {
        answer_end_chunked(x);
    } else if (is_to_close) {
        answer_end(x);
    } else {
        answer_end_length(x, size);
    }
    if (x->is_head) {
        return;
    }
    answer_paused_pattern(x, size, end);
    if (cut_at != UINT64_MAX || rst_at != UINT64_MAX) {
        (void)answer_step(x, rst_at <= cut_at ? STEP_RESET : STEP_CLOSE);
    } else if (is_chunked) {
        answer_bytes(x, "0\r\n\r\n", 5);
    }
}

static void on_drip(struct exchange *x)
{
    uint64_t size = exchange_number(x, "bytes", 10, BODY_MAX);
    struct step *step;

    answer_begin(x, 200);
    answer_end_length(x, size);
    if (x->is_head) {
        return;
    }
    step = answer_step(x, STEP_PACE);
    step->length = il_max_u64(exchange_number(x, "size", 1, BODY_MAX), 1);
    step->ms = exchange_number(x, "every_ms", 100, WAIT_MS_MAX);
    answer_pattern(x, 0, size);
}

static void on_trailers(struct exchange *x)
{
    uint64_t count = exchange_argument_number(x, 0, 100000);

    if (!exchange_may_chunk(x)) {
        exchange_refuse(x, 400, "trailers need HTTP/1.1");
        return;
    }
    answer_begin(x, 200);
    answer_end_chunked(x);
    if (!x->is_head) {
        answer_bytes(x, "5\r\nhello\r\n0\r\n", 13);
        answer_step(x, STEP_HEADERS)->length = count;
        answer_bytes(x, "\r\n", 2);
    }
}

/* ---- time, and no answer ---- */

static void on_delay(struct exchange *x)
{
    answer_wait(x, exchange_argument_number(x, 0, WAIT_MS_MAX));
    answer_text(x, 200, "delayed\n");
}

static void on_hold(struct exchange *x)
{
    answer_hold(x, x->argument, x->argument_size);
    answer_text(x, 200, "released\n");
}

static void on_release(struct exchange *x)
{
    struct gate *gate = exchange_gate(x, x->argument, x->argument_size);
    size_t size;
    bool has_count = exchange_query(x, "count", &size) != NULL;
    uint64_t count = exchange_number(x, "count", 1, UINT32_MAX);

    if (gate == NULL || x->is_refused) {
        return;
    }
    gate_release(x->conn->server, gate, has_count ? count : LAB_RELEASE_ALL);
    answer_text(x, 200, has_count ? "let so many through\n" : "open for good\n");
}

static void on_never(struct exchange *x)
{
    (void)answer_step(x, STEP_NEVER);
}

static void on_close(struct exchange *x)
{
    (void)answer_step(x, STEP_CLOSE);
}

static void on_reset(struct exchange *x)
{
    (void)answer_step(x, STEP_RESET);
}

static void on_flaky(struct exchange *x)
{
    struct gate *gate = exchange_gate(x, x->argument, x->argument_size);
    uint64_t fails = exchange_number(x, "fails", 1, UINT32_MAX);
    bool is_reset = exchange_flag(x, "rst");
    uint64_t status = exchange_number(x, "status", 0, 599);

    if (gate == NULL || x->is_refused) {
        return;
    }
    if (++gate->visit_count > fails) {
        answer_text(x, 200, "well again\n");
    } else if (status >= 200) {
        answer_text(x, (unsigned)status, "failing\n");
    } else {
        (void)answer_step(x, is_reset ? STEP_RESET : STEP_CLOSE);
    }
}

/* ---- the connection after the answer ---- */

static void on_goaway(struct exchange *x)
{
    x->closes = true;
    answer_text(x, 200, "the last one\n");
}

static void on_close_after(struct exchange *x)
{
    answer_text(x, 200, "keep alive, it said\n");
    (void)answer_step(x, STEP_ANSWERED);
    (void)answer_step(x, exchange_flag(x, "rst") ? STEP_RESET : STEP_CLOSE);
}

static void on_idle_close(struct exchange *x)
{
    uint64_t ms = exchange_argument_number(x, 0, WAIT_MS_MAX);

    answer_text(x, 200, "closing soon\n");
    (void)answer_step(x, STEP_ANSWERED);
    answer_wait(x, ms);
    (void)answer_step(x, exchange_flag(x, "rst") ? STEP_RESET : STEP_CLOSE);
}

static const char foreign_answer[] = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
                                     "X-Token: foreign\r\nContent-Length: 8\r\n\r\nforeign\n";

/* Bytes that belong to no request: a whole answer, or as many as asked for. */
static void answer_foreign(struct exchange *x)
{
    uint64_t size = exchange_number(x, "bytes", 0, BODY_MAX);

    if (size > 0) {
        answer_fill(x, "x", size);
    } else {
        answer_bytes(x, foreign_answer, sizeof(foreign_answer) - 1);
    }
}

static void on_extra(struct exchange *x)
{
    answer_text(x, 200, "mine\n");
    answer_foreign(x);
}

static void on_unasked(struct exchange *x)
{
    uint64_t after_ms = exchange_number(x, "after_ms", 0, WAIT_MS_MAX);
    size_t name_size;
    const char *name = exchange_query(x, "after_hold", &name_size);

    answer_text(x, 200, "mine\n");
    (void)answer_step(x, STEP_ANSWERED);
    answer_wait(x, after_ms);
    if (name != NULL) {
        answer_hold(x, name, name_size);
    }
    answer_foreign(x);
    if (exchange_flag(x, "close")) {
        (void)answer_step(x, STEP_CLOSE);
    }
}

/* ---- before the answer, and before the request's body ---- */

static void on_1xx(struct exchange *x)
{
    uint64_t count = exchange_argument_number(x, 0, 1000000);
    uint64_t status = exchange_number(x, "code", 103, 199);

    answer_put(x, "HTTP/1.1 ");
    answer_put_number(x, il_max_u64(status, 100));
    answer_put(x, " Informational\r\nX-Hint: early\r\n\r\n");
    answer_part(x);
    x->conn->script.steps[x->conn->script.count - 1].repeat = count;
    answer_text(x, 200, "final\n");
}

static void on_early_head(struct exchange *x)
{
    uint64_t status = exchange_number(x, "status", 200, 599);

    x->is_answered_at_head = true;
    x->closes = x->closes || exchange_flag(x, "close");
    answer_text(x, (unsigned)il_max_u64(status, 200), "answered before the body was read\n");
    if (exchange_flag(x, "close")) {
        (void)answer_step(x, STEP_ANSWERED);
    }
}

static void on_slow_read_head(struct exchange *x)
{
    size_t size;

    if (exchange_query(x, "delay_ms", &size) == NULL && exchange_query(x, "hold", &size) == NULL) {
        (void)answer_step(x, STEP_NEVER);
    }
    answer_continue(x);
}

static void on_expect_head(struct exchange *x)
{
    uint64_t status = exchange_number(x, "status", 0, 599);

    if (status >= 200) {
        x->is_answered_at_head = true;
        x->closes = x->closes || exchange_flag(x, "close");
        answer_text(x, (unsigned)status, "answered instead of 100 Continue\n");
        if (exchange_flag(x, "close")) {
            (void)answer_step(x, STEP_ANSWERED);
        }
    } else if (!exchange_flag(x, "never")) {
        answer_continue(x);
    }
}

/* ---- broken answers ---- */

static void on_garbage(struct exchange *x)
{
    answer_bytes(x, "!! this is not HTTP\r\n", 21);
    answer_fill(x, "!", exchange_number(x, "bytes", 0, BODY_MAX));
    (void)answer_step(x, exchange_flag(x, "close") ? STEP_CLOSE : STEP_NEVER);
}

static void on_huge_header(struct exchange *x)
{
    uint64_t size = exchange_argument_number(x, 0, BODY_MAX);

    answer_begin(x, 200);
    answer_put(x, "X-Huge: ");
    answer_part(x);
    answer_fill(x, "v", size);
    answer_put(x, "\r\n");
    answer_end_length(x, 5);
    answer_body(x, "huge\n", 5);
}

static void on_many_headers(struct exchange *x)
{
    uint64_t count = exchange_argument_number(x, 0, 10000000);

    answer_begin(x, 200);
    answer_part(x);
    answer_step(x, STEP_HEADERS)->length = count;
    answer_end_length(x, 5);
    answer_body(x, "many\n", 5);
}

static void on_conflict(struct exchange *x)
{
    answer_begin(x, 200);
    answer_header(x, "Content-Length", "5");
    answer_header(x, "Content-Length", exchange_flag(x, "same") ? "5" : "7");
    answer_end(x);
    answer_body(x, "hello!!", exchange_flag(x, "same") ? 5 : 7);
}

static void on_cl_te(struct exchange *x)
{
    answer_begin(x, 200);
    answer_header(x, "Content-Length", "3");
    answer_end_chunked(x);
    answer_body(x, "5\r\nhello\r\n0\r\n\r\n", 15);
}

static void on_content_length(struct exchange *x)
{
    answer_begin(x, 200);
    answer_put(x, "Content-Length: ");
    answer_put_decoded(x, x->argument, x->argument_size);
    answer_put(x, "\r\n");
    answer_end(x);
    answer_body(x, "hello", 5);
}

static void on_bad_chunk(struct exchange *x)
{
    static const struct {
        const char *kind;
        const char *body;
    } bodies[] = {
        { "size", "xyz\r\nhello\r\n0\r\n\r\n" },
        { "overflow", "fffffffffffffffff\r\nhello\r\n0\r\n\r\n" },
        { "end", "5\r\nhelloworld\r\n0\r\n\r\n" },
        { "lf", "5\nhello\n0\n\n" },
        { "negative", "-5\r\nhello\r\n0\r\n\r\n" },
        { "cut", "5\r\nhel" },
        { "no-last", "5\r\nhello\r\n" },
    };
    size_t size;
    const char *kind = exchange_query(x, "kind", &size);

    answer_begin(x, 200);
    answer_end_chunked(x);
    for (size_t i = 0; i < il_array_count(bodies); i++) {
        if (kind == NULL ||
            (strlen(bodies[i].kind) == size && memcmp(bodies[i].kind, kind, size) == 0)) {
            answer_body(x, bodies[i].body, strlen(bodies[i].body));
            (void)answer_step(x, STEP_CLOSE);
            return;
        }
    }
    exchange_refuse(x, 400, "%s has no kind '%.*s'", x->behaviour->path, (int)il_min_u64(size, 40),
                    kind);
}

static void on_raw(struct exchange *x)
{
    answer_put_decoded(x, x->argument, x->argument_size);
    answer_part(x);
    if (!exchange_flag(x, "keep")) {
        (void)answer_step(x, STEP_CLOSE);
    }
}

/* ---- the table ---- */

const struct behaviour behaviours[] = {
    { .name = "",
      .path = "/",
      .query = "",
      .on_request = on_hello,
      .does = "200 with a small body, as /hello" },
    { .name = "hello",
      .path = "/hello",
      .query = "",
      .on_request = on_hello,
      .does = "200 with a small body" },
    { .name = "help",
      .path = "/help",
      .query = "",
      .on_request = on_help,
      .is_control = true,
      .does = "this list" },
    { .name = "id",
      .path = "/id/TOKEN",
      .query = "",
      .on_request = on_id,
      .does = "TOKEN as the body and in the header X-Token, so that a foreign answer is noticed" },
    { .name = "echo",
      .path = "/echo",
      .query = "*",
      .on_request = on_echo,
      .keeps_head = true,
      .keeps_body = true,
      .does =
          "the request as it arrived: request line, header lines, trailers marked (trailer), "
          "an empty line, the body without its chunks; any query; only_body=1: the body alone" },
    { .name = "sink",
      .path = "/sink",
      .query = "",
      .on_request = on_sink,
      .hashes_body = true,
      .does = "reads the body, answers how many bytes and their FNV-1a hash" },
    { .name = "bytes",
      .path = "/bytes/N",
      .on_request = on_bytes,
      .query = "seed chunked chunk close pause_ms pause_at pause_hold cut_at rst_at",
      .does = "N bytes of a pattern that depends on seed=S; chunked=1: in chunks of chunk=N bytes; "
              "close=1: no length, the body ends with the connection; pause_ms=MS, "
              "pause_hold=NAME: pauses after pause_at=K bytes (half); cut_at=K, rst_at=K: "
              "closes, resets after K bytes" },
    { .name = "drip",
      .path = "/drip",
      .query = "bytes size every_ms seed",
      .on_request = on_drip,
      .does = "bytes=N (10) in all, size=N (1) at a time, every_ms=MS (100); seed=S" },
    { .name = "trailers",
      .path = "/trailers/N",
      .query = "",
      .on_request = on_trailers,
      .does = "a chunked body with N trailer lines" },
    { .name = "status",
      .path = "/status/CODE",
      .query = "",
      .on_request = on_status,
      .does = "that status; no body where HTTP allows none" },
    { .name = "redirect",
      .path = "/redirect/N",
      .query = "status to",
      .on_request = on_redirect,
      .does = "to /redirect/N-1, and 200 at 0; N may be \"loop\"; status=CODE (302); "
              "to=URL, percent-decoded, instead" },
    { .name = "delay",
      .path = "/delay/MS",
      .query = "",
      .on_request = on_delay,
      .does = "answers after MS milliseconds" },
    { .name = "hold",
      .path = "/hold/NAME",
      .query = "",
      .on_request = on_hold,
      .does = "answers when NAME is released, by /release/NAME" },
    { .name = "release",
      .path = "/release/NAME",
      .query = "count",
      .on_request = on_release,
      .is_control = true,
      .does =
          "lets count=N requests pass the gate NAME, now or when they come; without count all" },
    { .name = "never",
      .path = "/never",
      .query = "",
      .on_request = on_never,
      .does = "reads the request and never answers" },
    { .name = "close",
      .path = "/close",
      .query = "",
      .on_request = on_close,
      .does = "reads the request and closes without an answer" },
    { .name = "reset",
      .path = "/reset",
      .query = "",
      .on_request = on_reset,
      .does = "reads the request and resets the connection" },
    { .name = "flaky",
      .path = "/flaky/NAME",
      .query = "fails rst status",
      .on_request = on_flaky,
      .does = "the first fails=N (1) requests for NAME are closed without an answer, or rst=1: "
              "reset, or status=CODE: answered so; from then on 200" },
    { .name = "close-after",
      .path = "/close-after",
      .query = "rst",
      .on_request = on_close_after,
      .does = "promises keep-alive, answers, closes at once; rst=1: resets" },
    { .name = "goaway",
      .path = "/goaway",
      .query = "",
      .on_request = on_goaway,
      .does = "answers, and takes no more requests on this connection: `Connection: close`, or "
              "GOAWAY; then closes" },
    { .name = "idle-close",
      .path = "/idle-close/MS",
      .query = "rst",
      .on_request = on_idle_close,
      .does = "answers, closes the idle connection MS later; rst=1: resets" },
    { .name = "extra",
      .path = "/extra",
      .query = "bytes",
      .on_request = on_extra,
      .is_text = true,
      .does = "a whole second answer (X-Token: foreign) right behind the first; bytes=N: N bytes" },
    { .name = "unasked",
      .path = "/unasked",
      .query = "after_ms after_hold bytes close",
      .on_request = on_unasked,
      .is_text = true,
      .does = "answers, then writes a second answer (X-Token: foreign) onto the idle connection "
              "after_ms=MS (0) later, or when after_hold=NAME is released; bytes=N: N bytes "
              "instead; close=1: then closes. A request in between prevents it" },
    { .name = "1xx",
      .path = "/1xx/N",
      .query = "code",
      .on_request = on_1xx,
      .does = "N responses of code=CODE (103) before the answer" },
    { .name = "early",
      .path = "/early",
      .query = "status close",
      .on_head = on_early_head,
      .on_request = on_hello,
      .does = "answers with status=CODE (200) before it reads the body, which it then discards; "
              "close=1: closes instead of reading it" },
    { .name = "slow-read",
      .path = "/slow-read",
      .query = "",
      .on_head = on_slow_read_head,
      .on_request = on_sink,
      .hashes_body = true,
      .does = "does not read the body until hold=NAME is released or delay_ms=MS is over; "
              "without either, never; then as /sink" },
    { .name = "expect",
      .path = "/expect",
      .query = "status never close",
      .on_head = on_expect_head,
      .on_request = on_sink,
      .hashes_body = true,
      .does = "sends 100 Continue if the request expects it (all paths do), with delay_ms=MS or "
              "hold=NAME late; never=1: not at all; status=CODE: answers so instead, close=1: and "
              "closes; then as "
              "/sink" },
    { .name = "garbage",
      .path = "/garbage",
      .query = "bytes close",
      .on_request = on_garbage,
      .is_text = true,
      .does = "a line that is not HTTP, and bytes=N more; close=1: then closes" },
    { .name = "huge-header",
      .path = "/huge-header/N",
      .query = "",
      .on_request = on_huge_header,
      .does = "a header line with N bytes of value" },
    { .name = "many-headers",
      .path = "/many-headers/N",
      .query = "",
      .on_request = on_many_headers,
      .does = "N header lines more than usual" },
    { .name = "conflict",
      .path = "/conflict",
      .query = "same",
      .on_request = on_conflict,
      .is_text = true,
      .does = "two Content-Lengths, 5 and 7; same=1: both 5" },
    { .name = "cl-te",
      .path = "/cl-te",
      .query = "",
      .on_request = on_cl_te,
      .is_text = true,
      .does = "Content-Length: 3 together with a chunked body of 5" },
    { .name = "content-length",
      .path = "/content-length/VALUE",
      .query = "",
      .on_request = on_content_length,
      .is_text = true,
      .does = "VALUE, percent-decoded, as Content-Length, and a body of 5 bytes" },
    { .name = "bad-chunk",
      .path = "/bad-chunk",
      .query = "kind",
      .on_request = on_bad_chunk,
      .is_text = true,
      .does = "a chunked body that is wrong by kind=size (no number), overflow, end (longer than "
              "its size), lf (no CR), negative, cut (within a chunk), no-last; then closes" },
    { .name = "raw",
      .path = "/raw/BYTES",
      .query = "keep",
      .on_request = on_raw,
      .is_text = true,
      .does = "BYTES, percent-decoded, and nothing else; then closes; keep=1: counts as the "
              "answer" },
    { .name = "counters",
      .path = "/counters",
      .query = "",
      .on_request = on_counters,
      .is_control = true,
      .does = "what the server has counted, as JSON" },
    { .name = "404",
      .path = "/404",
      .query = "*",
      .on_request = on_unknown,
      .does = "404, as any path that is not in this list" },
};

const size_t behaviour_count = il_array_count(behaviours);
_Static_assert(il_array_count(behaviours) <= LAB_BEHAVIOUR_MAX, "each behaviour is counted");

size_t lab_server_behaviour(const char *path)
{
    const char *name = path + (path[0] == '/');
    size_t size = strcspn(name, "/?");

    for (size_t i = 0; i < behaviour_count; i++) {
        if (strlen(behaviours[i].name) == size && memcmp(behaviours[i].name, name, size) == 0) {
            return i;
        }
    }
    il_assert(!"a behaviour of the lab server");
    return 0;
}

bool lab_server_behaviour_at(size_t index, const char **ret_path, const char **ret_query,
                             const char **ret_does)
{
    if (index >= behaviour_count) {
        return false;
    }
    *ret_path = behaviours[index].path;
    *ret_query = behaviours[index].query;
    *ret_does = behaviours[index].does;
    return true;
}
