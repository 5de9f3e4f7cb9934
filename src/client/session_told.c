/* session_told.c: telling the home loops what has come; and the memory of streams.
 *
 * Whoever drives a session collects the streams that something has come for, and posts their jobs
 * when it has let go of the mutex: one post for each loop, however many streams it has, and none
 * of them finds the mutex taken. Each stream is told of once, however much has come.
 *
 * Owns: what loops keep of finished streams. Threads: any, for telling. */
#include "client/session_stream.h"

/* ---- memory: a loop keeps what its finished streams leave behind ---- */

#define SPARES_MAX 64 /* of one loop; about 1 KiB each, and its headers */

/* A loop's; loop->held.streams. */
struct stream_spares {
    struct loop_guest guest;
    struct session_stream *first;
    uint32_t count;
};

static void stream_free(struct session_stream *x)
{
    h2_stream_deinit(&x->shared.h2);
    il_free(x);
}

static void spares_on_loop_end(struct loop_guest *guest)
{
    struct stream_spares *spares = il_container_of(guest, struct stream_spares, guest);

    while (spares->first != NULL) {
        struct session_stream *x = spares->first;

        spares->first = x->next_spare;
        stream_free(x);
    }
    il_free(spares);
}

/* NULL: no memory, or the loop is ending. */
static struct stream_spares *spares_of(struct il_loop *loop) IL_ON_LOOP(loop)
{
    if (loop->held.is_ending) {
        loop->held.streams = NULL; /* freed already, or about to be */
    } else if (IL_UNLIKELY(loop->held.streams == NULL)) {
        struct stream_spares *spares = il_calloc(1, sizeof(*spares));

        if (spares != NULL) {
            il_list_init(&spares->guest.link);
            spares->guest.on_loop_end = spares_on_loop_end;
            loop->held.streams = spares;
            loop_guest_add(loop, &spares->guest);
        }
    }
    return loop->held.streams;
}

struct session_stream *stream_take_spare(struct il_loop *loop)
{
    struct stream_spares *spares = loop->held.is_ending ? NULL : loop->held.streams;
    struct session_stream *x;

    if (IL_LIKELY(spares != NULL && spares->first != NULL)) {
        x = spares->first;
        spares->first = x->next_spare;
        spares->count--;
        return x;
    }
    x = il_calloc(1, sizeof(*x));
    if (x != NULL) {
        h2_stream_init(&x->shared.h2);
    }
    return x;
}

static void spares_give(struct session_stream *x, struct il_loop *loop)
{
    struct stream_spares *spares = NULL;

    if (loop_is_held_by_me(loop)) {
        il_assert_on_loop(loop);
        spares = spares_of(loop);
    }
    if (spares == NULL || spares->count == SPARES_MAX) {
        stream_free(x);
        return;
    }
    h2_stream_reset(&x->shared.h2);
    memset(x, 0, offsetof(struct session_stream, shared.h2));
    x->next_spare = spares->first;
    spares->first = x;
    spares->count++;
}

/* ---- references ---- */

void stream_unref(struct session_stream *x, uint32_t count)
{
    struct il_loop *home = x->home;

    /* Who has all of them needs not tell anybody that there are less. */
    if (atomic_load_explicit(&x->ref_count, memory_order_acquire) != count &&
        atomic_fetch_sub_explicit(&x->ref_count, count, memory_order_acq_rel) > count) {
        return;
    }
    il_bytes_deinit(&x->shared.source);
    il_bytes_deinit(&x->shared.chunks);
    session_unref(x->session);
    spares_give(x, home);
    (void)loop_unref(home);
}

/* ---- telling ---- */

static void list_locked(struct session_stream *x)
{
    if (!x->shared.is_told) {
        x->shared.is_told = true;
        x->shared.told_next = NULL;
        *x->session->shared.told_end = x;
        x->session->shared.told_end = &x->shared.told_next;
    }
}

void stream_tell_locked(struct session_stream *x)
{
    if (x->shared.reader != NULL) {
        party_wake(x->shared.reader);
    }
    if (!x->shared.is_home_posted && x->shared.response != NULL) {
        list_locked(x);
    }
}

void stream_tell_end_locked(struct session_stream *x)
{
    if (x->shared.reader != NULL) {
        party_wake(x->shared.reader);
    }
    list_locked(x);
}

/* Is the stream's home to be posted to? Then the job has a reference. */
static bool wants_job_locked(struct session_stream *x)
{
    if (x->shared.is_home_posted || x->shared.response == NULL ||
        (IL_MUTANT(OWNER_UNTOLD) && !loop_is_held_by_me(x->home))) {
        return false;
    }
    x->shared.is_home_posted = true;
    if (!x->shared.is_over) {
        atomic_fetch_add_explicit(&x->ref_count, 1, memory_order_relaxed);
    } /* else the session's */
    return true;
}

void session_collect_locked(struct session *session, struct session_told *ret_told)
{
    struct session_stream *x = session->shared.told_first;
    struct job **jobs_end = &ret_told->jobs;

    ret_told->ended = NULL;
    while (x != NULL) {
        struct session_stream *next = x->shared.told_next;

        x->shared.is_told = false;
        if (wants_job_locked(x)) {
            *jobs_end = &x->home_job;
            jobs_end = &x->home_job.next;
        } else if (x->shared.is_over) {
            x->shared.told_next = ret_told->ended;
            ret_told->ended = x;
        }
        x = next;
    }
    *jobs_end = NULL;
    session->shared.told_first = NULL;
    session->shared.told_end = &session->shared.told_first;
}

static struct session_stream *stream_of_job(struct job *job)
{
    return il_container_of(job, struct session_stream, home_job);
}

/* Take the jobs of the first one's home out of `jobs`, as they stand. */
static struct job *take_batch(struct job **jobs, const struct il_loop *home)
{
    struct job *batch = NULL;
    struct job **batch_end = &batch;
    struct job *job;

    while ((job = *jobs) != NULL) {
        if (stream_of_job(job)->home == home) {
            *jobs = job->next;
            *batch_end = job;
            batch_end = &job->next;
        } else {
            jobs = &job->next;
        }
    }
    *batch_end = NULL;
    return batch;
}

static void post_batch(struct il_loop *home, struct job *batch)
{
    if (loop_is_held_by_me(home)) {
        il_assert_on_loop(home);
        loop_push_all(home, batch);
        return;
    }
    if (loop_post_all(home, &batch)) {
        return;
    }
    while (batch != NULL) { /* it has ended: so have the calls */
        struct job *next = batch->next;

        stream_unref(stream_of_job(batch), 1);
        batch = next;
    }
}

void session_post_told(struct session_told *told)
{
    struct session_stream *x;

    while (told->jobs != NULL) {
        struct il_loop *home = stream_of_job(told->jobs)->home;

        post_batch(home, take_batch(&told->jobs, home));
    }
    while ((x = told->ended) != NULL) {
        told->ended = x->shared.told_next;
        stream_unref(x, 1);
    }
}
