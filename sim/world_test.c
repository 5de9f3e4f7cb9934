/* world_test.c: threads, time, locks, chance and the end of a run. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/sim.h"
#include "sys/sys.h"
#include "tests/check.h"

static struct sim_report report;

static void play(uint64_t seed, uint32_t faults, void (*run)(void *arg), void *arg)
{
    struct sim_options options = { .seed = seed, .faults = faults };

    sim_run(&options, run, arg, &report);
}

static void play_done(uint64_t seed, uint32_t faults, void (*run)(void *arg), void *arg)
{
    play(seed, faults, run, arg);
    CHECK_STR(report.detail, "");
    CHECK_EQ(report.end, SIM_DONE);
}

/* ---- time ---- */

static bool never(void *arg)
{
    (void)arg;
    return false;
}

static void sleep_for(uint64_t ns)
{
    CHECK(!sim_wait_until(never, NULL, ns, "time to pass"));
}

static void sleep_a_day(void *arg)
{
    uint64_t before_ns = sys_now_ns();

    (void)arg;
    sleep_for(3000 * 1000 * SIM_NS_PER_MS);
    CHECK(sys_now_ns() - before_ns >= 3000 * 1000 * SIM_NS_PER_MS);
}

TEST(time_jumps_to_where_something_happens_next)
{
    play_done(1, 0, sleep_a_day, NULL);
    CHECK(report.virtual_ns >= 3000 * 1000 * SIM_NS_PER_MS);
    CHECK(report.step_count < 100);
}

static void read_the_clock(void *arg)
{
    uint64_t last_ns = 0;

    (void)arg;
    for (int i = 0; i < 1000; i++) {
        uint64_t now_ns = sys_now_ns();

        CHECK(now_ns > last_ns);
        last_ns = now_ns;
    }
}

TEST(the_clock_never_goes_back_and_every_look_costs_time)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        play_done(seed, SIM_FAULTS_ALL, read_the_clock, NULL);
    }
}

/* ---- threads and locks ---- */

struct count {
    struct sys_mutex mutex;
    struct sys_cond changed;
    unsigned value, inside, inside_max;
    unsigned order[8], order_count;
};

static void count_init(struct count *count)
{
    memset(count, 0, sizeof(*count));
    sys_mutex_init(&count->mutex);
    sys_cond_init(&count->changed);
}

static void count_up(void *arg)
{
    struct count *count = arg;

    for (int i = 0; i < 20; i++) {
        unsigned value;

        sys_mutex_lock(&count->mutex);
        count->inside++;
        count->inside_max = count->inside > count->inside_max ? count->inside : count->inside_max;
        value = count->value;
        sim_step(); /* let others try */
        count->value = value + 1;
        count->inside--;
        sys_cond_broadcast(&count->changed);
        sys_mutex_unlock(&count->mutex);
    }
}

static void count_in_four(void *arg)
{
    struct count *count = arg;
    struct sys_thread *threads[4];

    count_init(count);
    for (int i = 0; i < 4; i++) {
        CHECK_EQ(sys_thread_start(&threads[i], "counter", count_up, count), 0);
    }
    sys_mutex_lock(&count->mutex);
    while (count->value < 80) {
        CHECK(sys_cond_wait_until(&count->changed, &count->mutex, SYS_FOREVER));
    }
    sys_mutex_unlock(&count->mutex);
    for (int i = 0; i < 4; i++) {
        sys_thread_join(threads[i]);
    }
    sys_cond_deinit(&count->changed);
    sys_mutex_deinit(&count->mutex);
}

TEST(a_mutex_lets_one_in_and_a_condition_loses_no_wake)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct count count;

        play_done(seed, SIM_FAULTS_TIME, count_in_four, &count);
        CHECK_EQ(count.value, 80);
        CHECK_EQ(count.inside_max, 1);
    }
}

static void count_without_lock(void *arg)
{
    struct count *count = arg;

    for (int i = 0; i < 5; i++) {
        unsigned value = count->value;

        sim_step();
        count->value = value + 1;
    }
}

