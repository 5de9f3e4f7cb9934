/* hardship_test.c: the client when memory runs out, when descriptors run out, and after fork. The
 * server is a process of its own, so that only the client suffers. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "interloop/client.h"
#include "interloop/watch.h"
#include "lab/server.h"
#include "tests/check.h"

#if defined(__SANITIZE_THREAD__)
#define IS_THREAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define IS_THREAD_SANITIZED 1
#endif
#endif
#ifndef IS_THREAD_SANITIZED
#define IS_THREAD_SANITIZED 0
#endif

static struct il_error err;
static pid_t server_pid;
static char url[64];

static void start_server_process(void)
{
    uint16_t port;
    int ends[2];

    CHECK_EQ(pipe(ends), 0);
    server_pid = fork();
    CHECK(server_pid >= 0);
    if (server_pid == 0) {
        struct lab_server *server;

        (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that dies leaves nobody behind */
        CHECK_OK(lab_server_start(NULL, &server, &err));
        port = lab_server_port(server);
        CHECK_EQ(write(ends[1], &port, sizeof(port)), sizeof(port));
        pause();
        _exit(0);
    }
    CHECK_EQ(read(ends[0], &port, sizeof(port)), sizeof(port));
    close(ends[0]);
    close(ends[1]);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u/id/abc", port);
}

static void stop_server_process(void)
{
    kill(server_pid, SIGKILL);
    waitpid(server_pid, NULL, 0);
}

static enum il_code get(struct il_client *client)
{
    struct il_response *response;
    enum il_code code = il_get(client, url, &response, &err);

    if (code == IL_OK) {
        CHECK_STR(il_response_body(response, NULL), "abc");
        il_response_free(response);
    }
    return code;
}

static enum il_code make_client_and_get(void)
{
    struct il_client *client;
    enum il_code code = il_client_new(NULL, &client, &err);

    if (code == IL_OK) {
        code = get(client);
        il_client_unref(client);
    }
    return code;
}

static void nothing(void *arg)
{
}

static enum il_code make_runtime_and_block_on(enum il_runtime_kind kind)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime;
    enum il_code code;

    options.kind = kind;
    options.worker_count = kind == IL_RUNTIME_MULTI_THREAD;
    code = il_runtime_new(&options, &runtime, &err);
    if (code == IL_OK) {
        code = il_block_on(runtime, nothing, NULL, &err);
        il_runtime_drop(runtime);
    }
    return code;
}

TEST(whichever_allocation_fails_a_request_says_so_and_the_next_one_works)
{
    uint64_t failed = 0;
    enum il_code code;

    start_server_process();
    do {
        il_memory_fail_after(failed++);
        code = make_client_and_get();
        il_memory_fail_after(UINT64_MAX);
        CHECK(code == IL_OK || code == IL_ENOMEM);
        CHECK_EQ(make_client_and_get(), IL_OK);
    } while (code != IL_OK);
    CHECK(failed > 10); /* so many allocations were there to fail */
    stop_server_process();
}

/* Over HTTP/2, where head and body come on their own. */
static enum il_code stream_over_http2(void)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_client *client = NULL;
    struct il_request *request = NULL;
    struct il_response *response = NULL;
    enum il_code code;
    size_t size = 1;
    char buffer[16];

    options.http_version = IL_HTTP_2_PRIOR_KNOWLEDGE;
    code = il_client_new(&options, &client, &err);
    code = code == IL_OK ? il_request_new("GET", url, &request, &err) : code;
    code = code == IL_OK ? il_send_streaming(client, request, &response, &err) : code;
    if (code == IL_OK) {
        CHECK_EQ(il_response_status(response), 200);
        CHECK_EQ(il_response_http_version(response), 20);
    }
    while (code == IL_OK && size > 0) {
        code = il_response_read(response, buffer, sizeof(buffer), &size, &err);
    }
    il_response_free(response);
    il_request_free(request);
    il_client_unref(client);
    return code;
}

TEST(whichever_allocation_fails_a_response_that_is_handed_over_has_a_head)
{
    uint64_t failed = 0;
    enum il_code code;

    start_server_process();
    do {
        il_memory_fail_after(failed++);
        code = stream_over_http2();
        il_memory_fail_after(UINT64_MAX);
        CHECK(code == IL_OK || code == IL_ENOMEM);
        CHECK_EQ(stream_over_http2(), IL_OK);
    } while (code != IL_OK);
    CHECK(failed > 10); /* so many allocations were there to fail */
    stop_server_process();
}

