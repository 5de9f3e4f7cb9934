"""csource: just enough C reading for the project's own checks; knows the house style, not all of C."""
import os
import re
import subprocess

SKIPPED_FOLDERS = ("build", ".git")


def project_files(root):
    """Every file of the project, relative to `root`: what git keeps or would keep, or, in an
    unpacked archive, whatever is there."""
    # A repository around an unpacked archive is not the project's: ask git only at the root.
    if os.path.exists(os.path.join(root, ".git")):
        try:
            # The project may lie in somebody else's folder (sudo, a container): that is no reason not to look.
            out = subprocess.run(["git", "-c", f"safe.directory={os.path.realpath(root)}", "-C", root, "ls-files",
                                  "-z", "--cached", "--others", "--exclude-standard"],
                                 check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            paths = [os.fsdecode(name) for name in out.stdout.split(b"\0") if name]
            return sorted({path for path in paths if os.path.isfile(os.path.join(root, path))})
        except (OSError, subprocess.CalledProcessError):
            pass  # no git here: walk
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(SKIPPED_FOLDERS)]
        found += [os.path.relpath(os.path.join(folder, name), root) for name in files]
    return sorted(path for path in found if os.path.isfile(os.path.join(root, path)))


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace") as file:
        return file.read()


def _blank(text):
    return re.sub(r"[^\n]", " ", text)


_TOKEN = re.compile(r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
                    re.VERBOSE | re.DOTALL)


def without_comments(text, keep_strings=True):
    """The same text, line for line, comments (and what is in quotes) replaced by blanks."""
    def replace(match):
        token = match[0]
        if token.startswith("/"):
            return _blank(token)
        return token if keep_strings else token[0] + _blank(token[1:-1]) + token[0]
    return _TOKEN.sub(replace, text)


def includes(text):
    """(line number, name, is_system) of each #include."""
    for number, line in enumerate(without_comments(text).split("\n"), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
        if match:
            yield number, match[2], match[1] == "<"


class Declaration:
    """One public function or variable: where, its name, and the comments a reader finds about it."""

    def __init__(self, path, line, name, text, comment):
        self.path, self.line, self.name, self.text, self.comment = path, line, name, text, comment


def head_comment(text):
    match = re.match(r"\s*/\*.*?\*/", text, re.DOTALL)
    return match[0] if match else ""


def public_headers(paths):
    return [path for path in paths if re.fullmatch(r"include/interloop/[\w/]+\.h", path)]


def installed_headers(root, paths):
    """The public headers that `make install` installs: a header that is still being written is not."""
    build = "include/interloop/meson.build"
    named = re.findall(r"'([\w/]+\.h)'", read(root, build)) if build in paths else []
    return [path for path in public_headers(paths) if path[len("include/interloop/"):] in named]


def public_declarations(root, path):
    """What is marked IL_API in one header. A comment is about the declarations that follow it without
    an empty line between them, or about the one before it on its line."""
    text = read(root, path)
    code = without_comments(text, keep_strings=False)
    code = re.sub(r"^[ \t]*#(?:.*\\\n)*.*$", lambda m: _blank(m[0]), code, flags=re.MULTILINE)
    for match in re.finditer(r"\bIL_API\b([^;{]*)[;{]", code):
        declaration = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", match[1], flags=re.DOTALL)
        name = (re.search(r"\b(il_\w+)\s*\(", declaration)
                or re.search(r"\b(il_\w+)\s*(?:\[[^\]]*\]\s*)*$", declaration.strip()))
        line = code.count("\n", 0, match.start()) + 1
        # The paragraph above the declaration, up to the empty line that ends it.
        above = text[:text.rfind("\n", 0, match.start()) + 1]
        paragraph = re.split(r"\n[ \t]*\n", above)[-1] if above.strip() else ""
        comment = "\n".join(re.findall(r"/\*.*?\*/", paragraph, re.DOTALL))
        if not comment and paragraph.rstrip().endswith("*/"):
            # the comment itself has an empty line in it
            start = above.rfind("/*")
            comment = above[start:].strip()
        beside = re.match(r"[ \t]*(/\*.*?\*/)", text[match.end():], re.DOTALL)
        comment += beside[1] if beside else ""
        yield Declaration(path, line, name[1] if name else None, declaration.strip(), comment)


def exported_names(map_text):
    """The names that a linker version script makes global."""
    names = []
    for part in re.findall(r"global:(.*?)(?:local:|\})", map_text, re.DOTALL):
        names += re.findall(r"([\w*]+)\s*;", without_comments(part))
    return names
