/* h2_words.h: what users are told of what went wrong on an HTTP/2 connection. Private to h2.c. */
#ifndef IL_HTTP_H2_WORDS_H
#define IL_HTTP_H2_WORDS_H

#include "http/h2.h"

#define H2_FIELD_OVERHEAD 32 /* what a field costs beyond its name and value, RFC 9113 6.5.2 */

/* Of the head, or trailer, that is coming. */
static inline uint32_t h2_head_size_max(const struct h2_stream *stream)
{
    const struct h1_response_limits *limits = &stream->h2->limits;

    return stream->is_in_trailers ? limits->trailer_size_max : limits->head_size_max;
}

/* There is no room for the next field: which limit is in the way. */
void h2_describe_no_room(const struct h2_stream *stream, const char *name, size_t name_size,
                         size_t value_size, char *text, size_t text_size);

/* Why nghttp2 has said goodbye, in its GOAWAY frame. */
void h2_describe_goaway(const nghttp2_goaway *goaway, struct il_error *ret_error);

/* Why nghttp2 has given up, as its result says. */
void h2_describe_fatal(int result, struct il_error *ret_error);

/* The stream's error came in the middle of its body: add how much had come. */
void h2_describe_cut(struct h2_stream *stream);

#endif
