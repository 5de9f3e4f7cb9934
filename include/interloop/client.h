/* client.h: the HTTP client: settings plus a pool of connections, shared by everybody.
 *
 * One client serves any number of runtimes and threads at once. With the default driver a
 * connection belongs to none of them: it is driven by whoever waits for it, and rests in the pool
 * when nobody does. So a request depends on the runtime that waits for it and on the network, and
 * on no other runtime: not on whether that runs, is busy, or still exists.
 *
 *     struct il_response *response;
 *     struct il_error err;
 *
 *     if (il_get(client, "http://localhost:8080/", &response, &err) == IL_OK) {
 *         printf("%d %s\n", il_response_status(response), il_response_body(response, NULL));
 *         il_response_free(response);
 *     }
 *
 * The same call suspends a task or blocks a plain thread, as the case may be. */
#ifndef INTERLOOP_CLIENT_H
#define INTERLOOP_CLIENT_H

#include "interloop/http.h"
#include "interloop/runtime.h"
#include "interloop/tls.h"

#ifdef __cplusplus
extern "C" {
#endif

struct il_client;
struct il_request;
struct il_response;
struct il_call;

/* A time limit that never runs out. */
#define IL_NO_LIMIT UINT64_MAX

/* ---- client ---- */

enum il_driver {
    /* A connection is driven by the loop that waits for it. */
    IL_DRIVER_CALLER = 0,
    /* A connection is driven for ever by the loop that opened it, and a request from elsewhere is
     * handed to that loop. This is how hyper works, its defects included: requests hang when that
     * loop is not driven, and a body is cut short without an error when its runtime is dropped. It
     * is here so that the defects can be shown and the ways of living with them compared. */
    IL_DRIVER_BOUND = 1,
};

enum il_http_version {
    /* Inside TLS HTTP/2 if the server offers it (ALPN, RFC 7301), else HTTP/1.1; in clear HTTP/1.1.
     */
    IL_HTTP_AUTO = 0,
    /* HTTP/1.1, whatever the server offers. */
    IL_HTTP_1_1 = 1,
    /* HTTP/2 from the first byte, also in clear (RFC 9113 3.3): the server is known to speak it.
     * IL_EPROTOCOL if, inside TLS, it does not. */
    IL_HTTP_2_PRIOR_KNOWLEDGE = 2,
};

/* Where a host is to be found, whatever DNS and /etc/hosts say. */
struct il_host_addresses {
    const char *host;      /* a name; case and a final dot make no difference */
    uint16_t port;         /* of the URL; 0: every port that has no entry of its own */
    const char *addresses; /* "192.0.2.1", or several, tried in this order as far as families allow:
                            * "2001:db8::1,192.0.2.1" */
};

struct il_client_options {
    size_t size;      /* set by IL_CLIENT_OPTIONS_INIT; lets later versions add fields */
    const char *name; /* shown in reports; copied; NULL means "client" */
    enum il_driver driver;
    enum il_http_version http_version;

    /* The pool. 0 means the default. */
    bool no_keep_alive;                /* every request opens and closes a connection of its own */
    uint32_t idle_max;                 /* idle connections kept in all; 1,024 */
    uint32_t idle_per_host_max;        /* idle connections kept for one host; 64 */
    uint32_t connections_per_host_max; /* open at once, idle or not; no limit */
    uint32_t waiters_max;              /* requests waiting for a connection at once; 100,000 */
    uint64_t idle_timeout_ms;          /* an idle connection is closed after; 30,000 */

    /* A streamed body that nobody has read for so long gives its connection up (HTTP/2: its
     * stream), if a request waits for a place (connections_per_host_max), and so does a connect
     * whose runtime has not run for so long; 10,000. Default driver. */
    uint64_t unread_timeout_ms;

    /* Time limits for each request, in milliseconds: 0 means the default, IL_NO_LIMIT none. A
     * request may override them (il_request_set_timeout_ms). */
    uint64_t pool_wait_timeout_ms; /* for a connection or a place to open one; 30,000 */
    uint64_t resolve_timeout_ms;   /* DNS; 10,000 */
    uint64_t connect_timeout_ms;   /* TCP handshake; 10,000 */
    uint64_t tls_timeout_ms;       /* TLS handshake; 10,000 */
    uint64_t write_timeout_ms;     /* sending without progress; 30,000 */
    uint64_t
        first_byte_timeout_ms; /* from the request's last byte to the response's first; 60,000 */
    uint64_t read_timeout_ms;  /* receiving without progress; 30,000 */
    uint64_t total_timeout_ms; /* all together; 300,000 */

    /* What a server may send. 0 means the default. */
    uint64_t body_size_max;   /* bytes of a body that is kept in memory; 64 MiB */
    uint32_t header_size_max; /* bytes of all header fields, at most 1 MiB; 300 KiB */

    /* HTTP/2: bytes of one streamed body that may wait for its reader, and bytes that may be on
     * their way to us on one connection, 65,535 to 2^31 - 1. 0 means the default. */
    uint32_t http2_stream_window;     /* 1 MiB */
    uint32_t http2_connection_window; /* 16 MiB */

    /* For https. NULL: il_tls_new(NULL), made when the first https request needs it. The client
     * takes a reference of its own. */
    struct il_tls *tls;

    /* Addresses that are not asked for: connections to these hosts go there, while Host header and
     * certificate stay the URL's. At most 256 hosts with 16 addresses each; copied. NULL: none. */
    const struct il_host_addresses *hosts;
    size_t host_count;
};

#define IL_CLIENT_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(struct il_client_options)                                                   \
    }

