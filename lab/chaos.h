/* chaos.h: the general workload: a handful of runtimes and threads that do everything which the
 * library offers, at random, and to each other.
 *
 * A *plan* says who does what; it is drawn from a seed of its own, so that a run can be played with
 * parts of it left out. A *script* is a task or a plain thread that does its steps one after the
 * other. A script waits only for scripts before it, for the channel, or for what it has been told
 * to wait for no longer than; so every script comes to its end, unless the library loses something.
 *
 * What is checked: every answer is the one that was asked for; an error has a cause; no POST is
 * processed twice; every call completes once; every message, permit and value is there once; every
 * script comes to its end. That nothing is left, the world checks after every run.
 *
 * Threads: a script's own, unless a function says otherwise. */
#ifndef LAB_CHAOS_H
#define LAB_CHAOS_H

#include "interloop/sync.h"
#include "lab/world.h"

#define CHAOS_RUNTIMES_MAX 4
#define CHAOS_SCRIPTS_MAX  14
#define CHAOS_STEPS_MAX    8 /* of one script */
#define CHAOS_PIECE_SIZE   8192

_Static_assert(CHAOS_SCRIPTS_MAX *CHAOS_STEPS_MAX <= WORLD_PARTS_MAX, "each step has a number");

/* ---- the plan ---- */

enum chaos_step_kind {
    CHAOS_GET,        /* a small answer, whole */
    CHAOS_POST,       /* likewise, and not to be processed twice */
    CHAOS_UPLOAD,     /* a POST whose body is made piece by piece */
    CHAOS_STREAM,     /* a larger answer, read piece by piece; `number` bytes */
    CHAOS_STREAM_END, /* likewise, but let go of half-way */
    CHAOS_CALL,       /* with a callback, and wait for it on a oneshot */
    CHAOS_CALL_END,   /* likewise, but cancelled after `ms` */
    CHAOS_BLOCK_ON,   /* il_block_on with runtime `number`, a GET there */
    CHAOS_SLEEP,
    CHAOS_YIELD,
    CHAOS_BLOCK,      /* user code that blocks its thread */
    CHAOS_SEMAPHORE,  /* take `number` permits, sleep, give them back */
    CHAOS_MUTEX,      /* lock, sleep, unlock */
    CHAOS_SEND,       /* into the channel; `number` bytes of a response go along, if any */
    CHAOS_RECEIVE,    /* from the channel; read the response to its end */
    CHAOS_TELL,       /* send on the script's oneshot */
    CHAOS_HEAR,       /* wait on the oneshot of script `number` */
    CHAOS_JOIN,       /* wait for script `number` */
    CHAOS_CANCEL,     /* cancel script `number` */
    CHAOS_CLOSE_IDLE, /* close what is idle in the client */
};

struct chaos_step {
    enum chaos_step_kind kind;
    unsigned number;
    unsigned client;
    uint32_t ms;
    uint32_t limit_ms; /* of a request, all together; 0: none */
    bool is_tls;       /* a request: over https, */
    bool is_other_tls; /* with other settings than the client's, */
    bool is_to_end;    /* asking for a body that ends with its connection */
};

enum chaos_role {
    CHAOS_ANY,
    CHAOS_SENDER,   /* sends into the channel, and waits for no script */
    CHAOS_RECEIVER, /* likewise */
};

struct chaos_script_plan {
    int runtime; /* index; -1: a plain thread */
    enum chaos_role role;
    bool is_late; /* begins when the faults have stopped, and must find all well */
    unsigned step_count;
    struct chaos_step steps[CHAOS_STEPS_MAX];
};

struct chaos_runtime_plan {
    enum il_runtime_kind kind;
    unsigned worker_count;
    uint32_t life_ms;  /* then it is ended; UINT32_MAX: with the world */
    uint32_t drain_ms; /* it may finish what it has for so long */
    uint32_t drive_ms; /* a current-thread runtime is driven for so long, */
    uint32_t park_ms;  /* then parked for so long, again and again */
};

enum chaos_scheme {
    CHAOS_HTTP,
    CHAOS_HTTPS,
    CHAOS_EITHER, /* drawn for each request */
};

