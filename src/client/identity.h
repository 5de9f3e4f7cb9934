/* identity.h: everything that makes two connections different.
 *
 * A request may use an idle connection only if the identity it wants is the connection's, field by
 * field. What is not here is the same for all connections of one pool (the client's driver and
 * limits), or makes no difference to a connection (method, headers, time limits).
 * A new setting of a request that changes how a connection is made belongs here: into the struct,
 * identity_hash, identity_equals, identity_copy and the test that flips each field alone.
 * Thread: any; an identity does not change. */
#ifndef IL_CLIENT_IDENTITY_H
#define IL_CLIENT_IDENTITY_H

#include "http/http.h"
#include "net/net.h"

struct pool_identity {
    enum url_scheme scheme;
    uint16_t port;
    const char *host;    /* lower case, without a final dot */
    bool is_absolute;    /* asked for with its final dot: no search list, perhaps another host */
    const char *address; /* dialed instead of the host, one or several; NULL: the host itself */
    const uint8_t *tls;  /* TLS_IDENTITY_SIZE bytes: all TLS settings; NULL with http */
};

uint32_t identity_hash(const struct pool_identity *identity);
bool identity_equals(const struct pool_identity *a, const struct pool_identity *b);

/* Copy with strings and digest put into `memory`, of identity_size(from) bytes; the host comes
 * first. */
size_t identity_size(const struct pool_identity *from);
void identity_copy(struct pool_identity *to, const struct pool_identity *from, char *memory);

#endif
