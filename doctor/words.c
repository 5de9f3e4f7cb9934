/* words.c: what a finding means and what to do, in the words of the runtime it is about.
 *
 * Owns: nothing. Thread: the doctor's only one. The texts name numbers, addresses, threads and
 * functions, never what was in a request. */
#include "doctor/runtime.h"
#include "doctor/verdict.h"
#include "doctor/waits.h"

/* How each runtime calls its things. */
struct words {
    const char *runtime;  /* the thing that must be driven */
    const char *drive;    /* how it is driven */
    const char *blocking; /* where blocking work belongs */
    const char *share;    /* how to share a client */
};

static const struct words words_of[RUNTIME_COUNT] = {
    [RUNTIME_UNKNOWN] = { "event loop", "run the loop on a thread that does nothing else",
                          "a thread of its own", "give each loop its own client" },
    [RUNTIME_TOKIO] = { "Tokio runtime",
                        "keep a thread in block_on for as long as connections of this runtime are "
                        "used, or use a multi-thread runtime",
                        "tokio::task::spawn_blocking",
                        "use one client per runtime, or send all requests to one runtime; "
                        "pool_max_idle_per_host(0) hides it at the price of a handshake per "
                        "request" },
    [RUNTIME_LIBUV] = { "libuv loop", "keep a thread in uv_run", "uv_queue_work",
                        "use one client (curl_multi handle) per loop" },
    [RUNTIME_NODE] = { "Node.js event loop", "return from the callback",
                       "a worker thread (worker_threads)", "use one agent per thread" },
    [RUNTIME_ASYNCIO] = { "asyncio loop",
                          "keep the loop in run_forever on a thread, and hand work to it with "
                          "run_coroutine_threadsafe",
                          "asyncio.to_thread or run_in_executor",
                          "create one ClientSession or AsyncClient per loop, inside it" },
    [RUNTIME_UVLOOP] = { "uvloop loop", "keep the loop in run_forever on a thread",
                         "asyncio.to_thread or run_in_executor",
                         "create one session per loop, inside it" },
    [RUNTIME_GLIB] = { "GMainContext", "iterate the context (g_main_loop_run) on a thread",
                       "g_task_run_in_thread", "use one SoupSession per main context" },
    [RUNTIME_GO] = { "Go network poller", "nothing to do: it is driven by the Go scheduler",
                     "a goroutine", "share http.Client freely" },
    [RUNTIME_NETTY] = { "event loop of the JVM", "return from the handler",
                        "an executor of its own (publishOn, EventExecutorGroup)",
                        "share the client, but never block its event loop threads" },
    [RUNTIME_JAVA] = { "selector loop of the JVM", "return from the callback",
                       "an executor of its own (ExecutorService)",
                       "share the client, but never block the thread of its selector" },
    [RUNTIME_LIBEVENT] = { "libevent base", "keep a thread in event_base_dispatch",
                           "a thread of its own", "use one client per base" },
    [RUNTIME_INTERLOOP] = { "interloop runtime", "keep it running or turn it",
                            "il_block_in_place or a thread of its own",
                            "use the default driver, which belongs to no runtime" },
};

static void append(char *text, size_t size, const char *format, ...) IL_PRINTF(3, 4);

static void append(char *text, size_t size, const char *format, ...)
{
    size_t used = strlen(text);
    va_list args;

    va_start(args, format);
    vsnprintf(text + used, size - used, format, args);
    va_end(args);
}

#define EXPLAIN(finding, ...)                                                                      \
    append((finding)->explanation, sizeof((finding)->explanation), __VA_ARGS__)
#define ADVISE(finding, ...) append((finding)->advice, sizeof((finding)->advice), __VA_ARGS__)

