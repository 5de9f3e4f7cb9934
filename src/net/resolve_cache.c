/* resolve_cache.c: what DNS has said of names, for as long as it said that this holds.
 *
 * Owns: its entries. Threads: any; the cache's mutex guards all of it. Memory is got and freed
 * outside of it. Ends: with its client. */
#include "net/resolve_cache.h"

#include <stdio.h>
#include <strings.h>

struct entry {
    struct il_list link;
    char name[DNS_NAME_SIZE];
    uint64_t expires_ns;
    struct resolve_cached known;
};

struct resolve_cache *resolve_cache_new(void)
{
    struct resolve_cache *cache = il_calloc(1, sizeof(*cache));

    if (cache != NULL) {
        sys_mutex_init(&cache->mutex);
        il_list_init(&cache->entries);
    }
    return cache;
}

void resolve_cache_free(struct resolve_cache *cache)
{
    struct il_list *node;

    if (cache == NULL) {
        return;
    }
    while ((node = il_list_pop_front(&cache->entries)) != NULL) {
        il_free(il_container_of(node, struct entry, link));
    }
    sys_mutex_deinit(&cache->mutex);
    il_free(cache);
}

static struct entry *entry_find_locked(struct resolve_cache *cache, const char *name)
{
    il_list_for_each(&cache->entries, node)
    {
        struct entry *entry = il_container_of(node, struct entry, link);

        if (strcasecmp(entry->name, name) == 0) {
            return entry;
        }
    }
    return NULL;
}

/* Take an entry out, to be freed after the lock. NULL: none. */
static struct entry *entry_remove_locked(struct resolve_cache *cache, struct entry *entry)
{
    if (entry != NULL) {
        il_list_unlink(&entry->link);
        cache->count--;
    }
    return entry;
}

void resolve_cache_drop(struct resolve_cache *cache, const char *name)
{
    struct entry *dropped;

    sys_mutex_lock(&cache->mutex);
    dropped = entry_remove_locked(cache, entry_find_locked(cache, name));
    sys_mutex_unlock(&cache->mutex);
    il_free(dropped);
}

void resolve_cache_set_first(struct resolve_cache *cache, const char *name, int family)
{
    struct entry *entry;

    sys_mutex_lock(&cache->mutex);
    entry = entry_find_locked(cache, name);
    if (entry != NULL) {
        entry->known.first_family = family;
    }
    sys_mutex_unlock(&cache->mutex);
}

void resolve_cache_put(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       uint64_t ttl_ms, const struct resolve_cached *known)
{
    struct entry *entry, *replaced, *oldest = NULL;

    entry = ttl_ms > 0 ? il_calloc(1, sizeof(*entry)) : NULL;
    if (entry != NULL) {
        il_list_init(&entry->link);
        (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
        entry->expires_ns = now_ns + il_min_u64(ttl_ms, RESOLVE_CACHE_TTL_MAX_MS) * 1000000u;
        entry->known = *known;
    }
    sys_mutex_lock(&cache->mutex);
    replaced = entry_remove_locked(cache, entry_find_locked(cache, name));
    if (entry != NULL) {
        if (cache->count == RESOLVE_CACHE_NAMES_MAX) {
            oldest = entry_remove_locked(cache,
                                         il_container_of(cache->entries.prev, struct entry, link));
        }
        il_list_push_front(&cache->entries, &entry->link);
        cache->count++;
    }
    sys_mutex_unlock(&cache->mutex);
    il_free(replaced);
    il_free(oldest);
}

static void rotate(struct dns_addresses *addresses)
{
    struct net_address first = addresses->list[0];

    if (addresses->count > 1) {
        memmove(&addresses->list[0], &addresses->list[1],
                (addresses->count - 1) * sizeof(addresses->list[0]));
        addresses->list[addresses->count - 1] = first;
    }
}

bool resolve_cache_get(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       struct resolve_cached *ret_known)
{
    struct entry *entry, *expired = NULL;

    sys_mutex_lock(&cache->mutex);
    entry = entry_find_locked(cache, name);
    if (entry != NULL && now_ns >= entry->expires_ns) {
        expired = entry_remove_locked(cache, entry);
        entry = NULL;
    }
    if (entry != NULL) {
        for (int type = 0; type < DNS_TYPE_COUNT; type++) {
            rotate(&entry->known.found[type]);
        }
        *ret_known = entry->known;
        il_list_unlink(&entry->link);
        il_list_push_front(&cache->entries, &entry->link);
    }
    sys_mutex_unlock(&cache->mutex);
    il_free(expired);
    return entry != NULL;
}
