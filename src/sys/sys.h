/* sys.h: the only door to the kernel for I/O, time, randomness, threads and locks.
 *
 * Behind the door stands a *world*, a table of functions. The real one (sys_real.c) is the
 * kernel's; a simulated one can take its place before the first call. Nothing outside src/sys knows
 * which one it is in, so everything that brings chance into the library passes here.
 *
 * Functions that can fail return -errno, never set errno, and never print. File descriptors are
 * non-blocking and close-on-exec. Thread: any. */
#ifndef IL_SYS_H
#define IL_SYS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/base.h"

#define SYS_FOREVER UINT64_MAX

struct IL_CAPABILITY("mutex") sys_mutex {
    union {
        pthread_mutex_t real;
        void *world; /* whatever another world keeps; zero when new */
    };
};

struct sys_cond {
    union {
        pthread_cond_t real;
        void *world;
    };
};

struct sys_thread; /* opaque to everybody but its world */

/* What each thread keeps for itself. A fiber may go on in another thread after any call that can
 * suspend, so the address must be asked for anew each time, through sys_thread_self(). */
struct sys_thread_self {
    void *context;                  /* src/rt's */
    void (*on_exit)(void *context); /* runs when the thread ends, if set */
    uint32_t number;                /* unique in the process, never 0 */
    int kernel_id;                  /* gettid() in the real world */
};

struct sys_world {
    uint64_t (*now_ns)(void);
    void (*random)(void *bytes, size_t size);

    int (*socket_open)(int family);
    int (*socket_open_datagram)(int family);
    int (*socket_connect)(int fd, const struct sockaddr *address, socklen_t size);
    int (*socket_error)(int fd);
    int (*socket_bytes_unread)(int fd);
    int (*socket_bytes_unsent)(int fd);
    int (*socket_names)(int fd, struct sockaddr_storage *local, struct sockaddr_storage *peer);
    ssize_t (*socket_receive)(int fd, void *bytes, size_t size);
    ssize_t (*socket_peek)(int fd, void *bytes, size_t size);
    ssize_t (*socket_send)(int fd, const struct iovec *parts, int part_count);
    void (*close)(int fd);

    int (*poller_open)(void);
    int (*poller_add)(int poller, int fd, uint32_t events, void *data);
    int (*poller_remove)(int poller, int fd);
    int (*poller_wait)(int poller, struct epoll_event *events, int event_count_max,
                       uint64_t timeout_ns);
    int (*wake_open)(void);
    void (*wake_post)(int fd);

    int (*thread_start)(struct sys_thread **ret_thread, const char *name, void (*run)(void *arg),
                        void *arg);
    void (*thread_join)(struct sys_thread *thread);
    void (*thread_detach)(struct sys_thread *thread);
    void (*thread_describe)(int kernel_id, char *text, size_t size);
    struct sys_thread_self *(*thread_self)(void);
    unsigned (*processor_count)(void);

    void (*mutex_init)(struct sys_mutex *mutex);
    void (*mutex_deinit)(struct sys_mutex *mutex);
    void (*mutex_lock)(struct sys_mutex *mutex);
    void (*mutex_unlock)(struct sys_mutex *mutex);
    void (*cond_init)(struct sys_cond *cond);
    void (*cond_deinit)(struct sys_cond *cond);
    bool (*cond_wait_until)(struct sys_cond *cond, struct sys_mutex *mutex, uint64_t deadline_ns);
    void (*cond_broadcast)(struct sys_cond *cond);
};

extern const struct sys_world *sys_world;
extern const struct sys_world sys_world_real;

/* ---- time and chance ---- */

/* CLOCK_MONOTONIC, in nanoseconds. */
static inline uint64_t sys_now_ns(void)
{
    return sys_world->now_ns();
}

/* Unpredictable bytes; never fails. */
static inline void sys_random(void *bytes, size_t size)
{
    sys_world->random(bytes, size);
}

/* ---- sockets: TCP, and UDP for DNS; non-blocking ---- */

/* A new stream socket with TCP_NODELAY; `family` is AF_INET or AF_INET6. */
static inline int sys_socket_open(int family)
{
    return sys_world->socket_open(family);
}

/* A new UDP socket. Connect it, then receive (a datagram at a time, which may be empty) and send.
 */
static inline int sys_socket_open_datagram(int family)
{
    return sys_world->socket_open_datagram(family);
}

/* 0 connected, -EINPROGRESS under way, else the failure. */
static inline int sys_socket_connect(int fd, const struct sockaddr *address, socklen_t size)
{
    return sys_world->socket_connect(fd, address, size);
}

/* The pending error (SO_ERROR) as -errno, taken; 0 when there is none. */
static inline int sys_socket_error(int fd)
{
    return sys_world->socket_error(fd);
}

/* Bytes received by the kernel and read by nobody (SIOCINQ), and sent but not acknowledged
 * (SIOCOUTQ): what a verdict about a request is checked against. */
static inline int sys_socket_bytes_unread(int fd)
{
    return sys_world->socket_bytes_unread(fd);
}

