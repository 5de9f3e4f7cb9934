/* host_table.h: names whose addresses are given, and not asked for.
 *
 * Filled once, then read by anyone. Thread: one at a time while it is filled, then any. */
#ifndef IL_NET_HOST_TABLE_H
#define IL_NET_HOST_TABLE_H

#include "net/address.h"

#define HOST_TABLE_MAX           256 /* entries */
#define HOST_TABLE_ADDRESSES_MAX 16  /* of one entry: as many as are tried */

struct host_entry {
    const char *host; /* without a final dot */
    uint16_t port;    /* 0: every port */
    const char *text; /* the addresses in one spelling: "192.0.2.1", "192.0.2.1,::1" */
    size_t count;
    struct net_address addresses[HOST_TABLE_ADDRESSES_MAX]; /* port 0, in the order given */
};

struct host_table {
    struct il_list nodes; /* host_table.c's */
    size_t count;
};

void host_table_init(struct host_table *table);
void host_table_deinit(struct host_table *table);

/* Add a name (not an address; case and a final dot make no difference) with its addresses,
 * "192.0.2.1" or several with commas between, IPv6 with or without brackets. All are copied.
 * IL_EINVAL: what is wrong, or there is an entry for this host and port; IL_ENOMEM. */
IL_MUST_USE enum il_code host_table_add(struct host_table *table, const char *host, uint16_t port,
                                        const char *addresses, struct il_error *err);

/* The entry for this host, without a final dot, and this port; else the one for every port; else
 * NULL. */
const struct host_entry *host_table_find(const struct host_table *table, const char *host,
                                         uint16_t port);

#endif