/* Make a client. `options` may be NULL. No thread is started, no connection opened.
 * Ends with il_client_unref. IL_EINVAL: an option is out of range. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_client_new(const struct il_client_options *options,
                                              struct il_client **ret_client, struct il_error *err);

IL_API struct il_client *il_client_ref(struct il_client *client); /* Thread: any. Since 0.1. */

/* The last reference closes the idle connections. Calls and responses hold references of their own,
 * so a client lives as long as they do. Returns NULL; NULL is allowed. Thread: any. Since 0.1. */
IL_API struct il_client *il_client_unref(struct il_client *client);

/* Never NULL. Thread: any. Since 0.1. */
IL_API const char *il_client_name(const struct il_client *client);

/* Close the connections that are idle now. Thread: any. Since 0.1. */
IL_API void il_client_close_idle(struct il_client *client);

struct il_client_stats {
    uint32_t calls;             /* requests under way */
    uint32_t waiters;           /* of those, waiting for a connection */
    uint32_t connections;       /* open, or being opened */
    uint32_t idle;              /* of those, resting in the pool */
    uint32_t sessions;          /* of the connections, those that speak HTTP/2 */
    uint32_t streams;           /* requests under way on them; or unread streamed bodies */
    uint64_t requests_total;    /* ever started */
    uint64_t connections_total; /* ever opened */
    uint64_t reuses_total;      /* requests served by a connection that had served before */
    uint64_t moves_total;       /* of those, by one that rested with another loop, or (HTTP/2) that
                                   another loop drove last */
    uint64_t retries_total; /* requests sent a second time, because a reused connection was dead */
};

/* One consistent look at the pool. Thread: any. Since 0.1. */
IL_API void il_client_stats(struct il_client *client, struct il_client_stats *ret_stats);

/* ---- requests ---- */

/* Make a request. The method is any token ("GET", "PROPFIND") but CONNECT; the URL is absolute and
 * http or https, without a user name (set the header Authorization instead). Both are copied.
 * IL_EURL, IL_EREQUEST: say what is wrong with them. One thread at a time. Since 0.1.
 */
IL_API IL_MUST_USE enum il_code il_request_new(const char *method, const char *url,
                                               struct il_request **ret_request,
                                               struct il_error *err);
IL_API void
il_request_free(struct il_request *request); /* NULL is allowed. Thread: any. Since 0.1. */

/* Add a header field; both parts are copied. IL_EREQUEST: the name or the value cannot be sent, for
 * example because of a line break in it. Thread: one at a time. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_request_add_header(struct il_request *request, const char *name,
                                                      const char *value, struct il_error *err);

/* For this request, instead of the client's TLS settings; NULL: those. It does not use connections
 * made under other settings, nor others the one made for it. The request takes a reference of its
 * own. IL_EINVAL: `request` is NULL. Thread: one at a time. Since 0.1. */
IL_API enum il_code il_request_set_tls(struct il_request *request, struct il_tls *tls);

/* Connect to `address` (an IPv4 or IPv6 literal, without a port; copied; NULL: no more) instead of
 * asking for the URL's host, and whatever the client's options say of it. What is sent, and what a
 * certificate is checked against, stays the URL's host. Connections are shared only with requests
 * to the same address. IL_EINVAL: it is no address. Thread: one at a time. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_request_set_address(struct il_request *request,
                                                       const char *address, struct il_error *err);

/* Send these bytes as the body, with Content-Length; they are copied. Thread: one at a time. Since
 * 0.1. */
