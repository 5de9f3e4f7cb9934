/* channel.c: a bounded queue of messages between tasks and threads of any runtime.
 *
 * Owns: the messages that nobody has received yet, in a ring. Two wait queues under one mutex: what
 *   senders wait for are free places, what receivers wait for are messages; a closed channel has
 *   "enough" of both, so that everybody goes on and sees that it is closed.
 * Threads: any. locked.mutex is a leaf.
 * Ends: with the last reference, when nobody waits; what is left of the messages is then freed. */
#include "sync/handle.h"

struct il_channel {
    struct handle handle;
    size_t capacity;
    il_value_free_fn *free_message;

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct waitq senders, receivers;
        bool is_closed;
        size_t first; /* the oldest message */
        size_t count;
    } locked;
    void *messages[]; /* with mutex held */
};
_Static_assert(offsetof(struct il_channel, handle) == 0, "handle_check");

/* ---- life ---- */

enum il_code il_channel_new(const char *name, size_t capacity, il_value_free_fn *free_message,
                            struct il_channel **ret_channel, struct il_error *err)
{
    struct il_channel *channel;

    if (capacity < 1 || capacity > IL_CHANNEL_CAPACITY_MAX) {
        return il_fail(err, IL_EINVAL, "il_channel_new: capacity %zu: want 1 to %zu", capacity,
                       IL_CHANNEL_CAPACITY_MAX);
    }
    channel = il_calloc(1, sizeof(*channel) + capacity * sizeof(channel->messages[0]));
    if (channel == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a channel of %zu message%s", capacity,
                       il_plural(capacity));
    }
    handle_init(&channel->handle, "channel", name);
    channel->capacity = capacity;
    channel->free_message = free_message;
    sys_mutex_init(&channel->locked.mutex);
    waitq_init(&channel->locked.senders, capacity);
    waitq_init(&channel->locked.receivers, 0);
    *ret_channel = channel;
    return IL_OK;
}

struct il_channel *il_channel_ref(struct il_channel *channel)
{
    handle_ref(&channel->handle);
    return channel;
}

/* The amounts follow from the state: called after every change of it. */
static void channel_set_amounts_locked(struct il_channel *channel)
{
    bool is_closed = channel->locked.is_closed;
    size_t count = channel->locked.count;

    il_assert(count <= channel->capacity);
    channel->locked.senders.amount = is_closed ? WAITQ_ALL : channel->capacity - count;
    channel->locked.receivers.amount = is_closed ? WAITQ_ALL : count;
}

static void channel_push_locked(struct il_channel *channel, void *message)
{
    size_t at = channel->locked.first + channel->locked.count;

    channel->messages[at < channel->capacity ? at : at - channel->capacity] = message;
    channel->locked.count++;
    channel_set_amounts_locked(channel);
}

static void *channel_pop_locked(struct il_channel *channel)
{
    size_t at = channel->locked.first;

    il_assert(channel->locked.count > 0);
    channel->locked.first = at + 1 < channel->capacity ? at + 1 : 0;
    channel->locked.count--;
    channel_set_amounts_locked(channel);
    return channel->messages[at];
}

static void channel_free_messages(struct il_channel *channel) IL_NO_TSA /* the last reference */
{
    while (channel->locked.count > 0) {
        void *message = channel_pop_locked(channel);

        if (channel->free_message != NULL) {
            channel->free_message(message);
        }
    }
}

struct il_channel *il_channel_unref(struct il_channel *channel)
{
    if (channel != NULL && handle_unref(&channel->handle)) {
        waitq_deinit(&channel->locked.senders);
        waitq_deinit(&channel->locked.receivers);
        channel_free_messages(channel);
        sys_mutex_deinit(&channel->locked.mutex);
        il_free(channel);
    }
    return NULL;
}

static void channel_unlock(struct il_channel *channel) IL_RELEASES(channel->locked.mutex)
{
    waitq_unlock(&channel->locked.senders, &channel->locked.receivers, &channel->locked.mutex);
}

/* ---- sending ---- */

static enum il_code channel_fail(const struct il_channel *channel, enum il_code code,
                                 const char *what, struct il_error *err)
{
    return il_fail(err, code, "%s channel '%s': %s", what, channel->handle.name,
                   code == IL_ECLOSED ? "it is closed" : il_code_text(code));
}

