/* schedule.c: simulated threads, and who goes on.
 *
 * Owns: the threads and their stacks. A thread gives up the processor where it passes a door of
 * sys.h, where it waits, and at atomic operations (points.h). It switches straight to the next
 * thread, unless something is due: then the world has its turn first.
 * Ends: threads_end forgets the threads that there are; stacks are kept for the next run. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "rt/sanitize.h"
#include "sim/inside.h"
#include "sim/points.h"

#define STACK_BYTES  (((size_t)256 << 10) * (RT_ASAN || RT_TSAN ? 4 : 1))
#define STACK_GUARD  ((size_t)64 << 10)
#define STALL_NS_MAX (50 * SIM_NS_PER_MS)
#define JUMP_NS_MAX  (600000 * SIM_NS_PER_MS)
#define LINGER_NS    (60000 * SIM_NS_PER_MS) /* for threads that outlive the first */

/* ---- stacks ---- */

static struct sim_stack *stack_new(void)
{
    struct sim_stack *stack = sim.free_stacks;
    char *bytes;

    if (stack != NULL) {
        sim.free_stacks = stack->next;
        return stack;
    }
    stack = calloc(1, sizeof(*stack));
    bytes = mmap(NULL, STACK_GUARD + STACK_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    il_assert(stack != NULL);
    il_assert(bytes != MAP_FAILED);
    il_assert(mprotect(bytes, STACK_GUARD, PROT_NONE) == 0);
    stack->stack.low = bytes + STACK_GUARD;
    stack->stack.size = STACK_BYTES;
    return stack;
}

static void stack_give_back(struct sim_stack *stack)
{
    stack->next = sim.free_stacks;
    sim.free_stacks = stack;
}

/* ---- who may go on ---- */

_Static_assert(SIM_FAULT_COUNT <= 32, "one bit for each");

static void ready_push(struct sim_thread *thread)
{
    thread->state = SIM_THREAD_READY;
    thread->since_ns = sim.now_ns;
    sim.ready[sim.ready_count++] = thread;
}

static struct sim_thread *ready_take(unsigned index)
{
    struct sim_thread *thread = sim.ready[index];

