/* server_secure.c: the server of the benchmarks with TLS and HTTP/2, as server.c is for those
 * without: one thread, canned answers, as little of its own work as possible.
 *
 *     server_secure --certificate FILE --key FILE [--tls-max 1.2] [--no-resumption] [--port P]
 *
 * prints "listening P", and serves 127.0.0.1:P until its parent ends. Whether a connection begins
 * with TLS or in clear, and with HTTP/1.1 or HTTP/2, is seen from its first bytes; within TLS the
 * client chooses by ALPN.
 *
 *     GET /small      12 bytes
 *     GET /close      12 bytes, then closes (first, so that the client's ports stay free)
 *     GET /counts     how many handshakes there were: {"full": N, "resumed": N}
 *
 * Over HTTP/2 every request is answered with the 12 bytes: the header compression of what comes is
 * not undone. The answers' is as real servers': the first answer on a connection puts its fields
 * into the table, the others name them there.
 *
 * It trusts its clients to be benchmarks: requests have no body, HTTP/1.1 comes one request at a
 * time. What it does not understand it answers by closing, which every program here reports as a
 * failure.
 *
 * Owns: the connections. Threads: one. Ends: when the process that started it does. */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define INPUT_SIZE   ((size_t)256 * 1024)
#define KEPT_MAX     ((size_t)32 * 1024) /* of a request or frame that has not come whole */
#define OUTPUT_SIZE  ((size_t)1024 * 1024)
#define EVENTS_MAX   256
#define ACCEPTS_MAX  64
#define TLS_FIRST    0x16   /* the first byte of a TLS connection: a handshake record */
#define HPACK_STATUS "\x88" /* :status 200 */

#define SMALL_BODY "hello world\n"
#define SMALL_SIZE (sizeof(SMALL_BODY) - 1)
#define SMALL_HEAD "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n"
static const char small_answer[] = SMALL_HEAD "\r\n" SMALL_BODY;
static const char close_answer[] = SMALL_HEAD "Connection: close\r\n\r\n" SMALL_BODY;

enum protocol { NOTHING_YET, HTTP_1, HTTP_2 };
enum { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE };
enum { FLAG_END_STREAM = 1, FLAG_ACK = 1, FLAG_END_HEADERS = 4 };
enum { FRAME_HEAD = 9 };

struct conn {
    int fd;
    SSL *ssl; /* NULL: in clear */
    bool is_sniffed, is_shaken, is_closing, is_watching_writable;
    enum protocol protocol;
    bool has_table; /* the fields of our answer are in the client's table */
    int64_t window; /* bytes of bodies that the client still takes */
    char *kept;     /* the part of a request or frame that has come */
    size_t kept_size;
    char *unsent;
    size_t unsent_size;
};

static int epoll_fd;
static SSL_CTX *tls;
static uint64_t full_count, resumed_count;
static char input[INPUT_SIZE];
static char output[OUTPUT_SIZE];
static size_t output_size;

/* ---- connections ---- */

static void conn_close(struct conn *conn)
{
    if (conn->ssl != NULL) {
        (void)SSL_shutdown(conn->ssl); /* says goodbye; the answer interests nobody */
        SSL_free(conn->ssl);
        ERR_clear_error();
    }
    close(conn->fd);
    free(conn->kept);
    free(conn->unsent);
    free(conn);
}

static void conn_watch_writable(struct conn *conn, bool wanted)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };

    if (conn->is_watching_writable != wanted) {
        event.events |= wanted ? (uint32_t)EPOLLOUT : 0;
        epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
        conn->is_watching_writable = wanted;
    }
}

