/* coalesce_test.c: work that several requests wait for, a resolution or a connect: it goes on for
 * the others whatever becomes of the one that began it, and of that one's runtime.
 *
 * Everything is held up at one stage until both have got there: at the DNS server, in the TCP
 * handshake, or in the TLS handshake. Whether the server speaks HTTP/2 is known only afterwards. */
#include "rt/rt.h"
#include "tests/gate.h"
#include "tests/tls_check.h"

#define HOST "held.test"

enum stage {
    RESOLVING,
    CONNECTING,
    HANDSHAKING,
    STAGE_COUNT,
};

static const enum il_phase stage_phases[STAGE_COUNT] = {
    [RESOLVING] = IL_PHASE_RESOLVE,
    [CONNECTING] = IL_PHASE_CONNECT,
    [HANDSHAKING] = IL_PHASE_TLS,
};

static const struct server_rule HELD[] = {
    { .name = HOST,
      .manners = { SERVER_HOLDS, SERVER_HOLDS },
      .addresses = { NULL, "127.0.0.1" },
      .ttl_s = 30 },
};
static const struct server_rule ANSWERED[] = {
    { .name = HOST, .addresses = { NULL, "127.0.0.1" }, .ttl_s = 30 },
};

/* To be let into the TCP handshake takes a second, until the client's kernel tries again: once. */
static const struct situation {
    enum stage stage;
    bool is_h2;
} situations[] = {
    { RESOLVING, false },   { RESOLVING, true },   { CONNECTING, true },
    { HANDSHAKING, false }, { HANDSHAKING, true },
};

#define SITUATIONS il_array_count(situations)

static struct gate gate;
static struct names names;
static enum stage stage;
static bool is_h2;

static void start_with(const struct situation *situation, struct il_client_options options)
{
    const struct il_tls_options trusting = tls_trusting();
    const struct lab_certificate_options certificate = { .alternative_names = "DNS:" HOST };
    const struct lab_server_tls tls = { .alpn = situation->is_h2 ? "h2,http/1.1" : "http/1.1" };

    stage = situation->stage;
    is_h2 = situation->is_h2;
    tls_server_start(&certificate, &tls);
    names_start(&names, stage == RESOLVING ? HELD : ANSWERED, 1);
    gate_start(&gate, lab_server_port(server), stage == CONNECTING);
    options.tls = tls_new(&trusting);
    CHECK_OK(il_client_new(&options, &client, &err));
    (void)il_tls_unref(options.tls);
}

static void start(const struct situation *situation)
{
    start_with(situation, (struct il_client_options)IL_CLIENT_OPTIONS_INIT);
}

static void stop(void)
{
    gate_stop(&gate);
    names_stop(&names);
    tls_stop();
}

static void let_through(void)
{
    names.is_open = true;
    gate_open(&gate);
}

/* ---- calls, and where they are ---- */

struct phase_counter {
    enum il_phase phase;
    unsigned count;
};

static void count_call(const struct client_call_report *call, void *arg)
{
    struct phase_counter *counter = arg;

    counter->count += call->view.phase == counter->phase;
}

static void count_no_conn(const struct client_conn_report *conn, void *arg)
{
    il_maybe(arg != NULL);
}

static unsigned calls_in(enum il_phase phase)
{
    struct phase_counter counter = { .phase = phase };
    const struct client_reporter reporter = { count_call, count_no_conn, &counter };

    client_report(client, sys_now_ns(), &reporter);
    return counter.count;
}

/* In a task, or on a plain thread. */
static void wait_until_in(enum il_phase phase, unsigned count)
{
    while (calls_in(phase) != count) {
        CHECK_OK(il_sleep_ms(1));
    }
}

struct getter {
    struct il_task *task;
    uint64_t total_timeout_ms; /* 0: the client's */
    enum il_code code;
    struct il_error err;
    uint64_t connection_id;
    _Atomic bool is_done;
};

