/* look.h: what the doctor saw. Plain data, filled by the readers (procfs, sets, sockets, waits,
 * stacks), read by the conclusions (runtime, verdict) and the reports.
 *
 * One `struct look` is one diagnosis of one process. Everything in it is copied out of the kernel
 * or of the target's memory and is bounded by the maxima below, because both may be hostile or
 * simply huge; whatever was cut off is said in `limits`. Thread: the doctor's only one. */
#ifndef DOCTOR_LOOK_H
#define DOCTOR_LOOK_H

#include <stdio.h>
#include <sys/types.h>

#include "base/base.h"
#include "doctor/registry.h"

#define LOOK_THREADS_MAX     4096u
#define LOOK_FDS_MAX         65536u
#define LOOK_SETS_MAX        512u
#define LOOK_SET_WATCHES_MAX 65536u
#define LOOK_POLLED_FDS_MAX  4096u /* fds looked at in the array of one poll() or select() */
#define LOOK_FRAMES_MAX      48u
#define LOOK_LIMITS_MAX      24u
#define LOOK_EVIDENCE_MAX    16u
#define LOOK_FINDINGS_MAX    32u
#define LOOK_NAMED_MAX       32u /* sockets, sets or threads named in one finding */
#define LOOK_SET_POLLERS_MAX 8u
#define LOOK_FD_ALIASES_MAX  8u
#define LOOK_TEXT_MAX        240u

/* ---- threads ---- */

enum wait_kind {
    WAIT_UNKNOWN, /* the system call could not be read */
    WAIT_RUNNING, /* on a CPU or in its queue */
    WAIT_EPOLL,   /* epoll_wait, or io_uring_enter: `fd` is the set */
    WAIT_POLL,    /* poll or select: `fds` are watched */
    WAIT_FD,      /* a blocking call on `fd`: recv, read, accept, connect, send... */
    WAIT_FUTEX,   /* a lock, a condition variable, a channel: `address` is the futex */
    WAIT_SLEEP,   /* nanosleep and the like */
    WAIT_CHILD,   /* wait4 and the like */
    WAIT_OTHER    /* any other system call */
};

struct thread_wait {
    enum wait_kind kind;
    long number;      /* of the system call; -1 when not in one */
    int fd;           /* -1 when none */
    bool is_forever;  /* no time limit was given to the call */
    bool is_lock;     /* the futex has the form of a glibc mutex */
    uint64_t address; /* of the futex, or of the poll array */
    uint64_t count;   /* of entries in the poll array; highest fd + 1 for select */
    uint64_t sp, pc;  /* where the thread sleeps */
    int mutex_owner;  /* tid, as the target's own namespace counts; 0 when none is known */
};

struct thread_frame {
    uint64_t pc;
    char symbol[160]; /* demangled; empty when there is none */
    char module[48];  /* base name of the file it is in */
};

enum thread_role {
    ROLE_UNKNOWN,
    ROLE_POLLING,       /* it waits in an event set: a loop at rest */
    ROLE_POOL_IDLE,     /* a worker of a runtime or pool, parked until work comes */
    ROLE_WAITING_REPLY, /* blocked until a runtime delivers something (block_on, Future.get) */
    ROLE_IN_CALLBACK,   /* a loop is below on the stack, something else on top */
    ROLE_BLOCKING_JOB,  /* a pool thread made for blocking work, doing it */
    ROLE_RESOLVING,     /* in getaddrinfo or its like */
    ROLE_OTHER
};

enum runtime_kind {
    RUNTIME_UNKNOWN,
    RUNTIME_TOKIO,
    RUNTIME_LIBUV,
    RUNTIME_NODE,
    RUNTIME_ASYNCIO,
    RUNTIME_UVLOOP,
    RUNTIME_GLIB,
    RUNTIME_GO,
    RUNTIME_NETTY,
    RUNTIME_JAVA, /* a JVM that shows nothing of Netty */
    RUNTIME_LIBEVENT,
    RUNTIME_INTERLOOP,
    RUNTIME_COUNT
};