/* As recv and send: bytes, 0 for the end, or -1 with EAGAIN or another errno. */
static ssize_t ssl_result(const struct conn *conn, int result)
{
    if (result > 0) {
        return result;
    }
    switch (SSL_get_error(conn->ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        errno = EPROTO;
        return -1;
    }
}

static ssize_t conn_receive(const struct conn *conn, char *buffer, size_t size)
{
    if (conn->ssl == NULL) {
        return recv(conn->fd, buffer, size, MSG_DONTWAIT);
    }
    ERR_clear_error();
    return ssl_result(conn, SSL_read(conn->ssl, buffer, (int)size));
}

static ssize_t conn_send(const struct conn *conn, const char *data, size_t size)
{
    if (conn->ssl == NULL) {
        return send(conn->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
    ERR_clear_error();
    return ssl_result(conn, SSL_write(conn->ssl, data, (int)size));
}

/* Send, as much as goes now; what is left is kept. False: the client is gone. */
static bool conn_send_all(struct conn *conn, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = conn_send(conn, data, size);

        if (sent < 0 && errno == EAGAIN) {
            char *rest = malloc(size);

            if (rest == NULL) {
                bench_fail("keep what could not be sent");
            }
            memcpy(rest, data, size); /* `data` may be the old rest */
            free(conn->unsent);
            conn->unsent = rest;
            conn->unsent_size = size;
            conn_watch_writable(conn, true);
            return true;
        }
        if (sent <= 0) {
            return false;
        }
        data += sent;
        size -= (size_t)sent;
    }
    conn->unsent_size = 0;
    conn_watch_writable(conn, false);
    return true;
}

/* ---- HTTP/2 ---- */

static void put(const void *bytes, size_t size)
{
    if (size > OUTPUT_SIZE - output_size) {
        errno = 0;
        bench_fail("more answers than the output holds");
    }
    memcpy(output + output_size, bytes, size);
    output_size += size;
}

static void put_frame(size_t size, int type, int flags, uint32_t stream_id, const void *payload)
{
    uint8_t head[FRAME_HEAD] = { (uint8_t)(size >> 16),
                                 (uint8_t)(size >> 8),
                                 (uint8_t)size,
                                 (uint8_t)type,
                                 (uint8_t)flags,
                                 (uint8_t)(stream_id >> 24),
                                 (uint8_t)(stream_id >> 16),
                                 (uint8_t)(stream_id >> 8),
                                 (uint8_t)stream_id };

    put(head, sizeof(head));
    put(payload, size);
}

static uint32_t read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* False: the client takes no more. */
static bool h2_answer(struct conn *conn, uint32_t stream_id)
{
    /* 31: content-type, 28: content-length, both with their values put into the table, where they
     * are 63 and 62 from then on. */
    static const char first[] = HPACK_STATUS "\x5f\x0a"
                                             "text/plain"
                                             "\x5c\x02"
                                             "12";
    static const char later[] = HPACK_STATUS "\xbf\xbe";
    const char *head = conn->has_table ? later : first;

    conn->window -= (int64_t)SMALL_SIZE;
    if (conn->window < 0) {
        return false;
    }
    put_frame(conn->has_table ? sizeof(later) - 1 : sizeof(first) - 1, HEADERS, FLAG_END_HEADERS,
              stream_id, head);
    put_frame(SMALL_SIZE, DATA, FLAG_END_STREAM, stream_id, SMALL_BODY);
    conn->has_table = true;
    return true;
}

/* One whole frame. False: not understood. */
static bool h2_on_frame(struct conn *conn, int type, int flags, uint32_t stream_id,
                        const uint8_t *payload, size_t size)
{
    switch (type) {
    case HEADERS:
        return (flags & FLAG_END_STREAM) && (flags & FLAG_END_HEADERS) &&
               h2_answer(conn, stream_id);
    case SETTINGS:
    case PING:
        if (!(flags & FLAG_ACK)) {
            put_frame(type == PING ? size : 0, type, FLAG_ACK, 0, payload);
        }
        return true;
    case WINDOW_UPDATE:
        if (stream_id == 0 && size == 4) {
            conn->window += read_u32(payload);
        }
        return true;
    default:
        return type == PRIORITY || type == RST_STREAM || type == GOAWAY;
    }
}

/* How many bytes of `data` were used; SIZE_MAX: not understood. */
static size_t h2_on_input(struct conn *conn, const uint8_t *data, size_t size)
{
    size_t at = 0;

    while (size - at >= FRAME_HEAD) {
        const uint8_t *head = data + at;
        size_t length = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];

        if (length > KEPT_MAX / 2) {
            return SIZE_MAX;
        }
        if (size - at - FRAME_HEAD < length) {
            break;
        }
        if (!h2_on_frame(conn, head[3], head[4], read_u32(head + 5) & 0x7fffffff, head + FRAME_HEAD,
                         length)) {
            return SIZE_MAX;
        }
        at += FRAME_HEAD + length;
    }
    return at;
}

static void h2_begin(struct conn *conn)
{
    static const uint8_t settings[] = { 0, 3, 0, 0, 4, 0 }; /* MAX_CONCURRENT_STREAMS: 1,024 */

    conn->protocol = HTTP_2;
    conn->window = 65535; /* until the client gives more */
    put_frame(sizeof(settings), SETTINGS, 0, 0, settings);
}

/* ---- HTTP/1.1 ---- */

static size_t h1_on_input(struct conn *conn, const char *data, size_t size)
{
    const char *end = memmem(data, size, "\r\n\r\n", 4);
    size_t head_size;

    if (end == NULL) {
        return 0;
    }
    head_size = (size_t)(end - data) + 4;
    if (head_size != size) {
        return SIZE_MAX;
    }
    if (strncmp(data, "GET /small ", 11) == 0) {
        put(small_answer, sizeof(small_answer) - 1);
    } else if (strncmp(data, "GET /close ", 11) == 0) {
        put(close_answer, sizeof(close_answer) - 1);
        conn->is_closing = true;
    } else if (strncmp(data, "GET /counts ", 12) == 0) {
        char body[64], head[160];
        int body_size =
            snprintf(body, sizeof(body), "{\"full\": %" PRIu64 ", \"resumed\": %" PRIu64 "}\n",
                     full_count, resumed_count);
        int answer_size = snprintf(
            head, sizeof(head),
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
            body_size, body);

        put(head, (size_t)answer_size);
    } else {
        return SIZE_MAX;
    }
    return head_size;
}

/* ---- what comes ---- */

static size_t conn_on_input(struct conn *conn, const char *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    size_t at = 0;

    if (conn->protocol == NOTHING_YET) {
        size_t common = size < sizeof(preface) - 1 ? size : sizeof(preface) - 1;

        if (memcmp(data, preface, common) != 0) {
            conn->protocol = HTTP_1;
        } else if (common < sizeof(preface) - 1) {
            return 0;
        } else {
            at = common;
            h2_begin(conn);
        }
    }
    if (conn->protocol == HTTP_1) {
        return h1_on_input(conn, data, size);
    }
    size = h2_on_input(conn, (const uint8_t *)data + at, size - at);
    return size == SIZE_MAX ? SIZE_MAX : at + size;
}

/* Keep what was not used. False: too much. */
static bool conn_keep(struct conn *conn, const char *data, size_t size)
{
    if (size > KEPT_MAX ||
        (size > 0 && conn->kept == NULL && (conn->kept = malloc(KEPT_MAX)) == NULL)) {
        return false;
    }
    if (size > 0) {
        memcpy(conn->kept, data, size);
    }
    conn->kept_size = size;
    return true;
}

/* Receive once, and answer what has come. False: that was the end of the connection. */
static bool conn_serve(struct conn *conn, bool *ret_has_more)
{
    size_t size = conn->kept_size, used;
    ssize_t received;

    *ret_has_more = false;
    if (size > 0) {
        memcpy(input, conn->kept, size);
    }
    received = conn_receive(conn, input + size, INPUT_SIZE - size);
    if (received < 0 && errno == EAGAIN) {
        return true;
    }
    if (received <= 0) {
        return false;
    }
    size += (size_t)received;
    output_size = 0;
    used = conn_on_input(conn, input, size);
    if (used == SIZE_MAX || !conn_keep(conn, input + used, size - used) ||
        !conn_send_all(conn, output, output_size)) {
        return false;
    }
    *ret_has_more = conn->ssl != NULL && SSL_has_pending(conn->ssl);
    return !conn->is_closing;
}

/* Is it TLS? False: nothing has come, or the end. */
static bool conn_sniff(struct conn *conn)
{
    uint8_t first;

    if (recv(conn->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT) != 1) {
        return false;
    }
    conn->is_sniffed = true;
    if (first == TLS_FIRST) {
        conn->ssl = SSL_new(tls);
        if (conn->ssl == NULL || SSL_set_fd(conn->ssl, conn->fd) != 1) {
            bench_fail("make a TLS connection");
        }
        SSL_set_accept_state(conn->ssl);
    } else {
        conn->is_shaken = true;
    }
    return true;
}

/* False: that was the end of the connection. */
static bool conn_shake_hands(struct conn *conn)
{
    int result;

    ERR_clear_error();
    result = SSL_do_handshake(conn->ssl);
    if (result == 1) {
        conn->is_shaken = true;
        *(SSL_session_reused(conn->ssl) ? &resumed_count : &full_count) += 1;
        return true;
    }
    return ssl_result(conn, result) < 0 && errno == EAGAIN;
}

static void conn_on_event(struct conn *conn, uint32_t events)
{
    bool has_more = true, is_alive = true;

    if (!conn->is_sniffed && !conn_sniff(conn)) {
        conn_close(conn);
        return;
    }
    if (!conn->is_shaken) {
        is_alive = conn_shake_hands(conn);
    }
    if (is_alive && (events & EPOLLOUT) && conn->unsent_size > 0) {
        is_alive = conn_send_all(conn, conn->unsent, conn->unsent_size);
    }
    while (is_alive && has_more && conn->is_shaken && conn->unsent_size == 0) {
        is_alive = conn_serve(conn, &has_more);
    }
    if (!is_alive) {
        conn_close(conn);
    }
}

/* ---- the loop ---- */

static void server_accept(int listen_fd)
{
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct conn *conn;
        struct epoll_event event = { .events = EPOLLIN };

        if (fd < 0 && (errno == EAGAIN || errno == ECONNABORTED || errno == EMFILE)) {
            return; /* EMFILE: those that a client that has ended left behind are being closed */
        }
        conn = fd < 0 ? NULL : calloc(1, sizeof(*conn));
        event.data.ptr = conn;
        if (conn == NULL || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
            bench_fail("accept a connection");
        }
        conn->fd = fd;
    }
}

