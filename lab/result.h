/* result.h: what one run of one cause under one solution leaves: plain data, without a pointer in
 * it, so that it can be written by one process and read by another. */
#ifndef LAB_RESULT_H
#define LAB_RESULT_H

#include <stdarg.h>
#include <stdbool.h>

#include "interloop/watch.h"

/* From the best to the worst; a run is as good as the worst of its requests. */
enum lab_verdict {
    LAB_OK,
    LAB_SLOW,    /* late, but live all the time */
    LAB_ERROR,   /* a clear error, in time */
    LAB_STARVED, /* the chain of waits ends at a party stuck in user code */
    LAB_HUNG,    /* it ends at something that will never act */
    LAB_WRONG,   /* a truncated or foreign answer, taken for a success */
};
#define LAB_VERDICT_COUNT (LAB_WRONG + 1)

/* "ok", "slow" and so on. Static. */
const char *lab_verdict_name(enum lab_verdict verdict);

/* What the word means, for the legend. Static. */
const char *lab_verdict_meaning(enum lab_verdict verdict);

#define RESULT_NAME_SIZE 20
#define RESULT_NOTE_SIZE 240

struct result {
    bool is_complete;   /* the run came to its end */
    bool is_broken;     /* it could not be carried out, or it left something behind */
    bool is_impossible; /* and that was the machine's fault: no memory, no port */
    char broken[RESULT_NOTE_SIZE];
    bool has_left; /* it left something behind: what */
    char left[RESULT_NOTE_SIZE];
    bool is_certain; /* nothing that was done to the run on purpose excuses the verdict */

    enum lab_verdict verdict;
    uint32_t elapsed_ms;
    uint32_t request_count; /* those that were judged */
    uint32_t counts[LAB_VERDICT_COUNT];
    struct il_error error;       /* of the first that failed; code IL_OK: none did */
    char note[RESULT_NOTE_SIZE]; /* "8 hung, then 2 ok" */

    unsigned link_count; /* the chain of the first request that had the run's verdict */
    struct il_watch_link links[IL_WATCH_LINKS_MAX];
};

/* ---- what happened, one after the other ---- */

#define TIMELINE_EVENTS_MAX      600
#define TIMELINE_EVENT_TEXT_SIZE 184

struct timeline_event {
    uint32_t at_ms;
    char runtime[RESULT_NAME_SIZE]; /* "" on a plain thread */
    char thread[RESULT_NAME_SIZE];
    char text[TIMELINE_EVENT_TEXT_SIZE];
};

struct timeline {
    uint32_t count; /* may be more than were kept */
    struct timeline_event events[TIMELINE_EVENTS_MAX];
};

#endif
