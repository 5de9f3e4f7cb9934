/* dial.c: from a host name and a port to a connected socket: Happy Eyeballs (RFC 8305).
 *
 * Addresses are tried one after the other in the order of address_order.h, the families taking
 * turns. The next attempt starts when the one before fails, or after DIAL_ATTEMPT_DELAY_NS without
 * waiting for it to. The first socket that is connected wins; the others are closed. A family that
 * was silent while the other one was connected comes second next time, for as long as the name's
 * answer is remembered.
 *
 *   STARTING ---> RESOLVING ---> CONNECTING ---> DONE
 *       |             |                           ^
 *       +-------------+---- no address, loop end -+        cancelled: the state just goes
 *
 * Owns: a dial_state per dial under way, with its sockets. Events and timers only note what
 *   happened and push the dial's job; the job does what follows from it, callbacks included. The
 *   state goes when the dial is done or cancelled; if its job is queued then, the job frees it.
 * Threads: the one that holds the loop. A dial ends with its loop (IL_ESHUTDOWN). */
#include "net/dial.h"

#include <errno.h>
#include <stdio.h>

#include "net/address_order.h"
#include "net/reason.h"

#define DIAL_ATTEMPTS_MAX        16 /* addresses tried in one dial; each may hold a socket */
#define DIAL_NAME_SIZE           (RESOLVE_NAME_MAX + 2)           /* with a final dot and the NUL */
#define DIAL_ATTEMPT_DELAY_NS    (250 * (uint64_t)LOOP_NS_PER_MS) /* RFC 8305, section 8 */
#define DIAL_RESOLUTION_DELAY_NS (50 * (uint64_t)LOOP_NS_PER_MS)  /* RFC 8305, section 8 */

enum dial_step {
    DIAL_STARTING,
    DIAL_RESOLVING,
    DIAL_CONNECTING,
    DIAL_DONE,
};

struct attempt {
    struct dial_state *state;
    struct net_address address;
    struct watch *watch; /* NULL unless under way */
    int fd;              /* -1 unless under way */
    int sys_errno;       /* why it failed */
};

/* Addresses of one family that have not been tried. Nearly always there is one, so that only has
 * its place here: a dial holds its memory for as long as it takes to connect. */
struct supply {
    struct net_address first;
    struct net_address *others; /* RESOLVE_FAMILY_MAX - 1, once there is a second */
    size_t taken, count;
};

enum {
    SUPPLY_V6,
    SUPPLY_V4,
};

struct dial_state {
    struct dial *dial; /* NULL once done or cancelled */
    struct il_loop *loop;
    const char *host;
    uint16_t port;
    bool is_absolute;
    bool is_order_given; /* with the addresses; no other is looked for */
    enum dial_step step;
    struct loop_guest guest;
    struct job job;
    bool is_job_pushed, is_job_running;
    struct timer
        timer;       /* RESOLVING: no longer wait for IPv6; CONNECTING: the next attempt is due */
    bool is_due;     /* start the next attempt now */
    bool is_starved; /* err says what this process is short of: no more attempts */

    struct resolve resolve;
    bool is_answer_last;
    struct supply supplies[2];
    int supply_next;  /* whose turn it is */
    int first_family; /* whose turn was best to begin with, last time; 0: not known */

    struct attempt first_attempt;
    struct attempt
        *other_attempts; /* DIAL_ATTEMPTS_MAX - 1, once there is a second; see attempt_at */
    size_t attempt_count, open_count;
    int fd; /* the winner, or -1 */
    struct net_address winner;
    struct il_error err;
};

/* ---- what all the others use ---- */

static struct attempt *attempt_at(struct dial_state *state, size_t index)
{
    return index == 0 ? &state->first_attempt : &state->other_attempts[index - 1];
}

static const struct attempt *attempt_seen(const struct dial_state *state, size_t index)
{
    return index == 0 ? &state->first_attempt : &state->other_attempts[index - 1];
}

static void dial_push(struct dial_state *state)
{
    il_assert_on_loop(state->loop);
    if (!state->is_job_pushed) {
        state->is_job_pushed = true;
        loop_push(state->loop, &state->job);
    }
}

