/* doctor.c: the command: options, one diagnosis, its report.
 *
 * Owns: the one look. Thread: the process's only one. Ends: with the exit status of the command. */
#include <errno.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "doctor/diagnose.h"
#include "doctor/doctor.h"
#include "doctor/many.h"
#include "doctor/options.h"
#include "doctor/report.h"
#include "doctor/verdict.h"

static bool is_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };

    for (size_t i = 0; i < il_array_count(names); i++) {
        const char *value = getenv(names[i]);

        if (value != NULL && value[0] != '\0') {
            return strcasestr(value, "utf-8") != NULL || strcasestr(value, "utf8") != NULL;
        }
    }
    return false;
}

static struct report_style style_of_terminal(const struct doctor_options *options)
{
    const char *no_colour = getenv("NO_COLOR");

    return (struct report_style){
        .colour = isatty(STDOUT_FILENO) == 1 && (no_colour == NULL || no_colour[0] == '\0'),
        .unicode = is_utf8(),
        .verbose = options->verbose,
    };
}

/* ---- the graph ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), end_length = strlen(end);

    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

/* Give the graph to Graphviz's dot; false when it is not installed or fails. */
static bool draw_svg(const struct look *look, const char *file)
{
    int ends[2], status;
    FILE *graph;
    pid_t child;

    if (pipe(ends) != 0) {
        return false;
    }
    child = fork();
    if (child == 0) {
        dup2(ends[0], STDIN_FILENO);
        close(ends[0]);
        close(ends[1]);
        execlp("dot", "dot", "-Tsvg", "-o", file, (char *)NULL);
        _exit(127);
    }
    close(ends[0]);
    graph = fdopen(ends[1], "w");
    if (child > 0 && graph != NULL) {
        report_dot(graph, look);
        fclose(graph);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

static int write_graph(const struct look *look, const char *file, const char *name)
{
    char dot_file[4096];
    FILE *out;

    if (file == NULL) {
        report_dot(stdout, look);
        return 0;
    }
    if (ends_with(file, ".svg") && draw_svg(look, file)) {
        fprintf(stderr, "%s: the picture is in %s\n", name, file);
        return 0;
    }
    snprintf(dot_file, sizeof(dot_file), "%s%s", file, ends_with(file, ".svg") ? ".dot" : "");
    out = fopen(dot_file, "we");
    if (out == NULL) {
        fprintf(stderr, "%s: write %s: %s\n", name, dot_file, strerror(errno));
        return 3;
    }
    report_dot(out, look);
    if (fclose(out) != 0) {
        fprintf(stderr, "%s: write %s: %s\n", name, dot_file, strerror(errno));
        return 3;
    }
    if (ends_with(file, ".svg")) {
        fprintf(stderr,
                "%s: Graphviz's dot is not installed or failed: the graph is in %s; draw it "
                "with: dot -Tsvg -o %s %s\n",
                name, dot_file, file, dot_file);
    } else {
        fprintf(stderr, "%s: the graph is in %s; a name that ends in .svg has it drawn\n", name,
                dot_file);
    }
    return 0;
}

/* ---- one diagnosis ---- */

static int diagnose_one(const struct doctor_options *options, const char *name)
{
    struct report_style style = style_of_terminal(options);
    struct il_error err;
    struct look look;
    int status;

    if (isatty(STDERR_FILENO) == 1 && !options->json) {
        fprintf(stderr, "looking at process %d for %llu.%llu s...\r", options->pid,
                (unsigned long long)options->look.duration_ms / 1000,
                (unsigned long long)options->look.duration_ms % 1000 / 100);
    }
    look_init(&look, options->pid, &options->look);
    if (diagnose_process(&look, &err) != IL_OK) {
        fprintf(stderr, "%s: could not look at process %d: %s\n", name, options->pid, err.message);
        look_deinit(&look);
        return 3;
    }
    if (isatty(STDERR_FILENO) == 1 && !options->json) {
        fputs("\033[K", stderr);
    }
    status = look.finding_count > 0 ? 1 : 0;
    if (options->json) {
        report_json(stdout, &look);
        fputc('\n', stdout);
    } else if (options->dot) {
        int failed = write_graph(&look, options->dot_file, name);

        status = failed != 0 ? failed : status;
    } else {
        report_text(stdout, &look, &style);
    }
    look_deinit(&look);
    return status;
}

int doctor_main(int argc, char **argv)
{
    struct doctor_options options;
    int status;

    switch (options_parse(argc, argv, &options)) {
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_WRONG:
        return 2;
    case OPTIONS_RUN:
        break;
    }
    if (options.all) {
        status = many_all(&options, argv[0]);
    } else if (options.watch) {
        status = many_watch(&options, argv[0]);
    } else {
        status = diagnose_one(&options, argv[0]);
    }
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "%s: write the report: %s\n", argv[0], strerror(errno));
        return 3;
    }
    return status;
}
