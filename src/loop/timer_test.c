#include "loop/timer.h"

#include <stdlib.h>

#include "tests/check.h"

#define MS ((uint64_t)1000000)
#define S  (1000 * MS)

static struct timers timers;
static uint64_t now_ns;

struct probe {
    struct timer timer;
    unsigned fired_count;
    uint64_t fired_at_ns;
    unsigned fired_order; /* 1 for the first of all */
    struct probe *cancel;
    struct probe *arm;
    uint64_t arm_deadline_ns;
};

static unsigned fired_total;

static void probe_on_fire(struct timer *timer)
{
    struct probe *probe = il_container_of(timer, struct probe, timer);

    CHECK(!timer_is_armed(timer));
    probe->fired_count++;
    probe->fired_at_ns = now_ns;
    probe->fired_order = ++fired_total;
    if (probe->cancel != NULL) {
        timer_cancel(&timers, &probe->cancel->timer);
    }
    if (probe->arm != NULL) {
        timer_arm(&timers, &probe->arm->timer, probe->arm_deadline_ns);
    }
    timers_validate(&timers);
}

static void probe_init(struct probe *probe)
{
    *probe = (struct probe){ 0 };
    timer_init(&probe->timer, probe_on_fire);
}

static void start_at(uint64_t start_ns)
{
    now_ns = start_ns;
    fired_total = 0;
    timers_init(&timers, start_ns);
}

static size_t run_at(uint64_t at_ns)
{
    size_t fired_count;

    now_ns = at_ns;
    fired_count = timers_run(&timers, at_ns);
    timers_validate(&timers);
    return fired_count;
}

/* As an idle loop does: sleep until there is something to do, until nothing is armed. */
static unsigned sleep_until_all_fired(void)
{
    unsigned wake_count = 0;

    while (timers.count > 0) {
        uint64_t next_ns = timers_next_deadline_ns(&timers);

        CHECK(next_ns >= now_ns);
        run_at(next_ns);
        wake_count++;
    }
    return wake_count;
}

TEST(timer_fires_at_its_deadline_or_up_to_one_tick_later_and_never_before)
{
    static const uint64_t delays[] = { 1,      MS,      3 * MS + 7, 64 * MS,         100 * MS + 1,
                                       S - 1,  30 * S,  86400 * S,  365 * 86400 * S, TIMER_TICK_NS,
                                       60 * S, 5000000, 1ull << 40, 1ull << 61 };
    struct probe probe;

    CHECK(TIMER_TICK_NS <= MS);
    for (size_t i = 0; i < il_array_count(delays); i++) {
        uint64_t deadline_ns, next_ns;

        start_at(123456789012345);
        probe_init(&probe);
        deadline_ns = now_ns + delays[i];
        timer_arm(&timers, &probe.timer, deadline_ns);
        next_ns = timers_next_deadline_ns(&timers);
        CHECK(next_ns >= deadline_ns);
        CHECK(next_ns < deadline_ns + TIMER_TICK_NS);
        CHECK_EQ(run_at(deadline_ns - 1), 0);
        CHECK_EQ(run_at(next_ns - 1), 0);
        CHECK_EQ(run_at(next_ns), 1);
        CHECK_EQ(probe.fired_count, 1);
        CHECK(timers_next_deadline_ns(&timers) == TIMER_NEVER);
    }
}

TEST(deadline_in_the_past_fires_in_the_next_run_and_not_in_arm)
{
    struct probe probe;

    start_at(10 * S);
    probe_init(&probe);
    timer_arm(&timers, &probe.timer, 3 * S);
    CHECK_EQ(probe.fired_count, 0);
    CHECK(timers_next_deadline_ns(&timers) <= now_ns);
    CHECK_EQ(run_at(10 * S), 1);

    timer_arm(&timers, &probe.timer, 0);
    timer_cancel(&timers, &probe.timer);
    CHECK_EQ(run_at(10 * S), 0);
}

TEST(timer_that_rearms_itself_for_the_past_fires_once_in_each_run)
{
    struct probe probe;

    start_at(S);
    probe_init(&probe);
    probe.arm = &probe;
    probe.arm_deadline_ns = 1;
    timer_arm(&timers, &probe.timer, 1);
    for (unsigned i = 1; i <= 3; i++) {
        CHECK_EQ(run_at(S), 1);
        CHECK_EQ(probe.fired_count, i);
        CHECK(timers_next_deadline_ns(&timers) <= now_ns);
    }
    timers_deinit(&timers);
    CHECK(!timer_is_armed(&probe.timer));
}

