/* verdict_test.c: conclusions from looks made by hand, for what live programs show only rarely. */
#include <sys/epoll.h>

#include "doctor/verdict.h"
#include "tests/check.h"

/* One thread, one set with one connection, looked at 40 times in 2 s; nothing wrong with it. */
struct scene {
    struct look look;
    struct seen_thread threads[3];
    struct seen_set sets[2];
    struct seen_socket sockets[2];
};

static void scene_init(struct scene *scene)
{
    static const struct look_options options = { .duration_ms = 2000, .closed_after_ms = 10000 };

    memset(scene, 0, sizeof(*scene));
    look_init(&scene->look, 1, &options);
    scene->look.started_ns = 1000000000u;
    scene->look.ended_ns = 3000000000u;
    scene->look.look_count = 40;
    scene->look.can_syscall = scene->look.can_copy_fd = scene->look.can_sockets = true;
    scene->look.threads = scene->threads;
    scene->look.thread_count = 1;
    scene->threads[0] =
        (struct seen_thread){ .tid = 10,
                              .ns_tid = 10,
                              .look_count = 40,
                              .set_hint = LOOK_SETS_MAX,
                              .stood_in_wait = true,
                              .stood_still = true,
                              .role = ROLE_OTHER,
                              .wait = { .kind = WAIT_FUTEX, .is_forever = true, .fd = -1 } };
    scene->look.sets = scene->sets;
    scene->look.set_count = 1;
    scene->sets[0] = (struct seen_set){ .kind = FD_EPOLL,
                                        .fd_count = 1,
                                        .fds = { 3 },
                                        .watch_count = 1,
                                        .look_count = 40,
                                        .last_quiet_ns = 3000000000u,
                                        .outer = LOOK_SETS_MAX };
    scene->look.sockets = scene->sockets;
    scene->look.socket_count = 1;
    scene->sockets[0] = (struct seen_socket){ .inode = 77,
                                              .fd = 5,
                                              .fd_count = 1,
                                              .was_found = true,
                                              .dump_count = 6,
                                              .set_count = 1,
                                              .set = 0,
                                              .watch_events = EPOLLIN | EPOLLET,
                                              .peer = "127.0.0.1:80",
                                              .first = { .state = TCPS_ESTABLISHED },
                                              .last = { .state = TCPS_ESTABLISHED,
                                                        .sent_bytes = 100,
                                                        .received_bytes = 100,
                                                        .last_sent_ms = 9000,
                                                        .last_received_ms = 8990,
                                                        .last_ack_ms = 8990 } };
}

/* The arrays are the scene's own: only what the judges made is freed. */
static enum verdict conclude(struct scene *scene)
{
    enum verdict verdict;

    verdict_conclude(&scene->look);
    verdict = verdict_of(&scene->look);
    il_free(scene->look.findings);
    scene->look.findings = NULL;
    return verdict;
}

static void make_ready(struct scene *scene)
{
    scene->sets[0].ready_count = 40;
    scene->sets[0].was_ready = true;
    scene->sets[0].last_quiet_ns = 0;
}

static void make_unread(struct scene *scene, uint64_t bytes)
{
    scene->sockets[0].last.unread_bytes = bytes;
    scene->sockets[0].unread_since_ns = 1000000000u;
}

TEST(a_set_at_rest_that_nobody_drives_is_healthy)
{
    struct scene scene;

    scene_init(&scene);
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
    CHECK_EQ(scene.look.note_count, 1);
}

TEST(unread_bytes_in_a_ready_set_that_nobody_polls_are_a_parked_owner)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    CHECK_EQ(conclude(&scene), VERDICT_PARKED_OWNER);
}

TEST(one_collected_event_is_enough_to_be_healthy)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.sets[0].collected_count = 1;
    scene.sockets[0].was_read = true;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(one_look_at_a_polling_thread_is_enough_not_to_be_parked)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    scene.sets[0].polled_count = 1;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(the_end_of_an_idle_connection_in_a_parked_set_hangs_nobody)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    scene.sockets[0].last.end_unread = true;
    scene.sockets[0].last.state = TCPS_CLOSE_WAIT;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
    CHECK(scene.look.note_count > 0);
}

