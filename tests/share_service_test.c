/* share_service_test.c: the queue, the limit of requests that are run at once, and the ways in
 * which a service ends. */
#include "tests/share_check.h"

static struct il_error err;
static struct scene scene;
static struct il_runtime *owner;
static struct il_service *service;

static struct il_service_options options_of(uint32_t capacity, uint32_t concurrency)
{
    struct il_service_options options = IL_SERVICE_OPTIONS_INIT;

    options.name = "S";
    options.queue_capacity = capacity;
    options.concurrency = concurrency;
    return options;
}

static void begin(enum il_runtime_kind kind, const struct il_service_options *options)
{
    scene_begin(&scene);
    owner = check_new_named(kind, "owner");
    CHECK_OK(il_service_start(owner, options, &service, &err));
}

static void end(void)
{
    check_nothing_pending();
    if (service != NULL) {
        CHECK_OK(il_service_stop(service, IL_FOREVER, &err));
        service = NULL;
    }
    il_runtime_drop(owner);
    scene_end(&scene);
}

/* End a scene whose owner nobody drives. */
static void end_parked(void)
{
    owner = il_runtime_drop(owner);
    end();
}

/* ---- the queue ---- */

TEST(full_queue_refuses_if_told_to)
{
    struct il_service_options options = options_of(2, 1);
    struct caller queued[2], caller;

    options.refuse_when_full = true;
    begin(IL_RUNTIME_CURRENT_THREAD, &options); /* nobody drives it: nothing leaves the queue */
    for (int i = 0; i < 2; i++) {
        caller_start(&queued[i], IN_MULTI_THREAD, &scene, check_service, service, "/id/q", 0);
    }
    check_pending(SHARE_QUEUED, 2);
    CHECK_EQ(caller_send_here(&caller, &scene, check_service, service, "/hello", 0), IL_EAGAIN);
    CHECK_CONTAINS(caller.error.message, "service 'S': its queue is full");
    for (int i = 0; i < 2; i++) {
        check_drive_until(owner, caller_is_back, &queued[i]);
        CHECK_EQ(caller_join(&queued[i]), IL_OK);
    }
    end_parked();
}

TEST(full_queue_is_waited_for_no_longer_than_queue_timeout)
{
    struct il_service_options options = options_of(1, 1);
    struct caller queued, caller;

    options.queue_timeout_ms = 20;
    begin(IL_RUNTIME_CURRENT_THREAD, &options);
    caller_start(&queued, IN_MULTI_THREAD, &scene, check_service, service, "/id/q", 0);
    check_pending(SHARE_QUEUED, 1);
    CHECK_EQ(caller_send_here(&caller, &scene, check_service, service, "/hello", 0), IL_ETIMEDOUT);
    CHECK_EQ(caller.error.phase, IL_PHASE_DISPATCH);
    CHECK_EQ(caller.error.limit_ms, 20);
    CHECK_CONTAINS(caller.error.message, "its queue was full");
    CHECK_CONTAINS(caller.error.message, "queue_timeout_ms");
    CHECK_EQ(caller_send_here(&caller, &scene, check_service, service, "/hello", 5), IL_ETIMEDOUT);
    CHECK_EQ(caller.error.limit_ms, 5);
    CHECK_CONTAINS(caller.error.message, "the whole request");
    check_drive_until(owner, caller_is_back, &queued);
    CHECK_EQ(caller_join(&queued), IL_OK);
    end_parked();
}

TEST(callers_that_wait_for_a_place_are_served_when_the_service_gets_on)
{
    struct il_service_options options = options_of(1, 1);
    struct caller callers[WHERE_COUNT + 1];

    begin(IL_RUNTIME_CURRENT_THREAD, &options);
    for (int i = 0; i <= WHERE_COUNT; i++) {
        caller_start(&callers[i], (enum check_where)(i % WHERE_COUNT), &scene, check_service,
                     service, "/id/x", 0);
    }
    check_pending(SHARE_QUEUED, 1);
    check_pending(SHARE_ARRIVING, WHERE_COUNT);
    for (int i = 0; i <= WHERE_COUNT; i++) {
        check_drive_until(owner, caller_is_back, &callers[i]);
        CHECK_EQ(caller_join(&callers[i]), IL_OK);
        CHECK_STR(callers[i].body, "x");
    }
    end_parked();
}

