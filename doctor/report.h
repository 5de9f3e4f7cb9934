/* report.h: the findings for people, for machines, and as a graph. */
#ifndef DOCTOR_REPORT_H
#define DOCTOR_REPORT_H

#include <stdio.h>

#include "doctor/look.h"

struct report_style {
    bool colour;
    bool unicode; /* lines of the picture */
    bool verbose; /* whole stacks, all notes */
};

/* Everything: verdict, explanation, picture, evidence, advice, what was not seen, cost. */
void report_text(FILE *out, const struct look *look, const struct report_style *style);

/* One finding in one line, for logs and channels. No newline. */
void report_line(FILE *out, const struct look *look, const struct finding *finding);

/* One object in one line, without a newline. */
void report_json(FILE *out, const struct look *look);

/* A Graphviz digraph of all findings. */
void report_dot(FILE *out, const struct look *look);

/* ---- labels that several reports share ---- */
void label_socket(const struct look *look, uint32_t index, char *ret_text, size_t size);
void label_set(const struct look *look, uint32_t index, char *ret_text, size_t size);
void label_thread(const struct look *look, uint32_t index, char *ret_text, size_t size);
/* What waits: "answer of 10.0.0.1:80: 166 bytes unread", "request to ..." */
void label_request(const struct look *look, const struct finding *finding, char *ret_text,
                   size_t size);
/* "HTTP/1", "HTTP/2", "TLS" or "" */
const char *label_protocol(const struct seen_socket *socket);

#endif
