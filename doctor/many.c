/* many.c: --watch and --all.
 *
 * --watch: one diagnosis after the other; a line when a finding is new, a line when it is gone.
 * --all: every process that holds a socket, MANY_CHILDREN_MAX at a time, each diagnosed in a
 * child of its own (so that one process in another namespace, or one that ends, disturbs no other).
 *
 * Owns: the list of open findings (watch), the children and their pipes (all).
 * Thread: the doctor's only one. Ends: when the process ends, the rounds are over, or by signal. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "doctor/diagnose.h"
#include "doctor/many.h"
#include "doctor/procfs.h"
#include "doctor/report.h"
#include "doctor/verdict.h"

#define MANY_OPEN_MAX     256 /* findings that --watch tells apart */
#define MANY_CHILDREN_MAX 16
#define MANY_PIDS_MAX     32768
#define MANY_REPORT_MAX   (4u << 20) /* bytes of one child's report */

/* ---- watch ---- */

/* What makes two findings of two rounds the same: verdict, and the first thing it names. */
struct open_finding {
    enum verdict verdict;
    uint64_t thing;
    bool is_seen; /* in this round */
    char line[160];
};

struct watch {
    uint32_t count;
    struct open_finding open[MANY_OPEN_MAX];
};

static uint64_t thing_of(const struct look *look, const struct finding *finding)
{
    if (finding->socket_count > 0) {
        return look->sockets[finding->sockets[0]].inode;
    }
    if (finding->set_count > 0) {
        return 1ull << 40 | (uint64_t)look->sets[finding->sets[0]].fds[0];
    }
    return finding->thread_count > 0 ? 1ull << 41 | (uint64_t)look->threads[finding->threads[0]].tid
                                     : 0;
}

static void print_time(FILE *out)
{
    char text[32];
    time_t now = time(NULL);
    struct tm parts;

    if (localtime_r(&now, &parts) != NULL &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S%z", &parts) > 0) {
        fprintf(out, "%s ", text);
    }
}

static bool watch_is_known(struct watch *watch, enum verdict verdict, uint64_t thing)
{
    for (uint32_t i = 0; i < watch->count; i++) {
        if (watch->open[i].verdict == verdict && watch->open[i].thing == thing) {
            watch->open[i].is_seen = true;
            return true;
        }
    }
    return false;
}

static void watch_add(struct watch *watch, const struct look *look, const struct finding *finding)
{
    struct open_finding *open;

    if (watch->count == MANY_OPEN_MAX) {
        return; /* then it is reported again in each round: too often is better than never */
    }
    open = &watch->open[watch->count++];
    *open = (struct open_finding){ finding->verdict, thing_of(look, finding), true, "" };
    label_request(look, finding, open->line, sizeof(open->line));
}

static void watch_report_new(struct watch *watch, const struct look *look, bool json)
{
    bool has_new = false;

    for (uint32_t i = 0; i < look->finding_count; i++) {
        const struct finding *finding = &look->findings[i];

        if (watch_is_known(watch, finding->verdict, thing_of(look, finding))) {
            continue;
        }
        has_new = true;
        watch_add(watch, look, finding);
        if (!json) {
            print_time(stdout);
            report_line(stdout, look, finding);
            fputc('\n', stdout);
        }
    }
    if (json && has_new) {
        report_json(stdout, look);
        fputc('\n', stdout);
    }
}

static void watch_report_gone(struct watch *watch, const struct look *look, bool json)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < watch->count; i++) {
        if (watch->open[i].is_seen) {
            watch->open[kept] = watch->open[i];
            watch->open[kept++].is_seen = false;
            continue;
        }
        if (!json) {
            print_time(stdout);
            fprintf(stdout, "pid %d %s: no longer %s: %s\n", look->pid, look->command,
                    verdict_name(watch->open[i].verdict), watch->open[i].line);
        }
    }
    watch->count = kept;
}

int many_watch(const struct doctor_options *options, const char *name)
{
    struct watch *watch = il_calloc(1, sizeof(*watch));
    int status = 0;

    if (watch == NULL) {
        fprintf(stderr, "%s: out of memory\n", name);
        return 3;
    }
    for (uint32_t round = 0; options->rounds == 0 || round < options->rounds; round++) {
        struct il_error err;
        struct look look;
        enum il_code code;

        look_init(&look, options->pid, &options->look);
        code = diagnose_process(&look, &err);
        if (code == IL_OK) {
            watch_report_new(watch, &look, options->json);
            watch_report_gone(watch, &look, options->json);
            fflush(stdout);
            status = look.finding_count > 0 ? 1 : status;
        }
        look_deinit(&look);
        if (code != IL_OK) {
            fprintf(stderr, "%s: %s\n", name, err.message);
            /* That the process ends some time is how a watch ends. */
            status = round == 0 ? 3 : status;
            break;
        }
    }
    il_free(watch);
    return status;
}

/* ---- all ---- */

struct child {
    pid_t pid; /* of the child; 0: free place */
    pid_t target;
    int pipe;
    size_t size;
    char *report;
};

struct all {
    const struct doctor_options *options;
    struct child children[MANY_CHILDREN_MAX];
    uint32_t running;
    uint32_t looked, found, refused;
    bool has_printed; /* JSON: a comma is due */
};

