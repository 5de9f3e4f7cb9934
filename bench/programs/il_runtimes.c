/* il_runtimes.c: T runtimes, each with a thread of its own, C requests in flight in all, and
 *
 *     --mode shared   one client for all of them
 *     --mode own      a client for each: what sharing is measured against
 *
 * Threads: one for each runtime, and this one, which waits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "il_setup.h"

/* What one runtime does: its share of the requests, over its share of the places. */
struct part {
    struct il_runtime *runtime;
    struct il_client *client;
    struct bench_options options;
    struct bench_plan plan;
    struct il_task *task;
};

static const char *url;

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        errno = 0;
        bench_fail(err->message);
    }
}

static void slot_run(void *arg)
{
    struct part *part = arg;
    struct il_request *request;
    struct il_response *response;
    struct il_error err;
    uint64_t due_ns;

    check(il_request_new("GET", url, &request, &err), &err);
    while (plan_next(&part->plan, &due_ns)) {
        size_t size;

        check(il_send(part->client, request, &response, &err), &err);
        (void)il_response_body(response, &size); /* only its size is wanted */
        plan_complete(&part->plan, due_ns, size);
        il_response_free(response);
    }
    il_request_free(request);
}

static void part_run(void *arg)
{
    struct part *part = arg;
    struct il_task **tasks = calloc(part->options.connections, sizeof(struct il_task *));
    struct il_error err;

    if (tasks == NULL) {
        bench_fail("set up");
    }
    for (uint64_t i = 0; i < part->options.connections; i++) {
        check(il_spawn(part->runtime, "slot", slot_run, part, &tasks[i], &err), &err);
    }
    for (uint64_t i = 0; i < part->options.connections; i++) {
        check(il_task_join(tasks[i], IL_FOREVER, &err), &err);
        il_task_unref(tasks[i]);
    }
    free(tasks);
}

/* The n-th of `count` shares of `whole`, as even as it goes. */
static uint64_t share(uint64_t whole, uint64_t count, uint64_t n)
{
    return whole / count + (n < whole % count ? 1 : 0);
}

static void part_set_up(struct part *part, const struct bench_options *options, uint64_t n,
                        struct il_client *shared)
{
    struct il_runtime_options runtime_options = IL_RUNTIME_OPTIONS_INIT;
    struct il_error err;

    part->options = *options;
    part->options.connections = share(options->connections, options->runtimes, n);
    runtime_options.worker_count = 1;
    check(il_runtime_new(&runtime_options, &part->runtime, &err), &err);
    part->client = shared != NULL ? il_client_ref(shared) : setup_client(options);
}

/* Let all parts make `requests` together, and wait for the last; a phase of `whole`. */
static void run_phase(struct part *parts, uint64_t requests, struct bench_plan *whole)
{
    uint64_t count = whole->options->runtimes;
    struct il_error err;

    for (uint64_t i = 0; i < count; i++) {
        parts[i].options.requests = share(requests, count, i);
        parts[i].options.warm_up = 0;
        plan_init(&parts[i].plan, &parts[i].options);
        check(il_spawn(parts[i].runtime, "part", part_run, &parts[i], &parts[i].task, &err), &err);
    }
    for (uint64_t i = 0; i < count; i++) {
        check(il_task_join(parts[i].task, IL_FOREVER, &err), &err);
        parts[i].task = il_task_unref(parts[i].task);
        whole->completed += parts[i].plan.completed;
        whole->body_bytes += parts[i].plan.body_bytes;
    }
}

int main(int argc, char **argv)
{
    struct il_client *shared = NULL;
    struct bench_options options;
    struct bench_plan whole;
    struct part *parts;

    bench_parse(&options, argc, argv);
    url = bench_url(&options);
    parts = calloc(options.runtimes, sizeof(*parts));
    if (parts == NULL) {
        bench_fail("set up");
    }
    if (options.mode == NULL || strcmp(options.mode, "shared") == 0) {
        shared = setup_client(&options);
    }
    for (uint64_t i = 0; i < options.runtimes; i++) {
        part_set_up(&parts[i], &options, i, shared);
    }
    plan_init(&whole, &options);
    run_phase(parts, options.warm_up, &whole);
    usage_take(&whole.window_begin);
    run_phase(parts, options.requests - options.warm_up, &whole);
    usage_take(&whole.window_end);
    plan_print(&whole);
    for (uint64_t i = 0; i < options.runtimes; i++) {
        il_runtime_drop(parts[i].runtime);
        il_client_unref(parts[i].client);
    }
    il_client_unref(shared);
    free(parts);
    return 0;
}
