#include "net/host_table.h"

#include "tests/check.h"

static struct il_error err;

static const char *text_of(const struct host_table *table, const char *host, uint16_t port)
{
    const struct host_entry *entry = host_table_find(table, host, port);

    return entry != NULL ? entry->text : "none";
}

TEST(host_has_the_addresses_that_it_was_given)
{
    struct host_table table;
    const struct host_entry *entry;

    host_table_init(&table);
    CHECK_STR(text_of(&table, "a.test", 80), "none");
    CHECK_OK(host_table_add(&table, "A.test.", 80, "[2001:DB8::1],192.0.2.1,2001:db8:0::2", &err));
    CHECK_OK(host_table_add(&table, "b.test", 0, "192.0.2.2", &err));
    CHECK_OK(host_table_add(&table, "b.test", 81, "192.0.2.3", &err));
    CHECK_STR(text_of(&table, "a.TEST", 80), "2001:db8::1,192.0.2.1,2001:db8::2");
    CHECK_STR(text_of(&table, "a.test", 81), "none");
    CHECK_STR(text_of(&table, "b.test", 80), "192.0.2.2");
    CHECK_STR(text_of(&table, "b.test", 81), "192.0.2.3");
    CHECK_STR(text_of(&table, "c.b.test", 80), "none");
    entry = host_table_find(&table, "a.test", 80);
    CHECK_EQ(entry->count, 3);
    CHECK_EQ(net_address_family(&entry->addresses[0]), AF_INET6);
    CHECK_EQ(net_address_family(&entry->addresses[1]), AF_INET);
    host_table_deinit(&table);
}

TEST(what_cannot_be_fixed_is_refused)
{
    static const struct {
        const char *host, *addresses, *says;
    } rows[] = {
        { "", "192.0.2.1", "1 to 253 bytes" },
        { ".", "192.0.2.1", "1 to 253 bytes" },
        { "a b", "192.0.2.1", "neither an address nor a host name" },
        { "192.0.2.1", "192.0.2.2", "is an address already" },
        { "::1", "192.0.2.2", "is an address already" },
        { "a.test", "", "is not an IPv4 or IPv6 address" },
        { "a.test", "b.test", "\"b.test\" is not an IPv4 or IPv6 address" },
        { "a.test", "192.0.2.1,", "is not an IPv4 or IPv6 address" },
        { "a.test", ",192.0.2.1", "is not an IPv4 or IPv6 address" },
        { "a.test", "192.0.2.1 192.0.2.2", "is not an IPv4 or IPv6 address" },
        { "a.test", "192.0.2.1:80", "is not an IPv4 or IPv6 address" },
        { "a.test", "[192.0.2.1]", "is not an IPv4 or IPv6 address" },
        { "a.test", "[::1", "is not an IPv4 or IPv6 address" },
        { "a.test", "[]", "is not an IPv4 or IPv6 address" },
        { "a.test", "fe80::1%lo", "is not an IPv4 or IPv6 address" },
        { "a.test",
          "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,"
          "1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1,1.1.1.1",
          "more than 16 addresses" },
        { "Taken.test", "192.0.2.1", "fixed twice" },
    };
    struct host_table table;

    host_table_init(&table);
    CHECK_OK(host_table_add(&table, "taken.test", 80, "192.0.2.1", &err));
    for (size_t i = 0; i < il_array_count(rows); i++) {
        CHECK_EQ(host_table_add(&table, rows[i].host, 80, rows[i].addresses, &err), IL_EINVAL);
        CHECK_CONTAINS(err.message, rows[i].says);
        CHECK_EQ(table.count, 1);
    }
    host_table_deinit(&table);
    CHECK_EQ(table.count, 0);
}

TEST(so_many_hosts_are_fixed_and_no_more)
{
    struct host_table table;
    char host[32];

    host_table_init(&table);
    for (int i = 0; i < HOST_TABLE_MAX; i++) {
        (void)snprintf(host, sizeof(host), "h%d.test", i);
        CHECK_OK(host_table_add(&table, host, 0, "192.0.2.1", &err));
    }
    CHECK_EQ(host_table_add(&table, "one.more.test", 0, "192.0.2.1", &err), IL_EINVAL);
    CHECK_CONTAINS(err.message, "256");
    host_table_deinit(&table);
}

TEST(host_without_memory_is_not_half_there)
{
    struct host_table table;

    host_table_init(&table);
    il_memory_fail_after(0);
    CHECK_EQ(host_table_add(&table, "a.test", 0, "192.0.2.1", &err), IL_ENOMEM);
    il_memory_fail_after(UINT64_MAX);
    CHECK_EQ(table.count, 0);
    host_table_deinit(&table);
}
