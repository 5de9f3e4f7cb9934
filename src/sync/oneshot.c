/* oneshot.c: one value, sent once, from one place to another.
 *
 * Owns: the value while it is sent and not received. Both halves lie in one piece of memory, which
 *   goes with the second of them to be freed.
 * Threads: each half one at a time, the two halves at once. locked.mutex is a leaf.
 * Ends: when both halves have been freed. */
#include "sync/handle.h"

struct il_oneshot_sender {
    struct oneshot *oneshot;
    bool is_spent; /* the sender's user only */
};

struct il_oneshot_receiver {
    struct oneshot *oneshot;
};

/*   EMPTY ------ send ------> FULL ---- receive, receiver freed ---> OVER
 *     |                                                               ^
 *     +--------- either half freed -----------------------------------+    */
enum oneshot_state {
    ONESHOT_EMPTY,
    ONESHOT_FULL,
    ONESHOT_OVER,
};

#define TO(state) (1u << (state))
static const unsigned oneshot_next[] = {
    [ONESHOT_EMPTY] = TO(ONESHOT_FULL) | TO(ONESHOT_OVER),
    [ONESHOT_FULL] = TO(ONESHOT_OVER),
    [ONESHOT_OVER] = 0,
};

struct oneshot {
    struct handle handle; /* one reference for each half */
    struct il_oneshot_sender sender;
    struct il_oneshot_receiver receiver;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct waitq waiters; /* its amount: 0 while EMPTY, else WAITQ_ALL */
        enum oneshot_state state;
        void *value; /* while FULL */
        il_value_free_fn *free_value;
    } locked;
};
_Static_assert(offsetof(struct oneshot, handle) == 0, "handle_check");

static void oneshot_set_state_locked(struct oneshot *oneshot, enum oneshot_state to)
{
    il_assert(oneshot_next[oneshot->locked.state] & TO(to));
    oneshot->locked.state = to;
    oneshot->locked.waiters.amount = WAITQ_ALL; /* whatever it is, it is no longer EMPTY */
}

static void oneshot_unlock(struct oneshot *oneshot) IL_RELEASES(oneshot->locked.mutex)
{
    waitq_unlock(&oneshot->locked.waiters, NULL, &oneshot->locked.mutex);
}

/* ---- life ---- */

enum il_code il_oneshot_new(struct il_oneshot_sender **ret_sender,
                            struct il_oneshot_receiver **ret_receiver, struct il_error *err)
{
    struct oneshot *oneshot = il_calloc(1, sizeof(*oneshot));

    if (oneshot == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a oneshot");
    }
    handle_init(&oneshot->handle, "oneshot", NULL);
    handle_ref(&oneshot->handle);
    sys_mutex_init(&oneshot->locked.mutex);
    waitq_init(&oneshot->locked.waiters, 0);
    oneshot->sender.oneshot = oneshot;
    oneshot->receiver.oneshot = oneshot;
    *ret_sender = &oneshot->sender;
    *ret_receiver = &oneshot->receiver;
    return IL_OK;
}

static void oneshot_unref(struct oneshot *oneshot)
{
    if (handle_unref(&oneshot->handle)) {
        il_assert(oneshot->locked.state == ONESHOT_OVER);
        waitq_deinit(&oneshot->locked.waiters);
        sys_mutex_deinit(&oneshot->locked.mutex);
        il_free(oneshot);
    }
}

void il_oneshot_sender_free(struct il_oneshot_sender *sender)
{
    struct oneshot *oneshot = sender != NULL ? sender->oneshot : NULL;

    if (handle_check(oneshot, "il_oneshot_sender_free", NULL) != IL_OK) {
        return; /* nothing to free, or it is the parent process's */
    }
    sys_mutex_lock(&oneshot->locked.mutex);
    if (oneshot->locked.state == ONESHOT_EMPTY) {
        oneshot_set_state_locked(oneshot, ONESHOT_OVER);
    }
    oneshot_unlock(oneshot);
    oneshot_unref(oneshot);
}

