/* judge_sets.c: event sets that nobody drives: parked-owner, busy-owner, self-wait.
 *
 * For each set that was unpolled at every look: what lies in it (response bytes, connections to
 * accept, a wake-up, or only the end of an idle connection), and which threads it belongs to. A
 * thread belongs to a set when the set's events still lie in its stack, or when it sits in a
 * callback of a loop and polls nothing, and no other set claims it.
 *
 * Thread: the doctor's only one. */
#include <sys/epoll.h>

#include "doctor/verdict.h"

/* What makes a set ready. */
struct contents {
    uint32_t response_count; /* sockets with unread bytes that somebody asked for */
    uint32_t standing_count; /* ...for long */
    uint32_t idle_count;     /* peers that closed or pinged an idle connection */
    uint32_t writable_count; /* level-triggered interest in writing: ready by nature */
    uint32_t signal_count;   /* Tokio's signal socket, which stands in every set */
    uint32_t tcp_count;      /* TCP sockets it watches */
    uint32_t client_count;   /* ...of which requests may go out */
    uint64_t oldest_ms;
};

static void count_unix(const struct seen_socket *socket, struct contents *contents)
{
    /* Tokio registers copies of one socket for signals in each set; a pipe that wakes one
     * loop has one fd. */
    if (socket->last.unread_bytes > 0 && socket->fd_count > 1) {
        contents->signal_count++;
    }
}

static void count_tcp(const struct look *look, const struct seen_socket *socket,
                      struct contents *contents)
{
    contents->tcp_count++;
    contents->client_count += !socket->is_server_side;
    if (socket_is_unread(socket) && !socket_is_idle_noise(socket)) {
        contents->response_count++;
        contents->standing_count += socket_stands_unread(look, socket);
        if (socket->last.state != TCPS_LISTEN) {
            contents->oldest_ms = il_max_u64(contents->oldest_ms, socket->last.last_received_ms);
        }
    } else if (socket->last.end_unread || socket->last.unread_bytes > 0 ||
               socket->last.state == TCPS_CLOSE) {
        contents->idle_count++;
    } else if ((socket->watch_events & EPOLLOUT) != 0 && (socket->watch_events & EPOLLET) == 0 &&
               socket->last.state == TCPS_ESTABLISHED) {
        contents->writable_count++;
    }
}

static void count_contents(const struct look *look, uint32_t driver, struct contents *ret_contents)
{
    memset(ret_contents, 0, sizeof(*ret_contents));
    for (uint32_t i = 0; i < look->socket_count; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        if (socket->set == LOOK_SETS_MAX || !socket->was_found || socket->was_lost ||
            set_driver(look, socket->set) != driver) {
            continue;
        }
        if (socket->family == SOCKET_UNIX) {
            count_unix(socket, ret_contents);
        } else if (socket->family == SOCKET_TCP) {
            count_tcp(look, socket, ret_contents);
        }
    }
}

/* ---- whose set is it ---- */

enum link { LINK_NONE, LINK_ONLY_UNCLAIMED, LINK_EVENTS_ON_STACK, LINK_SEEN_POLLING };

static bool was_seen_polling(const struct seen_set *set, pid_t tid)
{
    for (uint32_t i = 0; i < set->poller_count; i++) {
        if (set->pollers[i] == tid) {
            return true;
        }
    }
    return false;
}

/* Code made at run time can hide what lies below it: then the stack ends in the middle. */
static bool stack_is_whole(const struct seen_thread *thread)
{
    static const char *const roots[] = { "_start", "__libc_start", "start_thread", "clone",
                                         "runtime.goexit" };
    const struct thread_frame *last;

    if (thread->frame_count == 0) {
        return false;
    }
    last = &thread->frames[thread->frame_count - 1];
    for (size_t i = 0; i < il_array_count(roots); i++) {
        if (strstr(last->symbol, roots[i]) != NULL) {
            return true;
        }
    }
    return false;
}

