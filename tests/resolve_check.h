/* resolve_check.h: what tests of lookups have in common: a lookup that remembers what it was told,
 * a DNS server with names of all kinds, a cache, and the proof that nothing is left.
 *
 * Thread: the test's. */
#ifndef TESTS_RESOLVE_CHECK_H
#define TESTS_RESOLVE_CHECK_H

#include "net/resolve.h"
#include "net/resolve_cache.h"
#include "tests/dns_server.h"

/* ---- a lookup that remembers ---- */

struct lookup {
    struct resolve resolve;
    struct il_loop *loop;
    size_t answer_count, last_count;
    size_t first_count; /* addresses of the first answer */
    struct net_address addresses[RESOLVE_ADDRESSES_MAX];
    size_t count;
    struct il_error err;
    bool cancels_after_first, restarts;
};

static inline void lookup_start(struct lookup *lookup, struct il_loop *loop, const char *host);

static struct resolve_cache *cache; /* from fixture_open to fixture_close */

static inline void lookup_on_answer(struct resolve *resolve, const struct resolve_answer *answer)
{
    struct lookup *lookup = il_container_of(resolve, struct lookup, resolve);

    CHECK_EQ(lookup->last_count, 0);
    CHECK((answer->is_last) == (resolve->state == NULL));
    CHECK(answer->is_last || answer->count > 0);
    CHECK(lookup->count + answer->count <= RESOLVE_ADDRESSES_MAX);
    memcpy(lookup->addresses + lookup->count, answer->addresses,
           answer->count * sizeof(answer->addresses[0]));
    lookup->count += answer->count;
    if (lookup->answer_count++ == 0) {
        lookup->first_count = answer->count;
    }
    CHECK((answer->err != NULL) == (answer->is_last && lookup->count == 0));
    if (answer->err != NULL) {
        lookup->err = *answer->err;
        CHECK(lookup->err.message[0] != '\0');
    }
    lookup->last_count += answer->is_last;
    lookup->loop->held.must_return = true;
    if (lookup->cancels_after_first) {
        resolve_cancel(resolve);
    }
    if (lookup->restarts && answer->is_last) {
        lookup_start(lookup, lookup->loop, "again.test");
    }
}

static inline void lookup_start(struct lookup *lookup, struct il_loop *loop, const char *host)
{
    struct il_error err;

    *lookup = (struct lookup){
        .resolve = { .on_answer = lookup_on_answer, .cache = cache },
        .loop = loop,
    };
    CHECK_OK(resolve_start(&lookup->resolve, loop, host, &err));
    CHECK_EQ(lookup->answer_count, 0);
}

static inline void lookup_finish(struct lookup *lookup)
{
    loop_turn_until_count(lookup->loop, &lookup->last_count, 1);
}

static inline void lookup_run(struct lookup *lookup, struct il_loop *loop, const char *host)
{
    lookup_start(lookup, loop, host);
    lookup_finish(lookup);
}

static inline void check_address(const struct lookup *lookup, size_t index, const char *expected)
{
    char text[NET_ADDRESS_TEXT_SIZE];

    CHECK(index < lookup->count);
    CHECK_STR(net_address_text(&lookup->addresses[index], text), expected);
}

static inline void check_fails(struct lookup *lookup, struct il_loop *loop, const char *host,
                               const char *message_part)
{
    lookup_run(lookup, loop, host);
    CHECK_EQ(lookup->err.code, IL_ERESOLVE);
    CHECK_EQ(lookup->err.phase, IL_PHASE_RESOLVE);
    CHECK_CONTAINS(lookup->err.message, host);
    CHECK_CONTAINS(lookup->err.message, message_part);
}

/* ---- what most tests need ---- */

struct fixture {
    struct leftovers before;
    struct il_loop *loop;
    struct dns_server server;
};

