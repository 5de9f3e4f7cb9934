/* h2_words.c: what users are told of what went wrong on an HTTP/2 connection. A limit of ours is
 * not the server's offence: its value is named, and the option, where there is one. No state. */
#include "http/h2_words.h"

#include <inttypes.h>
#include <stdio.h>

void h2_describe_no_room(const struct h2_stream *stream, const char *name, size_t name_size,
                         size_t value_size, char *text, size_t text_size)
{
    const char *section = stream->is_in_trailers ? "trailer" : "header";
    char field[48];

    if (stream->field_count == stream->h2->limits.field_count_max) {
        (void)snprintf(text, text_size, "the response's %s has more than %u fields, the limit",
                       section, stream->field_count);
        return;
    }
    (void)snprintf(text, text_size,
                   "the response's %s has %zu bytes with its field \"%s\" (and %d for each field); "
                   "the limit is %u bytes%s",
                   section, stream->head_size + name_size + value_size + H2_FIELD_OVERHEAD,
                   il_escape(field, sizeof(field), name, name_size), H2_FIELD_OVERHEAD,
                   h2_head_size_max(stream), stream->is_in_trailers ? "" : " (header_size_max)");
}

void h2_describe_goaway(const nghttp2_goaway *goaway, struct il_error *ret_error)
{
    char reason[120];

    if (goaway->error_code == NGHTTP2_COMPRESSION_ERROR) { /* nghttp2 does not say which */
        il_fail(ret_error, IL_EPROTOCOL,
                "a header of the server's cannot be decompressed: it is damaged, or has a name or "
                "a value of more than %d bytes, the limit in HTTP/2",
                H2_FIELD_SIZE_MAX);
        return;
    }
    il_fail(ret_error, IL_EPROTOCOL, "the server broke the rules of HTTP/2 (%s%s%s)",
            nghttp2_http2_strerror(goaway->error_code), goaway->opaque_data_len > 0 ? ": " : "",
            il_escape(reason, sizeof(reason), goaway->opaque_data, goaway->opaque_data_len));
}

void h2_describe_fatal(int result, struct il_error *ret_error)
{
    switch (result) {
    case NGHTTP2_ERR_FLOODED:
        il_fail(ret_error, IL_EPROTOCOL,
                "the server floods us: it has sent PING or SETTINGS without taking our answers, of "
                "which %d wait, the limit",
                H2_ACKS_QUEUED_MAX);
        break;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
        il_fail(ret_error, IL_EPROTOCOL,
                "the server cuts a header into more than %d further frames, the limit",
                H2_CONTINUATIONS_MAX);
        break;
    default:
        il_fail(ret_error, IL_EPROTOCOL, "the server broke the rules of HTTP/2: %s",
                nghttp2_strerror(result));
        break;
    }
}

void h2_describe_cut(struct h2_stream *stream)
{
    char *text = stream->error.message;
    size_t used = strlen(text), room = sizeof(stream->error.message) - used;

    if (stream->status < 200 || stream->framing == H1_FRAMING_NONE || stream->is_ended) {
        return;
    }
    if (stream->framing == H1_FRAMING_SIZED) {
        (void)snprintf(text + used, room,
                       ", after %" PRIu64 " of %" PRIu64 " byte%s of the response's body",
                       stream->body_received, stream->body_size, il_plural(stream->body_size));
    } else {
        (void)snprintf(text + used, room,
                       ", after %" PRIu64 " byte%s of the response's body and before its end",
                       stream->body_received, il_plural(stream->body_received));
    }
}
