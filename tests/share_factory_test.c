/* share_factory_test.c: whose client is whose, and when the factory lets go of it. */
#include "tests/share_check.h"

static struct il_error err;
static struct scene scene;
static struct il_factory *factory;

static void begin(uint32_t clients_max)
{
    struct il_factory_options options = IL_FACTORY_OPTIONS_INIT;

    scene_begin(&scene);
    options.name = "F";
    options.clients_max = clients_max;
    CHECK_OK(il_factory_new(&options, &factory, &err));
}

static void end(void)
{
    il_factory_free(factory);
    scene_end(&scene);
}

/* The client of where we are; a reference. */
static void take(void *arg)
{
    CHECK_EQ(il_factory_client(factory, arg, NULL), IL_OK);
}

/* ---- whose is it? ---- */

TEST(each_runtime_has_one_client_and_each_plain_thread_too)
{
    struct il_runtime *a, *b;
    struct il_client *clients[6];

    begin(0);
    a = check_new_named(IL_RUNTIME_CURRENT_THREAD, "a");
    b = check_new_named(IL_RUNTIME_MULTI_THREAD, "b");
    CHECK_OK(il_block_on(a, take, &clients[0], &err));
    CHECK_OK(il_block_on(a, take, &clients[1], &err));
    CHECK_OK(il_block_on(b, take, &clients[2], &err));
    CHECK_OK(il_block_on(b, take, &clients[3], &err));
    take(&clients[4]);
    take(&clients[5]);
    CHECK(clients[0] == clients[1]);
    CHECK(clients[2] == clients[3]);
    CHECK(clients[4] == clients[5]);
    CHECK(clients[0] != clients[2]);
    CHECK(clients[2] != clients[4]);
    CHECK(clients[4] != clients[0]);
    CHECK_STR(il_client_name(clients[0]), "F/a");
    CHECK_STR(il_client_name(clients[2]), "F/b");
    CHECK_CONTAINS(il_client_name(clients[4]), "F/thread ");
    CHECK_EQ(il_factory_client_count(factory), 3);
    for (int i = 0; i < 6; i++) {
        il_client_unref(clients[i]);
    }
    il_runtime_drop(b);
    il_runtime_drop(a);
    end();
}

/* The clients are made later than the factory: by then the caller's options may be gone. */
TEST(factory_keeps_what_its_clients_are_made_from)
{
    struct il_factory_options options = IL_FACTORY_OPTIONS_INIT;
    struct il_client_options client = IL_CLIENT_OPTIONS_INIT;
    struct il_host_addresses *hosts = calloc(1, sizeof(*hosts));
    char *host = strdup("fixed.test"), *addresses = strdup("127.0.0.1"), url[80];
    struct il_response *response;

    scene_begin(&scene);
    *hosts = (struct il_host_addresses){ .host = host, .addresses = addresses };
    client.hosts = hosts;
    client.host_count = 1;
    CHECK_OK(il_tls_new(NULL, &client.tls, &err));
    options.client = &client;
    CHECK_OK(il_factory_new(&options, &factory, &err));
    (void)il_tls_unref(client.tls);
    free(hosts);
    free(host);
    free(addresses);
    snprintf(url, sizeof(url), "http://fixed.test:%u/hello", lab_server_port(scene.server));
    CHECK_OK(il_factory_get(factory, url, &response, &err));
    CHECK_EQ(il_response_status(response), 200);
    il_response_free(response);
    end();
}

#define TAKERS 64

TEST(workers_of_a_runtime_that_ask_at_once_get_the_same_client)
{
    struct il_runtime *runtime;
    struct il_client *clients[TAKERS];
    struct il_task *tasks[TAKERS];

    begin(0);
    runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 4);
    for (int i = 0; i < TAKERS; i++) {
        CHECK_OK(il_spawn(runtime, NULL, take, &clients[i], &tasks[i], &err));
    }
    for (int i = 0; i < TAKERS; i++) {
        CHECK_OK(il_task_join(tasks[i], IL_FOREVER, &err));
        il_task_unref(tasks[i]);
        CHECK(clients[i] == clients[0]);
        il_client_unref(clients[i]);
    }
    CHECK_EQ(il_factory_client_count(factory), 1);
    il_runtime_drop(runtime);
    CHECK_EQ(il_factory_client_count(factory), 0);
    end();
}

TEST(callback_gets_the_client_of_its_runtime)
{
    struct il_client *client;

    begin(0);
    check_run_in_callback(take, &client);
    CHECK_EQ(il_factory_client_count(factory), 0); /* that runtime has ended */
    il_client_unref(client);
    end();
}

/* ---- when does it go? ---- */

static void get_hello(void *arg)
{
    struct caller caller;

    (void)arg;
    CHECK_EQ(caller_send_here(&caller, &scene, check_factory, factory, "/hello", 0), IL_OK);
}