TEST(request_to_a_service_that_nobody_drives_times_out_and_the_error_says_so)
{
    struct il_service_options options = options_of(4, 1);

    begin(IL_RUNTIME_CURRENT_THREAD, &options);
    for (int i = 0; i < WHERE_COUNT; i++) {
        struct caller caller;

        caller_start(&caller, (enum check_where)i, &scene, check_service, service, "/hello", 20);
        CHECK_EQ(caller_join(&caller), IL_ETIMEDOUT);
        CHECK_EQ(caller.error.phase, IL_PHASE_DISPATCH);
        CHECK_CONTAINS(caller.error.message, "service 'S' has handed it to runtime 'owner'");
        CHECK_CONTAINS(caller.error.message, "has not taken it up");
    }
    end_parked();
}

TEST(no_more_requests_are_run_at_once_than_concurrency)
{
    struct il_service_options options = options_of(8, 2);
    struct caller callers[6];

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    for (int i = 0; i < 6; i++) {
        caller_start(&callers[i], (enum check_where)(i % WHERE_COUNT), &scene, check_service,
                     service, "/hold/gate", 0);
    }
    for (int done = 0; done < 6; done += 2) {
        check_pending(SHARE_QUEUED, (unsigned)(4 - done));
        check_pending(SHARE_TAKEN, 2);
        CHECK(lab_server_wait_held(scene.server, "gate", 2, LAB_FOREVER));
        CHECK_EQ(scene_counters(&scene).request_count, (uint64_t)done + 2);
        CHECK_EQ(lab_server_release(scene.server, "gate", 2), IL_OK);
    }
    for (int i = 0; i < 6; i++) {
        CHECK_EQ(caller_join(&callers[i]), IL_OK);
    }
    end();
}

/* ---- callers that give up ---- */

TEST(request_whose_caller_has_left_the_queue_is_not_sent)
{
    struct il_service_options options = options_of(4, 1);
    struct caller first, second;

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    caller_start(&first, ON_PLAIN_THREAD, &scene, check_service, service, "/hold/gate", 0);
    check_pending(SHARE_TAKEN, 1);
    caller_start(&second, IN_MULTI_THREAD, &scene, check_service, service, "/hello", 0);
    check_pending(SHARE_QUEUED, 1);
    il_task_cancel(second.actor.task);
    CHECK_EQ(caller_join(&second), IL_ECANCELED);
    CHECK_EQ(lab_server_release(scene.server, "gate", 1), IL_OK);
    CHECK_EQ(caller_join(&first), IL_OK);
    CHECK_OK(il_service_stop(service, IL_FOREVER, &err));
    service = NULL;
    CHECK_EQ(scene_counters(&scene).request_count, 1);
    end();
}

TEST(cancelling_the_caller_of_a_request_in_flight_makes_room_for_the_next)
{
    struct il_service_options options = options_of(4, 1);
    struct caller first, second;

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    caller_start(&first, IN_MULTI_THREAD, &scene, check_service, service, "/never", 0);
    CHECK(lab_server_wait_requests(scene.server, "/never", 1, LAB_FOREVER));
    il_task_cancel(first.actor.task);
    CHECK_EQ(caller_join(&first), IL_ECANCELED);
    CHECK_EQ(caller_send_here(&second, &scene, check_service, service, "/hello", 0), IL_OK);
    CHECK_COMES(scene_counters(&scene).abandoned_count == 1);
    end();
}

