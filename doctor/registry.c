/* registry.c: reading interloop's own records out of a live process.
 *
 * No lock is taken and nothing is stopped, so a list may change while it is walked. A node is
 * believed only if its neighbour points back at it; else the shot is torn and is taken again, a few
 * times. All of it may be a lie: every walk, every text and all reads together have a maximum, and
 * texts are made printable. Owns: the two shots. Thread: the doctor's only one. */
#include "doctor/registry.h"

#include <stdio.h>

#include "base/shown.h"
#include "doctor/look.h"
#include "doctor/procfs.h"
#include "interloop/runtime.h"

#define REGISTRY_READS_MAX    200000u /* of one shot: some tenths of a second */
#define REGISTRY_CLIENTS_MAX  256u
#define REGISTRY_DESKS_MAX    256u
#define REGISTRY_TASKS_WALKED 256u /* of one loop, to find the one that runs */
#define REGISTRY_TRIES        3

struct seen_registry {
    struct registry_tables *tables;
    struct registry_shot first, last;
};

/* One shot being taken. */
struct reader {
    const struct look *look;
    const struct registry_tables *tables;
    struct registry_shot *shot;
    uint32_t reads_left;
    uint64_t client;        /* whose lists are walked */
    struct seen_loop *loop; /* likewise */
    uint64_t desk;          /* likewise */
};

/* ---- reading a field ---- */

static bool read_bytes(struct reader *reader, uint64_t address, void *ret_bytes, size_t size)
{
    memset(ret_bytes, 0, size);
    if (reader->reads_left == 0) {
        reader->shot->is_cut = true;
        return false;
    }
    reader->reads_left--;
    return procfs_read_memory(reader->look, address, ret_bytes, size) == size;
}

static uint64_t field_at(const struct reader *reader, unsigned kind, unsigned field, uint64_t base)
{
    return base == 0 ? 0 : base + registry_offset(reader->tables, kind, field);
}

/* The four below give 0 where nothing can be read. */
static uint64_t get_u64(struct reader *reader, unsigned kind, unsigned field, uint64_t base)
{
    uint64_t value;

    (void)read_bytes(reader, field_at(reader, kind, field, base), &value, sizeof(value));
    return value;
}

static int get_int(struct reader *reader, unsigned kind, unsigned field, uint64_t base)
{
    int value;

    (void)read_bytes(reader, field_at(reader, kind, field, base), &value, sizeof(value));
    return value;
}

static uint16_t get_u16(struct reader *reader, unsigned kind, unsigned field, uint64_t base)
{
    uint16_t value;

    (void)read_bytes(reader, field_at(reader, kind, field, base), &value, sizeof(value));
    return value;
}

static bool get_bool(struct reader *reader, unsigned kind, unsigned field, uint64_t base)
{
    uint8_t value;

    (void)read_bytes(reader, field_at(reader, kind, field, base), &value, sizeof(value));
    return value != 0;
}

/* Text at `address`: as much as fits; a text near the end of what is mapped is read byte by byte.
 */
static void get_text_at(struct reader *reader, uint64_t address, char *ret_text, size_t size)
{
    char text[128];
    size_t wanted = il_min_u64(size, sizeof(text)), got = 0;

    if (address != 0 && !read_bytes(reader, address, text, wanted)) {
        while (got < wanted && read_bytes(reader, address + got, text + got, 1) &&
               text[got] != '\0') {
            got++;
        }
        text[il_min_u64(got, wanted - 1)] = '\0';
    }
    text[wanted - 1] = '\0';
    look_clean(ret_text, size, address == 0 ? "" : text);
}

static void get_text(struct reader *reader, unsigned kind, unsigned field, uint64_t base,
                     char *ret_text, size_t size)
{
    get_text_at(reader, field_at(reader, kind, field, base), ret_text, size);
}

static void get_text_behind(struct reader *reader, unsigned kind, unsigned field, uint64_t base,
                            char *ret_text, size_t size)
{
    get_text_at(reader, get_u64(reader, kind, field, base), ret_text, size);
}

/* ---- walking a list ---- */

