/* crew.c: threads that wait for work.
 *
 * Owns: its threads. Each has a record of its own with a condition of its own, so that a piece of
 *   work wakes one thread.
 * Threads: any. crew->mutex guards all of a crew and is a leaf; a thread is started under it, so
 *   that the thread finds its record complete.
 * Ends: an idle thread by itself after a while, or by crew_dismiss, which joins it. */
#include "rt/crew.h"

#include <errno.h>

#include "rt/task.h"

struct crew_member {
    struct il_list link; /* crew->idle */
    struct crew *crew;
    struct sys_thread *thread;
    struct sys_cond wake;
    struct crew_work *work; /* given to it while it was idle */
    bool is_dismissed;      /* whoever dismissed it joins it and frees this */
};

/* ---- state of the process ---- */

#define PROCESS_STATE_BUSY UINT32_MAX

bool process_state_must_make(struct process_state *state)
{
    uint32_t generation = sys_fork_generation();
    uint32_t seen = atomic_load(&state->generation);

    while (seen != generation) {
        if (seen != PROCESS_STATE_BUSY &&
            atomic_compare_exchange_strong(&state->generation, &seen, PROCESS_STATE_BUSY)) {
            return true;
        }
        seen = atomic_load(&state->generation); /* another thread makes it; that is short */
    }
    return false;
}

void process_state_is_made(struct process_state *state)
{
    atomic_store(&state->generation, sys_fork_generation());
}

static void crew_lock(struct crew *crew) IL_ACQUIRES(crew->mutex) IL_NO_TSA
{
    if (IL_UNLIKELY(process_state_must_make(&crew->state))) {
        sys_mutex_init(&crew->mutex);
        il_list_init(&crew->idle);
        il_list_init(&crew->queue);
        sys_cond_init(&crew->changed);
        crew->thread_count = crew->busy_count = crew->queue_count = 0;
        crew->open_count = crew->away_count = 0;
        process_state_is_made(&crew->state);
    }
    sys_mutex_lock(&crew->mutex);
}

static void crew_unlock(struct crew *crew) IL_RELEASES(crew->mutex) IL_NO_TSA
{
    sys_mutex_unlock(&crew->mutex);
}

/* ---- a thread's life ---- */

static void member_free(struct crew_member *member)
{
    sys_cond_deinit(&member->wake);
    il_free(member);
}

/* The next piece of work; NULL: this thread ends. The thread counts as busy when it comes, and when
 * it leaves with work. */
static struct crew_work *member_next_locked(struct crew *crew, struct crew_member *member)
    IL_LOCKED(crew->mutex)
{
    uint64_t until_ns = sys_now_ns() + crew->idle_ns;
    struct il_list *node = il_list_pop_front(&crew->queue);

    if (node != NULL) {
        crew->queue_count--;
        return il_container_of(node, struct crew_work, link);
    }
    crew->busy_count--;
    if (crew->thread_count > crew->thread_count_max) {
        return NULL;
    }
    il_list_push_front(&crew->idle, &member->link);
    sys_cond_broadcast(&crew->changed);
    while (member->work == NULL && !member->is_dismissed) {
        /* the last one stays while there is work that has a place and is not submitted yet */
        bool may_end = crew->thread_count > 1 || crew->open_count == 0;

        if (!sys_cond_wait_until(&member->wake, &crew->mutex, until_ns) && member->work == NULL &&
            !member->is_dismissed) {
            if (may_end) {
                il_list_unlink(&member->link);
                return NULL;
            }
            until_ns = sys_now_ns() + crew->idle_ns;
        }
    }
    return member->work; /* whoever gave it has taken us off the list, and counted us busy */
}

static void member_main(void *arg)
{
    struct crew_member *member = arg;
    struct crew *crew = member->crew;
    struct crew_work *work;
    bool is_dismissed;

    rt_thread()->is_spare = crew->is_spare;
    crew_lock(crew); /* our record is complete */
    work = member->work != NULL ? member->work : member_next_locked(crew, member);
    while (work != NULL) {
        member->work = NULL;
        crew_unlock(crew);
        work->run(work);
        crew_lock(crew);
        work = member_next_locked(crew, member);
    }
    crew->thread_count--;
    is_dismissed = member->is_dismissed;
    crew_unlock(crew);
    if (!is_dismissed) {
        sys_thread_detach(member->thread);
        member_free(member);
    }
}

/* Start a thread; it counts as busy. With `work` NULL it becomes idle at once. */
static enum il_code crew_start_locked(struct crew *crew, struct crew_work *work,
                                      struct il_error *err)
{
    struct crew_member *member = il_calloc(1, sizeof(*member));
    int result = -ENOMEM;

