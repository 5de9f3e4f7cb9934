/* call.c: a call's life: how it starts, what it waits for, how its outcome is delivered.
 *
 * How a connection is opened is in call_open.c; what is specific to how it is driven in exchange.c
 * (caller) and bound.c (bound).
 * Owns: the call. Threads: see call.h.
 * Ends: call_finish(), exactly once; the memory goes with the last reference. */
#include "client/call.h"

#include <stdio.h>

#include "client/drivers.h"
#include "client/session.h"

static void call_on_timer(struct timer *timer);
static void call_on_loop_end(struct loop_guest *guest);
static enum loop_result call_on_wake(struct il_loop *loop, struct job *job);
static enum loop_result call_on_cancel(struct il_loop *loop, struct job *job);
static enum loop_result call_on_start(struct il_loop *loop, struct job *job);
static enum loop_result call_deliver(struct il_loop *loop, struct job *job);
static void call_look_again(struct il_call *call, uint64_t now_ns);

/* ---- life ---- */

/* A call with its response, used before or fresh from the allocator; all zero but the response, and
 * what ties them to the client. */
static enum il_code call_alloc(struct il_client *client, const struct il_loop *home,
                               struct il_call **ret_call, struct il_error *err)
{
    uint8_t shelf_index = pool_shelf_index(&client->pool, home);
    struct il_response *response;
    struct il_call *call;
    uint64_t id;

    pool_begin(&client->pool, shelf_index, &call, &response, &id);
    if (call == NULL) {
        call = il_malloc(sizeof(*call));
    }
    if (response == NULL) {
        response = il_calloc(1, sizeof(*response));
    }
    if (call == NULL || response == NULL) {
        il_free(call);
        if (response != NULL) {
            response_destroy(response);
        }
        for (unsigned i = 0; i < 2; i++) { /* the caller's reference is still there */
            il_assert(!pool_end_use(&client->pool, shelf_index));
        }
        return il_fail(err, IL_ENOMEM, "no memory for a call");
    }
    memset(call, 0, offsetof(struct il_call, error));
    memset(&call->error, 0, offsetof(struct il_error, message) + 1); /* an empty message */
    response_reset(response, client, shelf_index);
    call->id = id;
    call->client = client;
    call->shelf_index = shelf_index;
    call->response = response;
    *ret_call = call;
    return IL_OK;
}

static void call_take_timeouts(struct il_call *call, const struct il_request *request)
{
    for (unsigned phase = 0; phase < CLIENT_PHASE_COUNT; phase++) {
        if (request->timeout_ms[phase] != 0) {
            call->timeout_ms[phase] = request->timeout_ms[phase];
        }
    }
}

static enum il_code call_new(struct il_client *client, const struct il_request *request,
                             struct il_loop *home, struct il_call **ret_call, struct il_error *err)
{
    struct il_call *call = NULL;
    enum il_code code = request_check(request, err);

    code = code == IL_OK ? call_alloc(client, home, &call, err) : code;
    if (code != IL_OK) {
        return code;
    }
    call->home = loop_ref(home);
    call->request = request;
    atomic_init(&call->ref_count, 1);
    call->guest.on_loop_end = call_on_loop_end;
    il_list_init(&call->guest.link);
    il_list_init(&call->waiter.link);
    il_list_init(&call->pool_link);
    timer_init(&call->timer, call_on_timer);
    call->wake_job.run = call_on_wake;
    call->cancel_job.run = call_on_cancel;
    call->start_job.run = call_on_start;
    call->done_job.run = call_deliver;
    memcpy(call->timeout_ms, client->timeout_ms, sizeof(call->timeout_ms));
    if (request->has_timeouts) {
        call_take_timeouts(call, request);
    }
    *ret_call = call;
    return IL_OK;
}

struct il_call *call_ref(struct il_call *call)
{
    atomic_fetch_add_explicit(&call->ref_count, 1, memory_order_relaxed);
    return call;
}