/* "127.0.0.1:8080", or "127.0.0.1:8080 and 3 more". */
static void name_peers(const struct look *look, const struct finding *finding, char *ret_text,
                       size_t size)
{
    if (finding->socket_count == 0) {
        snprintf(ret_text, size, "?");
    } else if (finding->socket_total > 1) {
        snprintf(ret_text, size, "%s and %u more", look->sockets[finding->sockets[0]].peer,
                 finding->socket_total - 1);
    } else {
        snprintf(ret_text, size, "%s", look->sockets[finding->sockets[0]].peer);
    }
}

/* "The answer of 127.0.0.1:80": what lies unread in the first socket. */
static void name_unread(const struct look *look, const struct finding *finding, char *ret_text,
                        size_t size)
{
    const struct seen_socket *socket =
        finding->socket_count > 0 ? &look->sockets[finding->sockets[0]] : NULL;
    char peers[96];

    name_peers(look, finding, peers, sizeof(peers));
    if (socket != NULL && socket->last.state == TCPS_LISTEN) {
        snprintf(ret_text, size, "A new connection to %s", socket->local);
    } else {
        snprintf(ret_text, size, "%s of %s",
                 socket != NULL && socket->is_server_side ? "A request" : "The answer", peers);
    }
}

static const char *article(const char *noun)
{
    return strchr("aei", noun[0]) != NULL ? "an" : "a";
}

static uint64_t seconds_tenths(uint64_t ms)
{
    return (ms + 50) / 100;
}

/* "thread 12 "worker" sleeps in my_handler" */
static void name_thread(const struct look *look, const struct finding *finding, char *ret_text,
                        size_t size)
{
    const struct seen_thread *thread;
    const struct thread_frame *frame;
    char wait[LOOK_TEXT_MAX];

    if (finding->thread_count == 0) {
        snprintf(ret_text, size, "no thread");
        return;
    }
    thread = &look->threads[finding->threads[0]];
    frame = runtime_user_frame(thread);
    waits_describe(look, thread, wait, sizeof(wait));
    snprintf(ret_text, size, "thread %d \"%s\" %s%s%.90s", thread->tid, thread->name, wait,
             frame == NULL ? "" : " in ", frame == NULL ? "" : frame->symbol);
}

/* ---- one function for each verdict ---- */

static void explain_parked(const struct look *look, struct finding *finding,
                           const struct words *words)
{
    char unread[128];
    uint64_t tenths = seconds_tenths(finding->since_ms);

    name_unread(look, finding, unread, sizeof(unread));
    if (finding->is_write_side) {
        EXPLAIN(
            finding,
            "Something was handed to %s %s (a request, a message, a task to wake) and has "
            "lain there for at least %llu.%llu s, because no thread drives it. Whoever waits for "
            "it waits for ever: a request that was queued on one of its connections has not even "
            "been written to its socket, which looks like an idle connection.",
            article(words->runtime), words->runtime, (unsigned long long)tenths / 10,
            (unsigned long long)tenths % 10);
    } else if (finding->set_count == 0) {
        EXPLAIN(finding,
                "%s has arrived and has lain unread in this machine for %llu.%llu s. Nobody reads "
                "its socket: most likely it belongs to %s %s that no thread drives. The other side "
                "and the network have done their part; the request hangs for ever.",
                unread, (unsigned long long)tenths / 10, (unsigned long long)tenths % 10,
                article(words->runtime), words->runtime);
    } else {
        EXPLAIN(finding,
                "%s has arrived and has lain unread in this machine for %llu.%llu s. Its socket "
                "belongs to one %s alone (event set fd %d), and no thread drives that: the thread "
                "that did has gone elsewhere. The other side and the network have done their part; "
                "the request hangs for ever.",
                unread, (unsigned long long)tenths / 10, (unsigned long long)tenths % 10,
                words->runtime, finding->set_count > 0 ? look->sets[finding->sets[0]].fds[0] : -1);
    }
    ADVISE(finding, "Drive the owner: %s. Or do not share across owners: %s.", words->drive,
           words->share);
}

