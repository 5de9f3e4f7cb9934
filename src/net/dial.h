/* dial.h: from a host name and a port to a connected socket.
 *
 * Everything happens on the caller's loop: names are resolved there (resolve.h), connects are raced
 * there. No thread is started, so there is none to wait for. Thread: the one that holds the loop,
 * for every function and callback. */
#ifndef IL_NET_DIAL_H
#define IL_NET_DIAL_H

#include "loop/loop.h"
#include "net/resolve.h"

struct dial_target {
    const char *host; /* name or address literal (IPv6 without brackets); borrowed until the end */
    uint16_t port;
    bool is_absolute;            /* the name ends with a dot: no search list */
    struct resolve_cache *cache; /* borrowed until the end; NULL: none */
    /* Connect to these, in this order, and ask nobody; borrowed until dial_start returns. 0: ask.
     */
    const struct net_address *addresses; /* port 0 */
    size_t address_count;                /* at most RESOLVE_FAMILY_MAX */
};

struct dial {
    /* The caller's; set before dial_start. */
    void (*on_phase)(struct dial *dial, enum il_phase phase); /* IL_PHASE_RESOLVE, then _CONNECT */
    /* Exactly once, unless cancelled, and never from inside dial_start: a connected non-blocking
     * socket that is the callee's, or fd -1 with the error. The dial may be started again or freed
     * in the callback. */
    void (*on_done)(struct dial *dial, int fd, const struct il_error *err);

    struct net_peer peer; /* dial.c sets it before on_done with a socket */

    struct dial_state *state; /* dial.c's; NULL when nothing is under way */
};

/* Begin. On failure (IL_ENOMEM, IL_EINVAL) no callback will run. */
IL_MUST_USE enum il_code dial_start(struct dial *dial, struct il_loop *loop,
                                    const struct dial_target *target, struct il_error *err);

/* Stop; no callback runs afterwards. Nothing if nothing is under way. */
void dial_cancel(struct dial *dial);

/* Another caller on the same loop takes over: what is under way goes on, for `to`, whose callbacks
 * are set, and is no more `from`'s. `target` is the same but for who owns it. */
void dial_move(struct dial *from, struct dial *to, const struct dial_target *target);

/* For reports: "resolving localhost", "connecting to 127.0.0.1:80 (2 of 3 addresses)". */
void dial_describe(const struct dial *dial, char *text, size_t size);

#endif
