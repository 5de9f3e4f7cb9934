/* h1_head.c: parsing a header section with llhttp behind a line guard.
 *
 * Owns: nothing; the fields go into the caller's list. Threads: one at a time.
 *
 * The guard (h1_lines.h) runs over the bytes first and stops at the first one it must refuse;
 * llhttp then gets everything before that byte, so whichever of the two objects to the earlier byte
 * speaks, and cutting the input elsewhere changes nothing. */
#include <stdio.h>

#include "base/bytes.h"
#include "http/h1_head.h"

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

/* Names and values are only noted, so that a field that comes in one piece, as nearly all do, is
 * stored in one go. What is noted when the input ends is stored as a piece. */
static int on_header_field(llhttp_t *llhttp, const char *data, size_t size)
{
    head_of(llhttp)->name = (struct h1_span){ data, size };
    return 0;
}

static int on_header_value(llhttp_t *llhttp, const char *data, size_t size)
{
    head_of(llhttp)->value = (struct h1_span){ data, size };
    return 0;
}

/* Store what is noted as pieces of a field whose rest has not come yet. */
static enum il_code store_pieces(struct h1_head *head)
{
    enum il_code code = IL_OK;

    if (head->name.at != NULL) {
        code = headers_append_name(head->headers, head->name.at, head->name.size);
    }
    if (code == IL_OK && head->value.at != NULL) {
        code = headers_append_value(head->headers, head->value.at, head->value.size);
    }
    head->name.at = head->value.at = NULL;
    return code;
}

static enum il_code store_field(struct h1_head *head)
{
    enum il_code code;

    if (!headers_is_open(head->headers) && head->value.at != NULL) {
        code = headers_append(head->headers, head->name.at, head->name.size, head->value.at,
                              head->value.size);
        head->name.at = head->value.at = NULL;
        return code;
    }
    code = store_pieces(head);
    return code == IL_OK ? headers_commit(head->headers) : code;
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
    const struct headers_entry *entry;

    if (IL_UNLIKELY(store_field(head) != IL_OK)) {
        return fail_memory(head);
    }
    entry = &head->headers->entries[head->headers->count - 1];
    if (entry->name_size == 0) {
        return fail_wrong(head, "Header without a name");
    }
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
    const char *colon = head->lines.line_index > 0 ? memchr(at, ':', shown) : NULL;
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
    switch ((enum h1_fault)head->lines.fault) {
    case H1_FAULT_START_LINE: /* shown from its beginning, or what of it has just come */
        return fail_at(head, IL_EPROTOCOL, data, end,
                       "it does not begin with \"HTTP/1.1 \" or \"HTTP/1.0 \" and a status", err);
    case H1_FAULT_BARE_CR:
        return fail_at(head, IL_EPROTOCOL, at, end, "CR without LF", err);
    case H1_FAULT_BARE_LF:
        return fail_at(head, IL_EPROTOCOL, at, end, "LF without CR", err);
    case H1_FAULT_FOLD:
        return fail_at(head, IL_EPROTOCOL, at, end, "a line begins with a space (folded header)",
                       err);
    case H1_FAULT_SIZE:
        return fail_limit(head, "too many bytes", head->lines.limits.size_max,
                          head->is_trailer ? " bytes" : " bytes (header_size_max)", err);
    case H1_FAULT_LINE_SIZE:
        return fail_limit(head, "a line that is too long", head->lines.limits.line_size_max,
                          " bytes", err);
    case H1_FAULT_FIELD_COUNT:
        return fail_limit(head, "too many fields", head->lines.limits.field_count_max, "", err);
    case H1_FAULT_NONE:
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
    uint32_t size = section == H1_SECTION_NEXT_HEAD ? head->lines.size : 0;
    uint32_t field_count = section == H1_SECTION_HEAD ? 0 : head->lines.field_count;

    il_assert(limits->size_max <=
              HEADERS_SIZE_MAX); /* a field in a list is no larger than its line */
    il_assert(limits->field_count_max <= HEADERS_COUNT_MAX);
    *head = (struct h1_head){
        .is_trailer = section == H1_SECTION_TRAILER,
        .lines = { .limits = *limits, .size = size, .field_count = field_count },
        .headers = headers,
    };
    headers_reset(headers);
    llhttp_init(&head->llhttp, HTTP_RESPONSE, &head_settings);
    head->llhttp.data = head;
    if (head->is_trailer) { /* a header section without a start line: llhttp is given one */
        llhttp_errno_t code = llhttp_execute(&head->llhttp, primer, sizeof(primer) - 1);

        il_assert(code == HPE_OK);
        head->lines.line_index = 1;
    }
}

enum il_code h1_head_feed(struct h1_head *head, const char *data, size_t size, size_t *ret_consumed,
                          struct il_error *err)
{
    const char *end = data + size, *stop;
    llhttp_errno_t code;

    il_assert(!head->is_complete);
    il_assert(head->lines.fault == H1_FAULT_NONE);
    stop = h1_lines_run(&head->lines, data, end);
    code = llhttp_execute(&head->llhttp, data, (size_t)(stop - data));
    if (code == HPE_PAUSED && head->is_complete && head->lines.is_end) {
        *ret_consumed = (size_t)(stop - data);
        return IL_OK;
    }
    if (IL_UNLIKELY(store_pieces(head) != IL_OK)) {
        head->is_out_of_memory = true;
    }
    if (code != HPE_OK || head->is_out_of_memory) {
        return fail_from_llhttp(head, data, end, err);
    }
    if (head->lines.fault != H1_FAULT_NONE) {
        return fail_from_guard(head, data, stop, end, err);
    }
    if (head->lines.is_end) { /* an empty line where llhttp expected something else */
        return fail_at(head, IL_EPROTOCOL, stop, end, "it ends too early", err);
    }
    *ret_consumed = size;
    return IL_OK;
}
