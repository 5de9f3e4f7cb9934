/* factory.c: to each runtime, and each plain thread, a client of its own.
 *
 * An *entry* is a runtime's (or a thread's) client. It stands in the factory's table, and it is a
 * guest on the loop where the client was first asked for, so it hears of the end of that loop.
 *
 * Owns: one reference on each client of the table. Threads: any. locked.mutex is a leaf.
 * Ends: the client is let go of when the loop ends, or with the factory. A guest can be removed by
 *   its loop only, so when the factory is freed the entry stays there, empty, until the loop has
 *   time for it, or ends. */
#include <stdio.h>

#include "share/desk.h"

#define FACTORY_BUCKETS             256
#define FACTORY_CLIENTS_MAX_DEFAULT 10000

struct factory_core {
    char name[IL_SHARE_NAME_SIZE];
    struct il_client_options client_options; /* a copy: the clients are made later */
    uint32_t client_count_max;
    uint32_t fork_generation;
    _Atomic uint32_t ref_count; /* the user's, and one for each entry */

    struct { /* any thread, with mutex held */
        struct sys_mutex mutex;
        struct il_list buckets[FACTORY_BUCKETS]; /* struct factory_entry.locked.link */
        uint32_t client_count;
    } locked;
};

struct il_factory {
    struct factory_core *core;
};

struct factory_entry {
    struct factory_core *core;  /* a reference */
    const void *key;            /* the runtime, or a plain thread's loop */
    struct il_loop *loop;       /* a reference */
    _Atomic uint32_t ref_count; /* the table's (then the leave job's), and the guest's */
    struct job leave_job;
    struct loop_guest guest; /* the loop's holder */

    struct {                      /* any thread, with the core's mutex held */
        struct il_list link;      /* while it is in the table */
        struct il_client *client; /* a reference, while it is in the table */
    } locked;
};

/* ---- the core ---- */

static void core_unref(struct factory_core *core)
{
    if (atomic_fetch_sub_explicit(&core->ref_count, 1, memory_order_acq_rel) == 1) {
        il_assert(core->locked.client_count == 0);
        sys_mutex_deinit(&core->locked.mutex);
        client_options_deinit(&core->client_options);
        il_free(core);
    }
}

static struct il_list *core_bucket(struct factory_core *core, const void *key)
{
    uint64_t hash = (uint64_t)(uintptr_t)key * 0x9e3779b97f4a7c15u; /* Fibonacci hashing */

    return &core->locked.buckets[hash >> 56];
}
_Static_assert(FACTORY_BUCKETS == 1 << 8, "core_bucket takes the upper eight bits");

static struct factory_entry *core_find_locked(struct factory_core *core, const void *key)
{
    il_list_for_each(core_bucket(core, key), node)
    {
        struct factory_entry *entry = il_container_of(node, struct factory_entry, locked.link);

        if (entry->key == key) {
            return entry;
        }
    }
    return NULL;
}

static void core_add_locked(struct factory_core *core, struct factory_entry *entry)
{
    il_list_push_back(core_bucket(core, entry->key), &entry->locked.link);
    core->locked.client_count++;
}

/* Take the entry off the table; the caller gets its client. NULL if it was off already. */
static struct il_client *core_remove_locked(struct factory_core *core, struct factory_entry *entry)
{
    struct il_client *client = entry->locked.client;

    if (client != NULL) {
        il_list_unlink(&entry->locked.link);
        entry->locked.client = NULL;
        il_assert(core->locked.client_count > 0);
        core->locked.client_count--;
    }
    return client;
}

/* ---- entries ---- */

static void entry_unref(struct factory_entry *entry)
{
    if (atomic_fetch_sub_explicit(&entry->ref_count, 1, memory_order_acq_rel) == 1) {
        il_assert(entry->locked.client == NULL);
        il_assert(!il_list_is_linked(&entry->guest.link));
        (void)loop_unref(entry->loop);
        core_unref(entry->core);
        il_free(entry);
    }
}

/* The runtime, or the thread, ends. */
static void entry_on_loop_end(struct loop_guest *guest)
{
    struct factory_entry *entry = il_container_of(guest, struct factory_entry, guest);
    struct factory_core *core = entry->core;
    struct il_client *client;

    sys_mutex_lock(&core->locked.mutex);
    client = core_remove_locked(core, entry);
    sys_mutex_unlock(&core->locked.mutex);
    if (client != NULL) {
        (void)il_client_unref(client);
        entry_unref(entry); /* the table's */
    }
    entry_unref(entry);
}

/* The factory has been freed. */
static enum loop_result entry_on_leave(struct il_loop *loop, struct job *job)
{
    struct factory_entry *entry = il_container_of(job, struct factory_entry, leave_job);

