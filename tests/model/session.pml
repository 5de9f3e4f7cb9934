/* session.pml: one HTTP/2 session that serves the streams of several loops, function by function:
 * src/client/session.c, session_stream.c, session_told.c, what the pool is told of it (pool_session.c), and
 * the watches of src/loop/poller.c that its seats are made of.
 *
 * A process is the thread that holds a loop, and does what the loop does at the top of its turns, in any
 * order: begin a request, run a job, poll and hand out one event. That a posted job is run, that a sleeper is
 * woken and that a loop has one holder is shown by loop.pml; here they are so. `me` is the loop's number.
 * The last process is a thread without a loop, the users'; then there is the server.
 *
 * A loop may stop for good at the top of any turn (STOPS: it is parked, or stuck in user code), or end (ENDS).
 *
 * The socket has two directions: `input` holds what the server has sent, frame by frame, `wire` what it has
 * not yet taken. epoll is edge-triggered: whatever arrives, and room after a send that found none, makes
 * every registered watch ready; adding one reports what is already there.
 *
 * Scenes, each with a handful of switches: model_test.py. What must hold when nobody can do anything any
 * more stands in check_rest. The rest are assertions. BAD_...: the same with a mistake in it. */
#define NIL 0

#ifndef LOOP_COUNT
#define LOOP_COUNT 2
#endif
#ifndef STREAM_COUNT
#define STREAM_COUNT LOOP_COUNT
#endif
#ifndef HOME
#define HOME(stream) (((stream) - 1) % LOOP_COUNT + 1)
#endif
#ifndef STOPS
#define STOPS NIL /* the loop that may stop for good */
#endif
#ifndef READER
#define READER STREAM_COUNT /* the loop that reads what is streamed */
#endif
#ifdef STREAMING
#define HEAD_APART /* the first stream's head comes before its body */
#define IS_STREAMING(stream) ((stream) == 1)
#else
#define IS_STREAMING(stream) false
#endif
#ifdef BOUND /* the first loop is the driver */
#define IS_DRIVER_HERE (me == 1)
#define BOUND_STOPS    is_stopped[1]
#else
#define IS_DRIVER_HERE true
#define BOUND_STOPS    false
#endif

/* What is done under the session's mutex is one step: all that is touched there is touched under it, or
 * (watches, the socket, mailboxes) in a way that makes no difference whether it was before or after. FINE
 * takes that for nothing: every step is one of its own. */
#ifdef FINE
#define SECTION
#else
#define SECTION atomic
#endif

/* What a scene has no use for is left out. */
#if defined(DROPS) || defined(CLOSES_IDLE) || defined(EXPIRES)
#define RETIRES
#endif

#define OUTSIDE     (LOOP_COUNT + 1)
#define WATCH_COUNT (2 * LOOP_COUNT) /* a loop needs two: one may be buried, and the next one open */
#define FIRST_WATCH (2 * me - 1)
#define LOOP_OF(watch) (((watch) + 1) / 2)

/* A loop is the home of the stream that has its number, and of the one LOOP_COUNT further on. */
#define NEXT       (me + LOOP_COUNT)
#define NEXT_IS(x) (NEXT <= STREAM_COUNT && x)
#define HAS_EVENT    (is_ready[FIRST_WATCH] || is_ready[FIRST_WATCH + 1])
#define HAS_SEAT_JOB (seat_job[FIRST_WATCH] || seat_job[FIRST_WATCH + 1])
#define HAS_JOB                                                                                    \
    (HAS_SEAT_JOB || home_job[me] || NEXT_IS(home_job[NEXT]) || (me == 1 && flush_job))

/* Frames. An answer is the number of its stream. */
#define HEAD   16 /* plus the stream's; the answer itself is the body, and the end */
#define GOAWAY 32

/* enum watch_state, and memory that is free */
#define WATCH_NONE    0
#define WATCH_DRIVEN  1
#define WATCH_RESTING 2
#define WATCH_GONE    3

/* ---- the session ---- */

byte mutex = NIL; /* who has it */
byte driving = NIL; /* who is between the first byte received and the last one sent */
byte ref_count = 2; /* the pool's and the first seat's */
bool is_freed, is_closed, is_over;
bool is_going_away;
byte stream_count;
byte freed_slots;
bool told_closed, told_gone;
byte seat_count = 1;
bool is_flush_posted, must_retire; /* bound driver */
bool flush_job, has_guest;

/* session->pooled, with the pool's mutex held: each such part is one step */
bool is_listed = true; /* pooled.origin != NULL */
bool is_linked = true; /* it takes more streams */
byte slot_count;
bool is_orphaned;
byte use_count;

/* a seat has the number of its watch */
byte watch_state[WATCH_COUNT + 1];
bool is_registered[WATCH_COUNT + 1], is_ready[WATCH_COUNT + 1], is_buried[WATCH_COUNT + 1];
bool is_seated[WATCH_COUNT + 1];
byte seat_streams[WATCH_COUNT + 1];
bool seat_job[WATCH_COUNT + 1];

bool is_sealed[LOOP_COUNT + 2], poller_is_closed[LOOP_COUNT + 2];
bool is_stopped[LOOP_COUNT + 2];

