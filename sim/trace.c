/* trace.c: what happens in a run, as a hash, and as a list for those who ask for it.
 *
 * Owns: the list, until the run is over. Threads: the world's and simulated ones. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/inside.h"

#define EVENTS_FIRST 4096

void trace_begin(void)
{
    sim.event_size = 0;
    sim.report->trace_hash = sim.report->interleaving_hash = 0x9e3779b97f4a7c15u;
}

static uint64_t mix(uint64_t hash, uint64_t value)
{
    hash = (hash ^ value) * 0xbf58476d1ce4e5b9u;
    return hash ^ (hash >> 29);
}

static uint64_t mix_text(uint64_t hash, const char *text)
{
    while (*text != '\0') {
        hash = (hash ^ (unsigned char)*text++) * 0x100000001b3u;
    }
    return hash;
}

static void event_keep(const struct sim_event *event)
{
    struct sim_report *report = sim.report;

    if (report->event_count == sim.event_size) {
        sim.event_size = sim.event_size > 0 ? sim.event_size * 2 : EVENTS_FIRST;
        report->events = realloc(report->events, sim.event_size * sizeof(*event));
        il_assert(report->events != NULL);
    }
    report->events[report->event_count++] = *event;
}

static void event_tell(enum sim_event_kind kind, uint64_t a, uint64_t b, const char *text)
{
    struct sim_event event = { .at_ns = sim.now_ns - SIM_START_NS,
                               .decision = sim.report->decision_count,
                               .a = a,
                               .b = b,
                               .thread = sim.current != NULL ? sim.current->number : 0,
                               .kind = (uint16_t)kind };

    (void)snprintf(event.text, sizeof(event.text), "%s", text != NULL ? text : "");
    if (sim.options.on_event != NULL) {
        sim.options.on_event(sim.options.event_arg, &event);
    }
    if (sim.options.with_events) {
        event_keep(&event);
    }
}

void trace(enum sim_event_kind kind, uint64_t a, uint64_t b, const char *text)
{
    struct sim_report *report = sim.report;
    uint64_t hash = report->trace_hash;

    hash = mix(hash, sim.now_ns);
    hash = mix(hash, (uint64_t)kind << 32 | (sim.current != NULL ? sim.current->number : 0));
    hash = mix(hash, a << 32 ^ b);
    if (kind == SIM_EVENT_NOTE) {
        hash = mix_text(hash, text);
    }
    report->trace_hash = hash;
    if (kind == SIM_EVENT_RUN) { /* where in the course of things, not when */
        report->interleaving_hash =
            mix(report->interleaving_hash, report->step_count << 32 ^ a << 16 ^ b);
    }
    if (sim.options.with_events || sim.options.on_event != NULL) {
        event_tell(kind, a, b, text);
    }
}

