/* resolve.c: lookups, and what a loop knows of names.
 *
 *   lookup ---> question ---> dns        lookup: what one caller waits for
 *   lookup -------^   |                  question: one name; lookups of the same name that start
 *                     +----> resolver      within a second of each other share it
 *                                        resolver: one per loop: the questions, and a dns
 *
 * No question is shared between loops, and none has a leader: cancelling a lookup takes away
 * nothing but itself. The last lookup to leave a question ends it. What several loops share is
 * answers, in the cache of their client: so of one name each loop asks at most once at a time, and
 * none waits for another that may have stopped running.
 *
 * Owns: all of these. A lookup goes when it has been answered or cancelled; if its job is queued
 *   then, the job frees it. The resolver is a guest of its loop and ends with it: lookups that are
 *   under way get IL_ESHUTDOWN.
 * Threads: the one that holds the loop. */
#include "net/resolve.h"

#include <stdio.h>
#include <strings.h>

#include "net/host_name.h"
#include "net/reason.h"
#include "net/resolve_cache.h"

#define RESOLVE_QUESTIONS_MAX 512 /* names being asked for on a loop at the same time */

/* A question that is older is not shared any more: who asks later wants a fresh answer, not the end
 * of a wait that began when the network was down. */
#define RESOLVE_SHARE_NS (1000 * (uint64_t)LOOP_NS_PER_MS)

struct resolver {
    struct il_loop *loop;
    struct loop_guest guest;
    struct dns *dns; /* for new questions; NULL while there are no questions */
    struct il_list questions;
    size_t question_count;
};

struct question {
    struct il_list link;       /* resolver->questions */
    struct resolver *resolver; /* NULL: nothing is being asked */
    struct dns *dns;           /* a reference, while something is being asked */
    uint64_t since_ns;
    char name[DNS_NAME_SIZE];
    size_t candidate_index; /* the next to ask for */
    struct il_list lookups;

    struct dns_ask *asks[DNS_TYPE_COUNT]; /* NULL when answered */
    enum dns_result results[DNS_TYPE_COUNT];
    struct dns_addresses found[DNS_TYPE_COUNT];
    uint32_t ttl_s;
    enum dns_result worst; /* of all failures so far */
    bool is_complete;
    int first_family;    /* see resolve_set_first */
    struct il_error err; /* when complete, without addresses */
};

/* A lookup. */
struct resolve_state {
    struct resolve *resolve; /* NULL once answered or cancelled */
    struct il_loop *loop;
    struct resolve_cache *cache;
    struct il_list link; /* question->lookups */
    struct question *question;
    bool is_told[DNS_TYPE_COUNT]; /* the caller has this family's addresses */
    struct job job;
    bool is_job_pushed, is_job_running;
};

/* ---- questions ---- */

static void lookup_push(struct resolve_state *state)
{
    il_assert_on_loop(state->loop);
    if (!state->is_job_pushed) {
        state->is_job_pushed = true;
        loop_push(state->loop, &state->job);
    }
}

static void question_tell(struct question *question)
{
    il_list_for_each(&question->lookups, node)
    {
        lookup_push(il_container_of(node, struct resolve_state, link));
    }
}

static size_t question_address_count(const struct question *question)
{
    return question->found[DNS_AAAA].count + question->found[DNS_A].count;
}

static bool question_is_being_asked(const struct question *question)
{
    return question->asks[DNS_AAAA] != NULL || question->asks[DNS_A] != NULL;
}

static void question_stop_asking(struct question *question)
{
    struct resolver *resolver = question->resolver;

    if (resolver == NULL) {
        return;
    }
    for (int type = 0; type < DNS_TYPE_COUNT; type++) {
        if (question->asks[type] != NULL) {
            dns_abandon(question->asks[type]);
            question->asks[type] = NULL;
        }
    }
    question->resolver = NULL;
    question->dns = dns_unref(question->dns);
    il_list_unlink(&question->link);
    if (--resolver->question_count == 0) {
        resolver->dns = dns_unref(resolver->dns);
    }
}

static void question_complete(struct question *question)
{
    question->is_complete = true;
    question_stop_asking(question);
    question_tell(question);
}