TEST(caller_that_waits_for_a_place_can_be_cancelled)
{
    struct il_service_options options = options_of(1, 1);
    struct caller queued, caller;

    begin(IL_RUNTIME_CURRENT_THREAD, &options);
    caller_start(&queued, ON_PLAIN_THREAD, &scene, check_service, service, "/id/q", 0);
    check_pending(SHARE_QUEUED, 1);
    caller_start(&caller, IN_MULTI_THREAD, &scene, check_service, service, "/hello", 0);
    check_pending(SHARE_ARRIVING, 1);
    il_task_cancel(caller.actor.task);
    CHECK_EQ(caller_join(&caller), IL_ECANCELED);
    check_drive_until(owner, caller_is_back, &queued);
    CHECK_EQ(caller_join(&queued), IL_OK);
    end_parked();
}

/* ---- the end of a service ---- */

/* One request in flight, one in the queue, one that waits for a place. */
static void start_three(struct caller callers[3])
{
    for (int i = 0; i < 3; i++) {
        caller_start(&callers[i], (enum check_where)i, &scene, check_service, service, "/hold/gate",
                     0);
    }
    check_pending(SHARE_TAKEN, 1);
    check_pending(SHARE_QUEUED, 1);
    check_pending(SHARE_ARRIVING, 1);
    /* taken is not sent yet: what is cancelled before it was sent, the server never hears of */
    CHECK(lab_server_wait_held(scene.server, "gate", 1, lab_in_ms(30000)));
}

static void *stop_in_order(void *arg)
{
    *(enum il_code *)arg = il_service_stop(service, IL_FOREVER, &err);
    return NULL;
}

TEST(stop_lets_accepted_requests_finish_and_refuses_those_that_wait_for_a_place)
{
    struct il_service_options options = options_of(1, 1);
    struct caller callers[3];
    enum il_code code = IL_EINVAL;
    unsigned ok_count = 0, closed_count = 0;
    pthread_t thread;

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    start_three(callers);
    CHECK_EQ(pthread_create(&thread, NULL, stop_in_order, &code), 0);
    check_pending(SHARE_ARRIVING, 0);
    CHECK_EQ(lab_server_release(scene.server, "gate", 2), IL_OK);
    pthread_join(thread, NULL);
    CHECK_EQ(code, IL_OK);
    service = NULL;
    for (int i = 0; i < 3; i++) {
        (void)caller_join(&callers[i]);
        ok_count += callers[i].code == IL_OK;
        closed_count += callers[i].code == IL_ECLOSED;
    }
    CHECK_EQ(ok_count, 2);
    CHECK_EQ(closed_count, 1);
    end();
}

static void stop_ends_all(struct caller callers[3], enum il_code code, uint64_t deadline_ns)
{
    CHECK_EQ(il_service_stop(service, deadline_ns, &err), code);
    CHECK_CONTAINS(err.message, "service 'S'");
    service = NULL;
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(caller_join(&callers[i]), IL_ECLOSED);
        CHECK_CONTAINS(callers[i].error.message, "service 'S'");
    }
}

TEST(stop_whose_deadline_passes_ends_what_is_left_with_ECLOSED)
{
    struct il_service_options options = options_of(1, 1);
    struct caller callers[3];

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    start_three(callers);
    stop_ends_all(callers, IL_ETIMEDOUT, 0);
    CHECK_COMES(scene_counters(&scene).abandoned_count == 1);
    CHECK_EQ(scene_counters(&scene).request_count, 1);
    end();
}

TEST(service_on_a_runtime_that_nobody_drives_can_be_stopped)
{
    struct il_service_options options = options_of(2, 1);
    struct caller callers[3];

    begin(IL_RUNTIME_CURRENT_THREAD, &options);
    for (int i = 0; i < 3; i++) {
        caller_start(&callers[i], (enum check_where)i, &scene, check_service, service, "/hello", 0);
    }
    check_pending(SHARE_QUEUED, 2);
    check_pending(SHARE_ARRIVING, 1);
    stop_ends_all(callers, IL_ETIMEDOUT, il_deadline_in_ms(10));
    end_parked();
}

