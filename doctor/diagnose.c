/* diagnose.c: the steps of one diagnosis, in their order.
 *
 * Look for a while; if something stands still, take stacks and the first unread bytes; conclude.
 * Owns: nothing. Thread: the doctor's only one. */
#include "doctor/diagnose.h"
#include "doctor/runtime.h"
#include "doctor/sample.h"
#include "doctor/sockets.h"
#include "doctor/stacks.h"
#include "doctor/verdict.h"

#define DIAGNOSE_PEEKS_MAX 64

static void peek_at_suspects(struct look *look)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < look->socket_count && count < DIAGNOSE_PEEKS_MAX; i++) {
        if (socket_stands_unread(look, &look->sockets[i])) {
            sockets_peek(look, &look->sockets[i]);
            count++;
        }
    }
}

enum il_code diagnose_process(struct look *look, struct il_error *err)
{
    enum il_code code = sample_process(look, err);

    if (code != IL_OK) {
        return code;
    }
    runtime_recognise_process(look);
    if (look->options.always_stacks || verdict_needs_stacks(look)) {
        stacks_take(look);
    }
    peek_at_suspects(look);
    runtime_recognise_threads(look);
    runtime_note_protocols(look);
    verdict_conclude(look);
    return IL_OK;
}
