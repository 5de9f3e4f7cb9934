/* check.c: runs registered tests, each in a process of its own. Single-threaded. */
#include "tests/check.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHECK_EXIT_FAILED = 70, CHECK_EXIT_SKIPPED = 77 };

static struct check_test *check_tests;
static struct check_test **check_tests_end = &check_tests;

void check_register(struct check_test *test)
{
    *check_tests_end = test;
    check_tests_end = &test->next;
}

void check_fail(const char *file, int line, const char *format, ...)
{
    va_list args;

    fprintf(stderr, "%s:%d: ", file, line);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    fflush(NULL);
    _exit(CHECK_EXIT_FAILED);
}

void check_skip(const char *reason)
{
    fprintf(stderr, "skipped: %s\n", reason);
    fflush(NULL);
    _exit(CHECK_EXIT_SKIPPED);
}

static void check_run_in_child(const struct check_test *test)
{
    test->run();
    fflush(NULL);
    exit(0); /* runs the leak checker where there is one */
}

/* Wait for `pid` until the test's time is up; then stop it where it stands. Returns the status. */
static int check_wait(pid_t pid, unsigned timeout_s, bool *ret_stuck)
{
    struct timespec timeout = { .tv_sec = timeout_s };
    sigset_t child;
    int status;

    *ret_stuck = false;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (sigtimedwait(&child, NULL, &timeout) < 0 && errno == EAGAIN) {
            *ret_stuck = true;
            kill(pid, SIGABRT);
            timeout.tv_sec = 5;
            if (sigtimedwait(&child, NULL, &timeout) < 0) {
                kill(pid, SIGKILL);
            }
            waitpid(pid, &status, 0);
            break;
        }
    }
    return status;
}

static int check_run_one(const struct check_test *test)
{
    bool is_stuck;
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    if (pid < 0) {
        perror("fork");
        return CHECK_EXIT_FAILED;
    }
    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        check_run_in_child(test);
    }
    status = check_wait(pid, test->timeout_s, &is_stuck);
    if (is_stuck) {
        fprintf(stderr, "stuck: still running after %u s\n", test->timeout_s);
        return CHECK_EXIT_FAILED;
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "killed by signal %d (%s)\n", WTERMSIG(status),
                strsignal(WTERMSIG(status)));
        return CHECK_EXIT_FAILED;
    }
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    unsigned passed = 0, failed = 0, skipped = 0;
    const char *pattern = NULL;
    bool is_forking = true;
    sigset_t child;

    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--no-fork") == 0) {
            is_forking = false;
        } else {
            pattern = argv[i];
        }
    }
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    for (const struct check_test *test = check_tests; test != NULL; test = test->next) {
        int code = 0;

        if (pattern != NULL && strstr(test->name, pattern) == NULL) {
            continue;
        }
        if (is_forking) {
            code = check_run_one(test);
        } else {
            test->run();
        }
        printf("%s %s\n",
               code == 0                    ? "ok     "
               : code == CHECK_EXIT_SKIPPED ? "skipped"
                                            : "FAILED ",
               test->name);
        passed += code == 0;
        skipped += code == CHECK_EXIT_SKIPPED;
        failed += code != 0 && code != CHECK_EXIT_SKIPPED;
    }
    if (skipped > 0) {
        printf("%u passed, %u failed, %u skipped\n", passed, failed, skipped);
    } else {
        printf("%u passed, %u failed\n", passed, failed);
    }
    return failed > 0 ? 1 : 0;
}
