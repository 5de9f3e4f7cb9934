/* check.h: the project's test harness.
 *
 *     #include "tests/check.h"
 *
 *     TEST(timer_fires_after_its_deadline_and_not_before)
 *     {
 *         CHECK(...);
 *         CHECK_EQ(actual, expected);
 *     }
 *
 * A test is named for the behaviour it proves. Each runs in a process of its own with a time limit,
 * so a crash or a hang is one failed test and not a lost run. A stuck test is killed with SIGABRT
 * (its stacks go to the core or the sanitizer's report) and reported as stuck. There is no main()
 * to write: link the `check` library. `test-NAME [pattern]` runs the tests whose name contains
 * `pattern`; `--no-fork` runs them in this process, for a debugger. The last line is
 * `N passed, N failed`. */
#ifndef TESTS_CHECK_H
#define TESTS_CHECK_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct check_test {
    const char *name;
    void (*run)(void);
    unsigned timeout_s;
    struct check_test *next;
};

void check_register(struct check_test *test);
__attribute__((noreturn)) void check_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* End this test as skipped (counted apart), with the reason. */
__attribute__((noreturn)) void check_skip(const char *reason);

#define TEST_WITH_TIMEOUT(test_name, seconds)                                                      \
    static void test_name(void);                                                                   \
    static struct check_test check_test_##test_name = { #test_name, test_name, seconds, NULL };    \
    __attribute__((constructor)) static void check_register_##test_name(void)                      \
    {                                                                                              \
        check_register(&check_test_##test_name);                                                   \
    }                                                                                              \
    static void test_name(void)

#define TEST(test_name) TEST_WITH_TIMEOUT(test_name, 60)

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            check_fail(__FILE__, __LINE__, "%s", #condition);                                      \
        }                                                                                          \
    } while (0)

#define CHECK_EQ(actual, expected)                                                                 \
    do {                                                                                           \
        intmax_t check_actual_ = (intmax_t)(actual), check_expected_ = (intmax_t)(expected);       \
        if (check_actual_ != check_expected_) {                                                    \
            check_fail(__FILE__, __LINE__, "%s is %jd, want %s = %jd", #actual, check_actual_,     \
                       #expected, check_expected_);                                                \
        }                                                                                          \
    } while (0)

#define CHECK_STR(actual, expected)                                                                \
    do {                                                                                           \
        const char *check_actual_ = (actual), *check_expected_ = (expected);                       \
        if (check_actual_ == NULL || strcmp(check_actual_, check_expected_) != 0) {                \
            check_fail(__FILE__, __LINE__, "%s is \"%s\", want \"%s\"", #actual,                   \
                       check_actual_ == NULL ? "(null)" : check_actual_, check_expected_);         \
        }                                                                                          \
    } while (0)

#define CHECK_CONTAINS(actual, part)                                                               \
    do {                                                                                           \
        const char *check_actual_ = (actual), *check_part_ = (part);                               \
        if (strstr(check_actual_, check_part_) == NULL) {                                          \
            check_fail(__FILE__, __LINE__, "%s is \"%s\", want it to contain \"%s\"", #actual,     \
                       check_actual_, check_part_);                                                \
        }                                                                                          \
    } while (0)

/* An il_code is IL_OK; needs `struct il_error err` in scope. */
#define CHECK_OK(call)                                                                             \
    do {                                                                                           \
        int check_code_ = (int)(call);                                                             \
        if (check_code_ != 0) {                                                                    \
            check_fail(__FILE__, __LINE__, "%s gave code %d: %s", #call, check_code_,              \
                       err.message);                                                               \
        }                                                                                          \
    } while (0)

#endif
