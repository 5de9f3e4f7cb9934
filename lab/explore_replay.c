/* explore_replay.c: plays one run and tells what happened: a column for each thread, and one for
 * the network, from the top to the bottom as time passes.
 *
 * What is told to people is chosen: threads that begin and end, what they say, sockets and who
 * watches them, faults, and waits that last. -v tells everything.
 *
 * Owns: the events, for one run. Threads: one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lab/explore.h"
#include "lab/json.h"
#include "lab/show.h"
#include "lab/words.h"

#define REPLAY_EVENTS_MAX  400000
#define REPLAY_COLUMNS_MAX 6 /* threads beyond share the last one */
#define REPLAY_WIDTH       98
#define REPLAY_TIME_WIDTH  11
#define REPLAY_THREADS_MAX 256
#define REPLAY_LONG_NS     (2 * SIM_NS_PER_MS) /* a wait that lasts is told */
#define REPLAY_TEXT_SIZE   220
#define REPLAY_FDS_FROM    1000000 /* simulated descriptors are numbered from here */

struct replay_thread {
    char name[20];
    unsigned column;
    unsigned told_count; /* events that are told */
};

struct replay {
    const struct explore_run *run;
    const struct explore_events *events;
    const struct explore_outcome *outcome;
    FILE *out;
    bool is_verbose;
    unsigned thread_count, column_count;
    struct replay_thread threads[REPLAY_THREADS_MAX]; /* by number; 0 is the network */
    unsigned heads[REPLAY_COLUMNS_MAX];               /* the thread of each column */
    bool has_others;                                  /* the last column is shared */
};

static size_t replay_count(const struct replay *replay)
{
    return replay->events->count < replay->events->count_max ? replay->events->count
                                                             : replay->events->count_max;
}

/* ---- what is told ---- */

/* How long the wait that begins with this event lasts; SIM_FOREVER: to the end. */
static uint64_t wait_length(const struct replay *replay, size_t index)
{
    const struct sim_event *wait = &replay->events->at[index];

    for (size_t i = index + 1; i < replay_count(replay); i++) {
        const struct sim_event *event = &replay->events->at[i];

        if (event->thread == wait->thread && event->kind != SIM_EVENT_WAKE) {
            return event->at_ns - wait->at_ns;
        }
    }
    return SIM_FOREVER;
}

static bool is_told(const struct replay *replay, size_t index)
{
    const struct sim_event *event = &replay->events->at[index];
    const char *name =
        event->thread < replay->thread_count ? replay->threads[event->thread].name : "";

    if (replay->is_verbose) {
        return true;
    }
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EVENT_RUN:
    case SIM_EVENT_WAKE:
    case SIM_EVENT_POLL_GOT:
        return false;
    case SIM_EVENT_NOTE:
        return true;
    case SIM_EVENT_WAIT:
        return strcmp(name, "monitor") != 0 && wait_length(replay, index) >= REPLAY_LONG_NS;
    default:
        return strcmp(name, "monitor") != 0 && strcmp(name, "warm-up") != 0;
    }
}

/* ---- columns ---- */

static void replay_find_threads(struct replay *replay)
{
    (void)snprintf(replay->threads[0].name, sizeof(replay->threads[0].name), "network");
    (void)snprintf(replay->threads[1].name, sizeof(replay->threads[1].name), "main");
    replay->thread_count = 2;
    for (size_t i = 0; i < replay_count(replay); i++) {
        const struct sim_event *event = &replay->events->at[i];

        if (event->kind == SIM_EVENT_THREAD_START && event->a < REPLAY_THREADS_MAX) {
            struct replay_thread *thread = &replay->threads[event->a];

            (void)snprintf(thread->name, sizeof(thread->name), "%s", event->text);
            if (event->a >= replay->thread_count) {
                replay->thread_count = (unsigned)event->a + 1;
            }
        }
    }
}

