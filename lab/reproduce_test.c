/* reproduce_test.c: that the reproducer says what is the case: hung when proven and never because
 * of the clock, wrong when an answer is wrong, broken when something is left behind. */
#include <sys/mman.h>
#include <unistd.h>

#include "lab/matrix.h"
#include "lab/reproduce.h"
#include "tests/check.h"

static struct result result;
static struct timeline timeline;
static struct il_error err;

static void play(const struct cause *cause, const struct solution *solution, uint64_t limit_ms)
{
    struct world_options options = { .limit_ms = limit_ms };

    world_play(cause, solution, &options, &result, &timeline);
}

static void print_cell(const struct cell *cell)
{
    const struct result *run = cell_shown(cell);

    printf("%s under %s: %s, note \"%s\", error \"%s\"\n", catalogue_cause(cell->cause)->name,
           catalogue_solution(cell->solution)->name, lab_verdict_name(cell->verdict), run->note,
           run->error.message);
    for (unsigned i = 0; i < cell->run_count; i++) {
        printf("  run %u: %s %s\n", i, lab_verdict_name(cell->runs[i].verdict),
               cell->runs[i].broken);
    }
}

/* Play a part of the matrix; names are NULL for all of them. */
static void play_matrix(const char *const *causes, const char *solution, unsigned repeat,
                        struct matrix *matrix)
{
    bool has_cause[32] = { false }, has_solution[32] = { false };
    struct matrix_options options = { .has_cause = has_cause,
                                      .has_solution = has_solution,
                                      .repeat = repeat,
                                      .world = { .limit_ms = 10000 } };

    for (size_t i = 0; causes != NULL && causes[i] != NULL; i++) {
        has_cause[catalogue_find_cause(causes[i])] = true;
    }
    for (size_t i = 0; causes == NULL && i < catalogue_cause_count(); i++) {
        has_cause[i] = true;
    }
    for (size_t i = 0; i < catalogue_solution_count(); i++) {
        has_solution[i] = solution == NULL || strcmp(catalogue_solution(i)->name, solution) == 0;
    }
    if (!matrix_play(&options, matrix, &err)) {
        check_fail(__FILE__, __LINE__, "%s", err.message);
    }
    for (size_t i = 0; i < matrix->cell_count; i++) {
        if (!matrix->cells[i].is_as_expected) {
            print_cell(&matrix->cells[i]);
        }
    }
}

