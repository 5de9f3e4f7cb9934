/* proxy.c: requests go to the runtime that owns the client; see desk.h.
 *
 * Owns: a desk. Threads: any. Ends: il_proxy_free(). */
#include "share/desk.h"

struct il_proxy {
    struct desk *desk;
};

enum il_code il_proxy_new(struct il_runtime *owner, struct il_client *client,
                          const struct il_proxy_options *options, struct il_proxy **ret_proxy,
                          struct il_error *err)
{
    static const struct il_proxy_options defaults = IL_PROXY_OPTIONS_INIT;
    struct desk_options desk_options = { .kind = "proxy", .runtime = owner, .client = client };
    struct il_proxy *proxy;
    enum il_code code;

    options = options != NULL ? options : &defaults;
    code = share_check_size("il_proxy_options", options->size, sizeof(*options), err);
    if (code != IL_OK) {
        return code;
    }
    proxy = il_calloc(1, sizeof(*proxy));
    if (proxy == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a proxy");
    }
    desk_options.name = options->name;
    desk_options.client_options = options->client;
    desk_options.request_count_max = options->requests_max;
    code = desk_new(&desk_options, &proxy->desk, err);
    if (code != IL_OK) {
        il_free(proxy);
        return code;
    }
    *ret_proxy = proxy;
    return IL_OK;
}

void il_proxy_free(struct il_proxy *proxy)
{
    if (proxy != NULL && !desk_is_the_parents(proxy->desk)) {
        desk_close(proxy->desk);
        desk_unref(proxy->desk);
        il_free(proxy);
    }
}

enum il_code il_proxy_send(struct il_proxy *proxy, const struct il_request *request,
                           struct il_response **ret_response, struct il_error *err)
{
    if (proxy == NULL) {
        return il_fail(err, IL_EINVAL, "il_proxy_send: proxy is NULL");
    }
    return desk_send(proxy->desk, request, ret_response, err);
}

static enum il_code proxy_send(void *object, const struct il_request *request,
                               struct il_response **ret_response, struct il_error *err)
{
    return il_proxy_send(object, request, ret_response, err);
}

enum il_code il_proxy_get(struct il_proxy *proxy, const char *url,
                          struct il_response **ret_response, struct il_error *err)
{
    return share_get(proxy_send, proxy, url, ret_response, err);
}
