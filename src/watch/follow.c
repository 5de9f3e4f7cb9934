/* follow.c: from a request to whoever it waits for in the end, and what that means.
 *
 * Pure: works on a snapshot. Time alone decides nothing here, with one exception: user code that
 * has run for less than WATCH_STUCK_MS is simply running; and where a spare takes the loop over
 * when that happens, it may take WATCH_HAND_OVER_MS to come. */
#include <stdio.h>

#include "watch/watch.h"

#define WATCH_STUCK_MS     20
#define WATCH_HAND_OVER_MS 1000 /* on a machine that has much else to do */

uint64_t watch_stamp_add(uint64_t stamp, uint64_t value)
{
    return (stamp ^ value) * 1099511628211u; /* FNV-1a, by words */
}

void watch_add_link(struct il_watch_request *view, const char *what, const char *who,
                    const char *state, uint64_t since_ms, const char *format, ...)
{
    struct il_watch_link *link;
    va_list args;

    if (view->link_count == IL_WATCH_LINKS_MAX) {
        return;
    }
    link = &view->links[view->link_count++];
    (void)snprintf(link->what, sizeof(link->what), "%s", what);
    (void)snprintf(link->who, sizeof(link->who), "%s", who);
    (void)snprintf(link->state, sizeof(link->state), "%s", state);
    link->since_ms = since_ms;
    va_start(args, format);
    (void)vsnprintf(link->detail, sizeof(link->detail), format, args);
    va_end(args);
}

static const struct watch_loop *find_loop(const struct watch_world *world, uint64_t id)
{
    for (size_t i = 0; i < world->loops.count; i++) {
        if (watch_loop_at(world, i)->view.id == id) {
            return watch_loop_at(world, i);
        }
    }
    return NULL;
}

static const struct client_conn_report *find_conn(const struct watch_world *world, uint64_t id)
{
    for (size_t i = 0; i < world->conns.count; i++) {
        if (watch_conn_at(world, i)->view.id == id) {
            return watch_conn_at(world, i);
        }
    }
    return NULL;
}

/* ---- the loop: does it act? ---- */

enum il_verdict watch_judge_loop(const struct watch_loop *loop)
{
    uint64_t stuck_ms;

    if (loop == NULL || strcmp(loop->view.state, "ended") == 0 ||
        strcmp(loop->view.state, "not driven") == 0) {
        return IL_VERDICT_HUNG;
    }
    stuck_ms = loop->is_handed_over ? WATCH_HAND_OVER_MS : WATCH_STUCK_MS;
    if (strcmp(loop->view.state, "in user code") == 0 && loop->view.since_ms >= stuck_ms) {
        return IL_VERDICT_STARVED;
    }
    return IL_VERDICT_LIVE;
}

static void describe_loop(struct il_watch_request *view, const struct watch_loop *loop)
{
    const struct il_watch_loop *it = &loop->view;
    char who[64];

    (void)snprintf(who, sizeof(who), "loop '%s'", it->name);
    if (strcmp(it->state, "not driven") == 0 && loop->is_thread_loop) {
        watch_add_link(
            view, "loop", who, it->state, it->since_ms,
            "the private loop of a plain thread runs only while that thread waits in the "
            "library");
    } else if (strcmp(it->state, "not driven") == 0) {
        watch_add_link(
            view, "loop", who, it->state, it->since_ms,
            "current-thread runtime '%s' runs only inside il_block_on, and no thread is there",
            it->runtime);
    } else if (strcmp(it->state, "in user code") == 0) {
        watch_add_link(
            view, "loop", who, it->state, it->since_ms,
            "its thread has not come back from user code; nothing else runs on this loop");
    } else {
        watch_add_link(view, "loop", who, it->state, it->since_ms, "it acts on whatever comes");
    }
}

