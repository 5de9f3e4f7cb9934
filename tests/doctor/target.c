/* target.c: `doctor-target CASE` stands in one scene until killed; prints "ready PID" when it is
 * set.
 *
 * Owns: the server processes; they die with it. Ends: by signal, or with its parent. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/doctor/target.h"

#define TARGET_CLOSE_WAIT 8 /* as netinet/tcp.h, which does not go together with linux/tcp.h */

static const char request[] = "GET /secret?token=hidden HTTP/1.1\r\nHost: localhost\r\n\r\n";
static const char response[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

void target_die(const char *what)
{
    fprintf(stderr, "doctor-target: %s: %s\n", what, strerror(errno));
    exit(1);
}

uint64_t target_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void target_sleep_ms(uint64_t ms)
{
    struct timespec pause = { (time_t)(ms / 1000), (long)(ms % 1000) * 1000000 };

    while (nanosleep(&pause, &pause) != 0 && errno == EINTR) {
        /* the rest of it */
    }
}

/* ---- the server ---- */

struct server_conn {
    int fd;
    enum server_manner manner;
};

static void flood(int fd)
{
    static char block[65536];

    (void)!write(fd, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", 48);
    while (send(fd, block, sizeof(block), MSG_NOSIGNAL) > 0) {
        /* until the client is gone */
    }
}

/* What the first bytes of an answer look like, with nothing sensible behind them. */
static void send_binary(const struct server_conn *conn)
{
    unsigned char tls[5 + 200] = { 0x17, 3, 3, 0, 200 };          /* application data */
    unsigned char http2[9 + 20] = { 0, 0, 20, 1, 4, 0, 0, 0, 1 }; /* HEADERS on stream 1 */

    if (conn->manner == SERVER_TLS) {
        (void)!send(conn->fd, tls, sizeof(tls), MSG_NOSIGNAL);
    } else {
        (void)!send(conn->fd, http2, sizeof(http2), MSG_NOSIGNAL);
    }
}

static bool tells_when_asked; /* set before any server runs */

static void *serve(void *arg)
{
    struct server_conn conn = *(struct server_conn *)arg;
    char bytes[4096];
    uint32_t count = 0;

    free(arg);
    if (conn.manner == SERVER_DEAF) {
        pause();
    }
    while (read(conn.fd, bytes, sizeof(bytes)) > 0) {
        if (conn.manner == SERVER_SILENT && tells_when_asked) {
            puts("asked");
            fflush(stdout);
        }
        if (conn.manner == SERVER_FLOODS) {
            flood(conn.fd);
            continue;
        }
        if (conn.manner == SERVER_SLOW) {
            target_sleep_ms(200);
        }
        if (conn.manner == SERVER_TLS || conn.manner == SERVER_HTTP2) {
            send_binary(&conn);
            continue;
        }
        if (conn.manner != SERVER_SILENT && (conn.manner != SERVER_ONCE || count == 0)) {
            (void)!send(conn.fd, response, sizeof(response) - 1, MSG_NOSIGNAL);
        }
        if (conn.manner == SERVER_CLOSES) {
            target_sleep_ms(50);
            break;
        }
        count++;
    }
    close(conn.fd);
    return NULL;
}

/* A backlog of 0 has room for one connection; once that is there SYNs are dropped. */
static void fill_queue(const struct sockaddr_in *address)
{
    struct pollfd first = { .events = POLLOUT };

    for (int i = 0; i < 3; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

        (void)connect(fd, (const struct sockaddr *)address, sizeof(*address));
        if (i == 0) {
            first.fd = fd;
            (void)poll(&first, 1, -1);
        }
    }
}

static void run_server(int listener, const struct sockaddr_in *address, enum server_manner manner)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (manner == SERVER_FULL) {
        pause();
    }
    for (;;) {
        struct server_conn *conn = malloc(sizeof(*conn));
        pthread_t thread;

        conn->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        conn->manner = manner;
        if (conn->fd < 0 || pthread_create(&thread, NULL, serve, conn) != 0) {
            _exit(1);
        }
        pthread_detach(thread);
    }
}

uint16_t target_server(enum server_manner manner)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int ends[2];
    char byte;

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, manner == SERVER_FULL ? 0 : 128) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        target_die("listen");
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        target_die("pipe");
    }
    switch (fork()) {
    case -1:
        target_die("fork");
    case 0:
        if (manner == SERVER_FULL) {
            fill_queue(&address);
        }
        (void)!write(ends[1], "x", 1);
        run_server(listener, &address, manner);
        _exit(0);
    default:
        break;
    }
    (void)!read(ends[0], &byte, 1); /* it is up, and its queue is full if it is to be */
    close(ends[0]);
    close(ends[1]);
    close(listener);
    return ntohs(address.sin_port);
}

/* ---- the client side ---- */

int target_connect(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        fcntl(fd, F_SETFL, O_NONBLOCK) != 0) {
        target_die("connect");
    }
    return fd;
}

void target_send_request(int fd)
{
    if (write(fd, request, sizeof(request) - 1) != (ssize_t)sizeof(request) - 1) {
        target_die("send a request");
    }
}

bool target_read_response(int fd)
{
    char bytes[4096];

    return read(fd, bytes, sizeof(bytes)) > 0;
}

