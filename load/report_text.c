/* report_text.c: the report and the line of progress, for people. Owns: nothing. Threads: one at a
 * time. */
#include <string.h>

#include "lab/words.h"
#include "report.h"

#define NUMBER_SIZE 40
#define BAR_WIDTH   40

/* ---- numbers ---- */

/* "1,234,567" */
static const char *grouped(uint64_t number, char *text)
{
    char digits[NUMBER_SIZE];
    size_t size = (size_t)snprintf(digits, sizeof(digits), "%llu", (unsigned long long)number);
    char *at = text;

    for (size_t i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) {
            *at++ = ',';
        }
        *at++ = digits[i];
    }
    *at = '\0';
    return text;
}

/* Three digits that count: "1.23", "12.3", "123". */
static void put_number(char *text, double number, const char *unit)
{
    int places = number < 9.995 ? 2 : number < 99.95 ? 1 : 0;

    (void)snprintf(text, NUMBER_SIZE, "%.*f %s", places, number, unit);
}

static const char *time_words(uint64_t ns, char *text)
{
    if (ns < 1000) {
        (void)snprintf(text, NUMBER_SIZE, "%llu ns", (unsigned long long)ns);
    } else if (ns < 999500) {
        put_number(text, (double)ns / 1e3, "us");
    } else if (ns < 999500000) {
        put_number(text, (double)ns / 1e6, "ms");
    } else {
        put_number(text, (double)ns / 1e9, "s");
    }
    return text;
}

/* A round limit, as short as it goes: "1.5 ms". */
static const char *limit_words(uint64_t ns, char *text)
{
    static const char *const units[] = { "ns", "us", "ms", "s" };
    double number = (double)ns;
    size_t unit = 0;

    while (number > 999.9 && unit < 3) {
        number /= 1000;
        unit++;
    }
    (void)snprintf(text, NUMBER_SIZE, "%.4g %s", number, units[unit]);
    return text;
}

static const char *bytes_words(double bytes, char *text)
{
    if (bytes < 999.5) {
        (void)snprintf(text, NUMBER_SIZE, "%.0f B", bytes);
    } else if (bytes < 999.5e3) {
        put_number(text, bytes / 1e3, "kB");
    } else if (bytes < 999.5e6) {
        put_number(text, bytes / 1e6, "MB");
    } else {
        put_number(text, bytes / 1e9, "GB");
    }
    return text;
}

/* "52,341", or with decimals where there are few. */
static const char *rate_words(double per_second, char *text)
{
    if (per_second >= 1000) {
        return grouped((uint64_t)(per_second + 0.5), text);
    }
    (void)snprintf(text, NUMBER_SIZE, "%.*f", per_second < 10 ? 2 : 1, per_second);
    return text;
}

/* ---- the report's parts ---- */

static void put_bold(FILE *out, bool has_colour, const char *text)
{
    fprintf(out, "%s%s%s", has_colour ? "\033[1m" : "", text, has_colour ? "\033[0m" : "");
}

static void show_head(FILE *out, bool has_colour, const struct bench_options *options,
                      const struct run_result *result)
{
    char a[NUMBER_SIZE], b[NUMBER_SIZE];

    put_bold(out, has_colour, options->method);
    fprintf(out, " ");
    put_bold(out, has_colour, options->url);
    fprintf(out, "\n  from %u runtime%s with %s, at most %s request%s at a time", options->runtimes,
            lab_plural(options->runtimes),
            options->runtimes == 1     ? "one client"
            : options->has_own_clients ? "a client each"
                                       : "one client for all",
            grouped(options->connections, a), lab_plural(options->connections));
    if (options->rate > 0) {
        fprintf(out, ", %s due a second", rate_words(options->rate, b));
    }
    fprintf(out, "\n  for %s", time_words(result->elapsed_ns, a));
    if (options->warm_up_ns > 0) {
        fprintf(out, ", after %s that does not count", time_words(options->warm_up_ns, b));
    }
    fprintf(out, "%s\n\n", result->is_interrupted ? ", then interrupted" : "");
}

static void show_kinds(FILE *out, const struct tally *tally)
{
    char a[NUMBER_SIZE];

    for (unsigned i = 0; i < tally->shared.kind_count; i++) {
        const struct tally_kind *kind = &tally->shared.kinds[i];

        fprintf(out, "    %12s  %s%s%s: %s\n", grouped(kind->count, a), il_code_name(kind->code),
                kind->phase != IL_PHASE_NONE ? " in " : "",
                kind->phase != IL_PHASE_NONE ? il_phase_name(kind->phase) : "", kind->message);
    }
    if (tally->shared.other_count > 0) {
        fprintf(out, "    %12s  of other kinds\n", grouped(tally->shared.other_count, a));
    }
}

