/* floor_h2.c: the least that C streams at a time on one HTTP/2 connection can cost, in clear or in
 * TLS: canned frames go out, all that are due with one write, and what comes is only looked through
 * for the ends of answers. It decodes no headers; the window that it opens at the start is all that
 * it ever gives. Threads: one. */
#include "common.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define WINDOW_MAX   0x7fffffffu
#define FRAME_HEAD   9
#define HEADERS_MAX  256
#define ALPN         "\x02h2"
#define ALPN_SIZE    3
#define USER_AGENT   "bench"
#define REQUEST_ROOM (HEADERS_MAX + FRAME_HEAD)

enum { FRAME_DATA = 0, FRAME_HEADERS = 1, FRAME_SETTINGS = 4, FRAME_WINDOW_UPDATE = 8 };
enum { FLAG_END_STREAM = 1, FLAG_ACK = 1, FLAG_END_HEADERS = 4 };

static struct bench_options options;
static struct bench_plan plan;
static int fd;
static SSL *ssl; /* NULL: in clear */
static char *output;
static size_t output_size;
static char input[BENCH_BUFFER_SIZE];
static size_t input_size; /* of which a part of a frame is left over */
static uint32_t next_id = 1;

static void fail(const char *what)
{
    if (ssl != NULL) {
        errno = 0;
        ERR_print_errors_fp(stderr);
    }
    bench_fail(what);
}

/* ---- out ---- */

static void put(const void *bytes, size_t size)
{
    memcpy(output + output_size, bytes, size);
    output_size += size;
}

static void put_frame(size_t size, int type, int flags, uint32_t id, const void *payload)
{
    uint8_t head[FRAME_HEAD] = { 0,
                                 (uint8_t)(size >> 8),
                                 (uint8_t)size,
                                 (uint8_t)type,
                                 (uint8_t)flags,
                                 (uint8_t)(id >> 24),
                                 (uint8_t)(id >> 16),
                                 (uint8_t)(id >> 8),
                                 (uint8_t)id };

    put(head, sizeof(head));
    if (size > 0) {
        put(payload, size);
    }
}

/* A literal field, put into the table under the name that stands there as `name`. */
static size_t put_field(char *at, int name, const char *value)
{
    size_t size = strlen(value);

    if (size > 100) {
        errno = 0;
        bench_fail("the path is too long");
    }
    at[0] = (char)(0x40 | name);
    at[1] = (char)size;
    memcpy(at + 2, value, size);
    return size + 2;
}

/* The first request puts its fields into the table, from 62 on backwards; others name them. */
static void put_request(void)
{
    char scheme = (char)(options.ca_file != NULL ? 0x87 : 0x86);
    char first[HEADERS_MAX] = { (char)0x82, scheme }; /* :method GET, and the scheme */
    char later[] = { (char)0x82, scheme, (char)0xc0, (char)0xbf, (char)0xbe };
    const char *head = later;
    size_t size = sizeof(later);

    if (next_id == 1) {
        char authority[32];

        snprintf(authority, sizeof(authority), "127.0.0.1:%u", options.port);
        size = 2;
        size += put_field(first + size, 1, authority);
        size += put_field(first + size, 4, options.path);
        size += put_field(first + size, 58, USER_AGENT);
        head = first;
    }
    put_frame(size, FRAME_HEADERS, FLAG_END_STREAM | FLAG_END_HEADERS, next_id, head);
    next_id += 2;
}

static void start_due(uint64_t count)
{
    uint64_t due_ns;

    while (count-- > 0 && plan_next(&plan, &due_ns)) {
        put_request();
    }
}

/* All of it fits into the socket's buffer. */
static void flush(void)
{
    ssize_t sent = ssl != NULL ? SSL_write(ssl, output, (int)output_size)
                               : send(fd, output, output_size, MSG_NOSIGNAL);

    if (sent != (ssize_t)output_size) {
        fail("send");
    }
    output_size = 0;
}

/* ---- in ---- */

/* Look through what has come; returns how many answers ended. */
static uint64_t scan(void)
{
    const uint8_t *at = (const uint8_t *)input;
    const uint8_t *end = at + input_size;
    uint64_t count = 0;

    while (end - at >= FRAME_HEAD) {
        size_t size = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];

        if ((size_t)(end - at) < FRAME_HEAD + size) {
            break;
        }
        if (at[3] == FRAME_DATA && (at[4] & FLAG_END_STREAM)) {
            plan_complete(&plan, 0, size);
            count++;
        } else if (at[3] == FRAME_SETTINGS && !(at[4] & FLAG_ACK)) {
            put_frame(0, FRAME_SETTINGS, FLAG_ACK, 0, NULL);
        }
        at += FRAME_HEAD + size;
    }
    input_size = (size_t)(end - at);
    memmove(input, at, input_size);
    return count;
}

/* False: nothing has come. */
static bool receive(void)
{
    char *at = input + input_size;
    size_t room = sizeof(input) - input_size;
    ssize_t got = ssl != NULL ? SSL_read(ssl, at, (int)room) : recv(fd, at, room, 0);

    if (got > 0) {
        input_size += (size_t)got;
        return true;
    }
    if (ssl != NULL ? SSL_get_error(ssl, (int)got) != SSL_ERROR_WANT_READ : errno != EAGAIN) {
        fail("receive");
    }
    return false;
}

/* ---- setting up ---- */

static void shake_hands(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());

    if (context == NULL || SSL_CTX_load_verify_file(context, options.ca_file) != 1 ||
        SSL_CTX_set_alpn_protos(context, (const unsigned char *)ALPN, ALPN_SIZE) != 0) {
        fail("set up TLS");
    }
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_read_ahead(context, 1); /* a record with one system call */
    ssl = SSL_new(context);
    if (ssl == NULL || SSL_set_fd(ssl, fd) != 1 ||
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), "127.0.0.1") != 1 ||
        SSL_connect(ssl) != 1) {
        fail("shake hands");
    }
    SSL_CTX_free(context);
}

static void set_up(void)
{
    static const uint32_t more = WINDOW_MAX - 65535;
    const uint8_t update[] = { (uint8_t)(more >> 24), (uint8_t)(more >> 16), (uint8_t)(more >> 8),
                               (uint8_t)more };

    output = malloc((options.connections + 4) * REQUEST_ROOM);
    if (output == NULL) {
        bench_fail("set up");
    }
    fd = bench_connect(options.port);
    if (options.ca_file != NULL) {
        shake_hands();
    }
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) {
        bench_fail("set up the connection");
    }
    put("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24);
    put_frame(0, FRAME_SETTINGS, 0, 0, NULL);
    put_frame(sizeof(update), FRAME_WINDOW_UPDATE, 0, 0, update);
}

int main(int argc, char **argv)
{
    struct epoll_event event = { .events = EPOLLIN };
    int epoll_fd;

    bench_parse(&options, argc, argv);
    set_up();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        bench_fail("make the epoll set");
    }
    plan_init(&plan, &options);
    start_due(options.connections);
    flush();
    while (!plan_is_complete(&plan)) {
        (void)epoll_wait(epoll_fd, &event, 1, -1);
        while (receive()) {
            start_due(scan());
        }
        if (output_size > 0) {
            flush();
        }
    }
    plan_print(&plan);
    SSL_free(ssl);
    free(output);
    return 0;
}
