/* solution_own.c: to each runtime a client of its own: by hand (`per-runtime`), or from a factory
 * (`factory`). What one runtime does, the other does not notice; they share nothing.
 *
 * Owns: per-runtime: a client for each actor, in its solution_slot, from the actor's beginning to
 *   its end; factory: the factory. Threads: as lab/world.h says. */
#include "interloop/share.h"
#include "lab/catalogue.h"

static struct il_runtime *own_io_runtime(struct world *world, struct actor *actor)
{
    (void)world;
    return actor->runtime;
}

/* ---- per-runtime ---- */

static enum il_code per_runtime_open(struct world *world, struct il_error *err)
{
    (void)world; /* what there is comes with the actors */
    (void)err;
    return IL_OK;
}

static void per_runtime_close(struct world *world)
{
    (void)world;
}

static enum il_code per_runtime_on_actor(struct world *world, struct actor *actor,
                                         struct il_error *err)
{
    struct il_client_options options;
    struct il_per_runtime *own;
    enum il_code code;

    world_client_options(world, actor->name, &options);
    code = il_per_runtime_new(actor->runtime, &options, &own, err);
    if (code == IL_OK) {
        actor->solution_slot = own;
    }
    return code;
}

static void per_runtime_on_actor_end(struct world *world, struct actor *actor)
{
    (void)world;
    il_per_runtime_free(actor->solution_slot);
    actor->solution_slot = NULL;
}

static enum il_code per_runtime_send(struct world *world, struct actor *actor,
                                     const struct il_request *request, bool is_streaming,
                                     struct il_response **ret_response, struct il_error *err)
{
    struct il_client *client;
    enum il_code code;

    (void)world;
    if (!is_streaming) {
        return il_per_runtime_send(actor->solution_slot, request, ret_response, err);
    }
    code = il_per_runtime_client(actor->solution_slot, &client, err);
    if (code == IL_OK) {
        code = il_send_streaming(client, request, ret_response, err);
        (void)il_client_unref(client);
    }
    return code;
}

const struct solution solution_per_runtime = {
    .name = "per-runtime",
    .summary = "each runtime has a client that works on that runtime only (il_per_runtime)",
    .driver = IL_DRIVER_BOUND,
    .is_own = true,
    .open = per_runtime_open,
    .close = per_runtime_close,
    .send = per_runtime_send,
    .io_runtime = own_io_runtime,
    .on_actor = per_runtime_on_actor,
    .on_actor_end = per_runtime_on_actor_end,
};

/* ---- factory ---- */

static enum il_code factory_open(struct world *world, struct il_error *err)
{
    struct il_factory_options options = IL_FACTORY_OPTIONS_INIT;
    struct il_client_options client_options;
    struct il_factory *factory;
    enum il_code code;

    world_client_options(world, NULL, &client_options);
    options.client = &client_options;
    code = il_factory_new(&options, &factory, err);
    if (code == IL_OK) {
        world->solution_state = factory;
    }
    return code;
}

static void factory_close(struct world *world)
{
    il_factory_free(world->solution_state);
    world->solution_state = NULL;
}

static enum il_code factory_send(struct world *world, struct actor *actor,
                                 const struct il_request *request, bool is_streaming,
                                 struct il_response **ret_response, struct il_error *err)
{
    struct il_client *client;
    enum il_code code;

    (void)actor; /* the factory knows where we are */
    if (!is_streaming) {
        return il_factory_send(world->solution_state, request, ret_response, err);
    }
    code = il_factory_client(world->solution_state, &client, err);
    if (code == IL_OK) {
        code = il_send_streaming(client, request, ret_response, err);
        (void)il_client_unref(client);
    }
    return code;
}

const struct solution solution_factory = {
    .name = "factory",
    .summary = "a factory gives each runtime a client of its own, on first use (il_factory)",
    .driver = IL_DRIVER_BOUND,
    .is_own = true,
    .open = factory_open,
    .close = factory_close,
    .send = factory_send,
    .io_runtime = own_io_runtime,
};
