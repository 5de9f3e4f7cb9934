/* report_json.c: the report for machines.
 *
 * One object: pid, verdict, findings, and beside them what the looks cost and could not see. Names
 * and verdicts are stable; fields may be added. Strings that come from the target were made
 * printable when they were read, and are escaped here. Owns: nothing. */
#include "doctor/report.h"
#include "doctor/verdict.h"
#include "doctor/waits.h"

static void put_string(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) {
            fprintf(out, "\\u%04x", c);
        } else {
            fputc(c, out);
        }
    }
    fputc('"', out);
}

static void put_field(FILE *out, const char *name, const char *value)
{
    fprintf(out, "\"%s\":", name);
    put_string(out, value);
}

static void put_number(FILE *out, const char *name, uint64_t value)
{
    fprintf(out, "\"%s\":%llu", name, (unsigned long long)value);
}

static void put_comma(FILE *out, uint32_t index)
{
    if (index > 0) {
        fputc(',', out);
    }
}

static void put_socket(FILE *out, const struct seen_socket *socket)
{
    const struct socket_numbers *now = &socket->last;

    fprintf(out, "{\"fd\":%d,", socket->fd);
    put_number(out, "inode", socket->inode);
    fputc(',', out);
    put_field(out, "local", socket->local);
    fputc(',', out);
    put_field(out, "peer", socket->peer);
    fputc(',', out);
    put_field(out, "state", socket->family == SOCKET_TCP ? tcp_state_name(now->state) : "UDP");
    fprintf(out, ",\"side\":\"%s\",", socket->is_server_side ? "server" : "client");
    put_field(out, "protocol", label_protocol(socket));
    if (socket->http_status != 0) {
        fputc(',', out);
        put_number(out, "unread_http_status", socket->http_status);
    }
    fprintf(out,
            ",\"unread_bytes\":%llu,\"unsent_bytes\":%llu,\"last_sent_ms\":%u,"
            "\"last_received_ms\":%u,\"retransmits\":%u}",
            (unsigned long long)now->unread_bytes, (unsigned long long)now->unsent_bytes,
            now->last_sent_ms, now->last_received_ms, now->retransmits);
}

/* A request that interloop's own record names. */
static void put_request(FILE *out, const struct look *look, const struct seen_request *request)
{
    uint64_t now_ns = look->ended_ns;

    fputc('{', out);
    put_field(out, "method", request->method);
    fputc(',', out);
    put_field(out, "path", request->path);
    fputc(',', out);
    put_field(out, "host", request->host);
    fprintf(out, ",\"port\":%u,", request->port);
    put_field(out, "kind", request->is_handed ? request->desk_kind : "pool");
    fputc(',', out);
    put_field(out, "name", request->client);
    fputc(',', out);
    put_field(out, "waiter", request->waiter);
    fputc(',', out);
    put_field(out, "phase",
              request->is_handed ? "handed-over" : il_phase_name((enum il_phase)request->phase));
    fputc(',', out);
    put_number(out, "age_ms",
               now_ns < request->started_ns ? 0 : (now_ns - request->started_ns) / 1000000u);
    fputc('}', out);
}

static void put_set(FILE *out, const struct look *look, uint32_t index)
{
    const struct seen_set *set = &look->sets[index];
    const struct seen_loop *loop = registry_loop_of_set(look, index);

    fputs("{\"fds\":[", out);
    for (uint32_t i = 0; i < set->fd_count; i++) {
        put_comma(out, i);
        fprintf(out, "%d", set->fds[i]);
    }
    fprintf(out,
            "],\"kind\":\"%s\",\"watches\":%u,\"looks\":%u,\"ready_looks\":%u,"
            "\"polled_looks\":%u,\"pollers\":[",
            set->kind == FD_URING ? "io_uring" : "epoll", set->watch_count, set->look_count,
            set->ready_count, set->polled_count);
    for (uint32_t i = 0; i < set->poller_count; i++) {
        put_comma(out, i);
        fprintf(out, "%d", set->pollers[i]);
    }
    fputc(']', out);
    if (loop != NULL) {
        fputc(',', out);
        put_field(out, "loop", loop->name);
        fputc(',', out);
        put_field(out, "loop_runtime", loop->runtime);
    }
    fputc('}', out);
}

static const char *role_name(enum thread_role role)
{
    static const char *const names[] = {
        [ROLE_UNKNOWN] = "unknown",         [ROLE_POLLING] = "polling",
        [ROLE_POOL_IDLE] = "idle-worker",   [ROLE_WAITING_REPLY] = "waits-for-runtime",
        [ROLE_IN_CALLBACK] = "in-callback", [ROLE_BLOCKING_JOB] = "blocking-job",
        [ROLE_RESOLVING] = "resolving",     [ROLE_OTHER] = "other",
    };

    return names[role];
}

