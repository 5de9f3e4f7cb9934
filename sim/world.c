/* world.c: a run from its beginning to its end, and the table that stands behind sys.h meanwhile.
 *
 * Owns: the one world that there is (`sim`). Threads: the caller of sim_run is the world; the rest
 *   are simulated ones.
 * Ends: sim_run takes down whatever the run has left of it. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/inside.h"
#include "sim/points.h"

#define TIME_LIMIT_NS  (3600000 * SIM_NS_PER_MS)
#define STEP_COUNT_MAX 20000000u
#define PROCESSORS     4
#define KEEP_BYTES     (32 << 20)

struct sim sim;

/* ---- the table ---- */

static uint64_t world_now_ns(void)
{
    if (!sim_is_world()) {
        sim_door();
    }
    return sim.now_ns;
}

static void world_random(void *bytes, size_t size)
{
    unsigned char *at = bytes;

    for (size_t i = 0; i < size; i++) {
        at[i] = (unsigned char)draw_of(SIM_FOR_PROGRAM, 256);
    }
}

/* Names other than literals: there is nobody to ask. */
static int world_socket_open_datagram(int family)
{
    (void)family;
    sim_door();
    return -EPROTONOSUPPORT;
}

static int world_thread_start(struct sys_thread **ret_thread, const char *name,
                              void (*run)(void *arg), void *arg)
{
    struct sim_thread *thread;
    int result;

    sim_door();
    if (sim_fault(SIM_FAULT_THREADS)) {
        return -EAGAIN;
    }
    result = thread_new(name, run, arg, &thread);
    if (result == 0) {
        *ret_thread = (struct sys_thread *)thread;
        sys_point();
    }
    return result;
}

static void world_thread_join(struct sys_thread *thread)
{
    sim_door();
    thread_join((struct sim_thread *)thread);
}

static void world_thread_detach(struct sys_thread *thread)
{
    sim_door();
    thread_detach((struct sim_thread *)thread);
}

static void world_thread_describe(int kernel_id, char *text, size_t size)
{
    il_list_for_each(&sim.threads, node)
    {
        const struct sim_thread *thread = il_container_of(node, struct sim_thread, link);

        if (thread->self.kernel_id == kernel_id) {
            if (thread->state == SIM_THREAD_WAITING) {
                (void)snprintf(text, size, "is '%s' and sleeps, waiting for %s", thread->name,
                               thread->wait_what);
            } else {
                (void)snprintf(text, size, "is '%s' and runs", thread->name);
            }
            return;
        }
    }
    (void)snprintf(text, size, "is gone");
}

static struct sys_thread_self *world_thread_self(void)
{
    il_assert(sim.current != NULL);
    return &sim.current->self;
}

static unsigned world_processor_count(void)
{
    return PROCESSORS;
}

static const struct sys_world world_table = {
    .now_ns = world_now_ns,
    .random = world_random,
    .socket_open = socket_open,
    .socket_open_datagram = world_socket_open_datagram,
    .socket_connect = socket_connect,
    .socket_error = socket_error,
    .socket_bytes_unread = socket_bytes_unread,
    .socket_bytes_unsent = socket_bytes_unsent,
    .socket_names = socket_names,
    .socket_receive = socket_receive,
    .socket_peek = socket_peek,
    .socket_send = socket_send,
    .close = file_close,
    .poller_open = poller_open,
    .poller_add = poller_add,
    .poller_remove = poller_remove,
    .poller_wait = poller_wait,
    .wake_open = wake_open,
    .wake_post = wake_post,
    .thread_start = world_thread_start,
    .thread_join = world_thread_join,
    .thread_detach = world_thread_detach,
    .thread_describe = world_thread_describe,
    .thread_self = world_thread_self,
    .processor_count = world_processor_count,
    .mutex_init = lock_init,
    .mutex_deinit = lock_deinit,
    .mutex_lock = lock_take,
    .mutex_unlock = lock_give,
    .cond_init = condition_init,
    .cond_deinit = condition_deinit,
    .cond_wait_until = condition_wait,
    .cond_broadcast = condition_broadcast,
};

/* ---- for those within ---- */

bool sim_is_running(void)
{
    return sim.report != NULL;
}

void sim_held(unsigned *ret_fd_count, unsigned *ret_thread_count)
{
    *ret_fd_count = sim.file_count;
    *ret_thread_count = sim.thread_live_count;
}

const char *sim_end_name(enum sim_end end)
{
    static const char *const names[] = {
        [SIM_DONE] = "done",           [SIM_DEADLOCK] = "deadlock", [SIM_TIME_OUT] = "time-out",
        [SIM_STEPS_OUT] = "steps-out", [SIM_LEFT] = "left",
    };

    return names[end];
}

