/* sim.h: a world in which everything happens in one real thread, in virtual time, in an order that
 * a seed decides.
 *
 * sim_run() puts the simulated world behind src/sys/sys.h, runs a function as its first thread, and
 * takes the world down again. Within, the library, the lab and whatever else reaches time, threads,
 * locks and sockets through sys.h is the same code as ever: its threads are fibers, its clock jumps
 * to where something happens next, its sockets lead to servers that are state machines (struct
 * sim_service). A run is decided by its seed alone: not by addresses, real time or real threads.
 *
 * Threads: one real thread in a process may be in sim_run at a time; nothing else may use the
 *   library meanwhile. Functions marked "within" are for simulated threads and services.
 * Ends: when the first thread returns and all others have ended. A run that did not end so
 *   (SIM_DONE) leaves the library in the middle of something: the process can only report and
 *   exit. So whoever tries many seeds does it in child processes. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_NS_PER_MS 1000000ull
#define SIM_FOREVER   UINT64_MAX
#define SIM_TEXT_SIZE 1024

/* ---- faults ---- */

/* What may go wrong. The upper part leaves every request answerable, it only changes when things
 * happen; after the lower part an error is a right answer. */
enum sim_fault {
    SIM_FAULT_PREEMPT,  /* another thread goes on in the middle of something */
    SIM_FAULT_STALL,    /* a thread does not run for a while, up to 50 ms */
    SIM_FAULT_SPURIOUS, /* a wait on a condition returns without reason */
    SIM_FAULT_SLOW,     /* a packet takes long, up to 300 ms */
    SIM_FAULT_PIECES,   /* what was sent arrives in pieces */
    SIM_FAULT_NARROW,   /* a socket has little room: writes are short */
    SIM_FAULT_LATE,     /* a server takes its time */
    SIM_FAULT_GOAWAY,   /* HTTP/2: a server ends a connection in order */
    SIM_FAULT_UNSEEN,   /* it refuses a request that it has not acted on */
    SIM_FAULT_LIMIT,    /* it allows fewer streams for a while */
    SIM_FAULT_TICKET,   /* TLS: tickets come at any time */
    SIM_FAULT_UPDATE,   /* likewise something that has to be answered before anything goes on */
    SIM_FAULT_RECORDS,  /* records are small, or empty */

    SIM_FAULT_CLOSE_IDLE, /* a server closes an idle connection, with FIN or RST */
    SIM_FAULT_REFUSE,     /* a connect is refused */
    SIM_FAULT_LOSE,  /* a host is gone: nothing arrives any more on this connection, or SYN is lost
                      */
    SIM_FAULT_RESET, /* RST in the middle */
    SIM_FAULT_FIN,   /* FIN at any byte */
    SIM_FAULT_TWICE, /* a server answers twice, or before it is asked */
    SIM_FAULT_NEVER, /* a server does not answer */
    SIM_FAULT_ABORT, /* HTTP/2: it resets a stream in the middle */
    SIM_FAULT_UPSET, /* it refuses more often than a client sends again */
    SIM_FAULT_ALERT, /* TLS: a server refuses the handshake, or breaks its rules */
    SIM_FAULT_CERTIFICATE, /* it is somebody else */
    SIM_FAULT_MUTE,        /* it does not go on with the handshake */
    SIM_FAULT_CUT,         /* it ends without close_notify, in the middle or not */
    SIM_FAULT_FDS,         /* no descriptor to be had */
    SIM_FAULT_PORTS,       /* no local port to be had */
    SIM_FAULT_THREADS,     /* no thread to be had */
    SIM_FAULT_MEMORY,      /* an allocation of the library fails */
    SIM_FAULT_JUMP,        /* the clock jumps forward, up to 10 min */
    SIM_FAULT_COUNT
};

#define SIM_FAULTS_NONE 0u
#define SIM_FAULTS_TIME ((1u << SIM_FAULT_CLOSE_IDLE) - 1) /* the upper part */
#define SIM_FAULTS_ALL  ((1u << SIM_FAULT_COUNT) - 1)
#define SIM_FAULTS_HTTP2                                                                           \
    (1u << SIM_FAULT_GOAWAY | 1u << SIM_FAULT_UNSEEN | 1u << SIM_FAULT_LIMIT |                     \
     1u << SIM_FAULT_ABORT | 1u << SIM_FAULT_UPSET)

