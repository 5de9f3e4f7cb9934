/* dns.h: questions to DNS servers, and to /etc/hosts, on one loop: c-ares behind a small door.
 *
 * Private to src/net. Everything here runs on the loop that it was made for: no thread, nothing
 * blocks but the reading of three small files (/etc/resolv.conf when a dns is made, /etc/hosts and
 * the like). A dns is cheap to make (some 12 us) and is let go when nothing is asked any more, so a
 * change of /etc/resolv.conf is seen by the next one. Thread: the one that holds the loop. */
#ifndef IL_NET_DNS_H
#define IL_NET_DNS_H

#include "net/resolve.h"

struct dns;

#define DNS_NAME_SIZE     (RESOLVE_NAME_MAX + 2) /* with a final dot and the NUL */
#define DNS_SEARCH_MAX    8  /* domains of a search list; the others are not used */
#define DNS_ABANDONED_MAX 64 /* see dns_is_crowded */

enum dns_type {
    DNS_AAAA,
    DNS_A,
    DNS_TYPE_COUNT,
};

/* What became of a question, the worse the further down: of several failures the worst is told. */
enum dns_result {
    DNS_PENDING,
    DNS_ADDRESSES,
    DNS_NO_NAME,     /* NXDOMAIN */
    DNS_NO_ADDRESS,  /* the name exists and has no address of this family */
    DNS_REFUSED,     /* a server said REFUSED, NOTIMP or FORMERR */
    DNS_SERVER_FAIL, /* SERVFAIL */
    DNS_NONSENSE,    /* an answer that cannot be read */
    DNS_NO_ANSWER,   /* in time, from any server */
    DNS_NO_SERVER,   /* none can be reached: see dns_errno */
    DNS_NO_MEMORY,
};

struct dns_addresses {
    size_t count;
    struct net_address list[RESOLVE_FAMILY_MAX]; /* port 0 */
};

/* A question under way. Its memory is dns.c's: valid until on_answered has returned, or until
 * dns_abandon. */
struct dns_ask {
    struct il_list link;
    struct dns *dns;
    void (*on_answered)(struct dns_ask *ask); /* NULL: abandoned */
    void *owner;                              /* whoever asked */
    char name[DNS_NAME_SIZE];
    enum dns_type type;
    unsigned rcode; /* a server's refusal seen on the way, else 0 */

    /* in on_answered */
    enum dns_result result;
    struct dns_addresses addresses;
    uint32_t ttl_s; /* the smallest; 0 without addresses */
};

/* Ready to ask. One reference is the caller's. */
IL_MUST_USE enum il_code dns_new(struct il_loop *loop, struct dns **ret_dns, struct il_error *err);
struct dns *dns_ref(struct dns *dns);

/* The last reference ends it; whoever has asked has an answer by then, or has abandoned it. */
struct dns *dns_unref(struct dns *dns);

/* Look into /etc/hosts for `name`, without a final dot. False when it is not there. */
bool dns_hosts(struct dns *dns, const char *name, struct dns_addresses ret_found[DNS_TYPE_COUNT]);

/* Ask for `name` as it is, without a search list. `on_answered` runs once, from a job. NULL when
 * out of memory. */
struct dns_ask *dns_ask(struct dns *dns, const char *name, enum dns_type type,
                        void (*on_answered)(struct dns_ask *ask), void *owner);

/* Nobody wants the answer any more; on_answered will not run. c-ares cannot forget one question, so
 * it stays until it is answered or timed out, or the dns ends. */
void dns_abandon(struct dns_ask *ask);

/* So many abandoned questions that new ones had better go to a new dns. What stays in memory is
 * bounded that way: at most DNS_ABANDONED_MAX abandoned for each that somebody still waits for. */
bool dns_is_crowded(const struct dns *dns);

/* Names to ask for, in order, for a host `name`: by the search list and ndots of resolv.conf(5).
 * False when `index` is past the last. `candidate` has DNS_NAME_SIZE bytes. */
bool dns_candidate(const struct dns *dns, const char *name, size_t index, char *candidate);

/* For messages: "10.0.0.53 and 10.0.1.53"; and why none could be reached, 0 if not known. */
const char *dns_servers_text(const struct dns *dns);
int dns_errno(const struct dns *dns);

/* Tests: what stands in for /etc/resolv.conf and /etc/hosts in each dns made from now on; NULL: the
 * files. Borrowed until replaced. */
struct dns_settings {
    const char *servers; /* "127.0.0.1:5353,[::1]:5353" */
    const char *search;  /* one domain, or NULL */
    int ndots;
    int timeout_ms, try_count;   /* 0: as always */
    bool is_tcp_only;            /* as "options use-vc" says where c-ares reads it */
    bool hosts_from_environment; /* $CARES_HOSTS names the hosts file */
};
void dns_set_for_test(const struct dns_settings *settings);

#endif
