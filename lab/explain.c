/* explain.c: `interloop explain CAUSE`: one cause step by step.
 *
 * Owns: the matrix of one row while it is played and shown. Threads: the only one of its process.
 */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "lab/reproduce.h"
#include "lab/show.h"

#define EXPLAIN_TIMEOUT_MS 5000
#define EXPLAIN_ITEMS_MAX  32

static const char help_text[] =
    "usage: interloop explain CAUSE\n"
    "       interloop explain --list\n"
    "\n"
    "Plays one cause of a hanging request and tells it step by step: what happens in which "
    "runtime\n"
    "and thread, which chain of waits comes about, and what each solution changes. Of a cause "
    "that\n"
    "is there with hand-over too, both are played.\n"
    "\n"
    "  --list      the causes\n"
    "  -h, --help  this text\n"
    "\n"
    "Exit status: 0 every solution came out as expected, 1 one did not, 2 wrong usage, 3 could "
    "not\n"
    "do it.\n";

static const struct option long_options[] = {
    { "list", no_argument, NULL, 'l' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

static const char *cause_name_at(unsigned index)
{
    return index < catalogue_cause_count() ? catalogue_cause(index)->name : NULL;
}

/* ---- telling ---- */

static void title(const struct show *show, const char *text)
{
    fprintf(show->out, "\n%s%s%s\n", show->has_colour ? "\033[1m" : "", text,
            show->has_colour ? "\033[0m" : "");
}

static void tell_shared(const struct show *show, const struct cell *cell,
                        const struct timeline *timeline)
{
    const struct result *run = &cell->runs[0];

    title(show, "What happens with one shared client (solution `shared`)");
    show_timeline(show, timeline);
    if (run->link_count > 0) {
        title(show, "Why: the chain of waits");
        show_chain(show, run);
    }
}

/* Timelines are there only while the matrix is being played; so the story is told on the way. */
static void on_progress(void *arg, const struct cell *cell, size_t cell_index, size_t cell_count,
                        unsigned run, const struct timeline *timeline)
{
    const struct show *show = arg;
    size_t column_count = catalogue_solution_count();

    (void)cell_count;
    (void)run;
    if (timeline == NULL) {
        return;
    }
    if (cell_index == 0) {
        tell_shared(show, cell, timeline);
    } else if (cell_index + 1 == column_count) {
        title(show, "The same with the default client (solution `interloop`)");
        show_timeline(show, timeline);
    } else if (cell_index == column_count) {
        title(show, "The same with one shared client, and hand-over switched on");
        show_timeline(show, timeline);
    }
}

static void tell_solutions(const struct show *show, const struct matrix *matrix)
{
    size_t column_count = catalogue_solution_count();

    for (size_t i = 0; i < matrix->cell_count; i++) {
        const struct cell *cell = &matrix->cells[i];
        const struct expectation *expectation = catalogue_expectation(cell->cause, cell->solution);

        if (i % column_count == 0) {
            title(show,
                  i == 0 ? "What each solution changes" : "What hand-over changes in each of them");
        }
        fprintf(show->out, "  %-15s ", catalogue_solution(cell->solution)->name);
        show_verdict(show, cell->verdict, cell->is_as_expected ? "" : "!", 0);
        fputc('\n', show->out);
        if (cell->verdict == expectation->verdict) {
            show_paragraph(show, 18, expectation->reason);
        } else {
            fprintf(show->out, "%18sexpected was %s\n", "", lab_verdict_name(expectation->verdict));
        }
        if (cell->is_broken) {
            show_paragraph(show, 18, cell->runs[0].broken);
        }
    }
}

static int explain(size_t cause)
{
    bool has_cause[EXPLAIN_ITEMS_MAX] = { false }, has_solution[EXPLAIN_ITEMS_MAX];
    struct show show = { stdout, show_wants_colour(stdout) };
    struct matrix_options options = { .has_cause = has_cause,
                                      .has_solution = has_solution,
                                      .repeat = 1,
                                      .world = { .limit_ms = EXPLAIN_TIMEOUT_MS },
                                      .on_progress = on_progress,
                                      .arg = &show };
    struct matrix matrix;
    struct il_error err = { 0 };
    int status;

    has_cause[cause] = true;
    if (catalogue_cause(cause)->with_hand_over != NULL) {
        has_cause[catalogue_find_cause(catalogue_cause(cause)->with_hand_over->name)] = true;
    }
    memset(has_solution, 1, sizeof(has_solution));
    title(&show, catalogue_cause(cause)->name);
    show_paragraph(&show, 2, catalogue_cause(cause)->story);
    if (!matrix_play(&options, &matrix, &err)) {
        fprintf(stderr, "interloop explain: %s\n", err.message);
        return 3;
    }
    tell_solutions(&show, &matrix);
    status = matrix_status(&matrix);
    matrix_deinit(&matrix);
    return status;
}

/* ---- the command ---- */

int explain_main(int argc, char **argv)
{
    bool wants_list = false;
    size_t cause;
    int option;

    optind = 0; /* start anew */
    while ((option = getopt_long(argc, argv, "lh", long_options, NULL)) != -1) {
        if (option == 'h') {
            fputs(help_text, stdout);
            return 0;
        }
        if (option != 'l') {
            return 2; /* getopt has said what is wrong */
        }
        wants_list = true;
    }
    if (wants_list) {
        for (size_t i = 0; i < catalogue_cause_count(); i++) {
            printf("%-26s %s\n", catalogue_cause(i)->name, catalogue_cause(i)->summary);
        }
        return 0;
    }
    if (optind + 1 != argc) {
        fprintf(stderr, "interloop explain: which cause? Give one; --list shows them\n");
        return 2;
    }
    cause = catalogue_find_cause(argv[optind]);
    if (cause == catalogue_cause_count()) {
        suggest("interloop explain", "cause", argv[optind], cause_name_at);
        return 2;
    }
    return explain(cause);
}
