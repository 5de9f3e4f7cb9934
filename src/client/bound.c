/* bound.c: the other driver: a connection belongs for ever to the loop that opened it, as in hyper.
 *
 *     home loop                                 driving loop
 *     bound_begin   ---- to_driver job ---->    exchange on the connection
 *     call_on_...   <--- to_home job -------    head, body, end or failure
 *     bound_read    <--- wakes the reader --    body of a streamed response
 *                   ---- resume, abandon -->
 *
 * What the home loop waits for is the driving loop: if nobody drives that, nothing comes back, and
 * the request hangs. This file exists to show it. Two more of hyper's habits are kept on purpose:
 * a body whose driver's runtime is dropped ends without an error, cut short (hyper#3995); and a
 * request that was never written, because the connection was found closed, is sent again.
 *
 * Owns: bound_conn, shared by the driving loop and by whoever has the handle (the pool while it is
 *   idle, else an exchange); bound_exchange, shared by both sides. Each has a reference count. */
#include "base/shown.h"
#include "client/drivers.h"

#define BOUND_CHUNKS_MAX 65536 /* bytes of body that may wait for the reader */

struct bound_conn {
    struct conn *conn;
    struct il_loop *loop; /* that drives it; a reference */
    _Atomic uint32_t ref_count;
    struct job retire_job;

    struct { /* the driving loop's holder */
        struct loop_guest guest;
        struct bound_exchange *current; /* a reference */
        bool is_closed;
    } held;
};

SHOWN_DEFINE(shown_bound, SHOWN_BOUND, SHOWN_BOUND_FIELD_COUNT,
             NULL, [SHOWN_BOUND_LOOP] = offsetof(struct bound_conn, loop));

enum bound_state {
    BOUND_QUEUED,   /* on its way to the driving loop, or not answered yet */
    BOUND_HEAD,     /* the head has come; the body is coming */
    BOUND_COMPLETE, /* the end has come, or what passes for it */
    BOUND_FAILED,
};

struct bound_exchange {
    struct bound_conn *bound; /* the handle on it */
    struct il_loop *home;     /* a reference */
    _Atomic uint32_t ref_count;
    struct job to_driver, to_home, resume_job, abandon_job;
    bool is_streaming;
    char method[H1_METHOD_SIZE_MAX + 1];
    struct il_bytes request; /* head and body: copied, since the caller may give up and go */

    struct {                  /* the home loop's holder */
        struct il_call *call; /* NULL once it is over */
    } home_held;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        enum bound_state state;
        struct il_response *response; /* until the home loop takes it */
        struct il_bytes chunks;       /* streamed: body not read yet */
        bool is_abandoned;            /* nobody wants the outcome */
        bool is_paused;               /* the driver waits for the reader */
        bool is_home_posted;
        bool is_resume_posted;
        bool is_unsent;       /* failed before anything was written */
        struct party *reader; /* borrowed while it waits */
        enum il_code code;
        struct il_error error;
    } shared;
};

static void bound_on_io(struct conn *conn);

/* ---- references ---- */

static void bound_conn_unref(struct bound_conn *bound)
{
    if (atomic_fetch_sub_explicit(&bound->ref_count, 1, memory_order_acq_rel) == 1) {
        conn_free(bound->conn);
        (void)loop_unref(bound->loop);
        il_free(bound);
    }
}

static struct bound_exchange *bound_ref(struct bound_exchange *x)
{
    atomic_fetch_add_explicit(&x->ref_count, 1, memory_order_relaxed);
    return x;
}

static void bound_unref(struct bound_exchange *x)
{
    if (atomic_fetch_sub_explicit(&x->ref_count, 1, memory_order_acq_rel) > 1) {
        return;
    }
    if (x->bound != NULL) {
        bound_conn_unref(x->bound);
    }
    il_response_free(x->shared.response);
    il_bytes_deinit(&x->request);
    il_bytes_deinit(&x->shared.chunks);
    sys_mutex_deinit(&x->shared.mutex);
    (void)loop_unref(x->home);
    il_free(x);
}

/* ---- the driving loop: answering ---- */

static struct party *bound_reader_locked(struct bound_exchange *x)
{
    return x->shared.reader != NULL ? party_ref(x->shared.reader) : NULL;
}

