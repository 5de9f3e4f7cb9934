/* report.h: what a run came to, for people and for programs. Thread: one at a time. */
#ifndef LOAD_REPORT_H
#define LOAD_REPORT_H

#include <stdio.h>

#include "options.h"
#include "run.h"

void bench_report_text(FILE *out, bool has_colour, const struct bench_options *options,
                       const struct run_result *result);
void bench_report_json(FILE *out, const struct bench_options *options,
                       const struct run_result *result);

/* One line, without its end, of at most `size` - 1 bytes. `per_second` is that of late. */
void report_progress(char *line, size_t size, const struct bench_options *options,
                     const struct run_view *view, double per_second);

/* Was every request answered, and answered well? Then the exit status is 0, else 1. */
bool report_is_good(const struct run_result *result);

/* ---- what both show ---- */

struct report_percentile {
    const char *name; /* "p99.9" */
    double percent;
};
#define REPORT_PERCENTILE_COUNT 6
extern const struct report_percentile report_percentiles[REPORT_PERCENTILE_COUNT];
extern const char *const report_part_names[TALLY_PART_COUNT];

/* A bar of the histogram: how many took from `from_ns` to less than `to_ns`. */
struct report_bar {
    uint64_t from_ns, to_ns, count;
};
#define REPORT_BARS_MAX 14

/* Fill at most REPORT_BARS_MAX bars, with round limits, and return how many. */
unsigned report_make_bars(const struct histogram *histogram, struct report_bar *bars);

double report_per_second(const struct run_result *result, uint64_t count);

#endif
