/* report_text.c: the report for people, and the labels of things.
 *
 * First line the verdict, then what it means, then the picture, the evidence and what to do: the
 * order in which somebody on call needs it. Owns: nothing. */
#include "doctor/report.h"
#include "doctor/runtime.h"
#include "doctor/verdict.h"
#include "doctor/waits.h"

#define REPORT_WIDTH         92
#define REPORT_THREADS_SHOWN 8
#define REPORT_STACK_SHOWN   12

/* ---- labels ---- */

const char *label_protocol(const struct seen_socket *socket)
{
    switch (socket->first_bytes) {
    case BYTES_HTTP1_STATUS:
    case BYTES_HTTP1_REQUEST:
        return "HTTP/1";
    case BYTES_HTTP2_FRAME:
    case BYTES_HTTP2_CONTROL:
        return "HTTP/2";
    case BYTES_TLS_DATA:
    case BYTES_TLS_ALERT:
        return "TLS";
    default:
        break;
    }
    if (socket->stack_has_http2) {
        return "HTTP/2";
    }
    return socket->stack_has_tls || socket->peer_port == 443 ? "TLS" : "";
}

void label_socket(const struct look *look, uint32_t index, char *ret_text, size_t size)
{
    const struct seen_socket *socket = &look->sockets[index];
    const char *protocol = label_protocol(socket);

    if (socket->family == SOCKET_TCP && socket->last.state == TCPS_LISTEN) {
        snprintf(ret_text, size, "fd %d listens on %s", socket->fd, socket->local);
        return;
    }
    snprintf(ret_text, size, "fd %d  %s -> %s  %s%s%s", socket->fd, socket->local, socket->peer,
             socket->family == SOCKET_TCP ? tcp_state_name(socket->last.state) : "UDP",
             protocol[0] == '\0' ? "" : "  ", protocol);
}

void label_set(const struct look *look, uint32_t index, char *ret_text, size_t size)
{
    const struct seen_set *set = &look->sets[index];
    const struct seen_loop *loop = registry_loop_of_set(look, index);
    size_t used = (size_t)snprintf(ret_text, size, "%s fd %d",
                                   set->kind == FD_URING ? "io_uring" : "epoll set", set->fds[0]);

    for (uint32_t i = 1; i < set->fd_count && used < size; i++) {
        used += (size_t)snprintf(ret_text + used, size - used, "%s%d", i == 1 ? " (= " : ", ",
                                 set->fds[i]);
    }
    if (used < size) {
        used += (size_t)snprintf(ret_text + used, size - used, "%s, watches %u",
                                 set->fd_count > 1 ? ")" : "", set->watch_count);
    }
    if (used < size && set->look_count > 0) {
        used += (size_t)snprintf(ret_text + used, size - used,
                                 ": ready at %u, polled at %u of %u looks", set->ready_count,
                                 set->polled_count, set->look_count);
    }
    if (used < size && loop != NULL) {
        char label[128];

        registry_label_loop(loop, label, sizeof(label));
        snprintf(ret_text + used, size - used, "; %s", label);
    }
}

void label_thread(const struct look *look, uint32_t index, char *ret_text, size_t size)
{
    const struct seen_thread *thread = &look->threads[index];
    const struct thread_frame *frame = runtime_user_frame(thread);
    char wait[LOOK_TEXT_MAX];

    waits_describe(look, thread, wait, sizeof(wait));
    snprintf(ret_text, size, "thread %d \"%s\" %s%s%.100s", thread->tid, thread->name, wait,
             frame == NULL ? "" : " in ", frame == NULL ? "" : frame->symbol);
}

void label_request(const struct look *look, const struct finding *finding, char *ret_text,
                   size_t size)
{
    const struct seen_socket *socket =
        finding->socket_count > 0 ? &look->sockets[finding->sockets[0]] : NULL;

    if (finding->request_count > 0) {
        registry_label_request(&registry_shot(look)->requests[finding->requests[0]], ret_text,
                               size);
    } else if (socket == NULL) {
        snprintf(ret_text, size, "%s",
                 finding->is_write_side ? "a request or message that was handed over and not taken"
                                        : "whatever waits for these threads");
    } else if (socket->family != SOCKET_TCP || socket->last.unread_bytes == 0) {
        snprintf(ret_text, size, "request to %s", socket->peer);
    } else if (socket->last.state == TCPS_LISTEN) {
        snprintf(ret_text, size, "%llu connections to accept on %s",
                 (unsigned long long)socket->last.unread_bytes, socket->local);
    } else if (socket->is_server_side) {
        snprintf(ret_text, size, "request of %s, %llu bytes unread", socket->peer,
                 (unsigned long long)socket->last.unread_bytes);
    } else if (socket->http_status != 0) {
        snprintf(ret_text, size, "answer of %s (status %u), %llu bytes unread", socket->peer,
                 socket->http_status, (unsigned long long)socket->last.unread_bytes);
    } else {
        snprintf(ret_text, size, "answer of %s, %llu bytes unread", socket->peer,
                 (unsigned long long)socket->last.unread_bytes);
    }
}

