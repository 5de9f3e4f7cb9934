/* server_exchange.c: what behaviours use to read a request and to compose an answer.
 *
 * An exchange finds its behaviour as soon as the request target is complete, and has it write the
 * connection's script when the time has come. A request that the table does not allow (a parameter
 * unknown or wrong) is refused with 400 and a reason: a misspelt test must not pass.
 * Owns: nothing. Threads: the server's. */
#include <stdio.h>

#include "lab/server_inside.h"

/* The most that is ever composed: the target in a header line, and again in an echoed request line,
 * or percent-decoded, which makes it shorter; the other header lines. */
_Static_assert(CONN_TEXT_SIZE >= 2 * LAB_TARGET_MAX + 4096, "any answer can be composed");

/* Parameters that every behaviour knows. */
static const char exchange_query_common[] = "n delay_ms hold slice slice_ms";

void exchange_init(struct exchange *x, struct conn *conn)
{
    memset(x, 0, sizeof(*x));
    x->conn = conn;
    x->behaviour = &behaviours[behaviour_count - 1]; /* until the target is known */
    x->query = x->argument = "";
    x->body_hash = LAB_HASH_INIT;
    conn->text_size = conn->text_mark = 0;
    conn->target[0] = '\0';
}

void exchange_refuse(struct exchange *x, unsigned status, const char *format, ...)
{
    va_list args;

    if (x->is_refused) {
        return; /* the first reason is the one to tell */
    }
    x->is_refused = true;
    x->refused_status = status;
    va_start(args, format);
    (void)vsnprintf(x->conn->refusal, sizeof(x->conn->refusal) - 1, format, args);
    va_end(args);
    (void)strcat(x->conn->refusal, "\n"); /* one byte was kept free */
}

/* ---- the query ---- */

/* Whether `words`, separated by spaces, contain `word`. */
static bool words_contain(const char *words, const char *word, size_t size)
{
    while (*words != '\0') {
        size_t length = strcspn(words, " ");

        if (length == size && memcmp(words, word, size) == 0) {
            return true;
        }
        words += length;
        words += strspn(words, " ");
    }
    return false;
}

static void exchange_check_query(struct exchange *x)
{
    const char *at = x->query;

    while (*at != '\0' && strcmp(x->behaviour->query, "*") != 0) {
        size_t size = strcspn(at, "=&");

        if (size > 0 && !words_contain(exchange_query_common, at, size) &&
            !words_contain(x->behaviour->query, at, size)) {
            exchange_refuse(x, 400, "%s knows no parameter '%.*s'; it knows: %s %s",
                            x->behaviour->path, (int)il_min_u64(size, 40), at,
                            exchange_query_common, x->behaviour->query);
            return;
        }
        at += strcspn(at, "&");
        at += *at == '&';
    }
}

const char *exchange_query(const struct exchange *x, const char *name, size_t *ret_size)
{
    const char *at = x->query;
    size_t name_size = strlen(name);

    while (*at != '\0') {
        size_t size = strcspn(at, "&");
        size_t key_size = strcspn(at, "=&");

        if (key_size == name_size && memcmp(at, name, name_size) == 0) {
            size_t skip = key_size < size ? key_size + 1 : key_size;

            *ret_size = size - skip;
            return at + skip;
        }
        at += size;
        at += *at == '&';
    }
    return NULL;
}

static bool parse_number(const char *text, size_t size, uint64_t min, uint64_t max,
                         uint64_t *ret_number)
{
    uint64_t number = 0;

    if (size == 0) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        unsigned digit = (unsigned char)text[i] - '0';

        if (digit > 9 || __builtin_mul_overflow(number, UINT64_C(10), &number) ||
            __builtin_add_overflow(number, (uint64_t)digit, &number)) {
            return false;
        }
    }
    *ret_number = number;
    return number >= min && number <= max;
}

