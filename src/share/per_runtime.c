/* per_runtime.c: a client that belongs to one runtime, and says so to whoever is elsewhere.
 *
 * Owns: a reference on the client and one on the runtime. Threads: any.
 * Ends: il_per_runtime_free(). */
#include "share/desk.h"

struct il_per_runtime {
    struct il_runtime *runtime;
    struct il_client *client;
};

enum il_code il_per_runtime_new(struct il_runtime *runtime, const struct il_client_options *client,
                                struct il_per_runtime **ret_per_runtime, struct il_error *err)
{
    struct il_per_runtime *per_runtime;
    enum il_code code;

    if (runtime == NULL) {
        return il_fail(err, IL_EINVAL, "il_per_runtime_new: runtime is NULL");
    }
    per_runtime = il_calloc(1, sizeof(*per_runtime));
    if (per_runtime == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a client of runtime '%s'",
                       il_runtime_name(runtime));
    }
    code = share_new_client(client, il_runtime_name(runtime), &per_runtime->client, err);
    if (code != IL_OK) {
        il_free(per_runtime);
        return code;
    }
    per_runtime->runtime = il_runtime_ref(runtime);
    *ret_per_runtime = per_runtime;
    return IL_OK;
}

void il_per_runtime_free(struct il_per_runtime *per_runtime)
{
    if (per_runtime != NULL) {
        (void)il_client_unref(per_runtime->client);
        (void)il_runtime_unref(per_runtime->runtime);
        il_free(per_runtime);
    }
}

static enum il_code per_runtime_check(const struct il_per_runtime *per_runtime,
                                      struct il_error *err)
{
    char here[96];

    if (per_runtime == NULL) {
        return il_fail(err, IL_EINVAL, "the client per runtime is NULL");
    }
    if (il_runtime_current() == per_runtime->runtime) {
        return IL_OK;
    }
    share_describe_here(here, sizeof(here));
    return il_fail(err, IL_EINVAL,
                   "client '%s' belongs to runtime '%s' and was used in %s: use it in a task of "
                   "that runtime",
                   il_client_name(per_runtime->client), il_runtime_name(per_runtime->runtime),
                   here);
}

enum il_code il_per_runtime_client(struct il_per_runtime *per_runtime,
                                   struct il_client **ret_client, struct il_error *err)
{
    enum il_code code = per_runtime_check(per_runtime, err);

    if (code == IL_OK) {
        *ret_client = il_client_ref(per_runtime->client);
    }
    return code;
}

enum il_code il_per_runtime_send(struct il_per_runtime *per_runtime,
                                 const struct il_request *request,
                                 struct il_response **ret_response, struct il_error *err)
{
    enum il_code code = per_runtime_check(per_runtime, err);

    return code == IL_OK ? il_send(per_runtime->client, request, ret_response, err) : code;
}

enum il_code il_per_runtime_get(struct il_per_runtime *per_runtime, const char *url,
                                struct il_response **ret_response, struct il_error *err)
{
    enum il_code code = per_runtime_check(per_runtime, err);

    return code == IL_OK ? il_get(per_runtime->client, url, ret_response, err) : code;
}
