/* host_name.h: which names may be asked for, and which are not asked of anybody. Thread: any. */
#ifndef IL_NET_HOST_NAME_H
#define IL_NET_HOST_NAME_H

#include "net/address.h"

enum host_kind {
    HOST_LITERAL,    /* an address */
    HOST_LOOPBACK,   /* localhost, and names below it (RFC 6761) */
    HOST_NEVER,      /* below invalid (RFC 6761): does not exist */
    HOST_NOT_IN_DNS, /* below onion (RFC 7686): DNS must not be asked */
    HOST_NAME,       /* to be looked up */
};

/* What `host` is; for a literal also the address. IL_EINVAL when it is no host at all: too long, a
 * byte that names do not have, a zone id, or "127.1", which some take for an address and others for
 * a name. */
IL_MUST_USE enum il_code host_classify(const char *host, enum host_kind *ret_kind,
                                       struct net_address *ret_literal, struct il_error *err);

#endif
