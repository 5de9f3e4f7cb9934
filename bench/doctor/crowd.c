/* crowd.c: a process of a chosen size for the doctor to look at, which counts what it gets done.
 *
 *     doctor-crowd SOCKETS THREADS [SECONDS [REPORT_MS]]
 *
 * SOCKETS client connections, all idle but 8 that exchange requests without pause on one loop;
 * THREADS sleep on a condition variable. It prints "ready PID EPOLL_FD", then every REPORT_MS (500)
 * one line "done N US AT_MS": the exchanges since the last line, the CPU time that the loop's
 * thread used for them, and when that was (CLOCK_MONOTONIC). The other ends are in a process of
 * their own. It ends after SECONDS (60), or with its parent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CROWD_ACTIVE      8
#define CROWD_REPORT_MS   500
#define CROWD_REPORT_MAX  999
#define CROWD_THREADS_MAX 4000
#define CROWD_SOCKETS_MAX 60000

static const char request[] = "GET / HTTP/1.1\r\nHost: crowd\r\n\r\n";
static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

static _Atomic uint64_t exchange_count;
static int epoll_fd;
static unsigned sockets_wanted;

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "doctor-crowd: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        die("epoll_ctl");
    }
}

/* ---- the server ---- */

static void serve(int listener)
{
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event events[64];
    char bytes[4096];

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    watch(epoll, listener);
    for (;;) {
        int ready = epoll_wait(epoll, events, 64, -1);

        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;

            if (fd == listener) {
                watch(epoll, accept4(listener, NULL, NULL, SOCK_CLOEXEC));
            } else if (read(fd, bytes, sizeof(bytes)) <= 0 ||
                       write(fd, response, sizeof(response) - 1) < 0) {
                close(fd);
            }
        }
    }
}

static uint16_t start_server(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        die("listen");
    }
    if (fork() == 0) {
        serve(listener);
    }
    close(listener);
    return ntohs(address.sin_port);
}

/* ---- the crowd ---- */

static void *run_loop(void *arg)
{
    struct epoll_event events[64];
    char bytes[4096];

    (void)arg;
    for (;;) {
        int ready = epoll_wait(epoll_fd, events, 64, -1);

        for (int i = 0; i < ready; i++) {
            if (read(events[i].data.fd, bytes, sizeof(bytes)) > 0 &&
                write(events[i].data.fd, request, sizeof(request) - 1) > 0) {
                atomic_fetch_add_explicit(&exchange_count, 1, memory_order_relaxed);
            }
        }
    }
    return NULL;
}

static void *sleep_for_ever(void *arg)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

    pthread_mutex_lock(&mutex);
    for (;;) {
        pthread_cond_wait(&never, &mutex);
    }
    return arg;
}

static pthread_t start_thread(void *(*run)(void *arg))
{
    pthread_attr_t attributes;
    pthread_t thread;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * 1024);
    if (pthread_create(&thread, &attributes, run, NULL) != 0) {
        die("pthread_create");
    }
    return thread;
}

static void open_sockets(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

    for (unsigned i = 0; i < sockets_wanted; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
            die("connect");
        }
        watch(epoll_fd, fd);
        if (i < CROWD_ACTIVE && write(fd, request, sizeof(request) - 1) < 0) {
            die("send");
        }
    }
}

static uint64_t clock_us(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static void report(pthread_t loop, unsigned seconds, unsigned every_ms)
{
    uint64_t last = atomic_load(&exchange_count), last_us;
    clockid_t clock;

    if (pthread_getcpuclockid(loop, &clock) != 0) {
        die("pthread_getcpuclockid");
    }
    last_us = clock_us(clock);

    for (unsigned i = 0; i < seconds * 1000 / every_ms; i++) {
        struct timespec pause = { 0, every_ms * 1000000l };
        uint64_t now, now_us;

        nanosleep(&pause, NULL);
        now = atomic_load(&exchange_count);
        now_us = clock_us(clock);
        printf("done %llu %llu %llu\n", (unsigned long long)(now - last),
               (unsigned long long)(now_us - last_us),
               (unsigned long long)clock_us(CLOCK_MONOTONIC) / 1000);
        fflush(stdout);
        last = now;
        last_us = now_us;
    }
}

int main(int argc, char **argv)
{
    unsigned threads = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    unsigned seconds = argc > 3 ? (unsigned)atoi(argv[3]) : 60;
    unsigned report_ms = argc > 4 ? (unsigned)atoi(argv[4]) : CROWD_REPORT_MS;
    struct rlimit files = { 65536, 65536 };
    pthread_t loop;
    uint16_t port;

    sockets_wanted = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    if (argc < 3 || argc > 5 || report_ms == 0 || report_ms > CROWD_REPORT_MAX ||
        sockets_wanted < CROWD_ACTIVE || sockets_wanted > CROWD_SOCKETS_MAX ||
        threads > CROWD_THREADS_MAX) {
        fprintf(stderr, "usage: doctor-crowd SOCKETS THREADS [SECONDS [REPORT_MS]]\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    (void)setrlimit(RLIMIT_NOFILE, &files);
    port = start_server();
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop = start_thread(run_loop);
    open_sockets(port);
    for (unsigned i = 0; i < threads; i++) {
        (void)start_thread(sleep_for_ever); /* they end with the process */
    }
    printf("ready %d %d\n", getpid(), epoll_fd);
    fflush(stdout);
    report(loop, seconds, report_ms);
    return 0;
}
