#!/usr/bin/python3
"""The protocols of src/loop and src/rt, those of the shared HTTP/2 session and of the pool, gone through state by state by spin (docs/model.md).

Each scene is one check: spin goes through every state that the model can come to. Each mistake is another: the same
with one deliberate error in it, which spin must find, or the model would show nothing. On its own:

    tests/model/model_test.py [TEXT]        the checks whose name contains TEXT
    tests/model/model_test.py --trail NAME  how a mistake goes wrong, step by step
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import harness  # noqa: E402

MEMORY_MB = 3000
DEPTH = 20000
AT_ONCE = 2  # searches; each needs a processor, and some 100 MB
TIMEOUT_S = 400  # the machine may be busy; on an idle one no scene takes more than ten seconds

# name: (file, what is defined)
SCENES = {
    "two_tasks_one_of_which_blocks": ("handover.pml", "BLOCKING"),
    "task_that_is_taken_over_twice_and_one_that_is_pinned": ("handover.pml", "TWICE"),
    "task_that_waits_is_woken_wherever_its_loop_is": ("handover.pml", "WAITING"),
    "callback_that_lost_its_loop_gets_it_back": ("handover.pml", "CALLING"),
    "runtime_without_hand_over_comes_to_its_end": ("handover.pml", "WAITING SPARE_COUNT=0"),
    "token_of_a_party_is_never_lost": ("party.pml", ""),
    "monitor_does_not_sleep_while_a_loop_is_stuck": ("monitor.pml", ""),
    "session_serves_who_runs_when_the_loop_that_opened_it_stops": ("session.pml", "STOPS=1 HEAD_APART"),
    "session_that_is_cut_lets_go_of_the_seats_of_loops_that_stop": ("session.pml", "STOPS=1 CUTS"),
    "session_with_every_step_on_its_own": ("session.pml", "FINE CUTS"),
    "session_whose_server_leaves_serves_what_is_open": ("session.pml", "LEAVES STOPS=2 WIRE_SIZE=2"),
    "session_outlives_a_loop": ("session.pml", "ENDS=1 CUTS"),
    "session_of_a_client_that_is_let_go_of_ends": ("session.pml", "DROPS"),
    "session_gets_the_place_of_a_cancelled_call_back": ("session.pml", "CANCELS=2 CUTS"),
    "session_that_is_idle_ends": ("session.pml", "EXPIRES STOPS=1"),
    "session_is_driven_by_who_reads_a_body": ("session.pml", "STREAMING STOPS=1"),
    "session_sends_when_there_is_room_again": ("session.pml", "PIECE_COUNT=2 WIRE_SIZE=1 STOPS=1"),
    "session_with_two_streams_of_one_loop": ("session.pml", "STREAM_COUNT=3 STOPS=1"),
    "session_with_an_answer_that_never_comes_brings_the_others": ("session.pml", "HOLDS STOPS=2"),
    "session_that_is_bound_is_ended_by_its_driver": ("session.pml", "BOUND LEAVES CANCELS=2"),
    "session_that_is_bound_ends_with_its_driver": ("session.pml", "BOUND ENDS=1"),
    "pool_serves_who_runs_whoever_stops_or_is_cancelled": ("pool.pml", "STOPS=1 CANCELS=1"),
    "pool_whose_calls_wait_for_the_connection_of_another": ("pool.pml", "SHARES STOPS=2 CANCELS=1"),
    "pool_with_two_places": ("pool.pml", "PLACES=2 STOPS=1"),
    "pool_takes_the_place_of_a_loop_that_does_not_run": ("pool.pml", "TAKES=1 STOPS=2 CANCELS=1"),
}

# mistake: (file, what is defined, what it does)
MISTAKES = {
    "BAD_LEAVE_USER": ("handover.pml", "BLOCKING", "coming back is a look and a store, not a compare-and-swap"),
    "BAD_TAKE_OVER": ("handover.pml", "BLOCKING", "taking over is a look and a store"),
    "BAD_STAY": ("handover.pml", "BLOCKING", "stays in user code are not counted in the word"),
    "BAD_LOST": ("handover.pml", "BLOCKING", "LOOP_LOST is not heeded"),
    "BAD_REQUEUE": ("handover.pml", "BLOCKING", "a task that lost its loop is touched after it was queued"),
    "BAD_PIN": ("handover.pml", "TWICE", "the monitor looks for pins before it looks at the word"),
    "BAD_POST": ("handover.pml", "BLOCKING", "a poster wakes the loop before it posts"),
    "BAD_SLEEP": ("handover.pml", "BLOCKING", "the holder looks for mail before it says that it sleeps"),
    "BAD_WAKE": ("handover.pml", "BLOCKING", "the eventfd is written before that is said"),
    "BAD_PARK": ("handover.pml", "WAITING", "parking is a look and a store"),
    "BAD_SEAL": ("handover.pml", "BLOCKING", "sealing the mailbox is a look and a store"),
    "BAD_END": ("handover.pml", "BLOCKING", "the end of the loop is not told to who waits for it"),
    "BAD_RELEASE": ("handover.pml", "BLOCKING", "who waits to hold is looked for before the loop is let go of"),
    "BAD_STAND_IN_SLEEP": ("handover.pml", "BLOCKING", "a stand-in sleeps although the own thread is back"),
    "BAD_BACK": ("handover.pml", "BLOCKING", "an own thread that is back does not wake the stand-in"),
    "BAD_CLAIM": ("handover.pml", "CALLING", "a callback that wants its loop does not wake the holder"),
    "BAD_BATCH": ("handover.pml", "CALLING", "a batch is gone on with that another holder has run"),
    "BAD_USER_TASK": ("handover.pml", "CALLING", "a task that ran meanwhile is taken for the one that is stuck"),
    "BAD_OVERDUE": ("party.pml", "", "a deadline that passes is a look and a store"),
    "BAD_EXCHANGE": ("party.pml", "", "waking is a look and a store"),
    "BAD_TOKEN": ("party.pml", "", "who is woken before it waits is not told"),
    "BAD_AWAKE": ("monitor.pml", "", "a loop looks at the monitor before it says that it is awake"),
    "BAD_MONITOR": ("monitor.pml", "", "the monitor looks at the loops before it says that it sleeps"),
    "BAD_LOCK": ("session.pml", "FINE STOPS=1", "who drives takes no mutex"),
    "BAD_CLAIM_AWAY": ("session.pml", "FINE CUTS", "taking a seat away is a look and a store"),
    "BAD_BURY": ("session.pml", "CUTS STOPS=1", "a watch is freed while its loop may still work through events"),
    "BAD_USELESS": ("session.pml", "STOPS=1", "a seat goes although its loop has a stream"),
    "BAD_MORE": ("session.pml", "STOPS=1", "who stops in the middle of what has come relies on being told again"),
    "BAD_DRIVEN": ("session.pml", "CUTS STOPS=1", "who stops in the middle of what has come keeps its seat to himself"),
    "BAD_JOB": ("session.pml", "CUTS STOPS=1", "who takes a seat away frees what its job needs"),
    "BAD_SIT": ("session.pml", "STOPS=1", "a loop without a seat relies on that of another"),
    "BAD_OVER": ("session.pml", "CUTS STOPS=1", "who handles an event does not look whether the session has ended"),
    "BAD_CLOSE": ("session.pml", "CUTS STOPS=1", "the socket is closed while a seat is left"),
    "BAD_TOLD": ("session.pml", "CUTS", "who tells the pool does not keep the session"),
    "BAD_LOOK": ("session.pml", "HEAD_APART STOPS=2", "a job's mark is taken away after the mutex was let go of"),
    "BAD_TELL": ("session.pml", "CANCELS=2 STOPS=1", "the job for the owner holds no reference"),
    "BAD_SLOT": ("session.pml", "CANCELS=2", "the place of a stream that is over is given back twice"),
    "BAD_BEGIN": ("session.pml", "CUTS", "the place of a stream that could not be opened is kept"),
    "BAD_ORPHAN": ("session.pml", "DROPS", "who comes last does not look whether the users are gone"),
    "BAD_READER": ("session.pml", "STREAMING STOPS=1", "who reads says that he waits after he has let go of the mutex"),
    "BAD_FLUSH": ("session.pml", "PIECE_COUNT=2 WIRE_SIZE=1 STOPS=1", "who is told that there is room does not send"),
    "BAD_GUEST": ("session.pml", "BOUND LEAVES CANCELS=2", "a bound session is ended on any loop"),
    "BAD_LOOK_FIRST": ("pool.pml", "", "who is about to wait looks at the shelves before it is counted"),
    "BAD_PUT": ("pool.pml", "", "who puts a connection on a shelf looks for waiters before it is counted"),
    "BAD_MARK": ("pool.pml", "", "a wake's mark is taken away after the call has looked"),
    "BAD_QUIET": ("pool.pml", "", "who frees a place wakes nobody"),
    "BAD_STILL_WOKEN": ("pool.pml", "", "who was woken for nothing is not woken again"),
    "BAD_ONE_GROUP": ("pool.pml", "STOPS=1", "the waiters of one loop are woken, and not of each"),
    "BAD_LEAVE": ("pool.pml", "CANCELS=1", "who was woken and leaves does not pass it on"),
    "BAD_HEIR": ("pool.pml", "SHARES CANCELS=1", "a place that was passed on is given back as well"),
    "BAD_DEAF": ("pool.pml", "TAKES=1 STOPS=1", "a place is passed on to who has not heard that his own is gone"),
    "BAD_GIVE_BACK": ("pool.pml", "TAKES=1 STOPS=1", "a place that was taken away is given back"),
    "BAD_OPEN": ("pool.pml", "TAKES=1", "a connection is opened whosever the place is by then"),
    "NO_SPARE": ("handover.pml", "BLOCKING SPARE_COUNT=0", "there is no spare: a task that waits for another starves it"),
}


def need_tools():
    for tool in ("spin", "gcc"):
        if shutil.which(tool) is None:
            raise harness.Skip(f"{tool} is not installed (tools/setup test)")


def command(arguments, folder, timeout_s):
    ended = subprocess.run(arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, timeout=timeout_s, check=False)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}:\n{ended.stdout[-2000:]}")
    return ended.stdout


def defines(text):
    return ["-D" + word for word in text.split()]


def search(folder, file, words):
    """What the verifier says. To optimize it takes longer than it saves."""
    command(["spin", "-a", *defines(words), os.path.join(HERE, file)], folder, 60)
    command(["gcc", "-O0", "-w", "-DSAFETY", "-DSFH", "-DCOLLAPSE", f"-DMEMLIM={MEMORY_MB}", "-o", "pan", "pan.c"],
            folder, 120)
    return command(["./pan", f"-m{DEPTH}"], folder, TIMEOUT_S)


def faults(out):
    """What the verifier has found, and what keeps it from having gone through everything."""
    found = re.findall(r"^pan:\d+: (.*) \(at depth \d+\)", out, re.MULTILINE)
    if not found and "errors: 0" not in out:
        found = [out[-2000:]]
    if "max search depth too small" in out or "Search not completed" in out and not found:
        found.append("the search did not get to its end")
    return found


def search_apart(file, words):
    with tempfile.TemporaryDirectory() as folder:
        return search(folder, file, words)


def check_scene(searched):
    need_tools()
    out = searched.result()
    yield from faults(out)
    states = re.search(r"(\d+) states, stored", out)
    took = re.search(r"elapsed time ([\d.]+)", out)
    print(f"{int(float(states[1])):,} states in {took[1]} s" if states and took else out[-2000:])


def check_mistake(searched, what):
    need_tools()
    found = faults(searched.result())
    if not found:
        yield f"spin has not found it: {what}"
    elif "search" in found[0]:
        yield found[0]


def begin():
    """The checks that are wanted, with their searches under way, as many at once as may be."""
    searchers = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    checks = []
    for name, (file, words) in SCENES.items():
        if wanted in name:
            searched = searchers.submit(search_apart, file, words)
            checks.append((name, lambda searched=searched: check_scene(searched)))
    for mistake, (file, words, what) in MISTAKES.items():
        if wanted in f"finds_{mistake}":
            searched = searchers.submit(search_apart, file, f"{words} {mistake}")
            checks.append((f"finds_{mistake}", lambda searched=searched, what=what: check_mistake(searched, what)))
    return checks


def show_trail(name):
    file, words, what = MISTAKES[name]
    with tempfile.TemporaryDirectory() as folder:
        search(folder, file, f"{words} {name}")
        print(f"{name}: {what}")
        print(command(["spin", "-k", os.path.join(folder, f"{file}.trail"), "-p", *defines(f"{words} {name}"),
                       os.path.join(HERE, file)], folder, 60))


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "--trail" and sys.argv[2] in MISTAKES:
        show_trail(sys.argv[2])
        return
    harness.run(begin())


main()
