/* watch.c: the public face: requests, connections, loops, totals. Threads: any. */
#include "watch/watch.h"

#include "client/client.h"
#include "rt/rt.h"

const char *il_verdict_name(enum il_verdict verdict)
{
    switch (verdict) {
    case IL_VERDICT_LIVE:
        return "live";
    case IL_VERDICT_STARVED:
        return "starved";
    case IL_VERDICT_HUNG:
        return "hung";
    }
    return "?";
}

enum il_code il_watch_requests(struct il_watch_request *requests, size_t count_max,
                               size_t *ret_count)
{
    struct watch_world world;
    enum il_code code;

    if ((requests == NULL && count_max > 0) || ret_count == NULL) {
        return IL_EINVAL;
    }
    code = watch_world_init(&world);
    if (code != IL_OK) {
        return code;
    }
    for (size_t i = 0; i < world.calls.count && i < count_max; i++) {
        struct client_call_report *call = watch_call_at(&world, i);

        watch_follow(&world, call);
        requests[i] = call->view;
    }
    for (size_t i = 0; i < world.handed.count && world.calls.count + i < count_max; i++) {
        struct watch_handed *handed = watch_handed_at(&world, i);

        watch_follow_handed(&world, handed);
        requests[world.calls.count + i] = handed->view;
    }
    *ret_count = world.calls.count + world.handed.count;
    watch_world_deinit(&world);
    return IL_OK;
}

enum il_code il_watch_connections(struct il_watch_connection *connections, size_t count_max,
                                  size_t *ret_count)
{
    struct watch_world world;
    enum il_code code;

    if ((connections == NULL && count_max > 0) || ret_count == NULL) {
        return IL_EINVAL;
    }
    code = watch_world_init(&world);
    if (code != IL_OK) {
        return code;
    }
    for (size_t i = 0; i < world.conns.count && i < count_max; i++) {
        connections[i] = watch_conn_at(&world, i)->view;
    }
    *ret_count = world.conns.count;
    watch_world_deinit(&world);
    return IL_OK;
}

enum il_code il_watch_loops(struct il_watch_loop *loops, size_t count_max, size_t *ret_count)
{
    struct watch_world world;
    enum il_code code;

    if ((loops == NULL && count_max > 0) || ret_count == NULL) {
        return IL_EINVAL;
    }
    code = watch_world_init(&world);
    if (code != IL_OK) {
        return code;
    }
    for (size_t i = 0; i < world.loops.count && i < count_max; i++) {
        loops[i] = watch_loop_at(&world, i)->view;
    }
    *ret_count = world.loops.count;
    watch_world_deinit(&world);
    return IL_OK;
}

/* ---- threads ---- */

void il_watch_threads(struct il_watch_threads *ret_threads)
{
    rt_count_threads(ret_threads);
}

/* ---- totals ---- */

static void count_client(struct il_client *client, void *arg)
{
    struct il_watch_totals *totals = arg;
    struct il_client_stats stats;

    pool_stats(&client->pool, &stats);
    totals->clients++;
    totals->calls += stats.calls;
    totals->connections += stats.connections;
}

void il_watch_totals(struct il_watch_totals *ret_totals)
{
    struct il_memory_use memory;
    struct rt_counts counts;

    *ret_totals = (struct il_watch_totals){ 0 };
    client_for_each(count_client, ret_totals);
    rt_counts(&counts);
    il_memory_use(&memory);
    ret_totals->runtimes = counts.runtimes;
    ret_totals->loops = counts.loops;
    ret_totals->tasks = counts.tasks;
    ret_totals->allocations = memory.live_count;
    ret_totals->bytes = memory.live_bytes;
}
