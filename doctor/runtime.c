/* runtime.c: recognising runtimes, and the part each thread plays.
 *
 * A runtime is recognised by what it cannot hide: names of its threads, functions on their stacks,
 * files it maps. The innermost frame that any pattern knows decides the role; a few roles also
 * depend on what lies further out. Patterns are parts of demangled names, so that they hold over
 * versions; those for Tokio were checked against 1.24 and 1.43.
 *
 * Owns: nothing. Thread: the doctor's only one. */
#include <fcntl.h>
#include <unistd.h>

#include "doctor/procfs.h"
#include "doctor/runtime.h"

struct pattern {
    const char *part; /* of the symbol; "@..." : beginning of the module's name */
    enum runtime_kind runtime;
    enum thread_role role;
};

/* In each frame the first pattern that fits counts. */
static const struct pattern patterns[] = {
    /* name resolution, whoever asks for it */
    { "getaddrinfo", RUNTIME_UNKNOWN, ROLE_RESOLVING },
    { "gethostbyname", RUNTIME_UNKNOWN, ROLE_RESOLVING },
    { "__res_context_", RUNTIME_UNKNOWN, ROLE_RESOLVING },
    { "_nss_dns_", RUNTIME_UNKNOWN, ROLE_RESOLVING },
    { "_nss_resolve_", RUNTIME_UNKNOWN, ROLE_RESOLVING },
    { "@libnss_", RUNTIME_UNKNOWN, ROLE_RESOLVING },

    /* Tokio */
    { "multi_thread::park::", RUNTIME_TOKIO, ROLE_POOL_IDLE },
    { "thread_pool::park::", RUNTIME_TOKIO, ROLE_POOL_IDLE },
    { "multi_thread::worker::Context::park", RUNTIME_TOKIO, ROLE_POOL_IDLE },
    { "tokio::runtime::blocking::task", RUNTIME_TOKIO, ROLE_BLOCKING_JOB },
    { "tokio::runtime::scheduler::multi_thread", RUNTIME_TOKIO, ROLE_IN_CALLBACK },
    { "tokio::runtime::scheduler::current_thread", RUNTIME_TOKIO, ROLE_IN_CALLBACK },
    { "tokio::runtime::thread_pool::worker", RUNTIME_TOKIO, ROLE_IN_CALLBACK },
    { "tokio::runtime::basic_scheduler", RUNTIME_TOKIO, ROLE_IN_CALLBACK },
    { "tokio::runtime::park::", RUNTIME_TOKIO, ROLE_WAITING_REPLY },
    { "tokio::park::thread::", RUNTIME_TOKIO, ROLE_WAITING_REPLY },
    { "tokio::runtime::blocking::pool", RUNTIME_TOKIO, ROLE_POOL_IDLE },

    /* libuv and Node */
    { "uv__getaddrinfo_work", RUNTIME_LIBUV, ROLE_RESOLVING },
    { "uv__fs_work", RUNTIME_LIBUV, ROLE_BLOCKING_JOB },
    { "uv__queue_work", RUNTIME_LIBUV, ROLE_BLOCKING_JOB },
    { "uv_run", RUNTIME_LIBUV, ROLE_IN_CALLBACK },
    { "node::SpinEventLoop", RUNTIME_NODE, ROLE_IN_CALLBACK },
    { "uv_cond_wait", RUNTIME_LIBUV, ROLE_POOL_IDLE },
    { "uv_sem_wait", RUNTIME_LIBUV, ROLE_POOL_IDLE },

    /* Python */
    { "@_asyncio.", RUNTIME_ASYNCIO, ROLE_IN_CALLBACK },
    { "@loop.cpython", RUNTIME_UVLOOP, ROLE_IN_CALLBACK },

    /* GLib */
    { "g_main_context_dispatch", RUNTIME_GLIB, ROLE_IN_CALLBACK },
    { "g_main_dispatch", RUNTIME_GLIB, ROLE_IN_CALLBACK },
    { "g_main_loop_run", RUNTIME_GLIB, ROLE_POLLING },
    { "g_main_context_iteration", RUNTIME_GLIB, ROLE_POLLING },
    { "g_thread_pool_thread_proxy", RUNTIME_GLIB, ROLE_POOL_IDLE },

    /* Go: a goroutine that blocks does not block the poller, so none of its threads is a loop */
    { "runtime.netpoll", RUNTIME_GO, ROLE_POLLING },
    { "runtime.stopm", RUNTIME_GO, ROLE_POOL_IDLE },
    { "runtime.mPark", RUNTIME_GO, ROLE_POOL_IDLE },
    { "runtime.notesleep", RUNTIME_GO, ROLE_POOL_IDLE },
    { "runtime.futexsleep", RUNTIME_GO, ROLE_POOL_IDLE },
    { "runtime.sysmon", RUNTIME_GO, ROLE_POOL_IDLE },

    /* interloop: a task is a fiber, whose stack ends in its own main function */
    { "il_loop_idle_waiting_for_events", RUNTIME_INTERLOOP, ROLE_POLLING },
    { "party_wait_for_job", RUNTIME_INTERLOOP, ROLE_POOL_IDLE },
    { "fiber_main", RUNTIME_INTERLOOP, ROLE_IN_CALLBACK },
    { "task_run_here", RUNTIME_INTERLOOP, ROLE_IN_CALLBACK },

    /* libevent, libev */
    { "event_base_loop", RUNTIME_LIBEVENT, ROLE_IN_CALLBACK },
    { "ev_run", RUNTIME_LIBEVENT, ROLE_IN_CALLBACK },
};

