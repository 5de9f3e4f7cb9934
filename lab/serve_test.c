/* serve_test.c: `interloop serve` as a process: what it prints, serves, and exits with. */
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

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
    char *argv[16] = { (char *)"serve" };
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
    CHECK_CONTAINS(text, "Usage: interloop serve");
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
        { { "--colour" }, "unknown option '--colour'; `interloop serve --help` lists" },
        { { "-x" }, "unknown option '-x'" },
        { { "--port" }, "a value is missing after '--port'" },
        { { "--port", "65536" }, "--port is '65536', want at most 65535" },
        { { "--port", "http" }, "--port is 'http', want a number from 0 to 65535" },
        { { "--port", "" }, "--port is '', want a number" },
        { { "--delay", "-1" }, "--delay is '-1'" },
        { { "8080" }, "'8080' is not an option, and it takes nothing else" },
        { { "--address", "localhost" }, "'localhost' is not a numeric IPv4 or IPv6 address" },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        CHECK_EQ(run_all(cases[i].words, text, sizeof(text)), 2);
        CHECK_CONTAINS(text, "interloop serve: ");
        CHECK_CONTAINS(text, cases[i].says);
    }
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
    CHECK(close(fd) == 0);
}
