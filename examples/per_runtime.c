/* per_runtime.c: a client that is used on its own runtime only.
 *
 * What would be a hang with a shared client of the hyper kind is an error here, at once, and it
 * says who was where. */
#include "example.h"

static const char *url;
static struct il_per_runtime *mine;

static void fetch(void *where)
{
    struct il_response *response;
    struct il_error err;

    if (il_per_runtime_get(mine, url, &response, &err) == IL_OK) {
        show(where, response);
    } else {
        printf("%s: refused: %s\n", (const char *)where, err.message);
    }
}

int main(int argc, char **argv)
{
    struct il_runtime *a = new_current_thread_runtime("A");
    struct il_runtime *b = new_worker_runtime("B");
    struct il_error err;

    url = example_url(argc, argv);
    must(il_per_runtime_new(a, NULL, &mine, &err), &err);

    must(il_block_on(a, fetch, "task of A", &err), &err);
    must(il_block_on(b, fetch, "task of B", &err), &err);

    il_per_runtime_free(mine);
    il_runtime_drop(b);
    il_runtime_drop(a);
    return 0;
}
