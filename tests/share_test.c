/* share_test.c: the five patterns as they are meant: each used from two runtimes and a plain
 * thread, with both drivers; and what they all refuse. */
#include "tests/share_check.h"

static struct il_error err;

/* ---- from everywhere ---- */

struct visit {
    struct scene *scene;
    share_send_fn *send;
    void *object;
};

static void get_ten(void *arg)
{
    struct visit *visit = arg;

    for (int i = 0; i < 10; i++) {
        struct caller caller;
        char path[64];

        snprintf(path, sizeof(path), "/id/%p-%d", (void *)&caller, i);
        CHECK_EQ(caller_send_here(&caller, visit->scene, visit->send, visit->object, path, 0),
                 IL_OK);
        CHECK_STR(caller.body, path + strlen("/id/"));
    }
}

/* From a multi-thread runtime, from a current-thread one, and from a plain thread, all at once. */
static void get_from_everywhere(struct visit *visit)
{
    struct actor actors[WHERE_COUNT];

    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&actors[i], (enum check_where)i, get_ten, visit);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&actors[i]);
    }
    check_nothing_pending();
}

static struct il_client_options options_of(enum il_driver driver)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.driver = driver;
    return options;
}

static void single_serves_everywhere(enum il_driver driver)
{
    struct il_single_options options = IL_SINGLE_OPTIONS_INIT;
    struct il_client_options client = options_of(driver);
    struct il_single *single;
    struct visit visit;
    struct scene scene;

    scene_begin(&scene);
    options.client = &client;
    options.worker_count = 2;
    CHECK_OK(il_single_new(&options, &single, &err));
    visit = (struct visit){ &scene, check_single, single };
    get_from_everywhere(&visit);
    CHECK_OK(il_single_block_on(single, get_ten, &visit, &err)); /* on the runtime itself */
    il_single_free(single);
    scene_end(&scene);
}

TEST(single_serves_tasks_of_other_runtimes_and_plain_threads)
{
    single_serves_everywhere(IL_DRIVER_CALLER);
}

TEST(single_with_bound_driver_serves_tasks_of_other_runtimes_and_plain_threads)
{
    single_serves_everywhere(IL_DRIVER_BOUND);
}

static void factory_serves_everywhere(enum il_driver driver)
{
    struct il_factory_options options = IL_FACTORY_OPTIONS_INIT;
    struct il_client_options client = options_of(driver);
    struct il_factory *factory;
    struct scene scene;

    scene_begin(&scene);
    options.client = &client;
    CHECK_OK(il_factory_new(&options, &factory, &err));
    get_from_everywhere(&(struct visit){ &scene, check_factory, factory });
    CHECK_COMES(il_factory_client_count(factory) == 0);
    il_factory_free(factory);
    scene_end(&scene);
}

TEST(factory_serves_every_runtime_and_thread_by_a_client_of_its_own)
{
    factory_serves_everywhere(IL_DRIVER_CALLER);
}

TEST(factory_with_bound_driver_serves_every_runtime_and_thread_by_a_client_of_its_own)
{
    factory_serves_everywhere(IL_DRIVER_BOUND);
}

static void proxy_serves_everywhere(enum il_driver driver)
{
    struct il_proxy_options options = IL_PROXY_OPTIONS_INIT;
    struct il_client_options client = options_of(driver);
    struct il_runtime *owner;
    struct il_proxy *proxy;
    struct visit visit;
    struct scene scene;

    scene_begin(&scene);
    owner = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    options.client = &client;
    CHECK_OK(il_proxy_new(owner, NULL, &options, &proxy, &err));
    visit = (struct visit){ &scene, check_proxy, proxy };
    get_from_everywhere(&visit);
    CHECK_OK(il_block_on(owner, get_ten, &visit, &err)); /* on the owner itself */
    il_proxy_free(proxy);
    il_runtime_drop(owner);
    scene_end(&scene);
}

TEST(proxy_serves_tasks_of_other_runtimes_and_plain_threads)
{
    proxy_serves_everywhere(IL_DRIVER_CALLER);
}

TEST(proxy_with_bound_driver_serves_tasks_of_other_runtimes_and_plain_threads)
{
    proxy_serves_everywhere(IL_DRIVER_BOUND);
}

static void service_serves_everywhere(enum il_driver driver)
{
    struct il_service_options options = IL_SERVICE_OPTIONS_INIT;
    struct il_client_options client = options_of(driver);
    struct il_service *service;
    struct il_runtime *owner;
    struct visit visit;
    struct scene scene;

    scene_begin(&scene);
    owner = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    options.client = &client;
    options.queue_capacity = 1;
    options.concurrency = 2;
    CHECK_OK(il_service_start(owner, &options, &service, &err));
    visit = (struct visit){ &scene, check_service, service };
    get_from_everywhere(&visit);
    CHECK_OK(il_block_on(owner, get_ten, &visit, &err)); /* on the owner itself */
    CHECK_OK(il_service_stop(service, IL_FOREVER, &err));
    il_runtime_drop(owner);
    scene_end(&scene);
}

