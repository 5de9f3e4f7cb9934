/* uring_peer.c: a client on a real io_uring, hung in the ways the doctor must name, and healthy
 * twins.
 *
 * usage: doctor-peer-uring CASE PORT. Prints "ready PID" when the scene stands. The ring reads the
 * answer into the program's buffer, so what hangs lies in the completion queue and not in the
 * socket. */
#include <arpa/inet.h>
#include <liburing.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static const char request[] = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
static struct io_uring ring;
static int connection;
static char answer[4096];

static void must(bool is_true, const char *what)
{
    if (!is_true) {
        perror(what);
        exit(1);
    }
}

static void ready(void)
{
    printf("ready %d\n", getpid());
    fflush(stdout);
}

__attribute__((noinline)) static void user_code_blocks(unsigned ms)
{
    struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&pause, NULL);
    __asm__ volatile(""); /* no tail call: the name is looked for on the stack */
}

static void open_connection(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    connection = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    must(connect(connection, (struct sockaddr *)&address, sizeof(address)) == 0, "connect");
}

/* Send a request, and have the ring receive the answer. */
static void ask(void)
{
    struct io_uring_sqe *entry;

    must(write(connection, request, sizeof(request) - 1) == sizeof(request) - 1, "write");
    entry = io_uring_get_sqe(&ring);
    io_uring_prep_recv(entry, connection, answer, sizeof(answer), 0);
    must(io_uring_submit(&ring) == 1, "io_uring_submit");
}

static void take_answer(void)
{
    struct io_uring_cqe *entry;

    must(io_uring_wait_cqe(&ring, &entry) == 0 && entry->res > 0, "io_uring_wait_cqe");
    io_uring_cqe_seen(&ring, entry);
}

/* ---- scenes ---- */

static void parked(void)
{
    ask();
    take_answer();
    ask();
    while (io_uring_cq_ready(&ring) == 0) {
        user_code_blocks(1);
    }
    ready();
    user_code_blocks(3600000);
}

static void parked_ok(void)
{
    ask();
    take_answer();
    ready();
    for (;;) {
        ask();
        take_answer();
        user_code_blocks(50);
    }
}

static void one_request(void)
{
    ask();
    ready();
    take_answer();
}

static void busy(void)
{
    ready();
    for (;;) {
        ask();
        take_answer();
    }
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenes[] = {
        { "parked", parked },
        { "parked-ok", parked_ok },
        { "one-request", one_request },
        { "busy", busy },
    };

    if (argc == 3) {
        if (io_uring_queue_init(8, &ring, 0) != 0) {
            printf("skip: the kernel refuses io_uring\n");
            return 77;
        }
        open_connection((uint16_t)atoi(argv[2]));
        for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
            if (strcmp(argv[1], scenes[i].name) == 0) {
                scenes[i].run();
            }
        }
    }
    fprintf(stderr, "usage: doctor-peer-uring CASE PORT\n");
    return 2;
}
