/* certificates.h: certificates for tests, made when they are needed: nothing of them is kept in
 * files, and nobody outside trusts them.
 *
 *     struct lab_authority *authority;
 *     struct lab_certificate certificate;
 *     struct lab_certificate_options options = { .alternative_names = "DNS:localhost" };
 *
 *     lab_authority_new("Lab CA", &authority, &err);
 *     lab_authority_issue(authority, &options, &certificate, &err);
 *     ... certificate.pem, certificate.key_pem; lab_authority_pem(authority) for who is to trust it
 *
 * Keys are P-256. Thread: one at a time for each authority. */
#ifndef LAB_CERTIFICATES_H
#define LAB_CERTIFICATES_H

#include <stdbool.h>
#include <stdint.h>

#include "interloop/error.h"

struct lab_authority;

/* PEM, each with a NUL behind it. */
struct lab_certificate {
    char *pem;
    char *key_pem;
};

/* Zero means the default everywhere. */
struct lab_certificate_options {
    const char *common_name;       /* "localhost" */
    const char *alternative_names; /* OpenSSL's words: "DNS:a.example,IP:127.0.0.1"; "none": none.
                                    * Default: "DNS:localhost,IP:127.0.0.1,IP:::1" */
    const char *usage;             /* extended key usage; "serverAuth" */
    int32_t begins_s;              /* valid from so many seconds from now; -3600 */
    int32_t ends_s;                /* and until; 86400 */
    bool is_self_signed;           /* by its own key */
};

/* Make a CA. Ends with lab_authority_free. IL_ENOMEM; IL_ESYS: OpenSSL could not. */
IL_MUST_USE enum il_code lab_authority_new(const char *name, struct lab_authority **ret_authority,
                                           struct il_error *err);
void lab_authority_free(struct lab_authority *authority); /* NULL is allowed */

/* Its certificate in PEM. Lives as long as it. */
const char *lab_authority_pem(const struct lab_authority *authority);

/* Make a certificate and its key. Ends with lab_certificate_deinit. */
IL_MUST_USE enum il_code lab_authority_issue(struct lab_authority *authority,
                                             const struct lab_certificate_options *options,
                                             struct lab_certificate *ret_certificate,
                                             struct il_error *err);
void lab_certificate_deinit(struct lab_certificate *certificate);

#endif
