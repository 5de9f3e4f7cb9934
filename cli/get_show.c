/* get_show.c: what `interloop get` prints: response, phases, TLS, connection.
 *
 * What a server sends may try to command the terminal: there control characters are shown as \xNN.
 * No state. Thread: the process's first. */
#include <ctype.h>
#include <string.h>

#include "cli/get.h"
#include "lab/words.h"

#define NS_PER_MS 1e6

/* ---- text of the server's ---- */

static bool is_harmless(unsigned char byte)
{
    return (byte >= ' ' && byte < 0x7f) || byte == '\t' || byte == '\n';
}

/* On a terminal; bytes of UTF-8 pass where `with_high`. */
static bool put_safely(FILE *out, const char *bytes, size_t size, bool with_high)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)bytes[i];

        if (byte == '\r' && i + 1 < size && bytes[i + 1] == '\n') {
            continue;
        }
        if (is_harmless(byte) || (byte >= 0xa0 && with_high)) {
            putc(byte, out);
        } else {
            fprintf(out, "\\x%02x", byte);
        }
    }
    return !ferror(out);
}

static void put_json_string(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char byte = (unsigned char)*text;

        if (byte == '"' || byte == '\\') {
            fprintf(out, "\\%c", byte);
        } else if (byte < ' ' || byte >= 0x7f) { /* headers are bytes: as Latin-1 */
            fprintf(out, "\\u%04x", byte);
        } else {
            putc(byte, out);
        }
    }
    putc('"', out);
}

/* ---- head and body ---- */

static void put_line(FILE *out, bool is_safe, const char *prefix, const char *name,
                     const char *value)
{
    fputs(prefix, out);
    if (is_safe) {
        (void)put_safely(out, name, strlen(name), false);
        fputs(": ", out);
        (void)put_safely(out, value, strlen(value), false);
        putc('\n', out);
    } else {
        fprintf(out, "%s: %s\r\n", name, value);
    }
}

static void put_headers(FILE *out, bool is_safe, const char *prefix,
                        const struct il_headers *headers)
{
    const char *name, *value;

    for (size_t i = 0; il_headers_at(headers, i, &name, &value) == IL_OK; i++) {
        put_line(out, is_safe, prefix, name, value);
    }
}

static void put_head(FILE *out, bool is_safe, const char *prefix,
                     const struct il_response *response)
{
    int version = il_response_http_version(response);
    const char *reason = il_response_reason(response);

    if (version == 20) {
        fprintf(out, "%sHTTP/2 %d ", prefix, il_response_status(response));
    } else {
        fprintf(out, "%sHTTP/%d.%d %d ", prefix, version / 10, version % 10,
                il_response_status(response));
    }
    (void)put_safely(out, reason, strlen(reason), false);
    fputs(is_safe ? "\n" : "\r\n", out);
    put_headers(out, is_safe, prefix, il_response_headers(response));
    fputs(is_safe ? prefix : "", out);
    fputs(is_safe ? "\n" : "\r\n", out);
}

void get_show_head(const struct get_show *show, const struct il_response *response)
{
    if (show->is_verbose) {
        put_head(stderr, true, "< ", response);
    }
    if (show->shows_head) {
        put_head(show->out, show->out_is_terminal, "", response);
    }
}

bool get_show_body(const struct get_show *show, const char *bytes, size_t size)
{
    if (show->out_is_terminal) {
        return put_safely(show->out, bytes, size, true);
    }
    return fwrite(bytes, 1, size, show->out) == size;
}

/* ---- how it went ---- */

struct phase {
    const char *name;
    uint64_t from_ns, to_ns;
};

#define PHASE_COUNT_MAX 6

/* The phases that were gone through, in their order. */
static unsigned find_phases(const struct il_response_timing *t,
                            struct phase phases[static PHASE_COUNT_MAX])
{
    unsigned count = 0;