/* The loop, the task that keeps it, and the thread that has it. */
enum il_verdict watch_follow_loop(const struct watch_world *world, struct il_watch_request *view,
                                  uint64_t loop_id)
{
    const struct watch_loop *loop = find_loop(world, loop_id);
    enum il_verdict verdict = watch_judge_loop(loop);
    char who[64];

    if (loop == NULL) {
        watch_add_link(view, "loop", "a loop that has ended", "gone", 0, "its runtime was dropped");
        return verdict;
    }
    view->stamp = watch_stamp_add(view->stamp, loop->view.turn_count);
    describe_loop(view, loop);
    if (verdict == IL_VERDICT_STARVED && loop->task[0] != '\0') {
        (void)snprintf(who, sizeof(who), "task '%s'", loop->task);
        watch_add_link(view, "task", who, "in user code", loop->view.since_ms,
                       "it goes on if this code returns, and not before");
    }
    if (verdict != IL_VERDICT_LIVE && loop->view.thread_id != 0) {
        (void)snprintf(who, sizeof(who), "thread %d", loop->view.thread_id);
        watch_add_link(
            view, "thread", who, verdict == IL_VERDICT_HUNG ? "elsewhere" : "blocked or busy",
            loop->view.since_ms, "%s%s",
            verdict == IL_VERDICT_HUNG ? "it drove the loop last; it " : "it ", loop->view.thread);
    }
    return verdict;
}

/* ---- the connection ---- */

static void describe_socket(struct il_watch_request *view, const struct client_conn_report *conn)
{
    const struct il_watch_connection *it = &conn->view;
    char who[64];

    (void)snprintf(who, sizeof(who), "local port %u to %.32s:%u", it->local_port, it->host,
                   it->port);
    if (it->bytes_unread > 0) {
        watch_add_link(view, "socket", who, "unread response", 0,
                       "the kernel has %u byte%s of the server's that nobody has read",
                       it->bytes_unread, il_plural(it->bytes_unread));
    } else if (!conn->is_exchanging) {
        watch_add_link(
            view, "socket", who, "never written", 0,
            "the request still lies in the loop's mailbox; the kernel has seen none of it");
    } else if (it->bytes_unsent > 0) {
        watch_add_link(view, "socket", who, "unsent bytes", 0,
                       "%u byte%s of the request not acknowledged by the server", it->bytes_unsent,
                       il_plural(it->bytes_unsent));
    } else {
        watch_add_link(view, "socket", who, "nothing to read", 0, "the server has not answered");
    }
}

/* Does the request wait for its body, and the server for others to read theirs? */
static bool is_window_missing(const struct watch_world *world, const struct il_watch_request *view,
                              const struct client_conn_report *conn)
{
    return conn->is_window_used_up && view->phase == IL_PHASE_READ &&
           conn->view.bytes_unread == 0 &&
           watch_judge_loop(find_loop(world, conn->loop_id)) == IL_VERDICT_LIVE;
}

static enum il_verdict follow_window(const struct watch_world *world, struct il_watch_request *view,
                                     const struct client_conn_report *conn)
{
    watch_add_link(view, "window", "the connection's window", "used up", 0,
                   "the server may send no more until bodies are read that have come for others, "
                   "the last of them for tasks of this loop");
    return watch_follow_loop(world, view, conn->hoarder_loop_id);
}

/* `home_loop_id`: of the request, which drives a connection that is shared. */
static enum il_verdict follow_conn(const struct watch_world *world, struct il_watch_request *view,
                                   const struct client_conn_report *conn, uint64_t home_loop_id)
{
    enum il_verdict verdict;
    char who[64];

    (void)snprintf(who, sizeof(who), "connection %llu to %.32s:%u",
                   (unsigned long long)conn->view.id, conn->view.host, conn->view.port);
    view->stamp = watch_stamp_add(view->stamp, conn->view.id);
    view->stamp = watch_stamp_add(view->stamp, conn->view.bytes_unread);
    view->stamp = watch_stamp_add(view->stamp, conn->view.bytes_unsent);
    if (conn->is_shared) {
        watch_add_link(view, "connection", who, conn->view.state, conn->view.since_ms,
                       "HTTP/2: every loop that has a stream on it drives it, for all");
    } else {
        watch_add_link(view, "connection", who, conn->is_bound ? "bound" : conn->view.state,
                       conn->view.since_ms,
                       conn->is_bound
                           ? "it belongs to loop '%s', which opened it; nobody else may drive it"
                           : "it is driven by loop '%s', which waits for it",
                       conn->view.driver);
    }
    if (is_window_missing(world, view, conn)) {
        return follow_window(world, view, conn);
    }
    describe_socket(view, conn);
    verdict = watch_follow_loop(world, view, conn->is_shared ? home_loop_id : conn->loop_id);
    if (verdict == IL_VERDICT_LIVE) {
        (void)snprintf(who, sizeof(who), "%.48s:%u", conn->view.host, conn->view.port);
        watch_add_link(view, "server", who, "has not answered", view->phase_ms,
                       "the network, or the server, has to act next");
    }
    return verdict;
}

