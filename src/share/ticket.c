/* ticket.c: one request that is handed over to a runtime, and its way back.
 *
 * Owns: the copy of the request, and the outcome. The caller and the runner each have a reference;
 *   neither needs the other to come to an end: the caller may leave at any time, and the runner may
 *   never begin.
 * Threads: any; see desk.h.
 * Ends: OVER is final, and set by whoever comes first: the one with the answer, the caller who
 *   gives up, or desk_close. The memory goes with the last reference. */
#include <stdio.h>

#include "share/desk.h"

static IL_NUMBERS _Atomic uint64_t ticket_id_last;

#define TO(state) (1u << (state))
static const unsigned ticket_next[TICKET_STATE_COUNT] = {
    [TICKET_ARRIVING] = TO(TICKET_QUEUED) | TO(TICKET_TAKEN) | TO(TICKET_OVER),
    [TICKET_QUEUED] = TO(TICKET_TAKEN) | TO(TICKET_OVER),
    [TICKET_TAKEN] = TO(TICKET_OVER),
    [TICKET_OVER] = 0,
};

static void ticket_set_state_locked(struct ticket *ticket, enum ticket_state to)
{
    struct desk *desk = ticket->desk;

    il_assert(to < TICKET_STATE_COUNT);
    il_assert(ticket_next[ticket->locked.state] & TO(to));
    desk->locked.taken_count += to == TICKET_TAKEN;
    desk->locked.taken_count -= ticket->locked.state == TICKET_TAKEN;
    ticket->locked.state = to;
    ticket->locked.since_ns = sys_now_ns();
}

static enum ticket_state ticket_get_state(struct ticket *ticket)
{
    enum ticket_state state;

    sys_mutex_lock(&ticket->desk->locked.mutex);
    state = ticket->locked.state;
    sys_mutex_unlock(&ticket->desk->locked.mutex);
    return state;
}

bool ticket_is_wanted(struct ticket *ticket)
{
    return ticket_get_state(ticket) != TICKET_OVER;
}

/* ---- life ---- */

static void ticket_free(struct ticket *ticket)
{
    il_assert(ticket->locked.sender == NULL);
    il_assert(ticket->locked.task == NULL);
    il_oneshot_receiver_free(ticket->receiver);
    il_request_free(ticket->request);
    (void)loop_unref(ticket->locked.loop);
    il_free(ticket);
}

struct ticket *ticket_ref(struct ticket *ticket)
{
    atomic_fetch_add_explicit(&ticket->ref_count, 1, memory_order_relaxed);
    return ticket;
}

void ticket_unref(struct ticket *ticket)
{
    struct desk *desk = ticket->desk; /* after the next line the ticket may be gone */
    uint32_t before = atomic_fetch_sub_explicit(&ticket->ref_count, 1, memory_order_acq_rel);

    il_assert(before > 0);
    if (before > 1) {
        return;
    }
    il_assert(ticket->locked.state == TICKET_OVER);
    sys_mutex_lock(&desk->locked.mutex);
    il_assert(desk->locked.ticket_count > 0);
    desk->locked.ticket_count--;
    sys_mutex_unlock(&desk->locked.mutex);
    ticket_free(ticket);
    desk_unref(desk);
}

/* Who waits here. */
static enum il_code ticket_find_waiter(struct ticket *ticket, struct il_error *err)
{
    struct rt_place place;
    enum il_code code = rt_enter(&place, false, err);

    if (code != IL_OK) {
        return code;
    }
    code = rt_check_cancelled(&place);
    if (code != IL_OK) {
        il_fail(err, code, "the request was not sent: %s", il_code_text(code));
    }
    ticket->waiter = place.party;
    rt_leave(&place);
    return code;
}

static enum il_code ticket_fill(struct ticket *ticket, const struct desk *desk,
                                const struct il_request *request, struct il_error *err)
{
    uint64_t total_ms = request->timeout_ms[IL_PHASE_TOTAL];
    enum il_code code = ticket_find_waiter(ticket, err);

    if (code == IL_OK) {
        code = request_copy(request, &ticket->request, err);
    }
    if (code == IL_OK) {
        code = il_oneshot_new(&ticket->locked.sender, &ticket->receiver, err);
    }
    ticket->total_timeout_ms = total_ms != 0 ? total_ms : desk->client->timeout_ms[IL_PHASE_TOTAL];
    ticket->deadline_ns = il_deadline_in_ms(ticket->total_timeout_ms);
    ticket->handed_over_ns = ticket->locked.since_ns = sys_now_ns();
    return code;
}

static enum il_code desk_admit(struct desk *desk, struct ticket *ticket, struct il_error *err)
{
    bool is_closed, is_full;

