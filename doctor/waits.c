/* waits.c: what a sleeping thread waits for.
 *
 * Owns: nothing. The arguments of a system call are the target's and so are the arrays they point
 * to: everything is read with a bound and believed only as far as it is consistent.
 * Thread: the doctor's only one. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>

#include "doctor/procfs.h"
#include "doctor/sets.h"
#include "doctor/waits.h"

/* Not in every libc's headers. */
#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#define WAITS_SYS_FUTEX_WAIT 455

#define WAITS_FUTEX_COMMAND_MASK   0x7f
#define WAITS_FUTEX_WAIT           0
#define WAITS_FUTEX_LOCK_PI        6
#define WAITS_FUTEX_WAIT_BITSET    9
#define WAITS_FUTEX_LOCK_PI2       13
#define WAITS_FUTEX_TID_MASK       0x3fffffff
#define WAITS_MUTEX_LOCKED_WAITERS 2    /* glibc: locked, and somebody waits */
#define WAITS_MUTEX_KIND_MAX       1023 /* glibc: all flags of a mutex's kind */
#define WAITS_URING_GETEVENTS      1

static bool parse_syscall(const char *text, long *ret_number, uint64_t args[6], uint64_t *ret_sp,
                          uint64_t *ret_pc)
{
    unsigned long long a[6] = { 0 }, sp, pc;

    if (sscanf(text, "%ld %llx %llx %llx %llx %llx %llx %llx %llx", ret_number, &a[0], &a[1], &a[2],
               &a[3], &a[4], &a[5], &sp, &pc) != 9) {
        if (sscanf(text, "-1 %llx %llx", &sp, &pc) != 2) {
            return false; /* "running" */
        }
        *ret_number = -1; /* blocked, but not in a system call: a page fault */
    }
    for (int i = 0; i < 6; i++) {
        args[i] = a[i];
    }
    *ret_sp = sp;
    *ret_pc = pc;
    return true;
}

uint64_t waits_stack_pointer(const char *text)
{
    uint64_t args[6], sp = 0, pc;
    long number;

    return parse_syscall(text, &number, args, &sp, &pc) ? sp : 0;
}

/* ---- families of system calls ---- */

static bool decode_sets(const uint64_t args[6], struct thread_wait *wait)
{
    switch (wait->number) {
#ifdef SYS_epoll_wait
    case SYS_epoll_wait:
#endif
    case SYS_epoll_pwait:
        wait->is_forever = (int32_t)args[3] < 0;
        break;
    case SYS_epoll_pwait2:
        wait->is_forever = args[3] == 0;
        break;
    case SYS_io_uring_enter:
        if ((args[3] & WAITS_URING_GETEVENTS) == 0) {
            return false;
        }
        wait->is_forever = true;
        break;
    default:
        return false;
    }
    wait->kind = WAIT_EPOLL;
    wait->fd = (int)args[0];
    return true;
}

static bool decode_polls(const uint64_t args[6], struct thread_wait *wait)
{
    switch (wait->number) {
#ifdef SYS_poll
    case SYS_poll:
        wait->is_forever = (int32_t)args[2] < 0;
        break;
#endif
    case SYS_ppoll:
        wait->is_forever = args[2] == 0;
        break;
#ifdef SYS_select
    case SYS_select:
#endif
    case SYS_pselect6:
        wait->is_forever = args[4] == 0;
        wait->kind = WAIT_POLL;
        wait->address = args[1]; /* the set of fds to read */
        wait->count = args[0];
        return true;
    default:
        return false;
    }
    wait->kind = WAIT_POLL;
    wait->address = args[0];
    wait->count = args[1];
    return true;
}

static bool decode_io(const uint64_t args[6], struct thread_wait *wait)
{
    switch (wait->number) {
    case SYS_read:
    case SYS_readv:
    case SYS_recvfrom:
    case SYS_recvmsg:
    case SYS_recvmmsg:
    case SYS_accept:
    case SYS_accept4:
    case SYS_connect:
    case SYS_write:
    case SYS_writev:
    case SYS_sendto:
    case SYS_sendmsg:
    case SYS_sendmmsg:
        wait->kind = WAIT_FD;
        wait->fd = (int)args[0];
        wait->is_forever = true; /* SO_RCVTIMEO cannot be seen */
        return true;
    default:
        return false;
    }
}