/* ---- small pieces ---- */

static void print_wrapped(FILE *out, const char *indent, const char *text)
{
    size_t column = 0;

    while (*text != '\0') {
        size_t length = strcspn(text, " ");

        if (column > 0 && column + 1 + length > REPORT_WIDTH - strlen(indent)) {
            fputc('\n', out);
            column = 0;
        }
        fprintf(out, "%s%.*s", column == 0 ? indent : " ", (int)length, text);
        column += length + (column > 0);
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

static const char *colour_of(const struct report_style *style, enum verdict verdict)
{
    if (!style->colour) {
        return "";
    }
    if (verdict == VERDICT_HEALTHY) {
        return "\033[1;32m";
    }
    return verdict == VERDICT_PEER || verdict == VERDICT_NETWORK ||
                   verdict == VERDICT_BACK_PRESSURE || verdict == VERDICT_CLOSED_UNNOTICED
               ? "\033[1;33m"
               : "\033[1;31m";
}

static const char *colour_off(const struct report_style *style)
{
    return style->colour ? "\033[0m" : "";
}

static void print_title(FILE *out, const struct report_style *style, const char *title)
{
    fprintf(out, "\n%s%s%s\n", style->colour ? "\033[1m" : "", title, colour_off(style));
}

void report_line(FILE *out, const struct look *look, const struct finding *finding)
{
    char request[256], thread[512] = "";

    label_request(look, finding, request, sizeof(request));
    if (finding->thread_count > 0 && finding->verdict != VERDICT_PARKED_OWNER) {
        label_thread(look, finding->threads[0], thread, sizeof(thread));
    }
    fprintf(out, "pid %d %s: %s (%s, %s%llu.%llu s): %s", look->pid, look->command,
            verdict_name(finding->verdict), confidence_name(finding->confidence),
            finding->since_is_at_least ? "for at least " : "for ",
            (unsigned long long)finding->since_ms / 1000,
            (unsigned long long)finding->since_ms % 1000 / 100, request);
    if (finding->set_count > 0) {
        fprintf(out, "; epoll set fd %d", look->sets[finding->sets[0]].fds[0]);
    }
    if (thread[0] != '\0') {
        fprintf(out, "; %s", thread);
    }
}

/* ---- the picture: request -> socket -> event set -> runtime -> threads ---- */

struct picture {
    FILE *out;
    const char *bar, *tee, *end;
};

static void print_step(struct picture *picture, const char *what, const char *text, bool is_first)
{
    if (!is_first) {
        fprintf(picture->out, "        %s\n", picture->bar);
    }
    fprintf(picture->out, "  %9s  %s\n", what, text);
}

static void print_threads(struct picture *picture, const struct look *look,
                          const struct finding *finding)
{
    uint32_t shown = (uint32_t)il_min_u64(finding->thread_count, REPORT_THREADS_SHOWN);

    for (uint32_t i = 0; i < shown; i++) {
        bool is_last = i + 1 == shown && shown == finding->thread_total;
        char text[512];

        label_thread(look, finding->threads[i], text, sizeof(text));
        fprintf(picture->out, "        %s %s\n", is_last ? picture->end : picture->tee, text);
    }
    if (finding->thread_total > shown) {
        fprintf(picture->out, "        %s %u more threads\n", picture->end,
                finding->thread_total - shown);
    }
}

static const char *driver_state(const struct look *look, const struct finding *finding)
{
    if (look->is_stopped) {
        return "is stopped, all of it:";
    }
    switch (finding->verdict) {
    case VERDICT_PARKED_OWNER:
        return "nobody drives it; the threads of this process are elsewhere:";
    case VERDICT_BUSY_OWNER:
    case VERDICT_WORKERS_BLOCKED:
        return "its threads do not come back:";
    case VERDICT_SELF_WAIT:
        return "its only driver waits for what only it could deliver:";
    case VERDICT_MISSED_WAKEUP:
        return "is alive and polls";
    case VERDICT_BACK_PRESSURE:
        return finding->thread_count > 0 ? "cannot pass on what it has read:"
                                         : "is alive and polls";
    default:
        return "threads:";
    }
}

static void print_picture(FILE *out, const struct look *look, const struct finding *finding,
                          const struct report_style *style)
{
    struct picture picture = { out, style->unicode ? "\u2502" : "|",
                               style->unicode ? "\u251c" : "+", style->unicode ? "\u2514" : "`" };
    char text[512];

    print_title(out, style, "Who waits for whom");
    label_request(look, finding, text, sizeof(text));
    print_step(&picture, "request", text, true);
    for (uint32_t i = 1; i < finding->request_count && i < 4; i++) {
        registry_label_request(&registry_shot(look)->requests[finding->requests[i]], text,
                               sizeof(text));
        print_step(&picture, "", text, false);
    }
    if (finding->request_total > 4) {
        fprintf(out, "             %u more requests\n", finding->request_total - 4);
    }
    for (uint32_t i = 0; i < finding->socket_count && i < 4; i++) {
        label_socket(look, finding->sockets[i], text, sizeof(text));
        print_step(&picture, i == 0 ? "socket" : "", text, i > 0);
    }
    if (finding->socket_total > 4) {
        fprintf(out, "             %u more sockets\n", finding->socket_total - 4);
    }
    for (uint32_t i = 0; i < finding->set_count; i++) {
        label_set(look, finding->sets[i], text, sizeof(text));
        print_step(&picture, "event set", text, false);
    }
    if (finding->set_count > 0 || finding->thread_count > 0) {
        snprintf(text, sizeof(text), "%s", driver_state(look, finding));
        print_step(&picture,
                   finding->runtime == RUNTIME_UNKNOWN ? "loop" : runtime_name(finding->runtime),
                   text, false);
    }
    print_threads(&picture, look, finding);
}

/* ---- stacks ---- */

static void print_stack(FILE *out, const struct seen_thread *thread, uint32_t frames_max)
{
    fprintf(out, "  thread %d \"%s\"\n", thread->tid, thread->name);
    for (uint32_t i = 0; i < thread->frame_count && i < frames_max; i++) {
        const struct thread_frame *frame = &thread->frames[i];

        if (frame->symbol[0] != '\0') {
            fprintf(out, "    %2u  %s  (%s)\n", i, frame->symbol, frame->module);
        } else {
            fprintf(out, "    %2u  0x%llx  (%s)\n", i, (unsigned long long)frame->pc,
                    frame->module[0] == '\0' ? "no file" : frame->module);
        }
    }
    if (thread->frame_count > frames_max) {
        fprintf(out, "        %u frames more (--verbose shows them)\n",
                thread->frame_count - frames_max);
    }
}

static bool stacks_matter(enum verdict verdict)
{
    return verdict == VERDICT_BUSY_OWNER || verdict == VERDICT_SELF_WAIT ||
           verdict == VERDICT_WORKERS_BLOCKED || verdict == VERDICT_LOCK_CYCLE ||
           verdict == VERDICT_RESOLVER;
}

static void print_stacks(FILE *out, const struct look *look, const struct finding *finding,
                         const struct report_style *style)
{
    uint32_t shown_max = style->verbose ? LOOK_NAMED_MAX : 2;
    bool has_title = false;

    if (!stacks_matter(finding->verdict) && !style->verbose) {
        return;
    }
    for (uint32_t i = 0; i < finding->thread_count && i < shown_max; i++) {
        const struct seen_thread *thread = &look->threads[finding->threads[i]];

        if (thread->frame_count == 0) {
            continue;
        }
        if (!has_title) {
            print_title(out, style, "Blocked where");
            has_title = true;
        }
        print_stack(out, thread, style->verbose ? LOOK_FRAMES_MAX : REPORT_STACK_SHOWN);
    }
}

/* ---- one finding, all findings ---- */

static void print_finding(FILE *out, const struct look *look, const struct finding *finding,
                          const struct report_style *style)
{
    fputc('\n', out);
    print_wrapped(out, "", finding->explanation);
    print_picture(out, look, finding, style);
    print_title(out, style, "Evidence");
    for (uint32_t i = 0; i < finding->evidence_count; i++) {
        print_wrapped(out, "  ", finding->evidence[i]);
    }
    print_stacks(out, look, finding, style);
    print_title(out, style, "What to do");
    print_wrapped(out, "  ", finding->advice);
}

static void print_healthy(FILE *out, const struct look *look)
{
    uint32_t polled = 0, tcp = 0;

    for (uint32_t i = 0; i < look->set_count; i++) {
        polled += look->sets[i].polled_count > 0;
    }
    for (uint32_t i = 0; i < look->socket_count; i++) {
        tcp += look->sockets[i].family == SOCKET_TCP && look->sockets[i].was_found;
    }
    if (!verdict_is_complete(look)) {
        fprintf(out,
                "\nNothing was found, but the look was incomplete, and a hang may be there all the "
                "same: see \"Not seen\".\nOf %u thread%s, %u TCP socket%s and %u event set%s there "
                "was seen what needs no more rights or means.\n",
                look->thread_count, look->thread_count == 1 ? "" : "s", tcp, tcp == 1 ? "" : "s",
                look->set_count, look->set_count == 1 ? "" : "s");
        return;
    }
    fprintf(out,
            "\nNothing stands still: %u thread%s, %u TCP socket%s and %u event set%s (%u polled) "
            "were looked at.\n",
            look->thread_count, look->thread_count == 1 ? "" : "s", tcp, tcp == 1 ? "" : "s",
            look->set_count, look->set_count == 1 ? "" : "s", polled);
}

static void print_cost(FILE *out, const struct look *look)
{
    fprintf(out, "\nLooked %u times in %llu ms; %u stacks taken", look->look_count,
            (unsigned long long)window_ms(look), look->stack_count);
    if (look->stopped_ns > 0) {
        fprintf(out, ", threads stopped for %llu.%03llu ms in all, %llu.%03llu ms at most at once",
                (unsigned long long)look->stopped_ns / 1000000,
                (unsigned long long)look->stopped_ns / 1000 % 1000,
                (unsigned long long)look->stopped_longest_ns / 1000000,
                (unsigned long long)look->stopped_longest_ns / 1000 % 1000);
    } else {
        fputs(", nothing was stopped", out);
    }
    fputs(".\n", out);
}

static void print_list(FILE *out, const char *title, const char lines[][LOOK_TEXT_MAX],
                       uint32_t count, const struct report_style *style)
{
    if (count == 0) {
        return;
    }
    print_title(out, style, title);
    for (uint32_t i = 0; i < count; i++) {
        print_wrapped(out, "  ", lines[i]);
    }
}

void report_text(FILE *out, const struct look *look, const struct report_style *style)
{
    enum verdict verdict = verdict_of(look);

    if (look->finding_count == 0 && !verdict_is_complete(look)) {
        fprintf(out, "%snothing found, but %s%s", style->colour ? "\033[1;33m" : "",
                look->can_copy_fd ? "the machine is too busy to tell"
                                  : "system calls and readiness could not be looked at",
                colour_off(style));
    } else {
        fprintf(out, "%s%s%s", colour_of(style, verdict), verdict_name(verdict), colour_off(style));
    }
    if (look->finding_count > 0) {
        fprintf(out, " (%s)", confidence_name(look->findings[0].confidence));
    }
    fprintf(out, "  pid %d %s", look->pid, look->command);
    if (look->runtime != RUNTIME_UNKNOWN) {
        fprintf(out, "  %s", runtime_name(look->runtime));
    }
    fputc('\n', out);
    if (look->finding_count == 0) {
        print_healthy(out, look);
    } else {
        print_finding(out, look, &look->findings[0], style);
    }
    for (uint32_t i = 1; i < look->finding_count; i++) {
        if (i == 1) {
            print_title(out, style, "Also found");
        }
        fputs("  ", out);
        report_line(out, look, &look->findings[i]);
        fputc('\n', out);
    }
    if (look->finding_dropped > 0) {
        fprintf(out, "  %u findings more than the report holds\n", look->finding_dropped);
    }
    print_list(out, "Seen, and harmless", look->notes, look->note_count, style);
    print_list(out, "Not seen", look->limits, look->limit_count, style);
    print_cost(out, look);
}