static const struct server_rule RULES[] = {
    { .name = "both.test", .addresses = { "2001:db8::1", "192.0.2.1 192.0.2.2" }, .ttl_s = 30 },
    { .name = "four.test", .addresses = { NULL, "192.0.2.4" }, .ttl_s = 30 },
    { .name = "six.test", .addresses = { "2001:db8::6", NULL } },
    { .name = "empty.test" },
    { .name = "again.test", .addresses = { NULL, "192.0.2.9" } },
    { .name = "held.test",
      .manners = { SERVER_HOLDS, SERVER_HOLDS },
      .addresses = { "2001:db8::2", "192.0.2.3" } },
    { .name = "fails.test", .rcode = ns_r_servfail },
    { .name = "refused.test", .rcode = ns_r_refused },
    { .name = "silent.test", .manners = { SERVER_IS_SILENT, SERVER_IS_SILENT } },
    { .name = "half-silent.test",
      .manners = { SERVER_IS_SILENT, SERVER_ANSWERS },
      .addresses = { NULL, "192.0.2.5" },
      .ttl_s = 30 },
    { .name = "cut.test",
      .manners = { SERVER_TRUNCATES, SERVER_TRUNCATES },
      .addresses = { "2001:db8::7", "192.0.2.7" } },
    { .name = "held-cut.test",
      .manners = { SERVER_HOLDS_AND_TRUNCATES, SERVER_HOLDS_AND_TRUNCATES },
      .addresses = { "2001:db8::7", "192.0.2.7" } },
    { .name = "cut-off.test", .manners = { SERVER_TRUNCATES_ALL, SERVER_TRUNCATES_ALL } },
    { .name = "nonsense.test",
      .manners = { SERVER_TALKS_NONSENSE, SERVER_TALKS_NONSENSE },
      .addresses = { "2001:db8::8", "192.0.2.8" } },
    { .name = "stutter.test",
      .manners = { SERVER_STUTTERS, SERVER_STUTTERS },
      .addresses = { "2001:db8::a", "192.0.2.10" } },
    { .name = "circle.test", .manners = { SERVER_LEADS_IN_CIRCLE, SERVER_LEADS_IN_CIRCLE } },
    { .name = "alias.test",
      .manners = { SERVER_LEADS_ELSEWHERE, SERVER_LEADS_ELSEWHERE },
      .addresses = { "2001:db8::b", "192.0.2.11" } },
    { .name = "many.test", .many = 500 },
    { .name = "raving.test",
      .manners = { SERVER_RAVES, SERVER_RAVES },
      .addresses = { "2001:db8::c", "192.0.2.12 192.0.2.13 192.0.2.14" } },
    { .name = "raving-alias.test", .manners = { SERVER_RAVES, SERVER_LEADS_ELSEWHERE }, .many = 4 },
    { .name = "box.corp.test", .addresses = { NULL, "192.0.2.20" } },
    { .name = "box", .addresses = { "2001:db8::20", NULL } },
    { .name = "a.b.corp.test", .addresses = { NULL, "192.0.2.21" } },
};

static inline void fixture_open(struct fixture *fixture)
{
    fixture->before = leftovers_now();
    fixture->loop = loop_open_for_test();
    dns_server_open(&fixture->server, fixture->loop, RULES, il_array_count(RULES));
    cache = resolve_cache_new();
}

static inline void fixture_close(struct fixture *fixture)
{
    dns_server_close(&fixture->server);
    loop_close_for_test(fixture->loop);
    resolve_cache_free(cache);
    check_nothing_is_left_since(&fixture->before);
}

static inline size_t question_count(const struct fixture *fixture)
{
    return fixture->server.question_counts[DNS_AAAA] + fixture->server.question_counts[DNS_A];
}

static inline void wait_until_held(struct fixture *fixture, size_t count)
{
    while (fixture->server.held_count < count) {
        CHECK_EQ(loop_turn(fixture->loop, SYS_FOREVER), LOOP_HELD);
    }
}

#endif
