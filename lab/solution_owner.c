/* solution_owner.c: one runtime does the I/O for everybody: it is the only one that everybody uses
 * (`single-runtime`), or requests are handed to it (`proxy`), or put into the queue of an actor on
 * it (`channel`). It has one worker or as many as the cause wants, lives as long as the world, and
 * is never parked or dropped; but when it is busy, everybody waits.
 *
 * Owns: that runtime, and what runs on it. Threads: as lab/world.h says. */
#include <stdlib.h>

#include "interloop/share.h"
#include "lab/catalogue.h"

#define OWNER_STOP_MS 2000 /* for what the service still has to do at its end: nothing */

static unsigned owner_workers(const struct world *world)
{
    return world->cause->io_workers > 0 ? world->cause->io_workers : 1;
}

/* ---- single-runtime ---- */

static enum il_code single_open(struct world *world, struct il_error *err)
{
    struct il_single_options options = IL_SINGLE_OPTIONS_INIT;
    struct il_client_options client_options;
    struct il_single *single;
    enum il_code code;

    world_client_options(world, NULL, &client_options);
    options.worker_count = owner_workers(world);
    options.hand_over_after_ms = world_hand_over_ms(world);
    options.client = &client_options;
    code = il_single_new(&options, &single, err);
    if (code == IL_OK) {
        world->solution_state = single;
    }
    return code;
}

static void single_close(struct world *world)
{
    il_single_free(world->solution_state);
    world->solution_state = NULL;
}

static enum il_code single_send(struct world *world, struct actor *actor,
                                const struct il_request *request, bool is_streaming,
                                struct il_response **ret_response, struct il_error *err)
{
    (void)actor;
    (void)is_streaming; /* is_whole */
    return il_single_send(world->solution_state, request, ret_response, err);
}

static struct il_runtime *single_io_runtime(struct world *world, struct actor *actor)
{
    (void)actor;
    return il_single_runtime(world->solution_state);
}

const struct solution solution_single = {
    .name = "single-runtime",
    .summary = "one runtime and one client for everybody; requests run there (il_single)",
    .driver = IL_DRIVER_BOUND,
    .is_whole = true,
    .open = single_open,
    .close = single_close,
    .send = single_send,
    .io_runtime = single_io_runtime,
};

/* ---- the owner of proxy and channel ---- */

struct owner {
    struct il_runtime *runtime;
    struct il_proxy *proxy; /* one of the two */
    struct il_service *service;
};

static struct il_runtime *owner_io_runtime(struct world *world, struct actor *actor)
{
    const struct owner *owner = world->solution_state;

    (void)actor;
    return owner->runtime;
}

static enum il_code owner_new(struct world *world, struct owner **ret_owner, struct il_error *err)
{
    struct il_runtime_options options;
    struct owner *owner = calloc(1, sizeof(*owner));
    enum il_code code;

    if (owner == NULL) {
        *err = (struct il_error){ .code = IL_ENOMEM, .message = "out of memory" };
        return IL_ENOMEM;
    }
    world_runtime_options(world, "owner", IL_RUNTIME_MULTI_THREAD, &options);
    options.worker_count = owner_workers(world);
    code = il_runtime_new(&options, &owner->runtime, err);
    if (code != IL_OK) {
        free(owner);
        return code;
    }
    *ret_owner = owner;
    return IL_OK;
}

static void owner_close(struct world *world)
{
    struct owner *owner = world->solution_state;
    struct il_error err = { 0 };

    il_proxy_free(owner->proxy);
    if (owner->service != NULL &&
        il_service_stop(owner->service, il_deadline_in_ms(OWNER_STOP_MS), &err) != IL_OK) {
        world_fail(world, "the service did not stop in order: %.150s", err.message);
    }
    (void)il_runtime_drop(owner->runtime);
    free(owner);
    world->solution_state = NULL;
}

static void owner_free(struct owner *owner)
{
    (void)il_runtime_drop(owner->runtime);
    free(owner);
}

/* ---- proxy ---- */

static enum il_code proxy_open(struct world *world, struct il_error *err)
{
    struct il_proxy_options options = IL_PROXY_OPTIONS_INIT;
    struct il_client_options client_options;
    struct owner *owner;
    enum il_code code = owner_new(world, &owner, err);

    if (code != IL_OK) {
        return code;
    }
    world_client_options(world, NULL, &client_options);
    options.client = &client_options;
    code = il_proxy_new(owner->runtime, NULL, &options, &owner->proxy, err);
    if (code != IL_OK) {
        owner_free(owner);
        return code;
    }
    world->solution_state = owner;
    return IL_OK;
}

static enum il_code proxy_send(struct world *world, struct actor *actor,
                               const struct il_request *request, bool is_streaming,
                               struct il_response **ret_response, struct il_error *err)
{
    const struct owner *owner = world->solution_state;

    (void)actor;
    (void)is_streaming; /* is_whole */
    return il_proxy_send(owner->proxy, request, ret_response, err);
}

const struct solution solution_proxy = {
    .name = "proxy",
    .summary = "requests are handed to the runtime that owns the client (il_proxy)",
    .driver = IL_DRIVER_BOUND,
    .is_whole = true,
    .open = proxy_open,
    .close = owner_close,
    .send = proxy_send,
    .io_runtime = owner_io_runtime,
};

/* ---- channel ---- */

static enum il_code channel_open(struct world *world, struct il_error *err)
{
    struct il_service_options options = IL_SERVICE_OPTIONS_INIT;
    struct il_client_options client_options;
    struct owner *owner;
    enum il_code code = owner_new(world, &owner, err);

    if (code != IL_OK) {
        return code;
    }
    world_client_options(world, NULL, &client_options);
    options.client = &client_options;
    code = il_service_start(owner->runtime, &options, &owner->service, err);
    if (code != IL_OK) {
        owner_free(owner);
        return code;
    }
    world->solution_state = owner;
    return IL_OK;
}

static enum il_code channel_send(struct world *world, struct actor *actor,
                                 const struct il_request *request, bool is_streaming,
                                 struct il_response **ret_response, struct il_error *err)
{
    const struct owner *owner = world->solution_state;

    (void)actor;
    (void)is_streaming; /* is_whole */
    return il_service_send(owner->service, request, ret_response, err);
}

const struct solution solution_channel = {
    .name = "channel",
    .summary = "requests go through a bounded queue to an actor that owns the client (il_service)",
    .driver = IL_DRIVER_BOUND,
    .is_whole = true,
    .open = channel_open,
    .close = owner_close,
    .send = channel_send,
    .io_runtime = owner_io_runtime,
};
