/* reproduce.c: the command line of `interloop reproduce`.
 *
 * Owns: the matrix while it is played and shown. Threads: the only one of its process. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/report_json.h"
#include "lab/reproduce.h"
#include "lab/show.h"

#define REPRODUCE_TIMEOUT_MS     5000
#define REPRODUCE_TIMEOUT_MAX_MS 600000
#define REPRODUCE_TIMEOUT_MIN_MS 500 /* the server itself takes that long for some answers */
#define REPRODUCE_ITEMS_MAX      32  /* causes, solutions */
#define REPRODUCE_HOLD_S         300
#define REPRODUCE_HOLD_MAX_S     600

struct options {
    bool has_cause[REPRODUCE_ITEMS_MAX], has_solution[REPRODUCE_ITEMS_MAX];
    bool chose_cause, chose_solution;
    unsigned repeat;
    uint64_t timeout_ms, hold_ms;
    bool has_tls, json, list, verbose, help;
};

static const char help_text[] =
    "usage: interloop reproduce [options]\n"
    "\n"
    "Plays every cause of a hanging request under every solution, with real sockets, threads and\n"
    "clients, and says how each came out. That a request hangs is proven, by the chain of waits "
    "that\n"
    "it is in, and never concluded from the time that has passed.\n"
    "\n"
    "  --cause NAME      only this row; may be given again, or as a list: parked,busy\n"
    "  --solution NAME   only this column; likewise\n"
    "  --repeat N        play each cell N times; all runs must agree (default 1)\n"
    "  --timeout SECONDS limit for each request (default 5)\n"
    "  --hold[=SECONDS]  leave the one cell that is named as it is once its request hangs, so "
    "that\n"
    "                    the doctor can be tried on it (default 300, at most 600)\n"
    "  --tls             over https, with a CA and a certificate made for the occasion\n"
    "  --json            one JSON object\n"
    "  --list            the causes and the solutions, and who plays which part\n"
    "  -v, --verbose     the timeline of every run (with --json: on stderr)\n"
    "  -h, --help        this text\n"
    "\n"
    "Exit status: 0 every cell came out as the catalogue of expected verdicts says, 1 one did "
    "not,\n"
    "2 wrong usage, 3 could not do it.\n";

enum {
    OPTION_CAUSE = 256,
    OPTION_SOLUTION,
    OPTION_REPEAT,
    OPTION_TIMEOUT,
    OPTION_HOLD,
    OPTION_TLS,
    OPTION_JSON,
    OPTION_LIST
};

