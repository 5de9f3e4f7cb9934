/* host_name.c: which names may be asked for, and which are not asked of anybody. No state. */
#include "net/host_name.h"

#include <strings.h>

#include "base/bytes.h"
#include "net/resolve.h"

#define LABEL_MAX 63 /* bytes between two dots (RFC 1035) */

static size_t size_without_dot(const char *name)
{
    size_t size = strlen(name);

    return size > 0 && name[size - 1] == '.' ? size - 1 : size;
}

/* Is `name`, `size` bytes without a final dot, the special name `special` or below it? */
static bool is_below(const char *name, size_t size, const char *special)
{
    size_t special_size = strlen(special);

    return size >= special_size &&
           strncasecmp(name + size - special_size, special, special_size) == 0 &&
           (size == special_size || name[size - special_size - 1] == '.');
}

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

static enum il_code check_label(const char *host, size_t size, struct il_error *err)
{
    char shown[96];

    if (size == 0 || size > LABEL_MAX) {
        return il_fail(err, IL_EINVAL, "host \"%s\": each part between dots has 1 to %d bytes",
                       il_escape(shown, sizeof(shown), host, strlen(host)), LABEL_MAX);
    }
    return IL_OK;
}

/* "1.2.3", "0x7f.1": some programs take these for addresses, others ask DNS for them. */
static bool is_number(const char *label, size_t size)
{
    bool is_hex = size >= 2 && label[0] == '0' && (label[1] | 0x20) == 'x';

    if (is_hex) {
        return strspn(label + 2, "0123456789abcdefABCDEF") >= size - 2;
    }
    return strspn(label, "0123456789") >= size;
}

static enum il_code check_name(const char *host, struct il_error *err)
{
    size_t size = size_without_dot(host), label = 0;
    char shown[96];

    if (size == 0 || size > RESOLVE_NAME_MAX) {
        return il_fail(err, IL_EINVAL, "a host name has 1 to %d bytes, not %zu", RESOLVE_NAME_MAX,
                       size);
    }
    for (size_t i = 0; i < size; i++) {
        if (host[i] == '.') {
            if (check_label(host, i - label, err) != IL_OK) {
                return IL_EINVAL;
            }
            label = i + 1;
        } else if (!is_name_byte(host[i])) {
            return il_fail(err, IL_EINVAL, "host \"%s\" is neither an address nor a host name",
                           il_escape(shown, sizeof(shown), host, strlen(host)));
        }
    }
    if (check_label(host, size - label, err) != IL_OK) {
        return IL_EINVAL;
    }
    if (is_number(host + label, size - label)) {
        return il_fail(err, IL_EINVAL, "host '%.80s' ends in a number but is no IPv4 address",
                       host);
    }
    return IL_OK;
}

enum il_code host_classify(const char *host, enum host_kind *ret_kind,
                           struct net_address *ret_literal, struct il_error *err)
{
    size_t size = size_without_dot(host);
    enum il_code code;

    if (net_address_parse(host, ret_literal)) {
        *ret_kind = HOST_LITERAL;
        return IL_OK;
    }
    code = check_name(host, err);
    if (code != IL_OK) {
        return code;
    }
    if (is_below(host, size, "localhost")) {
        *ret_kind = HOST_LOOPBACK;
    } else if (is_below(host, size, "invalid")) {
        *ret_kind = HOST_NEVER;
    } else if (is_below(host, size, "onion")) {
        *ret_kind = HOST_NOT_IN_DNS;
    } else {
        *ret_kind = HOST_NAME;
    }
    return IL_OK;
}
