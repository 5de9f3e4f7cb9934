#include "http/headers.h"
#include "tests/check.h"

/* "name=value name=value" */
static const char *headers_text(const struct il_headers *headers, char *text, size_t size)
{
    const char *name, *value;
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; il_headers_at(headers, i, &name, &value) == IL_OK; i++) {
        used +=
            (size_t)snprintf(text + used, size - used, "%s%s=%s", i > 0 ? " " : "", name, value);
        CHECK(used < size);
    }
    return text;
}

TEST(headers_keep_order_and_are_found_in_any_case)
{
    struct il_headers headers;
    struct il_error err;
    char text[128];
    size_t index = 0;

    headers_init(&headers);
    CHECK_OK(headers_add(&headers, "Set-Cookie", "a", &err));
    CHECK_OK(headers_add(&headers, "Empty", "", &err));
    CHECK_OK(headers_add(&headers, "set-cookie", "b", &err));
    CHECK_STR(headers_text(&headers, text, sizeof(text)), "Set-Cookie=a Empty= set-cookie=b");
    CHECK_STR(il_headers_get(&headers, "SET-COOKIE"), "a");
    CHECK_STR(il_headers_get(&headers, "empty"), "");
    CHECK(il_headers_get(&headers, "set-cooki") == NULL);
    CHECK(il_headers_get(&headers, "") == NULL);
    CHECK_STR(il_headers_get_next(&headers, "set-cookie", &index), "a");
    CHECK_STR(il_headers_get_next(&headers, "set-cookie", &index), "b");
    CHECK(il_headers_get_next(&headers, "set-cookie", &index) == NULL);
    CHECK(il_headers_get_next(&headers, "set-cookie", &index) == NULL);
    CHECK_EQ(il_headers_count(&headers), 3);
    headers_deinit(&headers);
}

TEST(misuse_of_public_functions_is_answered)
{
    struct il_headers headers;
    const char *name = "kept";
    size_t index = 0;

    headers_init(&headers);
    CHECK_EQ(il_headers_at(&headers, 0, &name, NULL), IL_EINVAL);
    CHECK_EQ(il_headers_at(NULL, 0, &name, NULL), IL_EINVAL);
    CHECK_STR(name, "kept");
    CHECK_EQ(il_headers_count(NULL), 0);
    CHECK(il_headers_get(NULL, "a") == NULL);
    CHECK(il_headers_get(&headers, NULL) == NULL);
    CHECK(il_headers_get_next(&headers, "a", NULL) == NULL);
    CHECK(il_headers_get_next(NULL, "a", &index) == NULL);
    headers_deinit(&headers);
}

TEST(headers_that_could_inject_are_refused_and_named)
{
    static const struct {
        const char *name, *value, *message;
    } cases[] = {
        { "", "a", "a header has an empty name" },
        { "A B", "a", "header name \"A B\" is not valid: \" \" at byte 1 is not allowed" },
        { "A:", "a", "header name \"A:\" is not valid: \":\" at byte 1 is not allowed" },
        { "A\r\nB", "a",
          "header name \"A\\r\\nB\" is not valid: \"\\r\" at byte 1 is not allowed" },
        { "\xc3\xa4", "a",
          "header name \"\\xc3\\xa4\" is not valid: \"\\xc3\" at byte 0 is not allowed" },
        { "A", "secret\r\nB: c",
          "value of header \"A\" is not valid: byte 0x0d at byte 6 is not allowed" },
        { "A", "secret\nB: c",
          "value of header \"A\" is not valid: byte 0x0a at byte 6 is not allowed" },
        { "A", "secret\x01",
          "value of header \"A\" is not valid: byte 0x01 at byte 6 is not allowed" },
        { "A", "secret\x7f",
          "value of header \"A\" is not valid: byte 0x7f at byte 6 is not allowed" },
    };
    struct il_headers headers;
    struct il_error err;

    headers_init(&headers);
    for (size_t i = 0; i < il_array_count(cases); i++) {
        CHECK_EQ(headers_add(&headers, cases[i].name, cases[i].value, &err), IL_EREQUEST);
        CHECK_STR(err.message, cases[i].message);
    }
    CHECK_EQ(il_headers_count(&headers), 0);
    CHECK_OK(headers_add(&headers, "!#$%&'*+-.^_`|~09azAZ", "\t !~\x80\xff", &err));
    headers_deinit(&headers);
}

TEST(character_classes_are_those_of_rfc_9110)
{
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        bool is_alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool is_token = is_alnum || (c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL);

        CHECK_EQ(http_is_token_byte((unsigned char)c), is_token);
        CHECK_EQ(http_is_token(&byte, 1), is_token);
        CHECK_EQ(http_is_field_value(&byte, 1), c == '\t' || (c >= ' ' && c != 0x7f));
    }
    CHECK(!http_is_token("", 0));
    CHECK(http_is_field_value("", 0));
    CHECK(!http_equals_ignoring_case("[", 1, "{", 1)); /* 0x20 apart, but no letters */
    CHECK(!http_equals_ignoring_case("@", 1, "`", 1));
}

