#include "rt/fiber.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rt/sanitize.h"
#include "tests/check.h"

static struct il_error err;
static struct stack_cache cache;

static void cache_open(void)
{
    CHECK_OK(stack_cache_init(&cache, 0, &err));
}

/* All stacks are home, and with the last cache the last slab goes. */
static void cache_close_and_check_nothing_is_left(void)
{
    struct stack_use use;

    stack_cache_deinit(&cache);
    stack_use(&use);
    CHECK_EQ(use.out_count + use.pool_count, 0);
    CHECK_EQ(use.slab_count, 0);
    CHECK_EQ(use.mapped_bytes, 0);
}

/* A fiber that knows where to go back to. */
struct task {
    struct fiber fiber;
    struct fiber *home;
    unsigned count;
};

static void task_init(struct task *task, void (*entry)(void *), struct fiber *home)
{
    task->home = home;
    task->count = 0;
    CHECK_OK(fiber_init(&task->fiber, &cache, entry, task, &err));
}

static void task_run_counting(void *arg)
{
    struct task *task = arg;

    for (;;) {
        task->count++;
        fiber_switch(&task->fiber, task->home);
    }
}

static void task_run_once(void *arg)
{
    struct task *task = arg;

    task->count++;
    fiber_switch_exit(&task->fiber, task->home);
}

TEST(fiber_runs_when_switched_to_and_goes_on_where_it_left)
{
    struct fiber home;
    struct task task;

    cache_open();
    fiber_init_thread(&home);
    task_init(&task, task_run_counting, &home);
    CHECK_EQ(task.count, 0);
    for (unsigned i = 1; i <= 1000; i++) {
        fiber_switch(&home, &task.fiber);
        CHECK_EQ(task.count, i);
    }
    fiber_deinit(&task.fiber, &cache); /* suspended for ever: only its stack comes back */
    fiber_deinit(&home, NULL);
    cache_close_and_check_nothing_is_left();
}

TEST(finished_fiber_gives_its_stack_to_the_next)
{
    struct fiber home;
    struct task task;
    struct stack *stack = NULL;

    cache_open();
    fiber_init_thread(&home);
    for (unsigned i = 0; i < 1000; i++) {
        task_init(&task, task_run_once, &home);
        CHECK(stack == NULL || task.fiber.stack == stack);
        stack = task.fiber.stack;
        fiber_switch(&home, &task.fiber);
        CHECK_EQ(task.count, 1);
        CHECK_EQ(task.fiber.state, FIBER_FINISHED);
        fiber_deinit(&task.fiber, &cache);
        fiber_deinit(&task.fiber, &cache); /* the second time is nothing */
    }
    cache_close_and_check_nothing_is_left();
}

struct ring_task {
    struct fiber fiber;
    struct ring_task *next;
    struct fiber *home;
    unsigned left;
};

static void ring_task_run(void *arg)
{
    struct ring_task *task = arg;

    while (task->left-- > 0) {
        fiber_switch(&task->fiber, &task->next->fiber);
    }
    fiber_switch_exit(&task->fiber, task->home);
}

TEST(fibers_switch_among_themselves_without_going_home)
{
    enum { RING_COUNT = 3, ROUND_COUNT = 1000 };
    struct ring_task tasks[RING_COUNT];
    struct fiber home;

    cache_open();
    fiber_init_thread(&home);
    for (unsigned i = 0; i < RING_COUNT; i++) {
        tasks[i] = (struct ring_task){ .next = &tasks[(i + 1) % RING_COUNT],
                                       .home = &home,
                                       .left = ROUND_COUNT };
        CHECK_OK(fiber_init(&tasks[i].fiber, &cache, ring_task_run, &tasks[i], &err));
    }
    for (unsigned i = 0; i < RING_COUNT;
         i++) { /* each finishes in turn and leaves the others there */
        fiber_switch(&home, &tasks[i].fiber);
        CHECK_EQ(tasks[i].fiber.state, FIBER_FINISHED);
    }
    for (unsigned i = 0; i < RING_COUNT; i++) {
        fiber_deinit(&tasks[i].fiber, &cache);
    }
    cache_close_and_check_nothing_is_left();
}