uint64_t exchange_number(struct exchange *x, const char *name, uint64_t fallback, uint64_t max)
{
    uint64_t number = fallback;
    size_t size;
    const char *text = exchange_query(x, name, &size);

    if (text != NULL && !parse_number(text, size, 0, max, &number)) {
        exchange_refuse(x, 400, "parameter %s is '%.*s', want a number from 0 to %llu", name,
                        (int)il_min_u64(size, 40), text, (unsigned long long)max);
        return fallback;
    }
    return number;
}

bool exchange_flag(struct exchange *x, const char *name)
{
    return exchange_number(x, name, 0, 1) == 1;
}

uint64_t exchange_argument_number(struct exchange *x, uint64_t min, uint64_t max)
{
    uint64_t number = min;

    if (!parse_number(x->argument, x->argument_size, min, max, &number)) {
        exchange_refuse(x, 400, "'%.*s' in %s is no number from %llu to %llu",
                        (int)il_min_u64(x->argument_size, 40), x->argument, x->behaviour->path,
                        (unsigned long long)min, (unsigned long long)max);
        return min;
    }
    return number;
}

struct gate *exchange_gate(struct exchange *x, const char *name, size_t name_size)
{
    enum il_code code;
    struct gate *gate = gate_get(x->conn->server, name, name_size, &code);

    if (gate != NULL) {
        return gate;
    }
    if (code == IL_EINVAL) {
        exchange_refuse(x, 400, "a NAME has 1 to %d bytes, this one has %zu", LAB_GATE_NAME_MAX,
                        name_size);
    } else {
        exchange_refuse(x, 503, "no place for another NAME: %s", il_code_text(code));
    }
    return NULL;
}

bool exchange_may_chunk(struct exchange *x)
{
    x->closes = x->closes || x->is_http10;
    return !x->is_http10;
}

/* ---- the path ---- */

/* Where the path begins: a proxy's client sends "http://host/path". */
static const char *target_path(const char *target)
{
    const char *authority = strstr(target, "://");

    if (target[0] == '/' || authority == NULL) {
        return target[0] == '*' ? "/" : target;
    }
    authority += 3;
    authority += strcspn(authority, "/?");
    return *authority == '/' ? authority : "/";
}

static const struct behaviour *behaviour_find(const char *name, size_t size, bool has_argument)
{
    for (size_t i = 0; i < behaviour_count; i++) {
        const struct behaviour *behaviour = &behaviours[i];

        if (strlen(behaviour->name) == size && memcmp(behaviour->name, name, size) == 0) {
            bool takes_argument = strchr(behaviour->path + 1, '/') != NULL;

            return has_argument && !takes_argument ? &behaviours[behaviour_count - 1] : behaviour;
        }
    }
    return &behaviours[behaviour_count - 1];
}

void exchange_route(struct exchange *x)
{
    const char *path = target_path(x->conn->target);
    size_t size = strcspn(path, "?");
    size_t name_size;

    if (path[0] != '/') {
        return; /* "host:port" of a CONNECT: nothing that we know */
    }
    x->query = path[size] == '?' ? path + size + 1 : "";
    name_size = strcspn(path + 1, "/?");
    if (1 + name_size < size) {
        x->argument = path + 1 + name_size + 1;
        x->argument_size = size - name_size - 2;
    }
    x->behaviour = behaviour_find(path + 1, name_size, x->argument_size > 0);
    if (x->behaviour->is_text && x->conn->stream != NULL) {
        exchange_refuse(x, 501, "%s is about the text of HTTP/1.1, and this is HTTP/2",
                        x->behaviour->path);
    }
    if (x->query[0] != '\0') {
        exchange_check_query(x);
    }
}

/* ---- scripts ---- */

/* What any request may have to wait for before its answer. */
static void exchange_add_waits(struct exchange *x)
{
    struct lab_server *server = x->conn->server;
    uint64_t delay_ms = server->options.delay_ms;
    uint64_t slice = 0;
    const char *name;
    size_t size;

    if (server->options.answering_max > 0 && !x->behaviour->is_control) {
        (void)answer_step(x, STEP_SLOT);
    }
    if (x->query[0] != '\0') {
        delay_ms += exchange_number(x, "delay_ms", 0, WAIT_MS_MAX);
        slice = exchange_number(x, "slice", 0, BODY_MAX);
    }
    if (delay_ms > 0) {
        answer_wait(x, delay_ms);
    }
    if (x->query[0] != '\0' && (name = exchange_query(x, "hold", &size)) != NULL) {
        answer_hold(x, name, size);
    }
    if (slice > 0) {
        struct step *step = answer_step(x, STEP_PACE);

        step->length = slice;
        step->ms = exchange_number(x, "slice_ms", 1, WAIT_MS_MAX);
    }
    x->has_waited = true;
}

