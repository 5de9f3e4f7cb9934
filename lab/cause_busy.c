/* cause_busy.c: user code blocks threads that others need: the only one of the runtime that does
 * the I/O (busy), the one of two that has the connection (busy-sibling), all of them
 * (all-workers-busy).
 *
 * h2-busy is busy over HTTP/2. Each of the others is played twice: with hand-over switched off, as
 * it is in the worlds where runtimes have no such thing, and, as NAME+hand-over, switched on in
 * every runtime there is.
 *
 * Owns: nothing. Threads: as lab/world.h says; the blocking code sits in tasks of the runtime that
 * does the I/O. */
#include <stdio.h>
#include <string.h>

#include "lab/catalogue.h"

#define BUSY_MS_MAX      (15 * 60000) /* user code that nobody makes return comes back by itself */
#define BUSY_WORKERS     2            /* of a runtime that has siblings */
#define BUSY_TASKS_MAX   64
#define BUSY_LOOK_MS     20
#define BUSY_ROWS_MAX    16
#define BUSY_THREADS_MAX BUSY_WORKERS

/* ---- blocking ---- */

/* A thread that is to be blocked. */
struct busy_thread {
    char name[STAGE_THREAD_NAME_SIZE]; /* "": any will do */
    atomic_bool is_stuck;
};

struct busy {
    struct world *world;
    struct stage_event *is_stuck; /* all threads are */
    unsigned thread_count;
    struct busy_thread threads[BUSY_THREADS_MAX];
    atomic_uint stuck_count;
    unsigned task_count;
    struct il_task *tasks[BUSY_TASKS_MAX];
};

/* Is it for this thread to block, and not being done yet? */
static bool busy_claim(struct busy *busy)
{
    char name[STAGE_THREAD_NAME_SIZE];

    stage_thread_name(name);
    for (unsigned i = 0; i < busy->thread_count; i++) {
        struct busy_thread *thread = &busy->threads[i];

        if ((thread->name[0] == '\0' || strcmp(thread->name, name) == 0) &&
            !atomic_exchange(&thread->is_stuck, true)) {
            return true;
        }
    }
    return false;
}

static void busy_block(void *arg)
{
    struct busy *busy = arg;

    if (!busy_claim(busy)) {
        return;
    }
    world_note(busy->world, "user code blocks this thread");
    if (atomic_fetch_add(&busy->stuck_count, 1) + 1 == busy->thread_count) {
        stage_event_set(busy->is_stuck);
    }
    (void)stage_user_code_blocking_its_thread(busy->world->relent, BUSY_MS_MAX);
    world_note(busy->world, "user code returns");
}

static void busy_spawn(struct busy *busy, struct il_runtime *runtime)
{
    struct il_error err = { 0 };

    if (busy->task_count == BUSY_TASKS_MAX ||
        il_spawn(runtime, "blocks", busy_block, busy, &busy->tasks[busy->task_count], &err) !=
            IL_OK) {
        world_fail(busy->world, "block runtime '%s': %.150s", il_runtime_name(runtime),
                   err.code != IL_OK ? err.message : "no task comes to the thread in question");
        return;
    }
    busy->task_count++;
}

/* Block those threads of `runtime`. Where a task runs is the runtime's choice, so tasks are added
 * until each of the threads has had one; those that come to another thread return at once. */
static void busy_begin(struct busy *busy, struct il_runtime *runtime)
{
    busy->is_stuck = stage_event_new();
    world_need(busy->world, busy->is_stuck != NULL, "make an event: out of memory");
    while (!world_is_failed(busy->world)) {
        for (unsigned i = 0; i < busy->thread_count; i++) {
            busy_spawn(busy, runtime);
        }
        if (stage_event_wait(busy->is_stuck, BUSY_LOOK_MS)) {
            return;
        }
    }
}

static void busy_end(struct busy *busy)
{
    struct il_error err;

    stage_event_set(busy->world->relent);
    for (unsigned i = 0; i < busy->task_count; i++) {
        if (il_task_join(busy->tasks[i], il_deadline_in_ms(WORLD_STEP_MS), &err) != IL_OK) {
            world_fail(busy->world, "a blocking task does not end: %.150s", err.message);
        }
        (void)il_task_unref(busy->tasks[i]);
    }
    stage_event_free(busy->is_stuck);
}

#define BUSY_HAND_OVER                                                                             \
    " In every runtime hand-over is switched on: user code that keeps a loop's thread for more "   \
    "than "                                                                                        \
    "10 ms loses the loop to a spare thread."

/* ---- busy ---- */

static void busy_run(struct world *world)
{
    struct busy busy = { .world = world, .thread_count = 1 };
    struct actor *a = world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0);
    struct actor *b = world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);

    world_fetch(world, a, 1);
    actor_drive(a); /* so that it goes on when the user code has returned */
    if (!world_is_failed(world)) {
        busy_begin(&busy, world->solution->io_runtime(world, a));
    }
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
    busy_end(&busy);
    actor_park(a);
}

#define BUSY_STORY                                                                                 \
    "Runtime A has an idle connection to the server. Then user code blocks the only thread of "    \
    "the runtime that does the I/O for A: A itself, or, under single-runtime, proxy and channel, " \
    "the runtime that does it for everybody. Now a task of runtime B sends a request to the same " \
    "server."

const struct cause cause_busy = {
    .name = "busy",
    .summary = "the only worker of the runtime that does A's I/O is stuck in blocking user code",
    .story = BUSY_STORY,
    .run = busy_run,
    .with_hand_over = &cause_busy_hand_over,
};

const struct cause cause_busy_hand_over = {
    .name = "busy+hand-over",
    .summary = "busy, with hand-over switched on",
    .story = BUSY_STORY BUSY_HAND_OVER,
    .hands_over = true,
    .run = busy_run,
};