static void getter_run(void *arg)
{
    struct getter *getter = arg;
    struct il_response_timing timing;
    struct il_response *response;
    struct il_request *request;
    char url[80];

    (void)snprintf(url, sizeof(url), "https://" HOST ":%u/hello", gate.port);
    CHECK_OK(il_request_new("GET", url, &request, &getter->err));
    CHECK_OK(il_request_set_timeout_ms(request, IL_PHASE_TOTAL, getter->total_timeout_ms));
    getter->code = il_send(client, request, &response, &getter->err);
    il_request_free(request);
    if (getter->code == IL_OK) {
        CHECK_EQ(il_response_status(response), 200);
        CHECK_EQ(il_response_http_version(response), is_h2 ? 20 : 11);
        il_response_timing(response, &timing);
        CHECK(timing.started_ns <= timing.connected_ns);
        CHECK(timing.resolved_ns == 0 || timing.started_ns <= timing.resolved_ns);
        getter->connection_id = timing.connection_id;
        il_response_free(response);
    }
    getter->is_done = true;
}

static void getter_start(struct getter *getter, struct il_runtime *runtime)
{
    *getter = (struct getter){ .total_timeout_ms = getter->total_timeout_ms };
    CHECK_OK(il_spawn(runtime, "getter", getter_run, getter, &getter->task, &err));
}

static enum il_code getter_join(struct getter *getter)
{
    CHECK_OK(il_task_join(getter->task, IL_FOREVER, &err));
    getter->task = il_task_unref(getter->task);
    return getter->code;
}

/* ---- a runtime that begins, and then does no more ---- */

static struct il_runtime *runtime_new(enum il_runtime_kind kind)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD ? 1 : 0;
    options.hand_over_after_ms = IL_FOREVER; /* who is stuck stays so: others are to manage */
    CHECK_OK(il_runtime_new(&options, &runtime, &err));
    return runtime;
}

/* Returns when the getter has got as far as it can, and its runtime may stop. */
static void begin_here(void *arg)
{
    getter_start(arg, il_runtime_current());
    wait_until_in(stage_phases[stage], 1);
    while (stage == RESOLVING && names.held_count < 2) {
        CHECK_OK(il_sleep_ms(1));
    }
}

static void join_here(void *arg)
{
    (void)getter_join(arg);
}

/* Another runtime's request comes to the same stage, then the way is free. */
static void check_another_gets_through(unsigned calls_at_stage)
{
    struct il_runtime *runtime = runtime_new(IL_RUNTIME_MULTI_THREAD);
    struct getter other = { 0 };

    getter_start(&other, runtime);
    wait_until_in(stage_phases[stage], calls_at_stage);
    let_through();
    CHECK_EQ(getter_join(&other), IL_OK);
    il_runtime_drop(runtime);
}

TEST(runtime_that_parks_while_it_opens_a_connection_holds_up_nobody)
{
    for (size_t i = 0; i < SITUATIONS; i++) {
        struct getter first = { 0 };
        struct il_runtime *parked;

        start(&situations[i]);
        parked = runtime_new(IL_RUNTIME_CURRENT_THREAD);
        CHECK_OK(il_block_on(parked, begin_here, &first, &err));
        check_another_gets_through(2);
        CHECK(!first.is_done);
        CHECK_OK(il_block_on(parked, join_here, &first, &err)); /* it is driven again */
        CHECK_EQ(first.code, IL_OK);
        il_runtime_drop(parked);
        stop();
    }
}

