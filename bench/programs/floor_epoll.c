/* floor_epoll.c: the least that C requests at a time can cost: one epoll set, level-triggered, each
 * socket registered once; write a canned request, look for the end of the head, count the body.
 *
 * It parses nothing, keeps no time limits and has no pool: what a real client costs more than this
 * is what its features cost. Threads: one. */
#include "common.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 256

/* One place for a request in flight, with the connection that it uses. */
struct slot {
    int fd;                 /* -1 until first used; and between requests to /close */
    bool is_past_head;      /* then body_left says how much is still to come */
    uint64_t body_left;     /* only if is_past_head */
    uint64_t due_ns;        /* of the request in flight */
    struct slot *next_idle; /* open loop: when nothing is in flight here */
};

static struct bench_options options;
static struct bench_plan plan;
static struct slot *idle;
static int epoll_fd;
static const char *request;
static size_t request_size;
static uint64_t body_size; /* learned from the first answer */
static char buffer[BENCH_BUFFER_SIZE];

static void slot_open(struct slot *slot)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = slot };

    slot->fd = bench_connect(options.port);
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, slot->fd, &event) < 0) {
        bench_fail("register a socket");
    }
}

static void slot_start(struct slot *slot)
{
    if (!plan_next(&plan, &slot->due_ns)) {
        slot->next_idle = idle;
        idle = slot;
        return;
    }
    if (slot->fd < 0) {
        slot_open(slot);
    }
    slot->is_past_head = false;
    if (send(slot->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size) {
        bench_fail("send");
    }
}

static void slot_complete(struct slot *slot)
{
    plan_complete(&plan, slot->due_ns, body_size);
    if (options.is_close) {
        close(slot->fd); /* which also takes it out of the epoll set */
        slot->fd = -1;
    }
    slot_start(slot);
}

static void slot_on_head(struct slot *slot, const char *end, size_t received)
{
    if (body_size == 0) {
        const char *length = memmem(buffer, received, "Content-Length: ", 16);

        body_size = length == NULL ? 0 : strtoull(length + 16, NULL, 10);
    }
    slot->is_past_head = true;
    slot->body_left = body_size - (received - (size_t)(end + 4 - buffer));
}

static void slot_on_readable(struct slot *slot)
{
    ssize_t received = recv(slot->fd, buffer, sizeof(buffer), MSG_DONTWAIT);

    if (received <= 0) {
        errno = received == 0 ? ECONNRESET : errno;
        bench_fail("receive");
    }
    if (slot->is_past_head) {
        slot->body_left -= (uint64_t)received;
    } else {
        /* The server sends its small answers in one piece, so a head is never split. */
        const char *end = memmem(buffer, (size_t)received, "\r\n\r\n", 4);

        if (end == NULL) {
            errno = 0;
            bench_fail("an answer's head came in parts");
        }
        slot_on_head(slot, end, (size_t)received);
    }
    if (slot->body_left == 0) {
        slot_complete(slot);
    }
}

static void run_once(void)
{
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(epoll_fd, events, EVENTS_MAX, -1);

    for (int i = 0; i < count; i++) {
        struct slot *slot = events[i].data.ptr;

        if (slot != NULL) {
            slot_on_readable(slot);
            continue;
        }
        plan_on_tick(&plan);
        for (; idle != NULL && plan.started < plan.due && plan.started < options.requests;) {
            slot = idle;
            idle = slot->next_idle;
            slot_start(slot);
        }
    }
}

int main(int argc, char **argv)
{
    struct slot *slots;
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = NULL };

    bench_parse(&options, argc, argv);
    request = bench_request_head(&options, &request_size);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    slots = calloc(options.connections, sizeof(*slots));
    if (epoll_fd < 0 || slots == NULL) {
        bench_fail("set up");
    }
    plan_init(&plan, &options);
    if (plan.tick_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, plan.tick_fd, &event) < 0) {
        bench_fail("register the timer");
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        slots[i].fd = -1;
        slot_start(&slots[i]);
    }
    while (!plan_is_complete(&plan)) {
        run_once();
    }
    plan_print(&plan);
    free(slots);
    return 0;
}
