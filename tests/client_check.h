/* client_check.h: what the tests of the client have in common: a server, a client of it, and the
 * proof that nothing is left. Over TLS with CLIENT_TEST_TLS.
 *
 * Threads: the test's. */
#ifndef TESTS_CLIENT_CHECK_H
#define TESTS_CLIENT_CHECK_H

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "client/client.h"
#include "client/conn.h"
#include "interloop/client.h"
#include "lab/server.h"
#include "rt/rt.h"
#include "tests/check.h"
#include "tests/own_loop.h"

static struct il_error err;
static struct lab_server *server;
static struct il_client *client;

#ifdef CLIENT_TEST_TLS /* client_tls_test.c */
#define SCHEME "https"

#include "lab/certificates.h"

static struct lab_authority *authority;

static void server_start(void)
{
    static const struct lab_certificate_options usual;
    struct lab_certificate certificate;
    struct lab_server_tls tls = { 0 };
    struct lab_server_options options = { .tls = &tls };

    if (authority == NULL) { /* one for the test: what is left behind is counted */
        CHECK_OK(lab_authority_new("Test CA", &authority, &err));
    }
    CHECK_OK(lab_authority_issue(authority, &usual, &certificate, &err));
    tls.certificate_pem = certificate.pem;
    tls.key_pem = certificate.key_pem;
    CHECK_OK(lab_server_start(&options, &server, &err));
    lab_certificate_deinit(&certificate);
}

static void client_start(struct il_client_options *options)
{
    struct il_tls_options trusting = IL_TLS_OPTIONS_INIT;
    struct il_tls *tls;

    trusting.ca_pem = lab_authority_pem(authority);
    trusting.ca_pem_size = strlen(lab_authority_pem(authority));
    CHECK_OK(il_tls_new(&trusting, &tls, &err));
    options->tls = tls;
    CHECK_OK(il_client_new(options, &client, &err));
    tls = il_tls_unref(tls);
}
#else
#define SCHEME "http"

static void server_start(void)
{
    CHECK_OK(lab_server_start(NULL, &server, &err));
}

static void client_start(const struct il_client_options *options)
{
    CHECK_OK(il_client_new(options, &client, &err));
}
#endif

static inline void start(enum il_driver driver)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.driver = driver;
    server_start();
    client_start(&options);
}

static inline void stop(void)
{
    struct il_client_stats stats;

    pool_validate(&client->pool);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.calls, 0);
    CHECK_EQ(stats.waiters, 0);
    CHECK_EQ(stats.connections, stats.idle);
    client = il_client_unref(client);
    turn_own_loop(); /* closes what is bound to it */
    CHECK(lab_server_wait_open(server, 0, lab_in_ms(50000)));
    lab_server_stop(server);
}

/* What the server has just sent on the client's only connection, or that it has closed it, lies in
 * the client's socket. A busy system may bring it on later than the server has said that it is
 * done. */
static inline void wait_until_it_has_come(void)
{
    struct pollfd polled = { .events = POLLIN };

    sys_mutex_lock(&client->pool.mutex);
    CHECK(!il_list_is_empty(&client->pool.connections));
    polled.fd = il_container_of(client->pool.connections.next, struct conn, pooled.link)->stream.fd;
    sys_mutex_unlock(&client->pool.mutex);
    CHECK_EQ(poll(&polled, 1, 50000), 1);
}

static inline const char *url(const char *path)
{
    static _Thread_local char text[256];

    snprintf(text, sizeof(text), SCHEME "://127.0.0.1:%u%s", lab_server_port(server), path);
    return text;
}

static inline void check_get(const char *path, int status, const char *body)
{
    struct il_response *response;

    CHECK_OK(il_get(client, url(path), &response, &err));
    CHECK_EQ(il_response_status(response), status);
    if (body != NULL) {
        CHECK_STR(il_response_body(response, NULL), body);
    }
    il_response_free(response);
}

static inline enum il_code get_code(const char *path)
{
    struct il_response *response;
    enum il_code code = il_get(client, url(path), &response, &err);

    if (code == IL_OK) {
        il_response_free(response);
    }
    return code;
}

#endif
