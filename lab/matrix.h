/* matrix.h: playing combinations of causes and solutions, and what they came to.
 *
 * Each run is played in a process of its own, for three reasons: what a run leaves behind is
 * counted from nothing; a defect of the library that aborts, or never comes back, costs one run and
 * not the matrix; and no run finds anything of the one before.
 *
 * Threads: the process must have no other when a matrix is played, since it forks. */
#ifndef LAB_MATRIX_H
#define LAB_MATRIX_H

#include "lab/catalogue.h"

#define MATRIX_REPEAT_MAX 1000

struct cell {
    size_t cause, solution; /* indexes into the catalogue */
    unsigned run_count;
    struct result *runs;
    enum lab_verdict verdict; /* of the worst run */
    bool is_broken;           /* one of them was */
    bool is_agreed;           /* all have the same verdict */
    bool is_as_expected;      /* and it is the expected one, and nothing was broken */
};

struct matrix {
    size_t cell_count; /* by cause, then by solution */
    struct cell *cells;
};

/* Called before and after each run; `timeline` is NULL before. */
typedef void matrix_progress_fn(void *arg, const struct cell *cell, size_t cell_index,
                                size_t cell_count, unsigned run, const struct timeline *timeline);

struct matrix_options {
    const bool *has_cause, *has_solution; /* one for each of the catalogue */
    unsigned repeat;
    struct world_options world;
    matrix_progress_fn *on_progress; /* may be NULL */
    void *arg;
};

/* Play it all. False: the machine refused (`err` says what); nothing is to be freed then. */
bool matrix_play(const struct matrix_options *options, struct matrix *ret_matrix,
                 struct il_error *err);

void matrix_deinit(struct matrix *matrix);

/* 0 when every cell is as expected, 3 when a run could not be carried out, else 1. */
int matrix_status(const struct matrix *matrix);

/* Judge a cell by its runs. */
void cell_judge(struct cell *cell, enum lab_verdict expected);

/* The run that shows the cell's verdict. */
const struct result *cell_shown(const struct cell *cell);

#endif
