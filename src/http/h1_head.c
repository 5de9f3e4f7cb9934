/* h1_head.c: parsing a header section with llhttp behind a line guard.
 *
 * Owns: nothing; the fields go into the caller's list. Threads: one at a time.
 *
 * llhttp, even in strict mode, lets pass what the rules forbid and attackers like: a bare LF at the
 * end of the status line and of the section, empty lines before it, HTTP/0.9 and 2.0, nameless
 * headers, control characters in the reason, headers folded over lines. The guard runs over the
 * bytes first, line by line, at the speed of memchr. It stops at the first byte it must refuse;
 * llhttp then gets everything before that byte, so whichever of the two objects to the earlier byte
 * speaks, and cutting the input elsewhere changes nothing. */
#include <stdio.h>

#include "base/bytes.h"
#include "http/h1_head.h"

enum h1_fault {
    FAULT_NONE,
    FAULT_START_LINE,
    FAULT_BARE_CR,
    FAULT_BARE_LF,
    FAULT_FOLD,
    FAULT_SIZE,
    FAULT_LINE_SIZE,
    FAULT_FIELD_COUNT,
};

/* ---- the line guard ---- */

/* '#' is a digit. What follows is a space or the line's end. */
static const char start_line_pattern[] = "HTTP/1.# ###";
enum { START_LINE_PATTERN_SIZE = sizeof(start_line_pattern) - 1 };

/* How many bytes from `p` on agree with the pattern, seen from where the line is now. */
static size_t start_line_match(const struct h1_head *head, const char *p, size_t size)
{
    size_t i = 0;

    for (size_t at = head->line_size; i < size && at < START_LINE_PATTERN_SIZE; i++, at++) {
        char want = start_line_pattern[at];

        if (want == '#' ? p[i] < '0' || p[i] > '9' : p[i] != want) {
            return i;
        }
    }
    if (i < size && head->line_size + i == START_LINE_PATTERN_SIZE && p[i] != ' ' && p[i] != '\r') {
        return i;
    }
    return size;
}

static const char *guard_stop(struct h1_head *head, enum h1_fault fault, const char *at)
{
    head->fault = fault;
    return at;
}

/* The line's bytes [p, end) without its LF: check them and count them. Returns NULL if all are
 * fine, else the first that is not. */
static const char *guard_line_bytes(struct h1_head *head, const char *p, const char *end)
{
    uint32_t line_left = head->limits.line_size_max - head->line_size;
    uint32_t left = head->limits.size_max - head->size;
    enum h1_fault limit_fault = FAULT_NONE;
    const char *limited_end = end;
    const char *cr;

    if ((size_t)(end - p) > (left < line_left ? left : line_left)) {
        limit_fault = left < line_left ? FAULT_SIZE : FAULT_LINE_SIZE;
        limited_end = p + (left < line_left ? left : line_left);
    }
    if (head->last_was_cr && p < limited_end) {
        return guard_stop(head, FAULT_BARE_CR, p);
    }
    if (head->line_index == 0) {
        size_t size = (size_t)(limited_end - p), matched = start_line_match(head, p, size);

        if (matched < size) {
            return guard_stop(head, FAULT_START_LINE, p + matched);
        }
    } else if (head->line_size == 0 && p < limited_end && *p != '\r') {
        if (*p == ' ' || *p == '\t') {
            return guard_stop(head, FAULT_FOLD, p);
        }
        if (head->field_count == head->limits.field_count_max) {
            return guard_stop(head, FAULT_FIELD_COUNT, p);
        }
        head->field_count++;
    }
    cr = memchr(p, '\r', (size_t)(limited_end - p));
    if (cr != NULL && cr + 1 < limited_end) {
        return guard_stop(head, FAULT_BARE_CR, cr + 1);
    }
    if (limit_fault != FAULT_NONE) {
        return guard_stop(head, limit_fault, limited_end);
    }
    if (cr != NULL) {
        head->last_was_cr = true;
    }
    head->line_size += (uint32_t)(end - p);
    head->size += (uint32_t)(end - p);
    return NULL;
}

/* Run over [data, end). Returns where llhttp must stop: behind the section's empty line
 * (*ret_is_end), at the first byte that is wrong (head->fault), or at `end`. */
static const char *guard_run(struct h1_head *head, const char *data, const char *end,
                             bool *ret_is_end)
{
    const char *p = data;

    *ret_is_end = false;
    while (p < end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p)), *line_end = lf != NULL ? lf : end;
        const char *wrong = guard_line_bytes(head, p, line_end);

        if (wrong != NULL) {
            return wrong;
        }
        if (lf == NULL) {
            return end;
        }
        if (head->line_index == 0 && head->line_size < START_LINE_PATTERN_SIZE) {
            return guard_stop(head, FAULT_START_LINE, lf);
        }
        if (!head->last_was_cr) {
            return guard_stop(head, FAULT_BARE_LF, lf);
        }
        if (head->size == head->limits.size_max) {
            return guard_stop(head, FAULT_SIZE, lf);
        }
        head->size++;
        p = lf + 1;
        *ret_is_end = head->line_size == 1; /* only its CR */
        head->line_size = 0;
        head->line_index++;
        head->last_was_cr = false;
        if (*ret_is_end) {
            return p;
        }
    }
    return p;
}