/* Something is new: tell the call, or the reader of its body. */
static void bound_tell(struct bound_exchange *x)
{
    struct party *reader;
    bool must_post;

    sys_mutex_lock(&x->shared.mutex);
    reader = bound_reader_locked(x);
    must_post = !x->shared.is_home_posted && !x->shared.is_abandoned;
    x->shared.is_home_posted = true;
    sys_mutex_unlock(&x->shared.mutex);
    if (reader != NULL) {
        party_wake(reader);
        (void)party_unref(reader);
    }
    if (must_post) {
        (void)bound_ref(x);
        if (!loop_post(x->home, &x->to_home)) {
            bound_unref(x); /* the loop that wanted to know has ended */
        }
    }
}

static void bound_set_state(struct bound_exchange *x, enum bound_state state)
{
    sys_mutex_lock(&x->shared.mutex);
    x->shared.state = state;
    sys_mutex_unlock(&x->shared.mutex);
    bound_tell(x);
}

static void bound_fail(struct bound_exchange *x, enum il_code code, const struct il_error *error,
                       bool is_unsent)
{
    sys_mutex_lock(&x->shared.mutex);
    x->shared.state = BOUND_FAILED;
    x->shared.code = code;
    x->shared.error = *error;
    x->shared.is_unsent = is_unsent;
    sys_mutex_unlock(&x->shared.mutex);
    bound_tell(x);
}

/* ---- the driving loop: the connection ---- */

/* Close the connection; whoever has the handle will find it closed. */
static void bound_close(struct bound_conn *bound)
{
    struct conn *conn = bound->conn;
    bool was_idle;

    if (bound->held.is_closed) {
        return;
    }
    bound->held.is_closed = true;
    loop_guest_remove(&bound->held.guest);
    was_idle = pool_forget(&conn->client->pool, conn);
    conn_shut(conn);
    if (was_idle) {
        bound_conn_unref(bound); /* the pool's handle */
    }
    bound_conn_unref(bound); /* the loop's */
}

/* The exchange is over and the connection fit for another one: the handle goes to the pool. */
static void bound_put(struct bound_exchange *x)
{
    struct bound_conn *bound = x->bound;

    x->bound = NULL;
    if (!pool_put_bound(&bound->conn->client->pool, bound->conn, sys_now_ns())) {
        bound_conn_unref(bound);
    }
}

/* Take the exchange off the connection; the caller gets the connection's reference to it. */
static struct bound_exchange *bound_take_current(struct bound_conn *bound)
{
    struct bound_exchange *x = bound->held.current;

    bound->held.current = NULL;
    atomic_store_explicit(&bound->conn->is_exchanging, false, memory_order_relaxed);
    atomic_store_explicit(&bound->conn->unread_since_ns, CONN_READ, memory_order_relaxed);
    return x;
}

static void bound_lose(struct bound_conn *bound, enum il_code code, const struct il_error *error,
                       bool is_unsent)
{
    struct bound_exchange *x = bound_take_current(bound);

    bound_close(bound);
    bound_fail(x, code, error, is_unsent);
    bound_unref(x);
}

static void bound_complete(struct bound_conn *bound, bool has_extra)
{
    struct conn *conn = bound->conn;
    bool is_fit = conn->held.kit->parser.is_reusable && !has_extra && !conn->held.is_eof &&
                  !conn_has_unsent(conn) && !conn->client->no_keep_alive;
    struct bound_exchange *x = bound_take_current(bound);

    sys_mutex_lock(&x->shared.mutex);
    if (x->shared.response != NULL) { /* else the reader has it already */
        headers_swap(&x->shared.response->trailers, &conn->held.kit->parser.trailers);
    }
    x->shared.state = BOUND_COMPLETE;
    sys_mutex_unlock(&x->shared.mutex);
    if (is_fit) {
        bound_put(x);
    } else {
        bound_close(bound);
    }
    bound_tell(x);
    bound_unref(x);
}

