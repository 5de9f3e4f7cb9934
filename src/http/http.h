/* http.h: what src/http offers the others: HTTP without I/O.
 *
 *     url.h          URLs taken apart, references resolved
 *     headers.h      lists of header fields (the public half is interloop/http.h)
 *     h1_request.h   what to send: heads, chunks
 *     h1_response.h  what has come: heads, bodies, may the connection be used again
 *     h2.h           one HTTP/2 connection: many requests and responses at a time
 *
 * Nothing here has a lock, a clock or a descriptor, keeps what it is given, or calls back (but for
 * the events of h2.h); objects belong to whoever made them. h1_head.h and h1_lines.h are private to
 * the folder. */
#ifndef IL_HTTP_HTTP_H
#define IL_HTTP_HTTP_H

#include "http/h1_request.h"
#include "http/h1_response.h"
#include "http/h2.h"
#include "http/headers.h"
#include "http/url.h"

#endif
