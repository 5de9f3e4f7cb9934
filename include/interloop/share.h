/* share.h: five ways of living with several runtimes and one HTTP client.
 *
 * The default client (client.h) needs none of them: it may be used from every runtime and thread as
 * it is. They are here for programs that are built like this anyway, for clients with the bound
 * driver, which do need them, and to be compared.
 *
 *   il_single       one multi-thread runtime and one client for everybody; requests run there
 *   il_per_runtime  a client that belongs to one runtime, and refuses to be used elsewhere
 *   il_factory      gives each runtime a client of its own
 *   il_proxy        hands requests to the runtime that owns the client, and brings back responses
 *   il_service      an actor behind a bounded queue, which runs requests and replies
 *
 * Each has X_send and X_get, which are used like il_send and il_get: they wait, in a task or on a
 * plain thread, and their codes are those of il_send. Where a request is *handed over* (single,
 * proxy, service) it runs as a task of another runtime, the *owner*, and this holds as well:
 *
 *   - The request is copied when it is handed over, a body in memory included. One whose body is
 *     made piece by piece (il_request_set_body_source) is refused with IL_EINVAL.
 *   - The response is delivered whole; there is no streaming across. Who wants to stream uses the
 *     client itself, on its runtime.
 *   - If the waiting task is cancelled, or its runtime ended, it returns at once, and the request
 *     is cancelled on the owner.
 *   - IL_ETIMEDOUT: the request's total limit counts from the call. If the owner has not taken the
 *     request up by then (nobody drives it, or it is busy), the error's phase is IL_PHASE_DISPATCH
 *     and its message says so. If it has, it is given IL_SHARE_GRACE_MS more, to say itself what it
 *     was waiting for.
 *   - IL_EOWNERGONE: the owner was shut down before or during the request.
 *   - IL_EDEADLOCK: in a callback, which must not wait; or the owner is a current-thread runtime of
 *     which a task, on this same thread, waits in il_block_on for the caller to finish.
 *   - IL_ELIMIT: requests_max requests are with the owner and not finished; or the owner has as
 *     many tasks as it may have.
 *   - IL_ECLOSED: the object was freed, or the service stopped, while the request was under way.
 *
 * Options: size is set by the ..._OPTIONS_INIT macro, 0 and NULL mean the default, strings are
 * copied. `client` says how the clients are made, the driver among other things; one without a name
 * gets the object's. NULL for the options means the default of each.
 *
 * The objects are used from any number of threads and tasks at once. No call may begin on an object
 * while it is being freed or after; those that already wait in one then end with IL_ECLOSED. */
#ifndef INTERLOOP_SHARE_H
#define INTERLOOP_SHARE_H

#include "interloop/client.h"

#ifdef __cplusplus
extern "C" {
#endif

struct il_single;
struct il_per_runtime;
struct il_factory;
struct il_proxy;
struct il_service;

/* How much longer than a request's total limit its caller may wait for the owner's own words. */
#define IL_SHARE_GRACE_MS 100

/* Names are cut to one byte less. */
#define IL_SHARE_NAME_SIZE 32

/* ---- single: one runtime and one client for everybody ---- */

struct il_single_options {
    size_t size;
    const char *name;      /* of the runtime too; "single" */
    unsigned worker_count; /* threads of the runtime; one per processor */
    uint32_t requests_max; /* handed over and not finished at once; 10,000 */
    const struct il_client_options *client;
    uint64_t hand_over_after_ms; /* of the runtime: see il_runtime_options; 10 */
};

#define IL_SINGLE_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .size = sizeof(struct il_single_options)                                                   \
    }

/* Make a runtime and a client for it; both run when this returns. End it by il_single_free. Codes
 * as il_runtime_new and il_client_new. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_single_new(const struct il_single_options *options,
                                              struct il_single **ret_single, struct il_error *err);

/* End the runtime as il_runtime_drop does, and free all; for an end in order call
 * il_runtime_shutdown on its runtime before. NULL is allowed. Thread: any, but not in a task of
 * that runtime. Since 0.1. */
IL_API void il_single_free(struct il_single *single);

/* Borrowed; they live as long as `single`. Thread: any. Since 0.1. */
IL_API struct il_runtime *il_single_runtime(struct il_single *single);
IL_API struct il_client *il_single_client(struct il_single *single);

