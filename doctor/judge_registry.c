/* judge_registry.c: what interloop's own record adds: which request it is, by name, and where its
 * chain of waits ends.
 *
 * The record alone concludes only about a request that stood, in the same phase, while we looked,
 * and whose chain ends at a loop that nobody drove, that has ended, or whose thread was in user
 * code all the time. Where the kernel's view has led to the same loop or socket already, the
 * request is added to that finding, and what was likely becomes certain.
 *
 * Thread: the doctor's only one. */
#include <stdio.h>

#include "base/shown.h"
#include "doctor/verdict.h"

#define REGISTRY_STOOD_MS 900u /* between the two readings, for more than a possible finding */

enum chain_end { CHAIN_LIVE, CHAIN_STARVED, CHAIN_PARKED, CHAIN_GONE };

struct chain {
    enum chain_end end;
    const struct seen_loop *loop; /* where it ends; NULL: it leads to no loop, or to one gone */
    const struct seen_conn *conn; /* on the way; NULL: none */
    bool is_pool;                 /* it waits for that connection, or for one that is opened */
};

static enum chain_end end_at_loop(const struct seen_loop *loop)
{
    if (loop == NULL || loop->hold == SHOWN_HOLD_ENDED) {
        return CHAIN_GONE;
    }
    if (!loop->stood) {
        return CHAIN_LIVE;
    }
    switch (loop->hold) {
    case SHOWN_HOLD_FREE:
        return CHAIN_PARKED;
    case SHOWN_HOLD_IN_USER:
        return CHAIN_STARVED;
    default:
        return CHAIN_LIVE;
    }
}

static void follow_loop(const struct look *look, uint64_t loop_id, struct chain *chain)
{
    chain->loop = registry_loop(look, loop_id);
    chain->end = loop_id == 0 ? CHAIN_LIVE : end_at_loop(chain->loop);
}

static bool has_same_origin(const struct seen_request *a, const struct seen_request *b)
{
    return a->client_address == b->client_address && a->port == b->port &&
           strcmp(a->host, b->host) == 0;
}

/* A request that is opening a connection, which others wait for. */
static bool is_opening(const struct seen_request *request)
{
    return !request->is_handed &&
           (request->phase == IL_PHASE_RESOLVE || request->phase == IL_PHASE_CONNECT ||
            request->phase == IL_PHASE_TLS);
}

static void keep_most_lively(const struct chain *one, struct chain *best, bool *has_any)
{
    if (!*has_any || one->end < best->end) {
        *best = *one;
    }
    *has_any = true;
}

/* Any connection that comes home will do, and any that is opened, so the most lively one decides.
 */
static void follow_pool(const struct look *look, const struct seen_request *request,
                        struct chain *chain)
{
    const struct registry_shot *shot = registry_shot(look);
    bool has_any = false;

    for (uint32_t i = 0; i < shot->conn_count; i++) {
        const struct seen_conn *conn = &shot->conns[i];
        struct chain one = { .conn = conn, .is_pool = true };

        if (conn->client_address == request->client_address && conn->port == request->port &&
            !conn->is_idle && strcmp(conn->host, request->host) == 0) {
            follow_loop(look, conn->loop_id, &one);
            keep_most_lively(&one, chain, &has_any);
        }
    }
    for (uint32_t i = 0; i < shot->request_count; i++) {
        struct chain one = { .is_pool = true };

        if (is_opening(&shot->requests[i]) && has_same_origin(&shot->requests[i], request)) {
            follow_loop(look, shot->requests[i].home_loop_id, &one);
            keep_most_lively(&one, chain, &has_any);
        }
    }
    if (!has_any) {
        follow_loop(look, request->home_loop_id, chain);
    }
}

