/* options.c: what a client is made from: defaults, what is refused, copies to keep. No state.
 * Thread: any. */
#include "client/client.h"

static const struct il_client_options options_default = {
    .name = "client",
    .idle_max = 1024,
    .idle_per_host_max = 64,
    .waiters_max = 100000,
    .idle_timeout_ms = 30000,
    .unread_timeout_ms = 10000,
    .pool_wait_timeout_ms = 30000,
    .resolve_timeout_ms = 10000,
    .connect_timeout_ms = 10000,
    .tls_timeout_ms = 10000,
    .write_timeout_ms = 30000,
    .first_byte_timeout_ms = 60000,
    .read_timeout_ms = 30000,
    .total_timeout_ms = 300000,
    .body_size_max = 64 * 1024 * 1024,
    .header_size_max = 300 * 1024,
    .http2_stream_window = 1024 * 1024,
    .http2_connection_window = 16 * 1024 * 1024,
};

/* The bound driver holds both windows until a body is read, so it has those of hyper. */
#define BOUND_STREAM_WINDOW     (2 * 1024 * 1024)
#define BOUND_CONNECTION_WINDOW (5 * 1024 * 1024)

#define CONNECTION_WINDOW_MIN 65535 /* what a connection begins with, RFC 9113 6.9.2 */

void client_options_complete(struct il_client_options *options)
{
#define DEFAULT(field)                                                                             \
    do {                                                                                           \
        if (options->field == 0) {                                                                 \
            options->field = options_default.field;                                                \
        }                                                                                          \
    } while (0)
    DEFAULT(name);
    DEFAULT(idle_max);
    DEFAULT(idle_per_host_max);
    DEFAULT(waiters_max);
    DEFAULT(idle_timeout_ms);
    DEFAULT(unread_timeout_ms);
    DEFAULT(pool_wait_timeout_ms);
    DEFAULT(resolve_timeout_ms);
    DEFAULT(connect_timeout_ms);
    DEFAULT(tls_timeout_ms);
    DEFAULT(write_timeout_ms);
    DEFAULT(first_byte_timeout_ms);
    DEFAULT(read_timeout_ms);
    DEFAULT(total_timeout_ms);
    DEFAULT(body_size_max);
    DEFAULT(header_size_max);
    if (options->driver == IL_DRIVER_BOUND && options->http2_stream_window == 0) {
        options->http2_stream_window = BOUND_STREAM_WINDOW;
    }
    if (options->driver == IL_DRIVER_BOUND && options->http2_connection_window == 0) {
        options->http2_connection_window = BOUND_CONNECTION_WINDOW;
    }
    DEFAULT(http2_stream_window);
    DEFAULT(http2_connection_window);
#undef DEFAULT
}

enum il_code client_options_check(const struct il_client_options *options, struct il_error *err)
{
    if (options->driver != IL_DRIVER_CALLER && options->driver != IL_DRIVER_BOUND) {
        return il_fail(err, IL_EINVAL, "il_client_options: unknown driver %d",
                       (int)options->driver);
    }
    if (options->http_version != IL_HTTP_AUTO && options->http_version != IL_HTTP_1_1 &&
        options->http_version != IL_HTTP_2_PRIOR_KNOWLEDGE) {
        return il_fail(err, IL_EINVAL, "il_client_options: unknown http_version %d",
                       (int)options->http_version);
    }
    if (options->http2_stream_window > INT32_MAX) {
        return il_fail(
            err, IL_EINVAL,
            "il_client_options: http2_stream_window is %u; it may be up to %d (RFC 9113)",
            options->http2_stream_window, INT32_MAX);
    }
    if (options->http2_connection_window != 0 &&
        (options->http2_connection_window < CONNECTION_WINDOW_MIN ||
         options->http2_connection_window > INT32_MAX)) {
        return il_fail(err, IL_EINVAL,
                       "il_client_options: http2_connection_window is %u; it may be %d to %d "
                       "(RFC 9113)",
                       options->http2_connection_window, CONNECTION_WINDOW_MIN, INT32_MAX);
    }
    if (options->header_size_max > HEADERS_SIZE_MAX) {
        return il_fail(err, IL_EINVAL,
                       "il_client_options: header_size_max is %u; it may be up to %d",
                       options->header_size_max, HEADERS_SIZE_MAX);
    }
    for (size_t i = 0; options->hosts != NULL && i < options->host_count; i++) {
        if (options->hosts[i].host == NULL || options->hosts[i].addresses == NULL) {
            return il_fail(err, IL_EINVAL, "il_client_options: hosts[%zu] has no %s", i,
                           options->hosts[i].host == NULL ? "host" : "addresses");
        }
    }
    return IL_OK;
}

/* Copy `text` to where `at` points, and move that behind it. */
static const char *put_text(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = memcpy(*at, text, size);

    *at += size;
    return copy;
}

/* The hosts of `from` with their strings, in one piece of memory; NULL: none. */
static struct il_host_addresses *hosts_copy(const struct il_client_options *from)
{
    size_t count = from->host_count, size = count * sizeof(struct il_host_addresses);
    struct il_host_addresses *hosts;
    char *at;

    for (size_t i = 0; i < count; i++) {
        size += strlen(from->hosts[i].host) + 1 + strlen(from->hosts[i].addresses) + 1;
    }
    hosts = il_calloc(1, size);
    if (hosts == NULL) {
        return NULL;
    }
    at = (char *)(hosts + count);
    for (size_t i = 0; i < count; i++) {
        hosts[i].port = from->hosts[i].port;
        hosts[i].host = put_text(&at, from->hosts[i].host);
        hosts[i].addresses = put_text(&at, from->hosts[i].addresses);
    }
    return hosts;
}

enum il_code client_options_copy(const struct il_client_options *from,
                                 struct il_client_options *ret_options, struct il_error *err)
{
    struct il_client_options options = *from;
    enum il_code code = client_options_check(&options, err);

    if (code != IL_OK) {
        return code;
    }
    options.name = NULL;
    if (options.hosts == NULL) {
        options.host_count = 0;
    }
    if (options.host_count > 0) {
        options.hosts = hosts_copy(&options);
        if (options.hosts == NULL) {
            return il_fail(err, IL_ENOMEM, "no memory for a client's options");
        }
    }
    options.tls = options.tls != NULL ? il_tls_ref(options.tls) : NULL;
    *ret_options = options;
    return IL_OK;
}

void client_options_deinit(struct il_client_options *options)
{
    if (options->host_count > 0) {
        il_free((void *)options->hosts);
    }
    options->hosts = NULL;
    options->host_count = 0;
    options->tls = il_tls_unref(options->tls);
}