static bool decode_rest(const uint64_t args[6], struct thread_wait *wait)
{
    switch (wait->number) {
    case SYS_futex:
        wait->kind = WAIT_FUTEX;
        wait->address = args[0];
        wait->is_forever = args[3] == 0;
        wait->count = args[1] & WAITS_FUTEX_COMMAND_MASK;
        return true;
    case SYS_futex_waitv:
    case WAITS_SYS_FUTEX_WAIT:
        wait->kind = WAIT_FUTEX;
        wait->count = WAITS_FUTEX_WAIT_BITSET;
        wait->is_forever = args[3] == 0;
        return true;
    case SYS_nanosleep:
    case SYS_clock_nanosleep:
        wait->kind = WAIT_SLEEP;
        return true;
    case SYS_wait4:
    case SYS_waitid:
        wait->kind = WAIT_CHILD;
        wait->is_forever = true;
        return true;
    default:
        return false;
    }
}

void waits_of_syscall(const char *text, struct thread_wait *ret_wait)
{
    struct thread_wait wait = { .kind = WAIT_OTHER, .number = -1, .fd = -1 };
    uint64_t args[6];

    if (!parse_syscall(text, &wait.number, args, &wait.sp, &wait.pc)) {
        wait.kind = WAIT_RUNNING;
    } else if (wait.number >= 0 && !decode_sets(args, &wait) && !decode_polls(args, &wait) &&
               !decode_io(args, &wait)) {
        (void)decode_rest(args, &wait); /* else it stays WAIT_OTHER */
    }
    *ret_wait = wait;
}

/* ---- calls that go on after a stop ---- */

#define WAITS_CLOCKS_MAX  64 /* ids of clocks are below, addresses are above */
#define WAITS_POINTER_MIN 0x100000000u

bool waits_is_resumed(const struct thread_wait *wait)
{
    return wait->number == SYS_restart_syscall;
}

/* Sleeping is resumed by a jump, so that the kernel's function is the entry of all calls; of the
 * three families it alone is not seen in a function of its own. */
static bool is_sleep(const uint64_t args[6], const char *function)
{
    bool has_clock = args[0] < WAITS_CLOCKS_MAX && args[1] == 0 && args[2] >= WAITS_POINTER_MIN;

    return has_clock || strstr(function, "nanosleep") != NULL ||
           strstr(function, "syscall") != NULL || strstr(function, "el0_svc") != NULL;
}

/* Four calls are resumed like this, each with the arguments it was made with; -1: not known. */
static long resumed_number(const uint64_t args[6], const char *function)
{
    if (strstr(function, "futex") != NULL) {
        return SYS_futex;
    }
    if (strstr(function, "poll") != NULL) {
#ifdef SYS_poll
        return SYS_poll;
#else
        return -1;
#endif
    }
    if (!is_sleep(args, function)) {
        return -1;
    }
    return args[0] < WAITS_CLOCKS_MAX ? SYS_clock_nanosleep : SYS_nanosleep;
}

void waits_of_resumed(const char *text, const char *function, struct thread_wait *ret_wait)
{
    uint64_t args[6];
    long number;

    waits_of_syscall(text, ret_wait);
    if (!waits_is_resumed(ret_wait) ||
        !parse_syscall(text, &number, args, &ret_wait->sp, &ret_wait->pc)) {
        return;
    }
    number = resumed_number(args, function);
    if (number < 0) {
        return;
    }
    ret_wait->number = number;
    if (!decode_polls(args, ret_wait)) {
        (void)decode_rest(args, ret_wait);
    }
}

void waits_of_wchan(const char *name, struct thread_wait *ret_wait)
{
    static const struct {
        const char *part;
        enum wait_kind kind;
    } kinds[] = {
        { "ep_poll", WAIT_EPOLL },        { "do_epoll_wait", WAIT_EPOLL },
        { "io_cqring_wait", WAIT_EPOLL }, { "futex", WAIT_FUTEX },
        { "do_sys_poll", WAIT_POLL },     { "poll_schedule", WAIT_POLL },
        { "do_select", WAIT_POLL },       { "nanosleep", WAIT_SLEEP },
        { "do_wait", WAIT_CHILD },        { "sk_wait_data", WAIT_FD },
        { "wait_woken", WAIT_FD },        { "unix_stream", WAIT_FD },
        { "inet_csk_accept", WAIT_FD },   { "pipe_read", WAIT_FD },
        { "pipe_write", WAIT_FD },        { "sk_stream_wait", WAIT_FD },
    };

    ret_wait->kind = WAIT_OTHER;
    for (size_t i = 0; i < il_array_count(kinds); i++) {
        if (strstr(name, kinds[i].part) != NULL) {
            ret_wait->kind = kinds[i].kind;
            return;
        }
    }
}

