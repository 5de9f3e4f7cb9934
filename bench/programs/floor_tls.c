/* floor_tls.c: the least that C requests at a time over HTTPS can cost: as floor_epoll.c, through
 * OpenSSL on non-blocking sockets. Connections are kept unless the path is /close; a new one
 * resumes the session of the last if the server has given a ticket. The server's certificate is
 * checked, its name too. Threads: one. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256

/* One place for a request in flight, with the connection that it uses. */
struct slot {
    int fd;
    SSL *ssl; /* NULL until first used; and between requests to /close */
    uint64_t due_ns;
};

static struct bench_options options;
static struct bench_plan plan;
static SSL_CTX *context;
static SSL_SESSION *session; /* the last that the server gave us; NULL: none */
static int epoll_fd;
static const char *request;
static size_t request_size;
static char buffer[BENCH_BUFFER_SIZE];

static int take_session(SSL *ssl, SSL_SESSION *fresh)
{
    (void)ssl;
    SSL_SESSION_free(session);
    session = fresh;
    return 1; /* it is ours now */
}

static void fail_tls(const char *what)
{
    errno = 0;
    ERR_print_errors_fp(stderr);
    bench_fail(what);
}

static void slot_open(struct slot *slot)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = slot };

    slot->fd = bench_connect(options.port);
    slot->ssl = SSL_new(context);
    if (slot->ssl == NULL || fcntl(slot->fd, F_SETFL, O_NONBLOCK) < 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, slot->fd, &event) < 0) {
        bench_fail("set up a connection");
    }
    if (SSL_set_fd(slot->ssl, slot->fd) != 1 ||
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(slot->ssl), "127.0.0.1") != 1 ||
        (session != NULL && SSL_set_session(slot->ssl, session) != 1)) {
        fail_tls("set up TLS");
    }
    SSL_set_connect_state(slot->ssl);
}

static void slot_close(struct slot *slot)
{
    (void)SSL_shutdown(slot->ssl); /* so that the session stays good */
    SSL_free(slot->ssl);
    ERR_clear_error();
    close(slot->fd); /* which also takes it out of the epoll set */
    slot->ssl = NULL;
}

/* OpenSSL could not go on: because nothing has come yet, and nothing else is to be. */
static void slot_check_waiting(const struct slot *slot, int result, const char *what)
{
    if (SSL_get_error(slot->ssl, result) != SSL_ERROR_WANT_READ) {
        fail_tls(what);
    }
}

/* Small requests fit into any socket buffer. */
static void slot_send(struct slot *slot)
{
    if (SSL_write(slot->ssl, request, (int)request_size) != (int)request_size) {
        fail_tls("send");
    }
}

/* Go on with the handshake; with its end the request goes out. */
static void slot_shake_hands(struct slot *slot)
{
    int result = SSL_do_handshake(slot->ssl);

    if (result == 1) {
        slot_send(slot);
    } else {
        slot_check_waiting(slot, result, "shake hands");
    }
}

static void slot_start(struct slot *slot)
{
    if (!plan_next(&plan, &slot->due_ns)) {
        return;
    }
    if (slot->ssl != NULL) {
        slot_send(slot);
    } else {
        slot_open(slot);
        slot_shake_hands(slot);
    }
}

/* The server sends its small answers in one piece. */
static void slot_on_answer(struct slot *slot, size_t received)
{
    const char *end = memmem(buffer, received, "\r\n\r\n", 4);
    const char *length = memmem(buffer, received, "Content-Length: ", 16);
    size_t body_size = length == NULL ? 0 : strtoull(length + 16, NULL, 10);

    errno = 0;
    if (end == NULL || (size_t)(end + 4 - buffer) + body_size != received) {
        bench_fail("an answer came in parts");
    }
    plan_complete(&plan, slot->due_ns, body_size);
    if (options.is_close) {
        slot_close(slot);
    }
    slot_start(slot);
}

static void slot_on_readable(struct slot *slot)
{
    int result;

    ERR_clear_error();
    if (!SSL_is_init_finished(slot->ssl)) {
        slot_shake_hands(slot);
        return; /* the answer, or what comes before it, is an event of its own */
    }
    result = SSL_read(slot->ssl, buffer, sizeof(buffer));
    if (result > 0) {
        slot_on_answer(slot, (size_t)result);
    } else {
        slot_check_waiting(slot, result, "receive");
    }
}

static void set_up(void)
{
    context = SSL_CTX_new(TLS_client_method());
    if (context == NULL || SSL_CTX_load_verify_file(context, options.ca_file) != 1) {
        fail_tls("read the certificate to trust");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_read_ahead(context, 1); /* a record with one system call */
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_session_cache_mode(context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
    SSL_CTX_sess_set_new_cb(context, take_session);
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX];
    struct slot *slots;

    bench_parse(&options, argc, argv);
    request = bench_request_head(&options, &request_size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    slots = calloc(options.connections, sizeof(*slots));
    if (epoll_fd < 0 || slots == NULL || options.ca_file == NULL) {
        bench_fail("set up: --tls names whom to trust");
    }
    signal(SIGPIPE, SIG_IGN);
    set_up();
    plan_init(&plan, &options);
    for (uint64_t i = 0; i < options.connections; i++) {
        slot_start(&slots[i]);
    }
    while (!plan_is_complete(&plan)) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

        for (int i = 0; i < count; i++) {
            slot_on_readable(events[i].data.ptr);
        }
    }
    plan_print(&plan);
    SSL_SESSION_free(session);
    SSL_CTX_free(context);
    free(slots);
    return 0;
}