TEST(deadline_never_leaves_the_timer_unarmed)
{
    struct probe probe;

    start_at(S);
    probe_init(&probe);
    timer_arm(&timers, &probe.timer, 2 * S);
    timer_arm(&timers, &probe.timer, TIMER_NEVER);
    CHECK(!timer_is_armed(&probe.timer));
    CHECK(timers_next_deadline_ns(&timers) == TIMER_NEVER);
    CHECK_EQ(run_at(TIMER_NEVER), 0);
}

TEST(last_deadline_before_never_is_armed_and_outlives_every_clock)
{
    struct probe probe;

    start_at(S);
    probe_init(&probe);
    timer_arm(&timers, &probe.timer, TIMER_NEVER - 1);
    timers_validate(&timers);
    CHECK(timers_next_deadline_ns(&timers) == TIMER_NEVER - 1);
    CHECK_EQ(run_at(TIMER_NEVER), 0);
    CHECK(timer_is_armed(&probe.timer));
    timer_cancel(&timers, &probe.timer);
    CHECK_EQ(timers.count, 0);
}

TEST(arming_again_replaces_the_deadline)
{
    struct probe probe;

    start_at(S);
    probe_init(&probe);
    timer_arm(&timers, &probe.timer, 2 * S);
    timer_arm(&timers, &probe.timer, 5 * S);
    CHECK_EQ(run_at(4 * S), 0);
    timer_arm(&timers, &probe.timer, 4 * S + 10 * MS);
    CHECK_EQ(run_at(4 * S + 11 * MS), 1);
    CHECK_EQ(run_at(60 * S), 0);
}

TEST(timer_cancelled_by_another_that_fires_in_the_same_run_does_not_fire)
{
    struct probe first, second;

    start_at(S);
    probe_init(&first);
    probe_init(&second);
    first.cancel = &second;
    timer_arm(&timers, &first.timer, 2 * S);
    timer_arm(&timers, &second.timer, 2 * S);
    CHECK_EQ(run_at(3 * S), 1);
    CHECK_EQ(second.fired_count, 0);
    CHECK_EQ(timers.count, 0);
}

TEST(due_timer_postponed_by_another_fires_at_its_new_deadline)
{
    struct probe first, second;

    start_at(S);
    probe_init(&first);
    probe_init(&second);
    first.arm = &second;
    first.arm_deadline_ns = 10 * S;
    timer_arm(&timers, &first.timer, 2 * S);
    timer_arm(&timers, &second.timer, 2 * S);
    CHECK_EQ(run_at(3 * S), 1);
    CHECK_EQ(second.fired_count, 0);
    CHECK_EQ(sleep_until_all_fired(), 1);
    CHECK(second.fired_at_ns >= 10 * S);
}

static void timer_on_fire_free(struct timer *timer)
{
    free(timer);
}

TEST(timer_may_be_freed_by_its_own_callback)
{
    struct timer *timer = malloc(sizeof(*timer));

    start_at(S);
    timer_init(timer, timer_on_fire_free);
    timer_arm(&timers, timer, 2 * S);
    CHECK_EQ(run_at(3 * S), 1);
    timers_validate(&timers);
}

TEST(clock_jump_fires_everything_due_in_order_of_deadline_then_of_arming)
{
    enum { PROBE_COUNT = 500 };
    static struct probe probes[PROBE_COUNT];

    start_at(77 * S);
    for (unsigned i = 0; i < PROBE_COUNT; i++) {
        probe_init(&probes[i]);
        /* pairs share a deadline; the deadlines reach over a year and come in no order */
        timer_arm(&timers, &probes[i].timer,
                  77 * S + (((uint64_t)(i / 2) * 7919) % 250 + 1) * 130000 * S);
    }
    CHECK_EQ(run_at(77 * S + (uint64_t)400 * 86400 * S), PROBE_COUNT);
    for (unsigned i = 0; i < PROBE_COUNT; i++) {
        for (unsigned j = 0; j < PROBE_COUNT; j++) {
            uint64_t a = probes[i].timer.deadline_ns, b = probes[j].timer.deadline_ns;

            if (a < b || (a == b && i < j)) {
                CHECK(probes[i].fired_order < probes[j].fired_order);
            }
        }
    }
}