/* Its place is taken for as long as it may stand still: after that, another's. */
TEST(runtime_that_parks_while_it_opens_the_only_connection_that_may_be_holds_up_nobody)
{
    for (size_t i = 0; i < SITUATIONS; i++) {
        struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
        struct getter first = { 0 };
        struct il_client_stats stats;
        struct il_runtime *parked;

        options.connections_per_host_max = 1;
        options.unread_timeout_ms = 20;
        options.pool_wait_timeout_ms = IL_NO_LIMIT;
        start_with(&situations[i], options);
        parked = runtime_new(IL_RUNTIME_CURRENT_THREAD);
        CHECK_OK(il_block_on(parked, begin_here, &first, &err));
        check_another_gets_through(2);
        CHECK(!first.is_done);
        CHECK_OK(il_block_on(parked, join_here, &first, &err)); /* it shares the other's */
        CHECK_EQ(first.code, IL_OK);
        il_client_stats(client, &stats);
        CHECK_EQ(stats.connections_total, 1);
        CHECK_EQ(stats.connections, 1);
        il_runtime_drop(parked);
        stop();
    }
}

TEST(runtime_that_is_dropped_while_it_opens_a_connection_holds_up_nobody)
{
    for (size_t i = 0; i < SITUATIONS; i++) {
        struct getter first = { 0 };
        struct il_runtime *dropped;

        start(&situations[i]);
        dropped = runtime_new(IL_RUNTIME_CURRENT_THREAD);
        CHECK_OK(il_block_on(dropped, begin_here, &first, &err));
        il_runtime_drop(dropped);
        CHECK(first.is_done);
        CHECK_EQ(first.code, IL_ESHUTDOWN);
        first.task = il_task_unref(first.task);
        check_another_gets_through(1);
        stop();
    }
}

static _Atomic bool must_block, is_blocking;

static void block_the_thread(void *arg)
{
    is_blocking = true;
    while (must_block) {
        (void)poll(arg, 0, 1);
    }
    is_blocking = false;
}

TEST(runtime_that_is_stuck_while_it_opens_a_connection_holds_up_nobody)
{
    for (size_t i = 0; i < SITUATIONS; i++) {
        struct getter first = { 0 };
        struct il_runtime *stuck;

        start(&situations[i]);
        stuck = runtime_new(IL_RUNTIME_MULTI_THREAD);
        CHECK_OK(il_block_on(stuck, begin_here, &first, &err));
        must_block = true;
        CHECK_OK(il_spawn(stuck, "blocker", block_the_thread, NULL, NULL, &err));
        while (!is_blocking) {
            CHECK_OK(il_sleep_ms(1));
        }
        check_another_gets_through(2);
        CHECK(!first.is_done);
        must_block = false;
        CHECK_EQ(getter_join(&first), IL_OK);
        il_runtime_drop(stuck);
        stop();
    }
}

/* ---- requests of one loop: the first opens for all ---- */

#define GETTERS 4

static struct getter getters[GETTERS];

/* The first has begun, the others wait for it. */
static void begin_all(void)
{
    begin_here(&getters[0]);
    for (unsigned i = 1; i < GETTERS; i++) {
        getter_start(&getters[i], il_runtime_current());
    }
    wait_until_in(IL_PHASE_POOL_WAIT, GETTERS - 1);
}

static void check_what_was_begun_served(unsigned first_served)
{
    struct il_client_stats stats;

    wait_until_in(stage_phases[stage], 1); /* one of them has taken over */
    CHECK_EQ(calls_in(IL_PHASE_POOL_WAIT), GETTERS - first_served - 1);
    let_through();
    for (unsigned i = first_served; i < GETTERS; i++) {
        CHECK_EQ(getter_join(&getters[i]), IL_OK);
        CHECK(!is_h2 || getters[i].connection_id == getters[first_served].connection_id);
    }
    il_client_stats(client, &stats);
    if (is_h2) { /* over HTTP/1.1 the others open their own, from then on */
        CHECK_EQ(stats.connections_total, 1);
        CHECK_EQ(gate.used_count, 1);
    }
    CHECK_EQ(names.asked_count, 2); /* AAAA and A, once */
}

static void cancel_two(void *arg)
{
    il_maybe(arg != NULL);
    begin_all();
    for (unsigned i = 0; i < 2; i++) { /* the one that began, and then its heir */
        il_task_cancel(getters[i].task);
        CHECK_EQ(getter_join(&getters[i]), IL_ECANCELED);
        wait_until_in(stage_phases[stage], 1);
    }
    check_what_was_begun_served(2);
}