/* ---- alarms ---- */

_Static_assert(sizeof(struct sim_timer) <= sizeof(((struct sim_alarm *)NULL)->private_timer),
               "an alarm holds a timer");

static struct sim_timer *alarm_timer(struct sim_alarm *alarm)
{
    return (struct sim_timer *)(void *)alarm->private_timer;
}

static void alarm_on_timer(struct sim_timer *timer)
{
    struct sim_alarm *alarm =
        il_container_of((void **)(void *)timer, struct sim_alarm, private_timer[0]);

    alarm->ring(alarm);
    sim_changed();
}

void sim_alarm_set(struct sim_alarm *alarm, uint64_t delay_ns)
{
    struct sim_timer *timer = alarm_timer(alarm);

    timer->fire = alarm_on_timer;
    timer_set(timer, sim.now_ns + delay_ns);
}

void sim_alarm_unset(struct sim_alarm *alarm)
{
    timer_unset(alarm_timer(alarm));
}

/* ---- a run ---- */

/* Numbers that the library gives out begin anew in every run, so that a run's texts, too, depend on
 * its seed alone. The linker knows where they are. */
extern _Atomic uint64_t numbers_begin[] __asm__("__start_il_numbers")
    __attribute__((weak)); /* a program may use nothing that counts */
extern _Atomic uint64_t numbers_end[] __asm__("__stop_il_numbers") __attribute__((weak));

static void numbers_reset(void)
{
    for (_Atomic uint64_t *number = numbers_begin; number < numbers_end; number++) {
        atomic_store(number, 0);
    }
}

/* Each run has a generation of its own, so that it begins as the first in a process does: what the
 * library keeps for the whole process is made anew. */
static void generation_begin(void)
{
    static uint32_t last = UINT32_MAX / 2; /* far from those that forks count */

    sim.outer_generation = sys_fork_generation_set(++last);
}

static bool memory_fails(void)
{
    return sim.current != NULL && sim_fault(SIM_FAULT_MEMORY);
}

/* Thousands of runs ask for the same memory again and again: having it back from the kernel each
 * time would cost more than the runs. */
static void memory_keep(void)
{
    static bool is_kept;

    if (!is_kept) {
        is_kept = true;
        (void)mallopt(M_TRIM_THRESHOLD, KEEP_BYTES); /* where it is refused we are slower */
        (void)mallopt(M_MMAP_THRESHOLD, KEEP_BYTES);
    }
}

static void world_begin(const struct sim_options *options, struct sim_report *report)
{
    struct sim_stack *stacks = sim.free_stacks;
    struct sim_timer **heap = sim.heap;
    size_t heap_size = sim.heap_size;

    memset(report, 0, sizeof(*report));
    memset(&sim, 0, sizeof(sim));
    sim.free_stacks = stacks;
    sim.heap = heap;
    sim.heap_size = heap_size;
    sim.options = *options;
    if (sim.options.step_count_max == 0) {
        sim.options.step_count_max = STEP_COUNT_MAX;
    }
    sim.report = report;
    sim.now_ns = SIM_START_NS;
    sim.limit_ns =
        SIM_START_NS + (options->time_limit_ns != 0 ? options->time_limit_ns : TIME_LIMIT_NS);
    sim.faults = options->faults;
    il_list_init(&sim.threads);
    il_list_init(&sim.links);
    numbers_reset();
    generation_begin();
    draw_begin();
    trace_begin();
    sys_world = &world_table;
    sys_points_armed = true;
    il_memory_fail_when(memory_fails);
}

static void world_end(void)
{
    struct sim_report *report = sim.report;

    il_memory_fail_when(NULL);
    sys_points_armed = false;
    sys_world = &sys_world_real;
    (void)sys_fork_generation_set(sim.outer_generation);
    report->virtual_ns = sim.now_ns - SIM_START_NS;
    if (report->end == SIM_DONE && sim.file_count > 0) {
        report->end = SIM_LEFT;
        (void)snprintf(report->detail, sizeof(report->detail), "%u descriptors are left open",
                       sim.file_count);
    }
    threads_end();
    files_end();
    links_end();
    while (sim.heap_count > 0) {
        timer_unset(sim.heap[sim.heap_count]);
    }
    sim.report = NULL;
}

void sim_run(const struct sim_options *options, void (*run)(void *arg), void *arg,
             struct sim_report *ret_report)
{
    struct sim_thread *first;

    il_assert(sim.report == NULL);
    memory_keep();
    tls_prepare();
    world_begin(options, ret_report);
    il_assert(thread_new("main", run, arg, &first) == 0);
    first->is_detached = true;
    world_go_on();
    world_end();
}
