/* show.c: results for people. Owns: nothing. Threads: one at a time. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/show.h"
#include "lab/words.h"

#define SHOW_COLUMNS     100
#define SHOW_CAUSE_WIDTH 27
#define SHOW_CELL_WIDTH  9 /* "starved!" and a space */

/* ---- colour and words ---- */

bool show_wants_colour(FILE *out)
{
    const char *term = getenv("TERM");
    const char *no_color = getenv("NO_COLOR");

    return isatty(fileno(out)) && (no_color == NULL || no_color[0] == '\0') && term != NULL &&
           strcmp(term, "dumb") != 0;
}

static const char *verdict_colour(enum lab_verdict verdict)
{
    static const char *const colours[LAB_VERDICT_COUNT] = {
        [LAB_OK] = "\033[32m",      [LAB_SLOW] = "\033[33m", [LAB_ERROR] = "\033[33m",
        [LAB_STARVED] = "\033[35m", [LAB_HUNG] = "\033[31m", [LAB_WRONG] = "\033[1;31m",
    };

    return colours[verdict];
}

static void put_bold(const struct show *show, const char *text)
{
    fprintf(show->out, "%s%s%s", show->has_colour ? "\033[1m" : "", text,
            show->has_colour ? "\033[0m" : "");
}

static void put_pad(const struct show *show, int width)
{
    fprintf(show->out, "%*s", width > 0 ? width : 0, "");
}

void show_verdict(const struct show *show, enum lab_verdict verdict, const char *suffix, int width)
{
    const char *name = lab_verdict_name(verdict);

    fprintf(show->out, "%s%s%s%s", show->has_colour ? verdict_colour(verdict) : "", name, suffix,
            show->has_colour ? "\033[0m" : "");
    put_pad(show, width - (int)(strlen(name) + strlen(suffix)));
}

void show_paragraph(const struct show *show, unsigned indent, const char *text)
{
    unsigned column = 0;

    while (*text != '\0') {
        unsigned size = (unsigned)strcspn(text, " ");

        if (column > indent && column + 1 + size > SHOW_COLUMNS) {
            fputc('\n', show->out);
            column = 0;
        }
        if (column == 0) {
            put_pad(show, (int)indent);
            column = indent;
        } else {
            fputc(' ', show->out);
            column++;
        }
        fprintf(show->out, "%.*s", (int)size, text);
        column += size;
        text += size;
        text += strspn(text, " ");
    }
    fputc('\n', show->out);
}

/* ---- timelines and chains ---- */

void show_timeline(const struct show *show, const struct timeline *timeline)
{
    uint32_t kept = timeline->count < TIMELINE_EVENTS_MAX ? timeline->count : TIMELINE_EVENTS_MAX;

    fprintf(show->out, "  %8s  %-10s  %-15s  %s\n", "ms", "runtime", "thread", "what");
    for (uint32_t i = 0; i < kept; i++) {
        const struct timeline_event *event = &timeline->events[i];

        fprintf(show->out, "  %8u  %-10s  %-15s  %s\n", event->at_ms,
                event->runtime[0] != '\0' ? event->runtime : "-", event->thread, event->text);
    }
    if (kept < timeline->count) {
        fprintf(show->out, "  and %u event%s more\n", timeline->count - kept,
                lab_plural(timeline->count - kept));
    }
}

void show_chain(const struct show *show, const struct result *result)
{
    for (unsigned i = 0; i < result->link_count; i++) {
        const struct il_watch_link *link = &result->links[i];
        char since[32] = "", line[512];

        if (link->since_ms > 0) {
            (void)snprintf(since, sizeof(since), " for %llu ms",
                           (unsigned long long)link->since_ms);
        }
        put_pad(show, (int)(4 + 2 * i));
        (void)snprintf(line, sizeof(line), "%s%s: %s%s", i > 0 ? "waits for " : "", link->who,
                       link->state, since);
        put_bold(show, line);
        fputc('\n', show->out);
        show_paragraph(show, 6 + 2 * i, link->detail);
    }
}

