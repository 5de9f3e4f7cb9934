/* conn.h: one connection: its socket, and what is half read or half written.
 *
 * Caller driver: a connection is either *driven*, by the loop that holds its watch, or it *rests*,
 * in the pool or in the hands of a response whose body nobody is reading, and then whoever claims
 * it may take it to a loop of his own (conn_adopt).
 *
 *       conn_new            pool_put, conn_rest                    claim + conn_adopt
 *    ------------> DRIVEN ----------------------> RESTING -------------------------> DRIVEN
 *                    |                              |
 *                    +----------> CLOSED <----------+  (whoever holds it, or has claimed it)
 *
 * One that rests with a response may be taken away from it, if nobody has read for long and a
 * request waits for a place: unread_since_ns says whose it is. Reader and taker meet there only:
 *
 *                 conn_read_again                     conn_take_unread
 *     0 (read) <------------------> since (unread) ---------------------> TAKEN
 *               conn_rest_with_...            taker closes: SHUT   response lets go: LEFT
 *                                             whoever comes second frees the memory
 *
 * Threads: the one that holds the loop which drives it, or has claimed it. */
#ifndef IL_CLIENT_CONN_H
#define IL_CLIENT_CONN_H

#include "base/bytes.h"
#include "client/kit.h"
#include "client/pool.h"
#include "http/http.h"
#include "loop/loop.h"
#include "net/net.h"

struct conn {
    uint64_t id;              /* set at creation, then read by anyone, like the four below */
    struct stream stream;     /* its socket's number; the rest is for whoever drives it */
    struct il_client *client; /* its memory: see client_memory_ref */
    struct pool_origin *origin;
    struct tls_facts *tls_facts; /* NULL without TLS */

    struct { /* whoever drives it, or has claimed it */
        struct watch *watch;
        struct kit *kit;  /* borrowed while there is something to send or to parse, else NULL */
        const char *body; /* request body behind the kit's `out`, not yet sent; the exchange's */
        size_t body_size;
        bool is_eof;            /* the server will send nothing more */
        bool is_readable;       /* there may be bytes to receive */
        bool is_writable;       /* the stream may take bytes */
        bool is_hung_up;        /* the kernel has said that the stream ends: read until it does */
        bool was_unheard;       /* it may have said so while nobody listened: the same */
        uint32_t request_count; /* served, this one included */

        /* Who wants to know that the socket may have become readable or writable. */
        void (*on_io)(struct conn *conn);
        void *arg;
    } held;

    struct {                      /* any thread, under the mutexes that pool.h names */
        struct il_list link;      /* pool->connections */
        struct il_list idle_link; /* its shelf's rest of `origin` */
        struct il_list all_link;  /* its shelf's idle ones */
        uint64_t idle_since_ns;
        uint8_t shelf_index;
        _Atomic bool is_idle;
    } pooled;
    struct conn *close_next; /* while on its way to be closed */

    /* for reports: any thread */
    _Atomic uint64_t driver_loop_id; /* 0: rests */
    _Atomic uint64_t since_ns;       /* in that state */
    _Atomic bool is_exchanging;      /* the loop that drives it has taken up a request */

    _Atomic uint64_t unread_since_ns; /* it brings a body that nobody reads; or a word below */

    struct bound_conn *bound; /* bound driver: what ties it to its loop */
};

/* The number of the next connection, of whatever kind. Thread: any. */
uint64_t conn_next_id(void);

/* Make a connection of a stream, driven by `loop`. Takes `stream` on success. The watch is opened
 * here. Thread: the one that holds the loop. */
enum il_code conn_new(struct il_client *client, struct pool_origin *origin, struct il_loop *loop,
                      const struct stream *stream, struct conn **ret_conn, struct il_error *err);

/* Close the socket and free everything. Whoever drives it, or has claimed it away. The pool must
 * have forgotten it. */
void conn_close(struct conn *conn);

/* The two halves of conn_close: the socket, by whoever drives it; the memory, by anybody, later. */
void conn_shut(struct conn *conn);
void conn_free(struct conn *conn);

/* Bring a connection that was claimed to `loop`, which drives it from now on. What comes from now
 * on, or lies in the socket that was moved, will be an event; what lay in one that rested with
 * `loop` has been one. On failure it can only be closed. Thread: the one that holds `loop`. */
enum il_code conn_adopt(struct conn *conn, struct il_loop *loop, struct il_error *err);

/* Claim a resting connection: here, if it rests with `loop`, else away from where it rests. */
bool conn_claim(struct conn *conn, const struct il_loop *loop);

/* Let it rest: in the pool, or with a response. Thread: the driver. */
void conn_rest_in_pool(struct conn *conn, uint64_t deadline_ns);
void conn_rest_with_response(struct conn *conn);

#define CONN_READ       0 /* it brings no body, or somebody is reading it */
#define CONN_TAKEN      1
#define CONN_SHUT       2
#define CONN_LEFT       3
#define CONN_UNREAD_MIN 4 /* from here on a time */

/* The response that it rests with is being read again, or freed. False: it was taken away, and is
 * to be left (conn_leave). */
bool conn_read_again(struct conn *conn);
void conn_leave(struct conn *conn);

/* Take a connection away from a response that has not been read since then; it is claimed, and can
 * only be closed, with conn_shut_taken. False: it is being read. Thread: any. */
bool conn_take_unread(struct conn *conn, uint64_t since_ns);
void conn_shut_taken(struct conn *conn);

/* Is the idle connection still as it should be: open, with nothing to read? */
bool conn_is_fresh(struct conn *conn);

/* May something have come that nobody has looked at, and that no event will tell of any more? False
 * after a receive that found less than it had room for. */
bool conn_may_hold_input(const struct conn *conn);

/* Have a kit, if there is none yet. False: no memory. Thread: the one that holds `loop`, which
 * drives the connection; and so for giving it back, if there is one, with whatever is in it. */
bool conn_borrow_kit(struct conn *conn, struct il_loop *loop);
void conn_return_kit(struct conn *conn, struct il_loop *loop);

enum conn_io {
    CONN_DONE,    /* all sent, or something received */
    CONN_BLOCKED, /* the socket takes or has nothing now: on_io will say when */
    CONN_EOF,
    CONN_FAILED, /* sys_errno says why */
};

/* Send what is in the kit's `out`, and `body`. `ret_sent`: bytes sent by this call. */
enum conn_io conn_send(struct conn *conn, size_t *ret_sent, int *ret_errno);
bool conn_has_unsent(const struct conn *conn);

/* Receive at most `size` bytes. */
enum conn_io conn_receive(struct conn *conn, void *bytes, size_t size, size_t *ret_received,
                          int *ret_errno);

/* Fill `err` with why receiving or sending failed; `when` is "" or " after 3 bytes": the server's
 * name is for the call or response to add. Returns the code. */
enum il_code conn_fail(const struct conn *conn, int sys_errno, const char *when,
                       struct il_error *err);

/* "127.0.0.1:8080 (connection 5)" for messages. Returns `text`. */
#define CONN_TEXT_SIZE 320
const char *conn_text(const struct conn *conn, char text[static CONN_TEXT_SIZE]);

#endif
