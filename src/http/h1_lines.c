/* h1_lines.c: the guard that runs over the lines of a header section. No state of its own.
 *
 * Line by line: find its LF, then look at what is before it. What a fault is reported at is the
 * first byte that makes it one, so that a caller who stops there has seen the same wherever the
 * input was cut. */
#include "http/h1_lines.h"

/* '#' is a digit. What follows is a space or the line's end. */
static const char start_line_pattern[] = "HTTP/1.# ###";
enum { START_LINE_PATTERN_SIZE = sizeof(start_line_pattern) - 1 };

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* How many of the line's next bytes, which begin at `p`, agree with the pattern. */
static size_t start_line_match(const struct h1_lines *lines, const char *p, size_t size)
{
    size_t i = 0;

    if (lines->line_size == 0 && size > START_LINE_PATTERN_SIZE && memcmp(p, "HTTP/1.1 ", 9) == 0 &&
        is_digit(p[9]) && is_digit(p[10]) && is_digit(p[11]) && p[12] == ' ') {
        return size; /* as nearly always */
    }
    for (size_t at = lines->line_size; i < size && at < START_LINE_PATTERN_SIZE; i++, at++) {
        char want = start_line_pattern[at];

        if (want == '#' ? !is_digit(p[i]) : p[i] != want) {
            return i;
        }
    }
    if (i < size && lines->line_size + i == START_LINE_PATTERN_SIZE && p[i] != ' ' &&
        p[i] != '\r') {
        return i;
    }
    return size;
}

static const char *stop_at(struct h1_lines *lines, enum h1_fault fault, const char *at)
{
    lines->fault = fault;
    return at;
}

/* The bytes [p, end) of a line, without its LF: check them and count them. Returns NULL if all are
 * fine, else the first that is not. */
static inline const char *check_line_bytes(struct h1_lines *lines, const char *p, const char *end)
{
    uint32_t line_left = lines->limits.line_size_max - lines->line_size;
    uint32_t left = lines->limits.size_max - lines->size;
    enum h1_fault limit_fault = H1_FAULT_NONE;
    const char *limited_end = end, *cr;

    if (IL_UNLIKELY((size_t)(end - p) > (left < line_left ? left : line_left))) {
        limit_fault = left < line_left ? H1_FAULT_SIZE : H1_FAULT_LINE_SIZE;
        limited_end = p + (left < line_left ? left : line_left);
    }
    if (lines->last_was_cr && p < limited_end) {
        return stop_at(lines, H1_FAULT_BARE_CR, p);
    }
    if (lines->line_index == 0) {
        size_t size = (size_t)(limited_end - p), matched = start_line_match(lines, p, size);

        if (matched < size) {
            return stop_at(lines, H1_FAULT_START_LINE, p + matched);
        }
    } else if (lines->line_size == 0 && p < limited_end && *p != '\r') {
        if (*p == ' ' || *p == '\t') {
            return stop_at(lines, H1_FAULT_FOLD, p);
        }
        if (lines->field_count == lines->limits.field_count_max) {
            return stop_at(lines, H1_FAULT_FIELD_COUNT, p);
        }
        lines->field_count++;
    }
    cr = memchr(p, '\r', (size_t)(limited_end - p));
    if (cr != NULL && cr + 1 < limited_end) {
        return stop_at(lines, H1_FAULT_BARE_CR, cr + 1);
    }
    if (limit_fault != H1_FAULT_NONE) {
        return stop_at(lines, limit_fault, limited_end);
    }
    lines->last_was_cr = lines->last_was_cr || cr != NULL;
    lines->line_size += (uint32_t)(end - p);
    lines->size += (uint32_t)(end - p);
    return NULL;
}

/* The line's LF, at `lf`. Returns NULL if it is fine, else `lf`. */
static inline const char *check_line_end(struct h1_lines *lines, const char *lf)
{
    if (lines->line_index == 0 && lines->line_size < START_LINE_PATTERN_SIZE) {
        return stop_at(lines, H1_FAULT_START_LINE, lf);
    }
    if (!lines->last_was_cr) {
        return stop_at(lines, H1_FAULT_BARE_LF, lf);
    }
    if (lines->size == lines->limits.size_max) {
        return stop_at(lines, H1_FAULT_SIZE, lf);
    }
    lines->size++;
    lines->is_end = lines->line_size == 1; /* only its CR */
    lines->line_size = 0;
    lines->line_index++;
    lines->last_was_cr = false;
    return NULL;
}

const char *h1_lines_run(struct h1_lines *lines, const char *data, const char *end)
{
    struct h1_lines local = *lines; /* what changes with every line stays in registers */
    const char *p = data;

    while (p < end && !local.is_end) {
        const char *lf = memchr(p, '\n', (size_t)(end - p));
        const char *wrong = check_line_bytes(&local, p, lf != NULL ? lf : end);

        if (wrong == NULL && lf != NULL) {
            wrong = check_line_end(&local, lf);
        }
        if (wrong != NULL) {
            p = wrong;
            break;
        }
        p = lf != NULL ? lf + 1 : end;
    }
    *lines = local;
    return p;
}