static void attempt_close(struct attempt *attempt)
{
    il_assert(attempt->fd >= 0);
    if (attempt->watch != NULL) {
        watch_close(attempt->watch);
        attempt->watch = NULL;
    }
    sys_close(attempt->fd);
    attempt->fd = -1;
    attempt->state->open_count--;
}

/* Let go of everything but the winner and the memory. */
static void dial_stop(struct dial_state *state)
{
    for (size_t i = 0; i < state->attempt_count; i++) {
        if (attempt_at(state, i)->fd >= 0) {
            attempt_close(attempt_at(state, i));
        }
    }
    il_assert(state->open_count == 0);
    timer_cancel(&state->loop->held.timers, &state->timer);
    resolve_cancel(&state->resolve);
    loop_guest_remove(&state->guest);
}

static void dial_finish(struct dial_state *state)
{
    dial_stop(state);
    state->step = DIAL_DONE;
    dial_push(state);
}

static void dial_free_unless_busy(struct dial_state *state)
{
    if (!state->is_job_pushed && !state->is_job_running) {
        il_free(state->supplies[SUPPLY_V6].others);
        il_free(state->supplies[SUPPLY_V4].others);
        il_free(state->other_attempts);
        il_free(state);
    }
}

/* The name as the resolver takes it, in `name`, of DIAL_NAME_SIZE bytes, or as it was given. */
static const char *dial_name(const struct dial_state *state, char *name)
{
    if (!state->is_absolute || strlen(state->host) + 2 > DIAL_NAME_SIZE) {
        return state->host;
    }
    (void)snprintf(name, DIAL_NAME_SIZE, "%s.", state->host);
    return name;
}

/* ---- one attempt ---- */

/* Which family was faster is known only if the other one was still being tried. */
static void remember_family(const struct dial_state *state, const struct attempt *winner)
{
    int family = net_address_family(&winner->address);
    char name[DIAL_NAME_SIZE];

    for (size_t i = 0; i < state->attempt_count; i++) {
        const struct attempt *attempt = attempt_seen(state, i);

        if (attempt->fd >= 0 && net_address_family(&attempt->address) != family) {
            resolve_set_first(state->resolve.cache, dial_name(state, name), family);
            return;
        }
    }
}

/* A socket whose target is on this machine, and that is given the target's port for its own,
 * connects to itself if nobody listens there. */
static bool is_connected_to_itself(int fd)
{
    struct sockaddr_storage local, peer;

    memset(&local, 0, sizeof(local));
    memset(&peer, 0, sizeof(peer));
    return sys_socket_names(fd, &local, &peer) == 0 && memcmp(&local, &peer, sizeof(local)) == 0;
}

static void attempt_failed(struct attempt *attempt, int sys_errno)
{
    attempt->sys_errno = sys_errno;
    attempt_close(attempt);
    attempt->state->is_due = true;
}

static void attempt_connected(struct attempt *attempt)
{
    struct dial_state *state = attempt->state;

    if (is_connected_to_itself(attempt->fd)) {
        attempt_failed(attempt, ECONNREFUSED); /* nobody else can be there */
        return;
    }
    if (attempt->watch != NULL) {
        watch_close(attempt->watch);
        attempt->watch = NULL;
    }
    remember_family(state, attempt);
    state->fd = attempt->fd;
    state->winner = attempt->address;
    attempt->fd = -1;
    state->open_count--;
    dial_finish(state);
}

static void attempt_on_event(struct watch *watch, uint32_t events)
{
    struct attempt *attempt = watch->arg;
    int error;

    il_assert_on_loop(attempt->state->loop);
    error = sys_socket_error(attempt->fd);
    if (error == 0 && (events & EPOLLOUT) == 0) {
        return;
    }
    if (error < 0) {
        attempt_failed(attempt, -error);
    } else {
        attempt_connected(attempt);
    }
    dial_push(attempt->state);
}

static void attempt_on_rest_event(struct watch *watch, uint32_t events)
{
    il_assert(false); /* an attempt's watch never rests */
}

static void fail_starved(struct dial_state *state, int sys_errno)
{
    state->is_starved = true;
    (void)il_fail_errno(&state->err, IL_ESYS, sys_errno, "no socket for %.60s port %u; %s",
                        state->host, state->port, net_shortage_remedy(sys_errno));
}

