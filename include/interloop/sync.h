/* sync.h: what tasks and threads use to talk to each other, also across runtimes.
 *
 *   oneshot    one value, sent once
 *   channel    a bounded queue of messages; any number of senders and receivers
 *   semaphore  permits
 *   mutex      a lock that a task may hold while it waits for something else
 *
 * The same calls work in a task of any runtime, where waiting lets other tasks run, and on a plain
 * thread, where it blocks that thread alone. Deadlines are absolute (il_deadline_in_ms), IL_FOREVER
 * for none; with one that has passed, a call takes what is there at once and else answers
 * IL_ETIMEDOUT.
 *
 * What a function that waits may answer, besides what its own comment says:
 *
 *   IL_ETIMEDOUT   not by the deadline
 *   IL_ECANCELED   the waiting task was cancelled
 *   IL_ESHUTDOWN   the waiting task's runtime is being ended
 *   IL_EDEADLOCK   called in a callback, which must not wait
 *   IL_ENOMEM      a plain thread's first wait: its private loop could not be made
 *   IL_ESYS        likewise
 *
 * In each of these cases nothing was taken or sent. A cancelled task is told so even if it would
 * not have had to wait, so that none can go on for ever by always finding something. Functions that
 * do not wait (try_..., il_oneshot_send, release, unlock, close) work everywhere, in callbacks and
 * in cancelled tasks too. Every function that returns a code answers IL_EINVAL for NULL, and
 * IL_EFORK for an object that was made before the process was forked. `err` may be NULL.
 *
 * Whose turn it is. Who waits is woken, never assigned anything: the oldest waiter of each loop is
 * woken, and whoever comes first takes. So a waiter that is cancelled, or whose runtime is parked
 * or gone, keeps nothing from the others. On one loop, and among the threads that wait outside of
 * tasks, it is first come, first served, also if the first needs more than is there and the second
 * does not. Between loops the faster one may overtake, but not for long: who has waited for 1 ms
 * and was overtaken goes before everybody else, the oldest first, as long as its loop answers
 * within 10 ms. One that needs more than is there goes before the others for as long at a time as
 * it has waited, so that enough for it can gather. A try_ function does not queue: it overtakes all
 * but those.
 *
 * Objects end with the last reference, when nobody waits for them any more. */
#ifndef INTERLOOP_SYNC_H
#define INTERLOOP_SYNC_H

#include "interloop/runtime.h"