void exchange_script_refusal(struct exchange *x)
{
    x->closes = x->conn->stream == NULL; /* other streams are not to blame */
    x->conn->text_size = x->conn->text_mark = 0;
    answer_text(x, x->refused_status, x->conn->refusal);
}

void exchange_script(struct exchange *x, enum conn_stage stage)
{
    void (*write_script)(struct exchange *) =
        stage == STAGE_HEAD ? x->behaviour->on_head : x->behaviour->on_request;

    x->conn->text_size = x->conn->text_mark = 0;
    if (stage == STAGE_ANSWER && x->is_answered_at_head) {
        return;
    }
    if (!x->is_refused && write_script == NULL) {
        answer_continue(x); /* all that is wanted before the body */
        return;
    }
    if (!x->is_refused && !x->has_waited) {
        exchange_add_waits(x);
    }
    if (!x->is_refused) {
        write_script(x);
    }
    if (x->is_refused) {
        script_clear(&x->conn->script);
        exchange_script_refusal(x);
        if (stage == STAGE_HEAD) {
            (void)answer_step(x, STEP_LINGER); /* its body may still be coming */
        }
    }
}

/* ---- composing ---- */

static const struct {
    unsigned status;
    const char *line;
} status_lines[] = {
    { 200, "200 OK" },
    { 101, "101 Switching Protocols" },
    { 102, "102 Processing" },
    { 103, "103 Early Hints" },
    { 201, "201 Created" },
    { 202, "202 Accepted" },
    { 204, "204 No Content" },
    { 205, "205 Reset Content" },
    { 206, "206 Partial Content" },
    { 301, "301 Moved Permanently" },
    { 302, "302 Found" },
    { 303, "303 See Other" },
    { 304, "304 Not Modified" },
    { 307, "307 Temporary Redirect" },
    { 308, "308 Permanent Redirect" },
    { 400, "400 Bad Request" },
    { 401, "401 Unauthorized" },
    { 403, "403 Forbidden" },
    { 404, "404 Not Found" },
    { 407, "407 Proxy Authentication Required" },
    { 408, "408 Request Timeout" },
    { 413, "413 Content Too Large" },
    { 414, "414 URI Too Long" },
    { 417, "417 Expectation Failed" },
    { 421, "421 Misdirected Request" },
    { 429, "429 Too Many Requests" },
    { 431, "431 Request Header Fields Too Large" },
    { 500, "500 Internal Server Error" },
    { 501, "501 Not Implemented" },
    { 502, "502 Bad Gateway" },
    { 503, "503 Service Unavailable" },
    { 504, "504 Gateway Timeout" },
};

void answer_put_size(struct exchange *x, const char *text, size_t size)
{
    struct conn *conn = x->conn;

    il_assert(size <= sizeof(conn->text) - conn->text_size);
    memcpy(conn->text + conn->text_size, text, size);
    conn->text_size += size;
}

void answer_put(struct exchange *x, const char *text)
{
    answer_put_size(x, text, strlen(text));
}

