/* peer_curl_multi.c: libcurl's multi interface, C requests at a time, in the two ways it can be
 * driven:
 *
 *     --mode poll     curl_multi_perform and curl_multi_poll: libcurl keeps the list of sockets
 *     --mode socket   curl_multi_socket_action with an epoll set and a timer of ours
 *
 * Threads: one. */
#include "peer_curl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_MAX 256
#define NS_PER_MS  1000000u

static struct bench_options options;
static struct bench_plan plan;
static CURLM *multi;
static struct transfer *idle;

static void multi_check(CURLMcode code)
{
    if (code != CURLM_OK) {
        errno = 0;
        bench_fail(curl_multi_strerror(code));
    }
}

/* ---- transfers ---- */

static void transfer_start(struct transfer *transfer)
{
    if (!plan_next(&plan, &transfer->due_ns)) {
        transfer->next_idle = idle;
        idle = transfer;
        return;
    }
    transfer_reset(transfer, &options);
    multi_check(curl_multi_add_handle(multi, transfer->easy));
}

static void start_due(void)
{
    plan_on_tick(&plan);
    while (idle != NULL && plan.started < plan.due && plan.started < options.requests) {
        struct transfer *transfer = idle;

        idle = transfer->next_idle;
        transfer_start(transfer);
    }
}

static void complete_done(void)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        struct transfer *transfer;
        CURLcode result = message->data.result;

        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
        multi_check(curl_multi_remove_handle(multi, transfer->easy));
        transfer_check(transfer, result);
        plan_complete(&plan, transfer->due_ns, transfer->body_bytes);
        transfer_start(transfer);
    }
}

/* ---- --mode poll ---- */

static void run_poll(void)
{
    struct curl_waitfd tick = { .fd = plan.tick_fd, .events = CURL_WAIT_POLLIN };
    unsigned tick_count = plan.tick_fd >= 0 ? 1 : 0;
    int running;

    while (!plan_is_complete(&plan)) {
        multi_check(curl_multi_perform(multi, &running));
        complete_done();
        if (plan_is_complete(&plan)) {
            break;
        }
        tick.revents = 0;
        multi_check(curl_multi_poll(multi, &tick, tick_count, 1000, NULL));
        if (tick.revents != 0) {
            start_due();
        }
    }
}

/* ---- --mode socket ---- */

static int epoll_fd;
static uint64_t timer_due_ns; /* 0: none */

/* Registered sockets are marked with the events asked for, which is what curl_multi_assign is for.
 */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *assigned)
{
    struct epoll_event event = { .data.fd = fd };

    (void)easy;
    (void)arg;
    if (what == CURL_POLL_REMOVE) {
        epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
        return 0;
    }
    event.events = ((what & CURL_POLL_IN) ? (uint32_t)EPOLLIN : 0) |
                   ((what & CURL_POLL_OUT) ? (uint32_t)EPOLLOUT : 0);
    if (epoll_ctl(epoll_fd, assigned == NULL ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0) {
        bench_fail("register a socket");
    }
    curl_multi_assign(multi, fd, multi);
    return 0;
}

static int on_timer(CURLM *of, long timeout_ms, void *arg)
{
    (void)of;
    (void)arg;
    timer_due_ns = timeout_ms < 0 ? 0 : bench_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;
    return 0;
}

static int timer_left_ms(void)
{
    uint64_t now_ns;

    if (timer_due_ns == 0) {
        return -1;
    }
    now_ns = bench_now_ns();
    return timer_due_ns <= now_ns ? 0 : (int)((timer_due_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS);
}

static void on_event(const struct epoll_event *event)
{
    int running, mask = ((event->events & EPOLLIN) ? CURL_CSELECT_IN : 0) |
                        ((event->events & EPOLLOUT) ? CURL_CSELECT_OUT : 0) |
                        ((event->events & (EPOLLERR | EPOLLHUP)) ? CURL_CSELECT_ERR : 0);

    if (event->data.fd == plan.tick_fd) {
        start_due();
    } else {
        multi_check(curl_multi_socket_action(multi, event->data.fd, mask, &running));
    }
}

static void run_socket(void)
{
    struct epoll_event events[EVENTS_MAX];
    int running;

    while (!plan_is_complete(&plan)) {
        int count = epoll_wait(epoll_fd, events, EVENTS_MAX, timer_left_ms());

        for (int i = 0; i < count; i++) {
            on_event(&events[i]);
        }
        if (timer_left_ms() == 0) {
            timer_due_ns = 0;
            multi_check(curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running));
        }
        complete_done();
    }
}

static void set_up_socket(void)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = plan.tick_fd };

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_fd < 0 ||
        (plan.tick_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, plan.tick_fd, &event) < 0)) {
        bench_fail("make the epoll set");
    }
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_timer);
}

int main(int argc, char **argv)
{
    struct transfer *transfers;
    bool is_socket;

    bench_parse(&options, argc, argv);
    is_socket = options.mode != NULL && strcmp(options.mode, "socket") == 0;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi = curl_multi_init();
    transfers = calloc(options.connections, sizeof(*transfers));
    if (multi == NULL || transfers == NULL) {
        bench_fail("set up");
    }
    curl_multi_setopt(multi, CURLMOPT_MAXCONNECTS, (long)options.connections);
    curl_multi_setopt(multi, CURLMOPT_MAX_CONCURRENT_STREAMS, (long)options.connections);
    plan_init(&plan, &options);
    if (is_socket) {
        set_up_socket();
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        transfer_init(&transfers[i], &options);
        transfer_start(&transfers[i]);
    }
    if (is_socket) {
        run_socket();
    } else {
        run_poll();
    }
    plan_print(&plan);
    for (uint64_t i = 0; i < options.connections; i++) {
        transfer_deinit(&transfers[i]);
    }
    curl_multi_cleanup(multi);
    curl_global_cleanup();
    free(transfers);
    return 0;
}