    if (t->was_reused || t->resolved_ns == 0) {
        phases[count++] = (struct phase){ "pool-wait", t->started_ns, t->connected_ns };
    } else {
        uint64_t connected_ns = t->tcp_ns != 0 ? t->tcp_ns : t->connected_ns;

        phases[count++] = (struct phase){ "resolve", t->started_ns, t->resolved_ns };
        phases[count++] = (struct phase){ "connect", t->resolved_ns, connected_ns };
        if (t->tcp_ns != 0) {
            phases[count++] = (struct phase){ "tls", t->tcp_ns, t->connected_ns };
        }
    }
    phases[count++] = (struct phase){ "write", t->connected_ns, t->sent_ns };
    phases[count++] = (struct phase){ "first-byte", t->sent_ns, t->first_byte_ns };
    phases[count++] = (struct phase){ "read", t->first_byte_ns, t->done_ns };
    for (unsigned i = 1; i < count; i++) { /* a loop's clock stands still during a turn */
        phases[i].from_ns = phases[i - 1].to_ns;
        if (phases[i].to_ns < phases[i].from_ns) {
            phases[i].to_ns = phases[i].from_ns;
        }
    }
    return count;
}

static double span_ms(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (double)(to_ns - from_ns) / NS_PER_MS : 0;
}

static void show_tls(const struct il_tls_info *info)
{
    fprintf(stderr, "* TLS: %s, %s, %s, protocol %s\n", info->version, info->cipher,
            info->is_resumed ? "session resumed" : "full handshake",
            info->protocol[0] != '\0' ? info->protocol : "not chosen");
    fprintf(stderr, "* certificate: '%s', issued by '%s', until %s: %s\n", info->subject,
            info->issuer, info->not_after, info->is_verified ? "verified" : "NOT VERIFIED");
    fprintf(stderr, "* public key: %s\n", info->public_key);
}

static void show_peer(const struct il_peer_info *info)
{
    fprintf(stderr, "* connected to %s%s%s:%u (IPv%d)", info->is_ipv6 ? "[" : "", info->address,
            info->is_ipv6 ? "]" : "", info->port, info->is_ipv6 ? 6 : 4);
    if (info->lost_count > 0) {
        fprintf(stderr, "; %u other address%s failed before, or %s slower", info->lost_count,
                info->lost_count == 1 ? "" : "es", info->lost_count == 1 ? "was" : "were");
    }
    fputc('\n', stderr);
}

static void show_verbose(const char *url, const struct il_response *response, uint64_t body_size)
{
    struct phase phases[PHASE_COUNT_MAX];
    struct il_response_timing timing;
    struct il_peer_info peer;
    struct il_tls_info tls;
    unsigned count;

    put_headers(stderr, true, "< trailer ", il_response_trailers(response));
    fprintf(stderr, "* %s\n", url);
    if (il_response_peer(response, &peer)) {
        show_peer(&peer);
    }
    if (il_response_tls(response, &tls)) {
        show_tls(&tls);
    }
    il_response_timing(response, &timing);
    fprintf(stderr, "* connection %llu: %s; driver: %s; runtime: none, a loop of this thread\n",
            (unsigned long long)timing.connection_id, timing.was_reused ? "reused" : "new",
            il_response_http_version(response) == 20 ? "every loop with a stream on it, the caller"
                                                     : "the caller");
    count = find_phases(&timing, phases);
    for (unsigned i = 0; i < count; i++) {
        fprintf(stderr, "* %-10s %9.3f ms\n", phases[i].name,
                span_ms(phases[i].from_ns, phases[i].to_ns));
    }
    fprintf(stderr, "* %-10s %9.3f ms, %llu byte%s of body\n", "total",
            span_ms(timing.started_ns, timing.done_ns), (unsigned long long)body_size,
            lab_plural(body_size));
}

