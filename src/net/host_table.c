/* host_table.c: names whose addresses are given, and not asked for.
 *
 * A list: who fixes names fixes a few, and with none a look costs one comparison.
 * Owns: its entries. Threads: see host_table.h. */
#include "net/host_table.h"

#include <stdio.h>
#include <strings.h>

#include "base/bytes.h"
#include "net/dial.h"
#include "net/host_name.h"

_Static_assert(HOST_TABLE_ADDRESSES_MAX <= RESOLVE_FAMILY_MAX, "a dial takes all of them");

struct node {
    struct il_list link;
    struct host_entry entry;
    char host[RESOLVE_NAME_MAX + 1];
    char text[HOST_TABLE_ADDRESSES_MAX * NET_ADDRESS_TEXT_SIZE];
};

void host_table_init(struct host_table *table)
{
    il_list_init(&table->nodes);
    table->count = 0;
}

void host_table_deinit(struct host_table *table)
{
    struct il_list *link;

    while ((link = il_list_pop_front(&table->nodes)) != NULL) {
        il_free(il_container_of(link, struct node, link));
    }
    table->count = 0;
}

/* ---- reading ---- */

static enum il_code read_host(const char *host, struct node *node, struct il_error *err)
{
    struct net_address literal;
    enum host_kind kind;
    size_t size;
    enum il_code code = host_classify(host, &kind, &literal, err);

    if (code != IL_OK) {
        return code;
    }
    if (kind == HOST_LITERAL) {
        return il_fail(err, IL_EINVAL,
                       "host '%.80s' is an address already: addresses can be fixed for names only",
                       host);
    }
    size = strlen(host);
    size -= host[size - 1] == '.';
    il_assert(size < sizeof(node->host));
    memcpy(node->host, host, size);
    node->entry.host = node->host;
    return IL_OK;
}

/* One address, `size` bytes at `text`. */
static bool read_address(const char *text, size_t size, struct net_address *ret_address)
{
    char copy[NET_ADDRESS_TEXT_SIZE];
    bool is_bracketed = size >= 2 && text[0] == '[' && text[size - 1] == ']';

    if (is_bracketed) {
        text++;
        size -= 2;
    }
    if (size >= sizeof(copy)) {
        return false;
    }
    memcpy(copy, text, size);
    copy[size] = '\0';
    return net_address_parse(copy, ret_address) &&
           (!is_bracketed || net_address_family(ret_address) == AF_INET6);
}

static void add_address(struct node *node, const struct net_address *address)
{
    char text[NET_ADDRESS_TEXT_SIZE];
    size_t used = strlen(node->text);

    node->entry.addresses[node->entry.count++] = *address;
    (void)snprintf(node->text + used, sizeof(node->text) - used, "%s%s", used > 0 ? "," : "",
                   net_address_text(address, text));
}

static enum il_code read_addresses(const char *text, struct node *node, struct il_error *err)
{
    char shown[80];

    for (const char *at = text;; at++) {
        size_t size = strcspn(at, ",");
        struct net_address address;

        if (node->entry.count == HOST_TABLE_ADDRESSES_MAX) {
            return il_fail(err, IL_EINVAL, "host '%.80s': more than %d addresses", node->host,
                           HOST_TABLE_ADDRESSES_MAX);
        }
        if (!read_address(at, size, &address)) {
            return il_fail(err, IL_EINVAL,
                           "host '%.60s': \"%s\" is not an IPv4 or IPv6 address, nor several with "
                           "commas between",
                           node->host, il_escape(shown, sizeof(shown), text, strlen(text)));
        }
        add_address(node, &address);
        at += size;
        if (*at == '\0') {
            break;
        }
    }
    node->entry.text = node->text;
    return IL_OK;
}

/* ---- the interface ---- */

/* The entry for just this port; 0 is one, too. */
static const struct host_entry *find_exactly(const struct host_table *table, const char *host,
                                             uint16_t port)
{
    il_list_for_each(&table->nodes, link)
    {
        const struct node *node = il_container_of(link, struct node, link);

        if (node->entry.port == port && strcasecmp(node->host, host) == 0) {
            return &node->entry;
        }
    }
    return NULL;
}

enum il_code host_table_add(struct host_table *table, const char *host, uint16_t port,
                            const char *addresses, struct il_error *err)
{
    struct node *node;
    enum il_code code;

    if (table->count == HOST_TABLE_MAX) {
        return il_fail(err, IL_EINVAL, "addresses are fixed for %d hosts already, the most",
                       HOST_TABLE_MAX);
    }
    node = il_calloc(1, sizeof(*node));
    if (node == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to fix the addresses of host '%.80s'", host);
    }
    il_list_init(&node->link);
    node->entry.port = port;
    code = read_host(host, node, err);
    code = code == IL_OK ? read_addresses(addresses, node, err) : code;
    if (code == IL_OK && find_exactly(table, node->host, port) != NULL) {
        code = il_fail(err, IL_EINVAL, "the addresses of host '%.80s', port %u are fixed twice",
                       node->host, port);
    }
    if (code != IL_OK) {
        il_free(node);
        return code;
    }
    il_list_push_back(&table->nodes, &node->link);
    table->count++;
    return IL_OK;
}

const struct host_entry *host_table_find(const struct host_table *table, const char *host,
                                         uint16_t port)
{
    const struct host_entry *entry;

    if (table->count == 0) {
        return NULL;
    }
    entry = find_exactly(table, host, port);
    return entry != NULL ? entry : find_exactly(table, host, 0);
}
