/* tls_plain.c: the client's end of the simulated TLS: the filter that stands where OpenSSL's does
 * (src/net/tls_stream.c) while a world is running. docs/sim.md says what it is for.
 *
 * The linker leads the library's calls of tls_attach, tls_facts_new and tls_protocol here (--wrap,
 * sim/meson.build), and those that are not of a simulated world on to OpenSSL's. Settings and the
 * store of sessions are the library's own: a ticket travels in an SSL_SESSION that holds nothing
 * else.
 *
 *   HELLO --> FLIGHT --(1.2)--> LAST --> FINISHING --> OPEN     each step may have to wait for the
 *                \------(1.3)-------------^                     socket, to read or to write
 *
 * Owns: what a connection has half read and half written, a reference to its il_tls.
 * Threads: whoever drives the connection. Ends: close. */
#include <errno.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>

#include "net/tls_inside.h"
#include "sim/inside.h"
#include "sim/tls.h"

#define SILENT_BYTES_MAX (512 * 1024)
#define IN_SIZE          (SIM_TLS_RECORD_MAX + 1024) /* it reads ahead, as OpenSSL does */
#define OUT_SIZE         (SIM_TLS_RECORD_MAX + 4096) /* a record of data, and what is asked of us */
#define OUT_SPARE        (SIM_TLS_HEAD_SIZE + SIM_TLS_ANSWER_SIZE) /* for an alert or an answer */
#define HASH_INIT        UINT64_C(0xcbf29ce484222325)
#define HASH_PRIME       UINT64_C(0x100000001b3)

enum plain_state {
    PLAIN_HELLO,
    PLAIN_FLIGHT,
    PLAIN_LAST,
    PLAIN_FINISHING,
    PLAIN_OPEN,
};

struct plain {
    struct il_tls *tls; /* a reference */
    int fd;             /* the stream's */
    uint16_t port;
    enum plain_state state;
    enum sim_tls_version version;
    bool is_resumed, is_verified;
    bool is_failed;  /* failure says why */
    bool is_ended;   /* by CLOSE_NOTIFY */
    bool is_drained; /* the socket had less than was asked for */
    bool owes;       /* an answer is in `out`: before it is gone nothing more is read */
    bool is_held;    /* an update is under way: no data may be sent */
    int send_errno;  /* why the socket takes no more: what is sent is dropped */
    size_t silent_bytes;
    uint64_t ticket;                     /* to resume with; 0: none */
    uint64_t new_ticket;                 /* of 1.2, before the peer has been checked; 0: none */
    uint32_t sent_count, received_count; /* records */
    struct il_error failure;
    const char *alpn;  /* offered; static */
    char protocol[16]; /* chosen of them */
    char host[SIM_TLS_NAME_MAX];
    char name[SIM_TLS_NAME_MAX]; /* whose certificate it is */
    char session_key[TLS_SESSION_KEY_SIZE];

    size_t pending_size; /* bytes of the user's that are in `out` and were not reported as sent */
    uint64_t pending_hash;
    size_t data_at, data_left; /* of the record that is being read, in `in` */
    size_t in_begin, in_end;
    size_t out_begin, out_end;
    char in[IN_SIZE], out[OUT_SIZE];
};

/* ---- failures ---- */

static ssize_t fail(struct plain *plain, enum il_code code, int sys_errno, const char *what)
{
    if (!plain->is_failed) {
        (void)il_fail_errno(&plain->failure, code, sys_errno, "%.60s:%u: %s", plain->host,
                            plain->port, what);
        plain->is_failed = true;
    }
    return sys_errno != 0 ? -sys_errno : -EPROTO;
}

static ssize_t fail_broken(struct plain *plain, int sys_errno)
{
    return fail(plain, plain->state == PLAIN_OPEN ? IL_EPEERCLOSED : IL_ETLS, sys_errno,
                "TLS: the connection broke");
}

static ssize_t fail_cut_off(struct plain *plain)
{
    if (plain->state == PLAIN_OPEN) {
        return fail(plain, IL_EPEERCLOSED, 0,
                    "cut off: the connection ended without TLS's close_notify");
    }
    return fail(plain, IL_ETLS, 0, "TLS handshake: the server closed the connection");
}