static void bound_on_loop_end(struct loop_guest *guest)
{
    struct bound_conn *bound = il_container_of(guest, struct bound_conn, held.guest);
    struct bound_exchange *x = bound_take_current(bound);
    struct il_error error;
    bool has_head;

    bound_close(bound);
    if (x == NULL) {
        return;
    }
    sys_mutex_lock(&x->shared.mutex);
    has_head = x->shared.state == BOUND_HEAD;
    sys_mutex_unlock(&x->shared.mutex);
    if (has_head) {
        bound_set_state(x, BOUND_COMPLETE); /* as hyper does: no error, just less body */
    } else {
        il_fail(&error, IL_EOWNERGONE,
                "the runtime that drives the connection was dropped during the request");
        bound_fail(x, IL_EOWNERGONE, &error, false);
    }
    bound_unref(x);
}

/* ---- the driving loop: the exchange ---- */

static enum il_code bound_on_body(struct bound_exchange *x, const char *bytes, size_t size,
                                  struct il_error *err)
{
    enum il_code code;

    sys_mutex_lock(&x->shared.mutex);
    if (!x->is_streaming) {
        code = response_append(x->shared.response, bytes, size, err);
    } else {
        code = il_bytes_append(&x->shared.chunks, bytes, size);
        x->shared.is_paused = il_bytes_size(&x->shared.chunks) >= BOUND_CHUNKS_MAX;
        if (code != IL_OK) {
            il_fail(err, code, "no memory for a part of the response");
        }
    }
    sys_mutex_unlock(&x->shared.mutex);
    if (code == IL_OK && x->is_streaming) {
        bound_tell(x);
    }
    return code;
}

static void bound_on_head(struct bound_exchange *x, struct h1_response *parser)
{
    sys_mutex_lock(&x->shared.mutex);
    response_take_head(x->shared.response, parser);
    x->shared.response->timing.first_byte_ns = sys_now_ns();
    x->shared.state = BOUND_HEAD;
    sys_mutex_unlock(&x->shared.mutex);
    if (x->is_streaming) {
        bound_tell(x);
    }
}

/* False: the exchange is over. */
static bool bound_feed(struct bound_conn *bound, const char *bytes, size_t size)
{
    struct h1_response *parser = &bound->conn->held.kit->parser;
    struct bound_exchange *x = bound->held.current;
    struct il_error error;

    for (;;) {
        struct h1_step step;
        enum il_code code = h1_response_feed(parser, bytes, size, &step, &error);

        if (code == IL_OK) {
            bytes += step.consumed;
            size -= step.consumed;
            switch (step.event) {
            case H1_NEED_MORE:
                return true;
            case H1_INFORMATIONAL:
                break;
            case H1_HEAD:
                bound_on_head(x, parser);
                break;
            case H1_BODY:
                code = bound_on_body(x, step.body, step.body_size, &error);
                break;
            case H1_COMPLETE:
                bound_complete(bound, size > 0);
                return false;
            }
        }
        if (code != IL_OK) {
            bound_lose(bound, code, &error, false);
            return false;
        }
    }
}

static void bound_on_eof(struct bound_conn *bound)
{
    struct il_error error;

    if (h1_response_finish_eof(&bound->conn->held.kit->parser, &error) == IL_OK) {
        bound_complete(bound, false);
    } else {
        bound_lose(bound, error.code, &error, false);
    }
}

static bool bound_is_paused(struct bound_exchange *x)
{
    bool is_paused;

    sys_mutex_lock(&x->shared.mutex);
    is_paused = x->shared.is_paused;
    sys_mutex_unlock(&x->shared.mutex);
    return is_paused;
}

static void bound_receive(struct bound_conn *bound)
{
    struct il_error error;
    int sys_errno = 0;
    size_t got = 0;

    while (!bound_is_paused(bound->held.current)) {
        char *scratch = bound->loop->held.scratch;

        switch (conn_receive(bound->conn, scratch, LOOP_SCRATCH_SIZE, &got, &sys_errno)) {
        case CONN_BLOCKED:
            return;
        case CONN_EOF:
            bound_on_eof(bound);
            return;
        case CONN_FAILED:
            (void)conn_fail(bound->conn, sys_errno, "", &error);
            bound_lose(bound, error.code, &error, false);
            return;
        case CONN_DONE:
            if (!bound_feed(bound, scratch, got)) {
                return;
            }
            break;
        }
    }
}