/* ---- the table ---- */

static const struct cell *find_cell(const struct matrix *matrix, size_t cause, size_t solution)
{
    for (size_t i = 0; i < matrix->cell_count; i++) {
        if (matrix->cells[i].cause == cause && matrix->cells[i].solution == solution) {
            return &matrix->cells[i];
        }
    }
    return NULL;
}

static bool has_column(const struct matrix *matrix, size_t solution)
{
    for (size_t i = 0; i < matrix->cell_count; i++) {
        if (matrix->cells[i].solution == solution) {
            return true;
        }
    }
    return false;
}

/* The last column is not padded. */
static int column_width(const struct matrix *matrix, size_t solution)
{
    for (size_t s = solution + 1; s < catalogue_solution_count(); s++) {
        if (has_column(matrix, s)) {
            int width = (int)strlen(catalogue_solution(solution)->name) + 1;

            return width > SHOW_CELL_WIDTH ? width : SHOW_CELL_WIDTH;
        }
    }
    return 0;
}

static void show_cell(const struct show *show, const struct cell *cell, int width)
{
    if (cell == NULL) {
        put_pad(show, width);
    } else if (cell->is_broken) {
        fprintf(show->out, "%sBROKEN!%s", show->has_colour ? "\033[1;31m" : "",
                show->has_colour ? "\033[0m" : "");
        put_pad(show, width - 7);
    } else {
        show_verdict(show, cell->verdict, cell->is_as_expected ? "" : "!", width);
    }
}

static void show_table(const struct show *show, const struct matrix *matrix)
{
    put_pad(show, SHOW_CAUSE_WIDTH);
    for (size_t s = 0; s < catalogue_solution_count(); s++) {
        if (has_column(matrix, s)) {
            put_bold(show, catalogue_solution(s)->name);
            put_pad(show, column_width(matrix, s) - (int)strlen(catalogue_solution(s)->name));
        }
    }
    fputc('\n', show->out);
    for (size_t i = 0; i < matrix->cell_count; i++) {
        size_t cause = matrix->cells[i].cause;

        if (i > 0 && matrix->cells[i - 1].cause == cause) {
            continue;
        }
        fprintf(show->out, "%-*s", SHOW_CAUSE_WIDTH, catalogue_cause(cause)->name);
        for (size_t s = 0; s < catalogue_solution_count(); s++) {
            if (has_column(matrix, s)) {
                show_cell(show, find_cell(matrix, cause, s), column_width(matrix, s));
            }
        }
        fputc('\n', show->out);
    }
}

static void show_legend(const struct show *show, const struct matrix *matrix)
{
    bool has_mark = false;

    fputc('\n', show->out);
    for (int v = 0; v < LAB_VERDICT_COUNT; v++) {
        bool is_seen = false;

        for (size_t i = 0; i < matrix->cell_count; i++) {
            is_seen = is_seen || (int)matrix->cells[i].verdict == v;
            has_mark = has_mark || !matrix->cells[i].is_as_expected;
        }
        if (is_seen) {
            fputs("  ", show->out);
            show_verdict(show, (enum lab_verdict)v, "", 9);
            fprintf(show->out, "%s\n", lab_verdict_meaning((enum lab_verdict)v));
        }
    }
    if (has_mark) {
        fputs("  !        not as the catalogue of expected verdicts says\n", show->out);
    }
}

/* ---- paragraphs ---- */

/* "hung, as expected (3 of 3)" */
static void show_outcome(const struct show *show, const struct cell *cell)
{
    enum lab_verdict expected = catalogue_expectation(cell->cause, cell->solution)->verdict;
    unsigned count = 0;

    for (unsigned i = 0; i < cell->run_count; i++) {
        count += cell->runs[i].verdict == cell->verdict;
    }
    show_verdict(show, cell->verdict, "", 0);
    if (cell->verdict == expected) {
        fputs(", as expected", show->out);
    } else {
        fprintf(show->out, ", expected was %s", lab_verdict_name(expected));
    }
    if (cell->run_count > 1) {
        fprintf(show->out, " (%u of %u runs)", count, cell->run_count);
    }
    fputc('\n', show->out);
}