/* ---- what a switch must keep ---- */

/* unsigned long registers_across(fn, from, to, seed): fill all callee-saved registers from `seed`,
 * call fn(from, to), and return how many of them have changed. */
unsigned long registers_across(void (*fn)(struct fiber *, struct fiber *), struct fiber *from,
                               struct fiber *to, unsigned long seed);

#if defined(__x86_64__)
__asm__(".text\n"
        ".type registers_across, @function\n"
        ".globl registers_across\n"
        ".hidden registers_across\n"
        "registers_across:\n"
        "  endbr64\n"
        "  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15\n"
        "  push %rcx\n" /* the seed; also aligns the stack */
        "  lea 1(%rcx), %rbx; lea 2(%rcx), %rbp; lea 3(%rcx), %r12\n"
        "  lea 4(%rcx), %r13; lea 5(%rcx), %r14; lea 6(%rcx), %r15\n"
        "  mov %rdi, %rax; mov %rsi, %rdi; mov %rdx, %rsi\n"
        "  call *%rax\n"
        "  pop %rcx\n"
        "  sub %rcx, %rbx; sub %rcx, %rbp; sub %rcx, %r12\n"
        "  sub %rcx, %r13; sub %rcx, %r14; sub %rcx, %r15\n"
        "  xor %eax, %eax\n"
        "  cmp $1, %rbx; je 1f; inc %rax; 1:\n"
        "  cmp $2, %rbp; je 1f; inc %rax; 1:\n"
        "  cmp $3, %r12; je 1f; inc %rax; 1:\n"
        "  cmp $4, %r13; je 1f; inc %rax; 1:\n"
        "  cmp $5, %r14; je 1f; inc %rax; 1:\n"
        "  cmp $6, %r15; je 1f; inc %rax; 1:\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp\n"
        "  ret\n"
        ".size registers_across, . - registers_across\n");

static unsigned fp_modes(void)
{
    unsigned mxcsr;
    unsigned short control;

    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(control));
    return (mxcsr & ~0x3fu) << 16 | control;
}

/* Round in the direction `rounding` (0 to 3, 0 to nearest); perhaps also flush denormals in SSE and
 * count in single precision in x87, modes that the C library never touches. */
