/* default_client.c: one client for two runtimes and the main thread, and nothing in between.
 *
 * A connection belongs to no runtime: whoever waits for it drives it. So it does no harm that
 * runtime A is left alone, undriven, after it has opened the first connection. */
#include "example.h"

static const char *url;
static struct il_client *client;

static void fetch(void *where)
{
    struct il_response *response;
    struct il_error err;

    must(il_get(client, url, &response, &err), &err);
    show(where, response);
}

int main(int argc, char **argv)
{
    struct il_runtime *a = new_current_thread_runtime("A");
    struct il_runtime *b = new_worker_runtime("B");
    struct il_client_stats stats;
    struct il_error err;

    url = example_url(argc, argv);
    must(il_client_new(NULL, &client, &err), &err);

    must(il_block_on(a, fetch, "task of A", &err), &err);
    must(il_block_on(b, fetch, "task of B", &err), &err); /* over A's connection */
    fetch("main thread");

    il_client_stats(client, &stats);
    printf("%u connection, opened in A, moved %u times\n", (unsigned)stats.connections_total,
           (unsigned)stats.moves_total);

    il_client_unref(client);
    il_runtime_drop(b);
    il_runtime_drop(a);
    return 0;
}
