/* tls_stream.c: one connection's TLS: the filter between its stream and its socket.
 *
 * OpenSSL reads and writes through a BIO that leads to sys_socket_receive and sys_socket_send. It
 * never waits: where the socket has or takes nothing, whoever called is told -EAGAIN.
 *
 *   tls_attach ---> handshake ---> checked ---> receive, send ... ---> close
 *                       |             |                  |
 *                       +-------------+------------------+---> failed: can only be closed
 *
 * Owns: an SSL, and a reference to its il_tls. Threads: whoever drives the connection.
 * Ends: close, with a close_notify unless the handshake or the stream has failed. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/bytes.h"
#include "net/reason.h"
#include "net/tls_inside.h"

/* What a server may make us read without any byte for the user: a handshake with a long chain of
 * certificates, tickets, key updates. More is an attack, or madness. */
#define TLS_SILENT_BYTES_MAX (512 * 1024)

/* A head and a small body go into one record. */
#define TLS_GATHER_MAX 4096

struct tls_stream {
    SSL *ssl;
    struct il_tls *tls; /* a reference */
    int fd;             /* the stream's */
    uint16_t port;
    bool is_address;
    bool is_checked; /* the handshake is done, and the peer is who it should be */
    bool is_failed;  /* failure says why */
    bool is_eof;     /* the socket has ended */
    bool is_drained; /* the socket had less than was asked for */
    int sys_errno;   /* why the socket cannot be received from */
    int send_errno;  /* why it takes no more: what is sent is dropped */
    size_t silent_bytes;
    struct il_error failure;
    struct {
        int result; /* X509_V_...; X509_V_OK: none was bad */
        int depth;
        char subject[TLS_NAME_SIZE], issuer[TLS_NAME_SIZE];
        char why[TLS_WHY_SIZE]; /* in our words */
    } bad;
    const char *alpn;  /* offered; static */
    char protocol[16]; /* chosen of them */
    char *host;
    char session_key[TLS_SESSION_KEY_SIZE];
};

struct tls_stream *tls_stream_of(const SSL *ssl)
{
    return SSL_get_app_data(ssl);
}

/* ---- the way to the socket ---- */

static int bio_on_read(BIO *bio, char *bytes, size_t size, size_t *ret_got)
{
    struct tls_stream *tls = BIO_get_data(bio);
    ssize_t got;

    BIO_clear_retry_flags(bio);
    if (tls->silent_bytes > TLS_SILENT_BYTES_MAX) {
        tls->sys_errno = EPROTO;
        return 0;
    }
    got = sys_socket_receive(tls->fd, bytes, size);
    tls->is_drained = got < (ssize_t)size;
    if (got > 0) {
        tls->silent_bytes += (size_t)got;
        *ret_got = (size_t)got;
        return 1;
    }
    if (got == -EAGAIN) {
        BIO_set_retry_read(bio);
    } else if (got == 0) {
        tls->is_eof = true;
    } else {
        tls->sys_errno = (int)-got;
    }
    return 0;
}

static int bio_on_write(BIO *bio, const char *bytes, size_t size, size_t *ret_sent)
{
    struct tls_stream *tls = BIO_get_data(bio);
    struct iovec part = { .iov_base = (void *)bytes, .iov_len = size };
    ssize_t sent = sys_socket_send(tls->fd, &part, 1);

    BIO_clear_retry_flags(bio);
    if (sent >= 0) {
        *ret_sent = (size_t)sent;
        return 1;
    }
    if (sent == -EAGAIN) {
        BIO_set_retry_write(bio);
    } else {
        /* The server takes no more; it may have said why, or answered all the same. OpenSSL would
         * not read any more if it knew. */
        tls->send_errno = (int)-sent;
        *ret_sent = size;
        return 1;
    }
    return 0;
}

static long bio_on_control(BIO *bio, int command, long number, void *pointer)
{
    struct tls_stream *tls = BIO_get_data(bio);

    switch (command) {
    case BIO_CTRL_FLUSH: /* nothing is held back */
        return 1;
    case BIO_CTRL_EOF:
        return tls->is_eof;
    default:
        return 0;
    }
}

