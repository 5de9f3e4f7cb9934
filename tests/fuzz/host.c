/* host.c: fuzz target for names and addresses: what a host is, and --resolve's HOST:PORT:ADDRESS.
 *
 * The input is two texts with a NUL between: a host, and addresses. What must hold: both are taken,
 * or refused with a message that can be printed; an address that is read and written is the same
 * again; and an entry that was taken is found by its name in any case. */
#include <ctype.h>
#include <string.h>

#include "net/host_name.h"
#include "net/host_table.h"
#include "tests/fuzz/fuzz.h"

enum { INPUT_SIZE_MAX = 4096 };

static void check_message(enum il_code code, const struct il_error *err)
{
    FUZZ_CHECK(code == IL_EINVAL || code == IL_ENOMEM);
    FUZZ_CHECK(err->code == code && err->message[0] != '\0');
    for (const char *at = err->message; *at != '\0'; at++) {
        FUZZ_CHECK(*at >= ' ' && *at < 0x7f);
    }
}

static void check_address(const struct net_address *address)
{
    char text[NET_ADDRESS_TEXT_SIZE], again[NET_ADDRESS_TEXT_SIZE];
    struct net_address parsed;

    FUZZ_CHECK(net_address_parse(net_address_text(address, text), &parsed));
    FUZZ_CHECK(strcmp(text, net_address_text(&parsed, again)) == 0);
    FUZZ_CHECK(net_address_family(address) == net_address_family(&parsed));
}

static void check_host(const char *host)
{
    struct net_address literal;
    struct il_error err = { .code = IL_OK };
    enum host_kind kind;
    enum il_code code = host_classify(host, &kind, &literal, &err);

    if (code != IL_OK) {
        check_message(code, &err);
    } else if (kind == HOST_LITERAL) {
        check_address(&literal);
    } else {
        for (const char *at = host; *at != '\0'; at++) {
            FUZZ_CHECK(*at > ' ' && *at < 0x7f && *at != '/' && *at != ':' && *at != '@');
        }
    }
}

static void check_entry(char *host, const char *addresses)
{
    struct il_error err = { .code = IL_OK };
    const struct host_entry *entry;
    struct host_table table;
    size_t size = strlen(host);
    enum il_code code;

    host_table_init(&table);
    code = host_table_add(&table, host, 80, addresses, &err);
    if (code != IL_OK) {
        check_message(code, &err);
    } else {
        if (host[size - 1] == '.') {
            host[size - 1] = '\0';
        }
        for (char *at = host; *at != '\0'; at++) {
            *at = (char)toupper((unsigned char)*at);
        }
        entry = host_table_find(&table, host, 80);
        FUZZ_CHECK(entry != NULL && host_table_find(&table, host, 81) == NULL);
        FUZZ_CHECK(entry->count > 0 && entry->count <= HOST_TABLE_ADDRESSES_MAX);
        for (size_t i = 0; i < entry->count; i++) {
            check_address(&entry->addresses[i]);
        }
        /* its own text means the same */
        FUZZ_CHECK(host_table_add(&table, "other.test", 0, entry->text, &err) == IL_OK);
        FUZZ_CHECK(strcmp(host_table_find(&table, "other.test", 1)->text, entry->text) == 0);
        FUZZ_CHECK(host_table_add(&table, host, 80, "::1", &err) == IL_EINVAL);
    }
    host_table_deinit(&table);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char text[INPUT_SIZE_MAX + 2];
    const char *addresses;

    if (size > INPUT_SIZE_MAX) {
        return 0;
    }
    memcpy(text, data, size);
    text[size] = text[size + 1] = '\0';
    addresses = text + strlen(text) + 1;
    check_host(text);
    check_entry(text, addresses);
    return 0;
}