#define SIM_FAULTS_TLS                                                                             \
    (1u << SIM_FAULT_TICKET | 1u << SIM_FAULT_UPDATE | 1u << SIM_FAULT_RECORDS |                   \
     1u << SIM_FAULT_ALERT | 1u << SIM_FAULT_CERTIFICATE | 1u << SIM_FAULT_MUTE |                  \
     1u << SIM_FAULT_CUT)

_Static_assert(SIM_FAULT_COUNT < 32, "a set of faults is 32 bits");

const char *sim_fault_name(enum sim_fault fault); /* "preempt" */

/* ---- a run ---- */

/* Decisions [from, to), counted from 0, are not drawn: the next thread is the one that waits
 * longest, nothing is preempted, no fault happens. What a shrinker plays with. */
struct sim_span {
    uint64_t from, to;
};

struct sim_event;

struct sim_options {
    uint64_t seed;
    uint32_t faults;         /* bits of enum sim_fault that may be drawn; of these each seed
                                leaves some out and makes others frequent */
    uint64_t time_limit_ns;  /* virtual; 0: an hour. Beyond: SIM_TIME_OUT */
    uint64_t step_count_max; /* doors passed; 0: 20 million. Beyond: SIM_STEPS_OUT */
    bool with_events;        /* keep the events; the hash is made anyway */
    void (*on_event)(void *arg, const struct sim_event *event); /* as each happens; may be NULL.
                                                                   Must not use the world. */
    void *event_arg;
    const struct sim_span *calm; /* in rising order */
    size_t calm_count;
};

enum sim_end {
    SIM_DONE,
    SIM_DEADLOCK, /* nobody can go on, and nothing is to come */
    SIM_TIME_OUT,
    SIM_STEPS_OUT, /* nobody waits, and nothing comes about */
    SIM_LEFT,      /* it ended, and threads or descriptors of its world did not */
};

const char *sim_end_name(enum sim_end end); /* "done", "deadlock", ... */

struct sim_report {
    enum sim_end end;
    char detail[SIM_TEXT_SIZE]; /* who waits for what, or what was left; "" when done */
    uint64_t trace_hash;        /* of all events, with their times */
    uint64_t interleaving_hash; /* of the order alone in which threads went on */
    uint64_t virtual_ns;
    uint64_t step_count, switch_count, decision_count;
    uint64_t fault_counts[SIM_FAULT_COUNT];
    unsigned thread_count;    /* ever */
    struct sim_event *events; /* with_events; yours to free(), also when NULL */
    size_t event_count;
};

/* Play run(arg) in a world of its own. Not within. Returns also when the world cannot go on. */
void sim_run(const struct sim_options *options, void (*run)(void *arg), void *arg,
             struct sim_report *ret_report);

/* Is the caller within? */
bool sim_is_running(void);

/* Within: from here on no more faults of these kinds; what is lost comes back. For liveness: who is
 * alive must now come to an end. */
void sim_calm(uint32_t faults);

/* Within: draw from the run's seed: below `bound`. */
uint64_t sim_draw(uint64_t bound);

/* Within: would a fault of this kind happen now? Counts it when it does. */
bool sim_fault(enum sim_fault fault);

/* ---- events ---- */