    if (member != NULL) {
        il_list_init(&member->link);
        member->crew = crew;
        member->work = work;
        sys_cond_init(&member->wake);
        result = rt_thread_start(&member->thread, crew->thread_name, member_main, member);
    }
    if (result < 0) {
        if (member != NULL) {
            member_free(member);
        }
        return il_fail_errno(err, result == -ENOMEM ? IL_ENOMEM : IL_ESYS, -result,
                             "start thread '%s'", crew->thread_name);
    }
    crew->thread_count++;
    crew->busy_count++;
    return IL_OK;
}

/* ---- work ---- */

static bool crew_give_locked(struct crew *crew, struct crew_work *work)
{
    struct il_list *node = il_list_pop_front(&crew->idle);
    struct crew_member *member;

    if (node == NULL) {
        return false;
    }
    member = il_container_of(node, struct crew_member, link);
    member->work = work;
    crew->busy_count++;
    sys_cond_broadcast(&member->wake);
    return true;
}

bool crew_try_submit(struct crew *crew, struct crew_work *work, bool is_forced)
{
    bool is_taken;

    il_list_init(&work->link);
    crew_lock(crew);
    is_taken = crew_give_locked(crew, work) ||
               ((is_forced || crew->thread_count < crew->thread_count_max) &&
                crew_start_locked(crew, work, NULL) == IL_OK);
    crew_unlock(crew);
    return is_taken;
}

enum il_code crew_reserve(struct crew *crew, struct il_error *err)
{
    enum il_code code = IL_OK;

    crew_lock(crew);
    if (crew->open_count >= crew->thread_count_max + crew->queue_count_max) {
        code =
            il_fail(err, IL_ELIMIT,
                    "the threads '%s' have %u piece%s of work, under way or waiting, the most they "
                    "may have; see il_set_thread_limits",
                    crew->thread_name, crew->open_count, il_plural(crew->open_count));
    } else if (crew->open_count >= crew->thread_count &&
               crew->thread_count < crew->thread_count_max) {
        code = crew_start_locked(crew, NULL, err);
        code = crew->thread_count > 0 ? IL_OK : code; /* one is enough, if a slow one */
    }
    if (code == IL_OK) {
        crew->open_count++;
    }
    crew_unlock(crew);
    return code;
}

void crew_give_back(struct crew *crew)
{
    crew_lock(crew);
    il_assert(crew->open_count > 0);
    crew->open_count--;
    crew_unlock(crew);
}

void crew_submit(struct crew *crew, struct crew_work *work)
{
    il_list_init(&work->link);
    crew_lock(crew);
    if (!crew_give_locked(crew, work)) {
        il_list_push_back(&crew->queue, &work->link); /* some thread is busy, and looks here then */
        crew->queue_count++;
    }
    crew_unlock(crew);
}

bool crew_withdraw(struct crew *crew, struct crew_work *work)
{
    bool is_queued;

    crew_lock(crew);
    is_queued = il_list_is_linked(&work->link);
    if (is_queued) {
        il_list_unlink(&work->link);
        crew->queue_count--;
    }
    crew_unlock(crew);
    return is_queued;
}

/* ---- the end, limits, counts ---- */

void crew_count_away(struct crew *crew, int change)
{
    crew_lock(crew);
    crew->away_count += (unsigned)change;
    sys_cond_broadcast(&crew->changed);
    crew_unlock(crew);
}

static void crew_dismiss_idle_locked(struct crew *crew, struct il_list *dismissed)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&crew->idle)) != NULL) {
        struct crew_member *member = il_container_of(node, struct crew_member, link);

        member->is_dismissed = true;
        sys_cond_broadcast(&member->wake);
        il_list_push_back(dismissed, &member->link);
    }
}

void crew_dismiss(struct crew *crew)
{
    struct il_list dismissed = IL_LIST_INIT(dismissed);
    struct il_list *node;

    crew_lock(crew);
    crew_dismiss_idle_locked(crew, &dismissed);
    while (crew->busy_count > crew->away_count) {
        (void)sys_cond_wait_until(&crew->changed, &crew->mutex, SYS_FOREVER);
        crew_dismiss_idle_locked(crew, &dismissed);
    }
    crew_unlock(crew);
    while ((node = il_list_pop_front(&dismissed)) != NULL) {
        struct crew_member *member = il_container_of(node, struct crew_member, link);

        sys_thread_join(member->thread);
        member_free(member);
    }
}

void crew_set_limits(struct crew *crew, unsigned thread_count_max, unsigned queue_count_max,
                     uint64_t idle_ns)
{
    crew_lock(crew);
    crew->thread_count_max = thread_count_max;
    crew->queue_count_max = queue_count_max;
    crew->idle_ns = idle_ns;
    crew_unlock(crew);
}

void crew_counts(struct crew *crew, struct crew_counts *ret_counts)
{
    crew_lock(crew);
    *ret_counts = (struct crew_counts){
        .thread_count = crew->thread_count,
        .busy_count = crew->busy_count,
        .queue_count = crew->queue_count,
        .thread_count_max = crew->thread_count_max,
    };
    crew_unlock(crew);
}