static struct replay_thread *replay_thread(struct replay *replay, const struct sim_event *event)
{
    return &replay->threads[event->thread < replay->thread_count ? event->thread : 0];
}

/* Columns in the order of the threads' numbers, the network last; who has least to tell has none
 * of his own when there are too many. */
static void replay_lay_out(struct replay *replay)
{
    unsigned told = 0, left;

    for (size_t i = 0; i < replay_count(replay); i++) {
        if (replay->events->at[i].kind != SIM_EVENT_NOTE && is_told(replay, i)) {
            replay_thread(replay, &replay->events->at[i])->told_count++;
        }
    }
    for (unsigned i = 0; i < replay->thread_count; i++) {
        told += replay->threads[i].told_count > 0;
        replay->threads[i].column = REPLAY_COLUMNS_MAX - 1;
    }
    replay->has_others = told > REPLAY_COLUMNS_MAX;
    left = replay->has_others ? REPLAY_COLUMNS_MAX - 1 : told;
    for (unsigned most = left; most > 0; most--) {
        unsigned best = 0;

        for (unsigned i = 0; i < replay->thread_count; i++) {
            if (replay->threads[i].told_count > replay->threads[best].told_count) {
                best = i;
            }
        }
        replay->heads[replay->column_count++] = best;
        replay->threads[best].told_count = 0;
    }
    for (unsigned i = 1; i < replay->column_count; i++) { /* few: put each in its place */
        for (unsigned k = i;
             k > 0 && (replay->heads[k - 1] == 0 ||
                       (replay->heads[k] != 0 && replay->heads[k] < replay->heads[k - 1]));
             k--) {
            unsigned swap = replay->heads[k];

            replay->heads[k] = replay->heads[k - 1];
            replay->heads[k - 1] = swap;
        }
    }
    for (unsigned i = 0; i < replay->column_count; i++) {
        replay->threads[replay->heads[i]].column = i;
    }
    replay->column_count += replay->has_others;
}

static int column_width(const struct replay *replay)
{
    unsigned count = replay->column_count > 0 ? replay->column_count : 1;

    return (REPLAY_WIDTH - REPLAY_TIME_WIDTH) / (int)count;
}

/* ---- for people ---- */

/* "  12.345 ms" or as much room. */
static void put_time(const struct replay *replay, const struct sim_event *event)
{
    if (event != NULL) {
        fprintf(replay->out, "%*.3f  ", REPLAY_TIME_WIDTH - 2,
                (double)event->at_ns / (double)SIM_NS_PER_MS);
    } else {
        fprintf(replay->out, "%*s", REPLAY_TIME_WIDTH, "");
    }
}

static void put_heads(const struct replay *replay)
{
    int width = column_width(replay);

    fprintf(replay->out, "%*s  ", REPLAY_TIME_WIDTH - 2, "ms");
    for (unsigned i = 0; i < replay->column_count; i++) {
        bool is_others = replay->has_others && i + 1 == replay->column_count;

        fprintf(replay->out, "%-*.*s", i + 1 < replay->column_count ? width : 0, width - 1,
                is_others ? "others" : replay->threads[replay->heads[i]].name);
    }
    fputc('\n', replay->out);
}

/* The part of `text` that fits into a cell of `width`, broken at a space where that is possible. */
static int cell_fit(const char *text, int width)
{
    int fit = (int)strlen(text);

    if (fit <= width) {
        return fit;
    }
    for (fit = width; fit > 0 && text[fit] != ' '; fit--) {
    }
    return fit > 0 ? fit : width;
}

static void put_cell(const struct replay *replay, const struct sim_event *event, unsigned column,
                     const char *text)
{
    bool is_last = column + 1 == replay->column_count;
    int width = column_width(replay) - (is_last ? 0 : 1);

    for (bool is_first = true; *text != '\0'; is_first = false) {
        int indent = is_first ? 0 : 2, fit = cell_fit(text, width - indent);

        put_time(replay, is_first ? event : NULL);
        fprintf(replay->out, "%*s%*s%.*s\n", (int)column * column_width(replay), "", indent, "",
                fit, text);
        text += fit;
        text += strspn(text, " ");
    }
}

