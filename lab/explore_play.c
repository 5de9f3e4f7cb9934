/* explore_play.c: plays one run in the simulated world, and says whether it is a finding.
 *
 * Owns: nothing. Threads: the only one of its process. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lab/explore.h"
#include "lab/explore_child.h"

#define PLAY_LIMIT_MS      5000  /* of a judged request */
#define PLAY_TLS_LIMIT_MS  12000 /* likewise; there are more round trips, each perhaps late */
#define PLAY_STEPS_MAX     4000000
#define PLAY_TIME_LIMIT_NS (7200 * 1000 * SIM_NS_PER_MS)

const char *explore_mode_name(enum explore_mode mode)
{
    static const char *const names[] = { "safety", "liveness", "both" };

    return names[mode];
}

static const struct {
    const char *name, *meaning;
} kinds[] = {
    [EXPLORE_NOTHING] = { "nothing", "it came out as it should" },
    [EXPLORE_BROKEN] = { "broken", "the run could not be carried out, and no fault explains it" },
    [EXPLORE_ERROR] = { "error", "a request failed, and no fault explains it" },
    [EXPLORE_STARVED] = { "starved", "a request waits for a party that is stuck in user code" },
    [EXPLORE_LEAK] = { "leak", "something was left behind" },
    [EXPLORE_LIVELOCK] = { "livelock", "everybody runs, and nothing comes about" },
    [EXPLORE_HANG] = { "hang", "a request, or everything, waits for what will never be" },
    [EXPLORE_WRONG] = { "wrong", "a wrong answer was taken, or something was there twice" },
    [EXPLORE_CRASH] = { "crash", "the process died" },
};

const char *explore_kind_name(enum explore_kind kind)
{
    return kinds[kind].name;
}

const char *explore_kind_meaning(enum explore_kind kind)
{
    return kinds[kind].meaning;
}

const struct cause *explore_cause_at(unsigned index)
{
    size_t count = catalogue_cause_count();

    if (index < count) {
        return catalogue_cause(index);
    }
    return index == count ? &cause_unasked : index == count + 1 ? &cause_general : NULL;
}

/* Half of the seeds are the general workload's. */
struct explore_run explore_run_of(const struct explore_choice *choice, uint64_t seed)
{
    struct explore_run run = {
        .cause = choice->cause, .solution = choice->solution, .mode = choice->mode, .seed = seed
    };

    if (run.mode == EXPLORE_BOTH) {
        run.mode = seed % 2 == 0 ? EXPLORE_SAFETY : EXPLORE_LIVENESS;
        seed /= 2;
    }
    if (run.cause == NULL && seed % 2 == 0) {
        run.cause = &cause_general;
    } else if (run.cause == NULL) {
        run.cause = explore_cause_at((unsigned)(seed / 2 % (catalogue_cause_count() + 1)));
    }
    return run;
}

/* ---- the verdict ---- */

/* Faults after which an error is a right answer. */
static bool has_hurt(const struct sim_report *report)
{
    uint64_t count = 0;

    for (int fault = 0; fault < SIM_FAULT_COUNT; fault++) {
        count += (SIM_FAULTS_TIME >> fault & 1) != 0 ? 0 : report->fault_counts[fault];
    }
    return count > 0;
}

/* A POST that was sent on a connection just when the server closed it cannot be sent again. */
static bool is_excused(const struct explore_outcome *outcome)
{
    return has_hurt(&outcome->report) || (outcome->result.error.code == IL_EPEERCLOSED &&
                                          outcome->report.fault_counts[SIM_FAULT_CLOSE_IDLE] > 0);
}

static enum explore_kind kind_of(const struct explore_outcome *outcome)
{
    const struct result *result = &outcome->result;
    const struct sim_report *report = &outcome->report;

    if (result->verdict == LAB_WRONG) {
        return EXPLORE_WRONG;
    }
    if (result->verdict == LAB_HUNG || report->end == SIM_DEADLOCK || report->end == SIM_TIME_OUT) {
        return EXPLORE_HANG;
    }
    if (report->end == SIM_STEPS_OUT) {
        return EXPLORE_LIVELOCK;
    }
    if (result->has_left || report->end == SIM_LEFT) {
        return EXPLORE_LEAK;
    }
    if (result->verdict == LAB_STARVED) {
        return EXPLORE_STARVED;
    }
    if (result->verdict == LAB_ERROR && (result->is_certain || !is_excused(outcome))) {
        return EXPLORE_ERROR;
    }
    return result->is_broken && !has_hurt(report) ? EXPLORE_BROKEN : EXPLORE_NOTHING;
}