void call_unref(struct il_call *call)
{
    uint32_t before = atomic_fetch_sub_explicit(&call->ref_count, 1, memory_order_acq_rel);
    struct il_client *client;
    bool is_kept, is_last_use;

    il_assert(before > 0);
    if (before > 1) {
        return;
    }
    il_assert(call->conn == NULL && call->bound == NULL && call->place == NULL);
    il_assert(call->session_stream == NULL);
    il_assert(call->waiter.origin == NULL);
    if (call->owns_request) {
        il_request_free((struct il_request *)call->request); /* ours since il_call_start */
    }
    il_response_free(call->response);
    il_free(call->source_buffer);
    (void)loop_unref(call->home);
    client = call->client;
    is_last_use = pool_end_call(&client->pool, call, &is_kept);
    if (!is_kept) {
        il_free(call);
    }
    if (is_last_use) {
        client_finish(client);
    }
}

/* ---- time limits ---- */

static uint64_t deadline_after(uint64_t now_ns, uint64_t timeout_ms)
{
    return timeout_ms >= (UINT64_MAX - now_ns) / LOOP_NS_PER_MS
               ? UINT64_MAX
               : now_ns + timeout_ms * LOOP_NS_PER_MS;
}

/* The timer is moved only when it would fire too late; when it fires too early, it is armed anew.
 * So progress costs no more than a store. */
static void call_arm_timer(struct il_call *call)
{
    uint64_t until_ns = il_min_u64(call->total_deadline_ns, call->phase_deadline_ns);

    if (call->again_ns != 0) {
        until_ns = il_min_u64(until_ns, call->again_ns);
    }
    if (call->look_ns != 0) {
        until_ns = il_min_u64(until_ns, call->look_ns);
    }
    if (until_ns < call->timer_armed_ns) {
        call->timer_armed_ns = until_ns;
        timer_arm(&call->home->held.timers, &call->timer, until_ns);
    }
}

void call_set_phase(struct il_call *call, enum il_phase phase)
{
    call_set_phase_since(call, phase, loop_now_ns(call->home));
}

void call_set_phase_since(struct il_call *call, enum il_phase phase, uint64_t since_ns)
{
    call->phase_deadline_ns = deadline_after(since_ns, call->timeout_ms[phase]);
    atomic_store_explicit(&call->phase_since_ns, since_ns, memory_order_relaxed);
    atomic_store_explicit(&call->phase, (int)phase, memory_order_relaxed);
    call_arm_timer(call);
}

void call_note_progress(struct il_call *call)
{
    call->phase_deadline_ns =
        deadline_after(loop_now_ns(call->home), call->timeout_ms[atomic_load(&call->phase)]);
}

/* What the call is waiting for, in words. */
static void call_describe_wait(struct il_call *call, char *text, size_t size)
{
    const char *host = call->request->url.host;
    char where[CONN_TEXT_SIZE];

    switch (atomic_load(&call->phase)) {
    case IL_PHASE_POOL_WAIT:
        (void)snprintf(text, size, "%s %s:%u",
                       call->again_ns != 0 ? "a second try after it was refused by"
                                           : "a free connection to",
                       host, call->request->url.port);
        break;
    case IL_PHASE_RESOLVE:
    case IL_PHASE_CONNECT:
    case IL_PHASE_TLS:
        opening_describe(&call->opening, text, size);
        break;
    default:
        if (call->conn != NULL || call->session_stream != NULL) {
            (void)snprintf(text, size, "%s, %s",
                           atomic_load(&call->phase) == IL_PHASE_WRITE
                               ? "the server to take the request"
                               : "the server's response",
                           call->conn != NULL ? conn_text(call->conn, where)
                                              : session_text(call->session_stream, where));
        } else {
            (void)snprintf(text, size, "the loop that drives the connection to %s:%u", host,
                           call->request->url.port);
        }
        break;
    }
}