/* Thread names, cut by the kernel at 15 bytes, of loops whose stacks cannot be read (JIT). */
static const struct {
    const char *prefix;
    enum runtime_kind runtime;
} loop_names[] = {
    { "nioEventLoop", RUNTIME_NETTY },    { "epollEventLoop", RUNTIME_NETTY },
    { "multiThreadIoEv", RUNTIME_NETTY }, { "reactor-http-", RUNTIME_NETTY },
    { "vert.x-eventloo", RUNTIME_NETTY }, { "grpc-nio-worker", RUNTIME_NETTY },
    { "lettuce-", RUNTIME_NETTY },
};

/* ---- the process ---- */

static bool visit_file(const char *path, void *arg)
{
    static const struct {
        const char *part;
        enum runtime_kind runtime;
    } files[] = {
        /* stronger signs have higher numbers and win */
        { "/libglib-2.0.so", RUNTIME_GLIB }, { "/libevent", RUNTIME_LIBEVENT },
        { "/libuv.so", RUNTIME_LIBUV },      { "/_asyncio.", RUNTIME_ASYNCIO },
        { "/uvloop/loop.", RUNTIME_UVLOOP }, { "/libjvm.so", RUNTIME_JAVA },
    };
    enum runtime_kind *best = arg;

    for (size_t i = 0; i < il_array_count(files); i++) {
        if (strstr(path, files[i].part) != NULL) {
            size_t held = 0;

            while (held < il_array_count(files) && files[held].runtime != *best) {
                held++;
            }
            if (held == il_array_count(files) || i > held) {
                *best = files[i].runtime;
            }
        }
    }
    return true;
}

/* Go's linker puts a note "Go" with the build id into the first page of the file. */
static bool is_go(const struct look *look)
{
    static const char note[] = "\4\0\0\0Go\0"; /* type 4, name "Go\0\0" (the last 0 is C's) */
    char path[64], page[8192];
    ssize_t size;
    int fd;

    snprintf(path, sizeof(path), "/proc/%d/exe", look->pid);
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return false;
    }
    size = pread(fd, page, sizeof(page), 0);
    close(fd);
    return size > 0 && memmem(page, (size_t)size, note, sizeof(note)) != NULL;
}

