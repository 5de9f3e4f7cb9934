/* run.c: see run.h.
 *
 * Owns: the client or clients, the lanes, the plan, from run_play's begin to its end. Threads: the
 *   caller's, which waits, and meanwhile is the clock and shows the progress. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "lab/words.h"
#include "lane.h"
#include "run.h"

#define NS_PER_MS        UINT64_C(1000000)
#define NS_PER_S         UINT64_C(1000000000)
#define RUN_FILES_BESIDE 64               /* descriptors that are not connections */
#define RUN_SIGNAL_NS    (50 * NS_PER_MS) /* a signal is noticed within */
#define RUN_TICK_NS      UINT64_C(20000)  /* the clock posts at most so often */
#define RUN_DRAIN_NS     (RUN_DRAIN_MS * NS_PER_MS)
#define RUN_NEVER_NS     (UINT64_MAX / 4) /* later than any time; may be added to */
#define RUN_TIMER_SLACK  1UL              /* ns: the clock shall be on time */

struct usage {
    uint64_t user_us, system_us;
};

struct run {
    struct plan plan;
    struct lane *lanes;
    unsigned lane_count;
    struct tally sum; /* for the watcher */
    const struct run_watcher *watcher;
    struct usage measured_from;
    bool has_measured_from;
    bool is_interrupted;
    bool is_closing;   /* the end has come: what is due or under way may finish */
    uint64_t drain_ns; /* until then */
    uint64_t next_look_ns;
};

static enum il_code run_fail(struct il_error *err, enum il_code code, const char *message)
{
    *err = (struct il_error){ .code = code };
    (void)snprintf(err->message, sizeof(err->message), "%s", message);
    return code;
}

/* ---- beginning ---- */

static enum il_code run_raise_file_limit(uint64_t connections, struct il_error *err)
{
    uint64_t wanted = connections + RUN_FILES_BESIDE;
    struct rlimit files;
    char message[IL_ERROR_MESSAGE_SIZE];

    if (getrlimit(RLIMIT_NOFILE, &files) < 0) {
        return run_fail(err, IL_ESYS, "ask for the limit of open files");
    }
    if (files.rlim_cur >= wanted) {
        return IL_OK;
    }
    if (files.rlim_max < wanted) {
        (void)snprintf(message, sizeof(message),
                       "for %llu connection%s %llu open files are needed, and %llu allowed: "
                       "raise the limit (ulimit -Hn)",
                       (unsigned long long)connections, lab_plural(connections),
                       (unsigned long long)wanted, (unsigned long long)files.rlim_max);
        return run_fail(err, IL_ELIMIT, message);
    }
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
        return run_fail(err, IL_ESYS, "raise the limit of open files");
    }
    return IL_OK;
}

static enum il_code run_make_tls(const struct bench_options *options, struct il_tls **ret_tls,
                                 struct il_error *err)
{
    struct il_tls_options tls = IL_TLS_OPTIONS_INIT;

    *ret_tls = NULL;
    if (options->ca_file == NULL && !options->is_insecure) {
        return IL_OK; /* the client's own way */
    }
    tls.ca_file = options->ca_file;
    tls.insecure_no_verification = options->is_insecure;
    return il_tls_new(&tls, ret_tls, err);
}

static enum il_code run_make_client(const struct bench_options *options, struct il_tls *tls,
                                    struct il_client **ret_client, struct il_error *err)
{
    struct il_client_options client = IL_CLIENT_OPTIONS_INIT;

    client.tls = tls;
    client.http_version = options->http == BENCH_HTTP_AUTO  ? IL_HTTP_AUTO
                          : options->http == BENCH_HTTP_1_1 ? IL_HTTP_1_1
                                                            : IL_HTTP_2_PRIOR_KNOWLEDGE;
    client.name = "bench";
    client.no_keep_alive = options->no_keep_alive;
    client.idle_max = (uint32_t)options->connections;
    client.idle_per_host_max = (uint32_t)options->connections;
    return il_client_new(&client, ret_client, err);
}

/* The index-th of `count` shares of `whole`, as even as it goes. */
static uint64_t share(uint64_t whole, uint64_t count, uint64_t index)
{
    return whole / count + (index < whole % count ? 1 : 0);
}

static enum il_code run_make_lanes(struct run *run, const struct bench_options *options,
                                   struct il_error *err)
{
    struct il_client *client = NULL;
    struct il_tls *tls;
    enum il_code code;

