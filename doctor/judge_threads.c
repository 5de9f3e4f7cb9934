/* judge_threads.c: lock-cycle, workers-blocked in pools of blocking threads, resolver.
 *
 * Locks: an edge from each thread that waits for a glibc mutex to the thread that the mutex names
 * as its owner. Every thread waits for one lock at most, so the graph is a forest with at most
 * one cycle in each tree: following the edges for as many steps as there are threads finds it.
 *
 * Thread: the doctor's only one. */
#include "doctor/verdict.h"
#include "doctor/waits.h"

#define JUDGE_POOL_MIN 2 /* one stuck pool thread is a slow job, not a blocked pool */

/* ---- stopped ---- */

void judge_stopped(struct look *look)
{
    struct finding *finding = finding_new(look, VERDICT_WORKERS_BLOCKED, CONFIDENCE_CERTAIN);

    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (!look->threads[i].is_gone) {
            finding_add_thread(finding, i);
        }
    }
    finding_say(finding, "each of the %u threads is %s, and none was given a CPU in %llu ms",
                finding->thread_total,
                look->is_frozen ? "in a cgroup that is frozen" : "stopped (state T)",
                (unsigned long long)window_ms(look));
    if (look->tracer != 0) {
        finding_say(finding, "process %d traces it, as debuggers do", look->tracer);
    }
}

/* ---- locks ---- */

static uint32_t thread_of_ns_tid(const struct look *look, int ns_tid)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (look->threads[i].ns_tid == ns_tid && !look->threads[i].is_gone) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* Standing in the same lock at all looks but the first two (one may have come just then). */
static bool stands_in_lock(const struct look *look, uint32_t index)
{
    const struct seen_thread *thread = &look->threads[index];

    return !thread->is_gone && thread->wait.is_lock && thread->wait.kind == WAIT_FUTEX &&
           thread->stood_in_wait;
}

/* The next thread along the edges; UINT32_MAX at the end. */
static uint32_t lock_holder(const struct look *look, uint32_t index)
{
    return stands_in_lock(look, index)
               ? thread_of_ns_tid(look, look->threads[index].wait.mutex_owner)
               : UINT32_MAX;
}

/* Is `index` on a cycle, and is it the lowest thread of it (so that it is reported once)? */
static bool begins_cycle(const struct look *look, uint32_t index)
{
    uint32_t at = index;

    for (uint32_t step = 0; step < look->thread_count; step++) {
        at = lock_holder(look, at);
        if (at == UINT32_MAX || at < index) {
            return false;
        }
        if (at == index) {
            return true;
        }
    }
    return false;
}

static bool is_in_lock_function(const struct seen_thread *thread)
{
    for (uint32_t i = 0; i < thread->frame_count && i < 6; i++) {
        if (strstr(thread->frames[i].symbol, "lll_lock_wait") != NULL ||
            strstr(thread->frames[i].symbol, "pthread_mutex_lock") != NULL) {
            return true;
        }
    }
    return false;
}

static void report_cycle(struct look *look, uint32_t start)
{
    struct finding *finding = finding_new(look, VERDICT_LOCK_CYCLE, CONFIDENCE_CERTAIN);
    uint32_t at = start;

    do {
        uint32_t holder = lock_holder(look, at);

        finding_add_thread(finding, at);
        finding_say(finding,
                    "thread %d \"%s\" waits for the mutex at 0x%llx, held by thread %d \"%s\"",
                    look->threads[at].tid, look->threads[at].name,
                    (unsigned long long)look->threads[at].wait.address, look->threads[holder].tid,
                    look->threads[holder].name);
        at = holder;
    } while (at != start);
    finding_say(finding, "all of them stood in these waits at every look in %llu ms",
                (unsigned long long)window_ms(look));
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (stands_in_lock(look, i) && lock_holder(look, i) != UINT32_MAX) {
            finding_add_thread(finding, i); /* those that queue behind the cycle */
        }
    }
}

/* A mutex whose owner does not exist is believed only when the stack shows a lock function: the
 * memory alone could look like that by chance. */
static void report_orphan(struct look *look, uint32_t index)
{
    const struct seen_thread *thread = &look->threads[index];
    struct finding *finding;

    if (!stands_in_lock(look, index) || !is_in_lock_function(thread) ||
        lock_holder(look, index) != UINT32_MAX) {
        return;
    }
    finding = finding_new(look, VERDICT_LOCK_CYCLE, CONFIDENCE_LIKELY);
    finding_add_thread(finding, index);
    finding_say(finding,
                "thread %d \"%s\" waits for the mutex at 0x%llx, held by thread %d, which "
                "does not exist: it ended, or it stayed in the parent at a fork",
                thread->tid, thread->name, (unsigned long long)thread->wait.address,
                thread->wait.mutex_owner);
}