static void call_on_timer(struct timer *timer)
{
    struct il_call *call = il_container_of(timer, struct il_call, timer);
    uint64_t now_ns = loop_now_ns(call->home);
    enum il_phase phase = (enum il_phase)atomic_load(&call->phase);
    struct il_error error;
    char what[160];

    call->timer_armed_ns = UINT64_MAX;
    if (now_ns < call->total_deadline_ns && now_ns < call->phase_deadline_ns) {
        if (call->again_ns != 0 && now_ns >= call->again_ns) {
            call->again_ns = 0;
            call_acquire(call);
        } else if (call->look_ns != 0 && now_ns >= call->look_ns) {
            call_look_again(call, now_ns);
        } else {
            call_arm_timer(call);
        }
        return;
    }
    call_describe_wait(call, what, sizeof(what));
    if (now_ns >= call->total_deadline_ns) {
        uint64_t limit_ms = call->timeout_ms[IL_PHASE_TOTAL];

        il_fail_timeout(&error, phase, limit_ms,
                        "the request took longer than its total limit of %llu ms; it was in phase "
                        "%s, waiting for %s",
                        (unsigned long long)limit_ms, il_phase_name(phase), what);
    } else {
        uint64_t limit_ms = call->timeout_ms[phase];

        il_fail_timeout(&error, phase, limit_ms, "phase %s: waited %llu ms for %s",
                        il_phase_name(phase), (unsigned long long)limit_ms, what);
    }
    call_fail(call, IL_ETIMEDOUT, &error);
}

/* ---- the end ---- */

static void call_let_go(struct il_call *call)
{
    timer_cancel(&call->home->held.timers, &call->timer);
    loop_guest_remove(&call->guest);
    call_stop_opening(call);
    pool_leave(&call->client->pool, call);
    bound_let_go(call);
    session_let_go(call);
    if (call->conn != NULL) {
        client_discard(call->client, call->conn);
        call->conn = NULL;
    }
    if (call->is_listed) { /* not to be asked of the link: its neighbours change that */
        pool_remove_call(&call->client->pool, call);
    }
}

static void call_finish(struct il_call *call)
{
    il_assert_on_loop(call->home);
    call_let_go(call);
    call->is_done = true;
    atomic_store_explicit(&call->phase, IL_PHASE_DONE, memory_order_relaxed);
    if (call->party != NULL) {
        party_wake(call->party);
    } else if (!call->is_source_away) { /* else when it is back: what it uses may go with us */
        loop_push(call->home, &call->done_job);
    }
}

void call_succeed(struct il_call *call)
{
    il_assert(!call->is_done);
    call->code = IL_OK;
    call_finish(call);
}

#define CALL_SERVER_SIZE (H1_METHOD_SIZE_MAX + 96)

/* "GET localhost:80"; returns `text`. */
static const char *call_server(const struct il_call *call, char text[static CALL_SERVER_SIZE])
{
    (void)snprintf(text, CALL_SERVER_SIZE, "%s %.80s:%u", call->request->method,
                   call->request->url.host, call->request->url.port);
    return text;
}

void call_name_server(struct il_error *error, const char *server, const char *known)
{
    size_t server_size = strlen(server), size;

    il_assert(server_size < CALL_SERVER_SIZE);
    if (strstr(error->message, known) != NULL) {
        return;
    }
    size = (size_t)il_min_u64(strlen(error->message), IL_ERROR_MESSAGE_SIZE - 3 - server_size);
    memmove(error->message + server_size + 2, error->message, size);
    memcpy(error->message, server, server_size);
    memcpy(error->message + server_size, ": ", 2);
    error->message[server_size + 2 + size] = '\0';
}

void call_begin_streaming(struct il_call *call)
{
    struct il_response *response = call->response;
    char server[CALL_SERVER_SIZE];

    response->state = RESPONSE_STREAMING;
    response->read_timeout_ms = call->timeout_ms[IL_PHASE_READ];
    response->total_timeout_ms = call->timeout_ms[IL_PHASE_TOTAL];
    response->deadline_ns = call->total_deadline_ns;
    response->server = il_strdup(call_server(call, server));
}

void call_fail(struct il_call *call, enum il_code code, const struct il_error *error)
{
    char server[CALL_SERVER_SIZE];

    il_assert(!call->is_done);
    call->code = code;
    call->error = *error;
    call_name_server(&call->error, call_server(call, server), call->request->url.host);
    if (call->error.phase == IL_PHASE_NONE) {
        call->error.phase = (enum il_phase)atomic_load(&call->phase);
    }
    call_finish(call);
}

