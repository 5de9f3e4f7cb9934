/* tls_settings.c: il_tls: from options to an SSL_CTX and an identity.
 *
 * All that tells one set of options from another goes into the identity, files with what is in
 * them. Owns: the SSL_CTX, with its CAs, certificate and key; the sessions to resume; the key log.
 * Threads: made by one; does not change after that, but for the sessions and the key log, which
 * have locks of their own. Ends: with the last reference. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/bytes.h"
#include "net/tls_inside.h"

#define PEM_FILE_SIZE_MAX (16 * 1024 * 1024)
#define CERTIFICATES_MAX  10000 /* in one file or block of memory */
#define CLIENT_CHAIN_MAX  16    /* intermediates sent with a client's certificate */
#define PIN_PREFIX        "sha256//"
#define PIN_BASE64_SIZE   44 /* of 32 bytes */

#define TEXT_SIZE 120

struct made {
    struct il_tls *tls;
    const struct il_tls_options *options;
    EVP_MD_CTX *identity;
    struct il_error *err;
};

/* ---- identity ---- */

/* Each part with its name and size in front, so that no two lists of parts look alike. */
static void identity_add(struct made *made, const char *name, const void *bytes, size_t size)
{
    uint64_t head = size;

    il_assert(EVP_DigestUpdate(made->identity, name, strlen(name) + 1) == 1);
    il_assert(EVP_DigestUpdate(made->identity, &head, sizeof(head)) == 1);
    il_assert(EVP_DigestUpdate(made->identity, bytes, size) == 1);
}

static void identity_add_text(struct made *made, const char *name, const char *text)
{
    if (text != NULL) {
        identity_add(made, name, text, strlen(text));
    }
}

static void identity_add_number(struct made *made, const char *name, uint64_t number)
{
    identity_add(made, name, &number, sizeof(number));
}

const uint8_t *tls_identity(const struct il_tls *tls)
{
    return tls->identity;
}

/* ---- files, and PEM ---- */

/* `what` names it in messages: "ca_file '/etc/x.pem'". */
static enum il_code pem_read_file(const struct made *made, const char *what, const char *path,
                                  struct il_bytes *bytes)
{
    BIO *file = BIO_new_file(path, "r");
    int sys_errno = errno, got;
    enum il_code code = IL_OK;

    if (file == NULL) {
        ERR_clear_error();
        return il_fail_errno(made->err, IL_ESYS, sys_errno, "cannot read %s", what);
    }
    do {
        code = il_bytes_reserve(bytes, 16384);
        got = code == IL_OK ? BIO_read(file, il_bytes_tail(bytes), 16384) : 0;
        il_bytes_added(bytes, got > 0 ? (size_t)got : 0);
    } while (got > 0 && il_bytes_size(bytes) <= PEM_FILE_SIZE_MAX);
    if (code != IL_OK) {
        code = il_fail(made->err, IL_ENOMEM, "no memory to read %s", what);
    } else if (got < 0) {
        code = il_fail_errno(made->err, IL_ESYS, errno, "cannot read %s", what);
    } else if (got > 0) {
        code = il_fail(made->err, IL_EINVAL, "%s is larger than %d bytes", what, PEM_FILE_SIZE_MAX);
    }
    BIO_free(file);
    ERR_clear_error();
    return code;
}

/* What PEM there is of one kind: a file's, or the caller's own bytes. */
struct pem {
    const char *what; /* "ca_file '/etc/x.pem'" */
    struct il_bytes file;
    const void *bytes;
    size_t size;
};

static void pem_free(struct pem *pem)
{
    if (il_bytes_size(&pem->file) > 0) {
        OPENSSL_cleanse((char *)il_bytes_data(&pem->file), il_bytes_size(&pem->file));
    }
    il_bytes_deinit(&pem->file);
}

/* `option` is what its two options have in common: "ca" of ca_file and ca_pem. `text` becomes the
 * name of what is given. Nothing given: no bytes. */