/* Call `visit` with what each node of the list at `list` is part of. */
static void walk(struct reader *reader, uint64_t list, unsigned kind, unsigned link_field,
                 uint32_t count_max, void (*visit)(struct reader *reader, uint64_t address))
{
    uint64_t links[2], previous = list; /* struct il_list: next, prev */

    if (list == 0 || !read_bytes(reader, list, links, sizeof(links))) {
        return;
    }
    for (uint32_t count = 0; links[0] != list; count++) {
        uint64_t node = links[0];

        if (count == count_max) {
            reader->shot->is_cut = true;
            return;
        }
        if (!read_bytes(reader, node, links, sizeof(links)) || links[1] != previous) {
            reader->shot->is_torn = true;
            return;
        }
        visit(reader, node - registry_offset(reader->tables, kind, link_field));
        previous = node;
    }
}

/* ---- who waits ---- */

static void describe_runtime(struct reader *reader, uint64_t part, char *ret_name, size_t size)
{
    get_text(reader, SHOWN_TASKS, SHOWN_RUNTIME_NAME,
             get_u64(reader, SHOWN_TASKS, SHOWN_PART_RUNTIME, part), ret_name, size);
}

static void describe_party(struct reader *reader, uint64_t party, char *ret_text, size_t size)
{
    char task[32], runtime[32];
    uint64_t address;

    if (!get_bool(reader, SHOWN_TASKS, SHOWN_PARTY_IS_TASK, party)) {
        uint64_t loop = get_u64(reader, SHOWN_TASKS, SHOWN_PARTY_LOOP, party);

        snprintf(ret_text, size, "thread %d",
                 get_int(reader, SHOWN_LOOPS, SHOWN_LOOP_KERNEL_THREAD, loop));
        return;
    }
    address = party - registry_offset(reader->tables, SHOWN_TASKS, SHOWN_TASK_PARTY);
    get_text(reader, SHOWN_TASKS, SHOWN_TASK_NAME, address, task, sizeof(task));
    describe_runtime(reader, get_u64(reader, SHOWN_TASKS, SHOWN_TASK_PART, address), runtime,
                     sizeof(runtime));
    snprintf(ret_text, size, "task '%s' on runtime '%s'", task, runtime);
}

static void describe_request(struct reader *reader, uint64_t request, struct seen_request *seen)
{
    get_text_behind(reader, SHOWN_CLIENTS, SHOWN_REQUEST_METHOD, request, seen->method,
                    sizeof(seen->method));
    get_text_behind(reader, SHOWN_CLIENTS, SHOWN_REQUEST_HOST, request, seen->host,
                    sizeof(seen->host));
    get_text_behind(reader, SHOWN_CLIENTS, SHOWN_REQUEST_PATH_AND_QUERY, request, seen->path,
                    sizeof(seen->path));
    seen->path[strcspn(seen->path, "?")] = '\0'; /* a query may hold secrets */
    seen->port = get_u16(reader, SHOWN_CLIENTS, SHOWN_REQUEST_PORT, request);
}

/* ---- clients ---- */

static struct seen_request *new_request(struct reader *reader)
{
    if (reader->shot->request_count == REGISTRY_REQUESTS_MAX) {
        reader->shot->is_cut = true;
        return NULL;
    }
    return &reader->shot->requests[reader->shot->request_count++];
}

static void read_call(struct reader *reader, uint64_t call)
{
    struct seen_request *seen = new_request(reader);
    uint64_t home, party;

    if (seen == NULL) {
        return;
    }
    seen->id = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_ID, call);
    seen->client_address = reader->client;
    get_text(reader, SHOWN_CLIENTS, SHOWN_CLIENT_NAME, reader->client, seen->client,
             sizeof(seen->client));
    describe_request(reader, get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_REQUEST, call), seen);
    home = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_HOME, call);
    party = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_PARTY, call);
    if (party != 0) {
        describe_party(reader, party, seen->waiter, sizeof(seen->waiter));
    } else {
        char loop[32];

        get_text(reader, SHOWN_LOOPS, SHOWN_LOOP_NAME, home, loop, sizeof(loop));
        snprintf(seen->waiter, sizeof(seen->waiter), "a callback on loop '%s'", loop);
    }
    seen->home_loop_id = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_ID, home);
    seen->phase = get_int(reader, SHOWN_CLIENTS, SHOWN_CALL_PHASE, call);
    seen->phase_since_ns = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_PHASE_SINCE_NS, call);
    seen->started_ns = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_STARTED_NS, call);
    seen->conn_id = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_CONN_ID, call);
    seen->task_id = get_u64(reader, SHOWN_CLIENTS, SHOWN_CALL_TASK_ID, call);
}

