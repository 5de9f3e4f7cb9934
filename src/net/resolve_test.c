#include "net/resolve.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/resolve_check.h"

/* ---- what is not asked ---- */

TEST(literals_are_answered_without_asking)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "192.0.2.1");
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "192.0.2.1");
    lookup_run(&lookup, fixture.loop, "::ffff:192.0.2.1");
    CHECK_EQ(lookup.count, 1);
    CHECK_EQ(net_address_family(&lookup.addresses[0]), AF_INET6);
    CHECK_EQ(question_count(&fixture), 0);
    CHECK(fixture.loop->held.resolver == NULL);
    fixture_close(&fixture);
}

TEST(localhost_is_both_loopback_addresses_and_is_never_asked_of_dns)
{
    static const char *const names[] = { "localhost", "LocalHost.", "a.b.localhost" };
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    for (size_t i = 0; i < il_array_count(names); i++) {
        lookup_run(&lookup, fixture.loop, names[i]);
        CHECK_EQ(lookup.answer_count, 1);
        CHECK_EQ(lookup.count, 2);
        check_address(&lookup, 0, "::1");
        check_address(&lookup, 1, "127.0.0.1");
    }
    CHECK_EQ(question_count(&fixture), 0);
    fixture_close(&fixture);
}

TEST(names_that_dns_must_not_see_fail_at_once)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    check_fails(&lookup, fixture.loop, "no.such.invalid", "does not exist");
    check_fails(&lookup, fixture.loop, "abc.onion", "Tor");
    CHECK_EQ(question_count(&fixture), 0);
    fixture_close(&fixture);
}

TEST(what_is_no_host_name_is_refused)
{
    static const char *const hosts[] = {
        ".",        "a..b",      ".a",     "a b", "a/b",   "a\tb", "fe80::1%1",    "127.1",
        "1.2.3.4.", "1.2.3.256", "a.0x7f", "0x",  "[::1]", "a@b",  "b\xc3\xbc.de", "127.0.0.1:80",
    };
    struct fixture fixture;
    struct resolve resolve = { .on_answer = lookup_on_answer };
    struct il_error err;
    char longest[RESOLVE_NAME_MAX + 2];

    fixture_open(&fixture);
    for (size_t i = 0; i < il_array_count(hosts); i++) {
        CHECK_EQ(resolve_start(&resolve, fixture.loop, hosts[i], &err), IL_EINVAL);
        CHECK(resolve.state == NULL);
    }
    memset(longest, 'a', sizeof(longest));
    longest[64] = '\0';
    CHECK_EQ(resolve_start(&resolve, fixture.loop, longest, &err), IL_EINVAL);
    for (size_t i = 63; i < sizeof(longest); i += 64) {
        longest[i] = '.';
    }
    longest[64] = 'a';
    longest[RESOLVE_NAME_MAX + 1] = '\0';
    CHECK_EQ(resolve_start(&resolve, fixture.loop, longest, &err), IL_EINVAL);
    longest[RESOLVE_NAME_MAX] = '\0';
    CHECK_OK(resolve_start(&resolve, fixture.loop, longest, &err));
    resolve_cancel(&resolve);
    fixture_close(&fixture);
}

/* ---- answers ---- */

TEST(name_with_both_families_gives_ipv6_first)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "Both.Test");
    CHECK_EQ(lookup.count, 3);
    CHECK_EQ(lookup.answer_count, 1); /* the answers came together */
    check_address(&lookup, 0, "2001:db8::1");
    check_address(&lookup, 1, "192.0.2.1");
    check_address(&lookup, 2, "192.0.2.2");
    CHECK_EQ(fixture.server.question_counts[DNS_AAAA], 1);
    CHECK_EQ(fixture.server.question_counts[DNS_A], 1);
    fixture_close(&fixture);
}

TEST(name_with_one_family_gives_that)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "four.test");
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "192.0.2.4");
    lookup_run(&lookup, fixture.loop, "six.test");
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "2001:db8::6");
    fixture_close(&fixture);
}