static enum il_code pem_get(const struct made *made, const char *option, const char *path,
                            const void *bytes, size_t size, struct pem *ret_pem,
                            char text[static TEXT_SIZE])
{
    enum il_code code = IL_OK;

    *ret_pem = (struct pem){ .what = text, .bytes = bytes, .size = size };
    il_bytes_init(&ret_pem->file);
    if (path == NULL) {
        (void)snprintf(text, TEXT_SIZE, "%s_pem", option);
        return IL_OK;
    }
    (void)snprintf(text, TEXT_SIZE, "%s_file '%.80s'", option, path);
    if (bytes != NULL) {
        return il_fail(made->err, IL_EINVAL, "%s and %s_pem are both given; which?", text, option);
    }
    code = pem_read_file(made, text, path, &ret_pem->file);
    if (code != IL_OK) {
        pem_free(ret_pem);
    } else {
        ret_pem->bytes = il_bytes_data(&ret_pem->file);
        ret_pem->size = il_bytes_size(&ret_pem->file);
    }
    return code;
}

/* The next certificate, or NULL at the end; `ret_is_end` false: what is there is none. */
static X509 *pem_next_certificate(BIO *bio, bool *ret_is_end)
{
    X509 *certificate = PEM_read_bio_X509_AUX(bio, NULL, NULL, NULL);
    unsigned long code = ERR_peek_last_error();

    *ret_is_end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return certificate;
}

static int pem_on_password(char *buffer, int size, int is_writing, void *arg)
{
    const char *password = arg;
    size_t length = password != NULL ? strlen(password) : 0;

    if (length == 0 || length > (size_t)size) {
        return -1; /* without this function OpenSSL would ask on the terminal */
    }
    memcpy(buffer, password, length);
    return (int)length;
}

static BIO *pem_bio(const struct pem *pem)
{
    return pem->size <= INT32_MAX ? BIO_new_mem_buf(pem->bytes, (int)pem->size) : NULL;
}

static enum il_code fail_openssl(const struct made *made, const char *what)
{
    char text[TEXT_SIZE];

    return il_fail(made->err, IL_EINVAL, "%s: %s", what, tls_queue_text(text, sizeof(text)));
}

/* ---- whom to trust ---- */

static enum il_code trust_pem(const struct made *made, const struct pem *pem)
{
    X509_STORE *store = SSL_CTX_get_cert_store(made->tls->context);
    BIO *bio = pem_bio(pem);
    enum il_code code = IL_OK;
    unsigned count = 0;
    bool is_end = false;

    if (bio == NULL) {
        return il_fail(made->err, IL_ENOMEM, "no memory for %s", pem->what);
    }
    while (code == IL_OK && !is_end) {
        X509 *certificate = pem_next_certificate(bio, &is_end);

        if (certificate == NULL && !is_end) {
            code = il_fail(made->err, IL_EINVAL, "certificate %u of %s is damaged", count + 1,
                           pem->what);
        } else if (certificate != NULL && ++count > CERTIFICATES_MAX) {
            code = il_fail(made->err, IL_EINVAL, "%s holds more than %d certificates", pem->what,
                           CERTIFICATES_MAX);
        } else if (certificate != NULL && X509_STORE_add_cert(store, certificate) != 1) {
            code = fail_openssl(made, pem->what);
        } else if (certificate != NULL) {
            /* Has OpenSSL work out what it keeps with a certificate, before threads share it: else
             * the first handshakes do, side by side. Whether it is fit for anything is seen there.
             */
            (void)X509_check_purpose(certificate, -1, 0);
        }
        X509_free(certificate);
    }
    BIO_free(bio);
    if (code == IL_OK && count == 0) {
        code = il_fail(made->err, IL_EINVAL, "%s holds no certificate in PEM", pem->what);
    }
    return code;
}

