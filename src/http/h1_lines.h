/* h1_lines.h: the guard that runs over the lines of a header section before llhttp sees them.
 *
 * llhttp, even in strict mode, lets pass what the rules forbid and attackers like: a bare LF at the
 * end of the status line and of the section, empty lines before it, HTTP/0.9 and 2.0; and it knows
 * no limits. The guard checks just that, at the speed of memchr. It also refuses headers folded
 * over several lines, which RFC 9112 5.2 would have a client join: two parsers on the way may join
 * them differently. Its answer does not depend on how the input is cut. Private to src/http. */
#ifndef IL_HTTP_H1_LINES_H
#define IL_HTTP_H1_LINES_H

#include "base/base.h"

enum h1_fault {
    H1_FAULT_NONE,
    H1_FAULT_START_LINE, /* not HTTP/1.x with three digits */
    H1_FAULT_BARE_CR,
    H1_FAULT_BARE_LF,
    H1_FAULT_FOLD,
    H1_FAULT_SIZE,
    H1_FAULT_LINE_SIZE,
    H1_FAULT_FIELD_COUNT,
};

struct h1_head_limits {
    uint32_t size_max; /* of all lines with their ends */
    uint32_t line_size_max;
    uint32_t field_count_max;
};

struct h1_lines {
    struct h1_head_limits limits;
    uint32_t size;        /* of everything that size_max is for, so far */
    uint32_t field_count; /* lines that are fields, so far */
    uint32_t line_index;  /* 0 is the status line; a section without one begins at 1 */
    uint32_t line_size;   /* of the line being read, so far */
    uint8_t fault;        /* enum h1_fault */
    bool last_was_cr;
    bool is_end; /* the empty line is over */
};

/* Run over [data, end). Returns where llhttp must stop: behind the section's empty line (is_end),
 * at the first byte that is wrong (fault), or at `end`. */
const char *h1_lines_run(struct h1_lines *lines, const char *data, const char *end);

#endif
