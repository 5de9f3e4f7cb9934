/* explore.c: the command line of `interloop explore`, and its report.
 *
 * Owns: the findings while they are shown. Threads: the only one of its process. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/explore.h"
#include "lab/json.h"
#include "lab/reproduce.h"
#include "lab/show.h"
#include "lab/words.h"

#define EXPLORE_SEEDS_DEFAULT 1000

struct options {
    struct explore_series series;
    struct explore_run replay; /* without, calm, seed */
    bool is_replay, is_shrink, json, verbose, help;
    bool chose_solution;
};

static const char help_text[] =
    "usage: interloop explore [options]\n"
    "\n"
    "Plays causes and a general workload in a simulated world: threads, clock and network are\n"
    "simulated, and each seed is another order of events. What is found with a seed can be played\n"
    "again with it, as often as one likes.\n"
    "\n"
    "  --cause NAME      one cause, or 'general': the general workload (default: all)\n"
    "  --solution NAME   as in 'interloop reproduce' (default: interloop)\n"
    "  --driver NAME     caller: as --solution interloop; bound: as --solution shared\n"
    "  --mode NAME       safety: faults throughout; liveness: they stop, and everything must come\n"
    "                    to its end (default: both)\n"
    "  --seeds N         so many runs (default 1000)\n"
    "  --from SEED       from this seed on (default 0)\n"
    "  --jobs N          processes (default: one for each processor)\n"
    "  --collect         go on after a finding; else only the runs that other processes have\n"
    "                    begun come to their end, and may find something, too\n"
    "  --replay SEED     play one seed and tell what happens, a column for each thread\n"
    "  --shrink          with --replay: leave out what the finding does not need\n"
    "  --without STEPS   with --replay: these steps of the general workload: 3,8-12\n"
    "  --calm DECISIONS  with --replay: draw nothing in these: 0-1500,2000-\n"
    "  --json            one JSON object\n"
    "  -v, --verbose     with --replay: every event\n"
    "  -h, --help        this text\n"
    "\n"
    "Exit status: 0 no finding, 1 a finding, 2 wrong usage, 3 could not do it.\n";

enum {
    OPTION_CAUSE = 256,
    OPTION_SOLUTION,
    OPTION_DRIVER,
    OPTION_MODE,
    OPTION_SEEDS,
    OPTION_FROM,
    OPTION_JOBS,
    OPTION_COLLECT,
    OPTION_REPLAY,
    OPTION_SHRINK,
    OPTION_WITHOUT,
    OPTION_CALM,
    OPTION_JSON
};