    run->lanes = calloc(options->runtimes, sizeof(*run->lanes));
    if (run->lanes == NULL) {
        return run_fail(err, IL_ENOMEM, "out of memory for the runtimes");
    }
    code = run_make_tls(options, &tls, err);
    for (unsigned i = 0; code == IL_OK && i < options->runtimes; i++) {
        if (client == NULL || options->has_own_clients) {
            client = il_client_unref(client);
            code = run_make_client(options, tls, &client, err);
        }
        if (code == IL_OK) {
            run->lane_count++;
            code = lane_init(&run->lanes[i], &run->plan, i,
                             share(options->connections, options->runtimes, i), client, err);
        }
    }
    il_client_unref(client);
    il_tls_unref(tls);
    return code;
}

static enum il_code run_begin(struct run *run, const struct bench_options *options,
                              struct il_error *err)
{
    enum il_code code = run_raise_file_limit(options->connections, err);

    run->plan.options = options;
    run->plan.interval_ns = options->rate > 0 ? (double)NS_PER_S / options->rate : 0;
    if (code == IL_OK && !tally_init(&run->sum)) {
        code = run_fail(err, IL_ENOMEM, "out of memory for the counts");
    }
    finish_init(&run->plan.finish);
    if (code == IL_OK) {
        code = run_make_lanes(run, options, err);
    }
    return code;
}

/* From now on time runs. */
static void run_start(struct run *run)
{
    const struct bench_options *options = run->plan.options;
    struct plan *plan = &run->plan;
    uint64_t now_ns = il_now_ns();

    (void)prctl(PR_SET_TIMERSLACK, RUN_TIMER_SLACK, 0, 0, 0); /* else the clock is 50 us late */
    plan->start_ns = now_ns;
    plan->measure_ns = now_ns + options->warm_up_ns;
    plan->end_ns =
        options->duration_ns > 0 ? plan->measure_ns + options->duration_ns : RUN_NEVER_NS;
    if (plan->interval_ns > 0) {
        plan->warm_up_count = (uint64_t)((double)options->warm_up_ns / plan->interval_ns);
        while (plan_due_ns(plan, plan->warm_up_count) < plan->measure_ns) {
            plan->warm_up_count++; /* what the division has cut off */
        }
    }
    run->next_look_ns = now_ns + run->watcher->every_ns;
    for (unsigned i = 0; plan->interval_ns == 0 && i < run->lane_count; i++) {
        lane_post(&run->lanes[i], run->lanes[i].task_count);
    }
}

/* ---- while it goes on ---- */

static struct usage usage_now(void)
{
    struct rusage usage;

    if (getrusage(RUSAGE_SELF, &usage) < 0) {
        return (struct usage){ 0 };
    }
    return (struct usage){
        .user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000 + (uint64_t)usage.ru_utime.tv_usec,
        .system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000 + (uint64_t)usage.ru_stime.tv_usec,
    };
}

static uint64_t earlier(uint64_t a_ns, uint64_t b_ns)
{
    return a_ns < b_ns ? a_ns : b_ns;
}

static void run_look(struct run *run, uint64_t now_ns)
{
    bool is_warming_up = now_ns < run->plan.measure_ns;
    struct run_view view = {
        .is_warming_up = is_warming_up,
        .elapsed_ns = now_ns - (is_warming_up ? run->plan.start_ns : run->plan.measure_ns),
        .tally = &run->sum,
    };

    tally_clear(&run->sum);
    for (unsigned i = 0; i < run->lane_count; i++) {
        tally_add(&run->sum, &run->lanes[i].tally);
        view.in_flight += run->lanes[i].in_flight;
    }
    run->watcher->look(run->watcher->arg, &view);
    run->next_look_ns = now_ns + run->watcher->every_ns;
}

static void run_close(struct run *run, uint64_t drain_ns)
{
    run->is_closing = true;
    run->drain_ns = drain_ns;
    if (run->plan.interval_ns > 0) {
        for (unsigned i = 0; i < run->lane_count; i++) {
            lane_post(&run->lanes[i], run->lanes[i].task_count); /* each task finds: none left */
        }
    }
}

/* Open loop: let those start that are due, and close behind the last. Returns when to come again.
 */
static uint64_t run_post_due(struct run *run, uint64_t now_ns)
{
    struct plan *plan = &run->plan;
    uint64_t count = plan_count_due(plan, now_ns);

    for (unsigned i = 0; i < run->lane_count; i++) {
        struct lane *lane = &run->lanes[i];
        uint64_t due = lane_share(lane, count);

        if (due > lane->posted) {
            lane_post(lane, due - lane->posted);
            lane->posted = due;
        }
    }
    if (count == plan_count_due(plan, UINT64_MAX)) {
        run_close(run, plan->end_ns + RUN_DRAIN_NS);
        return run->drain_ns;
    }
    return plan_due_ns(plan, count) > now_ns + RUN_TICK_NS ? plan_due_ns(plan, count)
                                                           : now_ns + RUN_TICK_NS;
}

