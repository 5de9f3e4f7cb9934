/* address.c: IPv4 and IPv6 addresses as sockets take them. No state. Thread: any. */
#include "net/address.h"

#include <arpa/inet.h>
#include <stdio.h>

struct net_address net_address_v4(const struct in_addr *from, uint16_t port)
{
    struct net_address address;

    memset(&address, 0, sizeof(address));
    address.v4.sin_family = AF_INET;
    address.v4.sin_addr = *from;
    address.v4.sin_port = htons(port);
    return address;
}

struct net_address net_address_v6(const struct in6_addr *from, uint16_t port)
{
    struct net_address address;

    memset(&address, 0, sizeof(address));
    address.v6.sin6_family = AF_INET6;
    address.v6.sin6_addr = *from;
    address.v6.sin6_port = htons(port);
    return address;
}

bool net_address_parse(const char *text, struct net_address *ret_address)
{
    struct in6_addr v6;
    struct in_addr v4;

    if (inet_pton(AF_INET, text, &v4) == 1) {
        *ret_address = net_address_v4(&v4, 0);
        return true;
    }
    if (inet_pton(AF_INET6, text, &v6) == 1) {
        *ret_address = net_address_v6(&v6, 0);
        return true;
    }
    return false;
}

const char *net_address_text(const struct net_address *address, char *text)
{
    bool is_v6 = net_address_family(address) == AF_INET6;
    unsigned port = ntohs(is_v6 ? address->v6.sin6_port : address->v4.sin_port);
    char host[INET6_ADDRSTRLEN];

    if (is_v6) {
        (void)inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
    } else {
        (void)inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
    }
    if (port == 0) {
        (void)snprintf(text, NET_ADDRESS_TEXT_SIZE, "%s", host);
    } else {
        (void)snprintf(text, NET_ADDRESS_TEXT_SIZE, is_v6 ? "[%s]:%u" : "%s:%u", host, port);
    }
    return text;
}
