/* share_desk_test.c: requests that are handed over, when something goes wrong: with the owner
 * (parked, busy, gone), with the caller (cancelled, gone, out of time), with the proxy itself. */
#include "tests/share_check.h"

static struct il_error err;
static struct scene scene;
static struct il_runtime *owner;
static struct il_proxy *proxy;

static void begin(enum il_runtime_kind kind)
{
    struct il_proxy_options options = IL_PROXY_OPTIONS_INIT;

    scene_begin(&scene);
    owner = check_new_named(kind, "owner");
    options.name = "P";
    CHECK_OK(il_proxy_new(owner, NULL, &options, &proxy, &err));
}

static void end(void)
{
    check_nothing_pending();
    il_proxy_free(proxy);
    il_runtime_drop(owner);
    scene_end(&scene);
}

/* ---- the owner is parked ---- */

TEST(request_to_a_parked_owner_times_out_and_the_error_says_so)
{
    begin(IL_RUNTIME_CURRENT_THREAD);
    for (int i = 0; i < WHERE_COUNT; i++) {
        struct caller caller;

        caller_start(&caller, (enum check_where)i, &scene, check_proxy, proxy, "/hello", 20);
        CHECK_EQ(caller_join(&caller), IL_ETIMEDOUT);
        CHECK_EQ(caller.error.phase, IL_PHASE_DISPATCH);
        CHECK_EQ(caller.error.limit_ms, 20);
        CHECK_CONTAINS(caller.error.message, "proxy 'P' has handed it to runtime 'owner'");
        CHECK_CONTAINS(caller.error.message, "has not taken it up");
    }
    end();
}

TEST(request_to_a_parked_owner_is_answered_as_soon_as_somebody_drives_it)
{
    begin(IL_RUNTIME_CURRENT_THREAD);
    for (int i = 0; i < WHERE_COUNT; i++) {
        struct caller caller;

        caller_start(&caller, (enum check_where)i, &scene, check_proxy, proxy, "/id/abc", 0);
        check_pending(SHARE_QUEUED, 1);
        check_drive_until(owner, caller_is_back, &caller);
        CHECK_EQ(caller_join(&caller), IL_OK);
        CHECK_STR(caller.body, "abc");
    }
    end();
}

TEST(request_of_a_caller_that_has_given_up_is_not_sent_when_the_owner_is_driven_at_last)
{
    struct caller caller;

    begin(IL_RUNTIME_CURRENT_THREAD);
    caller_start(&caller, IN_MULTI_THREAD, &scene, check_proxy, proxy, "/hello", 0);
    check_pending(SHARE_QUEUED, 1);
    il_task_cancel(caller.actor.task);
    CHECK_EQ(caller_join(&caller), IL_ECANCELED);
    CHECK_CONTAINS(caller.error.message, "proxy 'P'");
    check_nothing_pending();
    CHECK_OK(il_block_on(owner, check_do_nothing, NULL, &err)); /* comes after the other */
    CHECK_EQ(scene_counters(&scene).request_count, 0);
    end();
}

TEST(owner_that_takes_a_request_up_and_parks_keeps_its_caller_no_longer_than_the_grace)
{
    struct caller caller;

    begin(IL_RUNTIME_CURRENT_THREAD);
    caller_start(&caller, ON_PLAIN_THREAD, &scene, check_proxy, proxy, "/hold/gate", 1000);
    check_pending(SHARE_QUEUED, 1);
    while (pending_in(SHARE_QUEUED) == 1) {
        CHECK_OK(il_block_on(owner, check_do_nothing, NULL, &err));
    }
    CHECK_EQ(caller_join(&caller), IL_ETIMEDOUT);
    CHECK_EQ(caller.error.phase, IL_PHASE_DISPATCH);
    CHECK_CONTAINS(caller.error.message, "has taken it up and is not coming back");
    end();
}

/* ---- the owner is busy ---- */