TEST(runtimes_made_and_dropped_in_a_loop_leave_no_client_behind)
{
    begin(0);
    for (int i = 0; i < 100; i++) {
        struct il_runtime *runtime = check_new_runtime(
            i % 2 ? IL_RUNTIME_MULTI_THREAD : IL_RUNTIME_CURRENT_THREAD, 1 + i % 3);

        CHECK_OK(il_block_on(runtime, get_hello, NULL, &err));
        CHECK_EQ(il_factory_client_count(factory), 1);
        il_runtime_drop(runtime);
        CHECK_EQ(il_factory_client_count(factory), 0);
        CHECK(lab_server_wait_open(scene.server, 0, LAB_FOREVER)); /* its connection went, too */
    }
    end();
}

static void *get_hello_in_thread(void *arg)
{
    get_hello(arg);
    CHECK_EQ(il_factory_client_count(factory), 1);
    return NULL;
}

TEST(client_of_a_thread_goes_with_the_thread)
{
    pthread_t thread;

    begin(0);
    for (int i = 0; i < 20; i++) {
        CHECK_EQ(pthread_create(&thread, NULL, get_hello_in_thread, NULL), 0);
        pthread_join(thread, NULL);
        CHECK_EQ(il_factory_client_count(factory), 0);
    }
    end();
}

TEST(client_that_is_still_used_outlives_its_runtime_and_the_factory)
{
    struct il_runtime *runtime;
    struct il_client *client;
    struct il_response *response;

    begin(0);
    runtime = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_block_on(runtime, take, &client, &err));
    il_runtime_drop(runtime);
    il_factory_free(factory);
    factory = NULL;
    CHECK_OK(il_get(client, scene_url(&scene, "/hello"), &response, &err));
    il_response_free(response);
    il_client_unref(client);
    end();
}

TEST(factory_can_be_freed_while_its_runtimes_live_run_or_are_parked)
{
    struct il_runtime *runs, *parked;

    begin(0);
    runs = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 2);
    parked = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    CHECK_OK(il_block_on(runs, get_hello, NULL, &err));
    CHECK_OK(il_block_on(parked, get_hello, NULL, &err));
    get_hello(NULL);
    CHECK_EQ(il_factory_client_count(factory), 3);
    il_factory_free(factory);
    factory = NULL;
    CHECK(lab_server_wait_open(scene.server, 0, LAB_FOREVER)); /* at once, not with the runtimes */
    il_runtime_drop(runs);
    il_runtime_drop(parked);
    end();
}

static void *drop_runtime(void *runtime)
{
    il_runtime_drop(runtime);
    return NULL;
}

TEST(factory_can_be_freed_while_its_runtimes_are_just_ending)
{
    for (int i = 0; i < 200; i++) {
        struct il_runtime *runtime;
        struct il_client *client;
        pthread_t thread;

        begin(0);
        runtime = check_new_runtime(i % 2 ? IL_RUNTIME_MULTI_THREAD : IL_RUNTIME_CURRENT_THREAD, 1);
        CHECK_OK(il_block_on(runtime, take, &client, &err));
        il_client_unref(client);
        CHECK_EQ(pthread_create(&thread, NULL, drop_runtime, runtime), 0);
        il_factory_free(factory);
        factory = NULL;
        pthread_join(thread, NULL);
        end();
    }
}

/* ---- limits ---- */

static void take_in_vain(void *arg)
{
    struct il_client *client;
    struct il_error error;

    (void)arg;
    CHECK_EQ(il_factory_client(factory, &client, &error), IL_ELIMIT);
    CHECK_CONTAINS(error.message, "clients_max");
}

TEST(no_more_clients_than_clients_max_and_room_again_when_one_goes)
{
    struct il_runtime *first, *second;
    struct il_client *client;

    begin(1);
    first = check_new_runtime(IL_RUNTIME_CURRENT_THREAD, 0);
    second = check_new_runtime(IL_RUNTIME_MULTI_THREAD, 1);
    CHECK_OK(il_block_on(first, take, &client, &err));
    il_client_unref(client);
    CHECK_OK(il_block_on(second, take_in_vain, NULL, &err));
    il_runtime_drop(first);
    CHECK_OK(il_block_on(second, take, &client, &err));
    il_client_unref(client);
    il_runtime_drop(second);
    end();
}

static enum il_code take_in_child(void *arg)
{
    struct il_client *client;
    enum il_code code = il_factory_client(factory, &client, &err);

    (void)arg;
    il_factory_free(factory); /* lets it be */
    return code;
}

TEST(factory_of_the_parent_process_is_refused_in_the_child)
{
    begin(0);
    get_hello(NULL);
    check_in_child(take_in_child, NULL, IL_EFORK);
    end();
}

TEST(factory_that_runs_out_of_memory_says_so_and_leaves_nothing)
{
    enum il_code code = IL_ENOMEM;

    begin(0);
    for (uint64_t after = 0; code != IL_OK; after++) {
        struct il_client *client;

        il_memory_fail_after(after);
        code = il_factory_client(factory, &client, &err);
        il_memory_fail_after(UINT64_MAX);
        CHECK(code == IL_OK || code == IL_ENOMEM);
        CHECK_EQ(il_factory_client_count(factory), code == IL_OK);
        if (code == IL_OK) {
            CHECK(after > 0);
            il_client_unref(client);
        }
    }
    end();
}
