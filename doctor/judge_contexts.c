/* judge_contexts.c: GLib's main contexts, which leave nothing in the kernel to look at.
 *
 * A context hands its sockets to poll() anew each time, so a socket that nobody reads looks like
 * one that nobody watches. What tells them apart is the context's wake-up: an eventfd that is in
 * each of its polls, and in no event set. An eventfd that no thread had in a poll() at any look is
 * a context that nobody iterates; then the socket is, most likely, its own. If a thread stands in a
 * callback of GLib's and polls nothing, that is why.
 *
 * Thread: the doctor's only one. */
#include "doctor/verdict.h"

static bool is_in_a_set(const struct look *look, int fd)
{
    for (uint32_t i = 0; i < look->set_count; i++) {
        for (uint32_t k = 0; k < look->sets[i].watch_count; k++) {
            if (look->sets[i].watches[k].fd == fd) {
                return true;
            }
        }
    }
    return false;
}

/* The wake-up of a context that nobody iterates; -1: there is none. */
static int find_idle_wakeup(const struct look *look)
{
    for (uint32_t i = 0; i < look->fd_count; i++) {
        const struct seen_fd *fd = &look->fds[i];

        if (fd->kind == FD_EVENTFD && fd->poll_count == 0 && !is_in_a_set(look, fd->fd)) {
            return fd->fd;
        }
    }
    return -1;
}

static uint32_t find_stuck_callback(const struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        const struct seen_thread *thread = &look->threads[i];

        if (thread->runtime == RUNTIME_GLIB && thread->role == ROLE_IN_CALLBACK &&
            !thread->is_gone && (thread->stood_in_wait || thread->wait.kind == WAIT_RUNNING)) {
            return i;
        }
    }
    return UINT32_MAX;
}

static struct finding *new_finding(struct look *look, int wakeup)
{
    uint32_t stuck = find_stuck_callback(look);
    struct finding *finding = finding_new(
        look, stuck == UINT32_MAX ? VERDICT_PARKED_OWNER : VERDICT_BUSY_OWNER, CONFIDENCE_LIKELY);

    finding->runtime = RUNTIME_GLIB;
    finding_say(finding,
                "no thread had eventfd %d, the wake-up of a main context, in a poll() at any of "
                "%u looks",
                wakeup, look->look_count);
    if (stuck != UINT32_MAX) {
        finding_add_thread(finding, stuck);
        finding_say(finding,
                    "thread %d \"%s\" is inside a callback of a main context, and polls "
                    "nothing",
                    look->threads[stuck].tid, look->threads[stuck].name);
        return finding;
    }
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (!look->threads[i].is_gone && look->threads[i].role != ROLE_POOL_IDLE) {
            finding_add_thread(finding, i);
        }
    }
    return finding;
}

/* A context at rest, whose connections are idle: as with an event set that nobody drives, a request
 * handed to it leaves no trace. GLib wakes a context only while somebody iterates it. */
static void note_idle_context(struct look *look, int wakeup)
{
    uint32_t idle_count = 0;

    for (uint32_t i = 0; i < look->socket_count; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        idle_count += socket->family == SOCKET_TCP && socket->was_found && !socket->was_lost &&
                      socket->last.state == TCPS_ESTABLISHED && !socket->is_server_side &&
                      socket->set == LOOK_SETS_MAX && socket->thread_watch_count == 0 &&
                      !socket->is_named;
    }
    if (idle_count > 0) {
        look_note(look,
                  "a main context (wake-up: eventfd %d) is iterated by no thread, and %u "
                  "connection%s watched by nobody: a request on one of them would hang",
                  wakeup, idle_count, idle_count == 1 ? " is" : "s are");
    }
}

void judge_contexts(struct look *look)
{
    struct finding *finding = NULL;
    int wakeup = find_idle_wakeup(look);

    if (look->runtime != RUNTIME_GLIB || !look->can_syscall || !look->can_memory || wakeup < 0) {
        return;
    }
    for (uint32_t i = 0; i < look->socket_count; i++) {
        struct seen_socket *socket = &look->sockets[i];

        if (socket->is_named || !socket_is_orphan(look, socket)) {
            continue;
        }
        if (finding == NULL) {
            finding = new_finding(look, wakeup);
        }
        finding_add_socket(look, finding, i);
        finding_say(finding, "%llu bytes from %s lie unread in fd %d, the last came %u ms ago",
                    (unsigned long long)socket->last.unread_bytes, socket->peer, socket->fd,
                    socket->last.last_received_ms);
        finding->since_ms = il_max_u64(finding->since_ms, socket->last.last_received_ms);
    }
    if (finding == NULL) {
        note_idle_context(look, wakeup);
    }
}
