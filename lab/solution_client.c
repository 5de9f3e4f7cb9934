/* solution_client.c: one client, used by everybody as it is. `shared`: with the bound driver, as
 * with hyper; `interloop`: with the default one.
 *
 * Owns: the client. Threads: as lab/world.h says. */
#include "lab/catalogue.h"

static enum il_code client_open(struct world *world, struct il_error *err)
{
    struct il_client_options options;
    struct il_client *client;
    enum il_code code;

    world_client_options(world, world->solution->name, &options);
    code = il_client_new(&options, &client, err);
    if (code == IL_OK) {
        world->solution_state = client;
    }
    return code;
}

static void client_close(struct world *world)
{
    world->solution_state = il_client_unref(world->solution_state);
}

static enum il_code client_send(struct world *world, struct actor *actor,
                                const struct il_request *request, bool is_streaming,
                                struct il_response **ret_response, struct il_error *err)
{
    struct il_client *client = world->solution_state;

    (void)actor; /* whoever asks: the client is the same */
    return is_streaming ? il_send_streaming(client, request, ret_response, err)
                        : il_send(client, request, ret_response, err);
}

static struct il_runtime *client_io_runtime(struct world *world, struct actor *actor)
{
    (void)world;
    return actor->runtime;
}

const struct solution solution_shared = {
    .name = "shared",
    .summary =
        "one client for everybody, connections driven by whoever opened them (the naive use)",
    .driver = IL_DRIVER_BOUND,
    .is_plain = true,
    .open = client_open,
    .close = client_close,
    .send = client_send,
    .io_runtime = client_io_runtime,
};

const struct solution solution_interloop = {
    .name = "interloop",
    .summary = "one client for everybody, each connection driven by whoever waits for it",
    .driver = IL_DRIVER_CALLER,
    .is_plain = true,
    .has_defaults = true,
    .open = client_open,
    .close = client_close,
    .send = client_send,
    .io_runtime = client_io_runtime,
};