static int bio_on_new(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* One for the process: it holds nothing but the functions above, and lives for ever. */
static BIO_METHOD *bio_method(void)
{
    static _Atomic(BIO_METHOD *) made;
    BIO_METHOD *method = atomic_load_explicit(&made, memory_order_acquire);
    BIO_METHOD *none = NULL;

    if (method != NULL) {
        return method;
    }
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "interloop stream");
    if (method == NULL) {
        return NULL;
    }
    il_assert(BIO_meth_set_read_ex(method, bio_on_read) == 1);
    il_assert(BIO_meth_set_write_ex(method, bio_on_write) == 1);
    il_assert(BIO_meth_set_ctrl(method, bio_on_control) == 1);
    il_assert(BIO_meth_set_create(method, bio_on_new) == 1);
    if (!atomic_compare_exchange_strong(&made, &none, method)) {
        BIO_meth_free(method);
        method = none;
    }
    return method;
}

/* ---- what went wrong ---- */

static bool is_host_mismatch(int result)
{
    return result == X509_V_ERR_HOSTNAME_MISMATCH || result == X509_V_ERR_IP_ADDRESS_MISMATCH;
}

static void note_names(struct tls_stream *tls, X509 *certificate)
{
    (void)tls_name_text(certificate != NULL ? X509_get_subject_name(certificate) : NULL,
                        tls->bad.subject, sizeof(tls->bad.subject));
    (void)tls_name_text(certificate != NULL ? X509_get_issuer_name(certificate) : NULL,
                        tls->bad.issuer, sizeof(tls->bad.issuer));
    if (certificate != NULL && is_host_mismatch(tls->bad.result)) {
        char names[TLS_NAME_SIZE];

        (void)tls_certificate_names(certificate, names, sizeof(names));
        (void)snprintf(tls->bad.why, sizeof(tls->bad.why), "it is for %s", names);
    } else {
        (void)tls_verify_text(tls->bad.result, certificate, tls->bad.why, sizeof(tls->bad.why));
    }
}

void tls_stream_note_bad_certificate(struct tls_stream *tls, X509_STORE_CTX *context)
{
    X509 *certificate = X509_STORE_CTX_get_current_cert(context);

    if (tls->bad.result != X509_V_OK) {
        return;
    }
    tls->bad.result = X509_STORE_CTX_get_error(context);
    tls->bad.depth = X509_STORE_CTX_get_error_depth(context);
    note_names(tls, certificate);
}

static enum il_code fail_certificate(struct tls_stream *tls)
{
    char name[24];

    return il_fail_errno(&tls->failure, IL_ECERT, 0,
                         "%.60s:%u: certificate not accepted: %.88s (%s): depth %d, subject "
                         "'%.48s', issuer '%.48s'",
                         tls->host, tls->port, tls->bad.why, tls_verify_name(tls->bad.result, name),
                         tls->bad.depth, tls->bad.subject, tls->bad.issuer);
}

/* No protocol in common: an error of TLS, except where only HTTP/2 would have done. */
static enum il_code protocol_code(const struct tls_stream *tls)
{
    return strcmp(tls->alpn, TLS_ALPN_HTTP_2) == 0 ? IL_EPROTOCOL : IL_ETLS;
}

/* The socket or the peer's TLS has ended the matter. `result` is what SSL_get_error said. */
static enum il_code fail_stream(struct tls_stream *tls, int result, const char *doing)
{
    enum il_code code;
    char text[120];

