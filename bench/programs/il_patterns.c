/* il_patterns.c: what it costs that a program has several runtimes, under each way of living with
 * them.
 *
 * C tasks of one runtime, the caller's, send requests, and there is a second runtime, the owner's:
 *
 *     --mode default       the default client: what the others are measured against
 *     --mode per-runtime   a client that belongs to the caller's runtime
 *     --mode factory       the client that the factory has for the caller's runtime
 *     --mode single        handed over to the one runtime that has the client
 *     --mode proxy         handed over to the owner's runtime, which has the client
 *     --mode service       queued for an actor on the owner's runtime
 *
 * Threads: one for each runtime, and this one, which waits. */
#include <interloop/share.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

typedef enum il_code send_fn(const struct il_request *request, struct il_response **ret_response,
                             struct il_error *err);

static struct bench_options options;
static struct bench_plan plan;
static char url[1100];
static struct il_runtime *caller, *owner;
static struct il_client_options client_options = IL_CLIENT_OPTIONS_INIT;

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        errno = 0;
        bench_fail(err->message);
    }
}

/* ---- the patterns: each is set up, sends, and is taken down ---- */

static struct il_client *client;

static void default_set_up(void)
{
    struct il_error err;

    check(il_client_new(&client_options, &client, &err), &err);
}

static enum il_code default_send(const struct il_request *request,
                                 struct il_response **ret_response, struct il_error *err)
{
    return il_send(client, request, ret_response, err);
}

static void default_take_down(void)
{
    il_client_unref(client);
}

static struct il_per_runtime *per_runtime;

static void per_runtime_set_up(void)
{
    struct il_error err;

    check(il_per_runtime_new(caller, &client_options, &per_runtime, &err), &err);
}

static enum il_code per_runtime_send(const struct il_request *request,
                                     struct il_response **ret_response, struct il_error *err)
{
    return il_per_runtime_send(per_runtime, request, ret_response, err);
}

static void per_runtime_take_down(void)
{
    il_per_runtime_free(per_runtime);
}

static struct il_factory *factory;

static void factory_set_up(void)
{
    struct il_factory_options factory_options = IL_FACTORY_OPTIONS_INIT;
    struct il_error err;

    factory_options.client = &client_options;
    check(il_factory_new(&factory_options, &factory, &err), &err);
}

static enum il_code factory_send(const struct il_request *request,
                                 struct il_response **ret_response, struct il_error *err)
{
    return il_factory_send(factory, request, ret_response, err);
}

static void factory_take_down(void)
{
    il_factory_free(factory);
}

static struct il_single *single;

static void single_set_up(void)
{
    struct il_single_options single_options = IL_SINGLE_OPTIONS_INIT;
    struct il_error err;

    single_options.worker_count = 1;
    single_options.client = &client_options;
    check(il_single_new(&single_options, &single, &err), &err);
}

static enum il_code single_send(const struct il_request *request, struct il_response **ret_response,
                                struct il_error *err)
{
    return il_single_send(single, request, ret_response, err);
}

static void single_take_down(void)
{
    il_single_free(single);
}

static struct il_proxy *proxy;

static void proxy_set_up(void)
{
    struct il_proxy_options proxy_options = IL_PROXY_OPTIONS_INIT;
    struct il_error err;

    proxy_options.client = &client_options;
    check(il_proxy_new(owner, NULL, &proxy_options, &proxy, &err), &err);
}

static enum il_code proxy_send(const struct il_request *request, struct il_response **ret_response,
                               struct il_error *err)
{
    return il_proxy_send(proxy, request, ret_response, err);
}

static void proxy_take_down(void)
{
    il_proxy_free(proxy);
}

static struct il_service *service;

static void service_set_up(void)
{
    struct il_service_options service_options = IL_SERVICE_OPTIONS_INIT;
    struct il_error err;

    service_options.queue_capacity = (uint32_t)options.connections;
    service_options.concurrency = (uint32_t)options.connections;
    service_options.client = &client_options;
    check(il_service_start(owner, &service_options, &service, &err), &err);
}

static enum il_code service_send(const struct il_request *request,
                                 struct il_response **ret_response, struct il_error *err)
{
    return il_service_send(service, request, ret_response, err);
}

static void service_take_down(void)
{
    struct il_error err;

    check(il_service_stop(service, il_deadline_in_ms(10000), &err), &err);
}

static const struct pattern {
    const char *name;
    void (*set_up)(void);
    send_fn *send;
    void (*take_down)(void);
} patterns[] = {
    { "default", default_set_up, default_send, default_take_down },
    { "per-runtime", per_runtime_set_up, per_runtime_send, per_runtime_take_down },
    { "factory", factory_set_up, factory_send, factory_take_down },
    { "single", single_set_up, single_send, single_take_down },
    { "proxy", proxy_set_up, proxy_send, proxy_take_down },
    { "service", service_set_up, service_send, service_take_down },
};

static const struct pattern *pattern;

/* ---- the requests ---- */

static void slot_run(void *arg)
{
    struct il_request *request;
    struct il_response *response;
    struct il_error err;
    uint64_t due_ns;

    (void)arg;
    check(il_request_new("GET", url, &request, &err), &err);
    while (plan_next(&plan, &due_ns)) {
        size_t size;

        check(pattern->send(request, &response, &err), &err);
        (void)il_response_body(response, &size); /* only its size is wanted */
        plan_complete(&plan, due_ns, size);
        il_response_free(response);
    }
    il_request_free(request);
}

static void run_slots(void *arg)
{
    struct il_task **tasks = calloc(options.connections, sizeof(struct il_task *));
    struct il_error err;

    (void)arg;
    if (tasks == NULL) {
        bench_fail("set up");
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        check(il_spawn(caller, "slot", slot_run, NULL, &tasks[i], &err), &err);
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        check(il_task_join(tasks[i], IL_FOREVER, &err), &err);
        il_task_unref(tasks[i]);
    }
    free(tasks);
}

static const struct pattern *pattern_named(const char *name)
{
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++) {
        if (name != NULL && strcmp(patterns[i].name, name) == 0) {
            return &patterns[i];
        }
    }
    errno = 0;
    bench_fail("--mode: there is no such pattern (they are listed in il_patterns.c)");
}

int main(int argc, char **argv)
{
    struct il_runtime_options runtime_options = IL_RUNTIME_OPTIONS_INIT;
    struct il_error err;

    bench_parse(&options, argc, argv);
    pattern = pattern_named(options.mode);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", options.port, options.path);
    client_options.idle_per_host_max = (uint32_t)options.connections;
    runtime_options.worker_count = 1;
    check(il_runtime_new(&runtime_options, &caller, &err), &err);
    check(il_runtime_new(&runtime_options, &owner, &err), &err);
    pattern->set_up();
    plan_init(&plan, &options);
    check(il_block_on(caller, run_slots, NULL, &err), &err);
    plan_print(&plan);
    pattern->take_down();
    il_runtime_drop(caller);
    il_runtime_drop(owner);
    return 0;
}
