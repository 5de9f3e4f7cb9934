/* stage_real.c: the stage with real threads, the real clock, and the lab's server on loopback.
 *
 * Owns: nothing beyond what its functions make. Threads: any. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lab/certificates.h"
#include "lab/server.h"
#include "lab/stage_inside.h"

#define STAGE_NS_PER_MS 1000000u
#define STAGE_NS_PER_S  1000000000u

/* ---- threads ---- */

struct stage_thread {
    pthread_t thread;
    char name[STAGE_THREAD_NAME_SIZE];
    void (*run)(void *arg);
    void *arg;
};

static void *real_thread_main(void *arg)
{
    struct stage_thread *thread = arg;

    (void)pthread_setname_np(pthread_self(), thread->name); /* only a name */
    thread->run(thread->arg);
    return NULL;
}

static struct stage_thread *real_thread_start(const char *name, void (*run)(void *arg), void *arg)
{
    struct stage_thread *thread = calloc(1, sizeof(*thread));

    if (thread == NULL) {
        return NULL;
    }
    (void)snprintf(thread->name, sizeof(thread->name), "%s", name);
    thread->run = run;
    thread->arg = arg;
    if (pthread_create(&thread->thread, NULL, real_thread_main, thread) != 0) {
        free(thread);
        return NULL;
    }
    return thread;
}

static void real_thread_join(struct stage_thread *thread)
{
    if (thread != NULL) {
        (void)pthread_join(thread->thread, NULL); /* it is joinable, and not this one */
        free(thread);
    }
}

static void real_thread_name(char name[STAGE_THREAD_NAME_SIZE])
{
    if (pthread_getname_np(pthread_self(), name, STAGE_THREAD_NAME_SIZE) != 0) {
        (void)snprintf(name, STAGE_THREAD_NAME_SIZE, "?");
    }
}

static void real_sleep_ms(uint64_t ms)
{
    struct timespec left = { .tv_sec = (time_t)(ms / 1000),
                             .tv_nsec = (long)(ms % 1000 * STAGE_NS_PER_MS) };

    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

/* ---- locks and events ---- */

struct stage_mutex {
    pthread_mutex_t mutex;
};

static struct stage_mutex *real_mutex_new(void)
{
    struct stage_mutex *mutex = calloc(1, sizeof(*mutex));

    if (mutex != NULL) {
        (void)pthread_mutex_init(&mutex->mutex, NULL); /* cannot fail with default attributes */
    }
    return mutex;
}

static void real_mutex_free(struct stage_mutex *mutex)
{
    if (mutex != NULL) {
        (void)pthread_mutex_destroy(&mutex->mutex);
        free(mutex);
    }
}

static void real_mutex_lock(struct stage_mutex *mutex)
{
    (void)pthread_mutex_lock(&mutex->mutex);
}

static void real_mutex_unlock(struct stage_mutex *mutex)
{
    (void)pthread_mutex_unlock(&mutex->mutex);
}

struct stage_event {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_set;
};

static struct stage_event *real_event_new(void)
{
    struct stage_event *event = calloc(1, sizeof(*event));
    pthread_condattr_t attributes;

    if (event == NULL) {
        return NULL;
    }
    (void)pthread_mutex_init(&event->mutex, NULL);
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&event->changed, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return event;
}

static void real_event_free(struct stage_event *event)
{
    if (event != NULL) {
        (void)pthread_cond_destroy(&event->changed);
        (void)pthread_mutex_destroy(&event->mutex);
        free(event);
    }
}

static void real_event_set(struct stage_event *event)
{
    (void)pthread_mutex_lock(&event->mutex);
    event->is_set = true;
    (void)pthread_cond_broadcast(&event->changed);
    (void)pthread_mutex_unlock(&event->mutex);
}

static void real_event_reset(struct stage_event *event)
{
    (void)pthread_mutex_lock(&event->mutex);
    event->is_set = false;
    (void)pthread_mutex_unlock(&event->mutex);
}

static bool real_event_wait(struct stage_event *event, uint64_t timeout_ms)
{
    struct timespec until;
    int result = 0;
    bool is_set;

    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout_ms / 1000);
    until.tv_nsec += (long)(timeout_ms % 1000 * STAGE_NS_PER_MS);
    if (until.tv_nsec >= (long)STAGE_NS_PER_S) {
        until.tv_nsec -= (long)STAGE_NS_PER_S;
        until.tv_sec++;
    }
    (void)pthread_mutex_lock(&event->mutex);
    while (!event->is_set && result == 0) {
        result = pthread_cond_timedwait(&event->changed, &event->mutex, &until);
    }
    is_set = event->is_set;
    (void)pthread_mutex_unlock(&event->mutex);
    return is_set;
}

