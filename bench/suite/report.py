"""report: the results as Markdown, for people."""

import textwrap

from suite.contenders import BY_NAME as CONTENDERS
from suite.rounds import FLOOR_AGAIN
from suite.statistics import median


def label(name):
    return "the first once more: this much is noise" if name == FLOOR_AGAIN else CONTENDERS[name].label


def number(value):
    """Three digits that mean something, no more."""
    if value >= 1000:
        return f"{value:,.0f}"
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def with_range(spread):
    return f"{number(spread.median)} ({number(spread.low)}–{number(spread.high)})"


def kib(value):
    return f"{value / 1024:.2f}"


def _table(headings, lines):
    text = ["| " + " | ".join(headings) + " |", "|" + "|".join(" --- " if i == 0 else " ---: "
                                                                for i in range(len(headings))) + "|"]
    return "\n".join(text + ["| " + " | ".join(line) + " |" for line in lines])


def _ordered(rows):
    """Floors first, then by cost."""
    def key(item):
        name, row = item
        is_floor = name == FLOOR_AGAIN or CONTENDERS[name].kind == "floor"
        cost = row["bytes_per_request"] if "bytes_per_request" in row else row["cpu_us"]
        return (not is_floor, cost.median)
    return sorted(rows.items(), key=key)


def _emphasized(name, text):
    return f"**{text}**" if name != FLOOR_AGAIN and CONTENDERS[name].kind == "interloop" else text


def cpu_table(rows):
    lines = []
    for name, row in _ordered(rows):
        lines.append([_emphasized(name, label(name)), with_range(row["cpu_us"]),
                      number(row["cpu_us"].median * row["user_share"]),
                      number(row["cpu_us"].median * (1 - row["user_share"])), ratio_text(row), number(row["per_second"].median)])
    return _table(["", "CPU µs a request", "user", "system", "× the first", "requests/s"], lines)


def latency_table(rows):
    lines = []
    for name, row in _ordered(rows):
        lines.append([_emphasized(name, label(name))]
                     + [with_range(row[key]) for key in ("p50_us", "p99_us", "p99.9_us")]
                     + [number(row["cpu_us"].median)])
    return _table(["", "p50 µs", "p99 µs", "p99.9 µs", "CPU µs a request"], lines)


def memory_table(rows):
    lines = []
    for name, row in _ordered(rows):
        lines.append([_emphasized(name, label(name)), kib(row["bytes_per_request"].median),
                      f"{row['base_bytes'].median / 1048576:.1f}", f"{row['peak_bytes'].median / 1048576:.1f}",
                      number(row["cpu_us"].median)])
    return _table(["", "KiB each", "MiB with one", "MiB with all", "CPU µs a request, connecting included"],
                  lines)


def micro_table(rows):
    lines = [[label(name), with_range(row["cpu_us"].scaled(1000)), number(row["per_second"].median)]
             for name, row in _ordered(rows)]
    return _table(["", "CPU ns", "a second"], lines)


def ratio_text(row):
    if "ratio" not in row:
        return ""
    ratio = row["ratio"]
    return f"{ratio.median:.2f} ({ratio.low:.2f}–{ratio.high:.2f})"


TABLES = {"cpu": cpu_table, "latency": latency_table, "memory": memory_table, "micro": micro_table}


def workload_section(outcome):
    workload = outcome.workload
    text = [f"### {workload.title[0].upper()}{workload.title[1:]}", ""]
    if outcome.rows:
        text += [TABLES[workload.kind](outcome.rows), ""]
    text += [f"- {note}" for note in outcome.notes]
    for name, why in outcome.absent.items():
        text.append(f"- {label(name)}: not measured: {why}")
    for name, what in outcome.failed.items():
        text.append(f"- {label(name)}: **failed**: {what}")
    if text[-1] != "":
        text.append("")
    return "\n".join(text)


def goals_section(judged):
    lines = [[goal.text, f"{number(goal.limit)} {goal.unit}", f"{number(value)} {goal.unit}",
              "met" if is_met else f"missed by {(value / goal.limit - 1) * 100:.0f} %"]
             for goal, value, is_met in judged]
    return "\n".join(["### Goals", "", _table(["", "at most", "measured", ""], lines), ""])


PAUSE_WORTH_SAYING_S = 1.0
LINE_WIDTH = 118


def noise_percents(outcomes):
    """By how much a program differed from itself: the median of all workloads, and the worst; None if none ran
    twice."""
    differences = [abs(outcome.rows[FLOOR_AGAIN]["ratio"].median - 1) * 100 for outcome in outcomes
                   if outcome.workload.kind == "cpu" and "ratio" in outcome.rows.get(FLOOR_AGAIN, {})]
    return (median(differences), max(differences)) if differences else None