/* Memory for the next attempt; NULL: there is none, and the dial is starved. */
static struct attempt *attempt_new(struct dial_state *state)
{
    if (state->attempt_count == 1 && state->other_attempts == NULL) {
        state->other_attempts = il_calloc(DIAL_ATTEMPTS_MAX - 1, sizeof(struct attempt));
        if (state->other_attempts == NULL) {
            state->is_starved = true;
            (void)il_fail(&state->err, IL_ENOMEM, "no memory to try another address of %.80s",
                          state->host);
            return NULL;
        }
    }
    return attempt_at(state, state->attempt_count);
}

static void attempt_start(struct dial_state *state, const struct net_address *address)
{
    struct attempt *attempt = attempt_new(state);
    int result;

    if (attempt == NULL) {
        return; /* kept until the attempts under way have failed, as fail_starved */
    }
    *attempt = (struct attempt){ .state = state, .address = *address, .fd = -1 };
    result = sys_socket_open(net_address_family(address));
    if (net_is_shortage(-result)) {
        fail_starved(state, -result); /* kept until the attempts under way have failed */
        return;
    }
    state->attempt_count++;
    if (result < 0) { /* the kernel may have no IPv6 */
        attempt->sys_errno = -result;
        state->is_due = true;
        return;
    }
    attempt->fd = result;
    state->open_count++;
    result = sys_socket_connect(attempt->fd, &address->any, net_address_size(address));
    if (result == 0) {
        attempt_connected(attempt);
    } else if (result != -EINPROGRESS) {
        attempt_failed(attempt, -result);
    } else if (watch_open(state->loop->poller, attempt->fd, attempt_on_event, attempt_on_rest_event,
                          attempt, &attempt->watch, &state->err) != IL_OK) {
        state->is_starved = true;
        attempt_close(attempt);
    } else {
        timer_arm(&state->loop->held.timers, &state->timer,
                  loop_now_ns(state->loop) + DIAL_ATTEMPT_DELAY_NS);
    }
}

/* ---- addresses ---- */

static size_t supply_left(const struct supply *supply)
{
    return supply->count - supply->taken;
}

static size_t addresses_left(const struct dial_state *state)
{
    return supply_left(&state->supplies[SUPPLY_V6]) + supply_left(&state->supplies[SUPPLY_V4]);
}

static struct net_address *supply_at(struct supply *supply, size_t index)
{
    return index == 0 ? &supply->first : &supply->others[index - 1];
}

static int family_index(const struct net_address *address)
{
    return net_address_family(address) == AF_INET6 ? SUPPLY_V6 : SUPPLY_V4;
}

/* Put what has not been tried yet into the order in which it is worth trying, and let the family of
 * the best begin, unless last time has taught otherwise. */
static void addresses_order(struct dial_state *state)
{
    struct net_address list[RESOLVE_ADDRESSES_MAX];
    size_t count = 0, at[2];

    for (int i = 0; i < 2; i++) {
        at[i] = state->supplies[i].taken;
        for (size_t from = at[i]; from < state->supplies[i].count; from++) {
            list[count++] = *supply_at(&state->supplies[i], from);
        }
    }
    if (count == 0 || state->is_order_given) {
        return;
    }
    address_order(list, count);
    for (size_t i = 0; i < count; i++) {
        int family = family_index(&list[i]);

        *supply_at(&state->supplies[family], at[family]++) = list[i];
    }
    if (state->attempt_count == 0) {
        state->supply_next = state->first_family == 0         ? family_index(&list[0])
                             : state->first_family == AF_INET ? SUPPLY_V4
                                                              : SUPPLY_V6;
    }
}

static bool take_address(struct dial_state *state, struct net_address *ret_address)
{
    struct supply *supply = &state->supplies[state->supply_next];

    if (addresses_left(state) == 0 || state->attempt_count == DIAL_ATTEMPTS_MAX) {
        return false;
    }
    if (supply_left(supply) == 0) {
        state->supply_next = !state->supply_next;
        supply = &state->supplies[state->supply_next];
    }
    state->supply_next = !state->supply_next; /* the families take turns */
    *ret_address = *supply_at(supply, supply->taken);
    supply->taken++;
    return true;
}

