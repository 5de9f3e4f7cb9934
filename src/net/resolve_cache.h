/* resolve_cache.h: what DNS has said of names, for as long as it said that this holds.
 *
 * One per loop: no lock, so no loop waits for another. Private to src/net. */
#ifndef IL_NET_RESOLVE_CACHE_H
#define IL_NET_RESOLVE_CACHE_H

#include "net/dns.h"

#define RESOLVE_CACHE_NAMES_MAX 64 /* the one used longest ago makes room */
#define RESOLVE_CACHE_TTL_MAX_S 60 /* whatever DNS says */

struct resolve_cache {
    struct il_list entries; /* used last first */
    size_t count;
};

void resolve_cache_init(struct resolve_cache *cache);
void resolve_cache_deinit(struct resolve_cache *cache);

/* `found` and `ret_found` have DNS_TYPE_COUNT elements. */

/* Keep what is known of `name`. Nothing without memory or with a TTL of 0. */
void resolve_cache_put(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       uint32_t ttl_s, const struct dns_addresses *found);

/* Each time the addresses of a family come in another order (the first goes to the end), as a DNS
 * server that spreads load would give them. */
bool resolve_cache_get(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       struct dns_addresses *ret_found);

void resolve_cache_drop(struct resolve_cache *cache, const char *name);

#endif
