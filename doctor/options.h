/* options.h: the command line of the doctor. */
#ifndef DOCTOR_OPTIONS_H
#define DOCTOR_OPTIONS_H

#include "doctor/look.h"

struct doctor_options {
    struct look_options look;
    pid_t pid; /* 0 with --all */
    bool json, dot, watch, all, verbose;
    const char *dot_file; /* NULL: to stdout */
    uint32_t rounds;      /* of --watch; 0: until the process ends */
};

enum options_result { OPTIONS_RUN, OPTIONS_DONE, OPTIONS_WRONG };

/* OPTIONS_DONE: help was printed. OPTIONS_WRONG: what is wrong was said on stderr. */
enum options_result options_parse(int argc, char **argv, struct doctor_options *ret_options);

#endif