static bool supply_add(struct supply *supply, const struct net_address *address)
{
    il_assert(supply->count < RESOLVE_FAMILY_MAX);
    if (supply->count == 0) {
        supply->first = *address;
    } else {
        struct net_address *others = supply->others;

        if (others == NULL) {
            others = il_calloc(RESOLVE_FAMILY_MAX - 1, sizeof(*others));
            if (others == NULL) {
                return false;
            }
            supply->others = others;
        }
        others[supply->count - 1] = *address;
    }
    supply->count++;
    return true;
}

_Static_assert(offsetof(struct sockaddr_in, sin_port) == offsetof(struct sockaddr_in6, sin6_port),
               "the port is in the same place for both families");

/* False: no memory. */
static bool add_addresses(struct dial_state *state, const struct net_address *addresses,
                          size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct net_address address = addresses[i];

        address.v4.sin_port = htons(state->port); /* in the same place for both families */
        if (!supply_add(&state->supplies[family_index(&address)], &address)) {
            return false;
        }
    }
    return true;
}

static enum il_code fail_no_room(const char *host, struct il_error *err)
{
    return il_fail(err, IL_ENOMEM, "no memory for the addresses of %.80s", host);
}

static void dial_on_answer(struct resolve *resolve, const struct resolve_answer *answer)
{
    struct dial_state *state = il_container_of(resolve, struct dial_state, resolve);

    state->is_answer_last = answer->is_last;
    state->first_family = answer->first_family;
    if (!add_addresses(state, answer->addresses, answer->count)) {
        (void)fail_no_room(state->host, &state->err);
        dial_finish(state);
        return;
    }
    if (answer->err != NULL) {
        state->err = *answer->err;
        dial_finish(state);
        return;
    }
    if (state->step == DIAL_RESOLVING && !answer->is_last &&
        state->supplies[SUPPLY_V6].count == 0) {
        timer_arm(&state->loop->held.timers, &state->timer,
                  loop_now_ns(state->loop) + DIAL_RESOLUTION_DELAY_NS);
        return;
    }
    if (state->step == DIAL_CONNECTING) { /* late ones */
        addresses_order(state);
    }
    state->is_due = state->is_due || state->step == DIAL_RESOLVING;
    dial_push(state);
}

/* ---- the error ---- */

/* Room that is kept for the end of the message: ")", and the count of what was left out. */
#define DIAL_TEXT_RESERVE 32

struct text {
    char *at;
    size_t size, used;
};

static bool text_add(struct text *text, const char *format, ...) IL_PRINTF(2, 3);

/* Append all of it or nothing. */
static bool text_add(struct text *text, const char *format, ...)
{
    size_t room = text->size - text->used;
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(text->at + text->used, room, format, args);
    va_end(args);
    if (length < 0 || (size_t)length >= room) {
        text->at[text->used] = '\0';
        return false;
    }
    text->used += (size_t)length;
    return true;
}

/* "connection refused (127.0.0.1, ::1)": the attempts that failed as the one at `first` did, which
 * is the first that did. Returns how many found a place in the text. */
static size_t text_add_reason(struct text *text, const struct dial_state *state, size_t first)
{
    char address_text[NET_ADDRESS_TEXT_SIZE], reason[NET_REASON_SIZE];
    size_t count = 0;

    for (size_t i = first; i < state->attempt_count; i++) {
        const struct attempt *attempt = attempt_seen(state, i);
        struct net_address address = attempt->address;

        if (attempt->sys_errno != attempt_seen(state, first)->sys_errno) {
            continue;
        }
        address.v4.sin_port = 0; /* whichever family */
        (void)net_address_text(&address, address_text);
        if (count == 0 ? !text_add(text, "%s%s (%s", first == 0 ? ": " : "; ",
                                   net_reason_text(attempt->sys_errno, reason), address_text)
                       : !text_add(text, ", %s", address_text)) {
            break;
        }
        count++;
    }
    if (count > 0) {
        text->size += DIAL_TEXT_RESERVE;
        il_assert(text_add(text, ")"));
    }
    return count;
}

