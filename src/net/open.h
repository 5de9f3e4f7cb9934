/* open.h: from a host name to a stream that is ready for HTTP: dial, and TLS if that is wanted.
 *
 * Everything happens on the caller's loop. Thread: the one that holds the loop, for every function
 * and callback. */
#ifndef IL_NET_OPEN_H
#define IL_NET_OPEN_H

#include "net/dial.h"
#include "net/tls.h"

struct opening_target {
    struct dial_target dial;
    struct il_tls *tls;   /* NULL: plain. Borrowed until the end */
    struct tls_peer peer; /* with tls: who must be there; its strings are borrowed until the end */
};

struct handshake; /* open.c */

struct opening {
    /* The caller's; set before opening_start. */
    void (*on_phase)(struct opening *opening,
                     enum il_phase phase); /* IL_PHASE_RESOLVE, _CONNECT, and _TLS with tls */
    /* Exactly once, unless cancelled, and never from inside opening_start: a stream that is the
     * callee's, or NULL with the error. The opening may be started again or freed in the callback.
     */
    void (*on_done)(struct opening *opening, const struct stream *stream,
                    const struct il_error *err);

    struct dial dial; /* open.c's, like the rest */
    struct il_loop *loop;
    struct opening_target target;
    struct handshake *handshake; /* under way, or NULL */
};

/* Begin. `opening` is zeroed but for the callbacks, or was used before. On failure (IL_ENOMEM,
 * IL_EINVAL) no callback will run. */
IL_MUST_USE enum il_code opening_start(struct opening *opening, struct il_loop *loop,
                                       const struct opening_target *target, struct il_error *err);

/* Stop; no callback runs afterwards. Nothing if nothing is under way. */
void opening_cancel(struct opening *opening);

/* Another caller on the same loop takes over: what is under way goes on, for `to`, and is no more
 * `from`'s. `to` is zeroed but for the callbacks, or was used before; `target` is the same but for
 * who owns it. */
void opening_move(struct opening *from, struct opening *to, const struct opening_target *target);

static inline bool opening_is_under_way(const struct opening *opening)
{
    return opening->dial.state != NULL || opening->handshake != NULL;
}

/* For reports: "connecting to 127.0.0.1:80", "the TLS handshake with localhost:443". */
void opening_describe(const struct opening *opening, char *text, size_t size);

#endif
