/* address_order.c: the order of a host's addresses (RFC 6724, section 6).
 *
 * It matters where this machine's IPv6 does not lead everywhere: one that has a unique local
 * address only (fd00::/8) would try each IPv6 address of the Internet in vain before an IPv4 one.
 *
 * Rules 3 (deprecated sources), 4 (home addresses) and 7 (tunnels) are left out: what they need to
 * know stands in netlink only. Rule 9 (the longest prefix in common) is for IPv6, and for the
 * network part of it: within IPv4 it would undo DNS's rotation. /etc/gai.conf is not read.
 *
 * Owns nothing. Threads: any. */
#include "net/address_order.h"

#include "sys/sys.h"

/* ---- what an address is ---- */

struct policy {
    uint8_t prefix[16];
    unsigned bits, precedence, label;
};

/* RFC 6724, section 2.1; the longest prefix first, so that the first that matches is the one. */
static const struct policy POLICIES[] = {
    { { [15] = 1 }, 128, 50, 0 },                /* ::1/128 */
    { { [10] = 0xff, [11] = 0xff }, 96, 35, 4 }, /* ::ffff:0:0/96, which is IPv4 */
    { { 0 }, 96, 1, 3 },                         /* ::/96 */
    { { 0x20, 0x01 }, 32, 5, 5 },                /* 2001::/32, Teredo */
    { { 0x20, 0x02 }, 16, 30, 2 },               /* 2002::/16, 6to4 */
    { { 0x3f, 0xfe }, 16, 1, 12 },               /* 3ffe::/16 */
    { { 0xfe, 0xc0 }, 10, 1, 11 },               /* fec0::/10, site-local */
    { { 0xfc }, 7, 3, 13 },                      /* fc00::/7, unique local */
    { { 0 }, 0, 40, 1 },                         /* ::/0 */
};

enum {
    SCOPE_LINK = 2,
    SCOPE_SITE = 5,
    SCOPE_GLOBAL = 14,
};

/* IPv4 as IPv6 sees it: ::ffff:a.b.c.d. */
static struct in6_addr mapped(const struct net_address *address)
{
    struct in6_addr v6 = { .s6_addr = { [10] = 0xff, [11] = 0xff } };

    if (net_address_family(address) == AF_INET6) {
        return address->v6.sin6_addr;
    }
    memcpy(&v6.s6_addr[12], &address->v4.sin_addr, sizeof(address->v4.sin_addr));
    return v6;
}

static unsigned common_bits(const uint8_t *a, const uint8_t *b, unsigned bits_max)
{
    unsigned bits = 0;

    while (bits < bits_max && ((a[bits / 8] ^ b[bits / 8]) & (0x80 >> bits % 8)) == 0) {
        bits++;
    }
    return bits;
}

static const struct policy *policy_of(const struct net_address *address)
{
    struct in6_addr v6 = mapped(address);
    const struct policy *policy = POLICIES;

    while (common_bits(v6.s6_addr, policy->prefix, policy->bits) < policy->bits) {
        policy++; /* the last matches everything */
    }
    return policy;
}