TEST(service_serves_tasks_of_other_runtimes_and_plain_threads)
{
    service_serves_everywhere(IL_DRIVER_CALLER);
}

TEST(service_with_bound_driver_serves_tasks_of_other_runtimes_and_plain_threads)
{
    service_serves_everywhere(IL_DRIVER_BOUND);
}

/* ---- per runtime ---- */

static void get_refused(void *arg)
{
    struct visit *visit = arg;
    struct il_client *client;
    struct il_error error;
    struct caller caller;
    char here[96];

    CHECK_EQ(caller_send_here(&caller, visit->scene, visit->send, visit->object, "/hello", 0),
             IL_EINVAL);
    CHECK_CONTAINS(caller.error.message, "belongs to runtime 'mine'");
    share_describe_here(here, sizeof(here));
    CHECK_CONTAINS(caller.error.message, here);
    CHECK_EQ(il_per_runtime_client(visit->object, &client, &error), IL_EINVAL);
    CHECK_CONTAINS(error.message, here);
}

static void take_client(void *arg)
{
    struct il_client *client;

    CHECK_OK(il_per_runtime_client(arg, &client, &err));
    il_client_unref(client);
}

TEST(per_runtime_client_serves_its_runtime_and_refuses_everybody_else_by_name)
{
    struct il_per_runtime *per_runtime;
    struct il_runtime *mine;
    struct visit visit;
    struct scene scene;

    scene_begin(&scene);
    mine = check_new_named(IL_RUNTIME_CURRENT_THREAD, "mine");
    CHECK_OK(il_per_runtime_new(mine, NULL, &per_runtime, &err));
    visit = (struct visit){ &scene, check_per_runtime, per_runtime };
    CHECK_OK(il_block_on(mine, get_ten, &visit, &err));
    CHECK_OK(il_block_on(mine, take_client, per_runtime, &err));
    for (int i = 0; i < WHERE_COUNT; i++) {
        struct actor actor;

        actor_start(&actor, (enum check_where)i, get_refused, &visit);
        actor_join(&actor);
    }
    CHECK_EQ(scene_counters(&scene).request_count, 10); /* none of those that were refused */
    il_per_runtime_free(per_runtime);
    il_runtime_drop(mine);
    scene_end(&scene);
}

/* ---- misuse ---- */

