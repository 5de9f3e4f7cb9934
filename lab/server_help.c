/* server_help.c: the table of behaviours as text for people.
 *
 * Owns: nothing; the text is the caller's. Threads: any. */
#include <stdio.h>

#include "lab/server_inside.h"

#define HELP_INDENT    24
#define HELP_COLUMNS   96
#define HELP_DOES_SIZE 512

static bool help_add(struct blob *help, const char *text)
{
    return blob_add(help, text, strlen(text));
}

/* One behaviour: its path, and beside it what it does, broken between words. */
static bool help_add_behaviour(struct blob *help, const struct behaviour *behaviour)
{
    char line[HELP_COLUMNS + 2], does[HELP_DOES_SIZE];
    size_t at = (size_t)snprintf(line, sizeof(line), "  %-*s", HELP_INDENT - 2, behaviour->path);
    const char *word = does;

    (void)snprintf(does, sizeof(does), "%s%s", behaviour->does,
                   behaviour->is_text ? " (not over HTTP/2)" : "");

    while (*word != '\0') {
        size_t size = strcspn(word, " ");

        if (at + 1 + size > HELP_COLUMNS) {
            line[at] = '\0';
            if (!help_add(help, line) || !help_add(help, "\n")) {
                return false;
            }
            memset(line, ' ', HELP_INDENT);
            at = HELP_INDENT;
        }
        if (at > HELP_INDENT) {
            line[at++] = ' ';
        }
        memcpy(line + at, word, size);
        at += size;
        word += size;
        word += *word == ' ';
    }
    line[at] = '\0';
    return help_add(help, line) && help_add(help, "\n");
}

char *lab_server_help(void)
{
    static const char common[] =
        "\n"
        "With every path:\n"
        "  delay_ms=MS             waits before the answer\n"
        "  hold=NAME               waits until NAME is released\n"
        "  slice=N, slice_ms=MS    sends the answer N bytes at a time, MS (1) apart\n"
        "  n=ANYTHING              ignored: makes URLs different\n"
        "  Expect: 100-continue    is answered by 100 Continue\n"
        "An unknown path is answered by 404, an unknown or wrong parameter by 400. Answers carry\n"
        "X-Connection and X-Request: by which connection they came, as its which request.\n"
        "\n"
        "Over HTTP/2 each stream is a request, and all of this is done to it alone; but a close "
        "is\n"
        "one of the connection, with all its streams. A reset is one of the stream (RST_STREAM).\n"
        "What `Connection: close` says in HTTP/1.1, is said by GOAWAY.\n";
    struct blob help = { 0 };
    bool is_complete = true;

    for (size_t i = 0; i < behaviour_count; i++) {
        is_complete = is_complete && help_add_behaviour(&help, &behaviours[i]);
    }
    if (!is_complete || !blob_add(&help, common, sizeof(common))) {
        blob_deinit(&help);
        return NULL;
    }
    return help.data;
}