static bool is_first_of_its_kind(const struct dial_state *state, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (attempt_seen(state, i)->sys_errno == attempt_seen(state, index)->sys_errno) {
            return false;
        }
    }
    return true;
}

static void fail_connect(struct dial_state *state)
{
    struct il_error *err = &state->err;
    struct text text = { err->message, sizeof(err->message) - DIAL_TEXT_RESERVE, 0 };
    size_t total = state->attempt_count + addresses_left(state), shown = 0;

    il_assert(state->attempt_count > 0);
    *err = (struct il_error){ .code = IL_ECONNECT, .phase = IL_PHASE_CONNECT };
    err->sys_errno = attempt_seen(state, state->attempt_count - 1)->sys_errno;
    (void)text_add(&text, "cannot connect to %.80s port %u", state->host, state->port);
    for (size_t i = 0; i < state->attempt_count; i++) {
        if (is_first_of_its_kind(state, i)) {
            text.size = sizeof(err->message) - DIAL_TEXT_RESERVE;
            shown += text_add_reason(&text, state, i);
        }
    }
    text.size = sizeof(err->message);
    if (shown < total) {
        il_assert(text_add(&text, "; and %zu more", total - shown));
    }
}

/* ---- the job ---- */

static void dial_say_phase(struct dial_state *state, enum il_phase phase)
{
    if (state->dial->on_phase != NULL) {
        state->dial->on_phase(state->dial, phase);
    }
}

static void dial_forget(const struct dial_state *state)
{
    char name[DIAL_NAME_SIZE];

    resolve_forget(state->resolve.cache, dial_name(state, name));
}

/* Start what is due; find out when there is nothing left to wait for. */
static void dial_connect_some(struct dial_state *state)
{
    struct net_address address;
    bool is_out;

    while (state->step == DIAL_CONNECTING && state->is_due && !state->is_starved &&
           take_address(state, &address)) {
        state->is_due = false;
        attempt_start(state, &address);
    }
    is_out = state->is_starved || state->attempt_count == DIAL_ATTEMPTS_MAX ||
             (addresses_left(state) == 0 && state->is_answer_last);
    if (state->step == DIAL_CONNECTING && state->open_count == 0 && is_out) {
        if (!state->is_starved) {
            fail_connect(state);
            dial_forget(state); /* it may have moved */
        }
        dial_finish(state);
    }
}

static void dial_deliver(struct dial_state *state)
{
    struct dial *dial = state->dial;
    int fd = state->fd;

    state->fd = -1; /* the callee's from now on */
    state->dial = NULL;
    dial->state = NULL;
    if (fd >= 0) {
        dial->peer = (struct net_peer){ .address = state->winner,
                                        .lost_count = (uint8_t)(state->attempt_count - 1) };
    }
    dial->on_done(dial, fd, fd < 0 ? &state->err : NULL);
}

static void dial_advance(struct dial_state *state)
{
    if (state->step == DIAL_STARTING) {
        state->step = DIAL_RESOLVING;
        dial_say_phase(state, IL_PHASE_RESOLVE);
        if (state->dial != NULL && state->is_due) { /* the addresses were given */
            dial_push(state);
        }
    } else if (state->step == DIAL_RESOLVING && state->is_due) {
        state->step = DIAL_CONNECTING;
        addresses_order(state);
        dial_say_phase(state, IL_PHASE_CONNECT);
    }
    if (state->dial != NULL && state->step == DIAL_CONNECTING) {
        dial_connect_some(state);
    }
    if (state->dial != NULL && state->step == DIAL_DONE) {
        dial_deliver(state);
    }
}

static enum loop_result dial_run(struct il_loop *loop, struct job *job)
{
    struct dial_state *state = il_container_of(job, struct dial_state, job);

    state->is_job_pushed = false;
    state->is_job_running = true;
    if (state->dial != NULL) {
        dial_advance(state);
    }
    state->is_job_running = false;
    if (state->dial == NULL) {
        dial_free_unless_busy(state);
    }
    return LOOP_HELD;
}

static void dial_on_timer(struct timer *timer)
{
    struct dial_state *state = il_container_of(timer, struct dial_state, timer);

    state->is_due = true;
    dial_push(state);
}