static void follow_call(const struct look *look, const struct seen_request *request,
                        struct chain *chain)
{
    switch ((enum il_phase)request->phase) {
    case IL_PHASE_DONE:
        break;
    case IL_PHASE_POOL_WAIT:
        follow_pool(look, request, chain);
        break;
    case IL_PHASE_RESOLVE:
    case IL_PHASE_CONNECT:
    case IL_PHASE_TLS:
        follow_loop(look, request->home_loop_id, chain);
        break;
    default:
        chain->conn = registry_conn(look, request->conn_id);
        follow_loop(look,
                    chain->conn != NULL && chain->conn->loop_id != 0 ? chain->conn->loop_id
                                                                     : request->home_loop_id,
                    chain);
        break;
    }
}

/* Of several loops of that runtime the most lively: no false alarm. */
static void follow_owner(const struct look *look, const char *owner, struct chain *chain)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; i < shot->loop_count; i++) {
        const struct seen_loop *loop = &shot->loops[i];

        if (!loop->is_thread_loop && strcmp(loop->runtime, owner) == 0 &&
            (chain->loop == NULL || end_at_loop(loop) < chain->end)) {
            chain->loop = loop;
            chain->end = end_at_loop(loop);
        }
    }
}

static void follow_handed(const struct look *look, const struct seen_request *request,
                          struct chain *chain)
{
    const struct registry_shot *shot = registry_shot(look);

    if (request->phase == SHOWN_TICKET_TAKEN) {
        for (uint32_t i = 0; i < shot->request_count && request->task_id != 0; i++) {
            if (!shot->requests[i].is_handed && shot->requests[i].task_id == request->task_id) {
                follow_call(look, &shot->requests[i], chain);
                return;
            }
        }
    }
    if (request->home_loop_id != 0) {
        follow_loop(look, request->home_loop_id, chain);
    } else {
        follow_owner(look, request->owner, chain);
    }
}

static struct chain follow(const struct look *look, const struct seen_request *request)
{
    struct chain chain = { .end = CHAIN_LIVE };

    if (request->is_handed) {
        follow_handed(look, request, &chain);
    } else {
        follow_call(look, request, &chain);
    }
    return chain;
}

/* ---- findings ---- */

static uint32_t set_of_chain(const struct look *look, const struct chain *chain)
{
    return chain->loop == NULL ? LOOK_SETS_MAX : look_set_of_fd(look, chain->loop->epoll_fd);
}

static uint32_t socket_of_chain(const struct look *look, const struct chain *chain)
{
    return chain->conn == NULL ? UINT32_MAX : look_socket_of_fd(look, chain->conn->fd);
}

static bool has_index(const uint32_t *indices, uint32_t count, uint32_t index)
{
    for (uint32_t i = 0; i < count; i++) {
        if (indices[i] == index) {
            return true;
        }
    }
    return false;
}

/* What the kernel's view has said about the same loop, or the same socket. */
static struct finding *find_finding(struct look *look, const struct chain *chain)
{
    uint32_t set = set_of_chain(look, chain), socket = socket_of_chain(look, chain);

    for (uint32_t i = 0; i < look->finding_count; i++) {
        struct finding *finding = &look->findings[i];

        if (chain->end != CHAIN_LIVE && set != LOOK_SETS_MAX &&
            has_index(finding->sets, finding->set_count, set)) {
            return finding;
        }
    }
    for (uint32_t i = 0; i < look->finding_count; i++) {
        struct finding *finding = &look->findings[i];

        if (socket != UINT32_MAX && has_index(finding->sockets, finding->socket_count, socket)) {
            return finding;
        }
    }
    return NULL;
}

static uint32_t thread_of_loop(const struct look *look, const struct seen_loop *loop)
{
    for (uint32_t i = 0; loop != NULL && i < look->thread_count; i++) {
        if (look->threads[i].ns_tid == loop->kernel_thread && !look->threads[i].is_gone) {
            return i;
        }
    }
    return UINT32_MAX;
}

