/* stacks.c: copying registers and stacks out of live threads.
 *
 * All of it happens in a child process. If anything goes wrong there (a thread that will not stop,
 * a hostile file that crashes the unwinder, a deadline) the child dies, and with a tracer's death
 * the kernel lets every thread it had seized run on. The parent reads fixed records from a pipe and
 * believes none of their counts unchecked.
 *
 * A stop: PTRACE_SEIZE, PTRACE_INTERRUPT, read registers, copy up to STACKS_COPY_BYTES of the
 * stack, PTRACE_DETACH; unwinding comes after it. A stop makes some system calls return EINTR to
 * the program (epoll_wait, io_uring_enter, semop...); threads in such calls are not stopped: their
 * stack pointer and program counter are in /proc, and the stack of a sleeping thread does not
 * change.
 *
 * Owns: the child and the pipe, for the length of stacks_take(). Thread: the doctor's only one. */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "doctor/procfs.h"
#include "doctor/stacks.h"
#include "doctor/unwind.h"
#include "doctor/waits.h"

#define STACKS_COPY_BYTES     (128u * 1024)
#define STACKS_RED_ZONE       128u
#define STACKS_STOP_WAIT_S    2         /* for one thread to come to its stop; until then it runs */
#define STACKS_STOPPED_MAX_NS 40000000u /* for all of them: then no more are stopped */
#define STACKS_CHILD_MS       15000     /* by the clock: a busy machine may need as long */
#define STACKS_CHILD_CPU_S    4
#define STACKS_CHILDREN_MAX   3 /* one that cannot release a thread must end; the next goes on */
#define STACKS_EXIT_RELEASE   2
#define STACKS_CHILD_MEMORY   (4ull << 30)
#define STACKS_HINT_SLOTS     16384u
#define STACKS_SYSCALL_BYTES  2 /* of the instruction that makes a system call */

/* Not in every libc's headers. */
#define STACKS_SYS_EPOLL_PWAIT2 441

struct stack_record {
    uint32_t thread_index;
    uint32_t frame_count;
    uint32_t set_hint, set_hint_count;
    uint64_t stopped_ns;
};

/* ---- hints: events of a set that still lie in a thread's stack ---- */

/* A loop keeps the array that epoll_wait fills on its stack, or near it. As long as the loop's
 * function has not returned, its entries (events, and the user data that was registered with them)
 * tell which set the thread serves. */
struct hint_slot {
    uint64_t data;
    uint32_t events;
    uint32_t set; /* LOOK_SETS_MAX: of more than one set, so it tells nothing */
    bool used;
};

struct hints {
    uint32_t used_count;
    struct hint_slot slots[STACKS_HINT_SLOTS];
};

static struct hint_slot *hint_find(struct hints *hints, uint64_t data)
{
    uint32_t at = (uint32_t)((data * 0x9e3779b97f4a7c15u) >> 40);

    for (uint32_t i = 0; i < STACKS_HINT_SLOTS; i++, at++) {
        struct hint_slot *slot = &hints->slots[at & (STACKS_HINT_SLOTS - 1)];

        if (!slot->used || slot->data == data) {
            return slot;
        }
    }
    return NULL;
}

static void hints_fill(struct hints *hints, const struct look *look)
{
    for (uint32_t s = 0; s < look->set_count; s++) {
        for (uint32_t i = 0; i < look->sets[s].watch_count; i++) {
            const struct set_watch *watch = &look->sets[s].watches[i];
            struct hint_slot *slot = hint_find(hints, watch->data);

            if (watch->data == 0 || slot == NULL || hints->used_count > STACKS_HINT_SLOTS / 2) {
                continue;
            }
            if (!slot->used) {
                *slot = (struct hint_slot){ .data = watch->data, .set = s, .used = true };
                hints->used_count++;
            } else if (slot->set != s) {
                slot->set = LOOK_SETS_MAX;
            }
            slot->events |= watch->events;
        }
    }
}

