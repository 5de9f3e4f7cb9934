/* tls_far.c: the far end of a simulated TLS connection, with its faults. tls.h says what travels.
 *
 *   HELLO --> FLIGHT (late, or never) --> FINISHED --> OPEN --> ENDED
 *
 * What it sends between UPDATE and UPDATE_DONE is kept back.
 *
 * Owns: what has come of a record that is not whole, what is kept back, alarms.
 * Threads: the world's, and simulated ones. Ends: sim_tls_stop, then sim_tls_free. */
#include <stdlib.h>
#include <string.h>

#include "sim/inside.h"
#include "sim/tls.h"

#define LATE_NS_MAX    (400 * SIM_NS_PER_MS)
#define IDLE_NS_MAX    (2000 * SIM_NS_PER_MS)
#define AGREE_NS_MAX   (100 * SIM_NS_PER_MS)
#define MUTE_NS        (60000 * SIM_NS_PER_MS) /* after that it gives up */
#define MUTE_LOOK_NS   (100 * SIM_NS_PER_MS)
#define TICKETS_SENT   2 /* after a handshake, as OpenSSL does */
#define SMALL_MAX      600
#define PADDING_MAX    3000 /* a chain of certificates */
#define PART_MAX       8192 /* of data in one record, unless they are small */
#define CUT_IN_WEIGHTS 4    /* one in so many cuts is in the middle of a handshake */

enum far_state {
    FAR_HELLO,
    FAR_FLIGHT,
    FAR_FINISHED,
    FAR_OPEN,
    FAR_ENDED,
};

enum far_update {
    FAR_AT_REST,
    FAR_ASKED,    /* UPDATE is on its way */
    FAR_ANSWERED, /* not yet agreed */
};

struct bytes {
    char *at;
    size_t size, capacity;
};

struct sim_tls {
    struct sim_tls_server *server;
    struct sim_link *link;
    const struct sim_tls_events *events;
    void *arg;
    enum far_state state;
    enum far_update update;
    enum sim_tls_version version;
    bool is_resumed, is_ready;
    bool is_cut, is_finished; /* nothing more is sent */
    bool must_fin;            /* after what is kept back */
    uint64_t mute_until_ns;
    uint64_t ticket; /* that it wants to resume; 0: none */
    char host[SIM_TLS_NAME_MAX], alpn[32], protocol[16];
    uint32_t sent_count, received_count;
    struct sim_alarm flight_alarm, update_alarm, ticket_alarm, cut_alarm;
    struct bytes in, kept, out;
};

/* ---- bytes ---- */

static char *bytes_room(struct bytes *bytes, size_t size)
{
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = 2 * (bytes->size + size);
        bytes->at = realloc(bytes->at, bytes->capacity);
        il_assert(bytes->at != NULL);
    }
    return bytes->at + bytes->size;
}

static void bytes_add(struct bytes *bytes, const char *more, size_t size)
{
    if (size > 0) {
        memcpy(bytes_room(bytes, size), more, size);
        bytes->size += size;
    }
}

static void put(struct sim_tls *tls, enum sim_tls_kind kind, const char *payload, size_t size)
{
    char *to = bytes_room(&tls->out, SIM_TLS_HEAD_SIZE + size);

    tls->out.size += sim_tls_put(to, kind, tls->sent_count++, payload, size);
}

static void put_message(struct sim_tls *tls, enum sim_tls_message message)
{
    char payload = (char)message;

    put(tls, SIM_TLS_HANDSHAKE, &payload, 1);
}

static void flush(struct sim_tls *tls, bool is_whole)
{
    if (tls->out.size > 0 && !tls->is_cut) {
        if (is_whole) {
            sim_link_send_whole(tls->link, tls->out.at, tls->out.size);
        } else {
            sim_link_send(tls->link, tls->out.at, tls->out.size);
        }
    }
    tls->out.size = 0;
}

/* ---- tickets ---- */

/* Which one it is, is no secret here; 0 is none. */
static void put_ticket(struct sim_tls *tls)
{
    char payload[1 + sizeof(uint64_t)] = { SIM_TLS_TICKET };
    uint64_t ticket = ++tls->server->ticket_count;

    memcpy(payload + 1, &ticket, sizeof(ticket));
    put(tls, SIM_TLS_HANDSHAKE, payload, sizeof(payload));
}