TEST(whichever_allocation_fails_a_runtime_says_so_and_leaves_nothing)
{
    for (int kind = 0; kind < 2; kind++) {
        uint64_t failed = 0;
        enum il_code code;

        do {
            struct il_watch_totals totals;

            il_memory_fail_after(failed++);
            code = make_runtime_and_block_on((enum il_runtime_kind)kind);
            il_memory_fail_after(UINT64_MAX);
            CHECK(code == IL_OK || code == IL_ENOMEM);
            il_watch_totals(&totals);
            CHECK_EQ(totals.runtimes, 0);
            CHECK_EQ(totals.tasks, 0);
        } while (code != IL_OK);
        CHECK(failed > 4);
    }
}

TEST(running_out_of_descriptors_is_an_error_that_says_so_and_passes)
{
    struct rlimit limit, none;
    struct il_client *client;
    int lowest;

    start_server_process();
    CHECK_OK(il_client_new(NULL, &client, &err));
    CHECK_EQ(get(client), IL_OK);
    il_client_close_idle(client);
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
    lowest = open("/dev/null", O_RDONLY);
    CHECK(lowest >= 0);
    close(lowest);
    none = limit;
    none.rlim_cur = (rlim_t)lowest;
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
    CHECK(get(client) != IL_OK);
    CHECK_EQ(err.sys_errno, EMFILE);
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    CHECK_EQ(get(client), IL_OK);
    il_client_unref(client);
    stop_server_process();
}

static struct il_client *forked_client;
static struct il_runtime *forked_runtime;

static void on_done(void *arg, enum il_code code, struct il_response *response,
                    const struct il_error *error)
{
    CHECK(false); /* the call was not started */
}

static void check_call_is_refused(struct il_client *own)
{
    struct il_call_options options = IL_CALL_OPTIONS_INIT;
    struct il_request *request;

    options.runtime = forked_runtime;
    options.on_done = on_done;
    CHECK_OK(il_request_new("GET", url, &request, &err));
    CHECK_EQ(il_call_start(own, request, &options, NULL, &err), IL_EFORK);
    il_request_free(request);
}

static void check_in_child(void)
{
    struct il_client *own;

    CHECK_EQ(get(forked_client), IL_EFORK);
    CHECK_CONTAINS(err.message, "fork");
    CHECK_EQ(il_block_on(forked_runtime, nothing, NULL, &err), IL_EFORK);
    CHECK_EQ(il_spawn(forked_runtime, NULL, nothing, NULL, NULL, &err), IL_EFORK);
    CHECK_EQ(il_runtime_shutdown(forked_runtime, 0, NULL, &err), IL_EFORK);
    CHECK_OK(il_client_new(NULL, &own, &err)); /* starting afresh works */
    CHECK_EQ(get(own), IL_OK);
    check_call_is_refused(own);
    il_client_unref(own);
    if (!IS_THREAD_SANITIZED) { /* which lets no threads start after a fork */
        CHECK_EQ(make_runtime_and_block_on(IL_RUNTIME_MULTI_THREAD), IL_OK);
    }
    _exit(0);
}

TEST(child_of_a_fork_is_told_so_and_can_start_afresh_while_the_parent_goes_on)
{
    pid_t child;
    int status;

    start_server_process();
    CHECK_OK(il_client_new(NULL, &forked_client, &err));
    CHECK_OK(il_runtime_new(NULL, &forked_runtime, &err));
    CHECK_EQ(get(forked_client), IL_OK);
    CHECK_OK(il_block_on(forked_runtime, nothing, NULL, &err));
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_in_child();
    }
    CHECK_EQ(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(WEXITSTATUS(status), 0);
    for (int i = 0; i < 10; i++) {
        CHECK_EQ(get(forked_client), IL_OK);
    }
    CHECK_OK(il_block_on(forked_runtime, nothing, NULL, &err));
    il_client_unref(forked_client);
    il_runtime_drop(forked_runtime);
    stop_server_process();
}