TEST(idle_loop_wakes_once_for_each_deadline_however_far)
{
    static const uint64_t delays[] = {
        5 * MS, 90 * MS, 2 * S, 30 * S, 31 * S, 3600 * S, 86400 * S
    };
    static struct probe probes[il_array_count(delays)];

    start_at(1234567 * S);
    for (size_t i = 0; i < il_array_count(delays); i++) {
        probe_init(&probes[i]);
        timer_arm(&timers, &probes[i].timer, now_ns + delays[i]);
    }
    CHECK_EQ(sleep_until_all_fired(), il_array_count(delays));
}

/* Arm `count` timers for the same far time and one for a little before, which is cancelled. */
static void arm_crowd_and_cancel_first(struct probe *probes, unsigned count)
{
    struct probe first;

    start_at(1000 * S);
    probe_init(&first);
    timer_arm(&timers, &first.timer, 1030 * S); /* all lie in one slot of a high level */
    for (unsigned i = 0; i < count; i++) {
        probe_init(&probes[i]);
        timer_arm(&timers, &probes[i].timer, 1030 * S + 300 * MS);
    }
    timer_cancel(&timers, &first.timer);
}

TEST(idle_loop_does_not_wake_for_a_cancelled_timer)
{
    struct probe kept[TIMERS_SCAN_MAX];

    arm_crowd_and_cancel_first(kept, TIMERS_SCAN_MAX);
    CHECK_EQ(sleep_until_all_fired(), 1);
    CHECK(kept[0].fired_at_ns >= 1030 * S + 300 * MS);
}

TEST(among_many_timers_a_cancelled_first_one_costs_one_wake_for_each_level_at_most)
{
    enum { PROBE_COUNT = TIMERS_SCAN_MAX + 1 };
    struct probe kept[PROBE_COUNT];
    unsigned wake_count;

    arm_crowd_and_cancel_first(kept, PROBE_COUNT);
    wake_count = sleep_until_all_fired();
    CHECK(wake_count > 1);
    CHECK(wake_count <= TIMERS_LEVEL_COUNT);
    CHECK_EQ(fired_total, PROBE_COUNT);
}

/* ---- against a model that keeps timers in a plain list ---- */

enum { MODEL_COUNT = 120 };

static struct model {
    uint64_t random;
    uint64_t seed;
    uint64_t present_tick; /* of the last run */
    uint64_t sequence;     /* grows with each arming */
    uint64_t run_began;    /* value of sequence when the current run began */
    unsigned early_count;
    struct model_timer {
        struct timer timer;
        bool is_armed;
        uint64_t deadline_ns;
        uint64_t tick;       /* of the run that has to fire it; 0 if overdue when armed */
        uint64_t armed_when; /* value of sequence */
    } timers[MODEL_COUNT];
} model;

#define MODEL_CHECK(condition)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_fail(__FILE__, __LINE__, "seed %" PRIu64 ": %s", model.seed, #condition);        \
        }                                                                                          \
    } while (0)

static uint64_t model_random(uint64_t below)
{
    uint64_t z = model.random += 0x9e3779b97f4a7c15; /* splitmix64 */

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % below;
}

/* From nothing to some 30 years, each magnitude as likely. */
static uint64_t model_random_delay(void)
{
    return model_random((uint64_t)1 << model_random(61));
}

static void model_arm(struct model_timer *t)
{
    uint64_t deadline_ns;

    switch (model_random(8)) {
    case 0:
        deadline_ns = model_random(now_ns);
        break;
    case 1:
        deadline_ns = TIMER_NEVER;
        break;
    case 2: /* the same as some other's */
        deadline_ns = model.timers[model_random(MODEL_COUNT)].deadline_ns;
        break;
    default:
        deadline_ns = now_ns + model_random_delay();
    }
    timer_arm(&timers, &t->timer, deadline_ns);
    t->is_armed = deadline_ns != TIMER_NEVER;
    t->deadline_ns = deadline_ns;
    t->tick = (deadline_ns + TIMER_TICK_NS - 1) / TIMER_TICK_NS;
    t->tick = t->tick <= model.present_tick ? 0 : t->tick;
    t->armed_when = ++model.sequence;
}