/* ---- output ---- */

/* True when nothing is left to be sent. */
static bool flush(struct plain *plain)
{
    while (plain->out_begin < plain->out_end) {
        struct iovec part = { plain->out + plain->out_begin, plain->out_end - plain->out_begin };
        ssize_t sent = sys_socket_send(plain->fd, &part, 1);

        if (sent == -EAGAIN) {
            return false;
        }
        if (sent < 0) { /* the server takes no more; it may have said why, or answered */
            plain->send_errno = (int)-sent;
            break;
        }
        plain->out_begin += (size_t)sent;
    }
    plain->out_begin = plain->out_end = 0;
    plain->owes = false;
    return true;
}

static void put(struct plain *plain, enum sim_tls_kind kind, const void *payload, size_t size)
{
    il_assert(plain->out_end + SIM_TLS_HEAD_SIZE + size <= sizeof(plain->out));
    plain->out_end +=
        sim_tls_put(plain->out + plain->out_end, kind, plain->sent_count++, payload, size);
}

static void put_byte(struct plain *plain, enum sim_tls_kind kind, unsigned byte)
{
    char payload = (char)byte;

    put(plain, kind, &payload, 1);
}

static void put_hello(struct plain *plain)
{
    char hello[SIM_TLS_HELLO_SIZE] = { SIM_TLS_HELLO };
    char *at = hello + 1;

    memcpy(at, &plain->ticket, sizeof(plain->ticket));
    at = sim_tls_put_text(at + sizeof(plain->ticket), plain->host);
    (void)sim_tls_put_text(at, plain->alpn);
    put(plain, SIM_TLS_HANDSHAKE, hello, sizeof(hello));
}

static void put_updated(struct plain *plain)
{
    char updated[SIM_TLS_ANSWER_SIZE] = { SIM_TLS_UPDATED };

    put(plain, SIM_TLS_HANDSHAKE, updated, sizeof(updated));
}

/* ---- sessions ---- */

/* The store takes them from OpenSSL; of a session it looks at version and id alone. */
static void ticket_keep(struct plain *plain, uint64_t ticket)
{
    SSL_SESSION *session;

    if (!plain->tls->is_resuming || (session = SSL_SESSION_new()) == NULL) {
        return;
    }
    il_assert(SSL_SESSION_set1_id(session, (unsigned char *)&ticket, sizeof(ticket)) == 1);
    il_assert(SSL_SESSION_set_protocol_version(
                  session, plain->version == SIM_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION) == 1);
    tls_sessions_put(&plain->tls->sessions, plain->session_key, session);
}

static void ticket_take(struct plain *plain)
{
    SSL_SESSION *session = NULL;

    if (plain->tls->is_resuming) {
        session = tls_sessions_take(&plain->tls->sessions, plain->session_key);
    }
    if (session != NULL) {
        unsigned size;

        memcpy(&plain->ticket, SSL_SESSION_get_id(session, &size), sizeof(plain->ticket));
        SSL_SESSION_free(session);
    }
}

/* ---- the handshake ---- */

static ssize_t fail_certificate(struct plain *plain)
{
    char what[SIM_TLS_NAME_MAX + 64];

    put_byte(plain, SIM_TLS_ALERT, SIM_TLS_BAD_CERTIFICATE);
    (void)flush(plain); /* if it cannot be sent at once, the server has to do without */
    (void)snprintf(what, sizeof(what), "certificate not accepted: it is for %s", plain->name);
    return fail(plain, IL_ECERT, 0, what);
}

static bool is_offered(const struct plain *plain)
{
    size_t size = strlen(plain->protocol);

    for (const char *at = plain->alpn; *at != '\0'; at += (unsigned char)*at + 1) {
        if ((unsigned char)*at == size && memcmp(at + 1, plain->protocol, size) == 0) {
            return true;
        }
    }
    return size == 0;
}