static void fp_set_modes(unsigned rounding, bool is_odd)
{
    unsigned mxcsr;
    unsigned short control;

    __asm__ volatile("stmxcsr %0" : "=m"(mxcsr));
    __asm__ volatile("fnstcw %0" : "=m"(control));
    mxcsr = (mxcsr & ~0xe000u) | rounding << 13 | (is_odd ? 0x8000u : 0);
    control = (unsigned short)((control & ~0xf00u) | rounding << 10 | (is_odd ? 0 : 0x300u));
    __asm__ volatile("ldmxcsr %0" : : "m"(mxcsr));
    __asm__ volatile("fldcw %0" : : "m"(control));
}
#else
__asm__(".text\n"
        ".type registers_across, %function\n"
        ".globl registers_across\n"
        ".hidden registers_across\n"
        "registers_across:\n"
        "  stp x29, x30, [sp, #-176]!\n"
        "  stp x19, x20, [sp, #16]; stp x21, x22, [sp, #32]; stp x23, x24, [sp, #48]\n"
        "  stp x25, x26, [sp, #64]; stp x27, x28, [sp, #80]\n"
        "  stp d8, d9, [sp, #96]; stp d10, d11, [sp, #112]\n"
        "  stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]\n"
        "  str x3, [sp, #160]\n"
        "  add x19, x3, #1; add x20, x3, #2; add x21, x3, #3; add x22, x3, #4; add x23, x3, #5\n"
        "  add x24, x3, #6; add x25, x3, #7; add x26, x3, #8; add x27, x3, #9; add x28, x3, #10\n"
        "  add x29, x3, #11\n"
        "  fmov d8, x19; fmov d9, x20; fmov d10, x21; fmov d11, x22\n"
        "  fmov d12, x23; fmov d13, x24; fmov d14, x25; fmov d15, x26\n"
        "  mov x9, x0; mov x0, x1; mov x1, x2\n"
        "  blr x9\n"
        "  ldr x3, [sp, #160]\n"
        "  mov x0, #0\n"
        "  sub x9, x19, x3; cmp x9, #1; cinc x0, x0, ne\n"
        "  sub x9, x20, x3; cmp x9, #2; cinc x0, x0, ne\n"
        "  sub x9, x21, x3; cmp x9, #3; cinc x0, x0, ne\n"
        "  sub x9, x22, x3; cmp x9, #4; cinc x0, x0, ne\n"
        "  sub x9, x23, x3; cmp x9, #5; cinc x0, x0, ne\n"
        "  sub x9, x24, x3; cmp x9, #6; cinc x0, x0, ne\n"
        "  sub x9, x25, x3; cmp x9, #7; cinc x0, x0, ne\n"
        "  sub x9, x26, x3; cmp x9, #8; cinc x0, x0, ne\n"
        "  sub x9, x27, x3; cmp x9, #9; cinc x0, x0, ne\n"
        "  sub x9, x28, x3; cmp x9, #10; cinc x0, x0, ne\n"
        "  sub x9, x29, x3; cmp x9, #11; cinc x0, x0, ne\n"
        "  fmov x9, d8; sub x9, x9, x3; cmp x9, #1; cinc x0, x0, ne\n"
        "  fmov x9, d9; sub x9, x9, x3; cmp x9, #2; cinc x0, x0, ne\n"
        "  fmov x9, d10; sub x9, x9, x3; cmp x9, #3; cinc x0, x0, ne\n"
        "  fmov x9, d11; sub x9, x9, x3; cmp x9, #4; cinc x0, x0, ne\n"
        "  fmov x9, d12; sub x9, x9, x3; cmp x9, #5; cinc x0, x0, ne\n"
        "  fmov x9, d13; sub x9, x9, x3; cmp x9, #6; cinc x0, x0, ne\n"
        "  fmov x9, d14; sub x9, x9, x3; cmp x9, #7; cinc x0, x0, ne\n"
        "  fmov x9, d15; sub x9, x9, x3; cmp x9, #8; cinc x0, x0, ne\n"
        "  ldp d14, d15, [sp, #144]; ldp d12, d13, [sp, #128]\n"
        "  ldp d10, d11, [sp, #112]; ldp d8, d9, [sp, #96]\n"
        "  ldp x27, x28, [sp, #80]; ldp x25, x26, [sp, #64]\n"
        "  ldp x23, x24, [sp, #48]; ldp x21, x22, [sp, #32]; ldp x19, x20, [sp, #16]\n"
        "  ldp x29, x30, [sp], #176\n"
        "  ret\n"
        ".size registers_across, . - registers_across\n");

static unsigned fp_modes(void)
{
    uint64_t fpcr;

    __asm__ volatile("mrs %0, fpcr" : "=r"(fpcr));
    return (unsigned)fpcr;
}

/* Round in the direction `rounding` (0 to 3, 0 to nearest); perhaps also flush denormals to zero.
 */
static void fp_set_modes(unsigned rounding, bool is_odd)
{
    uint64_t fpcr = (uint64_t)rounding << 22 | (uint64_t)is_odd << 24;

    __asm__ volatile("msr fpcr, %0" : : "r"(fpcr));
}
#endif

static void task_run_checking_registers(void *arg)
{
    struct task *task = arg;

    for (;;) {
        task->count += (unsigned)registers_across(fiber_switch, &task->fiber, task->home,
                                                  0x5555000000000000 + (uintptr_t)task);
    }
}

TEST(switch_keeps_every_callee_saved_register)
{
    struct fiber home;
    struct task tasks[2];

    cache_open();
    fiber_init_thread(&home);
    task_init(&tasks[0], task_run_checking_registers, &home);
    task_init(&tasks[1], task_run_checking_registers, &home);
    for (unsigned i = 0; i < 100; i++) {
        CHECK_EQ(registers_across(fiber_switch, &home, &tasks[i % 2].fiber, i * 1000), 0);
        CHECK_EQ(tasks[i % 2].count, 0);
    }
    fiber_deinit(&tasks[0].fiber, &cache);
    fiber_deinit(&tasks[1].fiber, &cache);
    cache_close_and_check_nothing_is_left();
}