enum sim_event_kind {
    SIM_EVENT_THREAD_START, /* a: thread number; text: name */
    SIM_EVENT_THREAD_END,
    SIM_EVENT_RUN,     /* goes on; a: thread that ran before */
    SIM_EVENT_WAIT,    /* waits; text: for what; a: number of it */
    SIM_EVENT_WAKE,    /* a: thread that may go on */
    SIM_EVENT_CONNECT, /* a: fd, b: port */
    SIM_EVENT_CONNECTED,
    SIM_EVENT_CONNECT_FAIL, /* b: errno */
    SIM_EVENT_SEND,         /* a: fd, b: bytes */
    SIM_EVENT_RECEIVE,
    SIM_EVENT_ARRIVE,     /* bytes arrive at fd a */
    SIM_EVENT_ARRIVE_FAR, /* bytes of fd a arrive at its server */
    SIM_EVENT_FIN,        /* at fd a */
    SIM_EVENT_RST,
    SIM_EVENT_CLOSE,    /* fd a is closed */
    SIM_EVENT_POLL_ADD, /* a: poller, b: fd */
    SIM_EVENT_POLL_REMOVE,
    SIM_EVENT_POLL_GOT, /* a: poller, b: events */
    SIM_EVENT_FAULT,    /* a: enum sim_fault */
    SIM_EVENT_NOTE,     /* text: sim_note() */
    SIM_EVENT_KIND_COUNT
};

#define SIM_EVENT_TEXT_SIZE 160

struct sim_event {
    uint64_t at_ns;    /* since the run began */
    uint64_t decision; /* how many decisions were drawn before */
    uint64_t a, b;
    uint32_t thread; /* number, from 1; 0: the network or a server */
    uint16_t kind;
    char text[SIM_EVENT_TEXT_SIZE];
};

/* "poll-add"; and the whole event as a line without time and thread. */
const char *sim_event_kind_name(enum sim_event_kind kind);
void sim_event_format(const struct sim_event *event, char *text, size_t size);

/* Within: something for the reader of the events. Goes into the hash too. */
__attribute__((format(printf, 1, 2))) void sim_note(const char *format, ...);

/* Within: the name of the thread that we are on. */
const char *sim_thread_name(void);

/* Within: how many descriptors are open, threads not ended. */
void sim_held(unsigned *ret_fd_count, unsigned *ret_thread_count);

/* ---- services: the far side of the network ---- */

struct sim_link; /* one connection, seen from its server */

/* Called by the world, between two steps of threads: they must not wait, and may call whatever is
 * marked "service". */
struct sim_service {
    void (*on_open)(struct sim_service *service, struct sim_link *link);
    void (*on_bytes)(struct sim_link *link, const char *bytes, size_t size);
    void (*on_end)(struct sim_link *link);    /* the client has sent FIN, or RST; once */
    void (*on_closed)(struct sim_link *link); /* both sides are done; the link is gone after this */
};

/* Within or service. Listen on loopback, at a port that is drawn; the service stays yours. */
uint16_t sim_listen(struct sim_service *service);
void sim_listen_stop(uint16_t port);                  /* connects are refused; links stay */
void sim_listen_pause(uint16_t port, bool is_paused); /* handshakes stall, until the next try */

/* Service or within; nothing on a link that has ended. */
void sim_link_send(struct sim_link *link, const char *bytes, size_t size);
void sim_link_send_whole(struct sim_link *link, const char *bytes, size_t size); /* as one packet */
void sim_link_fin(struct sim_link *link);   /* after what was sent; the client may send on */
void sim_link_close(struct sim_link *link); /* the same; what the client sends is answered by RST */
void sim_link_reset(struct sim_link *link);
bool sim_link_is_quiet(const struct sim_link *link); /* nothing is on its way to the client */
void sim_link_set_context(struct sim_link *link, void *context);
void *sim_link_context(const struct sim_link *link);

/* Within or service. An alarm: rings once, as a service. Yours, all zero when new; unset it before
 * you free it. */
struct sim_alarm {
    void (*ring)(struct sim_alarm *alarm);
    void *private_timer[5];
};
void sim_alarm_set(struct sim_alarm *alarm, uint64_t delay_ns); /* anew, if it was set */
void sim_alarm_unset(struct sim_alarm *alarm);

/* Within: wait until `is_true(arg)`, which looks at what a service knows; false: the time is over.
 * Whoever changes what services know says so by sim_changed(); the world does after each call of a
 * service. */
bool sim_wait_until(bool (*is_true)(void *arg), void *arg, uint64_t timeout_ns, const char *what);
void sim_changed(void);

/* Within: a step: time goes by, others may go on. */
void sim_step(void);

#endif