static ssize_t on_server_hello(struct plain *plain, const char *at, const char *end)
{
    if (plain->state != PLAIN_FLIGHT || end - at < 3 ||
        (at[0] != SIM_TLS_1_2 && at[0] != SIM_TLS_1_3)) {
        return fail(plain, IL_ETLS, 0, "TLS handshake: unexpected message");
    }
    plain->version = (enum sim_tls_version)at[0];
    plain->is_resumed = at[1] != 0;
    if (sim_tls_get_text(at + 2, end, plain->protocol, sizeof(plain->protocol)) == NULL ||
        (plain->is_resumed && plain->ticket == 0)) {
        return fail(plain, IL_ETLS, 0, "TLS handshake: decode error");
    }
    if (plain->is_resumed) { /* the certificate is that of the session */
        memcpy(plain->name, plain->host, sizeof(plain->name));
    }
    return 1;
}

static ssize_t on_certificate(struct plain *plain, const char *at, const char *end)
{
    if (plain->state != PLAIN_FLIGHT ||
        sim_tls_get_text(at, end, plain->name, sizeof(plain->name)) == NULL) {
        return fail(plain, IL_ETLS, 0, "TLS handshake: decode error");
    }
    if (plain->tls->is_verifying && strcmp(plain->name, plain->host) != 0) {
        return fail_certificate(plain);
    }
    return 1;
}

static ssize_t on_finished(struct plain *plain, bool is_last)
{
    bool is_expected = plain->version == SIM_TLS_1_3
                           ? plain->state == PLAIN_FLIGHT && is_last
                           : plain->state == (is_last ? PLAIN_LAST : PLAIN_FLIGHT);

    if (!is_expected || plain->name[0] == '\0') {
        return fail(plain, IL_ETLS, 0, "TLS handshake: unexpected message");
    }
    if (plain->state == PLAIN_FLIGHT) {
        put_byte(plain, SIM_TLS_HANDSHAKE, SIM_TLS_FINISHED);
    }
    plain->state = is_last ? PLAIN_FINISHING : PLAIN_LAST;
    return 1;
}

static ssize_t on_ticket(struct plain *plain, const char *at, const char *end)
{
    uint64_t ticket;

    if (end - at < (ptrdiff_t)sizeof(ticket)) {
        return fail(plain, IL_ETLS, 0, "TLS: decode error");
    }
    memcpy(&ticket, at, sizeof(ticket));
    if (plain->state == PLAIN_OPEN) {
        ticket_keep(plain, ticket);
    } else {
        plain->new_ticket = ticket;
    }
    return 1;
}

/* The far end wants an answer, and nothing else until it has agreed. */
static ssize_t on_update(struct plain *plain, unsigned message)
{
    if (plain->state != PLAIN_OPEN || plain->is_held == (message == SIM_TLS_UPDATE)) {
        return fail(plain, IL_ETLS, 0, "TLS: unexpected message");
    }
    plain->is_held = message == SIM_TLS_UPDATE;
    if (plain->is_held) {
        put_updated(plain);
        plain->owes = true;
    }
    return 1;
}

static ssize_t on_message(struct plain *plain, const char *at, const char *end)
{
    unsigned message = at < end ? (unsigned char)*at++ : 0;

    switch (message) {
    case SIM_TLS_SERVER_HELLO:
        return on_server_hello(plain, at, end);
    case SIM_TLS_CERTIFICATE:
        return on_certificate(plain, at, end);
    case SIM_TLS_HELLO_DONE:
    case SIM_TLS_FINISHED:
        return on_finished(plain, message == SIM_TLS_FINISHED);
    case SIM_TLS_TICKET:
        return on_ticket(plain, at, end);
    case SIM_TLS_UPDATE:
    case SIM_TLS_UPDATE_DONE:
        return on_update(plain, message);
    default:
        return fail(plain, IL_ETLS, 0, "TLS: unexpected message");
    }
}

/* ---- input ---- */