const struct cause cause_h2_busy = {
    .name = "h2-busy",
    .summary =
        "HTTP/2: the only worker of the runtime that opened the session is stuck in user code",
    .story = BUSY_STORY " All of it is over HTTP/2: A's connection has room for the request of B.",
    .is_http2 = true,
    .run = busy_run,
};

/* ---- busy-sibling ---- */

/* The loop that an idle connection is with; a worker's thread has its loop's name. */
static void busy_sibling_find(struct busy *busy)
{
    struct il_watch_connection rows[BUSY_ROWS_MAX];
    size_t count = 0;

    if (world_is_failed(busy->world)) {
        return;
    }
    if (il_watch_connections(rows, BUSY_ROWS_MAX, &count) != IL_OK || count != 1) {
        world_fail(busy->world, "%zu connections are open, and not the one of the set-up", count);
        return;
    }
    (void)snprintf(busy->threads[0].name, sizeof(busy->threads[0].name), "%.15s", rows[0].driver);
    world_note(busy->world, "connection %llu is with loop %s", (unsigned long long)rows[0].id,
               rows[0].driver);
}

static void busy_sibling_run(struct world *world)
{
    struct busy busy = { .world = world, .thread_count = 1 };
    struct actor *a = world_actor(world, "A", IL_RUNTIME_MULTI_THREAD, BUSY_WORKERS);

    world_fetch(world, a, 1);
    busy_sibling_find(&busy);
    if (!world_is_failed(world)) {
        busy_begin(&busy, world->solution->io_runtime(world, a));
    }
    judged_run(world_ask(world, a, &(struct ask){ 0 }));
    busy_end(&busy);
}

#define BUSY_SIBLING_STORY                                                                         \
    "There is one runtime, A, with two workers; nothing is shared between runtimes. A task on "    \
    "one "                                                                                         \
    "of the workers has fetched something, and the connection is idle. Then user code blocks "     \
    "that "                                                                                        \
    "worker, or, under single-runtime, proxy and channel, the one of the owner's two workers "     \
    "that "                                                                                        \
    "has the connection. The other worker has nothing to do. Now a task of A sends a request to "  \
    "the same server."

const struct cause cause_busy_sibling = {
    .name = "busy-sibling",
    .summary = "one runtime, two workers: the one that has the connection is stuck in user code",
    .story = BUSY_SIBLING_STORY,
    .io_workers = BUSY_WORKERS,
    .run = busy_sibling_run,
    .with_hand_over = &cause_busy_sibling_hand_over,
};

const struct cause cause_busy_sibling_hand_over = {
    .name = "busy-sibling+hand-over",
    .summary = "busy-sibling, with hand-over switched on",
    .story = BUSY_SIBLING_STORY BUSY_HAND_OVER,
    .io_workers = BUSY_WORKERS,
    .hands_over = true,
    .run = busy_sibling_run,
};

/* ---- all-workers-busy ---- */

static void all_workers_busy_run(struct world *world)
{
    struct busy busy = { .world = world };
    struct actor *a = world_actor(world, "A", IL_RUNTIME_MULTI_THREAD, BUSY_WORKERS);
    struct actor *b = world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);
    struct judged *under_way, *begun, *others;

    world_fetch(world, a, BUSY_WORKERS);
    under_way = world_ask(world, a, &(struct ask){ .query = "hold=flight" });
    judged_start(under_way);
    world_need(world, stage_server_wait_held(world->server, "flight", 1, WORLD_STEP_MS),
               "have A's request reach the server");
    if (!world_is_failed(world)) {
        struct il_runtime *runtime = world->solution->io_runtime(world, a);

        for (; busy.thread_count < BUSY_WORKERS; busy.thread_count++) {
            (void)snprintf(busy.threads[busy.thread_count].name, STAGE_THREAD_NAME_SIZE, "%.10s/%u",
                           il_runtime_name(runtime), busy.thread_count);
        }
        busy_begin(&busy, runtime);
    }
    stage_server_release(world->server, "flight");
    world_note(world, "the server has answered A's request");
    begun = world_ask(world, a, &(struct ask){ 0 });
    others = world_ask(world, b, &(struct ask){ 0 });
    judged_start(begun);
    judged_start(others);
    judged_wait(under_way);
    judged_wait(others);
    judged_wait(begun);
    busy_end(&busy);
}

#define ALL_WORKERS_BUSY_STORY                                                                     \
    "Runtime A has two workers, idle connections to the server, and a request under way that the " \
    "server has not answered yet. Then user code blocks every worker of the runtime that does "    \
    "the "                                                                                         \
    "I/O for A: both of A's, or, under single-runtime, proxy and channel, both of the owner's. "   \
    "The "                                                                                         \
    "server answers. Two more requests are to be sent: one by a task of A, one by a task of "      \
    "runtime B, which has a worker of its own."

const struct cause cause_all_workers_busy = {
    .name = "all-workers-busy",
    .summary = "every worker of the runtime that does A's I/O is stuck; A and B want answers",
    .story = ALL_WORKERS_BUSY_STORY,
    .io_workers = BUSY_WORKERS,
    .run = all_workers_busy_run,
    .with_hand_over = &cause_all_workers_busy_hand_over,
};

const struct cause cause_all_workers_busy_hand_over = {
    .name = "all-workers-busy+hand-over",
    .summary = "all-workers-busy, with hand-over switched on",
    .story = ALL_WORKERS_BUSY_STORY BUSY_HAND_OVER,
    .io_workers = BUSY_WORKERS,
    .hands_over = true,
    .run = all_workers_busy_run,
};
