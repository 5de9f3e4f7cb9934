/* event_peer.c: real evhttp on real libevent, hung in the ways the doctor must name, and healthy
 * twins.
 *
 * usage: doctor-peer-event CASE PORT. Prints "ready PID" when the scene stands. */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct event_base *base;
static struct evhttp_connection *connections[4];
static unsigned finished_count;
static bool asks_again;

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

static void ask(struct evhttp_connection *connection);

static void on_answer(struct evhttp_request *request, void *connection)
{
    finished_count++;
    if (asks_again) {
        ask(connection);
    }
}

static void ask(struct evhttp_connection *connection)
{
    struct evhttp_request *request = evhttp_request_new(on_answer, connection);

    evhttp_add_header(evhttp_request_get_output_headers(request), "Host", "127.0.0.1");
    evhttp_make_request(connection, request, EVHTTP_REQ_GET, "/");
}

static void finish_one(void)
{
    unsigned before = finished_count;

    ask(connections[0]);
    while (finished_count == before) {
        event_base_loop(base, EVLOOP_ONCE);
    }
}

static void run_for_ever(void)
{
    event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
}

static void after(unsigned ms, event_callback_fn run)
{
    struct timeval delay = { ms / 1000, (long)(ms % 1000) * 1000 };

    event_base_once(base, -1, EV_TIMEOUT, run, NULL, &delay);
}

static void on_ready(evutil_socket_t socket, short events, void *arg)
{
    ready();
}

/* ---- scenes ---- */

/* The request goes out, then the thread leaves the base for good. The server takes its time. */
static void parked(void)
{
    struct timespec pause = { 0, 1000000 };

    finish_one();
    ask(connections[0]);
    for (int i = 0; i < 100; i++) { /* it goes out */
        event_base_loop(base, EVLOOP_NONBLOCK);
        nanosleep(&pause, NULL);
    }
    user_code_blocks(400);
    ready();
    user_code_blocks(3600000);
}

static void parked_ok(void)
{
    finish_one();
    ask(connections[0]);
    after(50, on_ready);
    run_for_ever();
}

static void on_block(evutil_socket_t socket, short events, void *arg)
{
    user_code_blocks(500); /* the answer comes meanwhile */
    ready();
    user_code_blocks(3600000);
}

static void blocked(void)
{
    finish_one();
    ask(connections[0]);
    after(50, on_block);
    run_for_ever();
}

static void on_block_briefly(evutil_socket_t socket, short events, void *arg)
{
    user_code_blocks(50);
    after(60, on_block_briefly);
}

static void blocked_ok(void)
{
    asks_again = true;
    ask(connections[0]);
    after(60, on_block_briefly);
    after(200, on_ready);
    run_for_ever();
}

static void one_request(void)
{
    ask(connections[0]);
    after(200, on_ready);
    run_for_ever();
}

static void busy(void)
{
    asks_again = true;
    for (int i = 0; i < 4; i++) {
        ask(connections[i]);
    }
    after(100, on_ready);
    run_for_ever();
}

static void idle(void)
{
    finish_one();
    after(200, on_ready);
    run_for_ever();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenes[] = {
        { "parked", parked },
        { "parked-ok", parked_ok },
        { "blocked", blocked },
        { "blocked-ok", blocked_ok },
        { "one-request", one_request },
        { "busy", busy },
        { "idle", idle },
    };

    if (argc == 3) {
        base = event_base_new();
        for (int i = 0; i < 4; i++) {
            connections[i] =
                evhttp_connection_base_new(base, NULL, "127.0.0.1", (unsigned short)atoi(argv[2]));
        }
        for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
            if (strcmp(argv[1], scenes[i].name) == 0) {
                scenes[i].run();
            }
        }
    }
    fprintf(stderr, "usage: doctor-peer-event CASE PORT\n");
    return 2;
}
