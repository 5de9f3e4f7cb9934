/* floor_blocking.c: the least that one request after another can cost: send, receive until the end.
 *
 * No client can do with fewer system calls. It learns from the first answer how long an answer is,
 * and then only counts bytes. Also the floor for large bodies, down (/bytes/N) and up (--upload).
 *
 * Threads: one. */
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static char buffer[BENCH_BUFFER_SIZE];
static const char zeros[BENCH_UPLOAD_SIZE];

static void send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);

        if (sent < 0) {
            bench_fail("send");
        }
        data += sent;
        size -= (size_t)sent;
    }
}

static size_t receive_some(int fd)
{
    ssize_t received = recv(fd, buffer, sizeof(buffer), 0);

    if (received <= 0) {
        errno = received == 0 ? ECONNRESET : errno;
        bench_fail("receive");
    }
    return (size_t)received;
}

static void send_request(int fd, const char *request, size_t request_size, uint64_t upload_bytes)
{
    uint64_t left = upload_bytes;

    send_all(fd, request, request_size);
    while (left > 0) {
        size_t size = left < sizeof(zeros) ? (size_t)left : sizeof(zeros);

        send_all(fd, zeros, size);
        left -= size;
    }
}

/* The first answer tells how long the head and the body are; they are the same in all the others.
 */
static void learn_sizes(int fd, size_t *ret_head_size, uint64_t *ret_body_size)
{
    size_t size = receive_some(fd);
    const char *end = memmem(buffer, size, "\r\n\r\n", 4);
    const char *length = memmem(buffer, size, "Content-Length: ", 16);

    if (end == NULL || length == NULL) {
        errno = 0;
        bench_fail("the first answer has no Content-Length");
    }
    *ret_head_size = (size_t)(end - buffer) + 4;
    *ret_body_size = strtoull(length + 16, NULL, 10);
    for (uint64_t left = *ret_head_size + *ret_body_size - size; left > 0;) {
        left -= receive_some(fd);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options;
    struct bench_plan plan;
    const char *request;
    size_t request_size, head_size = 0;
    uint64_t body_size = 0, due_ns;
    int fd = -1;

    bench_parse(&options, argc, argv);
    request = bench_request_head(&options, &request_size);
    plan_init(&plan, &options);
    while (plan_wait_next(&plan, &due_ns)) {
        fd = fd < 0 ? bench_connect(options.port) : fd;
        send_request(fd, request, request_size, options.upload_bytes);
        if (head_size == 0) {
            learn_sizes(fd, &head_size, &body_size);
        } else {
            for (uint64_t left = head_size + body_size; left > 0;) {
                left -= receive_some(fd);
            }
        }
        if (options.is_close) {
            close(fd);
            fd = -1;
        }
        plan_complete(&plan, due_ns, body_size);
    }
    plan_print(&plan);
    return 0;
}
