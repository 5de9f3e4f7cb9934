/* histogram.h: many durations, kept so that any percentile can be read to a tenth of a per cent.
 *
 * A value up to 2,048 ns has a bucket of its own; above, every doubling is cut into 1,024 buckets
 * of equal width. So a value that is read back lies at most 0.1 % above the one that was recorded,
 * from a nanosecond to two hours, and recording costs the same whatever has been recorded before.
 *
 * Threads: one at a time writes; others may read meanwhile, and see what has arrived by then. */
#ifndef LOAD_HISTOGRAM_H
#define LOAD_HISTOGRAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_PRECISION    1024u /* buckets for each doubling */
#define HISTOGRAM_VALUE_BITS   43u   /* larger values than 2^43 - 1 ns count as that */
#define HISTOGRAM_BUCKET_COUNT ((size_t)HISTOGRAM_PRECISION * (HISTOGRAM_VALUE_BITS - 9))

struct histogram {
    _Atomic uint64_t *counts; /* HISTOGRAM_BUCKET_COUNT */
    _Atomic uint64_t count;
    _Atomic uint64_t sum_ns;
    _Atomic uint64_t min_ns; /* exact, as is max_ns; UINT64_MAX while there is none */
    _Atomic uint64_t max_ns;
};

/* False: out of memory, and nothing is held. */
bool histogram_init(struct histogram *histogram);
void histogram_deinit(struct histogram *histogram);

/* Forget everything. */
void histogram_clear(struct histogram *histogram);

void histogram_record(struct histogram *histogram, uint64_t value_ns);

/* Add all that `other` holds, which may be written meanwhile. */
void histogram_add(struct histogram *histogram, const struct histogram *other);

/* The value that `percent` (0 to 100) of all values do not exceed: the upper end of the bucket it
 * falls into, at most max_ns. 0 while there is none. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

/* How many values are less than `limit_ns`, as far as the buckets can tell. */
uint64_t histogram_count_below(const struct histogram *histogram, uint64_t limit_ns);

uint64_t histogram_mean(const struct histogram *histogram); /* 0 while there is none */
uint64_t histogram_min(const struct histogram *histogram);  /* 0 while there is none */

/* Where a value goes, and the largest that goes there. */
size_t histogram_index(uint64_t value_ns);
uint64_t histogram_upper_ns(size_t index);

#endif