static void say_loop(struct look *look, struct finding *finding, const struct chain *chain)
{
    const struct seen_loop *loop = chain->loop;
    uint64_t for_ms = loop == NULL || look->ended_ns < loop->since_ns
                          ? 0
                          : (look->ended_ns - loop->since_ns) / 1000000u;
    uint32_t thread = thread_of_loop(look, loop);
    char label[128];

    if (loop == NULL) {
        finding_say(finding, "interloop's record: the loop that it waits for has ended");
        return;
    }
    registry_label_loop(loop, label, sizeof(label));
    if (chain->end == CHAIN_STARVED) {
        finding_say(finding, "interloop's record: %s has been in user code for %llu ms%s%s%s",
                    label, (unsigned long long)for_ms, loop->task[0] == '\0' ? "" : ", task '",
                    loop->task, loop->task[0] == '\0' ? "" : "'");
    } else if (chain->end == CHAIN_PARKED) {
        finding_say(finding,
                    "interloop's record: nobody has driven %s for %llu ms; thread %d did it last",
                    label, (unsigned long long)for_ms, loop->kernel_thread);
    } else {
        finding_say(finding, "interloop's record: %s has ended", label);
    }
    if (thread != UINT32_MAX) {
        finding_add_thread(finding, thread);
    }
}

static void say_conn(struct look *look, struct finding *finding, const struct chain *chain)
{
    uint32_t socket = socket_of_chain(look, chain);

    if (chain->conn == NULL) {
        if (chain->is_pool) {
            finding_say(finding, "interloop's record: others wait in the pool for the connection "
                                 "that is being opened there");
        }
        return;
    }
    if (socket != UINT32_MAX) {
        finding_add_socket(look, finding, socket);
    }
    if (chain->is_pool) {
        finding_say(finding,
                    "interloop's record: the pool has no free connection to %s:%u; the most "
                    "lively of those in use is fd %d",
                    chain->conn->host, chain->conn->port, chain->conn->fd);
    } else if (chain->conn->is_bound && !chain->conn->is_exchanging) {
        finding_say(finding,
                    "interloop's record: what was handed to that loop for fd %d has not been "
                    "written",
                    chain->conn->fd);
    }
}

static struct finding *new_finding(struct look *look, const struct chain *chain)
{
    static const enum verdict verdicts[] = {
        [CHAIN_STARVED] = VERDICT_BUSY_OWNER,
        [CHAIN_PARKED] = VERDICT_PARKED_OWNER,
        [CHAIN_GONE] = VERDICT_NOBODY_WATCHES,
    };
    struct finding *finding = finding_new(look, verdicts[chain->end], CONFIDENCE_CERTAIN);
    uint32_t set = set_of_chain(look, chain);

    if (set != LOOK_SETS_MAX) {
        finding_add_set(finding, set);
    }
    finding->is_write_side = true;
    return finding;
}

static void add_request(struct look *look, struct finding *finding, uint32_t index)
{
    const struct seen_request *request = &registry_shot(look)->requests[index];
    uint64_t for_ms = look->ended_ns < request->phase_since_ns
                          ? 0
                          : (look->ended_ns - request->phase_since_ns) / 1000000u;

    if (finding->request_count < LOOK_NAMED_MAX) {
        finding->requests[finding->request_count++] = index;
    }
    finding->request_total++;
    finding->since_ms = il_max_u64(finding->since_ms, for_ms);
    finding->runtime = RUNTIME_INTERLOOP;
}

/* What the chain proves about a finding that the kernel's view has led to. It needs no more than
 * the two readings of the record: however few looks there were in between, what stood has stood. */
static void strengthen(struct look *look, struct finding *finding, const struct chain *chain)
{
    if (window_ms(look) < REGISTRY_STOOD_MS) {
        return;
    }
    if (chain->end == CHAIN_STARVED && finding->verdict == VERDICT_PARKED_OWNER) {
        finding->verdict = VERDICT_BUSY_OWNER; /* its thread polls another loop, further in */
        finding->thread_count = finding->thread_total = 0;
    } else if (chain->end == CHAIN_STARVED && finding->verdict == VERDICT_WORKERS_BLOCKED) {
        finding->verdict = VERDICT_BUSY_OWNER; /* the kernel has no trace of the request; we have */
        finding->is_write_side = true;
    }
    if ((chain->end == CHAIN_PARKED && finding->verdict == VERDICT_PARKED_OWNER) ||
        (chain->end == CHAIN_STARVED && finding->verdict == VERDICT_BUSY_OWNER) ||
        (chain->end == CHAIN_GONE && finding->verdict == VERDICT_NOBODY_WATCHES) ||
        (chain->end == CHAIN_LIVE && finding->verdict == VERDICT_PEER && !chain->is_pool)) {
        finding->confidence = CONFIDENCE_CERTAIN;
    }
}

