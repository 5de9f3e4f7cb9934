/* stage.h: what the causes stand on: threads, waiting, blocking, and the opposite side.
 *
 * A cause and a solution reach the world through these functions and the public headers only, so
 * that the same program can be played on another stage. stage_real.c has real threads, the real
 * clock and the lab's server on loopback; stage_sim.c is within a simulated world.
 *
 * Waiting here blocks the thread, as blocking user code does: in a task it is meant to. A time is
 * in milliseconds from now. Thread: any, unless a function says otherwise. */
#ifndef LAB_STAGE_H
#define LAB_STAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "interloop/error.h"

#define LAB_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define STAGE_THREAD_NAME_SIZE 16

enum stage_kind {
    STAGE_REAL,
    STAGE_SIM, /* within sim_run() only (sim/sim.h) */
};

/* Choose the stage; the real one to begin with. Before anything else here, or after all is ended.
 */
void stage_choose(enum stage_kind kind);

/* ---- threads ---- */

struct stage_thread;

/* Start a thread; `name` is cut to 15 bytes. NULL: the system refused. Ends with
 * stage_thread_join. */
struct stage_thread *stage_thread_start(const char *name, void (*run)(void *arg), void *arg);

/* Wait until it has ended, and free it. NULL is nothing. Not in a task. */
void stage_thread_join(struct stage_thread *thread);

/* The name of the thread that we are on. */
void stage_thread_name(char name[STAGE_THREAD_NAME_SIZE]);

void stage_sleep_ms(uint64_t ms);

/* ---- locks: leaves, held for a moment ---- */

struct stage_mutex;

struct stage_mutex *stage_mutex_new(void); /* NULL: out of memory */
void stage_mutex_free(struct stage_mutex *mutex);
void stage_mutex_lock(struct stage_mutex *mutex);
void stage_mutex_unlock(struct stage_mutex *mutex);

/* ---- events: set once, or reset and set again ---- */

struct stage_event;

struct stage_event *stage_event_new(void); /* NULL: out of memory */
void stage_event_free(struct stage_event *event);
void stage_event_set(struct stage_event *event);
void stage_event_reset(struct stage_event *event);

/* Wait until it is set. False: it was not, in so many milliseconds. */
bool stage_event_wait(struct stage_event *event, uint64_t timeout_ms);

/* The same, named for stack traces: a thread that has work to do and does something else. */
bool stage_user_code_blocking_its_thread(struct stage_event *event, uint64_t timeout_ms);

/* ---- what the process holds ---- */

struct stage_resources {
    unsigned fd_count;
    unsigned thread_count;
};

void stage_resources(struct stage_resources *ret_resources);

/* ---- the server (lab/server.h); only what the causes need of it ---- */

struct stage_server;

/* Start one that answers at most `answering_max` requests at a time; 0: no limit. With `has_tls` it
 * speaks TLS; the simulated one speaks TLS with whoever begins with it. */
IL_MUST_USE enum il_code stage_server_start(uint64_t answering_max, bool has_tls,
                                            struct stage_server **ret_server, struct il_error *err);
void stage_server_stop(struct stage_server *server); /* NULL is nothing */

uint16_t stage_server_port(const struct stage_server *server);

/* The CA to be trusted, in PEM; NULL without TLS, and for the simulated one. Lives as long as the
 * server. */
const char *stage_server_ca(const struct stage_server *server);

/* Wait until `count` requests stand at the gate; until exactly so many connections are idle, are
 * open. False: they were not, in so many milliseconds. */
bool stage_server_wait_held(struct stage_server *server, const char *gate, uint64_t count,
                            uint64_t timeout_ms);
bool stage_server_wait_idle(struct stage_server *server, uint64_t count, uint64_t timeout_ms);
bool stage_server_wait_open(struct stage_server *server, uint64_t count, uint64_t timeout_ms);

/* Open the gate for good. */
void stage_server_release(struct stage_server *server, const char *gate);

/* Close the connections that are idle now; says how many. */
uint64_t stage_server_close_idle(struct stage_server *server);

/* Write a whole response that nobody asked for onto every idle connection, then close it, as
 * servers do that send 408 to a connection that was idle for too long; says how many. */
uint64_t stage_server_scold_idle(struct stage_server *server);

/* Close the connections whose requests have not been answered; says how many. So it looks to a
 * client whose request crosses with the end of the server's patience with an idle connection. */
uint64_t stage_server_close_held(struct stage_server *server);

/* Let new connections stall in the handshake, and let them in again. */
IL_MUST_USE enum il_code stage_server_stall(struct stage_server *server, struct il_error *err);
void stage_server_unstall(struct stage_server *server);

struct stage_server_counts {
    uint64_t open;       /* connections */
    uint64_t accepted;   /* connections, ever */
    uint64_t requests;   /* ever */
    uint64_t answering;  /* at the moment */
    uint64_t complaints; /* of what no client may send; simulated only */
};

void stage_server_counts(struct stage_server *server, struct stage_server_counts *ret_counts);

/* How often a whole request with this path (without its query) has come; 0 where that is not
 * recorded: on the real stage. */
unsigned stage_server_seen(struct stage_server *server, const char *path);

/* Does `data` hold the bytes that /bytes/N?seed=S has from `offset` on? */
bool stage_pattern_matches(const char *data, size_t size, uint64_t seed, uint64_t offset);

#endif
