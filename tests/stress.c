/* stress.c: one client, four runtimes of mixed kinds that come and go all along, and many requests.
 *
 *     build/tests/test-stress --requests 1000000 [--seed N]
 *
 * Four lanes, each a thread of its own. A lane makes a runtime, has tasks on it send requests and
 * starts calls with callbacks, and ends the runtime: in order, or by dropping it in the middle;
 * then the next one. Some tasks and calls are cancelled on the way. Each request carries a token of
 * its own and must be answered with that token, exactly once, or fail with a code that says why it
 * had to. At the end nothing may be left: no call, task, connection, descriptor or byte.
 *
 * With STRESS_BLOCKING (stress_blocking.c) tasks and callbacks also block their threads, at random,
 * for up to 5 ms, and every loop is handed over after 1 ms.
 *
 * Without --requests it is as long as a test may be. The last line is `N passed, N failed`. */
#include <dirent.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interloop/watch.h"
#include "lab/server.h"

enum { LANE_COUNT = 4, TASKS_MAX = 8, BATCH_MAX = 16 };

static struct {
    struct lab_server *server;
    struct il_client *client;
    uint64_t request_count_max;
    _Atomic uint64_t token_last;               /* requests begun */
    _Atomic uint64_t ok, cancelled, shut_down; /* outcomes */
    _Atomic uint64_t runtimes;
    _Atomic bool is_wrong;
} stress;

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
    va_list args;

    atomic_store(&stress.is_wrong, true);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static uint32_t next_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static bool is_over(void)
{
    return atomic_load(&stress.token_last) >= stress.request_count_max;
}

/* ---- user code that blocks ---- */

#ifdef STRESS_BLOCKING
static void maybe_block(void)
{
    static _Atomic uint32_t turn;
    uint32_t random = atomic_fetch_add(&turn, 1) * 2654435761u;

    if ((random >> 8) % 24 == 0) {
        usleep((random >> 16) % 5000);
    }
}

static void set_hand_over(struct il_runtime_options *options)
{
    options->hand_over_after_ms = 1;
    options->rescue = options->kind == IL_RUNTIME_CURRENT_THREAD;
}
#else
static void maybe_block(void)
{
}

static void set_hand_over(struct il_runtime_options *options)
{
}
#endif

/* ---- one request ---- */

struct token {
    char text[32];
    char url[96];
};

static void token_new(struct token *token)
{
    uint64_t number = atomic_fetch_add(&stress.token_last, 1) + 1;

    snprintf(token->text, sizeof(token->text), "t%llu", (unsigned long long)number);
    snprintf(token->url, sizeof(token->url), "http://127.0.0.1:%u/id/%s",
             lab_server_port(stress.server), token->text);
}

static void count_outcome(const struct token *token, enum il_code code,
                          struct il_response *response, const struct il_error *err)
{
    switch (code) {
    case IL_OK:
        if (strcmp(il_response_body(response, NULL), token->text) != 0) {
            complain("%s was answered with '%s'", token->text, il_response_body(response, NULL));
        }
        atomic_fetch_add(&stress.ok, 1);
        break;
    case IL_ECANCELED:
        atomic_fetch_add(&stress.cancelled, 1);
        break;
    case IL_ESHUTDOWN:
        atomic_fetch_add(&stress.shut_down, 1);
        break;
    default:
        complain("%s: %s: %s", token->text, il_code_name(code), err->message);
        break;
    }
    il_response_free(response);
}

/* ---- tasks ---- */

struct batch {
    unsigned count;
    _Atomic bool is_begun;
};

static void task_get(void *arg)
{
    struct batch *batch = arg;

    atomic_store(&batch->is_begun, true);
    for (unsigned i = 0; i < batch->count; i++) {
        struct il_response *response = NULL;
        struct il_error err;
        struct token token;
        enum il_code code;

        token_new(&token);
        maybe_block();
        code = il_get(stress.client, token.url, &response, &err);
        maybe_block();
        count_outcome(&token, code, code == IL_OK ? response : NULL, &err);
    }
    free(batch);
}

static void spawn_getter(struct il_runtime *runtime, uint32_t *random, struct il_task **ret_task)
{
    struct batch *batch = calloc(1, sizeof(*batch));
    struct il_error err;

    batch->count = 1 + next_random(random) % BATCH_MAX;
    if (il_spawn(runtime, "getter", task_get, batch, ret_task, &err) != IL_OK) {
        complain("spawn: %s", err.message);
        abort();
    }
}