static const struct option long_options[] = {
    { "cause", required_argument, NULL, OPTION_CAUSE },
    { "solution", required_argument, NULL, OPTION_SOLUTION },
    { "repeat", required_argument, NULL, OPTION_REPEAT },
    { "timeout", required_argument, NULL, OPTION_TIMEOUT },
    { "hold", optional_argument, NULL, OPTION_HOLD },
    { "tls", no_argument, NULL, OPTION_TLS },
    { "json", no_argument, NULL, OPTION_JSON },
    { "list", no_argument, NULL, OPTION_LIST },
    { "verbose", no_argument, NULL, 'v' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* ---- options ---- */

static const char *cause_name_at(unsigned index)
{
    return index < catalogue_cause_count() ? catalogue_cause(index)->name : NULL;
}

static const char *solution_name_at(unsigned index)
{
    return index < catalogue_solution_count() ? catalogue_solution(index)->name : NULL;
}

/* "parked,busy" */
static bool choose(const char *names, const char *kind, size_t (*find)(const char *name),
                   const char *(*name_at)(unsigned index), bool *chosen)
{
    while (true) {
        size_t size = strcspn(names, ",");
        char name[64];
        size_t index;

        (void)snprintf(name, sizeof(name), "%.*s", (int)size, names);
        index = find(name);
        if (name_at((unsigned)index) == NULL) {
            suggest("interloop reproduce", kind, name, name_at);
            return false;
        }
        chosen[index] = true;
        if (names[size] == '\0') {
            return true;
        }
        names += size + 1;
    }
}

static bool parse_repeat(const char *text, unsigned *ret_repeat)
{
    char *end;
    long count;

    errno = 0;
    count = strtol(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || count < 1 || count > MATRIX_REPEAT_MAX) {
        fprintf(stderr, "interloop reproduce: --repeat is a number from 1 to %d, not '%.64s'\n",
                MATRIX_REPEAT_MAX, text);
        return false;
    }
    *ret_repeat = (unsigned)count;
    return true;
}

static bool parse_timeout(const char *text, uint64_t *ret_ms)
{
    char *end;
    double seconds;

    errno = 0;
    seconds = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 ||
        !(seconds * 1000 > REPRODUCE_TIMEOUT_MIN_MS &&
          seconds * 1000 <= REPRODUCE_TIMEOUT_MAX_MS)) {
        fprintf(stderr,
                "interloop reproduce: --timeout is a number of seconds, over %g and at most %d, "
                "not '%.64s'\n",
                REPRODUCE_TIMEOUT_MIN_MS / 1000.0, REPRODUCE_TIMEOUT_MAX_MS / 1000, text);
        return false;
    }
    *ret_ms = (uint64_t)(seconds * 1000);
    return true;
}

static bool parse_hold(const char *text, uint64_t *ret_ms)
{
    char *end = "";
    long seconds = REPRODUCE_HOLD_S;

    errno = 0;
    if (text != NULL) {
        seconds = strtol(text, &end, 10);
    }
    if (end == text || *end != '\0' || errno != 0 || seconds < 1 ||
        seconds > REPRODUCE_HOLD_MAX_S) {
        fprintf(stderr,
                "interloop reproduce: --hold is a number of seconds, from 1 to %d, not '%.64s'\n",
                REPRODUCE_HOLD_MAX_S, text);
        return false;
    }
    *ret_ms = (uint64_t)seconds * 1000;
    return true;
}

/* False: it is wrong, and has been said. */
static bool take_option(int option, struct options *options)
{
    switch (option) {
    case OPTION_CAUSE:
        options->chose_cause = true;
        return choose(optarg, "cause", catalogue_find_cause, cause_name_at, options->has_cause);
    case OPTION_SOLUTION:
        options->chose_solution = true;
        return choose(optarg, "solution", catalogue_find_solution, solution_name_at,
                      options->has_solution);
    case OPTION_REPEAT:
        return parse_repeat(optarg, &options->repeat);
    case OPTION_TIMEOUT:
        return parse_timeout(optarg, &options->timeout_ms);
    case OPTION_HOLD:
        return parse_hold(optarg, &options->hold_ms);
    case OPTION_TLS:
        options->has_tls = true;
        return true;
    case OPTION_JSON:
        options->json = true;
        return true;
    case OPTION_LIST:
        options->list = true;
        return true;
    case 'v':
        options->verbose = true;
        return true;
    case 'h':
        options->help = true;
        return true;
    default: /* getopt has said what is wrong */
        return false;
    }
}

static bool is_one_cell(const struct options *options)
{
    unsigned cause_count = 0, solution_count = 0;

    for (size_t i = 0; i < REPRODUCE_ITEMS_MAX; i++) {
        cause_count += options->has_cause[i];
        solution_count += options->has_solution[i];
    }
    return cause_count == 1 && solution_count == 1 && options->repeat == 1;
}

static bool parse_options(int argc, char **argv, struct options *options)
{
    int option;

    *options = (struct options){ .repeat = 1, .timeout_ms = REPRODUCE_TIMEOUT_MS };
    optind = 0; /* start anew */
    while ((option = getopt_long(argc, argv, "vh", long_options, NULL)) != -1) {
        if (!take_option(option, options)) {
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "interloop reproduce: '%.64s' is one word too many\n", argv[optind]);
        return false;
    }
    if (options->hold_ms > 0 && !is_one_cell(options)) {
        fprintf(stderr, "interloop reproduce: --hold wants one --cause and one --solution, and no "
                        "--repeat\n");
        return false;
    }
    for (size_t i = 0; i < REPRODUCE_ITEMS_MAX; i++) {
        options->has_cause[i] = options->has_cause[i] || !options->chose_cause;
        options->has_solution[i] = options->has_solution[i] || !options->chose_solution;
    }
    return true;
}

/* ---- progress and timelines ---- */

struct progress {
    bool is_shown; /* stderr is a terminal */
    bool is_verbose;
    unsigned repeat;
    struct show show; /* where timelines go */
};

static void progress_clear(const struct progress *progress)
{
    if (progress->is_shown) {
        fputs("\r\033[K", stderr);
    }
}

static void on_progress(void *arg, const struct cell *cell, size_t cell_index, size_t cell_count,
                        unsigned run, const struct timeline *timeline)
{
    const struct progress *progress = arg;
    const char *cause = catalogue_cause(cell->cause)->name;
    const char *solution = catalogue_solution(cell->solution)->name;

    progress_clear(progress);
    if (timeline == NULL && progress->is_shown) {
        fprintf(stderr, "%zu of %zu: %s under %s, run %u of %u", cell_index + 1, cell_count, cause,
                solution, run + 1, progress->repeat);
    }
    if (timeline != NULL && progress->is_verbose) {
        fprintf(progress->show.out, "%s under %s, run %u: ", cause, solution, run + 1);
        show_verdict(&progress->show, cell->runs[run].verdict, "", 0);
        fprintf(progress->show.out, ", %u ms%s%s\n", cell->runs[run].elapsed_ms,
                cell->runs[run].note[0] != '\0' ? ": " : "", cell->runs[run].note);
        show_timeline(&progress->show, timeline);
        fputc('\n', progress->show.out);
    }
}

/* ---- a cell that is held ---- */

static FILE *held_out; /* stdout, or stderr if that is for machines; set before the run begins */

/* Runs in the cell's own process. */
static void on_held(const struct world *world, const struct judged *judged)
{
    fprintf(held_out,
            "%s under %s: %s is %s, and process %d stays like this for %llu s or until Ctrl-C.\n"
            "In another terminal:\n"
            "\n"
            "    interloop doctor %d\n"
            "\n",
            world->cause->name, world->solution->name, judged->name,
            il_verdict_name(judged->proven), getpid(),
            (unsigned long long)world->options.hold_ms / 1000, getpid());
    (void)fflush(held_out);
}

static void say_not_held(const struct matrix *matrix)
{
    enum lab_verdict verdict = matrix->cells[0].verdict;

    if (verdict != LAB_HUNG && verdict != LAB_STARVED) {
        fprintf(held_out, "Nothing hangs here, so there was nothing to hold.\n");
    }
}

/* ---- the command ---- */

static int reproduce(const struct options *options)
{
    FILE *timelines = options->json ? stderr : stdout;
    struct progress progress = { .is_shown = isatty(STDERR_FILENO) == 1,
                                 .is_verbose = options->verbose,
                                 .repeat = options->repeat,
                                 .show = { timelines, show_wants_colour(timelines) } };
    struct matrix_options matrix_options = { .has_cause = options->has_cause,
                                             .has_solution = options->has_solution,
                                             .repeat = options->repeat,
                                             .world = { .limit_ms =
                                                            options->timeout_ms + options->hold_ms,
                                                        .has_tls = options->has_tls,
                                                        .hold_ms = options->hold_ms,
                                                        .on_held = on_held },
                                             .on_progress = on_progress,
                                             .arg = &progress };
    struct matrix matrix;
    struct il_error err = { 0 };
    int status;

    held_out = timelines;
    if (!matrix_play(&matrix_options, &matrix, &err)) {
        progress_clear(&progress);
        fprintf(stderr, "interloop reproduce: %s\n", err.message);
        return 3;
    }
    progress_clear(&progress);
    if (options->json) {
        report_matrix_json(stdout, &matrix);
    } else {
        struct show show = { stdout, show_wants_colour(stdout) };

        show_matrix(&show, &matrix);
    }
    if (options->hold_ms > 0) {
        say_not_held(&matrix);
    }
    status = matrix_status(&matrix);
    matrix_deinit(&matrix);
    return status;
}

int reproduce_main(int argc, char **argv)
{
    struct options options;

    if (!parse_options(argc, argv, &options)) {
        return 2;
    }
    if (options.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (options.list) {
        struct show show = { stdout, show_wants_colour(stdout) };

        if (options.json) {
            report_list_json(stdout);
        } else {
            show_list(&show);
        }
        return 0;
    }
    return reproduce(&options);
}
