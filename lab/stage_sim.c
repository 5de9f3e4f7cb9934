/* stage_sim.c: the stage within a simulated world: its threads, its clock, its locks. The server is
 * in stage_sim_server.c.
 *
 * Owns: nothing beyond what its functions make. Threads: simulated ones. */
#include <stdio.h>
#include <stdlib.h>

#include "lab/stage_sim.h"
#include "sim/sim.h"
#include "sys/sys.h"

/* ---- threads ---- */

struct stage_thread {
    struct sys_thread *thread;
};

static struct stage_thread *sim_thread_start(const char *name, void (*run)(void *arg), void *arg)
{
    struct stage_thread *thread = calloc(1, sizeof(*thread));

    if (thread != NULL && sys_thread_start(&thread->thread, name, run, arg) < 0) {
        free(thread);
        return NULL;
    }
    return thread;
}

static void sim_thread_join(struct stage_thread *thread)
{
    if (thread != NULL) {
        sys_thread_join(thread->thread);
        free(thread);
    }
}

static void sim_stage_thread_name(char name[STAGE_THREAD_NAME_SIZE])
{
    (void)snprintf(name, STAGE_THREAD_NAME_SIZE, "%s", sim_thread_name());
}

/* ---- locks and events ---- */

struct stage_mutex {
    struct sys_mutex mutex;
};

static struct stage_mutex *sim_mutex_new(void)
{
    struct stage_mutex *mutex = calloc(1, sizeof(*mutex));

    if (mutex != NULL) {
        sys_mutex_init(&mutex->mutex);
    }
    return mutex;
}

static void sim_mutex_free(struct stage_mutex *mutex)
{
    if (mutex != NULL) {
        sys_mutex_deinit(&mutex->mutex);
        free(mutex);
    }
}

static void sim_mutex_lock(struct stage_mutex *mutex) IL_NO_TSA
{
    sys_mutex_lock(&mutex->mutex);
}

static void sim_mutex_unlock(struct stage_mutex *mutex) IL_NO_TSA
{
    sys_mutex_unlock(&mutex->mutex);
}

struct stage_event {
    struct sys_mutex mutex;
    struct sys_cond changed;
    bool is_set;
};

static struct stage_event *sim_event_new(void)
{
    struct stage_event *event = calloc(1, sizeof(*event));

    if (event != NULL) {
        sys_mutex_init(&event->mutex);
        sys_cond_init(&event->changed);
    }
    return event;
}

static void sim_event_free(struct stage_event *event)
{
    if (event != NULL) {
        sys_cond_deinit(&event->changed);
        sys_mutex_deinit(&event->mutex);
        free(event);
    }
}

static void sim_event_set(struct stage_event *event)
{
    sys_mutex_lock(&event->mutex);
    event->is_set = true;
    sys_cond_broadcast(&event->changed);
    sys_mutex_unlock(&event->mutex);
}

static void sim_event_reset(struct stage_event *event)
{
    sys_mutex_lock(&event->mutex);
    event->is_set = false;
    sys_mutex_unlock(&event->mutex);
}

static bool sim_event_wait(struct stage_event *event, uint64_t timeout_ms)
{
    uint64_t until_ns = sys_now_ns() + timeout_ms * SIM_NS_PER_MS;
    bool is_set;

    sys_mutex_lock(&event->mutex);
    while (!event->is_set && sys_cond_wait_until(&event->changed, &event->mutex, until_ns)) {
    }
    is_set = event->is_set;
    sys_mutex_unlock(&event->mutex);
    return is_set;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void sim_sleep_ms(uint64_t ms)
{
    (void)sim_wait_until(never, NULL, ms * SIM_NS_PER_MS, "time to pass");
}

static void sim_resources(struct stage_resources *ret_resources)
{
    sim_held(&ret_resources->fd_count, &ret_resources->thread_count);
}

const struct stage_table stage_sim = {
    .thread_start = sim_thread_start,
    .thread_join = sim_thread_join,
    .thread_name = sim_stage_thread_name,
    .sleep_ms = sim_sleep_ms,
    .mutex_new = sim_mutex_new,
    .mutex_free = sim_mutex_free,
    .mutex_lock = sim_mutex_lock,
    .mutex_unlock = sim_mutex_unlock,
    .event_new = sim_event_new,
    .event_free = sim_event_free,
    .event_set = sim_event_set,
    .event_reset = sim_event_reset,
    .event_wait = sim_event_wait,
    .resources = sim_resources,
    .server_start = sim_server_start,
    .server_stop = sim_server_stop,
    .server_port = sim_server_port,
    .server_ca = sim_server_ca,
    .server_wait_held = sim_server_wait_held,
    .server_wait_idle = sim_server_wait_idle,
    .server_wait_open = sim_server_wait_open,
    .server_release = sim_server_release,
    .server_close_idle = sim_server_close_idle,
    .server_scold_idle = sim_server_scold_idle,
    .server_close_held = sim_server_close_held,
    .server_stall = sim_server_stall,
    .server_unstall = sim_server_unstall,
    .server_counts = sim_server_counts,
    .server_seen = sim_server_seen,
};
