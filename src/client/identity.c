/* identity.c: comparing and copying what makes two connections different. No state. */
#include "client/identity.h"

#define FNV_OFFSET 2166136261u
#define FNV_PRIME  16777619u

static uint32_t hash_text(uint32_t hash, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        hash = (hash ^ (unsigned char)*at) * FNV_PRIME;
    }
    return hash;
}

uint32_t identity_hash(const struct pool_identity *identity)
{
    uint32_t scheme = IL_MUTANT(SCHEME_SHARED) ? 0 : (uint32_t)identity->scheme;
    uint32_t hash = FNV_OFFSET ^ identity->port ^ scheme << 16; /* FNV-1a */

    hash = hash_text(hash ^ (uint32_t)identity->is_absolute << 24, identity->host);
    if (identity->address != NULL) {
        hash = hash_text(hash * FNV_PRIME, identity->address);
    }
    if (identity->tls != NULL && !IL_MUTANT(SCHEME_SHARED) && !IL_MUTANT(SETTINGS_SHARED)) {
        uint32_t digest_part;

        memcpy(&digest_part, identity->tls, sizeof(digest_part));
        hash = (hash ^ digest_part) * FNV_PRIME;
    }
    return hash;
}

static bool texts_equal(const char *a, const char *b)
{
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static bool digests_equal(const uint8_t *a, const uint8_t *b)
{
    if (IL_MUTANT(SCHEME_SHARED) || (IL_MUTANT(SETTINGS_SHARED) && a != NULL && b != NULL)) {
        return true;
    }
    return a == NULL || b == NULL ? a == b : memcmp(a, b, TLS_IDENTITY_SIZE) == 0;
}

bool identity_equals(const struct pool_identity *a, const struct pool_identity *b)
{
    return (a->scheme == b->scheme || IL_MUTANT(SCHEME_SHARED)) && a->port == b->port &&
           a->is_absolute == b->is_absolute && strcmp(a->host, b->host) == 0 &&
           texts_equal(a->address, b->address) && digests_equal(a->tls, b->tls);
}

size_t identity_size(const struct pool_identity *from)
{
    return strlen(from->host) + 1 + (from->address != NULL ? strlen(from->address) + 1 : 0) +
           (from->tls != NULL ? TLS_IDENTITY_SIZE : 0);
}

static const char *put(char **memory, const void *bytes, size_t size)
{
    char *at = *memory;

    memcpy(at, bytes, size);
    *memory += size;
    return at;
}

void identity_copy(struct pool_identity *to, const struct pool_identity *from, char *memory)
{
    *to = *from;
    to->host = put(&memory, from->host, strlen(from->host) + 1);
    if (from->address != NULL) {
        to->address = put(&memory, from->address, strlen(from->address) + 1);
    }
    if (from->tls != NULL) {
        to->tls = (const uint8_t *)put(&memory, from->tls, TLS_IDENTITY_SIZE);
    }
}
