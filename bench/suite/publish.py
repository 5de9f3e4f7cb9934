"""publish: put measured results where readers find them: docs/performance.md, README.md, bench/results/.

Each document has a pair of marks, and what stands between them is replaced.
"""
import os

DOCUMENT_MARKS = ("<!-- results: written by tools/bench --publish -->", "<!-- end of results -->")
README_MARKS = ("<!-- benchmark: written by tools/bench --publish -->", "<!-- benchmark: end -->")
PICTURES = {"cpu.svg": "CPU time of a request, by client", "memory.svg": "Memory of a request, by client"}


class Failed(Exception):
    """A document is not as it should be; the text is for people."""


def replaced(document, marks, text, name):
    """`document` with `text` between the marks."""
    before, first, rest = document.partition(marks[0])
    _, last, after = rest.partition(marks[1])
    if not first or not last:
        raise Failed(f"{name}: there is no {marks[1] if first else marks[0]}")
    return f"{before}{first}\n\n{text.strip()}\n\n{last}{after}"


def documents(root, files, summary, report):
    """{path: new text}. `files`: names of what goes to bench/results/."""
    pictures = "\n\n".join(f"![{alt}](../bench/results/{name})" for name, alt in PICTURES.items() if name in files)
    plot = "![CPU time of a small GET](bench/results/summary.svg)\n\n" if "summary.svg" in files else ""
    changed = {}
    for path, marks, text in ((os.path.join(root, "docs", "performance.md"), DOCUMENT_MARKS, f"{pictures}\n\n{report}"),
                              (os.path.join(root, "README.md"), README_MARKS, plot + summary)):
        with open(path, encoding="utf-8") as file:
            changed[path] = replaced(file.read(), marks, text, os.path.relpath(path, root))
    return changed


def write_all(files):
    """{path: text}; each file is there whole or not at all."""
    for path, text in files.items():
        os.makedirs(os.path.dirname(path), exist_ok=True)
        part = path + ".part"
        with open(part, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(part, path)


def publish(root, files, summary, report):
    """`files`: {name: text} for bench/results/. Nothing is written if a document lacks its marks."""
    changed = documents(root, files, summary, report)
    write_all({os.path.join(root, "bench", "results", name): text for name, text in files.items()})
    write_all(changed)
    return [os.path.relpath(path, root) for path in changed] + [f"bench/results/{name}" for name in files]