/* ---- the streams: struct session_stream, and its call ---- */

byte x_refs[STREAM_COUNT + 1];
bool x_is_freed[STREAM_COUNT + 1];
bool is_open[STREAM_COUNT + 1];
byte seat_of[STREAM_COUNT + 1];
bool wants_response[STREAM_COUNT + 1]; /* shared.response != NULL */
bool stream_is_over[STREAM_COUNT + 1], has_head[STREAM_COUNT + 1], has_chunk[STREAM_COUNT + 1];
bool is_told[STREAM_COUNT + 1];
bool is_home_posted[STREAM_COUNT + 1], home_job[STREAM_COUNT + 1];
byte to_send[STREAM_COUNT + 1];     /* pieces of the request that h2 has still to send */
byte to_supply[STREAM_COUNT + 1];   /* pieces that its user has still to make */
bool has_call[STREAM_COUNT + 1];    /* home_held.call != NULL */
bool is_begun[STREAM_COUNT + 1], is_done[STREAM_COUNT + 1];
bool is_handed_over[STREAM_COUNT + 1], reader_waits[STREAM_COUNT + 1], reader_token[STREAM_COUNT + 1];

/* ---- the socket, and the server ---- */

chan input = [STREAM_COUNT * 2 + 1] of { byte };
#ifdef WIRE_SIZE
chan wire = [WIRE_SIZE] of { byte }; /* else the server has a request as soon as it is sent */
#define HAS_ROOM      (len(wire) < WIRE_SIZE)
#define SEND(stream)  wire!stream
#else
#define HAS_ROOM      true
#define SEND(stream)  pieces_got[stream]++
#endif
bool is_eof;
bool has_no_room; /* a send has found none: the next room is told */
byte pieces_got[STREAM_COUNT + 1];
bool is_refused[STREAM_COUNT + 1]; /* the server had not seen it when it said goodbye */
bool has_said_goodbye, is_head_sent;
bool is_answered[STREAM_COUNT + 1];

#ifndef PIECE_COUNT
#define PIECE_COUNT 1 /* of a request: the head, and then what session_supply brings */
#endif

#define THREAD_LOCALS                                                                              \
    byte frame, each, at, seat, batch, one;                                                          \
    bool has_more, result, is_leaving, is_news, was_listed, must_close, code_ok, is_mine;          \
    byte news_freed;                                                                               \
    bool news_closed, news_gone, news2_closed, news2_gone, sees_over, sees_head, is_last, reads;   \
    byte news2_freed;                                                                              \
    bool told_job[STREAM_COUNT + 1], told_end[STREAM_COUNT + 1]

/* ---- poller.c ---- */

inline edge()
{
    for (at : 1 .. WATCH_COUNT) { is_ready[at] = is_ready[at] || is_registered[at] }
    at = 0
}

inline watch_claim_here(watch, ret)
{
    d_step {
        assert(watch_state[watch] != WATCH_NONE);
        ret = (watch_state[watch] == WATCH_RESTING);
        watch_state[watch] = (ret -> WATCH_DRIVEN : watch_state[watch])
    }
}

inline watch_claim_away(watch, ret)
{
#ifdef BAD_CLAIM_AWAY /* not a compare-and-swap, but a look and a store */
    ret = (watch_state[watch] == WATCH_RESTING);
    if
    :: ret -> watch_state[watch] = WATCH_GONE
    :: else
    fi
#else
    d_step {
        assert(watch_state[watch] != WATCH_NONE);
        ret = (watch_state[watch] == WATCH_RESTING);
        watch_state[watch] = (ret -> WATCH_GONE : watch_state[watch])
    }
#endif
}

inline poller_bury_done(first)
{
    d_step {
        for (at : first .. first + 1) {
            if
            :: is_buried[at] -> is_buried[at] = false; watch_state[at] = WATCH_NONE
            :: else
            fi
        }
        at = 0
    }
}

inline watch_bury(watch)
{
    d_step {
        assert(watch_state[watch] == WATCH_GONE);
        assert(is_registered[watch] && !is_closed); /* else epoll knows no such descriptor */
        is_registered[watch] = false;
        is_ready[watch] = false
    }
#ifdef BAD_BURY /* freed at once */
    watch_state[watch] = WATCH_NONE;
#else
    is_buried[watch] = true;
    if
    :: poller_is_closed[LOOP_OF(watch)] -> poller_bury_done(2 * LOOP_OF(watch) - 1)
    :: else
    fi
#endif
}

inline watch_close(watch)
{
    d_step { assert(watch_state[watch] == WATCH_DRIVEN); watch_state[watch] = WATCH_GONE }
    watch_bury(watch)
}

inline watch_rest(watch)
{
    d_step { assert(watch_state[watch] == WATCH_DRIVEN); watch_state[watch] = WATCH_RESTING }
}

/* ---- session.c: life ---- */

inline session_lock()
{
    atomic { assert(!is_freed); mutex == NIL -> assert(!is_freed); mutex = me }
}

inline session_ref()
{
    d_step { assert(!is_freed && ref_count > 0); ref_count++ }
}

