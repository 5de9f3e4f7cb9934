/* target_loops.c: scenes around event loops: parked, busy, waiting for itself, and their twins. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "tests/doctor/target.h"

/* One loop with one connection. `on_event` is what it does for an event of the connection. */
struct scene {
    int epoll, fd, wake;
    uint16_t port;
    void (*on_event)(struct scene *scene);
    uint64_t until_count; /* leave the loop after so many events; 0: never */
};

static void read_and_go_on(struct scene *scene)
{
    (void)target_read_response(scene->fd);
}

__attribute__((noinline)) static void run_loop(struct scene *scene)
{
    struct epoll_event events[16];

    for (uint64_t count = 0; scene->until_count == 0 || count < scene->until_count;) {
        int ready = epoll_wait(scene->epoll, events, 16, -1);

        if (ready < 0) {
            target_die("epoll_wait"); /* EINTR: the doctor has been felt */
        }
        for (int i = 0; i < ready; i++) {
            if (events[i].data.u64 == 0x5ca1ab1e00000000u + (uint32_t)scene->wake) {
                uint64_t taken;

                (void)!read(scene->wake, &taken, sizeof(taken));
            } else {
                scene->on_event(scene);
            }
            count++;
        }
    }
}

static void *run_loop_thread(void *arg)
{
    run_loop(arg);
    target_stand();
}

static struct scene *scene_new(enum server_manner manner)
{
    struct scene *scene = calloc(1, sizeof(*scene));

    scene->port = target_server(manner);
    scene->epoll = target_epoll();
    scene->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    scene->fd = target_connect(scene->port);
    target_watch(scene->epoll, scene->fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
    target_watch(scene->epoll, scene->wake, EPOLLIN);
    scene->on_event = read_and_go_on;
    return scene;
}

/* The loop serves one exchange on its own thread; then that thread goes elsewhere. */
static struct scene *scene_parked(enum server_manner manner)
{
    struct scene *scene = scene_new(manner);

    target_send_request(scene->fd);
    scene->until_count = 1;
    run_loop(scene);
    return scene;
}

static void *ask_and_wait(void *arg)
{
    struct scene *scene = arg;

    target_send_request(scene->fd);
    target_stand();
}

static void run_parked_owner(enum server_manner manner)
{
    struct scene *scene = scene_parked(manner);

    target_thread(ask_and_wait, scene, "requester");
    target_wait_unread(scene->fd);
    target_ready();
}

static void parked_owner(void)
{
    run_parked_owner(SERVER_ANSWERS);
}

static void parked_owner_tls(void)
{
    run_parked_owner(SERVER_TLS);
}

static void parked_owner_http2(void)
{
    run_parked_owner(SERVER_HTTP2);
}

static void parked_owner_ok(void)
{
    struct scene *scene = scene_new(SERVER_ANSWERS);

    target_thread(run_loop_thread, scene, "loop");
    target_thread(ask_and_wait, scene, "requester");
    target_ready();
}

/* The request never reaches its socket: the message to the connection's owner lies in its wake-up.
 */
static void parked_wakeup(void)
{
    struct scene *scene = scene_parked(SERVER_ANSWERS);

    if (eventfd_write(scene->wake, 1) != 0) {
        target_die("eventfd_write");
    }
    target_ready();
}

static void parked_wakeup_ok(void)
{
    struct scene *scene = scene_new(SERVER_ANSWERS);

    target_thread(run_loop_thread, scene, "loop");
    target_ready();
    for (;;) {
        (void)eventfd_write(scene->wake, 1);
        target_sleep_ms(20);
    }
}

/* Parked, and the server has closed the idle connection: readiness, yet nobody waits. */
static void parked_idle_closed(void)
{
    struct scene *scene = scene_parked(SERVER_CLOSES);

    target_wait_closed(scene->fd);
    target_ready();
}

/* Polled through a dup() of the epoll fd, as mio does it. */
static void dup_polled(void)
{
    struct scene *scene = scene_new(SERVER_ANSWERS);

    scene->epoll = dup(scene->epoll);
    target_thread(run_loop_thread, scene, "loop");
    target_ready();
    for (;;) {
        target_send_request(scene->fd);
        target_sleep_ms(20);
    }
}

/* A set inside a set: the outer one is polled. */
static void nested_polled(void)
{
    struct scene *scene = scene_new(SERVER_ANSWERS);
    struct epoll_event event;
    int outer = target_epoll();

    target_watch(outer, scene->epoll, EPOLLIN);
    target_ready();
    target_send_request(scene->fd);
    for (;;) {
        if (epoll_wait(outer, &event, 1, -1) == 1 && epoll_wait(scene->epoll, &event, 1, 0) == 1) {
            (void)target_read_response(scene->fd);
            target_sleep_ms(20);
            target_send_request(scene->fd);
        }
    }
}

/* A set inside the poll() of a loop like GLib's, with a time limit. Its connection is idle, and the
 * event of the last answer still lies in the stack. */
static void polled_by_poll(void)
{
    struct scene *scene = scene_new(SERVER_ANSWERS);
    struct pollfd fd = { .fd = scene->epoll, .events = POLLIN };
    struct epoll_event events[8];
    bool is_ready = false;

    target_send_request(scene->fd);
    for (;;) {
        if (poll(&fd, 1, 600000) == 1 && epoll_wait(scene->epoll, events, 8, 0) == 1 &&
            target_read_response(scene->fd) && !is_ready) {
            is_ready = true;
            target_ready();
        }
        __asm__ volatile("" ::"r"(events) : "memory"); /* they stay where they are */
    }
}

/* ---- busy ---- */

static _Atomic bool is_in_user_code;

__attribute__((noinline)) static void user_code_sleeps(void)
{
    is_in_user_code = true;
    target_sleep_ms(3600000);
    __asm__ volatile(""); /* no tail call: the name is looked for on the stack */
}

static void read_then_block(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    target_send_request(scene->fd);
    user_code_sleeps();
}

__attribute__((noinline)) static void user_code_spins(void)
{
    is_in_user_code = true;
    for (volatile uint64_t i = 0;; i++) {
        /* for ever */
    }
}

static void read_then_spin(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    target_send_request(scene->fd);
    user_code_spins();
}

static void read_then_pause(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    target_send_request(scene->fd);
    target_sleep_ms(100);
}

static struct scene *run_busy(void (*on_event)(struct scene *scene))
{
    struct scene *scene = scene_new(SERVER_ANSWERS);