static struct question *question_new(const char *host)
{
    struct question *question = il_calloc(1, sizeof(*question));

    if (question != NULL) {
        il_list_init(&question->link);
        il_list_init(&question->lookups);
        (void)snprintf(question->name, sizeof(question->name), "%s", host);
    }
    return question;
}

static void question_free(struct question *question)
{
    il_assert(il_list_is_empty(&question->lookups));
    question_stop_asking(question);
    il_free(question);
}

/* ---- failures ---- */

static enum il_code fail_no_server(struct question *question)
{
    const char *servers = dns_servers_text(question->dns);
    int sys_errno = dns_errno(question->dns);

    if (net_is_shortage(sys_errno)) {
        return il_fail_errno(&question->err, IL_ESYS, sys_errno,
                             "no socket to ask DNS for host '%.80s'; %s", question->name,
                             net_shortage_remedy(sys_errno));
    }
    return il_fail_errno(&question->err, IL_ERESOLVE, sys_errno,
                         "cannot resolve host '%.80s': DNS server %s cannot be reached (see "
                         "nameserver in /etc/resolv.conf)",
                         question->name, servers);
}

static void question_fail(struct question *question, uint64_t now_ns)
{
    const char *servers = dns_servers_text(question->dns), *name = question->name;
    struct il_error *err = &question->err;
    double waited_s = (double)(now_ns - question->since_ns) / 1e9;

    switch (question->worst) {
    case DNS_NO_NAME:
        (void)il_fail(err, IL_ERESOLVE,
                      "host '%.80s' does not exist, says DNS server %s (NXDOMAIN)", name, servers);
        break;
    case DNS_NO_ADDRESS:
        (void)il_fail(err, IL_ERESOLVE,
                      "host '%.80s' has neither an IPv6 nor an IPv4 address, says DNS server %s",
                      name, servers);
        break;
    case DNS_REFUSED:
        (void)il_fail(err, IL_ERESOLVE,
                      "cannot resolve host '%.80s': DNS server %s refuses to answer", name,
                      servers);
        break;
    case DNS_SERVER_FAIL:
        (void)il_fail(err, IL_ERESOLVE,
                      "cannot resolve host '%.80s': DNS server %s could not find out (SERVFAIL)",
                      name, servers);
        break;
    case DNS_NO_ANSWER:
        (void)il_fail(err, IL_ERESOLVE,
                      "cannot resolve host '%.80s': no answer from DNS server %s in %.1f s", name,
                      servers, waited_s);
        break;
    case DNS_NO_SERVER:
        (void)fail_no_server(question);
        break;
    case DNS_NO_MEMORY:
        (void)il_fail(err, IL_ENOMEM, "no memory to resolve host '%.80s'", name);
        break;
    default:
        (void)il_fail(err, IL_ERESOLVE,
                      "cannot resolve host '%.80s': the answer of DNS server %s makes no sense",
                      name, servers);
        break;
    }
    err->phase = IL_PHASE_RESOLVE;
}

/* ---- asking ---- */

static void question_on_answered(struct dns_ask *ask);

/* Ask for the next name that `host` may stand for; false when there is none left. */
static bool question_ask_next(struct question *question)
{
    char candidate[DNS_NAME_SIZE];

    if (!dns_candidate(question->dns, question->name, question->candidate_index++, candidate)) {
        return false;
    }
    for (int type = 0; type < DNS_TYPE_COUNT; type++) {
        question->results[type] = DNS_PENDING;
        question->asks[type] =
            dns_ask(question->dns, candidate, (enum dns_type)type, question_on_answered, question);
        if (question->asks[type] == NULL) {
            question->worst = DNS_NO_MEMORY;
        }
    }
    return question_is_being_asked(question);
}

/* The network or this process is in the way: another name would not fare better. */
static bool is_hopeless(enum dns_result result)
{
    return result == DNS_NO_ANSWER || result == DNS_NO_SERVER || result == DNS_NO_MEMORY;
}

/* Has DNS said all it has to say of both families? */
static bool question_is_settled(const struct question *question)
{
    for (int type = 0; type < DNS_TYPE_COUNT; type++) {
        enum dns_result result = question->results[type];

        if (result != DNS_ADDRESSES && result != DNS_NO_ADDRESS && result != DNS_NO_NAME) {
            return false;
        }
    }
    return true;
}

