/* exchange.c: the default driver: one request and its response, on the loop that waits for them.
 *
 * There is nobody in the background: what the socket has is read when the call's own loop hears of
 * it, and a streamed body is read by whoever calls il_response_read, on his loop.
 * Threads: the call's home loop; for a streamed response, its reader's. */
#include <stdio.h>

#include "client/drivers.h"
#include "client/session.h"

static void exchange_on_io(struct conn *conn);

/* ---- getting going ---- */

bool exchange_adopt(struct il_call *call, struct conn *conn)
{
    bool was_moved = conn->held.watch->poller != call->home->poller;

    /* A loop that has just polled would know of anything that came for a connection of its own. */
    if (conn_adopt(conn, call->home, NULL) != IL_OK ||
        ((was_moved || !loop_has_just_polled(call->home)) && !conn_is_fresh(conn))) {
        client_discard(call->client, conn);
        return false;
    }
    call->response->timing.was_moved = was_moved;
    return true;
}

enum il_code exchange_write_head(const struct il_request *request, struct il_bytes *out,
                                 struct il_error *err)
{
    struct h1_request_head head = request_head(request);

    return h1_request_write(out, &head, err);
}

static void exchange_fail_memory(struct il_call *call)
{
    struct il_error error;

    il_fail(&error, IL_ENOMEM, "no memory for a request and its response");
    call_fail(call, IL_ENOMEM, &error);
}

void exchange_begin(struct il_call *call, struct conn *conn, bool was_reused)
{
    const struct il_request *request = call->request;
    struct il_error error;

    call->conn = conn;
    atomic_store_explicit(&call->conn_id, conn->id, memory_order_relaxed);
    call->has_begun = false;
    call->is_send_broken = false;
    call->sent_size = 0;
    call->response->timing.connected_ns = was_reused ? loop_now_ns(call->home) : sys_now_ns();
    call->response->timing.connection_id = conn->id;
    call->response->timing.was_reused = was_reused;
    response_set_server(call->response, &conn->stream.peer, conn->tls_facts);
    if (!conn_borrow_kit(conn, call->home)) {
        exchange_fail_memory(call);
        return;
    }
    if (exchange_write_head(request, &conn->held.kit->out, &error) != IL_OK) {
        call_fail(call, error.code, &error);
        return;
    }
    conn->held.body = request->source == NULL ? il_bytes_data(&request->body) : NULL;
    conn->held.body_size = request->source == NULL ? il_bytes_size(&request->body) : 0;
    conn->held.request_count++;
    conn->held.on_io = exchange_on_io;
    conn->held.arg = call;
    atomic_store_explicit(&conn->is_exchanging, true, memory_order_relaxed);
    call_set_phase(call, IL_PHASE_WRITE);
    exchange_on_io(conn); /* at once: the socket is almost always ready to take it */
}

/* ---- sending ---- */

static bool exchange_has_more_to_send(const struct il_call *call)
{
    return conn_has_unsent(call->conn) || (call->request->source != NULL && !call->is_source_ended);
}

static void exchange_on_sent(struct il_call *call)
{
    call->response->timing.sent_ns = loop_now_ns(call->home);
    if (!call->has_begun) {
        call_set_phase(call, IL_PHASE_FIRST_BYTE);
        conn_return_kit(call->conn, call->home); /* until there is something to parse */
    }
}

/* False: the call is over, or has let go of this connection. */
static bool exchange_send(struct il_call *call)
{
    int sys_errno = 0;
    size_t sent;

    if (call->is_send_broken || !exchange_has_more_to_send(call)) {
        return true;
    }
    switch (conn_send(call->conn, &sent, &sys_errno)) {
    case CONN_FAILED:
        /* The server takes no more; it may have answered all the same. Reading will tell. */
        call->is_send_broken = true;
        call->conn->held.is_readable = true;
        call->conn->held.is_hung_up = true;
        call->sent_size += sent;
        return true;
    case CONN_DONE:
        call->sent_size += sent;
        if (exchange_has_more_to_send(call)) {
            call_note_progress(call);
            call_pull_source(call);
        } else {
            exchange_on_sent(call);
        }
        return !call->is_done;
    default:
        if (sent > 0) {
            call->sent_size += sent;
            call_note_progress(call);
        }
        return true;
    }
}

