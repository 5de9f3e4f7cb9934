/* share_chaos_test.c: many callers, time limits, cancels and ends of runtimes, in an order drawn
 * from a seed (and by the threads themselves, so a seed makes a failure likely again, not sure).
 * Whatever happens, every call comes back, with its own answer or one of the codes that it may, and
 * nothing is left. CHECK_SEED=N repeats a run. */
#include "tests/share_check.h"

#define ROUNDS   12
#define CALLERS  6
#define REQUESTS 15

enum pattern {
    PATTERN_SINGLE,
    PATTERN_PROXY,
    PATTERN_SERVICE,
    PATTERN_COUNT,
};

struct chaos {
    struct scene scene;
    struct dice dice;
    enum pattern pattern;
    struct il_runtime *owner; /* NULL for a single */
    struct il_single *single;
    struct il_proxy *proxy;
    struct il_service *service;
    share_send_fn *send;
    void *object;
    _Atomic bool is_over; /* for the thread that drives a current-thread owner */
};

struct chaos_caller {
    struct chaos *chaos;
    struct actor actor;
    struct dice dice;
    unsigned number;
    unsigned ok_count;
};

static struct il_error err;

/* May a request with so short a time, cancelled perhaps, whose owner may go, end like this? */
static bool is_allowed(enum il_code code)
{
    switch (code) {
    case IL_OK:
    case IL_ETIMEDOUT:
    case IL_ECANCELED:
    case IL_ESHUTDOWN:
    case IL_EOWNERGONE:
    case IL_EAGAIN:
        return true;
    default:
        return false;
    }
}

static void chaos_call(void *arg)
{
    struct chaos_caller *self = arg;

    for (unsigned i = 0; i < REQUESTS; i++) {
        uint64_t total_ms = dice_roll(&self->dice, 4) == 0 ? dice_roll(&self->dice, 3) + 1 : 20000;
        struct caller caller;
        char path[64], token[32];

        snprintf(token, sizeof(token), "%u-%u", self->number, i);
        if (dice_roll(&self->dice, 5) == 0) {
            snprintf(path, sizeof(path), "/never?n=%s", token);
            total_ms = dice_roll(&self->dice, 5) + 1;
        } else {
            snprintf(path, sizeof(path), "/id/%s?delay_ms=%u", token, dice_roll(&self->dice, 3));
        }
        (void)caller_send_here(&caller, &self->chaos->scene, self->chaos->send, self->chaos->object,
                               path, total_ms);
        if (!is_allowed(caller.code)) {
            check_fail(__FILE__, __LINE__, "%s: %s", path, caller.error.message);
        }
        if (caller.code == IL_OK) {
            CHECK_STR(caller.body, token);
            self->ok_count++;
        }
    }
}

static bool chaos_is_over(void *arg)
{
    return atomic_load(&((struct chaos *)arg)->is_over);
}

/* A thread that drives a current-thread owner, until it is told to stop, or the owner ends. */
static void *chaos_drive(void *arg)
{
    struct chaos *chaos = arg;

    while (!chaos_is_over(chaos) &&
           il_block_on(chaos->owner, check_do_nothing, NULL, NULL) == IL_OK) {
    }
    return NULL;
}

static void chaos_make(struct chaos *chaos, enum il_runtime_kind kind, enum il_driver driver)
{
    struct il_client_options client = IL_CLIENT_OPTIONS_INIT;
    struct il_single_options single = IL_SINGLE_OPTIONS_INIT;
    struct il_proxy_options proxy = IL_PROXY_OPTIONS_INIT;
    struct il_service_options service = IL_SERVICE_OPTIONS_INIT;

    client.driver = driver;
    if (chaos->pattern == PATTERN_SINGLE) {
        single.client = &client;
        single.worker_count = 2;
        CHECK_OK(il_single_new(&single, &chaos->single, &err));
        chaos->send = check_single;
        chaos->object = chaos->single;
        return;
    }
    chaos->owner = check_new_runtime(kind, 1 + dice_roll(&chaos->dice, 2));
    if (chaos->pattern == PATTERN_PROXY) {
        proxy.client = &client;
        CHECK_OK(il_proxy_new(chaos->owner, NULL, &proxy, &chaos->proxy, &err));
        chaos->send = check_proxy;
        chaos->object = chaos->proxy;
    } else {
        service.client = &client;
        service.queue_capacity = 1 + dice_roll(&chaos->dice, 4);
        service.concurrency = 1 + dice_roll(&chaos->dice, 4);
        service.refuse_when_full = dice_roll(&chaos->dice, 4) == 0;
        service.queue_timeout_ms = dice_roll(&chaos->dice, 2) * 5;
        CHECK_OK(il_service_start(chaos->owner, &service, &chaos->service, &err));
        chaos->send = check_service;
        chaos->object = chaos->service;
    }
}