static enum il_code trust_directory(struct made *made, const char *path)
{
    char what[TEXT_SIZE];
    struct stat status;

    (void)snprintf(what, sizeof(what), "ca_directory '%.80s'", path);
    if (stat(path, &status) != 0) {
        return il_fail(made->err, IL_ESYS, "cannot read %s", what);
    }
    if (!S_ISDIR(status.st_mode)) {
        return il_fail(made->err, IL_EINVAL, "%s is not a directory", what);
    }
    if (X509_STORE_load_path(SSL_CTX_get_cert_store(made->tls->context), path) != 1) {
        return fail_openssl(made, what);
    }
    return IL_OK;
}

/* The system's CAs are a directory, named by hash, of which OpenSSL reads what it needs, and a file
 * that holds all of them. To read that takes up to 100 ms, so it is done when a CA that is wanted
 * is not in the directory: with Debian's CAs, when it is in neither. */
static void system_file_read(struct il_tls *tls)
{
    const char *path = secure_getenv(X509_get_default_cert_file_env());
    struct il_error ignored; /* there may be none */
    struct made made = { .tls = tls, .err = &ignored };
    struct pem pem = { .what = "the system's CA file" };

    il_bytes_init(&pem.file);
    if (pem_read_file(&made, pem.what, path != NULL ? path : X509_get_default_cert_file(),
                      &pem.file) == IL_OK) {
        pem.bytes = il_bytes_data(&pem.file);
        pem.size = il_bytes_size(&pem.file);
        (void)trust_pem(&made, &pem); /* what can be read of it is trusted */
    }
    pem_free(&pem);
}

static int system_file_on_lookup(X509_LOOKUP *lookup, X509_LOOKUP_TYPE type, const X509_NAME *name,
                                 X509_OBJECT *ret_found)
{
    struct il_tls *tls = X509_LOOKUP_get_method_data(lookup);
    X509_STORE *store = X509_LOOKUP_get_store(lookup);
    X509_OBJECT *found;
    X509 *certificate = NULL;

    if (type != X509_LU_X509) {
        return 0;
    }
    sys_mutex_lock(&tls->system_file_mutex);
    if (!tls->is_system_file_read) {
        tls->is_system_file_read = true;
        system_file_read(tls);
    }
    sys_mutex_unlock(&tls->system_file_mutex);
    (void)X509_STORE_lock(store);
    found = X509_OBJECT_retrieve_by_subject(X509_STORE_get0_objects(store), type, name);
    if (found != NULL) {
        certificate = X509_OBJECT_get0_X509(found);
        if (X509_OBJECT_set1_X509(ret_found, certificate) == 1) {
            X509_free(certificate); /* a lookup lends what it found: the store keeps its own */
        } else {
            certificate = NULL;
        }
    }
    (void)X509_STORE_unlock(store);
    return certificate != NULL;
}

/* One for the process, as the BIO method of tls_stream.c. */
static X509_LOOKUP_METHOD *system_file_method(void)
{
    static _Atomic(X509_LOOKUP_METHOD *) made;
    X509_LOOKUP_METHOD *method = atomic_load_explicit(&made, memory_order_acquire);
    X509_LOOKUP_METHOD *none = NULL;

    if (method != NULL) {
        return method;
    }
    method = X509_LOOKUP_meth_new("the system's CA file");
    if (method == NULL) {
        return NULL;
    }
    il_assert(X509_LOOKUP_meth_set_get_by_subject(method, system_file_on_lookup) == 1);
    if (!atomic_compare_exchange_strong(&made, &none, method)) {
        X509_LOOKUP_meth_free(method);
        method = none;
    }
    return method;
}

static enum il_code trust_system(struct made *made)
{
    X509_STORE *store = SSL_CTX_get_cert_store(made->tls->context);
    X509_LOOKUP_METHOD *method = system_file_method();
    X509_LOOKUP *lookup = NULL;