/* il_spawn and il_block_on, with the runtime of `single`. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_single_spawn(struct il_single *single, const char *name,
                                                il_task_fn *run, void *arg,
                                                struct il_task **ret_task, struct il_error *err);
IL_API IL_MUST_USE enum il_code il_single_block_on(struct il_single *single, il_task_fn *run,
                                                   void *arg, struct il_error *err);

/* Run the request on the runtime of `single` and wait for the whole response, which is then the
 * caller's. In a task of that runtime it is simply il_send; from anywhere else it is handed over.
 * Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_single_send(struct il_single *single,
                                               const struct il_request *request,
                                               struct il_response **ret_response,
                                               struct il_error *err);
IL_API IL_MUST_USE enum il_code il_single_get(struct il_single *single, const char *url,
                                              struct il_response **ret_response,
                                              struct il_error *err);

/* ---- per-runtime: a client that is used on its own runtime only ---- */

/* Make a client that belongs to `runtime`; `client` may be NULL. Keeps a reference on the runtime.
 * End it by il_per_runtime_free. IL_EINVAL: no runtime; else as il_client_new. Thread: any. Since
 * 0.1. */
IL_API IL_MUST_USE enum il_code il_per_runtime_new(struct il_runtime *runtime,
                                                   const struct il_client_options *client,
                                                   struct il_per_runtime **ret_per_runtime,
                                                   struct il_error *err);

/* NULL is allowed. Requests under way go on to their end. Thread: any; not in a task of the runtime
 * if this has the last reference on it. Since 0.1. */
IL_API void il_per_runtime_free(struct il_per_runtime *per_runtime);

/* The client, with a reference of its own for the caller, if we are on its runtime. IL_EINVAL: we
 * are not; the message names where we are and where the client belongs. Never waits. Thread: any.
 * Since 0.1. */
IL_API IL_MUST_USE enum il_code il_per_runtime_client(struct il_per_runtime *per_runtime,
                                                      struct il_client **ret_client,
                                                      struct il_error *err);

/* il_send and il_get with that client. IL_EINVAL at once, before anything is sent, if we are not on
 * its runtime. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_per_runtime_send(struct il_per_runtime *per_runtime,
                                                    const struct il_request *request,
                                                    struct il_response **ret_response,
                                                    struct il_error *err);
IL_API IL_MUST_USE enum il_code il_per_runtime_get(struct il_per_runtime *per_runtime,
                                                   const char *url,
                                                   struct il_response **ret_response,
                                                   struct il_error *err);

/* ---- factory: to each runtime its own client ---- */

struct il_factory_options {
    size_t size;
    const char *name;     /* "factory"; its clients are called NAME/RUNTIME */
    uint32_t clients_max; /* alive at once: runtimes plus plain threads that use it; 10,000 */
    const struct il_client_options *client; /* a name in it is not used */
};

#define IL_FACTORY_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(struct il_factory_options)                                                  \
    }

/* End it by il_factory_free. IL_EINVAL, IL_ENOMEM. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_factory_new(const struct il_factory_options *options,
                                               struct il_factory **ret_factory,
                                               struct il_error *err);

/* Let go of every client. Those that somebody still uses live until he is done. NULL is allowed.
 * Thread: any. Since 0.1. */
IL_API void il_factory_free(struct il_factory *factory);

/* The client of the runtime that we are on, with a reference for the caller (il_client_unref). It
 * is made on first use, and the factory lets go of it when that runtime ends. A plain thread is
 * treated like a runtime of its own: its client goes when the thread ends. So there are never more
 * clients than there are runtimes and threads that have asked for one and have not ended.
 * IL_ELIMIT: clients_max. IL_ESHUTDOWN: this task's runtime is gone. IL_EAGAIN: in a callback,
 * whose loop was taken over meanwhile. Else as il_client_new. Never waits; allowed in callbacks.
 * Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code
il_factory_client(struct il_factory *factory, struct il_client **ret_client, struct il_error *err);

/* How many clients it has now. Thread: any. Since 0.1. */
IL_API uint32_t il_factory_client_count(struct il_factory *factory);

/* il_send and il_get with the client of where we are. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_factory_send(struct il_factory *factory,
                                                const struct il_request *request,
                                                struct il_response **ret_response,
                                                struct il_error *err);
IL_API IL_MUST_USE enum il_code il_factory_get(struct il_factory *factory, const char *url,
                                               struct il_response **ret_response,
                                               struct il_error *err);

/* ---- proxy: requests go to the runtime that owns the client ---- */