static void hints_search(struct hints *hints, const unsigned char *stack, size_t size,
                         struct stack_record *record)
{
    struct epoll_event event;

    record->set_hint = LOOK_SETS_MAX;
    for (size_t at = 0; at + sizeof(event) <= size; at += 4) {
        const struct hint_slot *slot;

        memcpy(&event, stack + at, sizeof(event));
        if (event.events == 0 || event.events > (EPOLLRDHUP | 0xfff) || event.data.u64 == 0) {
            continue;
        }
        slot = hint_find(hints, event.data.u64);
        if (slot == NULL || !slot->used || slot->set == LOOK_SETS_MAX ||
            (event.events & ~(slot->events | EPOLLERR | EPOLLHUP)) != 0) {
            continue;
        }
        if (record->set_hint == LOOK_SETS_MAX || record->set_hint == slot->set) {
            record->set_hint = slot->set;
            record->set_hint_count++;
        }
    }
}

/* ---- one thread ---- */

#if defined(__x86_64__)

static void on_alarm(int signal_number)
{
    /* only there to end waitpid() with EINTR */
}

/* Blocks, because a thread is stopped for as long as nobody notices that it has. */
static bool wait_for_stop(pid_t tid)
{
    struct sigaction action = { .sa_handler = on_alarm };
    struct itimerval limit = { .it_value.tv_sec = STACKS_STOP_WAIT_S };
    struct itimerval off = { 0 };
    int status = 0;
    pid_t got;

    (void)sigaction(SIGALRM, &action, NULL);
    (void)setitimer(ITIMER_REAL, &limit, NULL);
    got = waitpid(tid, &status, __WALL);
    (void)setitimer(ITIMER_REAL, &off, NULL);
    return got == tid && WIFSTOPPED(status);
}

static void take_registers(const struct user_regs_struct *regs, struct unwind_input *input)
{
    const uint64_t dwarf_order[UNWIND_REGISTER_COUNT] = {
        regs->rax, regs->rdx, regs->rcx, regs->rbx, regs->rsi, regs->rdi,
        regs->rbp, regs->rsp, regs->r8,  regs->r9,  regs->r10, regs->r11,
        regs->r12, regs->r13, regs->r14, regs->r15, regs->rip,
    };

    memcpy(input->registers, dwarf_order, sizeof(dwarf_order));
    input->known = (1u << UNWIND_REGISTER_COUNT) - 1;
}

static void copy_stack(const struct look *look, struct unwind_input *input, unsigned char *stack)
{
    input->stack_start = input->registers[7] - STACKS_RED_ZONE;
    input->stack = stack;
    input->stack_size = procfs_read_memory(look, input->stack_start, stack, STACKS_COPY_BYTES);
}

/* While a thread is stopped nothing may come between us and its release: on a busy machine a time
 * slice lost here would be lost by the target too. Without the right to it we do without. */
static void be_urgent(bool urgent)
{
    struct sched_param parameter = { .sched_priority = urgent ? 1 : 0 };

    (void)sched_setscheduler(0, urgent ? SCHED_FIFO : SCHED_OTHER, &parameter);
}

/* Calls that end with EINTR when their thread is stopped, whatever the program's handlers. */
static bool call_shows_stops(long number)
{
    switch (number) {
    case SYS_epoll_wait:
    case SYS_epoll_pwait:
    case STACKS_SYS_EPOLL_PWAIT2:
    case SYS_semop:
    case SYS_semtimedop:
    case SYS_rt_sigtimedwait:
    case SYS_msgrcv:
    case SYS_msgsnd:
        return true;
    default:
        return false;
    }
}

static bool has_signal_pending(pid_t tid)
{
    for (unsigned shared = 0; shared < 2; shared++) {
        struct __ptrace_peeksiginfo_args which = {
            .flags = shared ? PTRACE_PEEKSIGINFO_SHARED : 0,
            .nr = 1,
        };
        siginfo_t info;

        if (ptrace(PTRACE_PEEKSIGINFO, tid, &which, &info) != 0) {
            return true; /* there is one, or it is not known */
        }
    }
    return false;
}