/* Is this one that can be resumed? In 1.3 it is to be used once. */
static bool ticket_take(struct sim_tls *tls)
{
    struct sim_tls_server *server = tls->server;

    if (tls->ticket == 0 || tls->ticket > server->ticket_count) {
        return false;
    }
    if (tls->version == SIM_TLS_1_3 && tls->ticket < SIM_TLS_TICKETS_MAX) {
        if (server->is_used[tls->ticket]) {
            tls->events->on_wrong(tls->arg, "a ticket is used twice");
        }
        server->is_used[tls->ticket] = true;
    }
    return true;
}

/* ---- updates ---- */

static void begin_update(struct sim_tls *tls)
{
    put_message(tls, SIM_TLS_UPDATE);
    tls->update = FAR_ASKED;
    flush(tls, false);
}

static bool may_update(const struct sim_tls *tls)
{
    return tls->state == FAR_OPEN && tls->update == FAR_AT_REST && !tls->must_fin && !tls->is_cut &&
           !tls->is_finished;
}

static void fin(struct sim_tls *tls);
static void send_data(struct sim_tls *tls, const char *bytes, size_t size, bool is_whole);

static void send_kept(struct sim_tls *tls)
{
    struct bytes kept = tls->kept;

    tls->update = FAR_AT_REST;
    tls->kept = (struct bytes){ 0 };
    send_data(tls, kept.at, kept.size, false);
    free(kept.at);
}

static void on_update_alarm(struct sim_alarm *alarm)
{
    struct sim_tls *tls = il_container_of(alarm, struct sim_tls, update_alarm);

    put_message(tls, SIM_TLS_UPDATE_DONE);
    send_kept(tls);
    if (tls->must_fin) {
        fin(tls);
    }
}

/* ---- sending ---- */

static void on_cut_alarm(struct sim_alarm *alarm)
{
    struct sim_tls *tls = il_container_of(alarm, struct sim_tls, cut_alarm);

    tls->events->on_end(tls->arg);
}

/* The end, without CLOSE_NOTIFY. */
static void cut(struct sim_tls *tls)
{
    flush(tls, false);
    sim_link_fin(tls->link);
    tls->is_cut = true;
    sim_alarm_set(&tls->cut_alarm, 0); /* nobody is told from inside of what he calls */
}

static void put_data(struct sim_tls *tls, const char *bytes, size_t size)
{
    size_t most = PART_MAX;

    if (size > 0 && sim_fault(SIM_FAULT_RECORDS)) {
        most = 1 + (size_t)draw_of(SIM_FOR_NETWORK, SMALL_MAX);
        if (draw_of(SIM_FOR_NETWORK, 4) == 0) {
            put(tls, SIM_TLS_DATA, NULL, 0);
        }
    }
    while (size > 0) {
        size_t part = (size_t)il_min_u64(size, most);

        put(tls, SIM_TLS_DATA, bytes, part);
        bytes += part;
        size -= part;
    }
}

/* The client breaks the rules: there is no going on with it. */
static void wrong(struct sim_tls *tls, const char *what)
{
    tls->events->on_wrong(tls->arg, what);
    cut(tls);
}

/* Around the data, or when all is quiet. */
static void put_some_ticket(struct sim_tls *tls, bool *ret_is_behind)
{
    switch (draw_of(SIM_FOR_NETWORK, 3)) {
    case 0:
        put_ticket(tls);
        break;
    case 1:
        *ret_is_behind = true;
        break;
    default:
        sim_alarm_set(&tls->ticket_alarm, draw_of(SIM_FOR_NETWORK, IDLE_NS_MAX));
        break;
    }
}

static void send_data(struct sim_tls *tls, const char *bytes, size_t size, bool is_whole)
{
    bool is_behind = false;

    if (size > 0 && sim_fault(SIM_FAULT_CUT)) {
        put_data(tls, bytes, (size_t)draw_of(SIM_FOR_NETWORK, size + 1));
        cut(tls);
        return;
    }
    if (tls->state == FAR_OPEN && tls->version == SIM_TLS_1_3 && sim_fault(SIM_FAULT_TICKET)) {
        put_some_ticket(tls, &is_behind);
    }
    put_data(tls, bytes, size);
    if (is_behind) {
        put_ticket(tls);
    }
    flush(tls, is_whole);
}