static void run_on_signal(struct run *run, uint64_t now_ns)
{
    run->is_interrupted = true;
    atomic_store(&run->plan.end_ns, earlier(run->plan.end_ns, now_ns));
    run->drain_ns = earlier(run->drain_ns, now_ns + RUN_DRAIN_NS);
}

/* All that is to be done at this moment; returns when to come again. */
static uint64_t run_tick(struct run *run, uint64_t now_ns)
{
    struct plan *plan = &run->plan;
    uint64_t next_ns = now_ns + RUN_SIGNAL_NS;

    if (*run->watcher->should_stop && !run->is_interrupted) {
        run_on_signal(run, now_ns);
    }
    if (!run->has_measured_from && now_ns >= plan->measure_ns) {
        run->has_measured_from = true;
        run->measured_from = usage_now();
    }
    if (!run->is_closing && plan->interval_ns > 0) {
        next_ns = earlier(next_ns, run_post_due(run, now_ns));
    } else if (!run->is_closing && now_ns >= plan->end_ns) {
        run_close(run, now_ns + RUN_DRAIN_NS);
    }
    if (now_ns >= run->next_look_ns) {
        run_look(run, now_ns);
    }
    if (!run->has_measured_from) {
        next_ns = earlier(next_ns, plan->measure_ns);
    }
    next_ns = earlier(next_ns, run->is_closing ? run->drain_ns : plan->end_ns);
    return earlier(next_ns, run->next_look_ns);
}

/* ---- the end ---- */

static uint64_t run_elapsed_ns(const struct run *run, const struct tally *tally)
{
    const struct plan *plan = &run->plan;
    uint64_t end_ns = plan->end_ns;

    if (plan->options->requests > 0 && tally->last_done_ns > 0) {
        end_ns = earlier(end_ns, tally->last_done_ns);
    }
    return end_ns > plan->measure_ns ? end_ns - plan->measure_ns : 0;
}

static void run_add_stats(struct run_result *result, struct il_client *client)
{
    struct il_client_stats stats;

    il_client_stats(client, &stats);
    result->connections_opened += stats.connections_total;
    result->reuses += stats.reuses_total;
    result->moves += stats.moves_total;
    result->retries += stats.retries_total;
}

static bool run_finish(struct run *run, struct run_result *result, struct il_error *err)
{
    struct usage used = usage_now();

    atomic_store(&run->plan.is_over, true);
    for (unsigned i = 0; i < run->lane_count; i++) {
        lane_end(&run->lanes[i]);
    }
    if (!run->plan.is_reached && run->plan.unreached > 0) {
        *err = run->plan.unreached_err;
        return false;
    }
    *result = (struct run_result){ .is_interrupted = run->is_interrupted };
    if (!tally_init(&result->tally)) {
        (void)run_fail(err, IL_ENOMEM, "out of memory for the counts");
        return false;
    }
    for (unsigned i = 0; i < run->lane_count; i++) {
        tally_add(&result->tally, &run->lanes[i].tally);
        if (i == 0 || run->plan.options->has_own_clients) {
            run_add_stats(result, run->lanes[i].client);
        }
    }
    result->elapsed_ns = run_elapsed_ns(run, &result->tally);
    if (run->has_measured_from) {
        result->user_us = used.user_us - run->measured_from.user_us;
        result->system_us = used.system_us - run->measured_from.system_us;
    }
    return true;
}

static void run_deinit(struct run *run)
{
    for (unsigned i = 0; i < run->lane_count; i++) {
        lane_deinit(&run->lanes[i]);
    }
    free(run->lanes);
    finish_deinit(&run->plan.finish);
    tally_deinit(&run->sum);
}

bool run_play(const struct bench_options *options, const struct run_watcher *watcher,
              struct run_result *ret_result, struct il_error *err)
{
    struct run run = { .watcher = watcher, .drain_ns = RUN_NEVER_NS };
    bool is_played = run_begin(&run, options, err) == IL_OK;

    if (is_played) {
        uint64_t next_ns;

        run_start(&run);
        do {
            next_ns = run_tick(&run, il_now_ns());
        } while (il_now_ns() < run.drain_ns && !finish_wait(&run.plan.finish, next_ns));
        is_played = run_finish(&run, ret_result, err);
    }
    run_deinit(&run);
    return is_played;
}

void run_result_deinit(struct run_result *result)
{
    tally_deinit(&result->tally);
}
