/* il_setup.c: see il_setup.h. */
#include "il_setup.h"

#include <errno.h>

static void check(enum il_code code, const struct il_error *err)
{
    if (code != IL_OK) {
        errno = 0;
        bench_fail(err->message);
    }
}

struct il_client *setup_client(const struct bench_options *options)
{
    struct il_client_options client_options = IL_CLIENT_OPTIONS_INIT;
    struct il_tls_options tls_options = IL_TLS_OPTIONS_INIT;
    struct il_client *client;
    struct il_tls *tls = NULL;
    struct il_error err;

    if (options->ca_file != NULL) {
        tls_options.ca_file = options->ca_file;
        check(il_tls_new(&tls_options, &tls, &err), &err);
    }
    client_options.tls = tls;
    client_options.http_version = options->http == 2 ? IL_HTTP_2_PRIOR_KNOWLEDGE : IL_HTTP_1_1;
    client_options.idle_max = (uint32_t)options->connections;
    client_options.idle_per_host_max = (uint32_t)options->connections;
    check(il_client_new(&client_options, &client, &err), &err);
    il_tls_unref(tls); /* the client has its own reference */
    return client;
}