static void on_ticket_alarm(struct sim_alarm *alarm)
{
    struct sim_tls *tls = il_container_of(alarm, struct sim_tls, ticket_alarm);

    if (tls->update != FAR_AT_REST || tls->is_finished || tls->is_cut) {
        return; /* now is not the time */
    }
    if (may_update(tls) && sim_fault(SIM_FAULT_UPDATE)) {
        begin_update(tls);
    } else {
        put_ticket(tls);
        flush(tls, false);
    }
}

static void send_or_keep(struct sim_tls *tls, const char *bytes, size_t size, bool is_whole)
{
    if (!tls->is_ready || tls->is_cut || tls->is_finished || tls->must_fin) {
        return;
    }
    if (may_update(tls) && sim_fault(SIM_FAULT_UPDATE)) {
        begin_update(tls);
    }
    if (tls->update != FAR_AT_REST) {
        bytes_add(&tls->kept, bytes, size);
    } else {
        send_data(tls, bytes, size, is_whole);
    }
}

void sim_tls_send(struct sim_tls *tls, const char *bytes, size_t size)
{
    send_or_keep(tls, bytes, size, false);
}

void sim_tls_send_whole(struct sim_tls *tls, const char *bytes, size_t size)
{
    send_or_keep(tls, bytes, size, true);
}

static void fin(struct sim_tls *tls)
{
    char alert = SIM_TLS_CLOSE_NOTIFY;

    if (tls->is_cut || tls->is_finished) {
        return;
    }
    if (tls->is_ready && !sim_fault(SIM_FAULT_CUT)) {
        put(tls, SIM_TLS_ALERT, &alert, 1);
    }
    flush(tls, false);
    sim_link_fin(tls->link);
    tls->is_finished = true;
}

void sim_tls_fin(struct sim_tls *tls)
{
    if (tls->update != FAR_AT_REST) {
        tls->must_fin = true;
    } else {
        fin(tls);
    }
}

void sim_tls_close(struct sim_tls *tls)
{
    if (tls->update != FAR_AT_REST) {
        send_kept(tls); /* nobody waits for an answer any more */
    }
    fin(tls);
    sim_tls_stop(tls);
}

/* ---- the handshake ---- */

static void refuse(struct sim_tls *tls)
{
    char alert = SIM_TLS_HANDSHAKE_FAILURE;

    put(tls, SIM_TLS_ALERT, &alert, 1);
    cut(tls);
}

static bool offers(const struct sim_tls *tls, const char *protocol)
{
    return strstr(tls->alpn, protocol) != NULL;
}

static void choose(struct sim_tls *tls)
{
    enum sim_tls_choice choice = tls->server->choice;
    const char *protocol = "";

    if (choice == SIM_TLS_CHOOSES_ANY) {
        choice = (enum sim_tls_choice)draw_of(SIM_FOR_NETWORK, SIM_TLS_CHOOSES_ANY);
    }
    if (offers(tls, "h2") && (choice == SIM_TLS_CHOOSES_H2 || !offers(tls, "http/1.1"))) {
        protocol = "h2";
    } else if (choice != SIM_TLS_CHOOSES_NOTHING) {
        protocol = "http/1.1";
    }
    memcpy(tls->protocol, protocol, strlen(protocol) + 1);
}

static void put_server_hello(struct sim_tls *tls, bool is_wrong)
{
    char payload[64] = { SIM_TLS_SERVER_HELLO, (char)tls->version, (char)tls->is_resumed };
    char *end = sim_tls_put_text(payload + 3, is_wrong ? "http/0.9" : tls->protocol);

    put(tls, SIM_TLS_HANDSHAKE, payload, (size_t)(end - payload));
}