static void call_fail_plainly(struct il_call *call, enum il_code code)
{
    struct il_error error;

    il_fail(&error, code, "%s %s:%u: %s", call->request->method, call->request->url.host,
            call->request->url.port, il_code_text(code));
    call_fail(call, code, &error);
}

static void call_on_loop_end(struct loop_guest *guest)
{
    struct il_call *call = il_container_of(guest, struct il_call, guest);

    rt_call_was_evicted(call->home);
    if (call->is_source_away) {
        rt_call_ends(call->home); /* who calls its source tells the outcome, without the loop */
    }
    if (!IL_MUTANT(EVICT_QUIET)) {
        call_fail_plainly(call, IL_ESHUTDOWN);
    }
}

static enum loop_result call_on_cancel(struct il_loop *loop, struct job *job)
{
    struct il_call *call = il_container_of(job, struct il_call, cancel_job);

    if (!call->is_done) {
        call_fail_plainly(call, IL_ECANCELED);
    } else if (IL_MUTANT(DOUBLE_DONE) && call->on_done != NULL) {
        call->on_done(call->on_done_arg, IL_ECANCELED, NULL, &call->error);
    }
    call_unref(call);
    return LOOP_HELD;
}

/* ---- getting a connection ---- */

static void call_take(struct il_call *call, struct conn *conn)
{
    call_stop_opening(call);
    if (conn->bound != NULL) {
        bound_begin(call, conn);
    } else {
        exchange_begin(call, conn, true);
    }
}

/* All places are taken. What will free one may lie in a session's socket, and the loops that have
 * streams there may not run. Or it is not to be expected: then one is taken. */
static void call_look_after_sessions(struct il_call *call, bool has_sessions)
{
    struct session *session;

    for (unsigned i = 0;
         has_sessions && (session = pool_session_awaited(&call->client->pool, call, i)) != NULL;
         i++) {
        struct il_error error;
        enum il_code code = session_look_after(session, call->home, &call->look_ns, &error);

        session_unref(session);
        if (code != IL_OK) {
            call_fail(call, code, &error);
            return;
        }
    }
    call_arm_timer(call);
}

/* The call has waited until now for something to become free by itself. */
static void call_look_again(struct il_call *call, uint64_t now_ns)
{
    call->look_ns = 0;
    if (!atomic_load(&call->is_wake_posted)) { /* else it comes by call_acquire */
        call->look_ns = pool_look(&call->client->pool, call, now_ns);
        call_look_after_sessions(call, true);
    } else {
        call_arm_timer(call);
    }
}

void call_acquire(struct il_call *call)
{
    struct pool_identity identity;
    bool is_fresh = call->has_retried || call->client->no_keep_alive;
    struct il_error error;

    call->look_ns = 0;
    if (call_identify(call, &identity, &error) != IL_OK) {
        call_fail(call, error.code, &error);
        return;
    }

    for (;;) {
        struct pool_got got;

        if (pool_acquire(&call->client->pool, &identity, call, call->home, is_fresh, &got,
                         &error) != IL_OK) {
            call_fail(call, error.code, &error);
            return;
        }
        switch (got.answer) {
        case POOL_TAKEN:
            if (got.conn->bound == NULL && !exchange_adopt(call, got.conn)) {
                continue; /* it was dead; there may be another one */
            }
            call_take(call, got.conn);
            return;
        case POOL_SHARED:
            call_stop_opening(call);
            if (!session_begin(call, got.session, true)) {
                continue; /* it has just ended; there may be another one */
            }
            return;
        case POOL_DIAL:
            call_open(call, got.origin);
            return;
        case POOL_WAIT:
            call->look_ns = got.look_ns;
            opening_cancel(&call->opening);
            call_set_phase(call, IL_PHASE_POOL_WAIT);
            call_look_after_sessions(call, got.has_sessions);
            return;
        case POOL_NOTHING:
            call->look_ns = got.look_ns;
            if (call->place == NULL && opening_is_under_way(&call->opening)) {
                opening_cancel(&call->opening); /* its place is another's: it was away for long */
                call_set_phase(call, IL_PHASE_POOL_WAIT);
            }
            call_look_after_sessions(call, got.has_sessions);
            return;
        }
    }
}