static ssize_t on_record(struct plain *plain, const struct sim_tls_record *record)
{
    const char *end = record->payload + record->size;

    if (record->sequence != plain->received_count++) {
        return fail(plain, IL_ETLS, 0, "TLS: bad record mac");
    }
    switch (record->kind) {
    case SIM_TLS_HANDSHAKE:
        return on_message(plain, record->payload, end);
    case SIM_TLS_DATA:
        if (plain->state != PLAIN_OPEN) {
            return fail(plain, IL_ETLS, 0, "TLS handshake: unexpected data");
        }
        plain->data_at = (size_t)(record->payload - plain->in);
        plain->data_left = record->size;
        return 1;
    default:
        if (record->size == 1 && record->payload[0] == SIM_TLS_CLOSE_NOTIFY) {
            plain->is_ended = true;
            return plain->state == PLAIN_OPEN
                       ? 0
                       : fail(plain, IL_ETLS, 0, "TLS handshake: the server ended it");
        }
        return fail(plain, IL_ETLS, 0, "TLS: the server sent an alert: handshake failure");
    }
}

/* Receive what there is room for. */
static ssize_t fill(struct plain *plain)
{
    ssize_t got;
    size_t room;

    memmove(plain->in, plain->in + plain->in_begin, plain->in_end - plain->in_begin);
    plain->in_end -= plain->in_begin;
    plain->in_begin = 0;
    room = sizeof(plain->in) - plain->in_end;
    il_assert(room > 0);
    if (plain->silent_bytes > SILENT_BYTES_MAX) {
        return fail(plain, IL_ETLS, 0, "TLS: too much of it without any of the response");
    }
    got = sys_socket_receive(plain->fd, plain->in + plain->in_end, room);
    plain->is_drained = got < (ssize_t)room;
    if (got <= 0) {
        return got == -EAGAIN ? got
               : got == 0     ? fail_cut_off(plain)
                              : fail_broken(plain, (int)-got);
    }
    plain->silent_bytes += (size_t)got;
    plain->in_end += (size_t)got;
    return 1;
}

/* One record further: positive; 0 at CLOSE_NOTIFY; -EAGAIN, whichever way it is; -errno. */
static ssize_t step(struct plain *plain)
{
    struct sim_tls_record record;
    size_t size;
    ssize_t result;

    if (plain->owes && !flush(plain)) {
        return -EAGAIN;
    }
    while ((size = sim_tls_look(plain->in + plain->in_begin, plain->in_end - plain->in_begin,
                                &record)) == 0) {
        result = fill(plain);
        if (result <= 0) {
            return result;
        }
    }
    if (size == SIZE_MAX) {
        return fail(plain, IL_ETLS, 0, "TLS: wrong version number; does the server speak TLS?");
    }
    if (plain->out_end + OUT_SPARE > sizeof(plain->out) && !flush(plain)) {
        return -EAGAIN; /* no room for what the record may ask of us */
    }
    plain->in_begin += size;
    return on_record(plain, &record);
}

/* Until there is data: positive. */
static ssize_t await_data(struct plain *plain)
{
    ssize_t result = 1;

    while (result > 0 && plain->data_left == 0) {
        result = plain->is_ended ? 0 : step(plain);
    }
    return result;
}

/* ---- the filter ---- */

static ssize_t handshake_step(struct plain *plain)
{
    switch (plain->state) {
    case PLAIN_HELLO:
        put_hello(plain);
        plain->state = PLAIN_FLIGHT;
        return 1;
    case PLAIN_FINISHING:
        if (!is_offered(plain)) {
            return fail(plain, IL_ETLS, 0, "TLS handshake: a protocol that was not offered");
        }
        if (!flush(plain)) {
            return -EAGAIN;
        }
        plain->is_verified = plain->tls->is_verifying;
        plain->silent_bytes = 0;
        plain->state = PLAIN_OPEN;
        if (plain->new_ticket != 0) {
            ticket_keep(plain, plain->new_ticket);
        }
        return 1;
    default:
        return flush(plain) ? step(plain) : -EAGAIN;
    }
}

static enum il_code filter_handshake(void *state, struct il_error *err)
{
    struct plain *plain = state;

    il_assert(plain->state != PLAIN_OPEN);
    il_assert(!plain->is_failed);
    while (plain->state != PLAIN_OPEN) {
        ssize_t result = handshake_step(plain);

        if (result == -EAGAIN) {
            return IL_EAGAIN;
        }
        if (result < 0) {
            if (err != NULL) {
                *err = plain->failure;
            }
            return plain->failure.code;
        }
    }
    return IL_OK;
}