/* The thread went to sleep in such a call in the moment before its stop, and would now be told that
 * a signal came, when none did. Have it make the call again, as the kernel does with all others. */
static void hide_stop(pid_t tid, const struct user_regs_struct *regs)
{
    struct user_regs_struct again = *regs;
    struct iovec from = { &again, sizeof(again) };

    if ((long)regs->rax != -EINTR || !call_shows_stops((long)regs->orig_rax) ||
        has_signal_pending(tid)) {
        return;
    }
    again.rip -= STACKS_SYSCALL_BYTES;
    again.rax = regs->orig_rax;
    (void)ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &from); /* else it sees the EINTR */
}

enum copy_result { COPY_OK, COPY_FAILED, COPY_MUST_END };

/* `ret_stopped_ns`: from its stop to its release. */
static enum copy_result copy_stopped(const struct look *look, pid_t tid, struct unwind_input *input,
                                     unsigned char *stack, uint64_t *ret_stopped_ns)
{
    struct user_regs_struct regs;
    struct iovec into = { &regs, sizeof(regs) };
    enum copy_result result = COPY_FAILED;
    uint64_t begun_ns;
    bool is_free;

    if (ptrace(PTRACE_SEIZE, tid, NULL, NULL) != 0) {
        return COPY_FAILED; /* gone, or another debugger has it */
    }
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) != 0 || !wait_for_stop(tid)) {
        return COPY_MUST_END; /* cannot be detached before it stops: only our death frees it */
    }
    begun_ns = look_now_ns();
    if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &into) == 0) {
        take_registers(&regs, input);
        copy_stack(look, input, stack);
        result = COPY_OK;
        hide_stop(tid, &regs);
    }
    is_free = ptrace(PTRACE_DETACH, tid, NULL, NULL) == 0 || errno == ESRCH;
    *ret_stopped_ns = look_now_ns() - begun_ns;
    return is_free ? result : COPY_MUST_END;
}

/* A sleeping thread, not stopped: stack pointer and program counter only. */
static enum copy_result copy_asleep(const struct look *look, pid_t tid, struct unwind_input *input,
                                    unsigned char *stack)
{
    struct thread_wait wait;
    char path[96], text[256];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", look->pid, tid);
    if (procfs_read_file(path, text, sizeof(text)) <= 0) {
        return COPY_FAILED;
    }
    waits_of_syscall(text, &wait);
    if (wait.kind == WAIT_RUNNING || wait.sp == 0) {
        return COPY_FAILED;
    }
    input->registers[7] = wait.sp;
    input->registers[16] = wait.pc;
    input->known = 1u << 7 | 1u << 16;
    copy_stack(look, input, stack);
    return COPY_OK;
}

static bool stop_would_show(const struct thread_wait *wait)
{
    return wait->kind == WAIT_EPOLL || call_shows_stops(wait->number);
}

/* Since the last look it may have gone to sleep elsewhere. */
static bool stop_would_show_now(const struct look *look, const struct seen_thread *thread)
{
    struct thread_wait wait = thread->wait;
    char path[96], text[256];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", look->pid, thread->tid);
    if (procfs_read_file(path, text, sizeof(text)) > 0) {
        waits_of_syscall(text, &wait);
    }
    return stop_would_show(&wait);
}

static enum copy_result take_thread(const struct look *look, const struct seen_thread *thread,
                                    bool may_stop, struct unwind_input *input, unsigned char *stack,
                                    uint64_t *ret_stopped_ns)
{
    enum copy_result result;

    memset(input, 0, sizeof(*input));
    input->tid = thread->tid;
    *ret_stopped_ns = 0;
    if (stop_would_show_now(look, thread)) {
        return copy_asleep(look, thread->tid, input, stack);
    }
    if (!may_stop || thread->state == 'D') {
        return COPY_FAILED;
    }
    be_urgent(true);
    result = copy_stopped(look, thread->tid, input, stack, ret_stopped_ns);
    be_urgent(false);
    return result;
}

