/* server.c: the lab server's thread: its loop, accepting, start and stop.
 *
 * Owns: the listening socket, the epoll set, every connection. Threads: lab_server_start and
 *   lab_server_stop the caller's, everything else the server's; what other threads want comes
 *   through server_control.c.
 * Turn: events, timers, commands, connections made ready by these, what streams have to send; then
 *   closed connections are freed, counters published and commands reported done, in this order: so
 * a caller that comes back from a command finds all of its effects. Ends: lab_server_stop() makes
 * the loop leave, joins it, then closes and frees what is left. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lab/server_inside.h"

#define ACCEPT_RETRY_NS 10000000u

/* ---- counters ---- */

void server_changed(struct lab_server *server)
{
    server->counters.change_count++;
}

void server_snapshot(struct lab_server *server, struct lab_server_counters *ret_counters)
{
    *ret_counters = server->counters;
    ret_counters->idle_count = server->state_count[CONN_IDLE];
    ret_counters->receiving_count = server->state_count[CONN_RECEIVING];
    ret_counters->answering_count = server->state_count[CONN_ANSWERING];
    ret_counters->lingering_count = server->state_count[CONN_LINGERING];
}

/* ---- accepting ---- */

static bool server_may_accept(const struct lab_server *server)
{
    uint64_t limit = server->options.connections_max;

    return !server->is_accept_stopped && !server->is_accept_starved && !server->is_stopping &&
           (limit == 0 || server->counters.open_count < limit);
}

void server_accept_update(struct lab_server *server)
{
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = server };
    bool is_wanted = server_may_accept(server);

    if (is_wanted == server->is_accepting) {
        return;
    }
    il_assert(epoll_ctl(server->epoll_fd, is_wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
                        server->listen_fd, &event) == 0);
    server->is_accepting = is_wanted;
}

static uint16_t sockaddr_port(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6
                     ? ((const struct sockaddr_in6 *)(const void *)address)->sin6_port
                     : ((const struct sockaddr_in *)(const void *)address)->sin_port);
}

/* One of the connections that filled the backlog: not a client's. */
static bool server_is_filler(struct lab_server *server, uint16_t port)
{
    for (size_t i = 0; i < SERVER_FILLER_MAX; i++) {
        if (port != 0 && server->filler_ports[i] == port) {
            server->filler_ports[i] = 0;
            return true;
        }
    }
    return false;
}

static void server_accept_starve(struct lab_server *server)
{
    server->is_accept_starved = true;
    timers_arm(&server->timers, &server->accept_retry, timers_now_ns() + ACCEPT_RETRY_NS);
    server_accept_update(server);
}

bool server_accept_some(struct lab_server *server)
{
    for (unsigned i = 0; i < SERVER_ACCEPT_MAX; i++) {
        struct sockaddr_storage peer;
        socklen_t peer_size = sizeof(peer);
        int on = 1, fd;

        if (!server_may_accept(server)) {
            server_accept_update(server);
            return false;
        }
        fd = accept4(server->listen_fd, (struct sockaddr *)&peer, &peer_size,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EINTR || errno == ECONNABORTED)) {
            continue;
        }
        if (fd < 0) {
            if (errno != EAGAIN) {
                server_accept_starve(server); /* EMFILE and the like: when some are closed */
            } else {
                memset(server->filler_ports, 0, sizeof(server->filler_ports)); /* all are through */
            }
            return false;
        }
        if (server_is_filler(server, sockaddr_port(&peer))) {
            (void)close(fd);
            continue;
        }
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* cannot fail on TCP */
        if (conn_new(server, fd, sockaddr_port(&peer)) != IL_OK) {
            (void)close(fd); /* no memory for it: the client sees it closed */
            server_accept_starve(server);
            return false;
        }
    }
    return true;
}

/* ---- places for answering_max ---- */

void server_slot_done(struct lab_server *server)
{
    struct il_list *node;
    struct conn *conn;

    il_assert(server->slots_used > 0);
    server->slots_used--;
    node = il_list_pop_front(&server->slot_queue);
    if (node == NULL) {
        return;
    }
    conn = il_container_of(node, struct conn, wait_link);
    il_assert(conn->wait == WAIT_SLOT);
    server->slots_used++;
    server->counters.queued_count--;
    conn->exchange.has_slot = true;
    conn->wait = WAIT_READY;
    il_list_push_back(&server->ready, &conn->wait_link);
    server_changed(server);
}

/* ---- the loop ---- */

/* The one place where the server's thread waits; kept apart so that a stack trace says so. */
static IL_NOINLINE int lab_server_idle_waiting_for_events(int epoll_fd, struct epoll_event *events,
                                                          int timeout_ms)
{
    int count = epoll_wait(epoll_fd, events, SERVER_EVENTS_MAX, timeout_ms);

    il_assert(count >= 0 || errno == EINTR);
    return count < 0 ? 0 : count;
}

