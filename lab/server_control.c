/* server_control.c: what other threads ask of the server's thread, and how they wait for it.
 *
 * A command lies on its caller's stack; the server's thread runs it at the end of a turn and
 * reports it done when all that follows from it is done too. Waiting for a condition is asking for
 * the counters again whenever they have changed.
 * Owns: nothing. Threads: the lab_server_ functions any but the server's; command_ functions and
 *   control_run, control_publish the server's. server->mutex is a leaf; accept_mutex before it. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <time.h>
#include <unistd.h>

#include "lab/server_inside.h"

#define WATCH_NAP_NS      500000u /* between two looks at counters that change all the time */
#define FILLER_CONNECT_MS 1000

/* ---- the server's side ---- */

void control_run(struct lab_server *server, struct il_list *ret_ran)
{
    pthread_mutex_lock(&server->mutex);
    il_list_splice(ret_ran, &server->commands);
    pthread_mutex_unlock(&server->mutex);
    il_list_for_each(ret_ran, node)
    {
        struct command *command = il_container_of(node, struct command, link);

        command->run(server, command);
    }
}

void control_publish(struct lab_server *server, struct il_list *ran)
{
    bool has_news = !il_list_is_empty(ran);
    struct il_list *node;

    il_list_for_each(ran, each)
    {
        struct command *command = il_container_of(each, struct command, link);

        if (command->counters != NULL) {
            server_snapshot(server, command->counters);
        }
    }
    pthread_mutex_lock(&server->mutex);
    while ((node = il_list_pop_front(ran)) != NULL) {
        il_container_of(node, struct command, link)->is_done = true;
    }
    if (server->published != server->counters.change_count) {
        server->published = server->counters.change_count;
        has_news = has_news || server->watcher_count > 0;
    }
    pthread_mutex_unlock(&server->mutex);
    if (has_news) {
        pthread_cond_broadcast(&server->changed);
    }
}

/* ---- the caller's side ---- */

static void control_wake(struct lab_server *server)
{
    uint64_t one = 1;

    /* EAGAIN would mean 2^64 - 2 wakes pending: one of them is enough. */
    (void)!write(server->wake_fd, &one, sizeof(one));
}

static IL_NOINLINE void lab_server_waiting_for_its_thread(struct lab_server *server,
                                                          struct command *command)
{
    pthread_mutex_lock(&server->mutex);
    while (!command->is_done) {
        pthread_cond_wait(&server->changed, &server->mutex);
    }
    pthread_mutex_unlock(&server->mutex);
}

static void control_do(struct lab_server *server, struct command *command)
{
    il_assert(!pthread_equal(pthread_self(), server->thread));
    il_list_init(&command->link);
    pthread_mutex_lock(&server->mutex);
    il_list_push_back(&server->commands, &command->link);
    pthread_mutex_unlock(&server->mutex);
    control_wake(server);
    lab_server_waiting_for_its_thread(server, command);
}

static void command_stop(struct lab_server *server, struct command *command)
{
    server->is_stopping = true;
    server_accept_update(server);
}

void control_stop(struct lab_server *server)
{
    struct command command = { .run = command_stop };

    control_do(server, &command);
}

/* ---- questions ---- */

static void command_look(struct lab_server *server, struct command *command)
{
    const struct gate *gate;

    if (command->name != NULL) {
        gate = gate_find(server, command->name, strlen(command->name));
        command->count = gate == NULL ? 0 : gate->waiting_count;
    }
}

void control_wait_up(struct lab_server *server)
{
    struct command command = { .run = command_look };

    control_do(server, &command);
}

void lab_server_counters(struct lab_server *server, struct lab_server_counters *ret_counters)
{
    struct command command = { .run = command_look, .counters = ret_counters };

    control_do(server, &command);
}

uint64_t lab_server_held(struct lab_server *server, const char *name)
{
    struct command command = { .run = command_look, .name = name };

    control_do(server, &command);
    return command.count;
}

static struct conn *control_find(struct lab_server *server, uint64_t number)
{
    il_list_for_each(&server->conns, node)
    {
        struct conn *conn = il_container_of(node, struct conn, link);

        if (conn->info.number == number) {
            return conn;
        }
    }
    return NULL;
}

