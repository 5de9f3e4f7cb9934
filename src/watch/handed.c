/* handed.c: requests that were handed to another runtime (src/share): what they wait for there.
 *
 * Pure but for watch_copy_pending, which runs under the locks of src/share and copies. */
#include <stdio.h>

#include "watch/watch.h"

/* So that they differ from the ids of calls. */
#define HANDED_ID_BIT (UINT64_C(1) << 63)

static uint64_t ms_since(uint64_t now_ns, uint64_t since_ns)
{
    return now_ns < since_ns ? 0 : (now_ns - since_ns) / LOOP_NS_PER_MS;
}

void watch_copy_pending(const struct share_pending *pending, uint64_t now_ns,
                        struct watch_handed *copy)
{
    struct il_watch_request *view = &copy->view;
    const struct il_request *request = pending->request;

    memset(copy, 0, sizeof(*copy));
    view->id = pending->id | HANDED_ID_BIT;
    (void)snprintf(view->client, sizeof(view->client), "%s", pending->name);
    client_describe_request(request, view);
    rt_party_describe(pending->waiter, view->waiter, sizeof(view->waiter));
    view->phase = IL_PHASE_DISPATCH;
    view->age_ms = ms_since(now_ns, pending->handed_over_ns);
    view->phase_ms = ms_since(now_ns, pending->since_ns);
    copy->kind = pending->kind;
    (void)snprintf(copy->owner, sizeof(copy->owner), "%s", pending->owner);
    copy->state = pending->state;
    copy->since_ns = pending->since_ns;
    copy->loop_id = pending->loop != NULL ? pending->loop->id : 0;
    copy->task_id = pending->task_id;
    copy->taken_count = pending->taken_count;
    copy->taken_count_max = pending->taken_count_max;
}

/* The call by which the owner's task sends it. */
static const struct client_call_report *find_call(const struct watch_world *world, uint64_t task_id)
{
    for (size_t i = 0; i < world->calls.count && task_id != 0; i++) {
        if (watch_call_at(world, i)->task_id == task_id) {
            return watch_call_at(world, i);
        }
    }
    return NULL;
}

static void add_desk(struct watch_handed *handed, const char *state, const char *detail)
{
    char who[64];

    (void)snprintf(who, sizeof(who), "%s '%s'", handed->kind, handed->view.client);
    watch_add_link(&handed->view, handed->kind, who, state, handed->view.phase_ms, "%s", detail);
}

/* It is being sent: what the sender waits for. */
static void follow_sender(const struct watch_world *world, struct watch_handed *handed)
{
    const struct client_call_report *call = find_call(world, handed->task_id);
    struct client_call_report followed;
    char detail[160];

    (void)snprintf(detail, sizeof(detail), "a task of runtime '%s' sends it", handed->owner);
    add_desk(handed, "being sent", detail);
    if (call == NULL) { /* between two steps of that task */
        handed->view.verdict = watch_follow_loop(world, &handed->view, handed->loop_id);
        return;
    }
    followed = *call;
    watch_follow(world, &followed);
    handed->view.connection_id = followed.view.connection_id;
    handed->view.phase = followed.view.phase;
    handed->view.verdict = followed.view.verdict;
    handed->view.stamp ^= followed.view.stamp;
    for (unsigned i = 1; i < followed.view.link_count; i++) { /* 0 is the request once more */
        if (handed->view.link_count < IL_WATCH_LINKS_MAX) {
            handed->view.links[handed->view.link_count++] = followed.view.links[i];
        }
    }
}

/* For one of several runtimes of that name, the most lively loop: no false alarm. */
static uint64_t find_owner_loop(const struct watch_world *world, const char *owner)
{
    const struct watch_loop *best = NULL;

    for (size_t i = 0; i < world->loops.count; i++) {
        const struct watch_loop *loop = watch_loop_at(world, i);

        if (strcmp(loop->view.runtime, owner) == 0 &&
            (best == NULL || watch_judge_loop(loop) < watch_judge_loop(best))) {
            best = loop;
        }
    }
    return best != NULL ? best->view.id : 0;
}

/* It lies there, and nobody has taken it up. */
static void follow_queue(const struct watch_world *world, struct watch_handed *handed)
{
    bool is_full = handed->taken_count_max > 0 && handed->taken_count >= handed->taken_count_max;
    bool is_arriving = handed->state == SHARE_ARRIVING;
    uint64_t loop_id = handed->loop_id;
    char detail[160];

    if (is_full) {
        (void)snprintf(detail, sizeof(detail), "%u request%s being sent already, the most at once",
                       handed->taken_count, il_plural(handed->taken_count));
    } else {
        (void)snprintf(detail, sizeof(detail), "runtime '%s' has not taken it up", handed->owner);
    }
    add_desk(handed, is_arriving ? "waits for a place" : "queued", detail);
    if (loop_id == 0) {
        loop_id = find_owner_loop(world, handed->owner);
    }
    handed->view.verdict = loop_id != 0 ? watch_follow_loop(world, &handed->view, loop_id)
                                        : IL_VERDICT_LIVE; /* nothing known: no alarm */
}

void watch_follow_handed(const struct watch_world *world, struct watch_handed *handed)
{
    struct il_watch_request *view = &handed->view;
    char who[64];

    view->link_count = 0;
    view->stamp = watch_stamp_add(watch_stamp_add(view->id, handed->state), handed->since_ns);
    view->stamp = watch_stamp_add(view->stamp, handed->taken_count);
    (void)snprintf(who, sizeof(who), "%.15s %.44s", view->method, view->path);
    watch_add_link(view, "request", who, "handed over", view->age_ms, "%s waits for the response",
                   view->waiter);
    if (handed->state == SHARE_TAKEN) {
        follow_sender(world, handed);
    } else {
        follow_queue(world, handed);
    }
}
