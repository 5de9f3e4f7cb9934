/* tls_inside.h: what the parts of TLS share: settings, sessions, streams, and words for errors. */
#ifndef IL_NET_TLS_INSIDE_H
#define IL_NET_TLS_INSIDE_H

#include <openssl/ssl.h>

#include "net/tls.h"

#define TLS_PINS_MAX    16
#define TLS_SHA256_SIZE 32

/* ---- sessions to resume, of one il_tls ---- */

#define TLS_SESSIONS_MAX 256 /* kept in all; the oldest go first */
#define TLS_SESSIONS_PER_PEER_MAX                                                                  \
    4 /* TLS 1.3 uses each once, so that parallel ones have theirs                                 \
       */
#define TLS_SESSION_AGE_MAX_NS (3600 * UINT64_C(1000000000))
#define TLS_SESSION_KEY_SIZE   320

struct tls_sessions {
    struct sys_mutex mutex; /* a leaf */
    struct il_list entries; /* the newest first */
    unsigned count;
};

void tls_sessions_init(struct tls_sessions *sessions);
void tls_sessions_deinit(struct tls_sessions *sessions);

/* Keep a session for the next connection to the same peer. Takes `session`. Thread: any. */
void tls_sessions_put(struct tls_sessions *sessions, const char *key, SSL_SESSION *session);

/* The newest session for the peer, the caller's to free, or NULL. Thread: any. */
SSL_SESSION *tls_sessions_take(struct tls_sessions *sessions, const char *key);

/* ---- settings ---- */

struct il_tls {
    _Atomic uint32_t ref_count;
    SSL_CTX *context;
    uint8_t identity[TLS_IDENTITY_SIZE];
    bool is_verifying;
    bool is_resuming;
    unsigned pin_count;
    uint8_t pins[TLS_PINS_MAX][TLS_SHA256_SIZE];
    struct tls_sessions sessions;
    struct sys_mutex system_file_mutex; /* while the system's CA file is read, once; a leaf */
    bool is_system_file_read;
    struct sys_mutex key_log_mutex; /* a leaf; held while a line is written */
    BIO *key_log;                   /* NULL: none */
};

/* The stream state that an SSL belongs to, for callbacks. */
struct tls_stream;
struct tls_stream *tls_stream_of(const SSL *ssl);

/* Verification has found a certificate wanting; the first is kept. */
void tls_stream_note_bad_certificate(struct tls_stream *tls, X509_STORE_CTX *context);

/* A session has come that can be resumed. Takes `session`. */
void tls_stream_take_session(struct tls_stream *tls, SSL_SESSION *session);

/* ---- words ---- */

#define TLS_NAME_SIZE 72
#define TLS_WHY_SIZE  96

/* "CN=example.com, O=Example" of a name, escaped; cut to fit. Returns `text`. */
const char *tls_name_text(const X509_NAME *name, char *text, size_t size);

/* The hosts that a certificate is good for: "a.example, *.b.example, 192.0.2.1"; cut to fit.
 * Returns `text`. */
const char *tls_certificate_names(const X509 *certificate, char *text, size_t size);

/* "X509_V_ERR_CERT_HAS_EXPIRED"; "X509_V_ERR 99" for those without a name here. */
const char *tls_verify_name(int result, char text[static 24]);

/* "2027-01-31 12:00:00Z"; "?" for a time that is none. Returns `text`. */
const char *tls_time_text(const ASN1_TIME *time, char *text, size_t size);

/* What is wrong with the certificate (NULL: not known), as a sentence about it: "it expired on
 * 2021-01-01 00:00:00Z". Returns `text`. */
const char *tls_verify_text(int result, const X509 *certificate, char *text, size_t size);

/* Say what is the first entry of this thread's error queue, and empty it: "no suitable key share".
 * Of an alert that the server has sent also what it means. */
const char *tls_queue_text(char *text, size_t size);

/* Is that entry about ALPN: the server speaks nothing that was offered, or chose something else? */
bool tls_queue_is_about_protocol(void);

/* The SHA-256 of a certificate's public key (SubjectPublicKeyInfo). False: out of memory. */
bool tls_public_key_digest(const X509 *certificate, uint8_t digest[static TLS_SHA256_SIZE]);

#endif
