/* h2_memory.h: the memory of one nghttp2 session: what it gives back is kept for the next stream.
 *
 * A stream costs nghttp2 some twenty small pieces, of a few sizes, again and again. They come from
 * il_malloc once, and then from lists by size; at most H2_MEMORY_KEPT_MAX bytes are kept so.
 * AddressSanitizer is told which pieces are kept, so that it sees what is used after it was given
 * back.
 *
 * Thread: one at a time, as for the session. Ends: h2_memory_deinit, after the session. */
#ifndef IL_HTTP_H2_MEMORY_H
#define IL_HTTP_H2_MEMORY_H

#include <nghttp2/nghttp2.h>

#include "base/base.h"

#define H2_MEMORY_KEPT_MAX   ((size_t)128 * 1024)
#define H2_MEMORY_STEP       64 /* sizes are rounded up to a multiple */
#define H2_MEMORY_SIZE_COUNT 16 /* larger ones than so many steps are not kept */

struct h2_memory_block;

struct h2_memory {
    struct h2_memory_block *kept[H2_MEMORY_SIZE_COUNT];
    size_t kept_size;
};

/* What nghttp2 is told; `memory` must not move while it is in use. */
nghttp2_mem h2_memory_functions(struct h2_memory *memory);

/* Give back what is kept. A zeroed one is fine. */
void h2_memory_deinit(struct h2_memory *memory);

#endif
