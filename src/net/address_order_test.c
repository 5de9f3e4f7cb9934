#include "net/address_order.h"

#include "tests/net_check.h"

/* ---- what sources decide ---- */

/* "192.0.2.1<10.0.0.2": an address and its source; without one it cannot be reached. */
static struct address_route route_for_test(const char *text)
{
    struct address_route route = { 0 };
    const char *arrow = strchr(text, '<');
    char address[NET_ADDRESS_TEXT_SIZE];
    int length = arrow != NULL ? (int)(arrow - text) : (int)strlen(text);

    (void)snprintf(address, sizeof(address), "%.*s", length, text);
    route.address = address_for_test(address, 0);
    if (arrow != NULL) {
        route.is_reachable = true;
        route.source = address_for_test(arrow + 1, 0);
    }
    return route;
}

static void check_order(const char *const wanted[], size_t count, size_t rotation)
{
    struct address_route routes[4];
    char text[NET_ADDRESS_TEXT_SIZE];

    CHECK(count <= il_array_count(routes));
    for (size_t i = 0; i < count; i++) {
        routes[i] = route_for_test(wanted[(i + rotation) % count]);
    }
    address_order_routes(routes, count);
    for (size_t i = 0; i < count; i++) {
        struct address_route expected = route_for_test(wanted[i]);

        if (memcmp(&routes[i].address, &expected.address, sizeof(expected.address)) != 0) {
            check_fail(__FILE__, __LINE__, "place %zu has %s, want %s", i,
                       net_address_text(&routes[i].address, text), wanted[i]);
        }
    }
}

TEST(addresses_are_ordered_as_rfc_6724_does_whatever_dns_said_first)
{
    static const struct {
        const char *wanted[4];
        size_t count;
    } cases[] = {
        /* the examples of section 10.2 */
        { { "2001:db8:1::1<2001:db8:1::2", "198.51.100.121<169.254.13.78" }, 2 },
        { { "198.51.100.121<198.51.100.117", "2001:db8:1::1<fe80::1" }, 2 },
        { { "2001:db8:1::1<2001:db8:1::2", "10.1.2.3<10.1.2.4" }, 2 },
        { { "fe80::1<fe80::2", "2001:db8:1::1<2001:db8:1::2" }, 2 },
        { { "2001:db8:1::1<2001:db8:1::2", "2002:c633:6401::1<2002:c633:6401::2" }, 2 },
        { { "2002:c633:6401::1<2002:c633:6401::2", "2001:db8:1::1<2002:c633:6401::2" }, 2 },
        /* a network whose IPv6 is its own only */
        { { "192.0.2.1<10.0.0.2", "2001:db8::1<fd00::2" }, 2 },
        { { "192.0.2.1<10.0.0.2", "fd00::1<fd00::2" }, 2 },
        { { "fd00::1<fd00::2", "2001:db8::1<fd00::2" }, 2 },
        /* no way there at all comes last, whatever it is */
        { { "192.0.2.1<10.0.0.2", "2001:db8::1" }, 2 },
        { {
              "2001::1<2001::2",
              "192.0.2.1",
          },
          2 },
        { { "2001:db8::1", "192.0.2.1" }, 2 },
        /* tunnels */
        { { "192.0.2.1<10.0.0.2", "2001::1<2001::2" }, 2 },
        /* the nearer of two networks; in theirs nothing is nearer */
        { { "2001:db8:1::1<2001:db8:1::2", "2001:db8:8000::1<2001:db8:1::2" }, 2 },
        { { "2001:db8::1<2001:db8::2", "192.0.2.1<192.0.2.2", "192.0.2.9" }, 3 },
        { { "::1<::1", "127.0.0.1<127.0.0.1" }, 2 },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        for (size_t rotation = 0; rotation < cases[i].count; rotation++) {
            check_order(cases[i].wanted, cases[i].count, rotation);
        }
    }
}

TEST(addresses_between_which_nothing_makes_a_difference_stay_as_they_are)
{
    static const char *const orders[][2] = {
        { "192.0.2.1<192.0.2.7", "198.51.100.1<192.0.2.7" },
        { "198.51.100.1<192.0.2.7", "192.0.2.1<192.0.2.7" },
        { "2001:db8::1:0:0:1<2001:db8::8", "2001:db8::9<2001:db8::8" }, /* in the same /64 */
        { "2001:db8::9<2001:db8::8", "2001:db8::1:0:0:1<2001:db8::8" },
        { "192.0.2.1", "192.0.2.2" },
        { "192.0.2.2", "192.0.2.1" },
    };

    for (size_t i = 0; i < il_array_count(orders); i++) {
        check_order(orders[i], 2, 0);
    }
}

/* ---- what the kernel is asked ---- */

static size_t probe_count, open_count;
static struct sys_world probe_world;

static int probe_open(int family)
{
    probe_count++;
    open_count++;
    return sys_world_real.socket_open_datagram(family);
}

static void probe_close(int fd)
{
    open_count--;
    sys_world_real.close(fd);
}

TEST(kernel_is_asked_only_where_its_answer_makes_a_difference)
{
    static const char *const lists[][3] = { { "2001:db8::1" },
                                            { "::1", "127.0.0.1" },
                                            { "192.0.2.1", "127.0.0.1", "10.0.0.1" },
                                            { NULL } };
    struct net_address addresses[3];

    probe_world = *sys_world;
    probe_world.socket_open_datagram = probe_open;
    probe_world.close = probe_close;
    sys_world = &probe_world;
    for (size_t i = 0; i < il_array_count(lists); i++) {
        size_t count = 0;

        for (; count < 3 && lists[i][count] != NULL; count++) {
            addresses[count] = address_for_test(lists[i][count], 80);
        }
        address_order(addresses, count);
    }
    CHECK_EQ(probe_count, 0);
    addresses[0] = address_for_test("::1", 80);
    addresses[1] = address_for_test("127.0.0.1", 80);
    addresses[2] = address_for_test("255.255.255.255", 80); /* no socket may talk to all */
    address_order(addresses, 3);
    CHECK_EQ(probe_count, 3);
    CHECK_EQ(open_count, 0);
    CHECK_EQ(net_address_family(&addresses[0]), AF_INET6);
    CHECK_EQ(ntohl(addresses[1].v4.sin_addr.s_addr), INADDR_LOOPBACK);
    CHECK_EQ(ntohl(addresses[2].v4.sin_addr.s_addr), INADDR_BROADCAST);
}