/* ---- a body that is made piece by piece ---- */

static void exchange_call_source(void *arg)
{
    struct il_call *call = arg;

    call->supply_code = call->request->source(call->request->source_arg, call->source_buffer,
                                              CALL_SOURCE_BUFFER_SIZE, &call->supply_size);
    if (!loop_post(call->home, &call->supply_job)) {
        loop_wait_ended(call->home); /* meanwhile, and the call with it */
        il_assert(call->is_done);
        call_invoke_on_done(call);
        call_unref(call); /* the outcome's */
        call_unref(call); /* the answer's */
    }
}

static enum loop_result exchange_on_supply(struct il_loop *loop, struct job *job)
{
    struct il_call *call = il_container_of(job, struct il_call, supply_job);

    call->is_source_away = false;
    if (call->is_done) {
        il_assert_on_loop(loop);
        loop_push(loop, &call->done_job);
    } else {
        exchange_supply(call, call->supply_code, call->supply_size);
    }
    call_unref(call);
    return LOOP_HELD;
}

static enum loop_result exchange_on_source_job(struct il_loop *loop, struct job *job)
{
    struct il_call *call = il_container_of(job, struct il_call, source_job);

    if (call->is_done) {
        call_unref(call);
        return LOOP_HELD;
    }
    call->supply_size = 0;
    call->is_source_away = true;
    return rt_run_callback(loop, exchange_call_source, call, (void (*)(void))call->request->source);
}

void call_pull_source(struct il_call *call)
{
    if (call->is_source_busy) {
        return;
    }
    if (call->source_buffer == NULL &&
        (call->source_buffer = il_malloc(CALL_SOURCE_BUFFER_SIZE)) == NULL) {
        struct il_error error;

        il_fail(&error, IL_ENOMEM, "no memory for the buffer of a request body");
        call_fail(call, IL_ENOMEM, &error);
        return;
    }
    call->is_source_busy = true;
    if (call->party != NULL) {
        call->wants_source = true;
        party_wake(call->party);
    } else {
        call->source_job.run = exchange_on_source_job;
        call->supply_job.run = exchange_on_supply;
        (void)call_ref(call); /* until the answer has been dealt with */
        il_assert_on_loop(call->home);
        loop_push(call->home, &call->source_job);
    }
}

static enum il_code exchange_check_source(struct il_call *call, size_t size, struct il_error *err)
{
    uint64_t length = call->request->source_length;

    if (size > CALL_SOURCE_BUFFER_SIZE) {
        return il_fail(err, IL_EREQUEST, "the body's source gave %zu bytes where %d were asked for",
                       size, CALL_SOURCE_BUFFER_SIZE);
    }
    if (length == IL_LENGTH_UNKNOWN) {
        return IL_OK;
    }
    if (size > length - call->source_sent) {
        return il_fail(err, IL_EREQUEST,
                       "the body's source gave more than the %llu bytes that were announced",
                       (unsigned long long)length);
    }
    if (size == 0 && call->source_sent < length) {
        return il_fail(err, IL_EREQUEST,
                       "the body's source ended after %llu of the %llu bytes that were announced",
                       (unsigned long long)call->source_sent, (unsigned long long)length);
    }
    return IL_OK;
}

static enum il_code exchange_frame_chunk(struct conn *conn, size_t size)
{
    char head[H1_CHUNK_HEAD_MAX];

    if (size == 0) {
        return il_bytes_append(&conn->held.kit->out, H1_CHUNK_END, H1_CHUNK_END_SIZE);
    }
    return il_bytes_append(&conn->held.kit->out, head, h1_chunk_head(head, size));
}

static enum il_code exchange_queue_piece(struct il_call *call, size_t size)
{
    struct conn *conn = call->conn;
    bool is_chunked = call->request->source_length == IL_LENGTH_UNKNOWN;
    enum il_code code = IL_OK;

