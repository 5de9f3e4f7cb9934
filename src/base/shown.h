/* shown.h: what a process that uses the library shows to one that looks at it from outside.
 *
 * `interloop doctor` reads the registries of clients, loops and desks in the memory of a live
 * process, without the process taking part. For that it must find them, and know how they are made.
 * Each module that keeps such records says so itself, beside their definition: a *shown* table has
 * the address of the list and the offsets of the fields that matter, and an ELF note named
 * "interloop" says where the table is. The note is loaded with the code and survives strip, static
 * linking and --gc-sections. All of it is read-only data: showing costs nothing at run time.
 *
 * Who reads takes no lock, so what he reads may be torn, and he must check all of it. The library
 * promises no more than that the tables fit its own structures. A change of what a field means, or
 * of this header, makes SHOWN_VERSION one more; a field that moves needs nothing.
 *
 * Threads: none; constants. */
#ifndef IL_BASE_SHOWN_H
#define IL_BASE_SHOWN_H

#include "base/base.h"

#define SHOWN_MAGIC      UINT64_C(0x6c692073686f776e) /* "il shown" */
#define SHOWN_VERSION    4
#define SHOWN_NOTE_NAME  "interloop" /* the note's type is the kind */
#define SHOWN_FIELDS_MAX 32

/* Kinds: plain numbers, because the assembler reads them too. */
#define SHOWN_CLIENTS    1 /* src/client; root: list of clients */
#define SHOWN_BOUND      2 /* src/client: the bound driver; no root */
#define SHOWN_LOOPS      3 /* src/loop; root: list of loops */
#define SHOWN_TASKS      4 /* src/rt; no root: a loop's owner leads there */
#define SHOWN_DESKS      5 /* src/share; root: list of desks */
#define SHOWN_SESSIONS   6 /* src/client: HTTP/2 connections; no root: a client leads there */
#define SHOWN_KIND_COUNT 7

/* The fields of each kind, by what they are; the values in a table are offsets. */

enum shown_client_field {
    SHOWN_CLIENT_LINK,      /* struct il_list, as all that are named LINK or LIST */
    SHOWN_CLIENT_NAME,      /* char[], ends in NUL */
    SHOWN_CLIENT_CALL_LIST, /* the first of several: SHOWN_SHELF_* */
    SHOWN_CLIENT_CONN_LIST,
    SHOWN_CALL_LINK,
    SHOWN_CALL_ID,             /* uint64_t */
    SHOWN_CALL_REQUEST,        /* pointer */
    SHOWN_CALL_HOME,           /* pointer to the loop */
    SHOWN_CALL_PARTY,          /* pointer to who waits; NULL: a callback */
    SHOWN_CALL_PHASE,          /* int, enum il_phase */
    SHOWN_CALL_PHASE_SINCE_NS, /* uint64_t, CLOCK_MONOTONIC, as all that are named NS */
    SHOWN_CALL_STARTED_NS,
    SHOWN_CALL_CONN_ID,           /* uint64_t; 0: none */
    SHOWN_CALL_TASK_ID,           /* uint64_t; 0: none */
    SHOWN_REQUEST_METHOD,         /* pointer to text */
    SHOWN_REQUEST_HOST,           /* pointer to text */
    SHOWN_REQUEST_PORT,           /* uint16_t */
    SHOWN_REQUEST_PATH_AND_QUERY, /* pointer to text; the query is not to be shown to anybody */
    SHOWN_CONN_LINK,
    SHOWN_CONN_ID,            /* uint64_t */
    SHOWN_CONN_FD,            /* int */
    SHOWN_CONN_ORIGIN,        /* pointer */
    SHOWN_CONN_LOOP_ID,       /* uint64_t: who drives it; 0: it rests; not of bound ones */
    SHOWN_CONN_IS_IDLE,       /* bool */
    SHOWN_CONN_IS_EXCHANGING, /* bool */
    SHOWN_CONN_BOUND,         /* pointer; NULL: it belongs to no loop */
    SHOWN_ORIGIN_PORT,        /* uint16_t */
    SHOWN_ORIGIN_HOST,        /* char[] */
    SHOWN_SHELF_SIZE,         /* no offset: from one list of calls to the next */
    SHOWN_SHELF_COUNT,        /* no offset: how many lists */
    SHOWN_CLIENT_FIELD_COUNT
};

enum shown_bound_field {
    SHOWN_BOUND_LOOP, /* pointer to the loop */
    SHOWN_BOUND_FIELD_COUNT
};

enum shown_session_field {
    SHOWN_SESSION_LIST, /* in the client */
    SHOWN_SESSION_LINK,
    SHOWN_SESSION_ID,         /* uint64_t; of one series with those of connections */
    SHOWN_SESSION_FD,         /* int */
    SHOWN_SESSION_ORIGIN,     /* pointer, as of a connection */
    SHOWN_SESSION_DRIVER,     /* pointer to the loop; NULL: whoever has a stream drives it */
    SHOWN_SESSION_SLOT_COUNT, /* int: streams that calls have; 0: it is idle */
    SHOWN_SESSION_IS_UNSENT,  /* bool: bytes wait that only the driver may send */
    SHOWN_SESSION_WINDOW,     /* uint32_t: what the server may still send; of bound ones alone */
    SHOWN_SESSION_HOARDER,    /* uint64_t: the loop for which a body came last that lies unread */
    SHOWN_SESSION_FIELD_COUNT
};

