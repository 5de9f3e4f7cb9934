/* monitor.c: looks at the requests under way, and proves that one is stuck.
 *
 * The clock decides nothing. Every look asks the library's records, which ask the kernel, where the
 * request's chain of waits ends (interloop/watch.h). When that is at a party that does not act, and
 * all looks of MONITOR_STILL_MS show the same chain with the same stamp, then it is proven, and the
 * chain is the proof. A hung request is then cancelled, so that nobody waits for its time limit;
 * for a starved one the blocking user code is made to return, and the request must go on.
 *
 * Owns: its thread, and the table it looks into. Threads: its own; world->mutex guards what it
 * writes into the requests. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lab/words.h"
#include "lab/world.h"

#define MONITOR_NS_PER_MS   1000000u
#define MONITOR_LOOK_MS     10
#define MONITOR_STILL_MS    200 /* so long must it stand still */
#define MONITOR_STILL_LOOKS 5   /* and so many looks must have seen it */
#define MONITOR_TABLE_MS    300
#define MONITOR_ROWS_MAX    (WORLD_JUDGED_MAX * 2)
#define MONITOR_SHOWN_MAX   12

struct monitor {
    struct world *world;
    struct stage_thread *thread;
    struct stage_event *stop;
    uint64_t table_ns; /* when the tables were shown last */
    size_t row_count;
    struct il_watch_request peer_row; /* of a request that waits in another client's pool */
    struct il_watch_request rows[MONITOR_ROWS_MAX];
    struct il_watch_connection connections[MONITOR_ROWS_MAX];
};

/* ---- one request ---- */

static bool is_same_chain(const struct il_watch_request *one, const struct il_watch_request *other)
{
    if (one->id != other->id || one->stamp != other->stamp || one->verdict != other->verdict ||
        one->link_count != other->link_count) {
        return false;
    }
    for (unsigned i = 0; i < one->link_count; i++) {
        if (strcmp(one->links[i].what, other->links[i].what) != 0 ||
            strcmp(one->links[i].who, other->links[i].who) != 0 ||
            strcmp(one->links[i].state, other->links[i].state) != 0) {
            return false;
        }
    }
    return true;
}

/* A request that lies with a proxy or a channel is seen twice: as it waits there, and as the owner
 * sends it. The one that is worse off says how things stand. */
static const struct il_watch_request *monitor_find(struct monitor *monitor,
                                                   const struct judged *judged)
{
    const struct il_watch_request *found = NULL;

    for (size_t i = 0; i < monitor->row_count; i++) {
        const struct il_watch_request *row = &monitor->rows[i];

        if (strcmp(row->path, judged->path) == 0 &&
            (found == NULL || row->verdict > found->verdict)) {
            found = row;
        }
    }
    if (found == NULL && world_look_at_peers(monitor->world, judged->path, &monitor->peer_row)) {
        found = &monitor->peer_row;
    }
    return found;
}

/* A request depends on the runtime that waits for it. When that is parked, on purpose, nobody waits
 * for the request at the moment, and there is nothing to judge. */
static bool is_waited_for(const struct judged *judged)
{
    return judged->actor->kind != IL_RUNTIME_CURRENT_THREAD ||
           !atomic_load(&judged->actor->is_parked);
}

/* True when this look completes the proof. */
static bool judged_look_locked(struct judged *judged, const struct il_watch_request *row,
                               uint64_t now_ns)
{
    if (row == NULL || !is_waited_for(judged)) {
        judged->look.link_count = 0;
        judged->still_count = 0;
        return false;
    }
    if (judged->still_count == 0 || !is_same_chain(&judged->look, row)) {
        judged->still_since_ns = now_ns;
        judged->still_count = 0;
    }
    judged->look = *row;
    judged->phase = row->phase;
    judged->still_count++;
    if (judged->ask.is_aside || row->verdict == IL_VERDICT_LIVE ||
        judged->still_count < MONITOR_STILL_LOOKS ||
        now_ns - judged->still_since_ns < MONITOR_STILL_MS * MONITOR_NS_PER_MS) {
        return false;
    }
    judged->proven = row->verdict;
    return true;
}

/* Let it stand as it is, for people who want to look at it. */
static void monitor_hold(struct monitor *monitor, const struct judged *judged)
{
    struct world *world = monitor->world;

    if (world->options.hold_ms > 0) {
        world->options.on_held(world, judged);
        (void)stage_event_wait(monitor->stop, world->options.hold_ms);
        world->options.hold_ms = 0; /* the first one only */
    }
}

static void monitor_act(struct monitor *monitor, struct judged *judged, struct il_task *task)
{
    struct world *world = monitor->world;
    const struct il_watch_request *look = &judged->look;

    world_note(world, "monitor: %s is %s: %u looks in %u ms show the same chain", judged->name,
               il_verdict_name(judged->proven), judged->still_count, MONITOR_STILL_MS);
    for (unsigned i = 0; i < look->link_count; i++) {
        const struct il_watch_link *link = &look->links[i];
        bool says_what = strncmp(link->who, link->what, strlen(link->what)) == 0;

        world_note(world, "  %*s%s%s%s: %s", (int)i, "", says_what ? "" : link->what,
                   says_what ? "" : " ", link->who, link->state);
    }
    if (judged->proven == IL_VERDICT_HUNG) {
        il_task_cancel(task);
    } else {
        world_note(world, "monitor: the user code is made to return");
        stage_event_set(world->relent);
    }
}

