/* report_dot.c: the wait-for graph for Graphviz.
 *
 * request -> socket -> event set -> thread; an edge that is broken (nobody drives, nobody reads) is
 * red and dashed. Owns: nothing. */
#include "doctor/report.h"
#include "doctor/verdict.h"

static void put_label(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\') {
            fputc('\\', out);
        }
        fputc(*text, out);
    }
}

static void put_node(FILE *out, const char *prefix, uint32_t finding, uint32_t index,
                     const char *shape, const char *label)
{
    fprintf(out, "  %s%u_%u [shape=%s, label=\"", prefix, finding, index, shape);
    put_label(out, label);
    fputs("\"];\n", out);
}

static bool is_broken(enum verdict verdict)
{
    return verdict == VERDICT_PARKED_OWNER || verdict == VERDICT_BUSY_OWNER ||
           verdict == VERDICT_SELF_WAIT || verdict == VERDICT_WORKERS_BLOCKED;
}

static void put_threads(FILE *out, const struct look *look, const struct finding *finding,
                        uint32_t number)
{
    char text[512];

    for (uint32_t i = 0; i < finding->thread_count; i++) {
        label_thread(look, finding->threads[i], text, sizeof(text));
        put_node(out, "thread", number, i, "ellipse", text);
        if (finding->verdict == VERDICT_LOCK_CYCLE) {
            continue; /* its edges are among the threads */
        }
        if (finding->set_count > 0) {
            fprintf(out, "  set%u_0 -> thread%u_%u%s;\n", number, number, i,
                    is_broken(finding->verdict)
                        ? " [style=dashed, color=red, label=\"does not poll\"]"
                        : "");
        } else {
            fprintf(out, "  request%u_0 -> thread%u_%u;\n", number, number, i);
        }
    }
    if (finding->verdict == VERDICT_LOCK_CYCLE) {
        for (uint32_t i = 0; i < finding->thread_count; i++) {
            for (uint32_t k = 0; k < finding->thread_count; k++) {
                if (look->threads[finding->threads[i]].wait.mutex_owner ==
                    look->threads[finding->threads[k]].ns_tid) {
                    fprintf(out, "  thread%u_%u -> thread%u_%u [color=red, label=\"holds\"];\n",
                            number, i, number, k);
                }
            }
        }
    }
}

static void put_finding(FILE *out, const struct look *look, const struct finding *finding,
                        uint32_t number)
{
    char text[512];

    fprintf(out, "  subgraph cluster_%u {\n  label=\"%s (%s)\";\n", number,
            verdict_name(finding->verdict), confidence_name(finding->confidence));
    label_request(look, finding, text, sizeof(text));
    put_node(out, "request", number, 0, "note", text);
    for (uint32_t i = 0; i < finding->socket_count; i++) {
        label_socket(look, finding->sockets[i], text, sizeof(text));
        put_node(out, "socket", number, i, "box", text);
        fprintf(out, "  request%u_0 -> socket%u_%u;\n", number, number, i);
    }
    for (uint32_t i = 0; i < finding->set_count; i++) {
        label_set(look, finding->sets[i], text, sizeof(text));
        put_node(out, "set", number, i, "component", text);
        for (uint32_t k = 0; k < finding->socket_count; k++) {
            fprintf(out, "  socket%u_%u -> set%u_%u;\n", number, k, number, i);
        }
        if (finding->socket_count == 0) {
            fprintf(out, "  request%u_0 -> set%u_%u;\n", number, number, i);
        }
    }
    put_threads(out, look, finding, number);
    fputs("  }\n", out);
}

void report_dot(FILE *out, const struct look *look)
{
    fprintf(out,
            "digraph doctor {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n"
            "  label=\"pid %d %s: ",
            look->pid, look->command);
    put_label(out, verdict_name(verdict_of(look)));
    fputs("\";\n", out);
    for (uint32_t i = 0; i < look->finding_count; i++) {
        put_finding(out, look, &look->findings[i], i);
    }
    fputs("}\n", out);
}