    if (is_chunked) {
        code = exchange_frame_chunk(conn, size);
    }
    if (code == IL_OK && size > 0) {
        code = il_bytes_append(&conn->held.kit->out, call->source_buffer, size);
    }
    if (code == IL_OK && is_chunked && size > 0) {
        code = il_bytes_append(&conn->held.kit->out, H1_CHUNK_TAIL, H1_CHUNK_TAIL_SIZE);
    }
    return code;
}

void exchange_supply(struct il_call *call, enum il_code code, size_t size)
{
    struct il_error error;

    call->is_source_busy = false;
    if (code != IL_OK) {
        il_fail_errno(&error, code, 0, "the source of the request's body failed: %s",
                      il_code_text(code)); /* errno is not the source's any more */
    } else {
        code = exchange_check_source(call, size, &error);
    }
    if (code == IL_OK) {
        call->source_sent += size;
        /* With an announced length the body ends where it said; the source is not asked again. */
        call->is_source_ended = size == 0 || call->source_sent == call->request->source_length;
        code = call->session_stream != NULL ? session_supply(call, size, call->is_source_ended)
                                            : exchange_queue_piece(call, size);
        if (code != IL_OK) {
            il_fail(&error, code, "no memory for a piece of the request's body");
        }
    }
    if (code != IL_OK) {
        call_fail(call, code, &error);
    } else if (call->conn != NULL) {
        exchange_on_io(call->conn);
    }
}

/* ---- receiving ---- */

static void exchange_complete(struct il_call *call, bool has_extra)
{
    struct conn *conn = call->conn;
    bool is_reusable = conn->held.kit->parser.is_reusable && (!has_extra || IL_MUTANT(LEFTOVERS)) &&
                       !exchange_has_more_to_send(call) && !call->is_send_broken;

    headers_swap(&call->response->trailers, &conn->held.kit->parser.trailers);
    call->response->timing.done_ns = loop_now_ns(call->home);
    call->response->state = RESPONSE_WHOLE;
    call->conn = NULL;
    client_give_back(call->client, conn, call, is_reusable, call->home);
    call_succeed(call);
}

/* The user wants the body himself: put the connection into the response's hands. */
static void exchange_hand_over(struct il_call *call, const char *rest, size_t rest_size)
{
    struct conn *conn = call->conn;
    struct il_error error;

    if (il_bytes_append(&conn->held.kit->in, rest, rest_size) != IL_OK) {
        il_fail(&error, IL_ENOMEM, "no memory for a part of the response");
        call_fail(call, IL_ENOMEM, &error);
        return;
    }
    call_begin_streaming(call);
    call->response->conn = conn;
    call->conn = NULL;
    conn_rest_with_response(conn);
    call_succeed(call);
}

static enum il_code exchange_check_length(struct il_call *call, struct il_error *err)
{
    const struct h1_response *parser = &call->conn->held.kit->parser;

    if (!call->is_streaming && parser->framing == H1_FRAMING_SIZED &&
        parser->body_size > call->client->body_size_max) {
        return client_refuse_length(call->client, parser->body_size, err);
    }
    return IL_OK;
}

/* See to it that the connection has a parser that is at our response. False: no memory. */
static bool exchange_is_reading(struct il_call *call)
{
    struct conn *conn = call->conn;

    if (!conn_borrow_kit(conn, call->home)) {
        return false;
    }
    if (!conn->held.kit->is_reading) {
        conn->held.kit->is_reading = true;
        h1_response_begin(&conn->held.kit->parser, call->request->method);
    }
    return true;
}

/* Parse what has come. False: the call is over, or has let go of this connection. */
static bool exchange_feed(struct il_call *call, const char *bytes, size_t size)
{
    struct h1_response *parser = &call->conn->held.kit->parser;
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
                response_take_head(call->response, parser);
                code = exchange_check_length(call, &error);
                if (code == IL_OK && call->is_streaming) {
                    exchange_hand_over(call, bytes, size);
                    return false;
                }
                break;
            case H1_BODY:
                code = response_append(call->response, step.body, step.body_size, &error);
                break;
            case H1_COMPLETE:
                exchange_complete(call, size > 0);
                return false;
            }
        }
        if (code != IL_OK) {
            call_fail(call, code, &error);
            return false;
        }
    }
}

