/* server_inside.h: what the files of the lab server share, and nobody else includes.
 *
 *   server.c            the thread, its loop, accepting, start and stop
 *   server_tls.c        what connections call instead of recv and send
 *   server_control.c    commands and questions of other threads
 *   server_conn.c       one connection: states, reading, running its script, closing
 *   server_mux.c        a connection of HTTP/2: frames, and which streams are on it
 *   server_stream.c     one stream, which is a connection to everybody else
 *   server_request.c    what the parser says of a request
 *   server_script.c     a script: the steps that make up an answer, and how steps become bytes
 *   server_gate.c       named gates that hold requests
 *   server_timers.c     a heap of timers
 *   server_exchange.c   what behaviours use to read a request and compose an answer
 *   server_behaviour.c  the table of behaviours and what each does
 *   server_help.c       that table for people
 *
 * Threads: everything is the server thread's alone, except what struct lab_server lists as shared.
 * No request allocates memory, except bodies that are echoed and the first use of a gate's name. */
#ifndef LAB_SERVER_INSIDE_H
#define LAB_SERVER_INSIDE_H

/* Its names, kept apart from the library's where both are linked into one program. */
#define conn_new      lab_conn_new
#define conn_free     lab_conn_free
#define conn_close    lab_conn_close
#define timers_deinit lab_timers_deinit

#include <llhttp.h>
#include <nghttp2/nghttp2.h>
#include <pthread.h>
#include <sys/socket.h>

#include "base/base.h"
#include "lab/server.h"

#define SERVER_BACKLOG    4096
#define SERVER_EVENTS_MAX 256
#define SERVER_ACCEPT_MAX 64          /* connections accepted in one turn */
#define SERVER_FILLER_MAX 4           /* connections to itself that fill a backlog of 1 */
#define CONN_IN_SIZE      (16 << 10)  /* bytes received at once */
#define CONN_OUT_SIZE     (16 << 10)  /* bytes sent at once */
#define CONN_TEXT_SIZE    (24 << 10)  /* what an answer composes: twice LAB_TARGET_MAX and more */
#define CONN_TURN_BYTES   (256 << 10) /* sent before other connections have their turn */
#define CONN_BODY_KEEP    (1 << 20)   /* bytes for bodies kept from request to request */
#define CONN_LINGER_NS    2000000000u
#define STREAM_OUT_MAX    (64 << 10)  /* bytes of an answer that wait for the client's window */
#define STREAM_HEAD_MAX   (256 << 10) /* bytes of an answer's header; more: the stream is reset */
#define CHUNK_MAX         8192        /* bytes of a chunk: whole ones must fit into CONN_OUT_SIZE */
#define SCRIPT_STEPS_MAX  16
#define WAIT_MS_MAX       (24u * 3600 * 1000)
#define BODY_MAX          (UINT64_C(1) << 40)

struct conn;
struct exchange;
struct mux;
struct mux_stream;

/* ---- timers ---- */

struct timer {
    uint64_t due_ns;
    size_t place; /* in the heap; TIMER_UNARMED outside */
};
#define TIMER_UNARMED SIZE_MAX

struct timers {
    struct timer **heap;
    size_t count;
    size_t capacity;
};

uint64_t timers_now_ns(void);
/* Make room for `count` timers, so that arming never fails. False: out of memory. */
bool timers_reserve(struct timers *timers, size_t count);
void timers_deinit(struct timers *timers);
void timers_arm(struct timers *timers, struct timer *timer, uint64_t due_ns);
void timers_disarm(struct timers *timers, struct timer *timer); /* an unarmed one is nothing */
struct timer *timers_pop_due(struct timers *timers, uint64_t now_ns); /* NULL: none is due */
/* For epoll_wait: never early, -1 for no timer. */
int timers_timeout_ms(const struct timers *timers, uint64_t now_ns);

/* ---- scripts ---- */