static void command_connection(struct lab_server *server, struct command *command)
{
    const struct conn *conn = control_find(server, command->number);
    const struct lab_connection *info =
        conn != NULL ? &conn->info
                     : &server->records[(command->number - 1) % LAB_CONNECTION_RECORDS];

    command->code = IL_OK;
    if (command->number == 0 || info->number != command->number) {
        command->code =
            il_fail(command->err, IL_EINVAL, "the server knows no connection number %llu",
                    (unsigned long long)command->number);
        return;
    }
    command->connection = *info;
}

enum il_code lab_server_connection(struct lab_server *server, uint64_t number,
                                   struct lab_connection *ret_connection, struct il_error *err)
{
    struct command command = { .run = command_connection, .number = number, .err = err };

    control_do(server, &command);
    if (command.code == IL_OK) {
        *ret_connection = command.connection;
    }
    return command.code;
}

/* ---- waiting ---- */

uint64_t lab_in_ms(uint64_t ms)
{
    return timers_now_ns() + il_min_u64(ms, UINT64_MAX / 2 / 1000000u) * 1000000u;
}

/* Wait until the counters are no longer those of `seen`. False: the deadline came first. */
static IL_NOINLINE bool lab_server_waiting_for_a_change(struct lab_server *server, uint64_t seen,
                                                        uint64_t deadline_ns)
{
    struct timespec until = { .tv_sec = (time_t)(deadline_ns / 1000000000u),
                              .tv_nsec = (long)(deadline_ns % 1000000000u) };
    int error = 0;

    pthread_mutex_lock(&server->mutex);
    server->watcher_count++;
    while (server->published == seen && error == 0) {
        error = deadline_ns == LAB_FOREVER
                    ? pthread_cond_wait(&server->changed, &server->mutex)
                    : pthread_cond_timedwait(&server->changed, &server->mutex, &until);
    }
    server->watcher_count--;
    pthread_mutex_unlock(&server->mutex);
    il_assert(error == 0 || error == ETIMEDOUT);
    return error == 0;
}

static void watch_nap(void)
{
    struct timespec nap = { .tv_nsec = WATCH_NAP_NS };

    (void)nanosleep(&nap, NULL); /* cut short by a signal is as well */
}

/* Ask `command` again and again until `is_true` says so. */
static bool control_watch(struct lab_server *server, struct command *command,
                          bool (*is_true)(const struct command *command, void *arg), void *arg,
                          uint64_t deadline_ns)
{
    struct lab_server_counters counters;

    command->counters = &counters;
    for (;;) {
        command->is_done = false;
        control_do(server, command);
        if (is_true(command, arg)) {
            return true;
        }
        if (timers_now_ns() >= deadline_ns ||
            !lab_server_waiting_for_a_change(server, counters.change_count, deadline_ns)) {
            return false;
        }
        watch_nap();
    }
}

struct wait_question {
    lab_server_predicate_fn *predicate;
    void *arg;
};

static bool wait_is_true(const struct command *command, void *arg)
{
    const struct wait_question *question = arg;

    return question->predicate(command->counters, question->arg);
}

bool lab_server_wait(struct lab_server *server, lab_server_predicate_fn *predicate, void *arg,
                     uint64_t deadline_ns)
{
    struct command command = { .run = command_look };
    struct wait_question question = { predicate, arg };

    return control_watch(server, &command, wait_is_true, &question, deadline_ns);
}

static bool wait_is_held(const struct command *command, void *arg)
{
    return command->count >= *(const uint64_t *)arg;
}

bool lab_server_wait_held(struct lab_server *server, const char *name, uint64_t count,
                          uint64_t deadline_ns)
{
    struct command command = { .run = command_look, .name = name };

    return control_watch(server, &command, wait_is_held, &count, deadline_ns);
}

struct wait_count {
    const char *path;
    uint64_t count;
};

static bool wait_is_requested(const struct lab_server_counters *counters, void *arg)
{
    const struct wait_count *want = arg;

    return want->count <= (want->path == NULL
                               ? counters->request_count
                               : counters->by[lab_server_behaviour(want->path)].request_count);
}

bool lab_server_wait_requests(struct lab_server *server, const char *path, uint64_t count,
                              uint64_t deadline_ns)
{
    struct wait_count want = { path, count };

    return lab_server_wait(server, wait_is_requested, &want, deadline_ns);
}

