/* link.c: connections between a client's socket and a service, and what travels on them.
 *
 * Owns: links, the segments under way, listeners. Each direction is in order; a segment arrives
 *   after the run's latency, a jitter, and perhaps much later. A host that is lost answers nothing
 *   any more: what is sent on such a link lies until sim_calm(), or until the client's kernel gives
 *   up.
 * Threads: link_..., which clients use, simulated ones; the rest is the world's. Services are
 *   called by the world only, never from inside a call of theirs.
 * Ends: a link, when nothing is under way and both sides have ended it. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "sim/inside.h"

#define SLOW_NS_MAX    (300 * SIM_NS_PER_MS)
#define PIECES_MAX     6
#define SYN_AGAIN_NS   (1000 * SIM_NS_PER_MS)
#define CONNECT_NS_MAX (127000 * SIM_NS_PER_MS) /* the kernel's six tries */
#define UNANSWERED_NS  (924600 * SIM_NS_PER_MS) /* and its fifteen, of data */
#define SERVICE_PORT   20000
#define SERVICE_PORTS  10000

enum segment_kind {
    SEGMENT_SYN,
    SEGMENT_SYN_ACK,
    SEGMENT_REFUSED,
    SEGMENT_CLIENT_BYTES,
    SEGMENT_CLIENT_FIN,
    SEGMENT_CLIENT_RST,
    SEGMENT_CUT, /* at the service: its side broke */
    SEGMENT_BYTES,
    SEGMENT_FIN,
    SEGMENT_RST,
};

struct segment {
    struct sim_timer timer;
    struct il_list node; /* link->segments */
    struct sim_link *link;
    enum segment_kind kind;
    uint64_t again_ns; /* of a SYN that nobody takes */
    bool is_held;      /* the client's window is full */
    size_t size;
    char bytes[];
};

struct sim_link {
    struct il_list node; /* sim.links */
    struct il_list segments;
    struct sim_service *service; /* NULL: not yet connected */
    void *context;
    struct sim_socket *socket; /* NULL: closed */
    uint16_t port;
    int client_fd;
    uint64_t latency_ns;
    uint64_t last_there_ns, last_back_ns; /* when the last segment arrives */
    struct sim_timer give_up;
    uint64_t window;     /* so much may be on its way to the client and unread there */
    uint64_t in_window;  /* is */
    unsigned held_count; /* segments */
    bool is_lost;
    bool has_client_ended; /* the service knows */
    bool is_finished;      /* the service sends nothing more */
    bool is_closed;        /* nor does it read */
    bool is_over;          /* refused, or reset */
    bool is_refused;       /* bytes came back to a socket that was closed */
    unsigned busy_count;   /* calls of the service under way */
};

static void segment_on_arrival(struct sim_timer *timer);

/* ---- life ---- */

static void link_on_give_up(struct sim_timer *timer)
{
    struct sim_link *link = il_container_of(timer, struct sim_link, give_up);

    if (link->socket != NULL) {
        struct sim_socket *socket = link->socket;

        link->socket = NULL;
        socket_on_reset(socket, ETIMEDOUT);
    }
    link_client_close(link, true);
}

static void segment_free(struct segment *segment)
{
    timer_unset(&segment->timer);
    il_list_unlink(&segment->node);
    free(segment);
}

static void link_free(struct sim_link *link)
{
    struct il_list *node;

    while ((node = link->segments.next) != &link->segments) {
        segment_free(il_container_of(node, struct segment, node));
    }
    timer_unset(&link->give_up);
    il_list_unlink(&link->node);
    free(link);
}

static void link_check(struct sim_link *link)
{
    bool is_done = link->is_over || (link->is_finished && link->has_client_ended) ||
                   (link->service == NULL && link->socket == NULL);

    if (is_done && link->busy_count == 0 && link->socket == NULL &&
        il_list_is_empty(&link->segments)) {
        if (link->service != NULL) {
            link->busy_count++; /* it may still be called upon, to no effect */
            link->service->on_closed(link);
        }
        link_free(link);
    }
}

static uint64_t delay_draw(const struct sim_link *link)
{
    uint64_t ns = link->latency_ns + draw_of(SIM_FOR_NETWORK, sim.weights.jitter_ns + 1);

    return sim_fault(SIM_FAULT_SLOW) ? ns + draw_of(SIM_FOR_NETWORK, SLOW_NS_MAX) : ns;
}

static struct segment *segment_new(struct sim_link *link, enum segment_kind kind, size_t size)
{
    struct segment *segment = calloc(1, sizeof(*segment) + size);

