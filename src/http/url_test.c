#include "base/bytes.h"
#include "http/url.h"
#include "tests/check.h"
#include "tests/guarded.h"

/* "scheme host port path [userinfo]" of a URL, or its error's message. */
static const char *url_text(const struct url *url, char *text, size_t size)
{
    (void)snprintf(text, size, "%s %s%s%s%s %u %s%s%s", url_scheme_name(url->scheme),
                   url->is_ipv6_literal ? "v6:" : "", url->is_ipv4_literal ? "v4:" : "", url->host,
                   url->has_trailing_dot ? "(.)" : "", url->port, url->path_and_query,
                   url->userinfo != NULL ? " @" : "", url->userinfo != NULL ? url->userinfo : "");
    CHECK_EQ(strlen(url->host), url->host_size);
    CHECK_EQ(strlen(url->path_and_query), url->path_and_query_size);
    CHECK_EQ(url->path_and_query[0], '/');
    return text;
}

struct url_case {
    const char *text, *want;
};

static void check_url(struct guarded *input, const char *text, const char *want)
{
    struct il_error err = { 0 };
    struct url url;
    char got[1024];
    enum il_code code = url_parse(guarded_put(input, text, strlen(text) + 1), &url, &err);

    if (code == IL_OK) {
        CHECK_STR(url_text(&url, got, sizeof(got)), want);
        url_deinit(&url);
    } else {
        CHECK_EQ(code, IL_EURL);
        CHECK_STR(err.message, want);
    }
}

static void check_urls(const struct url_case *cases, size_t count)
{
    struct guarded input = guarded_new(URL_SIZE_MAX + 16);

    for (size_t i = 0; i < count; i++) {
        check_url(&input, cases[i].text, cases[i].want);
    }
    guarded_free(&input);
}

TEST(urls_are_taken_apart)
{
    static const struct url_case cases[] = {
        { "http://example.com", "http example.com 80 /" },
        { "https://example.com/", "https example.com 443 /" },
        { "HTTP://EXAMPLE.Com:8080/A?b=C", "http example.com 8080 /A?b=C" },
        { "http://a?q", "http a 80 /?q" },
        { "http://a#f", "http a 80 /" },
        { "http://a/b#f?g", "http a 80 /b" },
        { "http://a/b?c?d/e#f#g", "http a 80 /b?c?d/e" },
        { "http://a:/", "http a 80 /" },
        { "http://a:00080/", "http a 80 /" },
        { "http://a:65535", "http a 65535 /" },
        { "http://a./b", "http a(.) 80 /b" },
        { "http://user:pass@a:81/b", "http a 81 /b @user:pass" },
        { "http://@a/", "http a 80 / @" },
        { "http://u%40v:p:q@a/", "http a 80 / @u%40v:p:q" },
        { "http://a/b@c:d/[e]", "http a 80 /b@c:d/[e]" },
        { "http://127.0.0.1:8080/", "http v4:127.0.0.1 8080 /" },
        { "http://127.0.0.1./", "http v4:127.0.0.1(.) 80 /" },
        { "http://[::1]/", "http v6:::1 80 /" },
        { "http://[::1]", "http v6:::1 80 /" },
        { "https://[0:0::0:1]:8443?x", "https v6:::1 8443 /?x" },
        { "http://[2001:DB8::A]/", "http v6:2001:db8::a 80 /" },
        { "http://[::ffff:1.2.3.4]/", "http v6:::ffff:1.2.3.4 80 /" },
        { "http://%65xample%2Ecom/", "http example.com 80 /" },
        { "http://a_b-c.d9/", "http a_b-c.d9 80 /" },
        { "http://9a.b/", "http 9a.b 80 /" },
        { "http://xn--mnchen-3ya.de/", "http xn--mnchen-3ya.de 80 /" },
        { "http://a//b/../c/./d", "http a 80 //b/../c/./d" },
        { "http://a/%zz%", "http a 80 /%zz%" },
        { "http://a/\xc3\xa4?\xff", "http a 80 /%C3%A4?%FF" },
        { "http://a/\\b", "http a 80 /\\b" },
    };

    check_urls(cases, il_array_count(cases));
}

#define NOT "URL is not valid: "