static void describe(const struct replay *replay, size_t index, char *text, size_t size)
{
    const struct sim_event *event = &replay->events->at[index];
    struct sim_event shown = *event;
    char what[REPLAY_TEXT_SIZE - 40];
    uint64_t length_ns;

    shown.a -= shown.a >= REPLAY_FDS_FROM ? REPLAY_FDS_FROM : 0;
    shown.b -= shown.b >= REPLAY_FDS_FROM ? REPLAY_FDS_FROM : 0;
    sim_event_format(&shown, what, sizeof(what));
    if (event->kind != SIM_EVENT_WAIT) {
        (void)snprintf(text, size, "%s", what);
        return;
    }
    length_ns = wait_length(replay, index);
    if (length_ns == SIM_FOREVER) {
        (void)snprintf(text, size, "%s, to the end", what);
    } else {
        (void)snprintf(text, size, "%s, %.1f ms", what, (double)length_ns / (double)SIM_NS_PER_MS);
    }
}

static void put_event(struct replay *replay, size_t index)
{
    const struct sim_event *event = &replay->events->at[index];
    const struct replay_thread *thread = replay_thread(replay, event);
    char what[REPLAY_TEXT_SIZE], text[REPLAY_TEXT_SIZE + 24];
    bool is_shared = replay->has_others && thread->column + 1 == replay->column_count;

    if (event->kind == SIM_EVENT_NOTE) {
        struct show show = { replay->out, false };

        put_time(replay, event);
        (void)snprintf(text, sizeof(text), "%s: %s", thread->name, event->text);
        if (strlen(text) <= REPLAY_WIDTH - REPLAY_TIME_WIDTH - 3) {
            fprintf(replay->out, "-- %s\n", text);
        } else {
            fprintf(replay->out, "--\n");
            show_paragraph(&show, REPLAY_TIME_WIDTH + 3, text);
        }
        return;
    }
    describe(replay, index, what, sizeof(what));
    (void)snprintf(text, sizeof(text), "%s%s%s", is_shared ? thread->name : "",
                   is_shared ? ": " : "", what);
    put_cell(replay, event, thread->column, text);
}

static void put_sums(const struct replay *replay)
{
    const struct sim_report *report = &replay->outcome->report;

    fprintf(replay->out, "\n%llu decisions, %llu switches between threads, %.3f s of virtual time",
            (unsigned long long)report->decision_count, (unsigned long long)report->switch_count,
            (double)report->virtual_ns / 1e9);
    for (int fault = 0, count = 0; fault < SIM_FAULT_COUNT; fault++) {
        if (report->fault_counts[fault] > 0) {
            fprintf(replay->out, "%s%llu %s", count++ == 0 ? "\nfaults: " : ", ",
                    (unsigned long long)report->fault_counts[fault],
                    sim_fault_name((enum sim_fault)fault));
        }
    }
    fprintf(replay->out, "\ntrace %016llx\n", (unsigned long long)report->trace_hash);
}

static void replay_put(struct replay *replay)
{
    const struct explore_outcome *outcome = replay->outcome;
    struct show show = { replay->out, show_wants_colour(replay->out) };

    fprintf(replay->out, "%s under %s, %s, seed %llu\n\n", replay->run->cause->name,
            replay->run->solution->name, explore_mode_name(replay->run->mode),
            (unsigned long long)replay->run->seed);
    put_heads(replay);
    for (size_t i = 0; i < replay_count(replay); i++) {
        if (is_told(replay, i)) {
            put_event(replay, i);
        }
    }
    if (replay->events->count > replay_count(replay)) {
        size_t rest = replay->events->count - replay_count(replay);

        fprintf(replay->out, "and %zu event%s more\n", rest, lab_plural(rest));
    }
    put_sums(replay);
    if (outcome->kind == EXPLORE_NOTHING) {
        fprintf(replay->out, "No finding.\n");
        return;
    }
    fprintf(replay->out, "%s: %s\n", explore_kind_name(outcome->kind),
            explore_kind_meaning(outcome->kind));
    show_paragraph(&show, 2, outcome->detail);
    show_chain(&show, &outcome->result);
}