static void bound_on_io(struct conn *conn)
{
    struct bound_conn *bound = conn->bound;
    int sys_errno = 0;
    size_t sent;

    if (bound->held.current == NULL) { /* idle: the server has closed it, or says unasked things */
        if (conn->held.is_readable && !conn_is_fresh(conn)) {
            bound_close(bound);
        }
        return;
    }
    if (conn_has_unsent(conn) && conn_send(conn, &sent, &sys_errno) == CONN_FAILED) {
        conn->held.is_readable = true; /* it may have answered all the same: reading will tell */
        conn->held.is_hung_up = true;
    }
    bound_receive(bound);
}

static void bound_start(struct bound_conn *bound, struct bound_exchange *x)
{
    struct conn *conn = bound->conn;
    struct il_error error;

    bound->held.current = x; /* with the job's reference */
    if (!conn_is_fresh(conn)) {
        il_fail(&error, IL_EPEERCLOSED, "the server had closed the idle connection");
        bound_lose(bound, IL_EPEERCLOSED, &error, true);
        return;
    }
    conn->held.body = il_bytes_data(&x->request);
    conn->held.body_size = il_bytes_size(&x->request);
    conn->held.request_count++;
    atomic_store_explicit(&conn->unread_since_ns, CONN_READ, memory_order_relaxed);
    atomic_store_explicit(&conn->is_exchanging, true, memory_order_relaxed);
    conn->held.is_readable = true;
    h1_response_begin(&conn->held.kit->parser, x->method);
    bound_on_io(conn);
}

/* ---- jobs of the driving loop ---- */

static enum loop_result bound_on_to_driver(struct il_loop *loop, struct job *job)
{
    struct bound_exchange *x = il_container_of(job, struct bound_exchange, to_driver);
    struct bound_conn *bound = x->bound;
    struct il_error error;
    bool is_abandoned;

    sys_mutex_lock(&x->shared.mutex);
    is_abandoned = x->shared.is_abandoned;
    sys_mutex_unlock(&x->shared.mutex);
    if (bound->held.is_closed) {
        il_fail(&error, IL_EPEERCLOSED, "the connection was closed before the request was sent");
        bound_fail(x, IL_EPEERCLOSED, &error, true);
        bound_unref(x);
    } else if (is_abandoned) {
        bound_put(x); /* nobody waits any more, and nothing was sent */
        bound_unref(x);
    } else {
        bound_start(bound, x);
    }
    return LOOP_HELD;
}

static enum loop_result bound_on_abandon(struct il_loop *loop, struct job *job)
{
    struct bound_exchange *x = il_container_of(job, struct bound_exchange, abandon_job);
    struct bound_conn *bound = x->bound;

    if (bound != NULL && bound->held.current == x) {
        (void)bound_take_current(bound);
        bound_close(bound); /* half a response is of no use to the next request */
        bound_unref(x);
    }
    bound_unref(x);
    return LOOP_HELD;
}

static enum loop_result bound_on_resume(struct il_loop *loop, struct job *job)
{
    struct bound_exchange *x = il_container_of(job, struct bound_exchange, resume_job);
    struct bound_conn *bound = x->bound;

    sys_mutex_lock(&x->shared.mutex);
    x->shared.is_resume_posted = false;
    sys_mutex_unlock(&x->shared.mutex);
    if (bound != NULL && bound->held.current == x) {
        bound->conn->held.is_readable = true;
        bound_on_io(bound->conn);
    }
    bound_unref(x);
    return LOOP_HELD;
}

static enum loop_result bound_on_retire(struct il_loop *loop, struct job *job)
{
    struct bound_conn *bound = il_container_of(job, struct bound_conn, retire_job);

    bound_close(bound);
    bound_conn_unref(bound); /* the handle that came with the job */
    return LOOP_HELD;
}

const struct il_loop *bound_loop(const struct conn *conn)
{
    return conn->bound->loop;
}

void bound_retire(struct conn *conn)
{
    struct bound_conn *bound = conn->bound;

    bound->retire_job.run = bound_on_retire;
    if (!loop_post(bound->loop, &bound->retire_job)) {
        bound_conn_unref(bound); /* its loop has ended, and closed it */
    }
}

