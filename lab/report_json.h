/* report_json.h: results for machines. */
#ifndef LAB_REPORT_JSON_H
#define LAB_REPORT_JSON_H

#include <stdio.h>

#include "lab/matrix.h"

/* One object; its fields and their order are stable, see docs/man/interloop-reproduce.1. */
void report_matrix_json(FILE *out, const struct matrix *matrix);

/* The causes, the solutions, and what is expected of each combination. */
void report_list_json(FILE *out);

#endif