static unsigned creator_modes;

static void task_run_with_modes_of_its_own(void *arg)
{
    struct task *task = arg;
    unsigned own;

    CHECK_EQ(fp_modes(), creator_modes);
    fp_set_modes(2, true);
    own = fp_modes();
    CHECK(own != creator_modes);
    for (;;) {
        task->count++;
        fiber_switch(&task->fiber, task->home);
        CHECK_EQ(fp_modes(), own);
    }
}

TEST(fiber_inherits_floating_point_modes_and_then_has_its_own)
{
    struct fiber home;
    struct task task;
    unsigned before = fp_modes();

    cache_open();
    fiber_init_thread(&home);
    fp_set_modes(1, false);
    creator_modes = fp_modes();
    CHECK(creator_modes != before);
    task_init(&task, task_run_with_modes_of_its_own, &home);
    fp_set_modes(0, false);
    CHECK_EQ(fp_modes(), before);
    for (unsigned i = 1; i <= 10; i++) {
        fiber_switch(&home, &task.fiber);
        CHECK_EQ(task.count, i);
        CHECK_EQ(fp_modes(), before);
    }
    fiber_deinit(&task.fiber, &cache);
    cache_close_and_check_nothing_is_left();
}

/* ---- many ---- */

/* Resident bytes of this process. */
static size_t memory_resident(void)
{
    unsigned long total = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file != NULL);
    CHECK_EQ(fscanf(file, "%lu %lu", &total, &resident), 2);
    fclose(file);
    return resident * (size_t)sysconf(_SC_PAGESIZE);
}

/* ThreadSanitizer allows some 8,000 threads and fibers, AddressSanitizer's bookkeeping makes each
 * dear, and older kernels have no room for the guards of more than 32,000. */
static unsigned many_count(void)
{
    struct stack_use use;
    struct fiber probe;

    CHECK_OK(fiber_init(&probe, &cache, task_run_once, NULL, &err));
    fiber_deinit(&probe, &cache);
    stack_use(&use);
    return RT_TSAN ? 1000 : RT_ASAN ? 5000 : use.is_limited_by_mappings ? 20000 : 100000;
}

static void many_check(void)
{
    struct il_memory_use before, after;
    size_t resident_before, resident_with, resident_after;
    struct fiber home;
    struct task *tasks;
    unsigned count;

    il_memory_use(&before);
    cache_open();
    count = many_count();
    tasks = calloc(count, sizeof(*tasks));
    CHECK(tasks != NULL);
    memset(tasks, 1, count * sizeof(*tasks)); /* so that their pages are not counted below */
    resident_before = memory_resident();
    fiber_init_thread(&home);
    for (unsigned i = 0; i < count; i++) {
        task_init(&tasks[i], task_run_counting, &home);
    }
    for (unsigned round = 1; round <= 2; round++) {
        for (unsigned i = 0; i < count; i++) {
            fiber_switch(&home, &tasks[i].fiber);
            CHECK_EQ(tasks[i].count, round);
        }
    }
    resident_with = memory_resident();
    for (unsigned i = 0; i < count; i++) {
        fiber_deinit(&tasks[i].fiber, &cache);
    }
    cache_close_and_check_nothing_is_left();
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
    CHECK_EQ(after.live_bytes, before.live_bytes);
    resident_after = memory_resident();
    CHECK(resident_with - resident_before >= (size_t)count * 4096);
    if (!RT_ASAN && !RT_TSAN) { /* their shadow memory stays */
        CHECK(resident_after < resident_before + (resident_with - resident_before) / 50);
    }
    free(tasks);
}

TEST(hundred_thousand_fibers_at_once_and_their_memory_comes_back)
{
    many_check();
}

TEST(twenty_thousand_fibers_at_once_with_guards_made_by_mprotect)
{
    stack_set_guard_by_mprotect(true);
    many_check();
}

/* ---- from thread to thread ---- */

