/* judged.c: one request that is judged: sending it, reading the answer, and the verdict.
 *
 * Owns: the task of each request. Threads: each request is one task of its actor's; the monitor
 * looks at what is guarded by world->mutex.
 * Ends: judged_sum_up lets go of the tasks; by then all are over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/words.h"
#include "lab/world.h"

#define JUDGED_NS_PER_MS  1000000u
#define JUDGED_LATE_MS    2000 /* beyond what the server takes: then an answer was slow */
#define JUDGED_GRACE_MS   5000 /* for a request to come back after its time limit */
#define JUDGED_PIECE_SIZE 8192
#define JUDGED_RUNS_MAX   4 /* "8 hung, then 2 ok": longer stories are told by counts */

/* ---- asking ---- */

static void judged_name(struct judged *judged)
{
    const char *query = judged->ask.query != NULL ? judged->ask.query : "";
    unsigned number = judged->index + 1;

    (void)snprintf(judged->name, sizeof(judged->name), "request %u", number);
    if (judged->ask.bytes > 0) { /* a length that no other request has: the records show no query */
        judged->ask.bytes += judged->index;
        (void)snprintf(judged->path, sizeof(judged->path), "/bytes/%llu",
                       (unsigned long long)judged->ask.bytes);
        (void)snprintf(judged->target, sizeof(judged->target), "/bytes/%llu?seed=%u%s%s",
                       (unsigned long long)judged->ask.bytes, judged->index,
                       query[0] != '\0' ? "&" : "", query);
    } else {
        (void)snprintf(judged->token, sizeof(judged->token), "%.12s-%u", judged->actor->name,
                       number);
        (void)snprintf(judged->path, sizeof(judged->path), "/id/%.12s-%u", judged->actor->name,
                       number);
        (void)snprintf(judged->target, sizeof(judged->target), "/id/%.12s-%u%s%s",
                       judged->actor->name, number, query[0] != '\0' ? "?" : "", query);
    }
    judged->ask.query = NULL; /* the asker's */
}

struct judged *world_ask(struct world *world, struct actor *actor, const struct ask *ask)
{
    unsigned index = atomic_fetch_add(&world->judged_count, 1);
    struct judged *judged;

    if (index >= WORLD_JUDGED_MAX) {
        atomic_store(&world->judged_count, WORLD_JUDGED_MAX);
        world_fail(world, "more than %d requests", WORLD_JUDGED_MAX);
        index = WORLD_JUDGED_MAX - 1;
    }
    judged = &world->judged[index];
    judged->world = world;
    judged->actor = actor;
    judged->index = index;
    judged->ask = *ask;
    judged->code = IL_OK;
    judged_name(judged);
    return judged;
}

/* ---- sending, in a task ---- */

static void judged_take_whole(struct judged *judged, struct il_response *response)
{
    size_t size;
    const char *body = il_response_body(response, &size);

    judged->is_right = judged->status == 200 && size == strlen(judged->token) &&
                       memcmp(body, judged->token, size) == 0;
    if (judged->is_right) {
        (void)snprintf(judged->answer, sizeof(judged->answer), "%d, %zu byte%s", judged->status,
                       size, lab_plural(size));
    } else {
        (void)snprintf(judged->answer, sizeof(judged->answer),
                       "%d with \"%.30s\" (%zu byte%s), wanted \"%s\"", judged->status, body, size,
                       lab_plural(size), judged->token);
    }
}

static void judged_take_whole_pattern(struct judged *judged, struct il_response *response)
{
    size_t size;
    const char *body = il_response_body(response, &size);

    judged->is_right = judged->status == 200 && size == judged->ask.bytes &&
                       stage_pattern_matches(body, size, judged->index, 0);
    (void)snprintf(judged->answer, sizeof(judged->answer), "%d, %zu of the %llu bytes",
                   judged->status, size, (unsigned long long)judged->ask.bytes);
}

static void judged_take_streamed(struct judged *judged, struct il_response *response)
{
    uint64_t offset = 0;
    bool is_right = judged->status == 200;
    size_t got = 0;

    do {
        char piece[JUDGED_PIECE_SIZE];

        judged->code = il_response_read(response, piece, sizeof(piece), &got, &judged->error);
        if (judged->code != IL_OK) {
            return;
        }
        is_right = is_right && stage_pattern_matches(piece, got, judged->index, offset);
        offset += got;
        if (judged->ask.on_middle != NULL && offset >= judged->ask.middle) {
            stage_event_set(judged->ask.on_middle);
        }
    } while (got > 0);
    judged->is_right = is_right && offset == judged->ask.bytes;
    (void)snprintf(judged->answer, sizeof(judged->answer),
                   "%d, %llu of the %llu bytes that were announced%s", judged->status,
                   (unsigned long long)offset, (unsigned long long)judged->ask.bytes,
                   is_right ? "" : ", and not those that were sent");
}