enum step_kind {
    STEP_BYTES,    /* bytes[0..length), `repeat` times */
    STEP_FILL,     /* length times the byte bytes[0] */
    STEP_HEADERS,  /* length header lines */
    STEP_BODY,     /* the pattern of `seed`, from `from`, length bytes; in chunks if chunk > 0 */
    STEP_PACE,     /* from here on: length bytes, then a pause of `ms`; 0: as fast as it goes */
    STEP_WAIT,     /* ms */
    STEP_HOLD,     /* at `gate` */
    STEP_SLOT,     /* until fewer than answering_max are being answered */
    STEP_NEVER,    /* nothing more happens */
    STEP_ANSWERED, /* the connection is idle; the steps after this go on unless a request comes */
    STEP_CLOSE,
    STEP_RESET,
    STEP_LINGER, /* close after the client has */
};

struct step {
    enum step_kind kind;
    const char *bytes; /* static, or lives as long as the exchange */
    uint64_t length;
    uint64_t repeat;
    uint64_t seed, from, chunk;
    uint64_t ms;
    struct gate *gate;
};

struct script {
    struct step steps[SCRIPT_STEPS_MAX];
    size_t count;
    size_t at;     /* the step it is at; == count: over */
    uint64_t done; /* of that step, in its own unit */
};

void script_clear(struct script *script);
bool script_is_over(const struct script *script);
struct step *script_current(struct script *script); /* NULL: over */
void script_next(struct script *script);
struct step *script_add(struct script *script, enum step_kind kind);
bool step_makes_bytes(const struct step *step);
/* Turn the current step into bytes at data[0..room). Returns how many; *ret_is_complete: that was
 * all of it. */
size_t script_fill(struct script *script, char *data, size_t room, bool *ret_is_complete);

/* ---- connections ---- */

enum conn_state {
    CONN_IDLE,
    CONN_RECEIVING,
    CONN_ANSWERING,
    CONN_LINGERING,
    CONN_CLOSED,
    CONN_STATE_COUNT,
};

/* What a connection that runs a script waits for. */
enum conn_wait {
    WAIT_NOTHING,
    WAIT_ROOM, /* in the socket's send buffer */
    WAIT_PACE,
    WAIT_TIME,
    WAIT_GATE,
    WAIT_SLOT,
    WAIT_READY, /* for its turn: let through by the gate, or given a slot */
    WAIT_NEVER,
};

enum conn_stage {
    STAGE_HEAD,   /* the header is complete */
    STAGE_ANSWER, /* the request is complete */
};

/* A growing piece of memory that a connection keeps from request to request. */
struct blob {
    char *data;
    size_t size;
    size_t capacity;
};

/* One request and its answer. */
struct exchange {
    struct conn *conn;
    const struct behaviour *behaviour;
    size_t target_size;
    const char *argument; /* the path after "/bytes/"; "" if there is none; not decoded */
    size_t argument_size;
    const char *query; /* after "?"; "" if there is none; NUL-terminated */
    uint64_t number;   /* of its connection's requests */
    size_t header_bytes;
    uint64_t body_bytes;
    uint64_t body_hash;
    uint8_t method;
    bool is_open;             /* its header is complete and its end is not yet counted */
    bool is_head;             /* method HEAD: no body in the answer */
    bool is_http10;           /* the answer speaks HTTP/1.0 */
    bool wants_keep_alive;    /* by the request */
    bool says_keep_alive;     /* explicitly */
    bool expects_continue;    /* Expect: 100-continue */
    bool in_trailers;         /* header callbacks come from the chunked body's end */
    bool field_is_expect;     /* the header being parsed, as far as it has come */
    size_t field_size;        /* of its name */
    bool is_answered_at_head; /* the answer was sent before the body came */
    bool closes;              /* the connection ends after the answer */
    bool has_waited;          /* for what all behaviours may wait for */
    bool has_slot;            /* counts towards answering_max */
    bool is_refused;          /* refused_status and what is in conn->refusal go out instead */
    unsigned refused_status;
};