enum { MIGRANT_COUNT = 50, MIGRANT_ROUNDS = 400, MIGRANT_THREADS = 3 };

struct migrant {
    struct task task;
    struct il_list link;
    unsigned resumed_by; /* thread number; with the mutex held */
    unsigned moves;      /* the fiber's own */
};

static struct {
    pthread_mutex_t mutex;
    struct il_list ready; /* suspended migrants */
    unsigned unfinished_count;
} migration = { .mutex = PTHREAD_MUTEX_INITIALIZER };

static _Thread_local unsigned thread_number;

static IL_NOINLINE unsigned thread_number_get(void)
{
    return thread_number;
}

static void migrant_run(void *arg)
{
    struct migrant *migrant = arg;
    volatile unsigned char local[256];
    unsigned thread_last = thread_number_get();

    memset((void *)local, 0x5a, sizeof(local));
    for (unsigned i = 0; i < MIGRANT_ROUNDS; i++) {
        fiber_switch(&migrant->task.fiber, migrant->task.home);
        CHECK_EQ(local[i % sizeof(local)], 0x5a);
        migrant->moves += thread_number_get() != thread_last;
        thread_last = thread_number_get();
    }
    fiber_switch_exit(&migrant->task.fiber, migrant->task.home);
}

/* A migrant that this thread has not resumed last; NULL if there is none now. */
static struct migrant *migration_take_locked(void)
{
    il_list_for_each(&migration.ready, link)
    {
        struct migrant *migrant = il_container_of(link, struct migrant, link);

        if (migrant->resumed_by != thread_number_get()) {
            il_list_unlink(link);
            migrant->resumed_by = thread_number_get();
            return migrant;
        }
    }
    return NULL;
}

static void migration_give_back_locked(struct migrant *migrant, struct stack_cache *own_cache)
{
    if (migrant->task.fiber.state == FIBER_FINISHED) {
        migration.unfinished_count--;
        fiber_deinit(&migrant->task.fiber, own_cache); /* another thread's cache had it */
    } else {
        il_list_push_back(&migration.ready, &migrant->link);
    }
}

/* Resume whatever is ready, one switch each, until all are finished. */
static void *migration_thread(void *arg)
{
    struct stack_cache own_cache;
    struct fiber home;
    bool is_done = false;

    thread_number = (unsigned)(uintptr_t)arg;
    CHECK_OK(stack_cache_init(&own_cache, 0, &err));
    fiber_init_thread(&home);
    while (!is_done) {
        struct migrant *migrant;

        pthread_mutex_lock(&migration.mutex);
        is_done = migration.unfinished_count == 0;
        migrant = migration_take_locked();
        pthread_mutex_unlock(&migration.mutex);
        if (migrant == NULL) {
            sched_yield();
            continue;
        }
        migrant->task.home = &home;
        fiber_switch(&home, &migrant->task.fiber);
        pthread_mutex_lock(&migration.mutex);
        migration_give_back_locked(migrant, &own_cache);
        pthread_mutex_unlock(&migration.mutex);
    }
    stack_cache_deinit(&own_cache);
    return NULL;
}

TEST(fiber_resumed_by_another_thread_goes_on_there)
{
    static struct migrant migrants[MIGRANT_COUNT];
    pthread_t threads[MIGRANT_THREADS];

    cache_open();
    il_list_init(&migration.ready);
    migration.unfinished_count = MIGRANT_COUNT;
    for (unsigned i = 0; i < MIGRANT_COUNT; i++) {
        task_init(&migrants[i].task, migrant_run, NULL);
        migrants[i].task.fiber.arg = &migrants[i];
        il_list_init(&migrants[i].link);
        il_list_push_back(&migration.ready, &migrants[i].link);
    }
    for (uintptr_t i = 0; i < MIGRANT_THREADS; i++) {
        CHECK_EQ(pthread_create(&threads[i], NULL, migration_thread, (void *)(i + 1)), 0);
    }
    for (unsigned i = 0; i < MIGRANT_THREADS; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
    }
    for (unsigned i = 0; i < MIGRANT_COUNT; i++) {
        CHECK_EQ(migrants[i].moves, MIGRANT_ROUNDS);
    }
    cache_close_and_check_nothing_is_left();
}

