/* tls_session.c: TLS sessions of earlier connections, to be resumed by later ones.
 *
 * Each il_tls has its own, so a session is resumed under the very settings it was made under, and a
 * key (host, port, protocols offered) names the peer.
 * Owns: the sessions in the list. Threads: any; the mutex is a leaf. */
#include "net/tls_inside.h"

struct session_entry {
    struct il_list link;
    SSL_SESSION *session;
    uint64_t put_ns;
    char key[];
};

void tls_sessions_init(struct tls_sessions *sessions)
{
    sys_mutex_init(&sessions->mutex);
    il_list_init(&sessions->entries);
    sessions->count = 0;
}

static void entry_free(struct session_entry *entry)
{
    SSL_SESSION_free(entry->session);
    il_free(entry);
}

static void entries_free(struct il_list *entries)
{
    struct il_list *node;

    while ((node = il_list_pop_front(entries)) != NULL) {
        entry_free(il_container_of(node, struct session_entry, link));
    }
}

void tls_sessions_deinit(struct tls_sessions *sessions)
{
    entries_free(&sessions->entries);
    sys_mutex_deinit(&sessions->mutex);
}

static void entry_unlink_locked(struct tls_sessions *sessions, struct session_entry *entry,
                                struct il_list *dead)
{
    il_list_unlink(&entry->link);
    il_list_push_back(dead, &entry->link);
    sessions->count--;
}

static bool entry_is_stale(const struct session_entry *entry, uint64_t now_ns)
{
    return now_ns - entry->put_ns >= TLS_SESSION_AGE_MAX_NS ||
           !SSL_SESSION_is_resumable(entry->session);
}

void tls_sessions_put(struct tls_sessions *sessions, const char *key, SSL_SESSION *session)
{
    size_t key_size = strlen(key) + 1;
    struct session_entry *entry = il_malloc(sizeof(*entry) + key_size);
    struct il_list dead = IL_LIST_INIT(dead);
    unsigned of_peer = 0;

    if (entry == NULL) {
        SSL_SESSION_free(session); /* the next handshake is a full one: no harm */
        return;
    }
    il_list_init(&entry->link);
    entry->session = session;
    entry->put_ns = sys_now_ns();
    memcpy(entry->key, key, key_size);
    sys_mutex_lock(&sessions->mutex);
    il_list_push_front(&sessions->entries, &entry->link);
    sessions->count++;
    il_list_for_each_safe(&sessions->entries, node)
    {
        struct session_entry *other = il_container_of(node, struct session_entry, link);

        if (strcmp(other->key, key) == 0 && ++of_peer > TLS_SESSIONS_PER_PEER_MAX) {
            entry_unlink_locked(sessions, other, &dead);
        }
    }
    if (sessions->count > TLS_SESSIONS_MAX) {
        entry_unlink_locked(
            sessions, il_container_of(sessions->entries.prev, struct session_entry, link), &dead);
    }
    sys_mutex_unlock(&sessions->mutex);
    entries_free(&dead);
}

SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const char *key)
{
    struct il_list dead = IL_LIST_INIT(dead);
    uint64_t now_ns = sys_now_ns();
    SSL_SESSION *found = NULL;

    sys_mutex_lock(&sessions->mutex);
    il_list_for_each_safe(&sessions->entries, node)
    {
        struct session_entry *entry = il_container_of(node, struct session_entry, link);

        if (strcmp(entry->key, key) != 0) {
            continue;
        }
        if (entry_is_stale(entry, now_ns)) {
            entry_unlink_locked(sessions, entry, &dead);
            continue;
        }
        found = entry->session;
        il_assert(SSL_SESSION_up_ref(found) == 1);
        /* RFC 8446 C.4: a ticket that is used twice lets onlookers link the connections. */
        if (SSL_SESSION_get_protocol_version(found) >= TLS1_3_VERSION && !IL_MUTANT(TICKET_AGAIN)) {
            entry_unlink_locked(sessions, entry, &dead);
        }
        break;
    }
    sys_mutex_unlock(&sessions->mutex);
    entries_free(&dead);
    return found;
}
