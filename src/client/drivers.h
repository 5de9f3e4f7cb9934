/* drivers.h: the two ways in which a connection is driven.
 *
 * exchange.c: by the loop that waits for it (the default). bound.c: for ever by the loop that
 * opened it, as hyper does. call.c chooses; everything here runs on the call's home loop. */
#ifndef IL_CLIENT_DRIVERS_H
#define IL_CLIENT_DRIVERS_H

#include "client/call.h"

void call_acquire(struct il_call *call);

/* ---- caller ---- */

/* Bring an idle connection, just taken from the pool, to the call's home; false if it was dead, and
 * has been closed. */
bool exchange_adopt(struct il_call *call, struct conn *conn);

/* Send the call's request on a connection that the home loop drives. */
void exchange_begin(struct il_call *call, struct conn *conn, bool was_reused);

/* The body's source has put `size` bytes into source_buffer, or failed with `code`. */
void exchange_supply(struct il_call *call, enum il_code code, size_t size);

/* Have the source of the call's body asked for more: by the party that waits, or in a job. */
void call_pull_source(struct il_call *call);

/* Write the head of the call's request, behind what is in `out`. */
enum il_code exchange_write_head(const struct il_request *request, struct il_bytes *out,
                                 struct il_error *err);

/* The next part of a streamed body (caller driver); see il_response_read. */
enum il_code exchange_read(struct il_response *response, void *buffer, size_t size,
                           size_t *ret_size, struct il_error *err);

/* Close the connection of a response whose body was not read to its end. Thread: any. */
void exchange_abandon(struct il_response *response);

/* ---- bound ---- */

/* A connection of the call's own was opened: it belongs to the home loop from now on. */
void bound_opened(struct il_call *call, struct conn *conn);

/* Hand the call's request to the loop that drives `conn`. */
void bound_begin(struct il_call *call, struct conn *conn);

/* The call has left the pool's queue: a connection that was assigned to it meanwhile goes back. */
void bound_return_assigned(struct il_call *call);

/* The call is over: an exchange that is still under way is of no interest, an assigned connection
 * goes back. */
void bound_let_go(struct il_call *call);

enum il_code bound_read(struct il_response *response, void *buffer, size_t size, size_t *ret_size,
                        struct il_error *err);
void bound_abandon(struct il_response *response);

/* The loop that drives a bound connection for ever. Thread: any. */
const struct il_loop *bound_loop(const struct conn *conn);

/* Have the loop that drives it close a connection that was idle. Thread: any. */
void bound_retire(struct conn *conn);

#endif
