/* address.h: IPv4 and IPv6 addresses as sockets take them. Plain values. Thread: any. */
#ifndef IL_NET_ADDRESS_H
#define IL_NET_ADDRESS_H

#include <netinet/in.h>

#include "base/base.h"

struct net_address {
    union {
        struct sockaddr any; /* .sa_family says which of the two */
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    };
};

/* Whom a socket is connected to, and how many other addresses of the same host had been tried by
 * then: they failed, or were slower. A zeroed one: nobody. */
struct net_peer {
    struct net_address address;
    uint8_t lost_count;
};

#define NET_ADDRESS_TEXT_SIZE 56 /* "[IPv6 address]:65535" */

static inline int net_address_family(const struct net_address *address)
{
    return address->any.sa_family;
}

static inline socklen_t net_address_size(const struct net_address *address)
{
    return net_address_family(address) == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

struct net_address net_address_v4(const struct in_addr *from, uint16_t port);
struct net_address net_address_v6(const struct in6_addr *from, uint16_t port);

/* Read "127.0.0.1" or "::1", with port 0; false when `text` is neither. Zone ids ("fe80::1%eth0")
 * are not read: two programs that look at the same text would not agree on what they mean. */
bool net_address_parse(const char *text, struct net_address *ret_address);

/* "127.0.0.1:80", "[::1]:80"; without the port where it is 0: "127.0.0.1", "::1".
 * Returns `text`, of NET_ADDRESS_TEXT_SIZE bytes. */
const char *net_address_text(const struct net_address *address, char *text);

#endif
