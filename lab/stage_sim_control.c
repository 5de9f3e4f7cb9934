/* stage_sim_control.c: how causes see what the simulated server is at, and tell it what to do. As
 * stage.h has it.
 *
 * Threads: simulated ones. */
#include <string.h>

#include "lab/stage_sim_inside.h"

#define QUIET_NS_MAX (5000 * SIM_NS_PER_MS) /* what is lost never arrives */

struct wait {
    const struct stage_server *server;
    const struct gate *gate;
    uint64_t count;
};

static bool is_held(void *arg)
{
    const struct wait *wait = arg;
    uint64_t count = 0;

    for (const struct conn *conn = wait->server->conns; conn != NULL; conn = conn->next) {
        count += conn->state == CONN_SHARED
                     ? h2_conn_held(conn->h2, wait->gate)
                     : (conn->state == CONN_HELD || conn->state == CONN_PAUSED) &&
                           conn->gate == wait->gate;
    }
    return count >= wait->count;
}

static bool conn_is_idle(const struct conn *conn)
{
    return (conn->state == CONN_IDLE && conn->is_open && conn->size == 0) ||
           (conn->state == CONN_SHARED && h2_conn_is_idle(conn->h2));
}

static uint64_t idle_count(const struct stage_server *server)
{
    uint64_t count = 0;

    for (const struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        count += conn_is_idle(conn);
    }
    return count;
}

static bool is_idle(void *arg)
{
    const struct wait *wait = arg;

    return idle_count(wait->server) == wait->count;
}

static bool is_open(void *arg)
{
    const struct wait *wait = arg;

    return wait->server->counts.open == wait->count;
}

bool sim_server_wait_held(struct stage_server *server, const char *gate, uint64_t count,
                          uint64_t timeout_ms)
{
    struct wait wait = { server, server_gate(server, gate, strlen(gate)), count };

    return sim_wait_until(is_held, &wait, timeout_ms * SIM_NS_PER_MS, "requests at a gate");
}

bool sim_server_wait_idle(struct stage_server *server, uint64_t count, uint64_t timeout_ms)
{
    struct wait wait = { .server = server, .count = count };

    return sim_wait_until(is_idle, &wait, timeout_ms * SIM_NS_PER_MS, "idle connections");
}

bool sim_server_wait_open(struct stage_server *server, uint64_t count, uint64_t timeout_ms)
{
    struct wait wait = { .server = server, .count = count };

    return sim_wait_until(is_open, &wait, timeout_ms * SIM_NS_PER_MS, "open connections");
}

void sim_server_release(struct stage_server *server, const char *name)
{
    struct gate *gate;

    sim_step();
    gate = server_gate(server, name, strlen(name));
    if (gate == NULL) {
        return;
    }
    gate->is_open = true;
    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->gate == gate && conn->state == CONN_HELD) {
            conn_pass(conn);
        } else if (conn->gate == gate && conn->state == CONN_PAUSED) {
            conn_answer(conn);
        } else if (conn->state == CONN_SHARED) {
            h2_conn_release(conn->h2, gate);
        }
    }
    sim_changed();
}

static bool is_quiet(void *arg)
{
    const struct stage_server *server = arg;

    for (const struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->state == CONN_GONE && !sim_link_is_quiet(conn->link)) {
            return false;
        }
    }
    return true;
}

uint64_t sim_server_close_idle(struct stage_server *server)
{
    uint64_t count = 0;

    sim_step();
    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn_is_idle(conn)) {
            sim_conn_close(conn);
            count++;
        }
    }
    /* what we did is visible to the client when this returns */
    (void)sim_wait_until(is_quiet, server, QUIET_NS_MAX, "the network to be quiet");
    return count;
}

uint64_t sim_server_scold_idle(struct stage_server *server)
{
    static const char scolding[] = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n"
                                   "Connection: close\r\n\r\n";

    sim_step();
    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->state == CONN_IDLE && conn->is_open && conn->size == 0) {
            sim_conn_send(conn, scolding, sizeof(scolding) - 1);
        }
    }
    return sim_server_close_idle(server);
}

uint64_t sim_server_close_held(struct stage_server *server)
{
    uint64_t count = 0;

    sim_step();
    for (struct conn *conn = server->conns; conn != NULL; conn = conn->next) {
        if (conn->state == CONN_HELD) {
            sim_conn_close(conn);
            count++;
        }
    }
    return count;
}

enum il_code sim_server_stall(struct stage_server *server, struct il_error *err)
{
    (void)err; /* nothing can fail */
    sim_step();
    sim_listen_pause(server->port, true);
    return IL_OK;
}

void sim_server_unstall(struct stage_server *server)
{
    sim_step();
    sim_listen_pause(server->port, false);
}

void sim_server_counts(struct stage_server *server, struct stage_server_counts *ret_counts)
{
    sim_step();
    *ret_counts = server->counts;
}

unsigned sim_server_seen(struct stage_server *server, const char *path)
{
    const struct seen *seen = server_seen_find(server, path, strlen(path));

    return seen != NULL ? seen->count : 0;
}
