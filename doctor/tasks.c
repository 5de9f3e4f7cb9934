/* tasks.c: threads, as /proc shows them.
 *
 * Most threads of most processes sleep all the time, and the doctor looks some forty times: so what
 * a look at a sleeping thread costs is most of what looking costs. A thread that has not been given
 * a CPU since it was seen asleep sleeps in the same place; its schedstat tells that in one read of
 * a file that is kept open. The threads are listed again only when their number changes or one is
 * gone.
 *
 * Owns: look->threads, the open schedstat files (TASKS_KEPT_MAX at most; they hold nothing of the
 *   target, not even its pid), and the directory they are in. Thread: the doctor's only one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor/procfs.h"
#include "doctor/sets.h"
#include "doctor/tasks.h"
#include "doctor/waits.h"

#define TASKS_KEPT_MAX    512u
#define TASKS_SKIPPED_MAX 6u
#define TASKS_STARVED_NS  100000000u /* ready to run for so long: the machine is overloaded */

/* ---- files of a thread ---- */

static int open_file(const struct look *look, const struct seen_thread *thread, const char *name)
{
    char path[48];

    snprintf(path, sizeof(path), "%d/%s", thread->tid, name);
    return openat(look->task_fd, path, O_RDONLY | O_CLOEXEC);
}

/* These files come whole in one read. False when the thread is gone, or the file refused. */
static bool read_whole(int fd, char *ret_text, size_t size)
{
    ssize_t got;

    do {
        got = pread(fd, ret_text, size - 1, 0);
    } while (got < 0 && errno == EINTR);
    ret_text[got < 0 ? 0 : got] = '\0';
    return got > 0;
}

static bool read_file(const struct look *look, const struct seen_thread *thread, const char *name,
                      char *ret_text, size_t size)
{
    int fd = open_file(look, thread, name);
    bool was_read;

    if (fd < 0) {
        return false;
    }
    was_read = read_whole(fd, ret_text, size);
    close(fd);
    return was_read;
}

/* ---- what does not change ---- */

/* How often the thread has gone to sleep, from the text of its status. */
static uint64_t parse_sleeps(const char *status)
{
    static const char name[] = "\nvoluntary_ctxt_switches:";
    const char *line = strstr(status, name);

    return line == NULL ? 0 : strtoull(line + sizeof(name) - 1, NULL, 10);
}

/* Mutexes hold the tid as the target's own pid namespace counts: the last of NSpid. */
static pid_t parse_ns_tid(const char *status, pid_t otherwise)
{
    const char *at = strstr(status, "\nNSpid:");
    pid_t found = otherwise;

    if (at == NULL) {
        return otherwise;
    }
    at += 7;
    while (*at == '\t' || *at == ' ') {
        char *end;
        long value = strtol(at, &end, 10);

        if (end == at) {
            break;
        }
        found = (pid_t)value;
        at = end;
    }
    return found;
}

static void read_names(struct look *look, struct seen_thread *thread)
{
    char text[4096];

    if (read_file(look, thread, "comm", text, 64)) {
        text[strcspn(text, "\n")] = '\0';
        look_clean(thread->name, sizeof(thread->name), text);
    }
    if (read_file(look, thread, "status", text, sizeof(text))) {
        thread->sleep_count_first = parse_sleeps(text);
        thread->ns_tid = parse_ns_tid(text, thread->tid);
    }
}

/* ---- one look at one thread ---- */

static bool read_schedstat(struct look *look, struct seen_thread *thread, char *ret_text,
                           size_t size)
{
    int fd = thread->schedstat_fd;
    bool was_read;

    if (fd >= 0) {
        return read_whole(fd, ret_text, size);
    }
    fd = open_file(look, thread, "schedstat");
    if (fd < 0) {
        return false;
    }
    was_read = read_whole(fd, ret_text, size);
    if (was_read && look->kept_count < TASKS_KEPT_MAX) {
        look->kept_count++;
        thread->schedstat_fd = fd;
    } else {
        close(fd);
    }
    return was_read;
}

static void end_thread(struct look *look, struct seen_thread *thread)
{
    thread->is_gone = true;
    if (thread->schedstat_fd >= 0) {
        close(thread->schedstat_fd);
        thread->schedstat_fd = -1;
        look->kept_count--;
    }
}

/* Was the thread given a CPU since the last look? Also true when that cannot be told: a kernel
 * without the file, or one that counts nothing in it. */
static bool read_cpu(struct look *look, struct seen_thread *thread)
{
    uint64_t run_ns, turns;
    char text[96], *end;
    bool has_run;

    if (!read_schedstat(look, thread, text, sizeof(text))) {
        if (look->has_schedstat) {
            end_thread(look, thread);
        }
        return true;
    }
    run_ns = strtoull(text, &end, 10);
    (void)strtoull(end, &end, 10); /* how long it waited for a CPU */
    turns = strtoull(end, &end, 10);
    if (run_ns == 0 && turns == 0) {
        return true;
    }
    look->has_schedstat = true;
    if (thread->look_count == 0) {
        thread->cpu_ns_first = run_ns;
    }
    has_run =
        thread->look_count == 0 || run_ns != thread->cpu_ns_last || turns != thread->turns_last;
    if (has_run) {
        thread->still_since_ns = look_now_ns();
    }
    thread->cpu_ns_last = run_ns;
    thread->turns_last = turns;
    return has_run;
}

