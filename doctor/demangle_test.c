/* demangle_test.c: symbol names as people write them. */
#include "doctor/demangle.h"
#include "tests/check.h"

static const char *readable(const char *symbol)
{
    static char name[160];

    demangle(symbol, name, sizeof(name));
    return name;
}

TEST(legacy_rust_names_lose_their_hash)
{
    CHECK_STR(readable("_ZN5tokio7runtime4park5Inner4park17h0123456789abcdefE"),
              "tokio::runtime::park::Inner::park");
}

TEST(legacy_rust_escapes_become_punctuation)
{
    CHECK_STR(readable("_ZN52_$LT$a..B$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE"),
              "_ZN52_$LT$a..B$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE");
    CHECK_STR(readable("_ZN41_$LT$a..B$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE"),
              "<a::B as core::fmt::Debug>::fmt");
}

TEST(legacy_rust_names_keep_what_follows_the_linker_suffix_away)
{
    CHECK_STR(readable("_ZN3foo3bar17h0123456789abcdefE.llvm.123"), "foo::bar");
}

TEST(v0_rust_paths_are_read)
{
    CHECK_STR(readable("_RNvNtCs1234_7mycrate3foo3bar"), "mycrate::foo::bar");
    CHECK_STR(readable("_RNvMs_NtCs1_5tokio6workerNtB4_7Context8run_task"),
              "tokio::worker::Context::run_task");
    CHECK_STR(readable("_RNCNvCs1_1a1b0"), "a::b::{closure}");
    CHECK_STR(readable("_RINvCs1_1a1bmRhE"), "a::b<u32, &u8>");
}

TEST(v0_back_references_that_point_forward_or_in_circles_are_refused)
{
    CHECK_STR(readable("_RB_"), "_RB_");
    CHECK_STR(readable("_RNvB9_3foo"), "_RNvB9_3foo");
    CHECK_STR(readable("_RNvNvB_3foo3bar"), "_RNvNvB_3foo3bar");
}

TEST(truncated_and_absurd_names_are_shown_as_they_are)
{
    CHECK_STR(readable("_ZN99999999999foo17h0123456789abcdefE"),
              "_ZN99999999999foo17h0123456789abcdefE");
    CHECK_STR(readable("_ZN3fo"), "_ZN3fo");
    CHECK_STR(readable("_R"), "_R");
    CHECK_STR(readable("_RNv"), "_RNv");
    CHECK_STR(readable(""), "");
    CHECK_STR(readable("epoll_wait"), "epoll_wait");
}

TEST(deep_nesting_ends_at_a_limit)
{
    char symbol[3000] = "_R";

    memset(symbol + 2, 'I', sizeof(symbol) - 3);
    CHECK(strncmp(readable(symbol), "_RIII", 5) == 0);
}

TEST(control_bytes_never_reach_the_terminal)
{
    CHECK_STR(readable("a\033[31mb"), "a?[31mb");
}

TEST(long_names_are_cut_at_the_callers_size)
{
    char name[8];

    demangle("_ZN5tokio7runtime4park17h0123456789abcdefE", name, sizeof(name));
    CHECK_STR(name, "tokio::");
}