TEST(request_to_a_busy_owner_is_answered_when_the_owner_comes_back)
{
    struct caller callers[WHERE_COUNT];
    struct blocker blocker;

    begin(IL_RUNTIME_MULTI_THREAD);
    blocker_start(&blocker, owner);
    for (int i = 0; i < WHERE_COUNT; i++) {
        caller_start(&callers[i], (enum check_where)i, &scene, check_proxy, proxy, "/id/x", 0);
    }
    check_pending(SHARE_QUEUED, WHERE_COUNT);
    atomic_store(&blocker.must_return, true);
    for (int i = 0; i < WHERE_COUNT; i++) {
        CHECK_EQ(caller_join(&callers[i]), IL_OK);
        CHECK_STR(callers[i].body, "x");
    }
    end();
}

TEST(request_to_a_busy_owner_times_out)
{
    struct caller caller;
    struct blocker blocker;

    begin(IL_RUNTIME_MULTI_THREAD);
    blocker_start(&blocker, owner);
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, proxy, "/hello", 20), IL_ETIMEDOUT);
    CHECK_EQ(caller.error.phase, IL_PHASE_DISPATCH);
    atomic_store(&blocker.must_return, true);
    end();
}

TEST(request_to_a_busy_owner_that_is_dropped_fails_with_EOWNERGONE)
{
    struct caller caller;
    struct blocker blocker;

    begin(IL_RUNTIME_MULTI_THREAD);
    blocker_start(&blocker, owner);
    caller_start(&caller, IN_CURRENT_THREAD, &scene, check_proxy, proxy, "/hello", 0);
    check_pending(SHARE_QUEUED, 1);
    owner = il_runtime_drop(owner); /* leaves the stuck task alone */
    CHECK_EQ(caller_join(&caller), IL_EOWNERGONE);
    atomic_store(&blocker.must_return, true);
    end();
}

/* ---- the owner is gone ---- */

TEST(request_to_an_owner_that_is_gone_fails_at_once_with_EOWNERGONE)
{
    begin(IL_RUNTIME_MULTI_THREAD);
    owner = il_runtime_drop(owner);
    for (int i = 0; i < WHERE_COUNT; i++) {
        struct caller caller;

        caller_start(&caller, (enum check_where)i, &scene, check_proxy, proxy, "/hello", 0);
        CHECK_EQ(caller_join(&caller), IL_EOWNERGONE);
        CHECK_CONTAINS(caller.error.message, "proxy 'P'");
        CHECK_CONTAINS(caller.error.message, "runtime 'owner'");
    }
    end();
}

static void owner_is_dropped_while(enum il_runtime_kind kind, const char *path,
                                   enum share_state state)
{
    struct caller callers[WHERE_COUNT];

    begin(kind);
    for (int i = 0; i < WHERE_COUNT; i++) {
        caller_start(&callers[i], (enum check_where)i, &scene, check_proxy, proxy, path, 0);
    }
    check_pending(state, WHERE_COUNT);
    owner = il_runtime_drop(owner);
    for (int i = 0; i < WHERE_COUNT; i++) {
        CHECK_EQ(caller_join(&callers[i]), IL_EOWNERGONE);
        CHECK_CONTAINS(callers[i].error.message, "runtime 'owner'");
    }
    end();
}

TEST(callers_whose_requests_are_queued_get_EOWNERGONE_when_the_owner_is_dropped)
{
    owner_is_dropped_while(IL_RUNTIME_CURRENT_THREAD, "/hello", SHARE_QUEUED);
}

TEST(callers_whose_requests_are_in_flight_get_EOWNERGONE_when_the_owner_is_dropped)
{
    owner_is_dropped_while(IL_RUNTIME_MULTI_THREAD, "/never", SHARE_TAKEN);
}

static void *release_later(void *arg)
{
    (void)arg;
    CHECK(lab_server_wait_held(scene.server, "gate", 1, LAB_FOREVER));
    CHECK_EQ(lab_server_release(scene.server, "gate", 1), IL_OK);
    return NULL;
}

