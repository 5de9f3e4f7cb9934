/* verdict.c: the facts that all judges share, the order of findings, and when to take stacks.
 *
 * The rule of all conclusions: absence proves only as much as the looks were many. What was not
 * confirmed at every look of the window, from its first to its last, is no finding; and where a
 * means was missing (a right, a stack, a dump) the conclusion says less, not more.
 *
 * Owns: look->findings. Thread: the doctor's only one. */
#include <stdlib.h>

#include "doctor/verdict.h"

#define VERDICT_LOOKS_MIN      8 /* below, nothing is more than possible */
#define VERDICT_WINDOW_MIN_MS  900
#define VERDICT_PAUSED_BYTES   16384u /* more than a TLS record unread: somebody stopped reading */
#define VERDICT_CONSUMED_BYTES 65536u /* ...after having read this much */

uint64_t window_ms(const struct look *look)
{
    return (look->ended_ns - look->started_ns) / 1000000u;
}

bool window_is_enough(const struct look *look)
{
    return look->look_count >= VERDICT_LOOKS_MIN && window_ms(look) >= VERDICT_WINDOW_MIN_MS;
}

/* ---- facts about sockets ---- */

bool socket_is_unread(const struct seen_socket *socket)
{
    return socket->family == SOCKET_TCP && socket->was_found && !socket->was_lost &&
           socket->dump_count >= 2 && !socket->was_read && socket->last.unread_bytes > 0;
}

/* Nearly all of the window, or nearly as long as a window must be. */
bool socket_stands_unread(const struct look *look, const struct seen_socket *socket)
{
    uint64_t needed_ms = il_min_u64(window_ms(look) * 9 / 10, VERDICT_WINDOW_MIN_MS);
    bool came_long_ago =
        socket->last.state != TCPS_LISTEN && socket->last.last_received_ms >= needed_ms;

    return socket_is_unread(socket) &&
           (came_long_ago || look->ended_ns >= socket->unread_since_ns + needed_ms * 1000000u);
}

bool socket_is_idle_noise(const struct seen_socket *socket)
{
    if (socket->first_bytes == BYTES_HTTP2_CONTROL || socket->first_bytes == BYTES_TLS_ALERT) {
        return true;
    }
    /* "408 Request Timeout" to a connection on which no request was sent, then the end. */
    return socket->first_bytes == BYTES_HTTP1_STATUS && socket->http_status == 408 &&
           socket->last.end_unread;
}

bool socket_buffer_is_full(const struct seen_socket *socket)
{
    return socket->last.receive_memory_max > 0 &&
           socket->last.receive_memory >= socket->last.receive_memory_max / 2;
}

/* A beginning of a response that lies unread was never looked at; the middle of one, or a full
 * buffer, was left by someone who reads when he wants more. */
bool socket_looks_paused(const struct seen_socket *socket)
{
    if (socket->first_bytes == BYTES_HTTP1_STATUS || socket->first_bytes == BYTES_HTTP1_REQUEST) {
        return false;
    }
    if (socket_buffer_is_full(socket)) {
        return true;
    }
    if (socket->first_bytes == BYTES_OTHER) {
        return socket->last.consumed_bytes > 0;
    }
    return socket->last.unread_bytes >= VERDICT_PAUSED_BYTES &&
           socket->last.consumed_bytes >= VERDICT_CONSUMED_BYTES;
}

bool socket_is_orphan(const struct look *look, const struct seen_socket *socket)
{
    return socket->family == SOCKET_TCP && socket->set == LOOK_SETS_MAX &&
           socket->thread_watch_count == 0 && socket_stands_unread(look, socket) &&
           !socket_is_idle_noise(socket) && !socket_looks_paused(socket);
}

/* ---- facts about sets ---- */

uint32_t set_driver(const struct look *look, uint32_t set)
{
    /* A chain of sets may be made a circle only by a damaged list: follow it a few steps. */
    for (int step = 0; step < 5 && look->sets[set].outer != LOOK_SETS_MAX; step++) {
        set = look->sets[set].outer;
    }
    return set;
}