static bool has_socket(pid_t pid, bool *ret_refused)
{
    char path[64], link[64];
    struct dirent *entry;
    bool found = false;
    DIR *directory;

    snprintf(path, sizeof(path), "/proc/%d/fd", pid);
    directory = opendir(path);
    *ret_refused = directory == NULL && (errno == EACCES || errno == EPERM);
    while (directory != NULL && !found && (entry = readdir(directory)) != NULL) {
        ssize_t size = readlinkat(dirfd(directory), entry->d_name, link, sizeof(link) - 1);

        if (size > 0) {
            link[size] = '\0';
            found = strncmp(link, "socket:[", 8) == 0;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return found;
}

static void run_child(const struct all *all, pid_t target, int pipe)
{
    FILE *out = fdopen(pipe, "w");
    struct report_style style = { .verbose = all->options->verbose };
    struct il_error err;
    struct look look;
    int status = 3;

    look_init(&look, target, &all->options->look);
    if (out != NULL && diagnose_process(&look, &err) == IL_OK) {
        status = look.finding_count > 0 ? 1 : 0;
        if (look.finding_count > 0 && all->options->json) {
            report_json(out, &look);
        } else if (look.finding_count > 0 && style.verbose) {
            report_text(out, &look, &style);
        } else {
            for (uint32_t i = 0; i < look.finding_count; i++) {
                report_line(out, &look, &look.findings[i]);
                fputc('\n', out);
            }
        }
        fclose(out);
    }
    _exit(status);
}

static void child_start(struct all *all, pid_t target)
{
    struct child *child = all->children;
    int ends[2];

    while (child->pid != 0) {
        child++;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return;
    }
    fflush(stdout);
    child->pid = fork();
    if (child->pid == 0) {
        close(ends[0]);
        run_child(all, target, ends[1]);
    }
    close(ends[1]);
    if (child->pid < 0) {
        child->pid = 0;
        close(ends[0]);
        return;
    }
    child->target = target;
    child->pipe = ends[0];
    all->running++;
}

static void child_end(struct all *all, struct child *child)
{
    int status = 0;

    close(child->pipe);
    if (child->size == MANY_REPORT_MAX) {
        kill(child->pid, SIGKILL);
    }
    (void)waitpid(child->pid, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) <= 1) {
        all->looked++;
        all->found += WEXITSTATUS(status) == 1;
    }
    if (child->size > 0) {
        if (all->options->json && all->has_printed) {
            fputc(',', stdout);
        }
        fwrite(child->report, 1, child->size, stdout);
        all->has_printed = true;
    }
    il_free(child->report);
    *child = (struct child){ 0 };
    all->running--;
}

/* Take what a child has written; false at its end. */
static bool child_read(struct child *child)
{
    char bytes[16384];
    ssize_t got = read(child->pipe, bytes, sizeof(bytes));
    char *report;

    if (got < 0 && errno == EINTR) {
        return true;
    }
    if (got <= 0 || child->size + (size_t)got > MANY_REPORT_MAX) {
        return false;
    }
    report = il_realloc(child->report, child->size + (size_t)got);
    if (report == NULL) {
        return false;
    }
    memcpy(report + child->size, bytes, (size_t)got);
    child->report = report;
    child->size += (size_t)got;
    return true;
}

static void wait_for_child(struct all *all)
{
    struct pollfd fds[MANY_CHILDREN_MAX];

    for (int i = 0; i < MANY_CHILDREN_MAX; i++) {
        fds[i] = (struct pollfd){ .fd = all->children[i].pid == 0 ? -1 : all->children[i].pipe,
                                  .events = POLLIN };
    }
    if (poll(fds, MANY_CHILDREN_MAX, -1) < 0) {
        return;
    }
    for (int i = 0; i < MANY_CHILDREN_MAX; i++) {
        if (fds[i].revents != 0 && !child_read(&all->children[i])) {
            child_end(all, &all->children[i]);
        }
    }
}

static uint32_t list_processes(struct all *all, pid_t *ret_pids)
{
    DIR *directory = opendir("/proc");
    struct dirent *entry;
    uint32_t count = 0;

    while (directory != NULL && count < MANY_PIDS_MAX && (entry = readdir(directory)) != NULL) {
        pid_t pid = atoi(entry->d_name);
        bool was_refused;

        if (pid <= 0 || pid == getpid()) {
            continue;
        }
        if (has_socket(pid, &was_refused)) {
            ret_pids[count++] = pid;
        }
        all->refused += was_refused;
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return count;
}

int many_all(const struct doctor_options *options, const char *name)
{
    struct all *all = il_calloc(1, sizeof(*all));
    pid_t *pids = il_calloc(MANY_PIDS_MAX, sizeof(*pids));
    uint32_t count;
    int status;

    if (all == NULL || pids == NULL) {
        fprintf(stderr, "%s: out of memory\n", name);
        il_free(all);
        il_free(pids);
        return 3;
    }
    all->options = options;
    count = list_processes(all, pids);
    if (options->json) {
        fputs("{\"processes\":[", stdout);
    }
    for (uint32_t i = 0; i < count; i++) {
        while (all->running == MANY_CHILDREN_MAX) {
            wait_for_child(all);
        }
        child_start(all, pids[i]);
    }
    while (all->running > 0) {
        wait_for_child(all);
    }
    if (options->json) {
        printf("],\"looked_at\":%u,\"refused\":%u}\n", all->looked, all->refused);
    } else {
        printf("%u process%s with sockets looked at, %u with something standing still", all->looked,
               all->looked == 1 ? "" : "es", all->found);
        printf(all->refused > 0 ? "; %u more may not be looked at by this user (try sudo)\n" : "\n",
               all->refused);
    }
    status = all->found > 0 ? 1 : all->looked == 0 && all->refused > 0 ? 3 : 0;
    il_free(all);
    il_free(pids);
    return status;
}
