/* tls.h: TLS settings, and what is known of a TLS connection.
 *
 * https needs no settings: the server's certificate is checked against the system's CAs and the
 * host of the URL, by its subject alternative names only, and TLS 1.2 or 1.3 is spoken. Who wants
 * it otherwise makes an il_tls and gives it to a client (il_client_options.tls) or to single
 * requests (il_request_set_tls). An il_tls does not change after it was made; any number of clients
 * and threads may share one. Connections made under one are used by requests with the same settings
 * only, and its TLS sessions are resumed by nobody else. */
#ifndef INTERLOOP_TLS_H
#define INTERLOOP_TLS_H

#include <stdbool.h>

#include "interloop/error.h"

#ifdef __cplusplus
extern "C" {
#endif

struct il_tls;

enum il_tls_version {
    IL_TLS_DEFAULT = 0,
    IL_TLS_1_2 = 12,
    IL_TLS_1_3 = 13,
};

/* Files are read, and strings and bytes copied, by il_tls_new; nothing is kept of the options. PEM
 * in memory needs no NUL at its end. */
struct il_tls_options {
    size_t size; /* set by IL_TLS_OPTIONS_INIT; lets later versions add fields */

    /* Whom to trust. None of the three: the system's CAs, which are OpenSSL's default file and
     * directory (the environment's SSL_CERT_FILE and SSL_CERT_DIR name others). Any of them: only
     * those, unless and_system_ca. Whatever stands in them is trusted, be it a root, an
     * intermediate or a server's own certificate. */
    const char *ca_file;      /* PEM, any number of certificates */
    const char *ca_directory; /* named by hash, as `openssl rehash` does; read when needed */
    const void *ca_pem;       /* PEM in memory */
    size_t ca_pem_size;
    bool and_system_ca;

    /* TALK TO ANYBODY: the server's certificate is not checked, and whoever sits between can read
     * and change everything. Pins are checked all the same. Nothing else turns verification off: no
     * environment variable, no build option. */
    bool insecure_no_verification;

    /* The server's public key must be one of these: "sha256//" and the base64 of the SHA-256 of its
     * SubjectPublicKeyInfo, several separated by ';', as for curl --pinnedpubkey. At most 16. */
    const char *pins;

    /* Who we are, for servers that ask: PEM, the certificate first, then its intermediates. Each
     * from a file or from memory; the key may stand in the certificate's file. */
    const char *certificate_file;
    const void *certificate_pem;
    size_t certificate_pem_size;
    const char *key_file;
    const void *key_pem;
    size_t key_pem_size;
    const char *key_password; /* of an encrypted key; never asked for on a terminal */

    /* Default: TLS 1.2 to 1.3, as far as OpenSSL's configuration (MinProtocol, MaxProtocol) allows
     * them. Older ones are never spoken. */
    enum il_tls_version version_min, version_max;

    bool no_resumption; /* every connection makes a full handshake */

    /* Append the keys of every connection to this file, for Wireshark: who has it can read all.
     * NULL: no. The environment's SSLKEYLOGFILE is not looked at. */
    const char *key_log_file;
};

#define IL_TLS_OPTIONS_INIT                                                                        \
    {                                                                                              \
        .size = sizeof(struct il_tls_options)                                                      \
    }

/* Make TLS settings. `options` may be NULL. Ends with il_tls_unref. IL_EINVAL: an option is wrong,
 * a file does not hold what it should. IL_ESYS: a file cannot be read. May read files: not for a
 * loop. Thread: any. Since 0.1. */
IL_API IL_MUST_USE enum il_code il_tls_new(const struct il_tls_options *options,
                                           struct il_tls **ret_tls, struct il_error *err);

IL_API struct il_tls *il_tls_ref(struct il_tls *tls); /* Thread: any. Since 0.1. */

/* Clients, requests and connections hold references of their own. Returns NULL; NULL is allowed.
 * Thread: any. Since 0.1. */
IL_API struct il_tls *il_tls_unref(struct il_tls *tls);

/* What is known of a connection's TLS. Strings of the server's are safe to print. */
struct il_tls_info {
    char version[16];    /* "TLSv1.3" */
    char cipher[48];     /* "TLS_AES_256_GCM_SHA384" */
    char protocol[16];   /* chosen by ALPN; "" if the server chose none */
    bool is_resumed;     /* a session of an earlier connection was resumed */
    bool is_verified;    /* the certificate was checked; false with insecure_no_verification */
    char subject[128];   /* of the server's certificate; cut with "..." */
    char issuer[128];    /* likewise */
    char not_after[32];  /* "2027-01-31 12:00:00Z" */
    char public_key[64]; /* as a pin: "sha256//..." */
};

#ifdef __cplusplus
}
#endif
#endif
