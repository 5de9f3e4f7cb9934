#include "net/dns.h"

#include "net/dns_inside.h"
#include "tests/dns_server.h"
#include "tests/guarded.h"

/* A dns that asks nobody. */
static struct dns *dns_open(struct il_loop *loop, const struct dns_settings *settings)
{
    struct il_error err;
    struct dns *dns;

    dns_set_for_test(settings);
    CHECK_OK(dns_new(loop, &dns, &err));
    return dns;
}

static void check_candidates(const struct dns *dns, const char *name, const char *expected)
{
    char all[256] = "", candidate[DNS_NAME_SIZE];
    size_t used = 0, index = 0;

    for (; dns_candidate(dns, name, index, candidate); index++) {
        used += (size_t)snprintf(all + used, sizeof(all) - used, " %s", candidate);
        CHECK(used < sizeof(all));
    }
    CHECK(!dns_candidate(dns, name, index + 1, candidate));
    CHECK_STR(all + 1, expected);
}

TEST(candidates_follow_ndots_and_the_search_list)
{
    struct dns_settings settings = { .servers = "127.0.0.1:1", .search = "corp.test", .ndots = 2 };
    struct leftovers before = leftovers_now();
    struct il_loop *loop = loop_open_for_test();
    char longest[RESOLVE_NAME_MAX + 1];
    struct dns *dns = dns_open(loop, &settings);

    check_candidates(dns, "box", "box.corp.test box");
    check_candidates(dns, "a.box", "a.box.corp.test a.box");
    check_candidates(dns, "a.b.box", "a.b.box a.b.box.corp.test");
    check_candidates(dns, "box.", "box");
    check_candidates(dns, "a.b.box.", "a.b.box");
    memset(longest, 'a', sizeof(longest)); /* no room for a domain behind it */
    longest[RESOLVE_NAME_MAX] = '\0';
    {
        char candidate[DNS_NAME_SIZE];

        CHECK(dns_candidate(dns, longest, 0, candidate));
        CHECK_STR(candidate, longest);
        CHECK(!dns_candidate(dns, longest, 1, candidate));
    }
    dns = dns_unref(dns);

    settings.search = NULL;
    dns = dns_open(loop, &settings);
    check_candidates(dns, "box", "box");
    dns = dns_unref(dns);

    settings.search = "."; /* the root adds nothing */
    dns = dns_open(loop, &settings);
    check_candidates(dns, "box", "box");
    dns = dns_unref(dns);
    loop_close_for_test(loop);
    check_nothing_is_left_since(&before);
}

static void never_answered(struct dns_ask *ask)
{
    CHECK(false);
}

/* A refusal as a server sends it: a header, and the question. */
static void make_refusal(struct packet *packet, const char *name, unsigned type)
{
    static const unsigned char header[NS_HFIXEDSZ] = { 0, 0, 0x81, 0x80 | ns_r_refused, 0, 1 };

    packet->size = 0;
    packet_put(packet, header, sizeof(header));
    packet_put_name(packet, name);
    packet_put_u16(packet, type);
    packet_put_u16(packet, ns_c_in);
}

TEST(refusal_is_noted_with_the_question_it_answers)
{
    static const struct dns_settings settings = { .servers = "127.0.0.1:1" };
    struct leftovers before = leftovers_now();
    struct il_loop *loop = loop_open_for_test();
    struct dns *dns = dns_open(loop, &settings);
    struct dns_ask *ask = dns_ask(dns, "a.refused.test", DNS_A, never_answered, NULL);
    struct packet packet;

    CHECK(ask != NULL);
    make_refusal(&packet, "b.refused.test", ns_t_a);
    dns_note_refusal(dns, packet.bytes, packet.size);
    make_refusal(&packet, "a.refused", ns_t_a);
    dns_note_refusal(dns, packet.bytes, packet.size);
    make_refusal(&packet, "a.refused.test.com", ns_t_a);
    dns_note_refusal(dns, packet.bytes, packet.size);
    make_refusal(&packet, "a.refused.test", ns_t_aaaa);
    dns_note_refusal(dns, packet.bytes, packet.size);
    CHECK_EQ(ask->rcode, 0);
    make_refusal(&packet, "A.Refused.TEST", ns_t_a);
    dns_note_refusal(dns, packet.bytes, packet.size);
    CHECK_EQ(ask->rcode, ns_r_refused);
    dns_abandon(ask);
    (void)dns_unref(dns);
    loop_close_for_test(loop);
    check_nothing_is_left_since(&before);
}