static void server_run(int listen_fd)
{
    struct epoll_event events[EVENTS_MAX];
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listen_fd, &event) < 0) {
        bench_fail("make the epoll set");
    }
    for (;;) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL) {
                server_accept(listen_fd);
            } else {
                conn_on_event(events[i].data.ptr, events[i].events);
            }
        }
    }
}

/* ---- setting up ---- */

/* The client's choice among ours: it names in its order of preference what it speaks. */
static int choose_alpn(SSL *ssl, const unsigned char **ret_name, unsigned char *ret_size,
                       const unsigned char *offered, unsigned size, void *arg)
{
    static const unsigned char ours[] = "\x02h2\x08http/1.1";

    (void)ssl;
    (void)arg;
    return SSL_select_next_proto((unsigned char **)ret_name, ret_size, offered, size, ours,
                                 sizeof(ours) - 1) == OPENSSL_NPN_NEGOTIATED
               ? SSL_TLSEXT_ERR_OK
               : SSL_TLSEXT_ERR_NOACK;
}

static void tls_set_up(const char *certificate, const char *key, int version_max, bool resumes)
{
    tls = SSL_CTX_new(TLS_server_method());
    if (tls == NULL || SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_set_max_proto_version(tls, version_max) != 1) {
        errno = 0;
        bench_fail("read the certificate and its key");
    }
    SSL_CTX_set_mode(tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_read_ahead(tls, 1);
    SSL_CTX_set_alpn_select_cb(tls, choose_alpn, NULL);
    SSL_CTX_set_session_id_context(tls, (const unsigned char *)"bench", 5);
    if (!resumes) {
        SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF); /* for who takes no tickets */
        SSL_CTX_set_options(tls, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(tls, 0);
    }
}

int main(int argc, char **argv)
{
    static const struct option long_options[] = {
        { "certificate", required_argument, NULL, 'c' },
        { "key", required_argument, NULL, 'k' },
        { "tls-max", required_argument, NULL, 't' },
        { "no-resumption", no_argument, NULL, 'n' },
        { "port", required_argument, NULL, 'p' },
        { NULL, 0, NULL, 0 },
    };
    const char *certificate = NULL, *key = NULL;
    int version_max = TLS1_3_VERSION, c;
    bool resumes = true, is_right = true;
    uint16_t port = 0;

    while ((c = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        switch (c) {
        case 'c':
            certificate = optarg;
            break;
        case 'k':
            key = optarg;
            break;
        case 't':
            is_right = is_right && strcmp(optarg, "1.2") == 0;
            version_max = TLS1_2_VERSION;
            break;
        case 'n':
            resumes = false;
            break;
        case 'p':
            port = (uint16_t)atoi(optarg);
            break;
        default:
            is_right = false;
        }
    }
    if (!is_right || certificate == NULL || key == NULL || optind != argc) {
        fprintf(stderr, "usage: server_secure --certificate FILE --key FILE [--tls-max 1.2] "
                        "[--no-resumption] [--port P]\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_IGN); /* OpenSSL writes without MSG_NOSIGNAL */
    bench_raise_file_limit(1024);
    tls_set_up(certificate, key, version_max, resumes);
    server_run(bench_listen(port));
}
