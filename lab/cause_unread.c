/* cause_unread.c: responses whose bodies nobody reads hold every connection there may be
 * (unread-bodies).
 *
 * Owns: the responses. Threads: as lab/world.h says; each response is held by a task of A's. */
#include <stdio.h>

#include "lab/catalogue.h"

#define UNREAD_COUNT      2 /* as many as there may be connections */
#define UNREAD_BYTES      200000
#define UNREAD_TIMEOUT_MS 300
#define UNREAD_LOOK_MS    10
#define UNREAD_PIECE_SIZE 8192

struct unread {
    struct world *world;
    struct actor *actor;
    struct stage_event *has_heads; /* all responses have begun */
    struct stage_event *may_end;
    atomic_uint next, head_count;
};

/* Read on, as far as one gets. */
static void unread_read(struct unread *unread, unsigned number, struct il_response *response)
{
    char piece[UNREAD_PIECE_SIZE];
    struct il_error err = { 0 };
    enum il_code code = IL_OK;
    size_t got = 1;

    while (code == IL_OK && got > 0) {
        code = il_response_read(response, piece, sizeof(piece), &got, &err);
    }
    if (code == IL_OK) {
        world_note(unread->world, "body %u is read to its end", number);
    } else {
        world_note(unread->world, "body %u: %s: %.120s", number, il_code_name(code), err.message);
    }
}

/* The user code has a response, and something else on its mind, until it is made to return. */
static void unread_hold(struct unread *unread, unsigned number, struct il_response *response)
{
    struct world *world = unread->world;

    world_note(world, "response %u has begun: %d; its body is not read", number,
               il_response_status(response));
    if (atomic_fetch_add(&unread->head_count, 1) + 1 == UNREAD_COUNT) {
        stage_event_set(unread->has_heads);
    }
    while (!stage_event_wait(world->relent, 0) && !stage_event_wait(unread->may_end, 0) &&
           il_sleep_ms(UNREAD_LOOK_MS) == IL_OK) {
    }
    unread_read(unread, number, response);
}

static void unread_one(void *arg)
{
    struct unread *unread = arg;
    struct world *world = unread->world;
    unsigned number = atomic_fetch_add(&unread->next, 1) + 1;
    struct il_response *response = NULL;
    struct il_request *request = NULL;
    struct il_error err = { 0 };
    enum il_code code =
        world_request_new(world, "GET", &request, &err, "/bytes/%d?n=%u", UNREAD_BYTES, number);

    if (code == IL_OK) {
        code = world_send(world, unread->actor, request, "/bytes", true, &response, &err);
    }
    if (code == IL_OK) {
        unread_hold(unread, number, response);
    } else {
        world_fail(world, "set-up: a response did not begin: %s: %.150s", il_code_name(code),
                   err.message);
    }
    il_response_free(response);
    il_request_free(request);
}

static void unread_begin(struct unread *unread, struct il_task *tasks[UNREAD_COUNT])
{
    struct world *world = unread->world;
    struct il_error err = { 0 };

    actor_drive(unread->actor);
    for (unsigned i = 0; i < UNREAD_COUNT && !world_is_failed(world); i++) {
        if (il_spawn(unread->actor->runtime, "holder", unread_one, unread, &tasks[i], &err) !=
            IL_OK) {
            world_fail(world, "set-up: %.200s", err.message);
        }
    }
    world_need(world, world_is_failed(world) || stage_event_wait(unread->has_heads, WORLD_STEP_MS),
               "have the responses begin");
}

static void unread_end(struct unread *unread, struct il_task *tasks[UNREAD_COUNT])
{
    struct il_error err;

    stage_event_set(unread->may_end);
    for (unsigned i = 0; i < UNREAD_COUNT; i++) {
        uint64_t until_ns = il_deadline_in_ms(WORLD_STEP_MS);

        while (tasks[i] != NULL && il_task_join(tasks[i], until_ns, &err) != IL_OK) {
            world_fail(unread->world, "a task that has a response does not end: %.150s",
                       err.message);
            il_task_cancel(tasks[i]); /* what it has of us ends with us: it must */
            until_ns = IL_FOREVER;
        }
        (void)il_task_unref(tasks[i]);
    }
    actor_park(unread->actor);
}

static void unread_bodies_run(struct world *world)
{
    struct il_task *tasks[UNREAD_COUNT] = { NULL };
    struct actor *b = world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);
    struct unread unread = { .world = world,
                             .actor = world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0),
                             .has_heads = stage_event_new(),
                             .may_end = stage_event_new() };

    if (unread.has_heads == NULL || unread.may_end == NULL) {
        world_fail(world, "could not make an event: out of memory");
    } else {
        unread_begin(&unread, tasks);
        judged_run(world_ask(world, b, &(struct ask){ 0 }));
        unread_end(&unread, tasks);
    }
    stage_event_free(unread.has_heads);
    stage_event_free(unread.may_end);
}

const struct cause cause_unread_bodies = {
    .name = "unread-bodies",
    .summary = "A has responses whose bodies it does not read, on all the connections there may be",
    .story =
        "A client may have two connections to the server. Two tasks of runtime A each send a "
        "request, get the beginning of the response, and then have something else to do than to "
        "read the body: A goes on running, and polls. Now a task of runtime B sends a request to "
        "the same server.",
    .connections_per_host_max = UNREAD_COUNT,
    .unread_timeout_ms = UNREAD_TIMEOUT_MS,
    .run = unread_bodies_run,
};