    scene->on_event = on_event;
    target_thread(run_loop_thread, scene, "loop");
    target_send_request(scene->fd);
    return scene;
}

/* Stands when the loop's thread is where it will stay, and, with `waits_unread`, an answer lies
 * there. */
static void run_stuck(void (*on_event)(struct scene *scene), bool waits_unread)
{
    struct scene *scene = run_busy(on_event);

    while (!is_in_user_code) {
        target_sleep_ms(1);
    }
    if (waits_unread) {
        target_wait_unread(scene->fd);
    }
    target_ready();
}

static void busy_owner(void)
{
    run_stuck(read_then_block, true);
}

static void busy_owner_spins(void)
{
    run_stuck(read_then_spin, true);
}

static void busy_owner_ok(void)
{
    (void)run_busy(read_then_pause);
    target_ready();
}

/* The loop blocks and nothing has come for it yet: the kernel holds no trace. */
static void block_silently(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    user_code_sleeps();
}

static void workers_blocked(void)
{
    run_stuck(block_silently, false);
}

static void pause_silently(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    target_sleep_ms(150);
    target_send_request(scene->fd);
}

static void workers_blocked_ok(void)
{
    (void)run_busy(pause_silently);
    target_ready();
}

/* ---- waiting for itself ---- */

static pthread_mutex_t answer_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t answer_there = PTHREAD_COND_INITIALIZER;
static uint64_t answers_given, answers_wanted;

__attribute__((noinline)) static void wait_for_answer(void)
{
    is_in_user_code = true;
    pthread_mutex_lock(&answer_mutex);
    answers_wanted++;
    while (answers_given < answers_wanted) {
        pthread_cond_wait(&answer_there, &answer_mutex);
    }
    pthread_mutex_unlock(&answer_mutex);
}

/* The answer would be read, and the condition signalled, by this very loop. */
static void read_then_wait(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    target_send_request(scene->fd);
    wait_for_answer();
}

static void self_wait(void)
{
    run_stuck(read_then_wait, true);
}

static void *answer_soon(void *arg)
{
    for (;;) {
        target_sleep_ms(20);
        pthread_mutex_lock(&answer_mutex);
        answers_given = answers_wanted;
        pthread_cond_broadcast(&answer_there);
        pthread_mutex_unlock(&answer_mutex);
    }
    return arg;
}

static void self_wait_ok(void)
{
    target_thread(answer_soon, NULL, "helper");
    (void)run_busy(read_then_wait);
    target_ready();
}

static void *answer_never(void *arg)
{
    target_sleep_ms(3600000);
    return arg;
}

/* Blocked as well, but on a thread that is busy with something else: not on itself. */
static void waits_for_helper(void)
{
    target_thread(answer_never, NULL, "helper");
    run_stuck(read_then_wait, true);
}

/* A handler of a server asks its own server, synchronously. */
__attribute__((noinline)) static void ask_own_server(uint16_t port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons(port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char bytes[64];

    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        target_die("connect");
    }
    target_send_request(fd);
    target_ready();
    (void)!read(fd, bytes, sizeof(bytes));
}

static void self_request(void)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct epoll_event events[16];
    int epoll = target_epoll();
    int client;