static void monitor_look_at(struct monitor *monitor, struct judged *judged)
{
    struct world *world = monitor->world;
    struct il_task *task = NULL;
    bool is_proven = false;

    stage_mutex_lock(world->mutex);
    if (judged->is_begun && !judged->is_done && judged->task != NULL &&
        judged->proven == IL_VERDICT_LIVE) {
        uint64_t now_ns = il_now_ns();

        is_proven = judged_look_locked(judged, monitor_find(monitor, judged), now_ns);
        if (is_proven) {
            task = il_task_ref(judged->task);
            judged->has_relented = judged->proven == IL_VERDICT_STARVED;
            judged->relented_ns = now_ns;
        }
    }
    stage_mutex_unlock(world->mutex);
    if (is_proven) { /* from here on nobody else changes its look */
        monitor_hold(monitor, judged);
        monitor_act(monitor, judged, task);
        (void)il_task_unref(task);
    }
}

/* ---- tables, for those who want to see everything ---- */

static void monitor_show_requests(struct monitor *monitor)
{
    struct world *world = monitor->world;
    unsigned stuck_count = 0;

    world_note(world, "pending requests: %zu", monitor->row_count);
    for (size_t i = 0; i < monitor->row_count; i++) {
        const struct il_watch_request *row = &monitor->rows[i];

        stuck_count += row->verdict != IL_VERDICT_LIVE;
        if (i < MONITOR_SHOWN_MAX) {
            world_note(world, "  %-14s %-11s %5u ms  connection %-3llu %-7s %s", row->path,
                       il_phase_name(row->phase), (unsigned)row->age_ms,
                       (unsigned long long)row->connection_id, il_verdict_name(row->verdict),
                       row->waiter);
        }
    }
    world_note(world, "hang monitor: of %zu request%s %u wait%s for a party that does not act",
               monitor->row_count, lab_plural(monitor->row_count), stuck_count,
               stuck_count == 1 ? "s" : "");
}

static void monitor_show_connections(struct monitor *monitor)
{
    struct world *world = monitor->world;
    size_t count = 0;

    if (il_watch_connections(monitor->connections, MONITOR_ROWS_MAX, &count) != IL_OK) {
        return;
    }
    count = count < MONITOR_ROWS_MAX ? count : MONITOR_ROWS_MAX;
    world_note(world, "connections: %zu", count);
    for (size_t i = 0; i < count && i < MONITOR_SHOWN_MAX; i++) {
        const struct il_watch_connection *row = &monitor->connections[i];

        world_note(world, "  connection %-3llu port %-5u %-8s with loop %-12s unread %u",
                   (unsigned long long)row->id, row->local_port, row->state, row->driver,
                   row->bytes_unread);
    }
}

static void monitor_show(struct monitor *monitor)
{
    uint64_t now_ns = il_now_ns();

    if (monitor->world->cause->has_tables &&
        now_ns - monitor->table_ns >= MONITOR_TABLE_MS * MONITOR_NS_PER_MS) {
        monitor->table_ns = now_ns;
        monitor_show_requests(monitor);
        monitor_show_connections(monitor);
    }
}

/* ---- the thread ---- */

static void monitor_look(struct monitor *monitor)
{
    struct world *world = monitor->world;
    unsigned judged_count = atomic_load(&world->judged_count);

    if (il_watch_requests(monitor->rows, MONITOR_ROWS_MAX, &monitor->row_count) != IL_OK) {
        return; /* no memory for this look; there will be another */
    }
    if (monitor->row_count > MONITOR_ROWS_MAX) {
        monitor->row_count = MONITOR_ROWS_MAX;
    }
    for (unsigned i = 0; i < judged_count && i < WORLD_JUDGED_MAX; i++) {
        monitor_look_at(monitor, &world->judged[i]);
    }
    monitor_show(monitor);
}

static void monitor_main(void *arg)
{
    struct monitor *monitor = arg;

    while (!stage_event_wait(monitor->stop, MONITOR_LOOK_MS)) {
        monitor_look(monitor);
    }
}

bool monitor_start(struct world *world)
{
    struct monitor *monitor = calloc(1, sizeof(*monitor));

    if (monitor != NULL) {
        world->monitor = monitor;
        monitor->world = world;
        monitor->table_ns = world->started_ns;
        monitor->stop = stage_event_new();
        if (monitor->stop != NULL) {
            monitor->thread = stage_thread_start("monitor", monitor_main, monitor);
        }
    }
    if (monitor == NULL || monitor->thread == NULL) {
        world_fail(world, "the monitor could not be started");
        monitor_stop(world);
        return false;
    }
    return true;
}

void monitor_stop(struct world *world)
{
    struct monitor *monitor = world->monitor;

    if (monitor != NULL) {
        if (monitor->thread != NULL) {
            stage_event_set(monitor->stop);
            stage_thread_join(monitor->thread);
        }
        stage_event_free(monitor->stop);
        free(monitor);
        world->monitor = NULL;
    }
}