/* ---- for machines ---- */

void explore_put_finding_json(struct json *json, const char *name, uint64_t seed,
                              enum explore_kind kind, const char *detail, uint64_t trace_hash)
{
    char hash[20];

    (void)snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)trace_hash);
    json_object_begin(json, name);
    json_number(json, "seed", seed);
    json_string(json, "kind", explore_kind_name(kind));
    json_string(json, "detail", detail);
    json_string(json, "trace_hash", hash);
}

static void replay_put_json(const struct replay *replay)
{
    const struct explore_outcome *outcome = replay->outcome;
    struct json json;
    char hash[20];

    (void)snprintf(hash, sizeof(hash), "%016llx", (unsigned long long)outcome->report.trace_hash);
    json_init(&json, replay->out);
    json_object_begin(&json, NULL);
    json_number(&json, "seed", replay->run->seed);
    json_string(&json, "trace_hash", hash);
    json_array_begin(&json, "events");
    for (size_t i = 0; i < replay_count(replay); i++) {
        const struct sim_event *event = &replay->events->at[i];
        char text[REPLAY_TEXT_SIZE];

        if (is_told(replay, i)) {
            describe(replay, i, text, sizeof(text));
            json_object_begin(&json, NULL);
            json_number(&json, "at_us", event->at_ns / 1000);
            json_string(&json, "thread", replay_thread((struct replay *)replay, event)->name);
            json_string(&json, "kind", sim_event_kind_name((enum sim_event_kind)event->kind));
            json_string(&json, "text", text);
            json_object_end(&json);
        }
    }
    json_array_end(&json);
    if (outcome->kind == EXPLORE_NOTHING) {
        json_string(&json, "finding", NULL);
    } else {
        explore_put_finding_json(&json, "finding", replay->run->seed, outcome->kind,
                                 outcome->detail, outcome->report.trace_hash);
        json_object_end(&json);
    }
    json_object_end(&json);
}

/* ---- the command ---- */

static int fail_machine(const char *what)
{
    fprintf(stderr, "interloop explore: %s: %s\n", what, strerror(errno));
    return 3;
}

int explore_replay(const struct explore_run *run, bool is_json, bool is_verbose)
{
    size_t size = sizeof(struct explore_events) + REPLAY_EVENTS_MAX * sizeof(struct sim_event);
    struct explore_events *events = explore_share(size);
    struct explore_outcome *outcome = explore_share(sizeof(*outcome));
    struct replay *replay = calloc(1, sizeof(*replay));
    int status;

    if (events == NULL || outcome == NULL || replay == NULL) {
        status = fail_machine("memory for the events");
    } else {
        events->count_max = REPLAY_EVENTS_MAX;
        if (!explore_play_apart(run, events, outcome)) {
            status = fail_machine("start a process for the run");
        } else {
            *replay = (struct replay){ .run = run,
                                       .events = events,
                                       .outcome = outcome,
                                       .out = stdout,
                                       .is_verbose = is_verbose };
            replay_find_threads(replay);
            replay_lay_out(replay);
            if (is_json) {
                replay_put_json(replay);
            } else {
                replay_put(replay);
            }
            status = outcome->kind != EXPLORE_NOTHING;
        }
    }
    free(replay);
    explore_unshare(outcome, sizeof(*outcome));
    explore_unshare(events, size);
    return status;
}