bool set_is_unpolled(const struct look *look, uint32_t set)
{
    const struct seen_set *driver = &look->sets[set_driver(look, set)];

    if (look->can_syscall && look->unknown_sleepers > 0) {
        return false; /* it may be this set that such a thread polls */
    }
    return look->sets[set].polled_count == 0 && driver->polled_count == 0 &&
           !driver->is_polled_by_parent;
}

/* Did readiness vanish, or did anybody read a socket of the set? Then its events were collected, at
 * whatever moments we did not look. */
bool set_was_driven(const struct look *look, uint32_t set)
{
    if (look->sets[set].collected_count > 0) {
        return true;
    }
    for (uint32_t i = 0; i < look->socket_count; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        if (socket->set == set && socket->family == SOCKET_TCP && socket->set_count == 1 &&
            socket->was_read) {
            return true;
        }
    }
    return false;
}

bool set_is_stale(const struct look *look, uint32_t set)
{
    const struct seen_set *seen = &look->sets[set];

    bool was_always_ready = seen->ready_count == seen->look_count;
    bool stands_long = seen->was_ready &&
                       look->ended_ns >= seen->last_quiet_ns + VERDICT_WINDOW_MIN_MS * 1000000ull;

    return !seen->is_gone && seen->look_count >= 2 && (was_always_ready || stands_long) &&
           set_is_unpolled(look, set) && !set_was_driven(look, set);
}

/* ---- facts about threads ---- */

bool thread_never_polled(const struct seen_thread *thread)
{
    return !thread->is_gone && thread->epoll_count == 0 && thread->wait.kind != WAIT_EPOLL;
}

/* ---- findings ---- */

struct finding *finding_new(struct look *look, enum verdict verdict, enum confidence confidence)
{
    static struct finding spare; /* written to and forgotten */
    struct finding *finding = &spare;

    if (look->findings == NULL) {
        look->findings = il_calloc(LOOK_FINDINGS_MAX, sizeof(look->findings[0]));
    }
    if (look->findings == NULL || look->finding_count == LOOK_FINDINGS_MAX) {
        look->finding_dropped++;
    } else {
        finding = &look->findings[look->finding_count++];
    }
    memset(finding, 0, sizeof(*finding));
    finding->verdict = verdict;
    finding->confidence = window_is_enough(look) ? confidence : CONFIDENCE_POSSIBLE;
    finding->runtime = look->runtime;
    finding->since_ms = window_ms(look);
    finding->since_is_at_least = true;
    return finding;
}

/* True when it was not there; when the list is full that is taken for granted. */
static bool add_index(uint32_t *indices, uint32_t *count, uint32_t index)
{
    for (uint32_t i = 0; i < *count; i++) {
        if (indices[i] == index) {
            return false;
        }
    }
    if (*count < LOOK_NAMED_MAX) {
        indices[(*count)++] = index;
    }
    return true;
}

void finding_add_socket(struct look *look, struct finding *finding, uint32_t index)
{
    look->sockets[index].is_named = true;
    finding->socket_total += add_index(finding->sockets, &finding->socket_count, index);
}

void finding_add_set(struct finding *finding, uint32_t index)
{
    (void)add_index(finding->sets, &finding->set_count, index);
}

void finding_add_thread(struct finding *finding, uint32_t index)
{
    finding->thread_total += add_index(finding->threads, &finding->thread_count, index);
}

void finding_say(struct finding *finding, const char *format, ...)
{
    va_list args;

    if (finding->evidence_count == LOOK_EVIDENCE_MAX) {
        return; /* sixteen facts convince or nothing does */
    }
    va_start(args, format);
    vsnprintf(finding->evidence[finding->evidence_count], LOOK_TEXT_MAX, format, args);
    va_end(args);
    for (uint32_t i = 0; i < finding->evidence_count; i++) {
        if (strcmp(finding->evidence[i], finding->evidence[finding->evidence_count]) == 0) {
            return; /* said already, of another request */
        }
    }
    finding->evidence_count++;
}

