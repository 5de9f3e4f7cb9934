/* fiber.c: what a fiber costs: a switch, a stack, a life, and memory while it is idle.
 *
 * Prints a JSON object per line: nanoseconds for one operation, least, median and most of the
 * samples; for memory, bytes. Single-threaded. Run it on a quiet machine. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "loop/timer.h"
#include "rt/fiber.h"

enum { SAMPLE_COUNT = 15, IDLE_COUNT = 20000, TIMER_COUNT = 4096 };

static struct stack_cache cache;
static struct fiber home;

static void die(const struct il_error *err)
{
    fprintf(stderr, "bench-fiber: %s\n", err->message);
    exit(3);
}

static double now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const char *name, unsigned count, void (*run)(unsigned count))
{
    double samples[SAMPLE_COUNT];

    run(count / 10 + 1); /* warm up */
    for (unsigned i = 0; i < SAMPLE_COUNT; i++) {
        double began_ns = now_ns();

        run(count);
        samples[i] = (now_ns() - began_ns) / count;
    }
    qsort(samples, SAMPLE_COUNT, sizeof(samples[0]), compare_doubles);
    printf("{\"name\":\"%s\",\"min\":%.1f,\"med\":%.1f,\"max\":%.1f}\n", name, samples[0],
           samples[SAMPLE_COUNT / 2], samples[SAMPLE_COUNT - 1]);
}

/* ---- switches ---- */

static void fiber_run_for_ever(void *arg)
{
    struct fiber *fiber = arg;

    for (;;) {
        fiber_switch(fiber, &home);
    }
}

static void fiber_run_once(void *arg)
{
    fiber_switch_exit(arg, &home);
}

static struct fiber fibers[IDLE_COUNT];

static void fibers_open(unsigned count)
{
    struct il_error err;

    for (unsigned i = 0; i < count; i++) {
        if (fiber_init(&fibers[i], &cache, fiber_run_for_ever, &fibers[i], &err) != IL_OK) {
            die(&err);
        }
        fiber_switch(&home, &fibers[i]);
    }
}

static void fibers_close(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fiber_deinit(&fibers[i], &cache);
    }
}

static void run_round_trips(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fiber_switch(&home, &fibers[0]);
    }
}

static void run_round_trips_over_256(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fiber_switch(&home, &fibers[i % 256]);
    }
}

static void run_round_trips_over_all(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        fiber_switch(&home, &fibers[i % IDLE_COUNT]);
    }
}

/* ---- stacks and lives ---- */

static void run_get_put(unsigned count)
{
    struct stack *stack;
    struct il_error err;

    for (unsigned i = 0; i < count; i++) {
        if (stack_get(&cache, &stack, &err) != IL_OK) {
            die(&err);
        }
        *(volatile char *)(stack->low + stack->size - 1) = 1;
        stack_put(&cache, stack);
    }
}

/* As tasks do that are spawned by one loop and end on another. */
static void run_get_put_elsewhere(unsigned count)
{
    static struct stack_cache elsewhere;
    struct stack *stack;
    struct il_error err;

    if (stack_cache_init(&elsewhere, 0, &err) != IL_OK) {
        die(&err);
    }
    for (unsigned i = 0; i < count; i++) {
        if (stack_get(&cache, &stack, &err) != IL_OK) {
            die(&err);
        }
        *(volatile char *)(stack->low + stack->size - 1) = 1;
        stack_put(&elsewhere, stack);
    }
    stack_cache_deinit(&elsewhere);
}

static void run_lives(unsigned count)
{
    struct fiber fiber;
    struct il_error err;

    for (unsigned i = 0; i < count; i++) {
        if (fiber_init(&fiber, &cache, fiber_run_once, &fiber, &err) != IL_OK) {
            die(&err);
        }
        fiber_switch(&home, &fiber);
        fiber_deinit(&fiber, &cache);
    }
}

/* A thousand finished at once and then a loop with nothing to do: the cost of giving pages back. */
static void run_trim(unsigned count)
{
    static uint64_t now = 1000000000;

    for (unsigned i = 0; i < count; i += 1000) {
        fibers_open(1000);
        fibers_close(1000);
        (void)stack_cache_trim(&cache, now += STACK_IDLE_NS); /* from here on they lie unused */
        now += STACK_IDLE_NS;
        while (stack_cache_trim(&cache, now) == now) {
            continue;
        }
    }
}

