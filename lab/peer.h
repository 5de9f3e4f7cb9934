/* peer.h: the book-keeping of other clients' pools, each with the defect it is known for.
 *
 * Our own pool does not have these defects, bound driver or not. So that they can be shown, a pool
 * like theirs stands in front of the client: before a request is sent, it takes the only place
 * there is for its host, and gives it back when it is answered. Everything under it is real: the
 * client, its connections, threads. What is made wrong, and only that, says each kind.
 *
 * Threads: any; the functions that wait, in tasks. */
#ifndef LAB_PEER_H
#define LAB_PEER_H

#include "interloop/watch.h"

enum peer_kind {
    PEER_NONE,

    /* A place that becomes free is assigned to the oldest waiter. One that is cancelled between
     * that and its next step goes without giving the place back. httpcore (encode/httpcore#1093);
     * Go 1.22 (golang/go#65705). */
    PEER_ASSIGNS,

    /* The oldest waiter is woken and takes the place itself; who comes later queues up behind those
     * who wait already. One that is cancelled once it was woken does not wake the next. aiohttp
     * (aio-libs/aiohttp#9670). */
    PEER_WAKES,

    /* The first request makes the connection for all; the others wait for that. If it is cancelled
     * meanwhile, what it had begun stays on the books as being made (linera-protocol#6577); hyper's
     * HTTP/2 pool fails the others instead (hyperium/hyper#3199). */
    PEER_COALESCES,
};

struct peer;

struct peer *peer_new(enum peer_kind kind); /* NULL: out of memory */
void peer_free(struct peer *peer);          /* NULL is nothing. Nobody waits any more. */

/* Wait for the place, or for the connection that another request is making. `path`: of the request,
 * by which peer_look finds it. IL_ECANCELED, IL_ESHUTDOWN: the task was. */
enum il_code peer_enter(struct peer *peer, const char *path, struct il_error *err);

/* The request that was let in is over, and how. */
void peer_leave(struct peer *peer, enum il_code code);

/* As il_watch_requests, for a request that waits in here. False: it does not. */
bool peer_look(struct peer *peer, const char *path, struct il_watch_request *ret_row);

#endif
