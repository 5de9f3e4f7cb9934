#include "rt/stack.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rt/sanitize.h"
#include "rt/stack_pile.h"
#include "tests/check.h"

#define S UINT64_C(1000000000)

static struct il_error err;

static struct stack_use use_now(void)
{
    struct stack_use use;

    stack_use(&use);
    return use;
}

static void check_nothing_is_left(void)
{
    struct stack_use use = use_now();

    CHECK_EQ(use.out_count, 0);
    CHECK_EQ(use.pool_count, 0);
    CHECK_EQ(use.slab_count, 0);
    CHECK_EQ(use.mapped_bytes, 0);
}

static struct stack *get(struct stack_cache *cache)
{
    struct stack *stack;

    CHECK_OK(stack_get(cache, &stack, &err));
    return stack;
}

static void touch_all(struct stack *stack)
{
    memset(stack->low, 0xee, stack->size);
}

static size_t resident_bytes(struct stack *stack)
{
    static unsigned char pages[(STACK_SIZE_MAX * 4) / 4096];
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE), count = stack->size / page_size, resident = 0;

    CHECK_EQ(mincore(stack->low, stack->size, pages), 0);
    for (size_t i = 0; i < count; i++) {
        resident += pages[i] & 1 ? page_size : 0;
    }
    return resident;
}