static const char *judged_method(const struct judged *judged)
{
    return judged->ask.is_post ? "POST" : "GET";
}

static void judged_cancel_other(const struct judged *judged)
{
    const struct judged *other = judged->ask.cancels;
    struct il_task *task = NULL;

    if (other != NULL && judged->code == IL_OK) {
        stage_mutex_lock(judged->world->mutex);
        task = other->task; /* NULL: it could not be started, and the world has failed */
        stage_mutex_unlock(judged->world->mutex);
    }
    if (task != NULL) {
        il_task_cancel(task);
        world_note(judged->world, "%s is not wanted any more: it is cancelled",
                   judged->ask.cancels->name);
    }
}

static void judged_send(struct judged *judged)
{
    struct world *world = judged->world;
    struct il_response *response = NULL;
    struct il_request *request = NULL;
    struct il_response_timing timing;
    bool is_streaming = judged->ask.bytes > 0 && !judged->ask.is_whole;

    judged->code = world_request_new(world, judged_method(judged), &request, &judged->error, "%s",
                                     judged->target);
    if (judged->code == IL_OK) {
        (void)il_request_set_timeout_ms(request, IL_PHASE_TOTAL, world->options.limit_ms);
        judged->code = world_send(world, judged->actor, request, judged->path, is_streaming,
                                  &response, &judged->error);
        judged_cancel_other(judged); /* at once: before any other task of this loop runs */
    }
    if (judged->code == IL_OK) {
        il_response_timing(response, &timing);
        judged->connection_id = timing.connection_id;
        judged->status = il_response_status(response);
        if (is_streaming) {
            judged_take_streamed(judged, response);
        } else if (judged->ask.bytes > 0) {
            judged_take_whole_pattern(judged, response);
        } else {
            judged_take_whole(judged, response);
        }
    }
    il_response_free(response);
    il_request_free(request);
}

/* ---- the verdict of one ---- */

static uint64_t judged_elapsed_ms(const struct judged *judged)
{
    return (judged->done_ns - judged->started_ns) / JUDGED_NS_PER_MS;
}

static enum lab_verdict judged_verdict_locked(const struct judged *judged)
{
    if (judged->code == IL_OK && !judged->is_right) {
        return LAB_WRONG;
    }
    if (judged->proven == IL_VERDICT_HUNG) {
        return LAB_HUNG;
    }
    if (judged->proven == IL_VERDICT_STARVED) {
        return LAB_STARVED;
    }
    if (judged->code != IL_OK) {
        return LAB_ERROR;
    }
    return judged_elapsed_ms(judged) > judged->ask.due_ms + JUDGED_LATE_MS ? LAB_SLOW : LAB_OK;
}

static void judged_note_end(const struct judged *judged)
{
    unsigned long long ms = judged_elapsed_ms(judged);
    struct world *world = judged->world;
    const char *verdict = judged->ask.is_aside ? "not judged" : lab_verdict_name(judged->verdict);

    if (judged->code != IL_OK) {
        world_note(world, "%s: %s %s: %s after %llu ms: %.100s: %s", judged->name,
                   judged_method(judged), judged->path, il_code_name(judged->code), ms,
                   judged->error.message, verdict);
    } else {
        world_note(world, "%s: %s %s: %s, over connection %llu, after %llu ms: %s", judged->name,
                   judged_method(judged), judged->path, judged->answer,
                   (unsigned long long)judged->connection_id, ms, verdict);
    }
    if (judged->has_relented && judged->code == IL_OK) {
        world_remark(world, "the answer came %llu ms after the user code had been made to return",
                     (unsigned long long)(judged->done_ns - judged->relented_ns) /
                         JUDGED_NS_PER_MS);
    }
    if (judged->verdict == LAB_WRONG) {
        world_remark(world, "taken for a success: %s", judged->answer);
    }
}

static void judged_main(void *arg)
{
    struct judged *judged = arg;
    struct world *world = judged->world;

    world_note(world, "%s: %s %s begins", judged->name, judged_method(judged), judged->target);
    judged->started_ns = il_now_ns();
    stage_mutex_lock(world->mutex);
    judged->is_begun = true;
    stage_mutex_unlock(world->mutex);
    judged_send(judged);
    judged->done_ns = il_now_ns();
    stage_mutex_lock(world->mutex);
    judged->verdict = judged_verdict_locked(judged);
    judged->is_done = true;
    stage_mutex_unlock(world->mutex);
    judged_note_end(judged);
}

/* ---- starting and waiting ---- */