/* Does it hold for a while that there is no address? DNS has said so, as if it knew. */
static bool is_known_absence(enum dns_result result)
{
    return result == DNS_NO_NAME || result == DNS_NO_ADDRESS;
}

/* Put what is known into the caches of all who asked. */
static void question_remember(const struct question *question, uint64_t now_ns, uint64_t ttl_ms)
{
    struct resolve_cached known = { .err = question->err };
    struct resolve_cache *before = NULL;

    memcpy(known.found, question->found, sizeof(known.found));
    il_list_for_each(&question->lookups, node)
    {
        const struct resolve_state *state = il_container_of(node, struct resolve_state, link);

        if (state->cache != NULL && state->cache != before) {
            before = state->cache;
            resolve_cache_put(before, question->name, now_ns, ttl_ms, &known);
        }
    }
}

static void question_on_answered(struct dns_ask *ask)
{
    struct question *question = ask->owner;
    struct resolver *resolver = question->resolver;
    uint64_t now_ns = loop_now_ns(resolver->loop);

    question->asks[ask->type] = NULL;
    question->results[ask->type] = ask->result;
    if (ask->result == DNS_ADDRESSES) {
        question->ttl_s = question_address_count(question) == 0 || ask->ttl_s < question->ttl_s
                              ? ask->ttl_s
                              : question->ttl_s;
        question->found[ask->type] = ask->addresses;
    } else if (ask->result > question->worst) {
        question->worst = ask->result;
    }
    if (question_is_being_asked(question)) { /* the other family */
        if (ask->result == DNS_ADDRESSES) {
            question_tell(question);
        }
        return;
    }
    if (question_address_count(question) > 0) {
        if (question_is_settled(question)) {
            question_remember(question, now_ns, (uint64_t)question->ttl_s * 1000);
        }
        question_complete(question);
    } else if (is_hopeless(question->worst) || !question_ask_next(question)) {
        question_fail(question, now_ns);
        if (is_known_absence(question->worst)) {
            question_remember(question, now_ns, RESOLVE_CACHE_FAILURE_MS);
        }
        question_complete(question);
    }
}

/* ---- the resolver of a loop ---- */

static void resolver_on_loop_end(struct loop_guest *guest)
{
    struct resolver *resolver = il_container_of(guest, struct resolver, guest);

    il_list_for_each_safe(&resolver->questions, node)
    {
        struct question *question = il_container_of(node, struct question, link);

        (void)il_fail(&question->err, IL_ESHUTDOWN, "the loop ended while resolving host '%.80s'",
                      question->name);
        question_complete(question);
    }
    il_assert(resolver->question_count == 0);
    il_assert(resolver->dns == NULL);
    resolver->loop->held.resolver = NULL;
    il_free(resolver);
}

static struct resolver *resolver_get(struct il_loop *loop)
{
    struct resolver *resolver = loop->held.resolver;

    il_assert_on_loop(loop);
    if (resolver != NULL) {
        return resolver;
    }
    resolver = il_calloc(1, sizeof(*resolver));
    if (resolver == NULL) {
        return NULL;
    }
    resolver->loop = loop;
    il_list_init(&resolver->questions);
    resolver->guest.on_loop_end = resolver_on_loop_end;
    il_list_init(&resolver->guest.link);
    loop_guest_add(loop, &resolver->guest);
    loop->held.resolver = resolver;
    return resolver;
}

static enum il_code resolver_get_dns(struct resolver *resolver, struct il_error *err)
{
    if (resolver->dns != NULL && dns_is_crowded(resolver->dns)) {
        resolver->dns = dns_unref(resolver->dns); /* lives on as long as its questions */
    }
    return resolver->dns != NULL ? IL_OK : dns_new(resolver->loop, &resolver->dns, err);
}

static struct question *resolver_find(struct resolver *resolver, const char *host)
{
    il_list_for_each(&resolver->questions, node)
    {
        struct question *question = il_container_of(node, struct question, link);

        if (strcasecmp(question->name, host) == 0 &&
            loop_now_ns(resolver->loop) - question->since_ns < RESOLVE_SHARE_NS) {
            return question;
        }
    }
    return NULL;
}