void call_post_wake(struct il_call *call)
{
    if (!loop_post(call->home, &call->wake_job)) {
        call_unref(call); /* its loop has ended: it completes, and passes the wake on, right now */
    }
}

static enum loop_result call_on_wake(struct il_loop *loop, struct job *job)
{
    struct il_call *call = il_container_of(job, struct il_call, wake_job);

    atomic_store(&call->is_wake_posted, false); /* before we look: a wake from here on is another */
    if (!call->is_done) {
        struct conn *assigned = call->waiter.assigned;

        if (assigned != NULL) {
            call->waiter.assigned = NULL;
            if (IL_MUTANT(ASSIGNED) && assigned->bound == NULL) {
                (void)conn_claim(assigned, call->home);
                (void)exchange_adopt(call, assigned);
            }
            call_take(call, assigned);
        } else if (call->waiter.origin != NULL) {
            call_acquire(call);
        }
    }
    call_unref(call);
    return LOOP_HELD;
}

/* The first time at once: most often one server goes and the next one is there. After that a server
 * that has too much to do is given time, and not by all who wait to the same moment. */
void call_on_refused(struct il_call *call, enum il_code code, const struct il_error *error)
{
    uint64_t pause_ns;

    if (call->refusal_count == SESSION_REFUSALS_MAX || call->request->source != NULL) {
        call_fail(call, code, error);
        return;
    }
    pool_count_retry(&call->client->pool);
    if (call->refusal_count++ == 0) {
        call_acquire(call);
        return;
    }
    pause_ns = (SESSION_REFUSED_PAUSE_MS * LOOP_NS_PER_MS) << (2 * (call->refusal_count - 2));
    call->again_ns = loop_now_ns(call->home) + pause_ns + call->id % 16 * (pause_ns / 16);
    call_set_phase(call, IL_PHASE_POOL_WAIT); /* arms the timer */
}

/* Would it do no harm if the server had acted on it after all? */
static bool call_may_repeat(const struct il_call *call)
{
    /* The bound driver does as hyper does: only what was never written is sent again. */
    bool is_safe =
        call->sent_size == 0 ||
        (call->client->driver == IL_DRIVER_CALLER && request_is_idempotent(call->request)) ||
        IL_MUTANT(RETRY_UNSAFE);

    return is_safe && call->request->source == NULL && !call->has_begun;
}

void call_on_lost(struct il_call *call, enum il_code code, const struct il_error *error)
{
    if (!call->response->timing.was_reused || call->has_retried || !call_may_repeat(call)) {
        call_fail(call, code, error);
        return;
    }
    if (call->conn != NULL) {
        client_discard(call->client, call->conn);
        call->conn = NULL;
    }
    call->has_retried = true;
    pool_count_retry(&call->client->pool);
    call_acquire(call);
}

void call_on_left(struct il_call *call, enum il_code code, const struct il_error *error)
{
    if (call_may_repeat(call)) {
        call_on_refused(call, code, error);
    } else {
        call_fail(call, code, error);
    }
}

/* ---- starting ---- */

static void call_begin(struct il_call *call)
{
    uint64_t now_ns = loop_now_ns(call->home);

    il_assert_on_loop(call->home);
    call->timer_armed_ns = UINT64_MAX;
    call->total_deadline_ns = deadline_after(now_ns, call->timeout_ms[IL_PHASE_TOTAL]);
    call->response->timing.started_ns = now_ns;
    atomic_store(&call->started_ns, now_ns);
    call_set_phase(call, IL_PHASE_POOL_WAIT);
    loop_guest_add(call->home, &call->guest);
    call_acquire(call);
}

static enum loop_result call_on_start(struct il_loop *loop, struct job *job)
{
    call_begin(il_container_of(job, struct il_call, start_job));
    return LOOP_HELD;
}

