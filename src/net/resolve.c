/* resolve.c: lookups: what is known without asking, and who is told.
 *
 * Owns: the state of each lookup. It goes when the lookup has been answered or cancelled; if a job
 *   of its own is queued then, that job frees it.
 * Threads: the one that holds the loop. */
#include "net/resolve.h"

#include <strings.h>

#include "base/bytes.h"

#define RESOLVE_LABEL_MAX 63 /* bytes between two dots (RFC 1035) */

struct resolve_state {
    struct resolve *resolve; /* NULL once answered or cancelled */
    struct il_loop *loop;
    struct job job;
    bool is_job_pushed;
    struct net_address addresses[2]; /* known at once: a literal, or localhost's */
    size_t count;
};

/* ---- names that are not asked of anybody ---- */

/* Is `name`, `size` bytes without a final dot, the special name `special` or below it? */
static bool name_is_below(const char *name, size_t size, const char *special)
{
    size_t special_size = strlen(special);

    return size >= special_size &&
           strncasecmp(name + size - special_size, special, special_size) == 0 &&
           (size == special_size || name[size - special_size - 1] == '.');
}

static size_t name_size_without_dot(const char *name)
{
    size_t size = strlen(name);

    return size > 0 && name[size - 1] == '.' ? size - 1 : size;
}

static bool is_name_byte(char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
}

static enum il_code check_label(const char *host, size_t size, struct il_error *err)
{
    if (size == 0 || size > RESOLVE_LABEL_MAX) {
        return il_fail(err, IL_EINVAL,
                       "host name '%.80s': each part between dots has 1 to %d bytes", host,
                       RESOLVE_LABEL_MAX);
    }
    return IL_OK;
}

/* "1.2.3", "0x7f.1": some programs take these for addresses, others ask DNS for them. */
static bool label_is_number(const char *label, size_t size)
{
    size_t digit_count = strspn(label, "0123456789");

    return digit_count >= size || (size >= 2 && label[0] == '0' && (label[1] | 0x20) == 'x');
}

static enum il_code check_name(const char *host, struct il_error *err)
{
    size_t size = name_size_without_dot(host), label = 0;
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
            return il_fail(err, IL_EINVAL, "host '%s' is neither an address nor a host name",
                           il_escape(shown, sizeof(shown), host, strlen(host)));
        }
    }
    if (label_is_number(host + label, size - label)) {
        return il_fail(err, IL_EINVAL, "host '%.80s' ends in a number but is no IPv4 address",
                       host);
    }
    return check_label(host, size - label, err);
}

/* What needs no asking: true, with the addresses in `state`. */
static bool resolve_at_once(struct resolve_state *state, const char *host)
{
    if (net_address_parse(host, &state->addresses[0])) {
        state->count = 1;
        return true;
    }
    if (name_is_below(host, name_size_without_dot(host), "localhost")) {
        const struct in_addr v4 = { htonl(INADDR_LOOPBACK) };

        state->addresses[0] = net_address_v6(&in6addr_loopback, 0);
        state->addresses[1] = net_address_v4(&v4, 0);
        state->count = 2;
        return true;
    }
    return false;
}

/* ---- lookups ---- */

static enum loop_result resolve_run(struct il_loop *loop, struct job *job)
{
    struct resolve_state *state = il_container_of(job, struct resolve_state, job);
    struct resolve *resolve = state->resolve;
    struct resolve_answer answer = { .addresses = state->addresses,
                                     .count = state->count,
                                     .is_last = true };

    if (resolve != NULL) {
        resolve->state = NULL;
        resolve->on_answer(resolve, &answer);
    }
    il_free(state);
    return LOOP_HELD;
}

enum il_code resolve_start(struct resolve *resolve, struct il_loop *loop, const char *host,
                           struct il_error *err)
{
    struct resolve_state *state;
    enum il_code code = IL_OK;

    il_assert_on_loop(loop);
    il_assert(resolve->state == NULL);
    state = il_calloc(1, sizeof(*state));
    if (state == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to look up host '%.80s'", host);
    }
    state->resolve = resolve;
    state->loop = loop;
    state->job.run = resolve_run;
    if (!resolve_at_once(state, host)) {
        code = check_name(host, err);
        if (code == IL_OK) {
            code = il_fail(err, IL_ERESOLVE, "host '%.80s' is not known here", host);
        }
        il_free(state);
        return code;
    }
    resolve->state = state;
    state->is_job_pushed = true;
    loop_push(loop, &state->job);
    return IL_OK;
}

void resolve_cancel(struct resolve *resolve)
{
    struct resolve_state *state = resolve->state;

    if (state == NULL) {
        return;
    }
    il_assert_on_loop(state->loop);
    resolve->state = NULL;
    state->resolve = NULL;
    if (!state->is_job_pushed) {
        il_free(state);
    }
}
