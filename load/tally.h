/* tally.h: what has come of the requests, counted.
 *
 * Threads: tally_record_... from any number of them at once. tally_add reads another one while that
 * is being written, without holding it up: a progress line may be a request behind itself, a report
 * is made when all has ended. */
#ifndef LOAD_TALLY_H
#define LOAD_TALLY_H

#include <pthread.h>

#include <interloop/client.h>

#include "histogram.h"

#define TALLY_STATUS_MAX 600 /* 100 to 599; others count as TALLY_STATUS_ODD */
#define TALLY_STATUS_ODD 0
#define TALLY_KINDS_MAX  24 /* of errors that are told apart; those beyond count as one */

/* Errors with the same code, in the same phase, for the same reason of the system's. */
struct tally_kind {
    enum il_code code;
    enum il_phase phase;
    int sys_errno;
    uint64_t count;
    char message[IL_ERROR_MESSAGE_SIZE]; /* of the first */
};

/* The parts of an answered request's time, in their order. */
enum tally_part {
    TALLY_QUEUED,     /* due, but not yet started: all --connections were busy, or we were late */
    TALLY_CONNECTING, /* until it had a connection, on those that did not find one open */
    TALLY_SENDING,
    TALLY_WAITING, /* for the first byte */
    TALLY_READING,
    TALLY_PART_COUNT,
};

struct tally_part_time {
    _Atomic uint64_t count, sum_ns, max_ns;
};

struct tally {
    /* Written with mutex held, read by anybody. */
    struct histogram latencies; /* answered, timed out, and without an answer at the end */
    struct tally_part_time parts[TALLY_PART_COUNT];
    _Atomic uint64_t statuses[TALLY_STATUS_MAX];
    _Atomic uint64_t answered;   /* completely, with whatever status */
    _Atomic uint64_t http_2;     /* of those, over HTTP/2 */
    _Atomic uint64_t in_time;    /* of those, before the run's end */
    _Atomic uint64_t failed;     /* no complete answer */
    _Atomic uint64_t unfinished; /* without an answer when the run was over */
    _Atomic uint64_t unsent;     /* due, but never started */
    _Atomic uint64_t body_bytes; /* received */
    _Atomic uint64_t in_time_bytes;
    _Atomic uint64_t last_done_ns;

    struct { /* with mutex held */
        struct tally_kind kinds[TALLY_KINDS_MAX];
        unsigned kind_count;
        uint64_t other_count;
    } shared;
    /* A leaf; nothing is called under it. Contended only when the library has lent the loop of a
     * task that was interrupted for long to another: one lock costs less than fifteen additions
     * that would have to be atomic. */
    pthread_mutex_t mutex;
};

/* False: out of memory, and nothing is held. */
bool tally_init(struct tally *tally);
void tally_deinit(struct tally *tally);

/* When a request was due, when it was started, when it was over. */
struct tally_times {
    uint64_t due_ns, started_ns, done_ns;
    bool is_in_time;
};

void tally_record_answer(struct tally *tally, const struct tally_times *times,
                         const struct il_response *response, uint64_t body_bytes);
void tally_record_failure(struct tally *tally, const struct tally_times *times,
                          const struct il_error *err);

/* One that has waited since `due_ns` and will not be answered any more. */
void tally_record_unfinished(struct tally *tally, uint64_t due_ns, uint64_t now_ns);
void tally_record_unsent(struct tally *tally, uint64_t due_ns, uint64_t now_ns);

/* Nobody else may use `tally` meanwhile. */
void tally_clear(struct tally *tally);
void tally_add(struct tally *tally, struct tally *other);

/* Of those answered, how many with a status of 400 or more, or none that HTTP knows. */
uint64_t tally_bad_statuses(const struct tally *tally);

#endif
