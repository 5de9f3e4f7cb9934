/* file.c: descriptors, wake-ups and pollers. A poller is what epoll(7) is: an edge is reported once
 * for each thing that comes, a level as long as it lasts; who is added learns what is already
 * there.
 *
 * Owns: the table of descriptors; the lowest free number is the next, as in a kernel, so that
 *   whoever uses one too late meets its new owner. Threads: simulated ones; file_notify also the
 *   world. */
#include <errno.h>
#include <stdlib.h>

#include "sim/inside.h"

#define ALWAYS (EPOLLERR | EPOLLHUP)

int file_open(struct sim_file *file, enum sim_file_kind kind)
{
    unsigned index = 0;

    while (index < SIM_FDS_MAX && sim.files[index] != NULL) {
        index++;
    }
    if (index == SIM_FDS_MAX || sim_fault(SIM_FAULT_FDS)) {
        free(file);
        return -EMFILE;
    }
    file->kind = kind;
    file->fd = SIM_FD_FIRST + (int)index;
    il_list_init(&file->watches);
    sim.files[index] = file;
    sim.file_count++;
    return file->fd;
}

struct sim_file *file_of(int fd)
{
    unsigned index = (unsigned)(fd - SIM_FD_FIRST);

    return index < SIM_FDS_MAX ? sim.files[index] : NULL;
}

static struct sim_poller *poller_of(int fd)
{
    struct sim_file *file = file_of(fd);

    return file != NULL && file->kind == SIM_FILE_POLLER
               ? il_container_of(file, struct sim_poller, file)
               : NULL;
}

/* ---- what is there, and what is new ---- */

static uint32_t file_events(struct sim_file *file);

/* Drops what is no longer there. */
static bool poller_has_events(struct sim_poller *poller)
{
    il_list_for_each_safe(&poller->ready, node)
    {
        struct sim_watch *watch = il_container_of(node, struct sim_watch, ready_link);

        if ((file_events(watch->file) & (watch->events | ALWAYS)) != 0) {
            return true;
        }
        il_list_unlink(&watch->ready_link);
        watch->is_listed = false;
    }
    return false;
}

static uint32_t file_events(struct sim_file *file)
{
    switch (file->kind) {
    case SIM_FILE_SOCKET:
        return socket_events(il_container_of(file, struct sim_socket, file));
    case SIM_FILE_WAKE:
        return EPOLLOUT |
               (il_container_of(file, struct sim_wake, file)->count > 0 ? (uint32_t)EPOLLIN : 0);
    case SIM_FILE_POLLER:
        return poller_has_events(il_container_of(file, struct sim_poller, file)) ? (uint32_t)EPOLLIN
                                                                                 : 0;
    }
    return 0;
}

static void watch_list(struct sim_watch *watch)
{
    struct sim_poller *poller = watch->poller;

    if (!watch->is_listed) {
        watch->is_listed = true;
        il_list_push_back(&poller->ready, &watch->ready_link);
    }
    thread_wake(poller);
    file_notify(&poller->file, EPOLLIN);
}

void file_notify(struct sim_file *file, uint32_t events)
{
    il_list_for_each(&file->watches, node)
    {
        struct sim_watch *watch = il_container_of(node, struct sim_watch, file_link);

        if ((events & (watch->events | ALWAYS)) != 0) {
            watch_list(watch);
        }
    }
}

/* ---- pollers ---- */

int poller_open(void)
{
    struct sim_poller *poller = calloc(1, sizeof(*poller));

    sim_door();
    il_assert(poller != NULL);
    il_list_init(&poller->watches);
    il_list_init(&poller->ready);
    return file_open(&poller->file, SIM_FILE_POLLER);
}

static struct sim_watch *watch_find(struct sim_poller *poller, struct sim_file *file)
{
    il_list_for_each(&file->watches, node)
    {
        struct sim_watch *watch = il_container_of(node, struct sim_watch, file_link);

        if (watch->poller == poller) {
            return watch;
        }
    }
    return NULL;
}

int poller_add(int poller_fd, int fd, uint32_t events, void *data)
{
    struct sim_poller *poller;
    struct sim_watch *watch;
    struct sim_file *file;

    sim_door();
    poller = poller_of(poller_fd);
    file = file_of(fd);
    if (poller == NULL || file == NULL) {
        return file_of(poller_fd) != NULL && file != NULL ? -EINVAL : -EBADF;
    }
    if (watch_find(poller, file) != NULL) {
        return -EEXIST;
    }
    watch = calloc(1, sizeof(*watch));
    il_assert(watch != NULL);
    *watch = (struct sim_watch){ .poller = poller, .file = file, .events = events, .data = data };
    il_list_init(&watch->file_link);
    il_list_init(&watch->poller_link);
    il_list_init(&watch->ready_link);
    il_list_push_back(&file->watches, &watch->file_link);
    il_list_push_back(&poller->watches, &watch->poller_link);
    trace(SIM_EVENT_POLL_ADD, (uint64_t)poller_fd, (uint64_t)fd, NULL);
    if ((file_events(file) & (events | ALWAYS)) != 0) {
        watch_list(watch);
    }
    return 0;
}

