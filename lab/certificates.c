/* certificates.c: certificates for tests. What is made stands in certificates.h.
 *
 * Owns: an authority's key and certificate. Threads: one at a time for each authority.
 * Ends: lab_authority_free; what was issued does not need it any more. */
#include "lab/certificates.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/base.h"

#define SECONDS_PER_DAY 86400

struct lab_authority {
    EVP_PKEY *key;
    X509 *certificate;
    char *pem;
};

static enum il_code fail_openssl(struct il_error *err, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return il_fail_errno(err, IL_ESYS, 0, "cannot make %s: %s", what,
                         reason != NULL ? reason : "OpenSSL does not say why");
}

/* What was written into `bio`, which is freed. NULL: nothing, or out of memory. */
static char *take_text(BIO *bio)
{
    char *data = NULL, *text = NULL;
    long size = BIO_get_mem_data(bio, &data);

    if (size > 0) {
        text = il_strndup(data, (size_t)size);
    }
    BIO_free(bio);
    return text;
}

static char *certificate_pem(X509 *certificate)
{
    BIO *bio = BIO_new(BIO_s_mem());

    if (bio != NULL && PEM_write_bio_X509(bio, certificate) != 1) {
        BIO_free(bio);
        return NULL;
    }
    return bio != NULL ? take_text(bio) : NULL;
}

static char *key_pem(EVP_PKEY *key)
{
    BIO *bio = BIO_new(BIO_s_mem());

    if (bio != NULL && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1) {
        BIO_free(bio);
        return NULL;
    }
    return bio != NULL ? take_text(bio) : NULL;
}

/* ---- one certificate ---- */

static bool add_extension(X509 *certificate, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;
    bool is_added;

    X509V3_set_ctx(&context, issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    is_added = extension != NULL && X509_add_ext(certificate, extension, -1) == 1;
    X509_EXTENSION_free(extension);
    return is_added;
}

static bool set_serial(X509 *certificate)
{
    BIGNUM *number = BN_new();
    bool is_set = number != NULL &&
                  BN_rand(number, 127, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
                  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != NULL;

    BN_free(number);
    return is_set;
}

/* All but extensions and signature. */
static bool set_basics(X509 *certificate, EVP_PKEY *key, const char *name, X509 *issuer,
                       int32_t begins_s, int32_t ends_s)
{
    X509_NAME *subject = X509_get_subject_name(certificate);

    return X509_set_version(certificate, X509_VERSION_3) == 1 && set_serial(certificate) &&
           X509_gmtime_adj(X509_getm_notBefore(certificate), begins_s) != NULL &&
           X509_gmtime_adj(X509_getm_notAfter(certificate), ends_s) != NULL &&
           X509_set_pubkey(certificate, key) == 1 &&
           X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, (const unsigned char *)name, -1,
                                      -1, 0) == 1 &&
           X509_set_issuer_name(certificate,
                                issuer != NULL ? X509_get_subject_name(issuer) : subject) == 1;
}

static bool make_leaf(struct lab_authority *authority,
                      const struct lab_certificate_options *options, X509 *certificate,
                      EVP_PKEY *key)
{
    X509 *issuer = options->is_self_signed ? certificate : authority->certificate;
    const char *names = options->alternative_names != NULL ? options->alternative_names
                                                           : "DNS:localhost,IP:127.0.0.1,IP:::1";
    int32_t begins_s = options->begins_s != 0 ? options->begins_s : -3600;
    int32_t ends_s = options->ends_s != 0 ? options->ends_s : SECONDS_PER_DAY;

    return set_basics(certificate, key,
                      options->common_name != NULL ? options->common_name : "localhost",
                      options->is_self_signed ? NULL : issuer, begins_s, ends_s) &&
           add_extension(certificate, issuer, NID_basic_constraints, "critical,CA:FALSE") &&
           add_extension(certificate, issuer, NID_key_usage, "critical,digitalSignature") &&
           add_extension(certificate, issuer, NID_subject_key_identifier, "hash") &&
           add_extension(certificate, issuer, NID_authority_key_identifier, "keyid") &&
           add_extension(certificate, issuer, NID_ext_key_usage,
                         options->usage != NULL ? options->usage : "serverAuth") &&
           (strcmp(names, "none") == 0 ||
            add_extension(certificate, issuer, NID_subject_alt_name, names)) &&
           X509_sign(certificate, options->is_self_signed ? key : authority->key, EVP_sha256()) > 0;
}

enum il_code lab_authority_issue(struct lab_authority *authority,
                                 const struct lab_certificate_options *options,
                                 struct lab_certificate *ret_certificate, struct il_error *err)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    enum il_code code = IL_OK;

    ERR_clear_error();
    *ret_certificate = (struct lab_certificate){ 0 };
    if (key == NULL || certificate == NULL || !make_leaf(authority, options, certificate, key)) {
        code = fail_openssl(err, "a certificate");
    } else {
        ret_certificate->pem = certificate_pem(certificate);
        ret_certificate->key_pem = key_pem(key);
        if (ret_certificate->pem == NULL || ret_certificate->key_pem == NULL) {
            lab_certificate_deinit(ret_certificate);
            code = il_fail(err, IL_ENOMEM, "no memory for a certificate");
        }
    }
    X509_free(certificate);
    EVP_PKEY_free(key);
    return code;
}

void lab_certificate_deinit(struct lab_certificate *certificate)
{
    il_free(certificate->pem);
    il_free(certificate->key_pem);
    *certificate = (struct lab_certificate){ 0 };
}

/* ---- authorities ---- */

enum il_code lab_authority_new(const char *name, struct lab_authority **ret_authority,
                               struct il_error *err)
{
    struct lab_authority *authority = il_calloc(1, sizeof(*authority));
    X509 *certificate;
    bool is_made;

    if (authority == NULL) {
        return il_fail(err, IL_ENOMEM, "no memory for a CA");
    }
    ERR_clear_error();
    authority->key = EVP_EC_gen("P-256");
    certificate = authority->certificate = X509_new();
    is_made =
        authority->key != NULL && certificate != NULL &&
        set_basics(certificate, authority->key, name, NULL, -SECONDS_PER_DAY, SECONDS_PER_DAY) &&
        add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE") &&
        add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign") &&
        add_extension(certificate, certificate, NID_subject_key_identifier, "hash") &&
        X509_sign(certificate, authority->key, EVP_sha256()) > 0 &&
        (authority->pem = certificate_pem(certificate)) != NULL;
    if (!is_made) {
        lab_authority_free(authority);
        return fail_openssl(err, "a CA");
    }
    *ret_authority = authority;
    return IL_OK;
}

void lab_authority_free(struct lab_authority *authority)
{
    if (authority == NULL) {
        return;
    }
    X509_free(authority->certificate);
    EVP_PKEY_free(authority->key);
    il_free(authority->pem);
    il_free(authority);
}

const char *lab_authority_pem(const struct lab_authority *authority)
{
    return authority->pem;
}
