/* uv_peer.c: real libcurl on real libuv, hung in the ways the doctor must name, and healthy twins.
 *
 * usage: doctor-peer-uv CASE PORT. Prints "ready PID" when the scene stands. One loop and one
 * curl_multi handle, driven by sockets and one timer, as libcurl's documentation says. */
#include <curl/curl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

static uv_loop_t *loop;
static CURLM *multi;
static uv_timer_t timer;
static char url[64];
static unsigned finished_count;
static bool asks_again;
static unsigned pause_ms; /* of blocking code after each transfer */

static void ready(void)
{
    printf("ready %d\n", getpid());
    fflush(stdout);
}

__attribute__((noinline)) static void stand_elsewhere(void)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

    pthread_mutex_lock(&mutex);
    for (;;) {
        pthread_cond_wait(&never, &mutex);
    }
}

__attribute__((noinline)) static void user_code_blocks(unsigned ms)
{
    struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&pause, NULL);
    __asm__ volatile(""); /* no tail call: the name is looked for on the stack */
}

static size_t discard(char *bytes, size_t size, size_t count, void *arg)
{
    (void)bytes;
    (void)arg;
    return size * count;
}

static CURL *ask(void)
{
    CURL *easy = curl_easy_init();

    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
    curl_multi_add_handle(multi, easy);
    return easy;
}

static void take_finished(void)
{
    CURLMsg *message;
    int left;

    while ((message = curl_multi_info_read(multi, &left)) != NULL) {
        CURL *easy = message->easy_handle;

        curl_multi_remove_handle(multi, easy);
        curl_easy_cleanup(easy);
        finished_count++;
        if (asks_again) {
            ask();
        }
        if (pause_ms > 0) {
            user_code_blocks(pause_ms);
        }
    }
}

/* ---- libcurl on libuv ---- */

struct watch {
    uv_poll_t poll;
    curl_socket_t socket;
};

static void on_socket(uv_poll_t *poll, int status, int events)
{
    struct watch *watch = (struct watch *)poll;
    int flags = (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0) | (status < 0 ? CURL_CSELECT_ERR : 0);
    int running;

    curl_multi_socket_action(multi, watch->socket, flags, &running);
    take_finished();
}

static void on_watch_closed(uv_handle_t *handle)
{
    free(handle);
}

static int change_watch(CURL *easy, curl_socket_t socket, int what, void *arg, void *data)
{
    struct watch *watch = data;

    (void)easy;
    (void)arg;
    if (what == CURL_POLL_REMOVE) {
        if (watch != NULL) {
            uv_poll_stop(&watch->poll);
            uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
            curl_multi_assign(multi, socket, NULL);
        }
        return 0;
    }
    if (watch == NULL) {
        watch = calloc(1, sizeof(*watch));
        watch->socket = socket;
        uv_poll_init_socket(loop, &watch->poll, socket);
        curl_multi_assign(multi, socket, watch);
    }
    uv_poll_start(&watch->poll,
                  (what & CURL_POLL_IN ? UV_READABLE : 0) |
                      (what & CURL_POLL_OUT ? UV_WRITABLE : 0),
                  on_socket);
    return 0;
}

static void on_timer(uv_timer_t *handle)
{
    int running;

    (void)handle;
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_finished();
}

static int change_timer(CURLM *handle, long timeout_ms, void *arg)
{
    (void)handle;
    (void)arg;
    if (timeout_ms < 0) {
        uv_timer_stop(&timer);
    } else {
        uv_timer_start(&timer, on_timer, (uint64_t)(timeout_ms == 0 ? 1 : timeout_ms), 0);
    }
    return 0;
}

/* ---- scenes ---- */

static void on_keep_alive(uv_timer_t *handle)
{
    (void)handle; /* only there so that uv_run does not return for want of handles */
}

static void run_for_ever(void)
{
    static uv_timer_t keep_alive;

    uv_timer_init(loop, &keep_alive);
    uv_timer_start(&keep_alive, on_keep_alive, 3600000, 3600000);
    uv_run(loop, UV_RUN_DEFAULT);
}

static void finish_one(void)
{
    unsigned before = finished_count;

    ask();
    while (finished_count == before) {
        uv_run(loop, UV_RUN_ONCE);
    }
}

/* The request goes out, then the thread leaves the loop for good. The server takes its time. */
static void parked(void)
{
    long sent = 0;
    CURL *easy;

    finish_one();
    easy = ask();
    while (curl_easy_getinfo(easy, CURLINFO_REQUEST_SIZE, &sent) == CURLE_OK && sent == 0) {
        uv_run(loop, UV_RUN_ONCE);
    }
    user_code_blocks(500);
    ready();
    stand_elsewhere();
}

static void on_ready_timer(uv_timer_t *handle)
{
    (void)handle;
    ready();
}

static void ready_after(unsigned ms)
{
    static uv_timer_t once;

    uv_timer_init(loop, &once);
    uv_timer_start(&once, on_ready_timer, ms, 0);
}

static void parked_ok(void)
{
    finish_one();
    ready_after(50);
    ask();
    run_for_ever();
}

static void on_block(uv_timer_t *handle)
{
    (void)handle;
    ask();
    curl_multi_socket_action(multi, CURL_SOCKET_TIMEOUT, 0, &(int){ 0 });
    user_code_blocks(500); /* the answer comes meanwhile */
    ready();
    user_code_blocks(3600000);
}

/* A transfer is out on a warm connection, and a callback blocks. */
static void blocked(void)
{
    static uv_timer_t block;

    finish_one();
    uv_timer_init(loop, &block);
    uv_timer_start(&block, on_block, 20, 0);
    run_for_ever();
}

static void blocked_ok(void)
{
    pause_ms = 50;
    asks_again = true;
    ready_after(50);
    ask();
    run_for_ever();
}

static void one_request(void)
{
    ready_after(200);
    ask();
    run_for_ever();
}

static void busy(void)
{
    asks_again = true;
    ready_after(100);
    for (int i = 0; i < 4; i++) {
        ask();
    }
    run_for_ever();
}

static void idle(void)
{
    finish_one();
    finish_one();
    ready_after(200);
    run_for_ever();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = {
        { "parked", parked },
        { "parked-ok", parked_ok },
        { "blocked", blocked },
        { "blocked-ok", blocked_ok },
        { "one-request", one_request },
        { "busy", busy },
        { "idle", idle },
    };

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    curl_global_init(CURL_GLOBAL_ALL);
    loop = uv_default_loop();
    multi = curl_multi_init();
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, change_watch);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, change_timer);
    uv_timer_init(loop, &timer);
    for (size_t i = 0; argc == 3 && i < sizeof(cases) / sizeof(cases[0]); i++) {
        if (strcmp(cases[i].name, argv[1]) == 0) {
            snprintf(url, sizeof(url), "http://127.0.0.1:%s/", argv[2]);
            cases[i].run();
        }
    }
    fprintf(stderr, "usage: doctor-peer-uv CASE PORT\n");
    return 2;
}