enum il_code il_channel_send(struct il_channel *channel, void *message, uint64_t deadline_ns,
                             struct il_error *err)
{
    enum il_code code = handle_check(channel, "il_channel_send", err);
    struct rt_place place;

    if (code != IL_OK) {
        return code;
    }
    waitq_take_turns(&channel->locked.senders);
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&channel->locked.mutex);
    code = waitq_wait_locked(&channel->locked.senders, &channel->locked.mutex, &place, 1,
                             deadline_ns, "channel send");
    if (code == IL_OK && channel->locked.is_closed) {
        code = IL_ECLOSED;
    } else if (code == IL_OK) {
        channel_push_locked(channel, message);
    }
    channel_unlock(channel);
    rt_leave(&place);
    return code == IL_OK ? IL_OK : channel_fail(channel, code, "sending to", err);
}

enum il_code il_channel_try_send(struct il_channel *channel, void *message, struct il_error *err)
{
    enum il_code code = handle_check(channel, "il_channel_try_send", err);

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&channel->locked.mutex);
    if (channel->locked.is_closed) {
        code = IL_ECLOSED;
    } else if (!waitq_try_locked(&channel->locked.senders, 1)) {
        code = IL_EAGAIN;
    } else {
        channel_push_locked(channel, message);
    }
    channel_unlock(channel);
    return code == IL_OK ? IL_OK : channel_fail(channel, code, "sending to", err);
}

/* ---- receiving ---- */

enum il_code il_channel_receive(struct il_channel *channel, uint64_t deadline_ns,
                                void **ret_message, struct il_error *err)
{
    enum il_code code = handle_check(channel, "il_channel_receive", err);
    struct rt_place place;

    if (code != IL_OK) {
        return code;
    }
    waitq_take_turns(&channel->locked.receivers);
    code = rt_enter(&place, false, err);
    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&channel->locked.mutex);
    code = waitq_wait_locked(&channel->locked.receivers, &channel->locked.mutex, &place, 1,
                             deadline_ns, "channel receive");
    if (code == IL_OK && channel->locked.count == 0) {
        code = IL_ECLOSED;
    } else if (code == IL_OK) {
        *ret_message = channel_pop_locked(channel);
    }
    channel_unlock(channel);
    rt_leave(&place);
    return code == IL_OK ? IL_OK : channel_fail(channel, code, "receiving from", err);
}

enum il_code il_channel_try_receive(struct il_channel *channel, void **ret_message,
                                    struct il_error *err)
{
    enum il_code code = handle_check(channel, "il_channel_try_receive", err);

    if (code != IL_OK) {
        return code;
    }
    sys_mutex_lock(&channel->locked.mutex);
    if (!waitq_try_locked(&channel->locked.receivers, 1)) {
        code = IL_EAGAIN;
    } else if (channel->locked.count == 0) {
        code = IL_ECLOSED;
    } else {
        *ret_message = channel_pop_locked(channel);
    }
    channel_unlock(channel);
    return code == IL_OK ? IL_OK : channel_fail(channel, code, "receiving from", err);
}

/* ---- closing, looking ---- */

enum il_code il_channel_close(struct il_channel *channel, struct il_error *err)
{
    enum il_code code = handle_check(channel, "il_channel_close", err);

    if (code == IL_OK) {
        sys_mutex_lock(&channel->locked.mutex);
        channel->locked.is_closed = true;
        if (IL_MUTANT(CHANNEL_CLOSE)) {
            sys_mutex_unlock(&channel->locked.mutex);
            return code;
        }
        channel_set_amounts_locked(channel);
        channel_unlock(channel);
    }
    return code;
}

enum il_code il_channel_stats(struct il_channel *channel, struct il_channel_stats *ret_stats,
                              struct il_error *err)
{
    enum il_code code = handle_check(channel, "il_channel_stats", err);

    if (code == IL_OK) {
        sys_mutex_lock(&channel->locked.mutex);
        waitq_validate_locked(&channel->locked.senders);
        waitq_validate_locked(&channel->locked.receivers);
        ret_stats->capacity = channel->capacity;
        ret_stats->messages = channel->locked.count;
        ret_stats->senders_waiting = channel->locked.senders.waiter_count;
        ret_stats->receivers_waiting = channel->locked.receivers.waiter_count;
        ret_stats->is_closed = channel->locked.is_closed;
        sys_mutex_unlock(&channel->locked.mutex);
    }
    return code;
}
