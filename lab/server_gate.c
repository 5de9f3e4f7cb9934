/* server_gate.c: named gates, at which requests wait until a test lets them pass.
 *
 * Owns: the gates; never the connections that wait. A gate is made by whoever names it first, the
 *   request or the release, and lives as long as the server. Threads: the server's. */
#include "lab/server_inside.h"

struct gate *gate_find(struct lab_server *server, const char *name, size_t name_size)
{
    il_list_for_each(&server->gates, node)
    {
        struct gate *gate = il_container_of(node, struct gate, link);

        if (strlen(gate->name) == name_size && memcmp(gate->name, name, name_size) == 0) {
            return gate;
        }
    }
    return NULL;
}

static struct gate *gate_new(struct lab_server *server, const char *name, size_t name_size,
                             enum il_code *ret_code)
{
    struct gate *gate;

    if (name_size == 0 || name_size > LAB_GATE_NAME_MAX) {
        *ret_code = IL_EINVAL;
        return NULL;
    }
    if (server->gate_count == LAB_GATE_MAX) {
        *ret_code = IL_ELIMIT;
        return NULL;
    }
    gate = il_calloc(1, sizeof(*gate));
    if (gate == NULL) {
        *ret_code = IL_ENOMEM;
        return NULL;
    }
    il_list_init(&gate->link);
    il_list_init(&gate->waiting);
    memcpy(gate->name, name, name_size);
    il_list_push_back(&server->gates, &gate->link);
    server->gate_count++;
    return gate;
}

struct gate *gate_get(struct lab_server *server, const char *name, size_t name_size,
                      enum il_code *ret_code)
{
    struct gate *gate = gate_find(server, name, name_size);
    enum il_code code = IL_OK;

    if (gate == NULL) {
        gate = gate_new(server, name, name_size, &code);
    }
    if (ret_code != NULL) {
        *ret_code = code;
    }
    return gate;
}

bool gate_enter(struct gate *gate, struct conn *conn)
{
    if (gate->permit_count > 0) {
        il_assert(il_list_is_empty(&gate->waiting)); /* a permit is kept only if nobody waits */
        if (gate->permit_count != LAB_RELEASE_ALL) {
            gate->permit_count--;
        }
        return true;
    }
    il_list_push_back(&gate->waiting, &conn->wait_link);
    gate->waiting_count++;
    conn->server->counters.held_count++;
    server_changed(conn->server);
    return false;
}

static void gate_forget(struct lab_server *server, struct gate *gate, struct conn *conn)
{
    il_assert(gate->waiting_count > 0);
    il_assert(server->counters.held_count > 0);
    il_list_unlink(&conn->wait_link);
    gate->waiting_count--;
    server->counters.held_count--;
    server_changed(server);
}

void gate_leave(struct conn *conn)
{
    struct step *step = script_current(&conn->script);

    il_assert(conn->wait == WAIT_GATE);
    il_assert(step != NULL && step->kind == STEP_HOLD);
    gate_forget(conn->server, step->gate, conn);
}

void gate_release(struct lab_server *server, struct gate *gate, uint64_t count)
{
    while (count > 0 && !il_list_is_empty(&gate->waiting)) {
        struct conn *conn = il_container_of(gate->waiting.next, struct conn, wait_link);

        gate_forget(server, gate, conn);
        conn->wait = WAIT_READY;
        il_list_push_back(&server->ready, &conn->wait_link);
        if (count != LAB_RELEASE_ALL) {
            count--;
        }
    }
    if (gate->permit_count != LAB_RELEASE_ALL) {
        gate->permit_count = count >= LAB_RELEASE_ALL - gate->permit_count
                                 ? LAB_RELEASE_ALL
                                 : gate->permit_count + count;
    }
}

void gates_deinit(struct lab_server *server)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&server->gates)) != NULL) {
        struct gate *gate = il_container_of(node, struct gate, link);

        il_assert(il_list_is_empty(&gate->waiting));
        il_free(gate);
        server->gate_count--;
    }
    il_assert(server->gate_count == 0);
}