inline session_unref()
{
    d_step {
        assert(!is_freed && ref_count > 0);
        ref_count--;
        if
        :: ref_count == 0 ->
            assert(seat_count == 0 && !is_listed && stream_count == 0 && mutex == NIL);
            is_freed = true;
            is_closed = true
        :: else
        fi
    }
}

/* Under the mutex: never the last one. */
inline session_drop_ref()
{
    d_step { ref_count--; assert(ref_count > 0) }
}

/* While its job is queued the seat's memory, and its reference to the session, are the job's: the seat
 * is gone, and seat_job is left. */
inline seat_free_locked(watch)
{
    d_step {
        assert(mutex == me && is_seated[watch]);
        is_seated[watch] = false;
        seat_count--;
        is_closed = is_closed || (is_over && seat_count == 0)
    }
}

/* ---- session_stream.c: what whoever drives tells the owner ---- */

inline stream_drop_ref(stream)
{
    d_step { x_refs[stream]--; assert(x_refs[stream] > 0) }
}

inline stream_unref(stream)
{
    d_step {
        assert(x_refs[stream] > 0 && !x_is_freed[stream]);
        x_refs[stream]--;
        is_last = (x_refs[stream] == 0);
        assert(!is_last || !is_open[stream]);
        x_is_freed[stream] = is_last
    }
    if
    :: is_last -> session_unref()
    :: else
    fi
}

inline stream_tell_locked(stream)
{
    d_step {
        assert(mutex == me && !x_is_freed[stream]);
        reader_token[stream] = reader_token[stream] || reader_waits[stream];
        is_told[stream] = is_told[stream] || (!is_home_posted[stream] && wants_response[stream])
    }
}

inline stream_tell_end_locked(stream)
{
    d_step {
        assert(mutex == me && !x_is_freed[stream]);
        reader_token[stream] = reader_token[stream] || reader_waits[stream];
        is_told[stream] = true
    }
}

/* Of what is told, what is to be done when the mutex is free: the jobs, each with a reference, the session's
 * if the stream is over; and the session's references to those of whose end nobody wants to know. */
inline session_collect_locked()
{
    d_step {
        for (at : 1 .. STREAM_COUNT) {
            if
            :: is_told[at] ->
                assert(!x_is_freed[at]);
                is_told[at] = false;
                if
                :: !is_home_posted[at] && wants_response[at] ->
                    is_home_posted[at] = true;
                    told_job[at] = true;
#ifdef BAD_TELL /* the job has no reference */
                    told_end[at] = stream_is_over[at]
#else
                    x_refs[at] = (stream_is_over[at] -> x_refs[at] : x_refs[at] + 1)
#endif
                :: else -> told_end[at] = stream_is_over[at]
                fi
            :: else
            fi
        }
        at = 0
    }
}

/* loop_post_all is one step with what leads to it: the mailbox is loop.pml's. */
inline session_post_told()
{
    for (each : 1 .. STREAM_COUNT) {
        if
        :: told_job[each] ->
            told_job[each] = false;
            d_step {
                assert(!x_is_freed[each] && x_refs[each] > 0);
                is_mine = is_sealed[HOME(each)];
                home_job[each] = !is_mine
            }
            if
            :: is_mine -> stream_unref(each)
            :: else
            fi
        :: else
        fi;
        if
        :: told_end[each] -> told_end[each] = false; stream_unref(each)
        :: else
        fi
    }
    each = 0
}

inline session_stream_stand_up(stream)
{
    d_step {
        if
        :: seat_of[stream] != NIL ->
            assert(is_seated[seat_of[stream]] && seat_streams[seat_of[stream]] > 0);
            seat_streams[seat_of[stream]]--;
            seat_of[stream] = NIL
        :: else
        fi
    }
}

/* h2.c: stream_end, then on_end */
inline on_end(stream)
{
    d_step {
        is_open[stream] = false;
        to_send[stream] = 0;
        stream_count--;
        stream_is_over[stream] = true;
        freed_slots++
    }
    session_stream_stand_up(stream);
    stream_tell_end_locked(stream)
}

/* ---- session.c: the end ---- */

inline session_end_locked()
{
    if
    :: is_over
    :: else ->
        is_over = true;
#ifdef BOUND
        if
        :: has_guest -> /* loop_guest_remove */
            d_step { assert(me == 1); has_guest = false }
            session_drop_ref()
        :: else
        fi;
#endif
        /* the streams stand up, and h2_fail */
        for (each : 1 .. STREAM_COUNT) {
            if
            :: is_open[each] -> on_end(each)
            :: else
            fi
        }
        for (each : 1 .. WATCH_COUNT) {
            if
            :: is_seated[each] ->
                watch_claim_away(each, result);
                if
                :: result ->
                    watch_bury(each);
                    seat_free_locked(each);
                    if
#ifdef BAD_JOB /* although the job is queued */
                    :: true -> session_drop_ref()
#else
                    :: seat_job[each]
                    :: else -> session_drop_ref()
#endif
                    fi
                :: else
                fi
            :: else
            fi
        }
        each = 0;
        d_step {
#ifdef BAD_CLOSE /* although a seat is left */
            is_closed = true
#else
            is_closed = is_closed || seat_count == 0
#endif
        }
    fi
}

/* ---- session.c: input and output ---- */