/* ---- calls with callbacks ---- */

struct callback {
    struct token token;
    _Atomic int answer_count;
};

static void on_done(void *arg, enum il_code code, struct il_response *response,
                    const struct il_error *err)
{
    struct callback *callback = arg;

    if (atomic_fetch_add(&callback->answer_count, 1) != 0) {
        complain("%s was answered twice", callback->token.text);
    }
    maybe_block();
    count_outcome(&callback->token, code, response, err);
    free(callback);
}

static void start_call(struct il_runtime *runtime, bool is_cancelled)
{
    struct il_call_options options = IL_CALL_OPTIONS_INIT;
    struct callback *callback = calloc(1, sizeof(*callback));
    struct il_request *request;
    struct il_call *call;
    struct il_error err;

    token_new(&callback->token);
    options.runtime = runtime;
    options.on_done = on_done;
    options.arg = callback;
    if (il_request_new("GET", callback->token.url, &request, &err) != IL_OK ||
        il_call_start(stress.client, request, &options, &call, &err) != IL_OK) {
        complain("start: %s", err.message);
        abort();
    }
    if (is_cancelled) {
        il_call_cancel(call);
    }
    (void)il_call_unref(call);
}

/* ---- lanes ---- */

static void task_nap(void *arg)
{
    (void)il_sleep_ms(1);
}

static void lane_use(struct il_runtime *runtime, enum il_runtime_kind kind, uint32_t *random)
{
    struct il_task *tasks[TASKS_MAX];
    unsigned count = 1 + next_random(random) % TASKS_MAX;
    struct il_error err;

    for (unsigned i = 0; i < count; i++) {
        spawn_getter(runtime, random, &tasks[i]);
        start_call(runtime, next_random(random) % 8 == 0);
        if (next_random(random) % 8 == 0) {
            il_task_cancel(tasks[i]);
        }
    }
    if (kind == IL_RUNTIME_CURRENT_THREAD && il_block_on(runtime, task_nap, NULL, &err) != IL_OK) {
        complain("block_on: %s", err.message); /* and then it is parked, with requests under way */
    }
    for (unsigned i = 0; i < count; i++) {
        if (kind == IL_RUNTIME_MULTI_THREAD && next_random(random) % 4 != 0 &&
            il_task_join(tasks[i], IL_FOREVER, &err) != IL_OK) {
            complain("join: %s", err.message);
        }
        (void)il_task_unref(tasks[i]);
    }
}

static void lane_get_on_plain_thread(void)
{
    struct il_response *response = NULL;
    struct il_error err;
    struct token token;
    enum il_code code;

    token_new(&token);
    code = il_get(stress.client, token.url, &response, &err);
    count_outcome(&token, code, code == IL_OK ? response : NULL, &err);
}

static void *lane_main(void *arg)
{
    uint32_t random = (uint32_t)(uintptr_t)arg;

    while (!is_over() && !atomic_load(&stress.is_wrong)) {
        struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
        struct il_runtime *runtime;
        struct il_error err;
        bool is_orderly = next_random(&random) % 2 == 0;

        options.kind =
            next_random(&random) % 2 == 0 ? IL_RUNTIME_MULTI_THREAD : IL_RUNTIME_CURRENT_THREAD;
        options.worker_count =
            options.kind == IL_RUNTIME_MULTI_THREAD ? 1 + next_random(&random) % 2 : 0;
        options.name = "lane";
        set_hand_over(&options);
        if (il_runtime_new(&options, &runtime, &err) != IL_OK) {
            complain("runtime: %s", err.message);
            return NULL;
        }
        atomic_fetch_add(&stress.runtimes, 1);
        for (unsigned i = next_random(&random) % 4; i != UINT32_MAX; i--) {
            lane_use(runtime, options.kind, &random);
            lane_get_on_plain_thread();
        }
        if (is_orderly) {
            enum il_code code = il_runtime_shutdown(runtime, il_deadline_in_ms(60000), NULL, &err);

            if (code != IL_OK) {
                complain("shutdown: %s", err.message);
            }
        }
        (void)il_runtime_drop(runtime);
    }
    return NULL;
}

/* ---- conservation ---- */

static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (dir != NULL && readdir(dir) != NULL) {
        count++;
    }
    closedir(dir);
    return count;
}