static void explain_busy(const struct look *look, struct finding *finding,
                         const struct words *words)
{
    char who[400], unread[128];
    uint64_t tenths = seconds_tenths(finding->since_ms);

    name_thread(look, finding, who, sizeof(who));
    name_unread(look, finding, unread, sizeof(unread));
    EXPLAIN(
        finding,
        "The thread that should drive this %s does not come back to it: %s. Meanwhile: %s lies "
        "%s in this machine (%llu.%llu s). Every request of that loop is starved until the call "
        "returns.",
        words->runtime, who, finding->is_write_side ? "something that was handed to it" : unread,
        finding->is_write_side ? "uncollected" : "unread", (unsigned long long)tenths / 10,
        (unsigned long long)tenths % 10);
    ADVISE(finding, "Take the blocking or long work off the loop: %s. The stack shows where.",
           words->blocking);
}

static void explain_self(const struct look *look, struct finding *finding,
                         const struct words *words)
{
    char who[400];

    name_thread(look, finding, who, sizeof(who));
    EXPLAIN(finding,
            "The thread that drives this %s waits, inside one of its callbacks, for something that "
            "only this %s could deliver: %s. It can never come.",
            words->runtime, words->runtime, who);
    ADVISE(
        finding,
        "Never wait synchronously on a loop's own thread: await the result, or make the blocking "
        "call from elsewhere (%s).",
        words->blocking);
}

static void explain_stopped(const struct look *look, struct finding *finding)
{
    EXPLAIN(finding,
            "The process is stopped: none of its %u threads runs, and so nothing that waits for "
            "it moves. ",
            finding->thread_total);
    if (look->is_frozen) {
        EXPLAIN(finding, "Its cgroup is frozen, as `docker pause` does.");
        ADVISE(finding,
               "Let it go on: unpause the container, or write 0 to the cgroup.freeze of "
               "the cgroup that /proc/%d/cgroup names.",
               look->pid);
    } else if (look->tracer != 0) {
        EXPLAIN(finding, "A debugger holds it, or something else that traces it.");
        ADVISE(finding, "Let it go on, or detach what traces it: process %d.", look->tracer);
    } else {
        EXPLAIN(finding, "A signal did that (SIGSTOP, or SIGTSTP as Ctrl-Z sends it).");
        ADVISE(finding, "Let it go on: kill -CONT %d.", look->pid);
    }
}

static void explain_workers(const struct look *look, struct finding *finding,
                            const struct words *words)
{
    char who[400];

    name_thread(look, finding, who, sizeof(who));
    EXPLAIN(finding,
            "%u thread%s of this %s %s stuck in user code or a blocking call: %s. Nothing "
            "waits in the kernel, but whatever is queued behind (requests not yet sent, "
            "timers, time limits) does not run.",
            finding->thread_total, finding->thread_total == 1 ? "" : "s", words->runtime,
            finding->thread_total == 1 ? "is" : "are", who);
    ADVISE(finding, "Take the blocking work off these threads: %s.", words->blocking);
}

/* The server side of nobody-watches: whoever would serve it is elsewhere. */
static void explain_unserved(const struct look *look, struct finding *finding,
                             const struct words *words)
{
    char unread[128];
    uint64_t tenths = seconds_tenths(finding->since_ms);

    name_unread(look, finding, unread, sizeof(unread));
    EXPLAIN(finding,
            "This process is the server. %s has waited for %llu.%llu s, and no thread reads it or "
            "has it in an event set: those that would take it are all busy, or it was forgotten. "
            "Whoever asks waits.",
            unread, (unsigned long long)tenths / 10, (unsigned long long)tenths % 10);
    ADVISE(finding,
           "See what the threads do (--stacks). If they serve other requests there are too few of "
           "them, or blocking work belongs elsewhere: %s.",
           words->blocking);
}

