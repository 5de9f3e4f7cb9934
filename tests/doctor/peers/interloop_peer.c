/* interloop_peer.c: real interloop, hung in the ways the doctor must name, and healthy twins.
 *
 * usage: doctor-peer-interloop CASE PORT. Prints "ready PID" when the scene stands. Built against
 * the shared library, and against the static one without symbols: the doctor must read the names of
 * request, task, runtime and pool out of both. */
#include <interloop/client.h>
#include <interloop/runtime.h>
#include <interloop/watch.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static char url[96];
static struct il_client *client;
static struct il_runtime *page_maker, *frontend;

static void ready(void)
{
    printf("ready %d\n", getpid());
    fflush(stdout);
}

static void must(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        fprintf(stderr, "interloop_peer: %s\n", err->message);
        exit(1);
    }
}

static void stand_elsewhere(void)
{
    for (;;) {
        pause();
    }
}

__attribute__((noinline)) static void user_code_sleeps(void)
{
    struct timespec hour = { 3600, 0 };

    for (;;) {
        nanosleep(&hour, NULL);
    }
}

static void open_scene(enum il_driver driver)
{
    struct il_client_options client_options = IL_CLIENT_OPTIONS_INIT;
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_error err;

    client_options.name = "catalogue";
    client_options.driver = driver;
    client_options.first_byte_timeout_ms = IL_NO_LIMIT;
    client_options.total_timeout_ms = IL_NO_LIMIT;
    must(il_client_new(&client_options, &client, &err), &err);
    options.name = "page-maker";
    options.kind = IL_RUNTIME_CURRENT_THREAD;
    must(il_runtime_new(&options, &page_maker, &err), &err);
    options.name = "frontend";
    options.kind = IL_RUNTIME_MULTI_THREAD;
    options.worker_count = 1;
    must(il_runtime_new(&options, &frontend, &err), &err);
}

/* ---- tasks ---- */

static void fetch(void *arg)
{
    struct il_response *response;
    struct il_error err;

    must(il_get(client, url, &response, &err), &err);
    il_response_free(response);
}

static void fetch_then_block(void *is_blocking)
{
    fetch(NULL);
    *(volatile bool *)is_blocking = true;
    user_code_sleeps();
}

static void fetch_again_and_again(void *arg)
{
    for (;;) {
        fetch(NULL);
        (void)il_sleep_ms(*(const unsigned *)arg);
    }
}

static void drive_page_maker(void)
{
    static unsigned pause_ms = 150;
    struct il_error err;

    must(il_block_on(page_maker, fetch_again_and_again, &pause_ms, &err), &err);
}

/* Start a task whose request does not come back, and wait until it stands. */
static void start_request(const char *task, enum il_phase phase)
{
    struct timespec pause = { 0, 10000000 };
    struct il_watch_request request;
    struct il_error err;
    size_t count;

    must(il_spawn(frontend, task, fetch, NULL, NULL, &err), &err);
    do {
        nanosleep(&pause, NULL);
    } while (il_watch_requests(&request, 1, &count) != IL_OK || count != 1 ||
             request.phase != phase);
}

/* ---- scenes ---- */

static void scene_parked(void)
{
    struct il_error err;

    open_scene(IL_DRIVER_BOUND);
    must(il_block_on(page_maker, fetch, NULL, &err), &err);
    start_request("load page", IL_PHASE_DISPATCH);
    ready();
    stand_elsewhere();
}

static void scene_parked_ok(void)
{
    struct il_error err;

    open_scene(IL_DRIVER_CALLER);
    must(il_block_on(page_maker, fetch, NULL, &err), &err);
    must(il_block_on(frontend, fetch, NULL, &err), &err); /* over the same connection */
    ready();
    stand_elsewhere();
}

static void *block_page_maker(void *is_blocking)
{
    struct il_error err;

    must(il_block_on(page_maker, fetch_then_block, is_blocking, &err), &err);
    return NULL;
}

static void scene_blocked(void)
{
    static volatile bool is_blocking;
    struct timespec pause = { 0, 10000000 };
    pthread_t thread;

    open_scene(IL_DRIVER_BOUND);
    if (pthread_create(&thread, NULL, block_page_maker, (void *)&is_blocking) != 0) {
        exit(1);
    }
    while (!is_blocking) {
        nanosleep(&pause, NULL);
    }
    start_request("load page", IL_PHASE_DISPATCH);
    ready();
    stand_elsewhere();
}

static void scene_blocked_ok(void)
{
    static unsigned pause_ms = 100;
    struct il_error err;

    open_scene(IL_DRIVER_BOUND);
    must(il_spawn(frontend, "load pages", fetch_again_and_again, &pause_ms, NULL, &err), &err);
    ready();
    drive_page_maker();
}

static void scene_one_request(void)
{
    open_scene(IL_DRIVER_CALLER);
    start_request("load page", IL_PHASE_FIRST_BYTE);
    ready();
    stand_elsewhere();
}

static void scene_busy(void)
{
    static unsigned pause_ms = 0;
    struct il_error err;

    open_scene(IL_DRIVER_CALLER);
    for (int i = 0; i < 4; i++) {
        must(il_spawn(frontend, "load pages", fetch_again_and_again, &pause_ms, NULL, &err), &err);
    }
    ready();
    drive_page_maker();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenes[] = {
        { "parked", scene_parked },           { "parked-ok", scene_parked_ok },
        { "blocked", scene_blocked },         { "blocked-ok", scene_blocked_ok },
        { "one-request", scene_one_request }, { "busy", scene_busy },
    };

    if (argc == 3) {
        snprintf(url, sizeof(url), "http://127.0.0.1:%u/pages/7?token=hidden",
                 (unsigned)atoi(argv[2]));
        for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
            if (strcmp(argv[1], scenes[i].name) == 0) {
                prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* where only parents may look */
                scenes[i].run();
            }
        }
    }
    fprintf(stderr, "usage: doctor-peer-interloop CASE PORT\n");
    return 2;
}
