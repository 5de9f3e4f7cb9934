/* report.c: what both reports show. Owns: nothing. Threads: one at a time. */
#include "report.h"

const struct report_percentile report_percentiles[REPORT_PERCENTILE_COUNT] = {
    { "p50", 50 }, { "p75", 75 },     { "p90", 90 },
    { "p99", 99 }, { "p99.9", 99.9 }, { "p99.99", 99.99 },
};

const char *const report_part_names[TALLY_PART_COUNT] = {
    [TALLY_QUEUED] = "queued",   [TALLY_CONNECTING] = "connecting", [TALLY_SENDING] = "sending",
    [TALLY_WAITING] = "waiting", [TALLY_READING] = "reading",
};

bool report_is_good(const struct run_result *result)
{
    const struct tally *tally = &result->tally;

    return tally->answered > 0 && tally->failed == 0 && tally->unsent == 0 &&
           tally_bad_statuses(tally) == 0;
}

double report_per_second(const struct run_result *result, uint64_t count)
{
    return result->elapsed_ns > 0 ? (double)count * 1e9 / (double)result->elapsed_ns : 0;
}

/* ---- bars ---- */

/* Round numbers, from fine to coarse; each list is for one decade, in tenths. */
static const struct {
    unsigned count;
    uint64_t tenths[24];
} scales[] = {
    { 24, { 10, 11, 12, 13, 15, 16, 18, 20, 22, 24, 27, 30,
            33, 36, 39, 43, 47, 51, 56, 62, 68, 75, 82, 91 } },
    { 12, { 10, 12, 15, 18, 22, 27, 33, 39, 47, 56, 68, 82 } },
    { 6, { 10, 15, 20, 30, 50, 70 } },
    { 3, { 10, 20, 50 } },
    { 1, { 10 } },
};

#define SCALE_COUNT (sizeof(scales) / sizeof(scales[0]))

/* The index-th limit of a scale, in nanoseconds, from 10 ns on. */
static uint64_t limit_at(size_t scale, unsigned index)
{
    uint64_t decade = 1;

    for (unsigned i = 0; i < index / scales[scale].count; i++) {
        decade *= 10;
    }
    return scales[scale].tenths[index % scales[scale].count] * decade;
}

unsigned report_make_bars(const struct histogram *histogram, struct report_bar *bars)
{
    uint64_t min_ns = histogram_min(histogram), max_ns = histogram->max_ns;

    for (size_t scale = 0; histogram->count > 0 && scale < SCALE_COUNT; scale++) {
        unsigned first = 0, count = 0;
        uint64_t below = 0;

        while (limit_at(scale, first + 1) <= min_ns) {
            first++;
        }
        do {
            struct report_bar *bar = &bars[count];
            uint64_t upto;

            bar->from_ns = limit_at(scale, first + count);
            bar->to_ns = limit_at(scale, first + count + 1);
            upto = bar->to_ns > max_ns ? histogram->count
                                       : histogram_count_below(histogram, bar->to_ns);
            bar->count = upto - below;
            below = upto;
            count++;
        } while (bars[count - 1].to_ns <= max_ns && count < REPORT_BARS_MAX);
        if (bars[count - 1].to_ns > max_ns) {
            return count;
        }
    }
    return 0; /* nothing there: the coarsest scale reaches from 10 ns to 10^14 */
}