void il_oneshot_receiver_free(struct il_oneshot_receiver *receiver)
{
    struct oneshot *oneshot = receiver != NULL ? receiver->oneshot : NULL;
    il_value_free_fn *free_value = NULL;
    void *value = NULL;

    if (handle_check(oneshot, "il_oneshot_receiver_free", NULL) != IL_OK) {
        return; /* nothing to free, or it is the parent process's */
    }
    sys_mutex_lock(&oneshot->locked.mutex);
    if (oneshot->locked.state == ONESHOT_FULL) {
        free_value = oneshot->locked.free_value;
        value = oneshot->locked.value;
    }
    if (oneshot->locked.state != ONESHOT_OVER) {
        oneshot_set_state_locked(oneshot, ONESHOT_OVER);
    }
    oneshot_unlock(oneshot);
    if (free_value != NULL) {
        free_value(value);
    }
    oneshot_unref(oneshot);
}

/* ---- sending ---- */

enum il_code il_oneshot_send(struct il_oneshot_sender *sender, void *value,
                             il_value_free_fn *free_value, struct il_error *err)
{
    struct oneshot *oneshot = sender != NULL ? sender->oneshot : NULL;
    enum il_code code = handle_check(oneshot, "il_oneshot_send", err);

    if (code != IL_OK) {
        return code;
    }
    if (sender->is_spent) {
        return il_fail(err, IL_EINVAL, "il_oneshot_send: a value has been sent already");
    }
    sys_mutex_lock(&oneshot->locked.mutex);
    if (oneshot->locked.state == ONESHOT_EMPTY) {
        oneshot->locked.value = value;
        oneshot->locked.free_value = free_value;
        oneshot_set_state_locked(oneshot, ONESHOT_FULL);
        sender->is_spent = true;
    } else {
        code = IL_ECLOSED;
    }
    oneshot_unlock(oneshot);
    return code == IL_OK ? IL_OK : il_fail(err, code, "il_oneshot_send: the receiver is gone");
}

bool il_oneshot_is_wanted(const struct il_oneshot_sender *sender)
{
    struct oneshot *oneshot = sender != NULL ? sender->oneshot : NULL;
    bool is_wanted;

    if (handle_check(oneshot, "il_oneshot_is_wanted", NULL) != IL_OK) {
        return false;
    }
    sys_mutex_lock(&oneshot->locked.mutex);
    is_wanted = oneshot->locked.state == ONESHOT_EMPTY;
    sys_mutex_unlock(&oneshot->locked.mutex);
    return is_wanted;
}

/* ---- receiving ---- */

static enum il_code oneshot_take_locked(struct oneshot *oneshot, void **ret_value)
{
    if (oneshot->locked.state != ONESHOT_FULL) {
        return IL_ECLOSED;
    }
    *ret_value = oneshot->locked.value;
    oneshot_set_state_locked(oneshot, ONESHOT_OVER);
    return IL_OK;
}

static enum il_code oneshot_fail(enum il_code code, struct il_error *err)
{
    return il_fail(err, code, "receiving from a oneshot: %s",
                   code == IL_ECLOSED ? "the sender is gone and has sent nothing, or the value has "
                                        "been received"
                                      : il_code_text(code));
}

enum il_code il_oneshot_receive(struct il_oneshot_receiver *receiver, uint64_t deadline_ns,
                                void **ret_value, struct il_error *err)
{
    struct oneshot *oneshot = receiver != NULL ? receiver->oneshot : NULL;
    enum il_code code = handle_check(oneshot, "il_oneshot_receive", err);
    struct rt_place place;

    if (code != IL_OK) {
        return code;
    }
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&oneshot->locked.mutex);
    code = waitq_wait_locked(&oneshot->locked.waiters, &oneshot->locked.mutex, &place, 1,
                             deadline_ns, "oneshot receive");
    if (code == IL_OK) {
        code = oneshot_take_locked(oneshot, ret_value);
    }
    oneshot_unlock(oneshot);
    rt_leave(&place);
    return code == IL_OK ? IL_OK : oneshot_fail(code, err);
}

enum il_code il_oneshot_try_receive(struct il_oneshot_receiver *receiver, void **ret_value,
                                    struct il_error *err)
{
    struct oneshot *oneshot = receiver != NULL ? receiver->oneshot : NULL;
    enum il_code code = handle_check(oneshot, "il_oneshot_try_receive", err);

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&oneshot->locked.mutex);
    code = oneshot->locked.state == ONESHOT_EMPTY ? IL_EAGAIN
                                                  : oneshot_take_locked(oneshot, ret_value);
    oneshot_unlock(oneshot);
    return code == IL_OK ? IL_OK : oneshot_fail(code, err);
}
