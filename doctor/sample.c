/* sample.c: looking at the process for a while.
 *
 * First everything that stands in lists (open files, event sets, sockets), then, until the time is
 * up, short looks at threads and sets, and now and then one at the sockets where something waits.
 * The looks are not evenly spaced, so that they cannot fall into step with a loop's own period. A
 * look costs CPU time that the target may want: so the pause grows with it, up to a limit.
 *
 * Owns: nothing beyond the look. Thread: the doctor's only one. */
#include <errno.h>
#include <poll.h>
#include <time.h>

#include "doctor/kin.h"
#include "doctor/procfs.h"
#include "doctor/sample.h"
#include "doctor/sets.h"
#include "doctor/sockets.h"
#include "doctor/tasks.h"
#include "doctor/waits.h"

#define SAMPLE_PAUSE_MIN_NS    30000000u
#define SAMPLE_PAUSE_MAX_NS    150000000u
#define SAMPLE_PAUSE_SPREAD_NS 30000000u
#define SAMPLE_LONG_NS         900000000u
#define SAMPLE_LOOKS_MIN       10
#define SAMPLE_PATIENCE        5  /* times the duration, on a machine too busy for enough looks */
#define SAMPLE_SOCKET_LOOKS    4  /* besides the first and the last */
#define SAMPLE_COST_TIMES      40 /* a pause is so many times as long as a look took CPU */

struct sampler {
    struct look *look;
    uint64_t until_ns;
    uint64_t give_up_ns; /* even without enough looks */
    uint64_t next_sockets_ns;
    uint64_t random; /* only to spread the looks: no need for a good one */
};

static uint64_t next_pause_ns(struct sampler *sampler, uint64_t look_cost_ns)
{
    uint64_t base_ns = il_min_u64(il_max_u64(SAMPLE_PAUSE_MIN_NS, look_cost_ns * SAMPLE_COST_TIMES),
                                  SAMPLE_PAUSE_MAX_NS);

    sampler->random = sampler->random * 6364136223846793005u + 1442695040888963407u;
    return base_ns + (sampler->random >> 33) % SAMPLE_PAUSE_SPREAD_NS;
}

static bool has_ended(const struct look *look)
{
    struct pollfd poll_fd = { .fd = look->pidfd, .events = POLLIN };

    return look->pidfd >= 0 && poll(&poll_fd, 1, 0) == 1;
}

static void sleep_ns(uint64_t duration_ns)
{
    struct timespec pause = { (time_t)(duration_ns / 1000000000u),
                              (long)(duration_ns % 1000000000u) };

    (void)nanosleep(&pause, NULL); /* a signal only makes this look come early */
}

static uint64_t cpu_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void look_once(struct look *look, bool is_last)
{
    tasks_look(look, is_last);
    sets_look(look);
    look->look_count++;
}

/* What was registered or closed while we looked must not be judged by the first list. Reading the
 * lists again holds each set's lock for a moment, so it is done only where something stands. */
static void refresh_watches(struct look *look)
{
    bool is_needed = false;

    for (uint32_t i = 0; i < look->socket_count && !is_needed; i++) {
        const struct seen_socket *socket = &look->sockets[i];

        is_needed = socket->was_found && !socket->was_lost && !socket->was_read &&
                    (socket->last.unread_bytes > 0 || socket->last.end_unread);
    }
    for (uint32_t i = 0; i < look->set_count && !is_needed; i++) {
        is_needed = (look->sets[i].was_ready || look->sets[i].polled_count == 0) &&
                    look->sets[i].collected_count == 0 && look->sets[i].kind == FD_EPOLL;
    }
    if (!is_needed) {
        return;
    }
    for (uint32_t i = 0; i < look->set_count; i++) {
        if (!look->sets[i].is_gone && look->sets[i].kind == FD_EPOLL) {
            (void)procfs_read_watches(look, &look->sets[i]); /* on failure the old list stays */
        }
    }
    sets_link(look);
}

/* Long enough: nearly all of the window, or as long as a good window lasts. */
static bool lasted(const struct look *look, uint64_t since_ns)
{
    uint64_t window_ns = look->ended_ns - look->started_ns;

    return look->ended_ns >= since_ns + il_min_u64(window_ns / 10 * 9, SAMPLE_LONG_NS);
}

/* On an overloaded machine few looks come about, and threads of the target that would act get no
 * CPU: then wait for better times. */
static bool has_seen_enough(struct look *look)
{
    tasks_find_starved(look);
    return look->look_count >= SAMPLE_LOOKS_MIN && look->starved_count == 0;
}

static void judge_stillness(struct look *look)
{
    for (uint32_t i = 0; i < look->thread_count; i++) {
        struct seen_thread *thread = &look->threads[i];

        thread->stood_in_wait = !thread->is_gone && !thread->is_starved &&
                                thread->wait.kind != WAIT_RUNNING &&
                                lasted(look, thread->wait_since_ns);
        thread->stood_still = !thread->is_gone && !thread->is_starved &&
                              thread->still_since_ns != 0 && lasted(look, thread->still_since_ns);
    }
}

enum il_code sample_process(struct look *look, struct il_error *err)
{
    struct sampler sampler = { .look = look, .random = look_now_ns() ^ (uint64_t)look->pid };
    uint64_t sockets_every_ns;
    enum il_code code = procfs_open(look, err);

    if (code != IL_OK || (code = procfs_read_fds(look, err)) != IL_OK) {
        return code;
    }
    sets_find(look);
    sockets_find(look);
    sockets_every_ns = look->options.duration_ms * 1000000u / (SAMPLE_SOCKET_LOOKS + 1);
    registry_begin(look);
    sockets_look(look, SOCKETS_AT_FIRST);
    sets_link(look);
    look->started_ns = look_now_ns(); /* not sooner: on a busy machine the lists took their time */
    sampler.until_ns = look->started_ns + look->options.duration_ms * 1000000u;
    sampler.give_up_ns = look->started_ns + SAMPLE_PATIENCE * look->options.duration_ms * 1000000u;
    sampler.next_sockets_ns = look->started_ns + sockets_every_ns;
    for (;;) {
        uint64_t begun_ns = look_now_ns(), begun_cpu_ns = cpu_ns();
        bool may_end = begun_ns >= sampler.until_ns;

        look_once(look, may_end);
        if (has_ended(look)) {
            return il_fail_errno(err, IL_ESYS, ESRCH, "process %d ended while it was looked at",
                                 look->pid);
        }
        if (may_end && (has_seen_enough(look) || begun_ns >= sampler.give_up_ns)) {
            look->ended_ns = begun_ns; /* not later: what follows may take its time as well */
            break;
        }
        if (begun_ns >= sampler.next_sockets_ns) {
            sockets_look(look, SOCKETS_IN_BETWEEN);
            sampler.next_sockets_ns += sockets_every_ns;
        }
        sleep_ns(next_pause_ns(&sampler, cpu_ns() - begun_cpu_ns));
    }
    sockets_look(look, SOCKETS_AT_LAST);
    refresh_watches(look);
    sets_read_wakeups(look);
    kin_look(look);
    waits_read_mutexes(look);
    registry_end(look);
    if (look->starved_count > 0) {
        look_limit(look,
                   "the machine is overloaded: %u threads of the process are ready to run and have "
                   "not been given a CPU lately, so nothing was concluded from what lies "
                   "uncollected; look again (--duration)",
                   look->starved_count);
    }
    judge_stillness(look);
    tasks_find_stopped(look);
    return IL_OK;
}
