/* address_order.h: in which order the addresses of a host are worth trying. Thread: any. */
#ifndef IL_NET_ADDRESS_ORDER_H
#define IL_NET_ADDRESS_ORDER_H

#include "net/address.h"

#define ADDRESS_ORDER_MAX 32 /* addresses at once */

/* A host's address, and the one of ours that the kernel would talk to it from. */
struct address_route {
    struct net_address address;
    struct net_address source; /* if is_reachable */
    bool is_reachable;
};

/* Sort by what is known; those of which nothing makes a difference stay as they are. */
void address_order_routes(struct address_route *routes, size_t count);

/* Ask the kernel for the sources, and sort. The addresses have ports. Asks nobody where it makes no
 * difference: of one address, of loopback addresses, and of IPv4 alone, where DNS's own order
 * spreads the load. Five system calls for each address; none of them waits or sends anything. */
void address_order(struct net_address *addresses, size_t count);

#endif