/* ---- what the process holds ---- */

static unsigned count_entries(const char *path)
{
    DIR *directory = opendir(path);
    unsigned count = 0;

    if (directory == NULL) {
        return 0;
    }
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        count += entry->d_name[0] != '.';
    }
    (void)closedir(directory);
    return count;
}

static void real_resources(struct stage_resources *ret_resources)
{
    ret_resources->fd_count = count_entries("/proc/self/fd"); /* with the one that looks */
    ret_resources->thread_count = count_entries("/proc/self/task");
}

/* ---- the server ---- */

struct stage_server {
    struct lab_server *server;
    struct lab_authority *authority; /* NULL without TLS */
};

/* With a CA and a certificate of its own. */
static enum il_code server_start_tls(struct stage_server *server,
                                     struct lab_server_options *options, struct il_error *err)
{
    static const struct lab_certificate_options for_loopback;
    struct lab_certificate certificate = { 0 };
    struct lab_server_tls tls = { 0 };
    enum il_code code = lab_authority_new("interloop lab", &server->authority, err);

    if (code == IL_OK) {
        code = lab_authority_issue(server->authority, &for_loopback, &certificate, err);
    }
    if (code == IL_OK) {
        tls.certificate_pem = certificate.pem;
        tls.key_pem = certificate.key_pem;
        tls.alpn = "h2,http/1.1"; /* as the clients want it */
        options->tls = &tls;
        code = lab_server_start(options, &server->server, err);
    }
    lab_certificate_deinit(&certificate);
    return code;
}

static enum il_code real_server_start(uint64_t answering_max, bool has_tls,
                                      struct stage_server **ret_server, struct il_error *err)
{
    struct lab_server_options options = { .answering_max = answering_max };
    struct stage_server *server = calloc(1, sizeof(*server));
    enum il_code code;

    if (server == NULL) {
        *err = (struct il_error){ .code = IL_ENOMEM, .message = "no memory for a server" };
        return IL_ENOMEM;
    }
    code = has_tls ? server_start_tls(server, &options, err)
                   : lab_server_start(&options, &server->server, err);
    if (code != IL_OK) {
        lab_authority_free(server->authority);
        free(server);
        return code;
    }
    *ret_server = server;
    return IL_OK;
}

static void real_server_stop(struct stage_server *server)
{
    if (server != NULL) {
        lab_server_stop(server->server);
        lab_authority_free(server->authority);
        free(server);
    }
}

static const char *real_server_ca(const struct stage_server *server)
{
    return server->authority != NULL ? lab_authority_pem(server->authority) : NULL;
}

static uint16_t real_server_port(const struct stage_server *server)
{
    return lab_server_port(server->server);
}

static bool real_server_wait_held(struct stage_server *server, const char *gate, uint64_t count,
                                  uint64_t timeout_ms)
{
    return lab_server_wait_held(server->server, gate, count, lab_in_ms(timeout_ms));
}

static bool real_server_wait_idle(struct stage_server *server, uint64_t count, uint64_t timeout_ms)
{
    return lab_server_wait_idle(server->server, count, lab_in_ms(timeout_ms));
}

