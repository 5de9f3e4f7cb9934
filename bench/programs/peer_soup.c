/* peer_soup.c: libsoup 3, in the two ways it can be used:
 *
 *     --mode sync     soup_session_send, one request after another
 *     --mode async    soup_session_send_and_read_async, C at a time, in a GLib main loop
 *
 * Threads: one of ours; libsoup makes what it needs. */
#include <libsoup/soup.h>

#include <errno.h>
#include <glib-unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

struct slot {
    uint64_t due_ns;
    SoupMessage *message; /* of the request in flight */
    struct slot *next_idle;
};

static struct bench_options options;
static struct bench_plan plan;
static SoupSession *session;
static GUri *uri;
static GBytes *upload; /* NULL without --upload */
static struct slot *idle;

static void check(const SoupMessage *message, GError *error)
{
    errno = 0;
    if (error != NULL) {
        bench_fail(error->message);
    }
    if (soup_message_get_status((SoupMessage *)message) != SOUP_STATUS_OK) {
        bench_fail("the status is not 200");
    }
}

static SoupMessage *message_new(void)
{
    SoupMessage *message = soup_message_new_from_uri(upload == NULL ? "GET" : "PUT", uri);

    if (upload != NULL) {
        soup_message_set_request_body_from_bytes(message, NULL, upload);
    }
    return message;
}

/* ---- --mode sync ---- */

static uint64_t drain(GInputStream *stream)
{
    static char buffer[BENCH_BUFFER_SIZE];
    uint64_t total = 0;
    gssize size;

    while ((size = g_input_stream_read(stream, buffer, sizeof(buffer), NULL, NULL)) > 0) {
        total += (uint64_t)size;
    }
    if (size < 0 || !g_input_stream_close(stream, NULL, NULL)) {
        bench_fail("read a body");
    }
    return total;
}

static void run_sync(void)
{
    uint64_t due_ns;

    while (plan_wait_next(&plan, &due_ns)) {
        SoupMessage *message = message_new();
        GError *error = NULL;
        GInputStream *stream = soup_session_send(session, message, NULL, &error);

        check(message, error);
        plan_complete(&plan, due_ns, drain(stream));
        g_object_unref(stream);
        g_object_unref(message);
    }
}

/* ---- --mode async ---- */

static void slot_on_response(GObject *source, GAsyncResult *result, gpointer arg);

static void slot_start(struct slot *slot)
{
    if (!plan_next(&plan, &slot->due_ns)) {
        slot->next_idle = idle;
        idle = slot;
        return;
    }
    slot->message = message_new();
    soup_session_send_and_read_async(session, slot->message, G_PRIORITY_DEFAULT, NULL,
                                     slot_on_response, slot);
}

static void slot_on_response(GObject *source, GAsyncResult *result, gpointer arg)
{
    struct slot *slot = arg;
    GError *error = NULL;
    GBytes *body = soup_session_send_and_read_finish(SOUP_SESSION(source), result, &error);

    check(slot->message, error);
    plan_complete(&plan, slot->due_ns, g_bytes_get_size(body));
    g_bytes_unref(body);
    g_object_unref(slot->message);
    slot_start(slot);
}

static gboolean on_tick(gint fd, GIOCondition condition, gpointer arg)
{
    (void)fd;
    (void)condition;
    (void)arg;
    plan_on_tick(&plan);
    while (idle != NULL && plan.started < plan.due && plan.started < options.requests) {
        struct slot *slot = idle;

        idle = slot->next_idle;
        slot_start(slot);
    }
    return G_SOURCE_CONTINUE;
}

static void run_async(void)
{
    struct slot *slots = calloc(options.connections, sizeof(*slots));

    if (slots == NULL) {
        bench_fail("set up");
    }
    if (plan.tick_fd >= 0) {
        g_unix_fd_add(plan.tick_fd, G_IO_IN, on_tick, NULL);
    }
    for (uint64_t i = 0; i < options.connections; i++) {
        slot_start(&slots[i]);
    }
    while (!plan_is_complete(&plan)) {
        g_main_context_iteration(NULL, TRUE);
    }
    free(slots);
}

int main(int argc, char **argv)
{
    char url[1100];

    bench_parse(&options, argc, argv);
    snprintf(url, sizeof(url), "http://127.0.0.1:%u%s", options.port, options.path);
    uri = g_uri_parse(url, SOUP_HTTP_URI_FLAGS, NULL);
    session = soup_session_new_with_options(
        "max-conns", (int)options.connections, "max-conns-per-host", (int)options.connections,
        "timeout", 0, "idle-timeout", 0, "proxy-resolver", NULL, NULL);
    if (options.upload_bytes > 0) {
        upload = g_bytes_new_take(calloc(1, options.upload_bytes), options.upload_bytes);
    }
    plan_init(&plan, &options);
    if (options.mode != NULL && strcmp(options.mode, "sync") == 0) {
        run_sync();
    } else {
        run_async();
    }
    plan_print(&plan);
    g_object_unref(session);
    g_uri_unref(uri);
    return 0;
}