bool waits_are_same(const struct thread_wait *a, const struct thread_wait *b)
{
    return a->kind == b->kind && a->number == b->number && a->fd == b->fd &&
           a->address == b->address && a->sp == b->sp && a->pc == b->pc && a->kind != WAIT_RUNNING;
}

/* ---- which sockets a thread waits on ---- */

static void note_socket(struct look *look, int fd, pid_t tid, uint32_t looks)
{
    uint32_t index = look_socket_of_fd(look, fd);

    if (index != UINT32_MAX) {
        look->sockets[index].thread_watch_count += looks;
        look->sockets[index].thread_watcher = tid;
    }
}

/* A set in the array of a poll() is polled by the thread as well: that is how one loop is put
 * into another. */
static void note_polled_fd(struct look *look, int fd, pid_t tid, uint32_t looks)
{
    struct seen_fd *seen = look_fd(look, fd);

    if (seen != NULL && seen->kind == FD_EVENTFD) {
        seen->poll_count += looks;
    }
    sets_note_poller(look, fd, tid, looks);
    note_socket(look, fd, tid, looks);
}

static void note_poll_array(struct look *look, const struct seen_thread *thread, uint32_t looks)
{
    uint64_t count = il_min_u64(thread->wait.count, LOOK_POLLED_FDS_MAX);
    struct pollfd some[64];

    for (uint64_t done = 0; done < count;) {
        uint64_t part = il_min_u64(count - done, il_array_count(some));
        size_t got = procfs_read_memory(look, thread->wait.address + done * sizeof(some[0]), some,
                                        part * sizeof(some[0]));

        for (size_t i = 0; i < got / sizeof(some[0]); i++) {
            if ((some[i].events & (POLLIN | POLLPRI | POLLRDHUP)) != 0) {
                note_polled_fd(look, some[i].fd, thread->tid, looks);
            }
        }
        if (got < part * sizeof(some[0])) {
            return;
        }
        done += part;
    }
}

static void note_select_bits(struct look *look, const struct seen_thread *thread, uint32_t looks)
{
    uint64_t count = il_min_u64(thread->wait.count, LOOK_POLLED_FDS_MAX);
    uint64_t words[LOOK_POLLED_FDS_MAX / 64];
    size_t got = procfs_read_memory(look, thread->wait.address, words,
                                    il_min_u64(sizeof(words), (count + 63) / 64 * 8));

    for (uint64_t fd = 0; fd < count && fd / 8 < got; fd++) {
        if ((words[fd / 64] >> (fd % 64) & 1) != 0) {
            note_polled_fd(look, (int)fd, thread->tid, looks);
        }
    }
}

static bool is_select(long number)
{
#ifdef SYS_select
    if (number == SYS_select) {
        return true;
    }
#endif
    return number == SYS_pselect6;
}

void waits_note_sockets(struct look *look, const struct seen_thread *thread, uint32_t looks)
{
    if (thread->wait.kind == WAIT_FD) {
        note_socket(look, thread->wait.fd, thread->tid, looks);
    } else if (thread->wait.kind == WAIT_POLL && is_select(thread->wait.number)) {
        note_select_bits(look, thread, looks);
    } else if (thread->wait.kind == WAIT_POLL && thread->wait.address != 0) {
        note_poll_array(look, thread, looks);
    }
}

/* ---- mutexes ---- */

/* The start of glibc's pthread_mutex_t on 64-bit Linux; the futex is its first word. */
struct glibc_mutex {
    int32_t lock;
    uint32_t recursion;
    int32_t owner;
    uint32_t users;
    int32_t kind;
};