static void show_statuses(FILE *out, const struct tally *tally)
{
    const char *between = "";
    char a[NUMBER_SIZE];

    fprintf(out, "  status       ");
    for (int status = 0; status < TALLY_STATUS_MAX; status++) {
        if (tally->statuses[status] == 0) {
            continue;
        }
        if (status == TALLY_STATUS_ODD) {
            fprintf(out, "not from 100 to 599: %s", grouped(tally->statuses[status], a));
        } else {
            fprintf(out, "%s%d: %s", between, status, grouped(tally->statuses[status], a));
        }
        between = ", ";
    }
    fputc('\n', out);
}

/* Only where it is not the usual one. */
static void show_protocols(FILE *out, const struct tally *tally)
{
    uint64_t http_1 = tally->answered - tally->http_2;
    char a[NUMBER_SIZE];

    fprintf(out, "  protocol     HTTP/2: %s", grouped(tally->http_2, a));
    if (http_1 > 0) {
        fprintf(out, ", HTTP/1.1: %s", grouped(http_1, a));
    }
    fputc('\n', out);
}

static void show_requests(FILE *out, const struct bench_options *options,
                          const struct run_result *result)
{
    const struct tally *tally = &result->tally;
    char a[NUMBER_SIZE], b[NUMBER_SIZE];

    fprintf(out, "  answered     %s, %s a second\n", grouped(tally->answered, a),
            rate_words(report_per_second(result, tally->in_time), b));
    if (tally->answered > 0) {
        show_statuses(out, tally);
    }
    if (tally->http_2 > 0) {
        show_protocols(out, tally);
    }
    if (tally->failed > 0) {
        fprintf(out, "  failed       %s\n", grouped(tally->failed, a));
        show_kinds(out, tally);
    }
    if (tally->unfinished > 0) {
        fprintf(out, "  unfinished   %s had no answer %d ms after the end\n",
                grouped(tally->unfinished, a), RUN_DRAIN_MS);
    }
    if (tally->unsent > 0) {
        fprintf(out,
                "  unsent       %s %s due and not started, for no connection was free (of %s)\n",
                grouped(tally->unsent, a), tally->unsent == 1 ? "was" : "were",
                grouped(options->connections, b));
    }
    fprintf(out, "  bodies       %s received, ", bytes_words((double)tally->body_bytes, a));
    fprintf(out, "%s a second", bytes_words(report_per_second(result, tally->in_time_bytes), b));
    if (options->body != NULL) {
        fprintf(out, "; %s sent with each request", bytes_words((double)options->body_size, a));
    }
    fputc('\n', out);
}

static void show_costs(FILE *out, const struct bench_options *options,
                       const struct run_result *result)
{
    double requests = (double)(result->tally.answered + result->tally.failed);
    double cpu_us = (double)(result->user_us + result->system_us);
    double processors = cpu_us * 1e3 / (double)(result->elapsed_ns > 0 ? result->elapsed_ns : 1);
    char a[NUMBER_SIZE], b[NUMBER_SIZE];

    fprintf(out, "  connections  %s opened; %s request%s on one that had served before",
            grouped(result->connections_opened, a), grouped(result->reuses, b),
            lab_plural(result->reuses));
    if (options->runtimes > 1 && !options->has_own_clients) {
        fprintf(out, ", %s of them with another runtime", grouped(result->moves, a));
    }
    if (result->retries > 0) {
        fprintf(out, "; %s sent again, for it was dead", grouped(result->retries, a));
    }
    fputc('\n', out);
    if (requests > 0 && result->elapsed_ns > 0) {
        fprintf(out,
                "  CPU, here    %.2f us a request (user %.2f, system %.2f), %.0f %% of a "
                "processor\n",
                cpu_us / requests, (double)result->user_us / requests,
                (double)result->system_us / requests, processors * 100);
    }
    if (options->rate == 0 && processors > 0.9 * options->runtimes) {
        fprintf(out,
                "               all that %u runtime%s can use: what is slow may be this side\n",
                options->runtimes, lab_plural(options->runtimes));
    }
}