void sim_note(const char *format, ...)
{
    char text[SIM_EVENT_TEXT_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    trace(SIM_EVENT_NOTE, 0, 0, text);
}

/* ---- for people ---- */

const char *sim_event_kind_name(enum sim_event_kind kind)
{
    static const char *const names[SIM_EVENT_KIND_COUNT] = {
        [SIM_EVENT_THREAD_START] = "thread-start",
        [SIM_EVENT_THREAD_END] = "thread-end",
        [SIM_EVENT_RUN] = "run",
        [SIM_EVENT_WAIT] = "wait",
        [SIM_EVENT_WAKE] = "wake",
        [SIM_EVENT_CONNECT] = "connect",
        [SIM_EVENT_CONNECTED] = "connected",
        [SIM_EVENT_CONNECT_FAIL] = "connect-fail",
        [SIM_EVENT_SEND] = "send",
        [SIM_EVENT_RECEIVE] = "receive",
        [SIM_EVENT_ARRIVE] = "arrive",
        [SIM_EVENT_ARRIVE_FAR] = "arrive-far",
        [SIM_EVENT_FIN] = "fin",
        [SIM_EVENT_RST] = "rst",
        [SIM_EVENT_CLOSE] = "close",
        [SIM_EVENT_POLL_ADD] = "poll-add",
        [SIM_EVENT_POLL_REMOVE] = "poll-remove",
        [SIM_EVENT_POLL_GOT] = "poll-got",
        [SIM_EVENT_FAULT] = "fault",
        [SIM_EVENT_NOTE] = "note",
    };

    return kind < SIM_EVENT_KIND_COUNT ? names[kind] : "?";
}

static const char *errno_name(uint64_t error)
{
    const char *name = strerrorname_np((int)error);

    return name != NULL ? name : "?";
}

static void format_thread(const struct sim_event *event, unsigned long long a, unsigned long long b,
                          char *text, size_t size)
{
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EVENT_THREAD_START:
        (void)snprintf(text, size, "starts thread %llu '%s'", a, event->text);
        break;
    case SIM_EVENT_THREAD_END:
        (void)snprintf(text, size, "ends");
        break;
    case SIM_EVENT_RUN:
        if (b > 0) {
            (void)snprintf(text, size, "goes on, after thread %llu", b);
        } else {
            (void)snprintf(text, size, "goes on");
        }
        break;
    case SIM_EVENT_WAIT:
        if (a > 0) {
            (void)snprintf(text, size, "waits for %s %llu", event->text, a);
        } else {
            (void)snprintf(text, size, "waits for %s", event->text);
        }
        break;
    case SIM_EVENT_WAKE:
        (void)snprintf(text, size, "wakes thread %llu", a);
        break;
    case SIM_EVENT_FAULT:
        (void)snprintf(text, size, "fault: %s", sim_fault_name((enum sim_fault)a));
        break;
    default:
        (void)snprintf(text, size, "%s", event->text);
        break;
    }
}

void sim_event_format(const struct sim_event *event, char *text, size_t size)
{
    unsigned long long a = event->a, b = event->b;

    switch ((enum sim_event_kind)event->kind) {
    case SIM_EVENT_CONNECT:
        (void)snprintf(text, size, "connects %llu to port %llu", a, b);
        break;
    case SIM_EVENT_CONNECTED:
        (void)snprintf(text, size, "%llu is connected", a);
        break;
    case SIM_EVENT_CONNECT_FAIL:
        (void)snprintf(text, size, "%llu cannot connect: %s", a, errno_name(b));
        break;
    case SIM_EVENT_SEND:
        (void)snprintf(text, size, "sends %llu bytes on %llu", b, a);
        break;
    case SIM_EVENT_RECEIVE:
        (void)snprintf(text, size, "reads %llu bytes from %llu", b, a);
        break;
    case SIM_EVENT_ARRIVE:
        (void)snprintf(text, size, "%llu bytes arrive at %llu", b, a);
        break;
    case SIM_EVENT_ARRIVE_FAR:
        (void)snprintf(text, size, "%llu bytes of %llu arrive at the server", b, a);
        break;
    case SIM_EVENT_FIN:
        (void)snprintf(text, size, "FIN arrives at %llu", a);
        break;
    case SIM_EVENT_RST:
        (void)snprintf(text, size, "%llu is dead: %s", a, errno_name(b));
        break;
    case SIM_EVENT_CLOSE:
        (void)snprintf(text, size, "closes %llu", a);
        break;
    case SIM_EVENT_POLL_ADD:
        (void)snprintf(text, size, "poller %llu watches %llu", a, b);
        break;
    case SIM_EVENT_POLL_REMOVE:
        (void)snprintf(text, size, "poller %llu lets go of %llu", a, b);
        break;
    case SIM_EVENT_POLL_GOT:
        (void)snprintf(text, size, "poller %llu reports%s%s%s%s%s", a, b & EPOLLIN ? " in" : "",
                       b & EPOLLOUT ? " out" : "", b & EPOLLRDHUP ? " rdhup" : "",
                       b & EPOLLHUP ? " hup" : "", b & EPOLLERR ? " err" : "");
        break;
    default:
        format_thread(event, a, b, text, size);
        break;
    }
}
