/* draw.c: chance: streams of numbers from the seed, the weights of a run, decisions.
 *
 * Runs differ in character and not only in detail: for each seed some faults never happen and
 * others are frequent, threads are preempted every few atomic operations or never, and a round trip
 * takes microseconds or a tenth of a second. (Swarm testing: a fault that is always a little on
 * hides what shows only without it.)
 *
 * Threads: the world's and simulated ones. */
#include "sim/inside.h"

#define ROOM_BYTES         (256 << 10)
#define WINDOW_NS_PER_BYTE 100

/* SplitMix64: every state is as good as any other, so a seed is used as it is. */
uint64_t stream_next(struct sim_stream *stream)
{
    uint64_t z = stream->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t stream_below(struct sim_stream *stream, uint64_t bound)
{
    il_assert(bound > 0);
    return (uint64_t)(((unsigned __int128)stream_next(stream) * bound) >> 64);
}

/* Between low and high, each order of magnitude as likely as any other. */
static uint64_t stream_scale(struct sim_stream *stream, uint64_t low, uint64_t high)
{
    unsigned steps = 0;

    for (uint64_t x = low; x < high; x *= 2) {
        steps++;
    }
    low <<= stream_below(stream, steps + 1);
    return low + stream_below(stream, low);
}

/* The most frequent that each may be, of 65536 occasions. What an occasion is, differs: every
 * preemption, every packet, every connect, every answer. */
static const uint32_t weight_max[SIM_FAULT_COUNT] = {
    [SIM_FAULT_PREEMPT] = 65536, [SIM_FAULT_STALL] = 4096,       [SIM_FAULT_SPURIOUS] = 32768,
    [SIM_FAULT_SLOW] = 8192,     [SIM_FAULT_PIECES] = 65536,     [SIM_FAULT_NARROW] = 65536,
    [SIM_FAULT_LATE] = 32768,    [SIM_FAULT_CLOSE_IDLE] = 32768, [SIM_FAULT_REFUSE] = 16384,
    [SIM_FAULT_LOSE] = 4096,     [SIM_FAULT_RESET] = 8192,       [SIM_FAULT_FIN] = 8192,
    [SIM_FAULT_TWICE] = 8192,    [SIM_FAULT_NEVER] = 8192,       [SIM_FAULT_FDS] = 8192,
    [SIM_FAULT_PORTS] = 8192,    [SIM_FAULT_THREADS] = 8192,     [SIM_FAULT_MEMORY] = 2048,
    [SIM_FAULT_JUMP] = 512,      [SIM_FAULT_GOAWAY] = 16384,     [SIM_FAULT_UNSEEN] = 16384,
    [SIM_FAULT_LIMIT] = 65536,   [SIM_FAULT_ABORT] = 8192,       [SIM_FAULT_UPSET] = 32768,
    [SIM_FAULT_TICKET] = 32768,  [SIM_FAULT_UPDATE] = 32768,     [SIM_FAULT_RECORDS] = 32768,
    [SIM_FAULT_ALERT] = 16384,   [SIM_FAULT_CERTIFICATE] = 8192, [SIM_FAULT_MUTE] = 8192,
    [SIM_FAULT_CUT] = 32768,
};

/* The weights of these faults. */
static void faults_draw(struct sim_stream *stream, uint32_t which, uint32_t faults,
                        struct sim_weights *weights)
{
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++) {
        if ((which >> i & 1) != 0) {
            bool is_on = stream_below(stream, 2) == 0;
            uint32_t weight = weight_max[i] >> stream_below(stream, 7);

            weights->faults[i] = is_on && (faults >> i & 1) ? weight : 0;
        }
    }
}

static void weights_draw(struct sim_stream *stream, uint32_t faults, struct sim_weights *weights)
{
    faults_draw(stream, SIM_FAULTS_ALL & ~(SIM_FAULTS_HTTP2 | SIM_FAULTS_TLS), faults, weights);
    weights->policy = (enum sim_policy)stream_below(stream, SIM_POLICY_COUNT);
    weights->preempt_gap = stream_scale(stream, 2, 4096);
    weights->door_ns = stream_scale(stream, 50, 3200);
    weights->latency_ns = stream_scale(stream, 5000, 40 * SIM_NS_PER_MS);
    weights->jitter_ns = stream_below(stream, weights->latency_ns);
    weights->room_bytes = stream_scale(stream, 512, ROOM_BYTES);
    /* not so small that a slow network makes a body late */
    weights->window_bytes = il_max_u64(stream_scale(stream, 16 << 10, ROOM_BYTES),
                                       weights->latency_ns / WINDOW_NS_PER_BYTE);
    faults_draw(stream, SIM_FAULTS_HTTP2, faults, weights); /* last: all else is as without them */
    faults_draw(stream, SIM_FAULTS_TLS, faults, weights);   /* likewise */
}

