/* peer.c: the book-keeping of other clients' pools, with its defects. See peer.h.
 *
 * One place, and a queue. The proof that a waiter hangs is not that time passes: whoever would have
 * to act is a task that has ended, or there is nobody at all.
 *
 * Owns: references to the tasks that the books name. Threads: any; peer->mutex guards all of it and
 * is a leaf. A waiter lives on the stack of its task. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "interloop/sync.h"
#include "lab/peer.h"
#include "lab/stage.h"

#define PEER_NS_PER_MS 1000000u
#define PEER_WHO_SIZE  64

struct peer_waiter {
    struct peer_waiter *next; /* a younger one */
    const char *path;
    struct il_oneshot_sender *wake; /* taken by whoever wakes it */
    struct il_task *task;           /* borrowed: its own */
    uint64_t since_ns;
};

/* A task as the books know it. */
struct peer_party {
    struct il_task *task; /* a reference; NULL: none */
    char who[PEER_WHO_SIZE];
};

struct peer {
    enum peer_kind kind;
    struct stage_mutex *mutex;

    /* ---- mutex ---- */
    bool is_taken;            /* the place; with PEER_COALESCES: the connection is being made */
    bool is_made;             /* PEER_COALESCES: the connection is there */
    struct peer_party holder; /* who has the place, say the books */
    struct peer_party woken;  /* who was woken last */
    unsigned waking_count;    /* who were woken and have not come yet */
    struct peer_waiter *oldest;
    uint64_t change_count;
};

struct peer *peer_new(enum peer_kind kind)
{
    struct peer *peer = calloc(1, sizeof(*peer));

    if (peer != NULL) {
        peer->kind = kind;
        peer->mutex = stage_mutex_new();
        if (peer->mutex == NULL) {
            free(peer);
            return NULL;
        }
    }
    return peer;
}

void peer_free(struct peer *peer)
{
    if (peer != NULL) {
        (void)il_task_unref(peer->holder.task);
        (void)il_task_unref(peer->woken.task);
        stage_mutex_free(peer->mutex);
        free(peer);
    }
}

/* ---- the books ---- */

static void party_set(struct peer_party *party, struct il_task *task, const char *path)
{
    struct il_task *before = party->task;

    party->task = task != NULL ? il_task_ref(task) : NULL;
    if (task != NULL) {
        (void)snprintf(party->who, sizeof(party->who), "task '%.24s' (%.24s)", il_task_name(task),
                       path);
    }
    (void)il_task_unref(before);
}

static void take_locked(struct peer *peer, struct il_task *task, const char *path)
{
    peer->is_taken = true;
    party_set(&peer->holder, task, path);
    peer->change_count++;
}

static void enqueue_locked(struct peer *peer, struct peer_waiter *waiter)
{
    struct peer_waiter **end = &peer->oldest;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = waiter;
    peer->change_count++;
}

/* False: somebody has taken it off the queue already, to wake it. */
static bool dequeue_locked(struct peer *peer, struct peer_waiter *waiter)
{
    for (struct peer_waiter **at = &peer->oldest; *at != NULL; at = &(*at)->next) {
        if (*at == waiter) {
            *at = waiter->next;
            peer->change_count++;
            return true;
        }
    }
    return false;
}

/* Take the oldest waiter off the queue; what is returned wakes it, outside of the lock. */
static struct il_oneshot_sender *pop_locked(struct peer *peer)
{
    struct peer_waiter *waiter = peer->oldest;

    peer->oldest = waiter->next;
    party_set(&peer->woken, waiter->task, waiter->path);
    peer->waking_count++;
    if (peer->kind == PEER_ASSIGNS) {
        take_locked(peer, waiter->task, waiter->path);
    }
    peer->change_count++;
    return waiter->wake;
}

static void wake(struct il_oneshot_sender *sender)
{
    struct il_error err;

    if (il_oneshot_send(sender, NULL, NULL, &err) != IL_OK) {
        /* It was cancelled, and has gone. A right pool would have to do something here. */
    }
    il_oneshot_sender_free(sender);
}

/* ---- waiting ---- */

