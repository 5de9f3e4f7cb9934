/* share_check.h: what the tests of the five patterns have in common: a server, callers in all
 * places, a look at what is pending, and the proof that nothing is left.
 *
 *     struct scene scene;
 *     struct caller caller;
 *
 *     scene_begin(&scene);
 *     ... make a proxy ...
 *     caller_start(&caller, IN_MULTI_THREAD, &scene, check_proxy, proxy, "/hold/gate", 0);
 *     check_pending(SHARE_TAKEN, 1);
 *     lab_server_release(scene.server, "gate", 1);
 *     CHECK_EQ(caller_join(&caller), IL_OK);
 *     ... free the proxy ...
 *     scene_end(&scene);   no memory, task, loop, runtime, connection may be left */
#ifndef TESTS_SHARE_CHECK_H
#define TESTS_SHARE_CHECK_H

#include "client/kit.h"
#include "lab/server.h"
#include "rt/rt.h"
#include "share/desk.h"
#include "sync/sync_check.h"
#include "tests/own_loop.h"

/* ---- the scene ---- */

struct scene {
    struct lab_server *server;
    uint64_t live_count; /* of memory, before anything else */
};

static inline void scene_begin(struct scene *scene)
{
    struct il_memory_use use;
    struct il_error err;

    (void)il_sleep_ms(0); /* this thread's record and loop are there from now on */
    il_memory_use(&use);
    scene->live_count = use.live_count;
    CHECK_OK(lab_server_start(NULL, &scene->server, &err));
}

/* What this thread's loop keeps for its next requests: it would go with the thread. */
static inline void scene_drop_kits(void)
{
    struct rt_place place;
    struct il_error err;

    CHECK_OK(rt_enter(&place, false, &err));
    kit_drop_spares(place.loop);
    rt_leave(&place);
}

static inline void scene_end(struct scene *scene)
{
    struct il_memory_use use;

    check_nothing_left();
    turn_own_loop(); /* does what others have posted to it */
    scene_drop_kits();
    CHECK(lab_server_wait_open(scene->server, 0, lab_in_ms(50000)));
    lab_server_stop(scene->server);
    do { /* a thread that has just ended frees its record last */
        il_memory_use(&use);
    } while (use.live_count > scene->live_count);
    CHECK_EQ(use.live_count, scene->live_count);
}

static inline const char *scene_url(struct scene *scene, const char *path)
{
    static _Thread_local char text[256];

    snprintf(text, sizeof(text), "http://127.0.0.1:%u%s", lab_server_port(scene->server), path);
    return text;
}

static inline struct lab_server_counters scene_counters(struct scene *scene)
{
    struct lab_server_counters counters;

    lab_server_counters(scene->server, &counters);
    return counters;
}

/* ---- the patterns, by one type of function ---- */

#define CHECK_SEND(pattern)                                                                        \
    static inline enum il_code check_##pattern(void *object, const struct il_request *request,     \
                                               struct il_response **ret_response,                  \
                                               struct il_error *err)                               \
    {                                                                                              \
        return il_##pattern##_send(object, request, ret_response, err);                            \
    }
CHECK_SEND(single)
CHECK_SEND(per_runtime)
CHECK_SEND(factory)
CHECK_SEND(proxy)
CHECK_SEND(service)

/* ---- callers ---- */

struct caller {
    struct actor actor;
    struct scene *scene;
    share_send_fn *send;
    void *object;
    char path[64];
    uint64_t total_ms; /* 0: the client's */
    enum il_code code;
    struct il_error error;
    char body[64];
    _Atomic bool is_back;
};

static inline void caller_run(void *arg)
{
    struct caller *caller = arg;
    struct il_response *response = NULL;
    struct il_request *request;

    caller->error.message[0] = '\0';
    CHECK_EQ(il_request_new("GET", scene_url(caller->scene, caller->path), &request, NULL), IL_OK);
    CHECK_EQ(il_request_set_timeout_ms(request, IL_PHASE_TOTAL, caller->total_ms), IL_OK);
    caller->code = caller->send(caller->object, request, &response, &caller->error);
    il_request_free(request);
    if (caller->code == IL_OK) {
        CHECK_EQ(il_response_status(response), 200);
        snprintf(caller->body, sizeof(caller->body), "%s", il_response_body(response, NULL));
        il_response_free(response);
    } else {
        CHECK_EQ(caller->error.code, caller->code);
        CHECK(response == NULL);
    }
    atomic_store(&caller->is_back, true);
}