/* ---- the home loop ---- */

/* For reports: does anybody read the body that is coming? */
static void bound_note_reader_locked(struct bound_exchange *x, bool is_there)
{
    if (x->is_streaming && x->shared.state == BOUND_HEAD) { /* else the handle may be gone */
        atomic_store_explicit(&x->bound->conn->unread_since_ns,
                              is_there ? CONN_READ : il_max_u64(sys_now_ns(), CONN_UNREAD_MIN),
                              memory_order_relaxed);
    }
}

static void bound_take_response(struct il_call *call, struct bound_exchange *x)
{
    struct il_response_timing timing = call->response->timing;

    il_response_free(call->response);
    call->response = x->shared.response;
    x->shared.response = NULL;
    timing.first_byte_ns = call->response->timing.first_byte_ns;
    call->response->timing = timing;
}

static void bound_call_succeeds(struct il_call *call, struct bound_exchange *x)
{
    struct il_response *response;

    sys_mutex_lock(&x->shared.mutex);
    bound_take_response(call, x);
    bound_note_reader_locked(x, false);
    sys_mutex_unlock(&x->shared.mutex);
    response = call->response;
    if (call->is_streaming) {
        call_begin_streaming(call);
        response->stream = x; /* with the call's reference */
        call->bound = NULL;
    } else {
        response->state = RESPONSE_WHOLE;
        response->timing.done_ns = loop_now_ns(call->home);
    }
    call_succeed(call);
}

static void bound_call_fails(struct il_call *call, struct bound_exchange *x)
{
    struct il_error error = x->shared.error; /* final, since the state is */

    call->sent_size = !x->shared.is_unsent;
    call->bound = NULL;
    x->home_held.call = NULL;
    bound_unref(x);
    call_on_lost(call, error.code, &error);
}

static enum loop_result bound_on_to_home(struct il_loop *loop, struct job *job)
{
    struct bound_exchange *x = il_container_of(job, struct bound_exchange, to_home);
    struct il_call *call = x->home_held.call;
    enum bound_state state;

    sys_mutex_lock(&x->shared.mutex);
    x->shared.is_home_posted = false;
    state = x->shared.state;
    sys_mutex_unlock(&x->shared.mutex);
    if (call != NULL && state == BOUND_FAILED) {
        bound_call_fails(call, x);
    } else if (call != NULL &&
               (state == BOUND_COMPLETE || (state == BOUND_HEAD && x->is_streaming))) {
        x->home_held.call = NULL;
        bound_call_succeeds(call, x);
    }
    bound_unref(x);
    return LOOP_HELD;
}

static enum il_code bound_new(struct il_call *call, struct bound_conn *bound,
                              struct bound_exchange **ret_x, struct il_error *err)
{
    const struct il_request *request = call->request;
    struct bound_exchange *x = il_calloc(1, sizeof(*x));
    enum il_code code;

    if (x == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to hand the request to its connection");
    }
    sys_mutex_init(&x->shared.mutex);
    il_bytes_init(&x->request);
    il_bytes_init(&x->shared.chunks);
    atomic_init(&x->ref_count, 1);
    x->home = loop_ref(call->home);
    x->to_driver.run = bound_on_to_driver;
    x->to_home.run = bound_on_to_home;
    x->resume_job.run = bound_on_resume;
    x->abandon_job.run = bound_on_abandon;
    x->is_streaming = call->is_streaming;
    memcpy(x->method, request->method, strlen(request->method) + 1);
    if (request->source != NULL) {
        code = il_fail(err, IL_EREQUEST,
                       "the bound driver cannot send a body from a source; give "
                       "the body with il_request_set_body");
    } else {
        code = exchange_write_head(request, &x->request, err);
    }
    if (code == IL_OK && il_bytes_append(&x->request, il_bytes_data(&request->body),
                                         il_bytes_size(&request->body)) != IL_OK) {
        code = il_fail(err, IL_ENOMEM, "no memory for a copy of the request's body");
    }
    if (code == IL_OK) {
        code = response_new(call->client, &x->shared.response, err);
    }
    if (code == IL_OK) {
        response_set_server(x->shared.response, &bound->conn->stream.peer, bound->conn->tls_facts);
    }
    if (code != IL_OK) {
        bound_unref(x);
        return code;
    }
    x->bound = bound; /* the handle */
    x->home_held.call = call;
    *ret_x = x;
    return IL_OK;
}

