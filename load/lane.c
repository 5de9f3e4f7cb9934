/* lane.c: see lane.h.
 *
 * Owns: the runtime, the request, the permits, the tally; one reference to the client. Threads: the
 *   tasks run on the lane's own. Ends: lane_end() cancels the tasks that are left; a request that
 *   is cut short so counts as unfinished. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lane.h"

#define LANE_REST_MS 10 /* after a connection was refused, in a closed loop */

/* ---- the end ---- */

void finish_init(struct finish *finish)
{
    pthread_condattr_t attributes;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&finish->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&finish->mutex, NULL);
    finish->is_finished = false;
}

void finish_deinit(struct finish *finish)
{
    pthread_cond_destroy(&finish->changed);
    pthread_mutex_destroy(&finish->mutex);
}

void finish_post(struct finish *finish)
{
    pthread_mutex_lock(&finish->mutex);
    finish->is_finished = true;
    pthread_cond_signal(&finish->changed);
    pthread_mutex_unlock(&finish->mutex);
}

bool finish_wait(struct finish *finish, uint64_t deadline_ns)
{
    struct timespec deadline = { .tv_sec = (time_t)(deadline_ns / 1000000000),
                                 .tv_nsec = (long)(deadline_ns % 1000000000) };
    bool is_finished;
    int failed = 0;

    pthread_mutex_lock(&finish->mutex);
    while (!finish->is_finished && failed == 0) {
        failed = pthread_cond_timedwait(&finish->changed, &finish->mutex, &deadline);
    }
    is_finished = finish->is_finished;
    pthread_mutex_unlock(&finish->mutex);
    return is_finished;
}

/* ---- what is due ---- */

uint64_t plan_due_ns(const struct plan *plan, uint64_t number)
{
    return plan->start_ns + (uint64_t)((double)number * plan->interval_ns);
}

uint64_t plan_count_due(const struct plan *plan, uint64_t now_ns)
{
    uint64_t end_ns = atomic_load(&plan->end_ns), count;
    uint64_t last_ns = now_ns < end_ns ? now_ns : end_ns - 1;

    if (last_ns < plan->start_ns) {
        return 0;
    }
    count = (uint64_t)((double)(last_ns - plan->start_ns) / plan->interval_ns) + 1;
    if (plan->options->requests > 0 && count > plan->warm_up_count + plan->options->requests) {
        count = plan->warm_up_count + plan->options->requests;
    }
    return count;
}

uint64_t lane_share(const struct lane *lane, uint64_t count)
{
    uint64_t runtimes = lane->plan->options->runtimes;

    return (count + runtimes - 1 - lane->index) / runtimes;
}

/* One request that may be started. */
struct turn {
    uint64_t due_ns;
    bool is_counted; /* not part of the warm-up */
};

static bool lane_take_closed(struct lane *lane, struct turn *ret_turn)
{
    struct plan *plan = lane->plan;
    uint64_t now_ns = il_now_ns();

    if (now_ns >= atomic_load_explicit(&plan->end_ns, memory_order_relaxed)) {
        return false;
    }
    ret_turn->due_ns = now_ns;
    ret_turn->is_counted = now_ns >= plan->measure_ns;
    return !ret_turn->is_counted || plan->options->requests == 0 ||
           atomic_fetch_add_explicit(&plan->tickets, 1, memory_order_relaxed) <
               plan->options->requests;
}

static bool lane_take_open(struct lane *lane, struct turn *ret_turn)
{
    struct plan *plan = lane->plan;
    uint64_t number;

    if (il_semaphore_acquire(lane->permits, 1, IL_FOREVER, NULL) != IL_OK) {
        return false; /* the lane is being ended */
    }
    if (atomic_load_explicit(&plan->is_over, memory_order_relaxed)) {
        return false;
    }
    number = atomic_fetch_add_explicit(&lane->next, 1, memory_order_relaxed);
    number = number * plan->options->runtimes + lane->index;
    if (number >= plan_count_due(plan, UINT64_MAX - 1)) {
        return false; /* a permit to end */
    }
    ret_turn->due_ns = plan_due_ns(plan, number);
    ret_turn->is_counted = number >= plan->warm_up_count;
    return true;
}

static bool lane_take(struct lane *lane, struct turn *ret_turn)
{
    if (atomic_load_explicit(&lane->plan->is_over, memory_order_relaxed)) {
        return false;
    }
    return lane->plan->interval_ns > 0 ? lane_take_open(lane, ret_turn)
                                       : lane_take_closed(lane, ret_turn);
}

/* ---- one request ---- */

