/* blocking.c: code that is known to block: announced, sent to a pool of threads, or pinned.
 *
 * Owns: the crew of threads for il_spawn_blocking. Threads: any. A job's mutex is a leaf.
 * Ends: the threads end when they are idle for long, or with the last runtime. */
#include <stdio.h>

#include "rt/handover.h"
#include "rt/task.h"

#define BLOCKING_COUNT_MAX 64
#define BLOCKING_QUEUE_MAX 4096
#define THREAD_IDLE_MS     10000
#define SPARE_COUNT_MAX    64

/* What may be asked for. */
#define LIMIT_THREADS 10000
#define LIMIT_QUEUE   10000000

struct crew rt_spares =
    CREW_INIT("il-spare", true, SPARE_COUNT_MAX, 0, THREAD_IDLE_MS *(uint64_t)LOOP_NS_PER_MS);
struct crew rt_blocking = CREW_INIT("il-blocking", false, BLOCKING_COUNT_MAX, BLOCKING_QUEUE_MAX,
                                    THREAD_IDLE_MS *(uint64_t)LOOP_NS_PER_MS);

/* ---- in place ---- */

void il_block_in_place(il_task_fn *run, void *arg)
{
    struct il_task *task = il_task_current();

    if (task == NULL || task->is_orphan || !loop_is_in_user_here(task->party.loop)) {
        run(arg);
        return;
    }
    task->is_announced = true;
    handover_announce(&task->home->seat);
    run(arg);
    if (loop_is_in_user_here(task->party.loop)) {
        task->is_announced = false; /* it was not needed */
    }                               /* else until it is back on its loop */
}

/* ---- pins ---- */

static enum il_code task_change_pin(int change)
{
    struct il_task *task = il_task_current();
    struct rt_place place;
    enum il_code code;

    if (task == NULL) {
        return IL_EINVAL;
    }
    code = rt_enter(&place, false, NULL);
    if (code != IL_OK) {
        return code;
    }
    if (change < 0 && task->pin_count == 0) {
        code = IL_EINVAL;
    } else {
        task->pin_count += (unsigned)change;
        atomic_fetch_add(&place.loop->shared.pin_count, (uint32_t)change);
    }
    rt_leave(&place);
    return code;
}

enum il_code il_task_pin(void)
{
    return task_change_pin(1);
}

enum il_code il_task_unpin(void)
{
    return task_change_pin(-1);
}

/* ---- on the pool ---- */

/*   QUEUED --- a thread takes it ---> BEGUN ------> OVER
 *      |                                |
 *      +--- withdrawn, or refused       +--- abandoned: nobody waits for its end
 */
struct blocking_job {
    struct crew_work work;
    il_blocking_fn *run;
    void *arg;
    _Atomic int ref_count; /* the task that waits, and the thread that runs it */

    struct { /* either of them, with mutex held */
        struct sys_mutex mutex;
        struct il_task *task; /* that waits; a reference; NULL: none any more */
        enum il_code refusal; /* if it has not begun, it does so with this code */
        bool is_begun, is_over;
    } locked;
};

static void job_unref(struct blocking_job *job)
{
    if (atomic_fetch_sub(&job->ref_count, 1) == 1) {
        sys_mutex_deinit(&job->locked.mutex);
        il_free(job);
    }
}

/* On a thread of the pool. */
static void job_run(struct crew_work *work)
{
    struct blocking_job *job = il_container_of(work, struct blocking_job, work);
    struct il_task *task;
    enum il_code start;

    sys_mutex_lock(&job->locked.mutex);
    start = job->locked.refusal;
    if (start == IL_OK && job->locked.task != NULL &&
        atomic_load(&job->locked.task->cancel_requested)) {
        start = IL_ECANCELED;
    }
    job->locked.is_begun = true;
    sys_mutex_unlock(&job->locked.mutex);

    crew_count_away(&rt_blocking, 1);
    job->run(job->arg, start);
    crew_count_away(&rt_blocking, -1);
    crew_give_back(&rt_blocking); /* before anybody hears that it is over */

    sys_mutex_lock(&job->locked.mutex);
    job->locked.is_over = true;
    task = job->locked.task;
    job->locked.task = NULL;
    sys_mutex_unlock(&job->locked.mutex);
    if (task != NULL) {
        party_wake(&task->party);
        (void)il_task_unref(task);
    }
    job_unref(job);
}

static bool job_is_over(struct blocking_job *job)
{
    bool is_over;

    sys_mutex_lock(&job->locked.mutex);
    is_over = job->locked.is_over;
    sys_mutex_unlock(&job->locked.mutex);
    return is_over;
}

/* Nobody waits for its end any more; if it has not begun, it does so as one that is refused. */
static void job_abandon(struct blocking_job *job)
{
    struct il_task *task;

    sys_mutex_lock(&job->locked.mutex);
    task = job->locked.task;
    job->locked.task = NULL;
    job->locked.refusal = IL_ESHUTDOWN;
    sys_mutex_unlock(&job->locked.mutex);
    (void)il_task_unref(task);
}

