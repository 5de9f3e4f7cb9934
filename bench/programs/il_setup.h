/* il_setup.h: how the programs that measure interloop set up a client for what the options ask. */
#ifndef BENCH_IL_SETUP_H
#define BENCH_IL_SETUP_H

#include <interloop/client.h>

#include "common.h"

/* A client for these options: TLS, the version of HTTP, room in the pool for as many connections
 * as there are requests in flight. Ends the process on failure. */
struct il_client *setup_client(const struct bench_options *options);

#endif