static bool is_loopback(const struct net_address *address)
{
    return net_address_family(address) == AF_INET6
               ? IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr)
               : ntohl(address->v4.sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static unsigned scope_of(const struct net_address *address)
{
    const struct in6_addr *v6 = &address->v6.sin6_addr;

    if (is_loopback(address)) {
        return SCOPE_LINK;
    }
    if (net_address_family(address) == AF_INET) {
        return ntohl(address->v4.sin_addr.s_addr) >> 16 == 0xa9fe ? SCOPE_LINK : SCOPE_GLOBAL;
    }
    if (IN6_IS_ADDR_MULTICAST(v6)) {
        return v6->s6_addr[1] & 15;
    }
    return IN6_IS_ADDR_LINKLOCAL(v6)   ? SCOPE_LINK
           : IN6_IS_ADDR_SITELOCAL(v6) ? SCOPE_SITE
                                       : SCOPE_GLOBAL;
}

/* ---- the rules ---- */

static bool is_scope_matched(const struct address_route *route)
{
    return scope_of(&route->address) == scope_of(&route->source);
}

static bool is_label_matched(const struct address_route *route)
{
    return policy_of(&route->address)->label == policy_of(&route->source)->label;
}

/* How much of the network's part of the address we share with it. */
static unsigned shared_prefix(const struct address_route *route)
{
    if (net_address_family(&route->address) != AF_INET6 ||
        net_address_family(&route->source) != AF_INET6) {
        return 0;
    }
    return common_bits(route->address.v6.sin6_addr.s6_addr, route->source.v6.sin6_addr.s6_addr, 64);
}

/* What `a` has more of than `b`, in the order of the rules; 0: nothing makes a difference. */
static int compare(const struct address_route *a, const struct address_route *b)
{
    int is_known = a->is_reachable && b->is_reachable;
    const int differences[] = {
        a->is_reachable - b->is_reachable,                        /* rule 1 */
        is_known ? is_scope_matched(a) - is_scope_matched(b) : 0, /* rule 2 */
        is_known ? is_label_matched(a) - is_label_matched(b) : 0, /* rule 5 */
        (int)policy_of(&a->address)->precedence - (int)policy_of(&b->address)->precedence,
        (int)scope_of(&b->address) - (int)scope_of(&a->address), /* rule 8: less is more */
        is_known && net_address_family(&a->address) == net_address_family(&b->address)
            ? (int)shared_prefix(a) - (int)shared_prefix(b)
            : 0, /* rule 9 */
    };

    for (size_t i = 0; i < il_array_count(differences); i++) {
        if (differences[i] != 0) {
            return differences[i];
        }
    }
    return 0;
}

void address_order_routes(struct address_route *routes, size_t count)
{
    il_assert(count <= ADDRESS_ORDER_MAX);
    for (size_t i = 1; i < count; i++) { /* by insertion: there are few, and equals stay in order */
        struct address_route route = routes[i];
        size_t to = i;

        while (to > 0 && compare(&route, &routes[to - 1]) > 0) {
            routes[to] = routes[to - 1];
            to--;
        }
        routes[to] = route;
    }
}

/* ---- the kernel ---- */

/* A datagram socket can be connected without a word to anybody, and then has a source. */
static void route_find(struct address_route *route)
{
    struct sockaddr_storage local, peer;
    int fd = sys_socket_open_datagram(net_address_family(&route->address));

    route->is_reachable = false;
    if (fd < 0) {
        return;
    }
    memset(&local, 0, sizeof(local));
    memset(&peer, 0, sizeof(peer));
    if (sys_socket_connect(fd, &route->address.any, net_address_size(&route->address)) == 0 &&
        sys_socket_names(fd, &local, &peer) == 0) {
        memcpy(&route->source, &local, sizeof(route->source));
        route->is_reachable = true;
    }
    sys_close(fd);
}

static bool makes_a_difference(const struct net_address *addresses, size_t count)
{
    bool has_v6 = false, has_far = false;

    for (size_t i = 0; i < count; i++) {
        has_v6 = has_v6 || net_address_family(&addresses[i]) == AF_INET6;
        has_far = has_far || !is_loopback(&addresses[i]);
    }
    return count > 1 && has_v6 && has_far;
}

void address_order(struct net_address *addresses, size_t count)
{
    struct address_route routes[ADDRESS_ORDER_MAX];

    il_assert(count <= ADDRESS_ORDER_MAX);
    if (!makes_a_difference(addresses, count)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        routes[i].address = addresses[i];
        route_find(&routes[i]);
    }
    address_order_routes(routes, count);
    for (size_t i = 0; i < count; i++) {
        addresses[i] = routes[i].address;
    }
}