static void watch_free(struct sim_watch *watch)
{
    il_list_unlink(&watch->file_link);
    il_list_unlink(&watch->poller_link);
    il_list_unlink(&watch->ready_link);
    free(watch);
}

int poller_remove(int poller_fd, int fd)
{
    struct sim_poller *poller;
    struct sim_watch *watch;
    struct sim_file *file;

    sim_door();
    poller = poller_of(poller_fd);
    file = file_of(fd);
    if (poller == NULL || file == NULL) {
        return -EBADF;
    }
    watch = watch_find(poller, file);
    if (watch == NULL) {
        return -ENOENT;
    }
    trace(SIM_EVENT_POLL_REMOVE, (uint64_t)poller_fd, (uint64_t)fd, NULL);
    watch_free(watch);
    return 0;
}

static int poller_collect(struct sim_poller *poller, struct epoll_event *events, int count_max)
{
    struct il_list listed = IL_LIST_INIT(listed), *node;
    int count = 0;

    il_list_splice(&listed, &poller->ready);
    while (count < count_max && (node = il_list_pop_front(&listed)) != NULL) {
        struct sim_watch *watch = il_container_of(node, struct sim_watch, ready_link);
        uint32_t now = file_events(watch->file) & (watch->events | ALWAYS);

        watch->is_listed = false;
        if (now != 0) {
            events[count].events = now;
            events[count++].data.ptr = watch->data;
            if ((watch->events & EPOLLET) == 0) {
                watch->is_listed = true;
                il_list_push_back(&poller->ready, node);
            }
        }
    }
    il_list_splice(&listed, &poller->ready); /* what there was no room for comes first next time */
    il_list_splice(&poller->ready, &listed);
    return count;
}

/* Whole milliseconds, never early, as epoll_wait has it. */
static uint64_t poller_deadline(uint64_t timeout_ns)
{
    uint64_t ms = timeout_ns / SIM_NS_PER_MS + (timeout_ns % SIM_NS_PER_MS != 0);

    return timeout_ns == SYS_FOREVER ? SYS_FOREVER
                                     : sim.now_ns + il_min_u64(ms, 3600000) * SIM_NS_PER_MS;
}

int poller_wait(int poller_fd, struct epoll_event *events, int event_count_max, uint64_t timeout_ns)
{
    struct sim_poller *poller;
    uint64_t deadline_ns;
    bool is_over = timeout_ns == 0;

    sim_door();
    deadline_ns = poller_deadline(timeout_ns);
    for (;;) {
        int count;

        poller = poller_of(poller_fd);
        if (poller == NULL) {
            return -EBADF;
        }
        count = poller_collect(poller, events, event_count_max);
        for (int i = 0; i < count; i++) {
            trace(SIM_EVENT_POLL_GOT, (uint64_t)poller_fd, events[i].events, NULL);
        }
        if (count > 0 || is_over) {
            return count;
        }
        is_over = !thread_wait(poller, "events of poller", (uint64_t)poller_fd, deadline_ns);
    }
}

/* ---- wake-ups ---- */

int wake_open(void)
{
    struct sim_wake *wake = calloc(1, sizeof(*wake));

    sim_door();
    il_assert(wake != NULL);
    return file_open(&wake->file, SIM_FILE_WAKE);
}

void wake_post(int fd)
{
    struct sim_file *file;

    sim_door();
    file = file_of(fd);
    il_assert(file != NULL);
    il_assert(file->kind == SIM_FILE_WAKE);
    il_container_of(file, struct sim_wake, file)->count++;
    file_notify(file, EPOLLIN);
}

/* ---- the end ---- */

static void file_free(struct sim_file *file)
{
    struct il_list *node;

    while ((node = file->watches.next) != &file->watches) {
        watch_free(il_container_of(node, struct sim_watch, file_link));
    }
    sim.files[file->fd - SIM_FD_FIRST] = NULL;
    sim.file_count--;
    if (file->kind == SIM_FILE_SOCKET) {
        socket_free(il_container_of(file, struct sim_socket, file));
    } else if (file->kind == SIM_FILE_WAKE) {
        free(il_container_of(file, struct sim_wake, file));
    } else {
        struct sim_poller *poller = il_container_of(file, struct sim_poller, file);

        while ((node = poller->watches.next) != &poller->watches) {
            watch_free(il_container_of(node, struct sim_watch, poller_link));
        }
        free(poller);
    }
}

void file_close(int fd)
{
    struct sim_file *file;

    sim_door();
    file = file_of(fd);
    il_assert(file != NULL); /* closed twice, or never opened: somebody else's may be next */
    trace(SIM_EVENT_CLOSE, (uint64_t)fd, 0, NULL);
    file_free(file);
}

void files_end(void)
{
    for (unsigned i = 0; i < SIM_FDS_MAX && sim.file_count > 0; i++) {
        if (sim.files[i] != NULL) {
            file_free(sim.files[i]);
        }
    }
}