TEST(bad_urls_are_refused_with_what_and_where)
{
    static const struct url_case cases[] = {
        { "", "URL is empty" },
        { "example.com", NOT "it must begin with http:// or https:// (at byte 0)" },
        { "//example.com/", NOT "it must begin with http:// or https:// (at byte 0)" },
        { "localhost:8080", NOT "it must begin with http:// or https:// (at byte 0)" },
        { "ftp://a/", NOT "scheme \"ftp\" is not supported, only http and https are (at byte 0)" },
        { "httpx://a/",
          NOT "scheme \"httpx\" is not supported, only http and https are (at byte 0)" },
        { "javascript:alert(1)", NOT "it must begin with http:// or https:// (at byte 0)" },
        { "http:/a", NOT "\"http\" must be followed by \"://\" (at byte 4)" },
        { "https:a", NOT "\"https\" must be followed by \"://\" (at byte 5)" },
        { " http://a", NOT "a space must be written as %20 (at byte 0)" },
        { "http://", NOT "the host is empty (at byte 7)" },
        { "http:///path", NOT "the host is empty (at byte 7)" },
        { "http://:80/", NOT "the host is empty (at byte 7)" },
        { "http://secret@/", NOT "the host is empty (at byte 14)" },
        { "http://?q", NOT "the host is empty (at byte 7)" },
        { "http://./", NOT "the host has an empty label (at byte 7)" },
        { "http://a..b/", NOT "the host has an empty label (at byte 7)" },
        { "http://.a/", NOT "the host has an empty label (at byte 7)" },
        { "http://a../", NOT "the host has an empty label (at byte 7)" },
        { "http://a:0/", NOT "port 0 cannot be connected to (at byte 9)" },
        { "http://a:65536/", NOT "the port is larger than 65535 (at byte 9)" },
        { "http://a:99999999999999999999/", NOT "the port is larger than 65535 (at byte 9)" },
        { "http://a:8a/", NOT "the port is not a number (at byte 10)" },
        { "http://a:-1/", NOT "the port is not a number (at byte 9)" },
        { "http://a:+1/", NOT "the port is not a number (at byte 9)" },
        { "http://::1/", NOT "the host is empty (at byte 7)" },
        { "http://fe80::1/",
          NOT "a second ':' in the host; an IPv6 address goes in brackets (at byte 12)" },
        { "http://[::1/", NOT "'[' of an IPv6 address has no ']' (at byte 7)" },
        { "http://[]/", NOT "the host is empty (at byte 7)" },
        { "http://[::1]80/", NOT "']' must be followed by ':port' or '/' (at byte 12)" },
        { "http://[::1%25eth0]/",
          NOT "a zone id in an IPv6 address is not supported (at byte 11)" },
        { "http://[::g]/", NOT "what stands in brackets is not an IPv6 address (at byte 8)" },
        { "http://[v1.a]/", NOT "what stands in brackets is not an IPv6 address (at byte 8)" },
        { "http://[1.2.3.4]/", NOT "what stands in brackets is not an IPv6 address (at byte 8)" },
        { "http://[0000000000000000000000000000000000000000000000000001]/",
          NOT "what stands in brackets is not an IPv6 address (at byte 8)" },
        { "http://a b/", NOT "a space must be written as %20 (at byte 8)" },
        { "http://a/b c", NOT "a space must be written as %20 (at byte 10)" },
        { "http://a/#b c", NOT "a space must be written as %20 (at byte 11)" },
        { "http://a/\r\nX: y", NOT "control character 0x0d is not allowed (at byte 9)" },
        { "http://a\t/", NOT "control character 0x09 is not allowed (at byte 8)" },
        { "http://a/\x7f", NOT "control character 0x7f is not allowed (at byte 9)" },
        { "http://a\\@b/", NOT "a backslash is not allowed before the path (at byte 8)" },
        { "http://u@v@b/", NOT "there are two '@' before the host; write %40 (at byte 10)" },
        { "http://a%/", NOT "'%' in the host is not followed by two hex digits (at byte 8)" },
        { "http://a%4/", NOT "'%' in the host is not followed by two hex digits (at byte 8)" },
        { "http://a%zz/", NOT "'%' in the host is not followed by two hex digits (at byte 8)" },
        { "http://a%00b/", NOT "the host must not hold \"\\x00\" (at byte 8)" },
        { "http://a%2fb/", NOT "the host must not hold \"/\" (at byte 8)" },
        { "http://a%20b/", NOT "the host must not hold \" \" (at byte 8)" },
        { "http://a!b/", NOT "the host must not hold \"!\" (at byte 8)" },
        { "http://a%c3%a4/",
          NOT "the host has a character beyond ASCII; write its \"xn--\" form (at byte 8)" },
        { "http://\xc3\xa4/",
          NOT "the host has a character beyond ASCII; write its \"xn--\" form (at byte 7)" },
#define NUMBER NOT "the host ends in a number but is not an IPv4 address like 127.0.0.1 (at byte 7)"
        { "http://127.1/", NUMBER },
        { "http://2130706433/", NUMBER },
        { "http://0x7f000001/", NUMBER },
        { "http://0X7F.1/", NUMBER },
        { "http://127.0.0.01/", NUMBER },
        { "http://256.0.0.1/", NUMBER },
        { "http://1.2.3.4.5/", NUMBER },
        { "http://a.1/", NUMBER },
    };

    check_urls(cases, il_array_count(cases));
}