static void model_cancel(struct model_timer *t)
{
    timer_cancel(&timers, &t->timer);
    t->is_armed = false;
}

/* The timer that has to fire next, whenever that is; NULL if none is armed. */
static struct model_timer *model_first(bool is_in_run)
{
    struct model_timer *first = NULL;

    for (unsigned i = 0; i < MODEL_COUNT; i++) {
        struct model_timer *t = &model.timers[i];

        if (!t->is_armed || (is_in_run && t->tick == 0 && t->armed_when > model.run_began)) {
            continue; /* not armed, or overdue for the next run */
        }
        if (first == NULL || t->tick < first->tick ||
            (t->tick == first->tick && t->armed_when < first->armed_when)) {
            first = t;
        }
    }
    return first;
}

static void model_on_fire(struct timer *timer)
{
    struct model_timer *t = il_container_of(timer, struct model_timer, timer);

    MODEL_CHECK(t->deadline_ns <= now_ns);
    MODEL_CHECK(t == model_first(true));
    MODEL_CHECK(!timer_is_armed(timer));
    t->is_armed = false;
    while (model_random(3) == 0) {
        struct model_timer *other =
            model_random(3) == 0 ? t : &model.timers[model_random(MODEL_COUNT)];

        if (model_random(2) == 0) {
            model_arm(other);
        } else {
            model_cancel(other);
        }
    }
}

static void model_run(void)
{
    struct model_timer *left;

    if (now_ns / TIMER_TICK_NS > model.present_tick) {
        model.present_tick = now_ns / TIMER_TICK_NS;
    }
    model.run_began = model.sequence;
    timers_run(&timers, now_ns);
    left = model_first(true);
    MODEL_CHECK(left == NULL || left->tick > model.present_tick);
}

/* Sleep as a loop would, or be woken early, or be late. */
static void model_advance(void)
{
    uint64_t next_ns = timers_next_deadline_ns(&timers);
    const struct model_timer *first = model_first(false);
    uint64_t due_ns = first == NULL ? TIMER_NEVER : first->tick * TIMER_TICK_NS;

    if (due_ns < now_ns) {
        MODEL_CHECK(next_ns <= now_ns);
    } else {
        MODEL_CHECK(next_ns <= due_ns);
        model.early_count += next_ns < due_ns;
    }
    switch (model_random(4)) {
    case 0:
        now_ns += model_random_delay() / 1024;
        break;
    case 1:
        break;
    default:
        if (next_ns != TIMER_NEVER && next_ns > now_ns) {
            now_ns = next_ns;
        }
    }
}

static void model_try_seed(uint64_t seed)
{
    model = (struct model){ .seed = seed, .random = seed };
    start_at(1 + model_random((uint64_t)1 << model_random(60)));
    model.present_tick = now_ns / TIMER_TICK_NS;
    for (unsigned i = 0; i < MODEL_COUNT; i++) {
        timer_init(&model.timers[i].timer, model_on_fire);
    }
    for (unsigned step = 0; step < 400 && now_ns < (uint64_t)1 << 62; step++) {
        for (uint64_t n = model_random(8); n > 0; n--) {
            model_arm(&model.timers[model_random(MODEL_COUNT)]);
        }
        for (uint64_t n = model_random(5); n > 0; n--) {
            model_cancel(&model.timers[model_random(MODEL_COUNT)]);
        }
        for (unsigned i = 0; i < MODEL_COUNT; i++) {
            MODEL_CHECK(timer_is_armed(&model.timers[i].timer) == model.timers[i].is_armed);
        }
        timers_validate(&timers);
        model_advance();
        model_run();
        timers_validate(&timers);
    }
    MODEL_CHECK(model.early_count <
                100); /* of up to 400 sleeps, of 3 timers armed between any two */
    timers_deinit(&timers);
}

TEST(any_sequence_of_operations_fires_as_a_sorted_list_would)
{
    for (uint64_t seed = 1; seed <= 300; seed++) {
        model_try_seed(seed);
    }
}
