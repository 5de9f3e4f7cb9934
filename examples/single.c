/* single.c: one multi-thread runtime and one client for everybody.
 *
 * The program's other runtimes and threads send through it. Their requests run on its workers,
 * which run all the time; so they do not depend on how the others are driven. */
#include "example.h"

static const char *url;
static struct il_single *single;

static void fetch(void *where)
{
    struct il_response *response;
    struct il_error err;

    must(il_single_get(single, url, &response, &err), &err);
    show(where, response);
}

int main(int argc, char **argv)
{
    struct il_runtime *other = new_current_thread_runtime("other");
    struct il_error err;

    url = example_url(argc, argv);
    must(il_single_new(NULL, &single, &err), &err);

    must(il_single_block_on(single, fetch, "task of the single runtime", &err), &err);
    must(il_block_on(other, fetch, "task of another runtime", &err), &err);
    fetch("main thread");

    il_single_free(single); /* ends its runtime, too */
    il_runtime_drop(other);
    return 0;
}
