/* stream.h: a connected socket, as its user sees it: bytes in order, both ways.
 *
 * Plain, what is received and sent goes straight to the socket. Otherwise there is a *filter* in
 * between (TLS; in the simulated world whatever stands for it), with a state of its own. A stream
 * is a value: whoever drives the connection uses it, and it moves with the connection. Nothing of
 * it belongs to a loop or a thread.
 *
 * A filter may have to send before it can receive, and the other way round. So whoever was told
 * -EAGAIN by a stream with a filter tries again at the next event of the socket, whichever it is.
 * A filter may also hold bytes that the socket does not show any more: before waiting for an event,
 * receive until -EAGAIN.
 *
 * Thread: one at a time, for every function. Ends: stream_close. */
#ifndef IL_NET_STREAM_H
#define IL_NET_STREAM_H

#include "net/address.h"
#include "sys/sys.h"

struct stream_filter {
    /* As stream_handshake. */
    enum il_code (*handshake)(void *state, struct il_error *err);

    /* As stream_receive and stream_send. */
    ssize_t (*receive)(void *state, void *bytes, size_t size);
    ssize_t (*send)(void *state, const struct iovec *parts, int part_count);

    /* As stream_is_quiet, for what the filter holds and what is in the socket. */
    bool (*is_quiet)(void *state);

    /* Is there anything that it has received and not given out? */
    bool (*holds_input)(const void *state);

    /* As stream_is_drained. */
    bool (*is_drained)(const void *state);

    /* What it has to say about the failure that receive or send returned; NULL: nothing. */
    const struct il_error *(*failure)(const void *state);

    /* The socket is about to be closed: say goodbye, without waiting, and free the state. */
    void (*close)(void *state);
};

struct stream {
    int fd;                             /* -1: none */
    const struct stream_filter *filter; /* NULL: plain */
    void *state;                        /* the filter's */
    struct net_peer peer;               /* as whoever made the connection knows it */
};

/* A plain stream on a connected socket. Takes `fd`. */
static inline void stream_init_plain(struct stream *stream, int fd)
{
    *stream = (struct stream){ .fd = fd };
}

static inline bool stream_is_plain(const struct stream *stream)
{
    return stream->filter == NULL;
}

/* Come to terms with the other side, as far as that goes without waiting: IL_OK when it is done,
 * IL_EAGAIN when the socket's next event is to be waited for, else why it cannot be. Before
 * anything is sent or received. */
static inline enum il_code stream_handshake(struct stream *stream, struct il_error *err)
{
    return stream->filter == NULL ? IL_OK : stream->filter->handshake(stream->state, err);
}

/* Bytes received; 0 at the end of the stream; -EAGAIN when there is nothing yet; -errno. */
static inline ssize_t stream_receive(struct stream *stream, void *bytes, size_t size)
{
    if (IL_LIKELY(stream->filter == NULL)) {
        return sys_socket_receive(stream->fd, bytes, size);
    }
    return stream->filter->receive(stream->state, bytes, size);
}

/* Bytes taken, -EAGAIN, or -errno. A filter that returned -EAGAIN may have taken in some of the
 * bytes: what is offered next must begin with the same ones. */
static inline ssize_t stream_send(struct stream *stream, const struct iovec *parts, int part_count)
{
    if (IL_LIKELY(stream->filter == NULL)) {
        return sys_socket_send(stream->fd, parts, part_count);
    }
    return stream->filter->send(stream->state, parts, part_count);
}

/* Is the stream open, with nothing to receive, nor the beginning of anything? Asked of one that is
 * idle. */
bool stream_is_quiet(struct stream *stream);

/* May there be input that no event of the socket will tell of? */
static inline bool stream_holds_input(const struct stream *stream)
{
    return stream->filter != NULL && stream->filter->holds_input(stream->state);
}

/* Was the socket empty when the filter last looked, and has it nothing left itself? Then more, or
 * the end, will be an event, unless the kernel has already said that the stream ends. */
static inline bool stream_is_drained(const struct stream *stream)
{
    return stream->filter->is_drained(stream->state);
}

/* Why receive or send failed, where the filter knows more than errno; else NULL. Borrowed: valid
 * until the stream is used again. */
static inline const struct il_error *stream_failure(const struct stream *stream)
{
    return stream->filter != NULL ? stream->filter->failure(stream->state) : NULL;
}

/* Close the socket. One that has been closed, or never was open, is fine. */
void stream_close(struct stream *stream);

#endif
