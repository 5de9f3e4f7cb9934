/* main.c: the `interloop` command: finds the command that is meant and hands over.
 *
 * Owns: nothing. Threads: the process's first, and the only one until a command starts others. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "cli/get.h"
#include "doctor/doctor.h"
#include "lab/explore.h"
#include "lab/reproduce.h"
#include "lab/serve.h"
#include "load/bench.h"

struct command {
    const char *name;
    char title[24]; /* its argv[0]: what it calls itself in messages */
    const char *does;
    int (*main)(int argc, char **argv);
    bool is_report; /* what it prints is all that it is for: losing that is a failure */
};

static struct command commands[] = {
    { "reproduce", "interloop reproduce", "every cause of a hang under every solution, with proof",
      reproduce_main, true },
    { "explain", "interloop explain",
      "one cause step by step: timeline, chain of waits, what solves it", explain_main, true },
    { "explore", "interloop explore", "causes under thousands of schedules, in a simulated world",
      explore_main, true },
    { "doctor", "interloop doctor", "which request of a live process hangs, and why", doctor_main,
      true },
    { "get", "interloop get", "a request from the shell, with all that happened to it", get_main,
      true },
    { "bench", "interloop bench", "load from several runtimes at once, and how it was answered",
      bench_main, true },
    { "serve", "interloop serve", "a local HTTP server that misbehaves on request", serve_main,
      false },
};

#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

static const char *command_name_at(unsigned index)
{
    return index < COMMAND_COUNT ? commands[index].name : NULL;
}

static void print_help(FILE *out)
{
    fputs("usage: interloop COMMAND [options]\n"
          "\n"
          "An HTTP client that is shared between several runtimes hangs: shown, solved, and found "
          "in\n"
          "live processes.\n"
          "\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].does);
    }
    fputs("\n"
          "  --help, --version\n"
          "\n"
          "'interloop COMMAND --help' says more. Exit status of every command: 0 as it should be, "
          "1 a\n"
          "finding, 2 wrong usage, 3 could not do it.\n",
          out);
}

/* The exit status, `status` unless what was printed has not arrived. */
static int check_output(const char *title, int status)
{
    if (status != 3 && (fflush(stdout) != 0 || ferror(stdout))) {
        fprintf(stderr, "%s: write the output: %s\n", title, strerror(errno));
        return 3;
    }
    return status;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    int status;

    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            argv[1] = commands[i].title;
            status = commands[i].main(argc - 1, argv + 1);
            if (status == 2) { /* it has said what is wrong */
                fprintf(stderr, "Try 'interloop %s --help'.\n", name);
            }
            return commands[i].is_report ? check_output(commands[i].title, status) : status;
        }
    }
    if (strcmp(name, "--version") == 0) {
        printf("interloop %s\n", INTERLOOP_VERSION);
        return check_output("interloop", 0);
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_help(stdout);
        return check_output("interloop", 0);
    }
    if (name[0] == '\0') {
        print_help(stderr);
        return 2;
    }
    if (name[0] == '-') {
        fprintf(stderr, "interloop: there is no option '%.64s' before the command\n", name);
    } else {
        suggest("interloop", "command", name, command_name_at);
    }
    fprintf(stderr, "Try 'interloop --help'.\n");
    return 2;
}
