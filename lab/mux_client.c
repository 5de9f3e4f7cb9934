/* mux_client.c: the HTTP/2 client of the lab server's own tests. */
#include "lab/mux_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "tests/check.h"

/* ---- what nghttp2 tells ---- */

static struct mux_exchange *find(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *arg)
{
    struct mux_exchange *exchange = find(session, frame->hd.stream_id);
    size_t used;

    if (exchange == NULL) {
        return 0;
    }
    if (strcmp((const char *)name, ":status") == 0) {
        int status = atoi((const char *)value);

        if (status < 200) {
            exchange->informational_count++;
        } else {
            exchange->status = status;
        }
        return 0;
    }
    exchange->trailer_count += frame->headers.cat == NGHTTP2_HCAT_HEADERS &&
                               (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0;
    used = strlen(exchange->head);
    (void)snprintf(exchange->head + used, sizeof(exchange->head) - used, "%.*s: %.*s\n",
                   (int)name_size, (const char *)name, (int)value_size, (const char *)value);
    return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
                   size_t size, void *arg)
{
    struct mux_exchange *exchange = find(session, id);

    if (exchange == NULL || !exchange->reads_nothing) {
        CHECK(nghttp2_session_consume(session, id, size) == 0);
    }
    if (exchange != NULL) {
        for (size_t i = 0; i < size; i++) {
            if (exchange->body_size + i < sizeof(exchange->body) - 1) {
                exchange->body[exchange->body_size + i] = (char)data[i];
            }
        }
        exchange->body_size += size;
    }
    return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct mux_client *client = arg;

    if (frame->hd.type == NGHTTP2_GOAWAY) {
        client->has_goaway = true;
        client->goaway_last_id = frame->goaway.last_stream_id;
        client->goaway_code = frame->goaway.error_code;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct mux_exchange *exchange = find(session, id);

    if (exchange != NULL) {
        exchange->is_over = true;
        exchange->error_code = code;
    }
    return 0;
}

static ssize_t on_wanted(nghttp2_session *session, int32_t id, uint8_t *data, size_t room,
                         uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct mux_exchange *exchange = source->ptr;
    size_t part = il_min_u64(room, exchange->upload_size - exchange->uploaded_size);

    memset(data, 'u', part);
    exchange->uploaded_size += part;
    if (exchange->uploaded_size == exchange->upload_size) {
        if (exchange->ends_nothing) {
            return part > 0 ? (ssize_t)part : NGHTTP2_ERR_DEFERRED;
        }
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)part;
}

/* ---- the connection ---- */

static void send_all(struct mux_client *client)
{
    const uint8_t *data;
    ssize_t size;

    while ((size = nghttp2_session_mem_send(client->session, &data)) > 0 && !client->is_closed) {
        raw_send_bytes(client->raw, data, (size_t)size);
    }
    CHECK(size >= 0);
}

struct mux_client *mux_client_open(struct lab_server *server)
{
    struct mux_client *client = calloc(1, sizeof(*client));
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *options;

    CHECK(client != NULL);
    CHECK(nghttp2_session_callbacks_new(&callbacks) == 0);
    CHECK(nghttp2_option_new(&options) == 0);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    nghttp2_option_set_no_auto_window_update(options, 1);
    CHECK(nghttp2_session_client_new2(&client->session, callbacks, client, options) == 0);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    CHECK(nghttp2_submit_settings(client->session, NGHTTP2_FLAG_NONE, NULL, 0) == 0);
    client->raw = raw_open(server);
    send_all(client);
    return client;
}

void mux_client_close(struct mux_client *client)
{
    raw_close(client->raw);
    nghttp2_session_del(client->session);
    free(client);
}

static void take(struct mux_client *client)
{
    ssize_t used = nghttp2_session_mem_recv(client->session, (const uint8_t *)client->raw->in,
                                            client->raw->in_size);

    CHECK(used == (ssize_t)client->raw->in_size);
    client->raw->in_size = 0;
    send_all(client);
}

void mux_client_read(struct mux_client *client)
{
    client->is_closed = !raw_read(client->raw);
    take(client);
}

void mux_client_move(struct mux_client *client)
{
    send_all(client);
    while (!client->is_closed && !raw_is_quiet(client->raw)) {
        mux_client_read(client);
    }
}

/* ---- requests ---- */

#define FIELD(name, value)                                                                         \
    {                                                                                              \
        (uint8_t *)(uintptr_t)(name), (uint8_t *)(uintptr_t)(value), strlen(name), strlen(value),  \
            NGHTTP2_NV_FLAG_NONE                                                                   \
    }

struct mux_exchange *mux_client_ask(struct mux_client *client, const char *method,
                                    const char *target, size_t upload_size)
{
    struct mux_exchange *exchange = &client->exchanges[client->count++];
    nghttp2_nv fields[] = {
        FIELD(":method", method), FIELD(":scheme", "http"), FIELD(":authority", "lab"),
        FIELD(":path", target),   FIELD("x-test", "yes"),
    };
    nghttp2_data_provider body = { .source.ptr = exchange, .read_callback = on_wanted };

    CHECK(client->count <= MUX_CLIENT_STREAMS_MAX);
    exchange->upload_size = upload_size;
    exchange->id = nghttp2_submit_request(client->session, NULL, fields, il_array_count(fields),
                                          upload_size > 0 ? &body : NULL, exchange);
    CHECK(exchange->id > 0);
    send_all(client);
    return exchange;
}

void mux_client_wait(struct mux_client *client, struct mux_exchange *exchange)
{
    while (!exchange->is_over) {
        CHECK(!client->is_closed);
        mux_client_read(client);
    }
}

void mux_client_wait_closed(struct mux_client *client)
{
    while (!client->is_closed) {
        mux_client_read(client);
    }
}

struct mux_exchange *mux_client_get(struct mux_client *client, const char *target)
{
    struct mux_exchange *exchange = mux_client_ask(client, "GET", target, 0);

    mux_client_wait(client, exchange);
    return exchange;
}

void mux_client_reset(struct mux_client *client, struct mux_exchange *exchange)
{
    CHECK(nghttp2_submit_rst_stream(client->session, NGHTTP2_FLAG_NONE, exchange->id,
                                    NGHTTP2_CANCEL) == 0);
    send_all(client);
}
