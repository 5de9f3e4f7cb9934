/* waits_test.c: what a thread waits for, read off the text of /proc/PID/task/TID/syscall. */
#include <sys/syscall.h>

#include "doctor/waits.h"
#include "tests/check.h"

static struct thread_wait decode(long number, const char *args)
{
    struct thread_wait wait;
    char text[256];

    snprintf(text, sizeof(text), "%ld %s 0x7ffd1000 0x7f0000401000\n", number, args);
    waits_of_syscall(text, &wait);
    return wait;
}

TEST(a_running_thread_waits_for_nothing)
{
    struct thread_wait wait;

    waits_of_syscall("running\n", &wait);
    CHECK_EQ(wait.kind, WAIT_RUNNING);
    CHECK_EQ(waits_stack_pointer("running\n"), 0);
}

TEST(epoll_wait_names_its_set_and_whether_it_ends)
{
    struct thread_wait wait = decode(SYS_epoll_pwait, "0x5 0x7ffd0000 0x10 0xffffffff 0x0 0x8");

    CHECK_EQ(wait.kind, WAIT_EPOLL);
    CHECK_EQ(wait.fd, 5);
    CHECK(wait.is_forever);
    CHECK_EQ(wait.sp, 0x7ffd1000);
    wait = decode(SYS_epoll_pwait, "0x5 0x7ffd0000 0x10 0x64 0x0 0x8");
    CHECK(!wait.is_forever);
}

TEST(io_uring_enter_waits_only_when_it_asks_for_events)
{
    CHECK_EQ(decode(SYS_io_uring_enter, "0x7 0x0 0x1 0x1 0x0 0x8").kind, WAIT_EPOLL);
    CHECK(decode(SYS_io_uring_enter, "0x7 0x1 0x0 0x0 0x0 0x8").kind != WAIT_EPOLL);
}

TEST(a_blocking_read_names_its_fd)
{
    struct thread_wait wait = decode(SYS_recvfrom, "0x9 0x7ffd0000 0x1000 0x0 0x0 0x0");

    CHECK_EQ(wait.kind, WAIT_FD);
    CHECK_EQ(wait.fd, 9);
}

TEST(a_futex_wait_knows_its_word_and_its_limit)
{
    struct thread_wait wait = decode(SYS_futex, "0x7ffe0000 0x80 0x2 0x0 0x0 0x0");

    CHECK_EQ(wait.kind, WAIT_FUTEX);
    CHECK_EQ(wait.address, 0x7ffe0000);
    CHECK(wait.is_forever);
    CHECK(!decode(SYS_futex, "0x7ffe0000 0x189 0x0 0x7ffd2000 0x0 0xffffffff").is_forever);
}

static struct thread_wait decode_resumed(const char *args, const char *function)
{
    struct thread_wait wait;
    char text[256];

    snprintf(text, sizeof(text), "%ld %s 0x7ffd1000 0x7f0000401000\n", (long)SYS_restart_syscall,
             args);
    waits_of_resumed(text, function, &wait);
    return wait;
}

TEST(a_call_that_goes_on_after_a_stop_is_taken_for_what_it_was)
{
    static const char sleep[] = "0x0 0x0 0x7ffd9f50f0f0 0x0 0x0 0x0";
    struct thread_wait wait;

#ifdef SYS_poll
    wait =
        decode_resumed("0x7ffd0000 0x2 0x927c0 0x0 0x0 0x0", "poll_schedule_timeout.constprop.0");
    CHECK_EQ(wait.kind, WAIT_POLL);
    CHECK_EQ(wait.number, SYS_poll);
    CHECK_EQ(wait.address, 0x7ffd0000);
    CHECK_EQ(wait.count, 2);
    CHECK(!wait.is_forever);
    CHECK(decode_resumed("0x7ffd0000 0x2 0xffffffff 0x0 0x0 0x0", "do_poll").is_forever);
#endif
    wait = decode_resumed("0x7ffe0000 0x80 0x2 0x7ffd2000 0x0 0x0", "futex_wait_queue");
    CHECK_EQ(wait.kind, WAIT_FUTEX);
    CHECK_EQ(wait.number, SYS_futex);
    CHECK_EQ(wait.address, 0x7ffe0000);
    CHECK(!wait.is_forever);
    CHECK_EQ(decode_resumed(sleep, "hrtimer_nanosleep").kind, WAIT_SLEEP);
    CHECK_EQ(decode_resumed(sleep, "do_syscall_64").kind, WAIT_SLEEP);
    CHECK_EQ(decode_resumed(sleep, "0").number, SYS_clock_nanosleep);
    wait = decode_resumed("0x7ffd9f50f0f0 0x0 0x0 0x0 0x0 0x0", "do_nanosleep");
    CHECK_EQ(wait.number, SYS_nanosleep);
    CHECK(!waits_is_resumed(&wait));
}

TEST(a_call_that_goes_on_and_is_not_known_says_so)
{
    struct thread_wait wait = decode_resumed("0x7ffd0000 0x2 0x927c0 0x0 0x0 0x0", "0");

    CHECK_EQ(wait.kind, WAIT_OTHER);
    CHECK(waits_is_resumed(&wait));
    wait = decode_resumed("0x7ffd0000 0x2 0x927c0 0x0 0x0 0x0", "do_signal_stop");
    CHECK(waits_is_resumed(&wait));
    wait = decode(SYS_recvfrom, "0x9 0x0 0x0 0x0 0x0 0x0");
    CHECK(!waits_is_resumed(&wait));
}

TEST(damaged_text_is_taken_for_a_running_thread)
{
    struct thread_wait wait;

    waits_of_syscall("", &wait);
    CHECK_EQ(wait.kind, WAIT_RUNNING);
    waits_of_syscall("232 0x5 0x", &wait);
    CHECK_EQ(wait.kind, WAIT_RUNNING);
}

TEST(two_waits_are_the_same_only_in_the_same_place)
{
    struct thread_wait a = decode(SYS_recvfrom, "0x9 0x0 0x0 0x0 0x0 0x0");
    struct thread_wait b = a;

    CHECK(waits_are_same(&a, &b));
    b.pc++;
    CHECK(!waits_are_same(&a, &b));
    a.kind = b.kind = WAIT_RUNNING;
    b.pc = a.pc;
    CHECK(!waits_are_same(&a, &b));
}

TEST(the_kernels_function_tells_less_but_tells_epoll)
{
    struct thread_wait wait = { .fd = -1 };

    waits_of_wchan("ep_poll", &wait);
    CHECK_EQ(wait.kind, WAIT_EPOLL);
    waits_of_wchan("futex_wait_queue", &wait);
    CHECK_EQ(wait.kind, WAIT_FUTEX);
    waits_of_wchan("0", &wait);
    CHECK_EQ(wait.kind, WAIT_OTHER);
}
