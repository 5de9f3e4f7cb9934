/* response.c: what came back. A response is plain data, but for a streamed one, which holds the
 * connection (or, with the bound driver, the stream) that its body comes from.
 * Threads: one at a time; see client.h. */
#include <stdio.h>

#include "client/drivers.h"
#include "client/session.h"

#define RESPONSE_BODY_KEPT_MAX 16384 /* bytes of memory that a spare response keeps for a body */
#define RESPONSE_ROOM_MAX      65536 /* bytes that there is to be room for when they are received */

void response_reset(struct il_response *response, struct il_client *client, uint8_t shelf_index)
{
    struct il_headers headers = response->headers, trailers = response->trailers;
    struct il_bytes body = response->body;

    memset(response, 0, sizeof(*response));
    headers_reset(&headers);
    headers_reset(&trailers);
    if (body.capacity > RESPONSE_BODY_KEPT_MAX) {
        il_bytes_deinit(&body);
    }
    il_bytes_truncate(&body, 0);
    response->headers = headers;
    response->trailers = trailers;
    response->body = body;
    response->client = client;
    response->shelf_index = shelf_index;
    response->body_length = IL_LENGTH_UNKNOWN;
}

enum il_code response_new(struct il_client *client, struct il_response **ret_response,
                          struct il_error *err)
{
    struct il_response *response = il_calloc(1, sizeof(*response));

    if (response == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a response");
    }
    pool_begin_use(&client->pool, 0);
    response_reset(response, client, 0);
    *ret_response = response;
    return IL_OK;
}

void response_destroy(struct il_response *response)
{
    headers_deinit(&response->headers);
    headers_deinit(&response->trailers);
    il_bytes_deinit(&response->body);
    il_free(response);
}

void il_response_free(struct il_response *response)
{
    struct il_client *client;
    bool is_kept, is_last_use;

    if (response == NULL) {
        return;
    }
    if (response->conn != NULL) {
        exchange_abandon(response);
    }
    if (response->stream != NULL) {
        bound_abandon(response);
    }
    if (response->session_stream != NULL) {
        session_abandon(response);
    }
    tls_facts_unref(response->tls_facts);
    response->tls_facts = NULL;
    il_free(response->server);
    response->server = NULL;
    client = response->client;
    is_last_use = pool_end_response(&client->pool, response, &is_kept);
    if (!is_kept) {
        response_destroy(response);
    }
    if (is_last_use) {
        client_finish(client);
    }
}

void response_take_head(struct il_response *response, struct h1_response *parser)
{
    response->status = parser->status;
    response->version = (uint8_t)(10 + parser->version_minor);
    memcpy(response->reason, parser->reason, sizeof(response->reason));
    response->framing = parser->framing;
    if (parser->framing == H1_FRAMING_SIZED) {
        response->body_length = parser->body_size;
    } else if (parser->framing == H1_FRAMING_NONE) {
        response->body_length = 0;
    }
    headers_swap(&response->headers, &parser->headers);
}

enum il_code response_make_room(struct il_response *response, uint64_t left, size_t *ret_size,
                                struct il_error *err)
{
    size_t wanted = (size_t)il_min_u64(left, RESPONSE_ROOM_MAX) + 1;

    if (il_bytes_reserve(&response->body, wanted) != IL_OK) {
        return il_fail(err, IL_ENOMEM, "no memory for the next %zu bytes of a body", wanted);
    }
    *ret_size = (size_t)il_min_u64(left, response->body.capacity - response->body.end - 1) + 1;
    return IL_OK;
}

void response_added(struct il_response *response, size_t size)
{
    il_bytes_added(&response->body, size);
    *il_bytes_tail(&response->body) = '\0';
}

enum il_code client_refuse_length(const struct il_client *client, uint64_t length,
                                  struct il_error *err)
{
    return il_fail(err, IL_EBODYSIZE,
                   "the server announces a body of %llu bytes; at most %llu are kept in memory "
                   "(body_size_max); read it with il_send_streaming",
                   (unsigned long long)length, (unsigned long long)client->body_size_max);
}

enum il_code response_append(struct il_response *response, const char *bytes, size_t size,
                             struct il_error *err)
{
    uint64_t size_max = response->client->body_size_max;

    if (size > size_max - il_bytes_size(&response->body)) {
        return il_fail(err, IL_EBODYSIZE,
                       "the body is larger than the %llu bytes that are kept in memory "
                       "(body_size_max); read it with il_send_streaming",
                       (unsigned long long)size_max);
    }
    /* Room for all that was announced, at once, but not more than has a right to be believed. */
    if (il_bytes_size(&response->body) == 0 && response->body_length != IL_LENGTH_UNKNOWN) {
        size_t expected = (size_t)il_min_u64(response->body_length, 1 << 20);

        if (il_bytes_reserve(&response->body, il_max_u64(expected, size) + 1) != IL_OK) {
            return il_fail(err, IL_ENOMEM, "no memory for a body of %zu bytes", expected);
        }
    }
    if (il_bytes_append(&response->body, bytes, size) != IL_OK ||
        il_bytes_reserve(&response->body, 1) != IL_OK) {
        return il_fail(err, IL_ENOMEM, "no memory for the next %zu bytes of a body", size);
    }
    *il_bytes_tail(&response->body) = '\0';
    return IL_OK;
}

/* ---- looking at it ---- */

int il_response_status(const struct il_response *response)
{
    return response->status;
}

const char *il_response_reason(const struct il_response *response)
{
    return response->reason;
}

int il_response_http_version(const struct il_response *response)
{
    return response->version;
}

const struct il_headers *il_response_headers(const struct il_response *response)
{
    return &response->headers;
}

const char *il_response_header(const struct il_response *response, const char *name)
{
    return il_headers_get(&response->headers, name);
}