/* Nothing is in the way. */
static bool may_pass_locked(const struct peer *peer)
{
    return peer->kind == PEER_COALESCES ? peer->is_made || !peer->is_taken
                                        : !peer->is_taken && peer->oldest == NULL;
}

static void pass_locked(struct peer *peer, const char *path)
{
    if (!peer->is_made) {
        take_locked(peer, il_task_current(), path);
    }
}

/* Come back from the queue. True: the request may go on; else it must queue again. */
static bool come_back_locked(struct peer *peer, struct peer_waiter *waiter, enum il_code code)
{
    if (dequeue_locked(peer, waiter)) {
        il_oneshot_sender_free(waiter->wake);
        return false;
    }
    peer->waking_count--;
    peer->change_count++;
    if (code != IL_OK || peer->kind == PEER_ASSIGNS) {
        return code == IL_OK; /* if not, here is where the place, or the wake, would be passed on */
    }
    if (peer->kind == PEER_WAKES && peer->is_taken) {
        return false;
    }
    pass_locked(peer, waiter->path);
    return true;
}

static enum il_code wait_turn(struct peer *peer, struct peer_waiter *waiter,
                              struct il_oneshot_receiver *turn, bool *ret_may_pass,
                              struct il_error *err)
{
    void *nothing;
    enum il_code code = il_oneshot_receive(turn, IL_FOREVER, &nothing, err);

    if (code == IL_OK) {
        code = il_sleep_ms(0); /* as in asyncio: who is cancelled hears of that, and nothing else */
    }
    stage_mutex_lock(peer->mutex);
    *ret_may_pass = come_back_locked(peer, waiter, code);
    stage_mutex_unlock(peer->mutex);
    il_oneshot_receiver_free(turn);
    if (code != IL_OK) {
        *err = (struct il_error){ .code = code, .phase = IL_PHASE_POOL_WAIT };
        (void)snprintf(err->message, sizeof(err->message), "%s: waiting for a connection: %s",
                       waiter->path, il_code_text(code));
    }
    return code;
}

enum il_code peer_enter(struct peer *peer, const char *path, struct il_error *err)
{
    bool may_pass = false;
    enum il_code code = IL_OK;

    while (code == IL_OK && !may_pass) {
        struct il_oneshot_receiver *turn;
        struct peer_waiter waiter = { .path = path,
                                      .task = il_task_current(),
                                      .since_ns = il_now_ns() };

        code = il_oneshot_new(&waiter.wake, &turn, err);
        if (code != IL_OK) {
            break;
        }
        stage_mutex_lock(peer->mutex);
        may_pass = may_pass_locked(peer);
        if (may_pass) {
            pass_locked(peer, path);
        } else {
            enqueue_locked(peer, &waiter);
        }
        stage_mutex_unlock(peer->mutex);
        if (may_pass) {
            il_oneshot_sender_free(waiter.wake);
            il_oneshot_receiver_free(turn);
        } else {
            code = wait_turn(peer, &waiter, turn, &may_pass, err);
        }
    }
    return code;
}

/* The connection is made: everybody may use it. */
static void leave_maker(struct peer *peer)
{
    bool has_more = true;

    while (has_more) {
        struct il_oneshot_sender *sender = NULL;

        stage_mutex_lock(peer->mutex);
        peer->is_made = true;
        peer->is_taken = false;
        has_more = peer->oldest != NULL;
        if (has_more) {
            sender = pop_locked(peer);
        }
        stage_mutex_unlock(peer->mutex);
        if (has_more) {
            wake(sender);
        }
    }
}

void peer_leave(struct peer *peer, enum il_code code)
{
    struct il_oneshot_sender *sender = NULL;

    if (peer->kind == PEER_COALESCES) {
        if (code == IL_OK) {
            leave_maker(peer);
        } /* else: here is where the next one would be told to make it */
        return;
    }
    stage_mutex_lock(peer->mutex);
    peer->is_taken = false;
    party_set(&peer->holder, NULL, "");
    peer->change_count++;
    if (peer->oldest != NULL) {
        sender = pop_locked(peer);
    }
    stage_mutex_unlock(peer->mutex);
    if (sender != NULL) {
        wake(sender);
    }
}

