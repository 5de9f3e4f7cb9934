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
VALUE_WIDTH = 135
BAR_HEIGHT = 15
LINE_HEIGHT = 23
TITLE_HEIGHT = 40
LEGEND_HEIGHT = 30
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
  .floor { stroke: #57606a; stroke-width: 1; stroke-dasharray: 3 3; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; } .small { fill: #9da7b3; } .range { stroke: #e6edf3; } .floor { stroke: #9da7b3; }
  }
"""


def _text(x, y, text, css="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(text)}</text>'


def _rect(x, y, width, colour, title):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.1f}" height="{BAR_HEIGHT}" fill="{colour}">'
            f"<title>{escape(title)}</title></rect>")


def _line(x1, y1, x2, y2, css):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def _bar(name, row, y, scale):
    """One contender: label, system and user part, range, number."""
    cpu, share = row["cpu_us"], row["user_share"]
    system_colour, user_colour = COLOURS[CONTENDERS[name].kind]
    system_width = cpu.median * (1 - share) * scale
    user_width = cpu.median * share * scale
    middle = y + BAR_HEIGHT / 2
    value = f"{report.number(cpu.median)} µs"
    if "ratio" in row and CONTENDERS[name].kind != "floor":
        value += f" · {row['ratio'].median:.2f} ×"
    css = "title" if CONTENDERS[name].kind == "interloop" else ""
    return [
        _text(LABEL_WIDTH - 8, middle + 4, CONTENDERS[name].label, css, "end"),
        _rect(LABEL_WIDTH, y, system_width, system_colour, f"kernel: {report.number(cpu.median * (1 - share))} µs"),
        _rect(LABEL_WIDTH + system_width, y, user_width, user_colour, f"user: {report.number(cpu.median * share)} µs"),
        _line(LABEL_WIDTH + cpu.low * scale, middle, LABEL_WIDTH + cpu.high * scale, middle, "range"),
        _text(LABEL_WIDTH + max(cpu.high, cpu.median) * scale + 6, middle + 4, value, css),
    ]


def _panel(title, floor_name, rows, top):
    """One workload; returns (elements, height)."""
    shown = sorted(((name, row) for name, row in rows.items() if name != FLOOR_AGAIN),
                   key=lambda item: item[1]["cpu_us"].median)
    longest = max(row["cpu_us"].high for _, row in shown)
    scale = (WIDTH - LABEL_WIDTH - VALUE_WIDTH) / longest
    floor = rows.get(floor_name)
    bottom = top + TITLE_HEIGHT + len(shown) * LINE_HEIGHT
    elements = [_text(8, top + 25, title[0].upper() + title[1:], "title")]
    if floor:
        x = LABEL_WIDTH + floor["cpu_us"].median * scale
        elements.append(_line(x, top + TITLE_HEIGHT - 6, x, bottom - 4, "floor"))
    for i, (name, row) in enumerate(shown):
        elements += _bar(name, row, top + TITLE_HEIGHT + i * LINE_HEIGHT, scale)
    return elements, bottom - top


def draw_cpu(panels):
    """`panels`: [(title, name of the floor, rows)]. One SVG with a panel for each."""
    elements, y = [], LEGEND_HEIGHT
    for title, floor_name, rows in panels:
        more, height = _panel(title, floor_name, rows, y)
        elements += more
        y += height + 6
    x = 8
    for kind, (system_colour, user_colour) in COLOURS.items():
        elements += [_rect(x, 8, 14, system_colour, kind), _rect(x + 14, 8, 14, user_colour, kind),
                     _text(x + 34, 20, f"{kind}: kernel, user", "small")]
        x += 170
    elements.append(_text(x, 20, "CPU µs a request; thin line: range; dashed: floor", "small"))
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
            f'role="img" aria-label="CPU time per request, by client">\n<style>{STYLE}</style>\n'
            + "\n".join(elements) + "\n</svg>\n")