struct seen_thread {
    pid_t tid;
    pid_t ns_tid; /* as the target's own pid namespace counts it */
    char name[16];
    char state;              /* R S D T t Z X, of a thread that stands; ? otherwise */
    int schedstat_fd;        /* kept open from look to look; -1 when closed */
    struct thread_wait wait; /* at the last look */

    uint32_t look_count;     /* looks that saw it */
    uint32_t quiet_count;    /* times in a row that it was seen not to have run */
    uint32_t skipped;        /* looks since it was looked at */
    uint32_t running_count;  /* looks at which it ran */
    uint32_t epoll_count;    /* looks at which it waited in an event set */
    uint64_t wait_since_ns;  /* first of the looks, up to the last, with the same wait */
    uint64_t still_since_ns; /* ...between which it was never given a CPU; 0 when not known */
    uint64_t cpu_ns_first, cpu_ns_last; /* CPU time; 0 when it could not be read */
    uint64_t turns_last;                /* times it was given a CPU */
    uint64_t sleep_count_first;         /* times it had gone to sleep when it was first seen */
    bool stood_in_wait; /* in the same wait for nearly the whole window, or for long */
    bool stood_still;   /* never given a CPU for as long */
    bool is_gone;       /* ended while we looked */
    bool has_slept;     /* it ran, and went to sleep in between */
    bool is_starved;    /* at the end: ready to run, and not given a CPU for a while */

    enum runtime_kind runtime;
    enum thread_role role;
    uint32_t set_hint;       /* its stack holds events of this set; LOOK_SETS_MAX: of none */
    uint32_t set_hint_count; /* how many */
    bool stack_taken, stack_tried;
    uint32_t frame_count;
    struct thread_frame *frames; /* innermost first */
};

/* ---- file descriptors and event sets ---- */

enum fd_kind { FD_OTHER, FD_SOCKET, FD_EPOLL, FD_URING, FD_EVENTFD, FD_PIPE, FD_TIMERFD };

struct seen_fd {
    int fd;
    enum fd_kind kind;
    uint64_t inode;      /* sockets and pipes: unique */
    uint32_t poll_count; /* an eventfd: looks at which a thread had it in a poll() */
    bool is_zero;        /* an eventfd: its count is 0, so it makes nothing ready */
};

struct set_watch {
    int fd;
    uint32_t events;
    uint64_t data;
    uint64_t inode;
};

struct seen_set {
    enum fd_kind kind; /* FD_EPOLL or FD_URING */
    uint32_t fd_count;
    int fds[LOOK_FD_ALIASES_MAX]; /* of one and the same set, lowest first */
    uint32_t watch_count;
    struct set_watch *watches;

    uint32_t look_count;      /* looks at its readiness that succeeded */
    uint32_t ready_count;     /* ...that found readiness nobody had collected */
    uint32_t collected_count; /* looks that found readiness gone again: somebody collected */
    bool was_ready;           /* at the last look */
    uint32_t polled_count;    /* looks at which some thread waited in it */
    uint64_t last_quiet_ns;   /* last look that found it not ready; 0 never */
    uint64_t first_look_ns;
    bool is_gone;             /* closed while we looked */
    bool was_changed;         /* what it watches has changed while we looked: somebody acts on it */
    bool is_polled_by_parent; /* the process has it from a fork; its parent drives it */
    uint32_t outer;           /* registered in this other set, whose pollers drive it */
    uint32_t poller_count;
    pid_t pollers[LOOK_SET_POLLERS_MAX];
};

/* ---- sockets ---- */

enum socket_family { SOCKET_TCP, SOCKET_UDP, SOCKET_UNIX };

/* The numbers the kernel uses, so that nothing has to be translated. */
enum tcp_state_seen {
    TCPS_ESTABLISHED = 1,
    TCPS_SYN_SENT,
    TCPS_SYN_RECV,
    TCPS_FIN_WAIT1,
    TCPS_FIN_WAIT2,
    TCPS_TIME_WAIT,
    TCPS_CLOSE,
    TCPS_CLOSE_WAIT,
    TCPS_LAST_ACK,
    TCPS_LISTEN,
    TCPS_CLOSING
};