    identity_add_text(made, "system", "");
    identity_add_text(made, "system_file", secure_getenv(X509_get_default_cert_file_env()));
    identity_add_text(made, "system_directory", secure_getenv(X509_get_default_cert_dir_env()));
    if (SSL_CTX_set_default_verify_dir(made->tls->context) == 1 && method != NULL) {
        lookup = X509_STORE_add_lookup(store, method);
    }
    if (lookup == NULL || X509_LOOKUP_set_method_data(lookup, made->tls) != 1) {
        return fail_openssl(made, "the system's CAs");
    }
    ERR_clear_error(); /* what is not there is no error */
    return IL_OK;
}

static enum il_code trust_given(struct made *made, const char *path, const void *bytes, size_t size)
{
    char text[TEXT_SIZE];
    struct pem pem;
    enum il_code code = pem_get(made, "ca", path, bytes, size, &pem, text);

    if (code != IL_OK || pem.bytes == NULL) {
        return code;
    }
    identity_add(made, "ca", pem.bytes, pem.size);
    code = trust_pem(made, &pem);
    pem_free(&pem);
    return code;
}

static int trust_on_verify(int is_ok, X509_STORE_CTX *context)
{
    if (!is_ok) {
        SSL *ssl = X509_STORE_CTX_get_ex_data(context, SSL_get_ex_data_X509_STORE_CTX_idx());

        tls_stream_note_bad_certificate(tls_stream_of(ssl), context);
    }
    return is_ok;
}

static enum il_code make_trust(struct made *made)
{
    const struct il_tls_options *options = made->options;
    bool has_own =
        options->ca_file != NULL || options->ca_directory != NULL || options->ca_pem != NULL;
    X509_VERIFY_PARAM *param = SSL_CTX_get0_param(made->tls->context);
    enum il_code code = IL_OK;

    identity_add_number(made, "is_verifying", made->tls->is_verifying);
    SSL_CTX_set_verify(made->tls->context,
                       made->tls->is_verifying ? SSL_VERIFY_PEER : SSL_VERIFY_NONE,
                       made->tls->is_verifying ? trust_on_verify : NULL);
    X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT |
                                               X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (has_own) { /* who names a certificate trusts it, though it be signed by another */
        (void)X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
    }
    if (options->ca_file != NULL) {
        code = trust_given(made, options->ca_file, NULL, 0);
    }
    if (code == IL_OK && options->ca_pem != NULL) {
        code = trust_given(made, NULL, options->ca_pem, options->ca_pem_size);
    }
    if (code == IL_OK && options->ca_directory != NULL) {
        identity_add_text(made, "ca_directory", options->ca_directory);
        code = trust_directory(made, options->ca_directory);
    }
    if (code == IL_OK && made->tls->is_verifying && (!has_own || options->and_system_ca)) {
        code = trust_system(made); /* else OpenSSL would look for the issuer there all the same */
    }
    return code;
}

/* ---- pins ---- */

static enum il_code pin_add(struct made *made, const char *pin, size_t size)
{
    const size_t prefix_size = strlen(PIN_PREFIX);
    unsigned char decoded[PIN_BASE64_SIZE / 4 * 3];
    char text[TEXT_SIZE];
    struct il_tls *tls = made->tls;

    if (tls->pin_count == TLS_PINS_MAX) {
        return il_fail(made->err, IL_EINVAL, "pins: more than %d of them", TLS_PINS_MAX);
    }
    if (size != prefix_size + PIN_BASE64_SIZE || memcmp(pin, PIN_PREFIX, prefix_size) != 0 ||
        pin[size - 1] != '=' || pin[size - 2] == '=' ||
        EVP_DecodeBlock(decoded, (const unsigned char *)pin + prefix_size, PIN_BASE64_SIZE) !=
            (int)sizeof(decoded)) {
        ERR_clear_error();
        return il_fail(made->err, IL_EINVAL,
                       "pins: '%s' is not " PIN_PREFIX
                       " and the base64 of a SHA-256 (%d characters)",
                       il_escape(text, sizeof(text), pin, size), PIN_BASE64_SIZE);
    }
    memcpy(tls->pins[tls->pin_count++], decoded, TLS_SHA256_SIZE);
    return IL_OK;
}

