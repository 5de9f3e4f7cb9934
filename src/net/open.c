/* open.c: from a host name to a stream that is ready for HTTP.
 *
 *   start ---> dial ---> handshake (with TLS only) ---> on_done
 *                |            |
 *                +------------+--- error, cancel, the end of the loop
 *
 * Owns: the dial, and a handshake with its stream and watch while it is under way.
 * Threads: the one that holds the loop. Ends: on_done, or opening_cancel. */
#include "net/open.h"

#include <stdio.h>

struct handshake {
    struct opening *opening;
    struct stream stream;
    struct watch *watch; /* NULL until the socket is watched */
    struct loop_guest guest;
};

/* ---- the handshake ---- */

/* Let go of everything; what becomes of the stream is the caller's business. */
static struct stream handshake_free(struct handshake *handshake)
{
    struct stream stream = handshake->stream;

    handshake->opening->handshake = NULL;
    loop_guest_remove(&handshake->guest);
    if (handshake->watch != NULL) {
        watch_close(handshake->watch);
    }
    il_free(handshake);
    return stream;
}

static void handshake_fail(struct handshake *handshake, const struct il_error *err)
{
    struct opening *opening = handshake->opening;
    struct stream stream = handshake_free(handshake);

    stream_close(&stream);
    opening->on_done(opening, NULL, err);
}

static void handshake_go_on(struct handshake *handshake)
{
    struct opening *opening = handshake->opening;
    struct stream stream;
    struct il_error error;

    switch (stream_handshake(&handshake->stream, &error)) {
    case IL_EAGAIN: /* the socket's next event brings us back */
        break;
    case IL_OK:
        stream = handshake_free(handshake);
        opening->on_done(opening, &stream, NULL);
        break;
    default:
        handshake_fail(handshake, &error);
        break;
    }
}

static void handshake_on_event(struct watch *watch, uint32_t events)
{
    struct handshake *handshake = watch->arg;

    il_assert_on_loop(handshake->opening->loop);
    if (IL_MUTANT(TLS_DEAF) && (events & EPOLLIN) == 0) {
        return;
    }
    handshake_go_on(handshake);
}

static void handshake_on_rest_event(struct watch *watch, uint32_t events)
{
    il_assert(false); /* the watch of a handshake never rests */
}

static void handshake_on_loop_end(struct loop_guest *guest)
{
    struct handshake *handshake = il_container_of(guest, struct handshake, guest);
    struct il_error error;

    il_fail(&error, IL_ESHUTDOWN, "the loop ended during the TLS handshake with %.80s port %u",
            handshake->opening->target.peer.host, handshake->opening->target.dial.port);
    handshake_fail(handshake, &error);
}

static enum il_code handshake_start(struct opening *opening, struct stream *stream,
                                    struct handshake **ret_handshake, struct il_error *err)
{
    const struct opening_target *target = &opening->target;
    struct handshake *handshake = il_calloc(1, sizeof(*handshake));
    enum il_code code;

    if (handshake == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a TLS handshake with %.80s",
                       target->peer.host);
    }
    handshake->opening = opening;
    handshake->guest.on_loop_end = handshake_on_loop_end;
    il_list_init(&handshake->guest.link);
    code = tls_attach(target->tls, &target->peer, stream, err);
    if (code == IL_OK) {
        code = watch_open(opening->loop->poller, stream->fd, handshake_on_event,
                          handshake_on_rest_event, handshake, &handshake->watch, err);
    }
    if (code != IL_OK) {
        il_free(handshake);
        return code;
    }
    handshake->stream = *stream;
    il_assert_on_loop(opening->loop);
    loop_guest_add(opening->loop, &handshake->guest);
    *ret_handshake = handshake;
    return IL_OK;
}

/* ---- the dial ---- */

static void opening_on_dial_phase(struct dial *dial, enum il_phase phase)
{
    struct opening *opening = il_container_of(dial, struct opening, dial);

    if (opening->on_phase != NULL) {
        opening->on_phase(opening, phase);
    }
}

static void opening_on_dialed(struct dial *dial, int fd, const struct il_error *err)
{
    struct opening *opening = il_container_of(dial, struct opening, dial);
    struct stream stream;
    struct il_error error;

    if (fd < 0) {
        opening->on_done(opening, NULL, err);
        return;
    }
    stream_init_plain(&stream, fd);
    stream.peer = dial->peer;
    if (opening->target.tls == NULL) {
        opening->on_done(opening, &stream, NULL);
        return;
    }
    if (handshake_start(opening, &stream, &opening->handshake, &error) != IL_OK) {
        stream_close(&stream);
        opening->on_done(opening, NULL, &error);
        return;
    }
    opening_on_dial_phase(dial, IL_PHASE_TLS);
    if (opening->handshake != NULL) {
        handshake_go_on(opening->handshake);
    }
}

/* ---- the interface ---- */

static void opening_prepare(struct opening *opening, struct il_loop *loop,
                            const struct opening_target *target)
{
    il_assert(opening->on_done != NULL);
    il_assert(!opening_is_under_way(opening));
    opening->dial.on_phase = opening_on_dial_phase;
    opening->dial.on_done = opening_on_dialed;
    opening->loop = loop;
    opening->target = *target;
}

enum il_code opening_start(struct opening *opening, struct il_loop *loop,
                           const struct opening_target *target, struct il_error *err)
{
    opening_prepare(opening, loop, target);
    return dial_start(&opening->dial, loop, &target->dial, err);
}

void opening_cancel(struct opening *opening)
{
    dial_cancel(&opening->dial);
    if (opening->handshake != NULL) {
        struct stream stream = handshake_free(opening->handshake);

        stream_close(&stream);
    }
}

void opening_move(struct opening *from, struct opening *to, const struct opening_target *target)
{
    il_assert(opening_is_under_way(from));
    opening_prepare(to, from->loop, target);
    if (from->dial.state != NULL) {
        dial_move(&from->dial, &to->dial, &target->dial);
    }
    if (from->handshake != NULL && !IL_MUTANT(TLS_ORPHAN)) {
        to->handshake = from->handshake;
        to->handshake->opening = to;
        from->handshake = NULL;
    }
}

void opening_describe(const struct opening *opening, char *text, size_t size)
{
    if (opening->handshake != NULL) {
        (void)snprintf(text, size, "the TLS handshake with %.80s:%u", opening->target.peer.host,
                       opening->target.dial.port);
    } else {
        dial_describe(&opening->dial, text, size);
    }
}