static enum link link_of_thread(const struct look *look, const struct seen_thread *thread,
                                uint32_t set)
{
    if (!thread_never_polled(thread)) {
        return LINK_NONE;
    }
    if (was_seen_polling(&look->sets[set], thread->tid)) {
        return LINK_SEEN_POLLING;
    }
    if (thread->role == ROLE_POOL_IDLE || thread->role == ROLE_WAITING_REPLY ||
        thread->role == ROLE_BLOCKING_JOB) {
        return LINK_NONE; /* events on its stack would be remains of something that returned */
    }
    if (thread->set_hint != LOOK_SETS_MAX) {
        return thread->set_hint == set || set_driver(look, thread->set_hint) == set
                   ? LINK_EVENTS_ON_STACK
                   : LINK_NONE;
    }
    if (thread->role == ROLE_IN_CALLBACK) {
        return LINK_ONLY_UNCLAIMED;
    }
    /* It ran all the time, and a loop may well lie below where its stack could not be followed. */
    return thread->stack_taken && !stack_is_whole(thread) &&
                   thread->running_count * 10 >= look->look_count * 8
               ? LINK_ONLY_UNCLAIMED
               : LINK_NONE;
}

struct owners {
    uint32_t count;
    uint32_t first; /* index of a thread */
    enum link link; /* the strongest */
};

static void find_owners(const struct look *look, uint32_t set, struct owners *ret_owners)
{
    memset(ret_owners, 0, sizeof(*ret_owners));
    for (uint32_t i = 0; i < look->thread_count; i++) {
        enum link link = link_of_thread(look, &look->threads[i], set);

        if (link == LINK_NONE) {
            continue;
        }
        if (link > ret_owners->link) {
            ret_owners->link = link;
            ret_owners->count = 0;
        }
        if (link == ret_owners->link && ret_owners->count++ == 0) {
            ret_owners->first = i;
        }
    }
}

static void add_owners(const struct look *look, struct finding *finding, uint32_t set,
                       const struct owners *owners)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (link_of_thread(look, &look->threads[i], set) == owners->link) {
            finding_add_thread(finding, i);
            if (look->threads[i].runtime != RUNTIME_UNKNOWN) {
                finding->runtime = look->threads[i].runtime;
            }
        }
    }
}

/* ---- self-wait ---- */

static bool watches_tcp(const struct look *look, uint32_t set)
{
    for (uint32_t i = 0; i < look->socket_count; i++) {
        if (look->sockets[i].set == set && look->sockets[i].family == SOCKET_TCP &&
            look->sockets[i].last.state != TCPS_LISTEN) {
            return true;
        }
    }
    return false;
}

/* Could this other thread, as it is, ever wake the one that waits? Only if it runs, sleeps or
 * waits for something that comes from outside. Idle pool threads, threads that wait without
 * limit for others, and loops that watch no connection get their work from inside. */
static bool could_deliver(const struct look *look, const struct seen_thread *thread)
{
    const struct thread_wait *wait = &thread->wait;

    if (thread->is_gone) {
        return false;
    }
    if (wait->kind == WAIT_EPOLL) {
        uint32_t set = look_set_of_fd(look, wait->fd);

        return set == LOOK_SETS_MAX || watches_tcp(look, set);
    }
    if (thread->role == ROLE_POOL_IDLE || thread->role == ROLE_WAITING_REPLY) {
        return !thread->stood_still && thread->running_count > 0;
    }
    return !(wait->kind == WAIT_FUTEX && wait->is_forever && thread->stood_still);
}

/* `ret_other` counts the threads besides it that could not deliver either. */
static bool waits_for_itself(const struct look *look, uint32_t owner, uint32_t *ret_other)
{
    const struct seen_thread *thread = &look->threads[owner];

    *ret_other = 0;
    if (thread->wait.kind != WAIT_FUTEX || thread->wait.is_lock || !thread->wait.is_forever ||
        !thread->stood_in_wait) {
        return false;
    }
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (i == owner || look->threads[i].is_gone) {
            continue;
        }
        if (could_deliver(look, &look->threads[i])) {
            return false;
        }
        ++*ret_other;
    }
    return true;
}

