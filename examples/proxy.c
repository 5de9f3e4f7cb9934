/* proxy.c: the client stays on the runtime that owns it; requests go there, responses come back.
 *
 * The owner must be driven: here it has a worker. A request to an owner that is not driven waits
 * until its total limit, and the error then says what it waited for. */
#include "example.h"

static const char *url;
static struct il_proxy *proxy;

static void fetch(void *where)
{
    struct il_response *response;
    struct il_error err;

    must(il_proxy_get(proxy, url, &response, &err), &err);
    show(where, response);
}

int main(int argc, char **argv)
{
    struct il_runtime *owner = new_worker_runtime("owner");
    struct il_runtime *other = new_current_thread_runtime("other");
    struct il_response *response;
    struct il_error err;

    url = example_url(argc, argv);
    must(il_proxy_new(owner, NULL, NULL, &proxy, &err), &err); /* NULL: it makes the client */

    must(il_block_on(other, fetch, "task of another runtime", &err), &err);
    fetch("main thread");

    il_runtime_drop(owner);
    if (il_proxy_get(proxy, url, &response, &err) == IL_EOWNERGONE) {
        printf("after the owner's end: %s\n", err.message);
    }
    il_proxy_free(proxy);
    il_runtime_drop(other);
    return 0;
}