TEST(family_that_comes_first_is_told_at_once)
{
    struct fixture fixture;
    struct lookup lookup;

    for (int first = 0; first < DNS_TYPE_COUNT; first++) {
        fixture_open(&fixture);
        lookup_start(&lookup, fixture.loop, "held.test");
        wait_until_held(&fixture, 2);
        server_release(&fixture.server, (enum dns_type)first);
        loop_turn_until_count(fixture.loop, &lookup.answer_count, 1);
        CHECK_EQ(lookup.last_count, 0);
        check_address(&lookup, 0, first == DNS_A ? "192.0.2.3" : "2001:db8::2");
        server_release(&fixture.server, (enum dns_type) !first);
        lookup_finish(&lookup);
        CHECK_EQ(lookup.answer_count, 2);
        CHECK_EQ(lookup.count, 2);
        check_address(&lookup, 1, first == DNS_A ? "2001:db8::2" : "192.0.2.3");
        fixture_close(&fixture);
    }
}

TEST(family_whose_question_times_out_does_not_spoil_the_other)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 20;
    fixture.server.settings.try_count = 2;
    lookup_run(&lookup, fixture.loop, "half-silent.test");
    CHECK_EQ(lookup.answer_count, 2);
    CHECK_EQ(lookup.first_count, 1);
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "192.0.2.5");
    CHECK_EQ(fixture.server.question_counts[DNS_AAAA], 2);
    lookup_run(&lookup, fixture.loop, "half-silent.test"); /* half an answer is not kept */
    CHECK_EQ(fixture.server.question_counts[DNS_AAAA], 4);
    fixture_close(&fixture);
}

TEST(answer_that_has_come_is_not_too_late_because_the_loop_is)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 100;
    fixture.server.settings.try_count = 1;
    lookup_start(&lookup, fixture.loop, "both.test");
    while (question_count(&fixture) < 2) {
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    usleep(200000); /* the loop is held up elsewhere; the answers have been sent */
    lookup_finish(&lookup);
    CHECK_EQ(lookup.count, 3);
    fixture_close(&fixture);
}

TEST(truncated_answer_is_asked_for_again_over_tcp)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "cut.test");
    CHECK_EQ(lookup.count, 2);
    CHECK_EQ(fixture.server.tcp_question_count, 2);
    fixture_close(&fixture);
}

TEST(tcp_connection_that_is_open_serves_the_next_question)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 60000; /* nothing may have to be sent again */
    lookup_start(&lookup, fixture.loop, "held-cut.test");
    wait_until_held(&fixture, 2);
    server_release(&fixture.server, DNS_A);
    while (fixture.server.tcp_question_count < 1) {
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    server_release(&fixture.server, DNS_AAAA);
    while (fixture.server.tcp_question_count < 2) {
        CHECK_EQ(loop_turn(fixture.loop, SYS_FOREVER), LOOP_HELD);
    }
    server_release(&fixture.server, DNS_A);
    server_release(&fixture.server, DNS_AAAA);
    lookup_finish(&lookup);
    CHECK_EQ(lookup.count, 2);
    fixture_close(&fixture);
}

TEST(tcp_connection_takes_questions_that_come_one_by_one)
{
    struct fixture fixture;
    struct lookup held, lookup;

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 60000;
    fixture.server.settings.is_tcp_only = true;
    lookup_start(&held, fixture.loop, "held.test");
    wait_until_held(&fixture, 2);
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK_EQ(lookup.count, 3);
    CHECK_EQ(fixture.server.tcp_question_count, 4);
    resolve_cancel(&held.resolve);
    fixture_close(&fixture);
}

TEST(so_many_addresses_are_kept_and_no_more)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "many.test");
    CHECK_EQ(lookup.count, 2 * RESOLVE_FAMILY_MAX);
    check_address(&lookup, RESOLVE_FAMILY_MAX, "127.1.0.0");
    CHECK(fixture.server.tcp_question_count >= 1); /* 500 addresses do not fit into a datagram */
    fixture_close(&fixture);
}

TEST(alias_leads_to_its_targets_addresses)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "alias.test");
    CHECK_EQ(lookup.count, 2);
    check_address(&lookup, 0, "2001:db8::b");
    check_address(&lookup, 1, "192.0.2.11");
    fixture_close(&fixture);
}

TEST(stray_datagrams_before_the_answer_are_passed_over)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_run(&lookup, fixture.loop, "stutter.test");
    CHECK_EQ(lookup.count, 2);
    CHECK_EQ(question_count(&fixture), 2); /* none had to be asked twice */
    fixture_close(&fixture);
}

