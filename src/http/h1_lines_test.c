#include "http/h1_lines.h"
#include "tests/check.h"
#include "tests/guarded.h"

static const struct h1_head_limits limits = { .size_max = 60,
                                              .line_size_max = 30,
                                              .field_count_max = 2 };

struct lines_case {
    const char *data;
    enum h1_fault fault; /* H1_FAULT_NONE: the section ends, or the input does */
    size_t stop;         /* where */
};

#define OK "HTTP/1.1 200 OK\r\n" /* 17 bytes */

/* Cut into pieces of `piece` bytes. */
static void check_lines(const struct lines_case *c, size_t piece)
{
    struct guarded input = guarded_new(256);
    struct h1_lines lines = { .limits = limits };
    size_t size = strlen(c->data), at = 0;

    while (at < size && lines.fault == H1_FAULT_NONE && !lines.is_end) {
        size_t part = piece < size - at ? piece : size - at;
        const char *data = guarded_put(&input, c->data + at, part);
        const char *stop = h1_lines_run(&lines, data, data + part);

        CHECK(stop >= data && stop <= data + part);
        CHECK(stop == data + part || lines.is_end || lines.fault != H1_FAULT_NONE);
        at += (size_t)(stop - data);
    }
    if (lines.fault != c->fault || at != c->stop) {
        check_fail(__FILE__, __LINE__, "'%s' by %zu: fault %d at %zu, want %d at %zu", c->data,
                   piece, lines.fault, at, c->fault, c->stop);
    }
    guarded_free(&input);
}

TEST(line_guard_stops_at_the_first_wrong_byte_however_the_input_is_cut)
{
    static const struct lines_case cases[] = {
        { OK "\r\nrest", H1_FAULT_NONE, 19 },
        { OK "A: b\r\nC:\r\n\r\nrest", H1_FAULT_NONE, 29 },
        { OK "A: b\r\n", H1_FAULT_NONE, 23 },
        { "HTTP/1.1 200\r\n\r\n", H1_FAULT_NONE, 16 },
        { "HTTP/1.7 999 \r\n\r\n", H1_FAULT_NONE, 17 },
        { "", H1_FAULT_NONE, 0 },
        { "\r\n", H1_FAULT_START_LINE, 0 },
        { "\n", H1_FAULT_START_LINE, 0 },
        { "HTTP/2 200 \r\n", H1_FAULT_START_LINE, 5 },
        { "HTTP/1.1  200", H1_FAULT_START_LINE, 9 },
        { "HTTP/1.1 20\n", H1_FAULT_START_LINE, 11 },
        { "HTTP/1.1 20\r\n", H1_FAULT_START_LINE, 11 },
        { "HTTP/1.1 2000", H1_FAULT_START_LINE, 12 },
        { "HTTP/1.1 200x", H1_FAULT_START_LINE, 12 },
        { "HTTP/1.1 20:", H1_FAULT_START_LINE, 11 },
        { "HTTP/1.1 200\n", H1_FAULT_BARE_LF, 12 },
        { "HTTP/1.1 200 OK\n", H1_FAULT_BARE_LF, 15 },
        { OK "\n", H1_FAULT_BARE_LF, 17 },
        { OK "A: b\n", H1_FAULT_BARE_LF, 21 },
        { OK "A: b\rc\r\n", H1_FAULT_BARE_CR, 22 },
        { OK "A: b\r\r\n", H1_FAULT_BARE_CR, 22 },
        { OK "\rA\r\n", H1_FAULT_BARE_CR, 18 },
        { OK "\r\r\n", H1_FAULT_BARE_CR, 18 },
        { OK " A: b\r\n", H1_FAULT_FOLD, 17 },
        { OK "A: b\r\n\tc\r\n", H1_FAULT_FOLD, 23 },
        { OK "A: 456789012345678901234567890", H1_FAULT_NONE, 47 },
        { OK "A: 4567890123456789012345678901", H1_FAULT_LINE_SIZE, 47 },
        { OK "A: 45678901234567890123456789\r\n", H1_FAULT_NONE, 48 },
        { OK "A: 456789012345678901234567890\r\n", H1_FAULT_LINE_SIZE, 47 },
        { OK "A: b\r\nC: d\r\n\r\n", H1_FAULT_NONE, 31 },
        { OK "A: b\r\nC: d\r\nE", H1_FAULT_FIELD_COUNT, 29 },
        { OK "A: 45678901234567890\r\nB: 45678901234567\r\n\r\n", H1_FAULT_NONE, 60 },
        { OK "A: 45678901234567890\r\nB: 456789012345678\r\n\r\n", H1_FAULT_SIZE, 60 },
        { OK "A: 45678901234567890\r\nB: 4567890123456789\r\n\r\n", H1_FAULT_SIZE, 60 },
        { OK "A: 45678901234567890\r\nB: 45678901234567890123456", H1_FAULT_SIZE, 60 },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (size_t piece = 1; piece < 80; piece++) {
            check_lines(&cases[i], piece);
        }
    }
}