    sys_mutex_lock(&desk->locked.mutex);
    is_closed = desk->locked.is_closed;
    is_full = desk->locked.ticket_count >= desk->request_count_max;
    if (!is_closed && !is_full) {
        ticket->desk = desk_ref(desk);
        desk->locked.ticket_count++;
        il_list_push_back(&desk->locked.pending, &ticket->locked.link);
    }
    sys_mutex_unlock(&desk->locked.mutex);
    if (is_closed) {
        return il_fail(err, IL_ECLOSED, "%s '%s' was ended; the request was not sent", desk->kind,
                       desk->name);
    }
    if (is_full) {
        return il_fail(
            err, IL_ELIMIT,
            "%s '%s' has handed %u request%s to runtime '%s', not finished yet, the most "
            "it may (requests_max)",
            desk->kind, desk->name, desk->request_count_max, il_plural(desk->request_count_max),
            desk->owner);
    }
    return IL_OK;
}

enum il_code ticket_new(struct desk *desk, const struct il_request *request,
                        struct ticket **ret_ticket, struct il_error *err)
{
    struct ticket *ticket;
    enum il_code code;

    if (request->source != NULL) {
        return il_fail(err, IL_EINVAL,
                       "%s '%s': a body that is made piece by piece cannot be handed to another "
                       "runtime; set it with il_request_set_body",
                       desk->kind, desk->name);
    }
    ticket = il_calloc(1, sizeof(*ticket));
    if (ticket == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for handing over a request");
    }
    ticket->id = atomic_fetch_add_explicit(&ticket_id_last, 1, memory_order_relaxed) + 1;
    atomic_init(&ticket->ref_count, 2);
    il_list_init(&ticket->locked.link);
    code = ticket_fill(ticket, desk, request, err);
    if (code == IL_OK) {
        code = desk_admit(desk, ticket, err);
    }
    if (code != IL_OK) {
        il_oneshot_sender_free(ticket->locked.sender);
        ticket->locked.sender = NULL;
        ticket_free(ticket);
        return code;
    }
    *ret_ticket = ticket;
    return IL_OK;
}

void ticket_note_queued(struct ticket *ticket, struct il_loop *loop)
{
    sys_mutex_lock(&ticket->desk->locked.mutex);
    if (ticket->locked.state == TICKET_ARRIVING) {
        ticket_set_state_locked(ticket, TICKET_QUEUED);
        ticket->locked.loop = loop_ref(loop);
    }
    sys_mutex_unlock(&ticket->desk->locked.mutex);
}

void ticket_note_moved(struct ticket *ticket, struct il_loop *loop)
{
    struct il_loop *before = NULL;

    sys_mutex_lock(&ticket->desk->locked.mutex);
    if (ticket->locked.state == TICKET_ARRIVING) {
        ticket_set_state_locked(ticket, TICKET_QUEUED);
    }
    if (ticket->locked.state == TICKET_QUEUED) {
        before = ticket->locked.loop;
        ticket->locked.loop = loop_ref(loop);
    }
    sys_mutex_unlock(&ticket->desk->locked.mutex);
    (void)loop_unref(before);
}

/* ---- the end ---- */

/* What a ticket has that is let go of when it is OVER. */
struct ticket_rest {
    struct il_oneshot_sender *sender;
    struct il_task *task;
};

/* Make it OVER; nothing is left of it if it was. */
static struct ticket_rest ticket_close(struct ticket *ticket)
{
    struct ticket_rest rest = { NULL, NULL };

    sys_mutex_lock(&ticket->desk->locked.mutex);
    if (ticket->locked.state != TICKET_OVER) {
        ticket_set_state_locked(ticket, TICKET_OVER);
        il_list_unlink(&ticket->locked.link);
        rest.sender = ticket->locked.sender;
        rest.task = ticket->locked.task;
        ticket->locked.sender = NULL;
        ticket->locked.task = NULL;
    }
    sys_mutex_unlock(&ticket->desk->locked.mutex);
    return rest;
}

static void free_response(void *response)
{
    il_response_free(response);
}

void ticket_end(struct ticket *ticket, enum il_code code, struct il_response *response,
                const struct il_error *error)
{
    struct ticket_rest rest = ticket_close(ticket);

    if (rest.task != NULL && rest.task != il_task_current()) {
        il_task_cancel(rest.task);
    }
    (void)il_task_unref(rest.task);
    if (rest.sender == NULL) {
        il_response_free(response); /* the caller has left, or has got another outcome */
        return;
    }
    ticket->code = code;
    if (code != IL_OK) {
        ticket->error = *error;
    }
    if (il_oneshot_send(rest.sender, response, free_response, NULL) != IL_OK) {
        il_response_free(response); /* the caller leaves just now */
    }
    il_oneshot_sender_free(rest.sender);
}