static void dial_on_loop_end(struct loop_guest *guest)
{
    struct dial_state *state = il_container_of(guest, struct dial_state, guest);

    (void)il_fail(&state->err, IL_ESHUTDOWN, "the loop ended while connecting to %.80s port %u",
                  state->host, state->port);
    dial_finish(state);
}

/* ---- the interface ---- */

static enum il_code target_check(const struct dial_target *target, struct il_error *err)
{
    if (target->host == NULL || target->host[0] == '\0') {
        return il_fail(err, IL_EINVAL, "no host to connect to");
    }
    if (target->port == 0) {
        return il_fail(err, IL_EINVAL, "port 0 of host '%.80s': no server can be there",
                       target->host);
    }
    return IL_OK;
}

/* Where the addresses come from: they were given, or the resolver is asked. */
static enum il_code dial_begin(struct dial_state *state, const struct dial_target *target,
                               struct il_error *err)
{
    char name[DIAL_NAME_SIZE];

    if (target->address_count == 0) {
        return resolve_start(&state->resolve, state->loop, dial_name(state, name), err);
    }
    il_assert(target->address_count <= RESOLVE_FAMILY_MAX);
    state->is_answer_last = true;
    state->is_order_given = true;
    state->is_due = true;
    if (!add_addresses(state, target->addresses, target->address_count)) {
        return fail_no_room(state->host, err);
    }
    return IL_OK;
}

enum il_code dial_start(struct dial *dial, struct il_loop *loop, const struct dial_target *target,
                        struct il_error *err)
{
    struct dial_state *state;
    enum il_code code;

    il_assert_on_loop(loop);
    il_assert(dial->state == NULL);
    il_assert(dial->on_done != NULL);
    code = target_check(target, err);
    if (code != IL_OK) {
        return code;
    }
    state = il_calloc(1, sizeof(*state));
    if (state == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory to connect to %.80s port %u", target->host,
                       target->port);
    }
    state->dial = dial;
    state->loop = loop;
    state->host = target->host;
    state->port = target->port;
    state->is_absolute = target->is_absolute;
    state->resolve.cache = target->cache;
    state->fd = -1;
    state->job.run = dial_run;
    state->resolve.on_answer = dial_on_answer;
    state->guest.on_loop_end = dial_on_loop_end;
    timer_init(&state->timer, dial_on_timer);
    dial_push(state); /* before the resolver pushes anything: phases come in order */
    code = dial_begin(state, target, err);
    if (code != IL_OK) {
        state->dial = NULL; /* the job frees it */
        return code;
    }
    il_list_init(&state->guest.link);
    loop_guest_add(loop, &state->guest);
    dial->state = state;
    return IL_OK;
}

void dial_cancel(struct dial *dial)
{
    struct dial_state *state = dial->state;

    if (state == NULL) {
        return;
    }
    il_assert_on_loop(state->loop);
    dial_stop(state);
    if (state->fd >= 0) {
        sys_close(state->fd);
    }
    dial->state = NULL;
    state->dial = NULL;
    dial_free_unless_busy(state);
}

void dial_move(struct dial *from, struct dial *to, const struct dial_target *target)
{
    struct dial_state *state = from->state;

    il_assert(state != NULL && to->state == NULL);
    il_assert(to->on_done != NULL);
    il_assert_on_loop(state->loop);
    state->dial = to;
    state->host = target->host;
    to->state = state;
    from->state = NULL;
}

void dial_describe(const struct dial *dial, char *text, size_t size)
{
    const struct dial_state *state = dial->state;
    char address_text[NET_ADDRESS_TEXT_SIZE];
    size_t total;

    if (state == NULL) {
        (void)snprintf(text, size, "not connecting");
        return;
    }
    total = state->attempt_count + addresses_left(state);
    if (state->attempt_count == 0) {
        (void)snprintf(text, size, "resolving %s", state->host);
        return;
    }
    (void)net_address_text(&attempt_seen(state, state->attempt_count - 1)->address, address_text);
    if (total == 1) {
        (void)snprintf(text, size, "connecting to %s", address_text);
    } else {
        (void)snprintf(text, size, "connecting to %s (%zu of %zu addresses)", address_text,
                       state->attempt_count, total);
    }
}