static void read_mutex(struct look *look, struct thread_wait *wait)
{
    struct glibc_mutex mutex;

    if (procfs_read_memory(look, wait->address, &mutex, sizeof(mutex)) != sizeof(mutex)) {
        return;
    }
    if (wait->count == WAITS_FUTEX_LOCK_PI || wait->count == WAITS_FUTEX_LOCK_PI2) {
        wait->mutex_owner = mutex.lock & WAITS_FUTEX_TID_MASK;
        wait->is_lock = wait->mutex_owner > 0;
        return;
    }
    /* A bare word may look like a mutex by chance: lock, owner, users and kind must all fit. */
    if (wait->count != WAITS_FUTEX_WAIT || mutex.lock != WAITS_MUTEX_LOCKED_WAITERS ||
        mutex.owner <= 0 || mutex.kind < 0 || mutex.kind > WAITS_MUTEX_KIND_MAX ||
        mutex.users == 0 || mutex.users > LOOK_THREADS_MAX) {
        return;
    }
    wait->mutex_owner = mutex.owner;
    wait->is_lock = true;
}

void waits_read_mutexes(struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        struct seen_thread *thread = &look->threads[i];

        if (thread->wait.kind == WAIT_FUTEX && !thread->is_gone) {
            read_mutex(look, &thread->wait);
        }
    }
}

/* ---- words ---- */

static void describe_lock(const struct look *look, const struct thread_wait *wait, char *ret_text,
                          size_t size)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        if (look->threads[i].ns_tid == wait->mutex_owner && !look->threads[i].is_gone) {
            snprintf(ret_text, size, "waits for a mutex held by thread %d \"%s\"",
                     look->threads[i].tid, look->threads[i].name);
            return;
        }
    }
    snprintf(ret_text, size, "waits for a mutex held by thread %d, which no longer exists",
             wait->mutex_owner);
}

static bool is_write(long number)
{
    return number == SYS_write || number == SYS_writev || number == SYS_sendto ||
           number == SYS_sendmsg || number == SYS_sendmmsg;
}

bool waits_is_write(const struct thread_wait *wait)
{
    return wait->kind == WAIT_FD && is_write(wait->number);
}

static const char *io_verb(long number)
{
    switch (number) {
    case SYS_connect:
        return "connects";
    case SYS_accept:
    case SYS_accept4:
        return "accepts";
    default:
        return is_write(number) ? "writes to" : "reads from";
    }
}

void waits_describe(const struct look *look, const struct seen_thread *thread, char *ret_text,
                    size_t size)
{
    const struct thread_wait *wait = &thread->wait;
    const char *how_long = wait->is_forever ? "without a time limit" : "with a time limit";

    switch (wait->kind) {
    case WAIT_RUNNING:
        snprintf(ret_text, size, "runs");
        break;
    case WAIT_EPOLL:
        if (wait->fd >= 0) {
            snprintf(ret_text, size, "polls event set fd %d", wait->fd);
        } else {
            snprintf(ret_text, size, "polls an event set");
        }
        break;
    case WAIT_POLL:
        snprintf(ret_text, size, "polls %llu fd%s, %s", (unsigned long long)wait->count,
                 wait->count == 1 ? "" : "s", how_long);
        break;
    case WAIT_FD:
        if (wait->fd >= 0) {
            snprintf(ret_text, size, "%s fd %d", io_verb(wait->number), wait->fd);
        } else {
            snprintf(ret_text, size, "waits in a blocking read");
        }
        break;
    case WAIT_FUTEX:
        if (wait->is_lock) {
            describe_lock(look, wait, ret_text, size);
        } else {
            snprintf(ret_text, size, "waits for a lock or signal from another thread, %s",
                     how_long);
        }
        break;
    case WAIT_SLEEP:
        snprintf(ret_text, size, "sleeps");
        break;
    case WAIT_CHILD:
        snprintf(ret_text, size, "waits for a child process");
        break;
    case WAIT_OTHER:
        if (waits_is_resumed(wait)) {
            snprintf(ret_text, size, "goes on with a call that a stop interrupted");
        } else if (wait->number < 0) {
            snprintf(ret_text, size, "sleeps in the kernel");
        } else {
            snprintf(ret_text, size, "is in system call %ld", wait->number);
        }
        break;
    case WAIT_UNKNOWN:
        snprintf(ret_text, size, "is in state %c", thread->state);
        break;
    }
}
