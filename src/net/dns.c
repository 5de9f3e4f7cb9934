/* dns.c: questions to DNS servers, on one loop: a c-ares channel and what is asked of it.
 *
 * c-ares is called from the dns's job and from dns_ask, never from one of its own callbacks:
 * several of its faults (CVE-2026-33630 and its relatives) are about programs that do. So a
 * callback only puts the answer on a list, and the job delivers it. ares_query is used and not
 * ares_getaddrinfo, which asks its next question from inside a callback, and would try the search
 * list for each family on its own: the IPv6 address of one host and the IPv4 address of another.
 *
 * c-ares keeps to malloc: its allocator is the process's, and may be in use by others already.
 *
 * Owns: the channel, and every ask until on_answered has run. Ends: with its last reference.
 * Threads: the one that holds the loop. */
#include "net/dns.h"

#include <arpa/nameser.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <strings.h>
#include <sys/time.h>

#include "net/dns_inside.h"

/* With one server: asked at 0, 1.2 and 3.6 s, given up after 8.4 s, a little before the default
 * time limit of a request's resolve phase, so that the server that is silent gets named. */
#define DNS_TIMEOUT_MS 1200
#define DNS_TRY_COUNT  3

static const struct dns_settings *settings_for_test;

void dns_set_for_test(const struct dns_settings *settings)
{
    settings_for_test = settings;
}

/* ---- the job ---- */

static void dns_rearm(struct dns *dns)
{
    struct timeval left;

    if (ares_timeout(dns->channel, NULL, &left) == NULL) {
        timer_cancel(&dns->loop->held.timers, &dns->timer);
        return;
    }
    /* One millisecond more: c-ares rounds down, and would find that nothing is due yet. */
    timer_arm(&dns->loop->held.timers, &dns->timer,
              loop_now_ns(dns->loop) + (uint64_t)left.tv_sec * 1000000000u +
                  (uint64_t)left.tv_usec * 1000u + LOOP_NS_PER_MS);
}

void dns_push(struct dns *dns)
{
    il_assert_on_loop(dns->loop);
    if (!dns->is_job_pushed) {
        dns->is_job_pushed = true;
        loop_push(dns->loop, &dns->job);
    }
}

static void dns_enter(struct dns *dns)
{
    il_assert_on_loop(dns->loop);
    il_assert(!dns->is_in_ares);
    dns->is_in_ares = true;
}

static void dns_leave(struct dns *dns)
{
    il_assert(dns->is_in_ares);
    dns->is_in_ares = false;
}

void dns_process(struct dns *dns, int read_fd, int write_fd)
{
    dns_enter(dns);
    ares_process_fd(dns->channel, read_fd, write_fd);
    dns_leave(dns);
}

static void dns_deliver(struct dns *dns)
{
    struct il_list *node;

    while ((node = il_list_pop_front(&dns->answered)) != NULL) {
        struct dns_ask *ask = il_container_of(node, struct dns_ask, link);

        ask->on_answered(ask);
        il_free(ask);
    }
}

static enum loop_result dns_run(struct il_loop *loop, struct job *job)
{
    struct dns *dns = il_container_of(job, struct dns, job);

