/* options.c: the command line of the doctor. Owns: nothing. Thread: the only one. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

#include "doctor/options.h"

#define OPTIONS_DURATION_MS     2000u
#define OPTIONS_DURATION_MAX_MS 3600000u
#define OPTIONS_CLOSED_AFTER_MS 10000u

static const char help_text[] =
    "usage: %s [options] PID\n"
    "       %s --all [options]\n"
    "\n"
    "Says which request of a live process hangs, and why. Needs no preparation of the process;\n"
    "threads may be stopped for well under a millisecond.\n"
    "\n"
    "  --duration SECONDS      how long to look (default 2; at least 1 for firm conclusions)\n"
    "  --json                  one JSON object; with --watch one line for each finding\n"
    "  --dot[=FILE]            the wait-for graph for Graphviz; a FILE that ends in .svg is drawn\n"
    "                          with dot if installed\n"
    "  --watch                 keep looking; one line when something stands still or moves again\n"
    "  --rounds N              end --watch after N looks\n"
    "  --all                   look at every process that has sockets and may be looked at\n"
    "  --no-stacks             never stop a thread to copy its stack\n"
    "  --stacks                copy all stacks even when nothing stands still\n"
    "  --no-attach             use nothing that needs ptrace rights; concludes less\n"
    "  --no-peek               do not look at the first unread bytes of a socket\n"
    "  --closed-after SECONDS  a connection the peer has closed for longer counts (default 10)\n"
    "  -v, --verbose           whole stacks\n"
    "  -h, --help              this text\n"
    "\n"
    "Exit status: 0 healthy, 1 a finding, 2 wrong usage, 3 could not look.\n";

enum {
    OPTION_DURATION = 256,
    OPTION_JSON,
    OPTION_DOT,
    OPTION_WATCH,
    OPTION_ROUNDS,
    OPTION_ALL,
    OPTION_STACKS,
    OPTION_NO_STACKS,
    OPTION_NO_ATTACH,
    OPTION_NO_PEEK,
    OPTION_CLOSED_AFTER
};

static const struct option long_options[] = {
    { "duration", required_argument, NULL, OPTION_DURATION },
    { "json", no_argument, NULL, OPTION_JSON },
    { "dot", optional_argument, NULL, OPTION_DOT },
    { "watch", no_argument, NULL, OPTION_WATCH },
    { "rounds", required_argument, NULL, OPTION_ROUNDS },
    { "all", no_argument, NULL, OPTION_ALL },
    { "stacks", no_argument, NULL, OPTION_STACKS },
    { "no-stacks", no_argument, NULL, OPTION_NO_STACKS },
    { "no-attach", no_argument, NULL, OPTION_NO_ATTACH },
    { "no-peek", no_argument, NULL, OPTION_NO_PEEK },
    { "closed-after", required_argument, NULL, OPTION_CLOSED_AFTER },
    { "verbose", no_argument, NULL, 'v' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

/* "2", "0.5" */
static bool parse_seconds(const char *text, uint64_t max_ms, uint64_t *ret_ms)
{
    double seconds;
    char *end;

    errno = 0;
    seconds = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(seconds >= 0.05) ||
        seconds * 1000 > (double)max_ms) {
        return false;
    }
    *ret_ms = (uint64_t)(seconds * 1000);
    return true;
}

static bool parse_count(const char *text, long max, long *ret_count)
{
    char *end;

    errno = 0;
    *ret_count = strtol(text, &end, 10);
    return end != text && *end == '\0' && errno == 0 && *ret_count > 0 && *ret_count <= max;
}

/* False when the option's value is wrong. */
static bool take_option(int option, struct doctor_options *options)
{
    long count;

    switch (option) {
    case OPTION_DURATION:
        return parse_seconds(optarg, OPTIONS_DURATION_MAX_MS, &options->look.duration_ms);
    case OPTION_CLOSED_AFTER:
        return parse_seconds(optarg, UINT32_MAX, &options->look.closed_after_ms);
    case OPTION_ROUNDS:
        if (!parse_count(optarg, INT32_MAX, &count)) {
            return false;
        }
        options->rounds = (uint32_t)count;
        break;
    case OPTION_JSON:
        options->json = true;
        break;
    case OPTION_DOT:
        options->dot = true;
        options->dot_file = optarg;
        break;
    case OPTION_WATCH:
        options->watch = true;
        break;
    case OPTION_ALL:
        options->all = true;
        break;
    case OPTION_STACKS:
        options->look.always_stacks = true;
        break;
    case OPTION_NO_STACKS:
        options->look.take_stacks = false;
        break;
    case OPTION_NO_ATTACH:
        options->look.attach = false;
        break;
    case OPTION_NO_PEEK:
        options->look.peek = false;
        break;
    case 'v':
        options->verbose = true;
        break;
    default:
        return false;
    }
    return true;
}

/* What was given must fit together; NULL when it does, else what does not. */
static const char *find_contradiction(const struct doctor_options *options)
{
    if (options->all && options->pid != 0) {
        return "--all looks at every process: give no PID with it";
    }
    if (!options->all && options->pid == 0) {
        return "which process? Give a PID, or --all";
    }
    if (options->dot && (options->json || options->watch || options->all)) {
        return "--dot is for one look at one process: not with --json, --watch or --all";
    }
    if (options->watch && options->all) {
        return "--watch is for one process: not with --all";
    }
    if (options->look.always_stacks && (!options->look.take_stacks || !options->look.attach)) {
        return "--stacks contradicts --no-stacks and --no-attach";
    }
    if (options->rounds != 0 && !options->watch) {
        return "--rounds belongs to --watch";
    }
    return NULL;
}

enum options_result options_parse(int argc, char **argv, struct doctor_options *ret_options)
{
    const char *contradiction;
    long pid = 0;
    int option, index = 0;

    *ret_options = (struct doctor_options){
        .look = { .duration_ms = OPTIONS_DURATION_MS,
                  .closed_after_ms = OPTIONS_CLOSED_AFTER_MS,
                  .take_stacks = true,
                  .attach = true,
                  .peek = true },
    };
    optind = 0; /* the caller may have used getopt before */
    while ((option = getopt_long(argc, argv, "vh", long_options, &index)) != -1) {
        if (option == 'h') {
            printf(help_text, argv[0], argv[0]);
            return OPTIONS_DONE;
        }
        if (!take_option(option, ret_options)) {
            if (option != '?') { /* else getopt has said what is wrong */
                fprintf(stderr, "%s: --%s does not take '%.64s'\n", argv[0],
                        long_options[index].name, optarg);
            }
            return OPTIONS_WRONG;
        }
    }
    if (optind < argc && !parse_count(argv[optind], INT32_MAX, &pid)) {
        fprintf(stderr, "%s: '%.64s' is not a process id\n", argv[0], argv[optind]);
        return OPTIONS_WRONG;
    }
    if (optind + 1 < argc) {
        fprintf(stderr, "%s: one PID at a time; --all looks at every process\n", argv[0]);
        return OPTIONS_WRONG;
    }
    ret_options->pid = (pid_t)pid;
    contradiction = find_contradiction(ret_options);
    if (contradiction != NULL) {
        fprintf(stderr, "%s: %s\n", argv[0], contradiction);
        return OPTIONS_WRONG;
    }
    return OPTIONS_RUN;
}