/* NULL when there are too many. */
static struct seen_conn *new_conn(struct reader *reader, uint64_t origin)
{
    struct registry_shot *shot = reader->shot;
    struct seen_conn *seen;

    if (shot->conn_count == REGISTRY_CONNS_MAX) {
        shot->is_cut = true;
        return NULL;
    }
    seen = &shot->conns[shot->conn_count++];
    seen->client_address = reader->client;
    get_text(reader, SHOWN_CLIENTS, SHOWN_ORIGIN_HOST, origin, seen->host, sizeof(seen->host));
    seen->port = get_u16(reader, SHOWN_CLIENTS, SHOWN_ORIGIN_PORT, origin);
    return seen;
}

static void read_conn(struct reader *reader, uint64_t conn)
{
    struct seen_conn *seen =
        new_conn(reader, get_u64(reader, SHOWN_CLIENTS, SHOWN_CONN_ORIGIN, conn));
    uint64_t bound;

    if (seen == NULL) {
        return;
    }
    seen->id = get_u64(reader, SHOWN_CLIENTS, SHOWN_CONN_ID, conn);
    seen->fd = get_int(reader, SHOWN_CLIENTS, SHOWN_CONN_FD, conn);
    seen->loop_id = get_u64(reader, SHOWN_CLIENTS, SHOWN_CONN_LOOP_ID, conn);
    seen->is_idle = get_bool(reader, SHOWN_CLIENTS, SHOWN_CONN_IS_IDLE, conn);
    seen->is_exchanging = get_bool(reader, SHOWN_CLIENTS, SHOWN_CONN_IS_EXCHANGING, conn);
    bound = get_u64(reader, SHOWN_CLIENTS, SHOWN_CONN_BOUND, conn);
    if (bound != 0) {
        seen->is_bound = true;
        seen->loop_id = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_ID,
                                get_u64(reader, SHOWN_BOUND, SHOWN_BOUND_LOOP, bound));
    }
}

/* An HTTP/2 connection, which several requests have streams of. */
static void read_session(struct reader *reader, uint64_t session)
{
    struct seen_conn *seen =
        new_conn(reader, get_u64(reader, SHOWN_SESSIONS, SHOWN_SESSION_ORIGIN, session));
    uint64_t driver;

    if (seen == NULL) {
        return;
    }
    seen->id = get_u64(reader, SHOWN_SESSIONS, SHOWN_SESSION_ID, session);
    seen->fd = get_int(reader, SHOWN_SESSIONS, SHOWN_SESSION_FD, session);
    seen->is_idle = get_int(reader, SHOWN_SESSIONS, SHOWN_SESSION_SLOT_COUNT, session) == 0;
    seen->is_exchanging = !get_bool(reader, SHOWN_SESSIONS, SHOWN_SESSION_IS_UNSENT, session);
    driver = get_u64(reader, SHOWN_SESSIONS, SHOWN_SESSION_DRIVER, session);
    seen->is_bound = driver != 0;
    seen->loop_id = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_ID, driver);
    seen->is_window_used_up =
        seen->is_bound && get_int(reader, SHOWN_SESSIONS, SHOWN_SESSION_WINDOW, session) == 0;
    seen->hoarder_loop_id = get_u64(reader, SHOWN_SESSIONS, SHOWN_SESSION_HOARDER, session);
}

static void read_client(struct reader *reader, uint64_t client)
{
    uint64_t calls = field_at(reader, SHOWN_CLIENTS, SHOWN_CLIENT_CALL_LIST, client);
    uint32_t shelf_size = registry_offset(reader->tables, SHOWN_CLIENTS, SHOWN_SHELF_SIZE);
    uint32_t shelf_count = registry_offset(reader->tables, SHOWN_CLIENTS, SHOWN_SHELF_COUNT);

    reader->client = client;
    for (uint32_t i = 0; i < shelf_count && calls != 0 && !reader->shot->is_cut; i++) {
        walk(reader, calls + (uint64_t)i * shelf_size, SHOWN_CLIENTS, SHOWN_CALL_LINK,
             REGISTRY_REQUESTS_MAX, read_call);
    }
    walk(reader, field_at(reader, SHOWN_CLIENTS, SHOWN_CLIENT_CONN_LIST, client), SHOWN_CLIENTS,
         SHOWN_CONN_LINK, REGISTRY_CONNS_MAX, read_conn);
    if (registry_offset(reader->tables, SHOWN_SESSIONS, SHOWN_SESSION_LIST) != 0) {
        walk(reader, field_at(reader, SHOWN_SESSIONS, SHOWN_SESSION_LIST, client), SHOWN_SESSIONS,
             SHOWN_SESSION_LINK, REGISTRY_CONNS_MAX, read_session);
    }
}

