#include "net/resolve_cache.h"

#include "tests/resolve_check.h"

TEST(answer_is_kept_for_as_long_as_dns_allows)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "both.test"); /* 30 s */
    lookup_run(&lookup, fixture.loop, "BOTH.test");
    CHECK_EQ(question_count(&fixture), 2);
    CHECK_EQ(lookup.count, 3);
    check_address(&lookup, 1, "192.0.2.2"); /* the other one's turn */
    check_address(&lookup, 2, "192.0.2.1");
    fixture.loop->held.now_ns += 31 * (uint64_t)1000000000; /* until the next poll */
    lookup_start(&lookup, fixture.loop, "both.test");
    lookup_finish(&lookup);
    CHECK_EQ(question_count(&fixture), 4);
    lookup_run(&lookup, fixture.loop, "six.test"); /* 0 s */
    lookup_run(&lookup, fixture.loop, "six.test");
    CHECK_EQ(question_count(&fixture), 8);
    fixture_close(&fixture);
}

TEST(name_that_does_not_exist_is_taken_for_that_for_a_moment)
{
    static const char *const absent[] = { "missing.test", "empty.test" };
    struct fixture fixture;
    struct lookup lookup, again;

    for (size_t i = 0; i < il_array_count(absent); i++) {
        fixture_open(&fixture);
        lookup_run(&lookup, fixture.loop, absent[i]);
        lookup_run(&again, fixture.loop, absent[i]);
        CHECK_EQ(question_count(&fixture), 2);
        CHECK_EQ(again.err.code, IL_ERESOLVE);
        CHECK_STR(again.err.message, lookup.err.message);
        fixture.loop->held.now_ns += RESOLVE_CACHE_FAILURE_MS * (uint64_t)LOOP_NS_PER_MS;
        lookup_run(&again, fixture.loop, absent[i]);
        CHECK_EQ(question_count(&fixture), 4);
        fixture_close(&fixture);
    }
}

TEST(failure_that_says_nothing_of_the_name_is_not_kept)
{
    static const char *const failing[] = { "fails.test", "refused.test" };
    struct fixture fixture;
    struct lookup lookup;

    for (size_t i = 0; i < il_array_count(failing); i++) {
        size_t count;

        fixture_open(&fixture);
        lookup_run(&lookup, fixture.loop, failing[i]);
        count = question_count(&fixture);
        lookup_run(&lookup, fixture.loop, failing[i]);
        CHECK_EQ(question_count(&fixture), 2 * count);
        fixture_close(&fixture);
    }
}

TEST(answer_that_one_loop_got_serves_the_others)
{
    struct il_loop *other;
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    other = loop_open_for_test();
    lookup_run(&lookup, fixture.loop, "both.test");
    lookup_run(&lookup, other, "both.test");
    CHECK_EQ(question_count(&fixture), 2);
    CHECK_EQ(lookup.count, 3);
    resolve_forget(cache, "both.test"); /* one of them has found it to be of no use */
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK_EQ(question_count(&fixture), 4);
    loop_close_for_test(other);
    fixture_close(&fixture);
}

/* The other loop stops in the middle of its question, and is never driven again. */
TEST(loop_that_stops_holds_up_nobody_else)
{
    struct il_loop *parked;
    struct fixture fixture;
    struct lookup begun, lookup;

    fixture_open(&fixture);
    parked = loop_open_for_test();
    lookup_start(&begun, parked, "six.test"); /* 0 s: what is found is not kept */
    (void)loop_turn(parked, 0);               /* the question has been sent */
    lookup_run(&lookup, fixture.loop, "six.test");
    CHECK_EQ(lookup.count, 1);
    CHECK_EQ(begun.answer_count, 0);
    loop_close_for_test(parked);
    CHECK_EQ(begun.last_count, 1); /* the answer, or IL_ESHUTDOWN */
    lookup_run(&lookup, fixture.loop, "six.test");
    CHECK_EQ(lookup.count, 1);
    fixture_close(&fixture);
}

TEST(forgotten_answer_is_asked_for_again)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    resolve_forget(cache, "both.test"); /* nothing is known yet */
    lookup_run(&lookup, fixture.loop, "both.test");
    resolve_forget(cache, "four.test");
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK_EQ(question_count(&fixture), 2);
    resolve_forget(cache, "Both.test");
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK_EQ(question_count(&fixture), 4);
    fixture_close(&fixture);
}

TEST(cache_keeps_so_many_names_and_those_used_last)
{
    const uint64_t second_ns = 1000000000;
    struct leftovers before = leftovers_now();
    struct resolve_cached known = { .found = { { .count = 1 }, { .count = 0 } } };
    struct resolve_cache *small = resolve_cache_new();
    char name[32];

    for (int i = 0; i < 3 * RESOLVE_CACHE_NAMES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d.test", i);
        resolve_cache_put(small, name, 0, 10000, &known);
        CHECK(resolve_cache_get(small, "n0.test", 1, &known));
    }
    CHECK_EQ(small->count, RESOLVE_CACHE_NAMES_MAX);
    CHECK(!resolve_cache_get(small, "n1.test", 1, &known));
    CHECK(resolve_cache_get(small, name, 10 * second_ns - 1, &known));
    CHECK(!resolve_cache_get(small, name, 10 * second_ns, &known));
    resolve_cache_put(small, name, 0, 1000000000, &known);
    CHECK(resolve_cache_get(small, name, 60 * second_ns - 1, &known));
    CHECK(!resolve_cache_get(small, name, 60 * second_ns, &known));
    resolve_cache_free(small);
    check_nothing_is_left_since(&before);
}

#define CACHE_THREADS 4

static struct resolve_cache *crowded;

/* Each sees whole entries only: of any name both families are of the same kind. */
static void use_crowded_cache(void *arg)
{
    unsigned seed = (unsigned)(uintptr_t)arg;

    for (unsigned i = 0; i < 4000; i++) {
        struct resolve_cached known = { 0 };
        char name[32];

        seed = seed * 1103515245u + 12345u;
        (void)snprintf(name, sizeof(name), "n%u.test",
                       (seed >> 16) % (RESOLVE_CACHE_NAMES_MAX + 8));
        switch ((seed >> 8) % 8) {
        case 0:
            resolve_cache_drop(crowded, name);
            break;
        case 1:
            resolve_cache_set_first(crowded, name, i % 2 ? AF_INET : AF_INET6);
            break;
        case 2:
        case 3:
            known.found[DNS_AAAA].count = known.found[DNS_A].count = 1 + i % RESOLVE_FAMILY_MAX;
            resolve_cache_put(crowded, name, i, 1 + i % 3, &known);
            break;
        default:
            if (resolve_cache_get(crowded, name, i, &known)) {
                CHECK(known.found[DNS_AAAA].count > 0);
                CHECK_EQ(known.found[DNS_AAAA].count, known.found[DNS_A].count);
            }
            break;
        }
    }
}

TEST(cache_serves_several_threads_at_the_same_time)
{
    struct leftovers before = leftovers_now();
    struct sys_thread *threads[CACHE_THREADS];

    crowded = resolve_cache_new();
    for (uintptr_t i = 0; i < CACHE_THREADS; i++) {
        CHECK_EQ(sys_thread_start(&threads[i], "cache", use_crowded_cache, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < CACHE_THREADS; i++) {
        sys_thread_join(threads[i]);
    }
    CHECK(crowded->count <= RESOLVE_CACHE_NAMES_MAX);
    resolve_cache_free(crowded);
    check_nothing_is_left_since(&before);
}