void judge_locks(struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (begins_cycle(look, i)) {
            report_cycle(look, i);
        } else {
            report_orphan(look, i);
        }
    }
}

/* ---- pools of threads for blocking work ---- */

static bool is_pool_thread(const struct seen_thread *thread)
{
    return !thread->is_gone &&
           (strncmp(thread->name, "libuv-worker", 12) == 0 || thread->role == ROLE_BLOCKING_JOB ||
            (thread->role == ROLE_POOL_IDLE && thread->runtime == RUNTIME_LIBUV));
}

static bool is_stuck_in_job(const struct seen_thread *thread)
{
    return thread->role == ROLE_BLOCKING_JOB && thread->stood_in_wait &&
           thread->wait.kind != WAIT_RUNNING;
}

/* libuv's pool has a fixed size (4): when all of it stands, file system work, name resolution and
 * zlib of the whole process stand. Tokio's blocking pool grows, so it is no such case. */
void judge_pools(struct look *look)
{
    uint32_t pool_count = 0, stuck_count = 0;
    struct finding *finding;

    for (uint32_t i = 0; i < look->thread_count; i++) {
        const struct seen_thread *thread = &look->threads[i];

        if (thread->runtime != RUNTIME_LIBUV && thread->runtime != RUNTIME_NODE) {
            continue;
        }
        pool_count += is_pool_thread(thread);
        stuck_count += is_pool_thread(thread) && is_stuck_in_job(thread);
    }
    if (stuck_count < JUDGE_POOL_MIN || stuck_count < pool_count) {
        return;
    }
    finding = finding_new(look, VERDICT_WORKERS_BLOCKED, CONFIDENCE_CERTAIN);
    finding->runtime = look->runtime == RUNTIME_NODE ? RUNTIME_NODE : RUNTIME_LIBUV;
    finding_say(finding,
                "all %u threads of libuv's pool stood in one blocking call each at every "
                "look in %llu ms",
                stuck_count, (unsigned long long)window_ms(look));
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (is_pool_thread(&look->threads[i]) && is_stuck_in_job(&look->threads[i])) {
            finding_add_thread(finding, i);
        }
    }
}

/* ---- the resolver ---- */

static bool is_dns(const struct seen_socket *socket)
{
    return socket->was_found && !socket->was_lost && socket->peer_port == 53 &&
           socket->family != SOCKET_UNIX && socket->dump_count >= 2 && !socket->was_read &&
           socket->last.unread_bytes == 0;
}

/* A name server itself keeps connections to others open, whether or not it asks them now. */
static bool serves_names(const struct look *look)
{
    for (uint32_t i = 0; i < look->socket_count; i++) {
        if (look->sockets[i].was_found && look->sockets[i].local_port == 53) {
            return true;
        }
    }
    return false;
}

/* A lookup moves from server to server, so the wait itself may change: being in the resolver at
 * the end, and never in an event set or on a CPU for long, is enough. */
static bool stands_in_resolver(const struct look *look, const struct seen_thread *thread)
{
    return !thread->is_gone && thread->role == ROLE_RESOLVING && thread->epoll_count == 0 &&
           thread->look_count + 2 >= look->look_count && thread->stood_in_wait;
}

void judge_resolver(struct look *look)
{
    struct finding *finding = NULL;

    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (!stands_in_resolver(look, &look->threads[i])) {
            continue;
        }
        if (finding == NULL) {
            finding = finding_new(look, VERDICT_RESOLVER, CONFIDENCE_CERTAIN);
        }
        finding_add_thread(finding, i);
        finding_say(finding, "thread %d \"%s\" stands in the C library's name resolution",
                    look->threads[i].tid, look->threads[i].name);
    }
    for (uint32_t i = 0; i < look->socket_count && !serves_names(look); i++) {
        const struct seen_socket *socket = &look->sockets[i];
        bool is_awaited = socket->thread_watch_count > 0;

        if (!is_dns(socket)) {
            continue;
        }
        if (finding == NULL) {
            finding = finding_new(look, VERDICT_RESOLVER,
                                  is_awaited ? CONFIDENCE_LIKELY : CONFIDENCE_POSSIBLE);
        }
        finding_add_socket(look, finding, i);
        finding_say(finding, "nothing has come from the name server %s on fd %d all the time%s",
                    socket->peer, socket->fd,
                    is_awaited ? ""
                               : "; it is in an event set: it may also be kept open for questions "
                                 "to come");
    }
}