static bool wait_is_answered(const struct lab_server_counters *counters, void *arg)
{
    const struct wait_count *want = arg;

    return want->count <= (want->path == NULL
                               ? counters->answered_count
                               : counters->by[lab_server_behaviour(want->path)].answered_count);
}

bool lab_server_wait_answered(struct lab_server *server, const char *path, uint64_t count,
                              uint64_t deadline_ns)
{
    struct wait_count want = { path, count };

    return lab_server_wait(server, wait_is_answered, &want, deadline_ns);
}

static bool wait_is_open(const struct lab_server_counters *counters, void *arg)
{
    return counters->open_count == *(const uint64_t *)arg;
}

bool lab_server_wait_open(struct lab_server *server, uint64_t count, uint64_t deadline_ns)
{
    return lab_server_wait(server, wait_is_open, &count, deadline_ns);
}

static bool wait_is_idle(const struct lab_server_counters *counters, void *arg)
{
    return counters->idle_count == *(const uint64_t *)arg;
}

bool lab_server_wait_idle(struct lab_server *server, uint64_t count, uint64_t deadline_ns)
{
    return lab_server_wait(server, wait_is_idle, &count, deadline_ns);
}

/* ---- orders ---- */

static void command_release(struct lab_server *server, struct command *command)
{
    struct gate *gate = gate_get(server, command->name, strlen(command->name), &command->code);

    if (gate != NULL) {
        gate_release(server, gate, command->count);
    }
}

enum il_code lab_server_release(struct lab_server *server, const char *name, uint64_t count)
{
    struct command command = { .run = command_release, .name = name, .count = count };

    control_do(server, &command);
    return command.code;
}

static void command_close_idle(struct lab_server *server, struct command *command)
{
    il_list_for_each_safe(&server->conns, node)
    {
        struct conn *conn = il_container_of(node, struct conn, link);

        if (conn->state != CONN_IDLE) {
            continue;
        }
        command->count++;
        if (command->how == LAB_CLOSE_HALF) {
            conn_half_close(conn);
        } else {
            conn_close(conn, command->how, false);
        }
    }
}

uint64_t lab_server_close_idle(struct lab_server *server, enum lab_close how)
{
    struct command command = { .run = command_close_idle, .how = how };

    control_do(server, &command);
    return command.count;
}

/* The open connection that the command is about; NULL: there is none, and it says so. */
static struct conn *command_open_conn(struct lab_server *server, struct command *command)
{
    struct conn *conn = control_find(server, command->number);

    command->code = IL_OK;
    if (conn == NULL) {
        command->code = il_fail(command->err, IL_EINVAL, "connection %llu is not open",
                                (unsigned long long)command->number);
    }
    return conn;
}

static void command_close(struct lab_server *server, struct command *command)
{
    struct conn *conn = command_open_conn(server, command);

    if (conn != NULL && command->how == LAB_CLOSE_HALF) {
        conn_half_close(conn);
    } else if (conn != NULL) {
        conn_close(conn, command->how, false);
    }
}

enum il_code lab_server_close(struct lab_server *server, uint64_t number, enum lab_close how,
                              struct il_error *err)
{
    struct command command = { .run = command_close, .number = number, .how = how, .err = err };

    control_do(server, &command);
    return command.code;
}

static void command_write(struct lab_server *server, struct command *command)
{
    struct conn *conn = command_open_conn(server, command);
    ssize_t sent;

    if (conn == NULL) {
        return;
    }
    if (conn->out_begin != conn->out_end) {
        command->code = il_fail(command->err, IL_EAGAIN, "connection %llu is sending",
                                (unsigned long long)command->number);
        return;
    }
    sent = conn_socket_send(conn, command->data, command->size); /* it never blocks */
    if (sent < 0 || (size_t)sent < command->size) {
        bool is_full = sent >= 0 || errno == EAGAIN;

        command->code =
            il_fail_errno(command->err, is_full ? IL_EAGAIN : IL_ESYS, is_full ? 0 : errno,
                          "connection %llu took %zd of %zu bytes",
                          (unsigned long long)command->number, sent < 0 ? 0 : sent, command->size);
    }
}

