/* histogram.c: see histogram.h.
 *
 * Owns: the counts, from init to deinit. Threads: see histogram.h; the counts are atomic for those
 * who read meanwhile, and relaxed, for nothing else is published by them. */
#include <stdlib.h>

#include "histogram.h"

#define HISTOGRAM_EXACT     (2u * HISTOGRAM_PRECISION) /* values below have their own buckets */
#define HISTOGRAM_VALUE_MAX ((UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1)

_Static_assert((HISTOGRAM_PRECISION & (HISTOGRAM_PRECISION - 1)) == 0, "a power of two");
_Static_assert(HISTOGRAM_EXACT == 1u << 11, "what HISTOGRAM_BUCKET_COUNT is made of");

static uint64_t get(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void put(_Atomic uint64_t *number, uint64_t value)
{
    atomic_store_explicit(number, value, memory_order_relaxed);
}

/* There is one writer at a time: a locked addition would cost ten times as much. */
static void add(_Atomic uint64_t *number, uint64_t value)
{
    put(number, get(number) + value);
}

bool histogram_init(struct histogram *histogram)
{
    histogram->counts = calloc(HISTOGRAM_BUCKET_COUNT, sizeof(*histogram->counts));
    if (histogram->counts == NULL) {
        return false;
    }
    histogram_clear(histogram);
    return true;
}

void histogram_deinit(struct histogram *histogram)
{
    free((void *)histogram->counts);
    histogram->counts = NULL;
}

void histogram_clear(struct histogram *histogram)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        put(&histogram->counts[i], 0);
    }
    put(&histogram->count, 0);
    put(&histogram->sum_ns, 0);
    put(&histogram->min_ns, UINT64_MAX);
    put(&histogram->max_ns, 0);
}

/* ---- buckets ---- */

size_t histogram_index(uint64_t value_ns)
{
    unsigned shift;

    if (value_ns < HISTOGRAM_EXACT) {
        return (size_t)value_ns;
    }
    if (value_ns > HISTOGRAM_VALUE_MAX) {
        value_ns = HISTOGRAM_VALUE_MAX;
    }
    shift = 63u - (unsigned)__builtin_clzll(value_ns) - 10u; /* leaves the 11 highest bits */
    return (size_t)shift * HISTOGRAM_PRECISION + (size_t)(value_ns >> shift);
}

uint64_t histogram_upper_ns(size_t index)
{
    size_t shift;

    if (index < HISTOGRAM_EXACT) {
        return index;
    }
    shift = index / HISTOGRAM_PRECISION - 1;
    return ((uint64_t)(index - shift * HISTOGRAM_PRECISION + 1) << shift) - 1;
}

/* ---- recording ---- */

static void lower_to(_Atomic uint64_t *number, uint64_t value)
{
    if (value < get(number)) {
        put(number, value);
    }
}

static void raise_to(_Atomic uint64_t *number, uint64_t value)
{
    if (value > get(number)) {
        put(number, value);
    }
}

void histogram_record(struct histogram *histogram, uint64_t value_ns)
{
    add(&histogram->counts[histogram_index(value_ns)], 1);
    add(&histogram->count, 1);
    add(&histogram->sum_ns, value_ns);
    lower_to(&histogram->min_ns, value_ns);
    raise_to(&histogram->max_ns, value_ns);
}

void histogram_add(struct histogram *histogram, const struct histogram *other)
{
    uint64_t count = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        uint64_t here = get(&other->counts[i]);

        if (here > 0) {
            add(&histogram->counts[i], here);
            count += here;
        }
    }
    add(&histogram->count, count); /* what was copied, not what has come since */
    add(&histogram->sum_ns, get(&other->sum_ns));
    lower_to(&histogram->min_ns, get(&other->min_ns));
    raise_to(&histogram->max_ns, get(&other->max_ns));
}

/* ---- reading ---- */

uint64_t histogram_percentile(const struct histogram *histogram, double percent)
{
    uint64_t count = get(&histogram->count), max_ns = get(&histogram->max_ns), seen = 0;
    double wanted = (double)count * percent / 100;
    uint64_t rank = (uint64_t)wanted;

    if (count == 0) {
        return 0;
    }
    if (rank < 1 || (double)rank < wanted) {
        rank++;
    }
    for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        seen += get(&histogram->counts[i]);
        if (seen >= rank) {
            uint64_t upper_ns = histogram_upper_ns(i);

            return upper_ns < max_ns ? upper_ns : max_ns;
        }
    }
    return max_ns;
}

uint64_t histogram_count_below(const struct histogram *histogram, uint64_t limit_ns)
{
    uint64_t count = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT && histogram_upper_ns(i) < limit_ns; i++) {
        count += get(&histogram->counts[i]);
    }
    return count;
}

uint64_t histogram_mean(const struct histogram *histogram)
{
    uint64_t count = get(&histogram->count);

    return count > 0 ? get(&histogram->sum_ns) / count : 0;
}

uint64_t histogram_min(const struct histogram *histogram)
{
    return get(&histogram->count) > 0 ? get(&histogram->min_ns) : 0;
}
