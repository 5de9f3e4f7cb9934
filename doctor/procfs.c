/* procfs.c: the process, its open files and event sets, as /proc shows them.
 *
 * Owns: nothing; each function opens what it reads and closes it again, so that the doctor holds
 * nothing of the target. Every file is read into a bounded buffer and every count has a maximum.
 * Thread: the doctor's only one. */
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "doctor/procfs.h"
#include "doctor/sets.h"
#include "doctor/waits.h"

ssize_t procfs_read_file(const char *path, char *ret_text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    size_t filled = 0;

    if (fd < 0) {
        return -1;
    }
    while (filled + 1 < size) {
        ssize_t got = read(fd, ret_text + filled, size - 1 - filled);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            if (got < 0 && filled == 0) {
                close(fd);
                return -1;
            }
            break;
        }
        filled += (size_t)got;
    }
    close(fd);
    ret_text[filled] = '\0';
    return (ssize_t)filled;
}

size_t procfs_read_memory(const struct look *look, uint64_t address, void *ret_bytes, size_t size)
{
    struct iovec local = { ret_bytes, size };
    struct iovec remote = { (void *)(uintptr_t)address, size };
    ssize_t got;

    if (!look->can_memory || address == 0) {
        return 0;
    }
    got = process_vm_readv(look->pid, &local, 1, &remote, 1, 0);
    return got < 0 ? 0 : (size_t)got;
}

/* The text of a stat file from the state on: behind the name, which may hold anything. */
static const char *stat_state(char *ret_text, size_t size, pid_t pid)
{
    char path[64], *name_end;

    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    if (procfs_read_file(path, ret_text, size) <= 0) {
        return "?";
    }
    name_end = strrchr(ret_text, ')');
    return name_end == NULL || name_end[1] != ' ' ? "?" : name_end + 2;
}

pid_t procfs_parent(pid_t pid)
{
    char text[512];
    const char *state = stat_state(text, sizeof(text), pid);

    return state[0] == '?' ? 0 : atoi(state + 1);
}

/* ---- opening ---- */

static void read_names(struct look *look)
{
    char path[64], text[PATH_MAX];
    ssize_t size;

    snprintf(path, sizeof(path), "/proc/%d/comm", look->pid);
    size = procfs_read_file(path, text, 64);
    if (size > 0) {
        text[strcspn(text, "\n")] = '\0';
        look_clean(look->command, sizeof(look->command), text);
    }
    snprintf(path, sizeof(path), "/proc/%d/exe", look->pid);
    size = readlink(path, text, sizeof(text) - 1);
    if (size > 0) {
        const char *base;

        text[size] = '\0';
        base = strrchr(text, '/');
        look_clean(look->executable, sizeof(look->executable), base == NULL ? text : base + 1);
    }
}

/* Which permission is missing, and how to get it. */
static void say_refused(struct look *look)
{
    static const char *const what =
        "the kernel refused what needs ptrace rights (system calls, copies of event sets, memory, "
        "stacks)";
    char text[16] = "";
    int scope = -1;

    if (procfs_read_file("/proc/sys/kernel/yama/ptrace_scope", text, sizeof(text)) > 0) {
        scope = atoi(text);
    }
    if (scope == 3) {
        look_limit(look, "%s: kernel.yama.ptrace_scope is 3, nobody may until the next boot", what);
    } else if (scope > 0) {
        look_limit(look,
                   "%s: kernel.yama.ptrace_scope is %d; run as root, or give the doctor "
                   "CAP_SYS_PTRACE%s",
                   what, scope, scope == 1 ? ", or sysctl kernel.yama.ptrace_scope=0" : "");
    } else {
        look_limit(look, "%s: run as root, or give the doctor CAP_SYS_PTRACE", what);
    }
}

/* Numbers and arguments of its system calls are others than those of this program. */
static bool is_32_bit(pid_t pid)
{
    unsigned char head[EI_CLASS + 1];
    char path[64];
    ssize_t size;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return false;
    }
    size = pread(fd, head, sizeof(head), 0);
    close(fd);
    return size == sizeof(head) && memcmp(head, ELFMAG, SELFMAG) == 0 &&
           head[EI_CLASS] == ELFCLASS32;
}

