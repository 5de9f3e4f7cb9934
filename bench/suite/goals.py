"""goals: what the library wants to reach, held against what was measured.

A goal is a named number with a limit. It is judged only if all it needs was measured in this run.
"""

KIB = 1024


class Goal:
    """`measure` takes {workload: {contender: row}} and returns the number, or raises KeyError."""

    def __init__(self, text, limit, unit, measure):
        self.text = text
        self.limit = limit
        self.unit = unit
        self.measure = measure


def _ratio(workload, name):
    return lambda results: results[workload][name]["ratio"].median


def _against(workload, name, *others):
    """How many times the cheapest of `others`."""
    def measure(results):
        rows = results[workload]
        known = [rows[other]["cpu_us"].median for other in others if other in rows]
        if not known:
            raise KeyError(others[0])
        return rows[name]["cpu_us"].median / min(known)
    return measure


def _user_us(workload, name):
    def measure(results):
        row = results[workload][name]
        return row["cpu_us"].median * row["user_share"]
    return measure


def _difference_us(workload, name, base):
    return lambda results: results[workload][name]["cpu_us"].median - results[workload][base]["cpu_us"].median


def _kib(workload, name):
    return lambda results: results[workload][name]["bytes_per_request"].median / KIB


CURL = ("curl-multi", "curl-socket")

ALL = [
    Goal("64 in flight, callbacks: CPU over the bare epoll loop's", 1.10, "×", _ratio("get-64", "il-call")),
    Goal("64 in flight, a task each: CPU over the bare epoll loop's", 1.10, "×", _ratio("get-64", "il-task")),
    Goal("64 in flight: CPU over wrk's", 1.0, "×", _against("get-64", "il-task", "wrk")),
    Goal("64 in flight: CPU over hyper's", 1.0, "×", _against("get-64", "il-task", "hyper")),
    Goal("64 in flight: CPU over libcurl's (the better of its two)", 0.5, "×", _against("get-64", "il-task", *CURL)),
    Goal("64 in flight, callbacks: CPU in user space", 0.6, "µs", _user_us("get-64", "il-call")),
    Goal("64 in flight, a task each: CPU in user space", 0.8, "µs", _user_us("get-64", "il-task")),
    Goal("9,000 in flight: CPU over the bare epoll loop's", 1.15, "×", _ratio("get-9000", "il-task")),
    Goal("one at a time: CPU over a blocking socket's", 1.05, "×", _ratio("get-1", "il-thread")),
    Goal("10 MB bodies: CPU over a bare recv loop's", 1.05, "×", _ratio("download", "il-thread")),
    Goal("HTTP/2, 64 streams in clear: CPU over h2load's", 1.0, "×", _against("h2-64", "il-call", "h2load-2")),
    Goal("HTTP/2, 64 streams in TLS: CPU over h2load's", 1.0, "×", _against("h2s-64", "il-call", "h2load-2")),
    Goal("HTTP/2, 64 streams in TLS: CPU over libcurl's (the better of its two)", 0.1, "×",
         _against("h2s-64", "il-call", *CURL)),
    Goal("one client for 4 runtimes: CPU over that of a client for each", 1.10, "×",
         _ratio("runtimes-4", "il-shared")),
    Goal("a connection that another runtime used last: CPU more", 3.0, "µs",
         _difference_us("across", "il-across", "il-same")),
    Goal("in flight, callbacks: memory of a request", 4.0, "KiB", _kib("held-10k", "il-call")),
    Goal("an idle connection: memory", 1.5, "KiB", _kib("idle-10k", "il-call")),
]


def judge(results):
    """[(goal, number, is_met)] for the goals that can be judged."""
    judged = []
    for goal in ALL:
        try:
            number = goal.measure(results)
        except KeyError:
            continue
        judged.append((goal, number, number <= goal.limit))
    return judged