static void exchange_on_eof(struct il_call *call)
{
    struct il_error error;

    if (!exchange_is_reading(call)) {
        exchange_fail_memory(call);
    } else if (h1_response_finish_eof(&call->conn->held.kit->parser, &error) == IL_OK) {
        exchange_complete(call, false);
    } else {
        call_on_lost(call, error.code, &error);
    }
}

static void exchange_on_read_failed(struct il_call *call, int sys_errno)
{
    struct il_error error;

    (void)conn_fail(call->conn, sys_errno, "", &error);
    call_on_lost(call, error.code, &error);
}

/* Where what comes next is to be received: the rest of a body whose size is known goes right where
 * the user will find it, everything else is looked at first. One byte more than there is left is
 * asked for, so that a server that sends too much is noticed at once. NULL: no memory. */
static char *exchange_choose_buffer(struct il_call *call, size_t *ret_size)
{
    const struct kit *kit = call->conn->held.kit;
    uint64_t left = 0;
    struct il_error error;

    if (kit != NULL && kit->is_reading && kit->parser.framing == H1_FRAMING_SIZED) {
        left = h1_response_body_left(&kit->parser);
    }
    if (left == 0) {
        *ret_size = LOOP_SCRATCH_SIZE;
        return call->home->held.scratch;
    }
    if (response_make_room(call->response, left, ret_size, &error) != IL_OK) {
        call_fail(call, error.code, &error);
        return NULL;
    }
    return il_bytes_tail(&call->response->body);
}

/* Something has come. False: the call is over, or has let go of this connection. */
static bool exchange_on_received(struct il_call *call, const char *bytes, size_t size)
{
    struct h1_response *parser;
    size_t taken;

    if (!exchange_is_reading(call)) {
        exchange_fail_memory(call);
        return false;
    }
    parser = &call->conn->held.kit->parser;
    if (!call->has_begun) {
        call->has_begun = true;
        call->response->timing.first_byte_ns = loop_now_ns(call->home);
        call_set_phase(call, IL_PHASE_READ);
    } else {
        call_note_progress(call);
    }
    if (bytes == call->home->held.scratch) {
        return exchange_feed(call, bytes, size);
    }
    taken = (size_t)il_min_u64(size, h1_response_body_left(parser));
    response_added(call->response, taken);
    h1_response_took(parser, taken);
    if (parser->is_complete) {
        exchange_complete(call, size > taken);
        return false;
    }
    return true;
}

static void exchange_receive(struct il_call *call)
{
    for (;;) {
        int sys_errno = 0;
        size_t size, got = 0;
        char *buffer = exchange_choose_buffer(call, &size);

        if (buffer == NULL) {
            return;
        }
        switch (conn_receive(call->conn, buffer, size, &got, &sys_errno)) {
        case CONN_BLOCKED:
            return;
        case CONN_EOF:
            exchange_on_eof(call);
            return;
        case CONN_FAILED:
            exchange_on_read_failed(call, sys_errno);
            return;
        case CONN_DONE:
            if (!exchange_on_received(call, buffer, got)) {
                return;
            }
            break;
        }
    }
}

static void exchange_on_io(struct conn *conn)
{
    struct il_call *call = conn->held.arg;

    if (exchange_send(call)) {
        exchange_receive(call);
    }
}

/* ---- reading a streamed body ---- */

static void reader_on_io(struct conn *conn)
{
    party_wake(conn->held.arg);
}

/* Bring the connection to the reader's loop. It rests; nobody but us takes it. */
static enum il_code reader_attach(struct conn *conn, struct rt_place *place, struct il_error *err)
{
    enum il_code code;