/* Ask each means once, so that what is missing can be said before anything is concluded. */
static void find_means(struct look *look)
{
    char path[64], text[256];
    uint64_t word;

    if (!look->options.attach) {
        look_limit(look, "told not to attach: no system calls, no readiness of event sets, "
                         "no memory, no stacks were looked at");
        return;
    }
    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", look->pid, look->pid);
    look->can_syscall = !is_32_bit(look->pid) && procfs_read_file(path, text, sizeof(text)) > 0;
    look->can_memory = true; /* until a read is refused */
    if (look->can_syscall) {
        uint64_t sp = waits_stack_pointer(text);

        if (sp != 0 && procfs_read_memory(look, sp, &word, sizeof(word)) == 0 && errno == EPERM) {
            look->can_memory = false;
        }
    } else {
        look->can_memory = false;
    }
    look->can_copy_fd = look->can_syscall && look->pidfd >= 0;
    look->can_stacks = look->can_syscall && look->options.take_stacks;
    if (is_32_bit(look->pid)) {
        look_limit(look,
                   "a 32-bit program: its system calls, event sets, memory and stacks are not "
                   "read");
    } else if (!look->can_syscall) {
        say_refused(look);
    } else if (!look->options.take_stacks) {
        look_limit(look, "told to take no stacks: what threads do in user code is not known");
    }
}

enum il_code procfs_open(struct look *look, struct il_error *err)
{
    char path[64], text[512];
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d", look->pid);
    if (access(path, F_OK) != 0) {
        return il_fail_errno(err, IL_ESYS, ESRCH, "no process %d (seen from this pid namespace)",
                             look->pid);
    }
    if (stat_state(text, sizeof(text), look->pid)[0] == 'Z') {
        return il_fail_errno(err, IL_ESYS, ESRCH,
                             "process %d has ended (a zombie); its parent %d has not waited for it",
                             look->pid, procfs_parent(look->pid));
    }
    read_names(look);
    snprintf(path, sizeof(path), "/proc/%d/fd", look->pid);
    directory = opendir(path);
    if (directory == NULL) {
        return il_fail(err, IL_ESYS,
                       "read %s: the same user or root may; a process that has changed its user "
                       "or capabilities needs CAP_SYS_PTRACE (try sudo)",
                       path);
    }
    closedir(directory);
    look->pidfd = (int)syscall(SYS_pidfd_open, look->pid, 0);
    find_means(look);
    return IL_OK;
}

/* ---- open files ---- */

static enum fd_kind kind_of_link(const char *link, uint64_t *ret_inode)
{
    static const struct {
        const char *text;
        enum fd_kind kind;
    } kinds[] = {
        { "anon_inode:[eventpoll]", FD_EPOLL },
        { "anon_inode:[io_uring]", FD_URING },
        { "anon_inode:[eventfd]", FD_EVENTFD },
        { "anon_inode:[timerfd]", FD_TIMERFD },
    };

    *ret_inode = 0;
    if (strncmp(link, "socket:[", 8) == 0) {
        *ret_inode = strtoull(link + 8, NULL, 10);
        return FD_SOCKET;
    }
    if (strncmp(link, "pipe:[", 6) == 0) {
        *ret_inode = strtoull(link + 6, NULL, 10);
        return FD_PIPE;
    }
    for (size_t i = 0; i < il_array_count(kinds); i++) {
        if (strcmp(link, kinds[i].text) == 0) {
            return kinds[i].kind;
        }
    }
    return FD_OTHER;
}

static bool fd_add(struct look *look, int fd, enum fd_kind kind, uint64_t inode)
{
    if (look->fd_count == LOOK_FDS_MAX) {
        look_limit(look, "more than %u open files: the rest was not looked at", LOOK_FDS_MAX);
        return false;
    }
    if (look->fd_count == look->fd_capacity) {
        uint32_t capacity = look->fd_capacity == 0 ? 256 : look->fd_capacity * 2;
        struct seen_fd *fds = il_realloc(look->fds, capacity * sizeof(look->fds[0]));

        if (fds == NULL) {
            look_limit(look, "out of memory: some open files were not looked at");
            return false;
        }
        look->fds = fds;
        look->fd_capacity = capacity;
    }
    look->fds[look->fd_count++] = (struct seen_fd){ .fd = fd, .kind = kind, .inode = inode };
    return true;
}

static int compare_fds(const void *a, const void *b)
{
    const struct seen_fd *x = a, *y = b;

    return (x->fd > y->fd) - (x->fd < y->fd);
}

enum il_code procfs_read_fds(struct look *look, struct il_error *err)
{
    char path[64], link[128];
    struct dirent *entry;
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d/fd", look->pid);
    directory = opendir(path);
    if (directory == NULL) {
        return il_fail(err, IL_ESYS, "read %s", path);
    }
    look->fd_count = 0;
    while ((entry = readdir(directory)) != NULL) {
        ssize_t size;
        uint64_t inode;
        enum fd_kind kind;

        if (entry->d_name[0] < '0' || entry->d_name[0] > '9') {
            continue;
        }
        size = readlinkat(dirfd(directory), entry->d_name, link, sizeof(link) - 1);
        if (size < 0) {
            continue; /* closed since it was listed */
        }
        link[size] = '\0';
        kind = kind_of_link(link, &inode);
        if (!fd_add(look, atoi(entry->d_name), kind, inode)) {
            break;
        }
    }
    closedir(directory);
    if (look->fd_count > 0) {
        qsort(look->fds, look->fd_count, sizeof(look->fds[0]), compare_fds);
    }
    return IL_OK;
}

