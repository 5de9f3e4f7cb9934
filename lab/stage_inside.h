/* stage_inside.h: a stage is a table of these functions; stage.h says what each does. Private to
 * the stage_*.c. */
#ifndef LAB_STAGE_INSIDE_H
#define LAB_STAGE_INSIDE_H

#include "lab/stage.h"

struct stage_table {
    struct stage_thread *(*thread_start)(const char *name, void (*run)(void *arg), void *arg);
    void (*thread_join)(struct stage_thread *thread);
    void (*thread_name)(char name[STAGE_THREAD_NAME_SIZE]);
    void (*sleep_ms)(uint64_t ms);
    struct stage_mutex *(*mutex_new)(void);
    void (*mutex_free)(struct stage_mutex *mutex);
    void (*mutex_lock)(struct stage_mutex *mutex);
    void (*mutex_unlock)(struct stage_mutex *mutex);
    struct stage_event *(*event_new)(void);
    void (*event_free)(struct stage_event *event);
    void (*event_set)(struct stage_event *event);
    void (*event_reset)(struct stage_event *event);
    bool (*event_wait)(struct stage_event *event, uint64_t timeout_ms);
    void (*resources)(struct stage_resources *ret_resources);
    enum il_code (*server_start)(uint64_t answering_max, bool has_tls,
                                 struct stage_server **ret_server, struct il_error *err);
    void (*server_stop)(struct stage_server *server);
    uint16_t (*server_port)(const struct stage_server *server);
    const char *(*server_ca)(const struct stage_server *server);
    bool (*server_wait_held)(struct stage_server *server, const char *gate, uint64_t count,
                             uint64_t timeout_ms);
    bool (*server_wait_idle)(struct stage_server *server, uint64_t count, uint64_t timeout_ms);
    bool (*server_wait_open)(struct stage_server *server, uint64_t count, uint64_t timeout_ms);
    void (*server_release)(struct stage_server *server, const char *gate);
    uint64_t (*server_close_idle)(struct stage_server *server);
    uint64_t (*server_scold_idle)(struct stage_server *server);
    uint64_t (*server_close_held)(struct stage_server *server);
    enum il_code (*server_stall)(struct stage_server *server, struct il_error *err);
    void (*server_unstall)(struct stage_server *server);
    void (*server_counts)(struct stage_server *server, struct stage_server_counts *ret_counts);
    unsigned (*server_seen)(struct stage_server *server, const char *path);
};

extern const struct stage_table stage_real, stage_sim;

#endif