static inline int sys_socket_bytes_unsent(int fd)
{
    return sys_world->socket_bytes_unsent(fd);
}

static inline int sys_socket_names(int fd, struct sockaddr_storage *ret_local,
                                   struct sockaddr_storage *ret_peer)
{
    return sys_world->socket_names(fd, ret_local, ret_peer);
}

/* Bytes read; 0 at the end of the stream; -EAGAIN when there is nothing yet. */
static inline ssize_t sys_socket_receive(int fd, void *bytes, size_t size)
{
    return sys_world->socket_receive(fd, bytes, size);
}

/* As sys_socket_receive, leaving the bytes where they are. */
static inline ssize_t sys_socket_peek(int fd, void *bytes, size_t size)
{
    return sys_world->socket_peek(fd, bytes, size);
}

/* Bytes taken by the kernel, or -EAGAIN; never raises SIGPIPE. */
static inline ssize_t sys_socket_send(int fd, const struct iovec *parts, int part_count)
{
    return sys_world->socket_send(fd, parts, part_count);
}

/* Close any descriptor made here. */
static inline void sys_close(int fd)
{
    sys_world->close(fd);
}

/* ---- poller (epoll) and its wake-up (eventfd) ---- */

static inline int sys_poller_open(void)
{
    return sys_world->poller_open();
}

static inline int sys_poller_add(int poller, int fd, uint32_t events, void *data)
{
    return sys_world->poller_add(poller, fd, events, data);
}

static inline int sys_poller_remove(int poller, int fd)
{
    return sys_world->poller_remove(poller, fd);
}

/* The number of events, 0 when `timeout_ns` ran out (SYS_FOREVER: none) or a signal came. */
static inline int sys_poller_wait(int poller, struct epoll_event *events, int event_count_max,
                                  uint64_t timeout_ns)
{
    return sys_world->poller_wait(poller, events, event_count_max, timeout_ns);
}

/* A descriptor that becomes readable with every sys_wake_post; watch it edge-triggered, so that it
 * need never be read. */
static inline int sys_wake_open(void)
{
    return sys_world->wake_open();
}

static inline void sys_wake_post(int fd)
{
    sys_world->wake_post(fd);
}

/* ---- threads and locks ---- */

/* Start a thread with a name (cut to 15 bytes by the kernel). Signals are blocked in it. End it
 * with exactly one of sys_thread_join and sys_thread_detach. */
static inline int sys_thread_start(struct sys_thread **ret_thread, const char *name,
                                   void (*run)(void *arg), void *arg)
{
    return sys_world->thread_start(ret_thread, name, run, arg);
}

static inline void sys_thread_join(struct sys_thread *thread)
{
    sys_world->thread_join(thread);
}

static inline void sys_thread_detach(struct sys_thread *thread)
{
    sys_world->thread_detach(thread);
}

/* What the kernel says of a thread of this process: "is 'name' and sleeps in futex_do_wait",
 * "is 'name' and runs", "is gone". For reports. */
static inline void sys_thread_describe(int kernel_id, char *text, size_t size)
{
    sys_world->thread_describe(kernel_id, text, size);
}

static inline struct sys_thread_self *sys_thread_self(void)
{
    return sys_world->thread_self();
}

static inline unsigned sys_processor_count(void)
{
    return sys_world->processor_count();
}

static inline void sys_mutex_init(struct sys_mutex *mutex)
{
    sys_world->mutex_init(mutex);
}

static inline void sys_mutex_deinit(struct sys_mutex *mutex)
{
    sys_world->mutex_deinit(mutex);
}

static inline void sys_mutex_lock(struct sys_mutex *mutex) IL_ACQUIRES(*mutex) IL_NO_TSA
{
    sys_world->mutex_lock(mutex);
}

static inline void sys_mutex_unlock(struct sys_mutex *mutex) IL_RELEASES(*mutex) IL_NO_TSA
{
    sys_world->mutex_unlock(mutex);
}

static inline void sys_cond_init(struct sys_cond *cond)
{
    sys_world->cond_init(cond);
}

static inline void sys_cond_deinit(struct sys_cond *cond)
{
    sys_world->cond_deinit(cond);
}

/* False when the deadline (sys_now_ns scale, SYS_FOREVER for none) passed first. May return true
 * without a broadcast: check the condition again. */
static inline bool sys_cond_wait_until(struct sys_cond *cond, struct sys_mutex *mutex,
                                       uint64_t deadline_ns) IL_LOCKED(*mutex)
{
    return sys_world->cond_wait_until(cond, mutex, deadline_ns);
}

static inline void sys_cond_broadcast(struct sys_cond *cond)
{
    sys_world->cond_broadcast(cond);
}

/* ---- fork ---- */

/* Changes in the child of a fork. An object that was made under another generation belongs to the
 * parent process: its threads do not exist here, and its locks may be held for ever. */
uint32_t sys_fork_generation(void);

/* For a world that begins: as in the child of a fork, what the process keeps for all is made anew.
 * Returns the one before. */
uint32_t sys_fork_generation_set(uint32_t generation);

#endif
