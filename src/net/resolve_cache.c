/* resolve_cache.c: what DNS has said of names, for as long as it said that this holds.
 *
 * Owns: its entries. Threads: the one that holds the loop. */
#include "net/resolve_cache.h"

#include <stdio.h>
#include <strings.h>

struct entry {
    struct il_list link;
    char name[DNS_NAME_SIZE];
    uint64_t expires_ns;
    struct dns_addresses found[DNS_TYPE_COUNT];
};

void resolve_cache_init(struct resolve_cache *cache)
{
    il_list_init(&cache->entries);
    cache->count = 0;
}

static void entry_free(struct resolve_cache *cache, struct entry *entry)
{
    il_list_unlink(&entry->link);
    cache->count--;
    il_free(entry);
}

void resolve_cache_deinit(struct resolve_cache *cache)
{
    il_list_for_each_safe(&cache->entries, node)
    {
        entry_free(cache, il_container_of(node, struct entry, link));
    }
    il_assert(cache->count == 0);
}

static struct entry *entry_find(struct resolve_cache *cache, const char *name)
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

void resolve_cache_drop(struct resolve_cache *cache, const char *name)
{
    struct entry *entry = entry_find(cache, name);

    if (entry != NULL) {
        entry_free(cache, entry);
    }
}

void resolve_cache_put(struct resolve_cache *cache, const char *name, uint64_t now_ns,
                       uint32_t ttl_s, const struct dns_addresses *found)
{
    struct entry *entry;

    resolve_cache_drop(cache, name);
    if (ttl_s == 0) {
        return;
    }
    if (cache->count == RESOLVE_CACHE_NAMES_MAX) {
        entry_free(cache, il_container_of(cache->entries.prev, struct entry, link));
    }
    entry = il_calloc(1, sizeof(*entry));
    if (entry == NULL) {
        return;
    }
    il_list_init(&entry->link);
    (void)snprintf(entry->name, sizeof(entry->name), "%s", name);
    entry->expires_ns = now_ns + il_min_u64(ttl_s, RESOLVE_CACHE_TTL_MAX_S) * 1000000000u;
    memcpy(entry->found, found, sizeof(entry->found));
    il_list_push_front(&cache->entries, &entry->link);
    cache->count++;
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
                       struct dns_addresses *ret_found)
{
    struct entry *entry = entry_find(cache, name);

    if (entry == NULL) {
        return false;
    }
    if (now_ns >= entry->expires_ns) {
        entry_free(cache, entry);
        return false;
    }
    for (int type = 0; type < DNS_TYPE_COUNT; type++) {
        rotate(&entry->found[type]);
    }
    memcpy(ret_found, entry->found, sizeof(entry->found));
    il_list_unlink(&entry->link);
    il_list_push_front(&cache->entries, &entry->link);
    return true;
}
