/* matrix.c: plays each run in a child process, which hands its result over in shared memory.
 *
 * Owns: the shared memory, one child at a time. Threads: one.
 * Ends: a child that does not come to its end in time is killed; one whose parent dies, too. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lab/matrix.h"

#define MATRIX_RUN_MS       60000 /* for a run, plus so many times the limit of a request: */
#define MATRIX_RUN_REQUESTS WORLD_JUDGED_MAX

struct run_memory {
    struct result result;
    struct timeline timeline;
};

static void fail_errno(struct il_error *err, const char *what)
{
    err->code = IL_ESYS;
    err->sys_errno = errno;
    (void)snprintf(err->message, sizeof(err->message), "%s: %s", what, strerror(errno));
}

/* ---- the child ---- */

__attribute__((noreturn)) static void
child_main(const struct cell *cell, const struct matrix_options *options, struct run_memory *memory)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* at worst the child outlives us by one run */
    if (options->world.hold_ms > 0) {
        (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY); /* it is there to be looked at */
    }
    world_play(catalogue_cause(cell->cause), catalogue_solution(cell->solution), &options->world,
               &memory->result, &memory->timeline);
    exit(0); /* not _exit: a leak checker wants to have its say */
}

/* ---- the parent ---- */

static void result_break(struct result *result, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void result_break(struct result *result, const char *format, ...)
{
    char text[RESULT_NOTE_SIZE], before[RESULT_NOTE_SIZE];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    memcpy(before, result->broken, sizeof(before));
    (void)snprintf(result->broken, sizeof(result->broken), "%.110s%s%.110s", before,
                   before[0] != '\0' ? "; " : "", text);
    result->is_broken = true;
}

/* Wait until the child's end of the pipe is closed, which its death does. */
static bool await_end(int fd, uint64_t timeout_ms)
{
    uint64_t until_ns = il_deadline_in_ms(timeout_ms);

    for (;;) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        uint64_t now_ns = il_now_ns();
        int left_ms = now_ns < until_ns ? (int)((until_ns - now_ns) / 1000000u) + 1 : 0;
        int count = poll(&poll_fd, 1, left_ms);

        if (count > 0) {
            return true;
        }
        if (count == 0 && left_ms == 0) {
            return false;
        }
    }
}

static void run_await(pid_t child, int fd, uint64_t timeout_ms, struct result *result)
{
    bool has_ended = await_end(fd, timeout_ms);
    int status = 0;

    if (!has_ended) {
        (void)kill(child, SIGKILL);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!has_ended) {
        result_break(result, "the run had not come to its end after %llu s, and was killed",
                     (unsigned long long)timeout_ms / 1000);
    } else if (WIFSIGNALED(status)) {
        result_break(result, "the run died: %s", strsignal(WTERMSIG(status)));
    } else if (WEXITSTATUS(status) != 0) {
        result_break(result, "the run's process ended with status %d after its work",
                     WEXITSTATUS(status));
    } else if (!result->is_complete && !result->is_broken) {
        result_break(result, "the run ended before its time");
    }
}

static bool run_play(const struct cell *cell, const struct matrix_options *options,
                     struct run_memory *memory, struct il_error *err)
{
    int fds[2];
    pid_t child;

    memset(&memory->result, 0, sizeof(memory->result));
    memory->timeline.count = 0;
    if (pipe(fds) != 0) {
        fail_errno(err, "make a pipe");
        return false;
    }
    (void)fflush(NULL); /* or the child would write it a second time */
    child = fork();
    if (child < 0) {
        fail_errno(err, "start a process for a run");
        (void)close(fds[0]);
        (void)close(fds[1]);
        return false;
    }
    if (child == 0) {
        (void)close(fds[0]);
        child_main(cell, options, memory);
    }
    (void)close(fds[1]);
    run_await(child, fds[0], MATRIX_RUN_MS + MATRIX_RUN_REQUESTS * options->world.limit_ms,
              &memory->result);
    (void)close(fds[0]);
    return true;
}

/* ---- cells ---- */