static void show_latencies(FILE *out, bool has_colour, const struct bench_options *options,
                           const struct tally *tally)
{
    const struct histogram *latencies = &tally->latencies;
    char a[NUMBER_SIZE];

    fprintf(out, "\n  ");
    put_bold(out, has_colour, "latency");
    fprintf(out, "  %9s %9s", "min", "mean");
    for (size_t i = 0; i < REPORT_PERCENTILE_COUNT; i++) {
        fprintf(out, " %9s", report_percentiles[i].name);
    }
    fprintf(out, " %9s\n  %7s  %9s", "max", "", time_words(histogram_min(latencies), a));
    fprintf(out, " %9s", time_words(histogram_mean(latencies), a));
    for (size_t i = 0; i < REPORT_PERCENTILE_COUNT; i++) {
        fprintf(out, " %9s",
                time_words(histogram_percentile(latencies, report_percentiles[i].percent), a));
    }
    fprintf(out, " %9s\n", time_words(latencies->max_ns, a));
    fprintf(out, "  counted from when a request was %s",
            options->rate > 0 ? "due: a stall is charged to all that it delayed"
                              : "started; with --rate, from when it is due");
    if (tally->latencies.count > tally->answered) {
        fprintf(out, "\n  %s of them had no answer: what they had waited is in it",
                grouped(tally->latencies.count - tally->answered, a));
    }
    fputc('\n', out);
}

static void show_parts(FILE *out, const struct tally *tally)
{
    char a[NUMBER_SIZE], b[NUMBER_SIZE];

    fprintf(out, "\n  %-12s %9s %9s\n", "of which", "mean", "max");
    for (size_t i = 0; i < TALLY_PART_COUNT; i++) {
        const struct tally_part_time *part = &tally->parts[i];

        if (part->count == 0 || part->max_ns == 0) {
            continue;
        }
        fprintf(out, "  %-12s %9s %9s", report_part_names[i],
                time_words(part->sum_ns / part->count, a), time_words(part->max_ns, b));
        if (i == TALLY_CONNECTING) {
            fprintf(out, "  by the %s that did not find a connection", grouped(part->count, a));
        }
        fputc('\n', out);
    }
}

static void show_bars(FILE *out, const struct histogram *latencies)
{
    struct report_bar bars[REPORT_BARS_MAX];
    unsigned count = report_make_bars(latencies, bars);
    uint64_t most = 1;
    char a[NUMBER_SIZE], b[NUMBER_SIZE], c[NUMBER_SIZE];

    fputc('\n', out);
    for (unsigned i = 0; i < count; i++) {
        most = bars[i].count > most ? bars[i].count : most;
    }
    for (unsigned i = 0; i < count; i++) {
        int width = (int)((bars[i].count * BAR_WIDTH + most - 1) / most);

        fprintf(out, "  %7s to %7s %12s %6.2f %%%s%.*s\n", limit_words(bars[i].from_ns, a),
                limit_words(bars[i].to_ns, b), grouped(bars[i].count, c),
                (double)bars[i].count * 100 / (double)latencies->count, width > 0 ? "  " : "",
                width, "########################################");
    }
}

void bench_report_text(FILE *out, bool has_colour, const struct bench_options *options,
                       const struct run_result *result)
{
    show_head(out, has_colour, options, result);
    show_requests(out, options, result);
    show_costs(out, options, result);
    if (result->tally.latencies.count > 0) {
        show_latencies(out, has_colour, options, &result->tally);
        if (result->tally.answered > 0) {
            show_parts(out, &result->tally);
        }
        show_bars(out, &result->tally.latencies);
    }
}

/* ---- progress ---- */

void report_progress(char *line, size_t size, const struct bench_options *options,
                     const struct run_view *view, double per_second)
{
    const struct tally *tally = view->tally;
    uint64_t bad = tally->failed + tally_bad_statuses(tally);
    uint64_t whole_ns = view->is_warming_up ? options->warm_up_ns : options->duration_ns;
    char a[NUMBER_SIZE], b[NUMBER_SIZE], c[NUMBER_SIZE], d[NUMBER_SIZE],
        whole[NUMBER_SIZE + 8] = "";

    if (whole_ns > 0) {
        (void)snprintf(whole, sizeof(whole), " of %s", time_words(whole_ns, a));
    }
    if (view->is_warming_up) {
        (void)snprintf(line, size, "warming up, %.1f s%s: %llu in flight",
                       (double)view->elapsed_ns / 1e9, whole, (unsigned long long)view->in_flight);
        return;
    }
    (void)snprintf(line, size,
                   "%.1f s%s: %s a second, %llu in flight, p50 %s, p99 %s, max %s, %llu failed",
                   (double)view->elapsed_ns / 1e9, whole, rate_words(per_second, a),
                   (unsigned long long)view->in_flight,
                   time_words(histogram_percentile(&tally->latencies, 50), b),
                   time_words(histogram_percentile(&tally->latencies, 99), c),
                   time_words(tally->latencies.max_ns, d), (unsigned long long)bad);
}