    if (tls->bad.result != X509_V_OK) {
        return fail_certificate(tls);
    }
    if (tls->silent_bytes > TLS_SILENT_BYTES_MAX) {
        return il_fail_errno(&tls->failure, IL_ETLS, 0,
                             "%.60s:%u: %s: the server sent more than %d bytes of TLS without any "
                             "of the response",
                             tls->host, tls->port, doing, TLS_SILENT_BYTES_MAX);
    }
    if (tls->sys_errno != 0) {
        return il_fail_errno(&tls->failure, tls->is_checked ? IL_EPEERCLOSED : IL_ETLS,
                             tls->sys_errno, "%.60s:%u: %s: the connection broke", tls->host,
                             tls->port, doing);
    }
    if (tls->is_eof) {
        return il_fail_errno(&tls->failure, tls->is_checked ? IL_EPEERCLOSED : IL_ETLS, 0,
                             tls->is_checked
                                 ? "%.60s:%u: %s: cut off: the connection ended without TLS's "
                                   "close_notify"
                                 : "%.60s:%u: %s: the server closed the connection; does it speak "
                                   "TLS?",
                             tls->host, tls->port, doing);
    }
    il_maybe(result == SSL_ERROR_SSL);
    code = tls_queue_is_about_protocol() ? protocol_code(tls) : IL_ETLS;
    return il_fail_errno(&tls->failure, code, 0, "%.60s:%u: %s: %s", tls->host, tls->port, doing,
                         tls_queue_text(text, sizeof(text)));
}

static ssize_t stream_result(struct tls_stream *tls, int returned, const char *doing)
{
    int result = SSL_get_error(tls->ssl, returned);

    switch (result) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        (void)fail_stream(tls, result, doing);
        tls->is_failed = true;
        ERR_clear_error();
        return tls->sys_errno != 0 ? -tls->sys_errno : -EPROTO;
    }
}

/* ---- the peer ---- */

/* A resumed session brings its certificate from an earlier handshake: what may have changed since
 * is looked at anew. */
static enum il_code check_resumed(struct tls_stream *tls, X509 *certificate)
{
    const unsigned flags =
        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS;

    tls->bad.result = (int)SSL_get_verify_result(tls->ssl);
    if (tls->bad.result == X509_V_OK &&
        X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0) {
        tls->bad.result = X509_V_ERR_CERT_HAS_EXPIRED;
    }
    if (tls->bad.result == X509_V_OK && tls->is_address &&
        X509_check_ip_asc(certificate, tls->host, flags) != 1) {
        tls->bad.result = X509_V_ERR_IP_ADDRESS_MISMATCH;
    }
    if (tls->bad.result == X509_V_OK && !tls->is_address &&
        X509_check_host(certificate, tls->host, 0, flags, NULL) != 1) {
        tls->bad.result = X509_V_ERR_HOSTNAME_MISMATCH;
    }
    note_names(tls, certificate);
    return tls->bad.result == X509_V_OK ? IL_OK : fail_certificate(tls);
}

static enum il_code check_pins(struct tls_stream *tls, X509 *certificate)
{
    uint8_t digest[TLS_SHA256_SIZE];
    bool is_made = certificate != NULL && tls_public_key_digest(certificate, digest);

    for (unsigned i = 0; is_made && i < tls->tls->pin_count; i++) {
        if (memcmp(digest, tls->tls->pins[i], sizeof(digest)) == 0) {
            return IL_OK;
        }
    }
    note_names(tls, certificate);
    return il_fail_errno(&tls->failure, IL_ECERT, 0,
                         "%.60s:%u: certificate not accepted: its public key has none of the %u "
                         "pin%s: depth 0, subject '%s'",
                         tls->host, tls->port, tls->tls->pin_count, il_plural(tls->tls->pin_count),
                         tls->bad.subject);
}

static enum il_code check_alpn(struct tls_stream *tls)
{
    const unsigned char *chosen;
    unsigned chosen_size;
    char text[40];

    SSL_get0_alpn_selected(tls->ssl, &chosen, &chosen_size);
    if (chosen_size == 0) {
        return IL_OK; /* it does not know ALPN: HTTP/1.1 */
    }
    for (const char *at = tls->alpn; *at != '\0'; at += (unsigned char)*at + 1) {
        if ((unsigned char)*at == chosen_size && memcmp(at + 1, chosen, chosen_size) == 0 &&
            chosen_size < sizeof(tls->protocol)) {
            memcpy(tls->protocol, chosen, chosen_size);
            return IL_OK;
        }
    }
    return il_fail_errno(&tls->failure, protocol_code(tls), 0,
                         "%.60s:%u: TLS handshake: the server chose protocol '%s', which was not "
                         "offered",
                         tls->host, tls->port, il_escape(text, sizeof(text), chosen, chosen_size));
}

