/* client.h: inside src/client: the client itself, requests and responses.
 *
 * A client is kept by three kinds of things: its *users*' references, its *uses* (calls and
 * responses, counted on the pool's shelves), and *memory*, which connections refer to. When users
 * and uses are gone the idle connections are closed; a connection that is just being dropped by
 * some loop keeps the memory a little longer. */
#ifndef IL_CLIENT_CLIENT_H
#define IL_CLIENT_CLIENT_H

#include "base/bytes.h"
#include "client/conn.h"
#include "client/pool.h"
#include "http/http.h"
#include "interloop/watch.h"
#include "rt/rt.h"

#define CLIENT_NAME_SIZE   32
#define CLIENT_PHASE_COUNT (IL_PHASE_TOTAL + 1)

struct il_client {
    char name[CLIENT_NAME_SIZE];
    enum il_driver driver;
    enum il_http_version http_version;
    uint32_t fork_generation;
    bool no_keep_alive;
    uint64_t timeout_ms[CLIENT_PHASE_COUNT]; /* IL_NO_LIMIT for phases without a limit */
    uint64_t body_size_max;
    struct h1_response_limits parser_limits;
    struct h2_windows h2_windows;
    struct host_table hosts;      /* whose addresses are given; does not change */
    struct resolve_cache *cache;  /* what DNS has said, to any loop */
    _Atomic(struct il_tls *) tls; /* a reference; NULL until https is wanted. See client_tls */
    struct pool pool;
    _Atomic uint32_t user_count;
    _Atomic uint32_t memory_count;
    struct il_list registry_link; /* guarded by the registry's mutex, see client_for_each */
};

/* ---- options.c ---- */

/* Put the defaults where nothing is said. */
void client_options_complete(struct il_client_options *options);

/* IL_EINVAL: what is out of range. */
enum il_code client_options_check(const struct il_client_options *options, struct il_error *err);

/* A copy to keep, without the name: it borrows nothing of `from`. IL_EINVAL, IL_ENOMEM. */
enum il_code client_options_copy(const struct il_client_options *from,
                                 struct il_client_options *ret_options, struct il_error *err);
void client_options_deinit(struct il_client_options *options); /* of such a copy */

/* ---- client.c ---- */

struct il_client *client_memory_ref(struct il_client *client);
void client_memory_unref(struct il_client *client);

/* The client's TLS settings, made now if nobody wanted them before. Borrowed. Thread: any. */
enum il_code client_tls(struct il_client *client, struct il_tls **ret_tls, struct il_error *err);
/* The last user and the last use are gone. */
void client_finish(struct il_client *client);

/* A connection after a complete exchange: back to the pool if it is fit, else closed. `call` is
 * over too, unless it is NULL. Thread: the one that holds `loop`, which drives the connection. */
void client_give_back(struct il_client *client, struct conn *conn, struct il_call *call,
                      bool is_reusable, struct il_loop *loop);

/* Forget and close a connection, idle or not. Thread: whoever drives it or has claimed it. */
void client_discard(struct il_client *client, struct conn *conn);

/* May a connection of this client turn out to be HTTP/2, and serve many calls? */
bool client_may_share(const struct il_client *client, enum url_scheme scheme);

/* The protocols that are offered inside TLS; see net/tls.h. */
const char *client_alpn(const struct il_client *client);

/* The server announces more than is kept in memory. */
enum il_code client_refuse_length(const struct il_client *client, uint64_t length,
                                  struct il_error *err);

/* Visit every client of the process, under the registry's lock; `visit` must be short. */
void client_for_each(void (*visit)(struct il_client *client, void *arg), void *arg);

/* ---- reports ---- */

struct client_call_report {
    struct il_watch_request view; /* all but verdict, stamp and links */
    uint64_t home_loop_id;
    uint64_t phase_since_ns;
    uint64_t task_id;   /* that waits; 0: a thread or a callback */
    const void *client; /* for comparing only */
    bool gives_way;     /* its place to open a connection, if its loop does not run */
};

#define CLIENT_OWNERS_MAX 8 /* loops; with more, one of them will act */

struct client_conn_report {
    struct il_watch_connection view; /* all but the driver's name */
    uint64_t loop_id;                /* that drives it, or is to: 0 if it rests */
    uint64_t since_ns;
    bool is_bound;
    bool is_shared; /* HTTP/2: driven by every loop that has a stream on it; loop_id is 0 */
    bool is_owners; /* likewise: what holds its places are streams that wait for their owners, and
                       these are the loops of all of them */
    unsigned owner_loop_count;
    uint64_t owner_loop_ids[CLIENT_OWNERS_MAX];
    bool is_idle;
    bool is_exchanging;
    bool gives_way;           /* soon, if nobody reads what it brings; or one of its places */
    uint64_t unread_since_ns; /* it brings a body that nobody reads; 0: somebody does, or none */
    bool is_window_used_up;   /* HTTP/2, bound: the server may send no body to anybody, */
    uint64_t hoarder_loop_id; /* until somebody there reads what has come */
    const void *client;       /* for comparing only */
};