static void server_on_wake(struct lab_server *server)
{
    uint64_t count;

    (void)!read(server->wake_fd, &count, sizeof(count)); /* EAGAIN: already read, nothing to do */
}

static void server_on_timers(struct lab_server *server)
{
    struct timer *timer;

    while ((timer = timers_pop_due(&server->timers, server->now_ns)) != NULL) {
        if (timer == &server->accept_retry) {
            server->is_accept_starved = false;
            server_accept_update(server);
        } else {
            conn_on_timer(il_container_of(timer, struct conn, timer));
        }
    }
}

static void server_on_ready(struct lab_server *server)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&server->ready)) != NULL) {
        conn_on_ready(il_container_of(node, struct conn, wait_link));
    }
}

static void server_bury(struct lab_server *server)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&server->graveyard)) != NULL) {
        conn_free(il_container_of(node, struct conn, link));
    }
}

static void server_turn(struct lab_server *server)
{
    struct epoll_event events[SERVER_EVENTS_MAX];
    struct il_list ran = IL_LIST_INIT(ran);
    int count = lab_server_idle_waiting_for_events(
        server->epoll_fd, events, timers_timeout_ms(&server->timers, timers_now_ns()));

    server->now_ns = timers_now_ns();
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == server) {
            (void)server_accept_some(server); /* what is left is reported again */
        } else if (events[i].data.ptr == &server->wake_fd) {
            server_on_wake(server);
        } else {
            conn_on_events(events[i].data.ptr, events[i].events);
        }
    }
    server_on_timers(server);
    server_on_ready(server);
    control_run(server, &ran);
    do {
        server_on_ready(server);
        mux_run_touched(server);
    } while (!il_list_is_empty(&server->ready));
    server_bury(server);
    control_publish(server, &ran);
}

static void *server_main(void *arg)
{
    struct lab_server *server = arg;

    (void)pthread_setname_np(pthread_self(), "lab-server"); /* for debuggers only */
    while (!server->is_stopping) {
        server_turn(server);
    }
    return NULL;
}

/* ---- start ---- */

static enum il_code server_resolve(struct lab_server *server, struct il_error *err)
{
    const char *address = server->options.address != NULL ? server->options.address : "127.0.0.1";
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&server->bound;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&server->bound;

    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(server->options.port);
        server->bound_size = sizeof(*v4);
    } else if (inet_pton(AF_INET6, address, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(server->options.port);
        server->bound_size = sizeof(*v6);
    } else {
        return il_fail(err, IL_EINVAL, "'%s' is not a numeric IPv4 or IPv6 address", address);
    }
    (void)snprintf(server->address, sizeof(server->address), "%s", address);
    server->options.address = server->address;
    return IL_OK;
}

static enum il_code server_set_buffer(struct lab_server *server, int option, int bytes,
                                      struct il_error *err)
{
    if (bytes != 0 &&
        setsockopt(server->listen_fd, SOL_SOCKET, option, &bytes, sizeof(bytes)) < 0) {
        return il_fail(err, IL_ESYS, "set the socket buffers to %d bytes", bytes);
    }
    return IL_OK;
}

static enum il_code server_listen(struct lab_server *server, struct il_error *err)
{
    enum il_code code = server_resolve(server, err);
    int on = 1;

    if (code != IL_OK) {
        return code;
    }
    server->listen_fd =
        socket(server->bound.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (server->listen_fd < 0) {
        return il_fail(err, IL_ESYS, "create a socket to listen on");
    }
    (void)setsockopt(server->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    code = server_set_buffer(server, SO_RCVBUF, server->options.receive_buffer_bytes, err);
    if (code == IL_OK) {
        code = server_set_buffer(server, SO_SNDBUF, server->options.send_buffer_bytes, err);
    }
    if (code != IL_OK) {
        return code;
    }
    if (bind(server->listen_fd, (struct sockaddr *)&server->bound, server->bound_size) < 0 ||
        listen(server->listen_fd, SERVER_BACKLOG) < 0 ||
        getsockname(server->listen_fd, (struct sockaddr *)&server->bound, &server->bound_size) <
            0) {
        return il_fail(err, IL_ESYS, "listen on %s port %u", server->address, server->options.port);
    }
    server->port = sockaddr_port(&server->bound);
    return IL_OK;
}

static enum il_code server_open_poller(struct lab_server *server, struct il_error *err)
{
    struct epoll_event wake = { .events = EPOLLIN, .data.ptr = &server->wake_fd };

    server->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (server->epoll_fd < 0) {
        return il_fail(err, IL_ESYS, "create epoll for the lab server");
    }
    server->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->wake_fd < 0) {
        return il_fail(err, IL_ESYS, "create wake-up eventfd for the lab server");
    }
    if (epoll_ctl(server->epoll_fd, EPOLL_CTL_ADD, server->wake_fd, &wake) < 0) {
        return il_fail(err, IL_ESYS, "watch the wake-up eventfd of the lab server");
    }
    server_accept_update(server);
    return IL_OK;
}

/* The thread takes no signals: they are the program's. */
static enum il_code server_start_thread(struct lab_server *server, struct il_error *err)
{
    sigset_t all, before;
    int error;

