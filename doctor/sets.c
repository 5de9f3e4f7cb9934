/* sets.c: event sets.
 *
 * The exact sign of a runtime that is not driven is readiness that nobody collects. It is seen
 * without touching the target: copy the set's fd (pidfd_getfd), poll() the copy, close it. poll()
 * on an epoll set looks at the ready list and takes nothing from it; for io_uring it tells whether
 * completions lie in the ring.
 *
 * Owns: a copy of a set for the few microseconds between pidfd_getfd and close. It is never held
 *   longer: were the target to close its set meanwhile, the copy would keep the set alive, and
 *   with it registrations whose memory the target may free. Sockets are not copied for this.
 * Thread: the doctor's only one. */
#include <linux/kcmp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor/procfs.h"
#include "doctor/sets.h"

#define SETS_WAKEUPS_MAX 64 /* eventfds asked for in one set; a runtime has one or two */

/* ---- one set, several fds ---- */

static bool have_same_watches(const struct seen_set *a, const struct seen_set *b)
{
    if (a->watch_count != b->watch_count || a->watch_count == 0) {
        return false;
    }
    return memcmp(a->watches, b->watches, a->watch_count * sizeof(a->watches[0])) == 0;
}

/* kcmp() says it for certain. Where the kernel has none or refuses, two sets with the same watches
 * (same fds, same user data) are taken for one: mio and others dup() the epoll fd, and a set
 * that is polled through its other fd must not look abandoned. */
static bool is_same_set(struct look *look, const struct seen_set *a, const struct seen_set *b)
{
    long order;

    if (a->kind != b->kind) {
        return false;
    }
    order = syscall(SYS_kcmp, look->pid, look->pid, KCMP_FILE, (unsigned long)a->fds[0],
                    (unsigned long)b->fds[0]);
    if (order >= 0) {
        return order == 0;
    }
    look_limit(look, "kcmp was refused: event sets with equal contents are taken for one");
    return have_same_watches(a, b);
}

/* True when `candidate` is a set known already; its fd is then one more name of it. */
static bool merge_set(struct look *look, const struct seen_set *candidate)
{
    for (uint32_t i = 0; i < look->set_count; i++) {
        struct seen_set *set = &look->sets[i];

        if (is_same_set(look, set, candidate)) {
            if (set->fd_count < LOOK_FD_ALIASES_MAX) {
                set->fds[set->fd_count++] = candidate->fds[0];
            } else {
                look_limit(look,
                           "event set fd %d has more than %u fds: if it is polled through "
                           "another, that was not seen",
                           set->fds[0], LOOK_FD_ALIASES_MAX);
            }
            return true;
        }
    }
    return false;
}

void sets_find(struct look *look)
{
    look->sets = il_calloc(LOOK_SETS_MAX, sizeof(look->sets[0]));
    if (look->sets == NULL) {
        look_limit(look, "out of memory: no event sets were looked at");
        return;
    }
    for (uint32_t i = 0; i < look->fd_count; i++) {
        const struct seen_fd *fd = &look->fds[i];
        struct seen_set candidate = { .kind = fd->kind, .fd_count = 1, .fds = { fd->fd } };

        if (fd->kind != FD_EPOLL && fd->kind != FD_URING) {
            continue;
        }
        if (fd->kind == FD_EPOLL && !procfs_read_watches(look, &candidate)) {
            continue; /* closed since it was listed */
        }
        if (merge_set(look, &candidate)) {
            il_free(candidate.watches);
            continue;
        }
        if (look->set_count == LOOK_SETS_MAX) {
            look_limit(look, "more than %u event sets: the rest was not looked at", LOOK_SETS_MAX);
            il_free(candidate.watches);
            break;
        }
        look->sets[look->set_count++] = candidate;
    }
}

/* ---- who polls ---- */

void sets_note_poller(struct look *look, int fd, pid_t tid, uint32_t looks)
{
    uint32_t index = look_set_of_fd(look, fd);
    struct seen_set *set;

    if (index == LOOK_SETS_MAX) {
        return;
    }
    set = &look->sets[index];
    set->polled_count += looks;
    for (uint32_t i = 0; i < set->poller_count; i++) {
        if (set->pollers[i] == tid) {
            return;
        }
    }
    if (set->poller_count < LOOK_SET_POLLERS_MAX) {
        set->pollers[set->poller_count++] = tid;
    }
}

