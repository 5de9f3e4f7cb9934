/* tls_words.c: OpenSSL's names, errors and keys, as people and pins want them. No state. */
#include <arpa/inet.h>
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

static void general_name_text(const GENERAL_NAME *name, char *text, size_t size)
{
    const unsigned char *bytes;
    int length;

    text[0] = '\0';
    if (name->type == GEN_DNS) {
        (void)il_escape(text, size, ASN1_STRING_get0_data(name->d.dNSName),
                        (size_t)ASN1_STRING_length(name->d.dNSName));
    } else if (name->type == GEN_IPADD) {
        bytes = ASN1_STRING_get0_data(name->d.iPAddress);
        length = ASN1_STRING_length(name->d.iPAddress);
        if (length == 4 || length == 16) {
            (void)inet_ntop(length == 4 ? AF_INET : AF_INET6, bytes, text, (socklen_t)size);
        }
    }
}

const char *tls_certificate_names(const X509 *certificate, char *text, size_t size)
{
    GENERAL_NAMES *names = X509_get_ext_d2i(certificate, NID_subject_alt_name, NULL, NULL);
    size_t used = 0;

    (void)snprintf(text, size, "no host: there is no subject alternative name");
    for (int i = 0; i < sk_GENERAL_NAME_num(names) && used + 4 < size; i++) {
        char one[TLS_NAME_SIZE];

        general_name_text(sk_GENERAL_NAME_value(names, i), one, sizeof(one));
        if (one[0] != '\0') {
            used += (size_t)snprintf(text + used, size - used, "%s%s", used > 0 ? ", " : "", one);
        }
    }
    GENERAL_NAMES_free(names);
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

const char *tls_time_text(const ASN1_TIME *time, char *text, size_t size)
{
    struct tm tm;

    if (time == NULL || ASN1_TIME_to_tm(time, &tm) != 1 ||
        strftime(text, size, "%Y-%m-%d %H:%M:%SZ", &tm) == 0) {
        (void)snprintf(text, size, "?");
    }
    ERR_clear_error();
    return text;
}

/* "it is not valid before 2027-01-31 12:00:00Z" */
static void put_with_time(char *text, size_t size, const char *what, const ASN1_TIME *time)
{
    char when[32];

    (void)snprintf(text, size, "%s %s", what, tls_time_text(time, when, sizeof(when)));
}

static void put_key_size(char *text, size_t size, const X509 *certificate)
{
    EVP_PKEY *key = certificate != NULL ? X509_get0_pubkey(certificate) : NULL;

    (void)snprintf(text, size, "its key of %d bits is too weak for the security level",
                   key != NULL ? EVP_PKEY_get_bits(key) : 0);
}

static void put_digest(char *text, size_t size, const X509 *certificate)
{
    int algorithm = certificate != NULL ? X509_get_signature_nid(certificate) : NID_undef;

    (void)snprintf(text, size, "it is signed with a digest that is too weak (%s)",
                   OBJ_nid2ln(algorithm));
}

const char *tls_verify_text(int result, const X509 *certificate, char *text, size_t size)
{
    const char *plain = NULL;

    switch (result) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
        put_with_time(text, size, "it expired on",
                      certificate != NULL ? X509_get0_notAfter(certificate) : NULL);
        break;
    case X509_V_ERR_CERT_NOT_YET_VALID:
        put_with_time(text, size, "it is not valid before",
                      certificate != NULL ? X509_get0_notBefore(certificate) : NULL);
        break;
    case X509_V_ERR_EE_KEY_TOO_SMALL:
    case X509_V_ERR_CA_KEY_TOO_SMALL:
        put_key_size(text, size, certificate);
        break;
    case X509_V_ERR_CA_MD_TOO_WEAK:
        put_digest(text, size, certificate);
        break;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
        plain = "its issuer is not trusted, nor vouched for by what the server sent";
        break;
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        plain = "it is self-signed and not itself trusted";
        break;
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        plain = "the server's chain ends here, at a CA that is not trusted";
        break;
    case X509_V_ERR_INVALID_PURPOSE:
        plain = "it is not meant for servers (key usage)";
        break;
    case X509_V_ERR_INVALID_CA:
        plain = "it signed another one, but is not a CA's";
        break;
    case X509_V_ERR_PERMITTED_VIOLATION:
    case X509_V_ERR_EXCLUDED_VIOLATION:
        plain = "its names are not those that its CA may vouch for (name constraints)";
        break;
    default:
        plain = X509_verify_cert_error_string(result);
        break;
    }
    if (plain != NULL) {
        (void)snprintf(text, size, "%s", plain);
    }
    ERR_clear_error();
    return text;
}

/* What an alert of the server's means, or our own of its answer; NULL: its name says it. */
static const char *alert_meaning(unsigned long code)
{
    if (ERR_GET_LIB(code) != ERR_LIB_SSL) {
        return NULL;
    }
    switch (ERR_GET_REASON(code)) {
    case SSL_R_TLSV1_ALERT_PROTOCOL_VERSION:
        return "the server speaks none of the TLS versions offered";
    case SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE:
        return "the server and we have no cipher in common, or it wants a certificate of ours";
    case SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL:
        return "the server speaks none of the protocols offered (ALPN)";
    case SSL_R_WRONG_VERSION_NUMBER:
        return "what came is no TLS; does the server speak TLS there?";
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
        return "the server wants a certificate of ours";
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_TLSV1_ALERT_ACCESS_DENIED:
        return "the server does not accept our certificate";
    case SSL_R_TLSV1_UNRECOGNIZED_NAME:
        return "the server does not know the host";
    default:
        return NULL;
    }
}

/* OpenSSL has one reason for whatever it does not like in an extension; where it was found tells of
 * which one. */
static bool queue_is_bad_choice(void)
{
    const char *function = NULL;
    unsigned long code = ERR_peek_error_all(NULL, NULL, &function, NULL, NULL);

    return ERR_GET_LIB(code) == ERR_LIB_SSL && ERR_GET_REASON(code) == SSL_R_BAD_EXTENSION &&
           function != NULL && strcmp(function, "tls_parse_stoc_alpn") == 0;
}

bool tls_queue_is_about_protocol(void)
{
    unsigned long code = ERR_peek_error();

    return queue_is_bad_choice() ||
           (ERR_GET_LIB(code) == ERR_LIB_SSL &&
            ERR_GET_REASON(code) == SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
}

const char *tls_queue_text(char *text, size_t size)
{
    bool is_bad_choice = queue_is_bad_choice();
    unsigned long code = ERR_get_error();
    const char *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    const char *meaning = is_bad_choice ? "the server chose a protocol that was not offered (ALPN)"
                                        : alert_meaning(code);

    if (reason != NULL && meaning != NULL) {
        (void)snprintf(text, size, "%s (%s)", meaning, reason);
    } else if (reason != NULL) {
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