IL_API IL_MUST_USE enum il_code il_request_set_body(struct il_request *request, const void *bytes,
                                                    size_t size, struct il_error *err);

/* Where a streamed body comes from: fill at most `size` bytes and say in `ret_size` how many; 0
 * ends the body. Anything but IL_OK aborts the request with that code. For il_send it runs where
 * il_send was called and may wait; for il_call_start it runs on the call's loop and must not. */
typedef enum il_code il_body_fn(void *arg, void *buffer, size_t size, size_t *ret_size);

#define IL_LENGTH_UNKNOWN UINT64_MAX

/* Send a body that is made piece by piece: of `length` bytes with Content-Length, or chunked for
 * IL_LENGTH_UNKNOWN. A body that turns out shorter or longer than `length` fails the request with
 * IL_EREQUEST. Such a request is never sent twice. Thread: one at a time. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_request_set_body_source(struct il_request *request,
                                                           il_body_fn *read, void *arg,
                                                           uint64_t length, struct il_error *err);

/* Override one of the client's limits for this request; IL_PHASE_TOTAL is the whole. 0 means the
 * client's, IL_NO_LIMIT none. IL_EINVAL: that phase has no limit. Thread: one at a time. Since 0.1.
 */
IL_API enum il_code il_request_set_timeout_ms(struct il_request *request, enum il_phase phase,
                                              uint64_t timeout_ms);

/* ---- sending, and waiting for the outcome ---- */

/* Send a request and wait for the whole response, body included (at most body_size_max bytes).
 * Borrows the request; it may be sent again afterwards. The response is the caller's.
 *
 * IL_EREQUEST: its headers contradict each other or the body; nothing was opened for it.
 * IL_ETIMEDOUT: `err` names the phase and the limit. IL_ERESOLVE, IL_ECONNECT, IL_ETLS, IL_ECERT,
 * IL_EPEERCLOSED, IL_EPROTOCOL, IL_EHEADERSIZE, IL_EBODYSIZE: what the server or the network did.
 * IL_ECANCELED, IL_ESHUTDOWN: the waiting task was cancelled, its runtime ended. IL_EPOOLFULL:
 * waiters_max. IL_EOWNERGONE: bound driver only. IL_EDEADLOCK: in a callback. Thread: any. Since
 * 0.1. */
IL_API IL_MUST_USE enum il_code il_send(struct il_client *client, const struct il_request *request,
                                        struct il_response **ret_response, struct il_error *err);

/* As il_send, but return as soon as the head of the response is there; the body is then taken with
 * il_response_read. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_send_streaming(struct il_client *client,
                                                  const struct il_request *request,
                                                  struct il_response **ret_response,
                                                  struct il_error *err);

/* GET `url`. As il_send. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_get(struct il_client *client, const char *url,
                                       struct il_response **ret_response, struct il_error *err);

/* POST these bytes to `url`; `content_type` may be NULL. As il_send. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_post(struct il_client *client, const char *url,
                                        const char *content_type, const void *bytes, size_t size,
                                        struct il_response **ret_response, struct il_error *err);

/* ---- calls: sending now, and hearing of the outcome later ---- */

/* The outcome of a call, exactly once, later, on a loop of the call's runtime (or, if that runtime
 * is being ended, on the thread that ends it): IL_OK with a response that is yours, or a code with
 * its detail and no response. Must not wait: nothing else runs on that loop meanwhile. */
typedef void il_call_fn(void *arg, enum il_code code, struct il_response *response,
                        const struct il_error *err);

struct il_call_options {
    size_t size;
    struct il_runtime *runtime; /* where the call lives; NULL: the runtime we are on */
    il_call_fn *on_done;        /* required */
    void *arg;
    bool borrows_request; /* the request stays yours; keep it as it is until on_done has been
                           * called. One request may be in several calls at once */
};

#define IL_CALL_OPTIONS_INIT                                                                       \
    {                                                                                              \
        .size = sizeof(struct il_call_options)                                                     \
    }

/* Start a request and have its outcome delivered on a loop of `runtime`. Takes the request once
 * this returns IL_OK; on failure it is still yours and on_done will not run. `ret_call` may be
 * NULL; else it gets a reference, for il_call_cancel. IL_EINVAL: no runtime given and we are on
 * none. IL_ESHUTDOWN: the runtime has ended. IL_EREQUEST: as il_send. Never waits. Thread: any.
 * Since 0.1. */