    il_assert(segment != NULL);
    segment->timer.fire = segment_on_arrival;
    segment->link = link;
    segment->kind = kind;
    segment->size = size;
    il_list_init(&segment->node);
    il_list_push_back(&link->segments, &segment->node);
    return segment;
}

static bool is_back(enum segment_kind kind)
{
    return kind == SEGMENT_SYN_ACK || kind == SEGMENT_REFUSED || kind >= SEGMENT_BYTES;
}

static void segment_transmit(struct segment *segment)
{
    struct sim_link *link = segment->link;
    uint64_t *last_ns = is_back(segment->kind) ? &link->last_back_ns : &link->last_there_ns;

    if (!link->is_lost && sim_fault(SIM_FAULT_LOSE)) {
        link->is_lost = true;
    }
    if (link->is_lost) {
        if (link->give_up.place == 0 && link->socket != NULL && !is_back(segment->kind)) {
            timer_set(&link->give_up, sim.now_ns + UNANSWERED_NS);
        }
        return; /* it lies among link->segments */
    }
    *last_ns = il_max_u64(*last_ns, sim.now_ns + delay_draw(link));
    timer_set(&segment->timer, *last_ns);
}

/* A window that is too small for one segment lets it pass when nothing else is there. */
static bool window_has_room(const struct sim_link *link, const struct segment *segment)
{
    return link->in_window == 0 || link->in_window + segment->size <= link->window;
}

static void window_release(struct sim_link *link)
{
    il_list_for_each_safe(&link->segments, node)
    {
        struct segment *segment = il_container_of(node, struct segment, node);

        if (segment->is_held) {
            if (!window_has_room(link, segment)) {
                return;
            }
            segment->is_held = false;
            link->held_count--;
            link->in_window += segment->size;
            segment_transmit(segment);
        }
    }
}

static void window_discard(struct sim_link *link)
{
    il_list_for_each_safe(&link->segments, node)
    {
        struct segment *segment = il_container_of(node, struct segment, node);

        if (segment->is_held) {
            segment_free(segment);
        }
    }
    link->held_count = 0;
}

/* Nobody reads any more: what is held goes, and is thrown away where it arrives. */
static void window_open_wide(struct sim_link *link)
{
    link->window = UINT64_MAX;
    link->in_window = 0;
    window_release(link);
}

void link_on_read(struct sim_link *link, size_t size)
{
    link->in_window -= size;
    window_release(link);
}

static void segment_send(struct segment *segment)
{
    struct sim_link *link = segment->link;
    bool waits = segment->kind == SEGMENT_BYTES || segment->kind == SEGMENT_FIN;

    if (segment->kind == SEGMENT_RST) {
        window_discard(link); /* so does a kernel */
    }
    if (waits && (link->held_count > 0 || !window_has_room(link, segment))) {
        segment->is_held = true;
        link->held_count++;
        return;
    }
    if (waits) {
        link->in_window += segment->size;
    }
    segment_transmit(segment);
}

static void send_bytes(struct sim_link *link, enum segment_kind kind, const char *bytes,
                       size_t size)
{
    unsigned pieces =
        sim_fault(SIM_FAULT_PIECES) ? 2 + (unsigned)draw_of(SIM_FOR_NETWORK, PIECES_MAX - 1) : 1;

    while (size > 0) {
        size_t part = pieces > 1 ? 1 + draw_of(SIM_FOR_NETWORK, size) : size;
        struct segment *segment;

        part = il_min_u64(part, link->window);
        segment = segment_new(link, kind, part);
        memcpy(segment->bytes, bytes, part);
        segment_send(segment);
        bytes += part;
        size -= part;
        pieces -= pieces > 1;
    }
}

/* ---- the client's side ---- */

void link_open(struct sim_socket *socket, uint16_t port)
{
    struct sim_link *link = calloc(1, sizeof(*link));

    il_assert(link != NULL);
    link->socket = socket;
    link->client_fd = socket->file.fd;
    link->port = port;
    link->latency_ns = sim.weights.latency_ns;
    link->window = sim.weights.window_bytes;
    link->give_up.fire = link_on_give_up;
    link->is_lost = port == 0; /* beyond our own host there is nothing */
    il_list_init(&link->segments);
    il_list_init(&link->node);
    il_list_push_back(&sim.links, &link->node);
    socket->link = link;
    timer_set(&link->give_up, sim.now_ns + CONNECT_NS_MAX);
    segment_send(segment_new(link, SEGMENT_SYN, 0));
}

