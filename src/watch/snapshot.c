/* snapshot.c: looking at everything that waits or is waited for, one lock after the other.
 *
 * Locks, in this order: the registry of clients, then a pool's; the registry of loops, then a
 * loop's list of tasks; the registry of src/share, then one object's. Under them things are copied,
 * and sockets are asked how much lies in them: whoever closes a socket takes it off the pool's list
 * first, so its number is still its own. Threads: any. */
#include <stdio.h>

#include "client/client.h"
#include "rt/rt.h"
#include "watch/watch.h"

#define WATCH_SPARE 16 /* room for what comes up between counting and copying */

static void *table_add(struct watch_table *table)
{
    size_t index = table->count++;

    return index < table->count_max ? (char *)table->items + index * table->item_size : NULL;
}

static uint32_t ms_since(uint64_t now_ns, uint64_t since_ns)
{
    return since_ns == 0 || now_ns < since_ns ? 0
                                              : (uint32_t)((now_ns - since_ns) / LOOP_NS_PER_MS);
}

static void copy_text(char *to, size_t size, const char *from)
{
    (void)snprintf(to, size, "%s", from); /* cut on purpose */
}

/* ---- clients ---- */

static void snapshot_call(const struct client_call_report *call, void *arg)
{
    struct watch_world *world = arg;
    struct client_call_report *copy = table_add(&world->calls);

    if (copy != NULL) {
        *copy = *call;
    }
}

static void snapshot_conn(const struct client_conn_report *conn, void *arg)
{
    struct watch_world *world = arg;
    struct client_conn_report *copy = table_add(&world->conns);

    if (copy != NULL) {
        *copy = *conn;
    }
}

static void snapshot_client(struct il_client *client, void *arg)
{
    struct watch_world *world = arg;
    struct client_reporter reporter = { snapshot_call, snapshot_conn, world };

    client_report(client, world->now_ns, &reporter);
}

/* ---- requests that were handed over ---- */

static void count_pending(const struct share_pending *pending, void *arg)
{
    struct watch_world *world = arg;

    world->handed.count++;
}

static void snapshot_pending(const struct share_pending *pending, void *arg)
{
    struct watch_world *world = arg;
    struct watch_handed *copy = table_add(&world->handed);

    if (copy != NULL) {
        watch_copy_pending(pending, world->now_ns, copy);
    }
}

/* ---- loops ---- */

static const char *loop_state_name(const struct il_loop *loop)
{
    switch (loop_hold_state(loop)) {
    case LOOP_FREE:
        return "not driven";
    case LOOP_ENDED:
        return "ended";
    case LOOP_HELD_IN_USER:
        return "in user code";
    case LOOP_HELD_IN_LIB:
        break;
    }
    return atomic_load(&loop->shared.is_polling) ? "polling" : "running";
}

static void snapshot_task(const struct rt_task_view *task, void *arg)
{
    struct watch_loop *copy = arg;

    copy->view.task_count++;
    copy->view.away_task_count += task->is_away;
    if (task->is_running && !task->is_away) {
        copy_text(copy->task, sizeof(copy->task), task->name);
    }
}

static void snapshot_loop(struct il_loop *loop, void *arg)
{
    struct watch_world *world = arg;
    struct watch_loop *copy = table_add(&world->loops);
    struct il_runtime *runtime = rt_loop_runtime(loop);
    struct il_watch_loop *view;

    if (copy == NULL) {
        return;
    }
    memset(copy, 0, sizeof(*copy));
    view = &copy->view;
    view->id = loop->id;
    copy_text(view->name, sizeof(view->name), loop->name);
    copy_text(view->state, sizeof(view->state), loop_state_name(loop));
    view->since_ms = ms_since(world->now_ns, atomic_load(&loop->shared.since_ns));
    view->thread_id = atomic_load(&loop->shared.holder_kernel_id);
    view->turn_count = atomic_load(&loop->shared.turn_count);
    view->take_over_count = atomic_load(&loop->shared.take_over_count);
    view->is_handed_over = atomic_load(&loop->shared.is_stood_in);
    view->stuck_ns_total = atomic_load(&loop->shared.stuck_ns_total);
    view->stuck_ns_max = atomic_load(&loop->shared.stuck_ns_max);
    copy->is_thread_loop = loop->is_thread_loop;
    if (runtime != NULL) {
        copy_text(view->runtime, sizeof(view->runtime), il_runtime_name(runtime));
        copy->is_current_thread = rt_is_current_thread(runtime);
        copy->is_handed_over = rt_is_handed_over(loop);
        rt_for_each_task(loop, snapshot_task, copy);
    }
}

/* ---- all of it ---- */

static void count_client(struct il_client *client, void *arg)
{
    struct watch_world *world = arg;
    struct il_client_stats stats;

    pool_stats(&client->pool, &stats);
    world->calls.count += stats.calls;
    world->conns.count += stats.connections;
}

static bool table_alloc(struct watch_table *table, size_t item_size)
{
    table->item_size = item_size;
    table->count_max = table->count + WATCH_SPARE;
    table->count = 0;
    table->items = il_malloc(table->count_max * item_size); /* large; few of them are used */
    return table->items != NULL;
}

static void table_seal(struct watch_table *table)
{
    table->count = (size_t)il_min_u64(table->count, table->count_max);
}

static void complete_conns(struct watch_world *world)
{
    for (size_t i = 0; i < world->conns.count; i++) {
        struct client_conn_report *conn = watch_conn_at(world, i);

        for (size_t k = 0; k < world->loops.count && conn->loop_id != 0; k++) {
            const struct watch_loop *loop = watch_loop_at(world, k);

            if (loop->view.id == conn->loop_id) {
                copy_text(conn->view.driver, sizeof(conn->view.driver), loop->view.name);
            }
        }
    }
}

enum il_code watch_world_init(struct watch_world *world)
{
    memset(world, 0, sizeof(*world));
    world->now_ns = sys_now_ns();
    client_for_each(count_client, world);
    share_for_each_pending(count_pending, world);
    world->loops.count = loop_count_live();
    if (!table_alloc(&world->calls, sizeof(struct client_call_report)) ||
        !table_alloc(&world->conns, sizeof(struct client_conn_report)) ||
        !table_alloc(&world->loops, sizeof(struct watch_loop)) ||
        !table_alloc(&world->handed, sizeof(struct watch_handed))) {
        watch_world_deinit(world);
        return IL_ENOMEM;
    }
    share_for_each_pending(snapshot_pending, world); /* before the calls they are sent by */
    client_for_each(snapshot_client, world);
    loop_for_each(snapshot_loop, world);
    table_seal(&world->calls);
    table_seal(&world->conns);
    table_seal(&world->loops);
    table_seal(&world->handed);
    for (size_t i = 0; i < world->loops.count; i++) {
        struct il_watch_loop *view = &watch_loop_at(world, i)->view;

        if (view->thread_id != 0) {
            sys_thread_describe(view->thread_id, view->thread, sizeof(view->thread));
        }
    }
    complete_conns(world);
    return IL_OK;
}

void watch_world_deinit(struct watch_world *world)
{
    il_free(world->calls.items);
    il_free(world->conns.items);
    il_free(world->loops.items);
    il_free(world->handed.items);
}