static enum il_code client_check(struct il_client *client, const struct il_request *request,
                                 struct il_error *err)
{
    if (client == NULL || request == NULL) {
        return il_fail(err, IL_EINVAL, "%s is NULL", client == NULL ? "client" : "request");
    }
    if (client->fork_generation != sys_fork_generation()) {
        return il_fail(err, IL_EFORK,
                       "client '%s' was made before this process was forked; its connections are "
                       "the parent's: make a client of your own after fork",
                       client->name);
    }
    return IL_OK;
}

/* ---- waiting for the outcome ---- */

/* The request's body is made by the user's function, here, outside of the library. False: we could
 * not come back in, because our loop has ended, and the call with it. */
static bool call_ask_source(struct il_call *call, struct rt_place *place)
{
    const struct il_request *request = call->request;
    size_t size = 0;
    enum il_code code;

    call->wants_source = false;
    rt_call_out(place, (void (*)(void))request->source);
    code =
        request->source(request->source_arg, call->source_buffer, CALL_SOURCE_BUFFER_SIZE, &size);
    if (rt_call_in(place) != IL_OK) {
        il_assert(call->is_done);
        return false;
    }
    if (!call->is_done) {
        exchange_supply(call, code, size);
    }
    return true;
}

/* Until the call is done, which it is on return. False: we are not in the library any more. */
static bool call_wait(struct il_call *call, struct rt_place *place)
{
    while (!call->is_done) {
        enum il_code code = IL_OK;

        if (!call->wants_source) {
            code = rt_wait(place, IL_FOREVER, "HTTP response");
        } else if (!call_ask_source(call, place)) {
            return false;
        }
        if (code != IL_OK && !call->is_done) {
            call_fail_plainly(call, code);
        }
    }
    return true;
}

static enum il_code client_send(struct il_client *client, const struct il_request *request,
                                bool is_streaming, struct il_response **ret_response,
                                struct il_error *err)
{
    struct rt_place place;
    struct il_call *call;
    enum il_code code = client_check(client, request, err);

    if (code == IL_OK && ret_response == NULL) {
        code = il_fail(err, IL_EINVAL, "ret_response is NULL");
    }
    if (code == IL_OK) {
        code = rt_enter(&place, false, err);
    }
    if (code != IL_OK) {
        return code;
    }
    code = rt_check_cancelled(&place);
    if (code != IL_OK) {
        il_fail(err, code, "the request was not sent: %s", il_code_text(code));
        rt_leave(&place);
        return code;
    }
    code = call_new(client, request, place.loop, &call, err);
    if (code == IL_OK) {
        call->party = place.party;
        call->is_streaming = is_streaming;
        atomic_store(&call->task_id, rt_party_task_id(place.party));
        if (request->source != NULL) {
            rt_calls_out_begin(&place);
        }
        call_begin(call);
        if (call_wait(call, &place)) {
            rt_leave(&place);
        }
        if (request->source != NULL) {
            rt_calls_out_end();
        }
        code = call->code;
        if (code == IL_OK) {
            *ret_response = call->response;
            call->response = NULL;
        } else if (err != NULL) {
            *err = call->error;
        }
        call_unref(call);
    } else {
        rt_leave(&place);
    }
    return code;
}

enum il_code il_send(struct il_client *client, const struct il_request *request,
                     struct il_response **ret_response, struct il_error *err)
{
    return client_send(client, request, false, ret_response, err);
}

enum il_code il_send_streaming(struct il_client *client, const struct il_request *request,
                               struct il_response **ret_response, struct il_error *err)
{
    return client_send(client, request, true, ret_response, err);
}

enum il_code il_get(struct il_client *client, const char *url, struct il_response **ret_response,
                    struct il_error *err)
{
    struct il_request *request;
    enum il_code code = il_request_new("GET", url, &request, err);

    if (code == IL_OK) {
        code = il_send(client, request, ret_response, err);
        il_request_free(request);
    }
    return code;
}