/* ---- the child ---- */

static bool send_record(int pipe, const struct stack_record *record,
                        const struct thread_frame *frames)
{
    size_t size = record->frame_count * sizeof(frames[0]);

    /* One record is smaller than nothing a pipe cannot take in parts: write until all is in. */
    const struct {
        const void *bytes;
        size_t size;
    } parts[2] = { { record, sizeof(*record) }, { frames, size } };

    for (int i = 0; i < 2; i++) {
        for (size_t done = 0; done < parts[i].size;) {
            ssize_t got = write(pipe, (const char *)parts[i].bytes + done, parts[i].size - done);

            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got <= 0) {
                return false;
            }
            done += (size_t)got;
        }
    }
    return true;
}

static void limit_child(void)
{
    struct rlimit memory = { STACKS_CHILD_MEMORY, STACKS_CHILD_MEMORY };
    struct rlimit time = { STACKS_CHILD_CPU_S, STACKS_CHILD_CPU_S };
    struct rlimit none = { 0, 0 };

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    (void)setrlimit(RLIMIT_AS, &memory); /* sanitizers map terabytes of shadow */
#endif
    (void)memory;
    (void)setrlimit(RLIMIT_CPU, &time);
    (void)setrlimit(RLIMIT_CORE, &none);
}

/* Threads in the order of how much their stacks matter: those in event sets last. */
static void run_child(const struct look *look, int pipe)
{
    unsigned char *stack = malloc(STACKS_COPY_BYTES);
    struct thread_frame *frames = calloc(LOOK_FRAMES_MAX, sizeof(*frames));
    struct hints *hints = calloc(1, sizeof(*hints));
    struct unwinder *unwinder;
    uint64_t stopped_ns = 0;

    limit_child();
    unwinder = unwinder_new(look->pid);
    if (stack == NULL || frames == NULL || hints == NULL || unwinder == NULL) {
        _exit(1);
    }
    hints_fill(hints, look);
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < look->thread_count; i++) {
            const struct seen_thread *thread = &look->threads[i];
            struct stack_record record = { .thread_index = i, .set_hint = LOOK_SETS_MAX };
            struct unwind_input input;
            enum copy_result result;

            if (thread->is_gone || thread->stack_tried ||
                stop_would_show(&thread->wait) != (pass == 1)) {
                continue;
            }
            result = take_thread(look, thread, stopped_ns < STACKS_STOPPED_MAX_NS, &input, stack,
                                 &record.stopped_ns);
            stopped_ns += record.stopped_ns;
            if (result == COPY_OK) {
                record.frame_count = unwinder_run(unwinder, &input, frames);
                hints_search(hints, stack, input.stack_size, &record);
            }
            if (!send_record(pipe, &record, frames)) {
                _exit(3);
            }
            if (result == COPY_MUST_END) {
                _exit(STACKS_EXIT_RELEASE);
            }
        }
    }
    _exit(0);
}

#else

static void run_child(const struct look *look, int pipe)
{
    _exit(4); /* stacks are read on x86-64 only; stacks_take() says so */
}

#endif

/* ---- the parent ---- */

static bool read_exactly(int pipe, void *ret_bytes, size_t size, uint64_t deadline_ns)
{
    size_t done = 0;

    while (done < size) {
        struct pollfd poll_fd = { .fd = pipe, .events = POLLIN };
        uint64_t now_ns = look_now_ns();
        ssize_t got;

        if (now_ns >= deadline_ns ||
            poll(&poll_fd, 1, (int)((deadline_ns - now_ns) / 1000000) + 1) <= 0) {
            return false;
        }
        got = read(pipe, (char *)ret_bytes + done, size - done);
        if (got <= 0) {
            return false;
        }
        done += (size_t)got;
    }
    return true;
}

