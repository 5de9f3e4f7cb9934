/* tls.h: TLS (OpenSSL) as a filter of a stream.
 *
 * The state of a connection's TLS belongs to its stream and moves with it: nothing of it is a
 * loop's or a thread's. (OpenSSL keeps a queue of errors for each thread: it is emptied before each
 * of its functions that may add to it, and read right after.) What connections share, the settings
 * and the sessions to resume, belongs to the il_tls and may be used from any thread. */
#ifndef IL_NET_TLS_H
#define IL_NET_TLS_H

#include "interloop/tls.h"
#include "net/stream.h"

#define TLS_IDENTITY_SIZE 32

/* A digest of all settings, the contents of CA files, certificates and keys included: two il_tls
 * with the same one make connections that differ in nothing. Lives as long as `tls`. */
const uint8_t *tls_identity(const struct il_tls *tls);

/* The protocols that may be spoken inside, in the order of preference, as ALPN encodes them: each
 * with its size in front. Static. */
#define TLS_ALPN_HTTP_1 "\x08http/1.1"
#define TLS_ALPN_HTTP_2 "\x02h2"

struct tls_peer {
    const char *host; /* name or address literal, without brackets and final dot */
    uint16_t port;
    bool is_address; /* a literal: checked against the certificate's addresses, no SNI */
    const char *alpn;
};

/* Put TLS between `stream`, which is plain and connected, and its user. Then stream_handshake until
 * it is done. IL_ENOMEM, IL_ETLS: the stream stays plain. Thread: any. */
IL_MUST_USE enum il_code tls_attach(struct il_tls *tls, const struct tls_peer *peer,
                                    struct stream *stream, struct il_error *err);

/* The protocol that was chosen by ALPN: "h2", "http/1.1", "" for none, and for a stream without
 * TLS. Once the handshake is done; lives as long as the stream. */
const char *tls_protocol(const struct stream *stream);

/* What is known of a connection's TLS. Shared by the connection and its responses, also of other
 * threads; does not change. */
struct tls_facts {
    _Atomic uint32_t ref_count;
    struct il_tls_info info;
};

/* Ask a stream with TLS, once the handshake is done. NULL: out of memory. */
struct tls_facts *tls_facts_new(const struct stream *stream);
struct tls_facts *tls_facts_ref(struct tls_facts *facts); /* NULL is allowed, here and below */
void tls_facts_unref(struct tls_facts *facts);

#endif
