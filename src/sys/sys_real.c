/* sys_real.c: the real world: Linux.
 *
 * Owns: the thread-local record of each thread, and the count of forks. Threads: any.
 * Rests on: epoll(7), eventfd(2), tcp(7), SIOCINQ/SIOCOUTQ, getrandom(2), pthreads. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "sys/sys.h"

const struct sys_world *sys_world = &sys_world_real;

/* ---- time and chance ---- */

static uint64_t real_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void real_random(void *bytes, size_t size)
{
    char *at = bytes;

    while (size > 0) {
        ssize_t got = getrandom(at, size, 0);

        il_assert(got > 0 || errno == EINTR); /* the pool is ready long before we are */
        if (got > 0) {
            at += got;
            size -= (size_t)got;
        }
    }
}

/* ---- sockets ---- */

static int real_socket_open(int family)
{
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0) {
        return -errno;
    }
    /* A request is written in one piece; waiting for more to send with it would only cost time. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

static int real_socket_open_datagram(int family)
{
    int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    return fd < 0 ? -errno : fd;
}

static int real_socket_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    int result;

    do {
        result = connect(fd, address, size);
    } while (result < 0 && errno == EINTR);
    return result < 0 ? -errno : 0;
}

static int real_socket_error(int fd)
{
    int error = 0;
    socklen_t size = sizeof(error);

    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0) {
        return -errno;
    }
    return -error;
}

static int real_socket_queue(int fd, unsigned long request)
{
    int bytes = 0;

    return ioctl(fd, request, &bytes) < 0 ? -errno : bytes;
}

static int real_socket_bytes_unread(int fd)
{
    return real_socket_queue(fd, SIOCINQ);
}

static int real_socket_bytes_unsent(int fd)
{
    return real_socket_queue(fd, SIOCOUTQ);
}

static int real_socket_names(int fd, struct sockaddr_storage *ret_local,
                             struct sockaddr_storage *ret_peer)
{
    socklen_t size = sizeof(*ret_local);

    if (getsockname(fd, (struct sockaddr *)ret_local, &size) < 0) {
        return -errno;
    }
    size = sizeof(*ret_peer);
    return getpeername(fd, (struct sockaddr *)ret_peer, &size) < 0 ? -errno : 0;
}

static ssize_t real_socket_receive(int fd, void *bytes, size_t size)
{
    ssize_t got;

    do {
        got = recv(fd, bytes, size, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t real_socket_peek(int fd, void *bytes, size_t size)
{
    ssize_t got;

    do {
        got = recv(fd, bytes, size, MSG_DONTWAIT | MSG_PEEK);
    } while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static ssize_t real_socket_send(int fd, const struct iovec *parts, int part_count)
{
    struct msghdr message = { .msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)part_count };
    ssize_t sent;

    do {
        sent = part_count == 1
                   ? send(fd, parts->iov_base, parts->iov_len, MSG_DONTWAIT | MSG_NOSIGNAL)
                   : sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

static void real_close(int fd)
{
    (void)close(fd); /* Linux frees the number even when it reports an error */
}

/* ---- poller ---- */