void target_wait_unread(int fd)
{
    int count = 0;

    while (ioctl(fd, FIONREAD, &count) == 0 && count == 0) {
        target_sleep_ms(1);
    }
}

/* How often other threads have been given a CPU, how many there are, and how many sleep now. */
static void count_turns(uint64_t *ret_turns, unsigned *ret_threads, unsigned *ret_asleep)
{
    DIR *directory = opendir("/proc/self/task");
    struct dirent *entry;

    *ret_turns = 0;
    *ret_threads = 0;
    *ret_asleep = 0;
    if (directory == NULL) {
        target_die("opendir");
    }
    while ((entry = readdir(directory)) != NULL) {
        unsigned long long run_ns, wait_ns, turns;
        char path[300], state = '?';
        FILE *file;

        snprintf(path, sizeof(path), "/proc/self/task/%s/schedstat", entry->d_name);
        if (entry->d_name[0] == '.' || atoi(entry->d_name) == gettid() ||
            (file = fopen(path, "r")) == NULL) {
            continue;
        }
        if (fscanf(file, "%llu %llu %llu", &run_ns, &wait_ns, &turns) == 3) {
            *ret_turns += turns;
        }
        fclose(file);
        snprintf(path, sizeof(path), "/proc/self/task/%s/stat", entry->d_name);
        file = fopen(path, "r");
        if (file != NULL && fscanf(file, "%*d %*s %c", &state) == 1) {
            *ret_asleep += state == 'S';
        }
        if (file != NULL) {
            fclose(file);
        }
        ++*ret_threads;
    }
    closedir(directory);
}

void target_wait_still(void)
{
    uint64_t turns = 0, before;
    unsigned still_count = 0, threads, asleep;

    while (still_count < 10) {
        before = turns;
        target_sleep_ms(10);
        count_turns(&turns, &threads, &asleep);
        still_count = turns == before && asleep == threads ? still_count + 1 : 0;
    }
}

/* Until bytes have come and all of them have been read. */
void target_wait_read(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);
    int count = 1;

    while (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
           info.tcpi_bytes_received == 0 || ioctl(fd, FIONREAD, &count) != 0 || count > 0) {
        target_sleep_ms(1);
    }
}

/* Until so much lies unread that no more comes. */
void target_wait_full(int fd)
{
    unsigned still_count = 0;
    int count = 0, before;

    while (still_count < 50) {
        before = count;
        target_sleep_ms(10);
        still_count =
            ioctl(fd, FIONREAD, &count) == 0 && count > 0 && count == before ? still_count + 1 : 0;
    }
}

/* Until what was sent has been sent again. */
void target_wait_retransmit(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    do {
        target_sleep_ms(1);
    } while (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 ||
             info.tcpi_retransmits == 0);
}

void target_wait_closed(int fd)
{
    struct tcp_info info;
    socklen_t length = sizeof(info);

    do {
        target_sleep_ms(1);
    } while (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 &&
             info.tcpi_state != TARGET_CLOSE_WAIT);
}

int target_epoll(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    if (fd < 0) {
        target_die("epoll_create1");
    }
    return fd;
}

void target_watch(int epoll, int fd, uint32_t events)
{
    struct epoll_event event = { .events = events, .data.u64 = 0x5ca1ab1e00000000u + (uint32_t)fd };

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        target_die("epoll_ctl");
    }
}

void target_thread(void *(*run)(void *arg), void *arg, const char *name)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, run, arg) != 0) {
        target_die("pthread_create");
    }
    pthread_setname_np(thread, name);
}

void target_ready(void)
{
    printf("ready %d\n", getpid());
    fflush(stdout);
}

void target_stand(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

    pthread_mutex_lock(&mutex);
    for (;;) {
        pthread_cond_wait(&never, &mutex);
    }
}

static bool run_case(const struct target_case *cases, const char *name)
{
    for (; cases->name != NULL; cases++) {
        if (strcmp(cases->name, name) == 0) {
            cases->run();
            target_stand();
        }
    }
    return false;
}

/* `doctor-target serve MANNER`: the server alone, for programs that are not ours. */
static int serve_alone(const char *name)
{
    static const struct {
        const char *name;
        enum server_manner manner;
    } manners[] = { { "answers", SERVER_ANSWERS }, { "silent", SERVER_SILENT },
                    { "slow", SERVER_SLOW },       { "once", SERVER_ONCE },
                    { "closes", SERVER_CLOSES },   { "floods", SERVER_FLOODS } };

    for (size_t i = 0; i < sizeof(manners) / sizeof(manners[0]); i++) {
        if (strcmp(manners[i].name, name) == 0) {
            tells_when_asked = true;
            printf("port %d\n", target_server(manners[i].manner));
            fflush(stdout);
            target_stand();
        }
    }
    fprintf(stderr, "doctor-target: no server is called %s\n", name);
    return 2;
}

int main(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        return serve_alone(argv[2]);
    }
    if (argc != 2 || (!run_case(loop_cases, argv[1]) && !run_case(socket_cases, argv[1]) &&
                      !run_case(thread_cases, argv[1]) && !run_case(process_cases, argv[1]))) {
        fprintf(stderr, "usage: doctor-target CASE\n");
        return 2;
    }
    return 0;
}