    sigfillset(&all);
    il_assert(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    error = pthread_create(&server->thread, NULL, server_main, server);
    il_assert(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (error != 0) {
        return il_fail_errno(err, IL_ESYS, error, "start the lab server's thread");
    }
    control_wait_up(server); /* so that it runs, under its name, when lab_server_start returns */
    return IL_OK;
}

static void server_init(struct lab_server *server, const struct lab_server_options *options)
{
    pthread_condattr_t clock;

    if (options != NULL) {
        server->options = *options;
    }
    server->listen_fd = server->epoll_fd = server->wake_fd = -1;
    server->accept_retry.place = TIMER_UNARMED;
    il_list_init(&server->conns);
    il_list_init(&server->muxes);
    il_list_init(&server->graveyard);
    il_list_init(&server->ready);
    il_list_init(&server->slot_queue);
    il_list_init(&server->gates);
    il_list_init(&server->commands);
    il_assert(pthread_mutex_init(&server->mutex, NULL) == 0);
    il_assert(pthread_mutex_init(&server->accept_mutex, NULL) == 0);
    il_assert(pthread_condattr_init(&clock) == 0);
    il_assert(pthread_condattr_setclock(&clock, CLOCK_MONOTONIC) == 0);
    il_assert(pthread_cond_init(&server->changed, &clock) == 0);
    il_assert(pthread_condattr_destroy(&clock) == 0);
}

/* Accepts a half-made server, without its thread. */
static void server_deinit(struct lab_server *server)
{
    control_fillers_close(server);
    il_list_for_each_safe(&server->conns, node)
    {
        conn_close(il_container_of(node, struct conn, link), LAB_CLOSE_FIN, false);
    }
    il_assert(il_list_is_empty(&server->ready));
    il_assert(il_list_is_empty(&server->slot_queue));
    server_bury(server);
    gates_deinit(server);
    timers_disarm(&server->timers, &server->accept_retry);
    timers_deinit(&server->timers);
    il_assert(server->counters.open_count == 0);
    il_assert(server->slots_used == 0);
    il_assert(server->conn_count == 0);
    il_assert(il_list_is_empty(&server->muxes));
    il_assert(il_list_is_empty(&server->commands));
    for (size_t i = 0; i < 3; i++) {
        int fd = (const int[]){ server->listen_fd, server->epoll_fd, server->wake_fd }[i];

        if (fd >= 0) {
            (void)close(fd);
        }
    }
    il_assert(pthread_cond_destroy(&server->changed) == 0);
    il_assert(pthread_mutex_destroy(&server->accept_mutex) == 0);
    il_assert(pthread_mutex_destroy(&server->mutex) == 0);
    server_tls_deinit(server);
    il_free(server->records);
    il_free(server->help);
    il_free(server);
}

enum il_code lab_server_start(const struct lab_server_options *options,
                              struct lab_server **ret_server, struct il_error *err)
{
    struct lab_server *server = il_calloc(1, sizeof(*server));
    enum il_code code;

    if (server == NULL) {
        return il_fail(err, IL_ENOMEM, "out of memory for a lab server");
    }
    server_init(server, options);
    server->records = il_calloc(LAB_CONNECTION_RECORDS, sizeof(*server->records));
    server->help = lab_server_help();
    if (server->records == NULL || server->help == NULL || !timers_reserve(&server->timers, 1)) {
        code = il_fail(err, IL_ENOMEM, "out of memory for a lab server");
        goto fail;
    }
    code = server_tls_init(server, err);
    if (code == IL_OK) {
        code = server_listen(server, err);
    }
    if (code == IL_OK) {
        code = server_open_poller(server, err);
    }
    if (code == IL_OK) {
        code = server_start_thread(server, err);
    }
    if (code != IL_OK) {
        goto fail;
    }
    *ret_server = server;
    return IL_OK;

fail:
    server_deinit(server);
    return code;
}

void lab_server_stop(struct lab_server *server)
{
    if (server == NULL) {
        return;
    }
    control_stop(server);
    il_assert(pthread_join(server->thread, NULL) == 0);
    server_deinit(server);
}

uint16_t lab_server_port(const struct lab_server *server)
{
    return server->port;
}

const char *lab_server_address(const struct lab_server *server)
{
    return server->address;
}
