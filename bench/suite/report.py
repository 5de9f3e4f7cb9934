"""report: the results as Markdown, for people."""

from suite.contenders import BY_NAME as CONTENDERS
from suite.rounds import FLOOR_AGAIN


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


def workload_section(contest, rows):
    workload = contest.workload
    text = [f"### {workload.title[0].upper()}{workload.title[1:]}", "", TABLES[workload.kind](rows), ""]
    for name, why in contest.absent.items():
        text.append(f"- {label(name)}: not measured: {why}")
    for name, what in contest.failed.items():
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


def noise_percent(contests):
    """By how much a program differed from itself, at worst; None if none ran twice."""
    differences = [abs(rows[FLOOR_AGAIN]["ratio"].median - 1) * 100 for contest, rows in contests
                   if contest.workload.kind == "cpu" and "ratio" in rows.get(FLOOR_AGAIN, {})]
    return max(differences) if differences else None


def about_section(about, contests):
    """How it was measured, in one paragraph; what a reader needs to know to trust the tables."""
    machine, noise = about["machine"], about["noise"]
    differed = noise_percent(contests)
    text = (f"Measured {machine['date']} on {machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, "
            f"{machine['libc']}, {machine['compiler']}. {about['rounds']} rounds of about {about['seconds']} s, "
            f"interleaved; medians, in parentheses the lowest and the highest round. Other processes had "
            f"{noise['others'] * 100:.1f} % of the machine meanwhile, and {noise['stolen'] * 100:.1f} % was stolen "
            "by its host.")
    if differed is not None:
        text += f" The first of each table, measured a second time, differed from itself by up to {differed:.1f} %."
    if noise["longest_pause_s"] > PAUSE_WORTH_SAYING_S:
        text += (f" **The machine stood still for {noise['longest_pause_s']:.0f} s at a time: do not trust the "
                 "highest values.**")
    if about["are_cores_shared"]:
        text += " There is only one core: client and server share it."
    if about["is_quick"]:
        text += " This was a quick run: few rounds, for a first look only."
    return text + "\n"


def whole(about, contests, judged):
    """The whole report; `contests`: [(Contest, rows)]."""
    parts = [about_section(about, contests)]
    if judged:
        parts.append(goals_section(judged))
    parts += [workload_section(contest, rows) for contest, rows in contests]
    return "\n".join(parts)


def to_json(about, contests, judged):
    def row_to_json(row):
        return {key: value.to_json() if hasattr(value, "to_json") else value for key, value in row.items()}

    return {
        "version": 1,
        "about": about,
        "goals": [{"goal": goal.text, "limit": goal.limit, "unit": goal.unit, "measured": value, "is_met": is_met}
                  for goal, value, is_met in judged],
        "workloads": {
            contest.workload.name: {
                "title": contest.workload.title, "floor": contest.workload.floor,
                "rows": {name: row_to_json(row) for name, row in rows.items()},
                "absent": contest.absent, "failed": contest.failed,
            } for contest, rows in contests
        },
    }