struct conn {
    struct lab_server *server;
    struct il_list link;      /* in server->conns, mux->streams or server->graveyard */
    struct il_list wait_link; /* in a gate, the queue for a slot, or server->ready */
    int fd;
    uint32_t interest; /* what epoll reports of fd */
    enum conn_state state;
    enum conn_wait wait;
    enum conn_stage stage;
    struct timer timer;
    struct lab_connection info;
    llhttp_t parser;
    struct ssl_st *tls;        /* NULL: http */
    struct mux *mux;           /* it speaks HTTP/2: each of its streams is a conn of its own */
    struct mux_stream *stream; /* it is a stream, and has no socket */
    bool is_undecided;         /* not a byte that would tell HTTP/1.1 from HTTP/2 has come */
    bool is_tls_broken;        /* nothing more can be said through it */
    bool is_half_closed;       /* we said that no more comes */
    bool is_paused;            /* a parser callback wants the script of `stage` to run */
    bool is_behind_head; /* the parser paused there: a request without a body ends without a byte */
    bool is_drained;     /* recv() has nothing more until epoll says so */
    struct exchange exchange;
    struct script script;
    uint64_t pace_bytes, pace_ms, pace_left;
    size_t turn_left; /* bytes it may still move before the others have their turn */
    struct blob head; /* header lines, kept for /echo */
    struct blob body; /* kept for /echo */
    size_t in_begin, in_end;
    size_t out_begin, out_end;
    size_t text_size; /* of which text_mark bytes are in the script */
    size_t text_mark;
    char refusal[256];
    /* Large and used from the front: what a small request does not touch costs no memory. */
    char target[LAB_TARGET_MAX + 1];
    char text[CONN_TEXT_SIZE];
    char in[CONN_IN_SIZE];
    char out[CONN_OUT_SIZE];
};

/* Takes `fd` when it returns IL_OK. */
enum il_code conn_new(struct lab_server *server, int fd, uint16_t peer_port);
/* For a stream; NULL: out of memory. */
struct conn *conn_new_for_stream(struct mux *mux, struct mux_stream *stream);
void conn_free(struct conn *conn); /* closed ones only */
void conn_on_events(struct conn *conn, uint32_t events);
void conn_on_timer(struct conn *conn);
void conn_on_ready(struct conn *conn);  /* passed a gate, or got a slot */
void conn_on_stream(struct conn *conn); /* of a stream: there is more to read, or room */
void conn_close(struct conn *conn, enum lab_close how, bool is_by_client);
void conn_half_close(struct conn *conn);
void conn_linger(struct conn *conn); /* say that no more comes, and wait until the client closes */
void conn_want(struct conn *conn, uint32_t interest);
void conn_set_busy(struct conn *conn, bool is_busy); /* one of HTTP/2: it has streams, or not */
/* The connection that a stream is on; itself, if it is none. */
struct conn *conn_carrier(struct conn *conn);

/* ---- HTTP/2 ---- */

#define MUX_PREFACE_SIZE NGHTTP2_CLIENT_MAGIC_LEN

/* server_mux.c: a connection of HTTP/2. */
struct mux {
    struct conn *conn;
    nghttp2_session *session;
    struct il_list streams; /* conn.link */
    size_t stream_count;
    struct il_list wakes; /* mux_stream.wake_link: may go on */
    struct il_list link;  /* in server->muxes, when it has something to do */
    const uint8_t *frame; /* nghttp2's, not yet in conn->out */
    size_t frame_size;
    bool is_leaving; /* GOAWAY: it ends with its last stream */
    bool is_cut;     /* it ends as soon as what there is has been sent */
    bool is_ending;  /* nothing more is said of its streams */
};

/* A piece of mux_stream.fields. */
struct slice {
    size_t at, size;
};

/* server_stream.c: between the frames of HTTP/2 and the text that everybody else here speaks. */
struct mux_stream {
    struct mux *mux;
    struct conn *conn;
    int32_t id;
    struct il_list wake_link;

    /* The request: its fields as they came, "name: value\n", and as text to be read. */
    struct blob fields, trailers, in;
    struct slice method, path;
    size_t in_begin;
    size_t unread_size; /* body bytes whose window is to be given back */
    bool has_head;

