/* service.c: an actor behind a bounded queue: it runs at most two requests at once, and replies.
 *
 * Ten tasks of another runtime send at the same time. Two are on their way, four wait in the queue,
 * and the others wait for a place there. */
#include "example.h"

static const char *url;
static struct il_service *service;

static void fetch(void *where)
{
    struct il_response *response;
    struct il_error err;

    must(il_service_get(service, url, &response, &err), &err);
    show(where, response);
}

int main(int argc, char **argv)
{
    struct il_service_options options = IL_SERVICE_OPTIONS_INIT;
    struct il_runtime *owner = new_worker_runtime("owner");
    struct il_runtime *other = new_worker_runtime("other");
    struct il_task *tasks[10];
    struct il_error err;

    url = example_url(argc, argv);
    options.queue_capacity = 4;
    options.concurrency = 2;
    must(il_service_start(owner, &options, &service, &err), &err);

    for (int i = 0; i < 10; i++) {
        must(il_spawn(other, "fetch", fetch, "task of another runtime", &tasks[i], &err), &err);
    }
    for (int i = 0; i < 10; i++) {
        must(il_task_join(tasks[i], IL_FOREVER, &err), &err);
        il_task_unref(tasks[i]);
    }

    must(il_service_stop(service, il_deadline_in_ms(1000), &err), &err);
    il_runtime_drop(other);
    il_runtime_drop(owner);
    return 0;
}