static void race(void *arg)
{
    struct count *count = arg;
    struct sys_thread *thread;

    count_init(count);
    CHECK_EQ(sys_thread_start(&thread, "racer", count_without_lock, count), 0);
    count_without_lock(count);
    sys_thread_join(thread);
}

TEST(a_race_is_lost_under_some_seeds_and_won_under_others)
{
    unsigned lost = 0, won = 0;

    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct count count;

        play_done(seed, SIM_FAULTS_TIME, race, &count);
        lost += count.value < 10;
        won += count.value == 10;
    }
    CHECK(lost > 0);
    CHECK(won > 0);
}

static void note_order(void *arg)
{
    struct count *count = arg;

    sim_step();
    count->order[count->order_count++] = sys_thread_self()->number;
}

static void start_three(void *arg)
{
    struct count *count = arg;
    struct sys_thread *threads[3];

    count_init(count);
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(sys_thread_start(&threads[i], "runner", note_order, count), 0);
    }
    for (int i = 0; i < 3; i++) {
        sys_thread_join(threads[i]);
    }
}

TEST(every_order_of_three_threads_occurs)
{
    bool seen[5][5] = { { false } };
    unsigned kinds = 0;

    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct count count;
        bool *place;

        play_done(seed, SIM_FAULTS_TIME, start_three, &count);
        CHECK_EQ(count.order_count, 3);
        place = &seen[count.order[0]][count.order[1]];
        kinds += !*place;
        *place = true;
    }
    CHECK_EQ(kinds, 6);
}

static void wait_in_time(void *arg)
{
    struct count count;
    uint64_t until_ns;

    (void)arg;
    count_init(&count);
    sys_mutex_lock(&count.mutex);
    until_ns = sys_now_ns() + 5 * SIM_NS_PER_MS;
    while (sys_cond_wait_until(&count.changed, &count.mutex, until_ns)) {
    }
    sys_mutex_unlock(&count.mutex);
    CHECK(sys_now_ns() >= until_ns);
    CHECK(sys_now_ns() < until_ns + 100 * SIM_NS_PER_MS);
}

TEST(a_wait_ends_at_its_deadline)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        play_done(seed, SIM_FAULTS_TIME, wait_in_time, NULL);
    }
}

static void set_flag(void *arg)
{
    *(int *)arg += 1;
}

static void leave_context(void *arg)
{
    struct sys_thread_self *self = sys_thread_self();

    CHECK(self->context == NULL);
    self->context = arg;
    self->on_exit = set_flag;
}

static void start_and_detach(void *arg)
{
    struct sys_thread *thread;

    CHECK_EQ(sys_thread_start(&thread, "detached", leave_context, arg), 0);
    sys_thread_detach(thread);
    leave_context(arg);
}

TEST(each_thread_has_a_record_of_its_own_and_is_told_when_it_ends)
{
    int count = 0;

    play_done(3, SIM_FAULTS_TIME, start_and_detach, &count);
    CHECK_EQ(count, 2);
}

/* ---- ends that are none ---- */

static void lock_and_wait(void *arg) IL_NO_TSA
{
    struct count *count = arg;

    sys_mutex_lock(&count->mutex);
    (void)sys_cond_wait_until(&count->changed, &count->mutex, SYS_FOREVER);
}

static void wait_for_each_other(void *arg)
{
    struct sys_thread *thread;

    count_init(arg);
    CHECK_EQ(sys_thread_start(&thread, "waiter", lock_and_wait, arg), 0);
    sys_thread_join(thread);
}

TEST(when_nobody_can_go_on_the_report_says_who_waits_for_what)
{
    static struct count count;

    play(1, 0, wait_for_each_other, &count);
    CHECK_EQ(report.end, SIM_DEADLOCK);
    CHECK_CONTAINS(report.detail, "thread 1 'main' waits for the end of thread 2");
    CHECK_CONTAINS(report.detail, "thread 2 'waiter' waits for a condition");
}

static void spin(void *arg)
{
    for (;;) {
        (void)arg;
        sim_step();
    }
}