    /* The answer: parsed from the text, its body kept until the client's window takes it. */
    llhttp_t parser;
    struct blob names; /* "name\0value\0" of its header, later of its trailers */
    size_t field_count;
    size_t heads_queued; /* headers, 1xx too, that are not yet in frames */
    struct blob out;
    size_t out_begin;
    bool has_answer;      /* the final header went out */
    bool is_answer_whole; /* parsed */
    bool is_sent;         /* with its end */
    bool is_broken;       /* the text cannot be said in HTTP/2 */
    bool is_over;         /* on both sides, or reset by the client */
};

/* Whether `data` is how a client of HTTP/2 begins; false with *ret_is_open set: it may become so.
 */
bool mux_is_preface(const char *data, size_t size, bool *ret_is_open);
bool mux_init(struct conn *conn); /* false: out of memory */
void mux_free(struct mux *mux);   /* NULL is nothing */
void mux_feed(struct mux *mux, const char *data, size_t size);
void mux_on_events(struct mux *mux); /* receive, and go on */
void mux_touch(struct mux *mux);     /* has something to do before the turn is over */
void mux_wake(struct mux_stream *stream);
void mux_run_touched(struct lab_server *server);
void mux_leave(struct mux *mux); /* GOAWAY, and end with the last stream */
void mux_cut(struct mux *mux);   /* end as soon as what there is has been sent */
void mux_close_streams(struct mux *mux, enum lab_close how, bool is_by_client);
void mux_on_stream_closed(struct conn *conn); /* conn_close of a stream */

struct mux_stream *stream_new(struct mux *mux, int32_t id); /* NULL: out of memory */
void stream_free(struct mux_stream *stream);
/* What came for it; false: out of memory. */
bool stream_on_field(struct mux_stream *stream, const char *name, size_t name_size,
                     const char *value, size_t value_size);
bool stream_on_head(struct mux_stream *stream, bool is_last);
bool stream_on_data(struct mux_stream *stream, const char *data, size_t size);
bool stream_on_end(struct mux_stream *stream);
/* As recv and send. */
ssize_t stream_receive(struct mux_stream *stream, void *data, size_t size);
ssize_t stream_send(struct mux_stream *stream, const void *data, size_t size);
/* The script is over: so is the answer. */
void stream_finish(struct mux_stream *stream);
/* Whether all that was given to stream_send has gone into frames. */
bool stream_is_flushed(const struct mux_stream *stream);
/* The next bytes of the answer's body, as nghttp2 asks for them. */
ssize_t stream_on_wanted(nghttp2_session *session, int32_t id, uint8_t *data, size_t room,
                         uint32_t *ret_flags, nghttp2_data_source *source, void *arg);

/* server_tls.c. The first two as recv and send, with or without TLS. */
ssize_t conn_socket_receive(struct conn *conn, void *data, size_t size);
ssize_t conn_socket_send(struct conn *conn, const void *data, size_t size);
bool conn_tls_init(struct conn *conn);                   /* false: out of memory */
bool conn_tls_has_chosen_h2(const struct conn *conn);    /* once bytes have come through it */
void conn_tls_end(struct conn *conn, bool says_goodbye); /* before the socket is closed */
void conn_tls_deinit(struct conn *conn);
enum il_code server_tls_init(struct lab_server *server, struct il_error *err);
void server_tls_deinit(struct lab_server *server);

/* Make room for `size` more bytes and add them. False: out of memory. */
bool blob_add(struct blob *blob, const char *data, size_t size);
void blob_deinit(struct blob *blob);

/* server_request.c: prepare conn->parser; its callbacks fill conn->exchange, and set is_paused
 * and `stage` where a script is to run. */
void request_parser_init(struct conn *conn);
/* Feed conn->in to it. False: that is no valid request, and the exchange is refused. */
bool request_parse(struct conn *conn);
/* The first byte of a request has come: leave the idle state. */
void conn_on_request_begin(struct conn *conn);
/* Its header is complete. */
void conn_on_request_head(struct conn *conn);