enum il_code il_post(struct il_client *client, const char *url, const char *content_type,
                     const void *bytes, size_t size, struct il_response **ret_response,
                     struct il_error *err)
{
    struct il_request *request;
    enum il_code code = il_request_new("POST", url, &request, err);

    if (code != IL_OK) {
        return code;
    }
    code = il_request_set_body(request, bytes, size, err);
    if (code == IL_OK && content_type != NULL) {
        code = il_request_add_header(request, "Content-Type", content_type, err);
    }
    if (code == IL_OK) {
        code = il_send(client, request, ret_response, err);
    }
    il_request_free(request);
    return code;
}

/* ---- calls with a callback ---- */

void call_invoke_on_done(void *arg)
{
    struct il_call *call = arg;
    struct il_response *response = NULL;

    if (call->code == IL_OK) {
        response = call->response;
        call->response = NULL;
    }
    call->on_done(call->on_done_arg, call->code, response, &call->error);
}

static enum loop_result call_on_delivered(struct il_loop *loop, struct job *job)
{
    rt_call_ends(loop);
    call_unref(il_container_of(job, struct il_call, done_job));
    return LOOP_HELD;
}

/* A runtime that is being shut down waits for the call until on_done has returned. If the loop was
 * taken from us meanwhile, who has it now counts: the runtime may be gone, with its loop's end. */
static enum loop_result call_deliver(struct il_loop *loop, struct job *job)
{
    struct il_call *call = il_container_of(job, struct il_call, done_job);
    enum loop_result result =
        rt_run_callback(loop, call_invoke_on_done, call, (void (*)(void))call->on_done);

    if (result == LOOP_HELD) {
        return call_on_delivered(loop, job);
    }
    job->run = call_on_delivered;
    if (!loop_post(call->home, job)) {
        call_unref(call); /* the loop has ended without us, and has reported the call */
    }
    return LOOP_LOST;
}

static enum il_code call_choose_home(const struct il_call_options *options,
                                     struct il_loop **ret_home, struct il_error *err)
{
    struct il_runtime *runtime = options->runtime != NULL ? options->runtime : il_runtime_current();

    if (runtime == NULL) {
        return il_fail(err, IL_EINVAL,
                       "il_call_start on a plain thread wants a runtime for the call to live on");
    }
    return rt_choose_loop(runtime, ret_home, err);
}

enum il_code il_call_start(struct il_client *client, struct il_request *request,
                           const struct il_call_options *options, struct il_call **ret_call,
                           struct il_error *err)
{
    struct il_loop *home = NULL;
    struct il_call *call;
    enum il_code code = client_check(client, request, err);

    if (code != IL_OK) {
        return code;
    }
    if (options == NULL || options->size != sizeof(*options) || options->on_done == NULL) {
        return il_fail(err, IL_EINVAL,
                       "il_call_start: options want their size (IL_CALL_OPTIONS_INIT) and on_done");
    }
    code = call_choose_home(options, &home, err);
    if (code != IL_OK) {
        return code;
    }
    code = call_new(client, request, home, &call, err);
    if (code == IL_OK) {
        call->on_done = options->on_done;
        call->on_done_arg = options->arg;
        (void)call_ref(call); /* the user's */
        call->owns_request = !options->borrows_request;
        rt_call_begins(home);
        if (!loop_post(home, &call->start_job)) {
            rt_call_is_refused(home);
            call->owns_request = false; /* still the user's */
            call_unref(call);
            call_unref(call);
            code = il_fail(err, IL_ESHUTDOWN, "loop '%s' has ended", home->name);
        } else if (ret_call != NULL) {
            *ret_call = call;
        } else {
            call_unref(call);
        }
    }
    (void)loop_unref(home);
    return code;
}

void il_call_cancel(struct il_call *call)
{
    if (atomic_exchange(&call->cancel_requested, true)) {
        return;
    }
    (void)call_ref(call); /* the job's */
    if (!loop_post(call->home, &call->cancel_job)) {
        call_unref(call); /* its loop has ended, and the call with it */
    }
}

struct il_call *il_call_unref(struct il_call *call)
{
    if (call != NULL) {
        call_unref(call);
    }
    return NULL;
}