static void show_broken(const struct show *show, const struct cell *cell)
{
    for (unsigned i = 0; i < cell->run_count; i++) {
        if (cell->runs[i].is_broken) {
            fprintf(show->out, "  Run %u is broken:\n", i + 1);
            show_paragraph(show, 4, cell->runs[i].broken);
        }
    }
}

static void show_cell_paragraph(const struct show *show, const struct cell *cell)
{
    const struct expectation *expectation = catalogue_expectation(cell->cause, cell->solution);
    const struct result *run = cell_shown(cell);
    char text[RESULT_NOTE_SIZE + IL_ERROR_MESSAGE_SIZE];

    fputc('\n', show->out);
    put_bold(show, catalogue_cause(cell->cause)->name);
    fputs(" under ", show->out);
    put_bold(show, catalogue_solution(cell->solution)->name);
    fputs(": ", show->out);
    show_outcome(show, cell);
    if (cell->verdict == expectation->verdict) {
        (void)snprintf(text, sizeof(text), "%s.", expectation->reason);
        show_paragraph(show, 2, text);
    }
    if (run->note[0] != '\0') {
        (void)snprintf(text, sizeof(text), "Measured: %s.", run->note);
        show_paragraph(show, 2, text);
    }
    if (run->error.code != IL_OK) {
        (void)snprintf(text, sizeof(text), "The error: %s: %s.", il_code_name(run->error.code),
                       run->error.message);
        show_paragraph(show, 2, text);
    }
    if (run->link_count > 0) {
        fputs("  The proof, a chain of waits that stood still in every look:\n", show->out);
        show_chain(show, run);
    }
    show_broken(show, cell);
}

void show_matrix(const struct show *show, const struct matrix *matrix)
{
    show_table(show, matrix);
    show_legend(show, matrix);
    for (size_t i = 0; i < matrix->cell_count; i++) {
        const struct cell *cell = &matrix->cells[i];

        if (cell->verdict != LAB_OK || !cell->is_as_expected) {
            show_cell_paragraph(show, cell);
        }
    }
}

/* ---- the list ---- */

void show_list(const struct show *show)
{
    put_bold(show, "Causes");
    fputs(" (rows)\n", show->out);
    for (size_t i = 0; i < catalogue_cause_count(); i++) {
        fprintf(show->out, "  %-26s %s\n", catalogue_cause(i)->name, catalogue_cause(i)->summary);
    }
    fputc('\n', show->out);
    put_bold(show, "Solutions");
    fputs(" (columns)\n", show->out);
    for (size_t i = 0; i < catalogue_solution_count(); i++) {
        fprintf(show->out, "  %-18s %s\n", catalogue_solution(i)->name,
                catalogue_solution(i)->summary);
    }
    fputc('\n', show->out);
    put_bold(show, "Roles");
    fputc('\n', show->out);
    show_paragraph(
        show, 2,
        "Runtime A is the first user of the client. What a cause does, it does to A: A "
        "stops driving its runtime, or drops it. Runtime B is the one whose requests are "
        "judged.");
    show_paragraph(show, 2,
                   "`busy` and its kin block the runtime that does the I/O for A: A itself, or, "
                   "where a solution has a runtime that does it for everybody, that one. Such "
                   "runtimes are never parked or dropped: keeping one alive is what those "
                   "solutions are about.");
    show_paragraph(show, 2,
                   "Hand-over is switched off, as in the worlds that do not have it, but for the "
                   "rows NAME+hand-over, where it is on in every runtime, and for the column "
                   "`interloop`, which has the library's defaults throughout.");
}
