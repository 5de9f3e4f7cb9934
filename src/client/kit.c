/* kit.c: the kits of a loop. Threads and end: see kit.h. */
#include "client/kit.h"

#define KIT_OUT_KEPT_MAX 16384 /* bytes of memory that a spare kit keeps for sending */
#define KIT_IN_KEPT_MAX  4096  /* and for receiving */

/* A loop's spare kits; loop->held.kits. */
struct kit_rack {
    struct loop_guest guest;
    struct il_loop *loop;
    struct kit *spares;
    uint32_t spare_count;
};

void kit_drop_spares(struct il_loop *loop)
{
    struct kit_rack *rack = loop->held.kits;

    if (rack == NULL) {
        return;
    }
    loop->held.kits = NULL;
    loop_guest_remove(&rack->guest);
    while (rack->spares != NULL) {
        struct kit *kit = rack->spares;

        rack->spares = kit->next;
        kit_free(kit);
    }
    il_free(rack);
}

/* What comes back from now on is freed: see rack_of. */
static void rack_on_loop_end(struct loop_guest *guest)
{
    kit_drop_spares(il_container_of(guest, struct kit_rack, guest)->loop);
}

/* NULL: no memory. */
static struct kit_rack *rack_of(struct il_loop *loop)
{
    struct kit_rack *rack = loop->held.kits;

    if (IL_LIKELY(rack != NULL) || loop->held.is_ending) {
        return rack;
    }
    rack = il_calloc(1, sizeof(*rack));
    if (rack != NULL) {
        il_list_init(&rack->guest.link);
        rack->guest.on_loop_end = rack_on_loop_end;
        rack->loop = loop;
        loop->held.kits = rack;
        il_assert_on_loop(loop);
        loop_guest_add(loop, &rack->guest);
    }
    return rack;
}

static struct kit *kit_new(void)
{
    struct kit *kit = il_malloc(sizeof(*kit));

    if (kit != NULL) {
        h1_response_init(&kit->parser, NULL);
        il_bytes_init(&kit->out);
        il_bytes_init(&kit->in);
    }
    return kit;
}

void kit_free(struct kit *kit)
{
    if (kit != NULL) {
        h1_response_deinit(&kit->parser);
        il_bytes_deinit(&kit->out);
        il_bytes_deinit(&kit->in);
        il_free(kit);
    }
}

struct kit *kit_take(struct il_loop *loop, const struct h1_response_limits *limits)
{
    struct kit_rack *rack = loop->held.kits;
    struct kit *kit;

    if (IL_LIKELY(rack != NULL && rack->spares != NULL)) {
        kit = rack->spares;
        rack->spares = kit->next;
        rack->spare_count--;
    } else {
        kit = kit_new();
        if (kit == NULL) {
            return NULL;
        }
    }
    h1_response_set_limits(&kit->parser, limits);
    kit->is_reading = false;
    return kit;
}

static void bytes_empty(struct il_bytes *bytes, size_t kept_max)
{
    il_bytes_consume(bytes, il_bytes_size(bytes));
    if (IL_UNLIKELY(bytes->capacity > kept_max)) {
        il_bytes_deinit(bytes);
    }
}

void kit_give(struct il_loop *loop, struct kit *kit)
{
    struct kit_rack *rack = rack_of(loop);

    if (rack == NULL || rack->spare_count == KIT_SPARE_MAX) {
        kit_free(kit);
        return;
    }
    bytes_empty(&kit->out, KIT_OUT_KEPT_MAX);
    bytes_empty(&kit->in, KIT_IN_KEPT_MAX);
    kit->next = rack->spares;
    rack->spares = kit;
    rack->spare_count++;
}
