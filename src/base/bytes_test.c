#include "base/bytes.h"
#include "tests/check.h"

TEST(bytes_come_out_in_the_order_they_went_in)
{
    struct il_bytes bytes;
    uint8_t in = 0, out = 0;

    il_bytes_init(&bytes);
    CHECK_EQ(il_bytes_size(&bytes), 0);
    CHECK(il_bytes_data(&bytes) == NULL && il_bytes_tail(&bytes) == NULL);
    CHECK(il_bytes_append(&bytes, NULL, 0) == IL_OK);
    for (int n = 0; n < 10000; n++) { /* goes in faster than it comes out, then empties */
        for (int i = 0; i < n % 7 && n < 5000; i++) {
            CHECK(il_bytes_append(&bytes, &in, 1) == IL_OK);
            in++;
        }
        for (int i = 0; i < 3 && il_bytes_size(&bytes) > 0; i++) {
            CHECK_EQ((uint8_t)il_bytes_data(&bytes)[0], out);
            il_bytes_consume(&bytes, 1);
            out++;
        }
    }
    CHECK_EQ(il_bytes_size(&bytes), 0);
    CHECK_EQ(in, out);
    il_bytes_deinit(&bytes);
}

TEST(bytes_buffer_that_is_emptied_stops_allocating)
{
    struct il_memory_use before, after;
    struct il_bytes bytes;
    char data[300] = { 0 };

    il_bytes_init(&bytes);
    for (int n = 0; n < 1000; n++) {
        if (n == 10) {
            il_memory_use(&before);
        }
        CHECK(il_bytes_append(&bytes, data, sizeof(data)) == IL_OK);
        il_bytes_consume(&bytes, n % 2 == 0 ? 250 : il_bytes_size(&bytes));
    }
    il_memory_use(&after);
    CHECK_EQ(after.allocation_count, before.allocation_count);
    il_bytes_deinit(&bytes);
}

TEST(bytes_reserve_that_fails_changes_nothing)
{
    struct il_bytes bytes;

    il_bytes_init(&bytes);
    CHECK(il_bytes_append(&bytes, "abc", 3) == IL_OK);
    il_memory_fail_after(0);
    CHECK_EQ(il_bytes_reserve(&bytes, 100000), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    CHECK_EQ(il_bytes_reserve(&bytes, SIZE_MAX), IL_ENOMEM);
    CHECK_EQ(il_bytes_reserve(&bytes, SIZE_MAX / 2), IL_ENOMEM);
    CHECK_EQ(il_bytes_size(&bytes), 3);
    CHECK(memcmp(il_bytes_data(&bytes), "abc", 3) == 0);
    il_bytes_truncate(&bytes, 1);
    CHECK(il_bytes_append(&bytes, "z", 1) == IL_OK);
    CHECK(memcmp(il_bytes_data(&bytes), "az", 2) == 0);
    il_bytes_deinit(&bytes);
}

TEST(escaped_bytes_are_safe_to_print_and_fit)
{
    char text[16], small[8];

    CHECK_STR(il_escape(text, sizeof(text), "a b", 3), "a b");
    CHECK_STR(il_escape(text, sizeof(text), "\r\n\t\"\\", 5), "\\r\\n\\t\\\"\\\\");
    CHECK_STR(il_escape(text, sizeof(text), "\x1b[\x80", 3), "\\x1b[\\x80");
    CHECK_STR(il_escape(text, sizeof(text), "", 0), "");
    CHECK_STR(il_escape(text, sizeof(text), "abcdefghijkl", 12), "abcdefghijkl");
    CHECK_STR(il_escape(text, sizeof(text), "abcdefghijklm", 13), "abcdefghijkl...");
    CHECK_STR(il_escape(small, sizeof(small), "\xff\xff", 2), "\\xff...");
}

TEST(decimal_numbers_are_written_whole)
{
    static const struct {
        uint64_t value;
        const char *want;
    } cases[] = {
        { 0, "0" },
        { 9, "9" },
        { 10, "10" },
        { 65535, "65535" },
        { UINT64_MAX, "18446744073709551615" },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        char text[IL_DECIMAL_SIZE_MAX + 1];

        text[il_decimal(text, cases[i].value)] = '\0';
        CHECK_STR(text, cases[i].want);
    }
}