const struct il_headers *il_response_trailers(const struct il_response *response)
{
    return &response->trailers;
}

uint64_t il_response_body_length(const struct il_response *response)
{
    return response->body_length;
}

void il_response_timing(const struct il_response *response, struct il_response_timing *ret_timing)
{
    *ret_timing = response->timing;
}

const char *il_response_body(const struct il_response *response, size_t *ret_size)
{
    size_t size = il_bytes_size(&response->body);

    if (ret_size != NULL) {
        *ret_size = size;
    }
    return size > 0 ? il_bytes_data(&response->body) : "";
}

/* ---- reading it ---- */

uint64_t response_read_deadline(const struct il_response *response, const struct rt_place *place)
{
    return response->read_timeout_ms == IL_NO_LIMIT
               ? IL_FOREVER
               : loop_now_ns(place->loop) + response->read_timeout_ms * LOOP_NS_PER_MS;
}

enum il_code response_fail_unread(const struct il_client *client, struct il_error *err)
{
    uint64_t limit_ms = client->pool.unread_timeout_ns / LOOP_NS_PER_MS;

    return il_fail_timeout(err, IL_PHASE_READ, limit_ms,
                           "phase read: nobody had read the body for %llu ms (unread_timeout_ms), "
                           "and a request that waited needed the connection",
                           (unsigned long long)limit_ms);
}

enum il_code response_wait(struct il_response *response, struct rt_place *place,
                           uint64_t read_deadline_ns, const char *where, struct il_error *err)
{
    uint64_t until_ns = il_min_u64(read_deadline_ns, response->deadline_ns);
    enum il_code code = rt_wait(place, until_ns, "HTTP body");

    if (code == IL_OK) {
        return IL_OK;
    }
    if (code != IL_ETIMEDOUT) {
        return il_fail(err, code, "reading a response body: %s", il_code_text(code));
    }
    if (response->deadline_ns <= read_deadline_ns) {
        return il_fail_timeout(err, IL_PHASE_READ, response->total_timeout_ms,
                               "the response of %s took longer than the request's total limit of "
                               "%llu ms",
                               where, (unsigned long long)response->total_timeout_ms);
    }
    return il_fail_timeout(err, IL_PHASE_READ, response->read_timeout_ms,
                           "phase read: waited %llu ms for the next bytes of %s",
                           (unsigned long long)response->read_timeout_ms, where);
}

static size_t response_read_memory(struct il_response *response, void *buffer, size_t size)
{
    size_t left = il_bytes_size(&response->body) - response->body_read;
    size_t part = (size_t)il_min_u64(left, size);

    if (part > 0) {
        memcpy(buffer, il_bytes_data(&response->body) + response->body_read, part);
        response->body_read += part;
    }
    return part;
}

/* Who was to send the body, and that it was being received: what failed below does not know. */
static void response_complete_error(const struct il_response *response, struct il_error *err)
{
    if (err->phase == IL_PHASE_NONE) {
        err->phase = IL_PHASE_READ;
    }
    if (response->server != NULL) {
        call_name_server(err, response->server, strchr(response->server, ' ') + 1);
    }
}

static enum il_code response_read_streamed(struct il_response *response, void *buffer, size_t size,
                                           size_t *ret_size, struct il_error *err)
{
    if (response->session_stream != NULL) {
        return session_read(response, buffer, size, ret_size, err);
    }
    return response->stream != NULL ? bound_read(response, buffer, size, ret_size, err)
                                    : exchange_read(response, buffer, size, ret_size, err);
}

enum il_code il_response_read(struct il_response *response, void *buffer, size_t size,
                              size_t *ret_size, struct il_error *err)
{
    enum il_code code;

    if (response == NULL || buffer == NULL || size == 0 || ret_size == NULL) {
        return il_fail(err, IL_EINVAL, "il_response_read: %s",
                       response == NULL ? "response is NULL" : "the buffer has no room");
    }
    switch (response->state) {
    case RESPONSE_WHOLE:
        *ret_size = response_read_memory(response, buffer, size);
        return IL_OK;
    case RESPONSE_ENDED:
        *ret_size = 0;
        return IL_OK;
    case RESPONSE_FAILED:
        return il_fail(err, IL_EINVAL, "il_response_read: an earlier read of this body failed");
    case RESPONSE_STREAMING:
        break;
    }
    code = response_read_streamed(response, buffer, size, ret_size, err);
    if (err != NULL && response->state == RESPONSE_FAILED) {
        response_complete_error(response, err);
    }
    return code;
}

void response_set_server(struct il_response *response, const struct net_peer *peer,
                         struct tls_facts *facts)
{
    response->peer = *peer;
    if (response->tls_facts != facts) { /* both NULL without TLS */
        tls_facts_unref(response->tls_facts);
        response->tls_facts = tls_facts_ref(facts);
    }
}

bool il_response_tls(const struct il_response *response, struct il_tls_info *ret_info)
{
    if (response->tls_facts == NULL) {
        return false;
    }
    *ret_info = response->tls_facts->info;
    return true;
}

bool il_response_peer(const struct il_response *response, struct il_peer_info *ret_info)
{
    struct net_address address = response->peer.address;
    char text[NET_ADDRESS_TEXT_SIZE];

    if (net_address_family(&address) == AF_UNSPEC) {
        return false;
    }
    *ret_info = (struct il_peer_info){
        .port = ntohs(address.v4.sin_port), /* in the same place for both families */
        .is_ipv6 = net_address_family(&address) == AF_INET6,
        .lost_count = response->peer.lost_count,
    };
    address.v4.sin_port = 0;
    (void)snprintf(ret_info->address, sizeof(ret_info->address), "%s",
                   net_address_text(&address, text));
    return true;
}