static bool read_record(struct look *look, int pipe, uint64_t deadline_ns)
{
    struct stack_record record;
    struct seen_thread *thread;
    struct thread_frame *frames = NULL;

    if (!read_exactly(pipe, &record, sizeof(record), deadline_ns) ||
        record.thread_index >= look->thread_count || record.frame_count > LOOK_FRAMES_MAX) {
        return false;
    }
    if (record.frame_count > 0) {
        frames = il_calloc(record.frame_count, sizeof(*frames));
        if (frames == NULL ||
            !read_exactly(pipe, frames, record.frame_count * sizeof(*frames), deadline_ns)) {
            il_free(frames);
            return false;
        }
    }
    thread = &look->threads[record.thread_index];
    il_free(thread->frames);
    thread->frames = frames;
    thread->frame_count = record.frame_count;
    thread->stack_tried = true;
    thread->stack_taken = record.frame_count > 0;
    thread->set_hint = record.set_hint < look->set_count ? record.set_hint : LOOK_SETS_MAX;
    thread->set_hint_count = record.set_hint_count;
    for (uint32_t i = 0; i < record.frame_count; i++) {
        frames[i].symbol[sizeof(frames[i].symbol) - 1] = '\0';
        frames[i].module[sizeof(frames[i].module) - 1] = '\0';
    }
    look->stack_count += thread->stack_taken;
    look->stopped_ns += record.stopped_ns;
    look->stopped_longest_ns = il_max_u64(look->stopped_longest_ns, record.stopped_ns);
    return true;
}

static void say_what_is_missing(struct look *look)
{
    uint32_t missing = 0;

    for (uint32_t i = 0; i < look->thread_count; i++) {
        missing += !look->threads[i].is_gone && !look->threads[i].stack_taken;
    }
    if (missing > 0) {
        look_limit(look,
                   "%u of %u stacks could not be taken (another debugger attached, a thread "
                   "in uninterruptible sleep, or the limit of %u ms in which threads may be "
                   "stopped)",
                   missing, look->thread_count, STACKS_STOPPED_MAX_NS / 1000000);
    }
}

/* It has closed its end of the pipe, or is late. Its status. */
static int end_child(pid_t child, uint64_t deadline_ns)
{
    struct timespec pause = { 0, 1000000 };
    int status = 0;

    while (waitpid(child, &status, WNOHANG) == 0) {
        if (look_now_ns() >= deadline_ns) {
            kill(child, SIGKILL);
        }
        (void)nanosleep(&pause, NULL);
    }
    return status;
}

/* True when there may be more for another child to take. */
static bool take_with_child(struct look *look, uint64_t deadline_ns)
{
    int ends[2], status = 0;
    pid_t child;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    child = fork();
    if (child == 0) {
        close(ends[0]);
        run_child(look, ends[1]);
    }
    close(ends[1]);
    if (child > 0) {
        while (read_record(look, ends[0], deadline_ns)) {
            /* until the child has sent all, has died, or is late */
        }
        status = end_child(child, deadline_ns);
    } else {
        look_limit(look, "no child process for the stacks: %s", strerror(errno));
    }
    close(ends[0]);
    return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == STACKS_EXIT_RELEASE;
}

void stacks_take(struct look *look)
{
    uint64_t deadline_ns = look_now_ns() + (uint64_t)STACKS_CHILD_MS * 1000000u;

#if !defined(__x86_64__)
    look_limit(look, "stacks are read on x86-64 only");
    return;
#endif
    for (int i = 0; look->can_stacks && i < STACKS_CHILDREN_MAX; i++) {
        if (!take_with_child(look, deadline_ns)) {
            break;
        }
    }
    if (look->can_stacks) {
        say_what_is_missing(look);
    }
}