static void read_state(struct look *look, struct seen_thread *thread)
{
    char text[512];
    const char *after_name;

    if (read_file(look, thread, "stat", text, sizeof(text)) &&
        (after_name = strrchr(text, ')')) != NULL && after_name[1] == ' ') {
        thread->state = after_name[2];
    }
}

/* Without ptrace rights the kernel still names the function a thread sleeps in. */
static void read_wchan(struct look *look, struct seen_thread *thread, struct thread_wait *wait)
{
    char text[64];

    if (!read_file(look, thread, "wchan", text, sizeof(text))) {
        return;
    }
    waits_of_wchan(text, wait);
    if (wait->kind == WAIT_EPOLL) {
        look->unknown_sleepers++;
    }
}

/* It sleeps in a call that goes on after a stop: the kernel's function tells which, if the thread
 * has not left it meanwhile. One that stays unknown may be a poll() on anything. */
static void read_resumed(struct look *look, struct seen_thread *thread, struct thread_wait *wait)
{
    char text[256], again[256], function[64] = "";

    if (!read_file(look, thread, "syscall", text, sizeof(text))) {
        return;
    }
    (void)read_file(look, thread, "wchan", function, sizeof(function));
    if (!read_file(look, thread, "syscall", again, sizeof(again))) {
        return;
    }
    if (strcmp(text, again) != 0) {
        wait->kind = WAIT_RUNNING; /* it moves */
        return;
    }
    waits_of_resumed(text, function, wait);
    look->unknown_sleepers += waits_is_resumed(wait);
}

static void read_wait(struct look *look, struct seen_thread *thread)
{
    struct thread_wait wait = { .kind = WAIT_UNKNOWN, .number = -1, .fd = -1 };
    char text[256];

    if (look->can_syscall) {
        if (read_file(look, thread, "syscall", text, sizeof(text))) {
            waits_of_syscall(text, &wait);
        }
        if (waits_is_resumed(&wait)) {
            read_resumed(look, thread, &wait);
        }
    } else {
        read_state(look, thread);
        if (thread->state == 'R') {
            wait.kind = WAIT_RUNNING;
        } else {
            read_wchan(look, thread, &wait);
        }
    }
    if (wait.kind == WAIT_UNKNOWN) {
        read_state(look, thread); /* a thread that ends, or one in a state of its own */
    }
    if (thread->look_count == 0 || !waits_are_same(&wait, &thread->wait)) {
        thread->wait_since_ns = look_now_ns();
    }
    thread->wait = wait;
}

static void look_at_thread(struct look *look, struct seen_thread *thread)
{
    bool was_asleep = thread->look_count > 0 && thread->wait.kind != WAIT_RUNNING &&
                      thread->wait.kind != WAIT_UNKNOWN;
    bool has_run = read_cpu(look, thread);
    uint32_t looks = 1;

    if (thread->is_gone) {
        return;
    }
    if (has_run || !was_asleep) {
        read_wait(look, thread);
        thread->quiet_count = 0;
    } else {
        looks += thread->skipped; /* it slept there at those as well */
        thread->quiet_count++;
    }
    thread->skipped = 0;
    thread->look_count += looks;
    thread->running_count += thread->wait.kind == WAIT_RUNNING;
    if (thread->wait.kind == WAIT_EPOLL) {
        thread->epoll_count += looks;
        sets_note_poller(look, thread->wait.fd, thread->tid, looks);
    }
    waits_note_sockets(look, thread, looks);
}

/* One that has slept for long is looked at less often: its counters tell afterwards whether it
 * slept on. Should it have run, then those looks did not see it, and count for nothing. */
static bool may_skip(const struct seen_thread *thread)
{
    return thread->skipped < il_min_u64(thread->quiet_count / 2, TASKS_SKIPPED_MAX);
}

/* ---- all threads ---- */

/* How many threads there are is how many links the directory has; 0: the process ended. */
static uint64_t count_links(const struct look *look)
{
    struct stat status;

    return fstat(look->task_fd, &status) == 0 ? status.st_nlink : 0;
}

static void list_threads(struct look *look)
{
    int fd = openat(look->task_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (directory == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return; /* the process ended; the sampler sees that from its pidfd */
    }
    for (uint32_t i = 0; i < look->thread_count; i++) {
        look->threads[i].is_gone = true; /* until it is seen again, just below */
    }
    while ((entry = readdir(directory)) != NULL) {
        pid_t tid = atoi(entry->d_name);
        struct seen_thread *thread;

        if (tid <= 0) {
            continue;
        }
        thread = look_thread(look, tid);
        if (thread == NULL) {
            thread = look_thread_add(look, tid);
            if (thread == NULL) {
                break;
            }
            read_names(look, thread);
        }
        thread->is_gone = false;
    }
    closedir(directory);
}

static bool open_directory(struct look *look)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/%d/task", look->pid);
    look->task_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return look->task_fd >= 0;
}

