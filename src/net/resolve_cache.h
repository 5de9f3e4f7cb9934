/* resolve_cache.h: what DNS has said of names, for as long as it said that this holds.
 *
 * Shared by any number of loops: what is here is answers, never questions, so a loop can find
 * something here and has nothing to wait for. Private to src/net. Thread: any, for every function;
 * the mutex is a leaf, held for a look at RESOLVE_CACHE_NAMES_MAX names at most. */
#ifndef IL_NET_RESOLVE_CACHE_H
#define IL_NET_RESOLVE_CACHE_H

#include "net/dns.h"
#include "sys/sys.h"

#define RESOLVE_CACHE_NAMES_MAX  256   /* the one used longest ago makes room */
#define RESOLVE_CACHE_TTL_MAX_MS 60000 /* whatever DNS says */

/* How long a name is taken not to exist, or to have no address. DNS would let us believe it for
 * longer (RFC 2308); but a name that was asked for a moment too early is asked for again soon. */
#define RESOLVE_CACHE_FAILURE_MS 1000

struct resolve_cached {
    struct dns_addresses found[DNS_TYPE_COUNT];
    struct il_error err; /* without addresses: why */
    int first_family;    /* see resolve_cache_set_first; 0: not known */
};

struct resolve_cache {
    struct sys_mutex mutex;
    struct il_list entries; /* used last first */
    size_t count;
};

/* Keep what is known of `name`. Nothing without memory or with a TTL of 0. */
void resolve_cache_put(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       uint64_t ttl_ms, const struct resolve_cached *known);

/* Each time the addresses of a family come in another order (the first goes to the end), as a DNS
 * server that spreads load would give them. */
bool resolve_cache_get(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       struct resolve_cached *ret_known);

/* Which family is to be tried first, for as long as what is known of `name` holds. Nothing if
 * nothing is known. */
void resolve_cache_set_first(struct resolve_cache *cache, const char *name, int family);

void resolve_cache_drop(struct resolve_cache *cache, const char *name);

#endif
