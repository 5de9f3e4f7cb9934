/* session_flush.c: what the calls of one turn of a loop have to send goes out together.
 *
 * Sixty calls that begin in one turn would be sixty small writes to one socket. Instead their loop
 * remembers the session, and sends at the end of what it does in this turn, before it looks at its
 * sockets again. Whoever drives the session meanwhile sends what there is: the bytes belong to the
 * session, and only the reminder to the loop. So a loop that stops in between delays nobody but its
 * own calls.
 *
 * Owns: a loop's reminders; a reference to each session that is among them.
 * Threads: the one that holds the loop. Ends: with the loop. */
#include "client/session.h"

#define REMINDERS_MAX 16 /* sessions that one turn can have; those beyond are sent to at once */

/* A loop's; loop->held.reminders. */
struct reminders {
    struct loop_guest guest;
    struct job job; /* queued while there are any */
    struct session *sessions[REMINDERS_MAX];
    uint32_t count;
    bool is_ending; /* the loop ends: the job is the last who needs the memory */
};

static enum loop_result reminders_on_job(struct il_loop *loop, struct job *job)
{
    struct reminders *reminders = il_container_of(job, struct reminders, job);
    uint32_t count = reminders->count;

    reminders->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct session *session = reminders->sessions[i];

        session_lock(session);
        session_flush_locked(session);
        session_unlock(session);
        session_unref(session);
    }
    il_assert(reminders->count == 0); /* nothing begins in here */
    if (reminders->is_ending) {
        il_free(reminders);
    }
    return LOOP_HELD;
}

static void reminders_on_loop_end(struct loop_guest *guest)
{
    struct reminders *reminders = il_container_of(guest, struct reminders, guest);

    reminders->is_ending = true;
    if (reminders->count == 0) {
        il_free(reminders);
    }
}

/* NULL: no memory, or the loop is ending. */
static struct reminders *reminders_of(struct il_loop *loop) IL_ON_LOOP(loop)
{
    struct reminders *reminders = loop->held.reminders;

    if (loop->held.is_ending) {
        return NULL;
    }
    if (IL_UNLIKELY(reminders == NULL)) {
        reminders = il_calloc(1, sizeof(*reminders));
        if (reminders != NULL) {
            il_list_init(&reminders->guest.link);
            reminders->guest.on_loop_end = reminders_on_loop_end;
            reminders->job.run = reminders_on_job;
            loop->held.reminders = reminders;
            loop_guest_add(loop, &reminders->guest);
        }
    }
    return reminders;
}

/* Is the session among them from now on? */
static bool reminders_add(struct reminders *reminders, struct session *session,
                          struct il_loop *loop) IL_ON_LOOP(loop)
{
    for (uint32_t i = 0; i < reminders->count; i++) {
        if (reminders->sessions[i] == session) {
            return true;
        }
    }
    if (reminders->count == REMINDERS_MAX) {
        return false;
    }
    if (reminders->count == 0) {
        loop_push_late(loop, &reminders->job);
    }
    reminders->sessions[reminders->count++] = session_ref(session);
    return true;
}

void session_flush_soon_locked(struct session *session, struct il_loop *loop)
{
    struct reminders *reminders = NULL;

    il_assert_on_loop(loop);
    if (session->driver == NULL) {
        reminders = reminders_of(loop);
    }
    if (reminders == NULL || !reminders_add(reminders, session, loop)) {
        session_flush_locked(session);
    }
}
