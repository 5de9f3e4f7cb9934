/* single.c: one multi-thread runtime and one client for everybody.
 *
 * Owns: the runtime, and a desk with the client. Threads: any.
 * Ends: il_single_free(): those who wait get IL_ECLOSED, then the runtime is dropped. */
#include "share/desk.h"

struct il_single {
    struct il_runtime *runtime;
    struct desk *desk;
};

static enum il_code single_make(const struct il_single_options *options, struct il_single *single,
                                struct il_error *err)
{
    struct il_runtime_options runtime_options = IL_RUNTIME_OPTIONS_INIT;
    struct desk_options desk_options = {
        .kind = "single",
        .name = options->name,
        .client_options = options->client,
        .request_count_max = options->requests_max,
    };
    enum il_code code;

    runtime_options.kind = IL_RUNTIME_MULTI_THREAD;
    runtime_options.name = options->name != NULL ? options->name : "single";
    runtime_options.worker_count = options->worker_count;
    runtime_options.hand_over_after_ms = options->hand_over_after_ms;
    code = il_runtime_new(&runtime_options, &single->runtime, err);
    if (code != IL_OK) {
        return code;
    }
    desk_options.runtime = single->runtime;
    return desk_new(&desk_options, &single->desk, err);
}

enum il_code il_single_new(const struct il_single_options *options, struct il_single **ret_single,
                           struct il_error *err)
{
    static const struct il_single_options defaults = IL_SINGLE_OPTIONS_INIT;
    struct il_single *single;
    enum il_code code;

    options = options != NULL ? options : &defaults;
    code = share_check_size("il_single_options", options->size, sizeof(*options), err);
    if (code != IL_OK) {
        return code;
    }
    single = il_calloc(1, sizeof(*single));
    if (single == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a single");
    }
    code = single_make(options, single, err);
    if (code != IL_OK) {
        il_single_free(single);
        return code;
    }
    *ret_single = single;
    return IL_OK;
}

void il_single_free(struct il_single *single)
{
    if (single == NULL || (single->desk != NULL && desk_is_the_parents(single->desk))) {
        return;
    }
    if (single->desk != NULL) {
        desk_close(single->desk);
    }
    (void)il_runtime_drop(single->runtime);
    if (single->desk != NULL) {
        desk_unref(single->desk);
    }
    il_free(single);
}

struct il_runtime *il_single_runtime(struct il_single *single)
{
    return single->runtime;
}

struct il_client *il_single_client(struct il_single *single)
{
    return single->desk->client;
}

enum il_code il_single_spawn(struct il_single *single, const char *name, il_task_fn *run, void *arg,
                             struct il_task **ret_task, struct il_error *err)
{
    if (single == NULL) {
        return il_fail(err, IL_EINVAL, "il_single_spawn: single is NULL");
    }
    return il_spawn(single->runtime, name, run, arg, ret_task, err);
}

enum il_code il_single_block_on(struct il_single *single, il_task_fn *run, void *arg,
                                struct il_error *err)
{
    if (single == NULL) {
        return il_fail(err, IL_EINVAL, "il_single_block_on: single is NULL");
    }
    return il_block_on(single->runtime, run, arg, err);
}

enum il_code il_single_send(struct il_single *single, const struct il_request *request,
                            struct il_response **ret_response, struct il_error *err)
{
    if (single == NULL) {
        return il_fail(err, IL_EINVAL, "il_single_send: single is NULL");
    }
    return desk_send(single->desk, request, ret_response, err);
}

static enum il_code single_send(void *object, const struct il_request *request,
                                struct il_response **ret_response, struct il_error *err)
{
    return il_single_send(object, request, ret_response, err);
}

enum il_code il_single_get(struct il_single *single, const char *url,
                           struct il_response **ret_response, struct il_error *err)
{
    return share_get(single_send, single, url, ret_response, err);
}
