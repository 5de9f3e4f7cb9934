/* tls_check.h: what tests of https share: a CA made for the test, a lab server that has a
 * certificate of it, and a client that trusts it. Each test runs in a process of its own. */
#ifndef TESTS_TLS_CHECK_H
#define TESTS_TLS_CHECK_H

#include <stdlib.h>

#include "base/base.h"
#include "client/client.h"
#include "interloop/client.h"
#include "lab/certificates.h"
#include "lab/server.h"
#include "tests/check.h"
#include "tests/own_loop.h"

static struct il_error err;
static struct lab_authority *authority;
static struct lab_server *server;
static struct il_client *client;

static inline void authority_start(void)
{
    if (authority == NULL) {
        CHECK_OK(lab_authority_new("Test CA", &authority, &err));
    }
}

/* Start the server with what `tls` says, and a certificate as `options` wants it; NULL: defaults.
 */
static inline void tls_server_start(const struct lab_certificate_options *options,
                                    const struct lab_server_tls *tls)
{
    static const struct lab_certificate_options usual;
    struct lab_certificate certificate;
    struct lab_server_tls given = tls != NULL ? *tls : (struct lab_server_tls){ 0 };
    struct lab_server_options server_options = { .tls = &given };

    authority_start();
    CHECK_OK(
        lab_authority_issue(authority, options != NULL ? options : &usual, &certificate, &err));
    given.certificate_pem = certificate.pem;
    given.key_pem = certificate.key_pem;
    CHECK_OK(lab_server_start(&server_options, &server, &err));
    lab_certificate_deinit(&certificate);
}

/* Options that trust the test's CA. */
static inline struct il_tls_options tls_trusting(void)
{
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;

    authority_start();
    options.ca_pem = lab_authority_pem(authority);
    options.ca_pem_size = strlen(lab_authority_pem(authority));
    return options;
}

static inline struct il_tls *tls_new(const struct il_tls_options *options)
{
    struct il_tls *tls;

    CHECK_OK(il_tls_new(options, &tls, &err));
    return tls;
}

/* A client with these TLS settings; NULL: those that trust the test's CA. */
static inline void tls_client_start(enum il_driver driver, const struct il_tls_options *tls_options)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_tls_options usual = tls_trusting();
    struct il_tls *tls = tls_new(tls_options != NULL ? tls_options : &usual);

    options.driver = driver;
    options.tls = tls;
    CHECK_OK(il_client_new(&options, &client, &err));
    tls = il_tls_unref(tls);
}

static inline void tls_stop(void)
{
    struct il_client_stats stats;

    pool_validate(&client->pool);
    il_client_stats(client, &stats);
    CHECK_EQ(stats.calls, 0);
    CHECK_EQ(stats.connections, stats.idle);
    client = il_client_unref(client);
    turn_own_loop(); /* closes what is bound to it */
    CHECK(lab_server_wait_open(server, 0, lab_in_ms(50000)));
    lab_server_stop(server);
    lab_authority_free(authority);
    authority = NULL;
}

/* Static: one at a time. */
static inline const char *tls_url(const char *host, const char *path)
{
    static _Thread_local char text[256];

    (void)snprintf(text, sizeof(text), "https://%s:%u%s", host, lab_server_port(server), path);
    return text;
}

/* GET from `host`, which is dialed at 127.0.0.1; the response is the caller's. */
static inline enum il_code tls_get_from(struct il_tls *tls, const char *host, const char *path,
                                        struct il_response **ret_response)
{
    struct il_request *request;
    enum il_code code;

    CHECK_OK(il_request_new("GET", tls_url(host, path), &request, &err));
    CHECK_OK(il_request_set_address(request, "127.0.0.1", &err));
    CHECK_OK(il_request_set_tls(request, tls));
    code = il_send(client, request, ret_response, &err);
    il_request_free(request);
    return code;
}

static inline enum il_code tls_get_code(struct il_tls *tls, const char *host)
{
    struct il_response *response;
    enum il_code code = tls_get_from(tls, host, "/hello", &response);

    if (code == IL_OK) {
        CHECK_EQ(il_response_status(response), 200);
        il_response_free(response);
    }
    return code;
}

#endif
