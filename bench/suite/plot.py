"""plot: the results as SVG, drawn by hand: horizontal bars, user and system CPU, range, and the floor.

The colours are readable on a light and on a dark page; every number is also written, so nothing depends
on telling colours apart.
"""
from xml.sax.saxutils import escape

from suite import report
from suite.contenders import BY_NAME as CONTENDERS
from suite.rounds import FLOOR_AGAIN

WIDTH = 860
LABEL_WIDTH = 235
VALUE_WIDTH = 145
BAR_HEIGHT = 15
LINE_HEIGHT = 23
TITLE_HEIGHT = 40
LEGEND_HEIGHT = 30
OUTLIER = 2.5  # times the next: would make all others too short to be told apart, and is cut
COLOURS = {  # kind: (system, user)
    "floor": ("#8c96a3", "#c3cad2"),
    "interloop": ("#0b7a75", "#4fc1ba"),
    "peer": ("#b4652a", "#e8ad7e"),
}
STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #24292f; }
  .title { font-weight: 600; font-size: 13px; }
  .small { font-size: 11px; fill: #57606a; }
  .range { stroke: #24292f; stroke-width: 1.2; }
  .cut { stroke: #ffffff; stroke-width: 3; }
  .floor { stroke: #57606a; stroke-width: 1; stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9da7b3; } .range { stroke: #e6edf3; } .floor { stroke: #9da7b3; }
    .cut { stroke: #0d1117; }
  }
"""


def _text(x, y, text, css="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x, y, width, colour, title):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{BAR_HEIGHT}" fill="{colour}">'
            f"<title>{escape(title)}</title></rect>")


def _line(x1, y1, x2, y2, css):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


class Bar:
    """One contender: its parts end to end, from the left; then the range and the number."""

    def __init__(self, name, parts, low, high, text):
        self.name = name
        self.parts = parts  # [(value, colour, what it is)]
        self.value = sum(value for value, _, _ in parts)
        self.low = low
        self.high = high
        self.text = text


def _cpu_bar(name, row):
    cpu, share = row["cpu_us"], row["user_share"]
    kind = CONTENDERS[name].kind
    system_us, user_us = cpu.median * (1 - share), cpu.median * share
    text = f"{report.number(cpu.median)} µs"
    if "ratio" in row and kind != "floor":
        text += f" · {row['ratio'].median:.2f} ×"
    parts = [(system_us, COLOURS[kind][0], f"kernel: {report.number(system_us)} µs"),
             (user_us, COLOURS[kind][1], f"user: {report.number(user_us)} µs")]
    return Bar(name, parts, cpu.low, cpu.high, text)


def _memory_bar(name, row):
    each = row["bytes_per_request"]
    text = f"{report.kib(each.median)} KiB"
    return Bar(name, [(each.median, COLOURS[CONTENDERS[name].kind][0], text)], each.low, each.high, text)


def _longest(bars):
    """The value that gets the whole width: the largest, but for outliers among the larger half."""
    values = sorted(bar.high for bar in bars)
    for i in range(len(values) - 1, len(values) // 2, -1):
        if values[i] > OUTLIER * values[i - 1]:
            values = values[:i]
    return values[-1]


def _draw_cut_bar(bar, y, middle, css):
    """One that is longer than the width: as long as that, and with a gap that says so."""
    width = WIDTH - LABEL_WIDTH - VALUE_WIDTH
    elements = [_text(LABEL_WIDTH - 8, middle + 4, CONTENDERS[bar.name].label, css, "end")]
    x = LABEL_WIDTH
    for value, colour, what in bar.parts:
        elements.append(_rect(x, y, value / bar.value * width, colour, what))
        x += value / bar.value * width
    for gap in (width * 0.8, width * 0.8 + 8):
        elements.append(_line(LABEL_WIDTH + gap, y + BAR_HEIGHT + 2, LABEL_WIDTH + gap + 6, y - 2, "cut"))
    elements.append(_text(LABEL_WIDTH + width + 6, middle + 4, bar.text, css))
    return elements


def _draw_bar(bar, y, scale):
    middle = y + BAR_HEIGHT / 2
    css = "title" if CONTENDERS[bar.name].kind == "interloop" else ""
    if max(bar.high, bar.value) * scale > WIDTH - LABEL_WIDTH - VALUE_WIDTH + 1:
        return _draw_cut_bar(bar, y, middle, css)
    elements = [_text(LABEL_WIDTH - 8, middle + 4, CONTENDERS[bar.name].label, css, "end")]
    x = LABEL_WIDTH
    for value, colour, what in bar.parts:
        elements.append(_rect(x, y, value * scale, colour, what))
        x += value * scale
    elements.append(_line(LABEL_WIDTH + bar.low * scale, middle, LABEL_WIDTH + bar.high * scale, middle, "range"))
    elements.append(_text(LABEL_WIDTH + max(bar.high, bar.value) * scale + 6, middle + 4, bar.text, css))
    return elements


def _draw_panel(title, floor_name, bars, top):
    """One workload; returns (elements, height)."""
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / _longest(bars)
    bottom = top + TITLE_HEIGHT + len(bars) * LINE_HEIGHT
    elements = [_text(8, top + 25, title[0].upper() + title[1:], "title")]
    for bar in bars:
        if bar.name == floor_name:
            x = LABEL_WIDTH + bar.value * scale
            elements.append(_line(x, top + TITLE_HEIGHT - 6, x, bottom - 4, "floor"))
    for i, bar in enumerate(sorted(bars, key=lambda one: one.value)):
        elements += _draw_bar(bar, top + TITLE_HEIGHT + i * LINE_HEIGHT, scale)
    return elements, bottom - top


def _draw(panels, make_bar, parts, what):
    """`panels`: [(title, name of the floor, rows)]. One SVG with a panel for each. `parts` names the parts of a
    bar, `what` its length."""
    elements, y = [], LEGEND_HEIGHT
    for title, floor_name, rows in panels:
        bars = [make_bar(name, row) for name, row in rows.items() if name != FLOOR_AGAIN]
        more, height = _draw_panel(title, floor_name, bars, y)
        elements += more
        y += height + 6
    x = 8
    for kind, colours in COLOURS.items():
        elements += [_rect(x + i * 14, 8, 14, colour, kind) for i, colour in enumerate(colours[:len(parts)])]
        elements.append(_text(x + 14 * len(parts) + 6, 20, ": ".join([kind, ", ".join(parts)] if parts[0] else [kind]),
                              "small"))
        x += 162 if parts[0] else 110
    elements.append(_text(x, 20, f"{what}; line: range; dashes: floor; gap: cut short", "small"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            f'role="img" aria-label="{escape(what)}, by client">\n<style>{STYLE}</style>\n'
            + "\n".join(elements) + "\n</svg>\n")


def draw_cpu(panels):
    return _draw(panels, _cpu_bar, ["kernel", "user"], "CPU µs a request")


def draw_memory(panels):
    return _draw(panels, _memory_bar, [""], "KiB a request or connection")