/* ---- the pool: every connection there may be is in use; by whom? ---- */

static uint64_t unread_ms(const struct watch_world *world, const struct client_conn_report *conn)
{
    return conn->unread_since_ns == 0 || conn->unread_since_ns > world->now_ns
               ? 0
               : (world->now_ns - conn->unread_since_ns) / LOOP_NS_PER_MS;
}

/* Of the loops whose streams hold all the places of a session, the most lively one. */
static enum il_verdict judge_owners(const struct watch_world *world,
                                    const struct client_conn_report *conn, uint64_t *ret_loop_id)
{
    enum il_verdict best = IL_VERDICT_HUNG;

    *ret_loop_id = conn->owner_loop_ids[0];
    for (unsigned i = 0; i < conn->owner_loop_count; i++) {
        enum il_verdict verdict = watch_judge_loop(find_loop(world, conn->owner_loop_ids[i]));

        if (verdict < best) {
            best = verdict;
            *ret_loop_id = conn->owner_loop_ids[i];
        }
    }
    return best;
}

/* What a chain has come to does not last: others may have it. */
static void follow_place(struct il_watch_request *view, const char *who)
{
    watch_add_link(view, "place", who, "not made use of", 0,
                   "if that stays so, the client gives it to a request that waits");
}

static void follow_owners(const struct watch_world *world, struct il_watch_request *view,
                          const struct client_conn_report *conn)
{
    uint64_t loop_id;
    char who[64];

    (void)judge_owners(world, conn, &loop_id);
    (void)snprintf(who, sizeof(who), "connection %llu to %.32s:%u",
                   (unsigned long long)conn->view.id, conn->view.host, conn->view.port);
    view->stamp = watch_stamp_add(view->stamp, conn->view.id);
    watch_add_link(view, "connection", who, conn->view.state, conn->view.since_ms,
                   "each of them waits for its owner: to read a response, or to make a request's "
                   "body");
    (void)watch_follow_loop(world, view, loop_id);
    if (conn->gives_way) {
        follow_place(view, "its stream");
    }
}

static enum il_verdict judge_holder(const struct watch_world *world,
                                    const struct client_conn_report *conn)
{
    uint64_t loop_id;
    enum il_verdict verdict = conn->is_owners && conn->gives_way ? IL_VERDICT_LIVE
                              : conn->is_owners ? judge_owners(world, conn, &loop_id)
                              : conn->loop_id == 0
                                  ? IL_VERDICT_LIVE
                                  : watch_judge_loop(find_loop(world, conn->loop_id));

    if (verdict == IL_VERDICT_LIVE && !conn->gives_way &&
        unread_ms(world, conn) >= WATCH_STUCK_MS) {
        return IL_VERDICT_STARVED;
    }
    return verdict;
}

/* Its response is in the hands of user code, which does something else. */
static void follow_unread(const struct watch_world *world, struct il_watch_request *view,
                          const struct client_conn_report *conn)
{
    char who[64];

    (void)snprintf(who, sizeof(who), "connection %llu to %.32s:%u",
                   (unsigned long long)conn->view.id, conn->view.host, conn->view.port);
    view->stamp = watch_stamp_add(view->stamp, conn->view.id);
    view->stamp = watch_stamp_add(view->stamp, conn->unread_since_ns);
    watch_add_link(view, "connection", who, conn->is_bound ? "bound" : conn->view.state,
                   conn->view.since_ms, "it brings a response whose body has not come to its end");
    watch_add_link(view, "response", "its response", "read by nobody", unread_ms(world, conn),
                   conn->gives_way
                       ? "if that stays so, the client takes the connection away from it"
                       : "the connection is free when the user code that has the response reads "
                         "it to its end, or frees it, and not before");
}

/* There is no connection; is somebody opening one? Any one of them will do here, too. */
static const struct client_call_report *find_opener(const struct watch_world *world,
                                                    const struct client_call_report *call)
{
    const struct client_call_report *best = NULL;
    enum il_verdict best_verdict = IL_VERDICT_HUNG;

    for (size_t i = 0; i < world->calls.count; i++) {
        const struct client_call_report *it = watch_call_at(world, i);

        if (it->client == call->client && it->view.port == call->view.port &&
            strcmp(it->view.host, call->view.host) == 0 && it->view.phase >= IL_PHASE_RESOLVE &&
            it->view.phase <= IL_PHASE_TLS) {
            enum il_verdict verdict = watch_judge_loop(find_loop(world, it->home_loop_id));

            if (best == NULL || verdict < best_verdict) {
                best = it;
                best_verdict = verdict;
            }
        }
    }
    return best;
}

