/* mutant.h: known bugs, kept so that whatever claims to find bugs can be tested.
 *
 * Where the library does something for a reason that only shows when threads meet in the wrong
 * moment, `if (IL_MUTANT(LOST_WAKE))` leaves it out. Compiled with -DIL_MUTANTS, one of them can be
 * switched on; in every other build IL_MUTANT is false to the compiler, and nothing of it is left.
 *
 * Only the tests of the explorer are linked with such a build (docs/explore.md). */
#ifndef IL_MUTANT_H
#define IL_MUTANT_H

#include <stdbool.h>
#include <stddef.h>

/* Name, as it is given on the command line, what is broken. */
#define IL_MUTANTS_LIST(X)                                                                         \
    X(LOST_WAKE, "lost-wake", "a loop goes to sleep without looking into its mailbox again")       \
    X(SEALED_MAIL, "sealed-mail", "a message to a loop that has ended is dropped silently")        \
    X(TAKE_OVER_JOBS, "take-over-jobs", "jobs that are ready are lost when a loop is taken over")  \
    X(TIMER_SLOT, "timer-slot", "cancelling a timer loses the others of its slot")                 \
    X(TOKEN_LOST, "token-lost", "a wake that comes before the wait is lost")                       \
    X(JOIN_ONE, "join-one", "the end of a task wakes one of those who wait for it")                \
    X(LINE_HEAD, "line-head", "a waiter that leaves a queue does not make the next one the head")  \
    X(CHANNEL_CLOSE, "channel-close", "closing a channel does not wake those who wait")            \
    X(ASSIGNED, "assigned", "a waiter is assigned a connection instead of being woken")            \
    X(ONE_LOOP, "one-loop", "what becomes free is told to the waiters of one loop only")           \
    X(WAKE_KEPT, "wake-kept", "a woken waiter that gives up does not pass the wake on")            \
    X(CANCEL_SLOT, "cancel-slot", "a cancelled call does not give its place in the pool back")     \
    X(PLACE_QUIET, "place-quiet", "a connection that is closed frees its place and wakes nobody")  \
    X(LEFTOVERS, "leftovers", "a connection is reused with bytes left over")                       \
    X(NOT_MOVED, "not-moved", "a connection that is taken stays watched by its old loop")          \
    X(EDGE_LOST, "edge-lost", "bytes that came while a response rested are not looked for")        \
    X(SHORT_BODY, "short-body", "a body cut short is taken for whole")                             \
    X(RETRY_UNSAFE, "retry-unsafe", "a POST that may have been processed is sent again")           \
    X(DOUBLE_DONE, "double-done", "cancelling a call that is over completes it a second time")     \
    X(EVICT_QUIET, "evict-quiet", "a call whose loop ends is not told")                            \
    X(OWNER_UNTOLD, "owner-untold", "who drives a session tells no other loop what came")          \
    X(SEAT_SHARED, "seat-shared", "a loop counts on the seat of another at its session")           \
    X(UNATTENDED, "unattended", "who waits for a session's places does not look after it")         \
    X(SOURCE_UNSENT, "source-unsent", "what a request's source has made is not sent")              \
    X(WINDOW_KEPT, "window-kept", "the session's window is lost with a body that nobody reads")    \
    X(WINDOW_QUIET, "window-quiet", "the server is not told that a body has been read")            \
    X(STREAM_SLOT, "stream-slot", "a stream that is given up does not free its place")             \
    X(UNSEEN_LOST, "unseen-lost", "a request that the server refused unseen is not sent again")    \
    X(SEEN_AGAIN, "seen-again", "a request that the server may have seen is taken for refused")    \
    X(TLS_DRAINED, "tls-drained", "what TLS still holds of what came is not looked for")           \
    X(TLS_ONE_WAY, "tls-one-way", "TLS that has to write is asked again when it can be read only") \
    X(TLS_DEAF, "tls-deaf", "a handshake that has to write waits for something to read")           \
    X(TLS_CUT, "tls-cut", "a body cut off without close_notify is taken for whole")                \
    X(TLS_ORPHAN, "tls-orphan", "a handshake is lost with the call that began it")                 \
    X(ALPN_IGNORED, "alpn-ignored", "HTTP/2 is spoken because it was offered, not chosen")         \
    X(TICKET_AGAIN, "ticket-again", "a ticket of TLS 1.3 is used more than once")                  \
    X(SCHEME_SHARED, "scheme-shared", "a connection in clear serves an https request")             \
    X(SETTINGS_SHARED, "settings-shared", "a connection with other TLS settings is reused")

enum il_mutant {
    IL_MUTANT_NONE,
#define X(name, text, does) IL_MUTANT_##name,
    IL_MUTANTS_LIST(X)
#undef X
};

#ifdef IL_MUTANTS
#define IL_MUTANT(name) (il_mutant_on == IL_MUTANT_##name)
extern enum il_mutant il_mutant_on; /* set before the first call into the library */
#else
#define IL_MUTANT(name) false
#endif

#endif