struct chaos_plan {
    bool is_crowd; /* about the pool, and nothing else */
    bool is_rush;  /* few requests, after which nobody comes who makes good what is lost */
    bool has_late; /* some scripts begin when the faults have stopped */
    unsigned runtime_count, script_count, client_count;
    struct chaos_runtime_plan runtimes[CHAOS_RUNTIMES_MAX];
    struct chaos_script_plan scripts[CHAOS_SCRIPTS_MAX];
    struct {
        uint32_t connections_per_host_max, idle_per_host_max, idle_timeout_ms;
        bool no_keep_alive, is_http2, looks_around;
        enum chaos_scheme scheme;
        bool is_auto;      /* https: whichever protocol the server chooses */
        bool has_tls_made; /* it makes TLS settings itself, when the first request wants them */
    } clients[2];
    uint32_t permit_count, channel_capacity;
    uint32_t calm_ms; /* when the faults stop, if they are to stop */
};

/* Draw a plan of what this solution can do. */
void chaos_plan_draw(struct chaos_plan *plan, uint64_t seed, bool is_lively,
                     const struct solution *solution);

/* "get", "block-on". Static. */
const char *chaos_step_name(enum chaos_step_kind kind);

/* ---- what is there while it is played ---- */

struct chaos;

struct chaos_runtime {
    struct chaos *chaos;
    const struct chaos_runtime_plan *plan;
    struct actor actor; /* its name and its runtime; no thread */
    struct stage_thread *keeper;
    _Atomic bool is_ending; /* from here on its scripts may be told IL_ESHUTDOWN */
};

struct chaos_script {
    struct chaos *chaos;
    const struct chaos_script_plan *plan;
    struct chaos_runtime *runtime; /* NULL: a plain thread */
    unsigned index;
    char name[WORLD_NAME_SIZE];
    struct il_task *task;        /* chaos->mutex */
    struct stage_thread *thread; /* the main thread's */
    _Atomic bool is_cancelled;
    _Atomic bool is_finished;
    _Atomic unsigned at;              /* the step that it is at */
    struct il_oneshot_sender *sender; /* the script's own */
    bool has_told;                    /* likewise */
    struct il_oneshot_receiver *receiver;
    _Atomic bool is_receiver_taken;
};

/* One il_call_start. */
struct chaos_call {
    struct chaos_script *script;
    struct chaos_runtime *home;
    const struct chaos_step *step;
    char token[16];
    bool may_be_cancelled, has_limit;
    _Atomic bool is_started;
    _Atomic unsigned done_count;
    struct il_oneshot_sender *sender; /* tells the script; the callback's */
};

struct chaos {
    struct world *world;
    struct chaos_plan plan;
    struct stage_mutex *mutex;
    struct stage_event *is_over; /* all scripts are finished; the keepers may end */
    struct il_client *clients[2];
    struct il_tls *tls[2]; /* NULL: no https; the second differs in what it checks */
    struct il_semaphore *semaphore;
    struct il_mutex *lock;
    struct il_channel *channel;
    struct chaos_runtime runtimes[CHAOS_RUNTIMES_MAX];
    struct chaos_script scripts[CHAOS_SCRIPTS_MAX];
    struct chaos_call calls[CHAOS_SCRIPTS_MAX * CHAOS_STEPS_MAX];
    _Atomic unsigned call_count, finished_count;
    _Atomic int senders_left, receivers_left;
    _Atomic unsigned sent_count, received_count, freed_count; /* messages */
    _Atomic unsigned lock_holder_count;
    _Atomic bool is_abandoned; /* the run has its finding, and is left standing */
};

/* Do one step. False: the script is to end (cancelled, or its runtime is). */
bool chaos_step_do(struct chaos_script *script, const struct chaos_step *step);

/* What frees a message that nobody received. Any thread. */
void chaos_message_free(void *message);

/* ---- verdicts; any thread ---- */

/* An answer that is wrong, something that is there twice or not at all. */
__attribute__((format(printf, 2, 3))) void chaos_wrong(struct chaos *chaos, const char *format,
                                                       ...);

/* A step ended with an error. Is it one that it may end with? Else it is the run's. False: the
 * script is to end. */
bool chaos_judge_error(struct chaos_script *script, const struct chaos_step *step,
                       enum il_code code, const struct il_error *err);

#endif
