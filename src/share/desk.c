/* desk.c: desks: what a single, a proxy and a service have in common, and the registry of them all.
 *
 * Owns: the desk. Threads: any. Locks, in this order: the registry's, then a desk's.
 * Ends: desk_close() is its user's end of it; the memory goes with the last ticket. */
#include "share/desk.h"

#include <stdio.h>

#include "base/shown.h"

/* Written when a desk is made or freed, read by reports. */
static struct sys_mutex registry_mutex = { .real = PTHREAD_MUTEX_INITIALIZER };
static struct il_list registry = IL_LIST_INIT(registry);

_Static_assert((int)TICKET_ARRIVING == (int)SHOWN_TICKET_ARRIVING &&
                   (int)TICKET_QUEUED == (int)SHOWN_TICKET_QUEUED &&
                   (int)TICKET_TAKEN == (int)SHOWN_TICKET_TAKEN &&
                   (int)TICKET_OVER == (int)SHOWN_TICKET_OVER,
               "the doctor reads these");

SHOWN_DEFINE(shown_desks, SHOWN_DESKS, SHOWN_DESK_FIELD_COUNT,
             &registry, [SHOWN_DESK_LINK] = offsetof(struct desk, registry_link),
             [SHOWN_DESK_KIND] = offsetof(struct desk, kind),
             [SHOWN_DESK_NAME] = offsetof(struct desk, name),
             [SHOWN_DESK_OWNER] = offsetof(struct desk, owner),
             [SHOWN_DESK_LOOP] = offsetof(struct desk, loop),
             [SHOWN_DESK_TICKET_LIST] = offsetof(struct desk, locked.pending),
             [SHOWN_TICKET_LINK] = offsetof(struct ticket, locked.link),
             [SHOWN_TICKET_ID] = offsetof(struct ticket, id),
             [SHOWN_TICKET_REQUEST] = offsetof(struct ticket, request),
             [SHOWN_TICKET_WAITER] = offsetof(struct ticket, waiter),
             [SHOWN_TICKET_STATE] = offsetof(struct ticket, locked.state),
             [SHOWN_TICKET_SINCE_NS] = offsetof(struct ticket, locked.since_ns),
             [SHOWN_TICKET_HANDED_OVER_NS] = offsetof(struct ticket, handed_over_ns),
             [SHOWN_TICKET_LOOP] = offsetof(struct ticket, locked.loop),
             [SHOWN_TICKET_TASK_ID] = offsetof(struct ticket, locked.task_id));

/* ---- life ---- */

static enum il_code desk_set_client(struct desk *desk, const struct desk_options *options,
                                    struct il_error *err)
{
    if (options->client != NULL) {
        desk->client = il_client_ref(options->client);
        return IL_OK;
    }
    return share_new_client(options->client_options, desk->name, &desk->client, err);
}

static void desk_free(struct desk *desk)
{
    il_assert(il_list_is_empty(&desk->locked.pending));
    il_assert(desk->locked.ticket_count == 0);
    (void)il_client_unref(desk->client);
    (void)il_semaphore_unref(desk->permits);
    (void)loop_unref(desk->loop);
    sys_mutex_deinit(&desk->locked.mutex);
    il_free(desk);
}

enum il_code desk_new(const struct desk_options *options, struct desk **ret_desk,
                      struct il_error *err)
{
    struct desk *desk;
    enum il_code code;

    if (options->runtime == NULL) {
        return il_fail(err, IL_EINVAL, "a %s wants a runtime that owns its client", options->kind);
    }
    desk = il_calloc(1, sizeof(*desk));
    if (desk == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a %s", options->kind);
    }
    desk->kind = options->kind;
    (void)snprintf(desk->name, sizeof(desk->name), "%s", /* cut on purpose */
                   options->name != NULL ? options->name : options->kind);
    (void)snprintf(desk->owner, sizeof(desk->owner), "%s", il_runtime_name(options->runtime));
    desk->request_count_max =
        options->request_count_max > 0 ? options->request_count_max : SHARE_REQUESTS_MAX_DEFAULT;
    desk->permit_count = options->permit_count;
    desk->fork_generation = sys_fork_generation();
    atomic_init(&desk->ref_count, 1);
    sys_mutex_init(&desk->locked.mutex);
    il_list_init(&desk->locked.pending);
    il_list_init(&desk->registry_link);
    code = desk_set_client(desk, options, err);
    if (code == IL_OK && options->permit_count > 0) {
        code = il_semaphore_new(desk->name, options->permit_count, &desk->permits, err);
    }
    if (code != IL_OK) {
        desk_free(desk);
        return code;
    }
    desk->runtime = il_runtime_ref(options->runtime);
    sys_mutex_lock(&registry_mutex);
    il_list_push_back(&registry, &desk->registry_link);
    sys_mutex_unlock(&registry_mutex);
    *ret_desk = desk;
    return IL_OK;
}

