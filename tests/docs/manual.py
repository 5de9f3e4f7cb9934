#!/usr/bin/python3
"""manual: what the documents and the manual say is complete, and is what the code says."""
import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.realpath(os.environ.get("IL_SOURCE") or os.path.join(HERE, "../.."))
BUILD = os.path.realpath(os.environ.get("IL_BUILD") or os.path.join(ROOT, "build"))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(ROOT, "tools")]
import csource  # noqa: E402
import harness  # noqa: E402

COMMANDS = ["bench", "doctor", "explain", "explore", "get", "reproduce", "serve"]


def tool(name):
    """A program without .py, as a module."""
    loader = importlib.machinery.SourceFileLoader(name, os.path.join(ROOT, "tools", name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module


def command(*arguments):
    return subprocess.run([os.path.join(BUILD, "interloop"), *arguments], text=True, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout


def page(name):
    return csource.read(ROOT, f"docs/man/{name}.1")


def plain(roff):
    """A page without its fonts and escapes."""
    roff = re.sub(r"\\f[BIRP]", "", roff.replace("\\-", "-"))
    return re.sub(r"^\.(BR?|BI|RB|I|IR|RI)\s+(.*)$", lambda m: m[2].replace('"', ""), roff, flags=re.MULTILINE)


def every_public_name_is_in_the_manual():
    manual = tool("man").Manual(ROOT)
    for name in manual.homeless:
        yield f"{name}: in no page: add it to PAGES in tools/man"
    files = manual.files()
    for name in csource.exported_names(csource.read(ROOT, "src/il.map")):
        if name != "*" and f"{name}.3" not in files:
            yield f"{name}: man {name} leads nowhere"
    for header in manual.headers.values():
        header = csource.without_comments(header)
        types = re.findall(r"^(?:struct|enum) (il_\w+)(?= \{|;)|^typedef [^;]*?\b(il_\w+)\(", header, re.MULTILINE)
        if not types:
            yield f"no types found in {header[:60]!r}"
        for name in map("".join, types):
            if f"{name}.3" not in files:
                yield f"{name}: man {name} leads nowhere"
    for name, members in manual.members.items():
        if not members and name != "il_share":
            yield f"tools/man: page {name} has nothing in it"


def every_error_code_is_in_the_manual():
    text = tool("man").Manual(ROOT).page("il_error")
    header = csource.read(ROOT, "include/interloop/error.h")
    codes = re.findall(r"\bX\((\w+), (\d+),", header)
    if not codes:
        yield "no codes found"
    for name, number in codes:
        if f".B IL_{name}\n({number}) " not in text:
            yield f"il_error(3): no IL_{name} ({number})"


def option_of_a_command_is_in_its_page_and_no_other():
    for name in COMMANDS:
        # Long options that begin a line of the help; those in the page begin a paragraph.
        told = set(re.findall(r"^ +(?:-\w, +)?(--[a-z0-9-]+)", command(name, "--help"), re.MULTILINE))
        text = plain(page(f"interloop-{name}"))
        listed = set(re.findall(r"^\.TP\n(?:-\w *, *)?(--[a-z0-9-]+)", text, re.MULTILINE))
        if not told:
            yield f"interloop {name} --help lists no options"
        for option in sorted(told - listed):
            yield f"docs/man/interloop-{name}.1: no {option}"
        for option in sorted(listed - told):
            yield f"docs/man/interloop-{name}.1: {option}: interloop {name} has no such option"


def every_command_has_a_page():
    named = re.findall(r"^  ([a-z]+) {2,}", command("--help"), re.MULTILINE)
    if sorted(named) != COMMANDS:
        yield f"interloop --help lists {', '.join(sorted(named))}; pages exist for {', '.join(COMMANDS)}"
    for name in named:
        if f"interloop\\-{name} (1)" not in page("interloop"):
            yield f"docs/man/interloop.1: no {name}"


def pages_are_formatted_without_a_warning():
    if not shutil.which("groff"):
        raise harness.Skip("groff is not here")
    pages = {f"{name}.1": page(name) for name in ["interloop"] + [f"interloop-{name}" for name in COMMANDS]}
    pages.update(tool("man").Manual(ROOT).files())
    for name, text in pages.items():
        if text.startswith(".so "):
            continue
        out = subprocess.run(["groff", "-man", "-ww", "-z", "-Tutf8", "-Kutf8"], input=text, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if out.returncode != 0 or out.stdout:
            yield f"{name}: {out.stdout.splitlines()[:3]}"


def options_in(header, struct):
    """(name, default in words) of each field whose comment ends in its default: `; 1,024 */`."""
    body = re.search(r"struct " + struct + r" \{(.*?)\n\};", csource.read(ROOT, header), re.DOTALL)[1]
    for name, comment in re.findall(r"(\w+);\s*/\*(.*?)\*/", body, re.DOTALL):
        yield name, comment


def help_of_every_command_begins_with_its_usage():
    for name in COMMANDS:
        lines = command(name, "--help").split("\n")
        uses = [line for line in lines[:lines.index("")] if not re.match(rf"(usage:|      ) interloop {name}( |$)", line)]
        if uses or not lines[0].startswith("usage: "):
            yield f"interloop {name} --help begins with {lines[0]!r}"
        wrong = command(name, "--no-such-option").split("\n")
        wanted = [f"interloop {name}: unrecognized option '--no-such-option'", f"Try 'interloop {name} --help'.", ""]
        if wrong != wanted:
            yield f"interloop {name} --no-such-option: {wrong}"


def client_options_are_told_with_the_defaults_of_the_header():
    text = csource.read(ROOT, "docs/client.md")
    for name, comment in options_in("include/interloop/client.h", "il_client_options"):
        row = re.search(rf"^\| `{name}` \| ([^|]*?) \|", text, re.MULTILINE)
        default = re.search(r"; ([^;]+?) $", comment)
        if name == "size":
            continue
        if not row:
            yield f"docs/client.md: no option {name}"
        elif default and re.match(r"[\d,]+|no limit", default[1]) and row[1] != default[1]:
            yield f"docs/client.md: {name}: {row[1]}, but the header says {default[1]}"


def catalogue_in_the_documents_is_that_of_the_command():
    checked = subprocess.run([os.path.join(ROOT, "tools/matrix-svg"), "--check"], text=True,
                             input=command("reproduce", "--list", "--json"), stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT)
    if checked.returncode != 0:
        yield checked.stdout.strip()


if __name__ == "__main__":
    harness.run([(check.__name__, check) for check in (
        every_public_name_is_in_the_manual, every_error_code_is_in_the_manual,
        option_of_a_command_is_in_its_page_and_no_other, help_of_every_command_begins_with_its_usage,
        every_command_has_a_page,
        pages_are_formatted_without_a_warning, client_options_are_told_with_the_defaults_of_the_header,
        catalogue_in_the_documents_is_that_of_the_command)])