TEST(damaged_answers_do_no_harm)
{
    static const char *const hosts[] = { "raving.test", "raving-alias.test" };
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 50;
    fixture.server.settings.try_count = 2;
    for (uint32_t seed = 0; seed < 3000; seed++) {
        fixture.server.seed = seed;
        lookup_run(&lookup, fixture.loop, hosts[seed % 2]); /* some answer, whatever it is */
        resolve_forget(cache, hosts[seed % 2]);
    }
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK_EQ(lookup.count, 3);
    fixture_close(&fixture);
}

/* ---- failures ---- */

TEST(failure_says_what_the_server_said)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    check_fails(&lookup, fixture.loop, "missing.test", "does not exist");
    CHECK_CONTAINS(lookup.err.message, fixture.server.address);
    check_fails(&lookup, fixture.loop, "empty.test", "neither an IPv6 nor an IPv4 address");
    check_fails(&lookup, fixture.loop, "circle.test", "neither an IPv6 nor an IPv4 address");
    check_fails(&lookup, fixture.loop, "fails.test", "SERVFAIL");
    check_fails(&lookup, fixture.loop, "refused.test", "refuses");
    check_fails(&lookup, fixture.loop, "nonsense.test", "makes no sense");
    check_fails(&lookup, fixture.loop, "cut-off.test", "cannot be reached");
    fixture_close(&fixture);
}

TEST(silent_server_is_named_when_the_time_is_up)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 10;
    fixture.server.settings.try_count = 3;
    check_fails(&lookup, fixture.loop, "silent.test", "no answer from DNS server 127.0.0.1:");
    CHECK_EQ(question_count(&fixture), 6);
    fixture_close(&fixture);
}

TEST(server_that_is_not_there_is_told_from_one_that_is_silent)
{
    struct fixture fixture;
    struct lookup lookup;
    int bound;
    char address[32];

    fixture_open(&fixture);
    bound = socket_bind_for_test(SOCK_DGRAM, "127.0.0.1", 0);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port_of_socket(bound));
    close(bound);
    fixture.server.settings.servers = address;
    check_fails(&lookup, fixture.loop, "both.test", "cannot be reached");
    CHECK_CONTAINS(lookup.err.message, address);
    CHECK_EQ(lookup.err.sys_errno, ECONNREFUSED);
    fixture_close(&fixture);
}

TEST(next_server_is_asked_when_one_is_not_there)
{
    struct fixture fixture;
    struct lookup lookup;
    int bound;
    char addresses[80];

    fixture_open(&fixture);
    bound = socket_bind_for_test(SOCK_DGRAM, "127.0.0.1", 0);
    (void)snprintf(addresses, sizeof(addresses), "127.0.0.1:%u,%s", port_of_socket(bound),
                   fixture.server.address);
    close(bound);
    fixture.server.settings.servers = addresses;
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK_EQ(lookup.count, 3);
    fixture_close(&fixture);
}

TEST(no_descriptor_left_for_a_socket_says_what_to_do)
{
    struct fixture fixture;
    struct lookup lookup;
    struct rlimit limit, none;

    fixture_open(&fixture);
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    lookup_start(&lookup, fixture.loop, "held.test"); /* the files have been read */
    resolve_cancel(&lookup.resolve);
    none = (struct rlimit){ 0, limit.rlim_max };
    CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
    lookup_run(&lookup, fixture.loop, "both.test");
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ(lookup.err.code, IL_ESYS);
    CHECK_EQ(lookup.err.sys_errno, EMFILE);
    CHECK_CONTAINS(lookup.err.message, "both.test");
    CHECK_CONTAINS(lookup.err.message, "ulimit -n");
    fixture_close(&fixture);
}

/* ---- /etc/hosts and the search list ---- */

static void write_hosts(char *path, const char *text)
{
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    CHECK_EQ(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    CHECK(setenv("CARES_HOSTS", path, 1) == 0);
}

TEST(hosts_file_comes_before_dns_for_both_families)
{
    char path[] = "/tmp/interloop-hosts-XXXXXX";
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    write_hosts(path, "# what the test says\n"
                      "127.0.0.9  both.test alias-of-both\n"
                      "::9        other.test # comment\n"
                      "127.0.0.10 other.test\n"
                      "127.0.0.11 other.test\n");
    lookup_run(&lookup, fixture.loop, "BOTH.test.");
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "127.0.0.9");
    lookup_run(&lookup, fixture.loop, "alias-of-both");
    check_address(&lookup, 0, "127.0.0.9");
    lookup_run(&lookup, fixture.loop, "other.test");
    CHECK_EQ(lookup.count, 3);
    check_address(&lookup, 0, "::9");
    check_address(&lookup, 1, "127.0.0.10");
    check_address(&lookup, 2, "127.0.0.11");
    CHECK_EQ(question_count(&fixture), 0);
    CHECK(unlink(path) == 0);
    lookup_run(&lookup, fixture.loop, "both.test"); /* no hosts file: DNS */
    CHECK_EQ(lookup.count, 3);
    fixture_close(&fixture);
}

