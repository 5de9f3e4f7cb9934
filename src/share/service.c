/* service.c: an actor that takes requests out of a bounded queue, has each run by a task of its
 * own, not too many at once, and replies.
 *
 *     il_service_send --> channel --> actor: a permit, then the next ticket --> task: ticket_run
 *           ^                                  ^                                 |        |
 *           |                                  +-------- permit -----------------+        |
 *           +------------------------- oneshot -------------------------------------------+
 *
 * Owns: the channel and the desk. Threads: any.
 * Ends: the actor ends when the channel is closed and all that was in it has been run, or when its
 *   runtime ends; then it answers what is left. il_service_stop() waits for it, but not for ever;
 *   so the service's memory belongs to the user, to the actor, and to those who wait for a place.
 */
#include <stdio.h>

#include "share/desk.h"

#define SERVICE_CAPACITY_DEFAULT    64
#define SERVICE_CONCURRENCY_DEFAULT 16

struct il_service {
    struct desk *desk;          /* a reference */
    struct il_channel *channel; /* of tickets, each with its runner's reference */
    struct il_task *actor;      /* a reference */
    bool refuse_when_full;
    uint64_t queue_timeout_ms; /* IL_NO_LIMIT for none */
    _Atomic uint32_t ref_count;
};

static void service_ref(struct il_service *service)
{
    atomic_fetch_add_explicit(&service->ref_count, 1, memory_order_relaxed);
}

static void service_unref(struct il_service *service)
{
    if (atomic_fetch_sub_explicit(&service->ref_count, 1, memory_order_acq_rel) == 1) {
        (void)il_channel_unref(service->channel);
        (void)il_task_unref(service->actor);
        desk_unref(service->desk);
        il_free(service);
    }
}

/* ---- the actor ---- */

/* Answer a ticket that will not be run; drops the runner's reference. */
static void service_refuse(struct ticket *ticket, enum il_code code, struct il_error *error)
{
    const struct desk *desk = ticket->desk;

    if (code == IL_ESHUTDOWN) {
        code = il_fail(error, IL_EOWNERGONE,
                       "service '%s': its runtime '%s' was shut down; the request was not sent",
                       desk->name, desk->owner);
    } else if (code == IL_ECANCELED) {
        code = il_fail(error, IL_ECLOSED, "service '%s' was stopped; the request was not sent",
                       desk->name);
    }
    ticket_end(ticket, code, NULL, error);
    ticket_unref(ticket);
}

static void service_give_permit_back(struct il_service *service)
{
    il_assert(il_semaphore_release(service->desk->permits, 1, NULL) == IL_OK); /* it was ours */
}

/* The permit goes with the task, or comes back at once. */
static void service_run_one(struct il_service *service, struct ticket *ticket)
{
    struct desk *desk = service->desk;
    struct il_task *task;
    struct il_error error;
    enum il_code code;

    if (!ticket_is_wanted(ticket)) {
        ticket_unref(ticket);
        service_give_permit_back(service);
        return;
    }
    (void)ticket_ref(ticket); /* ours: the task may be through before we have noted where it is */
    code = il_spawn(desk->runtime, desk->name, ticket_run, ticket, &task, &error);
    if (code == IL_OK) {
        ticket_note_moved(ticket, rt_task_party(task)->loop);
        (void)il_task_unref(task);
    } else {
        service_refuse(ticket, code, &error);
        service_give_permit_back(service);
    }
    ticket_unref(ticket);
}

/* Until the channel is closed and empty (IL_ECLOSED), or the actor may not wait any more. */
static enum il_code service_serve(struct il_service *service)
{
    for (;;) {
        void *message;
        enum il_code code = il_semaphore_acquire(service->desk->permits, 1, IL_FOREVER, NULL);

        if (code != IL_OK) {
            return code;
        }
        code = il_channel_receive(service->channel, IL_FOREVER, &message, NULL);
        if (code != IL_OK) {
            service_give_permit_back(service);
            return code;
        }
        service_run_one(service, message);
    }
}

static void service_actor(void *arg)
{
    struct il_service *service = arg;
    enum il_code code = service_serve(service);
    struct il_error error = { .code = code };
    void *message;

    if (code == IL_ECLOSED) {
        /* Stopped: wait for those that run. If that is cut short, they are being cancelled too. */
        il_maybe(il_semaphore_acquire(service->desk->permits, service->desk->permit_count,
                                      IL_FOREVER, NULL) == IL_OK);
    }
    atomic_store(&service->desk->is_owner_gone, code == IL_ESHUTDOWN);
    (void)il_channel_close(service->channel, NULL); /* cannot fail: it is there, and ours */
    while (il_channel_try_receive(service->channel, &message, NULL) == IL_OK) {
        service_refuse(message, code, &error);
    }
    service_unref(service);
}

/* ---- starting and stopping ---- */

static void free_message(void *message)
{
    ticket_unref(message);
}

static enum il_code service_fill(struct il_service *service, struct il_runtime *runtime,
                                 const struct il_service_options *options, struct il_error *err)
{
    size_t capacity =
        options->queue_capacity > 0 ? options->queue_capacity : SERVICE_CAPACITY_DEFAULT;
    struct desk_options desk_options = {
        .kind = "service",
        .name = options->name,
        .runtime = runtime,
        .client_options = options->client,
        .request_count_max = options->requests_max,
        .permit_count =
            options->concurrency > 0 ? options->concurrency : SERVICE_CONCURRENCY_DEFAULT,
    };
    enum il_code code = desk_new(&desk_options, &service->desk, err);

    if (code == IL_OK) {
        code = il_channel_new(service->desk->name, capacity, free_message, &service->channel, err);
    }
    if (code == IL_OK) {
        atomic_store(&service->ref_count, 2); /* the user's, and the actor's */
        code = il_spawn(runtime, service->desk->name, service_actor, service, &service->actor, err);
    }
    return code;
}