TEST(options_of_another_size_are_refused)
{
    struct il_runtime *owner = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    struct il_single *single;
    struct il_factory *factory;
    struct il_proxy *proxy;
    struct il_service *service;

    CHECK_EQ(il_single_new(&(struct il_single_options){ .size = 1 }, &single, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "il_single_options");
    CHECK_EQ(il_factory_new(&(struct il_factory_options){ .size = 1 }, &factory, &err), IL_EINVAL);
    CHECK_EQ(il_proxy_new(owner, NULL, &(struct il_proxy_options){ .size = 1 }, &proxy, &err),
             IL_EINVAL);
    CHECK_EQ(il_service_start(owner, &(struct il_service_options){ .size = 1 }, &service, &err),
             IL_EINVAL);
    il_runtime_drop(owner);
    check_nothing_left();
}

TEST(bad_client_options_are_refused_and_nothing_is_left)
{
    struct il_client_options client = { .size = 7 };
    struct il_single_options single_options = IL_SINGLE_OPTIONS_INIT;
    struct il_factory_options factory_options = IL_FACTORY_OPTIONS_INIT;
    struct il_proxy_options proxy_options = IL_PROXY_OPTIONS_INIT;
    struct il_service_options service_options = IL_SERVICE_OPTIONS_INIT;
    struct il_per_runtime *per_runtime;
    struct il_runtime *owner;
    struct il_single *single;
    struct il_factory *factory;
    struct il_proxy *proxy;
    struct il_service *service;
    struct scene scene;

    single_options.client = &client;
    factory_options.client = &client;
    proxy_options.client = &client;
    service_options.client = &client;
    scene_begin(&scene);
    owner = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    CHECK_EQ(il_single_new(&single_options, &single, &err), IL_EINVAL);
    CHECK_EQ(il_factory_new(&factory_options, &factory, &err), IL_EINVAL);
    CHECK_EQ(il_per_runtime_new(owner, &client, &per_runtime, &err), IL_EINVAL);
    CHECK_EQ(il_proxy_new(owner, NULL, &proxy_options, &proxy, &err), IL_EINVAL);
    CHECK_EQ(il_service_start(owner, &service_options, &service, &err), IL_EINVAL);
    il_runtime_drop(owner);
    scene_end(&scene);
}

TEST(null_is_refused_where_an_object_is_wanted_and_allowed_where_one_is_freed)
{
    struct il_response *response;
    struct il_per_runtime *per_runtime;
    struct il_service *service;
    struct il_client *client;
    struct il_proxy *proxy;

    CHECK_EQ(il_single_get(NULL, "http://127.0.0.1/", &response, &err), IL_EINVAL);
    CHECK_EQ(il_single_spawn(NULL, NULL, check_do_nothing, NULL, NULL, &err), IL_EINVAL);
    CHECK_EQ(il_single_block_on(NULL, check_do_nothing, NULL, &err), IL_EINVAL);
    CHECK_EQ(il_per_runtime_new(NULL, NULL, &per_runtime, &err), IL_EINVAL);
    CHECK_EQ(il_per_runtime_get(NULL, "http://127.0.0.1/", &response, &err), IL_EINVAL);
    CHECK_EQ(il_factory_client(NULL, &client, &err), IL_EINVAL);
    CHECK_EQ(il_factory_get(NULL, "http://127.0.0.1/", &response, &err), IL_EINVAL);
    CHECK_EQ(il_factory_client_count(NULL), 0);
    CHECK_EQ(il_proxy_new(NULL, NULL, NULL, &proxy, &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "proxy");
    CHECK_EQ(il_proxy_get(NULL, "http://127.0.0.1/", &response, &err), IL_EINVAL);
    CHECK_EQ(il_service_start(NULL, NULL, &service, &err), IL_EINVAL);
    CHECK_EQ(il_service_get(NULL, "http://127.0.0.1/", &response, &err), IL_EINVAL);
    il_single_free(NULL);
    il_per_runtime_free(NULL);
    il_factory_free(NULL);
    il_proxy_free(NULL);
    CHECK_EQ(il_service_stop(NULL, 0, &err), IL_OK);
}

TEST(bad_url_and_missing_request_are_refused_before_anything_is_handed_over)
{
    struct il_runtime *owner = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0); /* not driven */
    struct il_response *response;
    struct il_proxy *proxy;

    CHECK_OK(il_proxy_new(owner, NULL, NULL, &proxy, &err));
    CHECK_EQ(il_proxy_get(proxy, "nonsense", &response, &err), IL_EURL);
    CHECK_EQ(il_proxy_send(proxy, NULL, &response, &err), IL_EINVAL);
    il_proxy_free(proxy);
    il_runtime_drop(owner);
    check_nothing_left();
}

/* ---- out of memory ---- */

static enum il_code make_single(struct il_runtime *owner)
{
    struct il_single_options options = IL_SINGLE_OPTIONS_INIT;
    struct il_single *single = NULL;
    enum il_code code;

    (void)owner;
    options.worker_count = 1;
    code = il_single_new(&options, &single, &err);
    il_single_free(single);
    return code;
}

static enum il_code make_per_runtime(struct il_runtime *owner)
{
    struct il_per_runtime *per_runtime = NULL;
    enum il_code code = il_per_runtime_new(owner, NULL, &per_runtime, &err);

    il_per_runtime_free(per_runtime);
    return code;
}

static enum il_code make_factory(struct il_runtime *owner)
{
    struct il_factory *factory = NULL;
    enum il_code code = il_factory_new(NULL, &factory, &err);

    (void)owner;
    il_factory_free(factory);
    return code;
}

static enum il_code make_proxy(struct il_runtime *owner)
{
    struct il_proxy *proxy = NULL;
    enum il_code code = il_proxy_new(owner, NULL, NULL, &proxy, &err);

    il_proxy_free(proxy);
    return code;
}

static enum il_code make_service(struct il_runtime *owner)
{
    struct il_service *service = NULL;
    enum il_code code = il_service_start(owner, NULL, &service, &err);

    il_memory_fail_after(UINT64_MAX);
    CHECK_EQ(il_service_stop(service, 0, NULL), code == IL_OK ? IL_ETIMEDOUT : IL_OK);
    return code;
}

static void making_runs_out_of_memory(enum il_code (*make)(struct il_runtime *owner))
{
    enum il_code code = IL_ENOMEM;
    uint64_t after = 0;

    while (code != IL_OK) {
        struct il_runtime *owner;
        struct scene scene;

        scene_begin(&scene);
        owner = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0); /* not driven: allocates nothing */
        il_memory_fail_after(after++);
        code = make(owner);
        il_memory_fail_after(UINT64_MAX);
        CHECK(code == IL_OK || code == IL_ENOMEM);
        CHECK(code == IL_OK || err.code == IL_ENOMEM);
        il_runtime_drop(owner);
        scene_end(&scene);
    }
    CHECK(after > 1);
}

TEST(each_pattern_that_runs_out_of_memory_while_it_is_made_says_so_and_leaves_nothing)
{
    making_runs_out_of_memory(make_single);
    making_runs_out_of_memory(make_per_runtime);
    making_runs_out_of_memory(make_factory);
    making_runs_out_of_memory(make_proxy);
    making_runs_out_of_memory(make_service);
}
