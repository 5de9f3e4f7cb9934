/* kin.c: what the process shares with its parent and its children since a fork.
 *
 * A forked child has all open files of its parent: its event sets and listening sockets too, and if
 * the fork was made in a callback, the frames of the parent's loop are on the child's stack. None
 * of that is the child's to drive. The other way round, the parent of worker processes holds the
 * socket that they accept from. A shared file mostly has the same number on both sides, so only
 * that is asked for.
 *
 * Owns: nothing. Every walk has a maximum. Thread: the doctor's only one. */
#include <dirent.h>
#include <linux/kcmp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "doctor/kin.h"
#include "doctor/procfs.h"
#include "doctor/waits.h"

#define KIN_THREADS_MAX  256 /* of the parent, and of the process when its children are listed */
#define KIN_CHILDREN_MAX 64

/* ---- the parent ---- */

static bool thread_polls(pid_t pid, pid_t tid, const struct seen_set *set)
{
    struct thread_wait wait;
    char path[64], text[256];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", pid, tid);
    if (procfs_read_file(path, text, sizeof(text)) <= 0) {
        return false;
    }
    waits_of_syscall(text, &wait);
    for (uint32_t i = 0; i < set->fd_count; i++) {
        if (wait.kind == WAIT_EPOLL && wait.fd == set->fds[i]) {
            return true;
        }
    }
    return false;
}

static bool parent_polls(const struct look *look, pid_t parent, const struct seen_set *set)
{
    uint32_t count = 0;
    bool found = false;
    struct dirent *entry;
    char path[64];
    DIR *directory;

    if (syscall(SYS_kcmp, look->pid, parent, KCMP_FILE, (unsigned long)set->fds[0],
                (unsigned long)set->fds[0]) != 0) {
        return false; /* another file, none, or not to be known */
    }
    snprintf(path, sizeof(path), "/proc/%d/task", parent);
    directory = opendir(path);
    while (directory != NULL && !found && count++ < KIN_THREADS_MAX &&
           (entry = readdir(directory)) != NULL) {
        pid_t tid = atoi(entry->d_name);

        found = tid > 0 && thread_polls(parent, tid, set);
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return found;
}

static void look_at_sets(struct look *look)
{
    pid_t parent = procfs_parent(look->pid);

    for (uint32_t i = 0; i < look->set_count && parent > 1; i++) {
        struct seen_set *set = &look->sets[i];

        if (set->kind == FD_EPOLL && !set->is_gone && set->polled_count == 0 &&
            set->watch_count > 0) {
            set->is_polled_by_parent = parent_polls(look, parent, set);
        }
    }
}

/* ---- the children ---- */

static bool has_socket(pid_t pid, const struct seen_socket *socket)
{
    char path[64], link[64], wanted[64];
    ssize_t size;

    snprintf(path, sizeof(path), "/proc/%d/fd/%d", pid, socket->fd);
    snprintf(wanted, sizeof(wanted), "socket:[%llu]", (unsigned long long)socket->inode);
    size = readlink(path, link, sizeof(link) - 1);
    if (size < 0) {
        return false;
    }
    link[size] = '\0';
    return strcmp(link, wanted) == 0;
}

/* A child that has the socket too; 0: none. Children are listed with the thread that forked. */
static pid_t find_heir(const struct look *look, const struct seen_socket *socket)
{
    uint32_t threads = (uint32_t)il_min_u64(look->thread_count, KIN_THREADS_MAX);

    for (uint32_t i = 0; i < threads; i++) {
        char path[80], text[KIN_CHILDREN_MAX * 11 + 1], *at = text;

        snprintf(path, sizeof(path), "/proc/%d/task/%d/children", look->pid, look->threads[i].tid);
        if (procfs_read_file(path, text, sizeof(text)) <= 0) {
            continue; /* it is gone, or the kernel was built without this file */
        }
        for (int count = 0; count < KIN_CHILDREN_MAX; count++) {
            pid_t child = (pid_t)strtol(at, &at, 10);

            if (child <= 0) {
                break;
            }
            if (has_socket(child, socket)) {
                return child;
            }
        }
    }
    return 0;
}

static void look_at_sockets(struct look *look)
{
    for (uint32_t i = 0; i < look->socket_count; i++) {
        struct seen_socket *socket = &look->sockets[i];

        if (socket->family == SOCKET_TCP && socket->was_found && !socket->was_lost &&
            socket->last.state == TCPS_LISTEN && socket->last.unread_bytes > 0 &&
            socket->set == LOOK_SETS_MAX && socket->thread_watch_count == 0) {
            socket->heir = find_heir(look, socket);
        }
    }
}

void kin_look(struct look *look)
{
    if (look->can_syscall) {
        look_at_sets(look);
    }
    look_at_sockets(look);
}