static void put_certificate(struct sim_tls *tls)
{
    char payload[SIM_TLS_NAME_MAX + PADDING_MAX + 2] = { SIM_TLS_CERTIFICATE };
    bool is_other = sim_fault(SIM_FAULT_CERTIFICATE);
    char *end = sim_tls_put_text(payload + 1, is_other ? "other.example" : tls->host);

    end += draw_of(SIM_FOR_NETWORK, PADDING_MAX);
    put(tls, SIM_TLS_HANDSHAKE, payload, (size_t)(end - payload));
}

static void put_flight(struct sim_tls *tls, bool is_wrong)
{
    choose(tls);
    tls->is_resumed = ticket_take(tls);
    put_server_hello(tls, is_wrong);
    if (!tls->is_resumed) {
        put_certificate(tls);
    }
    put_message(tls, tls->version == SIM_TLS_1_3 ? SIM_TLS_FINISHED : SIM_TLS_HELLO_DONE);
}

static void send_flight(struct sim_tls *tls)
{
    bool is_wrong = sim_fault(SIM_FAULT_ALERT);

    if (is_wrong && draw_of(SIM_FOR_NETWORK, 2) == 0) {
        refuse(tls);
        return;
    }
    put_flight(tls, is_wrong);
    if (sim_fault(SIM_FAULT_CUT) && draw_of(SIM_FOR_NETWORK, CUT_IN_WEIGHTS) == 0) {
        tls->out.size = (size_t)draw_of(SIM_FOR_NETWORK, tls->out.size);
        cut(tls);
        return;
    }
    flush(tls, false);
    tls->state = FAR_FINISHED;
    if (tls->version == SIM_TLS_1_3 && !is_wrong && draw_of(SIM_FOR_NETWORK, 2) == 0) {
        tls->is_ready = true; /* it may speak before the client has finished */
        tls->events->on_ready(tls->arg);
    }
}

static void on_flight_alarm(struct sim_alarm *alarm)
{
    struct sim_tls *tls = il_container_of(alarm, struct sim_tls, flight_alarm);

    if (tls->mute_until_ns > sim.now_ns && (sim.faults >> SIM_FAULT_MUTE & 1) != 0) {
        sim_alarm_set(&tls->flight_alarm, MUTE_LOOK_NS);
    } else if (tls->mute_until_ns != 0 && tls->mute_until_ns <= sim.now_ns) {
        cut(tls);
    } else {
        send_flight(tls);
    }
}

static void on_hello(struct sim_tls *tls, const char *at, const char *end)
{
    if (tls->state != FAR_HELLO || end - at < (ptrdiff_t)sizeof(tls->ticket)) {
        wrong(tls, "an unexpected HELLO");
        return;
    }
    memcpy(&tls->ticket, at, sizeof(tls->ticket));
    at = sim_tls_get_text(at + sizeof(tls->ticket), end, tls->host, sizeof(tls->host));
    if (at == NULL || sim_tls_get_text(at, end, tls->alpn, sizeof(tls->alpn)) == NULL) {
        wrong(tls, "a damaged HELLO");
        return;
    }
    tls->state = FAR_FLIGHT;
    if (sim_fault(SIM_FAULT_MUTE)) {
        tls->mute_until_ns = sim.now_ns + MUTE_NS;
        sim_alarm_set(&tls->flight_alarm, MUTE_LOOK_NS);
    } else if (sim_fault(SIM_FAULT_LATE)) {
        sim_alarm_set(&tls->flight_alarm, draw_of(SIM_FOR_NETWORK, LATE_NS_MAX));
    } else {
        send_flight(tls);
    }
}

static void on_finished(struct sim_tls *tls)
{
    if (tls->state != FAR_FINISHED) {
        wrong(tls, "an unexpected FINISHED");
        return;
    }
    tls->state = FAR_OPEN;
    if (tls->version == SIM_TLS_1_2) {
        put_ticket(tls);
        put_message(tls, SIM_TLS_FINISHED);
    }
    for (int i = 0; tls->version == SIM_TLS_1_3 && i < TICKETS_SENT; i++) {
        put_ticket(tls);
    }
    flush(tls, false);
    if (!tls->is_ready) {
        tls->is_ready = true;
        tls->events->on_ready(tls->arg);
    }
}

/* ---- receiving ---- */