TEST(hosts_file_may_give_more_addresses_than_are_kept)
{
    char path[] = "/tmp/interloop-hosts-XXXXXX", text[4096];
    struct fixture fixture;
    struct lookup lookup;
    int used = 0;

    fixture_open(&fixture);
    for (int i = 0; i < 40; i++) {
        used += snprintf(text + used, sizeof(text) - (size_t)used, "::1:%d big\n127.0.1.%d big\n",
                         i, i);
    }
    write_hosts(path, text);
    lookup_run(&lookup, fixture.loop, "big");
    CHECK_EQ(lookup.count, 2 * RESOLVE_FAMILY_MAX);
    CHECK(unlink(path) == 0);
    fixture_close(&fixture);
}

TEST(search_list_is_followed_for_both_families_together)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.search = "corp.test";
    lookup_run(&lookup, fixture.loop, "box"); /* one dot less than ndots: the search list first */
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "192.0.2.20"); /* not the IPv6 address of another host, "box" */
    lookup_run(&lookup, fixture.loop, "box.");
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "2001:db8::20");
    lookup_run(&lookup, fixture.loop, "a.b"); /* dots enough: as it is first, the list then */
    CHECK_EQ(lookup.count, 1);
    check_address(&lookup, 0, "192.0.2.21");
    CHECK_EQ(question_count(&fixture), 2 + 2 + 4);
    check_fails(&lookup, fixture.loop, "nowhere", "does not exist");
    CHECK_EQ(question_count(&fixture), 8 + 4);
    fixture_close(&fixture);
}

TEST(time_out_ends_the_search)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    fixture.server.settings.search = "corp.test";
    fixture.server.settings.timeout_ms = 10;
    fixture.server.settings.try_count = 1;
    check_fails(&lookup, fixture.loop, "silent.test", "no answer");
    CHECK_EQ(question_count(&fixture), 2);
    fixture_close(&fixture);
}

/* ---- sharing and cancelling ---- */

TEST(lookups_of_one_name_share_a_question_and_none_leads)
{
    struct fixture fixture;
    struct lookup first, second, third;

    fixture_open(&fixture);
    lookup_start(&first, fixture.loop, "held.test");
    lookup_start(&second, fixture.loop, "HELD.test");
    wait_until_held(&fixture, 2);
    resolve_cancel(&first.resolve);
    server_release(&fixture.server, DNS_A);
    loop_turn_until_count(fixture.loop, &second.answer_count, 1);
    lookup_start(&third, fixture.loop, "held.test"); /* joins late, and is told what is known */
    loop_turn_until_count(fixture.loop, &third.answer_count, 1);
    server_release(&fixture.server, DNS_AAAA);
    lookup_finish(&second);
    lookup_finish(&third);
    CHECK_EQ(first.answer_count, 0);
    CHECK_EQ(second.count, 2);
    CHECK_EQ(third.count, 2);
    CHECK_EQ(question_count(&fixture), 2);
    fixture_close(&fixture);
}

TEST(question_of_a_second_ago_is_not_joined)
{
    struct fixture fixture;
    struct lookup first, second;

    fixture_open(&fixture);
    fake_time_begin();
    fixture.server.settings.timeout_ms = 60000; /* who asks again is not c-ares */
    lookup_start(&first, fixture.loop, "held.test");
    wait_until_held(&fixture, 2);
    fake_now_ns += 1000 * (uint64_t)LOOP_NS_PER_MS;
    loop_turn_some(fixture.loop, 1);
    lookup_start(&second, fixture.loop, "held.test"); /* the network may be another by now */
    wait_until_held(&fixture, 4);
    resolve_cancel(&first.resolve);
    server_release(&fixture.server, DNS_A);
    server_release(&fixture.server, DNS_AAAA);
    lookup_finish(&second);
    CHECK_EQ(second.count, 2);
    fixture_close(&fixture);
}