/* ---- readiness ---- */

static bool is_event_set(int fd, enum fd_kind kind)
{
    char path[32], link[64];
    ssize_t size;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    size = readlink(path, link, sizeof(link) - 1);
    if (size < 0) {
        return false;
    }
    link[size] = '\0';
    return strcmp(link, kind == FD_EPOLL ? "anon_inode:[eventpoll]" : "anon_inode:[io_uring]") == 0;
}

static void look_at_set(struct look *look, struct seen_set *set)
{
    struct pollfd poll_fd = { .events = POLLIN };
    int copy = (int)syscall(SYS_pidfd_getfd, look->pidfd, set->fds[0], 0);
    uint64_t now_ns;

    if (copy < 0) {
        set->is_gone = true;
        return;
    }
    if (!is_event_set(copy, set->kind)) {
        close(copy); /* the fd was closed and its number given to something else */
        set->is_gone = true;
        return;
    }
    poll_fd.fd = copy;
    (void)poll(&poll_fd, 1, 0); /* a failure leaves revents 0: not ready, nothing is concluded */
    close(copy);
    now_ns = look_now_ns();
    if (set->look_count++ == 0) {
        set->first_look_ns = now_ns;
    }
    if ((poll_fd.revents & POLLIN) != 0) {
        set->ready_count++;
        set->was_ready = true;
    } else {
        set->collected_count += set->was_ready;
        set->was_ready = false;
        set->last_quiet_ns = now_ns;
    }
}

void sets_look(struct look *look)
{
    if (!look->can_copy_fd) {
        return;
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        if (!look->sets[i].is_gone) {
            look_at_set(look, &look->sets[i]);
        }
    }
    if (look->set_count > 0 && look->sets[0].look_count == 0 && look->look_count == 0 &&
        look->sets[0].is_gone) {
        look_limit(look,
                   "event set fd %d could not be copied (pidfd_getfd): closed, or refused by "
                   "a security module",
                   look->sets[0].fds[0]);
    }
}

/* ---- wake-ups ---- */

/* "eventfd-count:                0" */
static bool is_zero_eventfd(const struct look *look, int fd)
{
    static const char name[] = "eventfd-count:";
    char path[64], text[512], *at;

    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", look->pid, fd);
    if (procfs_read_file(path, text, sizeof(text)) <= 0 || (at = strstr(text, name)) == NULL) {
        return false;
    }
    return strtoull(at + sizeof(name) - 1, NULL, 16) == 0;
}

void sets_read_wakeups(struct look *look)
{
    for (uint32_t i = 0; i < look->set_count; i++) {
        const struct seen_set *set = &look->sets[i];
        uint32_t asked = 0;

        if (!set->was_ready || set->is_gone || set->polled_count > 0) {
            continue;
        }
        for (uint32_t k = 0; k < set->watch_count && asked < SETS_WAKEUPS_MAX; k++) {
            struct seen_fd *fd = look_fd(look, set->watches[k].fd);

            if (fd != NULL && fd->kind == FD_EVENTFD) {
                fd->is_zero = is_zero_eventfd(look, fd->fd);
                asked++;
            }
        }
    }
}

/* ---- links ---- */

static void link_watch(struct look *look, uint32_t set_index, const struct set_watch *watch)
{
    uint32_t inner = look_set_of_fd(look, watch->fd);
    uint32_t index;

    if (inner != LOOK_SETS_MAX && inner != set_index) {
        look->sets[inner].outer = set_index;
        return;
    }
    index = look_socket_of_inode(look, watch->inode);
    if (index == UINT32_MAX) {
        return;
    }
    if (look->sockets[index].set_count++ == 0) {
        look->sockets[index].set = set_index;
        look->sockets[index].watch_events = watch->events;
    }
}

void sets_link(struct look *look)
{
    for (uint32_t i = 0; i < look->socket_count; i++) {
        look->sockets[i].set_count = 0;
        look->sockets[i].set = LOOK_SETS_MAX;
        look->sockets[i].watch_events = 0;
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        look->sets[i].outer = LOOK_SETS_MAX;
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        for (uint32_t k = 0; k < look->sets[i].watch_count; k++) {
            link_watch(look, i, &look->sets[i].watches[k]);
        }
    }
}
