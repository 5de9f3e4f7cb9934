/* tls_options.c: fuzz target for il_tls_new: PEM of any kind, and pins.
 *
 * The first byte of the input says as what the rest is given. What must hold: it is accepted, or
 * refused with a message that can be printed; the same input gets the same answer; and only an
 * input that was accepted makes an il_tls. */
#include <stdlib.h>
#include <string.h>

#include "interloop/tls.h"
#include "net/tls.h"
#include "tests/fuzz/fuzz.h"

enum { GIVEN_CA = 1, GIVEN_CERTIFICATE = 2, GIVEN_KEY = 4, GIVEN_PASSWORD = 8, GIVEN_PINS = 16 };

static enum il_code try(uint8_t given, const uint8_t *bytes, size_t size, const char *text,
                        uint8_t identity[static TLS_IDENTITY_SIZE])
{
    struct il_tls_options options = IL_TLS_OPTIONS_INIT;
    struct il_error err = { .code = IL_OK };
    struct il_tls *tls = NULL;
    enum il_code code;

    if ((given & GIVEN_CA) != 0) {
        options.ca_pem = bytes;
        options.ca_pem_size = size;
    }
    if ((given & GIVEN_CERTIFICATE) != 0) {
        options.certificate_pem = bytes;
        options.certificate_pem_size = size;
    }
    if ((given & GIVEN_KEY) != 0) {
        options.key_pem = bytes;
        options.key_pem_size = size;
    }
    options.key_password = (given & GIVEN_PASSWORD) != 0 ? "sesame" : NULL;
    options.pins = (given & GIVEN_PINS) != 0 ? text : NULL;
    code = il_tls_new(&options, &tls, &err);
    FUZZ_CHECK((code == IL_OK) == (tls != NULL));
    if (code == IL_OK) {
        memcpy(identity, tls_identity(tls), TLS_IDENTITY_SIZE);
        (void)il_tls_unref(tls);
    } else {
        FUZZ_CHECK(code == IL_EINVAL || code == IL_ENOMEM);
        FUZZ_CHECK(err.code == code && err.message[0] != '\0');
        for (const char *at = err.message; *at != '\0'; at++) {
            FUZZ_CHECK(*at >= ' ' && *at < 0x7f);
        }
    }
    return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t first[TLS_IDENTITY_SIZE], second[TLS_IDENTITY_SIZE];
    char *text;

    if (size < 1) {
        return 0;
    }
    text = malloc(size);
    FUZZ_CHECK(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (try(data[0], data + 1, size - 1, text, first) == IL_OK) {
        FUZZ_CHECK(try(data[0], data + 1, size - 1, text, second) == IL_OK);
        FUZZ_CHECK(memcmp(first, second, sizeof(first)) == 0);
    }
    free(text);
    return 0;
}