/* h2_feed: under the mutex, nobody else looks at any of it. */
inline h2_feed()
{
    if
#ifdef LEAVES
    :: frame == GOAWAY ->
        is_going_away = true;
        for (each : 1 .. STREAM_COUNT) {
            if
            :: is_open[each] && is_refused[each] -> on_end(each)
            :: else
            fi
        }
        each = 0
#endif
#ifdef HEAD_APART
    :: frame > HEAD && frame < GOAWAY ->
        if
        :: is_open[frame - HEAD] -> has_head[frame - HEAD] = true; stream_tell_locked(frame - HEAD)
        :: else
        fi
#endif
    :: frame < HEAD ->
        if
        :: is_open[frame] ->
            d_step { has_head[frame] = true; has_chunk[frame] = true }
            on_end(frame)
        :: else
        fi
    fi;
    frame = 0
}

#ifdef BOUND
inline session_post_flush_locked()
{
    if
    :: is_flush_posted
    :: else ->
        is_flush_posted = true;
        d_step {
            if
            :: !is_sealed[1] -> ref_count++; flush_job = true
            :: else
            fi
        }
    fi
}
#endif

/* One send takes one piece of one request. */
inline session_flush_locked()
{
#ifdef BOUND
    if
    :: !IS_DRIVER_HERE -> session_post_flush_locked()
    :: else ->
#endif
    for (each : 1 .. STREAM_COUNT) {
        do
        :: atomic { !is_over && !is_eof && to_send[each] > 0 && HAS_ROOM -> SEND(each); to_send[each]-- }
        :: atomic { /* EAGAIN; an end that is seen here is seen by who receives as well */
               is_over || is_eof || to_send[each] == 0 || !HAS_ROOM ->
                   has_no_room = has_no_room || (!is_over && !is_eof && to_send[each] > 0)
           }
           break
        od
    }
    each = 0;
#ifdef BOUND
    fi
#endif
}

/* Received is what there is, or a part of it, and it is others' turn: both are tried. */
inline session_receive_locked(ret_has_more)
{
    ret_has_more = false;
    do
    :: !is_over && !ret_has_more && len(input) > 0 ->
        input?frame;
        h2_feed();
        if
        :: len(input) > 0 -> ret_has_more = true
        :: true
        fi
    :: is_over || ret_has_more -> break
    :: !is_over && !ret_has_more && len(input) == 0 && is_eof -> session_end_locked(); break
    :: !is_over && !ret_has_more && len(input) == 0 && !is_eof -> break
    od
}

inline session_drive_locked(ret_has_more)
{
    d_step { assert(driving == NIL); driving = me }
    session_receive_locked(ret_has_more);
#ifndef BAD_FLUSH /* what is received makes nobody send */
    session_flush_locked();
#endif
    driving = NIL
}

/* ---- session.c: unlocking, and what the pool is told ---- */

inline session_end_if_done_locked()
{
#ifdef LEAVES
    if
    :: is_over || !is_going_away || stream_count > 0
#ifndef BAD_GUEST /* on whichever loop it is noticed */
#ifdef BOUND
    :: !is_over && is_going_away && stream_count == 0 && !IS_DRIVER_HERE ->
        session_post_flush_locked()
#endif
    :: !is_over && is_going_away && stream_count == 0 && IS_DRIVER_HERE ->
        session_end_locked()
#else
    :: else -> session_end_locked()
#endif
    fi
#else
    skip
#endif
}

/* pool_session_hear, under the pool's mutex. `ret_closes`: the caller has to retire it. */
inline pool_session_hear(freed, closed, gone, ret_closes)
{
    d_step {
        assert(!is_freed && slot_count >= freed);
        slot_count = slot_count - freed;
        was_listed = false;
        ret_closes = false;
        if
        :: gone -> was_listed = is_listed; is_listed = false; is_linked = false
        :: else -> is_linked = is_linked && !closed
        fi;
#ifndef BAD_ORPHAN /* who comes last does not look whether the users are gone */
        if
        :: is_listed && slot_count == 0 && is_orphaned ->
            is_listed = false;
            is_linked = false;
            ret_closes = true
        :: else
        fi
#endif
    }
}

/* What is told, and kept for who is told; true if anything. */
inline session_note_news(freed, closed, gone)
{
    d_step {
        assert(mutex == me);
        freed = freed_slots;
        gone = is_over;
        closed = (is_over || is_going_away);
        is_news = (freed > 0 || closed != told_closed || gone != told_gone);
        freed_slots = 0;
        told_closed = closed;
        told_gone = gone;
#ifndef BAD_TOLD /* the session is not kept for it */
        ref_count = (is_news -> ref_count + 1 : ref_count);
#endif
        mutex = NIL
    }
}

inline session_retire_locked()
{
    if
    :: is_over
#ifdef BOUND
    :: !is_over && !IS_DRIVER_HERE -> must_retire = true; session_post_flush_locked()
#endif
    :: !is_over && IS_DRIVER_HERE ->
        session_receive_locked(result); /* the server may have asked something */
        session_flush_locked();
        session_end_locked()
    fi
}

/* session_unlock is two things here: what is done before the mutex is free, and telling the homes and the
 * pool. */
inline session_note()
{
    session_end_if_done_locked();
    session_collect_locked();
    session_note_news(news_freed, news_closed, news_gone)
}