struct stop_here {
    enum il_code code;
};

static void stop_in_a_cancelled_task(void *arg)
{
    struct il_error error;

    il_task_cancel(il_task_current());
    ((struct stop_here *)arg)->code = il_service_stop(service, IL_FOREVER, &error);
}

TEST(stop_in_a_cancelled_task_does_not_wait)
{
    struct il_service_options options = options_of(1, 1);
    struct il_runtime *other;
    struct stop_here here = { IL_OK };
    struct caller caller;

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    other = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    caller_start(&caller, ON_PLAIN_THREAD, &scene, check_service, service, "/never", 0);
    check_pending(SHARE_TAKEN, 1);
    CHECK_OK(il_block_on(other, stop_in_a_cancelled_task, &here, &err));
    CHECK_EQ(here.code, IL_ECANCELED);
    service = NULL;
    CHECK_EQ(caller_join(&caller), IL_ECLOSED);
    il_runtime_drop(other);
    end();
}

static void stop_on_the_owner(void *arg)
{
    struct il_error error;

    ((struct stop_here *)arg)->code = il_service_stop(service, IL_FOREVER, &error);
}

TEST(service_can_be_stopped_by_a_task_of_its_own_runtime)
{
    struct stop_here here = { IL_EINVAL };

    begin(IL_RUNTIME_CURRENT_THREAD, NULL);
    CHECK_OK(il_block_on(owner, stop_on_the_owner, &here, &err));
    CHECK_EQ(here.code, IL_OK);
    service = NULL;
    end();
}

TEST(runtime_that_is_dropped_ends_every_request_with_EOWNERGONE)
{
    struct il_service_options options = options_of(1, 1);
    struct caller callers[3], late;

    begin(IL_RUNTIME_MULTI_THREAD, &options);
    start_three(callers);
    owner = il_runtime_drop(owner);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(caller_join(&callers[i]), IL_EOWNERGONE);
        CHECK_CONTAINS(callers[i].error.message, "runtime 'owner'");
    }
    CHECK_EQ(caller_send_here(&late, &scene, check_service, service, "/hello", 0), IL_EOWNERGONE);
    end();
}

TEST(runtime_that_is_dropped_before_it_ever_ran_ends_every_request_with_EOWNERGONE)
{
    struct il_service_options options = options_of(2, 1);
    struct caller callers[3];

    begin(IL_RUNTIME_CURRENT_THREAD, &options);
    for (int i = 0; i < 3; i++) {
        caller_start(&callers[i], (enum check_where)i, &scene, check_service, service, "/hello", 0);
    }
    check_pending(SHARE_QUEUED, 2);
    owner = il_runtime_drop(owner);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(caller_join(&callers[i]), IL_EOWNERGONE);
    }
    end();
}

TEST(service_is_not_started_on_a_runtime_that_has_ended)
{
    struct il_runtime *gone;

    scene_begin(&scene);
    gone = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_runtime_shutdown(gone, IL_FOREVER, NULL, &err));
    CHECK_EQ(il_service_start(gone, NULL, &service, &err), IL_ESHUTDOWN);
    il_runtime_drop(gone);
    scene_end(&scene);
}

static enum il_code use_in_child(void *arg)
{
    struct il_response *response;
    enum il_code code = il_service_get(service, "http://127.0.0.1:1/", &response, &err);

    (void)arg;
    return il_service_stop(service, 0, &err) == IL_EFORK ? code : IL_EINVAL;
}

TEST(service_of_the_parent_process_is_refused_in_the_child)
{
    begin(IL_RUNTIME_MULTI_THREAD, NULL);
    check_in_child(use_in_child, NULL, IL_EFORK);
    end();
}