struct desk *desk_ref(struct desk *desk)
{
    atomic_fetch_add_explicit(&desk->ref_count, 1, memory_order_relaxed);
    return desk;
}

void desk_unref(struct desk *desk)
{
    uint32_t before = atomic_fetch_sub_explicit(&desk->ref_count, 1, memory_order_acq_rel);

    il_assert(before > 0);
    if (before == 1) {
        il_assert(desk->locked.is_closed);
        sys_mutex_lock(&registry_mutex);
        il_list_unlink(&desk->registry_link);
        sys_mutex_unlock(&registry_mutex);
        desk_free(desk);
    }
}

/* ---- closing ---- */

/* The oldest ticket that somebody waits for, with a reference; NULL if there is none. */
static struct ticket *desk_first_pending(struct desk *desk)
{
    struct ticket *ticket = NULL;

    sys_mutex_lock(&desk->locked.mutex);
    if (!il_list_is_empty(&desk->locked.pending)) {
        ticket = ticket_ref(il_container_of(desk->locked.pending.next, struct ticket, locked.link));
    }
    sys_mutex_unlock(&desk->locked.mutex);
    return ticket;
}

void desk_close(struct desk *desk)
{
    struct ticket *ticket;
    struct il_error error;
    bool was_closed;

    sys_mutex_lock(&desk->locked.mutex);
    was_closed = desk->locked.is_closed;
    desk->locked.is_closed = true;
    sys_mutex_unlock(&desk->locked.mutex);
    il_assert(!was_closed);
    il_fail(&error, IL_ECLOSED, "%s '%s' was ended during the request", desk->kind, desk->name);
    while ((ticket = desk_first_pending(desk)) != NULL) {
        ticket_end(ticket, IL_ECLOSED, NULL, &error);
        ticket_unref(ticket);
    }
    (void)il_runtime_unref(desk->runtime);
}

/* ---- sending, for a single and a proxy ---- */

bool desk_is_the_parents(const struct desk *desk)
{
    return desk->fork_generation != sys_fork_generation();
}

/* The owner moves only on this very thread, and cannot before we return. */
static bool desk_waits_for_itself(const struct desk *desk)
{
    return rt_is_current_thread(desk->runtime) && rt_is_run_here(desk->runtime) &&
           il_runtime_current() != desk->runtime;
}

enum il_code desk_check(const struct desk *desk, const struct il_request *request,
                        struct il_error *err)
{
    if (request == NULL) {
        return il_fail(err, IL_EINVAL, "%s '%s': request is NULL", desk->kind, desk->name);
    }
    if (desk_is_the_parents(desk)) {
        return il_fail(err, IL_EFORK,
                       "%s '%s' was made before this process was forked: make one of your own "
                       "after fork",
                       desk->kind, desk->name);
    }
    if (desk_waits_for_itself(desk)) {
        return il_fail(err, IL_EDEADLOCK,
                       "%s '%s': a task of runtime '%s', further out on this thread, waits in "
                       "il_block_on for us, and we would wait for that runtime",
                       desk->kind, desk->name, desk->owner);
    }
    return IL_OK;
}

static enum il_code desk_hand_over(struct desk *desk, struct ticket *ticket, struct il_error *err)
{
    struct il_task *task;
    enum il_code code = il_spawn(desk->runtime, desk->name, ticket_run, ticket, &task, err);

    if (code == IL_OK) {
        ticket_note_queued(ticket, rt_task_party(task)->loop);
        (void)il_task_unref(task);
        return IL_OK;
    }
    ticket_unref(ticket); /* the runner's, that does not come to be */
    if (code == IL_ESHUTDOWN) {
        return il_fail(err, IL_EOWNERGONE,
                       "%s '%s': runtime '%s', which owns the client, is shut down; the request "
                       "was not sent",
                       desk->kind, desk->name, desk->owner);
    }
    return code;
}