/* ---- llhttp's callbacks ---- */

static struct h1_head *head_of(llhttp_t *llhttp)
{
    return llhttp->data;
}

/* The caller's list is full only when there is no memory: the limits here are the lower ones. */
static int fail_memory(struct h1_head *head)
{
    head->is_out_of_memory = true;
    return HPE_USER;
}

static int fail_wrong(struct h1_head *head, const char *what)
{
    head->wrong = what;
    return HPE_USER;
}

static int on_status(llhttp_t *llhttp, const char *data, size_t size)
{
    struct h1_head *head = head_of(llhttp);
    size_t room = (size_t)H1_REASON_SIZE_MAX - head->reason_size;

    if (!http_is_field_value(data, size)) {
        return fail_wrong(head, "Control character in the reason");
    }
    size = size < room ? size : room;
    memcpy(head->reason + head->reason_size, data, size);
    head->reason_size = (uint8_t)(head->reason_size + size);
    return 0;
}

static int on_header_field(llhttp_t *llhttp, const char *data, size_t size)
{
    struct h1_head *head = head_of(llhttp);

    if (IL_UNLIKELY(headers_append_name(head->headers, data, size) != IL_OK)) {
        return fail_memory(head);
    }
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *data, size_t size)
{
    struct h1_head *head = head_of(llhttp);

    if (IL_UNLIKELY(headers_append_value(head->headers, data, size) != IL_OK)) {
        return fail_memory(head);
    }
    return 0;
}

/* llhttp has read a Content-Length into llhttp->content_length. It would refuse a second one even
 * if it says the same, which RFC 9112 6.3 allows and proxies do; so it is made to forget the first.
 */
static int on_content_length(struct h1_head *head, llhttp_t *llhttp)
{
    if (llhttp->content_length > INT64_MAX) {
        return fail_wrong(head, "Content-Length is too large");
    }
    if (head->has_content_length && head->content_length != llhttp->content_length) {
        return fail_wrong(head, "two Content-Length headers that differ");
    }
    head->has_content_length = true;
    head->content_length = llhttp->content_length;
    llhttp->content_length = 0;
    llhttp->flags &= (uint16_t)~F_CONTENT_LENGTH;
    return 0;
}

static int on_header_value_complete(llhttp_t *llhttp)
{
    struct h1_head *head = head_of(llhttp);
    const struct headers_entry *entry = &head->headers->entries[head->headers->count];

    if (entry->name_size == 0) {
        return fail_wrong(head, "Header without a name");
    }
    if (headers_commit(head->headers) != IL_OK) {
        return fail_memory(head);
    }
    entry = &head->headers->entries[head->headers->count - 1];
    if (llhttp->flags & F_CONTENT_LENGTH) {
        return on_content_length(head, llhttp);
    }
    if (entry->name_size == 17 &&
        http_equals_ignoring_case(head->headers->bytes + entry->name_offset, 17,
                                  "transfer-encoding", 17)) {
        head->has_transfer_encoding = true;
    }
    return 0;
}

/* The section is over. What follows is not llhttp's business: it stops here and is begun anew for
 * the next one. */
static int on_headers_complete(llhttp_t *llhttp)
{
    struct h1_head *head = head_of(llhttp);

    head->is_complete = true;
    head->version_minor = llhttp->http_minor;
    head->status = llhttp->status_code;
    head->connection_close = llhttp->flags & F_CONNECTION_CLOSE;
    head->connection_keep_alive = llhttp->flags & F_CONNECTION_KEEP_ALIVE;
    head->reason[head->reason_size] = '\0';
    return HPE_PAUSED;
}

static const llhttp_settings_t head_settings = {
    .on_status = on_status,
    .on_header_field = on_header_field,
    .on_header_value = on_header_value,
    .on_header_value_complete = on_header_value_complete,
    .on_headers_complete = on_headers_complete,
};

/* ---- errors ---- */

/* "response header" or "trailer", and the first bytes of what is wrong. Values may be secret (a
 * cookie): of those only the one offending byte is shown, and nothing behind a colon. */
static enum il_code fail_at(struct h1_head *head, enum il_code code, const char *at,
                            const char *end, const char *what, struct il_error *err)
{
    bool is_in_value = headers_is_in_value(head->headers);
    size_t shown = il_min_u64((uint64_t)(end - at), is_in_value ? 1 : 24);
    const char *colon = head->line_index > 0 ? memchr(at, ':', shown) : NULL;
    char excerpt[96], name[80], near[112] = "", where[112] = "";
    const char *open_name = headers_open_name(head->headers);

    if (open_name[0] != '\0') {
        (void)snprintf(where, sizeof(where), " in header \"%s\"", /* cut off when it is long */
                       il_escape(name, sizeof(name), open_name, strlen(open_name)));
    }
    if (colon != NULL) {
        shown = (size_t)(colon + 1 - at);
    }
    if (shown > 0) {
        (void)snprintf(near, sizeof(near), ", at \"%s\"",
                       il_escape(excerpt, sizeof(excerpt), at, shown));
    }
    return il_fail(err, code, "the response's %s is not valid: %s%s%s",
                   head->is_trailer ? "trailer" : "header", what, where, near);
}