void bound_begin(struct il_call *call, struct conn *conn)
{
    struct bound_conn *bound = conn->bound;
    struct bound_exchange *x = NULL;
    struct il_error error;

    call->response->timing.connected_ns = loop_now_ns(call->home);
    call->response->timing.connection_id = conn->id;
    call->response->timing.was_reused = conn->held.request_count > 0;
    atomic_store_explicit(&call->conn_id, conn->id, memory_order_relaxed);
    if (bound_new(call, bound, &x, &error) != IL_OK) {
        bound_retire(conn);
        call_fail(call, error.code, &error);
        return;
    }
    call->bound = x;
    call_set_phase(call, IL_PHASE_DISPATCH);
    (void)bound_ref(x); /* the driving loop's */
    if (!loop_post(bound->loop, &x->to_driver)) {
        il_fail(&error, IL_EOWNERGONE, "the runtime that drives the connection to %s:%u is gone",
                call->request->url.host, call->request->url.port);
        bound_unref(x);
        call->bound = NULL;
        bound_unref(x);
        call_on_lost(call, IL_EOWNERGONE, &error);
    }
}

void bound_opened(struct il_call *call, struct conn *conn)
{
    struct bound_conn *bound = il_calloc(1, sizeof(*bound));
    struct il_error error;

    if (bound == NULL || !conn_borrow_kit(conn, call->home)) { /* it keeps the kit */
        il_free(bound);
        client_discard(call->client, conn);
        il_fail(&error, IL_ENOMEM, "no memory for a connection");
        call_fail(call, IL_ENOMEM, &error);
        return;
    }
    bound->conn = conn;
    bound->loop = loop_ref(call->home);
    atomic_init(&bound->ref_count, 2); /* the loop's, and the handle */
    il_list_init(&bound->held.guest.link);
    bound->held.guest.on_loop_end = bound_on_loop_end;
    sys_mutex_lock(&conn->client->pool.mutex); /* the pool has it already, and reports look there */
    conn->bound = bound;
    sys_mutex_unlock(&conn->client->pool.mutex);
    conn->held.on_io = bound_on_io;
    il_assert_on_loop(call->home);
    loop_guest_add(call->home, &bound->held.guest);
    bound_begin(call, conn);
}

/* Nobody wants the outcome any more: tell the driving loop, whenever it gets to hear of it. */
static void bound_give_up(struct bound_exchange *x)
{
    struct il_loop *loop = NULL;

    sys_mutex_lock(&x->shared.mutex);
    x->shared.is_abandoned = true;
    if (x->shared.state == BOUND_QUEUED || x->shared.state == BOUND_HEAD) {
        loop = loop_ref(x->bound->loop); /* it has not let go of the handle */
    }
    sys_mutex_unlock(&x->shared.mutex);
    if (loop != NULL) {
        (void)bound_ref(x);
        if (!loop_post(loop, &x->abandon_job)) {
            bound_unref(x);
        }
        (void)loop_unref(loop);
    }
    bound_unref(x);
}

void bound_return_assigned(struct il_call *call)
{
    struct conn *assigned = call->waiter.assigned;

    if (assigned != NULL) {
        call->waiter.assigned = NULL;
        if (!pool_put_bound(&call->client->pool, assigned, loop_now_ns(call->home))) {
            bound_conn_unref(assigned->bound);
        }
    }
}

void bound_let_go(struct il_call *call)
{
    struct bound_exchange *x = call->bound;

    bound_return_assigned(call);
    if (x != NULL) {
        call->bound = NULL;
        x->home_held.call = NULL;
        bound_give_up(x);
    }
}

/* ---- reading a streamed body ---- */

enum bound_look {
    BOUND_LOOK_DONE, /* the result is there */
    BOUND_LOOK_WAIT,
};