    dns->is_job_pushed = false;
    if (dns->ref_count == 0) { /* ended while the job was queued */
        il_free(dns);
        return LOOP_HELD;
    }
    (void)dns_ref(dns);
    if (dns->is_overdue) {
        dns_sockets_look(dns); /* it may be the loop that is late, and not the answer */
    }
    if (!dns_sockets_work(dns)) {
        dns_push(dns);
    }
    if (dns->is_overdue) {
        dns->is_overdue = false;
        dns_process(dns, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
    dns_deliver(dns);
    dns_rearm(dns);
    (void)dns_unref(dns);
    return LOOP_HELD;
}

static void dns_on_timer(struct timer *timer)
{
    struct dns *dns = il_container_of(timer, struct dns, timer);

    dns->is_overdue = true;
    dns_push(dns);
}

/* ---- life ---- */

static enum il_code fail_ares(struct il_error *err, int status)
{
    if (status == ARES_ENOMEM) {
        return il_fail(err, IL_ENOMEM, "no memory for the DNS resolver");
    }
    return il_fail(err, IL_ERESOLVE, "the DNS resolver cannot start: %s", ares_strerror(status));
}

/* What resolv.conf says that we follow ourselves, and what messages need. */
static int dns_read_options(struct dns *dns)
{
    struct ares_addr_port_node *servers = NULL;
    struct ares_options options;
    size_t used = 0;
    int mask, status;

    status = ares_save_options(dns->channel, &options, &mask);
    if (status == ARES_SUCCESS) {
        dns->ndots = options.ndots;
        for (int i = 0; i < options.ndomains && dns->domain_count < DNS_SEARCH_MAX; i++) {
            char *domain = il_strdup(options.domains[i]);

            if (domain == NULL) {
                status = ARES_ENOMEM;
                break;
            }
            dns->domains[dns->domain_count++] = domain;
        }
    }
    ares_destroy_options(&options);
    if (status != ARES_SUCCESS) {
        return status;
    }
    status = ares_get_servers_ports(dns->channel, &servers);
    for (struct ares_addr_port_node *server = servers; server != NULL; server = server->next) {
        struct net_address address =
            server->family == AF_INET6
                ? net_address_v6((const struct in6_addr *)&server->addr.addr6,
                                 (uint16_t)server->udp_port)
                : net_address_v4(&server->addr.addr4, (uint16_t)server->udp_port);
        char text[NET_ADDRESS_TEXT_SIZE];
        int length = snprintf(dns->servers_text + used, sizeof(dns->servers_text) - used, "%s%s",
                              used > 0 ? " and " : "", net_address_text(&address, text));

        if (length < 0 || (size_t)length >= sizeof(dns->servers_text) - used) {
            dns->servers_text[used] = '\0'; /* there are more than a message has room for */
            break;
        }
        used += (size_t)length;
    }
    ares_free_data(servers);
    return status;
}

static int dns_init_channel(struct dns *dns)
{
    static _Atomic bool is_library_ready;
    const struct dns_settings *settings = settings_for_test;
    struct ares_options options = {
        .flags = ARES_FLAG_NOALIASES, /* $HOSTALIASES is no business of a library's */
        .timeout = DNS_TIMEOUT_MS,
        .tries = DNS_TRY_COUNT,
        .lookups = (char *)"f", /* of ares_getaddrinfo, which is for /etc/hosts only */
        .sock_state_cb = dns_socket_on_state,
        .sock_state_cb_data = dns,
    };
    int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
               ARES_OPT_SOCK_STATE_CB;
    int status;

    /* On Linux this only counts, and must not be undone while somebody else may use c-ares: once,
     * for as long as the process lives. */
    if (!atomic_exchange(&is_library_ready, true)) {
        (void)ares_library_init(ARES_LIB_INIT_ALL);
    }
    if (settings != NULL) {
        options.timeout = settings->timeout_ms > 0 ? settings->timeout_ms : options.timeout;
        options.tries = settings->try_count > 0 ? settings->try_count : options.tries;
        options.flags |= settings->is_tcp_only ? ARES_FLAG_USEVC : 0;
        options.domains = (char **)&settings->search;
        options.ndomains = settings->search != NULL;
        options.ndots = settings->ndots;
        mask |= ARES_OPT_DOMAINS | ARES_OPT_NDOTS;
    }
    status = ares_init_options(&dns->channel, &options, mask);
    if (status != ARES_SUCCESS) {
        return status;
    }
    dns_sockets_init(dns);
    if (settings != NULL) {
        status = ares_set_servers_ports_csv(dns->channel, settings->servers);
    }
    if (status == ARES_SUCCESS) {
        status = dns_read_options(dns);
    }
    if (status != ARES_SUCCESS) {
        ares_destroy(dns->channel);
    }
    return status;
}

static void dns_free_domains(struct dns *dns)
{
    for (size_t i = 0; i < dns->domain_count; i++) {
        il_free(dns->domains[i]);
    }
    dns->domain_count = 0;
}

enum il_code dns_new(struct il_loop *loop, struct dns **ret_dns, struct il_error *err)
{
    struct dns *dns = il_calloc(1, sizeof(*dns));
    int status;

    if (dns == NULL) {
        return fail_ares(err, ARES_ENOMEM);
    }
    dns->loop = loop;
    dns->ref_count = 1;
    dns->job.run = dns_run;
    timer_init(&dns->timer, dns_on_timer);
    il_list_init(&dns->asked);
    il_list_init(&dns->answered);
    status = dns_init_channel(dns);
    if (status != ARES_SUCCESS) {
        dns_free_domains(dns);
        il_free(dns);
        return fail_ares(err, status);
    }
    *ret_dns = dns;
    return IL_OK;
}

struct dns *dns_ref(struct dns *dns)
{
    il_assert(dns->ref_count > 0);
    dns->ref_count++;
    return dns;
}

struct dns *dns_unref(struct dns *dns)
{
    if (dns == NULL || --dns->ref_count > 0) {
        return NULL;
    }
    dns_enter(dns); /* and never leave: its callbacks free what was abandoned */
    ares_destroy(dns->channel);
    il_assert(il_list_is_empty(&dns->sockets));
    il_assert(il_list_is_empty(&dns->asked));
    il_assert(il_list_is_empty(&dns->answered));
    timer_cancel(&dns->loop->held.timers, &dns->timer);
    dns_free_domains(dns);
    if (!dns->is_job_pushed) {
        il_free(dns);
    }
    return NULL;
}

/* ---- answers ---- */

static enum dns_result result_of_status(const struct dns_ask *ask, int status)
{
    switch (status) {
    case ARES_ENOTFOUND:
        return DNS_NO_NAME;
    case ARES_SUCCESS: /* an alias that leads to no address */
    case ARES_ENODATA:
        return DNS_NO_ADDRESS;
    case ARES_EREFUSED:
    case ARES_ENOTIMP:
    case ARES_EFORMERR:
        return DNS_REFUSED;
    case ARES_ESERVFAIL:
        return DNS_SERVER_FAIL;
    case ARES_ETIMEOUT:
        return DNS_NO_ANSWER;
    case ARES_ECONNREFUSED: /* what c-ares says when every server has refused, too */
        if (ask->rcode == 0) {
            return DNS_NO_SERVER;
        }
        return ask->rcode == ns_r_servfail ? DNS_SERVER_FAIL : DNS_REFUSED;
    case ARES_ENOMEM:
        return DNS_NO_MEMORY;
    default:
        return DNS_NONSENSE;
    }
}

static void ask_add(struct dns_ask *ask, struct net_address address, int ttl_s)
{
    uint32_t ttl = ttl_s > 0 ? (uint32_t)ttl_s : 0; /* beyond 2^31 is 0: RFC 2181, section 8 */

    ask->ttl_s = ask->addresses.count == 0 || ttl < ask->ttl_s ? ttl : ask->ttl_s;
    ask->addresses.list[ask->addresses.count++] = address;
}

/* Returns what c-ares thinks of the packet. */
static int ask_read(struct dns_ask *ask, const unsigned char *packet, int size)
{
    struct ares_addr6ttl v6[RESOLVE_FAMILY_MAX];
    struct ares_addrttl v4[RESOLVE_FAMILY_MAX];
    int count = RESOLVE_FAMILY_MAX, status;

    if (ask->type == DNS_AAAA) {
        status = ares_parse_aaaa_reply(packet, size, NULL, v6, &count);
        for (int i = 0; status == ARES_SUCCESS && i < count; i++) {
            ask_add(ask, net_address_v6((const struct in6_addr *)&v6[i].ip6addr, 0), v6[i].ttl);
        }
    } else {
        status = ares_parse_a_reply(packet, size, NULL, v4, &count);
        for (int i = 0; status == ARES_SUCCESS && i < count; i++) {
            ask_add(ask, net_address_v4(&v4[i].ipaddr, 0), v4[i].ttl);
        }
    }
    return status;
}

static void ask_on_reply(void *arg, int status, int timeout_count, unsigned char *packet, int size)
{
    struct dns_ask *ask = arg;
    struct dns *dns = ask->dns;

    il_list_unlink(&ask->link);
    if (ask->on_answered == NULL) {
        dns->abandoned_count--;
        il_free(ask);
        return;
    }
    il_assert(dns->ref_count > 0);
    if (status == ARES_SUCCESS) {
        status = ask_read(ask, packet, size);
    }
    ask->result = ask->addresses.count > 0 ? DNS_ADDRESSES : result_of_status(ask, status);
    il_list_push_back(&dns->answered, &ask->link);
    dns_push(dns);
}

/* ---- refusals ---- */

/* Does the packet's question say `name` (without a final dot) and `type`? */
static bool packet_asks(const unsigned char *packet, size_t size, const char *name, unsigned type)
{
    size_t at = NS_HFIXEDSZ;

    while (at < size && packet[at] != 0) {
        size_t label = packet[at++];

        /* As long as ours, and not only beginning like it: a label may hold a NUL. */
        if (label > size - at || label != strcspn(name, ".") ||
            strncasecmp(name, (const char *)packet + at, label) != 0) {
            return false;
        }
        at += label;
        name += label;
        name += *name == '.';
    }
    return *name == '\0' && size - at >= 3 && (packet[at + 1] << 8 | packet[at + 2]) == (int)type;
}

/* c-ares goes on to the next server when one refuses, and in the end has forgotten why: it says
 * that it could reach none. */
void dns_note_refusal(struct dns *dns, const unsigned char *packet, size_t size)
{
    unsigned rcode = size > NS_HFIXEDSZ ? packet[3] & 15 : 0;

    if (rcode != ns_r_servfail && rcode != ns_r_notimpl && rcode != ns_r_refused) {
        return;
    }
    il_list_for_each(&dns->asked, node)
    {
        struct dns_ask *ask = il_container_of(node, struct dns_ask, link);

        if (packet_asks(packet, size, ask->name, ask->type == DNS_AAAA ? ns_t_aaaa : ns_t_a)) {
            ask->rcode = rcode;
        }
    }
}

/* ---- asking ---- */

struct dns_ask *dns_ask(struct dns *dns, const char *name, enum dns_type type,
                        void (*on_answered)(struct dns_ask *ask), void *owner)
{
    struct dns_ask *ask = il_calloc(1, sizeof(*ask));

    if (ask == NULL) {
        return NULL;
    }
    il_list_init(&ask->link);
    ask->dns = dns;
    ask->on_answered = on_answered;
    ask->owner = owner;
    ask->type = type;
    il_assert(strlen(name) < sizeof(ask->name));
    (void)snprintf(ask->name, sizeof(ask->name), "%s", name);
    il_list_push_back(&dns->asked, &ask->link);
    dns_enter(dns);
    ares_query(dns->channel, name, ns_c_in, type == DNS_AAAA ? ns_t_aaaa : ns_t_a, ask_on_reply,
               ask);
    dns_leave(dns);
    dns_rearm(dns);
    return ask;
}

static bool ask_is_answered(const struct dns_ask *ask)
{
    return ask->result != DNS_PENDING;
}

void dns_abandon(struct dns_ask *ask)
{
    il_assert(ask->on_answered != NULL);
    if (ask_is_answered(ask)) {
        il_list_unlink(&ask->link);
        il_free(ask);
        return;
    }
    ask->on_answered = NULL;
    ask->dns->abandoned_count++;
}

bool dns_is_crowded(const struct dns *dns)
{
    return dns->abandoned_count >= DNS_ABANDONED_MAX;
}

/* ---- names ---- */

static bool candidate_append(const char *name, const char *domain, char *candidate)
{
    size_t size = strlen(name), domain_size = strlen(domain);

    if (domain_size > 0 && domain[domain_size - 1] == '.') {
        domain_size--;
    }
    if (domain_size == 0 || size + 1 + domain_size > RESOLVE_NAME_MAX) {
        return false;
    }
    (void)snprintf(candidate, DNS_NAME_SIZE, "%s.%.*s", name, (int)domain_size, domain);
    return true;
}

bool dns_candidate(const struct dns *dns, const char *name, size_t index, char *candidate)
{
    size_t size = strlen(name), skip_count = index;
    bool is_as_is_first;
    int dot_count = 0;

    for (const char *at = name; *at != '\0'; at++) {
        dot_count += *at == '.';
    }
    is_as_is_first = dot_count >= dns->ndots;
    if (name[size - 1] == '.' || (is_as_is_first && index == 0)) {
        (void)snprintf(candidate, DNS_NAME_SIZE, "%.*s", (int)size - (name[size - 1] == '.'), name);
        return index == 0;
    }
    skip_count -= is_as_is_first;
    for (size_t i = 0; i < dns->domain_count; i++) {
        if (candidate_append(name, dns->domains[i], candidate) && skip_count-- == 0) {
            return true;
        }
    }
    (void)snprintf(candidate, DNS_NAME_SIZE, "%s", name);
    return !is_as_is_first && skip_count == 0;
}

/* ---- /etc/hosts ---- */

struct hosts_answer {
    struct dns_addresses *found;
    bool is_done;
};

static void hosts_add(struct dns_addresses *found, const struct ares_addrinfo_node *node)
{
    if (found->count < il_array_count(found->list)) {
        struct net_address *address = &found->list[found->count++];

        memset(address, 0, sizeof(*address));
        il_assert(node->ai_addrlen <= sizeof(*address));
        memcpy(address, node->ai_addr, node->ai_addrlen);
    }
}

static void hosts_on_answer(void *arg, int status, int timeout_count, struct ares_addrinfo *info)
{
    struct hosts_answer *answer = arg;

    answer->is_done = true;
    if (status != ARES_SUCCESS) {
        return;
    }
    for (const struct ares_addrinfo_node *node = info->nodes; node != NULL; node = node->ai_next) {
        hosts_add(&answer->found[node->ai_family == AF_INET6 ? DNS_AAAA : DNS_A], node);
    }
    ares_freeaddrinfo(info);
}

bool dns_hosts(struct dns *dns, const char *name, struct dns_addresses ret_found[DNS_TYPE_COUNT])
{
    bool is_test = settings_for_test != NULL && settings_for_test->hosts_from_environment;
    const struct ares_addrinfo_hints hints = {
        .ai_flags = ARES_AI_NOSORT | (is_test ? ARES_AI_ENVHOSTS : 0),
        .ai_family = AF_UNSPEC,
    };
    struct dns_addresses found[DNS_TYPE_COUNT] = { 0 };
    struct hosts_answer answer = { .found = found };

    dns_enter(dns);
    ares_getaddrinfo(dns->channel, name, NULL, &hints, hosts_on_answer, &answer);
    dns_leave(dns);
    il_assert(answer.is_done); /* files are read at once */
    if (found[DNS_AAAA].count + found[DNS_A].count == 0) {
        return false;
    }
    memcpy(ret_found, found, sizeof(found));
    return true;
}

/* ---- for messages ---- */

const char *dns_servers_text(const struct dns *dns)
{
    return dns->servers_text;
}

int dns_errno(const struct dns *dns)
{
    return dns->sys_errno;
}