/* With the pool's reference. Nothing is left to be retired after it. */
inline session_retire()
{
    SECTION {
        session_lock();
        session_retire_locked();
        session_end_if_done_locked();
        session_collect_locked();
        session_note_news(news2_freed, news2_closed, news2_gone)
    }
    session_post_told();
    if
    :: is_news ->
        pool_session_hear(news2_freed, news2_closed, news2_gone, must_close);
        assert(!must_close);
        if
        :: was_listed -> session_unref()
        :: else
        fi;
#ifndef BAD_TOLD
        session_unref()
#endif
    :: else
    fi;
    session_unref()
}

inline session_tell()
{
    session_post_told();
    if
    :: is_news ->
        pool_session_hear(news_freed, news_closed, news_gone, must_close);
        is_mine = was_listed;
#ifdef RETIRES
        if
        :: must_close -> session_retire()
        :: else
        fi;
#endif
        if
        :: is_mine -> session_unref()
        :: else
        fi;
#ifndef BAD_TOLD
        session_unref()
#endif
    :: else
    fi
}

/* ---- session.c: seats ---- */

inline session_sit_locked(ret_seat)
{
#ifdef BOUND
    ret_seat = 1 /* there is only the driver's */
#else
    d_step {
        ret_seat = (is_seated[FIRST_WATCH + 1] -> FIRST_WATCH + 1 : NIL);
        ret_seat = (is_seated[FIRST_WATCH] -> FIRST_WATCH : ret_seat);
#ifdef BAD_SIT /* somebody else's seat will do */
        for (at : 1 .. WATCH_COUNT) {
            ret_seat = (ret_seat == NIL && is_seated[at] -> at : ret_seat)
        }
#endif
        if
        :: ret_seat == NIL -> /* seat_new_locked; nobody else sees the watch before it rests */
            ret_seat = (watch_state[FIRST_WATCH] == WATCH_NONE -> FIRST_WATCH : FIRST_WATCH + 1);
            assert(watch_state[ret_seat] == WATCH_NONE && !is_closed);
            watch_state[ret_seat] = WATCH_RESTING;
            is_registered[ret_seat] = true;
            is_ready[ret_seat] = (len(input) > 0 || is_eof || !has_no_room);
            is_seated[ret_seat] = true;
            seat_count++;
            ref_count++
        :: else
        fi;
        at = 0
    }
#endif
}

#ifdef BAD_USELESS /* it does not look whether its own loop has a stream */
#define SEAT_IS_USELESS(seat) (stream_count > 0)
#else
#ifdef BOUND
#define SEAT_IS_USELESS(seat) false
#else
#define SEAT_IS_USELESS(seat) (seat_streams[seat] == 0 && stream_count > 0)
#endif
#endif

inline seat_go_on(watch)
{
    assert(is_seated[watch] && watch_state[watch] == WATCH_DRIVEN);
    SECTION {
#ifndef BAD_LOCK /* who drives needs no mutex */
        session_lock();
#endif
        has_more = false;
        if
        :: !is_over -> session_drive_locked(has_more)
        :: else
        fi;
#ifdef BAD_LOCK
        session_lock();
#endif
#ifdef BAD_OVER /* it does not look whether the session has ended */
        is_leaving = (!has_more && !seat_job[watch] && SEAT_IS_USELESS(watch));
#else
        is_leaving = (is_over || (!has_more && !seat_job[watch] && SEAT_IS_USELESS(watch)));
#endif
        if
        :: is_leaving ->
            watch_close(watch);
            seat_free_locked(watch);
            is_leaving = !seat_job[watch]
        :: !is_leaving && has_more ->
#ifdef BAD_MORE /* the rest will be told again, as level-triggered epoll does */
            watch_rest(watch)
#else
            seat_job[watch] = true;
#ifndef BAD_DRIVEN /* the watch is the loop's until its job has run */
            watch_rest(watch)
#endif
#endif
        :: !is_leaving && !has_more -> watch_rest(watch)
        fi;
        session_note()
    }
    session_tell();
    if
    :: is_leaving -> session_unref()
    :: else
    fi
}

/* Whether the watch is ours then, and we go on. */
inline seat_on_job(watch, ret)
{
    SECTION {
        session_lock();
        seat_job[watch] = false;
        ret = is_seated[watch];
        if
#ifdef BAD_DRIVEN
        :: ret
#else
        :: ret -> watch_claim_here(watch, ret); assert(ret)
#endif
        :: else
        fi;
        mutex = NIL
    }
    if
    :: ret
    :: else -> session_unref()
    fi
}

/* loop_poll, loop_dispatch_events, seat_on_event; or loop_run_ready, seat_on_job. */
inline poll_or_run()
{
    if
    :: HAS_EVENT ->
        poller_bury_done(FIRST_WATCH);
        d_step {
            batch = (is_ready[FIRST_WATCH] -> FIRST_WATCH : FIRST_WATCH + 1);
            /* epoll looks once more */
            result = (HAS_EVENT && (len(input) > 0 || is_eof || !has_no_room));
            is_ready[FIRST_WATCH] = false;
            is_ready[FIRST_WATCH + 1] = false
        }
        if
        :: result -> watch_claim_here(batch, result)
        :: else
        fi
    :: HAS_SEAT_JOB ->
        batch = (seat_job[FIRST_WATCH] -> FIRST_WATCH : FIRST_WATCH + 1);
        seat_on_job(batch, result)
    :: else -> result = false /* the seat has just been taken away */
    fi;
    if
    :: result -> seat_go_on(batch)
    :: else
    fi;
    batch = NIL
}