IL_API IL_MUST_USE enum il_code il_call_start(struct il_client *client, struct il_request *request,
                                              const struct il_call_options *options,
                                              struct il_call **ret_call, struct il_error *err);

/* End a call early: its on_done gets IL_ECANCELED, unless the outcome was already decided. Never
 * waits. Thread: any. Since 0.1. */
IL_API void il_call_cancel(struct il_call *call);
IL_API struct il_call *
il_call_unref(struct il_call *call); /* Returns NULL. Thread: any. Since 0.1. */

/* ---- responses ----
 *
 * A response is used by one thread or task at a time; it may be handed from one to another, also
 * between runtimes: whoever reads the body drives the connection that brings it. */

IL_API int
il_response_status(const struct il_response *response); /* 200. Thread: any. Since 0.1. */
IL_API const char *
il_response_reason(const struct il_response *response); /* May be "". Thread: any. Since 0.1. */

/* 10, 11 or 20. Thread: any. Since 0.1. */
IL_API int il_response_http_version(const struct il_response *response);

/* Borrowed; lives as long as the response. Thread: any. Since 0.1. */
IL_API const struct il_headers *il_response_headers(const struct il_response *response);
IL_API const char *
il_response_header(const struct il_response *response,
                   const char *name); /* NULL if there is none. Thread: any. Since 0.1. */

/* What came after a chunked body. Complete once the body is. Thread: any. Since 0.1. */
IL_API const struct il_headers *il_response_trailers(const struct il_response *response);

/* The body of a response that came from il_send or a call: `size` bytes (ret_size may be NULL) and
 * a NUL behind them. Never NULL. Borrowed. Of a streamed response: "". Thread: any. Since 0.1. */
IL_API const char *il_response_body(const struct il_response *response, size_t *ret_size);

/* Take the next part of a streamed body: at least one byte, or 0 bytes at its end. After an error
 * the response can only be freed. The body of an il_send response can be read this way too.
 * Codes as il_send; IL_ETIMEDOUT also if nobody has read for unread_timeout_ms, and a request that
 * waited for the connection was given it. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_response_read(struct il_response *response, void *buffer,
                                                 size_t size, size_t *ret_size,
                                                 struct il_error *err);

/* The body's length if the server announced it, else IL_LENGTH_UNKNOWN. Thread: any. Since 0.1. */
IL_API uint64_t il_response_body_length(const struct il_response *response);

/* A body that was not read to its end costs the connection. NULL is allowed. Thread: any. Since
 * 0.1. */
IL_API void il_response_free(struct il_response *response);

/* Whom a connection goes to. */
struct il_peer_info {
    char address[48]; /* "127.0.0.1", "::1" */
    uint16_t port;
    bool is_ipv6;
    unsigned lost_count; /* other addresses of the host that had been tried by then: they failed, or
                            were slower */
};

/* Whom the connection goes to that brought the response. False, and `ret_info` as it was: there was
 * none. Thread: any. Since 0.1. */
IL_API bool il_response_peer(const struct il_response *response, struct il_peer_info *ret_info);

struct il_response_timing {
    uint64_t started_ns;    /* CLOCK_MONOTONIC, like il_now_ns */
    uint64_t resolved_ns;   /* when there was an address to connect to; 0: not dialed */
    uint64_t tcp_ns;        /* when the TLS handshake began; 0: there was none */
    uint64_t connected_ns;  /* when a connection was there: opened, or taken from the pool */
    uint64_t sent_ns;       /* when the request was written */
    uint64_t first_byte_ns; /* when the response began */
    uint64_t done_ns;       /* when it was complete; 0 while a body is still to be read */
    uint64_t connection_id; /* unique in the process */
    bool was_reused;        /* the connection had served before */
    bool was_moved;         /* it had rested with another loop, or (HTTP/2) that drove it last */
};
IL_API void il_response_timing(const struct il_response *response,
                               struct il_response_timing *ret_timing); /* Thread: any. Since 0.1. */

/* What is known of the TLS of the connection that brought the response. False, and `ret_info` as it
 * was: there was none. Thread: any. Since 0.1. */
IL_API bool il_response_tls(const struct il_response *response, struct il_tls_info *ret_info);

#ifdef __cplusplus
}
#endif
#endif
