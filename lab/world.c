/* world.c: the world's beginning and end, and the check that nothing is left of it.
 *
 * Owns: the server, the actors, the solution's state. Threads: as world.h says. world->mutex guards
 * the result and is a leaf.
 * Ends: world_play makes it and ends it: requests, actors, solution, monitor, server, in this
 *   order; then everything that the process holds must be what it was before. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/words.h"
#include "lab/world.h"
#include "sim/sim.h"

#define WORLD_NS_PER_MS 1000000u
#define WORLD_LEFT_GRACE_MS                                                                        \
    15000 /* what ends by itself, as a spare thread, must have ended by then */
#define WORLD_LEFT_LOOK_MS 2
#define WORLD_WARM_UP_MAX  1000

/* ---- notes ---- */

static void note_locked(struct world *world, const char *text)
{
    struct timeline *timeline = world->timeline;
    struct il_runtime *runtime = il_runtime_current();
    struct timeline_event *event;

    if (sim_is_running()) {
        sim_note("%s", text);
    }
    if (timeline->count++ >= TIMELINE_EVENTS_MAX) {
        return;
    }
    event = &timeline->events[timeline->count - 1];
    event->at_ms = (uint32_t)((il_now_ns() - world->started_ns) / WORLD_NS_PER_MS);
    (void)snprintf(event->runtime, sizeof(event->runtime), "%.19s",
                   runtime != NULL ? il_runtime_name(runtime) : "");
    stage_thread_name(event->thread);
    (void)snprintf(event->text, sizeof(event->text), "%s", text);
}