TEST(owner_that_is_shut_down_in_order_lets_requests_in_flight_finish)
{
    struct caller caller;
    pthread_t thread;

    begin(IL_RUNTIME_MULTI_THREAD);
    caller_start(&caller, IN_CURRENT_THREAD, &scene, check_proxy, proxy, "/hold/gate", 0);
    check_pending(SHARE_TAKEN, 1);
    CHECK_EQ(pthread_create(&thread, NULL, release_later, NULL), 0);
    CHECK_OK(il_runtime_shutdown(owner, IL_FOREVER, NULL, &err));
    pthread_join(thread, NULL);
    CHECK_EQ(caller_join(&caller), IL_OK);
    end();
}

/* ---- the caller gives up ---- */

TEST(cancelling_the_caller_cancels_the_request_on_the_owner)
{
    struct caller caller;

    begin(IL_RUNTIME_MULTI_THREAD);
    caller_start(&caller, IN_MULTI_THREAD, &scene, check_proxy, proxy, "/never", 0);
    CHECK(lab_server_wait_requests(scene.server, "/never", 1, LAB_FOREVER));
    il_task_cancel(caller.actor.task);
    CHECK_EQ(caller_join(&caller), IL_ECANCELED);
    CHECK_COMES(scene_counters(&scene).abandoned_count == 1); /* the owner has closed */
    end();
}

TEST(caller_whose_runtime_is_dropped_gets_ESHUTDOWN_and_the_request_is_cancelled)
{
    struct caller caller;

    begin(IL_RUNTIME_MULTI_THREAD);
    caller_start(&caller, IN_MULTI_THREAD, &scene, check_proxy, proxy, "/never", 0);
    CHECK(lab_server_wait_requests(scene.server, "/never", 1, LAB_FOREVER));
    caller.actor.runtime = il_runtime_drop(caller.actor.runtime);
    CHECK_EQ(caller_join(&caller), IL_ESHUTDOWN);
    CHECK_COMES(scene_counters(&scene).abandoned_count == 1);
    end();
}

static void send_in_a_cancelled_task(void *arg)
{
    il_task_cancel(il_task_current());
    caller_run(arg);
}

TEST(cancelled_task_hands_nothing_over)
{
    struct caller caller = {
        .scene = &scene, .send = check_proxy, .path = "/hello", .code = IL_OK
    };

    begin(IL_RUNTIME_MULTI_THREAD);
    caller.object = proxy;
    actor_start(&caller.actor, IN_MULTI_THREAD, send_in_a_cancelled_task, &caller);
    CHECK_EQ(caller_join(&caller), IL_ECANCELED);
    CHECK_EQ(scene_counters(&scene).request_count, 0);
    end();
}

/* The limit is that of the whole request, and must be long enough for it to come as far as that. */
TEST(slow_server_makes_the_owner_say_what_it_waited_for)
{
    uint64_t limit_ms = 100;
    struct caller caller;

    begin(IL_RUNTIME_MULTI_THREAD);
    do {
        limit_ms *= 2;
        CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, proxy, "/never", limit_ms),
                 IL_ETIMEDOUT);
        CHECK_EQ(caller.error.limit_ms, limit_ms);
    } while (caller.error.phase != IL_PHASE_FIRST_BYTE);
    end();
}

TEST(limits_of_the_request_go_with_it)
{
    struct il_request *request;
    struct il_response *response;

    begin(IL_RUNTIME_MULTI_THREAD);
    CHECK_OK(il_request_new("GET", scene_url(&scene, "/never"), &request, &err));
    CHECK_EQ(il_request_set_timeout_ms(request, IL_PHASE_FIRST_BYTE, 20), IL_OK);
    CHECK_EQ(il_proxy_send(proxy, request, &response, &err), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_FIRST_BYTE);
    CHECK_EQ(err.limit_ms, 20);
    il_request_free(request);
    end();
}