void link_from_client(struct sim_link *link, const struct iovec *parts, int part_count, size_t size)
{
    char *bytes = malloc(size);
    size_t used = 0;

    il_assert(bytes != NULL);
    for (int i = 0; i < part_count && used < size; i++) {
        size_t part = il_min_u64(parts[i].iov_len, size - used);

        memcpy(bytes + used, parts[i].iov_base, part);
        used += part;
    }
    send_bytes(link, SEGMENT_CLIENT_BYTES, bytes, size);
    free(bytes);
}

void link_client_close(struct sim_link *link, bool is_reset)
{
    link->socket = NULL;
    timer_unset(&link->give_up);
    window_open_wide(link);
    segment_send(segment_new(link, is_reset ? SEGMENT_CLIENT_RST : SEGMENT_CLIENT_FIN, 0));
}

/* ---- the service's side ---- */

void sim_link_set_context(struct sim_link *link, void *context)
{
    link->context = context;
}

void *sim_link_context(const struct sim_link *link)
{
    return link->context;
}

/* The server's side breaks off, without the service's doing. */
static void link_cut(struct sim_link *link, enum segment_kind kind)
{
    struct segment *cut = segment_new(link, SEGMENT_CUT, 0);

    segment_send(segment_new(link, kind, 0));
    link->is_finished = link->is_closed = true;
    timer_set(&cut->timer, sim.now_ns);
}

static void send_in_one(struct sim_link *link, const char *bytes, size_t size)
{
    struct segment *segment = segment_new(link, SEGMENT_BYTES, size);

    memcpy(segment->bytes, bytes, size);
    segment_send(segment);
}

void sim_link_send_whole(struct sim_link *link, const char *bytes, size_t size)
{
    if (!link->is_over && !link->is_finished) {
        send_in_one(link, bytes, size);
    }
}

void sim_link_send(struct sim_link *link, const char *bytes, size_t size)
{
    if (link->is_over || link->is_finished) {
        return;
    }
    if (sim_fault(SIM_FAULT_FIN)) {
        send_bytes(link, SEGMENT_BYTES, bytes, draw_of(SIM_FOR_NETWORK, size + 1));
        link_cut(link, SEGMENT_FIN);
    } else if (sim_fault(SIM_FAULT_RESET)) {
        send_bytes(link, SEGMENT_BYTES, bytes, draw_of(SIM_FOR_NETWORK, size + 1));
        link_cut(link, SEGMENT_RST);
    } else {
        send_bytes(link, SEGMENT_BYTES, bytes, size);
    }
}

void sim_link_fin(struct sim_link *link)
{
    if (!link->is_over && !link->is_finished) {
        link->is_finished = true;
        segment_send(segment_new(link, SEGMENT_FIN, 0));
    }
}

void sim_link_close(struct sim_link *link)
{
    sim_link_fin(link);
    link->is_closed = true;
}

void sim_link_reset(struct sim_link *link)
{
    if (!link->is_over && !link->is_closed) {
        link->is_finished = link->is_closed = true;
        segment_send(segment_new(link, SEGMENT_RST, 0));
    }
}

bool sim_link_is_quiet(const struct sim_link *link)
{
    il_list_for_each(&link->segments, node)
    {
        const struct segment *segment = il_container_of(node, const struct segment, node);

        if (is_back(segment->kind) && segment->timer.place != 0) {
            return false;
        }
    }
    return true;
}

/* ---- listeners ---- */

static struct sim_listener *listener_of(uint16_t port)
{
    struct sim_listener *listener = sim.listeners;

    while (listener != NULL && listener->port != port) {
        listener = listener->next;
    }
    return listener;
}

uint16_t sim_listen(struct sim_service *service)
{
    struct sim_listener *listener = calloc(1, sizeof(*listener));

    il_assert(listener != NULL);
    listener->service = service;
    listener->port = (uint16_t)(SERVICE_PORT + draw_of(SIM_FOR_NETWORK, SERVICE_PORTS));
    while (listener_of(listener->port) != NULL) {
        listener->port++;
    }
    listener->next = sim.listeners;
    sim.listeners = listener;
    return listener->port;
}

void sim_listen_stop(uint16_t port)
{
    for (struct sim_listener **at = &sim.listeners; *at != NULL; at = &(*at)->next) {
        struct sim_listener *listener = *at;

        if (listener->port == port) {
            *at = listener->next;
            free(listener);
            return;
        }
    }
}

void sim_listen_pause(uint16_t port, bool is_paused)
{
    struct sim_listener *listener = listener_of(port);

    il_assert(listener != NULL);
    listener->is_paused = is_paused;
}

/* ---- arrivals ---- */

