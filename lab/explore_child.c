/* explore_child.c: child processes. See explore_child.h.
 *
 * Owns: the descriptors of each child, until it is reaped. Threads: one. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/explore_child.h"

#define WORDS_SIZE 65536

static __attribute__((noreturn)) void child_run(const struct child *child, const int *fds,
                                                int (*main)(void *arg), void *arg)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* at worst it outlives us by one run */
    (void)close(fds[0]);
    if (dup2(child->words_fd, STDERR_FILENO) < 0) {
        _exit(1);
    }
    exit(main(arg)); /* not _exit: a leak checker wants to have its say */
}

bool child_start(struct child *child, int (*main)(void *arg), void *arg)
{
    int fds[2], error;

    *child = (struct child){ .end_fd = -1, .words_fd = memfd_create("stderr", MFD_CLOEXEC) };
    if (child->words_fd < 0) {
        return false;
    }
    if (pipe(fds) != 0) {
        goto fail_pipe;
    }
    (void)fflush(NULL); /* or the child would write it a second time */
    child->pid = fork();
    if (child->pid == 0) {
        child_run(child, fds, main, arg);
    }
    if (child->pid < 0) {
        goto fail_fork;
    }
    (void)close(fds[1]);
    child->end_fd = fds[0];
    return true;

fail_fork:
    error = errno;
    (void)close(fds[0]);
    (void)close(fds[1]);
    errno = error;
fail_pipe:
    error = errno;
    (void)close(child->words_fd);
    *child = (struct child){ .end_fd = -1, .words_fd = -1 };
    errno = error;
    return false;
}

bool child_await(const struct child *child, int timeout_ms)
{
    struct pollfd fd = { .fd = child->end_fd, .events = POLLIN };
    int count;

    do {
        count = poll(&fd, 1, timeout_ms);
    } while (count < 0 && errno == EINTR);
    return count > 0;
}

void child_kill(struct child *child)
{
    (void)kill(child->pid, SIGKILL);
}

/* The first line that says what was wrong. */
static bool find_telling_line(const char *text, char *line, size_t size)
{
    static const char *const marks[] = { "assertion failed", "ERROR: ", "WARNING: ThreadSanitizer",
                                         "runtime error:" };

    for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
        const char *at = strstr(text, marks[i]);
        const char *begin = at;

        if (at != NULL) {
            while (begin > text && begin[-1] != '\n') {
                begin--;
            }
            (void)snprintf(line, size, "%.*s", (int)strcspn(begin, "\n"), begin);
            return true;
        }
    }
    return false;
}

static void read_words(const struct child *child, char *words, size_t size)
{
    char *text = calloc(1, WORDS_SIZE);
    size_t used = strlen(words);

    if (text != NULL && pread(child->words_fd, text, WORDS_SIZE - 1, 0) > 0 && used + 4 < size) {
        memcpy(words + used, ": ", 3);
        if (!find_telling_line(text, words + used + 2, size - used - 2)) {
            (void)snprintf(words + used + 2, size - used - 2, "%.*s", (int)strcspn(text, "\n"),
                           text);
        }
    }
    free(text);
}

void child_reap(struct child *child, int *ret_exit_code, char *words, size_t size)
{
    int status = 0;

    while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
    }
    words[0] = '\0';
    *ret_exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    if (WIFSIGNALED(status)) {
        (void)snprintf(words, size, "%s", strsignal(WTERMSIG(status)));
        read_words(child, words, size);
    } else if (*ret_exit_code != 0) {
        (void)snprintf(words, size, "exit status %d", *ret_exit_code);
        read_words(child, words, size);
    }
    (void)close(child->end_fd);
    (void)close(child->words_fd);
    *child = (struct child){ .end_fd = -1, .words_fd = -1 };
}