/* ---- the proxy ---- */

TEST(freeing_the_proxy_ends_requests_queued_and_in_flight_with_ECLOSED)
{
    struct caller callers[WHERE_COUNT];

    for (int kind = IL_RUNTIME_MULTI_THREAD; kind <= IL_RUNTIME_CURRENT_THREAD; kind++) {
        begin((enum il_runtime_kind)kind);
        for (int i = 0; i < WHERE_COUNT; i++) {
            caller_start(&callers[i], (enum check_where)i, &scene, check_proxy, proxy, "/never", 0);
        }
        check_pending(kind == IL_RUNTIME_MULTI_THREAD ? SHARE_TAKEN : SHARE_QUEUED, WHERE_COUNT);
        il_proxy_free(proxy);
        proxy = NULL;
        for (int i = 0; i < WHERE_COUNT; i++) {
            CHECK_EQ(caller_join(&callers[i]), IL_ECLOSED);
            CHECK_CONTAINS(callers[i].error.message, "proxy 'P'");
        }
        end();
    }
}

TEST(single_that_is_freed_ends_requests_in_flight_with_ECLOSED)
{
    struct il_single *single;
    struct caller caller;

    scene_begin(&scene);
    CHECK_OK(il_single_new(NULL, &single, &err));
    caller_start(&caller, IN_CURRENT_THREAD, &scene, check_single, single, "/never", 0);
    check_pending(SHARE_TAKEN, 1);
    il_single_free(single);
    CHECK_EQ(caller_join(&caller), IL_ECLOSED);
    scene_end(&scene);
}

TEST(requests_that_nobody_waits_for_any_more_count_until_the_owner_has_dealt_with_them)
{
    struct il_proxy_options options = IL_PROXY_OPTIONS_INIT;
    struct il_proxy *small;
    struct caller caller;

    begin(IL_RUNTIME_CURRENT_THREAD);
    options.requests_max = 2;
    CHECK_OK(il_proxy_new(owner, NULL, &options, &small, &err));
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, small, "/hello", 1), IL_ETIMEDOUT);
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, small, "/hello", 1), IL_ETIMEDOUT);
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, small, "/hello", 1), IL_ELIMIT);
    CHECK_CONTAINS(caller.error.message, "requests_max");
    CHECK_OK(il_block_on(owner, check_do_nothing, NULL, &err));
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, small, "/hello", 1), IL_ETIMEDOUT);
    il_proxy_free(small);
    end();
}

TEST(owner_without_room_for_a_task_is_reported_as_such)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct caller caller;

    scene_begin(&scene);
    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.task_count_max = 1;
    CHECK_OK(il_runtime_new(&options, &owner, &err));
    CHECK_OK(il_proxy_new(owner, NULL, NULL, &proxy, &err));
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, proxy, "/hello", 1), IL_ETIMEDOUT);
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, proxy, "/hello", 1), IL_ELIMIT);
    CHECK_CONTAINS(caller.error.message, "1 task,");
    end();
}

/* ---- what is handed over ---- */

TEST(method_headers_and_body_go_with_the_request)
{
    struct il_request *request;
    struct il_response *response;
    const char *echo;
    char body[5000];
    size_t size;

    begin(IL_RUNTIME_MULTI_THREAD);
    memset(body, 'x', sizeof(body));
    CHECK_OK(il_request_new("PUT", scene_url(&scene, "/echo"), &request, &err));
    CHECK_OK(il_request_add_header(request, "X-Colour", "blue", &err));
    CHECK_OK(il_request_set_body(request, body, sizeof(body), &err));
    for (int i = 0; i < 2; i++) { /* it is only borrowed: it can be sent again */
        CHECK_OK(il_proxy_send(proxy, request, &response, &err));
        echo = il_response_body(response, &size); /* the request, as the server got it */
        CHECK(strncmp(echo, "PUT /echo HTTP/1.1\n", strlen("PUT /echo HTTP/1.1\n")) == 0);
        CHECK(strstr(echo, "\nX-Colour: blue\n") != NULL);
        CHECK(size > sizeof(body));
        CHECK(memcmp(echo + size - sizeof(body), body, sizeof(body)) == 0);
        il_response_free(response);
    }
    il_request_free(request);
    end();
}