static void run_out_of_time(void *arg)
{
    il_maybe(arg != NULL);
    getters[0].total_timeout_ms = 800; /* enough to come to the stage */
    begin_all();
    CHECK_EQ(getter_join(&getters[0]), IL_ETIMEDOUT);
    CHECK_EQ(getters[0].err.phase, stage_phases[stage]);
    check_what_was_begun_served(1);
}

static void run_on_one_loop(il_task_fn *run)
{
    for (size_t i = 0; i < SITUATIONS; i++) {
        struct il_runtime *runtime;

        start(&situations[i]);
        runtime = runtime_new(IL_RUNTIME_CURRENT_THREAD);
        memset(getters, 0, sizeof(getters));
        CHECK_OK(il_block_on(runtime, run, NULL, &err));
        il_runtime_drop(runtime);
        stop();
    }
}

TEST(what_a_cancelled_request_has_begun_goes_on_for_those_who_wait_for_it)
{
    run_on_one_loop(cancel_two);
}

TEST(what_a_request_out_of_time_has_begun_goes_on_for_those_who_wait_for_it)
{
    run_on_one_loop(run_out_of_time);
}

/* ---- what fails, fails for all who wait for it ---- */

#define SILENCE_MS 600

static void run_into_silence(void *arg)
{
    il_maybe(arg != NULL);
    for (unsigned i = 0; i < GETTERS; i++) { /* one after the other would take longer than that */
        getters[i].total_timeout_ms = GETTERS * SILENCE_MS - 100;
    }
    begin_all();
    for (unsigned i = 0; i < GETTERS; i++) {
        CHECK_EQ(getter_join(&getters[i]), IL_ETIMEDOUT);
        CHECK_EQ(getters[i].err.phase, stage_phases[stage]);
        CHECK_EQ(getters[i].err.limit_ms, SILENCE_MS);
    }
    CHECK_EQ(names.asked_count, 2);
}

TEST(requests_that_wait_for_a_silent_server_together_run_out_of_time_together)
{
    for (size_t i = 0; i < SITUATIONS; i++) {
        struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
        uint64_t *const limits[STAGE_COUNT] = {
            [RESOLVING] = &options.resolve_timeout_ms,
            [CONNECTING] = &options.connect_timeout_ms,
            [HANDSHAKING] = &options.tls_timeout_ms,
        };
        struct il_runtime *runtime;

        *limits[situations[i].stage] = SILENCE_MS;
        start_with(&situations[i], options);
        runtime = runtime_new(IL_RUNTIME_CURRENT_THREAD);
        memset(getters, 0, sizeof(getters));
        CHECK_OK(il_block_on(runtime, run_into_silence, NULL, &err));
        il_runtime_drop(runtime);
        stop();
    }
}

static void run_into_refusal(void *arg)
{
    il_maybe(arg != NULL);
    begin_all();
    names.is_open = true;
    for (unsigned i = 0; i < GETTERS; i++) {
        CHECK_EQ(getter_join(&getters[i]), IL_ERESOLVE);
        CHECK_STR(getters[i].err.message, getters[0].err.message);
    }
    CHECK(names.asked_count <= 6); /* AAAA and A, each three times, as c-ares does at SERVFAIL */
}

TEST(requests_that_wait_for_one_connect_share_its_failure)
{
    static const struct server_rule failing = { .name = HOST,
                                                .manners = { SERVER_HOLDS, SERVER_HOLDS },
                                                .rcode = ns_r_servfail };
    struct il_runtime *runtime;

    start(&situations[0]);
    names_stop(&names);
    names_start(&names, &failing, 1);
    runtime = runtime_new(IL_RUNTIME_CURRENT_THREAD);
    memset(getters, 0, sizeof(getters));
    CHECK_OK(il_block_on(runtime, run_into_refusal, NULL, &err));
    il_runtime_drop(runtime);
    stop();
}