void world_note(struct world *world, const char *format, ...)
{
    char text[TIMELINE_EVENT_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    stage_mutex_lock(world->mutex);
    note_locked(world, text);
    stage_mutex_unlock(world->mutex);
}

void world_remark(struct world *world, const char *format, ...)
{
    char text[RESULT_NOTE_SIZE];
    size_t used;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    stage_mutex_lock(world->mutex);
    used = strlen(world->result->note);
    (void)snprintf(world->result->note + used, sizeof(world->result->note) - used, "%s%s",
                   used > 0 ? "; " : "", text);
    stage_mutex_unlock(world->mutex);
}

void world_fail(struct world *world, const char *format, ...)
{
    char text[RESULT_NOTE_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    stage_mutex_lock(world->mutex);
    if (!world->result->is_broken) {
        world->result->is_broken = true;
        (void)snprintf(world->result->broken, sizeof(world->result->broken), "%s", text);
    }
    note_locked(world, text);
    stage_mutex_unlock(world->mutex);
    atomic_store(&world->is_failed, true);
}

void world_need(struct world *world, bool is_done, const char *what)
{
    if (!is_done && !world_is_failed(world)) {
        world_fail(world, "could not %s", what);
    }
}

bool world_is_failed(const struct world *world)
{
    return atomic_load(&world->is_failed);
}

const char *world_scheme(const struct world *world)
{
    return world->tls != NULL ? "https" : "http";
}

enum il_code world_request_new(const struct world *world, const char *method,
                               struct il_request **ret_request, struct il_error *err,
                               const char *format, ...)
{
    char target[WORLD_TARGET_SIZE], url[WORLD_TARGET_SIZE + 32];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(target, sizeof(target), format, args);
    va_end(args);
    (void)snprintf(url, sizeof(url), "%s://127.0.0.1:%u%s", world_scheme(world),
                   stage_server_port(world->server), target);
    return il_request_new(method, url, ret_request, err);
}

void world_client_options(const struct world *world, const char *name,
                          struct il_client_options *ret_options)
{
    *ret_options = (struct il_client_options)IL_CLIENT_OPTIONS_INIT;
    ret_options->name = name;
    ret_options->driver = world->solution->driver;
    ret_options->tls = world->tls;
    ret_options->http_version = world->cause->is_http2 ? IL_HTTP_2_PRIOR_KNOWLEDGE : IL_HTTP_1_1;
    ret_options->idle_per_host_max = world->cause->idle_per_host_max;
    ret_options->connections_per_host_max = world->cause->connections_per_host_max;
    ret_options->unread_timeout_ms = world->cause->unread_timeout_ms;
}

uint64_t world_hand_over_ms(const struct world *world)
{
    bool hands_over = world->cause->hands_over || world->solution->has_defaults;

    return hands_over ? 0 : IL_FOREVER; /* 0: the library's default */
}

void world_runtime_options(const struct world *world, const char *name, enum il_runtime_kind kind,
                           struct il_runtime_options *ret_options)
{
    *ret_options = (struct il_runtime_options)IL_RUNTIME_OPTIONS_INIT;
    ret_options->name = name;
    ret_options->kind = kind;
    ret_options->hand_over_after_ms = world_hand_over_ms(world);
    ret_options->rescue = world->cause->hands_over && kind == IL_RUNTIME_CURRENT_THREAD;
}

/* ---- sending ---- */

static bool world_has_peers(const struct world *world)
{
    return world->cause->peer != PEER_NONE && !world->solution->has_defaults;
}

static bool world_make_peers(struct world *world)
{
    unsigned count = !world_has_peers(world) ? 0 : world->solution->is_own ? WORLD_ACTORS_MAX : 1;

    for (unsigned i = 0; i < count; i++) {
        world->peers[i] = peer_new(world->cause->peer);
        if (world->peers[i] == NULL) {
            return false;
        }
    }
    return true;
}

static void world_free_peers(struct world *world)
{
    for (unsigned i = 0; i < WORLD_ACTORS_MAX; i++) {
        peer_free(world->peers[i]);
    }
}

enum il_code world_send(struct world *world, struct actor *actor, const struct il_request *request,
                        const char *path, bool is_streaming, struct il_response **ret_response,
                        struct il_error *err)
{
    const struct solution *solution = world->solution;
    struct peer *peer = world->peers[solution->is_own ? actor - world->actors : 0];
    enum il_code code = peer != NULL ? peer_enter(peer, path, err) : IL_OK;

    if (code == IL_OK) {
        code = solution->send(world, actor, request, is_streaming, ret_response, err);
        if (peer != NULL) {
            peer_leave(peer, code);
        }
    }
    return code;
}

bool world_look_at_peers(struct world *world, const char *path, struct il_watch_request *ret_row)
{
    for (unsigned i = 0; i < WORLD_ACTORS_MAX; i++) {
        if (world->peers[i] != NULL && peer_look(world->peers[i], path, ret_row)) {
            return true;
        }
    }
    return false;
}

/* ---- set-up requests ---- */

static void fetch_one(void *arg)
{
    struct fetch *fetch = arg;
    struct world *world = fetch->world;
    unsigned number = fetch->first + atomic_fetch_add(&fetch->next, 1) + 1;
    struct il_response *response = NULL;
    struct il_request *request = NULL;
    struct il_response_timing timing;
    struct il_error err = { 0 };
    enum il_code code = world_request_new(world, "GET", &request, &err, "/id/setup-%u?hold=%s",
                                          number, fetch->gate);

    if (code == IL_OK) {
        (void)il_request_set_timeout_ms(request, IL_PHASE_TOTAL, WORLD_STEP_MS);
        code = world_send(world, fetch->actor, request, "/id/setup", false, &response, &err);
    }
    if (code != IL_OK) {
        world_fail(world, "set-up: a request of %s failed: %s: %.150s", fetch->actor->name,
                   il_code_name(code), err.message);
    } else {
        il_response_timing(response, &timing);
        world_note(world, "set-up: GET /id/setup-%u: %d over connection %llu", number,
                   il_response_status(response), (unsigned long long)timing.connection_id);
    }
    il_response_free(response);
    il_request_free(request);
}

static void fetch_all(void *arg)
{
    struct fetch *fetch = arg;
    struct il_task *tasks[WORLD_JUDGED_MAX] = { NULL };
    struct il_error err;

    for (unsigned i = 0; i < fetch->count; i++) {
        if (il_spawn(il_runtime_current(), "set-up", fetch_one, fetch, &tasks[i], &err) != IL_OK) {
            world_fail(fetch->world, "set-up: %.200s", err.message);
        }
    }
    for (unsigned i = 0; i < fetch->count; i++) {
        if (tasks[i] != NULL && il_task_join(tasks[i], IL_FOREVER, &err) != IL_OK) {
            world_fail(fetch->world, "set-up: %.200s", err.message);
        }
        (void)il_task_unref(tasks[i]);
    }
}

void world_fetch_begin(struct world *world, struct actor *actor, unsigned count)
{
    struct fetch *fetch = &world->fetch;

    if (world_is_failed(world)) {
        return;
    }
    fetch->world = world;
    fetch->actor = actor;
    fetch->first += fetch->count;
    fetch->count = count;
    atomic_store(&fetch->next, 0);
    (void)snprintf(fetch->gate, sizeof(fetch->gate), "setup-%u", fetch->first + 1);
    actor_start(actor, fetch_all, fetch);
    /* All at once, so that each has a connection of its own. */
    world_need(world, stage_server_wait_held(world->server, fetch->gate, count, WORLD_STEP_MS),
               "have the set-up requests reach the server all at the same time");
}

void world_fetch_end(struct world *world, struct actor *actor)
{
    stage_server_release(world->server, world->fetch.gate);
    actor_wait(actor);
    world_note(world, "%s has its answer%s%s", actor->name, world->fetch.count > 1 ? "s" : "",
               actor->kind == IL_RUNTIME_CURRENT_THREAD ? " and is parked" : "");
}

void world_fetch(struct world *world, struct actor *actor, unsigned count)
{
    world_fetch_begin(world, actor, count);
    if (!world_is_failed(world)) {
        world_fetch_end(world, actor);
    }
}

/* ---- conservation ---- */

struct held {
    struct il_watch_totals totals;
    struct stage_resources resources;
};

static void held_now(struct held *held)
{
    il_watch_totals(&held->totals);
    stage_resources(&held->resources);
}

/* Lists what is there beyond `before`; the list is empty when nothing is. There may be less: a
 * spare thread of an earlier run, idle since, has ended. */
static void held_compare(const struct held *before, const struct held *now, char *list, size_t size)
{
    const struct {
        const char *what;
        uint64_t before, now;
    } rows[] = {
        { "clients", before->totals.clients, now->totals.clients },
        { "requests", before->totals.calls, now->totals.calls },
        { "connections", before->totals.connections, now->totals.connections },
        { "runtimes", before->totals.runtimes, now->totals.runtimes },
        { "loops", before->totals.loops, now->totals.loops },
        { "tasks", before->totals.tasks, now->totals.tasks },
        { "allocations", before->totals.allocations, now->totals.allocations },
        { "file descriptors", before->resources.fd_count, now->resources.fd_count },
        { "threads", before->resources.thread_count, now->resources.thread_count },
    };
    size_t used = 0;

    list[0] = '\0';
    for (size_t i = 0; i < LAB_COUNT(rows) && used < size; i++) {
        if (rows[i].now > rows[i].before) {
            used += (size_t)snprintf(
                list + used, size - used, "%s%s: %llu, were %llu", used > 0 ? "; " : "",
                rows[i].what, (unsigned long long)rows[i].now, (unsigned long long)rows[i].before);
        }
    }
}

/* What ends by itself may still be on its way; what is left then is lost. */
static void world_check_nothing_left(struct world *world, const struct held *before)
{
    char list[RESULT_NOTE_SIZE - 32];
    struct held now;

    for (unsigned looks = 0;; looks++) { /* looks, and not time: a simulated clock may jump */
        held_now(&now);
        held_compare(before, &now, list, sizeof(list));
        if (list[0] == '\0') {
            return;
        }
        if (looks >= WORLD_LEFT_GRACE_MS / WORLD_LEFT_LOOK_MS) {
            world->result->has_left = true;
            (void)snprintf(world->result->left, sizeof(world->result->left), "%s", list);
            world_fail(world, "left behind: %s", list);
            return;
        }
        stage_sleep_ms(WORLD_LEFT_LOOK_MS);
    }
}

/* ---- the play ---- */

/* All clients of the world trust its server, and, on the real stage, nobody else. */
static bool world_trust(struct world *world, struct il_error *err)
{
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;

    options.ca_pem = stage_server_ca(world->server);
    options.ca_pem_size = options.ca_pem != NULL ? strlen(options.ca_pem) : 0;
    return il_tls_new(&options, &world->tls, err) == IL_OK;
}

static bool world_open(struct world *world)
{
    struct il_error err = { 0 };

    world->relent = stage_event_new();
    if (world->relent == NULL || !world_make_peers(world)) {
        world->result->is_impossible = true;
        world_fail(world, "out of memory");
        return false;
    }
    if (stage_server_start(world->cause->answering_max, world->options.has_tls, &world->server,
                           &err) != IL_OK) {
        world->result->is_impossible = true;
        world_fail(world, "the server could not be started: %.180s", err.message);
        return false;
    }
    if (world->options.has_tls && !world_trust(world, &err)) {
        world->result->is_impossible = true;
        world_fail(world, "TLS: %.180s", err.message);
        return false;
    }
    if (world->solution->open(world, &err) != IL_OK) {
        world_fail(world, "solution %s: %.180s", world->solution->name, err.message);
        return false;
    }
    return true;
}

static void world_close(struct world *world)
{
    if (world->relent != NULL) {
        stage_event_set(world->relent);
    }
    world_end_actors(world);
    if (world->solution_state != NULL) {
        world->solution->close(world);
    }
    world_free_peers(world);
    if (world->server != NULL && !stage_server_wait_open(world->server, 0, WORLD_LEFT_GRACE_MS)) {
        struct stage_server_counts counts;

        stage_server_counts(world->server, &counts);
        world_fail(world, "left behind: %llu connection%s that the server still sees open",
                   (unsigned long long)counts.open, lab_plural(counts.open));
    }
    stage_server_stop(world->server);
    world->tls = il_tls_unref(world->tls);
    stage_event_free(world->relent);
}

static void world_perform(struct world *world)
{
    bool is_open = world_open(world);

    if (is_open && world->cause->is_unjudged) {
        world->cause->run(world);
    } else if (is_open) {
        if (monitor_start(world)) {
            world->cause->run(world);
            monitor_stop(world);
        }
        judged_sum_up(world);
    }
    world_close(world);
}

static void do_nothing(void *arg)
{
    (void)arg;
}

/* What a process gets once and keeps: this thread's own loop, at its first wait; a sanitizer's
 * helper thread, at the first thread. */
static void world_warm_up(void)
{
    for (unsigned i = 0; il_sleep_ms(0) != IL_OK && i < WORLD_WARM_UP_MAX; i++) {
        stage_sleep_ms(1); /* a simulated world may have no memory at the moment */
    }
    stage_thread_join(stage_thread_start("warm-up", do_nothing, NULL));
}

void world_play(const struct cause *cause, const struct solution *solution,
                const struct world_options *options, struct result *result,
                struct timeline *timeline)
{
    struct world *world = calloc(1, sizeof(*world));
    struct held before;

    memset(result, 0, sizeof(*result));
    timeline->count = 0;
    if (world != NULL) {
        world->mutex = stage_mutex_new();
    }
    if (world == NULL || world->mutex == NULL) {
        result->is_broken = result->is_impossible = true;
        (void)snprintf(result->broken, sizeof(result->broken), "out of memory");
        free(world);
        return;
    }
    world->cause = cause;
    world->solution = solution;
    world->options = *options;
    world->result = result;
    world->timeline = timeline;
    world_warm_up();
    held_now(&before);
    world->started_ns = il_now_ns();
    world_perform(world);
    result->elapsed_ms = (uint32_t)((il_now_ns() - world->started_ns) / WORLD_NS_PER_MS);
    world_check_nothing_left(world, &before);
    result->is_complete = true;
    stage_mutex_free(world->mutex);
    free(world);
}