static enum il_code no_source(void *arg, void *buffer, size_t size, size_t *ret_size)
{
    (void)arg;
    (void)buffer;
    (void)size;
    *ret_size = 0;
    return IL_OK;
}

TEST(body_that_is_made_piece_by_piece_is_not_handed_over)
{
    struct il_request *request;
    struct il_response *response;

    begin(IL_RUNTIME_MULTI_THREAD);
    CHECK_OK(il_request_new("POST", scene_url(&scene, "/echo"), &request, &err));
    CHECK_OK(il_request_set_body_source(request, no_source, NULL, 0, &err));
    CHECK_EQ(il_proxy_send(proxy, request, &response, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "il_request_set_body");
    il_request_free(request);
    end();
}

TEST(errors_of_the_network_come_back_as_they_are)
{
    struct caller caller;

    begin(IL_RUNTIME_MULTI_THREAD);
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, proxy, "/garbage", 0), IL_EPROTOCOL);
    CHECK_EQ(caller_send_here(&caller, &scene, check_proxy, proxy, "/close", 0), IL_EPEERCLOSED);
    end();
}

static void send_in_a_callback(void *arg)
{
    struct caller *caller = arg;

    CHECK_EQ(caller_send_here(caller, &scene, check_proxy, proxy, "/hello", 0), IL_EDEADLOCK);
}

TEST(callback_that_would_wait_for_an_answer_is_told_so)
{
    struct caller caller;

    begin(IL_RUNTIME_MULTI_THREAD);
    check_run_in_callback(send_in_a_callback, &caller);
    CHECK_EQ(caller.code, IL_EDEADLOCK);
    end();
}

static void send_further_in(void *arg)
{
    struct caller *caller = arg;

    (void)caller_send_here(caller, &scene, check_proxy, proxy, "/hello", 0);
}

static void block_on_another(void *arg)
{
    struct il_runtime *inner = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);

    CHECK_OK(il_block_on(inner, send_further_in, arg, &err));
    il_runtime_drop(inner);
}

TEST(owner_that_waits_for_the_caller_on_the_same_thread_is_reported_at_once)
{
    struct caller caller;

    begin(IL_RUNTIME_CURRENT_THREAD);
    CHECK_OK(il_block_on(owner, block_on_another, &caller, &err));
    CHECK_EQ(caller.code, IL_EDEADLOCK);
    CHECK_CONTAINS(caller.error.message, "runtime 'owner'");
    end();
}

/* ---- out of memory ---- */

/* One request, of which the allocation after `after` others fails: the caller's, the owner's, or
 * the server's, which stands in this process, too. Says how many allocations there were. */
static uint64_t send_out_of_memory(uint64_t after)
{
    struct il_memory_use before, use;
    struct il_request *request;
    struct il_response *response = NULL;
    enum il_code code;

    begin(IL_RUNTIME_MULTI_THREAD);
    CHECK_OK(il_request_new("GET", scene_url(&scene, "/hello"), &request, &err));
    il_memory_use(&before);
    il_memory_fail_after(after);
    code = il_proxy_send(proxy, request, &response, &err);
    il_memory_fail_after(UINT64_MAX);
    il_memory_use(&use);
    CHECK(code == IL_OK || code == IL_ENOMEM || code == IL_EPEERCLOSED);
    CHECK(code == IL_OK || (err.code == code && response == NULL));
    il_response_free(response);
    il_request_free(request);
    end();
    return use.allocation_count - before.allocation_count;
}