void answer_put_number(struct exchange *x, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    answer_put_size(x, digits + at, sizeof(digits) - at);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

void answer_put_decoded(struct exchange *x, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char byte = text[i];

        if (byte == '%' && i + 2 < size && hex_digit(text[i + 1]) >= 0 &&
            hex_digit(text[i + 2]) >= 0) {
            byte = (char)(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            i += 2;
        }
        answer_put_size(x, &byte, 1);
    }
}

void answer_header(struct exchange *x, const char *name, const char *value)
{
    answer_put(x, name);
    answer_put(x, ": ");
    answer_put(x, value);
    answer_put(x, "\r\n");
}

void answer_header_number(struct exchange *x, const char *name, uint64_t value)
{
    answer_put(x, name);
    answer_put(x, ": ");
    answer_put_number(x, value);
    answer_put(x, "\r\n");
}

static void answer_put_status(struct exchange *x, unsigned status)
{
    for (size_t i = 0; i < il_array_count(status_lines); i++) {
        if (status_lines[i].status == status) {
            answer_put(x, status_lines[i].line);
            return;
        }
    }
    answer_put_number(x, status);
    answer_put(x, " As Asked");
}

void answer_begin(struct exchange *x, unsigned status)
{
    struct conn *conn = x->conn;
    uint64_t limit = conn->server->options.requests_per_connection_max;

    x->closes = x->closes || !x->wants_keep_alive || (limit > 0 && x->number >= limit);
    answer_put(x, x->is_http10 ? "HTTP/1.0 " : "HTTP/1.1 ");
    answer_put_status(x, status);
    answer_put(x, "\r\nContent-Type: text/plain\r\nX-Connection: ");
    answer_put_number(x, conn_carrier(conn)->info.number);
    answer_put(x, "\r\nX-Request: ");
    answer_put_number(x, x->number);
    answer_put(x, "\r\n");
    if (x->closes) {
        answer_put(x, "Connection: close\r\n");
    } else if (x->is_http10) {
        answer_put(x, "Connection: keep-alive\r\n");
    }
}

void answer_part(struct exchange *x)
{
    struct conn *conn = x->conn;

    if (conn->text_size > conn->text_mark) {
        answer_bytes(x, conn->text + conn->text_mark, conn->text_size - conn->text_mark);
        conn->text_mark = conn->text_size;
    }
}

void answer_end(struct exchange *x)
{
    answer_put(x, "\r\n");
    answer_part(x);
}

void answer_end_length(struct exchange *x, uint64_t length)
{
    answer_put(x, "Content-Length: ");
    answer_put_number(x, length);
    answer_put(x, "\r\n\r\n");
    answer_part(x);
}

void answer_end_chunked(struct exchange *x)
{
    answer_put(x, "Transfer-Encoding: chunked\r\n\r\n");
    answer_part(x);
}

void answer_text_size(struct exchange *x, unsigned status, const char *body, size_t size)
{
    answer_begin(x, status);
    answer_put(x, "Content-Length: ");
    answer_put_number(x, size);
    answer_put(x, "\r\n\r\n");
    if (!x->is_head) {
        answer_put_size(x, body, size);
    }
    answer_part(x);
}

void answer_text(struct exchange *x, unsigned status, const char *body)
{
    answer_text_size(x, status, body, strlen(body));
}

/* ---- steps ---- */

struct step *answer_step(struct exchange *x, enum step_kind kind)
{
    return script_add(&x->conn->script, kind);
}

void answer_bytes(struct exchange *x, const char *bytes, uint64_t size)
{
    struct step *step = answer_step(x, STEP_BYTES);

    step->bytes = bytes;
    step->length = size;
}

void answer_body(struct exchange *x, const char *bytes, uint64_t size)
{
    if (!x->is_head) {
        answer_bytes(x, bytes, size);
    }
}

void answer_fill(struct exchange *x, const char *byte, uint64_t size)
{
    struct step *step = answer_step(x, STEP_FILL);

    step->bytes = byte;
    step->length = size;
}

void answer_wait(struct exchange *x, uint64_t ms)
{
    answer_step(x, STEP_WAIT)->ms = ms;
}

void answer_hold(struct exchange *x, const char *name, size_t name_size)
{
    struct gate *gate = exchange_gate(x, name, name_size);

    if (gate != NULL) {
        answer_step(x, STEP_HOLD)->gate = gate;
    }
}

void answer_continue(struct exchange *x)
{
    static const char text[] = "HTTP/1.1 100 Continue\r\n\r\n";

    if (x->expects_continue) {
        answer_bytes(x, text, sizeof(text) - 1);
    }
}
