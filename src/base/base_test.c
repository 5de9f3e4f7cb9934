#include <errno.h>

#include "base/base.h"
#include "tests/check.h"

TEST(error_names_the_code_the_system_error_and_what_was_attempted)
{
    struct il_error err;

    errno = EMFILE;
    CHECK_EQ(il_fail(&err, IL_ESYS, "create epoll for loop '%s'", "a"), IL_ESYS);
    CHECK_EQ(err.sys_errno, EMFILE);
    CHECK_STR(err.message, "create epoll for loop 'a': Too many open files");
    CHECK_STR(il_code_name(err.code), "IL_ESYS");
}

TEST(timeout_error_carries_phase_and_limit)
{
    struct il_error err;

    CHECK_EQ(il_fail_timeout(&err, IL_PHASE_CONNECT, 1500, "waited for %s", "x"), IL_ETIMEDOUT);
    CHECK_EQ(err.phase, IL_PHASE_CONNECT);
    CHECK_EQ(err.limit_ms, 1500);
    CHECK_STR(il_phase_name(err.phase), "connect");
}

TEST(unknown_code_has_a_name_and_a_text)
{
    CHECK_STR(il_code_name((enum il_code)9999), "IL_E?");
    CHECK_STR(il_code_text((enum il_code)9999), "unknown error");
}

TEST(list_keeps_order_and_unlinking_twice_is_nothing)
{
    struct il_list list = IL_LIST_INIT(list), a, b;

    il_list_init(&a);
    il_list_init(&b);
    il_list_push_back(&list, &b);
    il_list_push_front(&list, &a);
    CHECK(list.next == &a && list.prev == &b);
    il_list_unlink(&a);
    il_list_unlink(&a);
    CHECK(il_list_pop_front(&list) == &b);
    CHECK(il_list_pop_front(&list) == NULL);
}

TEST(memory_counters_return_to_where_they_were)
{
    struct il_memory_use before, after;
    char *text;

    il_memory_use(&before);
    text = il_strdup("abc");
    text = il_realloc(text, 4096);
    il_free(text);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
    CHECK_EQ(after.live_bytes, before.live_bytes);
    CHECK_EQ(after.allocation_count, before.allocation_count + 2);
}

TEST(allocation_fails_when_told_to)
{
    void *first;

    il_memory_fail_after(1);
    first = il_malloc(1);
    CHECK(first != NULL);
    CHECK(il_malloc(1) == NULL);
    il_memory_fail_after(UINT64_MAX);
    il_free(first);
}