TEST(a_tls_alert_or_an_http2_ping_in_a_parked_set_hangs_nobody)
{
    static const enum first_bytes noises[] = { BYTES_TLS_ALERT, BYTES_HTTP2_CONTROL };

    for (size_t i = 0; i < il_array_count(noises); i++) {
        struct scene scene;

        scene_init(&scene);
        make_ready(&scene);
        make_unread(&scene, 24);
        scene.sockets[0].first_bytes = noises[i];
        CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
    }
}

TEST(a_408_and_the_end_is_noise_but_a_200_and_the_end_is_an_answer)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 90);
    scene.sockets[0].first_bytes = BYTES_HTTP1_STATUS;
    scene.sockets[0].last.end_unread = true;
    scene.sockets[0].last.state = TCPS_CLOSE_WAIT;
    scene.sockets[0].http_status = 408;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 90);
    scene.sockets[0].first_bytes = BYTES_HTTP1_STATUS;
    scene.sockets[0].last.end_unread = true;
    scene.sockets[0].last.state = TCPS_CLOSE_WAIT;
    scene.sockets[0].http_status = 200;
    CHECK_EQ(conclude(&scene), VERDICT_PARKED_OWNER);
}

TEST(tokios_signal_socket_makes_no_finding)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    scene.look.socket_count = 2;
    scene.sockets[1] = (struct seen_socket){ .inode = 78,
                                             .fd = 6,
                                             .fd_count = 3,
                                             .family = SOCKET_UNIX,
                                             .was_found = true,
                                             .dump_count = 6,
                                             .set_count = 2,
                                             .set = 0,
                                             .last = { .unread_bytes = 1 } };
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(a_ready_set_inside_a_polled_set_is_driven)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.look.set_count = 2;
    scene.sets[1] = scene.sets[0];
    scene.sets[1].polled_count = 30;
    scene.sets[1].fds[0] = 4;
    scene.sets[0].outer = 1;
    CHECK(conclude(&scene) != VERDICT_PARKED_OWNER);
}

TEST(events_on_a_threads_stack_make_it_the_owner)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.threads[0].set_hint = 0;
    scene.threads[0].set_hint_count = 1;
    scene.threads[0].wait.kind = WAIT_SLEEP;
    CHECK_EQ(conclude(&scene), VERDICT_BUSY_OWNER);
}

TEST(an_owner_that_waits_for_ever_among_idle_threads_waits_for_itself)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.threads[0].set_hint = 0;
    scene.look.thread_count = 2;
    scene.threads[1] = scene.threads[0];
    scene.threads[1].tid = scene.threads[1].ns_tid = 11;
    scene.threads[1].set_hint = LOOK_SETS_MAX;
    scene.threads[1].role = ROLE_POOL_IDLE;
    CHECK_EQ(conclude(&scene), VERDICT_SELF_WAIT);
}

TEST(an_owner_that_waits_while_another_thread_works_is_busy)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.threads[0].set_hint = 0;
    scene.look.thread_count = 2;
    scene.threads[1] = scene.threads[0];
    scene.threads[1].tid = scene.threads[1].ns_tid = 11;
    scene.threads[1].set_hint = LOOK_SETS_MAX;
    scene.threads[1].stood_still = false;
    scene.threads[1].wait.kind = WAIT_RUNNING;
    scene.threads[1].running_count = 40;
    CHECK_EQ(conclude(&scene), VERDICT_BUSY_OWNER);
}

TEST(a_short_window_makes_nothing_more_than_possible)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.look.ended_ns = scene.look.started_ns + 300000000u;
    scene.look.look_count = 6;
    verdict_conclude(&scene.look);
    CHECK_EQ(scene.look.finding_count, 1);
    CHECK_EQ(scene.look.findings[0].confidence, CONFIDENCE_POSSIBLE);
    il_free(scene.look.findings);
}