TEST(refusal_whose_labels_only_look_like_the_name_is_of_another_question)
{
    static const struct dns_settings settings = { .servers = "127.0.0.1:1" };
    struct il_loop *loop = loop_open_for_test();
    struct dns *dns = dns_open(loop, &settings);
    struct dns_ask *ask = dns_ask(dns, "a", DNS_A, never_answered, NULL);
    struct packet packet;

    CHECK(ask != NULL);
    for (size_t count = 1; count < 8; count++) { /* labels that begin with a NUL, behind the name */
        static const unsigned char label[1 + 63] = { 63 };

        make_refusal(&packet, "a", ns_t_a);
        packet.size -= 5;
        for (size_t i = 0; i < count; i++) {
            packet_put(&packet, label, sizeof(label));
        }
        packet_put_u16(&packet, 0); /* the end of the name, and the type's first byte */
        packet_put_u16(&packet, ns_t_a << 8);
        packet_put_u16(&packet, ns_c_in << 8);
        dns_note_refusal(dns, packet.bytes, packet.size);
        CHECK_EQ(ask->rcode, 0);
    }
    dns_abandon(ask);
    ask = dns_ask(dns, "a.b", DNS_A, never_answered, NULL);
    make_refusal(&packet, "a-b", ns_t_a);
    packet.bytes[NS_HFIXEDSZ + 2] = '.'; /* one label */
    dns_note_refusal(dns, packet.bytes, packet.size);
    CHECK_EQ(ask->rcode, 0);
    dns_abandon(ask);
    (void)dns_unref(dns);
    loop_close_for_test(loop);
}

TEST(damaged_refusal_is_not_read_beyond_its_end)
{
    static const struct dns_settings settings = { .servers = "127.0.0.1:1" };
    struct il_loop *loop = loop_open_for_test();
    struct dns *dns = dns_open(loop, &settings);
    struct dns_ask *ask = dns_ask(dns, "a.refused.test", DNS_A, never_answered, NULL);
    struct dns_server dice = { .seed = 1 };
    struct guarded guarded = guarded_new(512);
    struct packet packet;

    CHECK(ask != NULL);
    for (int i = 0; i < 100000; i++) {
        make_refusal(&packet, "a.refused.test", ns_t_a);
        packet.size = server_random(&dice) % (packet.size + 1);
        if (i % 2 == 0 && packet.size > NS_HFIXEDSZ) {
            server_damage(&dice, &packet, NS_HFIXEDSZ);
        }
        dns_note_refusal(dns, (unsigned char *)guarded_put(&guarded, packet.bytes, packet.size),
                         packet.size);
    }
    guarded_free(&guarded);
    dns_abandon(ask);
    (void)dns_unref(dns);
    loop_close_for_test(loop);
}

TEST(abandoned_questions_crowd_a_dns_until_they_are_answered)
{
    struct leftovers before = leftovers_now();
    struct il_loop *loop = loop_open_for_test();
    struct dns_server server;
    struct il_error err;
    struct dns *dns;

    dns_server_open(&server, loop, NULL, 0);
    CHECK_OK(dns_new(loop, &dns, &err));
    for (int i = 0; i < DNS_ABANDONED_MAX; i++) {
        CHECK(!dns_is_crowded(dns));
        dns_abandon(dns_ask(dns, "some.test", i % 2 == 0 ? DNS_A : DNS_AAAA, never_answered, NULL));
    }
    CHECK(dns_is_crowded(dns));
    while (dns_is_crowded(dns)) {
        CHECK_EQ(loop_turn(loop, 0), LOOP_HELD);
    }
    (void)dns_unref(dns);
    dns_server_close(&server);
    loop_close_for_test(loop);
    check_nothing_is_left_since(&before);
}