/* The handshake is done, and OpenSSL content; we look at what it does not know of. */
static enum il_code check_peer(struct tls_stream *tls)
{
    X509 *certificate = SSL_get0_peer_certificate(tls->ssl);
    enum il_code code = IL_OK;

    if (tls->tls->is_verifying && certificate == NULL) { /* anonymous ciphers are never offered */
        code = il_fail_errno(&tls->failure, IL_ECERT, 0, "%.60s:%u: the server has no certificate",
                             tls->host, tls->port);
    } else if (tls->tls->is_verifying && SSL_session_reused(tls->ssl)) {
        code = check_resumed(tls, certificate);
    }
    if (code == IL_OK && tls->tls->pin_count > 0) {
        code = check_pins(tls, certificate);
    }
    return code == IL_OK ? check_alpn(tls) : code;
}

/* ---- sessions ---- */

void tls_stream_take_session(struct tls_stream *tls, SSL_SESSION *session)
{
    if (tls->is_checked && SSL_SESSION_is_resumable(session)) {
        tls_sessions_put(&tls->tls->sessions, tls->session_key, session);
    } else {
        SSL_SESSION_free(session); /* TLS 1.2 brings it before the peer has been checked: later */
    }
}

static void keep_early_session(struct tls_stream *tls)
{
    if (tls->tls->is_resuming && SSL_version(tls->ssl) < TLS1_3_VERSION &&
        !SSL_session_reused(tls->ssl)) {
        SSL_SESSION *session = SSL_get1_session(tls->ssl);

        if (session != NULL) {
            tls_stream_take_session(tls, session);
        }
    }
}

static void resume_session(struct tls_stream *tls)
{
    SSL_SESSION *session = NULL;

    if (tls->tls->is_resuming) {
        session = tls_sessions_take(&tls->tls->sessions, tls->session_key);
    }
    if (session != NULL) {
        (void)SSL_set_session(tls->ssl, session); /* else the handshake is a full one */
        SSL_SESSION_free(session);
    }
}

/* ---- the filter ---- */

static enum il_code filter_handshake(void *state, struct il_error *err)
{
    struct tls_stream *tls = state;
    enum il_code code = IL_OK;
    int done;

    il_assert(!tls->is_checked);
    il_assert(!tls->is_failed);
    ERR_clear_error();
    done = SSL_do_handshake(tls->ssl);
    if (done != 1) {
        ssize_t result = stream_result(tls, done, "TLS handshake");

        if (result == -EAGAIN) {
            return IL_EAGAIN;
        }
        if (result == 0) { /* a close_notify in mid-handshake */
            (void)il_fail_errno(&tls->failure, IL_ETLS, 0,
                                "%.60s:%u: TLS handshake: the server ended it", tls->host,
                                tls->port);
        }
        code = tls->failure.code;
    } else {
        code = check_peer(tls);
    }
    if (code != IL_OK) {
        tls->is_failed = true;
        if (err != NULL) {
            *err = tls->failure;
        }
        return code;
    }
    tls->is_checked = true;
    tls->silent_bytes = 0;
    keep_early_session(tls);
    return IL_OK;
}

static ssize_t filter_receive(void *state, void *bytes, size_t size)
{
    struct tls_stream *tls = state;
    size_t got = 0;
    int done;

    if (tls->is_failed) {
        return -EPROTO;
    }
    ERR_clear_error();
    done = SSL_read_ex(tls->ssl, bytes, size, &got);
    if (done == 1) {
        tls->silent_bytes = 0;
        return (ssize_t)got;
    }
    return stream_result(tls, done, "receiving");
}

