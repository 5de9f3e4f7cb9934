/* share_check.h: what the tests of src/share have in common: a server, places to send from, and the
 * proof that nothing is left.
 *
 *     struct scene scene;
 *
 *     scene_begin(&scene);
 *     ... objects, requests to scene_url(&scene, "/id/x") ...
 *     scene_end(&scene);   nothing may be left of them: memory, tasks, loops, runtimes, connections
 */
#ifndef SHARE_SHARE_CHECK_H
#define SHARE_SHARE_CHECK_H

#include "lab/server.h"
#include "share/share.h"
#include "sync/sync_check.h"

struct scene {
    struct lab_server *server;
    uint64_t live_count; /* of memory, at the start */
};

static struct il_error err;

static inline void scene_begin(struct scene *scene)
{
    struct il_memory_use use;

    CHECK_OK(lab_server_start(NULL, &scene->server, &err));
    (void)il_sleep_ms(0); /* this thread's record and loop are there from now on */
    il_memory_use(&use);
    scene->live_count = use.live_count;
}

static inline void scene_end(struct scene *scene)
{
    struct il_memory_use use;

    check_nothing_left();
    (void)il_sleep_ms(1); /* lets this thread's own loop close what is bound to it */
    CHECK(lab_server_wait_open(scene->server, 0, lab_in_ms(20000)));
    do { /* a thread that has just ended frees its record last */
        il_memory_use(&use);
    } while (use.live_count > scene->live_count);
    CHECK_EQ(use.live_count, scene->live_count);
    lab_server_stop(scene->server);
}

static inline const char *scene_url(struct scene *scene, const char *path)
{
    static _Thread_local char text[256];

    snprintf(text, sizeof(text), "http://127.0.0.1:%u%s", lab_server_port(scene->server), path);
    return text;
}

#endif