/* ---- stack overflow ---- */

static int overflow_report_fd;

struct overflow_report {
    uintptr_t address;
    uintptr_t low; /* of the stack that overflowed */
    bool is_guard;
};
static struct overflow_report overflow_report;

static void overflow_on_segv(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    overflow_report.address = (uintptr_t)info->si_addr;
    overflow_report.is_guard = stack_is_guard_address(info->si_addr);
    if (write(overflow_report_fd, &overflow_report, sizeof(overflow_report)) < 0) {
        _exit(1);
    }
    signal(signal_number, SIG_DFL); /* and the fault comes again */
}

static volatile bool overflow_is_wanted = true;

static IL_NOINLINE unsigned overflow_recurse(unsigned depth)
{
    volatile char frame[1024];

    frame[0] = (char)depth;
    return overflow_is_wanted ? overflow_recurse(depth + 1) + (unsigned char)frame[0] : depth;
}

static void overflow_run(void *arg)
{
    (void)arg;
    _exit((int)overflow_recurse(0));
}

static void overflow_in_child(void)
{
    static char signal_stack[256 << 10];
    struct sigaction action = { .sa_sigaction = overflow_on_segv,
                                .sa_flags = SA_SIGINFO | SA_ONSTACK };
    stack_t alternative = { .ss_sp = signal_stack, .ss_size = sizeof(signal_stack) };
    struct rlimit no_core = { 0, 0 };
    struct fiber home;
    struct task task;

    setrlimit(RLIMIT_CORE, &no_core);
    CHECK_EQ(sigaltstack(&alternative, NULL), 0);
    CHECK_EQ(sigaction(SIGSEGV, &action, NULL), 0);
    cache_open();
    fiber_init_thread(&home);
    task_init(&task, overflow_run, &home);
    overflow_report.low = (uintptr_t)task.fiber.stack->low;
    fiber_switch(&home, &task.fiber);
    _exit(0);
}

/* A fiber that recurses for ever dies in its own guard. */
static void overflow_check(void)
{
    struct overflow_report report;
    int fds[2], status;
    pid_t pid;

    CHECK_EQ(pipe(fds), 0);
    overflow_report_fd = fds[1];
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        overflow_in_child();
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status));
    CHECK_EQ(WTERMSIG(status), SIGSEGV);
    CHECK_EQ(read(fds[0], &report, sizeof(report)), sizeof(report));
    CHECK(report.address < report.low);
    CHECK(report.address >= report.low - STACK_GUARD_SIZE);
    CHECK(report.is_guard);
    close(fds[0]);
    close(fds[1]);
}

TEST(fiber_that_recurses_without_end_dies_in_its_guard)
{
    overflow_check();
}

TEST(fiber_that_recurses_without_end_dies_in_a_guard_made_by_mprotect)
{
    stack_set_guard_by_mprotect(true);
    overflow_check();
}

/* ---- unwinding ---- */

void fiber_begin(void);
void fiber_begin_end(void);

/* Saved registers of a fiber that has not run yet; nothing is above them. */
#if defined(__x86_64__)
#define FRAME_WORDS 8
#else
#define FRAME_WORDS 22
#endif

struct unwind {
    struct task task;
    void *frames[64];
    int frame_count;
    unsigned pointer_count;
};

static bool is_in_first_frame(const void *address)
{
    return (uintptr_t)address >= (uintptr_t)fiber_begin &&
           (uintptr_t)address <= (uintptr_t)fiber_begin_end;
}

static IL_NOINLINE unsigned unwind_at_depth(struct unwind *unwind, unsigned depth)
{
    unsigned sum = 1;

    if (depth > 0) {
        sum += unwind_at_depth(unwind, depth - 1);
    } else {
        unwind->frame_count = backtrace(unwind->frames, (int)il_array_count(unwind->frames));
        for (void **frame = __builtin_frame_address(0); frame != NULL; frame = frame[0]) {
            unwind->pointer_count++;
            CHECK(unwind->pointer_count < il_array_count(unwind->frames));
        }
    }
    __asm__ volatile("" : "+r"(sum)); /* keeps the call from becoming a jump */
    return sum;
}