static bool has_link(const struct result *run, const char *what, const char *state)
{
    for (unsigned i = 0; i < run->link_count; i++) {
        if (strcmp(run->links[i].what, what) == 0 && strcmp(run->links[i].state, state) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- the matrix ---- */

TEST_WITH_TIMEOUT(shared_client_hangs_when_parked_and_starves_when_busy_each_time_with_proof, 120)
{
    static const char *const causes[] = { "parked", "busy", NULL };
    struct matrix matrix;

    play_matrix(causes, "shared", 3, &matrix);
    CHECK_EQ(matrix.cell_count, 2);
    for (unsigned run = 0; run < 3; run++) {
        const struct result *parked = &matrix.cells[0].runs[run];
        const struct result *busy = &matrix.cells[1].runs[run];

        CHECK_EQ(parked->verdict, LAB_HUNG);
        CHECK(has_link(parked, "loop", "not driven"));
        CHECK(has_link(parked, "socket", "never written"));
        CHECK_EQ(busy->verdict, LAB_STARVED);
        CHECK(has_link(busy, "loop", "in user code"));
        CHECK(has_link(busy, "task", "in user code"));
        CHECK_CONTAINS(busy->note, "the answer came");
    }
    CHECK_EQ(matrix_status(&matrix), 0);
    matrix_deinit(&matrix);
}

TEST_WITH_TIMEOUT(hand_over_makes_every_solution_ok_however_many_workers_are_stuck, 180)
{
    static const char *const off[] = { "busy-sibling", "all-workers-busy", NULL };
    static const char *const on[] = { "busy+hand-over", "busy-sibling+hand-over",
                                      "all-workers-busy+hand-over", NULL };
    struct matrix matrix;

    play_matrix(off, "per-runtime", 1, &matrix);
    for (size_t i = 0; i < matrix.cell_count; i++) {
        CHECK_EQ(matrix.cells[i].verdict, LAB_STARVED);
        CHECK(has_link(&matrix.cells[i].runs[0], "loop", "in user code"));
    }
    matrix_deinit(&matrix);
    play_matrix(on, NULL, 1, &matrix);
    CHECK_EQ(matrix.cell_count, 3 * catalogue_solution_count());
    for (size_t i = 0; i < matrix.cell_count; i++) {
        CHECK_EQ(matrix.cells[i].verdict, LAB_OK);
        CHECK(!matrix.cells[i].is_broken);
    }
    matrix_deinit(&matrix);
}

TEST_WITH_TIMEOUT(default_client_is_ok_under_every_cause, 120)
{
    struct matrix matrix;

    play_matrix(NULL, "interloop", 1, &matrix);
    CHECK_EQ(matrix.cell_count, catalogue_cause_count());
    for (size_t i = 0; i < matrix.cell_count; i++) {
        CHECK_EQ(matrix.cells[i].verdict, LAB_OK);
    }
    CHECK_EQ(matrix_status(&matrix), 0);
    matrix_deinit(&matrix);
}

TEST_WITH_TIMEOUT(what_a_cancelled_request_takes_with_it_hangs_others_with_proof_in_the_books, 120)
{
    static const char *const causes[] = { "slot-leak", "lost-waiter", "leader-cancelled", NULL };
    static const char *const states[] = { "1 of 1 places in use", "1 of 1 places free",
                                          "being connected" };
    struct matrix matrix;

    play_matrix(causes, "shared", 3, &matrix);
    CHECK_EQ(matrix.cell_count, LAB_COUNT(states));
    for (size_t i = 0; i < LAB_COUNT(states); i++) {
        for (unsigned run = 0; run < 3; run++) {
            CHECK_EQ(matrix.cells[i].runs[run].verdict, LAB_HUNG);
            CHECK(has_link(&matrix.cells[i].runs[run], "pool", states[i]));
            CHECK(has_link(&matrix.cells[i].runs[run], "task", "gone"));
        }
    }
    CHECK_EQ(matrix_status(&matrix), 0);
    matrix_deinit(&matrix);
}

TEST_WITH_TIMEOUT(bodies_that_nobody_reads_starve_others_until_they_are_read, 60)
{
    static const char *const causes[] = { "unread-bodies", NULL };
    struct matrix matrix;

    play_matrix(causes, "shared", 3, &matrix);
    for (unsigned run = 0; run < 3; run++) {
        CHECK_EQ(matrix.cells[0].runs[run].verdict, LAB_STARVED);
        CHECK(has_link(&matrix.cells[0].runs[run], "response", "read by nobody"));
        CHECK_CONTAINS(matrix.cells[0].runs[run].note, "the answer came");
    }
    CHECK_EQ(matrix_status(&matrix), 0);
    matrix_deinit(&matrix);
}

TEST_WITH_TIMEOUT(shared_http2_session_hangs_all_its_streams_with_proof, 120)
{
    static const char *const causes[] = { "h2-parked", "h2-connecting", "window-leak", NULL };
    static const struct {
        const char *what, *state, *note;
    } proofs[] = { { "socket", "never written", "3 hung" },
                   { "opening", "connect", "1 ok, then 10 hung" },
                   { "window", "used up", "1 hung, then 1 ok" } };
    struct matrix matrix;

    play_matrix(causes, "shared", 1, &matrix);
    CHECK_EQ(matrix.cell_count, LAB_COUNT(proofs));
    for (size_t i = 0; i < LAB_COUNT(proofs); i++) {
        const struct result *run = &matrix.cells[i].runs[0];

        CHECK_EQ(run->verdict, LAB_HUNG);
        CHECK(has_link(run, proofs[i].what, proofs[i].state));
        CHECK(has_link(run, "loop", "not driven"));
        CHECK_STR(run->note, proofs[i].note);
    }
    CHECK_EQ(matrix_status(&matrix), 0);
    matrix_deinit(&matrix);
}

TEST_WITH_TIMEOUT(every_cell_comes_out_as_the_catalogue_says, 180)
{
    static const char *const causes[] = { "parked",
                                          "parked-between",
                                          "dropped-idle",
                                          "dropped-in-flight",
                                          "busy",
                                          "busy+hand-over",
                                          "busy-sibling",
                                          "busy-sibling+hand-over",
                                          "all-workers-busy",
                                          "all-workers-busy+hand-over",
                                          "handed-over",
                                          "leftovers",
                                          "dropped-mid-body",
                                          "stale",
                                          "unread-bodies",
                                          "slot-leak",
                                          "lost-waiter",
                                          "leader-cancelled",
                                          "h2-parked",
                                          "h2-dropped",
                                          "h2-busy",
                                          "h2-connecting",
                                          "window-leak",
                                          NULL };
    struct matrix matrix;

    play_matrix(causes, NULL, 1, &matrix);
    CHECK_EQ(matrix.cell_count, (LAB_COUNT(causes) - 1) * catalogue_solution_count());
    CHECK_EQ(matrix_status(&matrix), 0);
    matrix_deinit(&matrix);
}

/* ---- verdicts ---- */

static void ask_late_run(struct world *world)
{
    struct actor *b = world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);

    judged_run(world_ask(world, b, &(struct ask){ .query = "delay_ms=2300" }));
}

TEST(answer_that_is_late_is_slow_and_not_hung)
{
    static const struct cause cause = { .name = "late", .run = ask_late_run };

    play(&cause, &solution_shared, 10000);
    CHECK(!result.is_broken);
    CHECK_EQ(result.verdict, LAB_SLOW);
    CHECK_EQ(result.link_count, 0);
}

static void ask_never_run(struct world *world)
{
    struct actor *b = world_actor(world, "B", IL_RUNTIME_CURRENT_THREAD, 0);

    judged_start_alone(world_ask(world, b, &(struct ask){ .query = "hold=never" }));
    actor_wait(b);
}

TEST(server_that_never_answers_is_a_timeout_and_not_a_hang)
{
    static const struct cause cause = { .name = "never", .run = ask_never_run };
    static const struct solution *const solutions[] = { &solution_shared, &solution_interloop,
                                                        &solution_proxy, &solution_channel };

    for (size_t i = 0; i < LAB_COUNT(solutions); i++) {
        play(&cause, solutions[i], 700);
        if (result.is_broken) {
            check_fail(__FILE__, __LINE__, "%s", result.broken);
        }
        CHECK_EQ(result.verdict, LAB_ERROR);
        CHECK_EQ(result.error.code, IL_ETIMEDOUT);
    }
}

/* ---- conservation ---- */

static void leak_client_run(struct world *world)
{
    static struct il_client *client; /* found by leak checkers, and not taken for a leak by them */

    world_need(world, il_client_new(NULL, &client, &err) == IL_OK, "make a client");
}

TEST(client_that_is_left_behind_breaks_the_run)
{
    static const struct cause cause = { .name = "leak", .run = leak_client_run };

    play(&cause, &solution_interloop, 1000);
    CHECK(result.is_broken);
    CHECK_CONTAINS(result.broken, "left behind: clients: 1, were 0");
}

static void fail_run(struct world *world)
{
    struct actor *a = world_actor(world, "A", IL_RUNTIME_CURRENT_THREAD, 0);
    struct actor *b = world_actor(world, "B", IL_RUNTIME_MULTI_THREAD, 1);

    world_fail(world, "the scenery fell down");
    world_fetch(world, a, 3); /* and nothing of all this happens */
    actor_drive(a);
    actor_park(a);
    actor_drop(a);
    judged_run(world_ask(world, b, &(struct ask){ 0 }));
}

TEST(failed_step_breaks_the_run_and_skips_the_rest)
{
    static const struct cause cause = { .name = "fail", .run = fail_run };

    play(&cause, &solution_shared, 1000);
    CHECK(result.is_broken);
    CHECK(result.is_complete);
    CHECK_STR(result.broken, "the scenery fell down");
    CHECK_EQ(result.request_count, 0);
}

/* ---- judging cells ---- */

TEST(cell_is_as_expected_only_if_all_runs_agree_and_none_is_broken)
{
    struct result runs[3] = { { .verdict = LAB_HUNG }, { .verdict = LAB_HUNG } };
    struct cell cell = { .run_count = 2, .runs = runs };
    struct matrix matrix = { .cell_count = 1, .cells = &cell };

    cell_judge(&cell, LAB_HUNG);
    CHECK(cell.is_as_expected);
    CHECK_EQ(matrix_status(&matrix), 0);

    cell_judge(&cell, LAB_OK);
    CHECK(!cell.is_as_expected);
    CHECK_EQ(matrix_status(&matrix), 1);

    cell.run_count = 3; /* the third is ok */
    cell_judge(&cell, LAB_HUNG);
    CHECK_EQ(cell.verdict, LAB_HUNG);
    CHECK(!cell.is_agreed);
    CHECK(!cell.is_as_expected);

    runs[2] = runs[0];
    runs[1].is_broken = true;
    cell_judge(&cell, LAB_HUNG);
    CHECK(cell.is_agreed);
    CHECK(!cell.is_as_expected);
    CHECK_EQ(matrix_status(&matrix), 1);

    runs[1].is_impossible = true;
    CHECK_EQ(matrix_status(&matrix), 3);
}

TEST(wrong_is_the_worst_of_all_verdicts)
{
    struct result runs[2] = { { .verdict = LAB_WRONG }, { .verdict = LAB_HUNG } };
    struct cell cell = { .run_count = 2, .runs = runs };

    cell_judge(&cell, LAB_HUNG);
    CHECK_EQ(cell.verdict, LAB_WRONG);
    CHECK(cell_shown(&cell) == &runs[0]);
}

/* ---- the command line ---- */

/* Run the command and take what it writes to stderr. */
static int run_command(const char *const *words, char *ret_errors, size_t size)
{
    int old = dup(STDERR_FILENO), file = memfd_create("stderr", MFD_CLOEXEC), status;
    char *argv[8];
    int argc = 0;
    ssize_t got;

    for (; words[argc] != NULL; argc++) {
        argv[argc] = (char *)(uintptr_t)words[argc];
    }
    argv[argc] = NULL;
    CHECK(old >= 0 && file >= 0);
    dup2(file, STDERR_FILENO);
    status = reproduce_main(argc, argv);
    dup2(old, STDERR_FILENO);
    got = pread(file, ret_errors, size - 1, 0);
    ret_errors[got < 0 ? 0 : got] = '\0';
    close(file);
    close(old);
    return status;
}

TEST(hold_that_is_no_number_of_seconds_within_the_limit_is_wrong_usage)
{
    static const char *const wrong[] = { "--hold=0", "--hold=601",  "--hold=-1", "--hold=1.5",
                                         "--hold=x", "--hold=9e99", "--hold=" };
    char errors[512];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        const char *const words[] = { "reproduce", "--cause", "parked", "--solution",
                                      "shared",    wrong[i],  NULL };

        CHECK_EQ(run_command(words, errors, sizeof(errors)), 2);
        CHECK_CONTAINS(errors, "--hold is a number of seconds, from 1 to 600");
        CHECK_CONTAINS(errors, wrong[i] + strlen("--hold="));
    }
}

TEST(hold_without_exactly_one_cell_is_wrong_usage)
{
    static const char *const wrong[][7] = {
        { "reproduce", "--hold" },
        { "reproduce", "--hold", "--cause", "parked" },
        { "reproduce", "--hold", "--solution", "shared" },
        { "reproduce", "--hold", "--cause", "parked,busy", "--solution", "shared" },
        { "reproduce", "--hold", "--cause", "parked", "--solution", "shared,proxy" },
        { "reproduce", "--hold", "--cause=parked", "--solution=shared", "--repeat", "2" },
    };
    char errors[512];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        CHECK_EQ(run_command(wrong[i], errors, sizeof(errors)), 2);
        CHECK_CONTAINS(errors, "--hold wants one --cause and one --solution, and no --repeat");
    }
}