    il_assert(conn_claim(conn, place->loop));
    code = conn_adopt(conn, place->loop, err);
    if (code == IL_OK) {
        /* Events came and went while it rested: look first. */
        conn->held.is_readable = !IL_MUTANT(EDGE_LOST);
        conn->held.on_io = reader_on_io;
        conn->held.arg = place->party;
        conn->held.was_unheard = true; /* between two reads nobody listens to events */
    }
    return code;
}

static void reader_end(struct il_response *response, struct rt_place *place, bool has_extra)
{
    struct conn *conn = response->conn;

    headers_swap(&response->trailers, &conn->held.kit->parser.trailers);
    response->timing.done_ns = loop_now_ns(place->loop);
    response->state = RESPONSE_ENDED;
    response->conn = NULL;
    client_give_back(response->client, conn, NULL, conn->held.kit->parser.is_reusable && !has_extra,
                     place->loop);
}

/* The last piece was the end: the connection goes home now, and not when the reader comes again to
 * be told that there is no more. */
static void reader_end_if_complete(struct il_response *response, struct rt_place *place)
{
    if (response->conn->held.kit->parser.is_complete) {
        reader_end(response, place, il_bytes_size(&response->conn->held.kit->in) > 0);
    }
}

/* Parse what is in `in`, as far as one piece of body or the end. */
static enum il_code reader_parse(struct il_response *response, struct rt_place *place, char *buffer,
                                 size_t size, size_t *ret_size, struct il_error *err)
{
    struct conn *conn = response->conn;
    struct il_bytes *in = &conn->held.kit->in;

    for (;;) {
        /* Never more than the reader has room for: a piece that was parsed cannot be put back. */
        size_t portion = (size_t)il_min_u64(il_bytes_size(in), size);
        struct h1_step step;
        enum il_code code =
            h1_response_feed(&conn->held.kit->parser, il_bytes_data(in), portion, &step, err);

        if (code != IL_OK) {
            return code;
        }
        if (step.event == H1_BODY) {
            memcpy(buffer, step.body, step.body_size);
            *ret_size = step.body_size;
            il_bytes_consume(in, step.consumed);
            reader_end_if_complete(response, place);
            return IL_OK;
        }
        il_bytes_consume(in, step.consumed);
        if (step.event == H1_COMPLETE) {
            *ret_size = 0;
            reader_end(response, place, il_bytes_size(in) > 0);
            return IL_OK;
        }
        if (il_bytes_size(in) == 0) {
            return IL_EAGAIN;
        }
    }
}

static enum il_code reader_on_eof(struct il_response *response, struct rt_place *place,
                                  size_t *ret_size, struct il_error *err)
{
    enum il_code code = h1_response_finish_eof(&response->conn->held.kit->parser, err);

    if (code == IL_OK) {
        *ret_size = 0;
        reader_end(response, place, false);
    }
    return code;
}

static enum il_code reader_on_failed(const struct conn *conn, int sys_errno, struct il_error *err)
{
    const struct h1_response *parser = &conn->held.kit->parser;
    char when[96], all[32] = "";
    struct il_error error;

    if (parser->framing == H1_FRAMING_SIZED) {
        (void)snprintf(all, sizeof(all), " of %llu", (unsigned long long)parser->body_size);
    }
    (void)snprintf(when, sizeof(when), " after %llu%s bytes of the response's body",
                   (unsigned long long)parser->body_received, all);
    (void)conn_fail(conn, sys_errno, when, &error);
    if (err != NULL) {
        *err = error;
    }
    return error.code;
}

/* Are the bytes that come next all the body's, or so few of them not that it makes no difference?
 * Then they need not go through `in`. Of a chunk only as much as the reader wants can be received
 * at once: where chunks are small, that would be one system call for each. */
static bool reader_may_receive_directly(const struct h1_response *parser, size_t size)
{
    uint64_t left = h1_response_body_left(parser);

    return parser->framing == H1_FRAMING_CHUNKED ? left >= size : left > 0;
}

/* Receive into the reader's buffer what is left of the body, and, to notice a server that sends too
 * much, one byte more if there is room. */