TEST(lookup_may_be_cancelled_after_any_number_of_turns)
{
    static const char *const hosts[] = { "held.test", "both.test",   "cut.test",
                                         "localhost", "silent.test", "missing.test" };
    struct fixture fixture;
    struct lookup lookup, other;

    for (size_t host = 0; host < il_array_count(hosts); host++) {
        for (int turn_count = 0; turn_count < 12; turn_count++) {
            fixture_open(&fixture);
            lookup_start(&other, fixture.loop, "again.test");
            lookup_start(&lookup, fixture.loop, hosts[host]);
            loop_turn_some(fixture.loop, turn_count);
            resolve_cancel(&lookup.resolve);
            CHECK(lookup.resolve.state == NULL);
            memset(&lookup, 0xa5, sizeof(lookup));
            lookup_finish(&other);
            fixture_close(&fixture);
        }
    }
}

TEST(lookup_may_be_cancelled_in_its_callback)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_start(&lookup, fixture.loop, "held.test");
    lookup.cancels_after_first = true;
    wait_until_held(&fixture, 2);
    server_release(&fixture.server, DNS_A);
    loop_turn_until_count(fixture.loop, &lookup.answer_count, 1);
    server_release(&fixture.server, DNS_AAAA);
    loop_turn_some(fixture.loop, 10);
    CHECK_EQ(lookup.answer_count, 1);
    fixture_close(&fixture);
}

TEST(lookup_may_be_started_again_in_its_callback)
{
    struct fixture fixture;
    struct lookup lookup;

    fixture_open(&fixture);
    lookup_start(&lookup, fixture.loop, "localhost");
    lookup.restarts = true;
    loop_turn_until_count(fixture.loop, &fixture.server.question_counts[DNS_A], 1);
    lookup_finish(&lookup);
    check_address(&lookup, 0, "192.0.2.9");
    fixture_close(&fixture);
}

TEST(cancelled_questions_do_not_pile_up)
{
    struct fixture fixture;
    struct lookup waiting, lookup;
    struct il_memory_use before, now;
    char name[32];

    char address[32];
    int deaf;

    fixture_open(&fixture);
    deaf = socket_bind_for_test(SOCK_DGRAM, "127.0.0.1", 0);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", port_of_socket(deaf));
    fixture.server.settings.servers = address;
    lookup_start(&waiting, fixture.loop, "held.test"); /* keeps what was abandoned from going */
    il_memory_use(&before);
    for (int i = 0; i < 20 * DNS_ABANDONED_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d.test", i);
        lookup_start(&lookup, fixture.loop, name);
        resolve_cancel(&lookup.resolve);
        il_memory_use(&now);
        CHECK(now.live_count < before.live_count + 3 * DNS_ABANDONED_MAX);
    }
    resolve_cancel(&waiting.resolve);
    close(deaf);
    fixture_close(&fixture);
}

TEST(so_many_names_are_asked_for_at_once_and_no_more)
{
    enum { NAMES_MAX = 512 };
    static struct lookup lookups[NAMES_MAX + 1];
    struct fixture fixture;
    struct lookup *last = &lookups[NAMES_MAX];
    char name[32];

    fixture_open(&fixture);
    fixture.server.settings.timeout_ms = 100; /* so many datagrams at once: some get lost */
    fixture.server.settings.try_count = 10;
    for (int i = 0; i <= NAMES_MAX; i++) {
        (void)snprintf(name, sizeof(name), "n%d.test", i);
        lookup_start(&lookups[i], fixture.loop, name);
    }
    lookup_finish(last);
    CHECK_EQ(last->err.code, IL_ELIMIT);
    CHECK_CONTAINS(last->err.message, "n512.test");
    for (int i = 0; i < NAMES_MAX; i++) {
        lookup_finish(&lookups[i]); /* all others are answered: they do not exist */
        CHECK_EQ(lookups[i].err.code, IL_ERESOLVE);
    }
    lookup_run(last, fixture.loop, "both.test");
    CHECK_EQ(last->count, 3);
    fixture_close(&fixture);
}

/* ---- the end of the loop, memory, threads ---- */

