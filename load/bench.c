/* bench.c: `interloop bench`: signals, progress, the report, the exit status.
 *
 * Owns: nothing that outlives bench_main. Threads: the process's first; the signals' handler runs
 *   on any and sets one number. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "bench.h"
#include "lab/show.h"
#include "options.h"
#include "report.h"
#include "run.h"

#define PROGRESS_EVERY_NS UINT64_C(500000000)
#define PROGRESS_SIZE     256
#define PROGRESS_COLUMNS  100 /* if the terminal does not say */

enum bench_exit { BENCH_EXIT_GOOD, BENCH_EXIT_FINDING, BENCH_EXIT_USAGE, BENCH_EXIT_FAILED };

static volatile int should_stop;

/* A second signal ends the process, as if it had not been caught: see SA_RESETHAND. */
static void on_signal(int number)
{
    (void)number;
    should_stop = 1;
}

static void catch_signals(struct sigaction *before)
{
    struct sigaction action = { .sa_handler = on_signal,
                                .sa_flags = SA_RESTART | (int)SA_RESETHAND };

    should_stop = 0;
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGINT, &action, &before[0]); /* cannot fail: the numbers are right */
    (void)sigaction(SIGTERM, &action, &before[1]);
}

static void release_signals(const struct sigaction *before)
{
    (void)sigaction(SIGINT, &before[0], NULL);
    (void)sigaction(SIGTERM, &before[1], NULL);
}

/* ---- progress ---- */

struct progress {
    const struct bench_options *options;
    bool is_shown;         /* stderr is a terminal */
    uint64_t answered;     /* when last looked at */
    uint64_t looked_at_ns; /* of the time that counts */
};

static size_t terminal_columns(void)
{
    struct winsize size;

    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col
                                                                           : PROGRESS_COLUMNS;
}

static void progress_look(void *arg, const struct run_view *view)
{
    struct progress *progress = arg;
    uint64_t since_ns = view->elapsed_ns - progress->looked_at_ns;
    uint64_t more = view->tally->answered - progress->answered;
    size_t columns = terminal_columns();
    char line[PROGRESS_SIZE];

    if (!progress->is_shown) {
        return;
    }
    if (!view->is_warming_up) {
        progress->answered = view->tally->answered;
        progress->looked_at_ns = view->elapsed_ns;
    }
    report_progress(line, columns < sizeof(line) ? columns : sizeof(line), progress->options, view,
                    since_ns > 0 ? (double)more * 1e9 / (double)since_ns : 0);
    fprintf(stderr, "\r%s\033[K", line);
}

static void progress_end(const struct progress *progress)
{
    if (progress->is_shown) {
        fputs("\r\033[K", stderr);
    }
}

/* ---- the command ---- */

/* What to try next. */
static const char *hint(enum il_code code)
{
    switch (code) {
    case IL_ECONNECT:
    case IL_ERESOLVE:
        return "; is the server running?";
    case IL_ECERT:
        return "; trust its CA (--cacert), or anybody (--insecure)";
    default:
        return "";
    }
}

static int explain_failure(const struct bench_options *options, const struct il_error *err)
{
    bool is_usage = err->code == IL_EURL || err->code == IL_EREQUEST || err->code == IL_EINVAL;

    if (err->code == IL_EURL) {
        fprintf(stderr, "interloop bench: '%.256s': %s\n", options->url, err->message);
        return BENCH_EXIT_USAGE;
    }
    fprintf(stderr, "interloop bench: %s%s\n", err->message, hint(err->code));
    return is_usage ? BENCH_EXIT_USAGE : BENCH_EXIT_FAILED;
}

static int bench(const struct bench_options *options)
{
    struct progress progress = { .options = options, .is_shown = isatty(STDERR_FILENO) == 1 };
    struct run_watcher watcher = { .every_ns = PROGRESS_EVERY_NS,
                                   .look = progress_look,
                                   .arg = &progress,
                                   .should_stop = &should_stop };
    struct sigaction before[2];
    struct run_result result;
    struct il_error err;
    bool is_played;
    int status;

    catch_signals(before);
    is_played = run_play(options, &watcher, &result, &err);
    release_signals(before);
    progress_end(&progress);
    if (!is_played) {
        return explain_failure(options, &err);
    }
    if (options->is_json) {
        bench_report_json(stdout, options, &result);
    } else {
        bench_report_text(stdout, show_wants_colour(stdout), options, &result);
    }
    status = report_is_good(&result) ? BENCH_EXIT_GOOD : BENCH_EXIT_FINDING;
    run_result_deinit(&result);
    return status;
}

int bench_main(int argc, char **argv)
{
    struct bench_options options;
    enum bench_parsed parsed = bench_options_parse(&options, argc, argv);
    int status;

    if (parsed != BENCH_PARSED) {
        status = parsed == BENCH_WRONG ? BENCH_EXIT_USAGE : BENCH_EXIT_FAILED;
    } else if (options.is_help) {
        fputs(bench_help, stdout);
        status = BENCH_EXIT_GOOD;
    } else {
        status = bench(&options);
    }
    bench_options_deinit(&options);
    return status;
}