void runtime_recognise_process(struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        const char *name = look->threads[i].name;

        if (strncmp(name, "tokio-runtime-w", 15) == 0 ||
            strncmp(name, "tokio-rt-worker", 15) == 0) {
            look->runtime = RUNTIME_TOKIO;
            return;
        }
    }
    if (strncmp(look->executable, "node", 4) == 0) {
        look->runtime = RUNTIME_NODE;
    } else if (is_go(look)) {
        look->runtime = RUNTIME_GO;
    } else {
        procfs_each_mapped_file(look, visit_file, &look->runtime);
    }
}

/* ---- threads ---- */

static const struct pattern *match_frame(const struct thread_frame *frame)
{
    for (size_t i = 0; i < il_array_count(patterns); i++) {
        const struct pattern *pattern = &patterns[i];

        if (pattern->part[0] == '@') {
            if (strncmp(frame->module, pattern->part + 1, strlen(pattern->part + 1)) == 0) {
                return pattern;
            }
        } else if (strstr(frame->symbol, pattern->part) != NULL) {
            return pattern;
        }
    }
    return NULL;
}

/* Is there, further out than frame `from`, a frame that says the thread runs a loop? */
static const struct pattern *loop_below(const struct seen_thread *thread, uint32_t from)
{
    for (uint32_t i = from; i < thread->frame_count; i++) {
        const struct pattern *pattern = match_frame(&thread->frames[i]);

        if (pattern != NULL && pattern->role == ROLE_IN_CALLBACK) {
            return pattern;
        }
    }
    return NULL;
}

/* asyncio's tasks run on uvloop as well; the loop that is to be driven lies further out. */
static bool is_on_uvloop(const struct seen_thread *thread)
{
    for (uint32_t i = 0; i < thread->frame_count; i++) {
        const struct pattern *pattern = match_frame(&thread->frames[i]);

        if (pattern != NULL && pattern->runtime == RUNTIME_UVLOOP) {
            return true;
        }
    }
    return false;
}

static void take_role(struct seen_thread *thread, const struct pattern *pattern, uint32_t at)
{
    const struct pattern *loop = loop_below(thread, at + 1);

    thread->role = pattern->role;
    if (pattern->runtime != RUNTIME_UNKNOWN) {
        thread->runtime = pattern->runtime;
    } else if (loop != NULL) {
        thread->runtime = loop->runtime;
    }
    if (thread->runtime == RUNTIME_ASYNCIO && is_on_uvloop(thread)) {
        thread->runtime = RUNTIME_UVLOOP;
    }
    switch (pattern->role) {
    case ROLE_WAITING_REPLY: /* block_on inside a task blocks the loop that runs the task */
        if (loop != NULL) {
            thread->role = ROLE_IN_CALLBACK;
        } else if (thread->wait.kind != WAIT_FUTEX) {
            thread->role = ROLE_OTHER;
        }
        break;
    case ROLE_POOL_IDLE: /* a condition variable waited for by a callback is no idle worker */
        if (loop != NULL && pattern->runtime != RUNTIME_TOKIO) {
            thread->role = ROLE_IN_CALLBACK;
        } else if (thread->wait.kind != WAIT_FUTEX && thread->runtime == RUNTIME_TOKIO) {
            thread->role = ROLE_OTHER;
        }
        break;
    case ROLE_POLLING: /* GLib: at rest it polls; anything else is the application's */
        if (thread->wait.kind != WAIT_POLL) {
            thread->role = ROLE_IN_CALLBACK;
        }
        break;
    default:
        break;
    }
}

static void recognise_by_stack(struct seen_thread *thread)
{
    for (uint32_t i = 0; i < thread->frame_count; i++) {
        const struct pattern *pattern = match_frame(&thread->frames[i]);

        if (pattern != NULL) {
            take_role(thread, pattern, i);
            return;
        }
    }
}

static void recognise_by_name(struct seen_thread *thread)
{
    for (size_t i = 0; i < il_array_count(loop_names); i++) {
        if (strncmp(thread->name, loop_names[i].prefix, strlen(loop_names[i].prefix)) == 0) {
            thread->runtime = loop_names[i].runtime;
            thread->role = ROLE_IN_CALLBACK;
            return;
        }
    }
}