static void detail_add(struct explore_outcome *outcome, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void detail_add(struct explore_outcome *outcome, const char *format, ...)
{
    size_t used = strlen(outcome->detail);
    va_list args;

    va_start(args, format);
    (void)vsnprintf(outcome->detail + used, sizeof(outcome->detail) - used, format, args);
    va_end(args);
}

static void detail_add_chain(struct explore_outcome *outcome)
{
    const struct result *result = &outcome->result;

    for (unsigned i = 0; i < result->link_count; i++) {
        detail_add(outcome, "%s%s: %s", i > 0 ? "; waits for " : "", result->links[i].who,
                   result->links[i].state);
    }
}

static void outcome_judge(struct explore_outcome *outcome)
{
    const struct result *result = &outcome->result;

    outcome->kind = kind_of(outcome);
    outcome->detail[0] = '\0';
    switch (outcome->kind) {
    case EXPLORE_NOTHING:
    case EXPLORE_CRASH:
        return;
    case EXPLORE_LEAK:
        detail_add(outcome, "%s", result->has_left ? result->left : outcome->report.detail);
        return;
    case EXPLORE_BROKEN:
        detail_add(outcome, "%s", result->broken);
        return;
    case EXPLORE_ERROR:
        detail_add(outcome, "%s", result->note);
        if (result->error.code != IL_OK && strstr(result->note, "IL_E") == NULL) {
            detail_add(outcome, "%s%s: %s", result->note[0] != '\0' ? ": " : "",
                       il_code_name(result->error.code), result->error.message);
        }
        return;
    default:
        detail_add_chain(outcome);
        detail_add(outcome, "%s%s",
                   outcome->detail[0] != '\0' && result->note[0] != '\0' ? ". " : "", result->note);
        if (outcome->report.end != SIM_DONE && outcome->detail[0] == '\0') {
            detail_add(outcome, "%s: %s", sim_end_name(outcome->report.end),
                       outcome->report.detail);
        }
        return;
    }
}

/* ---- playing ---- */

struct play {
    const struct explore_run *run;
    struct explore_outcome *outcome;
};

/* Every third run of a cause is over https; the general workload draws for itself. */
static bool play_has_tls(const struct explore_run *run)
{
    return run->cause != &cause_general && run->seed / 12 % 3 == 0;
}

static void play_main(void *arg)
{
    struct play *play = arg;
    const struct explore_run *run = play->run;
    struct world_options options = { .limit_ms =
                                         play_has_tls(run) ? PLAY_TLS_LIMIT_MS : PLAY_LIMIT_MS,
                                     .seed = run->seed,
                                     .has_tls = play_has_tls(run),
                                     .is_lively = run->mode == EXPLORE_LIVENESS };

    memcpy(options.without, run->without, sizeof(options.without));
    world_play(run->cause, run->solution, &options, &play->outcome->result,
               &play->outcome->timeline);
}

/* Which faults may be drawn. Every third run has none after which an error is a right answer, so
 * that there every error is a finding. A cause that is to be played to its end, too. */
static uint32_t play_faults(const struct explore_run *run)
{
    bool is_mild = run->seed / 4 % 3 == 0;

    if (run->mode == EXPLORE_LIVENESS && run->cause != &cause_general) {
        is_mild = true;
    }
    if (is_mild) {
        return SIM_FAULTS_TIME;
    }
    /* Causes look at the clock, and take a jump of it for a step that has failed. */
    return run->cause == &cause_general ? SIM_FAULTS_ALL : SIM_FAULTS_ALL & ~(1u << SIM_FAULT_JUMP);
}

static void play_on_event(void *arg, const struct sim_event *event)
{
    struct explore_events *events = arg;

    if (events->count < events->count_max) {
        events->at[events->count] = *event;
    }
    events->count++;
}

void explore_play(const struct explore_run *run, struct explore_events *events,
                  struct explore_outcome *outcome)
{
    struct sim_options options = { .seed = run->seed,
                                   .faults = play_faults(run),
                                   .time_limit_ns = PLAY_TIME_LIMIT_NS,
                                   .step_count_max = PLAY_STEPS_MAX,
                                   .calm = run->calm,
                                   .calm_count = run->calm_count };
    struct play play = { .run = run, .outcome = outcome };

    if (events != NULL) {
        options.on_event = play_on_event;
        options.event_arg = events;
    }
    memset(outcome, 0, offsetof(struct explore_outcome, timeline));
    outcome->timeline.count = 0;
    stage_choose(STAGE_SIM);
    sim_run(&options, play_main, &play, &outcome->report);
    outcome_judge(outcome);
}

/* ---- playing apart ---- */

struct apart {
    const struct explore_run *run;
    struct explore_events *events;
    struct explore_outcome *outcome;
    bool *ret_has_ended;
};

static int apart_main(void *arg)
{
    struct apart *apart = arg;

    explore_play(apart->run, apart->events, apart->outcome);
    *apart->ret_has_ended = true;
    if (apart->outcome->report.end != SIM_DONE) {
        _exit(0); /* no leak checker: much is left, and has been told */
    }
    return 0;
}

bool explore_play_apart(const struct explore_run *run, struct explore_events *events,
                        struct explore_outcome *outcome)
{
    bool *has_ended = explore_share(sizeof(*has_ended));
    struct apart apart = { run, events, outcome, has_ended };
    char words[EXPLORE_DETAIL_SIZE];
    struct child child;
    int exit_code;

    if (has_ended == NULL || !child_start(&child, apart_main, &apart)) {
        explore_unshare(has_ended, sizeof(*has_ended));
        return false;
    }
    if (!child_await(&child, EXPLORE_RUN_MS)) {
        child_kill(&child);
    }
    child_reap(&child, &exit_code, words, sizeof(words));
    if (!*has_ended || exit_code != 0) {
        outcome->kind = *has_ended ? EXPLORE_LEAK : EXPLORE_CRASH;
        memcpy(outcome->detail, words, sizeof(words));
    }
    explore_unshare(has_ended, sizeof(*has_ended));
    return true;
}