/* pool_session_expire: one step */
inline pool_session_expire(ret)
{
    d_step {
        ret = (is_listed && slot_count == 0);
        assert(!ret || !is_freed);
        is_listed = is_listed && !ret;
        is_linked = is_linked && !ret
    }
}

inline seat_on_timeout(watch)
{
    watch_claim_here(watch, result);
    if
    :: result ->
        assert(is_seated[watch]);
        session_ref();
        pool_session_expire(result);
        if
        :: result -> session_retire()
        :: else
        fi;
        seat_go_on(watch);
        session_unref()
    :: else
    fi
}

/* ---- bound driver ---- */

#ifdef BOUND
inline session_on_flush()
{
    flush_job = false;
    SECTION {
        session_lock();
        is_flush_posted = false;
        if
        :: must_retire -> session_retire_locked()
        :: else -> session_flush_locked()
        fi;
        session_note()
    }
    session_tell();
    session_unref()
}

inline session_on_loop_end()
{
    has_guest = false;
    SECTION {
        session_lock();
        session_end_locked();
        session_note()
    }
    session_tell();
    session_unref()
}
#endif

/* ---- the pool, as far as it concerns one session ---- */

/* pool_retire_idle_sessions_locked */
inline pool_close_idle()
{
    pool_session_expire(result);
    if
    :: result -> session_retire()
    :: else
    fi
}

/* A call is over, and its response let go of. */
inline pool_end_use()
{
    d_step { use_count--; result = (is_orphaned && use_count == 0) }
    if
#ifdef RETIRES
    :: result -> pool_close_idle() /* client_finish */
#endif
    :: else
    fi
}

/* pool_orphan, client_finish */
inline il_client_unref()
{
    d_step { is_orphaned = true; result = (use_count == 0) }
    if
    :: result -> pool_close_idle()
    :: else
    fi
}

/* ---- session_stream.c: the home loop ---- */

inline stream_drop(stream)
{
    SECTION {
        session_lock();
        wants_response[stream] = false;
        if
#ifdef BAD_SLOT /* its place is given back once more, if it is over */
        :: stream_is_over[stream] -> freed_slots++
#endif
        :: is_open[stream] ->
            d_step { is_open[stream] = false; stream_count--; to_send[stream] = 0 } /* h2_abandon */
            session_stream_stand_up(stream);
            freed_slots++;
            stream_drop_ref(stream);
            session_flush_locked()
        :: else
        fi;
        session_note()
    }
    session_tell();
    stream_unref(stream)
}

inline on_home(stream)
{
    d_step { home_job[stream] = false; assert(!x_is_freed[stream]) }
    if
    :: has_call[stream] ->
        d_step { /* is_complete: without the mutex; one that failed is looked at under it */
            sees_over = (stream_is_over[stream] && has_chunk[stream] && !IS_STREAMING(stream));
            sees_head = sees_over
        }
        if
        :: sees_over
        :: else -> /* look */
        SECTION {
        session_lock();
        d_step {
            sees_over = stream_is_over[stream];
            sees_head = has_head[stream];
#ifndef BAD_LOOK /* the mark is taken away after the mutex has been let go of */
            is_home_posted[stream] = false;
#endif
            wants_response[stream] =
                wants_response[stream] && !sees_over && !(IS_STREAMING(stream) && sees_head)
        }
        mutex = NIL /* session_unlock_unchanged */
        }
        fi;
#ifdef BAD_LOOK
        is_home_posted[stream] = false;
#endif
        if
        :: IS_STREAMING(stream) && sees_head -> /* hand_over */
            d_step { has_call[stream] = false; is_handed_over[stream] = true }
        :: !(IS_STREAMING(stream) && sees_head) && sees_over -> /* complete, or fail */
            has_call[stream] = false;
            stream_unref(stream);
            pool_end_use();
            is_done[stream] = true
        :: else
        fi
    :: else
    fi;
#ifndef BAD_TELL
    stream_unref(stream)
#endif
}

/* `code_ok`: false when the session has ended meanwhile. */
inline open_locked(stream)
{
    code_ok = false;
    if
    :: stream_count == 0 && !is_over && IS_DRIVER_HERE ->
        session_drive_locked(result) /* session_refresh_locked */
    :: else
    fi;
    if
    :: !is_over && !is_going_away ->
        session_sit_locked(seat);
        d_step {
            code_ok = true;
            is_open[stream] = true;
            stream_count++;
            to_send[stream] = 1;
            to_supply[stream] = PIECE_COUNT - 1;
            x_refs[stream]++;
            seat_of[stream] = seat;
            seat_streams[seat]++;
            seat = NIL
        }
        session_flush_locked()
    :: else
    fi
}