static void on_message(struct sim_tls *tls, const char *at, const char *end)
{
    unsigned message = at < end ? (unsigned char)*at++ : 0;

    switch (message) {
    case SIM_TLS_HELLO:
        on_hello(tls, at, end);
        break;
    case SIM_TLS_FINISHED:
        on_finished(tls);
        break;
    case SIM_TLS_UPDATED:
        if (tls->update != FAR_ASKED) {
            wrong(tls, "an answer to no UPDATE");
            break;
        }
        tls->update = FAR_ANSWERED;
        sim_alarm_set(&tls->update_alarm, draw_of(SIM_FOR_NETWORK, AGREE_NS_MAX));
        break;
    default:
        wrong(tls, "an unknown message");
        break;
    }
}

static void on_data(struct sim_tls *tls, const struct sim_tls_record *record)
{
    if (tls->state != FAR_OPEN || tls->update == FAR_ANSWERED) {
        wrong(tls, "data at a time when there must be none");
        return;
    }
    tls->events->on_bytes(tls->arg, record->payload, record->size);
    if (may_update(tls) && sim_fault(SIM_FAULT_UPDATE)) {
        begin_update(tls);
    }
}

static void on_record(struct sim_tls *tls, const struct sim_tls_record *record)
{
    if (record->sequence != tls->received_count++) {
        wrong(tls, "a record is missing, or was sent twice");
    } else if (record->kind == SIM_TLS_HANDSHAKE) {
        on_message(tls, record->payload, record->payload + record->size);
    } else if (record->kind == SIM_TLS_DATA) {
        on_data(tls, record);
    } else {
        tls->events->on_end(tls->arg);
    }
}

void sim_tls_feed(struct sim_tls *tls, const char *bytes, size_t size)
{
    struct sim_tls_record record;
    size_t used = 0, part;

    bytes_add(&tls->in, bytes, size);
    while (tls->state != FAR_ENDED && !tls->is_cut &&
           (part = sim_tls_look(tls->in.at + used, tls->in.size - used, &record)) > 0) {
        if (part == SIZE_MAX) {
            wrong(tls, "what came was no record");
            break;
        }
        used += part;
        on_record(tls, &record);
    }
    memmove(tls->in.at, tls->in.at + used, tls->in.size - used);
    tls->in.size -= used;
}

/* ---- life ---- */

bool sim_tls_begins(const char *bytes, size_t size)
{
    return size > 0 && bytes[0] == SIM_TLS_HANDSHAKE;
}

struct sim_tls *sim_tls_new(struct sim_tls_server *server, struct sim_link *link,
                            const struct sim_tls_events *events, void *arg)
{
    struct sim_tls *tls = calloc(1, sizeof(*tls));

    il_assert(tls != NULL);
    if (!server->is_drawn) {
        server->is_drawn = true;
        server->version = draw_of(SIM_FOR_NETWORK, 4) == 0 ? SIM_TLS_1_2 : SIM_TLS_1_3;
        if (draw_of(SIM_FOR_NETWORK, 2) == 0) { /* else HTTP/2 */
            server->choice = (enum sim_tls_choice)draw_of(SIM_FOR_NETWORK, SIM_TLS_CHOICE_COUNT);
        }
    }
    tls->server = server;
    tls->link = link;
    tls->events = events;
    tls->arg = arg;
    tls->version = server->version;
    tls->flight_alarm.ring = on_flight_alarm;
    tls->update_alarm.ring = on_update_alarm;
    tls->ticket_alarm.ring = on_ticket_alarm;
    tls->cut_alarm.ring = on_cut_alarm;
    return tls;
}

void sim_tls_stop(struct sim_tls *tls)
{
    tls->state = FAR_ENDED;
    sim_alarm_unset(&tls->flight_alarm);
    sim_alarm_unset(&tls->update_alarm);
    sim_alarm_unset(&tls->ticket_alarm);
    sim_alarm_unset(&tls->cut_alarm);
}

void sim_tls_free(struct sim_tls *tls)
{
    if (tls != NULL) {
        free(tls->in.at);
        free(tls->kept.at);
        free(tls->out.at);
        free(tls);
    }
}

const char *sim_tls_protocol(const struct sim_tls *tls)
{
    return tls->protocol;
}
