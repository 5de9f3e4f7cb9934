/* server_tls.c: the lab server's side of TLS. The server's connections call what is here instead of
 * recv and send, and get what those would say.
 *
 * Owns: an SSL_CTX for each server that speaks TLS, an SSL for each of its connections.
 * Threads: the server's; made and freed by whoever starts and stops it. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include "lab/server_inside.h"

/* ---- the way to the socket ---- */

/* As OpenSSL's own, but for SIGPIPE. */
static int bio_on_write(BIO *bio, const char *bytes, int size)
{
    ssize_t sent = send((int)(intptr_t)BIO_get_data(bio), bytes, (size_t)size, MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
        BIO_set_retry_write(bio);
    }
    return (int)sent;
}

static int bio_on_read(BIO *bio, char *bytes, int size)
{
    ssize_t got = recv((int)(intptr_t)BIO_get_data(bio), bytes, (size_t)size, 0);

    BIO_clear_retry_flags(bio);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        BIO_set_retry_read(bio);
    }
    return (int)got;
}

static long bio_on_control(BIO *bio, int command, long number, void *pointer)
{
    return command == BIO_CTRL_FLUSH; /* nothing is held back */
}

static bool tls_set_socket(SSL *ssl, BIO_METHOD *method, int fd)
{
    BIO *bio = BIO_new(method);

    if (bio == NULL) {
        return false;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    return true;
}

/* ---- the server ---- */

static enum il_code fail_openssl(struct il_error *err, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return il_fail_errno(err, IL_EINVAL, 0, "%s: %s", what,
                         reason != NULL ? reason : "OpenSSL does not say why");
}

static bool use_certificate(SSL_CTX *context, const struct lab_server_tls *options)
{
    BIO *certificate_bio = BIO_new_mem_buf(options->certificate_pem, -1);
    BIO *key_bio = BIO_new_mem_buf(options->key_pem, -1);
    X509 *certificate = PEM_read_bio_X509(certificate_bio, NULL, NULL, NULL);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(key_bio, NULL, NULL, NULL);
    bool is_used = certificate != NULL && key != NULL &&
                   SSL_CTX_use_certificate(context, certificate) == 1 &&
                   SSL_CTX_use_PrivateKey(context, key) == 1;

    X509_free(certificate);
    EVP_PKEY_free(key);
    BIO_free(certificate_bio);
    BIO_free(key_bio);
    return is_used;
}

static bool demand_client_certificate(SSL_CTX *context, const char *ca_pem)
{
    BIO *bio = BIO_new_mem_buf(ca_pem, -1);
    X509 *ca = PEM_read_bio_X509(bio, NULL, NULL, NULL);
    bool is_set = ca != NULL && X509_STORE_add_cert(SSL_CTX_get_cert_store(context), ca) == 1 &&
                  SSL_CTX_add_client_CA(context, ca) == 1;

    SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    X509_free(ca);
    BIO_free(bio);
    return is_set;
}

static bool alpn_is_offered(const unsigned char *offered, unsigned offered_size, const char *name,
                            size_t size)
{
    for (unsigned at = 0; at < offered_size; at += 1u + offered[at]) {
        if (offered[at] == size && memcmp(offered + at + 1, name, size) == 0) {
            return true;
        }
    }
    return false;
}

/* The last one whatever the client offers, unless it is to be strict: what a server may choose is
 * for the client to check. */
static int tls_on_alpn(SSL *ssl, const unsigned char **ret_chosen, unsigned char *ret_size,
                       const unsigned char *offered, unsigned offered_size, void *arg)
{
    const struct lab_server *server = arg;
    const char *name = server->tls_alpn;
    size_t size = strcspn(name, ",");

    while (name[size] == ',' && !alpn_is_offered(offered, offered_size, name, size)) {
        name += size + 1;
        size = strcspn(name, ",");
    }
    if (server->is_tls_alpn_strict && !alpn_is_offered(offered, offered_size, name, size)) {
        return SSL_TLSEXT_ERR_ALERT_FATAL; /* no_application_protocol */
    }
    *ret_chosen = (const unsigned char *)name;
    *ret_size = (unsigned char)size;
    return size > 0 ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static bool set_versions(SSL_CTX *context, int version)
{
    static const struct {
        int name, number;
    } versions[] = { { 11, TLS1_1_VERSION }, { 12, TLS1_2_VERSION }, { 13, TLS1_3_VERSION } };

    for (size_t i = 0; i < il_array_count(versions); i++) {
        if (versions[i].name == version) {
            if (version == 11) {
                SSL_CTX_set_security_level(context,
                                           0); /* else OpenSSL does not speak it any more */
            }
            return SSL_CTX_set_min_proto_version(context, versions[i].number) == 1 &&
                   SSL_CTX_set_max_proto_version(context, versions[i].number) == 1;
        }
    }
    return version == 0;
}

enum il_code server_tls_init(struct lab_server *server, struct il_error *err)
{
    const struct lab_server_tls *options = server->options.tls;
    SSL_CTX *context;

    if (options == NULL) {
        return IL_OK;
    }
    ERR_clear_error();
    server->tls = context = SSL_CTX_new(TLS_server_method());
    server->tls_bio = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "lab server");
    if (server->tls_bio == NULL) {
        return fail_openssl(err, "the lab server's TLS");
    }
    (void)BIO_meth_set_write(server->tls_bio,
                             bio_on_write); /* stores, as the two below: cannot fail */
    (void)BIO_meth_set_read(server->tls_bio, bio_on_read);
    (void)BIO_meth_set_ctrl(server->tls_bio, bio_on_control);
    if (context == NULL || !use_certificate(context, options)) {
        return fail_openssl(err, "the lab server's certificate and key");
    }
    if (!set_versions(context, options->version)) {
        return fail_openssl(err, "the lab server's TLS version: 11, 12 or 13");
    }
    if (options->client_ca_pem != NULL &&
        !demand_client_certificate(context, options->client_ca_pem)) {
        return fail_openssl(err, "the CA of the lab server's clients");
    }
    (void)snprintf(server->tls_alpn, sizeof(server->tls_alpn), "%s",
                   options->alpn != NULL ? options->alpn : "http/1.1");
    server->is_tls_alpn_strict = options->is_alpn_strict;
    server->is_tls_cut = options->is_cut;
    SSL_CTX_set_alpn_select_cb(context, tls_on_alpn, server);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    (void)SSL_CTX_set_session_id_context(context, (const unsigned char *)"lab", 3);
    server->options.tls = NULL; /* the caller's, and read */
    return IL_OK;
}

void server_tls_deinit(struct lab_server *server)
{
    SSL_CTX_free(server->tls);
    BIO_meth_free(server->tls_bio);
    server->tls = NULL;
    server->tls_bio = NULL;
}

/* ---- a connection ---- */

bool conn_tls_init(struct conn *conn)
{
    conn->tls = NULL;
    if (conn->server->tls == NULL) {
        return true;
    }
    ERR_clear_error();
    conn->tls = SSL_new(conn->server->tls);
    if (conn->tls == NULL || !tls_set_socket(conn->tls, conn->server->tls_bio, conn->fd)) {
        SSL_free(conn->tls);
        return false;
    }
    SSL_set_accept_state(conn->tls);
    return true;
}

bool conn_tls_has_chosen_h2(const struct conn *conn)
{
    const unsigned char *chosen;
    unsigned size;

    SSL_get0_alpn_selected(conn->tls, &chosen, &size);
    return size == 2 && memcmp(chosen, "h2", 2) == 0;
}

void conn_tls_end(struct conn *conn, bool says_goodbye)
{
    if (conn->tls == NULL) {
        return;
    }
    ERR_clear_error();
    if (says_goodbye && !conn->server->is_tls_cut && !SSL_in_init(conn->tls) &&
        !conn->is_tls_broken) {
        (void)SSL_shutdown(conn->tls); /* as far as there is room; nobody waits for an answer */
    }
}

void conn_tls_deinit(struct conn *conn)
{
    SSL_free(conn->tls);
    conn->tls = NULL;
    ERR_clear_error();
}

/* What recv and send would say, errno included. */
static ssize_t tls_result(struct conn *conn, int returned)
{
    int saved_errno = errno;

    switch (SSL_get_error(conn->tls, returned)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_ZERO_RETURN:
        return 0;
    default:
        conn->is_tls_broken = true;
        ERR_clear_error();
        errno = saved_errno != 0 && saved_errno != EAGAIN ? saved_errno : EPROTO;
        return -1;
    }
}

ssize_t conn_socket_receive(struct conn *conn, void *data, size_t size)
{
    size_t got = 0;
    int done;

    if (conn->stream != NULL) {
        return stream_receive(conn->stream, data, size);
    }
    if (conn->tls == NULL) {
        return recv(conn->fd, data, size, 0);
    }
    ERR_clear_error();
    errno = 0;
    done = SSL_read_ex(conn->tls, data, size, &got);
    return done == 1 ? (ssize_t)got : tls_result(conn, done);
}

ssize_t conn_socket_send(struct conn *conn, const void *data, size_t size)
{
    size_t sent = 0;
    int done;

    if (conn->stream != NULL) {
        return stream_send(conn->stream, data, size);
    }
    if (conn->tls == NULL) {
        return send(conn->fd, data, size, MSG_NOSIGNAL);
    }
    ERR_clear_error();
    errno = 0;
    done = SSL_write_ex(conn->tls, data, size, &sent);
    if (done == 1) {
        return (ssize_t)sent;
    }
    return tls_result(conn, done) == 0 ? (errno = EPIPE, -1) : -1;
}
