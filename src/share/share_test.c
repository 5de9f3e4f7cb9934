/* share_test.c: the five patterns, each used from two runtimes and a plain thread. */
#include "share/share_check.h"

static struct il_client_options client_options(enum il_driver driver)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.driver = driver;
    return options;
}

/* One way of sending, whatever the pattern. */
struct way {
    struct scene *scene;
    enum il_code (*get)(void *object, const char *url, struct il_response **ret_response,
                        struct il_error *err);
    void *object;
    int count;
};

#define WAY(pattern)                                                                               \
    static enum il_code way_##pattern(void *object, const char *url,                               \
                                      struct il_response **ret_response, struct il_error *error)   \
    {                                                                                              \
        return il_##pattern##_get(object, url, ret_response, error);                               \
    }
WAY(single)
WAY(per_runtime)
WAY(factory)
WAY(proxy)
WAY(service)

static void get_ten(void *arg)
{
    struct way *way = arg;

    for (int i = 0; i < 10; i++) {
        struct il_response *response;
        char path[32];

        snprintf(path, sizeof(path), "/id/%p-%d", (void *)&path, i);
        CHECK_OK(way->get(way->object, scene_url(way->scene, path), &response, &err));
        CHECK_EQ(il_response_status(response), 200);
        CHECK_STR(il_response_body(response, NULL), path + 4);
        il_response_free(response);
    }
}

/* From a multi-thread runtime, from a current-thread one, and from a plain thread, all at once. */
static void get_from_everywhere(struct way *way)
{
    struct actor actors[WHERE_COUNT];

    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_start(&actors[i], (enum check_where)i, get_ten, way);
    }
    for (int i = 0; i < WHERE_COUNT; i++) {
        actor_join(&actors[i]);
    }
}

static void single_serves_everywhere(enum il_driver driver)
{
    struct il_single_options options = IL_SINGLE_OPTIONS_INIT;
    struct il_client_options client = client_options(driver);
    struct il_single *single;
    struct scene scene;

    scene_begin(&scene);
    options.client = &client;
    options.worker_count = 2;
    CHECK_OK(il_single_new(&options, &single, &err));
    get_from_everywhere(&(struct way){ &scene, way_single, single, 0 });
    CHECK_OK(
        il_single_block_on(single, get_ten, &(struct way){ &scene, way_single, single, 0 }, &err));
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
    struct il_client_options client = client_options(driver);
    struct il_factory *factory;
    struct scene scene;

    scene_begin(&scene);
    options.client = &client;
    CHECK_OK(il_factory_new(&options, &factory, &err));
    get_from_everywhere(&(struct way){ &scene, way_factory, factory, 0 });
    CHECK_EQ(il_factory_client_count(factory), 0);
    il_factory_free(factory);
    scene_end(&scene);
}

TEST(factory_gives_every_runtime_and_thread_a_client_and_takes_it_back)
{
    factory_serves_everywhere(IL_DRIVER_CALLER);
}

TEST(factory_with_bound_driver_gives_every_runtime_and_thread_a_client)
{
    factory_serves_everywhere(IL_DRIVER_BOUND);
}

static void proxy_serves_everywhere(enum il_driver driver)
{
    struct il_runtime *owner = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    struct il_proxy_options options = IL_PROXY_OPTIONS_INIT;
    struct il_client_options client = client_options(driver);
    struct il_proxy *proxy;
    struct scene scene;

    il_runtime_drop(owner);
    scene_begin(&scene);
    owner = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    options.client = &client;
    CHECK_OK(il_proxy_new(owner, NULL, &options, &proxy, &err));
    get_from_everywhere(&(struct way){ &scene, way_proxy, proxy, 0 });
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
    struct il_client_options client = client_options(driver);
    struct il_runtime *owner;
    struct il_service *service;
    struct scene scene;

    scene_begin(&scene);
    owner = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    options.client = &client;
    options.queue_capacity = 1;
    options.concurrency = 2;
    CHECK_OK(il_service_start(owner, &options, &service, &err));
    get_from_everywhere(&(struct way){ &scene, way_service, service, 0 });
    CHECK_OK(il_service_stop(service, il_deadline_in_ms(30000), &err));
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

static void get_refused(void *arg)
{
    struct way *way = arg;
    struct il_response *response;
    struct il_error error;

    CHECK_EQ(way->get(way->object, scene_url(way->scene, "/hello"), &response, &error), IL_EINVAL);
    CHECK_CONTAINS(error.message, "belongs to runtime 'mine'");
    way->count = way->count + strlen(error.message) > 0;
}

TEST(per_runtime_client_serves_its_runtime_and_refuses_everybody_else)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_per_runtime *per_runtime;
    struct il_runtime *mine;
    struct way way;
    struct scene scene;

    scene_begin(&scene);
    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.name = "mine";
    CHECK_OK(il_runtime_new(&options, &mine, &err));
    CHECK_OK(il_per_runtime_new(mine, NULL, &per_runtime, &err));
    way = (struct way){ &scene, way_per_runtime, per_runtime, 0 };
    CHECK_OK(il_block_on(mine, get_ten, &way, &err));
    for (int i = 0; i < WHERE_COUNT; i++) {
        struct actor actor;

        actor_start(&actor, (enum check_where)i, get_refused, &way);
        actor_join(&actor);
    }
    il_per_runtime_free(per_runtime);
    il_runtime_drop(mine);
    scene_end(&scene);
}