static int real_poller_open(void)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static int real_poller_add(int poller, int fd, uint32_t events, void *data)
{
    struct epoll_event event = { .events = events, .data.ptr = data };

    return epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int real_poller_remove(int poller, int fd)
{
    return epoll_ctl(poller, EPOLL_CTL_DEL, fd, NULL) < 0 ? -errno : 0;
}

static int real_poller_wait(int poller, struct epoll_event *events, int event_count_max,
                            uint64_t timeout_ns)
{
    int timeout_ms = -1;
    int count;

    if (timeout_ns != SYS_FOREVER) {
        uint64_t ms = timeout_ns / 1000000u + (timeout_ns % 1000000u != 0); /* never early */

        timeout_ms = ms > 3600000u ? 3600000 : (int)ms;
    }
    count = epoll_wait(poller, events, event_count_max, timeout_ms);
    if (count < 0) {
        return errno == EINTR ? 0 : -errno;
    }
    return count;
}

static int real_wake_open(void)
{
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    return fd < 0 ? -errno : fd;
}

static void real_wake_post(int fd)
{
    uint64_t one = 1;
    ssize_t written;

    do {
        written = write(fd, &one, sizeof(one));
    } while (written < 0 && errno == EINTR);
    /* EAGAIN would take 2^64 - 1 posts, and then the descriptor is readable anyway */
    il_assert(written == (ssize_t)sizeof(one) || errno == EAGAIN);
}

/* ---- threads ---- */

struct sys_thread {
    pthread_t handle;
    void (*run)(void *arg);
    void *arg;
    char name[16];
    _Atomic int ref_count; /* the thread itself, and whoever joins or detaches it */
};

static void real_thread_unref(struct sys_thread *thread)
{
    if (atomic_fetch_sub(&thread->ref_count, 1) == 1) {
        il_free(thread);
    }
}

static _Thread_local struct sys_thread_self real_self;
static _Atomic uint32_t real_thread_count;
static pthread_key_t real_exit_key;
static pthread_once_t real_exit_once = PTHREAD_ONCE_INIT;
static _Atomic uint32_t real_fork_generation = 1;

static void real_on_thread_exit(void *arg)
{
    struct sys_thread_self *self = arg;

    if (self->on_exit != NULL) {
        self->on_exit(self->context);
    }
}

static void real_on_fork_child(void)
{
    atomic_fetch_add(&real_fork_generation, 1);
    real_self.kernel_id = (int)gettid();
}

static void real_init_once(void)
{
    il_assert(pthread_key_create(&real_exit_key, real_on_thread_exit) == 0);
    il_assert(pthread_atfork(NULL, NULL, real_on_fork_child) == 0);
}

/* Never inlined: a fiber that moved to another thread must not use the address found before. */
static IL_NOINLINE struct sys_thread_self *real_thread_self(void)
{
    struct sys_thread_self *self = &real_self;

    __asm__ volatile("" : "+r"(self)); /* keeps the compiler from treating the call as pure */
    if (IL_UNLIKELY(self->number == 0)) {
        pthread_once(&real_exit_once, real_init_once);
        self->number = atomic_fetch_add(&real_thread_count, 1) + 1;
        self->kernel_id = (int)gettid();
        il_assert(pthread_setspecific(real_exit_key, self) == 0);
    }
    return self;
}

uint32_t sys_fork_generation(void)
{
    (void)real_thread_self(); /* makes sure that the fork handler is in place */
    return atomic_load_explicit(&real_fork_generation, memory_order_relaxed);
}

uint32_t sys_fork_generation_set(uint32_t generation)
{
    return atomic_exchange(&real_fork_generation, generation);
}

static void *real_thread_main(void *arg)
{
    struct sys_thread *thread = arg;
    void (*run)(void *) = thread->run;
    void *run_arg = thread->arg;

    pthread_setname_np(pthread_self(), thread->name);
    real_thread_unref(thread);
    run(run_arg);
    return NULL;
}

static int real_thread_start(struct sys_thread **ret_thread, const char *name,
                             void (*run)(void *arg), void *arg)
{
    struct sys_thread *thread = il_calloc(1, sizeof(*thread));
    sigset_t all, old;
    int error;

    if (thread == NULL) {
        return -ENOMEM;
    }
    thread->run = run;
    thread->arg = arg;
    atomic_init(&thread->ref_count, 2);
    strncpy(thread->name, name, sizeof(thread->name) - 1);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&thread->handle, NULL, real_thread_main, thread);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error != 0) {
        il_free(thread);
        return -error;
    }
    *ret_thread = thread;
    return 0;
}

static void real_thread_join(struct sys_thread *thread)
{
    il_assert(pthread_join(thread->handle, NULL) == 0);
    real_thread_unref(thread);
}

static void real_thread_detach(struct sys_thread *thread)
{
    il_assert(pthread_detach(thread->handle) == 0);
    real_thread_unref(thread);
}

/* Read a short file of a thread of ours; "" if that thread is gone. */
static void real_read_thread_file(int kernel_id, const char *name, char *text, size_t size)
{
    char path[64];
    ssize_t got = 0;
    int fd;

    (void)snprintf(path, sizeof(path), "/proc/self/task/%d/%s", kernel_id, name);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        got = read(fd, text, size - 1);
        (void)close(fd);
    }
    text[got > 0 ? got : 0] = '\0';
}