static void explain_nobody(const struct look *look, struct finding *finding,
                           const struct words *words)
{
    const struct seen_socket *first =
        finding->socket_count > 0 ? &look->sockets[finding->sockets[0]] : NULL;
    char peers[96];

    if (first != NULL && first->is_server_side) {
        explain_unserved(look, finding, words);
        return;
    }
    name_peers(look, finding, peers, sizeof(peers));
    EXPLAIN(finding,
            "Bytes from %s lie unread, and nothing will ever read them: the socket is "
            "registered in no event set and no thread reads it. Whoever was to read it is "
            "gone, or has forgotten it (owner closed, waiter cancelled, wake-up lost).",
            peers);
    ADVISE(finding,
           "Look for who opened the connection: %s %s that was closed or dropped while its "
           "client lives on, or a cancelled request that kept its connection. In general: "
           "%s.",
           article(words->runtime), words->runtime, words->share);
}

static void explain_missed(const struct look *look, struct finding *finding)
{
    char peers[96];

    name_peers(look, finding, peers, sizeof(peers));
    EXPLAIN(finding,
            "Bytes from %s lie unread although the loop that watches the socket is alive and "
            "polls. It will not be told again: the event was consumed without reading to the "
            "end (edge-triggered), or the registration does not ask for reading.",
            peers);
    ADVISE(finding, "Read until EAGAIN after each edge, register interest in reading again after a "
                    "pause, and do not clear readiness before the read said EAGAIN.");
}

static void explain_closed(const struct look *look, struct finding *finding)
{
    char peers[96];

    name_peers(look, finding, peers, sizeof(peers));
    EXPLAIN(finding,
            "%s closed the connection long ago and the program has not noticed or not "
            "acted: the socket is in CLOSE_WAIT. No request is seen to wait on it now; the "
            "next one that reuses it fails or hangs.",
            peers);
    ADVISE(finding,
           "Keep idle connections watched, probe them before reuse, and set the pool's idle "
           "time limit below the server's keep-alive time.");
}

static void explain_peer(const struct look *look, struct finding *finding)
{
    char peers[96];
    uint64_t tenths = seconds_tenths(finding->since_ms);

    name_peers(look, finding, peers, sizeof(peers));
    EXPLAIN(finding,
            "This is not a local hang. The request to %s is out and acknowledged, for "
            "%llu.%llu s, and nothing has come back: the server owes the answer. "
            "(On a protocol in which the peer may stay silent, such as a subscription, this "
            "is normal.)",
            peers, (unsigned long long)tenths / 10, (unsigned long long)tenths % 10);
    ADVISE(finding, "Look at the server. On this side set a time limit for the first byte, so that "
                    "the request ends with an error.");
}

static void explain_network(const struct look *look, struct finding *finding)
{
    char peers[96];

    name_peers(look, finding, peers, sizeof(peers));
    EXPLAIN(finding,
            "The network or the host of %s does not answer: what was sent is not "
            "acknowledged and is sent again and again. This process does what it can.",
            peers);
    ADVISE(finding,
           "Check route, firewall and host; a time limit for connecting and TCP_USER_TIMEOUT "
           "turn the silence into an error.");
}

static void explain_pressure(const struct look *look, struct finding *finding)
{
    bool is_server_side =
        finding->socket_count > 0 && look->sockets[finding->sockets[0]].is_server_side;
    char peers[96];

    name_peers(look, finding, peers, sizeof(peers));
    if (finding->is_window) {
        EXPLAIN(finding,
                "%s may send no more on this HTTP/2 connection: bodies that have come and that "
                "nobody reads have used up the connection's window. Every request on it waits for "
                "its body, also those whose runtimes are alive.",
                peers);
        ADVISE(finding,
               "Read those bodies, or drop their responses. With the default driver, which "
               "belongs to no runtime, a body that is not read takes nothing from the "
               "connection's window.");
        return;
    }
    EXPLAIN(
        finding,
        "The program is alive and has stopped reading the %s of %s in the middle. Whoever holds "
        "it does not consume it, or does so slower than it comes; the connection, and its "
        "place in the pool, are held meanwhile.%s",
        is_server_side ? "request" : "response", peers,
        finding->thread_count > 0 ? " What has been read cannot be passed on: a thread stands in "
                                    "writing it to somewhere else."
                                  : "");
    ADVISE(finding,
           "%sRead every body to its end, or drop the response; a pool whose connections "
           "are all held like this starves.",
           finding->thread_count > 0 ? "Look at who reads what is written. " : "");
}