TEST(equal_ages_alone_do_not_accuse_the_peer)
{
    struct scene scene;

    scene_init(&scene);
    scene.sets[0].polled_count = 40;
    scene.sockets[0].last.last_sent_ms = scene.sockets[0].last.last_received_ms = 5000;
    scene.sockets[0].last.last_ack_ms = 5000;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(a_bare_acknowledgement_after_equal_ages_makes_the_peer_possible)
{
    struct scene scene;

    scene_init(&scene);
    scene.sets[0].polled_count = 40;
    scene.sockets[0].last.last_sent_ms = scene.sockets[0].last.last_received_ms = 5000;
    scene.sockets[0].last.last_ack_ms = 4960;
    CHECK_EQ(conclude(&scene), VERDICT_PEER);
}

TEST(an_acknowledgement_that_the_answer_has_overtaken_does_not_accuse_the_peer)
{
    struct scene scene;

    scene_init(&scene);
    scene.sets[0].polled_count = 40;
    scene.sockets[0].last.last_sent_ms = scene.sockets[0].last.last_received_ms = 5000;
    scene.sockets[0].last.last_ack_ms = 4988;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(what_looks_like_a_late_request_is_a_control_frame_where_http2_is_spoken)
{
    struct scene scene;

    for (uint16_t port = 442; port <= 443; port++) {
        scene_init(&scene);
        scene.sets[0].polled_count = 40;
        scene.sockets[0].peer_port = port;
        scene.sockets[0].last.last_sent_ms = scene.sockets[0].last.last_received_ms = 5000;
        scene.sockets[0].last.last_ack_ms = 4960;
        CHECK_EQ(conclude(&scene), port == 443 ? VERDICT_HEALTHY : VERDICT_PEER);
        CHECK_EQ(scene.look.note_count, port == 443 ? 1 : 0);
    }
}

TEST(an_open_question_to_a_name_server_is_the_resolvers_but_not_in_a_name_server)
{
    struct scene scene;

    for (uint16_t local_port = 53; local_port <= 54; local_port++) {
        scene_init(&scene);
        scene.sets[0].polled_count = 40;
        scene.sockets[0].family = SOCKET_UDP;
        scene.sockets[0].peer_port = 53;
        scene.look.socket_count = 2;
        scene.sockets[1] = (struct seen_socket){
            .family = SOCKET_UDP, .was_found = true, .local_port = local_port, .set = LOOK_SETS_MAX
        };
        CHECK_EQ(conclude(&scene), local_port == 53 ? VERDICT_HEALTHY : VERDICT_RESOLVER);
    }
}

TEST(a_loop_that_is_told_again_and_again_has_missed_nothing)
{
    struct scene scene;

    for (uint32_t edge = 0; edge <= 1; edge++) {
        scene_init(&scene);
        scene.sets[0].polled_count = 3;
        make_unread(&scene, 40);
        scene.sockets[0].watch_events = EPOLLIN | (edge == 1 ? EPOLLET : 0);
        CHECK_EQ(conclude(&scene), edge == 1 ? VERDICT_MISSED_WAKEUP : VERDICT_HEALTHY);
        CHECK_EQ(scene.look.note_count, edge == 1 ? 0 : 1);
    }
}

TEST(silence_on_an_accepted_connection_is_nobodys_debt)
{
    struct scene scene;

    scene_init(&scene);
    scene.sets[0].polled_count = 40;
    scene.sockets[0].is_server_side = true;
    scene.sockets[0].last.last_sent_ms = 1000;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(more_findings_than_the_report_holds_are_counted)
{
    struct look look;
    static const struct look_options options = { .duration_ms = 2000 };

    look_init(&look, 1, &options);
    for (uint32_t i = 0; i < LOOK_FINDINGS_MAX + 5; i++) {
        finding_say(finding_new(&look, VERDICT_PEER, CONFIDENCE_LIKELY), "number %u", i);
    }
    CHECK_EQ(look.finding_count, LOOK_FINDINGS_MAX);
    CHECK_EQ(look.finding_dropped, 5);
    look_deinit(&look);
}

/* ---- what a machine without a free CPU hides ---- */

TEST(nothing_is_concluded_from_unread_bytes_while_a_thread_gets_no_cpu)
{
    struct scene scene;

    scene_init(&scene);
    make_ready(&scene);
    make_unread(&scene, 40);
    scene.threads[0].is_starved = true;
    scene.look.starved_count = 1;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(what_others_owe_is_said_also_while_a_thread_gets_no_cpu)
{
    struct scene scene;

    scene_init(&scene);
    scene.sockets[0].last.last_sent_ms = 5000; /* a request long after the last answer */
    scene.look.starved_count = 1;
    CHECK_EQ(conclude(&scene), VERDICT_PEER);
}

/* ---- GLib ---- */

static void make_glib(struct scene *scene, struct seen_fd *wakeup)
{
    make_unread(scene, 40);
    scene->sockets[0].set = LOOK_SETS_MAX;
    scene->sockets[0].set_count = 0;
    scene->sockets[0].last.last_received_ms = 5000;
    scene->look.set_count = 0;
    scene->look.runtime = RUNTIME_GLIB;
    scene->look.can_memory = true;
    *wakeup = (struct seen_fd){ .fd = 4, .kind = FD_EVENTFD };
    scene->look.fds = wakeup;
    scene->look.fd_count = 1;
}

TEST(an_unread_socket_belongs_to_the_main_context_that_nobody_iterates)
{
    struct seen_fd wakeup;
    struct scene scene;

    scene_init(&scene);
    make_glib(&scene, &wakeup);
    CHECK_EQ(conclude(&scene), VERDICT_PARKED_OWNER);
}

TEST(an_unread_socket_is_watched_by_nobody_where_every_main_context_is_iterated)
{
    struct seen_fd wakeup;
    struct scene scene;

    scene_init(&scene);
    make_glib(&scene, &wakeup);
    wakeup.poll_count = 40;
    CHECK_EQ(conclude(&scene), VERDICT_NOBODY_WATCHES);
}

TEST(a_main_context_is_busy_while_its_thread_is_in_a_callback)
{
    struct seen_fd wakeup;
    struct scene scene;

    scene_init(&scene);
    make_glib(&scene, &wakeup);
    scene.threads[0].runtime = RUNTIME_GLIB;
    scene.threads[0].role = ROLE_IN_CALLBACK;
    CHECK_EQ(conclude(&scene), VERDICT_BUSY_OWNER);
}

/* ---- a loop that is hardly ever caught polling ---- */

/* Its thread ran at every look, inside the loop, and the set was never ready. */
static void make_running(struct scene *scene)
{
    scene->threads[0].role = ROLE_IN_CALLBACK;
    scene->threads[0].stood_in_wait = scene->threads[0].stood_still = false;
    scene->threads[0].running_count = 40;
    scene->threads[0].wait.kind = WAIT_RUNNING;
}

TEST(a_loop_whose_thread_ran_all_the_time_and_never_slept_is_stuck)
{
    struct scene scene;

    scene_init(&scene);
    make_running(&scene);
    CHECK_EQ(conclude(&scene), VERDICT_WORKERS_BLOCKED);
}

TEST(a_loop_whose_thread_slept_between_the_looks_is_healthy)
{
    struct scene scene;

    scene_init(&scene);
    make_running(&scene);
    scene.threads[0].has_slept = true;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}

TEST(a_loop_that_changed_what_its_set_watches_is_healthy)
{
    struct scene scene;

    scene_init(&scene);
    make_running(&scene);
    scene.sets[0].was_changed = true;
    CHECK_EQ(conclude(&scene), VERDICT_HEALTHY);
}