static ssize_t send_part(struct tls_stream *tls, const char *bytes, size_t size)
{
    size_t total = 0;

    while (total < size) {
        size_t sent = 0;
        int done = SSL_write_ex(tls->ssl, bytes + total, size - total, &sent);

        if (done != 1) {
            ssize_t result = stream_result(tls, done, "sending");

            return total > 0 && result == -EAGAIN ? (ssize_t)total : result == 0 ? -EPIPE : result;
        }
        if (tls->send_errno != 0) {
            return -tls->send_errno;
        }
        total += sent;
    }
    return (ssize_t)total;
}

static ssize_t filter_send(void *state, const struct iovec *parts, int part_count)
{
    struct tls_stream *tls = state;
    char gathered[TLS_GATHER_MAX];
    size_t total = 0, gathered_size = 0;

    if (tls->is_failed) {
        return -EPROTO;
    }
    ERR_clear_error();
    for (int i = 0; i < part_count; i++) {
        total += parts[i].iov_len;
    }
    if (part_count > 1 && total <= sizeof(gathered)) {
        for (int i = 0; i < part_count; i++) {
            memcpy(gathered + gathered_size, parts[i].iov_base, parts[i].iov_len);
            gathered_size += parts[i].iov_len;
        }
        return send_part(tls, gathered, gathered_size);
    }
    return send_part(tls, parts[0].iov_base, parts[0].iov_len); /* the rest is offered again */
}

static bool filter_holds_input(const void *state)
{
    const struct tls_stream *tls = state;

    return !tls->is_failed && SSL_has_pending(tls->ssl);
}

static bool filter_is_drained(const void *state)
{
    const struct tls_stream *tls = state;

    return tls->is_drained && !SSL_has_pending(tls->ssl);
}

/* Session tickets and key updates may come at any time and mean nothing; all else is the end. */
static bool filter_is_quiet(void *state)
{
    struct tls_stream *tls = state;
    char byte;
    size_t got;
    int done;

    if (tls->is_failed) {
        return false;
    }
    ERR_clear_error();
    done = SSL_peek_ex(tls->ssl, &byte, 1, &got);
    if (done == 1 || stream_result(tls, done, "idle") != -EAGAIN) {
        return false;
    }
    /* Who has to write first has not looked at what lies behind, and half a record is the beginning
     * of what nobody asked for. */
    return !SSL_want_write(tls->ssl) && !SSL_has_pending(tls->ssl);
}

static const struct il_error *filter_failure(const void *state)
{
    const struct tls_stream *tls = state;

    return tls->is_failed ? &tls->failure : NULL;
}

static void tls_stream_free(struct tls_stream *tls)
{
    SSL_free(tls->ssl);
    (void)il_tls_unref(tls->tls);
    il_free(tls->host);
    il_free(tls);
    ERR_clear_error();
}

static void filter_close(void *state)
{
    struct tls_stream *tls = state;

    ERR_clear_error();
    if (tls->is_checked && !tls->is_failed && tls->send_errno == 0) {
        (void)SSL_shutdown(tls->ssl); /* if it cannot be sent at once, the peer has to do without */
    }
    tls_stream_free(tls);
}

static const struct stream_filter tls_filter = {
    .handshake = filter_handshake,
    .receive = filter_receive,
    .send = filter_send,
    .is_quiet = filter_is_quiet,
    .holds_input = filter_holds_input,
    .is_drained = filter_is_drained,
    .failure = filter_failure,
    .close = filter_close,
};

/* ---- making one ---- */

static bool set_peer(struct tls_stream *tls)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(tls->ssl);

    if (tls->is_address) {
        return X509_VERIFY_PARAM_set1_ip_asc(param, tls->host) == 1;
    }
    return X509_VERIFY_PARAM_set1_host(param, tls->host, 0) == 1 &&
           SSL_set_tlsext_host_name(tls->ssl, tls->host) == 1;
}

static bool set_bio(struct tls_stream *tls)
{
    BIO_METHOD *method = bio_method();
    BIO *bio = method != NULL ? BIO_new(method) : NULL;

    if (bio == NULL) {
        return false;
    }
    BIO_set_data(bio, tls);
    SSL_set_bio(tls->ssl, bio, bio);
    return true;
}

