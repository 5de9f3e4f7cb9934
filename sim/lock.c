/* lock.c: mutexes and conditions. A mutex is given to nobody: whoever runs first takes it. One that
 * was never initialised but is all zero is a free one, as with pthreads.
 *
 * Owns: nothing; a mutex holds its owner. Threads: simulated ones. */
#include "sim/inside.h"
#include "sim/points.h"

void lock_init(struct sys_mutex *mutex)
{
    memset(mutex, 0, sizeof(*mutex));
}

void lock_deinit(struct sys_mutex *mutex)
{
    il_assert(mutex->world == NULL); /* somebody still holds it */
}

void lock_take(struct sys_mutex *mutex)
{
    sys_point();
    il_assert(mutex->world != sim.current); /* it would wait for itself */
    while (mutex->world != NULL) {
        const struct sim_thread *owner = mutex->world;

        (void)thread_wait(mutex, "a mutex of thread", owner->number, SYS_FOREVER);
    }
    mutex->world = sim.current;
}

void lock_give(struct sys_mutex *mutex)
{
    il_assert(mutex->world == sim.current);
    mutex->world = NULL;
    thread_wake(mutex);
    sys_point();
}

void condition_init(struct sys_cond *cond)
{
    memset(cond, 0, sizeof(*cond));
}

void condition_deinit(struct sys_cond *cond)
{
    il_list_for_each(&sim.threads, node)
    {
        const struct sim_thread *thread = il_container_of(node, struct sim_thread, link);

        il_assert(thread->state != SIM_THREAD_WAITING || thread->wait_object != cond);
    }
}

bool condition_wait(struct sys_cond *cond, struct sys_mutex *mutex, uint64_t deadline_ns)
{
    bool is_in_time = true;

    sim_door();
    il_assert(mutex->world == sim.current);
    mutex->world = NULL;
    thread_wake(mutex);
    if (!sim_fault(SIM_FAULT_SPURIOUS)) {
        is_in_time = thread_wait(cond, "a condition", 0, deadline_ns);
    }
    lock_take(mutex);
    return is_in_time;
}

void condition_broadcast(struct sys_cond *cond)
{
    thread_wake(cond);
    sys_point();
}