static enum conn_io reader_receive(struct conn *conn, char *buffer, size_t size, size_t *ret_got,
                                   int *ret_errno)
{
    uint64_t left = h1_response_body_left(&conn->held.kit->parser);

    return conn_receive(conn, buffer, left < size ? (size_t)left + 1 : size, ret_got, ret_errno);
}

static enum il_code reader_on_received(struct il_response *response, struct rt_place *place,
                                       const char *buffer, size_t got, size_t *ret_size,
                                       struct il_error *err)
{
    struct conn *conn = response->conn;
    size_t taken = (size_t)il_min_u64(got, h1_response_body_left(&conn->held.kit->parser));

    if (il_bytes_append(&conn->held.kit->in, buffer + taken, got - taken) != IL_OK) {
        return il_fail(err, IL_ENOMEM, "no memory for a part of the response");
    }
    h1_response_took(&conn->held.kit->parser, taken);
    *ret_size = taken;
    reader_end_if_complete(response, place);
    return IL_OK;
}

static enum il_code reader_run(struct il_response *response, struct rt_place *place, char *buffer,
                               size_t size, size_t *ret_size, struct il_error *err)
{
    struct conn *conn = response->conn;
    uint64_t deadline_ns = response_read_deadline(response, place);
    char where[CONN_TEXT_SIZE];
    enum il_code code;

    while ((code = reader_parse(response, place, buffer, size, ret_size, err)) == IL_EAGAIN) {
        bool is_direct = reader_may_receive_directly(&conn->held.kit->parser, size);
        int sys_errno = 0;
        size_t got = 0;

        if (!is_direct && il_bytes_reserve(&conn->held.kit->in, LOOP_SCRATCH_SIZE) != IL_OK) {
            return il_fail(err, IL_ENOMEM, "no memory to receive a response body");
        }
        switch (is_direct ? reader_receive(conn, buffer, size, &got, &sys_errno)
                          : conn_receive(conn, il_bytes_tail(&conn->held.kit->in),
                                         LOOP_SCRATCH_SIZE, &got, &sys_errno)) {
        case CONN_DONE:
            if (is_direct) {
                return reader_on_received(response, place, buffer, got, ret_size, err);
            }
            il_bytes_added(&conn->held.kit->in, got);
            break;
        case CONN_EOF:
            return reader_on_eof(response, place, ret_size, err);
        case CONN_FAILED:
            return reader_on_failed(conn, sys_errno, err);
        case CONN_BLOCKED:
            code = response_wait(response, place, deadline_ns, conn_text(conn, where), err);
            if (code != IL_OK) {
                return code;
            }
            break;
        }
    }
    return code;
}

/* A request that waited was given the connection, because nobody had read for so long. */
static enum il_code reader_on_taken(struct il_response *response, struct il_error *err)
{
    conn_leave(response->conn);
    response->conn = NULL;
    response->state = RESPONSE_FAILED;
    return response_fail_unread(response->client, err);
}

enum il_code exchange_read(struct il_response *response, void *buffer, size_t size,
                           size_t *ret_size, struct il_error *err)
{
    struct rt_place place;
    enum il_code code = rt_enter(&place, false, err);

    if (code != IL_OK) {
        return code;
    }
    if (!conn_read_again(response->conn)) {
        code = reader_on_taken(response, err);
        rt_leave(&place);
        return code;
    }
    code = reader_attach(response->conn, &place, err);
    if (code == IL_OK) {
        code = reader_run(response, &place, buffer, size, ret_size, err);
    }
    if (code != IL_OK) {
        response->state = RESPONSE_FAILED;
        client_discard(response->client, response->conn);
        response->conn = NULL;
    } else if (response->conn != NULL) {
        conn_rest_with_response(response->conn);
    }
    rt_leave(&place);
    return code;
}

void exchange_abandon(struct il_response *response)
{
    struct conn *conn = response->conn;

    response->conn = NULL;
    if (!conn_read_again(conn)) {
        conn_leave(conn);
        return;
    }
    il_assert(watch_claim_away(conn->held.watch));
    client_discard(response->client, conn);
}