void judged_start(struct judged *judged)
{
    struct world *world = judged->world;
    struct il_task *task = NULL;
    struct il_error err;

    if (world_is_failed(world)) {
        return;
    }
    if (il_spawn(judged->actor->runtime, judged->name, judged_main, judged, &task, &err) != IL_OK) {
        world_fail(world, "a request could not be started: %.180s", err.message);
        return;
    }
    stage_mutex_lock(world->mutex);
    judged->task = task;
    stage_mutex_unlock(world->mutex);
}

void judged_wait(struct judged *judged)
{
    struct world *world = judged->world;
    uint64_t until_ns = il_deadline_in_ms(world->options.limit_ms + judged->ask.due_ms +
                                          JUDGED_LATE_MS + JUDGED_GRACE_MS);
    struct il_error err = { 0 };

    if (judged->task != NULL && il_task_join(judged->task, until_ns, &err) != IL_OK) {
        world_fail(world, "%s did not come back although its time limit was over: %.120s",
                   judged->name, err.message);
        il_task_cancel(judged->task);
    }
}

void judged_run(struct judged *judged)
{
    judged_start(judged);
    judged_wait(judged);
}

static void judged_run_main(void *arg)
{
    judged_run(arg);
}

void judged_start_alone(struct judged *judged)
{
    actor_start(judged->actor, judged_run_main, judged);
}

/* With IL_PHASE_NONE: any phase. */
static bool judged_is_in_phase(struct judged *judged, enum il_phase phase)
{
    bool is_there;

    stage_mutex_lock(judged->world->mutex);
    is_there = judged->is_done ||
               (phase != IL_PHASE_NONE ? judged->phase == phase : judged->phase != IL_PHASE_NONE);
    stage_mutex_unlock(judged->world->mutex);
    return is_there;
}

void judged_wait_phase(struct judged *judged, enum il_phase phase)
{
    struct world *world = judged->world;
    uint64_t until_ns = il_deadline_in_ms(WORLD_STEP_MS);

    while (!world_is_failed(world) && !judged_is_in_phase(judged, phase)) {
        if (il_now_ns() >= until_ns) {
            world_fail(world, "%s never came to phase %s", judged->name, il_phase_name(phase));
            return;
        }
        stage_sleep_ms(1);
    }
}

void judged_wait_looked(struct judged *judged)
{
    judged_wait_phase(judged, IL_PHASE_NONE);
}

/* ---- the verdict of all ---- */

/* "8 hung, then 2 ok" */
static void sum_up_runs(struct world *world, struct judged *const *judged, unsigned count)
{
    char text[RESULT_NOTE_SIZE] = "";
    unsigned run_count = 0;
    size_t used = 0;

    for (unsigned i = 0, next; i < count; i = next) {
        for (next = i; next < count && judged[next]->verdict == judged[i]->verdict;) {
            next++;
        }
        used +=
            (size_t)snprintf(text + used, sizeof(text) - used, "%s%u %s", i > 0 ? ", then " : "",
                             next - i, lab_verdict_name(judged[i]->verdict));
        if (++run_count > JUDGED_RUNS_MAX) {
            break;
        }
    }
    if (run_count > JUDGED_RUNS_MAX) {
        used = 0;
        for (int v = LAB_VERDICT_COUNT - 1; v >= 0; v--) {
            if (world->result->counts[v] > 0) {
                used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u %s",
                                         used > 0 ? ", " : "", world->result->counts[v],
                                         lab_verdict_name((enum lab_verdict)v));
            }
        }
    }
    if (count > 1) {
        world_remark(world, "%s", text);
    }
}

void judged_sum_up(struct world *world)
{
    struct result *result = world->result;
    unsigned count = atomic_load(&world->judged_count);
    const struct judged *worst = NULL, *failed = NULL;
    struct judged *done[WORLD_JUDGED_MAX];

    for (unsigned i = 0; i < count; i++) {
        struct judged *judged = &world->judged[i];

        if (!judged->is_done) {
            world_need(world, false, "send every request");
            continue;
        }
        if (judged->ask.is_aside) {
            continue;
        }
        done[result->request_count++] = judged;
        result->counts[judged->verdict]++;
        if (worst == NULL || judged->verdict > worst->verdict) {
            worst = judged;
        }
        if (failed == NULL && judged->code != IL_OK && judged->verdict == LAB_ERROR) {
            failed = judged;
        }
    }
    if (worst != NULL) {
        result->verdict = worst->verdict;
        if (worst->proven != IL_VERDICT_LIVE) {
            result->link_count = worst->look.link_count;
            memcpy(result->links, worst->look.links, sizeof(result->links));
        }
    }
    if (failed != NULL) {
        result->error = failed->error;
        result->error.code = failed->code;
    }
    sum_up_runs(world, done, result->request_count);
    for (unsigned i = 0; i < count; i++) {
        world->judged[i].task = il_task_unref(world->judged[i].task);
    }
}
