/* soup_peer.c: real libsoup on real GLib main contexts, hung in the ways the doctor must name, and
 * healthy twins.
 *
 * usage: doctor-peer-soup CASE PORT. Prints "ready PID" when the scene stands. A main context polls
 * with poll(), so nothing in the kernel remembers which sockets it watches. */
#include <libsoup/soup.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static char url[64];
static GMainContext *context;
static SoupSession *session;
static unsigned finished_count;
static gboolean asks_again;

static void ready(void)
{
    printf("ready %d\n", getpid());
    fflush(stdout);
}

__attribute__((noinline)) static void user_code_blocks(unsigned ms)
{
    struct timespec pause = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&pause, NULL);
    __asm__ volatile(""); /* no tail call: the name is looked for on the stack */
}

static void stand_elsewhere(void)
{
    static GMutex mutex;
    static GCond never;

    g_mutex_lock(&mutex);
    for (;;) {
        g_cond_wait(&never, &mutex);
    }
}

static void ask(void);

static void on_answer(GObject *source, GAsyncResult *result, gpointer arg)
{
    GBytes *bytes = soup_session_send_and_read_finish(SOUP_SESSION(source), result, NULL);

    finished_count++;
    if (bytes != NULL) {
        g_bytes_unref(bytes);
    }
    if (asks_again) {
        ask();
    }
}

static void ask(void)
{
    SoupMessage *message = soup_message_new("GET", url);

    soup_session_send_and_read_async(session, message, G_PRIORITY_DEFAULT, NULL, on_answer, NULL);
    g_object_unref(message);
}

static void finish_one(void)
{
    unsigned before = finished_count;

    ask();
    while (finished_count == before) {
        g_main_context_iteration(context, TRUE);
    }
}

static void run_for_ever(void)
{
    g_main_loop_run(g_main_loop_new(context, FALSE));
}

static gboolean on_ready(gpointer arg)
{
    ready();
    return G_SOURCE_REMOVE;
}

static void after(unsigned ms, GSourceFunc run)
{
    GSource *source = g_timeout_source_new(ms);

    g_source_set_callback(source, run, NULL, NULL);
    g_source_attach(source, context);
    g_source_unref(source);
}

/* ---- scenes ---- */

/* The request goes out, then the thread leaves the context for good. The server takes its time. */
static void parked(void)
{
    gint64 until;

    finish_one();
    ask();
    until = g_get_monotonic_time() + 100000;
    while (g_get_monotonic_time() < until) {
        g_main_context_iteration(context, FALSE);
        g_usleep(1000);
    }
    user_code_blocks(400);
    ready();
    stand_elsewhere();
}

static gboolean on_posted(gpointer arg)
{
    ask();
    return G_SOURCE_REMOVE;
}

static gpointer post_a_request(gpointer arg)
{
    g_main_context_invoke(context, on_posted, NULL);
    ready();
    stand_elsewhere();
    return NULL;
}

/* The thread leaves the context with an idle connection; then another hands it a request. */
static void posted_to_parked(void)
{
    finish_one();
    g_main_context_pop_thread_default(context);
    g_thread_new("asks", post_a_request, NULL);
    stand_elsewhere();
}

static void parked_ok(void)
{
    finish_one();
    after(50, on_ready);
    ask();
    run_for_ever();
}

static gboolean on_block(gpointer arg)
{
    user_code_blocks(500); /* the answer comes meanwhile */
    ready();
    user_code_blocks(3600000);
    return G_SOURCE_REMOVE;
}

static void blocked(void)
{
    finish_one();
    ask();
    after(50, on_block);
    run_for_ever();
}

static gboolean on_block_briefly(gpointer arg)
{
    user_code_blocks(50);
    return G_SOURCE_CONTINUE;
}

static void blocked_ok(void)
{
    asks_again = TRUE;
    ask();
    after(60, on_block_briefly);
    after(200, on_ready);
    run_for_ever();
}

static void one_request(void)
{
    ask();
    after(200, on_ready);
    run_for_ever();
}

static void busy(void)
{
    asks_again = TRUE;
    for (int i = 0; i < 4; i++) {
        ask();
    }
    after(100, on_ready);
    run_for_ever();
}

static void idle(void)
{
    finish_one();
    after(200, on_ready);
    run_for_ever();
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } scenes[] = {
        { "parked", parked },
        { "parked-ok", parked_ok },
        { "posted-to-parked", posted_to_parked },
        { "blocked", blocked },
        { "blocked-ok", blocked_ok },
        { "one-request", one_request },
        { "busy", busy },
        { "idle", idle },
    };

    if (argc == 3) {
        snprintf(url, sizeof(url), "http://127.0.0.1:%u/", (unsigned)atoi(argv[2]));
        context = g_main_context_new();
        g_main_context_push_thread_default(context);
        session = soup_session_new();
        for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
            if (strcmp(argv[1], scenes[i].name) == 0) {
                scenes[i].run();
            }
        }
    }
    fprintf(stderr, "usage: doctor-peer-soup CASE PORT\n");
    return 2;
}
