/* look.c: the life of a `struct look`, its small lookups, and the words of its enums.
 *
 * Owns: nothing beyond the look it is given. Thread: the doctor's only one.
 * Ends: look_deinit() frees all that any reader put into the look. */
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "doctor/look.h"

void look_init(struct look *look, pid_t pid, const struct look_options *options)
{
    memset(look, 0, sizeof(*look));
    look->pid = pid;
    look->pidfd = look->diag_fd = look->task_fd = -1;
    look->options = *options;
}

static void close_fd(int fd)
{
    if (fd >= 0) {
        close(fd);
    }
}

void look_deinit(struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        close_fd(look->threads[i].schedstat_fd);
        il_free(look->threads[i].frames);
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        il_free(look->sets[i].watches);
    }
    registry_deinit(look);
    il_free(look->threads);
    il_free(look->fds);
    il_free(look->sets);
    il_free(look->sockets);
    il_free(look->findings);
    close_fd(look->pidfd);
    close_fd(look->diag_fd);
    close_fd(look->task_fd);
    memset(look, 0, sizeof(*look));
    look->pidfd = look->diag_fd = look->task_fd = -1;
}

/* What cannot be said in LOOK_LIMITS_MAX sentences is no longer read by anyone; the same sentence
 * is said once. */
void look_limit(struct look *look, const char *format, ...)
{
    char text[LOOK_TEXT_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (uint32_t i = 0; i < look->limit_count; i++) {
        if (strcmp(look->limits[i], text) == 0) {
            return;
        }
    }
    if (look->limit_count < LOOK_LIMITS_MAX) {
        memcpy(look->limits[look->limit_count++], text, sizeof(text));
    }
}

void look_note(struct look *look, const char *format, ...)
{
    va_list args;

    if (look->note_count == il_array_count(look->notes)) {
        return; /* harmless things beyond the eighth are of no use to a reader */
    }
    va_start(args, format);
    vsnprintf(look->notes[look->note_count++], sizeof(look->notes[0]), format, args);
    va_end(args);
}

uint64_t look_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct seen_thread *look_thread(struct look *look, pid_t tid)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (look->threads[i].tid == tid) {
            return &look->threads[i];
        }
    }
    return NULL;
}

struct seen_thread *look_thread_add(struct look *look, pid_t tid)
{
    struct seen_thread *thread;

    if (look->thread_count == LOOK_THREADS_MAX) {
        look_limit(look, "more than %u threads: the rest was not looked at", LOOK_THREADS_MAX);
        return NULL;
    }
    if (look->thread_count == look->thread_capacity) {
        uint32_t capacity = look->thread_capacity == 0 ? 64 : look->thread_capacity * 2;
        struct seen_thread *threads =
            il_realloc(look->threads, capacity * sizeof(look->threads[0]));

        if (threads == NULL) {
            look_limit(look, "out of memory: some threads were not looked at");
            return NULL;
        }
        look->threads = threads;
        look->thread_capacity = capacity;
    }
    thread = &look->threads[look->thread_count++];
    memset(thread, 0, sizeof(*thread));
    thread->tid = tid;
    thread->ns_tid = tid;
    thread->state = '?';
    thread->set_hint = LOOK_SETS_MAX;
    thread->wait.fd = -1;
    thread->wait.number = -1;
    thread->schedstat_fd = -1;
    return thread;
}

uint32_t look_set_of_fd(const struct look *look, int fd)
{
    if (fd < 0) {
        return LOOK_SETS_MAX;
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        for (uint32_t k = 0; k < look->sets[i].fd_count; k++) {
            if (look->sets[i].fds[k] == fd) {
                return i;
            }
        }
    }
    return LOOK_SETS_MAX;
}

uint32_t look_socket_of_inode(const struct look *look, uint64_t inode)
{
    uint32_t low = 0, high = look->socket_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (look->sockets[middle].inode < inode) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < look->socket_count && look->sockets[low].inode == inode ? low : UINT32_MAX;
}

/* The fds are kept sorted by number (procfs_read_fds). */
static uint32_t find_fd(const struct look *look, int fd)
{
    uint32_t low = 0, high = look->fd_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (look->fds[middle].fd < fd) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < look->fd_count && look->fds[low].fd == fd ? low : UINT32_MAX;
}

struct seen_fd *look_fd(struct look *look, int fd)
{
    uint32_t index = find_fd(look, fd);

    return index == UINT32_MAX ? NULL : &look->fds[index];
}

uint32_t look_socket_of_fd(const struct look *look, int fd)
{
    uint32_t index = find_fd(look, fd);

    if (index == UINT32_MAX || look->fds[index].kind != FD_SOCKET) {
        return UINT32_MAX;
    }
    return look_socket_of_inode(look, look->fds[index].inode);
}

void look_clean(char *ret_text, size_t size, const char *text)
{
    size_t i = 0;

    il_assert(size > 0);
    for (; text[i] != '\0' && i + 1 < size; i++) {
        unsigned char c = (unsigned char)text[i];

        ret_text[i] = c >= 0x20 && c < 0x7f ? (char)c : '?';
    }
    ret_text[i] = '\0';
}

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[VERDICT_COUNT] = {
        [VERDICT_HEALTHY] = "healthy",
        [VERDICT_PARKED_OWNER] = "parked-owner",
        [VERDICT_BUSY_OWNER] = "busy-owner",
        [VERDICT_NOBODY_WATCHES] = "nobody-watches",
        [VERDICT_MISSED_WAKEUP] = "missed-wakeup",
        [VERDICT_SELF_WAIT] = "self-wait",
        [VERDICT_CLOSED_UNNOTICED] = "closed-unnoticed",
        [VERDICT_PEER] = "peer",
        [VERDICT_NETWORK] = "network",
        [VERDICT_BACK_PRESSURE] = "back-pressure",
        [VERDICT_LOCK_CYCLE] = "lock-cycle",
        [VERDICT_WORKERS_BLOCKED] = "workers-blocked",
        [VERDICT_RESOLVER] = "resolver",
    };

    il_assert(verdict < VERDICT_COUNT);
    return names[verdict];
}

const char *confidence_name(enum confidence confidence)
{
    return confidence == CONFIDENCE_CERTAIN  ? "certain"
           : confidence == CONFIDENCE_LIKELY ? "likely"
                                             : "possible";
}

const char *runtime_name(enum runtime_kind runtime)
{
    static const char *const names[RUNTIME_COUNT] = {
        [RUNTIME_UNKNOWN] = "unknown",   [RUNTIME_TOKIO] = "Tokio",
        [RUNTIME_LIBUV] = "libuv",       [RUNTIME_NODE] = "Node.js",
        [RUNTIME_ASYNCIO] = "asyncio",   [RUNTIME_UVLOOP] = "uvloop",
        [RUNTIME_GLIB] = "GLib",         [RUNTIME_GO] = "Go",
        [RUNTIME_NETTY] = "Netty",       [RUNTIME_JAVA] = "Java",
        [RUNTIME_LIBEVENT] = "libevent", [RUNTIME_INTERLOOP] = "interloop",
    };

    il_assert(runtime < RUNTIME_COUNT);
    return names[runtime];
}

const char *tcp_state_name(uint8_t state)
{
    static const char *const names[] = {
        "?",         "ESTABLISHED", "SYN_SENT",   "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2",
        "TIME_WAIT", "CLOSE",       "CLOSE_WAIT", "LAST_ACK", "LISTEN",    "CLOSING",
    };

    return state < il_array_count(names) ? names[state] : "?";
}
