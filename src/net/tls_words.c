/* tls_words.c: OpenSSL's names, errors and keys, as people and pins want them. No state. */
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>

#include "base/bytes.h"
#include "net/tls_inside.h"

const char *tls_name_text(const X509_NAME *name, char *text, size_t size)
{
    BIO *bio = BIO_new(BIO_s_mem());
    char *data = NULL;
    long length = 0;

    if (bio != NULL && name != NULL &&
        X509_NAME_print_ex(bio, name, 0,
                           XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB & ~XN_FLAG_SPC_EQ) >= 0) {
        length = BIO_get_mem_data(bio, &data);
    }
    if (length <= 0) {
        (void)snprintf(text, size, "no name");
    } else {
        (void)il_escape(text, size, data, (size_t)length);
    }
    BIO_free(bio);
    ERR_clear_error();
    return text;
}

const char *tls_verify_name(int result, char text[static 24])
{
    switch (result) {
#define NAME(code)                                                                                 \
    case code:                                                                                     \
        return #code;
        NAME(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT)
        NAME(X509_V_ERR_CERT_SIGNATURE_FAILURE)
        NAME(X509_V_ERR_CERT_NOT_YET_VALID)
        NAME(X509_V_ERR_CERT_HAS_EXPIRED)
        NAME(X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT)
        NAME(X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN)
        NAME(X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY)
        NAME(X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE)
        NAME(X509_V_ERR_CERT_CHAIN_TOO_LONG)
        NAME(X509_V_ERR_CERT_REVOKED)
        NAME(X509_V_ERR_INVALID_CA)
        NAME(X509_V_ERR_PATH_LENGTH_EXCEEDED)
        NAME(X509_V_ERR_INVALID_PURPOSE)
        NAME(X509_V_ERR_CERT_UNTRUSTED)
        NAME(X509_V_ERR_CERT_REJECTED)
        NAME(X509_V_ERR_KEYUSAGE_NO_CERTSIGN)
        NAME(X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION)
        NAME(X509_V_ERR_INVALID_EXTENSION)
        NAME(X509_V_ERR_PERMITTED_VIOLATION)
        NAME(X509_V_ERR_EXCLUDED_VIOLATION)
        NAME(X509_V_ERR_HOSTNAME_MISMATCH)
        NAME(X509_V_ERR_IP_ADDRESS_MISMATCH)
        NAME(X509_V_ERR_EE_KEY_TOO_SMALL)
        NAME(X509_V_ERR_CA_KEY_TOO_SMALL)
        NAME(X509_V_ERR_CA_MD_TOO_WEAK)
#undef NAME
    default:
        (void)snprintf(text, 24, "X509_V_ERR %d", result);
        return text;
    }
}

const char *tls_queue_text(char *text, size_t size)
{
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;

    if (reason != NULL) {
        (void)snprintf(text, size, "%s", reason);
    } else {
        (void)snprintf(text, size, "OpenSSL error %lx", code);
    }
    ERR_clear_error();
    return text;
}

bool tls_public_key_digest(const X509 *certificate, uint8_t digest[static TLS_SHA256_SIZE])
{
    unsigned char *der = NULL;
    int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &der);
    bool is_made = size > 0 && EVP_Digest(der, (size_t)size, digest, NULL, EVP_sha256(), NULL) == 1;

    OPENSSL_free(der);
    ERR_clear_error();
    return is_made;
}
