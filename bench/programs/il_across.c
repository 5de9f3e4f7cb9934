/* il_across.c: what a request costs whose idle connection last served another runtime.
 *
 *     --mode same     every request by runtime A: what crossing over is measured against
 *     --mode across   by A and B in turn, so that each finds the connection with the other
 *
 * Both are current-thread runtimes, driven by this one thread, and every request is an il_block_on
 * of its own: no thread has to be woken, so what is left is the move of the connection. Threads:
 * one. */
#include <interloop/client.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

static struct bench_plan plan;
static struct il_client *client;
static struct il_request *request;
static uint64_t due_ns;

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        errno = 0;
        bench_fail(err->message);
    }
}

static void run_one(void *arg)
{
    struct il_response *response;
    struct il_error err;
    size_t size;

    (void)arg;
    check(il_send(client, request, &response, &err), &err);
    (void)il_response_body(response, &size); /* only its size is wanted */
    plan_complete(&plan, due_ns, size);
    il_response_free(response);
}

/* That the connection did move, or did not, is what this is about. */
static void check_moves(const struct bench_options *options, bool is_across)
{
    struct il_client_stats stats;
    uint64_t wanted = is_across ? options->requests - 1 : 0;

    il_client_stats(client, &stats);
    errno = 0;
    if (stats.connections_total != 1 || stats.moves_total != wanted) {
        fprintf(stderr, "bench: %llu connections, %llu moves\n",
                (unsigned long long)stats.connections_total, (unsigned long long)stats.moves_total);
        bench_fail("the connection did not move as it should");
    }
}

int main(int argc, char **argv)
{
    struct il_runtime_options runtime_options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtimes[2];
    struct bench_options options;
    struct il_error err;
    bool is_across;
    char url[1100];

    bench_parse(&options, argc, argv);
    is_across = options.mode != NULL && strcmp(options.mode, "across") == 0;
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", options.port, options.path);
    runtime_options.kind = IL_RUNTIME_CURRENT_THREAD;
    for (int i = 0; i < 2; i++) {
        check(il_runtime_new(&runtime_options, &runtimes[i], &err), &err);
    }
    check(il_client_new(NULL, &client, &err), &err);
    check(il_request_new("GET", url, &request, &err), &err);
    plan_init(&plan, &options);
    while (plan_next(&plan, &due_ns)) {
        check(il_block_on(runtimes[is_across ? plan.started % 2 : 0], run_one, NULL, &err), &err);
    }
    check_moves(&options, is_across);
    plan_print(&plan);
    il_request_free(request);
    il_client_unref(client);
    for (int i = 0; i < 2; i++) {
        il_runtime_drop(runtimes[i]);
    }
    return 0;
}
