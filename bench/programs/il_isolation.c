/* il_isolation.c: what a request costs while another runtime is parked, gone or stuck.
 *
 *     il_isolation --port P [--requests N]
 *
 * Before each measured request the other runtime A uses the client, so that the connection which
 * the request of B takes rests with A. Then A is left parked, dropped, or with its only worker
 * stuck in user code, and the request of B, on a runtime of its own, is timed. `alone`: there is no
 * A, and the connection rests with B. One line of JSON for each condition, microseconds. */
#include <interloop/client.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum condition { ALONE, PARKED, GONE, STUCK, CONDITION_COUNT };

static const char *const condition_names[] = { "alone", "parked", "gone", "stuck" };

static struct il_client *client;
static char url[64];
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static _Atomic int is_stuck;

static void fail(const char *message)
{
    fprintf(stderr, "il_isolation: %s\n", message);
    exit(3);
}

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        fail(err->message);
    }
}

static void get(void *arg)
{
    struct il_response *response;
    struct il_error err;

    (void)arg;
    check(il_get(client, url, &response, &err), &err);
    il_response_free(response);
}

static void get_and_get_stuck(void *arg)
{
    get(arg);
    atomic_store(&is_stuck, 1);
    pthread_mutex_lock(&gate);
    pthread_mutex_unlock(&gate);
}

static void get_timed(void *arg)
{
    uint64_t begin_ns = il_now_ns();

    get(NULL);
    *(uint64_t *)arg = il_now_ns() - begin_ns;
}

static struct il_runtime *new_runtime(enum il_runtime_kind kind, const char *name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    struct il_error err;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD;
    options.name = name;
    check(il_runtime_new(&options, &runtime, &err), &err);
    return runtime;
}

static void measure_stuck(struct il_runtime *b, uint64_t *ret_ns)
{
    struct il_runtime *a = new_runtime(IL_RUNTIME_MULTI_THREAD, "A");
    struct il_task *task;
    struct il_error err;

    atomic_store(&is_stuck, 0);
    pthread_mutex_lock(&gate);
    check(il_spawn(a, "stuck", get_and_get_stuck, NULL, &task, &err), &err);
    while (!atomic_load(&is_stuck)) {
        (void)il_sleep_ms(1);
    }
    check(il_block_on(b, get_timed, ret_ns, &err), &err);
    pthread_mutex_unlock(&gate);
    check(il_task_join(task, IL_FOREVER, &err), &err);
    (void)il_task_unref(task);
    (void)il_runtime_drop(a);
}

static void measure(enum condition condition, struct il_runtime *b, uint64_t *ret_ns)
{
    struct il_runtime *a;
    struct il_error err;

    if (condition == STUCK) {
        measure_stuck(b, ret_ns);
        return;
    }
    a = new_runtime(IL_RUNTIME_CURRENT_THREAD, "A");
    if (condition != ALONE) {
        check(il_block_on(a, get, NULL, &err), &err);
    }
    if (condition == GONE) {
        a = il_runtime_drop(a);
    }
    (void)il_sleep_ms(1); /* the same pause everywhere: the machine has gone idle */
    check(il_block_on(b, get_timed, ret_ns, &err), &err);
    (void)il_runtime_drop(a);
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void report(const char *name, uint64_t *ns, unsigned count)
{
    qsort(ns, count, sizeof(*ns), compare);
    printf("{\"condition\": \"%s\", \"requests\": %u, \"p50_us\": %.1f, \"p90_us\": %.1f, "
           "\"p99_us\": %.1f, \"p999_us\": %.1f, \"max_us\": %.1f}\n",
           name, count, (double)ns[count / 2] / 1e3, (double)ns[count * 9 / 10] / 1e3,
           (double)ns[count * 99 / 100] / 1e3, (double)ns[count - 1 - count / 1000] / 1e3,
           (double)ns[count - 1] / 1e3);
}

int main(int argc, char **argv)
{
    unsigned count = 1000;
    struct il_runtime *b;
    uint64_t *ns[CONDITION_COUNT];
    struct il_error err;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0) {
            snprintf(url, sizeof(url), "http://127.0.0.1:%s/small", argv[i + 1]);
        } else if (strcmp(argv[i], "--requests") == 0) {
            count = (unsigned)strtoul(argv[i + 1], NULL, 10);
        }
    }
    if (url[0] == '\0' || count == 0) {
        fail("usage: il_isolation --port P [--requests N]");
    }
    check(il_client_new(NULL, &client, &err), &err);
    b = new_runtime(IL_RUNTIME_CURRENT_THREAD, "B");
    for (int condition = 0; condition < CONDITION_COUNT; condition++) {
        ns[condition] = calloc(count, sizeof(uint64_t));
    }
    for (unsigned i = 0; i < count; i++) { /* in turns, so that noise falls on all alike */
        for (int condition = 0; condition < CONDITION_COUNT; condition++) {
            measure((enum condition)condition, b, &ns[condition][i]);
        }
    }
    for (int condition = 0; condition < CONDITION_COUNT; condition++) {
        report(condition_names[condition], ns[condition], count);
        free(ns[condition]);
    }
    (void)il_runtime_drop(b);
    (void)il_client_unref(client);
    return 0;
}