TEST(a_run_that_does_not_end_is_stopped_by_its_steps)
{
    struct sim_options options = { .seed = 1, .step_count_max = 10000 };

    sim_run(&options, spin, NULL, &report);
    CHECK_EQ(report.end, SIM_STEPS_OUT);
    CHECK_CONTAINS(report.detail, "thread 1 'main' runs");
}

TEST(a_run_that_does_not_end_is_stopped_by_its_time)
{
    struct sim_options options = { .seed = 1, .time_limit_ns = SIM_NS_PER_MS };

    sim_run(&options, spin, NULL, &report);
    CHECK_EQ(report.end, SIM_TIME_OUT);
}

static void sleep_on(void *arg)
{
    (void)arg;
    for (;;) {
        sleep_for(1000 * SIM_NS_PER_MS);
    }
}

static void leave_a_thread(void *arg)
{
    struct sys_thread *thread;

    CHECK_EQ(sys_thread_start(&thread, "forgotten", sleep_on, arg), 0);
    sys_thread_detach(thread);
}

TEST(a_thread_that_outlives_the_first_for_long_is_reported)
{
    play(1, 0, leave_a_thread, NULL);
    CHECK_EQ(report.end, SIM_LEFT);
    CHECK_CONTAINS(report.detail, "'forgotten'");
}

static void leave_a_descriptor(void *arg)
{
    (void)arg;
    CHECK(sys_wake_open() > 0);
}

TEST(a_descriptor_that_is_left_open_is_reported)
{
    play(1, 0, leave_a_descriptor, NULL);
    CHECK_EQ(report.end, SIM_LEFT);
    CHECK_STR(report.detail, "1 descriptors are left open");
}

/* ---- chance ---- */

static void draw_a_lot(void *arg)
{
    struct count count;

    count_in_four(&count);
    for (int i = 0; i < 100; i++) {
        *(uint64_t *)arg = *(uint64_t *)arg * 31 + sim_draw(1000);
        sim_note("step %d", i);
    }
}

TEST(the_seed_decides_everything)
{
    uint64_t hashes[50], draws[50];

    for (uint64_t seed = 0; seed < 50; seed++) {
        draws[seed] = 0;
        play_done(seed, SIM_FAULTS_TIME, draw_a_lot, &draws[seed]);
        hashes[seed] = report.trace_hash;
    }
    for (uint64_t seed = 0; seed < 50; seed++) {
        uint64_t draw = 0;

        play_done(seed, SIM_FAULTS_TIME, draw_a_lot, &draw);
        CHECK(report.trace_hash == hashes[seed]);
        CHECK(draw == draws[seed]);
        CHECK(seed == 0 || hashes[seed] != hashes[seed - 1]);
    }
}

/* A process that is made by exec lies at other addresses. */
TEST(another_process_gets_the_same_hash)
{
    const char *given = getenv("WORLD_TEST_HASH");
    uint64_t draw = 0;
    char text[32];

    play_done(7, SIM_FAULTS_TIME, draw_a_lot, &draw);
    (void)snprintf(text, sizeof(text), "%016" PRIx64, report.trace_hash);
    if (given != NULL) {
        CHECK_STR(text, given);
    } else {
        pid_t child = fork();
        int status = 1;

        if (child == 0) {
            (void)setenv("WORLD_TEST_HASH", text, 1);
            (void)execl("/proc/self/exe", "test-sim-world", "another_process", (char *)NULL);
            _exit(127);
        }
        CHECK_EQ(waitpid(child, &status, 0), child);
        CHECK_EQ(status, 0);
    }
}

TEST(keeping_the_events_changes_nothing)
{
    struct sim_options options = { .seed = 11, .faults = SIM_FAULTS_TIME };
    uint64_t draw = 0, hash;
    char text[128];

    sim_run(&options, draw_a_lot, &draw, &report);
    hash = report.trace_hash;
    CHECK_EQ(report.event_count, 0);
    options.with_events = true;
    sim_run(&options, draw_a_lot, &draw, &report);
    CHECK(report.trace_hash == hash);
    CHECK(report.event_count > 100);
    sim_event_format(&report.events[0], text, sizeof(text));
    CHECK_STR(text, "starts thread 1 'main'");
    free(report.events);
}