    sim.ready_count--;
    memmove(&sim.ready[index], &sim.ready[index + 1],
            (sim.ready_count - index) * sizeof(sim.ready[0]));
    return thread;
}

static unsigned ready_highest(void)
{
    unsigned best = 0;

    for (unsigned i = 1; i < sim.ready_count; i++) {
        if (sim.ready[i]->priority > sim.ready[best]->priority) {
            best = i;
        }
    }
    return best;
}

static unsigned ready_choose(void)
{
    unsigned index;

    if (sim.ready_count == 1 || sim.weights.policy == SIM_POLICY_IN_TURN) {
        return 0;
    }
    index = sim.weights.policy == SIM_POLICY_PRIORITY
                ? ready_highest()
                : (unsigned)draw_of(SIM_FOR_SCHEDULE, sim.ready_count);
    return draw_decide() ? index : 0;
}

static struct sim_thread *ready_pick(void)
{
    return sim.ready_count > 0 ? ready_take(ready_choose()) : NULL;
}

/* ---- switching ---- */

static bool world_has_to_act(void)
{
    return sim.is_stopped || sim.ready_count == 0 ||
           (sim.heap_count > 0 && sim.heap[1]->at_ns <= sim.now_ns);
}

static struct fiber *thread_enter(struct sim_thread *thread)
{
    if (thread != sim.last) {
        trace(SIM_EVENT_RUN, thread->number, sim.last != NULL ? sim.last->number : 0, NULL);
        sim.report->switch_count++;
    }
    sim.last = sim.current = thread;
    thread->state = SIM_THREAD_RUNNING;
    thread->since_ns = sim.now_ns;
    if (!thread->is_started) {
        thread->is_started = true;
        return &thread->first;
    }
    return &thread->here;
}

/* Leave the thread that runs, whose state says why, for another or for the world. */
static void thread_leave(struct sim_thread *thread, struct sim_thread *next)
{
    int saved_errno = errno;

    fiber_init_thread(&thread->here);
    if (next != NULL) {
        fiber_switch(&thread->here, thread_enter(next));
    } else {
        sim.current = NULL;
        fiber_switch(&thread->here, &sim.world);
    }
    errno = saved_errno; /* all of them share the real thread's */
}

static void world_enter(struct sim_thread *thread)
{
    fiber_init_thread(&sim.world);
    fiber_switch(&sim.world, thread_enter(thread));
}

void world_stop(enum sim_end end, const char *format, ...)
{
    va_list args;

    if (!sim.is_stopped) {
        sim.is_stopped = true;
        sim.report->end = end;
        va_start(args, format);
        (void)vsnprintf(sim.report->detail, sizeof(sim.report->detail), format, args);
        va_end(args);
    }
    if (!sim_is_world()) {
        thread_leave(sim.current, NULL);
        il_assert(!"a stopped world went on");
    }
}

/* ---- waiting ---- */

static void thread_on_overdue(struct sim_timer *timer)
{
    struct sim_thread *thread = il_container_of(timer, struct sim_thread, overdue);

    thread->is_overdue = true;
    ready_push(thread);
}

bool thread_wait(const void *object, const char *what, uint64_t number, uint64_t deadline_ns)
{
    struct sim_thread *me = sim.current;

    me->wait_object = object;
    me->wait_what = what;
    me->wait_number = number;
    me->is_overdue = false;
    me->state = SIM_THREAD_WAITING;
    me->since_ns = sim.now_ns;
    if (deadline_ns != SYS_FOREVER) {
        timer_set(&me->overdue, il_max_u64(deadline_ns, sim.now_ns));
    }
    trace(SIM_EVENT_WAIT, number, 0, what);
    thread_leave(me, world_has_to_act() ? NULL : ready_pick());
    me->wait_object = NULL;
    return !me->is_overdue;
}

void thread_wake(const void *object)
{
    il_list_for_each(&sim.threads, node)
    {
        struct sim_thread *thread = il_container_of(node, struct sim_thread, link);

        if (thread->state == SIM_THREAD_WAITING && thread->wait_object == object) {
            trace(SIM_EVENT_WAKE, thread->number, 0, NULL);
            timer_unset(&thread->overdue);
            ready_push(thread);
        }
    }
}

/* ---- points and doors ---- */

static void points_draw(void)
{
    sim.points_left = 1 + draw_of(SIM_FOR_SCHEDULE, sim.weights.preempt_gap * 2);
}

static void step_count(void)
{
    if (++sim.report->step_count > sim.options.step_count_max) {
        world_stop(SIM_STEPS_OUT, "%llu steps, and no end: thread %u '%s' runs",
                   (unsigned long long)sim.report->step_count, sim.current->number,
                   sim.current->name);
    }
}

static IL_NOINLINE void thread_preempt(void)
{
    struct sim_thread *me = sim.current;

    points_draw();
    step_count();
    if (!sim_fault(SIM_FAULT_PREEMPT)) {
        return;
    }
    if (sim_fault(SIM_FAULT_STALL)) {
        uint64_t ns = 1 + draw_of(SIM_FOR_SCHEDULE, STALL_NS_MAX);

        (void)thread_wait(me, "its turn: it is stalled", 0, sim.now_ns + ns);
    } else if (sim.ready_count > 0) {
        struct sim_thread *next;

        me->priority = --sim.priority_lowest;
        ready_push(me);
        next = ready_pick();
        if (next != me) {
            thread_leave(me, next);
        } else {
            me->state = SIM_THREAD_RUNNING;
        }
    }
}

bool sys_points_armed;

void sys_point(void)
{
    if (sim.current != NULL && --sim.points_left == 0) {
        thread_preempt();
    }
}

static enum sim_end end_of_time(void)
{
    return sim.is_first_ended ? SIM_LEFT : SIM_TIME_OUT;
}

void sim_door(void)
{
    struct sim_thread *me = sim.current;

    il_assert(me != NULL); /* services have no business behind these doors */
    sim.now_ns += sim.weights.door_ns;
    step_count();
    if (sim.now_ns > sim.limit_ns) {
        world_stop(end_of_time(), "the time is over: thread %u '%s' runs", me->number, me->name);
    }
    if (sim.heap_count > 0 && sim.heap[1]->at_ns <= sim.now_ns) {
        me->state = SIM_THREAD_READY;
        sim.interrupted = me;
        thread_leave(me, NULL);
    }
    sys_point();
}

/* ---- the world's turn ---- */

/* "thread 2 'A' waits for a mutex of thread 3, for 12 ms; ..." */
static void describe_threads(char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    il_list_for_each(&sim.threads, node)
    {
        const struct sim_thread *thread = il_container_of(node, struct sim_thread, link);

        if (used < size) {
            used += (size_t)snprintf(
                text + used, size - used, "%sthread %u '%s' waits for %s %llu, for %llu ms",
                used > 0 ? "; " : "", thread->number, thread->name,
                thread->wait_what != NULL ? thread->wait_what : "its turn",
                (unsigned long long)thread->wait_number,
                (unsigned long long)((sim.now_ns - thread->since_ns) / SIM_NS_PER_MS));
        }
    }
}

static void world_fire_due(void)
{
    while (sim.heap_count > 0 && sim.heap[1]->at_ns <= sim.now_ns) {
        struct sim_timer *timer = sim.heap[1];

        timer_unset(timer);
        timer->fire(timer);
    }
}

/* To when something happens next; false when nothing will. */
static bool world_advance(void)
{
    char text[SIM_TEXT_SIZE - 64];

    if (sim.heap_count == 0) {
        describe_threads(text, sizeof(text));
        world_stop(SIM_DEADLOCK, "%s", text);
        return false;
    }
    sim.now_ns = il_max_u64(sim.now_ns, sim.heap[1]->at_ns);
    if (sim_fault(SIM_FAULT_JUMP)) {
        uint64_t ns = draw_of(SIM_FOR_FAULTS, JUMP_NS_MAX);

        sim.now_ns += ns;
        sim.limit_ns += ns;
    }
    if (sim.now_ns > sim.limit_ns) {
        describe_threads(text, sizeof(text));
        world_stop(end_of_time(), "%s", text);
        return false;
    }
    return true;
}

static void thread_free(struct sim_thread *thread)
{
    free(thread);
}

/* Whoever has just ended has left its stack by now. */
static void world_bury(void)
{
    struct sim_thread *thread = sim.ended;

    if (thread != NULL) {
        sim.ended = NULL;
        (void)fiber_deinit_on(&thread->first);
        stack_give_back(thread->stack);
        thread->stack = NULL;
        if (thread->is_detached) {
            thread_free(thread);
        }
    }
}

static struct sim_thread *world_choose(void)
{
    struct sim_thread *thread = sim.interrupted;