    if (bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 16) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        target_die("listen");
    }
    target_watch(epoll, listener, EPOLLIN);
    client = target_connect(ntohs(address.sin_port));
    (void)client;
    for (;;) {
        if (epoll_wait(epoll, events, 16, -1) > 0) {
            (void)accept4(listener, NULL, NULL, SOCK_CLOEXEC);
            ask_own_server(ntohs(address.sin_port));
        }
    }
}

/* ---- plainly healthy ---- */

static void *loop_for_ever(void *arg)
{
    struct scene *scene = arg;

    target_send_request(scene->fd);
    scene->on_event = read_then_pause;
    run_loop(scene);
    return NULL;
}

static void ask_again(struct scene *scene)
{
    (void)target_read_response(scene->fd);
    target_send_request(scene->fd);
}

static void *loop_at_full_speed(void *arg)
{
    struct scene *scene = arg;

    target_send_request(scene->fd);
    scene->on_event = ask_again;
    run_loop(scene);
    return NULL;
}

static void healthy_busy(void)
{
    for (int i = 0; i < 3; i++) {
        target_thread(i == 0 ? loop_at_full_speed : loop_for_ever, scene_new(SERVER_ANSWERS),
                      "loop");
    }
    target_sleep_ms(50);
    target_ready();
}

/* A pool of keep-alive connections, all idle, and a loop at rest. */
static void healthy_idle(void)
{
    struct scene *scene = scene_new(SERVER_ANSWERS);

    target_thread(run_loop_thread, scene, "loop");
    for (int i = 0; i < 5; i++) {
        target_send_request(scene->fd);
        target_sleep_ms(20);
    }
    target_ready();
}

/* ---- in and out of epoll_wait, thousands of times a second ---- */

static void *nap_for_ever(void *arg)
{
    struct itimerspec often = { .it_interval.tv_nsec = 100000, .it_value.tv_nsec = 100000 };
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    struct epoll_event event;
    int epoll = target_epoll();
    uint64_t count;

    (void)timerfd_settime(timer, 0, &often, NULL);
    target_watch(epoll, timer, EPOLLIN);
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) < 0) {
            target_die("epoll_wait"); /* EINTR: the doctor has been felt */
        }
        (void)!read(timer, &count, sizeof(count));
        for (volatile int i = 0; i < 60000; i++) {
            /* work a little */
        }
    }
    return arg;
}

static void naps(void)
{
    for (int i = 0; i < 3; i++) {
        target_thread(nap_for_ever, NULL, "napper");
    }
    target_ready();
}

const struct target_case loop_cases[] = {
    { "parked-owner", parked_owner },
    { "parked-owner-ok", parked_owner_ok },
    { "parked-owner-tls", parked_owner_tls },
    { "parked-owner-http2", parked_owner_http2 },
    { "parked-wakeup", parked_wakeup },
    { "parked-wakeup-ok", parked_wakeup_ok },
    { "parked-idle-closed", parked_idle_closed },
    { "dup-polled", dup_polled },
    { "nested-polled", nested_polled },
    { "polled-by-poll", polled_by_poll },
    { "busy-owner", busy_owner },
    { "busy-owner-spins", busy_owner_spins },
    { "busy-owner-ok", busy_owner_ok },
    { "workers-blocked", workers_blocked },
    { "workers-blocked-ok", workers_blocked_ok },
    { "self-wait", self_wait },
    { "self-wait-ok", self_wait_ok },
    { "waits-for-helper", waits_for_helper },
    { "self-request", self_request },
    { "healthy-busy", healthy_busy },
    { "healthy-idle", healthy_idle },
    { "naps", naps },
    { 0 },
};
