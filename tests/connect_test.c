/* connect_test.c: how a request comes to a connection, and that no other request's fate is in it.
 */
#include "tests/client_check.h"

/* ---- addresses that are given ---- */

static const struct il_host_addresses HOSTS[] = {
    { .host = "every-port.test", .addresses = "127.0.0.1" },
    { .host = "second.test", .addresses = "127.0.0.2,127.0.0.1" }, /* nobody is at the first */
    { .host = "localhost", .addresses = "127.0.0.2" },             /* what is otherwise known */
};

static void start_with_hosts(void)
{
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;

    options.hosts = HOSTS;
    options.host_count = il_array_count(HOSTS);
    server_start();
    client_start(&options);
}

/* The connection that served it; 0: failed. */
static uint64_t connection_to(const char *host, const char *address)
{
    struct il_response_timing timing = { 0 };
    struct il_response *response;
    struct il_request *request;
    char text[128];

    snprintf(text, sizeof(text), "http://%s:%u/hello", host, lab_server_port(server));
    CHECK_OK(il_request_new("GET", text, &request, &err));
    CHECK_OK(il_request_set_address(request, address, &err));
    if (il_send(client, request, &response, &err) == IL_OK) {
        CHECK_EQ(il_response_status(response), 200);
        il_response_timing(response, &timing);
        il_response_free(response);
    }
    il_request_free(request);
    return timing.connection_id;
}

TEST(hosts_of_the_options_are_connected_to_at_their_addresses)
{
    uint64_t first;

    start_with_hosts();
    first = connection_to("every-port.test", NULL);
    CHECK(first != 0);
    CHECK_EQ(connection_to("Every-Port.test.", NULL), first);
    CHECK(connection_to("second.test", NULL) != 0);
    CHECK_EQ(connection_to("localhost", NULL), 0);
    CHECK_EQ(err.code, IL_ECONNECT);
    CHECK_CONTAINS(err.message, "127.0.0.2");
    stop();
}

TEST(address_of_the_request_comes_before_those_of_the_options)
{
    uint64_t by_options, by_request;

    start_with_hosts();
    by_options = connection_to("second.test", NULL);
    by_request = connection_to("second.test", "127.0.0.1");
    CHECK(by_options != 0 && by_request != 0);
    CHECK(by_options != by_request); /* one may lead elsewhere */
    CHECK_EQ(connection_to("second.test", "127.0.0.2"), 0);
    CHECK_EQ(err.code, IL_ECONNECT);
    CHECK_EQ(connection_to("second.test", NULL), by_options);
    CHECK_EQ(connection_to("second.test", "127.0.0.1"), by_request);
    stop();
}

TEST(hosts_that_make_no_sense_are_refused_and_nothing_is_left)
{
    static const struct {
        struct il_host_addresses host;
        const char *says;
    } rows[] = {
        { { .addresses = "127.0.0.1" }, "hosts[1] has no host" },
        { { .host = "b.test" }, "hosts[1] has no addresses" },
        { { .host = "b.test", .addresses = "c.test" }, "\"c.test\"" },
        { { .host = "127.0.0.1", .addresses = "127.0.0.2" }, "is an address already" },
        { { .host = "A.TEST", .addresses = "127.0.0.2" }, "fixed twice" },
    };
    struct il_client_options options = IL_CLIENT_OPTIONS_INIT;
    struct il_host_addresses hosts[2] = { { .host = "a.test", .addresses = "127.0.0.1" } };

    options.hosts = hosts;
    options.host_count = il_array_count(hosts);
    for (size_t i = 0; i < il_array_count(rows); i++) {
        hosts[1] = rows[i].host;
        CHECK_EQ(il_client_new(&options, &client, &err), IL_EINVAL);
        CHECK_CONTAINS(err.message, rows[i].says);
    }
    hosts[1] = (struct il_host_addresses){ .host = "b.test", .addresses = "127.0.0.1" };
    for (uint64_t after = 0; after < 4; after++) { /* the client, two hosts, the cache */
        il_memory_fail_after(after);
        CHECK_EQ(il_client_new(&options, &client, &err), IL_ENOMEM);
        il_memory_fail_after(UINT64_MAX);
    }
    CHECK_OK(il_client_new(&options, &client, &err));
    client = il_client_unref(client);
}