static enum il_verdict follow_opener(const struct watch_world *world,
                                     struct client_call_report *call)
{
    const struct client_call_report *opener = find_opener(world, call);
    struct il_watch_request *view = &call->view;
    enum il_verdict verdict;
    char who[64];

    if (opener == NULL) {
        return watch_follow_loop(world, view, call->home_loop_id);
    }
    (void)snprintf(who, sizeof(who), "%.15s %.44s", opener->view.method, opener->view.path);
    view->stamp = watch_stamp_add(view->stamp, opener->view.id);
    view->stamp = watch_stamp_add(view->stamp, opener->phase_since_ns);
    watch_add_link(view, "opening", who, il_phase_name(opener->view.phase), opener->view.phase_ms,
                   "this request of %s opens the connection that others wait for",
                   opener->view.waiter);
    verdict = watch_follow_loop(world, view, opener->home_loop_id);
    if (verdict != IL_VERDICT_LIVE && opener->gives_way &&
        opener->home_loop_id != call->home_loop_id) {
        follow_place(view, "its connection");
        return IL_VERDICT_LIVE;
    }
    return verdict;
}

/* Any one of them that becomes free will do, so the most lively one decides. */
static enum il_verdict follow_pool(const struct watch_world *world, struct client_call_report *call)
{
    struct il_watch_request *view = &call->view;
    const struct client_conn_report *best = NULL;
    enum il_verdict best_verdict = IL_VERDICT_HUNG;
    unsigned count = 0;

    for (size_t i = 0; i < world->conns.count; i++) {
        const struct client_conn_report *conn = watch_conn_at(world, i);

        if (conn->client == call->client && conn->view.port == view->port &&
            strcmp(conn->view.host, view->host) == 0 && !conn->is_idle) {
            enum il_verdict verdict = judge_holder(world, conn);

            count++;
            if (best == NULL || verdict < best_verdict) {
                best = conn;
                best_verdict = verdict;
            }
        }
    }
    if (best == NULL) {
        return follow_opener(world, call);
    }
    watch_add_link(view, "pool", view->client, "no free connection", view->phase_ms,
                   "%u connection%s in use; the most lively one is shown", count, il_plural(count));
    if (best->is_owners) {
        follow_owners(world, view, best);
    } else if (best->unread_since_ns != 0 && best_verdict != IL_VERDICT_HUNG) {
        follow_unread(world, view, best);
    } else {
        (void)follow_conn(world, view, best, call->home_loop_id);
    }
    return best_verdict;
}

/* ---- the request ---- */

void watch_follow(const struct watch_world *world, struct client_call_report *call)
{
    struct il_watch_request *view = &call->view;
    const struct client_conn_report *conn = NULL;
    char who[64];

    view->link_count = 0;
    view->stamp = watch_stamp_add(14695981039346656037u, view->id);
    view->stamp = watch_stamp_add(view->stamp, (uint64_t)view->phase);
    view->stamp = watch_stamp_add(view->stamp, call->phase_since_ns);
    (void)snprintf(who, sizeof(who), "%.15s %.44s", view->method, view->path);
    watch_add_link(view, "request", who, il_phase_name(view->phase), view->phase_ms,
                   "%s waits for the response", view->waiter);
    switch (view->phase) {
    case IL_PHASE_DONE:
        view->verdict = IL_VERDICT_LIVE;
        break;
    case IL_PHASE_POOL_WAIT:
        view->verdict = follow_pool(world, call);
        break;
    case IL_PHASE_RESOLVE:
    case IL_PHASE_CONNECT:
    case IL_PHASE_TLS:
        view->verdict = watch_follow_loop(world, view, call->home_loop_id);
        break;
    default:
        conn = find_conn(world, view->connection_id);
        view->verdict = conn != NULL ? follow_conn(world, view, conn, call->home_loop_id)
                                     : watch_follow_loop(world, view, call->home_loop_id);
        break;
    }
}