    sim.interrupted = NULL;
    return thread != NULL ? thread : ready_pick();
}

void world_go_on(void)
{
    points_draw();
    while (!sim.is_stopped && sim.thread_live_count > 0) {
        struct sim_thread *thread;

        world_fire_due();
        thread = world_choose();
        if (thread != NULL) {
            world_enter(thread);
            world_bury();
        } else if (!world_advance()) {
            break;
        }
    }
}

/* ---- life ---- */

static void thread_main(void *arg)
{
    struct sim_thread *me = arg;

    me->run(me->arg);
    if (me->self.on_exit != NULL) {
        me->self.on_exit(me->self.context);
    }
    trace(SIM_EVENT_THREAD_END, me->number, 0, me->name);
    me->state = SIM_THREAD_ENDED;
    il_list_unlink(&me->link);
    sim.thread_live_count--;
    thread_wake(me);
    if (me->number == 1) {
        sim.is_first_ended = true;
        sim.limit_ns = il_min_u64(sim.limit_ns, sim.now_ns + LINGER_NS);
    }
    sim.last = NULL;
    sim.current = NULL;
    sim.ended = me;
    fiber_switch_exit(&me->first, &sim.world);
}

int thread_new(const char *name, void (*run)(void *arg), void *arg, struct sim_thread **ret_thread)
{
    struct sim_thread *thread;

    if (sim.thread_live_count == SIM_THREADS_MAX) {
        return -EAGAIN;
    }
    thread = calloc(1, sizeof(*thread));
    il_assert(thread != NULL);
    thread->number = ++sim.report->thread_count;
    (void)snprintf(thread->name, sizeof(thread->name), "%s", name);
    thread->self.number = thread->number;
    thread->self.kernel_id = (int)thread->number;
    thread->run = run;
    thread->arg = arg;
    thread->priority = (int64_t)draw_of(SIM_FOR_SCHEDULE, 1u << 20);
    thread->overdue.fire = thread_on_overdue;
    thread->stack = stack_new();
    fiber_init_on(&thread->first, &thread->stack->stack, thread_main, thread);
    il_list_init(&thread->link);
    il_list_push_back(&sim.threads, &thread->link);
    sim.thread_live_count++;
    trace(SIM_EVENT_THREAD_START, thread->number, 0, thread->name);
    ready_push(thread);
    *ret_thread = thread;
    return 0;
}

void thread_join(struct sim_thread *thread)
{
    while (thread->state != SIM_THREAD_ENDED) {
        (void)thread_wait(thread, "the end of thread", thread->number, SYS_FOREVER);
    }
    il_assert(thread->stack == NULL || sim.ended == thread);
    if (thread->stack == NULL) {
        thread_free(thread);
    } else {
        thread->is_detached = true; /* the world frees it with its stack */
    }
}

void thread_detach(struct sim_thread *thread)
{
    thread->is_detached = true;
    if (thread->state == SIM_THREAD_ENDED) {
        thread_free(thread);
    }
}

/* After a run that was stopped: their stacks hold frames that nobody will leave. */
void threads_end(void)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&sim.threads)) != NULL) {
        struct sim_thread *thread = il_container_of(node, struct sim_thread, link);

        if (!thread->is_started || thread->first.state == FIBER_RUNNING) {
            thread->first.state = FIBER_SUSPENDED; /* thrown away as it is */
            thread->first.sp = thread->is_started ? thread->stack->stack.low : thread->first.sp;
        }
        (void)fiber_deinit_on(&thread->first);
        stack_give_back(thread->stack);
        thread_free(thread);
    }
    sim.thread_live_count = sim.ready_count = 0;
}

/* ---- for those within ---- */

const char *sim_thread_name(void)
{
    return sim.current != NULL ? sim.current->name : "network";
}

void sim_step(void)
{
    sim_door();
}

void sim_changed(void)
{
    thread_wake(&sim.changes);
}

bool sim_wait_until(bool (*is_true)(void *arg), void *arg, uint64_t timeout_ns, const char *what)
{
    uint64_t until_ns =
        timeout_ns < SIM_FOREVER - sim.now_ns ? sim.now_ns + timeout_ns : SIM_FOREVER;

    sim_door();
    while (!is_true(arg)) {
        if (!thread_wait(&sim.changes, what, 0, until_ns)) {
            return is_true(arg);
        }
    }
    return true;
}