static enum il_code make_pins(struct made *made)
{
    const char *at = made->options->pins;
    enum il_code code = IL_OK;

    identity_add_text(made, "pins", at);
    while (code == IL_OK && at != NULL) {
        size_t size = strcspn(at, ";");

        code = pin_add(made, at, size);
        at = at[size] == ';' ? at + size + 1 : NULL;
    }
    return code;
}

/* ---- who we are ---- */

static enum il_code present_certificate(const struct made *made, const struct pem *pem)
{
    SSL_CTX *context = made->tls->context;
    BIO *bio = pem_bio(pem);
    enum il_code code = IL_OK;
    unsigned count = 0;
    bool is_end = false;

    if (bio == NULL) {
        return il_fail(made->err, IL_ENOMEM, "no memory for %s", pem->what);
    }
    while (code == IL_OK && !is_end) {
        X509 *certificate = pem_next_certificate(bio, &is_end);

        if (certificate == NULL && !is_end) {
            code = il_fail(made->err, IL_EINVAL, "certificate %u of %s is damaged", count + 1,
                           pem->what);
        } else if (certificate != NULL && ++count > CLIENT_CHAIN_MAX + 1) {
            code = il_fail(made->err, IL_EINVAL, "%s holds more than %d intermediates", pem->what,
                           CLIENT_CHAIN_MAX);
        } else if (certificate != NULL &&
                   (count == 1 ? SSL_CTX_use_certificate(context, certificate)
                               : (int)SSL_CTX_add1_chain_cert(context, certificate)) != 1) {
            code = fail_openssl(made, pem->what);
        }
        X509_free(certificate);
    }
    BIO_free(bio);
    if (code == IL_OK && count == 0) {
        code = il_fail(made->err, IL_EINVAL, "%s holds no certificate in PEM", pem->what);
    }
    return code;
}

static enum il_code present_key(const struct made *made, const struct pem *pem)
{
    BIO *bio = pem_bio(pem);
    EVP_PKEY *key = NULL;
    enum il_code code = IL_OK;

    if (bio != NULL) {
        key = PEM_read_bio_PrivateKey(bio, NULL, pem_on_password,
                                      (void *)made->options->key_password);
    }
    BIO_free(bio);
    if (key == NULL) {
        code = il_fail(made->err, IL_EINVAL, "%s holds no private key in PEM%s", pem->what,
                       made->options->key_password == NULL
                           ? ", or one that wants a password (key_password)"
                           : ", or the password is wrong (key_password)");
    } else if (SSL_CTX_use_PrivateKey(made->tls->context, key) != 1 ||
               SSL_CTX_check_private_key(made->tls->context) != 1) {
        code = il_fail(made->err, IL_EINVAL, "the key of %s does not belong to the certificate",
                       pem->what);
    }
    EVP_PKEY_free(key);
    ERR_clear_error();
    return code;
}

static enum il_code make_certificate(struct made *made)
{
    const struct il_tls_options *options = made->options;
    char certificate_text[TEXT_SIZE], key_text[TEXT_SIZE];
    struct pem certificate, key;
    enum il_code code =
        pem_get(made, "certificate", options->certificate_file, options->certificate_pem,
                options->certificate_pem_size, &certificate, certificate_text);