struct client_reporter {
    void (*on_call)(const struct client_call_report *call, void *arg); /* under the pool's lock */
    void (*on_conn)(const struct client_conn_report *conn, void *arg); /* likewise */
    void *arg;
};

/* Tell of every call and connection of the client. Thread: any. */
void client_report(struct il_client *client, uint64_t now_ns,
                   const struct client_reporter *reporter);

/* Fill in method, host, port and path. */
void client_describe_request(const struct il_request *request, struct il_watch_request *view);

/* ---- requests ---- */

struct il_request {
    char *method;
    struct url url;
    char *address;      /* dialed instead of the URL's host; NULL: the host */
    struct il_tls *tls; /* a reference; NULL: the client's */
    struct il_headers headers;
    struct il_bytes body;
    enum h1_body_kind body_kind;
    il_body_fn *source; /* NULL: the body is `body` */
    void *source_arg;
    uint64_t source_length;
    uint64_t timeout_ms[CLIENT_PHASE_COUNT]; /* 0: the client's */
    bool has_timeouts;                       /* one at least is not the client's */
};

/* May it be sent again when nobody knows whether the server acted on it? RFC 9110 9.2.2. */
bool request_is_idempotent(const struct il_request *request);

/* The request as its head is written; borrows from it. */
struct h1_request_head request_head(const struct il_request *request);

/* Does it contradict itself? Known before anything is opened for it. IL_EREQUEST. */
IL_MUST_USE enum il_code request_check(const struct il_request *request, struct il_error *err);

/* A copy that needs nothing of `request`; not for one with a source. IL_ENOMEM. */
enum il_code request_copy(const struct il_request *request, struct il_request **ret_copy,
                          struct il_error *err);

/* ---- responses ---- */

enum response_state {
    RESPONSE_WHOLE,     /* the body is in memory */
    RESPONSE_STREAMING, /* the body is still to be read, from `conn` or `stream` */
    RESPONSE_ENDED,     /* it has been read to its end */
    RESPONSE_FAILED,
};

struct bound_exchange; /* bound.c */
struct session_stream; /* session_stream.c */

struct il_response {
    struct il_client *client; /* a use, counted on that shelf */
    uint8_t shelf_index;
    struct il_response *spare_next;
    uint16_t status;
    uint8_t version; /* 10, 11, 20 */
    char reason[H1_REASON_SIZE_MAX + 1];
    enum h1_framing framing;
    uint64_t body_length; /* IL_LENGTH_UNKNOWN if not announced */
    struct il_headers headers, trailers;
    struct il_bytes body;
    size_t body_read; /* how much of `body` il_response_read has given out */
    struct il_response_timing timing;
    struct net_peer peer;
    struct tls_facts *tls_facts; /* a reference; NULL without TLS */

    enum response_state state;
    struct conn *conn;                     /* rests, while nobody reads (caller driver) */
    struct bound_exchange *stream;         /* what the driving loop sends (bound driver) */
    struct session_stream *session_stream; /* HTTP/2 */
    uint64_t read_timeout_ms;
    uint64_t deadline_ns; /* of the call as a whole */
    uint64_t total_timeout_ms;
    char *server; /* "GET localhost:80", while it is streamed; NULL: no memory for it */
};

enum il_code response_new(struct il_client *client, struct il_response **ret_response,
                          struct il_error *err);

/* Make a response ready for use; `response` is zeroed or was used before. The use has begun. */
void response_reset(struct il_response *response, struct il_client *client, uint8_t shelf_index);

/* Free the memory of one that nobody uses. */
void response_destroy(struct il_response *response);

/* Take over what the parser has read: status, reason, headers. */
void response_take_head(struct il_response *response, struct h1_response *parser);

/* Remember who is at the other end of the connection that the response will come on. */
void response_set_server(struct il_response *response, const struct net_peer *peer,
                         struct tls_facts *facts);

/* Room in the body for what is received next, `left` bytes and one more: `ret_size` of it is there,
 * at the end of what the body holds. IL_ENOMEM. */
enum il_code response_make_room(struct il_response *response, uint64_t left, size_t *ret_size,
                                struct il_error *err);

/* So many bytes have been received there. */
void response_added(struct il_response *response, size_t size);

/* Append to the body in memory. IL_EBODYSIZE, IL_ENOMEM. */
enum il_code response_append(struct il_response *response, const char *bytes, size_t size,
                             struct il_error *err);

/* When a read of a streamed body that begins now must have brought something. */
uint64_t response_read_deadline(const struct il_response *response, const struct rt_place *place);

/* The body was taken away from its reader, who did not read. Returns IL_ETIMEDOUT. */
enum il_code response_fail_unread(const struct il_client *client, struct il_error *err);

/* Wait for more of a streamed body; `where` names the connection. IL_ETIMEDOUT says which limit. */
enum il_code response_wait(struct il_response *response, struct rt_place *place,
                           uint64_t read_deadline_ns, const char *where, struct il_error *err);

#endif