void cell_judge(struct cell *cell, enum lab_verdict expected)
{
    cell->verdict = LAB_OK;
    cell->is_broken = false;
    cell->is_agreed = true;
    for (unsigned i = 0; i < cell->run_count; i++) {
        const struct result *run = &cell->runs[i];

        cell->verdict = run->verdict > cell->verdict ? run->verdict : cell->verdict;
        cell->is_broken = cell->is_broken || run->is_broken;
        cell->is_agreed = cell->is_agreed && run->verdict == cell->runs[0].verdict;
    }
    cell->is_as_expected = cell->is_agreed && !cell->is_broken && cell->verdict == expected;
}

const struct result *cell_shown(const struct cell *cell)
{
    for (unsigned i = 0; i < cell->run_count; i++) {
        if (cell->runs[i].verdict == cell->verdict) {
            return &cell->runs[i];
        }
    }
    return &cell->runs[0];
}

static bool matrix_play_cell(const struct matrix_options *options, struct matrix *matrix,
                             size_t index, struct run_memory *memory, struct il_error *err)
{
    struct cell *cell = &matrix->cells[index];

    for (unsigned run = 0; run < options->repeat; run++) {
        if (options->on_progress != NULL) {
            options->on_progress(options->arg, cell, index, matrix->cell_count, run, NULL);
        }
        if (!run_play(cell, options, memory, err)) {
            return false;
        }
        cell->runs[run] = memory->result;
        cell->run_count = run + 1;
        if (options->on_progress != NULL) {
            options->on_progress(options->arg, cell, index, matrix->cell_count, run,
                                 &memory->timeline);
        }
    }
    cell_judge(cell, catalogue_expectation(cell->cause, cell->solution)->verdict);
    return true;
}

/* ---- the matrix ---- */

static bool matrix_alloc(const struct matrix_options *options, struct matrix *matrix)
{
    size_t cell_max = catalogue_cause_count() * catalogue_solution_count();

    matrix->cells = calloc(cell_max, sizeof(*matrix->cells));
    for (size_t i = 0; i < cell_max && matrix->cells != NULL; i++) {
        size_t cause = i / catalogue_solution_count(), solution = i % catalogue_solution_count();
        struct cell *cell = &matrix->cells[matrix->cell_count];

        if (!options->has_cause[cause] || !options->has_solution[solution]) {
            continue;
        }
        cell->cause = cause;
        cell->solution = solution;
        cell->runs = calloc(options->repeat, sizeof(*cell->runs));
        if (cell->runs == NULL) {
            return false;
        }
        matrix->cell_count++;
    }
    return matrix->cells != NULL;
}

bool matrix_play(const struct matrix_options *options, struct matrix *ret_matrix,
                 struct il_error *err)
{
    struct matrix matrix = { 0 };
    struct run_memory *memory =
        mmap(NULL, sizeof(*memory), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    bool is_played = true;

    if (memory == MAP_FAILED) {
        fail_errno(err, "map memory for the results");
        return false;
    }
    if (!matrix_alloc(options, &matrix)) {
        errno = ENOMEM;
        fail_errno(err, "hold the results");
        is_played = false;
    }
    for (size_t i = 0; is_played && i < matrix.cell_count; i++) {
        is_played = matrix_play_cell(options, &matrix, i, memory, err);
    }
    (void)munmap(memory, sizeof(*memory));
    if (is_played) {
        *ret_matrix = matrix;
    } else {
        matrix_deinit(&matrix);
    }
    return is_played;
}

void matrix_deinit(struct matrix *matrix)
{
    for (size_t i = 0; i < matrix->cell_count; i++) {
        free(matrix->cells[i].runs);
    }
    free(matrix->cells);
    *matrix = (struct matrix){ 0 };
}

int matrix_status(const struct matrix *matrix)
{
    int status = 0;

    for (size_t i = 0; i < matrix->cell_count; i++) {
        const struct cell *cell = &matrix->cells[i];

        for (unsigned run = 0; run < cell->run_count; run++) {
            if (cell->runs[run].is_impossible) {
                return 3;
            }
        }
        if (!cell->is_as_expected) {
            status = 1;
        }
    }
    return status;
}