/* Begin to find out. What can be told at once makes the question complete. */
static enum il_code resolver_ask(struct resolver *resolver, struct question *question)
{
    size_t size = strlen(question->name);
    char name[DNS_NAME_SIZE];
    enum il_code code;

    if (resolver->question_count == RESOLVE_QUESTIONS_MAX) {
        return il_fail(&question->err, IL_ELIMIT,
                       "cannot resolve host '%.80s': %d names are being resolved on loop '%s'",
                       question->name, RESOLVE_QUESTIONS_MAX, resolver->loop->name);
    }
    code = resolver_get_dns(resolver, &question->err);
    if (code != IL_OK) {
        return code;
    }
    question->resolver = resolver;
    question->dns = dns_ref(resolver->dns);
    question->since_ns = loop_now_ns(resolver->loop);
    il_list_push_back(&resolver->questions, &question->link);
    resolver->question_count++;
    (void)snprintf(name, sizeof(name), "%.*s", (int)size - (question->name[size - 1] == '.'),
                   question->name);
    if (dns_hosts(question->dns, name, question->found)) {
        question_complete(question);
        return IL_OK;
    }
    if (!question_ask_next(question)) {
        question->worst = DNS_NO_MEMORY;
        question_fail(question, question->since_ns);
        return question->err.code;
    }
    return IL_OK;
}

/* ---- lookups ---- */

static void lookup_leave(struct resolve_state *state)
{
    struct question *question = state->question;

    state->question = NULL;
    il_list_unlink(&state->link);
    if (il_list_is_empty(&question->lookups)) {
        question_free(question);
    }
}

/* What the caller has not been told yet. Returns the number of addresses. */
static size_t lookup_collect(struct resolve_state *state, struct net_address *addresses)
{
    size_t count = 0;

    for (int type = 0; type < DNS_TYPE_COUNT; type++) {
        const struct dns_addresses *found = &state->question->found[type];

        if (found->count > 0 && !state->is_told[type]) {
            state->is_told[type] = true;
            memcpy(&addresses[count], found->list, found->count * sizeof(addresses[0]));
            count += found->count;
        }
    }
    return count;
}

static void lookup_tell(struct resolve_state *state)
{
    struct net_address addresses[RESOLVE_ADDRESSES_MAX];
    struct resolve_answer answer = { .addresses = addresses };
    struct resolve *resolve = state->resolve;
    struct il_error err;

    answer.count = lookup_collect(state, addresses);
    answer.is_last = state->question->is_complete;
    answer.first_family = state->question->first_family;
    if (!answer.is_last) {
        if (answer.count > 0) {
            resolve->on_answer(resolve, &answer);
        }
        return;
    }
    if (question_address_count(state->question) == 0) {
        err = state->question->err;
        answer.err = &err;
    }
    lookup_leave(state);
    state->resolve = NULL;
    resolve->state = NULL;
    resolve->on_answer(resolve, &answer);
}

static void lookup_free_unless_busy(struct resolve_state *state)
{
    if (!state->is_job_pushed && !state->is_job_running) {
        il_free(state);
    }
}

static enum loop_result lookup_run(struct il_loop *loop, struct job *job)
{
    struct resolve_state *state = il_container_of(job, struct resolve_state, job);

    state->is_job_pushed = false;
    state->is_job_running = true;
    if (state->resolve != NULL) {
        lookup_tell(state);
    }
    state->is_job_running = false;
    if (state->resolve == NULL) {
        lookup_free_unless_busy(state);
    }
    return LOOP_HELD;
}

