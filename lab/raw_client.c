/* raw_client.c: the client of the lab server's own tests: sockets, poll, and no library. */
#include "lab/raw_client.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "tests/check.h"

/* ---- what a server leaves behind ---- */

static size_t raw_count_entries(const char *path, bool (*is_counted)(const char *name))
{
    DIR *dir = opendir(path);
    const struct dirent *entry;
    size_t count = 0;

    CHECK(dir != NULL);
    while ((entry = readdir(dir)) != NULL) {
        count += is_counted(entry->d_name);
    }
    CHECK(closedir(dir) == 0);
    return count;
}

static bool raw_is_fd(const char *name)
{
    return name[0] != '.';
}

/* By name, since a sanitizer may start a thread of its own when the first other one starts. */
static bool raw_is_server_thread(const char *name)
{
    char path[300], comm[32];
    bool is_ours;
    FILE *file;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%s/comm", name);
    file = fopen(path, "r");
    if (file == NULL) {
        return false; /* ended since it was listed */
    }
    is_ours = fgets(comm, sizeof(comm), file) != NULL && strcmp(comm, "lab-server\n") == 0;
    (void)fclose(file);
    return is_ours;
}

void raw_census(struct raw_census *ret_census)
{
    struct il_memory_use use;

    il_memory_use(&use);
    *ret_census = (struct raw_census){
        .fd_count = raw_count_entries("/proc/self/fd", raw_is_fd),
        .thread_count = raw_count_entries("/proc/self/task", raw_is_server_thread),
        .live_count = use.live_count,
        .live_bytes = use.live_bytes,
    };
}

void raw_check_nothing_left(const struct raw_census *before)
{
    struct timespec nap = { .tv_nsec = 1000000 };
    uint64_t deadline_ns = raw_soon();
    struct raw_census after;

    raw_census(&after);
    while (after.thread_count != before->thread_count && lab_in_ms(0) < deadline_ns) {
        /* A joined thread may still be listed: the kernel unlinks it a moment later. */
        (void)nanosleep(&nap, NULL);
        raw_census(&after);
    }
    CHECK_EQ(after.thread_count, before->thread_count);
    CHECK_EQ(after.fd_count, before->fd_count);
    CHECK_EQ(after.live_count, before->live_count);
    CHECK_EQ(after.live_bytes, before->live_bytes);
}

static struct raw_census raw_before_start;

struct lab_server *raw_server_start(const struct lab_server_options *options)
{
    struct lab_server *server;
    struct il_error err;

    raw_census(&raw_before_start);
    CHECK_OK(lab_server_start(options, &server, &err));
    return server;
}

void raw_server_stop(struct lab_server *server)
{
    struct lab_server_counters c;

    lab_server_counters(server, &c);
    CHECK_EQ(c.accepted_count, c.closed_count + c.open_count);
    CHECK_EQ(c.open_count,
             c.idle_count + c.receiving_count + c.answering_count + c.lingering_count);
    CHECK(c.request_count >= c.answered_count + c.dropped_count + c.abandoned_count);
    CHECK(c.request_count <= c.answered_count + c.dropped_count + c.abandoned_count +
                                 c.answering_count + c.receiving_count);
    lab_server_stop(server);
    raw_check_nothing_left(&raw_before_start);
}

void raw_need_fds(size_t count)
{
    struct rlimit limit;

    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (limit.rlim_cur >= count) {
        return;
    }
    if (limit.rlim_max < count) {
        check_skip("not enough file descriptors allowed");
    }
    limit.rlim_cur = count;
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

uint64_t raw_soon(void)
{
    return lab_in_ms(RAW_DEADLINE_MS);
}

/* ---- the client ---- */

static void raw_wait(const struct raw *raw, short events, const char *what)
{
    struct pollfd poller = { .fd = raw->fd, .events = events };
    int count;

    do {
        count = poll(&poller, 1, RAW_DEADLINE_MS);
    } while (count < 0 && errno == EINTR);
    if (count != 1) {
        check_fail(__FILE__, __LINE__, "waited %d ms for %s; read so far: \"%s\"", RAW_DEADLINE_MS,
                   what, raw->in);
    }
}

static struct raw *raw_connect(uint16_t port)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port) };
    struct raw *raw = calloc(1, sizeof(*raw));
    int on = 1;

    CHECK(raw != NULL);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    raw->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    CHECK(raw->fd >= 0);
    CHECK(setsockopt(raw->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == 0);
    CHECK(connect(raw->fd, (struct sockaddr *)&to, sizeof(to)) == 0 || errno == EINPROGRESS);
    return raw;
}