def about_section(about, outcomes):
    """How it was measured, in one paragraph; what a reader needs to know to trust the tables."""
    machine, noise = about["machine"], about["noise"]
    differed = noise_percents(outcomes)
    text = (f"Measured {machine['date']} on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
            f"{machine['libc']}, {machine['compiler']}. {about['rounds']} rounds, runs of about {about['seconds']:.1f} s, "
            f"interleaved; medians, in parentheses the lowest and the highest round. Other processes had "
            f"{noise['others'] * 100:.1f} % of the machine meanwhile, and {noise['stolen'] * 100:.1f} % was stolen "
            "by its host.")
    if differed is not None:
        text += (f" The first of each table, measured a second time, differed from itself by {differed[0]:.1f} % "
                 f"(median of the tables), at worst by {differed[1]:.1f} %.")
    if noise["longest_pause_s"] > PAUSE_WORTH_SAYING_S:
        text += (f" **The machine stood still for {noise['longest_pause_s']:.0f} s at a time: do not trust the "
                 "highest values.**")
    if about["are_cores_shared"]:
        text += " There is only one core: client and server share it."
    if about["is_quick"]:
        text += " This was a quick run: few rounds, for a first look only."
    not_measured = about.get("not_measured", {})
    for why in sorted(set(not_measured.values())):
        names = ", ".join(name for name, reason in not_measured.items() if reason == why)
        text += f" Not measured, for {why}: {names}."
    return textwrap.fill(text, LINE_WIDTH, break_long_words=False, break_on_hyphens=False) + "\n"


def whole(about, outcomes, judged):
    """The whole report."""
    parts = [about_section(about, outcomes)]
    if judged:
        parts.append(goals_section(judged))
    parts += [workload_section(outcome) for outcome in outcomes]
    return "\n".join(parts)


def to_json(about, outcomes, judged):
    return {
        "version": 1,
        "about": about,
        "goals": [{"goal": goal.text, "limit": goal.limit, "unit": goal.unit, "measured": value, "is_met": is_met}
                  for goal, value, is_met in judged],
        "workloads": {outcome.name: outcome.to_json() for outcome in outcomes},
    }


# ---- the short form, for the README ----

# One line for each client, with the way of using it that its users would choose; None: any that is cheapest.
SUMMARY_LINES = [
    ("the floor: a bare loop that parses nothing", ["floor-blocking", "floor-epoll", "floor-tls", "floor-h2"]),
    ("**interloop**, a task each (the first column: a plain thread)", ["il-thread", "il-task"]),
    ("**interloop**, callbacks", ["il-call"]),
    ("wrk, a load generator", ["wrk"]),
    ("h2load, a load generator", ["h2load", "h2load-2"]),
    ("hyper on Tokio", ["hyper"]),
    ("reqwest on Tokio", ["reqwest"]),
    ("libcurl, the best of its ways", ["curl-easy", "curl-multi", "curl-socket"]),
    ("libsoup 3", ["soup-sync", "soup-async"]),
    ("Go net/http", ["go"]),
]
SUMMARY_COLUMNS = [  # workload, heading
    ("get-1", "one at a time"), ("get-64", "64 in flight"), ("get-9000", "9,000 in flight"),
    ("close", "a connection each"), ("https-64", "HTTPS, 64 in flight"), ("h2s-64", "HTTP/2 in TLS, 64 streams"), ("held-10k", "KiB, each of 10,000"),
]


def _summary_cell(outcome, names):
    measured = "bytes_per_request" if outcome.workload.kind == "memory" else "cpu_us"
    rows = [outcome.rows[name] for name in names if measured in outcome.rows.get(name, {})]
    if outcome.name == "get-1" and "il-thread" in names:
        rows = [outcome.rows["il-thread"]] if "il-thread" in outcome.rows else []
    if not rows:
        return None
    best = min(rows, key=lambda row: row[measured].median)
    if measured == "bytes_per_request":
        return kib(best[measured].median)
    ratio = f" · {best['ratio'].median:.2f} ×" if "ratio" in best else ""
    return f"{number(best[measured].median)} µs{ratio}"


def summary(about, outcomes):
    """One table: CPU of a small GET, and memory, for each client; and one sentence on how."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    columns = [(by_name[name], heading) for name, heading in SUMMARY_COLUMNS if name in by_name]
    lines = []
    for title, names in SUMMARY_LINES:
        cells = [_summary_cell(outcome, names) for outcome, _ in columns]
        if any(cells):
            lines.append([title] + [cell or "" for cell in cells])
    machine = about["machine"]
    memory = "; memory of a request in flight" if "held-10k" in by_name else ""
    text = (f"CPU of the client's process for a small GET over loopback, and how many times the floor{memory}. "
            f"{machine['cpu']}, {machine['cores']} cores, {machine['date']}, medians of "
            f"{about['rounds']} interleaved rounds.")
    return "\n".join([_table([""] + [heading for _, heading in columns], lines), "", textwrap.fill(text, LINE_WIDTH)])