static void json_headers(FILE *out, const char *key, const struct il_headers *headers)
{
    const char *name, *value;

    fprintf(out, ", \"%s\": [", key);
    for (size_t i = 0; il_headers_at(headers, i, &name, &value) == IL_OK; i++) {
        fputs(i > 0 ? ", [" : "[", out);
        put_json_string(out, name);
        fputs(", ", out);
        put_json_string(out, value);
        putc(']', out);
    }
    putc(']', out);
}

static void json_text(FILE *out, const char *before, const char *text)
{
    fputs(before, out);
    put_json_string(out, text);
}

static void json_tls(FILE *out, const struct il_tls_info *info)
{
    json_text(out, ", \"tls\": {\"version\": ", info->version);
    json_text(out, ", \"cipher\": ", info->cipher);
    json_text(out, ", \"protocol\": ", info->protocol);
    fprintf(out, ", \"resumed\": %s, \"verified\": %s", info->is_resumed ? "true" : "false",
            info->is_verified ? "true" : "false");
    json_text(out, ", \"subject\": ", info->subject);
    json_text(out, ", \"issuer\": ", info->issuer);
    json_text(out, ", \"not_after\": ", info->not_after);
    json_text(out, ", \"public_key\": ", info->public_key);
    putc('}', out);
}

static void json_peer(FILE *out, const struct il_peer_info *info)
{
    json_text(out, ", \"peer\": {\"address\": ", info->address);
    fprintf(out, ", \"port\": %u, \"family\": \"IPv%d\", \"lost\": %u}", info->port,
            info->is_ipv6 ? 6 : 4, info->lost_count);
}

static void show_json(FILE *out, const char *url, const struct il_response *response,
                      uint64_t body_size)
{
    int version = il_response_http_version(response);
    struct phase phases[PHASE_COUNT_MAX];
    struct il_response_timing timing;
    struct il_peer_info peer;
    struct il_tls_info tls;
    unsigned count;

    json_text(out, "{\"url\": ", url);
    fprintf(out, ", \"http\": \"%d.%d\", \"status\": %d", version / 10, version % 10,
            il_response_status(response));
    json_text(out, ", \"reason\": ", il_response_reason(response));
    json_headers(out, "headers", il_response_headers(response));
    json_headers(out, "trailers", il_response_trailers(response));
    if (il_response_peer(response, &peer)) {
        json_peer(out, &peer);
    }
    if (il_response_tls(response, &tls)) {
        json_tls(out, &tls);
    }
    il_response_timing(response, &timing);
    count = find_phases(&timing, phases);
    fprintf(out, ", \"connection\": %llu, \"reused\": %s, \"driver\": \"caller\", \"phases_ms\": {",
            (unsigned long long)timing.connection_id, timing.was_reused ? "true" : "false");
    for (unsigned i = 0; i < count; i++) {
        fprintf(out, "%s\"%s\": %.3f", i > 0 ? ", " : "", phases[i].name,
                span_ms(phases[i].from_ns, phases[i].to_ns));
    }
    fprintf(out, "}, \"total_ms\": %.3f, \"body_bytes\": %llu}\n",
            span_ms(timing.started_ns, timing.done_ns), (unsigned long long)body_size);
}

void get_show_end(const struct get_show *show, const char *url, const struct il_response *response,
                  uint64_t body_size)
{
    if (show->shows_head) {
        put_headers(show->out, show->out_is_terminal, "", il_response_trailers(response));
    }
    if (show->is_verbose) {
        show_verbose(url, response, body_size);
    }
    if (show->is_json) {
        show_json(stdout, url, response, body_size);
    }
}

void get_show_failure(const struct get_show *show, const char *url, const struct il_error *err)
{
    if (!show->is_json) {
        return;
    }
    json_text(stdout, "{\"url\": ", url);
    json_text(stdout, ", \"error\": ", il_code_name(err->code));
    json_text(stdout, ", \"phase\": ", il_phase_name(err->phase));
    json_text(stdout, ", \"message\": ", err->message);
    fputs("}\n", stdout);
}