enum il_code tls_attach(struct il_tls *settings, const struct tls_peer *peer, struct stream *stream,
                        struct il_error *err)
{
    struct tls_stream *tls = il_calloc(1, sizeof(*tls));
    char text[120];

    il_assert(stream_is_plain(stream));
    if (tls == NULL || (tls->host = il_strdup(peer->host)) == NULL) {
        il_free(tls);
        return il_fail(err, IL_ENOMEM, "no memory for TLS with %.80s", peer->host);
    }
    ERR_clear_error();
    tls->tls = il_tls_ref(settings);
    tls->fd = stream->fd;
    tls->port = peer->port;
    tls->is_address = peer->is_address;
    tls->alpn = peer->alpn;
    (void)snprintf(tls->session_key, sizeof(tls->session_key), "%s:%u %s", peer->host, peer->port,
                   peer->alpn);
    tls->ssl = SSL_new(settings->context);
    if (tls->ssl == NULL || !set_bio(tls) || !set_peer(tls) ||
        SSL_set_alpn_protos(tls->ssl, (const unsigned char *)peer->alpn,
                            (unsigned)strlen(peer->alpn)) != 0) {
        enum il_code code = il_fail(err, IL_ETLS, "TLS with %.80s cannot begin: %s", peer->host,
                                    tls_queue_text(text, sizeof(text)));

        tls_stream_free(tls);
        return code;
    }
    SSL_set_app_data(tls->ssl, tls);
    SSL_set_connect_state(tls->ssl);
    resume_session(tls);
    stream->filter = &tls_filter;
    stream->state = tls;
    return IL_OK;
}

/* ---- what is known ---- */

static void describe_certificate(const X509 *certificate, struct il_tls_info *info)
{
    const size_t prefix_size = strlen("sha256//");
    uint8_t digest[TLS_SHA256_SIZE];

    (void)tls_name_text(X509_get_subject_name(certificate), info->subject, sizeof(info->subject));
    (void)tls_name_text(X509_get_issuer_name(certificate), info->issuer, sizeof(info->issuer));
    (void)tls_time_text(X509_get0_notAfter(certificate), info->not_after, sizeof(info->not_after));
    if (tls_public_key_digest(certificate, digest)) {
        memcpy(info->public_key, "sha256//", prefix_size);
        (void)EVP_EncodeBlock((unsigned char *)info->public_key + prefix_size, digest,
                              sizeof(digest));
    }
}

static void facts_fill(const struct tls_stream *tls, struct il_tls_info *info)
{
    const X509 *certificate = SSL_get0_peer_certificate(tls->ssl);

    (void)snprintf(info->version, sizeof(info->version), "%s", SSL_get_version(tls->ssl));
    (void)snprintf(info->cipher, sizeof(info->cipher), "%s", SSL_get_cipher(tls->ssl));
    memcpy(info->protocol, tls->protocol, sizeof(tls->protocol));
    info->is_resumed = SSL_session_reused(tls->ssl);
    info->is_verified = tls->tls->is_verifying;
    if (certificate != NULL) {
        describe_certificate(certificate, info);
    }
}

struct tls_facts *tls_facts_new(const struct stream *stream)
{
    const struct tls_stream *tls = stream->state;
    struct tls_facts *facts = il_calloc(1, sizeof(*facts));

    if (facts == NULL) {
        return NULL;
    }
    atomic_init(&facts->ref_count, 1);
    if (stream->filter == &tls_filter) {
        facts_fill(tls, &facts->info);
    }
    return facts;
}

struct tls_facts *tls_facts_ref(struct tls_facts *facts)
{
    if (facts != NULL) {
        atomic_fetch_add_explicit(&facts->ref_count, 1, memory_order_relaxed);
    }
    return facts;
}

void tls_facts_unref(struct tls_facts *facts)
{
    if (facts != NULL &&
        atomic_fetch_sub_explicit(&facts->ref_count, 1, memory_order_acq_rel) == 1) {
        il_free(facts);
    }
}

const char *tls_protocol(const struct stream *stream)
{
    const struct tls_stream *tls = stream->state;

    return stream->filter == &tls_filter ? tls->protocol : "";
}