    if (code != IL_OK) {
        return code;
    }
    code = pem_get(made, "key", options->key_file, options->key_pem, options->key_pem_size, &key,
                   key_text);
    if (code == IL_OK && certificate.bytes != NULL) {
        const struct pem *key_pem = key.bytes != NULL ? &key : &certificate;

        identity_add(made, "certificate", certificate.bytes, certificate.size);
        identity_add(made, "key", key_pem->bytes, key_pem->size);
        identity_add_text(made, "key_password", options->key_password);
        code = present_certificate(made, &certificate);
        code = code == IL_OK ? present_key(made, key_pem) : code;
    } else if (code == IL_OK && key.bytes != NULL) {
        code = il_fail(made->err, IL_EINVAL, "%s without certificate_file or certificate_pem",
                       key_text);
    }
    pem_free(&key);
    pem_free(&certificate);
    return code;
}

/* ---- the rest ---- */

static int version_number(enum il_tls_version version)
{
    return version == IL_TLS_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION;
}

/* The versions to be spoken: those that were asked for; else ours, as far as OpenSSL's own
 * configuration, which is the administrator's word, allows them. */
static void find_versions(const struct made *made, int *ret_min, int *ret_max)
{
    const struct il_tls_options *options = made->options;
    int system_min = (int)SSL_CTX_get_min_proto_version(made->tls->context); /* 0: says nothing */
    int system_max = (int)SSL_CTX_get_max_proto_version(made->tls->context);
    int min = system_min == TLS1_3_VERSION ? TLS1_3_VERSION : TLS1_2_VERSION;
    int max = system_max == TLS1_2_VERSION ? TLS1_2_VERSION : TLS1_3_VERSION;

    if (options->version_min != IL_TLS_DEFAULT) {
        min = version_number(options->version_min);
        max = options->version_max == IL_TLS_DEFAULT && max < min ? min : max;
    }
    if (options->version_max != IL_TLS_DEFAULT) {
        max = version_number(options->version_max);
        min = options->version_min == IL_TLS_DEFAULT && max < min ? max : min;
    }
    *ret_min = min;
    *ret_max = max;
}

static bool is_version(enum il_tls_version version)
{
    return version == IL_TLS_DEFAULT || version == IL_TLS_1_2 || version == IL_TLS_1_3;
}

static enum il_code make_versions(struct made *made)
{
    const struct il_tls_options *options = made->options;
    int min, max;

    find_versions(made, &min, &max);
    if (!is_version(options->version_min) || !is_version(options->version_max) || min > max) {
        return il_fail(made->err, IL_EINVAL,
                       "version_min %d and version_max %d: want IL_TLS_1_2 or IL_TLS_1_3, the "
                       "lower one first",
                       (int)options->version_min, (int)options->version_max);
    }
    identity_add_number(made, "version_min", (uint64_t)min);
    identity_add_number(made, "version_max", (uint64_t)max);
    if (SSL_CTX_set_min_proto_version(made->tls->context, min) != 1 ||
        SSL_CTX_set_max_proto_version(made->tls->context, max) != 1) {
        return fail_openssl(made, "version_min and version_max");
    }
    return IL_OK;
}

static void key_log_on_line(const SSL *ssl, const char *line)
{
    struct il_tls *tls = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));

    sys_mutex_lock(&tls->key_log_mutex);
    (void)BIO_printf(tls->key_log, "%s\n", line); /* a log that cannot be written stops nothing */
    (void)BIO_flush(tls->key_log);
    sys_mutex_unlock(&tls->key_log_mutex);
}

static enum il_code make_key_log(struct made *made)
{
    const char *path = made->options->key_log_file;
    int sys_errno;

    identity_add_text(made, "key_log_file", path);
    if (path == NULL) {
        return IL_OK;
    }
    made->tls->key_log = BIO_new_file(path, "a");
    sys_errno = errno;
    if (made->tls->key_log == NULL) {
        ERR_clear_error();
        return il_fail_errno(made->err, IL_ESYS, sys_errno, "cannot write key_log_file '%.100s'",
                             path);
    }
    SSL_CTX_set_keylog_callback(made->tls->context, key_log_on_line);
    return IL_OK;
}

