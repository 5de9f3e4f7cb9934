/* factory.c: each runtime gets a client of its own, made when it first asks for one.
 *
 * The factory lets go of a client when its runtime ends, so runtimes may come and go. What they do
 * not have is a common pool: each opens its own connections. */
#include "example.h"

static const char *url;
static struct il_factory *factory;

static void fetch(void *where)
{
    struct il_response *response;
    struct il_error err;

    must(il_factory_get(factory, url, &response, &err), &err);
    show(where, response);
}

int main(int argc, char **argv)
{
    struct il_error err;

    url = example_url(argc, argv);
    must(il_factory_new(NULL, &factory, &err), &err);

    for (int i = 0; i < 3; i++) {
        struct il_runtime *runtime = new_current_thread_runtime("short-lived");

        must(il_block_on(runtime, fetch, "task of a short-lived runtime", &err), &err);
        il_runtime_drop(runtime); /* and its client with it */
    }
    fetch("main thread");
    printf("clients now: %u\n", il_factory_client_count(factory)); /* the main thread's */

    il_factory_free(factory);
    return 0;
}