static enum bound_look bound_look_locked(struct bound_exchange *x, void *buffer, size_t size,
                                         size_t *ret_size, enum il_code *ret_code,
                                         struct il_error *err, bool *ret_resume)
{
    size_t part = (size_t)il_min_u64(size, il_bytes_size(&x->shared.chunks));

    *ret_code = IL_OK;
    if (part > 0) {
        memcpy(buffer, il_bytes_data(&x->shared.chunks), part);
        il_bytes_consume(&x->shared.chunks, part);
        *ret_size = part;
        *ret_resume = x->shared.is_paused;
        x->shared.is_paused = false;
        return BOUND_LOOK_DONE;
    }
    if (x->shared.state == BOUND_COMPLETE) {
        *ret_size = 0;
        return BOUND_LOOK_DONE;
    }
    if (x->shared.state == BOUND_FAILED) {
        if (err != NULL) {
            *err = x->shared.error;
        }
        *ret_code = x->shared.code;
        return BOUND_LOOK_DONE;
    }
    return BOUND_LOOK_WAIT;
}

static void bound_resume(struct bound_exchange *x)
{
    struct il_loop *loop = NULL;

    sys_mutex_lock(&x->shared.mutex);
    if (x->shared.state == BOUND_HEAD && !x->shared.is_resume_posted) {
        /* The driver may have filled up and paused again before it got the last one. */
        x->shared.is_resume_posted = true;
        loop = loop_ref(x->bound->loop);
    }
    sys_mutex_unlock(&x->shared.mutex);
    if (loop != NULL) {
        (void)bound_ref(x);
        if (!loop_post(loop, &x->resume_job)) {
            bound_unref(x);
        }
        (void)loop_unref(loop);
    }
}

static enum il_code bound_read_wait(struct il_response *response, struct rt_place *place,
                                    struct il_error *err)
{
    uint64_t timeout_ms = response->read_timeout_ms;
    uint64_t now_ns = loop_now_ns(place->loop);
    uint64_t until_ns =
        timeout_ms == IL_NO_LIMIT ? IL_FOREVER : now_ns + timeout_ms * LOOP_NS_PER_MS;
    enum il_code code = rt_wait(place, il_min_u64(until_ns, response->deadline_ns), "HTTP body");

    if (code == IL_ETIMEDOUT) {
        bool is_total = response->deadline_ns <= until_ns;

        return il_fail_timeout(err, IL_PHASE_READ,
                               is_total ? response->total_timeout_ms : timeout_ms,
                               "phase read: waited for the loop that drives the connection to send "
                               "the next bytes");
    }
    return code == IL_OK ? IL_OK
                         : il_fail(err, code, "reading a response body: %s", il_code_text(code));
}

enum il_code bound_read(struct il_response *response, void *buffer, size_t size, size_t *ret_size,
                        struct il_error *err)
{
    struct bound_exchange *x = response->stream;
    enum bound_look look = BOUND_LOOK_WAIT;
    bool must_resume = false;
    struct rt_place place;
    enum il_code waited = IL_OK;
    enum il_code code = rt_enter(&place, false, err);

    if (code != IL_OK) {
        return code;
    }
    while (waited == IL_OK && look == BOUND_LOOK_WAIT) {
        sys_mutex_lock(&x->shared.mutex);
        bound_note_reader_locked(x, true);
        look = bound_look_locked(x, buffer, size, ret_size, &code, err, &must_resume);
        x->shared.reader = look == BOUND_LOOK_WAIT ? place.party : NULL;
        sys_mutex_unlock(&x->shared.mutex);
        if (look == BOUND_LOOK_WAIT) {
            waited = bound_read_wait(response, &place, err);
        }
    }
    sys_mutex_lock(&x->shared.mutex);
    x->shared.reader = NULL;
    bound_note_reader_locked(x, false);
    sys_mutex_unlock(&x->shared.mutex);
    rt_leave(&place);
    if (must_resume) {
        bound_resume(x);
    }
    code = waited != IL_OK ? waited : code;
    if (code != IL_OK) {
        response->state = RESPONSE_FAILED;
    } else if (*ret_size == 0) {
        response->state = RESPONSE_ENDED;
    }
    return code;
}

void bound_abandon(struct il_response *response)
{
    bound_give_up(response->stream);
    response->stream = NULL;
}