TEST(stack_size_is_rounded_up_and_its_bounds_are_enforced)
{
    static const size_t asked[] = { 0, STACK_SIZE_MIN, STACK_SIZE_MIN + 1, 100000, STACK_SIZE_MAX };
    static const size_t given[] = { STACK_SIZE_DEFAULT, STACK_SIZE_MIN, STACK_SIZE_MIN * 2, 131072,
                                    STACK_SIZE_MAX };
    size_t factor = RT_ASAN || RT_TSAN ? 4 : 1;
    struct stack_cache cache;

    for (size_t i = 0; i < il_array_count(asked); i++) {
        struct stack *stack;

        CHECK_OK(stack_cache_init(&cache, asked[i], &err));
        stack = get(&cache);
        CHECK_EQ(stack->size, given[i] * factor);
        CHECK_EQ((uintptr_t)(stack->low + stack->size) % 4096, 0);
        touch_all(stack);
        stack_put(&cache, stack);
        stack_cache_deinit(&cache);
    }
    CHECK_EQ(stack_cache_init(&cache, STACK_SIZE_MIN - 1, &err), IL_EINVAL);
    CHECK_EQ(stack_cache_init(&cache, STACK_SIZE_MAX + 1, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "stack size");
    check_nothing_is_left();
}

TEST(stack_put_last_is_got_first)
{
    struct stack_cache cache;
    struct stack *a, *b;

    CHECK_OK(stack_cache_init(&cache, 0, &err));
    a = get(&cache);
    b = get(&cache);
    CHECK(a != b);
    stack_put(&cache, b);
    stack_put(&cache, a);
    CHECK(get(&cache) == a);
    CHECK(get(&cache) == b);
    stack_put(&cache, a);
    stack_put(&cache, b);
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

TEST(stacks_do_not_overlap_and_each_has_a_guard_below)
{
    enum { STACK_COUNT = 200 };
    static struct stack *stacks[STACK_COUNT];
    struct stack_cache cache;

    CHECK_OK(stack_cache_init(&cache, STACK_SIZE_MIN, &err));
    for (unsigned i = 0; i < STACK_COUNT; i++) {
        stacks[i] = get(&cache);
        for (unsigned j = 0; j < i; j++) {
            CHECK(stacks[i]->low >= stacks[j]->low + stacks[j]->size + STACK_GUARD_SIZE ||
                  stacks[j]->low >= stacks[i]->low + stacks[i]->size + STACK_GUARD_SIZE);
        }
        CHECK(!stack_is_guard_address(stacks[i]->low));
        CHECK(!stack_is_guard_address(stacks[i]->low + stacks[i]->size - 1));
        CHECK(stack_is_guard_address(stacks[i]->low - 1));
        CHECK(stack_is_guard_address(stacks[i]->low - STACK_GUARD_SIZE));
    }
    CHECK(!stack_is_guard_address(&cache));
    CHECK(!stack_is_guard_address(NULL));
    for (unsigned i = 0; i < STACK_COUNT; i++) {
        stack_put(&cache, stacks[i]);
    }
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

/* The kernel refuses to read from there, whoever made the guard. */
static void guard_check_unreadable(void)
{
    struct stack_cache cache;
    struct stack *stack;
    int fds[2];

    CHECK_OK(stack_cache_init(&cache, 0, &err));
    CHECK_EQ(pipe(fds), 0);
    for (unsigned i = 0; i < 2; i++) { /* the guard outlives the first user, and its pages */
        stack = get(&cache);
        CHECK_EQ(write(fds[1], stack->low, 1), 1);
        CHECK_EQ(write(fds[1], stack->low - 1, 1), -1);
        CHECK_EQ(write(fds[1], stack->low - STACK_GUARD_SIZE, 1), -1);
        stack_put(NULL, stack);
    }
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

TEST(guard_cannot_be_read)
{
    guard_check_unreadable();
}

TEST(guard_made_by_mprotect_cannot_be_read)
{
    stack_set_guard_by_mprotect(true);
    guard_check_unreadable();
}

static void get_many(struct stack_cache *cache, struct stack **stacks, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        stacks[i] = get(cache);
        stacks[i]->low[0] = 1;
    }
}

TEST(cache_holds_its_maximum_and_the_pool_gets_the_oldest_as_they_are)
{
    enum { STACK_COUNT = STACK_CACHE_COUNT_MAX + STACK_BATCH };
    struct stack *stacks[STACK_COUNT];
    struct stack_cache a, b;

    CHECK_OK(stack_cache_init(&a, STACK_SIZE_MIN, &err));
    CHECK_OK(stack_cache_init(&b, STACK_SIZE_MIN, &err));
    get_many(&a, stacks, STACK_COUNT);
    CHECK_EQ(a.pile.count, 0); /* all came in whole batches */
    for (unsigned i = 0; i < STACK_CACHE_COUNT_MAX; i++) {
        stack_put(&b, stacks[i]);
    }
    CHECK_EQ(b.pile.count, STACK_CACHE_COUNT_MAX);
    CHECK_EQ(use_now().pool_count, 0);
    for (unsigned i = STACK_CACHE_COUNT_MAX; i < STACK_COUNT; i++) {
        stack_put(&b, stacks[i]);
    }
    CHECK_EQ(b.pile.count, STACK_CACHE_COUNT_MAX);
    CHECK_EQ(use_now().pool_count, STACK_BATCH);

    for (unsigned i = 0; i < STACK_BATCH; i++) { /* those that b put first */
        struct stack *stack = get(&a);

        CHECK(resident_bytes(stack) > 0);
        stacks[i] = stack;
    }
    CHECK_EQ(use_now().pool_count, 0);
    for (unsigned i = 0; i < STACK_BATCH; i++) {
        stack_put(&a, stacks[i]);
    }
    CHECK(get(&b) == stacks[STACK_COUNT - 1]);
    stack_put(&b, stacks[STACK_COUNT - 1]);
    stack_cache_deinit(&a);
    stack_cache_deinit(&b);
    check_nothing_is_left();
}

TEST(pool_holds_its_maximum_and_what_is_beyond_gives_its_memory_back)
{
    enum { STACK_COUNT = STACK_POOL_COUNT_MAX + 10 };
    static struct stack *stacks[STACK_COUNT];
    struct stack_cache cache;

    CHECK_OK(stack_cache_init(&cache, STACK_SIZE_MIN, &err));
    get_many(&cache, stacks, STACK_COUNT);
    for (unsigned i = 0; i < STACK_COUNT; i++) {
        stack_put(NULL, stacks[i]);
    }
    CHECK_EQ(use_now().pool_count, STACK_POOL_COUNT_MAX);
    CHECK_EQ(use_now().out_count, cache.pile.count);
    CHECK(resident_bytes(stacks[STACK_POOL_COUNT_MAX - 1]) > 0);
    CHECK_EQ(resident_bytes(stacks[STACK_POOL_COUNT_MAX]), 0);
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

TEST(stacks_got_by_one_loop_and_put_by_another_are_used_again)
{
    struct stack_cache spawner, runner;
    uint64_t mapped_bytes = 0;

    CHECK_OK(stack_cache_init(&spawner, 0, &err));
    CHECK_OK(stack_cache_init(&runner, 0, &err));
    for (unsigned i = 0; i < 20000; i++) {
        struct stack *stack = get(&spawner);

        stack->low[0] = 1;
        stack_put(&runner, stack);
        if (i == 1000) {
            mapped_bytes = use_now().mapped_bytes;
        }
    }
    CHECK_EQ(use_now().mapped_bytes, mapped_bytes);
    stack_cache_deinit(&spawner);
    stack_cache_deinit(&runner);
    check_nothing_is_left();
}

TEST(pages_of_long_unused_stacks_are_given_back_and_those_in_use_are_not)
{
    struct stack_cache cache;
    struct stack *busy, *idle;
    uint64_t now_ns = 5 * S;

    CHECK_OK(stack_cache_init(&cache, 0, &err));
    CHECK(stack_cache_trim(&cache, now_ns) == UINT64_MAX);
    idle = get(&cache);
    busy = get(&cache);
    touch_all(idle);
    touch_all(busy);
    stack_put(&cache, idle);
    stack_put(&cache, busy);
    now_ns += S;
    CHECK(stack_cache_trim(&cache, now_ns) == now_ns + STACK_IDLE_NS);
    CHECK_EQ(resident_bytes(idle), idle->size);

    stack_put(&cache, get(&cache)); /* busy */
    now_ns += STACK_IDLE_NS - 1;
    CHECK(stack_cache_trim(&cache, now_ns) == now_ns + 1);
    CHECK_EQ(resident_bytes(idle), idle->size);
    now_ns += 1;
    CHECK(stack_cache_trim(&cache, now_ns) == now_ns + STACK_IDLE_NS);
    CHECK_EQ(resident_bytes(idle), 0);
    CHECK_EQ(resident_bytes(busy), busy->size);

    now_ns += STACK_IDLE_NS;
    CHECK(stack_cache_trim(&cache, now_ns) == UINT64_MAX); /* nothing is left to come back for */
    CHECK_EQ(resident_bytes(busy), 0);
    CHECK_EQ(use_now().out_count, 0);
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

TEST(pool_gives_back_what_lay_unused_in_short_turns)
{
    enum { STACK_COUNT = 1000 };
    static struct stack *stacks[STACK_COUNT];
    struct stack_cache cache;
    unsigned turn_count = 0;
    uint64_t now_ns = S;

    CHECK_OK(stack_cache_init(&cache, STACK_SIZE_MIN, &err));
    get_many(&cache, stacks, STACK_COUNT);
    for (unsigned i = 0; i < STACK_COUNT; i++) {
        stack_put(&cache, stacks[i]);
    }
    CHECK(use_now().pool_count > 500);
    CHECK(stack_cache_trim(&cache, now_ns) == now_ns + STACK_IDLE_NS); /* begins to watch */
    CHECK(stack_cache_trim(&cache, now_ns + 1) == now_ns + STACK_IDLE_NS);
    now_ns += STACK_IDLE_NS;
    while (stack_cache_trim(&cache, now_ns) == now_ns) {
        turn_count++;
    }
    CHECK(turn_count > 10);
    CHECK_EQ(use_now().pool_count, 0);
    CHECK_EQ(use_now().out_count, 0);
    CHECK(use_now().slab_count <= 1);
    CHECK(stack_cache_trim(&cache, now_ns + 1) == UINT64_MAX);
    stack_put(&cache, get(&cache));
    CHECK(stack_cache_trim(&cache, now_ns + 2) == now_ns + STACK_IDLE_NS);
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

TEST(limit_on_the_number_of_stacks_is_an_error_that_says_so)
{
    enum { LIMIT = 10 };
    struct stack *stacks[LIMIT], *one_more;
    struct stack_cache cache;

    stack_set_count_max(LIMIT);
    CHECK_OK(stack_cache_init(&cache, 0, &err));
    for (unsigned i = 0; i < LIMIT; i++) {
        stacks[i] = get(&cache);
    }
    CHECK_EQ(stack_get(&cache, &one_more, &err), IL_ELIMIT);
    CHECK_CONTAINS(err.message, "10 fiber stacks");
    stack_put(&cache, stacks[0]);
    stacks[0] = get(&cache);
    stack_set_count_max(0);
    one_more = get(&cache);
    stack_put(&cache, one_more);
    for (unsigned i = 0; i < LIMIT; i++) {
        stack_put(&cache, stacks[i]);
    }
    stack_cache_deinit(&cache);
    check_nothing_is_left();
}

TEST(stack_comes_home_through_another_cache_or_none)
{
    struct stack_cache a, b, other_size;
    struct stack *stack;

    CHECK_OK(stack_cache_init(&a, 0, &err));
    CHECK_OK(stack_cache_init(&b, 0, &err));
    CHECK_OK(stack_cache_init(&other_size, STACK_SIZE_MIN, &err));
    stack = get(&a);
    stack_put(&b, stack);
    CHECK(get(&b) == stack);
    stack_put(&other_size, stack);
    CHECK_EQ(other_size.pile.count, 0);
    CHECK_EQ(use_now().pool_count, 1);
    stack = get(&a);
    stack_cache_deinit(&a);
    stack_cache_deinit(&b);
    stack_cache_deinit(&other_size);
    CHECK_EQ(use_now().out_count, 1);
    stack->low[0] = 1; /* still there */
    stack_put(NULL, stack);
    check_nothing_is_left();
}

static void misuse_put_twice(void)
{
    struct stack_cache cache;
    struct stack *stack;

    CHECK_OK(stack_cache_init(&cache, 0, &err));
    stack = get(&cache);
    stack_put(&cache, stack);
    stack_put(&cache, stack);
}

TEST(putting_a_stack_twice_aborts)
{
    struct rlimit no_core = { 0, 0 };
    pid_t pid = fork();
    int status;

    CHECK(pid >= 0);
    if (pid == 0) {
        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        CHECK(freopen("/dev/null", "w", stderr) != NULL);
        misuse_put_twice();
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void *churn(void *arg)
{
    struct stack *held[100];
    struct stack_cache cache;
    uint64_t random = (uintptr_t)arg;

    CHECK_OK(stack_cache_init(&cache, 0, &err));
    for (unsigned round = 0; round < 200; round++) {
        unsigned count = (unsigned)(random >> 33) % il_array_count(held);

        random = random * 6364136223846793005u + 1442695040888963407u;
        for (unsigned i = 0; i < count; i++) {
            held[i] = get(&cache);
            *(void **)(void *)held[i]->low = held[i];
        }
        for (unsigned i = 0; i < count; i++) {
            CHECK(*(void **)(void *)held[i]->low == held[i]);
            stack_put(i % 3 == 0 ? NULL : &cache, held[i]);
        }
    }
    stack_cache_deinit(&cache);
    return NULL;
}

TEST(caches_of_several_threads_share_slabs)
{
    struct stack_cache keeper;
    pthread_t threads[4];

    CHECK_OK(stack_cache_init(&keeper, 0, &err));
    for (uintptr_t i = 0; i < il_array_count(threads); i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)), 0);
    }
    for (unsigned i = 0; i < il_array_count(threads); i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    CHECK_EQ(use_now().out_count, 0);
    stack_cache_deinit(&keeper);
    check_nothing_is_left();
}

static atomic_bool forking_is_over;

static void *churn_until_told(void *arg)
{
    struct stack_cache cache;

    (void)arg;
    CHECK_OK(stack_cache_init(&cache, 0, &err));
    while (!atomic_load(&forking_is_over)) {
        stack_put(NULL, get(&cache));
    }
    stack_cache_deinit(&cache);
    return NULL;
}

TEST(child_of_fork_gets_stacks_although_another_thread_was_getting_one)
{
    pthread_t thread;

    CHECK_EQ(pthread_create(&thread, NULL, churn_until_told, NULL), 0);
    for (unsigned i = 0; i < 50; i++) {
        struct stack_cache cache;
        int status;
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
            CHECK_OK(stack_cache_init(&cache, 0, &err));
            stack_put(&cache, get(&cache));
            stack_cache_deinit(&cache);
            _exit(0);
        }
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, 0);
    }
    atomic_store(&forking_is_over, true);
    CHECK_EQ(pthread_join(thread, NULL), 0);
    check_nothing_is_left();
}

TEST(running_out_of_memory_or_address_space_leaves_nothing_behind)
{
    struct il_memory_use before, after;
    struct stack_cache cache;
    struct stack *stack;

    il_memory_use(&before);
    CHECK_OK(stack_cache_init(&cache, 0, &err));
    il_memory_fail_after(0);
    CHECK_EQ(stack_get(&cache, &stack, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    stack_put(&cache, get(&cache));
    stack_cache_deinit(&cache);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
    check_nothing_is_left();
}