static enum il_code lane_exchange(struct lane *lane, struct il_response **ret_response,
                                  uint64_t *ret_size, struct il_error *err)
{
    struct il_response *response;
    uint64_t total = 0;
    size_t size = 0;
    enum il_code code = il_send_streaming(lane->client, lane->request, &response, err);

    if (code != IL_OK) {
        return code;
    }
    do {
        code = il_response_read(response, lane->waste, sizeof(lane->waste), &size, err);
        total += size;
    } while (code == IL_OK && size > 0);
    if (code != IL_OK) {
        il_response_free(response);
        return code;
    }
    *ret_response = response;
    *ret_size = total;
    return IL_OK;
}

static bool is_about_connecting(const struct il_error *err)
{
    return err->code == IL_ECONNECT || err->code == IL_ERESOLVE || err->code == IL_ETLS ||
           err->code == IL_ECERT || err->phase == IL_PHASE_RESOLVE ||
           err->phase == IL_PHASE_CONNECT || err->phase == IL_PHASE_TLS;
}

/* As long as nobody was ever reached, the run is given up when each connection has failed. */
static void lane_on_unreached(struct lane *lane, const struct il_error *err)
{
    struct plan *plan = lane->plan;

    if (!atomic_load(&plan->is_reached)) {
        uint64_t count = atomic_fetch_add(&plan->unreached, 1) + 1;

        if (count == 1) {
            plan->unreached_err = *err;
        }
        if (count == plan->options->connections) {
            finish_post(&plan->finish);
        }
    }
    if (plan->interval_ns == 0) {
        (void)il_sleep_ms(LANE_REST_MS); /* cancelled: the next send will say so */
    }
}

static void lane_on_reached(struct lane *lane)
{
    if (!atomic_load_explicit(&lane->plan->is_reached, memory_order_relaxed)) {
        atomic_store(&lane->plan->is_reached, true);
    }
}

/* False: the task is being ended. */
static bool lane_on_failed(struct lane *lane, const struct turn *turn,
                           const struct tally_times *times, const struct il_error *err)
{
    if (err->code == IL_ECANCELED || err->code == IL_ESHUTDOWN) {
        if (turn->is_counted) {
            tally_record_unfinished(&lane->tally, times->due_ns, times->done_ns);
        }
        return false;
    }
    if (turn->is_counted) {
        tally_record_failure(&lane->tally, times, err);
    }
    if (is_about_connecting(err)) {
        lane_on_unreached(lane, err);
    } else {
        lane_on_reached(lane);
    }
    return true;
}

/* False: the task is being ended. */
static bool lane_serve(struct lane *lane, const struct turn *turn)
{
    struct plan *plan = lane->plan;
    struct tally_times times = { .due_ns = turn->due_ns };
    struct il_response *response;
    struct il_error err;
    uint64_t size;
    enum il_code code;

    times.started_ns = plan->interval_ns > 0 ? il_now_ns() : turn->due_ns;
    atomic_fetch_add_explicit(&lane->in_flight, 1, memory_order_relaxed);
    code = lane_exchange(lane, &response, &size, &err);
    atomic_fetch_sub_explicit(&lane->in_flight, 1, memory_order_relaxed);
    times.done_ns = il_now_ns();
    times.is_in_time = times.done_ns <= atomic_load_explicit(&plan->end_ns, memory_order_relaxed);
    if (code != IL_OK) {
        return lane_on_failed(lane, turn, &times, &err);
    }
    lane_on_reached(lane);
    if (turn->is_counted) {
        tally_record_answer(&lane->tally, &times, response, size);
    }
    il_response_free(response);
    return true;
}

static void lane_run_task(void *arg)
{
    struct lane *lane = arg;
    struct plan *plan = lane->plan;
    struct turn turn;

    if (plan->interval_ns > 0 ||
        il_semaphore_acquire(lane->permits, 1, IL_FOREVER, NULL) == IL_OK) {
        while (lane_take(lane, &turn) && lane_serve(lane, &turn)) {
        }
    }
    if (atomic_fetch_sub(&plan->tasks, 1) == 1) {
        finish_post(&plan->finish);
    }
}

/* ---- the lane ---- */

/* "Name: value" */
static enum il_code lane_add_header(struct il_request *request, const char *line,
                                    struct il_error *err)
{
    size_t name_size = strcspn(line, ":");
    const char *value = line + name_size + 1;
    char name[256];

    if (snprintf(name, sizeof(name), "%.*s", (int)name_size, line) >= (int)sizeof(name)) {
        *err = (struct il_error){ .code = IL_EREQUEST };
        (void)snprintf(err->message, sizeof(err->message),
                       "the name of a header is longer than %zu bytes", sizeof(name) - 1);
        return IL_EREQUEST;
    }
    return il_request_add_header(request, name, value + strspn(value, " \t"), err);
}