/* call_begin: with a place from the pool (origin_take_session_locked), or another way. */
inline call_begin(stream)
{
    d_step {
        is_begun[stream] = true;
        result = (is_linked && !is_orphaned);
        is_done[stream] = !result;
        if
        :: result ->
            assert(!is_freed);
            use_count++;
            slot_count++;
            ref_count++;
            x_refs[stream] = 1;
            has_call[stream] = true;
            wants_response[stream] = true
        :: else
        fi
    }
    if
    :: result -> /* session_begin */
        SECTION {
            session_lock();
            open_locked(stream);
#ifndef BAD_BEGIN /* the place is not given back */
            freed_slots = (code_ok -> freed_slots : freed_slots + 1);
#endif
            session_note()
        }
        session_tell();
        if
        :: code_ok
        :: else -> /* and the pool is asked again: another session */
            has_call[stream] = false;
            stream_unref(stream);
            pool_end_use();
            is_done[stream] = true
        fi
    :: else
    fi
}

inline session_supply(stream)
{
    SECTION {
        session_lock();
        d_step {
            to_supply[stream]--;
            to_send[stream] = (is_open[stream] -> to_send[stream] + 1 : 0)
        }
        session_flush_locked();
        session_note()
    }
    session_tell()
}

/* A call that is cancelled, runs out of time, or whose loop ends. */
inline call_let_go(stream)
{
    has_call[stream] = false;
    stream_drop(stream);
    pool_end_use();
    is_done[stream] = true
}

/* ---- session_stream.c: reading a streamed body ---- */

inline reader_sit_locked(stream)
{
    if
    :: stream_is_over[stream] || is_over
    :: else ->
        session_sit_locked(seat);
        if
        :: seat != seat_of[stream] ->
            session_stream_stand_up(stream);
            d_step { seat_of[stream] = seat; seat_streams[seat]++ }
            if
            :: IS_DRIVER_HERE -> session_drive_locked(result)
            :: else
            fi
        :: else
        fi;
        seat = NIL
    fi
}

/* One turn of reader_run. `reads`: there is more to come, or to wait for. */
inline reader_look(stream)
{
    reader_token[stream] = false;
    SECTION {
        session_lock();
        reader_waits[stream] = false;
        reader_sit_locked(stream);
        reads = true;
        if /* read_locked */
        :: has_chunk[stream] ->
            has_chunk[stream] = false;
            session_flush_locked();
            reader_token[stream] = true
        :: !has_chunk[stream] && stream_is_over[stream] -> reads = false
        :: else ->
#ifndef BAD_READER /* who reads says that he waits when the mutex is free again */
            reader_waits[stream] = true
#endif
        fi;
        session_note()
    }
    session_tell();
#ifdef BAD_READER
    reader_waits[stream] = (reads && !reader_token[stream]);
#endif
    if
    :: reads
    :: else -> /* session_abandon, and the response is let go of */
        is_handed_over[stream] = false;
        stream_drop(stream);
        pool_end_use();
        is_done[stream] = true
    fi
}

/* ---- the loops ---- */

inline call_on_loop_end(stream)
{
    is_begun[stream] = true;
    if
    :: has_call[stream] -> call_let_go(stream)
    :: else
    fi
}

proctype loop(byte me)
{
    THREAD_LOCALS;

end_of_turn:
    do
    :: me == STOPS -> is_stopped[me] = true; break
    :: HAS_EVENT || HAS_SEAT_JOB -> poll_or_run()
#if STREAM_COUNT > LOOP_COUNT
    :: !is_begun[me] || NEXT_IS(!is_begun[NEXT]) ->
        one = (!is_begun[me] -> me : NEXT);
        call_begin(one)
    :: home_job[me] || NEXT_IS(home_job[NEXT]) ->
        if
        :: home_job[me] -> one = me
        :: NEXT_IS(home_job[NEXT]) -> one = NEXT
        fi;
        on_home(one);
        one = 0
#else
    :: !is_begun[me] -> call_begin(me)
    :: home_job[me] -> on_home(me)
#endif
#if PIECE_COUNT > 1
    :: has_call[me] && to_supply[me] > 0 -> session_supply(me)
#endif
#ifdef CANCELS /* the loop whose call may be cancelled */
    :: me == CANCELS && has_call[me] -> call_let_go(me)
#endif
#ifdef STREAMING
    :: me == READER && is_handed_over[1] && (!reader_waits[1] || reader_token[1]) -> reader_look(1)
#endif
#ifdef EXPIRES
    :: is_listed && slot_count == 0 && is_seated[FIRST_WATCH] &&
       watch_state[FIRST_WATCH] == WATCH_RESTING -> seat_on_timeout(FIRST_WATCH)
#endif
#ifdef BOUND
    :: me == 1 && flush_job -> session_on_flush()
#endif
#ifdef ENDS
    :: atomic { me == ENDS && !HAS_JOB -> is_sealed[me] = true } /* loop_try_seal, loop_end */
#ifdef BOUND
        if
        :: me == 1 && has_guest -> session_on_loop_end()
        :: else
        fi;
#endif
        call_on_loop_end(me);
#if STREAM_COUNT > LOOP_COUNT
        if
        :: NEXT <= STREAM_COUNT -> call_on_loop_end(NEXT)
        :: else
        fi;
#endif
        d_step { poller_is_closed[me] = true; is_stopped[me] = true }
        poller_bury_done(FIRST_WATCH);
        break
#endif
    od;
end_for_good:
    false
}