struct il_proxy_options {
    size_t size;
    const char *name;                       /* "proxy" */
    uint32_t requests_max;                  /* handed over and not finished at once; 10,000 */
    const struct il_client_options *client; /* used if no client is given */
};

#define IL_PROXY_OPTIONS_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(struct il_proxy_options)                                                    \
    }

/* Make a proxy for `client` (NULL: it makes one), which is used on `owner` from then on; `options`
 * may be NULL. Keeps a reference on both. End it by il_proxy_free. IL_EINVAL: no owner; else as
 * il_client_new. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_proxy_new(struct il_runtime *owner, struct il_client *client,
                                             const struct il_proxy_options *options,
                                             struct il_proxy **ret_proxy, struct il_error *err);

/* Callers that wait get IL_ECLOSED, their requests are cancelled. NULL is allowed. Thread: any; not
 * in a task of the owner if the proxy has the last reference on it. Since 0.1. */
IL_API void il_proxy_free(struct il_proxy *proxy);

/* Have the request sent by a task of the owner, and wait for the whole response, which is then the
 * caller's. In a task of the owner it is simply il_send. If nobody drives the owner, this waits
 * until the request's total limit. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_proxy_send(struct il_proxy *proxy,
                                              const struct il_request *request,
                                              struct il_response **ret_response,
                                              struct il_error *err);
IL_API IL_MUST_USE enum il_code il_proxy_get(struct il_proxy *proxy, const char *url,
                                             struct il_response **ret_response,
                                             struct il_error *err);

/* ---- service: a queue of requests, an actor that runs them, replies ---- */

struct il_service_options {
    size_t size;
    const char *name;        /* "service" */
    uint32_t queue_capacity; /* requests that wait to be run; 64 */
    uint32_t concurrency;    /* requests that are run at once; 16 */
    bool refuse_when_full;   /* a full queue answers IL_EAGAIN; else the caller waits for a place */
    uint64_t queue_timeout_ms; /* for that wait; the request's total limit holds in any case */
    uint32_t requests_max;     /* callers at once, those that wait for a place included; 10,000 */
    const struct il_client_options *client;
};

#define IL_SERVICE_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(struct il_service_options)                                                  \
    }

/* Start a service on `runtime`, with a client of its own; `options` may be NULL. Keeps a reference
 * on the runtime. Ends by il_service_stop, which should come before the runtime's end: the actor is
 * a task that waits for requests, so a runtime that is shut down before waits for it until its
 * deadline. IL_EINVAL: no runtime, a number out of range. IL_ESHUTDOWN: it has ended. Else as
 * il_client_new and il_spawn. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_service_start(struct il_runtime *runtime,
                                                 const struct il_service_options *options,
                                                 struct il_service **ret_service,
                                                 struct il_error *err);

/* Accept no more requests, let those accepted finish until `deadline_ns`, then cancel the rest
 * (their callers get IL_ECLOSED) and free the service. NULL is allowed.
 *
 * IL_OK: all had finished. IL_ETIMEDOUT: some had not, or nobody drives the runtime. IL_ECANCELED,
 * IL_ESHUTDOWN, IL_EDEADLOCK: the calling task was cancelled, its runtime ended, a callback cannot
 * wait; as if the deadline had passed. The service is gone in any case. Thread: any; not in a task
 * of the runtime if the service has the last reference on it. Since 0.1. */
IL_API enum il_code il_service_stop(struct il_service *service, uint64_t deadline_ns,
                                    struct il_error *err);

/* Put the request into the queue and wait for the reply: the whole response, which is then the
 * caller's. IL_EAGAIN: the queue is full (refuse_when_full). IL_ETIMEDOUT: it was full for too
 * long, or any of the other limits. If nobody drives the runtime, this waits until the request's
 * total limit. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_service_send(struct il_service *service,
                                                const struct il_request *request,
                                                struct il_response **ret_response,
                                                struct il_error *err);
IL_API IL_MUST_USE enum il_code il_service_get(struct il_service *service, const char *url,
                                               struct il_response **ret_response,
                                               struct il_error *err);

#ifdef __cplusplus
}
#endif
#endif