static ssize_t filter_receive(void *state, void *bytes, size_t size)
{
    struct plain *plain = state;
    ssize_t result;
    size_t part;

    il_assert(plain->state == PLAIN_OPEN);
    if (plain->is_failed) {
        return -EPROTO;
    }
    result = await_data(plain);
    if (result <= 0) {
        return result;
    }
    part = (size_t)il_min_u64(size, plain->data_left);
    memcpy(bytes, plain->in + plain->data_at, part);
    plain->data_at += part;
    plain->data_left -= part;
    plain->silent_bytes = 0;
    return (ssize_t)part;
}

/* FNV-1a of the first bytes offered; says how many there were. */
static uint64_t hash_of(const struct iovec *parts, int part_count, size_t most, size_t *ret_size)
{
    uint64_t hash = HASH_INIT;
    size_t size = 0;

    for (int i = 0; i < part_count && size < most; i++) {
        const unsigned char *at = parts[i].iov_base;
        size_t part = (size_t)il_min_u64(parts[i].iov_len, most - size);

        for (size_t k = 0; k < part; k++) {
            hash = (hash ^ at[k]) * HASH_PRIME;
        }
        size += part;
    }
    *ret_size = size;
    return hash;
}

/* What is offered must begin with the bytes that were taken in before. */
static void check_same(const struct plain *plain, const struct iovec *parts, int part_count)
{
    size_t size;
    uint64_t hash = hash_of(parts, part_count, plain->pending_size, &size);

    il_assert(size == plain->pending_size);
    il_assert(size == 0 || hash == plain->pending_hash);
}

/* Make a record of the first bytes offered. */
static void put_data(struct plain *plain, const struct iovec *parts, int part_count)
{
    char *payload = plain->out + plain->out_end + SIM_TLS_HEAD_SIZE;
    size_t most = SIM_TLS_PAYLOAD_MAX, size = 0;

    if (sim_fault(SIM_FAULT_RECORDS)) {
        most = 1 + (size_t)draw_of(SIM_FOR_NETWORK, most);
    }
    plain->pending_hash = hash_of(parts, part_count, most, &plain->pending_size);
    for (int i = 0; i < part_count && size < most; i++) {
        size_t part = (size_t)il_min_u64(parts[i].iov_len, most - size);

        memcpy(payload + size, parts[i].iov_base, part);
        size += part;
    }
    put(plain, SIM_TLS_DATA, payload, size);
}

static ssize_t filter_send(void *state, const struct iovec *parts, int part_count)
{
    struct plain *plain = state;
    size_t sent;

    il_assert(plain->state == PLAIN_OPEN);
    if (plain->is_failed) {
        return -EPROTO;
    }
    check_same(plain, parts, part_count);
    while (plain->pending_size == 0) {
        ssize_t result = 1;

        if (!flush(plain)) { /* an answer, first */
            return -EAGAIN;
        }
        if (!plain->is_held) {
            put_data(plain, parts, part_count);
        } else {
            result = plain->data_left > 0 ? -EAGAIN : plain->is_ended ? -EPIPE : step(plain);
        }
        if (result <= 0) {
            return result == 0 ? -EPIPE : result;
        }
    }
    if (!flush(plain)) {
        return -EAGAIN;
    }
    sent = plain->pending_size;
    plain->pending_size = 0;
    return plain->send_errno != 0 ? -plain->send_errno : (ssize_t)sent;
}

static bool holds_input(const struct plain *plain)
{
    return plain->data_left > 0 || plain->in_begin < plain->in_end;
}

static bool filter_is_quiet(void *state)
{
    struct plain *plain = state;

    /* Who has to write first cannot know what lies behind, nor who has half a record. */
    return !plain->is_failed && await_data(plain) == -EAGAIN && !plain->owes && !holds_input(plain);
}

static bool filter_holds_input(const void *state)
{
    const struct plain *plain = state;

    return !plain->is_failed && holds_input(plain);
}

static bool filter_is_drained(const void *state)
{
    const struct plain *plain = state;

    return plain->is_drained && !holds_input(plain);
}

