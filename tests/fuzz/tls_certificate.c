/* tls_certificate.c: fuzz target for what is read from a server's certificate for people and pins.
 *
 * The first byte of the input chooses the size of the texts, the second the check that is said to
 * have failed; the rest is a certificate in DER. What must hold: each text ends within its room and
 * holds nothing that could command a terminal. */
#include <openssl/x509.h>
#include <string.h>

#include "net/tls_inside.h"
#include "tests/fuzz/fuzz.h"

enum { TEXT_SIZE_MAX = 300 };

static void check_text(const char *text, size_t size)
{
    size_t length = strnlen(text, size);

    FUZZ_CHECK(length < size);
    for (size_t i = 0; i < length; i++) {
        FUZZ_CHECK(text[i] >= ' ' && text[i] < 0x7f);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const unsigned char *der = data + 2;
    size_t text_size = size > 0 ? 24 + data[0] : 0;
    uint8_t digest[TLS_SHA256_SIZE];
    X509 *certificate;
    char *text;

    if (size < 2 || size - 2 > INT32_MAX) {
        return 0;
    }
    certificate = d2i_X509(NULL, &der, (long)(size - 2));
    text = malloc(text_size); /* of that size, so that a write behind it is seen */
    FUZZ_CHECK(text != NULL && text_size < TEXT_SIZE_MAX);
    check_text(tls_verify_text(data[1], certificate, text, text_size), text_size);
    if (certificate != NULL) {
        check_text(tls_certificate_names(certificate, text, text_size), text_size);
        check_text(tls_name_text(X509_get_subject_name(certificate), text, text_size), text_size);
        check_text(tls_name_text(X509_get_issuer_name(certificate), text, text_size), text_size);
        check_text(tls_time_text(X509_get0_notAfter(certificate), text, text_size), text_size);
        (void)tls_public_key_digest(certificate, digest); /* there may be none that can be read */
    }
    check_text(tls_queue_text(text, text_size), text_size);
    free(text);
    X509_free(certificate);
    return 0;
}