void tasks_look(struct look *look, bool is_last)
{
    uint64_t links;

    if (look->task_fd < 0 && !open_directory(look)) {
        return;
    }
    links = count_links(look);
    if (links != look->task_links || look->lost_thread || !look->has_schedstat) {
        list_threads(look);
        look->task_links = links;
        look->lost_thread = false;
    }
    for (uint32_t i = 0; i < look->thread_count; i++) {
        struct seen_thread *thread = &look->threads[i];

        if (thread->is_gone) {
            continue;
        }
        if (!is_last && may_skip(thread)) {
            thread->skipped++;
            continue;
        }
        look_at_thread(look, thread);
        look->lost_thread |= thread->is_gone;
    }
}

/* ---- starved ---- */

static bool has_slept(const struct look *look, const struct seen_thread *thread)
{
    char text[4096];

    return !read_file(look, thread, "status", text, sizeof(text)) ||
           parse_sleeps(text) != thread->sleep_count_first;
}

/* It computes without end: it has used a CPU while we looked, and has never gone to sleep. */
static bool is_spinning(const struct seen_thread *thread)
{
    return thread->cpu_ns_last > thread->cpu_ns_first && !thread->has_slept;
}

/* A look takes a thread that has not run for asleep. Whether it was woken since, and waits for a
 * CPU, only its state tells; one that sleeps at the end, and has not run, has slept all along. */
void tasks_find_starved(struct look *look)
{
    look->starved_count = 0;
    for (uint32_t i = 0; i < look->thread_count; i++) {
        struct seen_thread *thread = &look->threads[i];

        thread->is_starved = false;
        if (thread->is_gone) {
            continue;
        }
        if (thread->running_count > 0 && !thread->has_slept) {
            thread->has_slept = has_slept(look, thread);
        }
        if (thread->still_since_ns == 0 ||
            look_now_ns() - thread->still_since_ns < TASKS_STARVED_NS) {
            continue;
        }
        read_state(look, thread);
        thread->is_starved = thread->state == 'R' && !is_spinning(thread);
        look->starved_count += thread->is_starved;
    }
}

/* ---- stopped ---- */

static bool is_stop_state(char state)
{
    return state == 'T' || state == 't';
}

/* The process that traces it, by the name of a debugger or strace; 0: none. */
static pid_t read_tracer(const struct look *look, const struct seen_thread *thread)
{
    static const char name[] = "\nTracerPid:";
    char text[4096], *line;

    if (!read_file(look, thread, "status", text, sizeof(text))) {
        return 0;
    }
    line = strstr(text, name);
    return line == NULL ? 0 : atoi(line + sizeof(name) - 1);
}

/* Frozen by its cgroup, as `docker pause` does? Its threads then look asleep wherever they were.
 * The second place is where hosts with the older hierarchy besides keep the newer one. */
static bool is_frozen(const struct look *look)
{
    static const char *const mounts[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
    char path[PATH_MAX], text[8192], *group;

    snprintf(path, sizeof(path), "/proc/%d/cgroup", look->pid);
    if (procfs_read_file(path, text, sizeof(text)) <= 0 || (group = strstr(text, "0::/")) == NULL) {
        return false;
    }
    group += 3;
    group[strcspn(group, "\n")] = '\0';
    for (size_t i = 0; i < il_array_count(mounts) && strstr(group, "/..") == NULL; i++) {
        char events[256];

        snprintf(path, sizeof(path), "%s%.3900s/cgroup.events", mounts[i], group);
        if (procfs_read_file(path, events, sizeof(events)) > 0) {
            return strstr(events, "frozen 1") != NULL;
        }
    }
    return false;
}

/* A signal stops all threads, and so does a cgroup; a debugger mostly does. A thread that ran in
 * this window, or that is not held at its end, is enough to look at the process like at any other.
 */
void tasks_find_stopped(struct look *look)
{
    uint32_t held_count = 0, stopped_count = 0;

    for (uint32_t i = 0; i < look->thread_count; i++) {
        struct seen_thread *thread = &look->threads[i];

        if (thread->is_gone) {
            continue;
        }
        read_state(look, thread);
        if (thread->state == 'Z') {
            continue; /* the first thread of a process may end before the others */
        }
        if (!thread->stood_still) {
            return;
        }
        if (held_count++ == 0) {
            look->tracer = read_tracer(look, thread);
            look->is_frozen = is_frozen(look);
        }
        stopped_count += is_stop_state(thread->state);
        if (stopped_count < held_count && !look->is_frozen) {
            return;
        }
    }
    look->is_stopped = held_count > 0;
}