/* ---- loops, and what runs there ---- */

static void read_running_task(struct reader *reader, uint64_t task)
{
    if (get_bool(reader, SHOWN_TASKS, SHOWN_TASK_IS_RUNNING, task) &&
        !get_bool(reader, SHOWN_TASKS, SHOWN_TASK_IS_AWAY, task)) {
        get_text(reader, SHOWN_TASKS, SHOWN_TASK_NAME, task, reader->loop->task,
                 sizeof(reader->loop->task));
    }
}

static void read_loop(struct reader *reader, uint64_t loop)
{
    struct registry_shot *shot = reader->shot;
    struct seen_loop *seen;
    uint64_t part;
    bool was_cut = shot->is_cut;

    if (shot->loop_count == REGISTRY_LOOPS_MAX) {
        shot->is_cut = true;
        return;
    }
    seen = &shot->loops[shot->loop_count++];
    seen->address = loop;
    seen->id = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_ID, loop);
    get_text(reader, SHOWN_LOOPS, SHOWN_LOOP_NAME, loop, seen->name, sizeof(seen->name));
    seen->is_thread_loop = get_bool(reader, SHOWN_LOOPS, SHOWN_LOOP_IS_THREAD_LOOP, loop);
    seen->hold = (int)(get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_HOLD, loop) & 3);
    seen->since_ns = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_SINCE_NS, loop);
    seen->turn_count = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_TURN_COUNT, loop);
    seen->is_polling = get_bool(reader, SHOWN_LOOPS, SHOWN_LOOP_IS_POLLING, loop);
    seen->kernel_thread = get_int(reader, SHOWN_LOOPS, SHOWN_LOOP_KERNEL_THREAD, loop);
    seen->epoll_fd = get_int(reader, SHOWN_LOOPS, SHOWN_POLLER_FD,
                             get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_POLLER, loop));
    if (seen->is_thread_loop) {
        return;
    }
    part = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_OWNER, loop);
    describe_runtime(reader, part, seen->runtime, sizeof(seen->runtime));
    seen->is_current_thread = get_int(reader, SHOWN_TASKS, SHOWN_RUNTIME_KIND,
                                      get_u64(reader, SHOWN_TASKS, SHOWN_PART_RUNTIME, part)) ==
                              IL_RUNTIME_CURRENT_THREAD;
    if (seen->hold == SHOWN_HOLD_IN_USER) {
        reader->loop = seen;
        walk(reader, field_at(reader, SHOWN_TASKS, SHOWN_PART_TASK_LIST, part), SHOWN_TASKS,
             SHOWN_TASK_LINK, REGISTRY_TASKS_WALKED, read_running_task);
        shot->is_cut = was_cut; /* the task's name is all that would be missing */
    }
}

/* ---- desks: requests that were handed to another runtime ---- */

