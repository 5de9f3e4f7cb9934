/* serve_test.c: `interloop serve` as a process: what it prints, serves, and exits with. */
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "lab/raw_client.h"
#include "lab/serve.h"
#include "tests/check.h"

struct run {
    pid_t pid;
    FILE *out; /* stdout and stderr of it */
};

/* Run serve_main with these words after "serve" in a process of its own. */
static struct run run_start(const char *const *words)
{
    char *argv[16] = { (char *)"interloop serve" };
    struct run run;
    int argc = 1, ends[2];

    while (words[argc - 1] != NULL) {
        argv[argc] = (char *)words[argc - 1];
        argc++;
    }
    CHECK(pipe(ends) == 0);
    fflush(NULL);
    run.pid = fork();
    CHECK(run.pid >= 0);
    if (run.pid == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0); /* a failed test leaves nobody behind */
        CHECK(dup2(ends[1], STDOUT_FILENO) >= 0 && dup2(ends[1], STDERR_FILENO) >= 0);
        (void)close(ends[0]);
        (void)close(ends[1]);
        exit(serve_main(argc, argv));
    }
    (void)close(ends[1]);
    run.out = fdopen(ends[0], "r");
    CHECK(run.out != NULL);
    return run;
}

/* Its exit status; what it still prints goes to `text`. */
static int run_end(struct run *run, char *text, size_t size)
{
    size_t length = fread(text, 1, size - 1, run->out);
    int status;

    text[length] = '\0';
    CHECK(waitpid(run->pid, &status, 0) == run->pid);
    (void)fclose(run->out);
    CHECK(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int run_all(const char *const *words, char *text, size_t size)
{
    struct run run = run_start(words);

    return run_end(&run, text, size);
}

static char text[65536];
static struct raw_answer answer;

TEST(serve_prints_where_it_listens_serves_and_ends_on_sigterm)
{
    struct run run = run_start((const char *const[]){ "--port", "0", NULL });
    unsigned port;

    CHECK(fgets(text, sizeof(text), run.out) != NULL);
    CHECK(sscanf(text, "listening on http://127.0.0.1:%u/", &port) == 1);
    CHECK(port > 0);
    CHECK(kill(run.pid, SIGTERM) == 0);
    CHECK_EQ(run_end(&run, text, sizeof(text)), 0);
    CHECK_CONTAINS(text, "  /bytes/N ");
    CHECK_CONTAINS(text, "Ctrl-C ends it.");
    CHECK_CONTAINS(text, "ended by SIGTERM after 0 connections and 0 requests");
}

TEST(serve_ends_on_sigint_with_requests_under_way)
{
    struct run run =
        run_start((const char *const[]){ "-p", "0", "-a", "127.0.0.1", "--json", NULL });
    struct raw *raw, *held;
    unsigned port;

    CHECK(fgets(text, sizeof(text), run.out) != NULL);
    CHECK(sscanf(text,
                 "{\"listening\": true, \"address\": \"127.0.0.1\", \"port\": %u, "
                 "\"url\": \"http://127.0.0.1:",
                 &port) == 1);
    CHECK_CONTAINS(text, "{\"path\": \"/hold/NAME\", \"query\": \"\", \"does\": \"");
    held = raw_open_port((uint16_t)port);
    raw_send(held, "GET /hold/a HTTP/1.1\r\n\r\n");
    raw = raw_open_port((uint16_t)port);
    raw_get(raw, "/hello", &answer);
    CHECK_EQ(answer.status, 200);
    CHECK(kill(run.pid, SIGINT) == 0);
    CHECK_EQ(run_end(&run, text, sizeof(text)), 0);
    CHECK_STR(text, ""); /* for machines: the one line alone */
    CHECK_EQ(raw_read_to_end(held), RAW_FIN);
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(held);
    raw_close(raw);
}

TEST(serve_help_explains_options_and_paths)
{
    CHECK_EQ(run_all((const char *const[]){ "--help", NULL }, text, sizeof(text)), 0);
    CHECK_CONTAINS(text, "usage: interloop serve");
    CHECK_CONTAINS(text, "--idle-timeout MS");
    CHECK_CONTAINS(text, "  /slow-read ");
    CHECK_CONTAINS(text, "With every path:");
}

TEST(serve_explains_wrong_usage)
{
    static const struct {
        const char *words[4];
        const char *says;
    } cases[] = {
        { { "--colour" }, "unrecognized option '--colour'" },
        { { "-x" }, "invalid option -- 'x'" },
        { { "--port" }, "option '--port' requires an argument" },
        { { "--port", "65536" }, "--port is '65536', want at most 65535" },
        { { "--port", "http" }, "--port is 'http', want a number from 0 to 65535" },
        { { "--port", "" }, "--port is '', want a number" },
        { { "--delay", "-1" }, "--delay is '-1'" },
        { { "8080" }, "'8080' is one word too many" },
        { { "--address", "localhost" }, "'localhost' is not a numeric IPv4 or IPv6 address" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_EQ(run_all(cases[i].words, text, sizeof(text)), 2);
        CHECK_CONTAINS(text, "interloop serve: ");
        CHECK_CONTAINS(text, cases[i].says);
    }
}

/* Start with these words before "--json --port 0"; returns the port. */
static struct run run_serving(const char *const *words, uint16_t *ret_port)
{
    const char *all[16] = { NULL };
    const char *at;
    struct run run;
    size_t count = 0;

    while (words[count] != NULL) {
        all[count] = words[count];
        count++;
    }
    memcpy(all + count, (const char *const[]){ "--json", "--port", "0" }, 3 * sizeof(*all));
    run = run_start(all);
    CHECK(fgets(text, sizeof(text), run.out) != NULL);
    at = strstr(text, "\"port\": ");
    CHECK(at != NULL);
    *ret_port = (uint16_t)atoi(at + 8);
    return run;
}

static void run_stop(struct run *run)
{
    CHECK(kill(run->pid, SIGTERM) == 0);
    CHECK_EQ(run_end(run, text, sizeof(text)), 0);
}

TEST(serve_takes_each_option_to_heart)
{
    uint16_t port;
    struct run run = run_serving(
        (const char *const[]){ "--http10", "--requests", "1", "--delay", "20", NULL }, &port);
    struct raw *raw = raw_open_port(port), *second;
    uint64_t earliest_ns = lab_in_ms(20);

    raw_send(raw, "GET /hello HTTP/1.1\r\nConnection: keep-alive\r\n\r\n");
    raw_read_answer(raw, false, &answer);
    CHECK(lab_in_ms(0) >= earliest_ns);
    CHECK_CONTAINS(answer.head, "HTTP/1.0 200 OK\r\n");
    CHECK_CONTAINS(answer.head, "Connection: close\r\n");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    run_stop(&run);

    run = run_serving((const char *const[]){ "--connections", "1", "--idle-timeout", "20", NULL },
                      &port);
    raw = raw_open_port(port);
    raw_get(raw, "/hello", &answer);
    second = raw_open_port(port);
    raw_get(second, "/counters", &answer); /* served only after the first has idled too long */
    CHECK_CONTAINS(answer.body, "{\"accepted\": 2, \"open\": 1, ");
    CHECK_EQ(raw_read_to_end(raw), RAW_FIN);
    raw_close(raw);
    raw_close(second);
    run_stop(&run);
}

/* Ask for /counters until they contain `want`. */
static void wait_for_counters(struct raw *raw, const char *want)
{
    uint64_t deadline_ns = raw_soon();

    do {
        raw_get(raw, "/counters", &answer);
        CHECK(lab_in_ms(0) < deadline_ns);
    } while (strstr(answer.body, want) == NULL);
}

TEST(serve_queues_requests_but_not_those_that_control_it)
{
    uint16_t port;
    struct run run = run_serving((const char *const[]){ "--answering", "1", NULL }, &port);
    struct raw *raws[3];

    for (unsigned i = 0; i < 3; i++) {
        raws[i] = raw_open_port(port);
    }
    raw_send(raws[0], "GET /hold/a HTTP/1.1\r\n\r\n");
    wait_for_counters(raws[2], "\"held\": 1, \"queued\": 0, ");
    raw_send(raws[1], "GET /hello HTTP/1.1\r\n\r\n");
    wait_for_counters(raws[2], "\"held\": 1, \"queued\": 1, ");
    raw_get(raws[2], "/release/a", &answer);
    raw_read_answer(raws[0], false, &answer);
    CHECK_STR(answer.body, "released\n");
    raw_read_answer(raws[1], false, &answer);
    CHECK_STR(answer.body, "hello\n");
    for (unsigned i = 0; i < 3; i++) {
        raw_close(raws[i]);
    }
    run_stop(&run);
}

TEST(serve_fails_when_it_cannot_say_where_it_listens)
{
    pid_t pid;
    int status;

    fflush(NULL);
    pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        CHECK(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
        CHECK(freopen("/dev/full", "w", stdout) != NULL);
        _exit(serve_main(1, (char *[]){ (char *)"serve", NULL }));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 3);
}

TEST(serve_says_when_there_is_no_memory)
{
    for (uint64_t after = 0; after < 3; after++) {
        il_memory_fail_after(after);
        CHECK_EQ(run_all((const char *const[]){ NULL }, text, sizeof(text)), 3);
        CHECK_CONTAINS(text, "interloop serve: out of memory");
    }
    il_memory_fail_after(UINT64_MAX);
}

/* The files of the server that has the port are not replaced. */
static void check_files_kept(const char *port)
{
    char path[] = "/tmp/serve_test.XXXXXX";
    const char *words[] = {
        "--tls", "--port", port, "--ca-file", path, "--client-file", path, NULL
    };
    int fd = mkstemp(path);

    CHECK(fd >= 0);
    CHECK(write(fd, "kept", 4) == 4);
    CHECK_EQ(run_all(words, text, sizeof(text)), 3);
    CHECK(pread(fd, text, sizeof(text), 0) == 4);
    CHECK(memcmp(text, "kept", 4) == 0);
    CHECK(close(fd) == 0);
    CHECK(unlink(path) == 0);
}

/* The port is taken by a plain socket: a process with threads, such as a lab server's, is not to be
 * forked under a sanitizer, whose allocator may be locked at that moment. */
TEST(serve_says_when_the_port_is_taken)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char port[16];

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(fd >= 0);
    CHECK(bind(fd, (struct sockaddr *)&address, size) == 0);
    CHECK(listen(fd, 1) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    (void)snprintf(port, sizeof(port), "%u", ntohs(address.sin_port));
    CHECK_EQ(run_all((const char *const[]){ "--port", port, NULL }, text, sizeof(text)), 3);
    CHECK_CONTAINS(text, "Address already in use; choose another --address or --port");
    check_files_kept(port);
    CHECK(close(fd) == 0);
}

TEST(serve_says_when_a_certificate_cannot_be_written)
{
    static const char *const options[] = { "--ca-file", "--client-file" };

    for (size_t i = 0; i < il_array_count(options); i++) {
        const char *words[] = { "--tls", options[i], "/dev/null/x", NULL };

        CHECK_EQ(run_all(words, text, sizeof(text)), 3);
        CHECK_STR(text, "interloop serve: cannot write '/dev/null/x': Not a directory\n");
    }
}
