/* call_open.c: how a call comes to a connection of its own: it is opened on the call's home loop.
 *
 * Other calls of that loop may wait for it: because it may turn out to be HTTP/2 and serve them
 * all, or because no more may be opened. So what a call has begun does not end with it: if the call
 * is cancelled, runs out of time, or is served otherwise, one of those who wait takes over, with
 * the place and all that has been reached:
 *
 *   call A   opening -----> cancelled
 *                 \
 *   call B   waits +------> opening -----> connected: serves B, and whoever still waits
 *
 * Owns: nothing; the opening is in the call. Threads: the one that holds the call's home loop. */
#include "client/call.h"
#include "client/drivers.h"
#include "client/session.h"

/* Who has come later than that waits for an attempt of his own; as in net/resolve.c. */
#define CALL_SHARE_FAILURE_NS (1000 * (uint64_t)LOOP_NS_PER_MS)

static void call_on_opening_phase(struct opening *opening, enum il_phase phase);
static void call_on_opened(struct opening *opening, const struct stream *stream,
                           const struct il_error *err);

/* ---- where to ---- */

/* The addresses that the client's options give for the URL's host; NULL: none. What the request
 * itself says comes before them. */
static const struct host_entry *call_find_host(const struct il_call *call)
{
    const struct url *url = &call->request->url;

    return call->request->address == NULL
               ? host_table_find(&call->client->hosts, url->host, url->port)
               : NULL;
}

/* Is the URL's host to be asked for as it is, without a search list? Its name ends with a dot. */
static bool call_is_absolute(const struct il_call *call)
{
    const struct url *url = &call->request->url;

    return url->has_trailing_dot && !url->is_ipv4_literal && call->request->address == NULL &&
           call_find_host(call) == NULL;
}

static struct opening_target call_target(const struct il_call *call)
{
    const struct il_request *request = call->request;
    const struct host_entry *entry = call_find_host(call);
    const struct url *url = &request->url;

    return (struct opening_target){
        .dial = { .host = request->address != NULL ? request->address : url->host,
                  .port = url->port,
                  .is_absolute = call_is_absolute(call),
                  .cache = call->client->cache,
                  .addresses = entry != NULL ? entry->addresses : NULL,
                  .address_count = entry != NULL ? entry->count : 0 },
        .tls = call->tls,
        .peer = { .host = url->host,
                  .port = url->port,
                  .is_address = url->is_ipv4_literal || url->is_ipv6_literal,
                  .alpn = client_alpn(call->client) },
    };
}

/* What a connection must be like to serve this call. */
enum il_code call_identify(struct il_call *call, struct pool_identity *identity,
                           struct il_error *err)
{
    const struct il_request *request = call->request;
    const struct host_entry *entry = call_find_host(call);
    enum il_code code = IL_OK;

    *identity = (struct pool_identity){ .scheme = request->url.scheme,
                                        .port = request->url.port,
                                        .host = request->url.host,
                                        .is_absolute = call_is_absolute(call),
                                        .address = entry != NULL ? entry->text : request->address };
    if (request->url.scheme == URL_HTTPS) {
        call->tls = request->tls;
        if (call->tls == NULL) {
            code = client_tls(call->client, &call->tls, err);
        }
        identity->tls = code == IL_OK ? tls_identity(call->tls) : NULL;
    }
    call->may_share = client_may_share(call->client, request->url.scheme);
    return code;
}

/* ---- begin, pass on, stop ---- */

static void call_open_prepare(struct il_call *call, struct pool_origin *place)
{
    il_assert(call->place == NULL);
    call->place = place;
    call->opening.on_phase = call_on_opening_phase;
    call->opening.on_done = call_on_opened;
}

void call_open(struct il_call *call, struct pool_origin *place)
{
    struct opening_target target;
    struct il_error error;

    if (opening_is_under_way(&call->opening)) { /* it had lost its place, and this is another one */
        call->place = place;
        return;
    }
    target = call_target(call);
    call_open_prepare(call, place);
    call->opening_since_ns = loop_now_ns(call->home);
    call_set_phase(call, IL_PHASE_RESOLVE);
    if (opening_start(&call->opening, call->home, &target, &error) != IL_OK) {
        call_fail(call, error.code, &error);
    }
}

/* Another call of the loop that waits for a connection takes over what this one has begun. Its time
 * for the present phase counts from when both were there: it has waited for that, too. */
static bool call_pass_opening_on(struct il_call *call)
{
    enum il_phase phase = (enum il_phase)atomic_load(&call->phase);
    struct opening_target target;
    struct il_call *heir;
    uint64_t since_ns;

    if (call->place == NULL || !opening_is_under_way(&call->opening) ||
        call->code == IL_ESHUTDOWN) {
        return false;
    }
    heir = pool_pass_dial(&call->client->pool, call);
    if (heir == NULL) {
        return false;
    }
    target = call_target(heir);
    call_open_prepare(heir, call->place);
    call->place = NULL;
    heir->opening_since_ns = call->opening_since_ns;
    opening_move(&call->opening, &heir->opening, &target);
    since_ns = il_max_u64(atomic_load(&call->phase_since_ns), atomic_load(&heir->phase_since_ns));
    if (phase == IL_PHASE_CONNECT || phase == IL_PHASE_TLS) {
        heir->response->timing.resolved_ns = loop_now_ns(heir->home);
    }
    if (phase == IL_PHASE_TLS) {
        heir->response->timing.tcp_ns = loop_now_ns(heir->home);
    }
    call_set_phase_since(heir, phase, since_ns);
    return true;
}