struct socket_numbers {
    uint8_t state;
    uint64_t unread_bytes;   /* FIN not counted; on a listening socket: connections to accept */
    bool end_unread;         /* the peer has closed, and the program has not read that */
    uint64_t consumed_bytes; /* read by the program since the connection began */
    uint64_t unsent_bytes;   /* written by the program, not acknowledged by the peer */
    uint64_t received_bytes, sent_bytes, acked_bytes;
    uint32_t last_sent_ms, last_received_ms, last_ack_ms; /* ago */
    uint32_t unacked_segments, retransmits, probes;
    uint32_t peer_window; /* 0 with data waiting: the peer does not read */
    bool peer_window_known;
    uint32_t receive_memory, receive_memory_max;
};

enum first_bytes {
    BYTES_UNSEEN,
    BYTES_HTTP1_STATUS,
    BYTES_HTTP1_REQUEST,
    BYTES_HTTP2_FRAME,
    BYTES_HTTP2_CONTROL,
    BYTES_TLS_DATA,
    BYTES_TLS_ALERT,
    BYTES_OTHER
};

struct seen_socket {
    uint64_t inode;
    int fd; /* lowest of the fds that stand for it */
    uint32_t fd_count;
    enum socket_family family;
    char local[64], peer[64]; /* address:port; a path never: it may be secret */
    uint16_t local_port, peer_port;
    bool is_server_side;      /* it was accepted here, or listens */
    bool was_found;           /* sock_diag knows it */
    bool was_lost;            /* gone at a later look */
    bool was_read;            /* the program read from it while we looked */
    bool was_written;         /* ...or wrote to it */
    bool was_received;        /* bytes came in */
    bool was_acked;           /* the peer acknowledged something */
    uint64_t unread_since_ns; /* first of the dumps, up to the last, that found something unread */
    struct socket_numbers first, last;
    uint32_t dump_count;
    uint8_t diag_family; /* with these two the kernel finds exactly this socket again */
    uint8_t diag_id[48]; /* struct inet_diag_sockid */

    uint32_t set_count;          /* event sets that watch it */
    uint32_t set;                /* one of them; LOOK_SETS_MAX: none */
    uint32_t watch_events;       /* what that set was asked for */
    uint32_t thread_watch_count; /* looks at which a thread waited on it directly */
    pid_t thread_watcher;
    pid_t heir; /* listening, in no set here: a child process that has it too; 0: none */

    bool is_named; /* in a finding */
    enum first_bytes first_bytes;
    uint16_t http_status;                /* when the first bytes are an HTTP/1 status line */
    bool stack_has_tls, stack_has_http2; /* below the thread that waits for it */
};

/* ---- findings ---- */

enum verdict {
    VERDICT_HEALTHY,
    VERDICT_PARKED_OWNER,
    VERDICT_BUSY_OWNER,
    VERDICT_NOBODY_WATCHES,
    VERDICT_MISSED_WAKEUP,
    VERDICT_SELF_WAIT,
    VERDICT_CLOSED_UNNOTICED,
    VERDICT_PEER,
    VERDICT_NETWORK,
    VERDICT_BACK_PRESSURE,
    VERDICT_LOCK_CYCLE,
    VERDICT_WORKERS_BLOCKED,
    VERDICT_RESOLVER,
    VERDICT_COUNT
};

enum confidence { CONFIDENCE_POSSIBLE, CONFIDENCE_LIKELY, CONFIDENCE_CERTAIN };

struct finding {
    enum verdict verdict;
    enum confidence confidence;
    uint64_t since_ms;      /* how long at least */
    bool since_is_at_least; /* it began before we looked */
    enum runtime_kind runtime;
    bool is_write_side; /* what waits is wake-up or hand-over, not response bytes */
    bool is_window;     /* back-pressure: it is the window of an HTTP/2 connection that is full */
    uint32_t socket_total, thread_total; /* also those not named */
    uint32_t socket_count, set_count, thread_count, evidence_count;
    uint32_t sockets[LOOK_NAMED_MAX], sets[LOOK_NAMED_MAX], threads[LOOK_NAMED_MAX]; /* indices */
    uint32_t request_total, request_count;
    uint32_t requests[LOOK_NAMED_MAX]; /* indices into the registry's latest shot */
    char evidence[LOOK_EVIDENCE_MAX][LOOK_TEXT_MAX];
    char explanation[1024];
    char advice[768];
};