/* More at once than a cache holds: stacks go home without their pages, and come back so. */
static void run_lives_in_a_crowd(unsigned count)
{
    for (unsigned i = 0; i < count; i += IDLE_COUNT) {
        fibers_open(IDLE_COUNT);
        fibers_close(IDLE_COUNT);
    }
}

/* ---- memory ---- */

/* Resident bytes and page tables, as the kernel counts them. */
static double memory_used(void)
{
    unsigned long resident_kib = 0, tables_kib = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "r");

    if (file == NULL) {
        perror("bench-fiber: /proc/self/status");
        exit(3);
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        (void)sscanf(line, "VmRSS: %lu", &resident_kib); /* other lines do not match */
        (void)sscanf(line, "VmPTE: %lu", &tables_kib);
    }
    fclose(file);
    return (double)(resident_kib + tables_kib) * 1024;
}

static void cache_open(void)
{
    struct il_error err;

    if (stack_cache_init(&cache, 0, &err) != IL_OK) {
        die(&err);
    }
}

static void measure_memory(void)
{
    double before, with, after;

    stack_cache_deinit(&cache);
    cache_open();
    memset(fibers, 1, sizeof(fibers));
    before = memory_used();
    fibers_open(IDLE_COUNT);
    with = memory_used();
    fibers_close(IDLE_COUNT);
    stack_cache_deinit(&cache);
    after = memory_used();
    printf("{\"name\":\"idle_fiber_bytes\",\"value\":%.0f}\n", (with - before) / IDLE_COUNT);
    printf("{\"name\":\"finished_fiber_bytes\",\"value\":%.0f}\n", (after - before) / IDLE_COUNT);
}

/* ---- timers: not fibers, but the other thing that each waiting task has one of ---- */

static struct timers timers;
static struct timer waiting[TIMER_COUNT];

static void timer_on_fire(struct timer *timer)
{
    (void)timer;
}

static void timers_open(void)
{
    timers_init(&timers, 1);
    for (unsigned i = 0; i < TIMER_COUNT; i++) {
        timer_init(&waiting[i], timer_on_fire);
        timer_arm(&timers, &waiting[i], 30000000000 + i * (uint64_t)1000000);
    }
}

/* A request's time limit: cancelled before it runs out, and armed for the next. */
static void run_rearm(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct timer *timer = &waiting[i * 2654435761u % TIMER_COUNT];

        timer_arm(&timers, timer, 30000000000 + i);
    }
}

static void run_next_deadline(unsigned count)
{
    volatile uint64_t sink;

    for (unsigned i = 0; i < count; i++) {
        sink = timers_next_deadline_ns(&timers);
    }
    (void)sink;
}

static void run_fire(unsigned count)
{
    static uint64_t now = 100000000000;

    for (unsigned i = 0; i < count; i++) {
        timer_arm(&timers, &waiting[0], now + 5000000);
        now = timers_next_deadline_ns(&timers);
        timers_run(&timers, now);
    }
}

int main(void)
{
    cache_open();
    fiber_init_thread(&home);
    fibers_open(IDLE_COUNT);
    measure("switch_there_and_back", 2000000, run_round_trips);
    measure("switch_there_and_back_256_fibers", 2000000, run_round_trips_over_256);
    measure("switch_there_and_back_20000_fibers", 2000000, run_round_trips_over_all);
    fibers_close(IDLE_COUNT);
    measure("stack_get_touch_put", 2000000, run_get_put);
    measure("stack_get_touch_put_elsewhere", 1000000, run_get_put_elsewhere);
    measure("fiber_init_run_exit_deinit", 1000000, run_lives);
    measure("fiber_life_1000_at_once_and_trim", 10000, run_trim);
    measure("fiber_life_20000_at_once", 2 * IDLE_COUNT, run_lives_in_a_crowd);
    measure_memory();
    timers_open();
    measure("timer_rearm_among_4096", 2000000, run_rearm);
    measure("timers_next_deadline_of_crowded_slot", 2000000, run_next_deadline);
    timers_deinit(&timers);
    measure("timer_arm_sleep_fire", 1000000, run_fire);
    return 0;
}