    loop_guest_remove(&entry->guest);
    entry_unref(entry); /* the guest's */
    entry_unref(entry); /* the job's */
    return LOOP_HELD;
}

/* An entry that is nowhere yet, with a client. */
static enum il_code entry_new(struct factory_core *core, const struct rt_place *place,
                              struct factory_entry **ret_entry, struct il_error *err)
{
    const char *where =
        place->runtime != NULL ? il_runtime_name(place->runtime) : place->loop->name;
    struct factory_entry *entry = il_calloc(1, sizeof(*entry));
    char name[IL_SHARE_NAME_SIZE + LOOP_NAME_SIZE];
    enum il_code code;

    if (entry == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a client of factory '%s'", core->name);
    }
    (void)snprintf(name, sizeof(name), "%s/%s", core->name, where);
    code = share_new_client(&core->client_options, name, &entry->locked.client, err);
    if (code != IL_OK) {
        il_free(entry);
        return code;
    }
    atomic_fetch_add_explicit(&core->ref_count, 1, memory_order_relaxed);
    entry->core = core;
    entry->loop = loop_ref(place->loop);
    atomic_init(&entry->ref_count, 2);
    entry->leave_job.run = entry_on_leave;
    entry->guest.on_loop_end = entry_on_loop_end;
    il_list_init(&entry->guest.link);
    il_list_init(&entry->locked.link);
    *ret_entry = entry;
    return IL_OK;
}

/* One that did not come into the table. */
static void entry_discard(struct factory_entry *entry)
{
    entry->locked.client = il_client_unref(entry->locked.client);
    entry_unref(entry);
    entry_unref(entry);
}

/* ---- the factory ---- */

static enum il_code factory_new_core(const struct il_factory_options *options,
                                     struct factory_core **ret_core, struct il_error *err)
{
    static const struct il_client_options client_defaults = IL_CLIENT_OPTIONS_INIT;
    const struct il_client_options *client_options =
        options->client != NULL ? options->client : &client_defaults;
    struct factory_core *core;
    enum il_code code;

    code =
        share_check_size("il_client_options", client_options->size, sizeof(*client_options), err);
    if (code != IL_OK) {
        return code;
    }
    core = il_calloc(1, sizeof(*core));
    if (core == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a factory");
    }
    /* Without the name: each client gets one of its own. */
    code = client_options_copy(client_options, &core->client_options, err);
    if (code != IL_OK) {
        il_free(core);
        return code;
    }
    (void)snprintf(core->name, sizeof(core->name), "%s", /* cut on purpose */
                   options->name != NULL ? options->name : "factory");
    core->client_count_max =
        options->clients_max > 0 ? options->clients_max : FACTORY_CLIENTS_MAX_DEFAULT;
    core->fork_generation = sys_fork_generation();
    atomic_init(&core->ref_count, 1);
    sys_mutex_init(&core->locked.mutex);
    for (unsigned i = 0; i < FACTORY_BUCKETS; i++) {
        il_list_init(&core->locked.buckets[i]);
    }
    *ret_core = core;
    return IL_OK;
}

enum il_code il_factory_new(const struct il_factory_options *options,
                            struct il_factory **ret_factory, struct il_error *err)
{
    static const struct il_factory_options defaults = IL_FACTORY_OPTIONS_INIT;
    struct il_factory *factory;
    enum il_code code;

    options = options != NULL ? options : &defaults;
    code = share_check_size("il_factory_options", options->size, sizeof(*options), err);
    if (code != IL_OK) {
        return code;
    }
    factory = il_calloc(1, sizeof(*factory));
    if (factory == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a factory");
    }
    code = factory_new_core(options, &factory->core, err);
    if (code != IL_OK) {
        il_free(factory);
        return code;
    }
    *ret_factory = factory;
    return IL_OK;
}

/* Take any entry off the table; the caller gets its client and the table's reference. */
static struct factory_entry *core_pop(struct factory_core *core, struct il_client **ret_client)
{
    struct factory_entry *entry = NULL;

    sys_mutex_lock(&core->locked.mutex);
    for (unsigned i = 0; i < FACTORY_BUCKETS && entry == NULL; i++) {
        struct il_list *bucket = &core->locked.buckets[i];

        if (!il_list_is_empty(bucket)) {
            entry = il_container_of(bucket->next, struct factory_entry, locked.link);
            *ret_client = core_remove_locked(core, entry);
        }
    }
    sys_mutex_unlock(&core->locked.mutex);
    return entry;
}