/* The thread asks a server that lives on the very loop it blocks. Returns the server's socket. */
static uint32_t own_server(const struct look *look, const struct seen_thread *thread, uint32_t set)
{
    const struct seen_socket *asking = NULL;

    for (uint32_t i = 0; i < look->socket_count && asking == NULL; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        if (socket->family == SOCKET_TCP && socket->thread_watcher == thread->tid &&
            thread->stood_in_wait && !socket->is_server_side &&
            (thread->wait.kind == WAIT_POLL || thread->wait.fd == socket->fd)) {
            asking = socket;
        }
    }
    for (uint32_t i = 0; i < look->socket_count && asking != NULL; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        if (socket->family != SOCKET_TCP || !socket->is_server_side ||
            socket->set == LOOK_SETS_MAX || set_driver(look, socket->set) != set ||
            socket->local_port != asking->peer_port) {
            continue;
        }
        if (socket->last.state == TCPS_LISTEN ? socket_stands_unread(look, socket)
                                              : socket->peer_port == asking->local_port) {
            return i;
        }
    }
    return UINT32_MAX;
}

/* ---- putting it together ---- */

static void say_set(const struct look *look, struct finding *finding, uint32_t set)
{
    const struct seen_set *seen = &look->sets[set];

    finding_add_set(finding, set);
    if (seen->look_count > 0) {
        finding_say(finding,
                    "event set fd %d held readiness nobody had collected at %u of %u looks in %llu "
                    "ms",
                    seen->fds[0], seen->ready_count, seen->look_count,
                    (unsigned long long)window_ms(look));
    }
    finding_say(finding, "no thread waited in event set fd %d at any of %u looks at %u threads",
                seen->fds[0], look->look_count, look->thread_count);
}

static void say_sockets(struct look *look, struct finding *finding, uint32_t driver)
{
    for (uint32_t i = 0; i < look->socket_count; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        if (socket->set == LOOK_SETS_MAX || socket->family != SOCKET_TCP ||
            set_driver(look, socket->set) != driver || !socket_is_unread(socket) ||
            socket_is_idle_noise(socket)) {
            continue;
        }
        finding_add_socket(look, finding, i);
        if (socket->last.state == TCPS_LISTEN) {
            finding_say(finding, "%llu connections wait to be accepted on fd %d (%s)",
                        (unsigned long long)socket->last.unread_bytes, socket->fd, socket->local);
        } else {
            finding_say(finding, "%llu bytes from %s lie unread in fd %d, the last came %u ms ago",
                        (unsigned long long)socket->last.unread_bytes, socket->peer, socket->fd,
                        socket->last.last_received_ms);
        }
    }
}

static void say_owners(const struct look *look, struct finding *finding,
                       const struct owners *owners)
{
    static const char *const how[] = {
        [LINK_ONLY_UNCLAIMED] =
            "it is inside a callback of a loop, or never stops, and polls no set",
        [LINK_EVENTS_ON_STACK] = "events of this set lie on its stack",
        [LINK_SEEN_POLLING] = "it polled the set before",
    };
    const struct seen_thread *thread = &look->threads[owners->first];

    finding_say(finding, "thread %d \"%s\" belongs to the set: %s", thread->tid, thread->name,
                how[owners->link]);
    if (owners->count > 1) {
        finding_say(finding, "%u more threads belong to it in the same way", owners->count - 1);
    }
    if (thread->stood_still) {
        finding_say(finding, "thread %d was not given a CPU once in %llu ms", thread->tid,
                    (unsigned long long)window_ms(look));
    } else if (thread->running_count > 0) {
        finding_say(finding, "thread %d used %llu ms of CPU in %llu ms", thread->tid,
                    (unsigned long long)(thread->cpu_ns_last - thread->cpu_ns_first) / 1000000,
                    (unsigned long long)window_ms(look));
    }
}

/* Threads that wait for something while the set lies there: the reader wants to see them. */
static void add_waiting_threads(const struct look *look, struct finding *finding)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (!look->threads[i].is_gone && look->threads[i].role != ROLE_POOL_IDLE) {
            finding_add_thread(finding, i);
        }
    }
}

static struct finding *finding_of_set(struct look *look, uint32_t set)
{
    for (uint32_t i = 0; i < look->finding_count; i++) {
        if (look->findings[i].set_count > 0 && look->findings[i].sets[0] == set) {
            return &look->findings[i];
        }
    }
    return NULL;
}