static enum il_code fail_limit(const struct h1_head *head, const char *what, uint32_t limit,
                               const char *unit, struct il_error *err)
{
    return il_fail(err, IL_EHEADERSIZE, "the response's %s has %s; the limit is %u%s",
                   head->is_trailer ? "trailer" : "header", what, limit, unit);
}

static enum il_code fail_from_guard(struct h1_head *head, const char *data, const char *at,
                                    const char *end, struct il_error *err)
{
    switch ((enum h1_fault)head->fault) {
    case FAULT_START_LINE: /* shown from its beginning, or what of it has just come */
        return fail_at(head, IL_EPROTOCOL, data, end,
                       "it does not begin with \"HTTP/1.1 \" or \"HTTP/1.0 \" and a status", err);
    case FAULT_BARE_CR:
        return fail_at(head, IL_EPROTOCOL, at, end, "CR without LF", err);
    case FAULT_BARE_LF:
        return fail_at(head, IL_EPROTOCOL, at, end, "LF without CR", err);
    case FAULT_FOLD:
        return fail_at(head, IL_EPROTOCOL, at, end, "a line begins with a space (folded header)",
                       err);
    case FAULT_SIZE:
        return fail_limit(head, "too many bytes", head->limits.size_max, " bytes", err);
    case FAULT_LINE_SIZE:
        return fail_limit(head, "a line that is too long", head->limits.line_size_max, " bytes",
                          err);
    case FAULT_FIELD_COUNT:
        return fail_limit(head, "too many fields", head->limits.field_count_max, "", err);
    case FAULT_NONE:
        break;
    }
    il_assert(!"a guard that stopped has a fault");
    return IL_EPROTOCOL;
}

static enum il_code fail_from_llhttp(struct h1_head *head, const char *data, const char *end,
                                     struct il_error *err)
{
    const char *at = llhttp_get_error_pos(&head->llhttp);
    const char *wrong = llhttp_get_error_reason(&head->llhttp);

    if (head->is_out_of_memory) {
        return il_fail(err, IL_ENOMEM, "out of memory for the response's headers");
    }
    if (at == NULL || at < data || at > end) {
        at = end;
    }
    if (head->wrong != NULL) {
        wrong = head->wrong;
    }
    return fail_at(head, IL_EPROTOCOL, at, end, wrong != NULL ? wrong : "parse error", err);
}

/* ---- the section ---- */

void h1_head_begin(struct h1_head *head, enum h1_section section,
                   const struct h1_head_limits *limits, struct il_headers *headers)
{
    static const char primer[] = "HTTP/1.1 200 \r\n";
    uint32_t size = section == H1_SECTION_NEXT_HEAD ? head->size : 0;
    uint32_t field_count = section == H1_SECTION_HEAD ? 0 : head->field_count;

    il_assert(limits->size_max <=
              HEADERS_SIZE_MAX); /* a field in a list is no larger than its line */
    il_assert(limits->field_count_max <= HEADERS_COUNT_MAX);
    *head = (struct h1_head){
        .is_trailer = section == H1_SECTION_TRAILER,
        .size = size,
        .field_count = field_count,
        .limits = *limits,
        .headers = headers,
    };
    headers_reset(headers);
    llhttp_init(&head->llhttp, HTTP_RESPONSE, &head_settings);
    head->llhttp.data = head;
    if (head->is_trailer) { /* a header section without a start line: llhttp is given one */
        llhttp_errno_t code = llhttp_execute(&head->llhttp, primer, sizeof(primer) - 1);

        il_assert(code == HPE_OK);
        head->line_index = 1;
    }
}

enum il_code h1_head_feed(struct h1_head *head, const char *data, size_t size, size_t *ret_consumed,
                          struct il_error *err)
{
    const char *end = data + size, *stop;
    llhttp_errno_t code;
    bool is_end;

    il_assert(!head->is_complete);
    il_assert(head->fault == FAULT_NONE);
    stop = guard_run(head, data, end, &is_end);
    code = llhttp_execute(&head->llhttp, data, (size_t)(stop - data));
    if (code == HPE_PAUSED && head->is_complete && is_end) {
        *ret_consumed = (size_t)(stop - data);
        return IL_OK;
    }
    if (code != HPE_OK) {
        return fail_from_llhttp(head, data, end, err);
    }
    if (head->fault != FAULT_NONE) {
        return fail_from_guard(head, data, stop, end, err);
    }
    if (is_end) { /* an empty line where llhttp expected something else */
        return fail_at(head, IL_EPROTOCOL, stop, end, "it ends too early", err);
    }
    *ret_consumed = size;
    return IL_OK;
}