TEST(tokens_are_found_in_comma_separated_lists)
{
    static const struct {
        const char *list;
        bool has;
    } cases[] = {
        { "close", true },
        { "CLOSE", true },
        { "a, close", true },
        { "a,close,b", true },
        { "a ,\t close\t,", true },
        { ",,close", true },
        { "closed", false },
        { "clos", false },
        { "a close", false },
        { "close b", false },
        { "", false },
        { " , ", false },
        { "close;q=1", false },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        struct il_headers headers;
        struct il_error err;

        headers_init(&headers);
        CHECK_OK(headers_add(&headers, "Connection", "x", &err));
        CHECK_OK(headers_add(&headers, "connection", cases[i].list, &err));
        if (headers_has_token(&headers, "Connection", "close") != cases[i].has) {
            check_fail(__FILE__, __LINE__, "'%s'", cases[i].list);
        }
        headers_deinit(&headers);
    }
}

TEST(pieces_make_the_same_header_as_the_whole)
{
    struct il_headers headers;
    char text[64];

    headers_init(&headers);
    CHECK_STR(headers_open_name(&headers), "");
    CHECK(headers_append_name(&headers, "Na", 2) == IL_OK);
    CHECK_STR(headers_open_name(&headers), "Na");
    CHECK(headers_append_name(&headers, "me", 2) == IL_OK);
    CHECK(headers_append_value(&headers, "", 0) == IL_OK);
    CHECK(headers_append_value(&headers, "a ", 2) == IL_OK);
    CHECK_STR(headers_open_name(&headers), "Name");
    CHECK(headers_is_in_value(&headers));
    CHECK(headers_append_value(&headers, "b \t", 3) == IL_OK);
    CHECK(headers_commit(&headers) == IL_OK);
    CHECK(headers_append_name(&headers, "B", 1) == IL_OK);
    CHECK(headers_commit(&headers) == IL_OK);
    CHECK_STR(headers_text(&headers, text, sizeof(text)), "Name=a b B=");
    headers_deinit(&headers);
}

TEST(copy_and_swap_give_independent_lists)
{
    struct il_headers a, b;
    struct il_error err;
    char text[64];

    headers_init(&a);
    headers_init(&b);
    CHECK_OK(headers_add(&a, "A", "1", &err));
    CHECK_OK(headers_add(&b, "B", "2", &err));
    CHECK(headers_copy(&b, &a) == IL_OK);
    CHECK_OK(headers_add(&b, "C", "3", &err));
    CHECK_STR(headers_text(&a, text, sizeof(text)), "A=1");
    CHECK_STR(headers_text(&b, text, sizeof(text)), "A=1 C=3");
    headers_swap(&a, &b);
    CHECK_STR(headers_text(&a, text, sizeof(text)), "A=1 C=3");
    headers_reset(&b);
    CHECK(headers_copy(&a, &b) == IL_OK);
    CHECK_EQ(il_headers_count(&a), 0);
    headers_deinit(&a);
    headers_deinit(&b);
}

TEST(list_is_full_at_its_limits)
{
    static char value[HEADERS_SIZE_MAX];
    struct il_headers headers;
    struct il_error err;

    headers_init(&headers);
    for (int i = 0; i < HEADERS_COUNT_MAX; i++) {
        CHECK_OK(headers_add(&headers, "A", "1", &err));
    }
    CHECK_EQ(headers_add(&headers, "B", "1", &err), IL_ELIMIT);
    CHECK_STR(err.message, "no room for header \"B\": at most 10000 headers and 1048576 bytes are "
                           "allowed");
    headers_reset(&headers);
    memset(value, 'x', sizeof(value) - 4);
    CHECK_OK(headers_add(&headers, "A", value, &err)); /* with both ends one byte less than full */
    CHECK_EQ(headers_add(&headers, "B", "", &err), IL_ELIMIT);
    headers_deinit(&headers);
}

TEST(each_allocation_can_fail_and_the_list_stays_as_it_was)
{
    struct il_memory_use before, after;
    uint64_t failures = 0;
    struct il_error err;

    il_memory_use(&before);
    for (;; failures++) {
        struct il_headers headers, copy;
        enum il_code code = IL_OK;
        size_t count = 0;

        headers_init(&headers);
        headers_init(&copy);
        il_memory_fail_after(failures);
        while (count < 200 && code == IL_OK) {
            code = headers_add(&headers, "Some-Header", "some value of it", &err);
            count += code == IL_OK;
        }
        CHECK_EQ(il_headers_count(&headers), count);
        if (code == IL_OK) {
            code = headers_copy(&copy, &headers);
            CHECK_EQ(il_headers_count(&copy), code == IL_OK ? count : 0);
        }
        il_memory_fail_after(UINT64_MAX);
        headers_deinit(&headers);
        headers_deinit(&copy);
        if (code == IL_OK) {
            break;
        }
        CHECK_EQ(code, IL_ENOMEM);
    }
    CHECK(failures >= 6);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
}