void draw_begin(void)
{
    struct sim_stream seeds = { sim.options.seed };

    for (unsigned i = 0; i < SIM_PURPOSE_COUNT; i++) {
        sim.streams[i].state = stream_next(&seeds);
    }
    weights_draw(&sim.streams[SIM_FOR_WEIGHTS], sim.options.faults, &sim.weights);
    if (sim.weights.faults[SIM_FAULT_NARROW] == 0) {
        sim.weights.room_bytes = ROOM_BYTES;
        sim.weights.window_bytes = ROOM_BYTES;
    }
}

bool draw_decide(void)
{
    uint64_t index = sim.report->decision_count++;

    while (sim.calm_index < sim.options.calm_count &&
           sim.options.calm[sim.calm_index].to <= index) {
        sim.calm_index++;
    }
    return sim.calm_index == sim.options.calm_count ||
           index < sim.options.calm[sim.calm_index].from;
}

uint64_t draw_of(enum sim_purpose purpose, uint64_t bound)
{
    return stream_below(&sim.streams[purpose], bound);
}

bool sim_fault(enum sim_fault fault)
{
    uint32_t weight = sim.weights.faults[fault];
    bool happens;

    if (weight == 0 || (sim.faults >> fault & 1) == 0) {
        return false;
    }
    happens = draw_of(SIM_FOR_FAULTS, 65536) < weight;
    if (!draw_decide() || !happens) {
        return false;
    }
    sim.report->fault_counts[fault]++;
    trace(SIM_EVENT_FAULT, fault, 0, NULL);
    return true;
}

void sim_calm(uint32_t faults)
{
    sim.faults &= ~faults;
    links_calm(faults);
}

uint64_t sim_draw(uint64_t bound)
{
    return draw_of(SIM_FOR_PROGRAM, bound);
}

const char *sim_fault_name(enum sim_fault fault)
{
    static const char *const names[SIM_FAULT_COUNT] = {
        [SIM_FAULT_PREEMPT] = "preempt",
        [SIM_FAULT_STALL] = "stall",
        [SIM_FAULT_SPURIOUS] = "spurious",
        [SIM_FAULT_SLOW] = "slow",
        [SIM_FAULT_PIECES] = "pieces",
        [SIM_FAULT_NARROW] = "narrow",
        [SIM_FAULT_LATE] = "late",
        [SIM_FAULT_CLOSE_IDLE] = "close-idle",
        [SIM_FAULT_REFUSE] = "refuse",
        [SIM_FAULT_LOSE] = "lose",
        [SIM_FAULT_RESET] = "reset",
        [SIM_FAULT_FIN] = "fin",
        [SIM_FAULT_TWICE] = "twice",
        [SIM_FAULT_NEVER] = "never",
        [SIM_FAULT_FDS] = "fds",
        [SIM_FAULT_PORTS] = "ports",
        [SIM_FAULT_THREADS] = "threads",
        [SIM_FAULT_MEMORY] = "memory",
        [SIM_FAULT_JUMP] = "jump",
        [SIM_FAULT_GOAWAY] = "goaway",
        [SIM_FAULT_UNSEEN] = "unseen",
        [SIM_FAULT_LIMIT] = "limit",
        [SIM_FAULT_ABORT] = "abort",
        [SIM_FAULT_UPSET] = "upset",
        [SIM_FAULT_TICKET] = "ticket",
        [SIM_FAULT_UPDATE] = "update",
        [SIM_FAULT_RECORDS] = "records",
        [SIM_FAULT_ALERT] = "alert",
        [SIM_FAULT_CERTIFICATE] = "certificate",
        [SIM_FAULT_MUTE] = "mute",
        [SIM_FAULT_CUT] = "cut",
    };

    return fault < SIM_FAULT_COUNT ? names[fault] : "?";
}