/* ---- gates ---- */

struct gate {
    struct il_list link;    /* in server->gates */
    struct il_list waiting; /* conn.wait_link */
    uint64_t waiting_count;
    uint64_t permit_count; /* LAB_RELEASE_ALL: open for good */
    uint64_t visit_count;  /* for /flaky */
    char name[LAB_GATE_NAME_MAX + 1];
};

/* NULL: too many, the name does not fit, or out of memory; *ret_code (may be NULL) says which. */
struct gate *gate_get(struct lab_server *server, const char *name, size_t name_size,
                      enum il_code *ret_code);
struct gate *gate_find(struct lab_server *server, const char *name, size_t name_size);
/* True: `conn` may pass at once; false: it waits. */
bool gate_enter(struct gate *gate, struct conn *conn);
void gate_leave(struct conn *conn); /* it no longer waits */
void gate_release(struct lab_server *server, struct gate *gate, uint64_t count);
void gates_deinit(struct lab_server *server);

/* ---- behaviours ---- */

struct behaviour {
    const char *name;  /* first path segment, without slashes */
    const char *path;  /* as the help shows it */
    const char *query; /* the parameters it knows, separated by spaces; "*": any */
    const char *does;
    void (*on_head)(struct exchange *x); /* may be NULL; its script runs before the body is read */
    void (*on_request)(struct exchange *x);
    bool keeps_head; /* conn->head is filled */
    bool keeps_body; /* conn->body is filled */
    bool hashes_body;
    bool is_control; /* takes no place of answering_max: it may be what frees one */
    bool is_text;    /* about the text of HTTP/1.1: 501 over HTTP/2 */
};

extern const struct behaviour behaviours[];
extern const size_t behaviour_count; /* the last one is for unknown paths */

/* Parse conn->target into `x` and find its behaviour. Refuses what the table does not allow. */
void exchange_init(struct exchange *x, struct conn *conn);
void exchange_route(struct exchange *x);
/* Fill the connection's script for `stage`. */
void exchange_script(struct exchange *x, enum conn_stage stage);

/* Answer by `status` and a reason instead of what the behaviour does, and close. */
void exchange_refuse(struct exchange *x, unsigned status, const char *format, ...) IL_PRINTF(3, 4);
/* The answer to `is_refused`. */
void exchange_script_refusal(struct exchange *x);

/* Query and path. Wrong values refuse the request; callers go on with the value they get. */
const char *exchange_query(const struct exchange *x, const char *name, size_t *ret_size); /* NULL */
uint64_t exchange_number(struct exchange *x, const char *name, uint64_t fallback, uint64_t max);
bool exchange_flag(struct exchange *x, const char *name);
uint64_t exchange_argument_number(struct exchange *x, uint64_t min, uint64_t max);
/* The gate that `name` names; NULL: refused. */
struct gate *exchange_gate(struct exchange *x, const char *name, size_t name_size);
/* HTTP/1.1 may be answered in chunks; false: the answer must end with the connection, and will. */
bool exchange_may_chunk(struct exchange *x);

/* Composing. Text goes to conn->text and becomes a step by answer_part and the functions that end
 * the header. `x->closes` must be settled before answer_begin. */
void answer_begin(struct exchange *x, unsigned status);
void answer_put(struct exchange *x, const char *text);
void answer_put_size(struct exchange *x, const char *text, size_t size);
void answer_put_decoded(struct exchange *x, const char *text, size_t size); /* %41 is A */
void answer_put_number(struct exchange *x, uint64_t number);
void answer_header(struct exchange *x, const char *name, const char *value);
void answer_header_number(struct exchange *x, const char *name, uint64_t value);
void answer_part(struct exchange *x); /* what was put since the last part is a step */
void answer_end(struct exchange *x);  /* the blank line; the framing is put by the caller */
void answer_end_length(struct exchange *x, uint64_t length);
void answer_end_chunked(struct exchange *x);
/* A whole answer with a text body. */
void answer_text(struct exchange *x, unsigned status, const char *body);
void answer_text_size(struct exchange *x, unsigned status, const char *body, size_t size);
/* Steps. The bytes must live as long as the exchange. */
struct step *answer_step(struct exchange *x, enum step_kind kind);
void answer_bytes(struct exchange *x, const char *bytes, uint64_t size);
void answer_body(struct exchange *x, const char *bytes, uint64_t size); /* nothing for HEAD */
void answer_fill(struct exchange *x, const char *byte, uint64_t size);
void answer_wait(struct exchange *x, uint64_t ms);
void answer_hold(struct exchange *x, const char *name, size_t name_size);
void answer_continue(struct exchange *x); /* 100 Continue, if it is expected */