enum il_code desk_send(struct desk *desk, const struct il_request *request,
                       struct il_response **ret_response, struct il_error *err)
{
    struct ticket *ticket;
    enum il_code code = desk_check(desk, request, err);

    if (code != IL_OK) {
        return code;
    }
    if (il_runtime_current() == desk->runtime) {
        return il_send(desk->client, request, ret_response, err);
    }
    code = ticket_new(desk, request, &ticket, err);
    if (code != IL_OK) {
        return code;
    }
    code = desk_hand_over(desk, ticket, err);
    if (code != IL_OK) {
        ticket_leave(ticket);
        return code;
    }
    return ticket_wait(ticket, ret_response, err);
}

/* ---- reports ---- */

static void desk_visit_locked(struct desk *desk,
                              void (*visit)(const struct share_pending *pending, void *arg),
                              void *arg)
{
    static const enum share_state states[TICKET_STATE_COUNT] = {
        [TICKET_ARRIVING] = SHARE_ARRIVING,
        [TICKET_QUEUED] = SHARE_QUEUED,
        [TICKET_TAKEN] = SHARE_TAKEN,
    };

    il_list_for_each(&desk->locked.pending, node)
    {
        const struct ticket *ticket = il_container_of(node, const struct ticket, locked.link);
        struct share_pending pending = {
            .id = ticket->id,
            .kind = desk->kind,
            .name = desk->name,
            .owner = desk->owner,
            .request = ticket->request,
            .waiter = ticket->waiter,
            .handed_over_ns = ticket->handed_over_ns,
            .deadline_ns = ticket->deadline_ns,
            .state = states[ticket->locked.state],
            .since_ns = ticket->locked.since_ns,
            .loop = ticket->locked.loop != NULL ? ticket->locked.loop : desk->loop,
            .task_id = ticket->locked.task_id,
            .taken_count = desk->locked.taken_count,
            .taken_count_max = desk->permit_count,
        };

        il_assert(ticket->locked.state != TICKET_OVER);
        visit(&pending, arg);
    }
}

void share_for_each_pending(void (*visit)(const struct share_pending *pending, void *arg),
                            void *arg)
{
    sys_mutex_lock(&registry_mutex);
    il_list_for_each(&registry, node)
    {
        struct desk *desk = il_container_of(node, struct desk, registry_link);

        sys_mutex_lock(&desk->locked.mutex);
        desk_visit_locked(desk, visit, arg);
        sys_mutex_unlock(&desk->locked.mutex);
    }
    sys_mutex_unlock(&registry_mutex);
}

/* ---- small things that the patterns share ---- */

enum il_code share_get(share_send_fn *send_request, void *object, const char *url,
                       struct il_response **ret_response, struct il_error *err)
{
    struct il_request *request;
    enum il_code code = il_request_new("GET", url, &request, err);

    if (code == IL_OK) {
        code = send_request(object, request, ret_response, err);
        il_request_free(request);
    }
    return code;
}

enum il_code share_check_size(const char *what, size_t size, size_t size_wanted,
                              struct il_error *err)
{
    if (size == size_wanted) {
        return IL_OK;
    }
    return il_fail(err, IL_EINVAL, "%s: size is %zu, want %zu (the ..._OPTIONS_INIT macro sets it)",
                   what, size, size_wanted);
}

enum il_code share_new_client(const struct il_client_options *given, const char *name,
                              struct il_client **ret_client, struct il_error *err)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options = given != NULL ? *given : options;
    options.name = options.name != NULL ? options.name : name;
    return il_client_new(&options, ret_client, err);
}

void share_describe_here(char *text, size_t size)
{
    struct rt_place place;

    if (rt_enter(&place, true, NULL) != IL_OK) {
        (void)snprintf(text, size, "a place that cannot be named");
        return;
    }
    if (place.party != NULL) {
        rt_party_describe(place.party, text, size);
    } else {
        (void)snprintf(text, size, "a callback on loop '%s'", place.loop->name);
    }
    rt_leave(&place);
}
