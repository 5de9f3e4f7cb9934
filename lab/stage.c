/* stage.c: passes each call on to the stage that is chosen. Threads: any. */
#include "lab/server.h"
#include "lab/stage_inside.h"

static const struct stage_table *stage_table = &stage_real;

void stage_choose(enum stage_kind kind)
{
    stage_table = kind == STAGE_SIM ? &stage_sim : &stage_real;
}

struct stage_thread *stage_thread_start(const char *name, void (*run)(void *arg), void *arg)
{
    return stage_table->thread_start(name, run, arg);
}

void stage_thread_join(struct stage_thread *thread)
{
    stage_table->thread_join(thread);
}

void stage_thread_name(char name[STAGE_THREAD_NAME_SIZE])
{
    stage_table->thread_name(name);
}

void stage_sleep_ms(uint64_t ms)
{
    stage_table->sleep_ms(ms);
}

struct stage_mutex *stage_mutex_new(void)
{
    return stage_table->mutex_new();
}

void stage_mutex_free(struct stage_mutex *mutex)
{
    stage_table->mutex_free(mutex);
}

void stage_mutex_lock(struct stage_mutex *mutex)
{
    stage_table->mutex_lock(mutex);
}

void stage_mutex_unlock(struct stage_mutex *mutex)
{
    stage_table->mutex_unlock(mutex);
}

struct stage_event *stage_event_new(void)
{
    return stage_table->event_new();
}

void stage_event_free(struct stage_event *event)
{
    stage_table->event_free(event);
}

void stage_event_set(struct stage_event *event)
{
    stage_table->event_set(event);
}

void stage_event_reset(struct stage_event *event)
{
    stage_table->event_reset(event);
}

bool stage_event_wait(struct stage_event *event, uint64_t timeout_ms)
{
    return stage_table->event_wait(event, timeout_ms);
}

void stage_resources(struct stage_resources *ret_resources)
{
    stage_table->resources(ret_resources);
}

enum il_code stage_server_start(uint64_t answering_max, bool has_tls,
                                struct stage_server **ret_server, struct il_error *err)
{
    return stage_table->server_start(answering_max, has_tls, ret_server, err);
}

void stage_server_stop(struct stage_server *server)
{
    stage_table->server_stop(server);
}

uint16_t stage_server_port(const struct stage_server *server)
{
    return stage_table->server_port(server);
}

const char *stage_server_ca(const struct stage_server *server)
{
    return stage_table->server_ca(server);
}

bool stage_server_wait_held(struct stage_server *server, const char *gate, uint64_t count,
                            uint64_t timeout_ms)
{
    return stage_table->server_wait_held(server, gate, count, timeout_ms);
}

bool stage_server_wait_idle(struct stage_server *server, uint64_t count, uint64_t timeout_ms)
{
    return stage_table->server_wait_idle(server, count, timeout_ms);
}

bool stage_server_wait_open(struct stage_server *server, uint64_t count, uint64_t timeout_ms)
{
    return stage_table->server_wait_open(server, count, timeout_ms);
}

void stage_server_release(struct stage_server *server, const char *gate)
{
    stage_table->server_release(server, gate);
}

uint64_t stage_server_close_idle(struct stage_server *server)
{
    return stage_table->server_close_idle(server);
}

uint64_t stage_server_scold_idle(struct stage_server *server)
{
    return stage_table->server_scold_idle(server);
}

uint64_t stage_server_close_held(struct stage_server *server)
{
    return stage_table->server_close_held(server);
}

enum il_code stage_server_stall(struct stage_server *server, struct il_error *err)
{
    return stage_table->server_stall(server, err);
}

void stage_server_unstall(struct stage_server *server)
{
    stage_table->server_unstall(server);
}

void stage_server_counts(struct stage_server *server, struct stage_server_counts *ret_counts)
{
    stage_table->server_counts(server, ret_counts);
}

unsigned stage_server_seen(struct stage_server *server, const char *path)
{
    return stage_table->server_seen(server, path);
}

__attribute__((noinline)) bool stage_user_code_blocking_its_thread(struct stage_event *event,
                                                                   uint64_t timeout_ms)
{
    bool is_set = stage_event_wait(event, timeout_ms);

    __asm__ volatile("" ::: "memory"); /* no tail call: this frame is to be seen */
    return is_set;
}

bool stage_pattern_matches(const char *data, size_t size, uint64_t seed, uint64_t offset)
{
    return lab_pattern_matches(data, size, seed, offset);
}