/* ---- looking at it ---- */

__attribute__((format(printf, 6, 7))) static void add_link(struct il_watch_request *row,
                                                           const char *what, const char *who,
                                                           const char *state, uint64_t since_ms,
                                                           const char *format, ...)
{
    struct il_watch_link *link = &row->links[row->link_count++];
    va_list args;

    (void)snprintf(link->what, sizeof(link->what), "%s", what);
    (void)snprintf(link->who, sizeof(link->who), "%s", who);
    (void)snprintf(link->state, sizeof(link->state), "%s", state);
    link->since_ms = since_ms;
    va_start(args, format);
    (void)vsnprintf(link->detail, sizeof(link->detail), format, args);
    va_end(args);
}

/* A task of the books: will it act? */
static void look_at_party_locked(const struct peer_party *party, const char *when_gone,
                                 struct il_watch_request *row)
{
    if (party->task != NULL && il_task_is_finished(party->task)) {
        add_link(row, "task", party->who, "gone", 0, "%s", when_gone);
        row->verdict = IL_VERDICT_HUNG;
    } else {
        add_link(row, "task", party->who, "there", 0, "it gives back what it has when it is done");
    }
}

static void look_locked(const struct peer *peer, struct il_watch_request *row)
{
    switch (peer->kind) {
    case PEER_NONE:
        break;
    case PEER_ASSIGNS:
        add_link(row, "pool", "the pool's books", "1 of 1 places in use", row->phase_ms,
                 "its place is assigned, and comes back when whoever has it gives it back");
        look_at_party_locked(&peer->holder,
                             "it was cancelled after the place had been assigned to it, and has "
                             "ended; nobody will give the place back",
                             row);
        break;
    case PEER_WAKES:
        if (peer->is_taken || peer->waking_count > 0) {
            add_link(row, "pool", "the pool's books", "1 of 1 places in use", row->phase_ms,
                     "or about to be: a waiter has been woken");
            break;
        }
        add_link(row, "pool", "the pool's books", "1 of 1 places free", row->phase_ms,
                 "and yet there is a queue: whoever is to go first must be woken, and no wake-up "
                 "is on its way");
        look_at_party_locked(&peer->woken,
                             "it was the one that was woken; it was cancelled, and has not passed "
                             "the wake-up on",
                             row);
        break;
    case PEER_COALESCES:
        add_link(row, "pool", "the pool's books", "being connected", row->phase_ms,
                 "the first request makes the connection for all");
        look_at_party_locked(&peer->holder,
                             "it had begun to make the connection, was cancelled, and has ended; "
                             "nobody makes it any more",
                             row);
        break;
    }
}

static const struct peer_waiter *find_locked(const struct peer *peer, const char *path)
{
    const struct peer_waiter *waiter = peer->oldest;

    while (waiter != NULL && strcmp(waiter->path, path) != 0) {
        waiter = waiter->next;
    }
    return waiter;
}

bool peer_look(struct peer *peer, const char *path, struct il_watch_request *ret_row)
{
    uint64_t now_ns = il_now_ns();
    const struct peer_waiter *waiter;

    memset(ret_row, 0, sizeof(*ret_row));
    stage_mutex_lock(peer->mutex);
    waiter = find_locked(peer, path);
    if (waiter != NULL) {
        ret_row->phase = IL_PHASE_POOL_WAIT;
        ret_row->phase_ms =
            now_ns > waiter->since_ns ? (now_ns - waiter->since_ns) / PEER_NS_PER_MS : 0;
        ret_row->age_ms = ret_row->phase_ms;
        ret_row->stamp = peer->change_count;
        ret_row->verdict = IL_VERDICT_LIVE;
        (void)snprintf(ret_row->path, sizeof(ret_row->path), "%s", path);
        add_link(ret_row, "request", path, il_phase_name(IL_PHASE_POOL_WAIT), ret_row->phase_ms,
                 "task '%s' waits for its turn", il_task_name(waiter->task));
        look_locked(peer, ret_row);
    }
    stage_mutex_unlock(peer->mutex);
    return waiter != NULL;
}