/* A set that is not driven holds nothing, but has connections: perhaps a runtime at rest that is
 * driven only while it is used; perhaps the owner of a request whose wake-up left no trace. */
static void note_undriven(struct look *look, uint32_t set)
{
    struct contents contents;

    count_contents(look, set, &contents);
    if (contents.client_count > 0 && look->sets[set].ready_count == 0 &&
        set_is_unpolled(look, set) && !set_was_driven(look, set) &&
        look->sets[set].look_count > 0 && finding_of_set(look, set) == NULL) {
        look_note(look,
                  "event set fd %d watches %u connection%s and nobody drives it: a request on "
                  "%s would hang",
                  look->sets[set].fds[0], contents.client_count,
                  contents.client_count == 1 ? "" : "s",
                  contents.client_count == 1 ? "it" : "one of them");
    }
}

static void conclude_parked(struct look *look, uint32_t set, const struct contents *contents)
{
    bool is_certain =
        contents->response_count > 0 && look->stack_count > 0 && look->sets[set].look_count > 0;
    /* A set without a single connection may be anything: a selector kept for later, a timer. */
    bool is_likely = look->can_syscall && (contents->response_count > 0 || contents->tcp_count > 0);
    struct finding *finding = finding_new(look, VERDICT_PARKED_OWNER,
                                          is_certain  ? CONFIDENCE_CERTAIN
                                          : is_likely ? CONFIDENCE_LIKELY
                                                      : CONFIDENCE_POSSIBLE);

    finding->is_write_side = contents->response_count == 0;
    say_set(look, finding, set);
    say_sockets(look, finding, set);
    if (contents->response_count == 0) {
        finding_say(finding,
                    "%u connection%s in the set, none with unread bytes: what lies there is a "
                    "wake-up, that is a message or a task for this runtime",
                    contents->tcp_count, contents->tcp_count == 1 ? "" : "s");
    } else {
        finding->since_ms = il_max_u64(contents->oldest_ms, finding->since_ms);
    }
    add_waiting_threads(look, finding);
}

static void conclude_busy(struct look *look, uint32_t set, const struct contents *contents,
                          const struct owners *owners)
{
    enum confidence confidence =
        owners->link >= LINK_EVENTS_ON_STACK ? CONFIDENCE_CERTAIN : CONFIDENCE_LIKELY;
    struct finding *finding = finding_new(look, VERDICT_BUSY_OWNER, confidence);

    finding->is_write_side = contents->response_count == 0;
    say_set(look, finding, set);
    say_sockets(look, finding, set);
    say_owners(look, finding, owners);
    add_owners(look, finding, set, owners);
    finding->since_ms = il_max_u64(contents->oldest_ms, finding->since_ms);
}

static void conclude_self(struct look *look, uint32_t set, const struct owners *owners,
                          uint32_t others, uint32_t server)
{
    struct finding *finding =
        finding_new(look, VERDICT_SELF_WAIT,
                    others == 0 || server != UINT32_MAX ? CONFIDENCE_CERTAIN : CONFIDENCE_LIKELY);
    const struct seen_thread *thread = &look->threads[owners->first];

    say_set(look, finding, set);
    say_owners(look, finding, owners);
    finding_add_thread(finding, owners->first);
    if (thread->runtime != RUNTIME_UNKNOWN) {
        finding->runtime = thread->runtime;
    }
    if (server != UINT32_MAX) {
        finding_say(finding,
                    "it waits for an answer of %s, a server whose socket (fd %d) is watched "
                    "by the set that this thread does not poll meanwhile",
                    look->sockets[server].local, look->sockets[server].fd);
        finding_add_socket(look, finding, server);
    } else {
        finding_say(finding, "it waits without a time limit to be woken by another thread");
        finding_say(finding,
                    others == 0 ? "there is no other thread"
                                : "none of the %u other threads could do it: each is idle "
                                  "or waits itself",
                    others);
    }
    say_sockets(look, finding, set);
}

/* Could a message to the set's owner be what makes it ready? Eventfds, pipes and sockets carry
 * such; timers, signals and changes of files do not, and neither does an eventfd that is at 0. */