static void arrive_syn(struct segment *segment)
{
    struct sim_link *link = segment->link;
    struct sim_listener *listener = listener_of(link->port);

    if (link->socket == NULL) { /* closed before the handshake was over: nobody sends SYN again */
        segment_free(segment);
        return;
    }
    if (listener != NULL && listener->is_paused) {
        segment->again_ns = segment->again_ns > 0 ? segment->again_ns * 2 : SYN_AGAIN_NS;
        timer_set(&segment->timer, sim.now_ns + segment->again_ns);
        return;
    }
    segment_free(segment);
    if (listener == NULL || sim_fault(SIM_FAULT_REFUSE)) {
        segment_send(segment_new(link, SEGMENT_REFUSED, 0));
        return;
    }
    link->service = listener->service;
    segment_send(segment_new(link, SEGMENT_SYN_ACK, 0));
    link->service->on_open(link->service, link);
}

static void arrive_client_bytes(struct sim_link *link, const struct segment *segment)
{
    if (link->socket != NULL) {
        socket_on_room(link->socket, segment->size);
    }
    trace(SIM_EVENT_ARRIVE_FAR, (uint64_t)link->client_fd, segment->size, NULL);
    if (!link->is_closed) {
        link->service->on_bytes(link, segment->bytes, segment->size);
    } else if (!link->is_over) {
        link->is_over = true; /* to a socket that was closed: RST comes back */
        segment_send(segment_new(link, SEGMENT_RST, 0));
    }
}

static void arrive_client_end(struct sim_link *link)
{
    if (!link->has_client_ended) {
        link->has_client_ended = true;
        if (!link->is_closed) {
            link->service->on_end(link);
        }
    }
}

static void arrive_at_client(struct sim_link *link, const struct segment *segment)
{
    struct sim_socket *socket = link->socket;

    if (socket == NULL) {
        if (segment->kind == SEGMENT_BYTES && !link->is_refused) {
            link->is_refused = true;
            segment_send(segment_new(link, SEGMENT_CLIENT_RST, 0));
        }
        return;
    }
    switch (segment->kind) {
    case SEGMENT_SYN_ACK:
        timer_unset(&link->give_up);
        socket_on_connected(socket);
        break;
    case SEGMENT_BYTES:
        socket_on_bytes(socket, segment->bytes, segment->size);
        break;
    case SEGMENT_FIN:
        socket_on_fin(socket);
        break;
    default:
        link->is_over = true;
        link->socket = NULL;
        window_open_wide(link);
        socket_on_reset(socket, segment->kind == SEGMENT_REFUSED ? ECONNREFUSED : ECONNRESET);
        break;
    }
}

static void arrive(struct sim_link *link, struct segment *segment)
{
    switch (segment->kind) {
    case SEGMENT_SYN:
        arrive_syn(segment); /* frees it, or tries again */
        return;
    case SEGMENT_CLIENT_BYTES:
        arrive_client_bytes(link, segment);
        break;
    case SEGMENT_CLIENT_RST:
    case SEGMENT_CLIENT_FIN:
    case SEGMENT_CUT:
        if (link->service != NULL) {
            link->is_over = link->is_over || segment->kind == SEGMENT_CLIENT_RST;
            arrive_client_end(link);
        }
        break;
    default:
        arrive_at_client(link, segment);
        break;
    }
    segment_free(segment);
}

static void segment_on_arrival(struct sim_timer *timer)
{
    struct segment *segment = il_container_of(timer, struct segment, timer);
    struct sim_link *link = segment->link;

    if (link->is_lost && segment->kind != SEGMENT_CUT) {
        return; /* was under way when the host was lost */
    }
    link->busy_count++;
    arrive(link, segment);
    link->busy_count--;
    link_check(link);
    sim_changed();
}

/* ---- the end of faults, and of the run ---- */

void links_calm(uint32_t faults)
{
    if ((faults >> SIM_FAULT_LOSE & 1) == 0) {
        return;
    }
    il_list_for_each(&sim.links, node)
    {
        struct sim_link *link = il_container_of(node, struct sim_link, node);

        if (link->is_lost && link->port != 0) {
            link->is_lost = false;
            il_list_for_each(&link->segments, at)
            {
                struct segment *segment = il_container_of(at, struct segment, node);

                /* those that are still under way, too: they must not arrive before what was lost */
                if (!segment->is_held && segment->kind != SEGMENT_CUT) {
                    segment_transmit(segment);
                }
            }
        }
    }
}

void links_end(void)
{
    while (!il_list_is_empty(&sim.links)) {
        struct sim_link *link = il_container_of(sim.links.next, struct sim_link, node);

        if (link->service != NULL) {
            link->service->on_closed(link);
        }
        link_free(link);
    }
    while (sim.listeners != NULL) {
        sim_listen_stop(sim.listeners->port);
    }
}