/* A question for what needs no asking. */
static void question_answer_at_once(struct question *question, enum host_kind kind,
                                    const struct net_address *literal)
{
    const struct in_addr loopback = { htonl(INADDR_LOOPBACK) };

    question->is_complete = true;
    if (kind == HOST_LITERAL) {
        bool is_v6 = net_address_family(literal) == AF_INET6;
        struct dns_addresses *found = &question->found[is_v6 ? DNS_AAAA : DNS_A];

        found->list[found->count++] = *literal;
    } else if (kind == HOST_LOOPBACK) {
        question->found[DNS_AAAA].list[0] = net_address_v6(&in6addr_loopback, 0);
        question->found[DNS_A].list[0] = net_address_v4(&loopback, 0);
        question->found[DNS_AAAA].count = question->found[DNS_A].count = 1;
    } else if (kind == HOST_NEVER) {
        (void)il_fail(&question->err, IL_ERESOLVE,
                      "host '%.80s' does not exist: no name below .invalid does (RFC 6761)",
                      question->name);
    } else {
        (void)il_fail(&question->err, IL_ERESOLVE,
                      "host '%.80s' is known to Tor only, and DNS must not be asked (RFC 7686)",
                      question->name);
    }
    question->err.phase = IL_PHASE_RESOLVE;
}

/* A new question about a name: from the cache, or being asked. NULL without memory. */
static struct question *question_begin(struct resolver *resolver, struct resolve_cache *cache,
                                       const char *host)
{
    struct question *question = question_new(host);
    struct resolve_cached known;
    enum il_code code;

    if (question == NULL) {
        return NULL;
    }
    if (cache != NULL && resolve_cache_get(cache, host, loop_now_ns(resolver->loop), &known)) {
        memcpy(question->found, known.found, sizeof(question->found));
        question->err = known.err;
        question->first_family = known.first_family;
        question->is_complete = true;
        return question;
    }
    code = resolver_ask(resolver, question);
    if (code == IL_ENOMEM) {
        question_free(question);
        return NULL;
    }
    if (code != IL_OK) {
        question_complete(question);
    }
    return question;
}

static enum il_code lookup_find_question(struct resolve_state *state, const char *host,
                                         struct il_error *err)
{
    struct net_address literal;
    struct resolver *resolver;
    enum host_kind kind;
    enum il_code code;

    code = host_classify(host, &kind, &literal, err);
    if (code != IL_OK) {
        return code;
    }
    if (kind != HOST_NAME) {
        state->question = question_new(host);
        if (state->question != NULL) {
            question_answer_at_once(state->question, kind, &literal);
        }
    } else {
        resolver = resolver_get(state->loop);
        state->question = resolver != NULL ? resolver_find(resolver, host) : NULL;
        if (resolver != NULL && state->question == NULL) {
            state->question = question_begin(resolver, state->cache, host);
        }
    }
    return state->question != NULL
               ? IL_OK
               : il_fail(err, IL_ENOMEM, "no memory to resolve host '%.80s'", host);
}

/* ---- the interface ---- */

enum il_code resolve_start(struct resolve *resolve, struct il_loop *loop, const char *host,
                           struct il_error *err)
{
    struct resolve_state *state;
    enum il_code code;

    il_assert_on_loop(loop);
    il_assert(resolve->state == NULL);
    il_assert(resolve->on_answer != NULL);
    state = il_calloc(1, sizeof(*state));
    if (state == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to resolve host '%.80s'", host);
    }
    state->loop = loop;
    state->cache = resolve->cache;
    state->job.run = lookup_run;
    il_list_init(&state->link);
    code = lookup_find_question(state, host, err);
    if (code != IL_OK) {
        il_free(state);
        return code;
    }
    state->resolve = resolve;
    resolve->state = state;
    il_list_push_back(&state->question->lookups, &state->link);
    if (state->question->is_complete || question_address_count(state->question) > 0) {
        lookup_push(state);
    }
    return IL_OK;
}

void resolve_cancel(struct resolve *resolve)
{
    struct resolve_state *state = resolve->state;

    if (state == NULL) {
        return;
    }
    il_assert_on_loop(state->loop);
    lookup_leave(state);
    resolve->state = NULL;
    state->resolve = NULL;
    lookup_free_unless_busy(state);
}

void resolve_forget(struct resolve_cache *cache, const char *host)
{
    if (cache != NULL) {
        resolve_cache_drop(cache, host);
    }
}

void resolve_set_first(struct resolve_cache *cache, const char *host, int family)
{
    if (cache != NULL) {
        resolve_cache_set_first(cache, host, family);
    }
}