static int session_on_new(SSL *ssl, SSL_SESSION *session)
{
    tls_stream_take_session(tls_stream_of(ssl), session);
    return 1; /* the reference is ours */
}

static enum il_code make_all(struct made *made)
{
    struct il_tls *tls = made->tls;
    enum il_code code;

    SSL_CTX_set_app_data(tls->context, tls);
    SSL_CTX_set_mode(tls->context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                       SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                       SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(tls->context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    /* Whatever OpenSSL's configuration says: a stream that was cut has not ended. */
    SSL_CTX_clear_options(tls->context, SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_read_ahead(tls->context, 1); /* one receive for a record, not two */
    SSL_CTX_set_session_cache_mode(tls->context,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    tls->is_resuming = !made->options->no_resumption;
    identity_add_number(made, "is_resuming", tls->is_resuming);
    if (tls->is_resuming) {
        SSL_CTX_sess_set_new_cb(tls->context, session_on_new);
    }
    code = make_versions(made);
    code = code == IL_OK ? make_trust(made) : code;
    code = code == IL_OK ? make_pins(made) : code;
    code = code == IL_OK ? make_certificate(made) : code;
    code = code == IL_OK ? make_key_log(made) : code;
    return code;
}

/* ---- life ---- */

static void tls_free(struct il_tls *tls)
{
    tls_sessions_deinit(&tls->sessions);
    SSL_CTX_free(tls->context);
    BIO_free(tls->key_log);
    sys_mutex_deinit(&tls->key_log_mutex);
    sys_mutex_deinit(&tls->system_file_mutex);
    il_free(tls);
}

enum il_code il_tls_new(const struct il_tls_options *given, struct il_tls **ret_tls,
                        struct il_error *err)
{
    static const struct il_tls_options defaults = IL_TLS_OPTIONS_INIT;
    struct made made = { .options = given != NULL ? given : &defaults, .err = err };
    enum il_code code;

    if (ret_tls == NULL || made.options->size != sizeof(defaults)) {
        return il_fail(err, IL_EINVAL,
                       "il_tls_new: ret_tls is NULL, or the options want their size "
                       "(IL_TLS_OPTIONS_INIT sets it)");
    }
    ERR_clear_error();
    made.tls = il_calloc(1, sizeof(*made.tls));
    if (made.tls == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for TLS settings");
    }
    atomic_init(&made.tls->ref_count, 1);
    tls_sessions_init(&made.tls->sessions);
    sys_mutex_init(&made.tls->key_log_mutex);
    sys_mutex_init(&made.tls->system_file_mutex);
    made.tls->is_verifying = !made.options->insecure_no_verification;
    made.tls->context = SSL_CTX_new(TLS_client_method());
    made.identity = EVP_MD_CTX_new();
    if (made.tls->context == NULL || made.identity == NULL ||
        EVP_DigestInit_ex(made.identity, EVP_sha256(), NULL) != 1) {
        code = fail_openssl(&made, "OpenSSL cannot begin");
    } else {
        code = make_all(&made);
    }
    if (code == IL_OK) {
        il_assert(EVP_DigestFinal_ex(made.identity, made.tls->identity, NULL) == 1);
        *ret_tls = made.tls;
    } else {
        tls_free(made.tls);
    }
    EVP_MD_CTX_free(made.identity);
    return code;
}

struct il_tls *il_tls_ref(struct il_tls *tls)
{
    atomic_fetch_add_explicit(&tls->ref_count, 1, memory_order_relaxed);
    return tls;
}

struct il_tls *il_tls_unref(struct il_tls *tls)
{
    uint32_t before;

    if (tls == NULL) {
        return NULL;
    }
    before = atomic_fetch_sub_explicit(&tls->ref_count, 1, memory_order_acq_rel);
    il_assert(before > 0);
    if (before == 1) {
        tls_free(tls);
    }
    return NULL;
}