static void read_ticket(struct reader *reader, uint64_t ticket)
{
    struct seen_request *seen = new_request(reader);
    uint64_t loop;

    if (seen == NULL) {
        return;
    }
    seen->is_handed = true;
    seen->id = get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_ID, ticket);
    get_text(reader, SHOWN_DESKS, SHOWN_DESK_NAME, reader->desk, seen->client,
             sizeof(seen->client));
    get_text(reader, SHOWN_DESKS, SHOWN_DESK_OWNER, reader->desk, seen->owner, sizeof(seen->owner));
    get_text_behind(reader, SHOWN_DESKS, SHOWN_DESK_KIND, reader->desk, seen->desk_kind,
                    sizeof(seen->desk_kind));
    describe_request(reader, get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_REQUEST, ticket), seen);
    describe_party(reader, get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_WAITER, ticket), seen->waiter,
                   sizeof(seen->waiter));
    seen->phase = get_int(reader, SHOWN_DESKS, SHOWN_TICKET_STATE, ticket);
    seen->phase_since_ns = get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_SINCE_NS, ticket);
    seen->started_ns = get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_HANDED_OVER_NS, ticket);
    loop = get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_LOOP, ticket);
    if (loop == 0) {
        loop = get_u64(reader, SHOWN_DESKS, SHOWN_DESK_LOOP, reader->desk);
    }
    seen->home_loop_id = get_u64(reader, SHOWN_LOOPS, SHOWN_LOOP_ID, loop);
    seen->task_id = get_u64(reader, SHOWN_DESKS, SHOWN_TICKET_TASK_ID, ticket);
}

static void read_desk(struct reader *reader, uint64_t desk)
{
    reader->desk = desk;
    walk(reader, field_at(reader, SHOWN_DESKS, SHOWN_DESK_TICKET_LIST, desk), SHOWN_DESKS,
         SHOWN_TICKET_LINK, REGISTRY_REQUESTS_MAX, read_ticket);
}

/* ---- a shot ---- */

static void shot_deinit(struct registry_shot *shot)
{
    il_free(shot->requests);
    il_free(shot->conns);
    il_free(shot->loops);
    memset(shot, 0, sizeof(*shot));
}

static bool shot_init(struct registry_shot *shot)
{
    memset(shot, 0, sizeof(*shot));
    shot->requests = il_calloc(REGISTRY_REQUESTS_MAX, sizeof(shot->requests[0]));
    shot->conns = il_calloc(REGISTRY_CONNS_MAX, sizeof(shot->conns[0]));
    shot->loops = il_calloc(REGISTRY_LOOPS_MAX, sizeof(shot->loops[0]));
    if (shot->requests == NULL || shot->conns == NULL || shot->loops == NULL) {
        shot_deinit(shot);
        return false;
    }
    return true;
}

static void shot_take_once(const struct look *look, struct registry_shot *shot)
{
    struct reader reader = {
        .look = look,
        .tables = look->registry->tables,
        .shot = shot,
        .reads_left = REGISTRY_READS_MAX,
    };

    walk(&reader, registry_root(reader.tables, SHOWN_LOOPS), SHOWN_LOOPS, SHOWN_LOOP_LINK,
         REGISTRY_LOOPS_MAX, read_loop);
    walk(&reader, registry_root(reader.tables, SHOWN_DESKS), SHOWN_DESKS, SHOWN_DESK_LINK,
         REGISTRY_DESKS_MAX, read_desk);
    walk(&reader, registry_root(reader.tables, SHOWN_CLIENTS), SHOWN_CLIENTS, SHOWN_CLIENT_LINK,
         REGISTRY_CLIENTS_MAX, read_client);
}

static void shot_take(const struct look *look, struct registry_shot *shot)
{
    for (int i = 0; i < REGISTRY_TRIES; i++) {
        shot_deinit(shot);
        if (!shot_init(shot)) {
            return;
        }
        shot_take_once(look, shot);
        if (!shot->is_torn) {
            return;
        }
    }
}

void registry_begin(struct look *look)
{
    struct registry_tables *tables = registry_find(look);

    if (tables == NULL) {
        return;
    }
    look->registry = il_calloc(1, sizeof(*look->registry));
    if (look->registry == NULL) {
        il_free(tables);
        return;
    }
    look->registry->tables = tables;
    shot_take(look, &look->registry->first);
}

void registry_deinit(struct look *look)
{
    if (look->registry != NULL) {
        shot_deinit(&look->registry->first);
        shot_deinit(&look->registry->last);
        il_free(look->registry->tables);
        il_free(look->registry);
        look->registry = NULL;
    }
}

/* ---- comparing two ---- */

static bool request_was_there(const struct registry_shot *shot, const struct seen_request *request)
{
    for (uint32_t i = 0; i < shot->request_count; i++) {
        const struct seen_request *before = &shot->requests[i];

        if (before->id == request->id && before->is_handed == request->is_handed) {
            return before->phase == request->phase &&
                   before->phase_since_ns == request->phase_since_ns &&
                   before->conn_id == request->conn_id;
        }
    }
    return false;
}