bool raw_is_connected(const struct raw *raw)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);

    CHECK(getsockopt(raw->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return info.tcpi_state == TCP_ESTABLISHED;
}

void raw_wait_connected(struct raw *raw)
{
    raw_wait(raw, POLLOUT, "the connection to be established");
    CHECK(raw_is_connected(raw));
}

struct raw *raw_open_stalling(struct lab_server *server)
{
    return raw_connect(lab_server_port(server));
}

struct raw *raw_open_port(uint16_t port)
{
    struct raw *raw = raw_connect(port);

    raw_wait_connected(raw);
    return raw;
}

struct raw *raw_open(struct lab_server *server)
{
    return raw_open_port(lab_server_port(server));
}

void raw_close(struct raw *raw)
{
    CHECK(close(raw->fd) == 0);
    free(raw);
}

void raw_reset(struct raw *raw)
{
    struct linger reset = { .l_onoff = 1 };

    CHECK(setsockopt(raw->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
    raw_close(raw);
}

uint16_t raw_port(const struct raw *raw)
{
    struct sockaddr_in own;
    socklen_t size = sizeof(own);

    CHECK(getsockname(raw->fd, (struct sockaddr *)&own, &size) == 0);
    return ntohs(own.sin_port);
}

size_t raw_send_some(struct raw *raw, const void *data, size_t size)
{
    ssize_t sent = send(raw->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);

    CHECK(sent >= 0 || errno == EAGAIN);
    return sent < 0 ? 0 : (size_t)sent;
}

void raw_send_bytes(struct raw *raw, const void *data, size_t size)
{
    const char *at = data;

    while (size > 0) {
        size_t sent;

        raw_wait(raw, POLLOUT, "room to send");
        sent = raw_send_some(raw, at, size);
        at += sent;
        size -= sent;
    }
}

void raw_send(struct raw *raw, const char *text)
{
    raw_send_bytes(raw, text, strlen(text));
}

bool raw_read(struct raw *raw)
{
    ssize_t size;

    if (raw->end != RAW_OPEN) {
        return false;
    }
    CHECK(raw->in_size < RAW_IN_SIZE);
    raw_wait(raw, POLLIN, "the server");
    size = recv(raw->fd, raw->in + raw->in_size, RAW_IN_SIZE - raw->in_size, 0);
    if (size <= 0) {
        CHECK(size == 0 || errno == ECONNRESET);
        raw->end = size == 0 ? RAW_FIN : RAW_RST;
        return false;
    }
    raw->read_count++;
    raw->in_size += (size_t)size;
    raw->in[raw->in_size] = '\0';
    return true;
}

static char *raw_find(struct raw *raw, const char *text)
{
    return memmem(raw->in, raw->in_size, text, strlen(text));
}

void raw_read_until(struct raw *raw, const char *text)
{
    while (raw_find(raw, text) == NULL) {
        if (!raw_read(raw)) {
            check_fail(__FILE__, __LINE__, "the server closed before it sent \"%s\", after \"%s\"",
                       text, raw->in);
        }
    }
}

enum raw_end raw_read_to_end(struct raw *raw)
{
    while (raw_read(raw)) {
    }
    return raw->end;
}

bool raw_is_quiet(const struct raw *raw)
{
    struct pollfd poller = { .fd = raw->fd, .events = POLLIN };

    return poll(&poller, 1, 0) == 0;
}

/* Take `size` bytes from the front of raw->in. */
static void raw_take(struct raw *raw, size_t size)
{
    CHECK(size <= raw->in_size);
    memmove(raw->in, raw->in + size, raw->in_size - size);
    raw->in_size -= size;
    raw->in[raw->in_size] = '\0';
}

static void raw_take_body(struct raw *raw, struct raw_answer *answer, size_t size)
{
    while (size > 0) {
        size_t part, room = sizeof(answer->body) - 1;

        if (raw->in_size == 0 && !raw_read(raw)) {
            check_fail(__FILE__, __LINE__, "the server closed %zu bytes before the body's end",
                       size);
        }
        part = raw->in_size < size ? raw->in_size : size;
        if (answer->body_size < room) {
            size_t kept = part < room - answer->body_size ? part : room - answer->body_size;

            memcpy(answer->body + answer->body_size, raw->in, kept);
        }
        answer->body_size += part;
        raw_take(raw, part);
        size -= part;
    }
}

static void raw_take_chunks(struct raw *raw, struct raw_answer *answer)
{
    for (;;) {
        size_t size;
        char *end;

        raw_read_until(raw, "\r\n");
        size = strtoul(raw->in, &end, 16);
        CHECK(end > raw->in);
        raw_take(raw, (size_t)(raw_find(raw, "\r\n") - raw->in) + 2);
        if (size == 0) {
            break;
        }
        raw_take_body(raw, answer, size);
        raw_read_until(raw, "\r\n");
        CHECK(memcmp(raw->in, "\r\n", 2) == 0);
        raw_take(raw, 2);
    }
    do { /* trailers, up to the empty line */
        raw_read_until(raw, "\r\n");
        if (memcmp(raw->in, "\r\n", 2) == 0) {
            break;
        }
        raw_take(raw, (size_t)(raw_find(raw, "\r\n") - raw->in) + 2);
    } while (true);
    raw_take(raw, 2);
}

static void raw_take_head(struct raw *raw, struct raw_answer *answer)
{
    size_t size;

    raw_read_until(raw, "\r\n\r\n");
    size = (size_t)(raw_find(raw, "\r\n\r\n") - raw->in) + 4;
    CHECK(size < sizeof(answer->head));
    memcpy(answer->head, raw->in, size);
    answer->head[size] = '\0';
    raw_take(raw, size);
    CHECK(sscanf(answer->head, "HTTP/1.%*1[01] %d", &answer->status) == 1);
}

void raw_read_answer(struct raw *raw, bool is_head, struct raw_answer *ret_answer)
{
    struct raw_answer *answer = ret_answer;
    char value[64];
    bool is_without_body;

    memset(answer, 0, sizeof(*answer));
    raw_take_head(raw, answer);
    while (answer->status < 200) {
        answer->informational_count++;
        raw_take_head(raw, answer);
    }
    is_without_body = is_head || answer->status == 204 || answer->status == 304;
    if (is_without_body) {
        return;
    }
    if (raw_header(answer, "Transfer-Encoding", value, sizeof(value)) != NULL) {
        raw_take_chunks(raw, answer);
    } else if (raw_header(answer, "Content-Length", value, sizeof(value)) != NULL) {
        raw_take_body(raw, answer, strtoul(value, NULL, 10));
    } else {
        while (raw->in_size > 0 || raw_read(raw)) {
            raw_take_body(raw, answer, raw->in_size);
        }
    }
}

void raw_get(struct raw *raw, const char *target, struct raw_answer *ret_answer)
{
    raw_send(raw, "GET ");
    raw_send(raw, target);
    raw_send(raw, " HTTP/1.1\r\nHost: lab\r\n\r\n");
    raw_read_answer(raw, false, ret_answer);
}

const char *raw_header(const struct raw_answer *answer, const char *name, char *buffer, size_t size)
{
    size_t length = strlen(name);

    for (const char *line = strstr(answer->head, "\r\n"); line != NULL;
         line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && strncmp(line + length, ": ", 2) == 0) {
            const char *value = line + length + 2;

            (void)snprintf(buffer, size, "%.*s", (int)strcspn(value, "\r"), value);
            return buffer;
        }
    }
    return NULL;
}

uint64_t raw_header_number(const struct raw_answer *answer, const char *name)
{
    char value[64];

    if (raw_header(answer, name, value, sizeof(value)) == NULL) {
        check_fail(__FILE__, __LINE__, "no header %s in \"%s\"", name, answer->head);
    }
    return strtoull(value, NULL, 10);
}