void il_factory_free(struct il_factory *factory)
{
    struct factory_entry *entry;
    struct il_client *client;

    if (factory == NULL || factory->core->fork_generation != sys_fork_generation()) {
        return; /* in the child of a fork, its loops and locks are the parent's */
    }
    while ((entry = core_pop(factory->core, &client)) != NULL) {
        (void)il_client_unref(client);
        if (!loop_post(entry->loop, &entry->leave_job)) {
            entry_unref(entry); /* the loop is just ending: it lets go of its guests by itself */
        }
    }
    core_unref(factory->core);
    il_free(factory);
}

/* ---- who are we, and which client is ours? ---- */

static struct il_client *core_find(struct factory_core *core, const void *key)
{
    struct factory_entry *entry;
    struct il_client *client;

    sys_mutex_lock(&core->locked.mutex);
    entry = core_find_locked(core, key);
    client = entry != NULL ? il_client_ref(entry->locked.client) : NULL;
    sys_mutex_unlock(&core->locked.mutex);
    return client;
}

/* Put the entry into the table, unless another worker of the runtime was faster, or it is full. */
static struct il_client *core_put(struct factory_core *core, struct factory_entry *entry,
                                  bool *ret_is_put)
{
    struct factory_entry *other;
    struct il_client *client = NULL;

    sys_mutex_lock(&core->locked.mutex);
    other = core_find_locked(core, entry->key);
    *ret_is_put = other == NULL && core->locked.client_count < core->client_count_max;
    if (*ret_is_put) {
        core_add_locked(core, entry);
        other = entry;
    }
    if (other != NULL) {
        client = il_client_ref(other->locked.client);
    }
    sys_mutex_unlock(&core->locked.mutex);
    return client;
}

/* Between rt_enter and rt_leave: we hold the loop. */
static enum il_code factory_make(struct factory_core *core, const struct rt_place *place,
                                 const void *key, struct il_client **ret_client,
                                 struct il_error *err)
{
    struct factory_entry *entry = NULL;
    struct il_client *client;
    bool is_put;
    enum il_code code = entry_new(core, place, &entry, err);

    if (code != IL_OK) {
        return code;
    }
    entry->key = key;
    client = core_put(core, entry, &is_put);
    if (is_put) {
        il_assert_on_loop(place->loop);
        loop_guest_add(place->loop, &entry->guest);
    } else {
        entry_discard(entry);
    }
    if (client == NULL) {
        return il_fail(err, IL_ELIMIT,
                       "factory '%s' has %u client%s, the most it may (clients_max)", core->name,
                       core->client_count_max, il_plural(core->client_count_max));
    }
    *ret_client = client;
    return IL_OK;
}

enum il_code il_factory_client(struct il_factory *factory, struct il_client **ret_client,
                               struct il_error *err)
{
    struct rt_place place;
    struct il_client *client;
    const void *key;
    enum il_code code;

    if (factory == NULL) {
        return il_fail(err, IL_EINVAL, "il_factory_client: factory is NULL");
    }
    if (factory->core->fork_generation != sys_fork_generation()) {
        return il_fail(err, IL_EFORK,
                       "factory '%s' was made before this process was forked: make one of your own "
                       "after fork",
                       factory->core->name);
    }
    code = rt_enter(&place, true, err);
    if (code != IL_OK) {
        return code;
    }
    key = place.runtime != NULL ? (const void *)place.runtime : (const void *)place.loop;
    client = core_find(factory->core, key);
    if (client != NULL) {
        *ret_client = client;
    } else {
        code = factory_make(factory->core, &place, key, ret_client, err);
    }
    rt_leave(&place);
    return code;
}

uint32_t il_factory_client_count(struct il_factory *factory)
{
    uint32_t count = 0;

    if (factory != NULL) {
        sys_mutex_lock(&factory->core->locked.mutex);
        count = factory->core->locked.client_count;
        sys_mutex_unlock(&factory->core->locked.mutex);
    }
    return count;
}

enum il_code il_factory_send(struct il_factory *factory, const struct il_request *request,
                             struct il_response **ret_response, struct il_error *err)
{
    struct il_client *client;
    enum il_code code = il_factory_client(factory, &client, err);

    if (code == IL_OK) {
        code = il_send(client, request, ret_response, err);
        (void)il_client_unref(client);
    }
    return code;
}

static enum il_code factory_send(void *object, const struct il_request *request,
                                 struct il_response **ret_response, struct il_error *err)
{
    return il_factory_send(object, request, ret_response, err);
}

enum il_code il_factory_get(struct il_factory *factory, const char *url,
                            struct il_response **ret_response, struct il_error *err)
{
    return share_get(factory_send, factory, url, ret_response, err);
}