TEST(too_long_urls_are_refused)
{
    static char text[URL_SIZE_MAX + 2] = "http://a/";
    struct guarded input = guarded_new(URL_SIZE_MAX + 16);
    struct il_error err;
    struct url url;

    memset(text + 9, 'x', URL_SIZE_MAX - 9);
    CHECK_OK(url_parse(guarded_put(&input, text, URL_SIZE_MAX + 1), &url, &err));
    CHECK_EQ(url.path_and_query_size, URL_SIZE_MAX - 8);
    url_deinit(&url);
    text[URL_SIZE_MAX] = 'x';
    CHECK_EQ(url_parse(guarded_put(&input, text, URL_SIZE_MAX + 2), &url, &err), IL_EURL);
    CHECK_STR(err.message, "URL is longer than 65536 bytes");
    guarded_free(&input);
}

TEST(host_lengths_are_what_dns_can_hold)
{
    struct guarded input = guarded_new(1024);
    char text[400] = "http://", label[64], want[512];
    size_t at = 7;

    memset(label, 'a', 63);
    label[63] = '\0';
    for (int i = 0; i < 4; i++) { /* 63.63.63.61 are 253 bytes */
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%.*s%s", i < 3 ? 63 : 61, label,
                               i < 3 ? "." : "");
    }
    (void)snprintf(want, sizeof(want), "http %s 80 /", text + 7);
    check_url(&input, text, want);
    (void)snprintf(want, sizeof(want), "http %s(.) 80 /", text + 7);
    strcat(text, ".");
    check_url(&input, text, want);
    text[at] = 'a';
    check_url(&input, text, NOT "the host is longer than 253 bytes (at byte 7)");
    (void)snprintf(text, sizeof(text), "http://%sa/", label);
    check_url(&input, text, NOT "a label of the host is longer than 63 bytes (at byte 7)");
    (void)snprintf(text, sizeof(text), "http://%s/", label);
    (void)snprintf(want, sizeof(want), "http %s 80 /", label);
    check_url(&input, text, want);
    guarded_free(&input);
}

TEST(errors_show_neither_userinfo_nor_query)
{
    static const char *const secrets[] = {
        "http://secret@secret@a/",    "http://secret:secret@a:x/", "http://secret@a b/?secret",
        "http://secret@[::z]/",       "http://secret@/?secret",    "http://secret@a\\b/",
        "http://a/?secret\x01secret", "secret:secret@host",        "http://secret%@ho st/",
    };

    for (size_t i = 0; i < il_array_count(secrets); i++) {
        struct il_error err;
        struct url url;

        CHECK_EQ(url_parse(secrets[i], &url, &err), IL_EURL);
        CHECK(strstr(err.message, "secret") == NULL);
    }
}

TEST(authority_is_written_as_the_host_header_wants_it)
{
    static const struct url_case cases[] = {
        { "http://A/", "a" },         { "http://a:8080/", "a:8080" },
        { "https://a:80/", "a:80" },  { "https://u:p@a:443/", "a" },
        { "http://[::1]/", "[::1]" }, { "http://[::1]:81/", "[::1]:81" },
        { "http://a.:81/", "a.:81" },
    };

    for (size_t i = 0; i < il_array_count(cases); i++) {
        struct il_error err;
        struct url url;

        CHECK_OK(url_parse(cases[i].text, &url, &err));
        CHECK_STR(url.authority, cases[i].want);
        CHECK_EQ(strlen(url.authority), url.authority_size);
        url_deinit(&url);
    }
}

TEST(each_allocation_can_fail)
{
    struct il_memory_use before, after;
    struct il_error err;
    struct url url;
    uint64_t failures = 0;

    il_memory_use(&before);
    for (;; failures++) {
        enum il_code code;

        il_memory_fail_after(failures);
        code = url_parse("http://u@a/b?c", &url, &err);
        il_memory_fail_after(UINT64_MAX);
        if (code == IL_OK) {
            break;
        }
        CHECK_EQ(code, IL_ENOMEM);
        CHECK_STR(err.message, "out of memory for a URL");
    }
    CHECK_EQ(failures, 1);
    url_deinit(&url);
    il_memory_use(&after);
    CHECK_EQ(after.live_count, before.live_count);
}