static void unwind_run(void *arg)
{
    struct unwind *unwind = arg;

    CHECK_EQ(unwind_at_depth(unwind, 10), 11);
    fiber_switch_exit(&unwind->task.fiber, unwind->task.home);
}

/* Make what lies above the first frame look like more frames. */
static void unwind_set_trap(struct fiber *fiber)
{
    uintptr_t *top = (uintptr_t *)(void *)(fiber->stack->low + fiber->stack->size);

    for (uintptr_t *at = (uintptr_t *)fiber->sp + FRAME_WORDS; at < top; at++) {
        *at = (uintptr_t)unwind_run;
    }
}

static void unwind_check(struct unwind *unwind, struct fiber *home)
{
    int last;

    task_init(&unwind->task, unwind_run, home);
    unwind_set_trap(&unwind->task.fiber);
    fiber_switch(home, &unwind->task.fiber);
    last = unwind->frame_count - 1;
    while (last > 0 &&
           unwind->frames[last] == NULL) { /* glibc adds the address that is not there */
        last--;
    }
    CHECK(is_in_first_frame(unwind->frames[last]));
    CHECK(!is_in_first_frame(unwind->frames[last - 1]));
    CHECK(last >= 12); /* eleven, unwind_run, fiber_main */
    CHECK(unwind->pointer_count >= 12);
}

TEST(backtrace_of_a_fiber_ends_at_its_first_frame)
{
    static struct unwind unwinds[16]; /* on stacks that begin at different places of a page */
    struct fiber home;

    cache_open();
    fiber_init_thread(&home);
    for (unsigned i = 0; i < il_array_count(unwinds); i++) {
        unwind_check(&unwinds[i], &home);
    }
    for (unsigned i = 0; i < il_array_count(unwinds); i++) {
        fiber_deinit(&unwinds[i].task.fiber, &cache);
    }
    cache_close_and_check_nothing_is_left();
}

/* ---- misuse ---- */

static void check_aborts(void (*run)(void))
{
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit no_core = { 0, 0 };

        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        CHECK(freopen("/dev/null", "w", stderr) != NULL);
        run();
        _exit(0);
    }
    CHECK_EQ(waitpid(pid, &status, 0), pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void misuse_switch_to_self(void)
{
    struct fiber home;

    fiber_init_thread(&home);
    fiber_switch(&home, &home);
}

static void misuse_resume_finished(void)
{
    struct fiber home;
    struct task task;

    cache_open();
    fiber_init_thread(&home);
    task_init(&task, task_run_once, &home);
    fiber_switch(&home, &task.fiber);
    fiber_switch(&home, &task.fiber);
}

static void task_run_and_return(void *arg)
{
    struct task *task = arg;

    task->count++;
}

static void misuse_return_from_entry(void)
{
    struct fiber home;
    struct task task;

    cache_open();
    fiber_init_thread(&home);
    task_init(&task, task_run_and_return, &home);
    fiber_switch(&home, &task.fiber);
}

static void task_run_and_end_itself(void *arg)
{
    struct task *task = arg;

    fiber_deinit(&task->fiber, &cache);
    _exit(0);
}

static void misuse_deinit_running(void)
{
    struct fiber home;
    struct task task;

    cache_open();
    fiber_init_thread(&home);
    task_init(&task, task_run_and_end_itself, &home);
    fiber_switch(&home, &task.fiber);
}

TEST(misuse_of_a_running_or_finished_fiber_aborts)
{
    check_aborts(misuse_switch_to_self);
    check_aborts(misuse_resume_finished);
    check_aborts(misuse_return_from_entry);
    check_aborts(misuse_deinit_running);
}

TEST(fiber_init_reports_why_there_is_no_stack)
{
    struct fiber fiber;

    cache_open();
    il_memory_fail_after(0);
    CHECK_EQ(fiber_init(&fiber, &cache, task_run_once, NULL, &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    CHECK_EQ(err.code, IL_ENOMEM);
    cache_close_and_check_nothing_is_left();
}
