/* inside.h: what the parts of the simulated world know of each other. Private to sim/.
 *
 * One real thread runs all of it. At any moment either one simulated thread runs, on its own stack
 * or on that of a task, or *the world* does, on the stack of whoever called sim_run: it fires what
 * is due, lets services act, and decides who goes on. */
#ifndef SIM_INSIDE_H
#define SIM_INSIDE_H

#include "base/base.h"
#include "rt/fiber.h"
#include "sim/sim.h"
#include "sys/sys.h"

#define SIM_THREADS_MAX 1024
#define SIM_FDS_MAX     4096
#define SIM_FD_FIRST    1000000 /* no real descriptor: a slip gets EBADF and nothing worse */
#define SIM_NAME_SIZE   16
#define SIM_START_NS    (1000000 * SIM_NS_PER_MS) /* when the clock of every run begins */

/* ---- chance (draw.c) ---- */

/* A stream of pseudo-random numbers: one for each purpose, so that a change in one leaves the
 * others as they are. */
struct sim_stream {
    uint64_t state;
};

enum sim_purpose {
    SIM_FOR_WEIGHTS,
    SIM_FOR_SCHEDULE,
    SIM_FOR_FAULTS,
    SIM_FOR_NETWORK,
    SIM_FOR_PROGRAM, /* sys_random, sim_draw */
    SIM_PURPOSE_COUNT
};

enum sim_policy {
    SIM_POLICY_RANDOM,   /* any thread that may go on */
    SIM_POLICY_PRIORITY, /* the one with the highest priority, which changes now and then */
    SIM_POLICY_IN_TURN,  /* the one that waits longest */
    SIM_POLICY_COUNT
};

struct sim_weights {
    uint32_t faults[SIM_FAULT_COUNT]; /* of 65536 occasions */
    enum sim_policy policy;
    uint64_t preempt_gap; /* points between two preemptions, on average */
    uint64_t door_ns;     /* what passing a door costs */
    uint64_t latency_ns;  /* one way */
    uint64_t jitter_ns;
    uint64_t window_bytes; /* of its receiving side */
    uint64_t room_bytes;   /* of a socket's sending side */
};

uint64_t stream_next(struct sim_stream *stream);
uint64_t stream_below(struct sim_stream *stream, uint64_t bound);
void draw_begin(void);  /* seeds the streams, draws the weights */
bool draw_decide(void); /* counts a decision; false: it is calm */
uint64_t draw_of(enum sim_purpose purpose, uint64_t bound);

/* ---- time (clock.c): a heap of what is to happen ---- */

struct sim_timer {
    uint64_t at_ns, sequence;
    size_t place; /* in the heap, from 1; 0: not armed */
    void (*fire)(struct sim_timer *timer);
};

void timer_set(struct sim_timer *timer, uint64_t at_ns);
void timer_unset(struct sim_timer *timer);

/* ---- threads (schedule.c) ---- */

enum sim_thread_state {
    SIM_THREAD_READY,
    SIM_THREAD_RUNNING,
    SIM_THREAD_WAITING,
    SIM_THREAD_ENDED,
};

struct sim_stack {
    struct stack stack;
    struct sim_stack *next; /* while free */
};

struct sim_thread {
    struct il_list link; /* sim.threads */
    uint32_t number;
    char name[SIM_NAME_SIZE];
    enum sim_thread_state state;
    bool is_started, is_detached;
    struct fiber first; /* its own stack, until it has run for the first time */
    struct fiber here;  /* where it was left; that may be on the stack of a task */
    struct sim_stack *stack;
    struct sys_thread_self self;
    int saved_errno;
    void (*run)(void *arg);
    void *arg;
    int64_t priority;
    uint64_t since_ns; /* in this state */

    const void *wait_object;
    const char *wait_what;
    uint64_t wait_number;
    bool is_overdue;
    struct sim_timer overdue;
};

/* Pass a door: time goes by, what is due happens, another thread may go on. */
void sim_door(void);

/* Wait until somebody calls thread_wake(object) or it is `deadline_ns`; false: the latter. */
bool thread_wait(const void *object, const char *what, uint64_t number, uint64_t deadline_ns);
void thread_wake(const void *object);

int thread_new(const char *name, void (*run)(void *arg), void *arg, struct sim_thread **ret_thread);
void thread_join(struct sim_thread *thread);
void thread_detach(struct sim_thread *thread);
void threads_end(void); /* at the end of a run: forgets those that there are */

/* By the world: until the first thread and all others have ended, or nothing is to come. */
void world_go_on(void);

/* The run cannot go on; the first to say so counts. Does not return to a thread. */
void world_stop(enum sim_end end, const char *format, ...) IL_PRINTF(2, 3);

/* ---- descriptors and pollers (file.c) ---- */

enum sim_file_kind {
    SIM_FILE_SOCKET,
    SIM_FILE_WAKE,
    SIM_FILE_POLLER,
};

struct sim_file {
    enum sim_file_kind kind;
    int fd;
    struct il_list watches; /* struct sim_watch.file_link */
};

struct sim_watch {
    struct sim_poller *poller;
    struct sim_file *file;
    uint32_t events;
    void *data;
    bool is_listed; /* among poller->ready */
    struct il_list file_link, poller_link, ready_link;
};

struct sim_poller {
    struct sim_file file;
    struct il_list watches, ready;
};

struct sim_wake {
    struct sim_file file;
    uint64_t count;
};