/* Wait until it is over. Anything but IL_OK: it never began and never will, it was taken back. */
static enum il_code job_wait(struct blocking_job *job, struct rt_place *place)
{
    enum il_code code = IL_OK;

    while (!job_is_over(job) && code == IL_OK) {
        code = rt_wait(place, IL_FOREVER, "blocking pool");
    }
    if (code == IL_OK) {
        return IL_OK;
    }
    if (crew_withdraw(&rt_blocking, &job->work)) {
        crew_give_back(&rt_blocking);
        job_unref(job); /* the thread's that will not come */
        return code;
    }
    while (!job_is_over(job) && rt_check_cancelled(place) != IL_ESHUTDOWN) {
        rt_wait_regardless(place, "blocking pool");
    }
    return IL_OK;
}

/* The task that stands for the job. */
static void job_task(void *arg)
{
    struct blocking_job *job = arg;
    struct rt_place place;
    enum il_code code = IL_OK;

    if (rt_enter(&place, false, NULL) == IL_OK) {
        code = job_wait(job, &place);
        rt_leave(&place);
    }
    job_abandon(job);
    if (code != IL_OK) {
        job->run(job->arg, code);
    }
    job_unref(job);
}

static struct blocking_job *job_new(il_blocking_fn *run, void *arg)
{
    struct blocking_job *job = il_calloc(1, sizeof(*job));

    if (job != NULL) {
        job->work.run = job_run;
        job->run = run;
        job->arg = arg;
        atomic_init(&job->ref_count, 2);
        sys_mutex_init(&job->locked.mutex);
        il_list_init(&job->work.link);
    }
    return job;
}

static void job_submit(struct blocking_job *job, struct il_task *task)
{
    sys_mutex_lock(&job->locked.mutex);
    if (job->locked.refusal == IL_OK) { /* else the task has left already */
        job->locked.task = il_task_ref(task);
    }
    sys_mutex_unlock(&job->locked.mutex);
    crew_submit(&rt_blocking, &job->work);
}

enum il_code il_spawn_blocking(struct il_runtime *runtime, const char *name, il_blocking_fn *run,
                               void *arg, struct il_task **ret_task, struct il_error *err)
{
    struct blocking_job *job;
    struct il_task *task;
    enum il_code code;

    if (runtime == NULL || run == NULL) {
        return il_fail(err, IL_EINVAL, "il_spawn_blocking: %s is NULL",
                       runtime == NULL ? "runtime" : "run");
    }
    job = job_new(run, arg);
    if (job == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a piece of blocking work");
    }
    code = crew_reserve(&rt_blocking, err);
    if (code == IL_OK) {
        code = il_spawn(runtime, name != NULL ? name : "blocking", job_task, job, &task, err);
        if (code != IL_OK) {
            crew_give_back(&rt_blocking);
        }
    }
    if (code != IL_OK) {
        job_unref(job);
        job_unref(job);
        return code;
    }
    job_submit(job, task);
    if (ret_task != NULL) {
        *ret_task = task;
    } else {
        (void)il_task_unref(task);
    }
    return IL_OK;
}

/* ---- limits ---- */

static unsigned or_default(unsigned value, unsigned value_default)
{
    return value > 0 ? value : value_default;
}

static uint64_t idle_ns(uint64_t ms)
{
    return il_min_u64(ms > 0 ? ms : THREAD_IDLE_MS, IL_FOREVER / 4 / LOOP_NS_PER_MS) *
           LOOP_NS_PER_MS;
}

enum il_code il_set_thread_limits(const struct il_thread_limits *limits, struct il_error *err)
{
    if (limits == NULL || limits->size != sizeof(*limits)) {
        return il_fail(err, IL_EINVAL,
                       "il_thread_limits: want their size (IL_THREAD_LIMITS_INIT sets it)");
    }
    if (limits->spare_count_max > LIMIT_THREADS || limits->blocking_count_max > LIMIT_THREADS ||
        limits->blocking_queue_max > LIMIT_QUEUE) {
        return il_fail(err, IL_EINVAL,
                       "il_thread_limits: at most %d spare threads, %d for blocking code, %d that "
                       "wait for one",
                       LIMIT_THREADS, LIMIT_THREADS, LIMIT_QUEUE);
    }
    crew_set_limits(&rt_spares, or_default(limits->spare_count_max, SPARE_COUNT_MAX), 0,
                    idle_ns(limits->spare_idle_ms));
    crew_set_limits(&rt_blocking, or_default(limits->blocking_count_max, BLOCKING_COUNT_MAX),
                    or_default(limits->blocking_queue_max, BLOCKING_QUEUE_MAX),
                    idle_ns(limits->blocking_idle_ms));
    return IL_OK;
}