/* Send a request from a place of its own. */
static inline void caller_start(struct caller *caller, enum check_where where, struct scene *scene,
                                share_send_fn *send, void *object, const char *path,
                                uint64_t total_ms)
{
    *caller =
        (struct caller){ .scene = scene, .send = send, .object = object, .total_ms = total_ms };
    snprintf(caller->path, sizeof(caller->path), "%s", path);
    actor_start(&caller->actor, where, caller_run, caller);
}

/* Wait until it is back, and end the place that it was in. */
static inline enum il_code caller_join(struct caller *caller)
{
    actor_join(&caller->actor);
    CHECK(atomic_load(&caller->is_back));
    return caller->code;
}

/* As one call, here. */
static inline enum il_code caller_send_here(struct caller *caller, struct scene *scene,
                                            share_send_fn *send, void *object, const char *path,
                                            uint64_t total_ms)
{
    *caller =
        (struct caller){ .scene = scene, .send = send, .object = object, .total_ms = total_ms };
    snprintf(caller->path, sizeof(caller->path), "%s", path);
    caller_run(caller);
    return caller->code;
}

/* ---- what is pending ---- */

struct pending_count {
    enum share_state state;
    unsigned count;
};

static inline void pending_count_visit(const struct share_pending *pending, void *arg)
{
    struct pending_count *counted = arg;

    counted->count += pending->state == counted->state;
}

static inline unsigned pending_in(enum share_state state)
{
    struct pending_count counted = { state, 0 };

    share_for_each_pending(pending_count_visit, &counted);
    return counted.count;
}

/* Wait until exactly so many are in that state. */
static inline void check_pending(enum share_state state, unsigned count)
{
    CHECK_COMES(pending_in(state) == count);
}

static inline void check_nothing_pending(void)
{
    CHECK_EQ(pending_in(SHARE_ARRIVING) + pending_in(SHARE_QUEUED) + pending_in(SHARE_TAKEN), 0);
}

/* ---- owners ---- */

static inline struct il_runtime *check_new_named(enum il_runtime_kind kind, const char *name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_error err;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD ? 1 : 0;
    options.name = name;
    /* an owner that is busy stays busy, and is not helped */
    options.hand_over_after_ms = IL_FOREVER;
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

/* A worker that is stuck in user code until it is told to come back. */
struct blocker {
    _Atomic bool is_in, must_return;
};

static inline void blocker_run(void *arg)
{
    struct blocker *blocker = arg;

    atomic_store(&blocker->is_in, true);
    CHECK_COMES(atomic_load(&blocker->must_return));
}

static inline void blocker_start(struct blocker *blocker, struct il_runtime *runtime)
{
    struct il_error err;

    *blocker = (struct blocker){ .is_in = false };
    CHECK_OK(il_spawn(runtime, "blocker", blocker_run, blocker, NULL, &err));
    CHECK_COMES(atomic_load(&blocker->is_in));
}

/* A task that lets a current-thread runtime be driven until `is_done(arg)`. */
struct drive {
    bool (*is_done)(void *arg);
    void *arg;
};

static inline void drive_run(void *arg)
{
    struct drive *drive = arg;

    while (!drive->is_done(drive->arg)) {
        CHECK_EQ(il_sleep_ms(1), IL_OK);
    }
}

static inline void check_drive_until(struct il_runtime *runtime, bool (*is_done)(void *arg),
                                     void *arg)
{
    struct drive drive = { is_done, arg };
    struct il_error err;

    CHECK_OK(il_block_on(runtime, drive_run, &drive, &err));
}

static inline bool caller_is_back(void *arg)
{
    return atomic_load(&((struct caller *)arg)->is_back);
}

#endif