static void chaos_unmake(struct chaos *chaos)
{
    il_single_free(chaos->single);
    il_proxy_free(chaos->proxy);
    (void)il_service_stop(chaos->service, 0, NULL); /* all that is left is cut short */
    il_runtime_drop(chaos->owner);
}

/* Let some callers go on undisturbed, and disturb the others. */
static void chaos_disturb(struct chaos *chaos, struct chaos_caller *callers, bool drop_owner)
{
    for (unsigned i = 0; i < CALLERS; i++) {
        (void)il_sleep_ms(dice_roll(&chaos->dice, 3)); /* any moment is as good as another */
        if (callers[i].actor.where == IN_MULTI_THREAD && dice_roll(&chaos->dice, 2) == 0) {
            il_task_cancel(callers[i].actor.task);
        }
    }
    if (drop_owner && chaos->owner != NULL) {
        (void)il_runtime_shutdown(chaos->owner, 0, NULL, NULL); /* nobody else ends it */
    }
}

static void chaos_round(struct chaos *chaos)
{
    enum il_runtime_kind kind =
        dice_roll(&chaos->dice, 2) ? IL_RUNTIME_MULTI_THREAD : IL_RUNTIME_CURRENT_THREAD;
    enum il_driver driver = dice_roll(&chaos->dice, 2) ? IL_DRIVER_CALLER : IL_DRIVER_BOUND;
    bool drop_owner = dice_roll(&chaos->dice, 3) == 0;
    struct chaos_caller callers[CALLERS];
    unsigned ok_count = 0;
    pthread_t driving;

    scene_begin(&chaos->scene);
    chaos_make(chaos, kind, driver);
    if (chaos->owner != NULL && kind == IL_RUNTIME_CURRENT_THREAD) {
        CHECK_EQ(pthread_create(&driving, NULL, chaos_drive, chaos), 0);
    }
    for (unsigned i = 0; i < CALLERS; i++) {
        callers[i] = (struct chaos_caller){ .chaos = chaos, .number = i };
        callers[i].dice = dice_new(dice_roll(&chaos->dice, 1 << 30));
        actor_start(&callers[i].actor, (enum check_where)(i % WHERE_COUNT), chaos_call,
                    &callers[i]);
    }
    chaos_disturb(chaos, callers, drop_owner);
    for (unsigned i = 0; i < CALLERS; i++) {
        actor_join(&callers[i].actor);
        ok_count += callers[i].ok_count;
    }
    check_nothing_pending();
    /* A service may have refused everything: its queue is short. */
    CHECK(ok_count > 0 || drop_owner || chaos->pattern == PATTERN_SERVICE);
    if (chaos->owner != NULL && kind == IL_RUNTIME_CURRENT_THREAD) {
        atomic_store(&chaos->is_over, true);
        pthread_join(driving, NULL);
    }
    chaos_unmake(chaos);
    scene_end(&chaos->scene);
}

TEST_WITH_TIMEOUT(every_call_comes_back_whatever_happens_and_nothing_is_left, 240)
{
    struct dice dice = dice_new(check_seed());

    for (unsigned i = 0; i < ROUNDS; i++) {
        struct chaos chaos = { .dice = dice_new(dice_roll(&dice, 1 << 30)),
                               .pattern = (enum pattern)(i % PATTERN_COUNT) };

        chaos_round(&chaos);
    }
}
