#include <stdlib.h>

#include "histogram.h"
#include "tests/check.h"

#define SAMPLE_COUNT 50000u

static const double percents[] = { 0, 1, 25, 50, 75, 90, 99, 99.9, 99.99, 99.999, 100 };

static uint64_t samples[SAMPLE_COUNT];

static int compare_samples(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

    return (left > right) - (left < right);
}

/* The percentile by its definition: of the sorted values, the one at its rank. */
static uint64_t sorted_percentile(double percent)
{
    size_t rank = 1;

    while (rank < SAMPLE_COUNT && (double)rank < (double)SAMPLE_COUNT * percent / 100) {
        rank++;
    }
    return samples[rank - 1];
}

static uint64_t next_random(uint64_t *state)
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return *state >> 33; /* 31 bits */
}

static void check_samples(const char *what)
{
    struct histogram histogram;

    CHECK(histogram_init(&histogram));
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        histogram_record(&histogram, samples[i]);
    }
    qsort(samples, SAMPLE_COUNT, sizeof(samples[0]), compare_samples);
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        uint64_t exact_ns = sorted_percentile(percents[i]);
        uint64_t read_ns = histogram_percentile(&histogram, percents[i]);

        if (read_ns < exact_ns || read_ns > exact_ns + exact_ns / 1000) {
            check_fail(__FILE__, __LINE__, "%s: p%g is %" PRIu64 ", want %" PRIu64 " to 0.1 %%",
                       what, percents[i], read_ns, exact_ns);
        }
    }
    CHECK_EQ(histogram_percentile(&histogram, 100), samples[SAMPLE_COUNT - 1]);
    CHECK_EQ(histogram_min(&histogram), samples[0]);
    histogram_deinit(&histogram);
}

TEST(percentiles_are_those_of_the_sorted_values_to_a_tenth_of_a_per_cent)
{
    uint64_t state = 1;

    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        samples[i] = 100000 + next_random(&state) % 900000;
    }
    check_samples("even");
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        samples[i] = UINT64_C(1) << (next_random(&state) % 42);
        samples[i] += next_random(&state) % samples[i];
    }
    check_samples("from nanoseconds to hours");
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        samples[i] = i % 1000 == 0 ? 2000000000u : 250000 + i % 7;
    }
    check_samples("one in a thousand stalls");
}

TEST(every_value_lies_in_its_bucket_and_buckets_touch)
{
    uint64_t lower_ns = 0;

    for (size_t i = 0; i < HISTOGRAM_BUCKET_COUNT; i++) {
        uint64_t upper_ns = histogram_upper_ns(i);

        CHECK_EQ(histogram_index(lower_ns), i);
        CHECK_EQ(histogram_index(upper_ns), i);
        CHECK(upper_ns - lower_ns <= lower_ns / 1000);
        lower_ns = upper_ns + 1;
    }
    CHECK_EQ(lower_ns, UINT64_C(1) << HISTOGRAM_VALUE_BITS);
}

TEST(value_beyond_the_last_bucket_is_counted_there_and_its_maximum_is_exact)
{
    struct histogram histogram;

    CHECK(histogram_init(&histogram));
    histogram_record(&histogram, UINT64_MAX / 2);
    CHECK_EQ(histogram_index(UINT64_MAX), HISTOGRAM_BUCKET_COUNT - 1);
    CHECK_EQ(histogram_percentile(&histogram, 50), (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1);
    CHECK_EQ(histogram.max_ns, UINT64_MAX / 2);
    histogram_deinit(&histogram);
}

TEST(empty_histogram_reads_as_nothing)
{
    struct histogram histogram;

    CHECK(histogram_init(&histogram));
    CHECK_EQ(histogram_percentile(&histogram, 99), 0);
    CHECK_EQ(histogram_mean(&histogram), 0);
    CHECK_EQ(histogram_min(&histogram), 0);
    CHECK_EQ(histogram_count_below(&histogram, UINT64_MAX), 0);
    histogram_deinit(&histogram);
}

TEST(sum_of_two_histograms_reads_as_one_of_all_values)
{
    struct histogram parts[2], whole, sum;
    uint64_t state = 7;

    CHECK(histogram_init(&parts[0]) && histogram_init(&parts[1]));
    CHECK(histogram_init(&whole) && histogram_init(&sum));
    for (size_t i = 0; i < 1000; i++) {
        uint64_t value_ns = next_random(&state) >> (i % 20);

        histogram_record(&parts[i % 3 == 0], value_ns);
        histogram_record(&whole, value_ns);
    }
    histogram_add(&sum, &parts[0]);
    histogram_add(&sum, &parts[1]);
    for (size_t i = 0; i < sizeof(percents) / sizeof(percents[0]); i++) {
        CHECK_EQ(histogram_percentile(&sum, percents[i]),
                 histogram_percentile(&whole, percents[i]));
    }
    CHECK_EQ(histogram_mean(&sum), histogram_mean(&whole));
    CHECK_EQ(histogram_min(&sum), histogram_min(&whole));
    CHECK_EQ(sum.count, 1000);
    histogram_clear(&sum);
    CHECK_EQ(histogram_percentile(&sum, 100), 0);
    histogram_deinit(&sum);
    histogram_deinit(&whole);
    histogram_deinit(&parts[1]);
    histogram_deinit(&parts[0]);
}

TEST(values_below_a_limit_are_counted)
{
    struct histogram histogram;

    CHECK(histogram_init(&histogram));
    for (uint64_t value_ns = 0; value_ns < 100; value_ns++) {
        histogram_record(&histogram, value_ns);
    }
    CHECK_EQ(histogram_count_below(&histogram, 0), 0);
    CHECK_EQ(histogram_count_below(&histogram, 40), 40);
    CHECK_EQ(histogram_count_below(&histogram, 1000), 100);
    histogram_deinit(&histogram);
}