/* ---- the server ---- */

/* What another thread wants; lives on its stack until is_done. */
struct command {
    struct il_list link;
    void (*run)(struct lab_server *server, struct command *command);
    bool is_done; /* shared: server->mutex */

    const char *name;
    uint64_t number;
    uint64_t count;
    enum lab_close how;
    const void *data;
    size_t size;
    struct il_error *err;

    enum il_code code;
    struct lab_connection connection;
    struct lab_server_counters *counters; /* filled if not NULL */
};

struct lab_server {
    /* Set at the start, then read by anyone. */
    struct lab_server_options options;
    struct sockaddr_storage bound;
    socklen_t bound_size;
    char address[64];
    uint16_t port;
    int listen_fd;
    int epoll_fd;
    int wake_fd;
    struct ssl_ctx_st *tls; /* NULL: http */
    struct bio_method_st *tls_bio;
    char tls_alpn[64];
    bool is_tls_alpn_strict;
    bool is_tls_cut;
    char *help;
    pthread_t thread;

    /* The server thread's. */
    uint64_t now_ns;
    bool is_stopping;
    bool is_accepting;      /* listen_fd is in epoll */
    bool is_accept_stopped; /* by lab_server_accept_stop */
    bool is_accept_starved; /* no descriptor was free: again when accept_retry fires */
    struct timer accept_retry;
    uint16_t filler_ports[SERVER_FILLER_MAX]; /* our own connections in the backlog; 0: none */
    struct il_list conns;
    uint64_t conn_count;       /* of them, and of streams */
    struct il_list muxes;      /* have something to do before the turn is over */
    struct il_list graveyard;  /* closed in this turn; freed at its end */
    struct il_list ready;      /* may go on: conn.wait_link */
    struct il_list slot_queue; /* wait for answering_max: conn.wait_link */
    uint64_t slots_used;
    struct timers timers;
    struct il_list gates;
    uint64_t gate_count;
    struct lab_connection *records; /* of closed connections, LAB_CONNECTION_RECORDS of them */
    uint64_t state_count[CONN_STATE_COUNT];
    struct lab_server_counters counters; /* those of states are filled in by server_snapshot */

    /* With accept_mutex held: which is taken before `mutex`. */
    pthread_mutex_t accept_mutex;
    int filler_fds[SERVER_FILLER_MAX];
    size_t filler_count;
    bool is_backlog_full; /* stopped, and not yet resumed */

    /* With `mutex` held, a leaf. */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a command is done, or `published` moved on */
    struct il_list commands;
    uint64_t published; /* counters.change_count at the end of the last turn */
    unsigned watcher_count;
};

void server_changed(struct lab_server *server); /* a counter moved */
void server_snapshot(struct lab_server *server, struct lab_server_counters *ret_counters);
void server_accept_update(struct lab_server *server); /* what forbids accepting may have changed */
bool server_accept_some(struct lab_server *server);   /* false: no more for now */
void server_slot_done(struct lab_server *server);

/* server_control.c, for the loop: run what was posted; then, at the turn's end, report. */
void control_run(struct lab_server *server, struct il_list *ret_ran);
void control_publish(struct lab_server *server, struct il_list *ran);
void control_wait_up(struct lab_server *server); /* until the thread runs */
void control_stop(struct lab_server *server);    /* tell the thread to end */
void control_fillers_close(struct lab_server *server);

#endif