enum il_code lab_server_write(struct lab_server *server, uint64_t number, const void *data,
                              size_t size, struct il_error *err)
{
    struct command command = {
        .run = command_write, .number = number, .data = data, .size = size, .err = err
    };

    control_do(server, &command);
    return command.code;
}

/* ---- accepting ---- */

static void command_accept_stop(struct lab_server *server, struct command *command)
{
    while (server_accept_some(server)) {
    }
    server->is_accept_stopped = true;
    server_accept_update(server);
    command->code = IL_OK;
    if (listen(server->listen_fd, 1) < 0) { /* two connections fill it now */
        command->code = il_fail(command->err, IL_ESYS, "shorten the backlog of the lab server");
    }
}

/* `data` holds the ports of the connections that filled the backlog. */
static void command_accept_resume(struct lab_server *server, struct command *command)
{
    memcpy(server->filler_ports, command->data, sizeof(server->filler_ports));
    (void)listen(server->listen_fd, SERVER_BACKLOG); /* was possible before, so it still is */
    server->is_accept_stopped = false;
    server_accept_update(server);
    while (server_accept_some(server)) {
    }
}

/* Whether the kernel would drop the next handshake. */
static bool backlog_is_full(int listen_fd)
{
    struct tcp_info info;
    socklen_t size = sizeof(info);

    /* Of a listening socket: how many wait to be accepted, and how many may. */
    il_assert(getsockopt(listen_fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
    return info.tcpi_unacked > info.tcpi_sacked;
}

/* Connect to ourselves once more. The handshake is done when this returns, or stalls. */
static enum il_code backlog_add_filler(struct lab_server *server, struct il_error *err)
{
    struct pollfd poller = { .events = POLLOUT };

    poller.fd = socket(server->bound.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (poller.fd < 0) {
        return il_fail(err, IL_ESYS, "create a socket to fill the backlog");
    }
    server->filler_fds[server->filler_count++] = poller.fd;
    if (connect(poller.fd, (struct sockaddr *)&server->bound, server->bound_size) < 0 &&
        errno != EINPROGRESS) {
        return il_fail(err, IL_ESYS, "connect to %s port %u to fill the backlog", server->address,
                       server->port);
    }
    (void)poll(&poller, 1, FILLER_CONNECT_MS); /* a stall is what we are after */
    return IL_OK;
}

void control_fillers_close(struct lab_server *server)
{
    while (server->filler_count > 0) {
        (void)close(server->filler_fds[--server->filler_count]);
    }
}

/* With accept_mutex held. */
static void accept_resume_locked(struct lab_server *server)
{
    uint16_t ports[SERVER_FILLER_MAX] = { 0 };
    struct command command = { .run = command_accept_resume, .data = ports };

    for (size_t i = 0; i < server->filler_count; i++) {
        struct sockaddr_storage own;
        socklen_t size = sizeof(own);

        if (getsockname(server->filler_fds[i], (struct sockaddr *)&own, &size) == 0) {
            ports[i] =
                ntohs(own.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)(void *)&own)->sin6_port
                                                : ((struct sockaddr_in *)(void *)&own)->sin_port);
        }
    }
    control_do(server, &command);
    control_fillers_close(server);
    server->is_backlog_full = false;
}

enum il_code lab_server_accept_stop(struct lab_server *server, struct il_error *err)
{
    struct command command = { .run = command_accept_stop, .err = err };
    enum il_code code = IL_OK;

    pthread_mutex_lock(&server->accept_mutex);
    if (!server->is_backlog_full) {
        server->is_backlog_full = true;
        control_do(server, &command);
        code = command.code;
        while (code == IL_OK && !backlog_is_full(server->listen_fd)) {
            if (server->filler_count == SERVER_FILLER_MAX) {
                code = il_fail_errno(err, IL_ESYS, 0, "%d connections did not fill a backlog of 1",
                                     SERVER_FILLER_MAX);
            } else {
                code = backlog_add_filler(server, err);
            }
        }
        if (code != IL_OK) {
            accept_resume_locked(server);
        }
    }
    pthread_mutex_unlock(&server->accept_mutex);
    return code;
}

void lab_server_accept_resume(struct lab_server *server)
{
    pthread_mutex_lock(&server->accept_mutex);
    if (server->is_backlog_full) {
        accept_resume_locked(server);
    }
    pthread_mutex_unlock(&server->accept_mutex);
}
