/* explore_child.h: child processes that may crash or never end, and what they said last.
 *
 * Threads: one; the process has no others. */
#ifndef LAB_EXPLORE_CHILD_H
#define LAB_EXPLORE_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct child {
    pid_t pid;    /* 0: there is none */
    int end_fd;   /* at its end when the child has ended */
    int words_fd; /* what it wrote to stderr */
};

/* Start a process that does main(arg) and exits with what that returns. False: the system refused
 * (errno). Ends with child_reap. */
bool child_start(struct child *child, int (*main)(void *arg), void *arg);

/* Wait until it has ended. False: it has not, in so many milliseconds of real time. */
bool child_await(const struct child *child, int timeout_ms);

void child_kill(struct child *child);

/* When end_fd is at its end, or after child_kill: take its status. `words` gets why it died, the
 * most telling line that it wrote, "" if it ended by itself with `exit_code`. */
void child_reap(struct child *child, int *ret_exit_code, char *words, size_t size);

#endif
