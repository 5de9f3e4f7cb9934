/* h2_check.h: what the tests of the client over HTTP/2 have in common: a server (h2_server.h), a
 * client of it, and tasks that get things.
 *
 * A test begins with start and ends with stop. */
#ifndef TESTS_H2_CHECK_H
#define TESTS_H2_CHECK_H

#include <pthread.h>
#include <stdlib.h>

#include "base/base.h"
#include "client/client.h"
#include "client/session.h"
#include "interloop/client.h"
#include "interloop/watch.h"
#include "rt/rt.h"
#include "tests/check.h"
#include "tests/h2_server.h"
#include "tests/own_loop.h"

static struct il_error err;
static struct h2_server *server;
static struct il_client *client;

static inline void start_with(uint32_t max_streams, struct il_client_options options)
{
    options.http_version = IL_HTTP_2_PRIOR_KNOWLEDGE;
    server = h2_server_start(max_streams);
    CHECK_OK(il_client_new(&options, &client, &err));
}

static inline void start(uint32_t max_streams)
{
    start_with(max_streams, (struct il_client_options)IL_CLIENT_OPTIONS_INIT);
}

static inline void stop(void)
{
    struct il_client_stats stats;

    pool_validate(&client->pool);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.calls, 0);
    CHECK_EQ(stats.waiters, 0);
    CHECK_EQ(stats.connections, stats.idle);
    client = il_client_unref(client);
    turn_own_loop(); /* closes what is bound to it */
    CHECK(h2_server_wait(server, &server->open, 0));
    h2_server_stop(server);
}

static inline const char *url(const char *path)
{
    static _Thread_local char text[256];

    snprintf(text, sizeof(text), "http://127.0.0.1:%u%s", server->port, path);
    return text;
}

static inline void check_get(const char *path, size_t body_size)
{
    struct il_response *response;
    struct il_error error;
    enum il_code code = il_get(client, url(path), &response, &error);
    size_t size;

    if (code != IL_OK) {
        check_fail(__FILE__, __LINE__, "GET %s: %s", path, error.message);
    }
    CHECK_EQ(il_response_status(response), 200);
    CHECK_EQ(il_response_http_version(response), 20);
    (void)il_response_body(response, &size);
    CHECK_EQ(size, body_size);
    il_response_free(response);
}

static inline struct il_client_stats stats_now(void)
{
    struct il_client_stats stats;

    il_client_stats(client, &stats);
    return stats;
}

static inline struct il_runtime *runtime_new(enum il_runtime_kind kind, uint32_t workers)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD ? workers : 0;
    options.hand_over_after_ms = IL_FOREVER; /* who is stuck keeps its loop: others are to manage */
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

struct many {
    _Atomic int ok;
    const char *path;
    size_t size;
};

static inline void get_many(void *arg)
{
    struct many *many = arg;

    check_get(many->path, many->size);
    atomic_fetch_add(&many->ok, 1);
}

static inline void run_tasks(struct il_runtime *runtime, int count, struct many *many)
{
    struct il_task **tasks = calloc((size_t)count, sizeof(struct il_task *));

    for (int i = 0; i < count; i++) {
        CHECK_OK(il_spawn(runtime, "get", get_many, many, &tasks[i], &err));
    }
    for (int i = 0; i < count; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
    }
    free(tasks);
}

struct held {
    const char *path;
    struct il_task *task;
    struct il_runtime *runtime;
    _Atomic bool is_done, is_seen;
};

static inline void get_held(void *arg)
{
    struct held *held = arg;

    check_get(held->path, 5);
    held->is_done = true;
}

static inline unsigned held_at_server(void)
{
    unsigned count;

    pthread_mutex_lock(&server->mutex);
    count = server->held;
    pthread_mutex_unlock(&server->mutex);
    return count;
}

/* Returns when the request of another task of this runtime is held by the server. */
static inline void leave_one_behind(void *arg)
{
    struct held *held = arg;
    unsigned before = held_at_server();

    CHECK_OK(il_spawn(il_runtime_current(), "held", get_held, held, &held->task, &err));
    while (held_at_server() == before) {
        CHECK_OK(il_sleep_ms(1));
    }
}

static inline void join_held(void *arg)
{
    struct held *held = arg;

    CHECK_OK(il_task_join(held->task, IL_FOREVER, &err));
    il_task_unref(held->task);
}

/* A current-thread runtime that opened the session, has a stream on it, and is not driven. */
static inline struct il_runtime *park(struct held *held)
{
    struct il_runtime *runtime = runtime_new(IL_RUNTIME_CURRENT_THREAD, 0);

    held->path = "/held";
    CHECK_OK(il_block_on(runtime, leave_one_behind, held, &err));
    return runtime;
}

/* Look until some request has the verdict, with this link in its chain. */
static inline void look_until(enum il_verdict verdict, const char *what, const char *state)
{
    static struct il_watch_request requests[8];
    size_t count;

    for (;;) {
        CHECK_EQ(il_watch_requests(requests, 8, &count), IL_OK);
        for (size_t i = 0; i < count; i++) {
            for (unsigned at = 0; at < requests[i].link_count; at++) {
                if (requests[i].verdict == verdict &&
                    strcmp(requests[i].links[at].what, what) == 0 &&
                    strcmp(requests[i].links[at].state, state) == 0) {
                    return;
                }
            }
        }
        CHECK_OK(il_sleep_ms(1));
    }
}

#endif