/* ---- the window of an HTTP/2 connection ---- */

static bool waits_for_window(const struct seen_request *request, const struct chain *chain)
{
    return !request->is_handed && request->phase == IL_PHASE_READ && chain->end == CHAIN_LIVE &&
           chain->conn != NULL && chain->conn->is_window_used_up;
}

static void say_hoarder(const struct look *look, struct finding *finding, const struct chain *chain)
{
    static const char *const hows[] = {
        [CHAIN_LIVE] = "",
        [CHAIN_STARVED] = ", whose thread is in user code",
        [CHAIN_PARKED] = ", which nobody drives",
        [CHAIN_GONE] = ", which has ended",
    };
    const struct seen_loop *loop = registry_loop(look, chain->conn->hoarder_loop_id);
    char label[128];

    if (loop != NULL) {
        registry_label_loop(loop, label, sizeof(label));
        finding_say(finding, "interloop's record: the last of those bodies came for %s%s", label,
                    hows[end_at_loop(loop)]);
    }
}

static struct finding *new_window_finding(struct look *look, const struct chain *chain)
{
    struct finding *finding = finding_new(look, VERDICT_BACK_PRESSURE, CONFIDENCE_CERTAIN);
    uint32_t socket = socket_of_chain(look, chain);

    finding->is_window = true;
    if (socket != UINT32_MAX) {
        finding_add_socket(look, finding, socket);
    }
    finding_say(
        finding,
        "interloop's record: the window of the HTTP/2 connection fd %d is used up by bodies "
        "that have come and are not read",
        chain->conn->fd);
    say_hoarder(look, finding, chain);
    return finding;
}

/* ---- each request ---- */

static void judge_request(struct look *look, uint32_t index)
{
    const struct seen_request *request = &registry_shot(look)->requests[index];
    struct chain chain = follow(look, request);
    struct finding *finding = find_finding(look, &chain);
    bool is_first;

    if (finding == NULL && waits_for_window(request, &chain)) {
        finding = new_window_finding(look, &chain);
    }
    if (finding == NULL && chain.end == CHAIN_LIVE) {
        return;
    }
    if (finding == NULL) {
        finding = new_finding(look, &chain);
    }
    is_first = finding->request_count == 0;
    strengthen(look, finding, &chain);
    if (is_first && chain.end != CHAIN_LIVE) {
        say_loop(look, finding, &chain);
    }
    if (chain.end != CHAIN_LIVE) {
        say_conn(look, finding, &chain);
    }
    add_request(look, finding, index);
}

void judge_registry(struct look *look)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; shot != NULL && i < shot->request_count; i++) {
        if (shot->requests[i].stood) {
            judge_request(look, i);
        }
    }
}

void registry_recognise_threads(struct look *look)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; shot != NULL && i < shot->loop_count; i++) {
        const struct seen_loop *loop = &shot->loops[i];
        uint32_t index = thread_of_loop(look, loop);

        if (index == UINT32_MAX || loop->hold == SHOWN_HOLD_FREE ||
            loop->hold == SHOWN_HOLD_ENDED || !loop->stood) {
            continue;
        }
        look->threads[index].runtime = RUNTIME_INTERLOOP;
        if (loop->hold == SHOWN_HOLD_IN_USER && look->threads[index].wait.kind != WAIT_EPOLL) {
            look->threads[index].role = ROLE_IN_CALLBACK;
            look->threads[index].set_hint = look_set_of_fd(look, loop->epoll_fd);
        }
    }
    if (shot != NULL && shot->loop_count > 0 && look->runtime == RUNTIME_UNKNOWN) {
        look->runtime = RUNTIME_INTERLOOP;
    }
}