void ticket_leave(struct ticket *ticket)
{
    struct ticket_rest rest = ticket_close(ticket);

    if (rest.task != NULL) {
        il_task_cancel(rest.task);
        (void)il_task_unref(rest.task);
    }
    il_oneshot_sender_free(rest.sender);
    ticket_unref(ticket);
}

/* ---- the runner ---- */

/* False: nobody waits any more. */
static bool ticket_take(struct ticket *ticket)
{
    struct il_task *task = il_task_current();
    struct party *party = rt_task_party(task);
    struct il_loop *loop_before = NULL;
    bool is_wanted;

    sys_mutex_lock(&ticket->desk->locked.mutex);
    is_wanted = ticket->locked.state != TICKET_OVER;
    if (is_wanted) {
        ticket_set_state_locked(ticket, TICKET_TAKEN);
        ticket->locked.task = il_task_ref(task);
        ticket->locked.task_id = rt_party_task_id(party);
        loop_before = ticket->locked.loop;
        ticket->locked.loop = loop_ref(party->loop);
    }
    sys_mutex_unlock(&ticket->desk->locked.mutex);
    (void)loop_unref(loop_before);
    return is_wanted;
}

static void ticket_send(struct ticket *ticket)
{
    const struct desk *desk = ticket->desk;
    struct il_response *response = NULL;
    struct il_error error;
    enum il_code code = il_send(desk->client, ticket->request, &response, &error);

    if (code == IL_ESHUTDOWN) {
        code = il_fail(&error, IL_EOWNERGONE,
                       "%s '%s': runtime '%s', which owns the client, was shut down during the "
                       "request",
                       desk->kind, desk->name, desk->owner);
    }
    ticket_end(ticket, code, response, &error);
}

void ticket_run(void *arg)
{
    struct ticket *ticket = arg;
    struct desk *desk = ticket->desk;

    if (ticket_take(ticket)) {
        ticket_send(ticket);
    }
    if (desk->permits != NULL) {
        /* cannot be more than there were */
        il_assert(il_semaphore_release(desk->permits, 1, NULL) == IL_OK);
    }
    ticket_unref(ticket);
}

/* ---- the caller waits ---- */

static enum il_code ticket_fail_late(const struct ticket *ticket, enum ticket_state state,
                                     struct il_error *err)
{
    const struct desk *desk = ticket->desk;

    return il_fail_timeout(
        err, IL_PHASE_DISPATCH, ticket->total_timeout_ms,
        "the request took longer than its total limit of %llu ms; %s '%s' has handed it to runtime "
        "'%s', which %s",
        (unsigned long long)ticket->total_timeout_ms, desk->kind, desk->name, desk->owner,
        state == TICKET_TAKEN ? "has taken it up and is not coming back"
                              : "has not taken it up: nobody drives that runtime, or it is busy");
}

/* Our wait has ended without an answer. */
static enum il_code ticket_fail(const struct ticket *ticket, enum il_code code,
                                enum ticket_state state, struct il_error *err)
{
    const struct desk *desk = ticket->desk;

    if (code == IL_ETIMEDOUT) {
        return ticket_fail_late(ticket, state, err);
    }
    return il_fail(err, code, "waiting for an answer through %s '%s': %s", desk->kind, desk->name,
                   il_code_text(code));
}

enum il_code ticket_wait(struct ticket *ticket, struct il_response **ret_response,
                         struct il_error *err)
{
    uint64_t grace_ns = (uint64_t)IL_SHARE_GRACE_MS * LOOP_NS_PER_MS;
    void *value = NULL;
    enum il_code code = il_oneshot_receive(ticket->receiver, ticket->deadline_ns, &value, NULL);

    if (code == IL_ETIMEDOUT && ticket_get_state(ticket) >= TICKET_TAKEN) {
        /* The request's own time is up at about this moment; it knows better what it waits for. */
        code = il_oneshot_receive(ticket->receiver, ticket->deadline_ns + grace_ns, &value, NULL);
    }
    il_assert(code != IL_ECLOSED); /* a sender is not freed before it has sent */
    if (code != IL_OK) {
        ticket_fail(ticket, code, ticket_get_state(ticket), err);
    } else if (ticket->code == IL_OK) {
        *ret_response = value;
    } else {
        code = ticket->code;
        if (err != NULL) {
            *err = ticket->error;
        }
    }
    ticket_leave(ticket);
    return code;
}
