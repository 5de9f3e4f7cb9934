/* session_stream.h: inside a session's streams: session_stream.c, session_told.c.
 *
 * Threads: as grouped in the struct. */
#ifndef IL_CLIENT_SESSION_STREAM_H
#define IL_CLIENT_SESSION_STREAM_H

#include "client/session.h"

struct session_stream {
    struct session *session;           /* a reference */
    struct il_loop *home;              /* a reference */
    struct session_stream *next_spare; /* while it is none at all */
    struct job home_job;
    bool is_streaming;
    _Atomic uint32_t ref_count;

    struct {                  /* the home loop's holder */
        struct il_call *call; /* NULL once it is over */
    } home_held;

    struct {                          /* any thread, with the session's mutex held */
        uint64_t owner_loop_id;       /* whose next step it is: home, or where it was read last */
        struct session_seat *seat;    /* that counts it; NULL: none */
        struct il_response *response; /* where head and body go; NULL: nobody wants them */
        const char *body;             /* request's, not yet sent; the call's */
        size_t body_size;
        struct il_bytes source; /* request's, made piece by piece, not yet sent */
        bool is_source, is_source_ended;
        bool is_request_sent;
        bool has_head;          /* in `response`; what h2 has of it may yet have come to nothing */
        struct il_bytes chunks; /* streamed: response's body, not yet read */
        _Atomic bool is_over;   /* the home loop looks without the mutex: nothing changes then */
        enum h2_end end;        /* once it is */
        bool is_lost;           /* with the whole session */
        bool is_told;           /* on session->shared.told, by the next */
        struct session_stream *told_next;
        bool is_home_posted;
        struct party *reader;     /* borrowed while it waits */
        uint64_t unread_since_ns; /* streamed, and nobody has read since then; 0: does not apply */
        struct h2_stream h2;      /* the last: its memory stays when the rest is zeroed */
    } shared;
};

static inline struct session_stream *stream_of(struct h2_stream *h2)
{
    return il_container_of(h2, struct session_stream, shared.h2);
}

/* ---- session_told.c ---- */

/* One with the caller's reference, and empty but for the memory of its headers. NULL: no memory.
 * Thread: the one that holds `loop`. */
struct session_stream *stream_take_spare(struct il_loop *loop);

/* Let go of so many references at once. Thread: any; not under the session's mutex. */
void stream_unref(struct session_stream *x, uint32_t count);

/* Something has come for the stream, or become of it: its home, and whoever reads it, are to know,
 * once the mutex is free. */
void stream_tell_locked(struct session_stream *x);

/* The stream is over. The session's reference goes, too. */
void stream_tell_end_locked(struct session_stream *x);

#endif