#ifdef __cplusplus
extern "C" {
#endif

struct il_oneshot_sender;
struct il_oneshot_receiver;
struct il_channel;
struct il_semaphore;
struct il_mutex;

/* Names, for messages and reports, are copied and cut to one byte less. */
#define IL_SYNC_NAME_SIZE 32

/* What frees a value that nobody received; `free` will often do. Runs under no lock. */
typedef void il_value_free_fn(void *value);

/* ---- oneshot ---- */

/* Make both halves of a oneshot. Each belongs to the caller, may be handed to another thread or
 * task, and is used by one at a time. IL_ENOMEM. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_oneshot_new(struct il_oneshot_sender **ret_sender,
                                               struct il_oneshot_receiver **ret_receiver,
                                               struct il_error *err);

/* Free the sending half. If nothing was sent, the receiver gets IL_ECLOSED. NULL is allowed.
 * Thread: any. Since 0.1. */
IL_API void il_oneshot_sender_free(struct il_oneshot_sender *sender);

/* Free the receiving half. A value that was sent and not received is freed as its sender said. NULL
 * is allowed. Thread: any. Since 0.1. */
IL_API void il_oneshot_receiver_free(struct il_oneshot_receiver *receiver);

/* Send the value. Never waits. Takes `value` once this returns IL_OK; `free_value` (may be NULL)
 * frees it if the receiving half is freed without having received it. IL_ECLOSED: the receiving
 * half is gone. IL_EINVAL: a value has been sent before. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_oneshot_send(struct il_oneshot_sender *sender, void *value,
                                                il_value_free_fn *free_value, struct il_error *err);

/* Is anybody there to receive a value? False when the receiving half has been freed, and when the
 * value has been sent: work for it may stop. Thread: any. Since 0.1. */
IL_API bool il_oneshot_is_wanted(const struct il_oneshot_sender *sender);

/* Wait for the value, which is then the caller's. IL_ECLOSED: it will not come, for the sending
 * half was freed without sending; or it has been received before. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_oneshot_receive(struct il_oneshot_receiver *receiver,
                                                   uint64_t deadline_ns, void **ret_value,
                                                   struct il_error *err);

/* As il_oneshot_receive, but never waits. IL_EAGAIN: nothing there yet. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_oneshot_try_receive(struct il_oneshot_receiver *receiver,
                                                       void **ret_value, struct il_error *err);

/* ---- channel ---- */

#define IL_CHANNEL_CAPACITY_MAX ((size_t)1 << 24)

/* Make a channel that holds at most `capacity` messages, 1 to IL_CHANNEL_CAPACITY_MAX; the memory
 * for so many pointers is allocated here. A message is any pointer, NULL too. `free_message` (may
 * be NULL) frees those that are left at the end. `name` may be NULL. Ends with il_channel_unref.
 * IL_EINVAL, IL_ENOMEM. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_channel_new(const char *name, size_t capacity,
                                               il_value_free_fn *free_message,
                                               struct il_channel **ret_channel,
                                               struct il_error *err);

IL_API struct il_channel *il_channel_ref(struct il_channel *channel); /* Thread: any. Since 0.1. */

/* The last reference frees the messages that nobody received. It does not close: who waits in a
 * call needs a reference of its own. Returns NULL; NULL is allowed. Thread: any. Since 0.1. */
IL_API struct il_channel *il_channel_unref(struct il_channel *channel);

/* Send a message, waiting for a free place. Takes `message` once this returns IL_OK. Messages of
 * one sender arrive in the order in which it sent them. IL_ECLOSED: the channel is closed. Thread:
 * any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_channel_send(struct il_channel *channel, void *message,
                                                uint64_t deadline_ns, struct il_error *err);

/* As il_channel_send, but never waits. IL_EAGAIN: it is full, or somebody who has waited for long
 * goes first. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_channel_try_send(struct il_channel *channel, void *message,
                                                    struct il_error *err);

/* Take the oldest message, waiting for one; it is then the caller's. Each message is received once.
 * IL_ECLOSED: the channel is closed, and all that was in it has been received. Thread: any. Since
 * 0.1. */
IL_API IL_MUST_USE enum il_code il_channel_receive(struct il_channel *channel, uint64_t deadline_ns,
                                                   void **ret_message, struct il_error *err);

/* As il_channel_receive, but never waits. IL_EAGAIN: it is empty, or somebody who has waited for
 * long goes first. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_channel_try_receive(struct il_channel *channel,
                                                       void **ret_message, struct il_error *err);

/* Let nothing more in: senders, those that wait included, get IL_ECLOSED from now on; receivers
 * take what is there and then get IL_ECLOSED. Closing again changes nothing. Thread: any. Since
 * 0.1. */
IL_API enum il_code il_channel_close(struct il_channel *channel, struct il_error *err);

struct il_channel_stats {
    size_t capacity;
    size_t messages;            /* in it now */
    uint32_t senders_waiting;   /* for a place */
    uint32_t receivers_waiting; /* for a message */
    bool is_closed;
};

/* One consistent look at the channel. Thread: any. Since 0.1. */
IL_API enum il_code il_channel_stats(struct il_channel *channel, struct il_channel_stats *ret_stats,
                                     struct il_error *err);

/* ---- semaphore ---- */

#define IL_SEMAPHORE_PERMITS_MAX ((uint32_t)INT32_MAX)

/* Make a semaphore with `permits` free permits, 0 to IL_SEMAPHORE_PERMITS_MAX. `name` may be NULL.
 * Ends with il_semaphore_unref. IL_EINVAL, IL_ENOMEM. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_semaphore_new(const char *name, uint32_t permits,
                                                 struct il_semaphore **ret_semaphore,
                                                 struct il_error *err);

/* Thread: any. Since 0.1. */
IL_API struct il_semaphore *il_semaphore_ref(struct il_semaphore *semaphore);

/* Returns NULL; NULL is allowed. Thread: any. Since 0.1. */
IL_API struct il_semaphore *il_semaphore_unref(struct il_semaphore *semaphore);

/* Take `count` permits (1 to IL_SEMAPHORE_PERMITS_MAX), all at once, waiting until so many are
 * free. How many there are in all is not recorded, so waiting for more than that is waiting until
 * the deadline. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_semaphore_acquire(struct il_semaphore *semaphore, uint32_t count,
                                                     uint64_t deadline_ns, struct il_error *err);

/* As il_semaphore_acquire, but never waits. IL_EAGAIN: so many are not free, or somebody who has
 * waited for long goes first. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_semaphore_try_acquire(struct il_semaphore *semaphore,
                                                         uint32_t count, struct il_error *err);

/* Give `count` permits back, or add new ones. Anybody may. Never waits. IL_EINVAL: there would be
 * more than IL_SEMAPHORE_PERMITS_MAX; nothing has changed. Thread: any. Since 0.1. */
IL_API enum il_code il_semaphore_release(struct il_semaphore *semaphore, uint32_t count,
                                         struct il_error *err);

struct il_semaphore_stats {
    uint32_t available; /* free permits */
    uint32_t waiters;
};

/* One consistent look at the semaphore. Thread: any. Since 0.1. */
IL_API enum il_code il_semaphore_stats(struct il_semaphore *semaphore,
                                       struct il_semaphore_stats *ret_stats, struct il_error *err);

/* ---- mutex ---- */

/* Make a mutex, unlocked. `name` may be NULL. Ends with il_mutex_unref. IL_ENOMEM. Thread: any.
 * Since 0.1. */
IL_API IL_MUST_USE enum il_code il_mutex_new(const char *name, struct il_mutex **ret_mutex,
                                             struct il_error *err);

IL_API struct il_mutex *il_mutex_ref(struct il_mutex *mutex); /* Thread: any. Since 0.1. */

/* A mutex that is locked lives on until it is unlocked. Returns NULL; NULL is allowed. Thread: any.
 * Since 0.1. */
IL_API struct il_mutex *il_mutex_unref(struct il_mutex *mutex);

/* Lock. The holder is the calling task, in whatever thread it goes on, or outside of tasks the
 * calling thread. IL_EDEADLOCK: the caller holds it already; or its holder has ended, without
 * having unlocked it, before or while the caller waited. When the lock could not be had, the
 * message names the holder. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_mutex_lock(struct il_mutex *mutex, uint64_t deadline_ns,
                                              struct il_error *err);

/* As il_mutex_lock, but never waits. IL_EAGAIN: it is locked, or somebody who has waited for long
 * goes first. A callback must unlock before it returns. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_mutex_try_lock(struct il_mutex *mutex, struct il_error *err);

/* Unlock. Never waits. IL_EINVAL: the caller does not hold it. Thread: any. Since 0.1. */
IL_API enum il_code il_mutex_unlock(struct il_mutex *mutex, struct il_error *err);

struct il_mutex_stats {
    bool is_locked;
    char holder[IL_TASK_NAME_SIZE]; /* the task's name, or "thread 1234"; "" if not locked */
    uint64_t since_ns;              /* when it was locked (il_now_ns); 0 if not locked */
    uint32_t waiters;
    bool is_abandoned; /* the holder has ended without unlocking: it will never be unlocked */
};

/* One consistent look at the mutex: who has it, and since when. Thread: any. Since 0.1. */
IL_API enum il_code il_mutex_stats(struct il_mutex *mutex, struct il_mutex_stats *ret_stats,
                                   struct il_error *err);

#ifdef __cplusplus
}
#endif
#endif