/* ---- when stacks are worth it ---- */

static bool threads_need_stacks(const struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        const struct seen_thread *thread = &look->threads[i];
        bool stood = thread->stood_in_wait;

        if (thread->is_gone) {
            continue;
        }
        if (thread->wait.is_lock) {
            return true;
        }
        /* A thread that has stood in one call all the time, other than in an event set: perhaps in
         * the resolver, in a pool, or in a callback. Waiting for a futex is what idle pools do. */
        if (stood && (thread->wait.kind == WAIT_POLL || thread->wait.kind == WAIT_FD ||
                      thread->wait.kind == WAIT_OTHER)) {
            return true;
        }
        if (strncmp(thread->name, "libuv-worker", 12) == 0 && thread->wait.kind != WAIT_FUTEX) {
            return true;
        }
    }
    return false;
}

bool verdict_needs_stacks(const struct look *look)
{
    if (look->is_stopped) {
        return false; /* wherever its threads are: what holds them is known */
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        const struct seen_set *set = &look->sets[i];

        if (!set->is_gone && set->watch_count > 0 && set_is_unpolled(look, i)) {
            return true;
        }
    }
    for (uint32_t i = 0; i < look->socket_count; i++) {
        if (socket_stands_unread(look, &look->sockets[i])) {
            return true;
        }
    }
    return threads_need_stacks(look);
}

/* ---- the order ---- */

static int gravity(enum verdict verdict)
{
    static const int rank[VERDICT_COUNT] = {
        [VERDICT_LOCK_CYCLE] = 12,   [VERDICT_SELF_WAIT] = 11,       [VERDICT_PARKED_OWNER] = 10,
        [VERDICT_BUSY_OWNER] = 9,    [VERDICT_WORKERS_BLOCKED] = 8,  [VERDICT_NOBODY_WATCHES] = 7,
        [VERDICT_MISSED_WAKEUP] = 6, [VERDICT_RESOLVER] = 5,         [VERDICT_NETWORK] = 4,
        [VERDICT_BACK_PRESSURE] = 3, [VERDICT_CLOSED_UNNOTICED] = 2, [VERDICT_PEER] = 1,
    };

    return rank[verdict];
}

/* A finding that is merely possible comes after all that are more. */
static int compare_findings(const void *a, const void *b)
{
    const struct finding *x = a, *y = b;
    int weight_x = gravity(x->verdict) + (x->confidence == CONFIDENCE_POSSIBLE ? 0 : 100);
    int weight_y = gravity(y->verdict) + (y->confidence == CONFIDENCE_POSSIBLE ? 0 : 100);

    if (weight_x != weight_y) {
        return weight_y - weight_x;
    }
    return (x->since_ms < y->since_ms) - (x->since_ms > y->since_ms);
}

static void judge(struct look *look)
{
    judge_locks(look);
    if (look->starved_count == 0) { /* else whoever should collect may only be waiting for a CPU */
        judge_sets(look);
        judge_contexts(look);
    }
    judge_pools(look);
    judge_resolver(look);
    judge_sockets(look);
    judge_registry(look);
}

void verdict_conclude(struct look *look)
{
    if (look->is_stopped) {
        judge_stopped(look); /* then nothing else that stands is anybody's fault */
    } else {
        judge(look);
    }
    if (look->finding_count > 0) {
        qsort(look->findings, look->finding_count, sizeof(look->findings[0]), compare_findings);
    }
    for (uint32_t i = 0; i < look->finding_count; i++) {
        words_fill(look, &look->findings[i]);
    }
}

bool verdict_is_complete(const struct look *look)
{
    return look->can_syscall && look->can_copy_fd && look->starved_count == 0;
}

enum verdict verdict_of(const struct look *look)
{
    return look->finding_count > 0 ? look->findings[0].verdict : VERDICT_HEALTHY;
}