enum il_code il_service_start(struct il_runtime *runtime, const struct il_service_options *options,
                              struct il_service **ret_service, struct il_error *err)
{
    static const struct il_service_options defaults = IL_SERVICE_OPTIONS_INIT;
    struct il_service *service;
    enum il_code code;

    options = options != NULL ? options : &defaults;
    code = share_check_size("il_service_options", options->size, sizeof(*options), err);
    if (code != IL_OK) {
        return code;
    }
    service = il_calloc(1, sizeof(*service));
    if (service == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a service");
    }
    service->refuse_when_full = options->refuse_when_full;
    service->queue_timeout_ms =
        options->queue_timeout_ms > 0 ? options->queue_timeout_ms : IL_NO_LIMIT;
    code = service_fill(service, runtime, options, err);
    if (code != IL_OK) {
        if (service->desk != NULL) {
            desk_close(service->desk);
            desk_unref(service->desk);
        }
        (void)il_channel_unref(service->channel);
        il_free(service);
        return code;
    }
    service->desk->loop = loop_ref(rt_task_party(service->actor)->loop);
    *ret_service = service;
    return IL_OK;
}

enum il_code il_service_stop(struct il_service *service, uint64_t deadline_ns, struct il_error *err)
{
    enum il_code code;

    if (service == NULL) {
        return IL_OK;
    }
    if (desk_is_the_parents(service->desk)) {
        return il_fail(err, IL_EFORK, "service '%s' belongs to the parent process",
                       service->desk->name);
    }
    (void)il_channel_close(service->channel, NULL); /* cannot fail: it is there, and ours */
    code = il_task_join(service->actor, deadline_ns, NULL);
    if (code != IL_OK) {
        il_fail(err, code,
                "service '%s' was stopped with requests still under way, or runtime '%s' is not "
                "driven: %s",
                service->desk->name, service->desk->owner, il_code_text(code));
        il_task_cancel(service->actor);
    }
    desk_close(service->desk);
    service_unref(service);
    return code;
}

/* ---- sending ---- */

static enum il_code service_fail_full(const struct il_service *service, const struct ticket *ticket,
                                      uint64_t until_ns, struct il_error *err)
{
    bool is_total = until_ns == ticket->deadline_ns;
    uint64_t limit_ms = is_total ? ticket->total_timeout_ms : service->queue_timeout_ms;

    return il_fail_timeout(err, IL_PHASE_DISPATCH, limit_ms,
                           "service '%s': its queue was full for %llu ms, the limit of %s; its "
                           "runtime '%s' is slow, busy, or not driven",
                           ticket->desk->name, (unsigned long long)limit_ms,
                           is_total ? "the whole request" : "queue_timeout_ms",
                           ticket->desk->owner);
}

/* Put the ticket into the queue. */
static enum il_code service_put(struct il_service *service, struct ticket *ticket,
                                struct il_error *err)
{
    const struct desk *desk = ticket->desk;
    uint64_t until_ns =
        il_min_u64(il_deadline_in_ms(service->queue_timeout_ms), ticket->deadline_ns);
    enum il_code code = service->refuse_when_full
                            ? il_channel_try_send(service->channel, ticket, err)
                            : il_channel_send(service->channel, ticket, until_ns, err);

    switch (code) {
    case IL_EAGAIN:
        return il_fail(err, code, "service '%s': its queue is full (queue_capacity)", desk->name);
    case IL_ETIMEDOUT:
        return service_fail_full(service, ticket, until_ns, err);
    case IL_ECLOSED:
        if (atomic_load(&desk->is_owner_gone)) {
            return il_fail(err, IL_EOWNERGONE,
                           "service '%s': its runtime '%s' is shut down; the request was not sent",
                           desk->name, desk->owner);
        }
        return il_fail(err, code, "service '%s' was stopped; the request was not sent", desk->name);
    default:
        return code;
    }
}

enum il_code il_service_send(struct il_service *service, const struct il_request *request,
                             struct il_response **ret_response, struct il_error *err)
{
    struct ticket *ticket;
    enum il_code code;

    if (service == NULL) {
        return il_fail(err, IL_EINVAL, "il_service_send: service is NULL");
    }
    code = desk_check(service->desk, request, err);
    if (code == IL_OK) {
        code = ticket_new(service->desk, request, &ticket, err);
    }
    if (code != IL_OK) {
        return code;
    }
    service_ref(service); /* it may be stopped while we wait for a place */
    code = service_put(service, ticket, err);
    service_unref(service);
    if (code == IL_OK) {
        ticket_note_queued(ticket, ticket->desk->loop);
        return ticket_wait(ticket, ret_response, err);
    }
    ticket_unref(ticket); /* the runner's, that does not come to be */
    ticket_leave(ticket);
    return code;
}

static enum il_code service_send(void *object, const struct il_request *request,
                                 struct il_response **ret_response, struct il_error *err)
{
    return il_service_send(object, request, ret_response, err);
}

enum il_code il_service_get(struct il_service *service, const char *url,
                            struct il_response **ret_response, struct il_error *err)
{
    return share_get(service_send, service, url, ret_response, err);
}