TEST(proxy_that_runs_out_of_memory_anywhere_says_so_and_leaves_nothing)
{
    uint64_t allocation_count = send_out_of_memory(UINT64_MAX);

    CHECK(allocation_count > 10);
    for (uint64_t after = 0; after < allocation_count; after++) {
        (void)send_out_of_memory(after);
    }
}

/* ---- what a report can see ---- */

struct seen {
    unsigned count;
    struct share_pending last;
    char waiter[64], method[16], path[64], loop[LOOP_NAME_SIZE];
    uint64_t waiter_task_id;
};

static void look(const struct share_pending *pending, void *arg)
{
    struct seen *seen = arg;

    seen->count++;
    seen->last = *pending;
    rt_party_describe(pending->waiter, seen->waiter, sizeof(seen->waiter));
    seen->waiter_task_id = rt_party_task_id(pending->waiter);
    snprintf(seen->method, sizeof(seen->method), "%s", pending->request->method);
    snprintf(seen->path, sizeof(seen->path), "%s", pending->request->url.path_and_query);
    snprintf(seen->loop, sizeof(seen->loop), "%s",
             pending->loop != NULL ? pending->loop->name : "");
}

TEST(queued_request_is_seen_with_who_waits_and_whose_turn_it_is)
{
    struct caller caller;
    struct seen seen = { 0 };

    begin(IL_RUNTIME_CURRENT_THREAD);
    caller_start(&caller, IN_MULTI_THREAD, &scene, check_proxy, proxy, "/id/abc", 0);
    check_pending(SHARE_QUEUED, 1);
    share_for_each_pending(look, &seen);
    CHECK_EQ(seen.count, 1);
    CHECK_STR(seen.last.kind, "proxy");
    CHECK_STR(seen.last.name, "P");
    CHECK_STR(seen.last.owner, "owner");
    CHECK_STR(seen.waiter, "task 'actor' on runtime 'runtime'");
    CHECK(seen.waiter_task_id != 0);
    CHECK_STR(seen.method, "GET");
    CHECK_STR(seen.path, "/id/abc");
    CHECK_STR(seen.loop, "owner");
    CHECK_EQ(seen.last.task_id, 0);
    CHECK(seen.last.handed_over_ns <= seen.last.since_ns);
    CHECK(seen.last.deadline_ns > seen.last.since_ns);
    check_drive_until(owner, caller_is_back, &caller);
    CHECK_EQ(caller_join(&caller), IL_OK);
    end();
}

TEST(request_in_flight_is_seen_with_the_task_that_sends_it)
{
    struct caller caller;
    struct seen seen = { 0 };

    begin(IL_RUNTIME_MULTI_THREAD);
    caller_start(&caller, ON_PLAIN_THREAD, &scene, check_proxy, proxy, "/hold/gate", 0);
    CHECK(lab_server_wait_held(scene.server, "gate", 1, LAB_FOREVER));
    share_for_each_pending(look, &seen);
    CHECK_EQ(seen.count, 1);
    CHECK_EQ(seen.last.state, SHARE_TAKEN);
    CHECK_STR(seen.loop, "owner/0");
    CHECK(seen.last.task_id != 0);
    CHECK_EQ(seen.last.taken_count, 1);
    CHECK_CONTAINS(seen.waiter, "thread ");
    CHECK_EQ(lab_server_release(scene.server, "gate", 1), IL_OK);
    CHECK_EQ(caller_join(&caller), IL_OK);
    end();
}

/* ---- fork ---- */

static enum il_code use_in_child(void *arg)
{
    struct il_response *response;
    enum il_code code;

    (void)arg;
    code = il_proxy_get(proxy, "http://127.0.0.1:1/", &response, &err);
    il_proxy_free(proxy); /* lets it be */
    return code;
}

TEST(proxy_of_the_parent_process_is_refused_in_the_child)
{
    begin(IL_RUNTIME_MULTI_THREAD);
    check_in_child(use_in_child, NULL, IL_EFORK);
    end();
}