/* ---- what a set watches ---- */

/* The number behind `name`; the cursor moves behind it. False when `name` is not next. */
static bool parse_field(const char **at, const char *name, int base, uint64_t *ret_value)
{
    size_t length = strlen(name);
    char *end;

    *at += strspn(*at, " ");
    if (strncmp(*at, name, length) != 0) {
        return false;
    }
    *ret_value = strtoull(*at + length, &end, base);
    if (end == *at + length) {
        return false;
    }
    *at = end;
    return true;
}

/* "tfd:        4 events: c0000019 data:         deadbeef  pos:0 ino:2df59 sdev:9" */
static bool parse_watch(const char *line, struct set_watch *ret_watch)
{
    uint64_t fd, events, data, position, inode;

    if (!parse_field(&line, "tfd:", 10, &fd) || !parse_field(&line, "events:", 16, &events) ||
        !parse_field(&line, "data:", 16, &data) || !parse_field(&line, "pos:", 10, &position) ||
        !parse_field(&line, "ino:", 16, &inode)) {
        return false;
    }
    *ret_watch = (struct set_watch){
        .fd = (int)fd, .events = (uint32_t)events, .data = data, .inode = inode
    };
    return true;
}

static bool watch_add(struct seen_set *set, uint32_t *capacity, const struct set_watch *watch)
{
    if (set->watch_count == *capacity) {
        uint32_t wanted = *capacity == 0 ? 16 : *capacity * 2;
        struct set_watch *watches = il_realloc(set->watches, wanted * sizeof(set->watches[0]));

        if (watches == NULL) {
            return false;
        }
        set->watches = watches;
        *capacity = wanted;
    }
    set->watches[set->watch_count++] = *watch;
    return true;
}

/* The same for the same files and events, in whatever order they are listed. */
static uint64_t watches_fingerprint(const struct seen_set *set)
{
    uint64_t sum = set->watch_count;

    for (uint32_t i = 0; i < set->watch_count; i++) {
        const struct set_watch *watch = &set->watches[i];

        sum += (((uint64_t)(uint32_t)watch->fd << 32 | watch->events) ^ watch->inode << 7) *
               0x9e3779b97f4a7c15u;
    }
    return sum;
}

bool procfs_read_watches(struct look *look, struct seen_set *set)
{
    char path[64], line[256];
    uint32_t capacity = 0;
    uint64_t before;
    bool had_watches;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/fdinfo/%d", look->pid, set->fds[0]);
    file = fopen(path, "re");
    if (file == NULL) {
        return false;
    }
    before = watches_fingerprint(set);
    had_watches = set->watches != NULL;
    il_free(set->watches);
    set->watches = NULL;
    set->watch_count = 0;
    while (fgets(line, sizeof(line), file) != NULL) {
        struct set_watch watch;

        if (!parse_watch(line, &watch)) {
            continue;
        }
        if (set->watch_count == LOOK_SET_WATCHES_MAX || !watch_add(set, &capacity, &watch)) {
            look_limit(look, "event set fd %d watches more than the doctor looks at (%u)",
                       set->fds[0], set->watch_count);
            break;
        }
    }
    fclose(file);
    set->was_changed = set->was_changed || (had_watches && watches_fingerprint(set) != before);
    return true;
}

/* ---- mapped files ---- */

void procfs_each_mapped_file(const struct look *look, bool (*visit)(const char *path, void *arg),
                             void *arg)
{
    char path[64], line[PATH_MAX + 128], previous[PATH_MAX] = "";
    uint32_t line_count = 0;
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/maps", look->pid);
    file = fopen(path, "re");
    if (file == NULL) {
        return;
    }
    while (fgets(line, sizeof(line), file) != NULL && ++line_count < 65536) {
        char *name = strchr(line, '/');

        if (name == NULL) {
            continue;
        }
        name[strcspn(name, "\n")] = '\0';
        if (strncmp(name, previous, sizeof(previous) - 1) == 0) {
            continue;
        }
        snprintf(previous, sizeof(previous), "%s", name);
        if (!visit(name, arg)) {
            break;
        }
    }
    fclose(file);
}