static void put_thread(FILE *out, const struct look *look, const struct seen_thread *thread)
{
    char wait[LOOK_TEXT_MAX];

    waits_describe(look, thread, wait, sizeof(wait));
    fprintf(out, "{\"tid\":%d,", thread->tid);
    put_field(out, "name", thread->name);
    fputc(',', out);
    put_field(out, "runtime", runtime_name(thread->runtime));
    fputc(',', out);
    put_field(out, "role", role_name(thread->role));
    fputc(',', out);
    put_field(out, "waits", wait);
    fprintf(out, ",\"stood_still\":%s,\"cpu_ms\":%llu,\"stack\":[",
            thread->stood_still ? "true" : "false",
            (unsigned long long)(thread->cpu_ns_last - thread->cpu_ns_first) / 1000000);
    for (uint32_t i = 0; i < thread->frame_count; i++) {
        const struct thread_frame *frame = &thread->frames[i];
        char address[24];

        put_comma(out, i);
        snprintf(address, sizeof(address), "0x%llx", (unsigned long long)frame->pc);
        put_string(out, frame->symbol[0] != '\0' ? frame->symbol : address);
    }
    fputs("]}", out);
}

static void put_strings(FILE *out, const char *name, const char lines[][LOOK_TEXT_MAX],
                        uint32_t count)
{
    fprintf(out, "\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++) {
        put_comma(out, i);
        put_string(out, lines[i]);
    }
    fputc(']', out);
}

static void put_finding(FILE *out, const struct look *look, const struct finding *finding)
{
    fputc('{', out);
    put_field(out, "verdict", verdict_name(finding->verdict));
    fputc(',', out);
    put_field(out, "confidence", confidence_name(finding->confidence));
    fputc(',', out);
    put_number(out, "since_ms", finding->since_ms);
    fprintf(out, ",\"since_is_at_least\":%s,", finding->since_is_at_least ? "true" : "false");
    put_field(out, "runtime", runtime_name(finding->runtime));
    fputs(",\"requests\":[", out);
    for (uint32_t i = 0; i < finding->request_count; i++) {
        put_comma(out, i);
        put_request(out, look, &registry_shot(look)->requests[finding->requests[i]]);
    }
    fputs("],\"sockets\":[", out);
    for (uint32_t i = 0; i < finding->socket_count; i++) {
        put_comma(out, i);
        put_socket(out, &look->sockets[finding->sockets[i]]);
    }
    fputs("],\"epoll\":[", out);
    for (uint32_t i = 0; i < finding->set_count; i++) {
        put_comma(out, i);
        put_set(out, look, finding->sets[i]);
    }
    fputs("],\"threads\":[", out);
    for (uint32_t i = 0; i < finding->thread_count; i++) {
        put_comma(out, i);
        put_thread(out, look, &look->threads[finding->threads[i]]);
    }
    fputs("],", out);
    put_strings(out, "evidence", finding->evidence, finding->evidence_count);
    fputc(',', out);
    put_field(out, "explanation", finding->explanation);
    fputc(',', out);
    put_field(out, "advice", finding->advice);
    fputc('}', out);
}

void report_json(FILE *out, const struct look *look)
{
    fprintf(out, "{\"pid\":%d,", look->pid);
    put_field(out, "command", look->command);
    fputc(',', out);
    put_field(out, "runtime", runtime_name(look->runtime));
    fputc(',', out);
    put_field(out, "verdict", verdict_name(verdict_of(look)));
    fprintf(out, ",\"complete\":%s,\"findings\":[", verdict_is_complete(look) ? "true" : "false");
    for (uint32_t i = 0; i < look->finding_count; i++) {
        put_comma(out, i);
        put_finding(out, look, &look->findings[i]);
    }
    fprintf(out, "],\"findings_dropped\":%u,", look->finding_dropped);
    put_strings(out, "notes", look->notes, look->note_count);
    fputc(',', out);
    put_strings(out, "limits", look->limits, look->limit_count);
    fprintf(out,
            ",\"threads\":%u,\"looks\":%u,\"window_ms\":%llu,\"stacks\":%u,\"stopped_us\":%llu,"
            "\"stopped_longest_us\":%llu}",
            look->thread_count, look->look_count, (unsigned long long)window_ms(look),
            look->stack_count, (unsigned long long)look->stopped_ns / 1000,
            (unsigned long long)look->stopped_longest_ns / 1000);
}