static void real_thread_describe(int kernel_id, char *text, size_t size)
{
    char stat[256], place[64];
    char *name, *name_end;

    real_read_thread_file(kernel_id, "stat", stat, sizeof(stat));
    name = strchr(stat, '(');
    name_end = strrchr(stat, ')'); /* the name itself may hold brackets: proc(5) */
    if (name == NULL || name_end == NULL || name_end[1] == '\0') {
        (void)snprintf(text, size, "is gone");
        return;
    }
    *name_end = '\0';
    real_read_thread_file(kernel_id, "wchan", place, sizeof(place));
    if (name_end[2] == 'R') {
        (void)snprintf(text, size, "is '%s' and runs", name + 1);
    } else if (place[0] == '\0' || strcmp(place, "0") == 0) {
        (void)snprintf(text, size, "is '%s' and sleeps", name + 1);
    } else {
        (void)snprintf(text, size, "is '%s' and sleeps in %s", name + 1, place);
    }
}

static unsigned real_processor_count(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return 1;
    }
    return (unsigned)CPU_COUNT(&set);
}

/* ---- locks ---- */

static void real_mutex_init(struct sys_mutex *mutex)
{
    il_assert(pthread_mutex_init(&mutex->real, NULL) == 0);
}

static void real_mutex_deinit(struct sys_mutex *mutex)
{
    il_assert(pthread_mutex_destroy(&mutex->real) == 0); /* EBUSY: somebody still holds it */
}

static void real_mutex_lock(struct sys_mutex *mutex)
{
    il_assert(pthread_mutex_lock(&mutex->real) == 0);
}

static void real_mutex_unlock(struct sys_mutex *mutex)
{
    il_assert(pthread_mutex_unlock(&mutex->real) == 0);
}

static void real_cond_init(struct sys_cond *cond)
{
    pthread_condattr_t attributes;

    il_assert(pthread_condattr_init(&attributes) == 0);
    il_assert(pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC) == 0);
    il_assert(pthread_cond_init(&cond->real, &attributes) == 0);
    (void)pthread_condattr_destroy(&attributes); /* cannot fail for an attribute object we made */
}

static void real_cond_deinit(struct sys_cond *cond)
{
    il_assert(pthread_cond_destroy(&cond->real) == 0);
}

static bool real_cond_wait_until(struct sys_cond *cond, struct sys_mutex *mutex,
                                 uint64_t deadline_ns)
{
    struct timespec until;
    int error;

    if (deadline_ns == SYS_FOREVER) {
        il_assert(pthread_cond_wait(&cond->real, &mutex->real) == 0);
        return true;
    }
    until.tv_sec = (time_t)(deadline_ns / 1000000000u);
    until.tv_nsec = (long)(deadline_ns % 1000000000u);
    error = pthread_cond_timedwait(&cond->real, &mutex->real, &until);
    il_assert(error == 0 || error == ETIMEDOUT);
    return error == 0;
}

static void real_cond_broadcast(struct sys_cond *cond)
{
    il_assert(pthread_cond_broadcast(&cond->real) == 0);
}

const struct sys_world sys_world_real = {
    .now_ns = real_now_ns,
    .random = real_random,
    .socket_open = real_socket_open,
    .socket_open_datagram = real_socket_open_datagram,
    .socket_connect = real_socket_connect,
    .socket_error = real_socket_error,
    .socket_bytes_unread = real_socket_bytes_unread,
    .socket_bytes_unsent = real_socket_bytes_unsent,
    .socket_names = real_socket_names,
    .socket_receive = real_socket_receive,
    .socket_peek = real_socket_peek,
    .socket_send = real_socket_send,
    .close = real_close,
    .poller_open = real_poller_open,
    .poller_add = real_poller_add,
    .poller_remove = real_poller_remove,
    .poller_wait = real_poller_wait,
    .wake_open = real_wake_open,
    .wake_post = real_wake_post,
    .thread_start = real_thread_start,
    .thread_join = real_thread_join,
    .thread_detach = real_thread_detach,
    .thread_describe = real_thread_describe,
    .thread_self = real_thread_self,
    .processor_count = real_processor_count,
    .mutex_init = real_mutex_init,
    .mutex_deinit = real_mutex_deinit,
    .mutex_lock = real_mutex_lock,
    .mutex_unlock = real_mutex_unlock,
    .cond_init = real_cond_init,
    .cond_deinit = real_cond_deinit,
    .cond_wait_until = real_cond_wait_until,
    .cond_broadcast = real_cond_broadcast,
};
