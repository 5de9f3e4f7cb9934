/* resolve.h: from a host name to addresses, on the caller's loop.
 *
 * Address literals and the names that never leave the machine (RFC 6761: "localhost") are answered
 * without asking anybody; all others by /etc/hosts and then DNS (AAAA and A at the same time). No
 * thread is started and nobody waits for another loop. Thread: the one that holds the loop, for
 * every function and callback. */
#ifndef IL_NET_RESOLVE_H
#define IL_NET_RESOLVE_H

#include "loop/loop.h"
#include "net/address.h"

#define RESOLVE_NAME_MAX      253 /* bytes of a host name, without a final dot (RFC 1035) */
#define RESOLVE_FAMILY_MAX    16  /* addresses kept of each family; the others are dropped */
#define RESOLVE_ADDRESSES_MAX (2 * RESOLVE_FAMILY_MAX)

/* What DNS has said of names, for any number of loops: resolve_cache.h. Thread: any. NULL: no
 * memory. */
struct resolve_cache;
struct resolve_cache *resolve_cache_new(void);
void resolve_cache_free(struct resolve_cache *cache);

struct resolve_answer {
    const struct net_address *addresses; /* port 0, of one family or both; in the callback only */
    size_t count;                        /* 0 only in the last answer */
    bool is_last;                        /* no other answer will follow */
    int first_family;                    /* see resolve_set_first; 0: not known */
    const struct il_error *err;          /* last answer, and none had an address: why; else NULL */
};

struct resolve {
    /* The caller's; set before resolve_start. Runs once or twice, never from inside resolve_start:
     * a family whose addresses come first is not kept waiting for the other. After the last answer
     * the lookup may be started again or freed in the callback; cancelled, in every callback. */
    void (*on_answer)(struct resolve *resolve, const struct resolve_answer *answer);
    struct resolve_cache *cache; /* looked into, and filled; borrowed; NULL: none */

    struct resolve_state *state; /* resolve.c's; NULL when nothing is under way */
};

/* Begin to look up `host` (copied): a name, or an address literal (IPv6 without brackets). On
 * failure (IL_EINVAL, IL_ENOMEM) no callback will run. */
IL_MUST_USE enum il_code resolve_start(struct resolve *resolve, struct il_loop *loop,
                                       const char *host, struct il_error *err);

/* Stop; no callback runs afterwards. Nothing if nothing is under way. */
void resolve_cancel(struct resolve *resolve);

/* What DNS said of `host` has turned out to be of no use: ask again next time, although it said
 * that its answer holds for longer. `cache` may be NULL. Thread: any. */
void resolve_forget(struct resolve_cache *cache, const char *host);

/* An address of this family was connected while one of the other was silent: try this one first
 * next time, for as long as the answer holds. `cache` may be NULL. Thread: any. */
void resolve_set_first(struct resolve_cache *cache, const char *host, int family);

#endif