static const struct option long_options[] = {
    { "cause", required_argument, NULL, OPTION_CAUSE },
    { "solution", required_argument, NULL, OPTION_SOLUTION },
    { "driver", required_argument, NULL, OPTION_DRIVER },
    { "mode", required_argument, NULL, OPTION_MODE },
    { "seeds", required_argument, NULL, OPTION_SEEDS },
    { "from", required_argument, NULL, OPTION_FROM },
    { "jobs", required_argument, NULL, OPTION_JOBS },
    { "collect", no_argument, NULL, OPTION_COLLECT },
    { "replay", required_argument, NULL, OPTION_REPLAY },
    { "shrink", no_argument, NULL, OPTION_SHRINK },
    { "without", required_argument, NULL, OPTION_WITHOUT },
    { "calm", required_argument, NULL, OPTION_CALM },
    { "json", no_argument, NULL, OPTION_JSON },
    { "verbose", no_argument, NULL, 'v' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* ---- options ---- */

static const char *cause_name_at(unsigned index)
{
    const struct cause *cause = explore_cause_at(index);

    return cause != NULL ? cause->name : NULL;
}

static const char *solution_name_at(unsigned index)
{
    return index < catalogue_solution_count() ? catalogue_solution(index)->name : NULL;
}

static const char *driver_name_at(unsigned index)
{
    static const char *const names[] = { "caller", "bound" };

    return index < LAB_COUNT(names) ? names[index] : NULL;
}

static const char *mode_name_at(unsigned index)
{
    return index <= EXPLORE_BOTH ? explore_mode_name((enum explore_mode)index) : NULL;
}

/* The index of a name. False: there is none, and it has been said. */
static bool parse_name(const char *kind, const char *text, const char *(*name_at)(unsigned index),
                       unsigned *ret_index)
{
    const char *name;

    for (*ret_index = 0; (name = name_at(*ret_index)) != NULL; (*ret_index)++) {
        if (strcmp(name, text) == 0) {
            return true;
        }
    }
    suggest("interloop explore", kind, text, name_at);
    return false;
}

static bool parse_number(const char *option, const char *text, uint64_t min, uint64_t max,
                         uint64_t *ret_number)
{
    char *end;

    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || *ret_number < min ||
        *ret_number > max) {
        fprintf(stderr,
                "interloop explore: %s is a number from %" PRIu64 " to %" PRIu64 ", not '%.64s'\n",
                option, min, max, text);
        return false;
    }
    return true;
}

/* "3,8-12,20-": calls `add` for each part, the last number included. */
static bool parse_spans(const char *option, const char *text,
                        bool (*add)(struct explore_run *run, uint64_t from, uint64_t to),
                        struct explore_run *run)
{
    const char *at = text;
    char *end;

    do {
        uint64_t from, to;

        errno = 0;
        from = to = strtoull(at, &end, 10);
        if (*at < '0' || *at > '9' || errno != 0) {
            break;
        }
        if (*end == '-') {
            at = end + 1;
            to = *at >= '0' && *at <= '9' ? strtoull(at, &end, 10) : UINT64_MAX - 1;
            end += end + 1 == at ? 1 : 0;
        }
        if (errno != 0 || to < from || (*end != '\0' && *end != ',') || !add(run, from, to)) {
            break;
        }
        if (*end == '\0') {
            return true;
        }
        at = end + 1;
    } while (true);
    fprintf(stderr,
            "interloop explore: %s is a list of rising numbers and spans, for instance 3,8-12, not "
            "'%.64s'\n",
            option, text);
    return false;
}

static bool add_without(struct explore_run *run, uint64_t from, uint64_t to)
{
    if (to >= WORLD_PARTS_MAX) {
        return false;
    }
    for (uint64_t i = from; i <= to; i++) {
        run->without[i / 64] |= UINT64_C(1) << i % 64;
    }
    return true;
}

static bool add_calm(struct explore_run *run, uint64_t from, uint64_t to)
{
    if (run->calm_count == EXPLORE_SPANS_MAX ||
        (run->calm_count > 0 && from < run->calm[run->calm_count - 1].to)) {
        return false;
    }
    run->calm[run->calm_count++] = (struct sim_span){ from, to + 1 };
    return true;
}

static bool take_choice(int option, struct options *options)
{
    struct explore_choice *choice = &options->series.choice;
    unsigned index;

    switch (option) {
    case OPTION_CAUSE:
        if (strcmp(optarg, "all") == 0) {
            choice->cause = NULL;
            return true;
        }
        if (!parse_name("cause", optarg, cause_name_at, &index)) {
            return false;
        }
        choice->cause = explore_cause_at(index);
        return true;
    case OPTION_SOLUTION:
        if (!parse_name("solution", optarg, solution_name_at, &index)) {
            return false;
        }
        choice->solution = catalogue_solution(index);
        return true;
    case OPTION_DRIVER:
        if (!parse_name("driver", optarg, driver_name_at, &index)) {
            return false;
        }
        choice->solution = index == 0 ? &solution_interloop : &solution_shared;
        return true;
    default:
        if (!parse_name("mode", optarg, mode_name_at, &index)) {
            return false;
        }
        choice->mode = (enum explore_mode)index;
        return true;
    }
}

/* False: it is wrong, and has been said. */
static bool take_option(int option, struct options *options)
{
    uint64_t number;

    switch (option) {
    case OPTION_CAUSE:
    case OPTION_SOLUTION:
    case OPTION_DRIVER:
    case OPTION_MODE:
        return take_choice(option, options);
    case OPTION_SEEDS:
        return parse_number("--seeds", optarg, 1, EXPLORE_SEEDS_MAX, &options->series.count);
    case OPTION_FROM:
        return parse_number("--from", optarg, 0, INT64_MAX, &options->series.from);
    case OPTION_JOBS:
        if (!parse_number("--jobs", optarg, 1, EXPLORE_JOBS_MAX, &number)) {
            return false;
        }
        options->series.jobs = (unsigned)number;
        return true;
    case OPTION_COLLECT:
        options->series.collects = true;
        return true;
    case OPTION_REPLAY:
        options->is_replay = true;
        return parse_number("--replay", optarg, 0, INT64_MAX, &options->replay.seed);
    case OPTION_SHRINK:
        options->is_shrink = true;
        return true;
    case OPTION_WITHOUT:
        return parse_spans("--without", optarg, add_without, &options->replay);
    case OPTION_CALM:
        return parse_spans("--calm", optarg, add_calm, &options->replay);
    case OPTION_JSON:
        options->json = true;
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

static bool parse_options(int argc, char **argv, struct options *options)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    bool is_cut;
    int option;

    *options = (struct options){
        .series = { .choice = { .solution = &solution_interloop, .mode = EXPLORE_BOTH },
                    .count = EXPLORE_SEEDS_DEFAULT,
                    .jobs = processors < 1                  ? 1
                            : processors > EXPLORE_JOBS_MAX ? EXPLORE_JOBS_MAX
                                                            : (unsigned)processors }
    };
    optind = 0; /* start anew */
    while ((option = getopt_long(argc, argv, "vh", long_options, NULL)) != -1) {
        if (!take_option(option, options)) {
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "interloop explore: '%.64s' is one word too many\n", argv[optind]);
        return false;
    }
    is_cut = options->replay.calm_count > 0 || options->replay.without[0] != 0 ||
             options->replay.without[1] != 0;
    if (!options->is_replay && (options->is_shrink || options->verbose || is_cut)) {
        fprintf(stderr, "interloop explore: --shrink, --without, --calm and --verbose belong to "
                        "--replay SEED\n");
        return false;
    }
    return true;
}

/* ---- progress ---- */

static bool is_progress_shown;

static void clear_progress(void)
{
    if (is_progress_shown) {
        fputs("\r\033[K", stderr);
    }
}

static void on_progress(void *arg, const struct explore_sums *sums)
{
    const struct explore_series *series = arg;
    double real_s = (double)sums->real_ns / 1e9;

    if (is_progress_shown) {
        clear_progress();
        fprintf(stderr,
                "%" PRIu64 " of %" PRIu64 " seeds, %.0f/s, %.0f virtual s, %" PRIu64
                " faults, %" PRIu64 " interleavings, findings: %zu",
                sums->played, series->count, (double)sums->played / (real_s > 0 ? real_s : 1),
                (double)sums->virtual_ns / 1e9, sums->fault_count, sums->interleaving_count,
                sums->finding_count);
    }
}

/* ---- the report ---- */

static void put_spans(FILE *out, const struct sim_span *spans, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fprintf(out, "%s%" PRIu64 "-", i > 0 ? "," : "", spans[i].from);
        if (spans[i].to < UINT64_MAX) {
            fprintf(out, "%" PRIu64, spans[i].to - 1);
        }
    }
}

static void put_without(FILE *out, const struct explore_run *run)
{
    bool is_first = true;

    for (unsigned i = 0, end; i < WORLD_PARTS_MAX; i = end + 1) {
        for (end = i; end < WORLD_PARTS_MAX && (run->without[end / 64] >> end % 64 & 1) != 0;) {
            end++;
        }
        if (end > i) {
            fprintf(out, end > i + 1 ? "%s%u-%u" : "%s%u", is_first ? " --without " : ",", i,
                    end - 1);
            is_first = false;
        }
    }
}

void explore_put_command(FILE *out, const struct explore_run *run)
{
    fprintf(out, "interloop explore --cause %s --solution %s --mode %s --replay %" PRIu64,
            run->cause->name, run->solution->name, explore_mode_name(run->mode), run->seed);
    put_without(out, run);
    if (run->calm_count > 0) {
        fputs(" --calm ", out);
        put_spans(out, run->calm, run->calm_count);
    }
}

static size_t kept_findings(const struct explore_sums *sums)
{
    return sums->finding_count < EXPLORE_FINDINGS_MAX ? sums->finding_count : EXPLORE_FINDINGS_MAX;
}

static void show_report(const struct explore_series *series, const struct explore_sums *sums,
                        const struct explore_finding *findings)
{
    struct show show = { stdout, show_wants_colour(stdout) };
    double real_s = (double)sums->real_ns / 1e9, virtual_s = (double)sums->virtual_ns / 1e9;

    printf("%" PRIu64 " seed%s of %s under %s, %s: %" PRIu64 " different interleaving%s\n",
           sums->played, lab_plural(sums->played),
           series->choice.cause != NULL ? series->choice.cause->name : "all causes",
           series->choice.solution->name,
           series->choice.mode == EXPLORE_BOTH ? "both modes"
                                               : explore_mode_name(series->choice.mode),
           sums->interleaving_count, lab_plural(sums->interleaving_count));
    printf("%.1f virtual s in %.1f s (%.0f times real time), %.0f seeds/s, %" PRIu64
           " switch%s between threads, %" PRIu64 " fault%s\n",
           virtual_s, real_s, virtual_s / real_s, (double)sums->played / real_s, sums->switch_count,
           sums->switch_count == 1 ? "" : "es", sums->fault_count, lab_plural(sums->fault_count));
    for (size_t i = 0; i < kept_findings(sums); i++) {
        struct explore_run run = { .cause = findings[i].cause,
                                   .solution = series->choice.solution,
                                   .mode = findings[i].mode,
                                   .seed = findings[i].seed };

        printf("\nseed %" PRIu64 ": %s: %s\n", findings[i].seed,
               explore_kind_name(findings[i].kind), explore_kind_meaning(findings[i].kind));
        show_paragraph(&show, 2, findings[i].detail);
        printf("  ");
        explore_put_command(stdout, &run);
        printf("\n");
    }
    if (sums->finding_count > kept_findings(sums)) {
        size_t rest = sums->finding_count - kept_findings(sums);

        printf("\nand %zu finding%s more\n", rest, lab_plural(rest));
    }
    if (sums->finding_count == 0) {
        printf("No finding.\n");
    }
}

static void put_report_json(const struct explore_series *series, const struct explore_sums *sums,
                            const struct explore_finding *findings)
{
    struct json json;

    json_init(&json, stdout);
    json_object_begin(&json, NULL);
    json_string(&json, "cause", series->choice.cause != NULL ? series->choice.cause->name : "all");
    json_string(&json, "solution", series->choice.solution->name);
    json_string(&json, "mode", explore_mode_name(series->choice.mode));
    json_number(&json, "seeds", sums->played);
    json_real(&json, "virtual_s", (double)sums->virtual_ns / 1e9);
    json_real(&json, "real_s", (double)sums->real_ns / 1e9);
    json_number(&json, "interleavings", sums->interleaving_count);
    json_number(&json, "faults", sums->fault_count);
    json_array_begin(&json, "findings");
    for (size_t i = 0; i < kept_findings(sums); i++) {
        explore_put_finding_json(&json, NULL, findings[i].seed, findings[i].kind,
                                 findings[i].detail, findings[i].trace_hash);
        json_string(&json, "cause", findings[i].cause->name);
        json_string(&json, "mode", explore_mode_name(findings[i].mode));
        json_object_end(&json);
    }
    json_array_end(&json);
    json_object_end(&json);
}

/* ---- the command ---- */

static int explore_series_run(struct options *options)
{
    struct explore_series *series = &options->series;
    struct explore_finding *findings = calloc(EXPLORE_FINDINGS_MAX, sizeof(*findings));
    struct explore_sums sums = { 0 };
    struct il_error err = { 0 };
    int status;

    if (findings == NULL) {
        fprintf(stderr, "interloop explore: out of memory\n");
        return 3;
    }
    is_progress_shown = isatty(STDERR_FILENO) == 1;
    series->on_progress = on_progress;
    series->arg = series;
    if (!explore_play_series(series, &sums, findings, &err)) {
        clear_progress();
        fprintf(stderr, "interloop explore: %s\n", err.message);
        free(findings);
        return 3;
    }
    clear_progress();
    if (options->json) {
        put_report_json(series, &sums, findings);
    } else {
        show_report(series, &sums, findings);
    }
    status = sums.finding_count > 0;
    free(findings);
    return status;
}

int explore_main(int argc, char **argv)
{
    struct options options;
    struct explore_run run;

    if (!parse_options(argc, argv, &options)) {
        return 2;
    }
    if (options.help) {
        fputs(help_text, stdout);
        return 0;
    }
    if (!options.is_replay) {
        return explore_series_run(&options);
    }
    run = explore_run_of(&options.series.choice, options.replay.seed);
    memcpy(run.without, options.replay.without, sizeof(run.without));
    memcpy(run.calm, options.replay.calm, sizeof(run.calm));
    run.calm_count = options.replay.calm_count;
    return options.is_shrink ? explore_shrink(&run)
                             : explore_replay(&run, options.json, options.verbose);
}
