/* target_processes.c: scenes in which more than one process has a part: stopped, traced, forked,
 * and bodies that are passed on to another.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/doctor/target.h"

static void say_ready(pid_t pid)
{
    printf("ready %d\n", pid);
    fflush(stdout);
}

static pid_t fork_or_die(void)
{
    pid_t pid = fork();

    if (pid < 0) {
        target_die("fork");
    }
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
    return pid;
}

static char state_of(pid_t pid)
{
    char path[64], state = '?';
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    file = fopen(path, "r");
    if (file == NULL || fscanf(file, "%*d %*s %c", &state) != 1) {
        target_die(path);
    }
    fclose(file);
    return state;
}

static void wait_state(pid_t pid, char state)
{
    while (state_of(pid) != state) {
        target_sleep_ms(1);
    }
}

/* ---- stopped ---- */

/* A loop that would read its answer, were it not stopped. Another process stops it, and says so. */
static void be_stopped(bool goes_on)
{
    pid_t self = getpid();
    int epoll = target_epoll();
    int fd = target_connect(target_server(SERVER_ANSWERS));
    struct epoll_event event;

    target_watch(epoll, fd, EPOLLIN);
    if (fork_or_die() == 0) {
        wait_state(self, 'S');
        kill(self, SIGSTOP);
        wait_state(self, 'T');
        target_send_request(fd);
        if (goes_on) {
            kill(self, SIGCONT);
            wait_state(self, 'S');
        }
        say_ready(self);
        close(fd);
        target_stand();
    }
    for (;;) {
        if (epoll_wait(epoll, &event, 1, -1) == 1) {
            (void)target_read_response(fd);
        }
    }
}

static void stopped(void)
{
    be_stopped(false);
}

static void stopped_ok(void)
{
    be_stopped(true);
}

/* Held by what traces it, as a debugger does. */
static void traced(void)
{
    pid_t self = getpid();

    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    if (fork_or_die() == 0) {
        if (ptrace(PTRACE_ATTACH, self, NULL, NULL) != 0) {
            printf("skip: no process may trace another here\n");
            exit(77);
        }
        (void)waitpid(self, NULL, __WALL);
        say_ready(self);
        target_stand();
    }
    target_stand();
}

/* ---- forked in a callback ---- */

/* The loop's frames, and the events it was given, are on the child's stack as well. */
__attribute__((noinline)) static void loop_that_forks(int epoll, int wake, bool comes_back)
{
    struct epoll_event events[16];
    uint64_t taken;

    for (;;) {
        if (epoll_wait(epoll, events, 16, -1) < 1) {
            target_die("epoll_wait");
        }
        (void)!read(wake, &taken, sizeof(taken));
        if (fork_or_die() == 0) {
            wait_state(getppid(), 'S'); /* it polls again, or stands */
            say_ready(getpid());
            target_sleep_ms(1000000);
        }
        if (!comes_back) {
            target_stand();
        }
    }
}

static void fork_in_callback(bool comes_back)
{
    int epoll = target_epoll(), wake = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
    int fd = target_connect(target_server(SERVER_ANSWERS));

    target_watch(epoll, wake, EPOLLIN);
    target_watch(epoll, fd, EPOLLIN);
    loop_that_forks(epoll, wake, comes_back);
}

/* The child is looked at: its parent drives the set that both have. */
static void forked_child_ok(void)
{
    fork_in_callback(true);
}

/* ...or does not. */
static void forked_child(void)
{
    fork_in_callback(false);
}

/* ---- a socket to accept from, in a parent and its worker ---- */

static void accept_in_child(bool looks_at_child)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t length = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    pid_t self = getpid();

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(listener, 8) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &length) != 0) {
        target_die("listen");
    }
    if (fork_or_die() == 0) { /* the worker, busy with something else */
        if (fork_or_die() == 0) {
            close(listener);
            (void)target_connect(ntohs(address.sin_port));
            say_ready(looks_at_child ? getppid() : self);
            target_stand();
        }
        target_stand();
    }
    target_stand();
}

static void accept_parent(void)
{
    accept_in_child(false);
}

static void accept_worker(void)
{
    accept_in_child(true);
}

/* ---- a body that is passed on ---- */

/* Reads an endless body with blocking reads and writes it to a pipe, which another process reads or
 * leaves full. */
static void pass_on(bool is_read)
{
    static char bytes[16384];
    int fd = target_connect(target_server(SERVER_FLOODS)), ends[2];
    pid_t self = getpid();
    ssize_t got;

    (void)fcntl(fd, F_SETFL, 0);
    if (pipe(ends) != 0) {
        target_die("pipe");
    }
    if (fork_or_die() == 0) {
        if (!is_read) {
            target_wait_full(fd);
        }
        say_ready(self);
        while (is_read && read(ends[0], bytes, sizeof(bytes)) > 0) {
            target_sleep_ms(1);
        }
        target_stand();
    }
    target_send_request(fd);
    while ((got = read(fd, bytes, sizeof(bytes))) > 0 &&
           write(ends[1], bytes, (size_t)got) == got) {
        /* until the pipe is full */
    }
}

static void body_piped(void)
{
    pass_on(false);
}

static void body_piped_ok(void)
{
    pass_on(true);
}

/* ---- bodies read slowly ---- */

static void read_in_steps(uint64_t pause_ms, bool waits_until_full)
{
    static char bytes[65536];
    int fd = target_connect(target_server(SERVER_FLOODS));

    (void)fcntl(fd, F_SETFL, 0);
    target_send_request(fd);
    for (int i = 0; i < 8; i++) {
        (void)!read(fd, bytes, sizeof(bytes));
    }
    if (waits_until_full) {
        target_wait_full(fd);
    }
    target_ready();
    do {
        target_sleep_ms(pause_ms);
    } while (read(fd, bytes, sizeof(bytes)) > 0);
}

static void body_paced(void)
{
    read_in_steps(1000000, true);
}

static void body_paced_ok(void)
{
    read_in_steps(20, false);
}

/* ---- sets in which nothing but a timer, a signal and a file stirs ---- */

static void timers_only(void)
{
    struct itimerspec often = { { 0, 10000000 }, { 0, 10000000 } };
    int epoll = target_epoll(), timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), signals;
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (timerfd_settime(timer, 0, &often, NULL) != 0 || signals < 0) {
        target_die("timerfd, signalfd");
    }
    target_watch(epoll, timer, EPOLLIN);
    target_watch(epoll, signals, EPOLLIN);
    target_watch(epoll, eventfd(0, EFD_CLOEXEC), EPOLLIN);
    target_watch(epoll, target_connect(target_server(SERVER_ANSWERS)), EPOLLIN);
    raise(SIGUSR1);
    target_ready();
}

const struct target_case process_cases[] = {
    { "stopped", stopped },
    { "stopped-ok", stopped_ok },
    { "traced", traced },
    { "forked-child", forked_child },
    { "forked-child-ok", forked_child_ok },
    { "accept-parent", accept_parent },
    { "accept-worker", accept_worker },
    { "body-piped", body_piped },
    { "body-piped-ok", body_piped_ok },
    { "body-paced", body_paced },
    { "body-paced-ok", body_paced_ok },
    { "timers-only", timers_only },
    { 0 },
};