/* A thread without a loop: the users let go of the client, or close what is idle. */
proctype outside(byte me)
{
    THREAD_LOCALS;

#ifdef DROPS
    il_client_unref()
#endif
#ifdef CLOSES_IDLE
    pool_close_idle()
#endif
}

/* ---- the server ---- */

#define ANSWERS(stream)                                                                            \
    atomic {                                                                                       \
        pieces_got[stream] == PIECE_COUNT && !is_eof && !is_refused[stream] ->                     \
            pieces_got[stream] = 0;                                                                \
            is_answered[stream] = true;                                                            \
            input!stream;                                                                          \
            edge()                                                                                 \
    }

proctype server()
{
    byte at, frame;

end:
    do
#ifdef WIRE_SIZE
    :: atomic {
           wire?frame ->
               pieces_got[frame]++;
               frame = 0;
               if
               :: has_no_room -> has_no_room = false; edge()
               :: else
               fi
       }
#endif
#ifdef HEAD_APART
    :: atomic {
           pieces_got[1] == PIECE_COUNT && !is_eof && !is_refused[1] && !is_head_sent ->
               is_head_sent = true;
               input!HEAD + 1;
               edge()
       }
    :: atomic {
           pieces_got[1] == PIECE_COUNT && !is_eof && !is_refused[1] && is_head_sent ->
               pieces_got[1] = 0;
               is_answered[1] = true;
               input!1;
               edge()
       }
#else
#ifndef HOLDS /* the first one is never answered */
    :: ANSWERS(1)
#endif
#endif
    :: ANSWERS(2)
#if STREAM_COUNT > 2
    :: ANSWERS(3)
#endif
#ifdef LEAVES /* it says goodbye: it acts on what it has seen, and on nothing else */
    :: atomic {
           !has_said_goodbye && !is_eof ->
               has_said_goodbye = true;
               for (at : 1 .. STREAM_COUNT) { is_refused[at] = (pieces_got[at] == 0 && !is_answered[at]) }
               input!GOAWAY;
               edge()
       }
#endif
#ifdef CUTS
    :: atomic { !is_eof -> is_eof = true; has_no_room = false; edge() }
#endif
    od
}

/* ---- what must hold when nobody can do anything any more ---- */

#ifdef STREAMING
#define MUST_BE_DONE(stream)                                                                       \
    (!is_stopped[HOME(stream)] && ((stream) != 1 || !is_stopped[READER]) ||                        \
     (stream) == 1 && is_handed_over[1] && !is_stopped[READER])
#else
#ifdef HOLDS
#define MUST_BE_DONE(stream) (!is_stopped[HOME(stream)] && ((stream) != 1 || is_over))
#else
#define MUST_BE_DONE(stream) (!is_stopped[HOME(stream)])
#endif
#endif

inline check_rest()
{
    d_step {
        left = (is_listed -> 1 : 0) + seat_count + (has_guest -> 1 : 0) + (flush_job -> 1 : 0);
        for (at : 1 .. WATCH_COUNT) { left = left + (seat_job[at] && !is_seated[at] -> 1 : 0) }
        for (at : 1 .. STREAM_COUNT) {
            assert(is_done[at] || !MUST_BE_DONE(at)); /* no request of a loop that runs hangs */
            assert(!home_job[at] || is_stopped[HOME(at)]);
            left = left + (x_refs[at] > 0 -> 1 : 0);
            /* What has come is parsed if a loop runs that has a stream. */
            assert(!is_open[at] || is_stopped[HOME(at)] || len(input) == 0)
        }
        assert(mutex == NIL && driving == NIL);
        assert(freed_slots == 0 && slot_count == stream_count); /* each place is back, once */
        assert(ref_count == left && is_freed == (left == 0));
        assert(!(is_over && is_listed));
        assert(!is_orphaned || use_count > 0 || is_over || BOUND_STOPS);
        assert(!is_going_away || stream_count > 0 || is_over || BOUND_STOPS);
        left = 0;
        for (at : 1 .. WATCH_COUNT) {
            left = left + (is_seated[at] -> 1 : 0);
            assert(!is_over || !is_seated[at]);
            assert(is_seated[at] == is_registered[at]);
            assert(watch_state[at] != WATCH_DRIVEN);
            assert(!seat_job[at] || is_stopped[LOOP_OF(at)])
        }
        assert(left == seat_count);
        assert(is_closed == (is_over && seat_count == 0));
        at = 0;
        left = 0
    }
}

init
{
    byte at, left;

    atomic {
        watch_state[1] = WATCH_RESTING; /* session_new, pool_session_opened */
        is_registered[1] = true;
        is_ready[1] = true;
        is_seated[1] = true;
#ifdef BOUND
        has_guest = true;
        ref_count++;
#endif
        for (at : 1 .. LOOP_COUNT) { run loop(at) }
        at = 0;
#if defined(DROPS) || defined(CLOSES_IDLE)
        run outside(OUTSIDE);
#endif
        run server()
    }
    timeout;
    check_rest()
}
