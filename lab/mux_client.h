/* mux_client.h: a client of HTTP/2 for tests of the lab server: frames by nghttp2, bytes by
 * raw_client, and nothing of the library. Every wait has a deadline; whatever goes wrong fails the
 * test. Thread: each client one at a time. */
#ifndef LAB_MUX_CLIENT_H
#define LAB_MUX_CLIENT_H

#include <nghttp2/nghttp2.h>

#include "lab/raw_client.h"

#define MUX_CLIENT_STREAMS_MAX 64
#define MUX_CLIENT_TEXT_SIZE   4096

/* One request and its answer. */
struct mux_exchange {
    int32_t id;
    int status;                 /* 0: none has come */
    size_t informational_count; /* 1xx before it */
    size_t trailer_count;
    bool is_over;
    bool reads_nothing; /* gives no window back */
    bool ends_nothing;  /* its upload has no end */
    uint32_t error_code;
    size_t upload_size, uploaded_size; /* of a body of so many 'u' */
    size_t body_size;
    char body[MUX_CLIENT_TEXT_SIZE]; /* its beginning, NUL-terminated */
    char head[MUX_CLIENT_TEXT_SIZE]; /* "name: value\n", likewise */
};

struct mux_client {
    struct raw *raw;
    nghttp2_session *session;
    bool has_goaway;
    int32_t goaway_last_id;
    uint32_t goaway_code;
    bool is_closed; /* by the server */
    size_t count;
    struct mux_exchange exchanges[MUX_CLIENT_STREAMS_MAX];
};

/* Connect, and begin with HTTP/2. Ends with mux_client_close. */
struct mux_client *mux_client_open(struct lab_server *server);
void mux_client_close(struct mux_client *client);

/* Send a request; with a body if `upload_size` is not 0. Valid until the close. */
struct mux_exchange *mux_client_ask(struct mux_client *client, const char *method,
                                    const char *target, size_t upload_size);

/* Read and send until the exchange is over; until the connection is closed. */
void mux_client_wait(struct mux_client *client, struct mux_exchange *exchange);
void mux_client_wait_closed(struct mux_client *client);
/* Both of the above: a GET and its whole answer. */
struct mux_exchange *mux_client_get(struct mux_client *client, const char *target);
/* Read something, and send what follows from it. */
void mux_client_read(struct mux_client *client);
/* Read and send what there is without waiting. */
void mux_client_move(struct mux_client *client);
/* Give the stream up. */
void mux_client_reset(struct mux_client *client, struct mux_exchange *exchange);

#endif