static bool real_server_wait_open(struct stage_server *server, uint64_t count, uint64_t timeout_ms)
{
    return lab_server_wait_open(server->server, count, lab_in_ms(timeout_ms));
}

static void real_server_release(struct stage_server *server, const char *gate)
{
    (void)lab_server_release(server->server, gate, LAB_RELEASE_ALL); /* our names are valid */
}

static uint64_t real_server_close_idle(struct stage_server *server)
{
    return lab_server_close_idle(server->server, LAB_CLOSE_FIN);
}

static uint64_t real_server_scold_idle(struct stage_server *server)
{
    static const char scolding[] = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n"
                                   "Connection: close\r\n\r\n";
    struct lab_server_counters counters;
    uint64_t count = 0;

    lab_server_counters(server->server, &counters);
    for (uint64_t number = 1; number <= counters.accepted_count; number++) {
        struct lab_connection connection;

        if (lab_server_connection(server->server, number, &connection, NULL) == IL_OK &&
            connection.is_open && connection.request_count == connection.answered_count &&
            lab_server_write(server->server, number, scolding, sizeof(scolding) - 1, NULL) ==
                IL_OK) {
            count += lab_server_close(server->server, number, LAB_CLOSE_FIN, NULL) == IL_OK;
        }
    }
    return count;
}

static uint64_t real_server_close_held(struct stage_server *server)
{
    struct lab_server_counters counters;
    uint64_t count = 0;

    lab_server_counters(server->server, &counters);
    for (uint64_t number = 1; number <= counters.accepted_count; number++) {
        struct lab_connection connection;

        if (lab_server_connection(server->server, number, &connection, NULL) == IL_OK &&
            connection.is_open && connection.request_count > connection.answered_count) {
            count += lab_server_close(server->server, number, LAB_CLOSE_FIN, NULL) == IL_OK;
        }
    }
    return count;
}

static enum il_code real_server_stall(struct stage_server *server, struct il_error *err)
{
    return lab_server_accept_stop(server->server, err);
}

static void real_server_unstall(struct stage_server *server)
{
    lab_server_accept_resume(server->server);
}

static unsigned real_server_seen(struct stage_server *server, const char *path)
{
    (void)server;
    (void)path;
    return 0; /* the lab's server counts behaviours, not paths */
}

static void real_server_counts(struct stage_server *server, struct stage_server_counts *ret_counts)
{
    struct lab_server_counters counters;

    lab_server_counters(server->server, &counters);
    *ret_counts = (struct stage_server_counts){ .open = counters.open_count,
                                                .accepted = counters.accepted_count,
                                                .requests = counters.request_count,
                                                .answering = counters.answering_count };
}

const struct stage_table stage_real = {
    .thread_start = real_thread_start,
    .thread_join = real_thread_join,
    .thread_name = real_thread_name,
    .sleep_ms = real_sleep_ms,
    .mutex_new = real_mutex_new,
    .mutex_free = real_mutex_free,
    .mutex_lock = real_mutex_lock,
    .mutex_unlock = real_mutex_unlock,
    .event_new = real_event_new,
    .event_free = real_event_free,
    .event_set = real_event_set,
    .event_reset = real_event_reset,
    .event_wait = real_event_wait,
    .resources = real_resources,
    .server_start = real_server_start,
    .server_stop = real_server_stop,
    .server_port = real_server_port,
    .server_ca = real_server_ca,
    .server_wait_held = real_server_wait_held,
    .server_wait_idle = real_server_wait_idle,
    .server_wait_open = real_server_wait_open,
    .server_release = real_server_release,
    .server_close_idle = real_server_close_idle,
    .server_scold_idle = real_server_scold_idle,
    .server_close_held = real_server_close_held,
    .server_stall = real_server_stall,
    .server_unstall = real_server_unstall,
    .server_counts = real_server_counts,
    .server_seen = real_server_seen,
};