void call_stop_opening(struct il_call *call)
{
    if (call_pass_opening_on(call)) {
        return;
    }
    if (opening_is_under_way(&call->opening)) {
        opening_cancel(&call->opening);
    }
    if (call->place != NULL && (!IL_MUTANT(CANCEL_SLOT) || call->code != IL_ECANCELED)) {
        pool_forget_place(&call->client->pool, call);
    }
    call->place = NULL;
}

/* ---- what becomes of it ---- */

static void call_on_opening_phase(struct opening *opening, enum il_phase phase)
{
    struct il_call *call = il_container_of(opening, struct il_call, opening);

    if (phase == IL_PHASE_CONNECT) {
        call->response->timing.resolved_ns = sys_now_ns();
    } else if (phase == IL_PHASE_TLS) {
        call->response->timing.tcp_ns = sys_now_ns(); /* a turn may take long: it does sums */
    }
    call_set_phase(call, phase);
}

/* The connection speaks HTTP/2: others may share it. */
static enum il_code call_open_session(struct il_call *call, struct stream *stream,
                                      struct il_error *err)
{
    struct pool *pool = &call->client->pool;
    struct session *session;
    enum il_code code = session_new(call->client, call->place, call->home, stream, &session, err);

    if (code != IL_OK) {
        return code;
    }
    pool_session_opened(pool, call->place, session, call->client->no_keep_alive);
    call->place = NULL;
    pool_leave(pool, call);
    if (!session_begin(call, session, false)) {
        call_acquire(call); /* it has ended already: the server wants nobody */
    }
    return IL_OK;
}

static enum il_code call_open_conn(struct il_call *call, struct stream *stream,
                                   struct il_error *err)
{
    struct conn *conn;
    enum il_code code = conn_new(call->client, call->place, call->home, stream, &conn, err);

    if (code != IL_OK) {
        return code;
    }
    pool_opened(&call->client->pool, call->place, conn);
    call->place = NULL;
    pool_leave(&call->client->pool, call);
    if (call->client->driver == IL_DRIVER_BOUND) {
        bound_return_assigned(call); /* one came while ours was being opened: ours is the one */
        bound_opened(call, conn);
    } else {
        exchange_begin(call, conn, false);
    }
    return IL_OK;
}

/* Which protocol is it? With TLS the server has chosen, in clear we have. */
static enum il_code call_choose_protocol(const struct il_call *call, const struct stream *stream,
                                         bool *ret_is_h2, struct il_error *err)
{
    bool wants_h2 = call->client->http_version == IL_HTTP_2_PRIOR_KNOWLEDGE;

    *ret_is_h2 = call->tls == NULL ? wants_h2 : strcmp(tls_protocol(stream), "h2") == 0;
    if (IL_MUTANT(ALPN_IGNORED) && call->tls != NULL) {
        *ret_is_h2 = client_may_share(call->client, URL_HTTPS);
    }
    if (wants_h2 && !*ret_is_h2) {
        return il_fail(err, IL_EPROTOCOL,
                       "%s:%u does not speak HTTP/2, which http_version of the client demands (it "
                       "chose %s by ALPN)",
                       call->request->url.host, call->request->url.port,
                       tls_protocol(stream)[0] != '\0' ? tls_protocol(stream) : "no protocol");
    }
    return IL_OK;
}

/* It came to nothing. Who has waited for it from its first moments on, and for nothing else, has
 * his answer, too: one after the other they would wait for the same again. */
static void call_open_failed(struct il_call *call, const struct il_error *err)
{
    uint64_t since_max_ns = call->opening_since_ns + CALL_SHARE_FAILURE_NS;
    struct il_error error = *err;
    struct il_call *other;

    if (error.phase == IL_PHASE_NONE) {
        error.phase = (enum il_phase)atomic_load(&call->phase);
    }
    while (error.code != IL_ESHUTDOWN && error.code != IL_ENOMEM &&
           (other = pool_find_follower(&call->client->pool, call, since_max_ns)) != NULL) {
        call_fail(other, error.code, &error);
    }
    call_fail(call, error.code, &error);
}

static void call_on_opened(struct opening *opening, const struct stream *opened,
                           const struct il_error *err)
{
    struct il_call *call = il_container_of(opening, struct il_call, opening);
    struct stream stream;
    struct il_error error;
    bool is_h2;
    enum il_code code;

    if (opened == NULL) {
        call_open_failed(call, err);
        return;
    }
    stream = *opened;
    if (!pool_may_open(&call->client->pool, call)) {
        stream_close(&stream);
        call_set_phase(call, IL_PHASE_POOL_WAIT);
        call_acquire(call);
        return;
    }
    code = call_choose_protocol(call, &stream, &is_h2, &error);
    if (code == IL_OK) {
        code = is_h2 ? call_open_session(call, &stream, &error)
                     : call_open_conn(call, &stream, &error);
    }
    if (code != IL_OK) {
        stream_close(&stream);
        call_fail(call, error.code, &error);
    }
}