/* Threads that end let go of their private loops on their own time: wait for it. */
static bool is_nothing_left(struct il_watch_totals *ret_totals)
{
    for (int i = 0; i < 5000; i++) {
        il_watch_totals(ret_totals);
        if (ret_totals->clients == 0 && ret_totals->calls == 0 && ret_totals->connections == 0 &&
            ret_totals->runtimes == 0 && ret_totals->tasks == 0 && ret_totals->loops == 0) {
            return true;
        }
        usleep(1000);
    }
    return false;
}

static uint64_t ended_count(void)
{
    return atomic_load(&stress.ok) + atomic_load(&stress.cancelled) +
           atomic_load(&stress.shut_down);
}

/* Who was not back within the grace when his runtime was dropped, on a busy machine, goes on by
 * himself, and needs client and server until he is through. */
static void wait_for_those_left_alone(void)
{
    struct il_watch_totals totals;

    for (int i = 0; i < 50000; i++) {
        il_watch_totals(&totals);
        if (totals.tasks == 0 && ended_count() == atomic_load(&stress.token_last)) {
            return;
        }
        usleep(1000);
    }
}

static void check_outcomes(unsigned descriptors_before)
{
    uint64_t begun = atomic_load(&stress.token_last);
    uint64_t ended = ended_count();
    struct il_watch_totals totals;

    if (begun != ended) {
        complain("%llu requests were begun, %llu have ended", (unsigned long long)begun,
                 (unsigned long long)ended);
    }
    if (!is_nothing_left(&totals)) {
        complain("left: %llu clients, %llu calls, %llu connections, %llu runtimes, %llu tasks, "
                 "%llu loops",
                 (unsigned long long)totals.clients, (unsigned long long)totals.calls,
                 (unsigned long long)totals.connections, (unsigned long long)totals.runtimes,
                 (unsigned long long)totals.tasks, (unsigned long long)totals.loops);
    }
    if (count_descriptors() != descriptors_before) {
        complain("%u descriptors, there were %u", count_descriptors(), descriptors_before);
    }
#ifdef STRESS_BLOCKING
    struct il_watch_threads threads;

    il_watch_threads(&threads);
    printf("%llu hand-overs\n", (unsigned long long)threads.hand_over_count);
    if (threads.hand_over_count == 0) {
        complain("no loop was handed over: this run has shown nothing");
    }
#endif
    printf("%llu requests on %llu runtimes: %llu ok, %llu cancelled, %llu shut down\n",
           (unsigned long long)begun, (unsigned long long)stress.runtimes,
           (unsigned long long)stress.ok, (unsigned long long)stress.cancelled,
           (unsigned long long)stress.shut_down);
}

static void run(uint32_t seed)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    unsigned descriptors_before = count_descriptors();
    pthread_t lanes[LANE_COUNT];
    struct il_client_stats stats;
    struct il_error err;

    options.name = "stress";
    if (lab_server_start(NULL, &stress.server, &err) != IL_OK ||
        il_client_new(&options, &stress.client, &err) != IL_OK) {
        complain("start: %s", err.message);
        return;
    }
    for (unsigned i = 0; i < LANE_COUNT; i++) {
        pthread_create(&lanes[i], NULL, lane_main, (void *)(uintptr_t)(seed * 2654435761u + i + 1));
    }
    for (unsigned i = 0; i < LANE_COUNT; i++) {
        pthread_join(lanes[i], NULL);
    }
    wait_for_those_left_alone();
    il_client_stats(stress.client, &stats);
    printf(
        "connections: %llu opened, %llu reuses, %llu of them moved between loops, %llu retries\n",
        (unsigned long long)stats.connections_total, (unsigned long long)stats.reuses_total,
        (unsigned long long)stats.moves_total, (unsigned long long)stats.retries_total);
    stress.client = il_client_unref(stress.client);
    lab_server_stop(stress.server);
    check_outcomes(descriptors_before);
}

int main(int argc, char **argv)
{
    uint32_t seed = 1;

    stress.request_count_max = 10000;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--requests") == 0) {
            stress.request_count_max = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else {
            fprintf(stderr, "usage: %s [--requests N] [--seed N]\n", argv[0]);
            return 2;
        }
    }
    run(seed);
    printf("%s one_client_serves_runtimes_that_come_and_go\n",
           stress.is_wrong ? "FAILED " : "ok     ");
    printf("%d passed, %d failed\n", !stress.is_wrong, stress.is_wrong);
    return stress.is_wrong;
}
