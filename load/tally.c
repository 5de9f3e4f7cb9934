/* tally.c: see tally.h.
 *
 * Owns: the histogram. Threads: see tally.h. */
#include <string.h>

#include "tally.h"

static uint64_t get(const _Atomic uint64_t *number)
{
    return atomic_load_explicit(number, memory_order_relaxed);
}

static void put(_Atomic uint64_t *number, uint64_t value)
{
    atomic_store_explicit(number, value, memory_order_relaxed);
}

static void add(_Atomic uint64_t *number, uint64_t value)
{
    put(number, get(number) + value);
}

static void raise_to(_Atomic uint64_t *number, uint64_t value)
{
    if (value > get(number)) {
        put(number, value);
    }
}

static uint64_t span(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

bool tally_init(struct tally *tally)
{
    memset(tally, 0, sizeof(*tally));
    if (!histogram_init(&tally->latencies)) {
        return false;
    }
    pthread_mutex_init(&tally->mutex, NULL);
    return true;
}

void tally_deinit(struct tally *tally)
{
    if (tally->latencies.counts == NULL) {
        return;
    }
    pthread_mutex_destroy(&tally->mutex);
    histogram_deinit(&tally->latencies);
}

/* ---- answers ---- */

/* The part from *at_ns to `to_ns`, and move on. */
static void record_part(struct tally *tally, enum tally_part part, uint64_t *at_ns, uint64_t to_ns)
{
    struct tally_part_time *time = &tally->parts[part];
    uint64_t spent_ns = span(*at_ns, to_ns);

    add(&time->count, 1);
    add(&time->sum_ns, spent_ns);
    raise_to(&time->max_ns, spent_ns);
    *at_ns += spent_ns;
}

/* Each part begins where the one before has ended, so that they add up to the whole, although the
 * library's times are those at which its loop looked at the clock: once in a turn. */
static void record_parts(struct tally *tally, const struct tally_times *times,
                         const struct il_response *response)
{
    struct il_response_timing timing;
    uint64_t at_ns = times->due_ns;

    il_response_timing(response, &timing);
    record_part(tally, TALLY_QUEUED, &at_ns, times->started_ns);
    if (!timing.was_reused) {
        record_part(tally, TALLY_CONNECTING, &at_ns, timing.connected_ns);
    }
    record_part(tally, TALLY_SENDING, &at_ns, timing.sent_ns);
    record_part(tally, TALLY_WAITING, &at_ns, timing.first_byte_ns);
    record_part(tally, TALLY_READING, &at_ns, times->done_ns);
}

void tally_record_answer(struct tally *tally, const struct tally_times *times,
                         const struct il_response *response, uint64_t body_bytes)
{
    int status = il_response_status(response);

    pthread_mutex_lock(&tally->mutex);
    histogram_record(&tally->latencies, span(times->due_ns, times->done_ns));
    record_parts(tally, times, response);
    add(&tally->statuses[status >= 100 && status < TALLY_STATUS_MAX ? status : TALLY_STATUS_ODD],
        1);
    add(&tally->answered, 1);
    add(&tally->http_2, il_response_http_version(response) == 20 ? 1 : 0);
    add(&tally->in_time, times->is_in_time ? 1 : 0);
    add(&tally->body_bytes, body_bytes);
    add(&tally->in_time_bytes, times->is_in_time ? body_bytes : 0);
    raise_to(&tally->last_done_ns, times->done_ns);
    pthread_mutex_unlock(&tally->mutex);
}

uint64_t tally_bad_statuses(const struct tally *tally)
{
    uint64_t count = get(&tally->statuses[TALLY_STATUS_ODD]);

    for (int status = 400; status < TALLY_STATUS_MAX; status++) {
        count += get(&tally->statuses[status]);
    }
    return count;
}

/* ---- the others ---- */

static void record_kind_locked(struct tally *tally, const struct tally_kind *kind)
{
    for (unsigned i = 0; i < tally->shared.kind_count; i++) {
        struct tally_kind *known = &tally->shared.kinds[i];

        if (known->code == kind->code && known->phase == kind->phase &&
            known->sys_errno == kind->sys_errno) {
            known->count += kind->count;
            return;
        }
    }
    if (tally->shared.kind_count == TALLY_KINDS_MAX) {
        tally->shared.other_count += kind->count;
        return;
    }
    tally->shared.kinds[tally->shared.kind_count++] = *kind;
}

void tally_record_failure(struct tally *tally, const struct tally_times *times,
                          const struct il_error *err)
{
    struct tally_kind kind = {
        .code = err->code, .phase = err->phase, .sys_errno = err->sys_errno, .count = 1
    };

    memcpy(kind.message, err->message, sizeof(kind.message));
    pthread_mutex_lock(&tally->mutex);
    if (err->code == IL_ETIMEDOUT) { /* it is known that it took so long, at least */
        histogram_record(&tally->latencies, span(times->due_ns, times->done_ns));
    }
    add(&tally->failed, 1);
    raise_to(&tally->last_done_ns, times->done_ns);
    record_kind_locked(tally, &kind);
    pthread_mutex_unlock(&tally->mutex);
}

void tally_record_unfinished(struct tally *tally, uint64_t due_ns, uint64_t now_ns)
{
    pthread_mutex_lock(&tally->mutex);
    histogram_record(&tally->latencies, span(due_ns, now_ns));
    add(&tally->unfinished, 1);
    pthread_mutex_unlock(&tally->mutex);
}

void tally_record_unsent(struct tally *tally, uint64_t due_ns, uint64_t now_ns)
{
    pthread_mutex_lock(&tally->mutex);
    histogram_record(&tally->latencies, span(due_ns, now_ns));
    add(&tally->unsent, 1);
    pthread_mutex_unlock(&tally->mutex);
}

/* ---- all together ---- */

static void add_kinds(struct tally *tally, struct tally *other)
{
    struct tally_kind kinds[TALLY_KINDS_MAX];
    unsigned kind_count;

    pthread_mutex_lock(&other->mutex);
    kind_count = other->shared.kind_count;
    memcpy(kinds, other->shared.kinds, sizeof(kinds[0]) * kind_count);
    tally->shared.other_count += other->shared.other_count; /* nobody else has the sum yet */
    pthread_mutex_unlock(&other->mutex);
    for (unsigned i = 0; i < kind_count; i++) {
        record_kind_locked(tally, &kinds[i]);
    }
}

void tally_clear(struct tally *tally)
{
    histogram_clear(&tally->latencies);
    memset(tally->parts, 0, sizeof(tally->parts));
    memset((void *)tally->statuses, 0, sizeof(tally->statuses));
    tally->answered = tally->http_2 = tally->in_time = tally->failed = tally->unfinished = 0;
    tally->unsent = tally->body_bytes = tally->in_time_bytes = tally->last_done_ns = 0;
    memset(&tally->shared, 0, sizeof(tally->shared));
}

void tally_add(struct tally *tally, struct tally *other)
{
    histogram_add(&tally->latencies, &other->latencies);
    for (int i = 0; i < TALLY_PART_COUNT; i++) {
        add(&tally->parts[i].count, get(&other->parts[i].count));
        add(&tally->parts[i].sum_ns, get(&other->parts[i].sum_ns));
        raise_to(&tally->parts[i].max_ns, get(&other->parts[i].max_ns));
    }
    for (int i = 0; i < TALLY_STATUS_MAX; i++) {
        add(&tally->statuses[i], get(&other->statuses[i]));
    }
    add(&tally->answered, get(&other->answered));
    add(&tally->http_2, get(&other->http_2));
    add(&tally->in_time, get(&other->in_time));
    add(&tally->failed, get(&other->failed));
    add(&tally->unfinished, get(&other->unfinished));
    add(&tally->unsent, get(&other->unsent));
    add(&tally->body_bytes, get(&other->body_bytes));
    add(&tally->in_time_bytes, get(&other->in_time_bytes));
    raise_to(&tally->last_done_ns, get(&other->last_done_ns));
    add_kinds(tally, other);
}