static enum il_code lane_make_request(struct lane *lane, struct il_error *err)
{
    static const enum il_phase phases[] = { IL_PHASE_POOL_WAIT,  IL_PHASE_RESOLVE,
                                            IL_PHASE_CONNECT,    IL_PHASE_WRITE,
                                            IL_PHASE_FIRST_BYTE, IL_PHASE_READ };
    const struct bench_options *options = lane->plan->options;
    enum il_code code = il_request_new(options->method, options->url, &lane->request, err);

    for (unsigned i = 0; code == IL_OK && i < options->header_count; i++) {
        code = lane_add_header(lane->request, options->headers[i], err);
    }
    if (code == IL_OK && options->body != NULL) {
        code = il_request_set_body(lane->request, options->body, options->body_size, err);
    }
    for (size_t i = 0; code == IL_OK && i < sizeof(phases) / sizeof(phases[0]); i++) {
        code = il_request_set_timeout_ms(lane->request, phases[i], IL_NO_LIMIT);
    }
    if (code == IL_OK) { /* the one limit: that of the whole */
        code =
            il_request_set_timeout_ms(lane->request, IL_PHASE_TOTAL,
                                      options->timeout_ms > 0 ? options->timeout_ms : IL_NO_LIMIT);
    }
    return code;
}

static enum il_code lane_make_runtime(struct lane *lane, struct il_error *err)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    char name[24];

    (void)snprintf(name, sizeof(name), "bench-%u", lane->index + 1);
    options.name = name;
    options.worker_count = 1;
    return il_runtime_new(&options, &lane->runtime, err);
}

static enum il_code lane_spawn_tasks(struct lane *lane, struct il_error *err)
{
    for (uint64_t i = 0; i < lane->task_count; i++) {
        enum il_code code;

        atomic_fetch_add(&lane->plan->tasks, 1);
        code = il_spawn(lane->runtime, "sender", lane_run_task, lane, NULL, err);
        if (code != IL_OK) {
            atomic_fetch_sub(&lane->plan->tasks, 1);
            return code;
        }
    }
    return IL_OK;
}

enum il_code lane_init(struct lane *lane, struct plan *plan, unsigned index, uint64_t task_count,
                       struct il_client *client, struct il_error *err)
{
    enum il_code code;

    *lane = (struct lane){ .plan = plan, .index = index, .task_count = task_count };
    lane->client = il_client_ref(client);
    if (!tally_init(&lane->tally)) {
        *err = (struct il_error){ .code = IL_ENOMEM, .message = "out of memory for the counts" };
        return IL_ENOMEM;
    }
    code = lane_make_request(lane, err);
    if (code == IL_OK) {
        code = il_semaphore_new("permits", 0, &lane->permits, err);
    }
    if (code == IL_OK) {
        code = lane_make_runtime(lane, err);
    }
    if (code == IL_OK) {
        code = lane_spawn_tasks(lane, err);
    }
    return code;
}

void lane_post(struct lane *lane, uint64_t count)
{
    while (count > 0) {
        uint32_t now =
            count < IL_SEMAPHORE_PERMITS_MAX / 2 ? (uint32_t)count : IL_SEMAPHORE_PERMITS_MAX / 2;

        if (il_semaphore_release(lane->permits, now, NULL) != IL_OK) {
            return; /* two thousand million are waiting already */
        }
        count -= now;
    }
}

static void lane_count_unsent(struct lane *lane, uint64_t now_ns)
{
    const struct plan *plan = lane->plan;
    uint64_t share = lane_share(lane, plan_count_due(plan, now_ns));

    for (uint64_t i = atomic_load(&lane->next); i < share; i++) {
        uint64_t number = i * plan->options->runtimes + lane->index;

        if (number >= plan->warm_up_count) {
            tally_record_unsent(&lane->tally, plan_due_ns(plan, number), now_ns);
        }
    }
}

void lane_end(struct lane *lane)
{
    lane->runtime = il_runtime_drop(lane->runtime);
    if (lane->plan->interval_ns > 0) {
        lane_count_unsent(lane, il_now_ns());
    }
}

void lane_deinit(struct lane *lane)
{
    il_runtime_drop(lane->runtime);
    il_semaphore_unref(lane->permits);
    il_request_free(lane->request);
    il_client_unref(lane->client);
    tally_deinit(&lane->tally);
    *lane = (struct lane){ 0 };
}
