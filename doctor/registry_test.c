/* registry_test.c: reading interloop's own record out of a process: this one, and one that lies. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/shown.h"
#include "doctor/look.h"
#include "interloop/client.h"
#include "interloop/runtime.h"
#include "tests/check.h"

extern const struct shown shown_clients, shown_loops, shown_desks;

static void look_at(struct look *look, pid_t pid)
{
    look_init(look, pid, &(struct look_options){ .duration_ms = 1 });
    look->can_memory = true;
    registry_begin(look);
    registry_end(look);
}

static struct il_runtime *new_runtime(const char *name)
{
    struct il_runtime_options options = IL_RUNTIME_OPTIONS_INIT;
    struct il_runtime *runtime = NULL;
    struct il_error err;

    options.kind = IL_RUNTIME_CURRENT_THREAD;
    options.name = name;
    CHECK_EQ(il_runtime_new(&options, &runtime, &err), IL_OK);
    return runtime;
}

static const struct seen_loop *loop_named(const struct look *look, const char *name)
{
    const struct registry_shot *shot = registry_shot(look);

    for (uint32_t i = 0; shot != NULL && i < shot->loop_count; i++) {
        if (strcmp(shot->loops[i].name, name) == 0) {
            return &shot->loops[i];
        }
    }
    return NULL;
}

TEST(a_process_without_a_loop_has_no_record)
{
    struct look look;

    look_at(&look, getpid());
    CHECK(registry_shot(&look) == NULL);
    look_deinit(&look);
}

TEST(a_parked_runtime_is_read_by_name_and_stands)
{
    struct il_runtime *runtime = new_runtime("parked-one");
    const struct seen_loop *loop;
    struct look look;

    look_at(&look, getpid());
    loop = loop_named(&look, "parked-one");
    CHECK(loop != NULL);
    CHECK(strcmp(loop->runtime, "parked-one") == 0);
    CHECK(loop->is_current_thread && !loop->is_thread_loop);
    CHECK_EQ(loop->hold, SHOWN_HOLD_FREE);
    CHECK(loop->stood);
    CHECK(registry_loop(&look, loop->id) == loop);
    look_deinit(&look);
    (void)il_runtime_drop(runtime);
}

struct inside {
    bool has_seen_task, has_seen_user_code;
};

static void look_from_inside(void *arg)
{
    struct inside *inside = arg;
    const struct seen_loop *loop;
    struct look look;

    look_at(&look, getpid());
    loop = loop_named(&look, "inside");
    inside->has_seen_user_code = loop != NULL && loop->hold == SHOWN_HOLD_IN_USER;
    inside->has_seen_task = loop != NULL && loop->task[0] != '\0';
    look_deinit(&look);
}

TEST(a_task_in_user_code_is_seen_on_its_loop)
{
    struct il_runtime *runtime = new_runtime("inside");
    struct inside inside = { false, false };
    struct il_error err;

    CHECK_EQ(il_block_on(runtime, look_from_inside, &inside, &err), IL_OK);
    CHECK(inside.has_seen_user_code);
    CHECK(inside.has_seen_task);
    (void)il_runtime_drop(runtime);
}

TEST(names_from_the_process_are_made_printable)
{
    struct il_runtime *runtime = new_runtime("a\033[31mb\n");
    struct look look;

    look_at(&look, getpid());
    CHECK(loop_named(&look, "a?[31mb?") != NULL);
    look_deinit(&look);
    (void)il_runtime_drop(runtime);
}

/* ---- a process that lies ---- */

/* A child that has a runtime and a client, does `damage` to itself, and waits to be killed. */
static pid_t start_liar(void (*damage)(struct il_runtime *runtime, unsigned seed), unsigned seed)
{
    int ends[2];
    char byte;
    pid_t child;

    CHECK_EQ(pipe(ends), 0);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        struct il_runtime *runtime = new_runtime("liar");
        struct il_client *client = NULL;
        struct il_error err;

        if (il_client_new(NULL, &client, &err) != IL_OK) {
            _exit(1);
        }
        damage(runtime, seed);
        (void)!write(ends[1], "x", 1);
        for (;;) {
            pause();
        }
    }
    close(ends[1]);
    CHECK_EQ(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    return child;
}

static void look_at_liar(void (*damage)(struct il_runtime *runtime, unsigned seed), unsigned seed,
                         void (*check)(const struct look *look))
{
    pid_t child = start_liar(damage, seed);
    struct look look;

    look_at(&look, child);
    check(&look);
    look_deinit(&look);
    kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}