static bool may_hold_message(struct look *look, uint32_t set)
{
    const struct seen_set *seen = &look->sets[set];

    if (seen->kind != FD_EPOLL || seen->watches == NULL) {
        return true;
    }
    for (uint32_t i = 0; i < seen->watch_count; i++) {
        const struct seen_fd *fd = look_fd(look, seen->watches[i].fd);
        uint32_t socket = look_socket_of_inode(look, seen->watches[i].inode);

        if (socket != UINT32_MAX && look->sockets[socket].family == SOCKET_TCP) {
            continue; /* what lies there has been looked at */
        }
        if (fd == NULL || fd->kind == FD_SOCKET || fd->kind == FD_PIPE || fd->kind == FD_EPOLL ||
            fd->kind == FD_URING || (fd->kind == FD_EVENTFD && !fd->is_zero)) {
            return true;
        }
    }
    return false;
}

/* Does what lies in the set concern anybody? */
static bool is_worth_a_finding(struct look *look, uint32_t set, const struct contents *contents)
{
    if (contents->response_count > 0) {
        return true;
    }
    if (contents->idle_count > 0) {
        look_note(look,
                  "event set fd %d is not driven, but all that lies in it is that peers "
                  "closed or pinged %u idle connections: no request is known to hang",
                  look->sets[set].fds[0], contents->idle_count);
        return false;
    }
    if (contents->signal_count > 0 || contents->writable_count > 0) {
        look_note(look,
                  "event set fd %d is not driven, and what lies in it (a signal, or room to "
                  "write) hangs nobody",
                  look->sets[set].fds[0]);
        return false;
    }
    if (!may_hold_message(look, set)) {
        look_note(look,
                  "event set fd %d is not driven, and what lies in it (a timer, a signal, a file "
                  "that changed) is no message to it",
                  look->sets[set].fds[0]);
        return false;
    }
    return true;
}

/* A set that looks quiet although a socket in it stands unread: an edge was collected and then
 * nobody read; and without the right to copy sets, readiness is not known at all. */
static bool is_quietly_stuck(const struct look *look, uint32_t set, const struct contents *contents)
{
    if (contents->standing_count == 0 || !set_is_unpolled(look, set) || set_was_driven(look, set)) {
        return false;
    }
    return look->unknown_sleepers == 0;
}

static void judge_set(struct look *look, uint32_t set)
{
    struct contents contents;
    struct owners owners;
    uint32_t others, server = UINT32_MAX;
    bool is_stale = set_is_stale(look, set);

    count_contents(look, set, &contents);
    if (!(is_stale ? is_worth_a_finding(look, set, &contents)
                   : is_quietly_stuck(look, set, &contents))) {
        return;
    }
    find_owners(look, set, &owners);
    if (owners.count > 0) {
        server = own_server(look, &look->threads[owners.first], set);
    }
    if (owners.count == 0) {
        conclude_parked(look, set, &contents);
    } else if (server != UINT32_MAX ||
               (owners.count == 1 && waits_for_itself(look, owners.first, &others))) {
        conclude_self(look, set, &owners, server != UINT32_MAX ? 0 : others, server);
    } else {
        conclude_busy(look, set, &contents, &owners);
    }
}

/* ---- sockets in no set at all ---- */

/* libuv registers a socket when it polls next, asyncio takes one out while it pauses reading: if
 * the loop stops in between, the socket of its request is in no set. So a socket that stands unread
 * and unwatched belongs, most likely, to the loop of this process that nobody drives. */
static uint32_t find_undriven(const struct look *look, struct owners *ret_owners)
{
    uint32_t found = LOOK_SETS_MAX;

    for (uint32_t i = 0; i < look->set_count; i++) {
        const struct seen_set *set = &look->sets[i];
        struct owners owners;

        if (set->is_gone || set->outer != LOOK_SETS_MAX || set->watch_count == 0 ||
            set->look_count == 0 || !set_is_unpolled(look, i) || set_was_driven(look, i)) {
            continue;
        }
        find_owners(look, i, &owners);
        if (found == LOOK_SETS_MAX || owners.link > ret_owners->link) {
            found = i;
            *ret_owners = owners;
        }
    }
    return found;
}

