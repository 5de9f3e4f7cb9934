/* show.h: results for people: the table, the legend, paragraphs, timelines.
 *
 * Colour only if wanted (show_wants_colour). Thread: one at a time. */
#ifndef LAB_SHOW_H
#define LAB_SHOW_H

#include <stdio.h>

#include "lab/matrix.h"

struct show {
    FILE *out;
    bool has_colour;
};

/* Is it a terminal, one that can show colours, and was it not forbidden (NO_COLOR)? */
bool show_wants_colour(FILE *out);

/* The table, its legend, and a paragraph for every cell that is not ok. */
void show_matrix(const struct show *show, const struct matrix *matrix);

void show_timeline(const struct show *show, const struct timeline *timeline);

/* The chain of waits, one line for each link. */
void show_chain(const struct show *show, const struct result *result);

/* A paragraph, broken between words, each line `indent` columns in. */
void show_paragraph(const struct show *show, unsigned indent, const char *text);

/* A verdict's name in its colour, padded to `width`. */
void show_verdict(const struct show *show, enum lab_verdict verdict, const char *suffix, int width);

/* What the solutions and the causes are. */
void show_list(const struct show *show);

#endif