static bool loop_was_there(const struct registry_shot *shot, const struct seen_loop *loop)
{
    for (uint32_t i = 0; i < shot->loop_count; i++) {
        const struct seen_loop *before = &shot->loops[i];

        if (before->id == loop->id) {
            return before->hold == loop->hold && before->turn_count == loop->turn_count &&
                   before->since_ns == loop->since_ns;
        }
    }
    return false;
}

static bool window_was_used_up(const struct registry_shot *shot, const struct seen_conn *conn)
{
    for (uint32_t i = 0; i < shot->conn_count; i++) {
        if (shot->conns[i].id == conn->id) {
            return shot->conns[i].is_window_used_up;
        }
    }
    return false;
}

void registry_end(struct look *look)
{
    struct registry_shot *last;

    if (look->registry == NULL) {
        return;
    }
    last = &look->registry->last;
    shot_take(look, last);
    for (uint32_t i = 0; i < last->request_count; i++) {
        last->requests[i].stood = request_was_there(&look->registry->first, &last->requests[i]);
    }
    for (uint32_t i = 0; i < last->loop_count; i++) {
        last->loops[i].stood = loop_was_there(&look->registry->first, &last->loops[i]);
    }
    for (uint32_t i = 0; i < last->conn_count; i++) {
        last->conns[i].is_window_used_up =
            last->conns[i].is_window_used_up &&
            window_was_used_up(&look->registry->first, &last->conns[i]);
    }
    if (last->is_cut || last->is_torn) {
        look_limit(look, "interloop's own record was read in part only: %s",
                   last->is_cut ? "it is larger than the doctor's maxima"
                                : "it changed while it was read");
    }
}

/* ---- asking ---- */

const struct registry_shot *registry_shot(const struct look *look)
{
    return look->registry != NULL ? &look->registry->last : NULL;
}

const struct seen_loop *registry_loop(const struct look *look, uint64_t id)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; shot != NULL && id != 0 && i < shot->loop_count; i++) {
        if (shot->loops[i].id == id) {
            return &shot->loops[i];
        }
    }
    return NULL;
}

const struct seen_loop *registry_loop_of_set(const struct look *look, uint32_t set)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; shot != NULL && set < look->set_count && i < shot->loop_count; i++) {
        if (look_set_of_fd(look, shot->loops[i].epoll_fd) == set) {
            return &shot->loops[i];
        }
    }
    return NULL;
}

const struct seen_conn *registry_conn(const struct look *look, uint64_t id)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; shot != NULL && id != 0 && i < shot->conn_count; i++) {
        if (shot->conns[i].id == id) {
            return &shot->conns[i];
        }
    }
    return NULL;
}

/* ---- words ---- */

void registry_label_loop(const struct seen_loop *loop, char *ret_text, size_t size)
{
    if (loop->is_thread_loop) {
        snprintf(ret_text, size, "the private loop '%s' of thread %d", loop->name,
                 loop->kernel_thread);
    } else {
        snprintf(ret_text, size, "loop '%s' of %s runtime '%s'", loop->name,
                 loop->is_current_thread ? "current-thread" : "multi-thread", loop->runtime);
    }
}

static const char *state_of_handed(int state)
{
    static const char *const names[] = {
        [SHOWN_TICKET_ARRIVING] = "waits for a place",
        [SHOWN_TICKET_QUEUED] = "handed over, not taken up",
        [SHOWN_TICKET_TAKEN] = "is being sent",
        [SHOWN_TICKET_OVER] = "is over",
    };

    return state >= 0 && (size_t)state < il_array_count(names) ? names[state] : "?";
}

void registry_label_request(const struct seen_request *request, char *ret_text, size_t size)
{
    if (request->is_handed) {
        snprintf(ret_text, size, "%s %s to %s:%u, %s; %s '%s' of runtime '%s', %s", request->method,
                 request->path, request->host, request->port, request->waiter, request->desk_kind,
                 request->client, request->owner, state_of_handed(request->phase));
    } else {
        snprintf(ret_text, size, "%s %s to %s:%u, %s; pool '%s', phase %s", request->method,
                 request->path, request->host, request->port, request->waiter, request->client,
                 il_phase_name((enum il_phase)request->phase));
    }
}