/* Nodes 0 and 1 point at each other and never back at the list. */
static struct il_list knot[2];

static void make_knot(struct il_runtime *runtime, unsigned seed)
{
    struct il_list *root = (struct il_list *)shown_loops.root;

    root->next = &knot[0];
    knot[0] = (struct il_list){ &knot[1], root };
    knot[1] = (struct il_list){ &knot[0], &knot[0] };
}

static void check_torn(const struct look *look)
{
    CHECK(registry_shot(look) != NULL && registry_shot(look)->is_torn);
    CHECK(look->limit_count > 0);
}

TEST(a_list_that_is_a_knot_is_given_up)
{
    look_at_liar(make_knot, 0, check_torn);
}

/* A ring of nodes, each pointing back as it should, that is longer than any maximum. */
static void make_long_ring(struct il_runtime *runtime, unsigned seed)
{
    struct il_list *root = (struct il_list *)shown_loops.root;
    size_t count = REGISTRY_LOOPS_MAX + 10, size = 8192;
    char *memory = calloc(count, size), *previous = (char *)root;

    for (size_t i = 0; i < count; i++) {
        struct il_list *node = (struct il_list *)(void *)(memory + i * size);

        ((struct il_list *)(void *)previous)->next = node;
        node->prev = (struct il_list *)(void *)previous;
        previous = (char *)node;
    }
    ((struct il_list *)(void *)previous)->next = root;
}

static void check_cut(const struct look *look)
{
    CHECK(registry_shot(look) != NULL && registry_shot(look)->is_cut);
    CHECK(registry_shot(look)->loop_count <= REGISTRY_LOOPS_MAX);
    CHECK(look->limit_count > 0);
}

TEST(a_list_without_end_is_cut_and_that_is_said)
{
    look_at_liar(make_long_ring, 0, check_cut);
}

static void *address_of(struct il_list *node, uint32_t offset)
{
    return (char *)node - offset;
}

/* Random bytes over what the tables lead to: the runtime's loop and the client. */
static void scribble(struct il_runtime *runtime, unsigned seed)
{
    struct il_list *loops = (struct il_list *)shown_loops.root;
    struct il_list *clients = (struct il_list *)shown_clients.root;
    unsigned char *loop = address_of(loops->next, shown_loops.offsets[SHOWN_LOOP_LINK]);
    unsigned char *client = address_of(clients->next, shown_clients.offsets[SHOWN_CLIENT_LINK]);

    srand(seed);
    for (int i = 0; i < 400; i++) {
        uint32_t in_loop = shown_loops.offsets[(unsigned)rand() % SHOWN_LOOP_FIELD_COUNT];
        uint32_t in_client = shown_clients.offsets[(unsigned)rand() % SHOWN_CALL_LINK];

        if (in_loop != shown_loops.offsets[SHOWN_LOOP_LINK] || seed % 2 == 0) {
            loop[in_loop + (unsigned)rand() % 8] = (unsigned char)rand();
        }
        client[in_client + (unsigned)rand() % 8] = (unsigned char)rand();
    }
}

static void check_bounded(const struct look *look)
{
    const struct registry_shot *shot = registry_shot(look);

    if (shot != NULL) {
        CHECK(shot->loop_count <= REGISTRY_LOOPS_MAX);
        CHECK(shot->request_count <= REGISTRY_REQUESTS_MAX);
        for (uint32_t i = 0; i < shot->loop_count; i++) {
            for (const char *at = shot->loops[i].name; *at != '\0'; at++) {
                CHECK((unsigned char)*at >= 0x20 && (unsigned char)*at < 0x7f);
            }
        }
    }
}

TEST_WITH_TIMEOUT(a_damaged_record_is_read_without_harm, 120)
{
    for (unsigned seed = 0; seed < 60; seed++) {
        look_at_liar(scribble, seed, check_bounded);
    }
}

TEST(without_the_right_to_read_memory_there_is_no_record)
{
    struct il_runtime *runtime = new_runtime("unseen");
    struct look look;

    look_init(&look, getpid(), &(struct look_options){ .duration_ms = 1 });
    registry_begin(&look);
    registry_end(&look);
    CHECK(registry_shot(&look) == NULL);
    look_deinit(&look);
    (void)il_runtime_drop(runtime);
}