void runtime_recognise_threads(struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        struct seen_thread *thread = &look->threads[i];

        thread->role = ROLE_UNKNOWN;
        thread->runtime = RUNTIME_UNKNOWN;
        recognise_by_stack(thread);
        if (thread->role == ROLE_UNKNOWN) {
            recognise_by_name(thread);
        }
        if (thread->runtime == RUNTIME_LIBUV && look->runtime == RUNTIME_NODE) {
            thread->runtime = RUNTIME_NODE;
        }
        if (thread->wait.kind == WAIT_EPOLL) {
            thread->role = ROLE_POLLING; /* whatever lies below: now it waits in a set */
        } else if (thread->role == ROLE_UNKNOWN && thread->stack_taken) {
            thread->role = ROLE_OTHER;
        }
        if (thread->runtime == RUNTIME_TOKIO && look->runtime == RUNTIME_UNKNOWN) {
            look->runtime = RUNTIME_TOKIO;
        }
    }
    registry_recognise_threads(look);
}

/* ---- protocols ---- */

static bool stack_has(const struct seen_thread *thread, const char *const *parts, size_t count)
{
    for (uint32_t i = 0; i < thread->frame_count; i++) {
        for (size_t k = 0; k < count; k++) {
            if (strstr(thread->frames[i].symbol, parts[k]) != NULL ||
                strstr(thread->frames[i].module, parts[k]) != NULL) {
                return true;
            }
        }
    }
    return false;
}

void runtime_note_protocols(struct look *look)
{
    static const char *const tls[] = { "libssl.", "libgnutls.", "SSL_",
                                       "ssl3_",   "gnutls_",    "rustls::" };
    static const char *const http2[] = { "libnghttp2.", "nghttp2_", "h2::" };

    for (uint32_t i = 0; i < look->thread_count; i++) {
        const struct seen_thread *thread = &look->threads[i];
        bool has_tls = stack_has(thread, tls, il_array_count(tls));
        bool has_http2 = stack_has(thread, http2, il_array_count(http2));

        for (uint32_t k = 0; k < look->socket_count && (has_tls || has_http2); k++) {
            struct seen_socket *socket = &look->sockets[k];

            if (socket->thread_watcher == thread->tid && socket->thread_watch_count > 0) {
                socket->stack_has_tls = has_tls;
                socket->stack_has_http2 = has_http2;
            }
        }
    }
}

/* ---- what to show of a stack ---- */

static bool is_plumbing(const struct thread_frame *frame)
{
    static const char *const parts[] = {
        "std::",        "core::",    "alloc::",  "<alloc::", "<core::",   "<std::",
        "tokio::",      "futures_",  "__",       "_Py",      "Py",        "clone",
        "start_thread", "syscall",   "uv_",      "uv__",     "g_main",    "v8::",
        "node::",       "Builtins_", "runtime.", "pthread_", "nanosleep", "clock_nanosleep",
        "usleep",       "sleep",     "poll",     "ppoll",    "select",    "read",
        "recv",         "recvfrom",  "write",    "send",     "sem_wait",  "parking_lot",
        "lock_api",     "_start",
    };

    if (frame->symbol[0] == '\0') {
        return true;
    }
    for (size_t i = 0; i < il_array_count(parts); i++) {
        if (strncmp(frame->symbol, parts[i], strlen(parts[i])) == 0) {
            return true;
        }
    }
    return strncmp(frame->module, "libc.so", 7) == 0 ||
           strncmp(frame->module, "libpthread", 10) == 0;
}

const struct thread_frame *runtime_user_frame(const struct seen_thread *thread)
{
    for (uint32_t i = 0; i < thread->frame_count; i++) {
        if (!is_plumbing(&thread->frames[i])) {
            return &thread->frames[i];
        }
    }
    return NULL;
}