int file_open(struct sim_file *file, enum sim_file_kind kind); /* fd, or -EMFILE */
struct sim_file *file_of(int fd);                              /* NULL: no such */
void file_notify(struct sim_file *file, uint32_t events);      /* what is new */
void files_end(void);

int poller_open(void);
int poller_add(int poller, int fd, uint32_t events, void *data);
int poller_remove(int poller, int fd);
int poller_wait(int poller, struct epoll_event *events, int event_count_max, uint64_t timeout_ns);
int wake_open(void);
void wake_post(int fd);
void file_close(int fd);

/* ---- the network (socket.c, link.c) ---- */

enum sim_socket_state {
    SIM_SOCKET_NEW,
    SIM_SOCKET_CONNECTING,
    SIM_SOCKET_OPEN,
    SIM_SOCKET_DEAD, /* refused, reset, timed out */
};

struct sim_socket {
    struct sim_file file;
    enum sim_socket_state state;
    int family;
    int error; /* not yet told */
    bool is_connect_told;
    bool is_ended;         /* FIN has come */
    bool is_full;          /* a write found too little room: tell when there is */
    uint64_t room, unsent; /* bytes on their way, of so many */
    uint16_t local_port;
    struct sockaddr_storage peer;
    struct sim_link *link;
    char *bytes; /* received, and not yet read: [begin, end) */
    size_t begin, end, size;
};

struct sim_listener {
    struct sim_listener *next;
    struct sim_service *service;
    uint16_t port;
    bool is_paused;
};

uint32_t socket_events(struct sim_socket *socket); /* as poll(2) has it */
void socket_free(struct sim_socket *socket);
struct sim_socket *socket_of(int fd);
int socket_open(int family);
int socket_connect(int fd, const struct sockaddr *address, socklen_t size);
int socket_error(int fd);
int socket_bytes_unread(int fd);
int socket_bytes_unsent(int fd);
int socket_names(int fd, struct sockaddr_storage *local, struct sockaddr_storage *peer);
ssize_t socket_receive(int fd, void *bytes, size_t size);
ssize_t socket_peek(int fd, void *bytes, size_t size);
ssize_t socket_send(int fd, const struct iovec *parts, int part_count);

/* What arrives at the client's side. */
void socket_on_connected(struct sim_socket *socket);
void socket_on_bytes(struct sim_socket *socket, const char *bytes, size_t size);
void socket_on_fin(struct sim_socket *socket);
void socket_on_reset(struct sim_socket *socket, int error);
void socket_on_room(struct sim_socket *socket, size_t size);

/* What the client does. */
void link_open(struct sim_socket *socket, uint16_t port);
void link_from_client(struct sim_link *link, const struct iovec *parts, int part_count,
                      size_t size);
void link_on_read(struct sim_link *link, size_t size);
void link_client_close(struct sim_link *link, bool is_reset);
void links_calm(uint32_t faults);
void links_end(void);

/* ---- TLS (tls_plain.c) ---- */

/* What the first TLS settings of a process make for all that follow is made before the first run,
 * which otherwise would be another than the same one later. */
void tls_prepare(void);

/* ---- locks (lock.c) ---- */

void lock_init(struct sys_mutex *mutex);
void lock_deinit(struct sys_mutex *mutex);
void lock_take(struct sys_mutex *mutex);
void lock_give(struct sys_mutex *mutex);
void condition_init(struct sys_cond *cond);
void condition_deinit(struct sys_cond *cond);
bool condition_wait(struct sys_cond *cond, struct sys_mutex *mutex, uint64_t deadline_ns);
void condition_broadcast(struct sys_cond *cond);

/* ---- events (trace.c) ---- */

void trace_begin(void);
void trace(enum sim_event_kind kind, uint64_t a, uint64_t b, const char *text);

/* ---- the world ---- */

struct sim {
    struct sim_options options;
    struct sim_report *report;
    bool is_stopped;     /* whatever runs next is the world, and it ends */
    bool is_first_ended; /* the thread that run() was */
    uint64_t now_ns, limit_ns;
    uint32_t faults;    /* that may still happen */
    struct fiber world; /* the caller of sim_run */

    struct sim_stream streams[SIM_PURPOSE_COUNT];
    struct sim_weights weights;
    size_t calm_index;
    uint64_t points_left; /* until the next preemption */

    struct sim_timer **heap; /* from 1 */
    size_t heap_count, heap_size;
    uint64_t timer_sequence;
    uint32_t outer_generation; /* of forks, when the run is over */

    struct sim_thread *current;     /* NULL: the world */
    struct sim_thread *interrupted; /* goes on when the world has done what is due */
    struct il_list threads;         /* those that have not ended */
    unsigned thread_live_count;
    struct sim_thread *last;                   /* who ran last, if it has not ended */
    struct sim_thread *ended;                  /* its stack can be taken back */
    struct sim_thread *ready[SIM_THREADS_MAX]; /* longest waiting first */
    unsigned ready_count;
    int64_t priority_lowest;
    struct sim_stack *free_stacks; /* kept from run to run */

    struct sim_file *files[SIM_FDS_MAX];
    unsigned file_count;

    struct sim_listener *listeners;
    struct il_list links;
    uint16_t port_last;
    uint64_t changes; /* of what services know; its address is waited for */

    size_t event_size;
};

extern struct sim sim;

static inline bool sim_is_world(void)
{
    return sim.current == NULL;
}

#endif