static void count_event(void *arg, const struct sim_event *event)
{
    CHECK(event->kind < SIM_EVENT_KIND_COUNT);
    (*(uint64_t *)arg)++;
}

TEST(events_are_told_as_they_happen)
{
    uint64_t draw = 0, count = 0;
    struct sim_options options = {
        .seed = 11, .with_events = true, .on_event = count_event, .event_arg = &count
    };

    sim_run(&options, draw_a_lot, &draw, &report);
    CHECK(count > 100);
    CHECK_EQ(count, report.event_count);
    free(report.events);
}

TEST(in_a_calm_run_no_fault_happens)
{
    struct sim_span calm = { 0, UINT64_MAX };
    struct sim_options options = { .faults = SIM_FAULTS_TIME, .calm = &calm, .calm_count = 1 };

    for (options.seed = 1; options.seed <= 20; options.seed++) {
        struct count count;

        sim_run(&options, count_in_four, &count, &report);
        CHECK_EQ(report.end, SIM_DONE);
        for (int i = 0; i < SIM_FAULT_COUNT; i++) {
            CHECK_EQ(report.fault_counts[i], 0);
        }
    }
}

static void ask_for_faults(void *arg)
{
    uint64_t *counts = arg;

    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        for (int times = 0; times < 100; times++) {
            counts[i] += sim_fault((enum sim_fault)i);
        }
    }
    sim_calm(SIM_FAULTS_ALL);
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        CHECK(!sim_fault((enum sim_fault)i));
    }
}

TEST(each_seed_leaves_some_faults_out_and_all_of_them_occur)
{
    uint64_t total[SIM_FAULT_COUNT] = { 0 };
    unsigned without[SIM_FAULT_COUNT] = { 0 };

    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t counts[SIM_FAULT_COUNT] = { 0 };

        play_done(seed, SIM_FAULTS_ALL, ask_for_faults, counts);
        for (int i = 0; i < SIM_FAULT_COUNT; i++) {
            total[i] += counts[i];
            without[i] += counts[i] == 0;
        }
    }
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        CHECK(total[i] > 0);
        CHECK(without[i] > 50);
        CHECK(sim_fault_name((enum sim_fault)i) != NULL);
    }
}

static void random_bytes(void *arg)
{
    sys_random(arg, 16);
}

TEST(random_bytes_are_the_seed_s)
{
    unsigned char one[16], again[16], other[16];

    play_done(5, 0, random_bytes, one);
    play_done(5, 0, random_bytes, again);
    play_done(6, 0, random_bytes, other);
    CHECK(memcmp(one, again, sizeof(one)) == 0);
    CHECK(memcmp(one, other, sizeof(one)) != 0);
}

/* ---- alarms ---- */

struct ring {
    struct sim_alarm alarm;
    unsigned count;
};

static void ring_on_alarm(struct sim_alarm *alarm)
{
    struct ring *ring = (struct ring *)(void *)alarm;

    if (++ring->count < 3) {
        sim_alarm_set(alarm, SIM_NS_PER_MS);
    }
}

static bool has_rung_thrice(void *arg)
{
    return ((struct ring *)arg)->count == 3;
}

static void set_alarms(void *arg)
{
    struct ring ring = { .alarm.ring = ring_on_alarm }, unset = { .alarm.ring = ring_on_alarm };

    (void)arg;
    sim_alarm_set(&unset.alarm, SIM_NS_PER_MS);
    sim_alarm_set(&ring.alarm, SIM_NS_PER_MS);
    sim_alarm_unset(&unset.alarm);
    CHECK(sim_wait_until(has_rung_thrice, &ring, SIM_FOREVER, "three rings"));
    CHECK_EQ(unset.count, 0);
}

TEST(an_alarm_rings_in_its_time_and_can_be_set_anew)
{
    play_done(1, 0, set_alarms, NULL);
    CHECK(report.virtual_ns >= 3 * SIM_NS_PER_MS);
}