static void judge_orphans(struct look *look)
{
    struct finding *finding = NULL;
    struct owners owners;
    uint32_t set = LOOK_SETS_MAX;

    for (uint32_t i = 0; i < look->socket_count; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        if (!socket_is_orphan(look, socket)) {
            continue;
        }
        if (finding == NULL) {
            struct contents contents = { .response_count = 1,
                                         .oldest_ms = socket->last.last_received_ms };

            set = find_undriven(look, &owners);
            if (set == LOOK_SETS_MAX) {
                return;
            }
            finding = finding_of_set(look, set);
            if (finding == NULL) {
                if (owners.count == 0) {
                    conclude_parked(look, set, &contents);
                } else {
                    conclude_busy(look, set, &contents, &owners);
                }
                finding = &look->findings[look->finding_count - 1];
                finding->confidence =
                    (enum confidence)il_min_u64(finding->confidence, CONFIDENCE_LIKELY);
            }
        }
        finding->is_write_side = false;
        finding_add_socket(look, finding, i);
        finding_say(finding,
                    "%llu bytes from %s lie unread in fd %d, which is in no set now: loops "
                    "register late, or take a socket out while they pause reading",
                    (unsigned long long)socket->last.unread_bytes, socket->peer, socket->fd);
    }
}

/* Does a thread of the same name poll another set? Then the stuck one may as well belong to that,
 * where the others do its work. */
static bool has_polling_sibling(const struct look *look, const struct owners *owners)
{
    const struct seen_thread *owner = &look->threads[owners->first];

    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (i != owners->first && look->threads[i].epoll_count > 0 &&
            strcmp(look->threads[i].name, owner->name) == 0) {
            return true;
        }
    }
    return false;
}

/* Never moved, or ran nearly all the time. A thread that works, sleeps and works again is neither:
 * it may well have polled between two looks. */
static bool is_stuck(const struct look *look, const struct seen_thread *thread)
{
    return thread->stood_still ||
           (thread->running_count * 10 >= look->look_count * 8 && !thread->has_slept);
}

/* Nothing lies in the set, but its loop is stuck in a callback: the kernel then holds no trace of
 * the requests that queue up behind it, and only the stack tells. */
static void judge_stuck_loop(struct look *look, uint32_t set)
{
    struct owners owners;
    struct finding *finding;
    uint32_t others;

    if (set_is_stale(look, set) || !set_is_unpolled(look, set) || look->sets[set].look_count == 0 ||
        look->sets[set].outer != LOOK_SETS_MAX || set_was_driven(look, set) ||
        look->sets[set].was_changed) {
        return;
    }
    find_owners(look, set, &owners);
    if (owners.count == 0 || !is_stuck(look, &look->threads[owners.first])) {
        return;
    }
    for (uint32_t i = 0; i < look->finding_count; i++) {
        for (uint32_t k = 0; k < look->findings[i].thread_count; k++) {
            if (look->findings[i].threads[k] == owners.first &&
                look->findings[i].verdict != VERDICT_PARKED_OWNER) {
                return; /* the same thread is the reason for a finding already */
            }
        }
    }
    if (owners.count == 1 && waits_for_itself(look, owners.first, &others)) {
        conclude_self(look, set, &owners, others, UINT32_MAX);
        return;
    }
    finding = finding_new(look, VERDICT_WORKERS_BLOCKED,
                          owners.link == LINK_ONLY_UNCLAIMED && has_polling_sibling(look, &owners)
                              ? CONFIDENCE_POSSIBLE
                              : CONFIDENCE_LIKELY);
    say_set(look, finding, set);
    say_owners(look, finding, &owners);
    add_owners(look, finding, set, &owners);
}

void judge_sets(struct look *look)
{
    for (uint32_t i = 0; i < look->set_count; i++) {
        if (!look->sets[i].is_gone && look->sets[i].outer == LOOK_SETS_MAX) {
            judge_set(look, i);
        }
    }
    judge_orphans(look);
    for (uint32_t i = 0; i < look->set_count; i++) {
        if (!look->sets[i].is_gone && look->sets[i].watch_count > 0) {
            judge_stuck_loop(look, i);
            note_undriven(look, i);
        }
    }
}