static void explain_locks(const struct look *look, struct finding *finding)
{
    EXPLAIN(finding,
            "%u thread%s for mutexes in a circle (or for one whose owner no longer exists). "
            "None of them can ever go on, and neither can what waits for them.",
            finding->thread_total, finding->thread_total == 1 ? " waits" : "s wait");
    ADVISE(finding, "Take locks in one order everywhere, and never call back into user code with a "
                    "lock held. After fork, only async-signal-safe functions may be called in the "
                    "child of a threaded process.");
}

static void explain_resolver(const struct look *look, struct finding *finding,
                             const struct words *words)
{
    EXPLAIN(finding, "Name resolution stands: ");
    if (finding->thread_total > 0) {
        EXPLAIN(finding, "%u thread%s in the C library's resolver", finding->thread_total,
                finding->thread_total == 1 ? "" : "s");
    }
    if (finding->socket_total > 0) {
        EXPLAIN(finding, "%s%u question%s to name servers without an answer",
                finding->thread_total > 0 ? ", " : "", finding->socket_total,
                finding->socket_total == 1 ? "" : "s");
    }
    EXPLAIN(finding, ". Requests to new hosts wait for it, and so does everything that needs the "
                     "same threads.");
    ADVISE(finding,
           "Check the name servers in /etc/resolv.conf. getaddrinfo blocks its thread for "
           "up to 30 s: call it off the loop (%s), or use an asynchronous resolver (c-ares).",
           words->blocking);
}

/* Interloop's own names for what the finding is about. */
static void explain_by_name(const struct look *look, struct finding *finding)
{
    const struct seen_loop *loop =
        finding->set_count > 0 ? registry_loop_of_set(look, finding->sets[0]) : NULL;
    char label[400];

    if (loop != NULL) {
        registry_label_loop(loop, label, sizeof(label));
        EXPLAIN(finding, " The event set is that of %s.", label);
    }
    if (finding->request_count > 0) {
        registry_label_request(&registry_shot(look)->requests[finding->requests[0]], label,
                               sizeof(label));
        EXPLAIN(finding, " The request is %s", label);
        if (finding->request_total > 1) {
            EXPLAIN(finding, "; %u more wait likewise", finding->request_total - 1);
        }
        EXPLAIN(finding, ".");
    }
}

void words_fill(const struct look *look, struct finding *finding)
{
    const struct words *words = &words_of[finding->runtime];

    switch (finding->verdict) {
    case VERDICT_PARKED_OWNER:
        explain_parked(look, finding, words);
        break;
    case VERDICT_BUSY_OWNER:
        explain_busy(look, finding, words);
        break;
    case VERDICT_SELF_WAIT:
        explain_self(look, finding, words);
        break;
    case VERDICT_WORKERS_BLOCKED:
        if (look->is_stopped) {
            explain_stopped(look, finding);
        } else {
            explain_workers(look, finding, words);
        }
        break;
    case VERDICT_NOBODY_WATCHES:
        explain_nobody(look, finding, words);
        break;
    case VERDICT_MISSED_WAKEUP:
        explain_missed(look, finding);
        break;
    case VERDICT_CLOSED_UNNOTICED:
        explain_closed(look, finding);
        break;
    case VERDICT_PEER:
        explain_peer(look, finding);
        break;
    case VERDICT_NETWORK:
        explain_network(look, finding);
        break;
    case VERDICT_BACK_PRESSURE:
        explain_pressure(look, finding);
        break;
    case VERDICT_LOCK_CYCLE:
        explain_locks(look, finding);
        break;
    case VERDICT_RESOLVER:
        explain_resolver(look, finding, words);
        break;
    case VERDICT_HEALTHY:
    case VERDICT_COUNT:
        break;
    }
    explain_by_name(look, finding);
}