TEST(lookup_gets_ESHUTDOWN_when_its_loop_ends)
{
    struct fixture fixture;
    struct lookup lookup, half;

    fixture_open(&fixture);
    lookup_start(&lookup, fixture.loop, "silent.test");
    lookup_start(&half, fixture.loop, "held.test");
    wait_until_held(&fixture, 2);
    server_release(&fixture.server, DNS_A);
    loop_turn_until_count(fixture.loop, &half.answer_count, 1);
    fixture_close(&fixture);
    CHECK_EQ(lookup.last_count, 1);
    CHECK_EQ(lookup.err.code, IL_ESHUTDOWN);
    CHECK_EQ(half.last_count, 1); /* has addresses: no error, but nothing more to come */
    CHECK_EQ(half.count, 1);
}

struct canceller {
    struct loop_guest guest;
    struct lookup lookup;
};

static void canceller_on_loop_end(struct loop_guest *guest)
{
    resolve_cancel(&il_container_of(guest, struct canceller, guest)->lookup.resolve);
}

TEST(guest_may_cancel_its_lookup_before_and_after_the_resolvers_end)
{
    struct canceller cancellers[2];
    struct fixture fixture;

    fixture_open(&fixture);
    for (int i = 0; i < 2; i++) { /* the resolver comes to the loop between the two */
        cancellers[i].guest.on_loop_end = canceller_on_loop_end;
        il_list_init(&cancellers[i].guest.link);
    }
    il_assert_on_loop(fixture.loop);
    loop_guest_add(fixture.loop, &cancellers[0].guest);
    lookup_start(&cancellers[0].lookup, fixture.loop, "silent.test");
    lookup_start(&cancellers[1].lookup, fixture.loop, "silent.test");
    loop_guest_add(fixture.loop, &cancellers[1].guest);
    fixture_close(&fixture);
    CHECK_EQ(cancellers[0].lookup.answer_count, 0);
    CHECK_EQ(cancellers[1].lookup.answer_count, 0);
}

TEST(any_allocation_may_fail)
{
    static const char *const hosts[] = { "both.test", "localhost", "cut.test", "missing.test" };
    struct fixture fixture;
    struct lookup lookup;
    struct il_error err;

    for (size_t host = 0; host < il_array_count(hosts); host++) {
        for (uint64_t after = 0;; after++) {
            bool is_done;

            fixture_open(&fixture);
            fixture.server.settings.search = "corp.test";
            lookup = (struct lookup){
                .resolve = { .on_answer = lookup_on_answer, .cache = cache },
                .loop = fixture.loop,
            };
            il_memory_fail_after(after);
            if (resolve_start(&lookup.resolve, fixture.loop, hosts[host], &err) != IL_OK) {
                il_memory_fail_after(UINT64_MAX);
                CHECK_EQ(err.code, IL_ENOMEM);
                is_done = false;
            } else {
                /* the server needs memory, too, so only what is asked at once can fail */
                il_memory_fail_after(UINT64_MAX);
                lookup_finish(&lookup);
                is_done = lookup.count > 0 || lookup.err.code == IL_ERESOLVE;
                CHECK(is_done || lookup.err.code == IL_ENOMEM || lookup.err.code == IL_ESYS);
            }
            fixture_close(&fixture);
            if (is_done && after > 20) {
                break;
            }
        }
    }
}

struct resolving_thread {
    struct sys_thread *thread;
    char host[32];
};

static void resolve_in_thread(void *arg)
{
    struct resolving_thread *self = arg;
    struct il_loop *loop = loop_open_for_test();
    struct lookup lookup;

    for (int i = 0; i < 50; i++) {
        lookup_run(&lookup, loop, self->host);
        CHECK_EQ(lookup.count, 1);
        check_address(&lookup, 0, "127.0.0.9");
    }
    loop_close_for_test(loop);
}

TEST(loops_of_several_threads_resolve_at_the_same_time)
{
    char path[] = "/tmp/interloop-hosts-XXXXXX";
    struct resolving_thread threads[4];
    struct fixture fixture;

    fixture_open(&fixture);
    write_hosts(path, "127.0.0.9 t0.test t1.test t2.test t3.test\n");
    for (size_t i = 0; i < il_array_count(threads); i++) {
        (void)snprintf(threads[i].host, sizeof(threads[i].host), "t%zu.test", i);
        CHECK_EQ(sys_thread_start(&threads[i].thread, "resolver", resolve_in_thread, &threads[i]),
                 0);
    }
    for (size_t i = 0; i < il_array_count(threads); i++) {
        sys_thread_join(threads[i].thread);
    }
    CHECK(unlink(path) == 0);
    fixture_close(&fixture);
}