static const struct il_error *filter_failure(const void *state)
{
    const struct plain *plain = state;

    return plain->is_failed ? &plain->failure : NULL;
}

static void filter_close(void *state)
{
    struct plain *plain = state;

    if (plain->state == PLAIN_OPEN && !plain->is_failed && plain->send_errno == 0 &&
        plain->out_end + OUT_SPARE <= sizeof(plain->out)) {
        put_byte(plain, SIM_TLS_ALERT, SIM_TLS_CLOSE_NOTIFY);
        (void)flush(plain); /* if it cannot be sent at once, the peer has to do without */
    }
    (void)il_tls_unref(plain->tls);
    il_free(plain);
}

static const struct stream_filter plain_filter = {
    .handshake = filter_handshake,
    .receive = filter_receive,
    .send = filter_send,
    .is_quiet = filter_is_quiet,
    .holds_input = filter_holds_input,
    .is_drained = filter_is_drained,
    .failure = filter_failure,
    .close = filter_close,
};

/* ---- once for the process ---- */

void tls_prepare(void)
{
    static bool is_prepared;
    struct il_tls *tls;
    struct il_error ignored; /* then it is the first run that finds out */

    if (!is_prepared) {
        is_prepared = true;
        if (il_tls_new(NULL, &tls, &ignored) == IL_OK) {
            (void)il_tls_unref(tls);
        }
    }
}

/* ---- in place of tls_stream.c's ---- */

enum il_code __real_tls_attach(struct il_tls *settings, const struct tls_peer *peer,
                               struct stream *stream, struct il_error *err);
struct tls_facts *__real_tls_facts_new(const struct stream *stream);
const char *__real_tls_protocol(const struct stream *stream);
enum il_code __wrap_tls_attach(struct il_tls *settings, const struct tls_peer *peer,
                               struct stream *stream, struct il_error *err);
struct tls_facts *__wrap_tls_facts_new(const struct stream *stream);
const char *__wrap_tls_protocol(const struct stream *stream);

enum il_code __wrap_tls_attach(struct il_tls *settings, const struct tls_peer *peer,
                               struct stream *stream, struct il_error *err)
{
    struct plain *plain;

    if (!sim_is_running()) {
        return __real_tls_attach(settings, peer, stream, err);
    }
    il_assert(stream_is_plain(stream));
    il_assert(strlen(peer->host) < sizeof(plain->host));
    plain = il_calloc(1, sizeof(*plain));
    if (plain == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for TLS with %.80s", peer->host);
    }
    plain->tls = il_tls_ref(settings);
    plain->fd = stream->fd;
    plain->port = peer->port;
    plain->alpn = peer->alpn;
    memcpy(plain->host, peer->host, strlen(peer->host) + 1);
    (void)snprintf(plain->session_key, sizeof(plain->session_key), "%s:%u %s", peer->host,
                   peer->port, peer->alpn);
    ticket_take(plain);
    stream->filter = &plain_filter;
    stream->state = plain;
    return IL_OK;
}

struct tls_facts *__wrap_tls_facts_new(const struct stream *stream)
{
    const struct plain *plain = stream->state;
    struct tls_facts *facts;

    if (stream->filter != &plain_filter) {
        return __real_tls_facts_new(stream);
    }
    facts = il_calloc(1, sizeof(*facts));
    if (facts == NULL) {
        return NULL;
    }
    atomic_init(&facts->ref_count, 1);
    (void)snprintf(facts->info.version, sizeof(facts->info.version), "%s",
                   plain->version == SIM_TLS_1_3 ? "TLSv1.3" : "TLSv1.2");
    (void)snprintf(facts->info.cipher, sizeof(facts->info.cipher), "none");
    (void)snprintf(facts->info.subject, sizeof(facts->info.subject), "CN=%.100s", plain->name);
    memcpy(facts->info.protocol, plain->protocol, sizeof(plain->protocol));
    facts->info.is_resumed = plain->is_resumed;
    facts->info.is_verified = plain->is_verified;
    return facts;
}

const char *__wrap_tls_protocol(const struct stream *stream)
{
    const struct plain *plain = stream->state;

    return stream->filter == &plain_filter ? plain->protocol : __real_tls_protocol(stream);
}
