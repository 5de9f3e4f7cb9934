/* kit.h: what it takes to speak HTTP/1.1 on a connection: a parser, and the bytes on their way.
 *
 * A connection has none of it while it is idle, nor while a request of its waits for the first byte
 * of the response. Each loop keeps a few kits, and lends one to a connection that it drives when
 * there is something to send or to parse. The same few are used again and again, so they stay in
 * the processor's cache however many connections there are. A kit goes where its connection goes,
 * and back to whichever loop drives it then.
 *
 * Thread: the one that holds the loop; kit_free: any. Ends: a loop's kits end with the loop. */
#ifndef IL_CLIENT_KIT_H
#define IL_CLIENT_KIT_H

#include "base/bytes.h"
#include "http/http.h"
#include "loop/loop.h"

#define KIT_SPARE_MAX 32 /* that a loop keeps */

struct kit {
    struct kit *next; /* while it is spare */
    struct h1_response parser;
    bool is_reading;     /* the parser is at a response */
    struct il_bytes out; /* request head, and chunk framing, not yet sent */
    struct il_bytes in;  /* received, and not yet parsed: when a reader had enough */
};

/* A kit with empty buffers; NULL: no memory. */
struct kit *kit_take(struct il_loop *loop, const struct h1_response_limits *limits);

/* Done with it, whatever is in it. */
void kit_give(struct il_loop *loop, struct kit *kit);

void kit_free(struct kit *kit); /* NULL is nothing */

/* Free the loop's spare kits, now and not with the loop. */
void kit_drop_spares(struct il_loop *loop);

#endif