/* ---- the whole look ---- */

struct look_options {
    uint64_t duration_ms;
    uint64_t closed_after_ms; /* CLOSE_WAIT for less than this is nothing */
    bool take_stacks;
    bool always_stacks; /* also when nothing stands still */
    bool attach;        /* use what needs ptrace rights at all */
    bool peek;          /* look at the first unread bytes of a suspicious socket */
};

struct look {
    pid_t pid;
    int pidfd;
    struct look_options options;
    char command[16];    /* the process's short name */
    char executable[64]; /* base name of its file */

    bool can_syscall, can_copy_fd, can_memory, can_stacks, can_sockets;
    uint32_t limit_count;
    char limits[LOOK_LIMITS_MAX][LOOK_TEXT_MAX]; /* what could not be seen, in words */

    uint32_t thread_count, thread_capacity;
    struct seen_thread *threads;
    int task_fd;         /* /proc/PID/task; -1 when closed */
    uint64_t task_links; /* its links when the threads were listed: two more than threads */
    bool lost_thread;    /* one was gone at the last look: list them again */
    bool has_schedstat;  /* the kernel tells when a thread was given a CPU */
    uint32_t kept_count; /* open schedstat files */
    uint32_t fd_count, fd_capacity;
    struct seen_fd *fds;
    uint32_t set_count;
    struct seen_set *sets;
    uint32_t socket_count;
    struct seen_socket *sockets;
    int diag_fd;              /* netlink socket; -1 when closed */
    uint32_t namespace_count; /* TCP sockets in the latest dump of the whole network namespace */
    bool has_udp, has_unix;   /* among the target's */

    struct seen_registry *registry; /* NULL: the process does not use interloop */

    uint64_t started_ns, ended_ns;
    uint32_t look_count;  /* looks at threads and sets */
    uint32_t stack_count; /* stacks taken */
    uint64_t stopped_ns;  /* how long threads were stopped for them, added up */
    uint64_t stopped_longest_ns;
    enum runtime_kind runtime; /* the main one, as far as files and names tell */
    uint32_t starved_count;    /* threads that are starved */
    bool is_stopped;           /* by a signal, a debugger, its cgroup; nearly the whole window */
    bool is_frozen;            /* ...by its cgroup */
    pid_t tracer;              /* who traces it; 0: nobody */
    uint32_t unknown_sleepers; /* seen in an epoll_wait or poll() of it is not known which set */

    uint32_t finding_count;
    struct finding *findings; /* gravest first; LOOK_FINDINGS_MAX at most */
    uint32_t finding_dropped;
    uint32_t note_count;
    char notes[8][LOOK_TEXT_MAX]; /* seen, judged harmless */
};

/* look.c */
void look_init(struct look *look, pid_t pid, const struct look_options *options);
void look_deinit(struct look *look);
void look_limit(struct look *look, const char *format, ...) IL_PRINTF(2, 3);
void look_note(struct look *look, const char *format, ...) IL_PRINTF(2, 3);
uint64_t look_now_ns(void);
struct seen_thread *look_thread(struct look *look, pid_t tid);     /* NULL when unknown */
struct seen_thread *look_thread_add(struct look *look, pid_t tid); /* NULL when full */
/* Index of the set that `fd` stands for; LOOK_SETS_MAX when it is none. */
uint32_t look_set_of_fd(const struct look *look, int fd);
/* Index of the socket; UINT32_MAX when it is none. Binary search, needs look_sockets_index(). */
uint32_t look_socket_of_inode(const struct look *look, uint64_t inode);
uint32_t look_socket_of_fd(const struct look *look, int fd);
struct seen_fd *look_fd(struct look *look, int fd); /* NULL when it was not open at the start */
/* `ret_text` of `size` becomes printable: control bytes and what is not ASCII become '?'. */
void look_clean(char *ret_text, size_t size, const char *text);

const char *verdict_name(enum verdict verdict);
const char *confidence_name(enum confidence confidence);
const char *runtime_name(enum runtime_kind runtime);
const char *tcp_state_name(uint8_t state);

#endif