enum shown_loop_field {
    SHOWN_LOOP_LINK,
    SHOWN_LOOP_ID,             /* uint64_t */
    SHOWN_LOOP_NAME,           /* char[] */
    SHOWN_LOOP_POLLER,         /* pointer */
    SHOWN_LOOP_OWNER,          /* pointer: a thread loop's thread, else the runtime's part */
    SHOWN_LOOP_IS_THREAD_LOOP, /* bool */
    SHOWN_LOOP_HOLD,           /* uint64_t, the low two bits an enum loop_hold_state */
    SHOWN_LOOP_SINCE_NS,
    SHOWN_LOOP_TURN_COUNT,    /* uint64_t */
    SHOWN_LOOP_IS_POLLING,    /* bool */
    SHOWN_LOOP_KERNEL_THREAD, /* int: holds the loop, or held it last */
    SHOWN_POLLER_FD,          /* int: the epoll set */
    SHOWN_LOOP_FIELD_COUNT
};

/* As enum loop_hold_state; the library asserts that they are equal. */
enum shown_hold { SHOWN_HOLD_FREE, SHOWN_HOLD_IN_LIB, SHOWN_HOLD_IN_USER, SHOWN_HOLD_ENDED };

enum shown_task_field {
    SHOWN_PART_RUNTIME,   /* pointer; of the runtime's part on one loop */
    SHOWN_PART_TASK_LIST, /* its tasks */
    SHOWN_RUNTIME_NAME,   /* char[] */
    SHOWN_RUNTIME_KIND,   /* int, enum il_runtime_kind */
    SHOWN_TASK_LINK,
    SHOWN_TASK_ID,         /* uint64_t */
    SHOWN_TASK_NAME,       /* char[] */
    SHOWN_TASK_PART,       /* pointer to the runtime's part */
    SHOWN_TASK_IS_RUNNING, /* bool */
    SHOWN_TASK_IS_AWAY,    /* bool */
    SHOWN_TASK_PARTY,      /* the party in the task */
    SHOWN_PARTY_IS_TASK,   /* bool */
    SHOWN_PARTY_LOOP,      /* pointer to the loop */
    SHOWN_TASK_FIELD_COUNT
};

enum shown_desk_field {
    SHOWN_DESK_LINK,
    SHOWN_DESK_KIND,  /* pointer to text */
    SHOWN_DESK_NAME,  /* char[] */
    SHOWN_DESK_OWNER, /* char[]: the runtime's name */
    SHOWN_DESK_LOOP,  /* pointer; may be NULL */
    SHOWN_DESK_TICKET_LIST,
    SHOWN_TICKET_LINK,
    SHOWN_TICKET_ID,      /* uint64_t */
    SHOWN_TICKET_REQUEST, /* pointer */
    SHOWN_TICKET_WAITER,  /* pointer to a party */
    SHOWN_TICKET_STATE,   /* int, enum shown_ticket_state */
    SHOWN_TICKET_SINCE_NS,
    SHOWN_TICKET_HANDED_OVER_NS,
    SHOWN_TICKET_LOOP,    /* pointer; may be NULL */
    SHOWN_TICKET_TASK_ID, /* uint64_t; 0: none */
    SHOWN_DESK_FIELD_COUNT
};

/* As enum ticket_state; the library asserts that they are equal. */
enum shown_ticket_state {
    SHOWN_TICKET_ARRIVING,
    SHOWN_TICKET_QUEUED,
    SHOWN_TICKET_TAKEN,
    SHOWN_TICKET_OVER
};

_Static_assert((int)SHOWN_CLIENT_FIELD_COUNT <= SHOWN_FIELDS_MAX, "the largest table fits");

struct shown {
    uint64_t magic;
    uint32_t version;
    uint32_t kind;
    uint32_t field_count;
    uint32_t pointer_size;
    const void *root; /* struct il_list; NULL: none */
    uint32_t offsets[SHOWN_FIELDS_MAX];
};

/* clang-format off */
#define SHOWN_TEXT_(x) #x
#define SHOWN_TEXT(x)  SHOWN_TEXT_(x)

/* Define the table `name` and the note that leads to it, once in a file, at its top level:
 *     SHOWN_DEFINE(shown_bound, SHOWN_BOUND, SHOWN_BOUND_FIELD_COUNT, NULL,
 *                  [SHOWN_BOUND_LOOP] = offsetof(struct bound_conn, loop)); */
#define SHOWN_DEFINE(name, kind_is, count, list, ...)                                              \
    extern const struct shown name;                                                                \
    __attribute__((used)) const struct shown name = {                                              \
        .magic = SHOWN_MAGIC,                                                                      \
        .version = SHOWN_VERSION,                                                                  \
        .kind = (kind_is),                                                                     \
        .field_count = (count),                                                                    \
        .pointer_size = sizeof(void *),                                                            \
        .root = (list),                                                                            \
        .offsets = { __VA_ARGS__ },                                                                \
    };                                                                                             \
    __asm__(".pushsection .note.interloop,\"a\",%note\n"                                           \
            ".balign 4\n"                                                                          \
            ".long 10, 8, " SHOWN_TEXT(kind_is) "\n"                                           \
            ".asciz \"" SHOWN_NOTE_NAME "\"\n"                                                     \
            ".balign 4\n"                                                                          \
            "771: .quad " #name " - 771b\n"                                                        \
            ".popsection\n")
/* clang-format on */

#endif
