/* cause_window.c: what bodies that nobody reads do to others on the same HTTP/2 connection.
 *
 * Owns: the responses that A holds, until it lets go of them. Threads: as lab/world.h says; the
 * hoard is A's while A is driven, and the main thread's while A is parked. */
#include <stdio.h>

#include "lab/catalogue.h"

#define HOARD_COUNT 5
#define HOARD_BYTES 1048000 /* together a little less than hyper's window of 5 MiB */
#define ASKED_BYTES 50000   /* and this more than is left of it */
#define LOOK_MS     1

struct hoard {
    struct world *world;
    struct actor *actor;
    struct il_response *responses[HOARD_COUNT];
};

static struct il_response *hoard_fetch_one(struct hoard *hoard, unsigned index)
{
    struct world *world = hoard->world;
    struct il_response *response = NULL;
    struct il_request *request = NULL;
    struct il_error err = { 0 };
    enum il_code code =
        world_request_new(world, "GET", &request, &err, "/bytes/%d?n=%u", HOARD_BYTES, index);

    if (code == IL_OK) {
        (void)il_request_set_timeout_ms(request, IL_PHASE_TOTAL, world->options.limit_ms * 2);
        code = world_send(world, hoard->actor, request, "/bytes", true, &response, &err);
    }
    if (code != IL_OK) {
        world_fail(world, "a request of A failed: %s: %.150s", il_code_name(code), err.message);
    }
    il_request_free(request);
    return response;
}

/* Until the server has sent every byte of them. The default driver's window for each stream may be
 * too small for that, and need not be waited for: it is nobody else's. */
static void hoard_wait_sent(struct world *world)
{
    uint64_t until_ns = il_deadline_in_ms(WORLD_STEP_MS);
    struct stage_server_counts counts = { .answering = 1 };

    while (!world_is_failed(world) && counts.answering > 0 &&
           world->solution->driver == IL_DRIVER_BOUND) {
        stage_server_counts(world->server, &counts);
        world_need(world, counts.answering == 0 || il_now_ns() < until_ns,
                   "have the server send all bodies");
        (void)il_sleep_ms(LOOK_MS);
    }
}

/* Take the heads, and read nothing. */
static void hoard_fetch(void *arg)
{
    struct hoard *hoard = arg;

    for (unsigned i = 0; i < HOARD_COUNT && !world_is_failed(hoard->world); i++) {
        hoard->responses[i] = hoard_fetch_one(hoard, i);
    }
    hoard_wait_sent(hoard->world);
}

static void hoard_let_go(struct hoard *hoard)
{
    for (unsigned i = 0; i < HOARD_COUNT; i++) {
        il_response_free(hoard->responses[i]);
        hoard->responses[i] = NULL;
    }
}

static struct judged *ask(struct world *world, struct actor *actor)
{
    return world_ask(world, actor, &(struct ask){ .bytes = ASKED_BYTES, .is_whole = true });
}

static void window_leak_run(struct world *world)
{
    struct hoard hoard = { .world = world };
    struct actor *b = world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);

    hoard.actor = world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0);
    world_fetch(world, b, 1); /* so that the session, if it is shared, is B's to drive */
    if (!world_is_failed(world)) {
        actor_start(hoard.actor, hoard_fetch, &hoard);
        actor_wait(hoard.actor);
    }
    world_note(world, "A has the heads of %d responses, and is parked; the bodies have come",
               HOARD_COUNT);
    judged_run(ask(world, b));
    hoard_let_go(&hoard);
    world_note(world, "A lets go of the responses");
    judged_run(ask(world, b));
}

const struct cause cause_window_leak = {
    .name = "window-leak",
    .summary = "HTTP/2: bodies that A does not read use up the window of the connection B is on",
    .story =
        "Runtime B has an HTTP/2 session with the server, which it drives itself. Runtime A sends "
        "five requests, takes the heads of the responses, reads none of the bodies, a mebibyte "
        "each, and is parked. Now a task of runtime B sends a request. When that is over, A lets "
        "go of its responses, and B sends another one.",
    .is_http2 = true,
    .run = window_leak_run,
};
