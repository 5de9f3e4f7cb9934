"""rules: the house rules that a machine can check. Each takes a Tree and yields `path:line: what`.

A rule's name says what holds; rules_test.py shows for each one a tree that breaks it.
"""
import os
import re
import subprocess
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, ".."), os.path.join(HERE, "../../tools")]
import csource  # noqa: E402
from harness import Skip  # noqa: E402

RULES = []


class Tree:
    def __init__(self, root):
        self.root = root
        self.paths = csource.project_files(root)
        self._texts = {}

    def text(self, path):
        if path not in self._texts:
            self._texts[path] = csource.read(self.root, path)
        return self._texts[path]

    def has(self, path):
        return path in self.paths

    def sources(self, *folders):
        """C sources and headers, of all folders or of those named."""
        return [path for path in self.paths if path.endswith((".c", ".h"))
                and (not folders or path.startswith(tuple(folder + "/" for folder in folders)))]


def rule(function):
    RULES.append(function)
    return function


def find(text, pattern):
    """(line number, match) of each place."""
    for number, line in enumerate(text.split("\n"), 1):
        for match in re.finditer(pattern, line):
            yield number, match


# ---- who may include whom ----

LAYERS = ["base", "sys", "loop", "rt", "sync", "net", "http", "client", "share", "watch"]

# Outside src/: the folders (and, with the dot, single headers of src/) that may be included there.
OUTSIDE = {
    # The simulated world stands behind src/sys, and its threads are fibers of src/rt; in it a plain
    # filter takes the place of net/tls_stream.c.
    "sim": {"sim", "base/base.h", "sys/sys.h", "rt/fiber.h", "rt/sanitize.h", "net/tls_inside.h"},
    "lab": {"lab"},
    "doctor": {"doctor", "base/base.h", "base/shown.h"},
    "load": {"load", "lab"},
    "cli": {"cli", "lab", "doctor", "load"},
    "examples": {"examples"},
}

EXTRA = {
    # lab's test server speaks HTTP with the same parsers, and is no user of the client it tests.
    r"lab/serve\w*\.[ch]": {"base/base.h", "llhttp.h", "nghttp2/nghttp2.h"},  # serve.c is the server's too
    r"lab/certificates\.[ch]": {"base/base.h"},
    # The stage within a simulated world.
    r"lab/stage_sim\w*\.[ch]": {"sim/sim.h", "sim/tls.h", "sys/sys.h"},
    # The explorer, which plays in it; who tells what happens; who has the faults stop.
    r"lab/(explore\w*|chaos|world)\.[ch]": {"sim/sim.h"},
    # A part of its tests: speaks to it byte by byte.
    r"lab/(raw|mux)_client\.[ch]": {"base/base.h", "tests/check.h", "nghttp2/nghttp2.h"},
}

# Libraries that are one folder's business.
FOREIGN = {
    r"llhttp\.h": ("src/http",),
    r"nghttp2/.*": ("src/http", "lab"),  # the other side
    r"ares\w*\.h": ("src/net",),
    r"openssl/.*": ("src/net", "lab"),  # the other side, and its certificates
    r"sys/(epoll|eventfd|timerfd|random)\.h|pthread\.h|threads\.h|semaphore\.h": ("src/sys",),
    r"assert\.h": (),
}


def folder_of(path):
    parts = path.split("/")
    return "/".join(parts[:2]) if parts[0] in ("src", "include") and len(parts) > 2 else parts[0]


def is_test(path):
    """x_check.h is what the x_test.c of one folder share."""
    return path.startswith("tests/") or path.endswith(("_test.c", "_check.h"))


def why_not_included(path, name, is_system):
    """None when the file at `path` may include `name`, else why not."""
    extra = {header for pattern, headers in EXTRA.items() if re.fullmatch(pattern, path)
             for header in headers}
    own = folder_of(path)
    if name in extra or name.startswith("interloop/"):
        return None
    if ".." in name:
        return "includes are written from include/, src/ or the root"
    if is_system:
        for pattern, owners in FOREIGN.items():
            if re.fullmatch(pattern, name) and own not in owners and not is_test(path) \
                    and path.startswith(("src/", "lab/", "include/")):
                # lab runs real programs: threads and polling of its own are its business
                if path.startswith("lab/") and not re.fullmatch(r"(llhttp|ares|nghttp2|openssl).*", name):
                    continue
                if name == "pthread.h" and any(call.startswith("pthread_") for call in HOMES.get(path, ())):
                    continue
                return f"<{name}> is for " + (" and ".join(owners) or "nobody: il_assert stays on")
        return None
    if path.startswith("include/"):
        return "a public header includes only public ones"
    if "/" not in name:
        return None  # its own folder
    other = name.split("/")[0]
    if is_test(path) and other == "tests":
        return None
    if own.startswith("src/"):
        mine = own.split("/")[1]
        if other == mine:
            return None
        if other not in LAYERS or mine not in LAYERS or LAYERS.index(other) > LAYERS.index(mine):
            return f"src/{mine} stands above {other}/ (or {other} is no layer of the library)"
        if name != f"{other}/{other}.h" and other != "base":  # a tool box: any of its headers
            return f"{name} is private to src/{other}: what it offers is in {other}/{other}.h"
        return None
    if own in OUTSIDE and other not in OUTSIDE[own] and name not in OUTSIDE[own]:
        return f"{own}/ uses only the public headers and {', '.join(sorted(OUTSIDE[own]))}"
    return None


@rule
def folder_includes_only_what_stands_above_it(tree):
    for path in tree.sources():
        for line, name, is_system in csource.includes(tree.text(path)):
            why = why_not_included(path, name, is_system)
            if why:
                yield f"{path}:{line}: {name}: {why}"


# ---- the door to the kernel, and other functions that have one home ----

SOCKETS = "sys_socket_open, _connect, _receive, _send (src/sys/sys.h)"
THREADS = "sys_thread_*, sys_mutex_*, sys_cond_* (src/sys/sys.h)"
MEMORY = "il_malloc, il_calloc, il_realloc, il_strdup, il_free: counted memory (base/base.h)"
PRINTING = "the library never prints: il_fail or il_log_event (base/base.h)"
INSTEAD = {
    r"socket|socketpair|bind|listen|accept4?|connect|shutdown": SOCKETS,
    r"(get|set)sockopt|getsockname|getpeername|fcntl|ioctl": SOCKETS,
    r"recv|recvfrom|recvm?msg|read|readv|pread": "sys_socket_receive or sys_socket_peek",
    r"send|sendto|sendm?msg|sendfile|write|writev|pwrite": "sys_socket_send or sys_wake_post",
    r"close": "sys_close",
    r"epoll_\w+|p?poll|p?select": "sys_poller_open, _add, _remove, _wait",
    r"eventfd(_\w+)?|pipe2?|timerfd_\w+|signalfd": "sys_wake_open, sys_wake_post",
    r"clock_gettime|gettimeofday|time|clock|timespec_get": "sys_now_ns",
    r"clock_nanosleep|nanosleep|usleep|sleep": "a timer of the loop",
    r"getrandom|getentropy|s?rand(_r)?|s?random(_r)?|arc4random\w*|[del]rand48": "sys_random",
    r"pthread_\w+|thrd_\w+|mtx_\w+|cnd_\w+|tss_\w+|call_once|sem_\w+|sched_yield": THREADS,
    r"syscall": "a function of src/sys",
    r"open|openat|creat|fopen|fdopen|opendir": "a function of src/sys: the library opens no files",
    r"fork|vfork|system|popen|exec[lv]p?e?|posix_spawnp?": "nothing: the library starts no process",
    r"getaddrinfo|gethostby\w+|getnameinfo": "net_resolve: it asks c-ares, and blocks nobody",
    r"malloc|calloc|realloc|reallocarray|strdup|strndup|v?asprintf|free": MEMORY,
    r"printf|vprintf|fprintf|vfprintf|dprintf|puts|fputs|putchar|perror": PRINTING,
    r"assert": "il_assert, which stays on",
    r"exit|_exit|abort": "il_assert",
    r"strtok|strerror|localtime|gmtime|asctime|ctime|sprintf|strcpy|strcat|alloca": "its safe form",
}
CALL = re.compile(r"(?<![\w.>])(" + "|".join(INSTEAD) + r")\s*\(")
THREAD_LOCAL = re.compile(r"\b(_Thread_local|thread_local|__thread)\b")

# file: what it may call itself, because it is that function's home
HOMES = {
    "src/base/assert.c": {"write", "abort"},  # dying must need nothing that could be broken
    "src/base/memory.c": {"malloc", "calloc", "realloc", "free"},
    # The depot of stacks is the process's, as malloc's arenas are: older than any world and shared by all.
    "src/rt/stack_depot.c": {"pthread_mutex_lock", "pthread_mutex_unlock", "pthread_atfork"},
}


def instead_of(function):
    return next(text for pattern, text in INSTEAD.items() if re.fullmatch(pattern, function))


@rule
def kernel_is_reached_through_sys_only(tree):
    used = {path: set() for path in HOMES}
    for path in tree.sources("src"):
        if path.startswith("src/sys/") or is_test(path):
            continue
        code = csource.without_comments(tree.text(path), keep_strings=False)
        for line, match in find(code, CALL):
            if match[1] in HOMES.get(path, ()):
                used[path].add(match[1])
            else:
                yield f"{path}:{line}: {match[1]}(): instead: {instead_of(match[1])}"
        for line, match in find(code, THREAD_LOCAL):
            yield (f"{path}:{line}: {match[1]}: a fiber may go on in another thread; instead: "
                   "sys_thread_self() (src/sys/sys.h)")
    for path, functions in HOMES.items():
        if tree.has(path):
            for function in sorted(functions - used[path]):
                yield f"{path}: no longer calls {function}(): take it off the list in tests/house/rules.py"


# ---- the public headers ----


@rule
def public_function_says_who_may_call_it(tree):
    for path in csource.public_headers(tree.paths):
        in_head = re.search(r"\bThreads?:", csource.head_comment(tree.text(path)))
        for declaration in csource.public_declarations(tree.root, path):
            if not declaration.name:
                yield f"{path}:{declaration.line}: IL_API marks something that is not an il_ name"
            elif not declaration.comment:
                yield f"{path}:{declaration.line}: {declaration.name} has no comment above it"
            elif not in_head and not re.search(r"\b[Tt]hreads?\b", declaration.comment):
                yield (f"{path}:{declaration.line}: {declaration.name}: neither its comment nor the head of the "
                       "file says `Thread: ...`")


@rule
def il_map_lists_every_public_symbol_and_no_other(tree):
    if not tree.has("src/il.map"):
        return
    listed = csource.exported_names(tree.text("src/il.map"))
    public = {}
    for path in csource.installed_headers(tree.root, tree.paths):
        for declaration in csource.public_declarations(tree.root, path):
            if declaration.name in public:
                yield f"{path}:{declaration.line}: {declaration.name} is declared a second time"
            public[declaration.name] = f"{path}:{declaration.line}"
    for name in sorted(set(filter(None, public)) - set(listed)):
        yield f"{public[name]}: {name} is not in src/il.map (make symbols)"
    for name in sorted(set(listed) - set(public)):
        yield f"src/il.map: {name} is in no public header (make symbols)"


@rule
def public_header_is_installed(tree):
    installed = csource.installed_headers(tree.root, tree.paths)
    for path in csource.public_headers(tree.paths):
        if path not in installed:
            yield f"{path}: not in include/interloop/meson.build"


def compiles(command, source, root):
    """The compiler's first words, or None when it is content."""
    out = subprocess.run(command + ["-I" + os.path.join(root, "include"), "-fsyntax-only", "-"], text=True,
                         input=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return None if out.returncode == 0 else "\n    ".join(out.stdout.splitlines()[:6])


STRICT = ["-Wall", "-Wextra", "-pedantic", "-Werror"]


def public_headers_compile(tree, command):
    try:
        subprocess.run(command[:1] + ["--version"], stdout=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise Skip(f"{command[0]} is not here")
    for path in csource.public_headers(tree.paths):
        line = f"#include <{path[len('include/'):]}>\n"
        why = compiles(command, line + line + "typedef int not_empty;\n", tree.root)
        if why:
            yield f"{path}: does not compile alone with {' '.join(command[:4])}:\n    {why}"


@rule
def public_header_compiles_alone_as_c11(tree):
    yield from public_headers_compile(tree, ["gcc", "-std=c11", "-x", "c"] + STRICT)


@rule
def public_header_compiles_alone_as_cpp17(tree):
    yield from public_headers_compile(tree, ["clang++", "-std=c++17", "-x", "c++"] + STRICT)


# ---- documents ----


@rule
def every_error_code_is_documented(tree):
    if not tree.has("include/interloop/error.h"):
        return
    header = re.sub(r"\s*\\\n\s*", " ", tree.text("include/interloop/error.h"))
    header = re.sub(r'"\s+"', "", header)  # a text on two lines
    codes = re.findall(r"\bX\((\w+),\s*(\d+),\s*\"([^\"]*)\"\)", header)
    document = tree.text("docs/errors.md") if tree.has("docs/errors.md") else ""
    if not codes:
        yield "include/interloop/error.h: no codes found in IL_CODES"
    for name, number, text in codes:
        section = re.search(rf"^## IL_{name} \((\d+)\)\n+(.*?)(?=^## |\Z)", document, re.MULTILINE | re.DOTALL)
        if not section:
            yield f"docs/errors.md: no section `## IL_{name} ({number})`"
        elif section[1] != number:
            yield f"docs/errors.md: IL_{name} is {number}, not {section[1]}"
        elif text not in re.sub(r"\n> ", " ", section[2]):
            yield f"docs/errors.md: IL_{name} does not quote its text: {text}"
    for name in re.findall(r"^## IL_(\w+) ", document, re.MULTILINE):
        if name not in [code[0] for code in codes]:
            yield f"docs/errors.md: IL_{name} is no error code"


@rule
def link_in_a_document_leads_somewhere(tree):
    folders = {os.path.dirname(path) for path in tree.paths}
    for path in tree.paths:
        if not path.endswith(".md"):
            continue
        for line, match in find(tree.text(path), r"\]\(([^)\s#]+)[^)]*\)"):
            target = os.path.normpath(os.path.join(os.path.dirname(path), match[1]))
            if "://" not in match[1] and not match[1].startswith("mailto:") \
                    and not tree.has(target) and target not in folders:
                yield f"{path}:{line}: there is no {target}"


# ---- every file ----

# In pieces, so that this file is not its own first finding.
UNFINISHED = r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b"
MACHINE = r"(?<![\w.])/(wo" + r"rk|tmp/w|ro" + r"ot)/[\w.]"
HOSTS = (r"\b(deb\.debian\.org|(security|snapshot)\.debian\.org|pypi\.org|files\.pythonhosted\.org|"
         r"registry\.npmjs\.org|(index|static)?\.?crates\.io(?!-index)|(proxy|sum)\.golang\.org|"
         r"[\w.-]+\.pkg\.dev|(registry|index)[\w.-]*\.docker\.io|quay\.io|ghcr\.io)\b")
TEXT_LIMIT = 1 << 20  # a larger file is data
LINES_MAX = 1000


def text_files(tree):
    for path in tree.paths:
        if os.path.getsize(os.path.join(tree.root, path)) <= TEXT_LIMIT and "\0" not in tree.text(path):
            yield path


@rule
def nothing_is_left_unfinished(tree):
    for path in text_files(tree):
        for line, match in find(tree.text(path), UNFINISHED):
            yield f"{path}:{line}: {match[1]}"


@rule
def no_file_names_the_machine_it_was_written_on(tree):
    for path in text_files(tree):
        if path == "tests/house/rules.py":
            continue  # the patterns themselves
        for pattern in (MACHINE, HOSTS):
            for line, match in find(tree.text(path), pattern):
                yield f"{path}:{line}: {match[0]}"


@rule
def no_source_is_longer_than_1000_lines(tree):
    for path in text_files(tree):
        name = os.path.basename(path)
        if name.endswith((".c", ".h", ".py", ".sh", ".md", ".S", ".rs", ".go")) or "." not in name:
            count = tree.text(path).count("\n")
            if count > LINES_MAX:
                yield f"{path}: {count} lines; a file is one idea (200 to 800 lines)"


@rule
def source_opens_with_what_it_is(tree):
    for path in tree.sources():
        # what a unit test is about, the names of its tests say
        if path.endswith("_test.c"):
            continue
        if not tree.text(path).startswith(f"/* {os.path.basename(path)}: "):
            yield f"{path}:1: does not open with `/* {os.path.basename(path)}: what it owns, who may touch it`"


@rule
def comment_is_for_keeping(tree):
    for path in tree.sources():
        code = re.sub(r"/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), tree.text(path), flags=re.DOTALL)
        code = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', code)
        for line, _ in find(code, r"//"):
            yield f"{path}:{line}: `//` is scratch: /* ... */ is for keeping"


@rule
def source_is_part_of_the_build(tree):
    for path in tree.sources("src", "lab", "doctor", "load", "cli", "examples", "tests"):
        if not path.endswith(".c") or path.startswith("tests/install/"):
            continue  # install: what a user would build, by hand
        folder = os.path.dirname(path)
        while True:
            build = os.path.join(folder, "meson.build")
            relative = os.path.relpath(path, folder or ".")
            if tree.has(build) and re.search(rf"'{re.escape(relative)}'", tree.text(build)):
                break
            # a list of names to which `.c` is added, as example programs are
            if tree.has(build) and re.search(rf"'{re.escape(relative[:-2])}'", tree.text(build)):
                break
            if not folder:
                yield f"{path}: no meson.build names it"
                break
            folder = os.path.dirname(folder)


@rule
def script_can_be_read_by_its_interpreter(tree):
    for path in tree.paths:
        full = os.path.join(tree.root, path)
        first = tree.text(path).split("\n", 1)[0] if os.path.getsize(full) <= TEXT_LIMIT else ""
        if path.endswith(".py") or (first.startswith("#!") and "python" in first):
            try:
                compile(tree.text(path), path, "exec")
            except SyntaxError as error:
                yield f"{path}:{error.lineno}: {error.msg}"
        elif path.endswith(".sh") or re.match(r"#!.*\b(ba|da)?sh\b", first):
            out = subprocess.run(["bash", "-n", full], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            if out.returncode != 0:
                yield f"{path}: {out.stdout.strip()}"


@rule
def source_is_formatted(tree):
    out = subprocess.run([os.path.join(tree.root, "tools/format"), "--check"], text=True,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if out.returncode == 3:
        raise Skip(out.stdout.strip())
    places = dict.fromkeys(re.findall(r"^(\S+):\d+:\d+: (?:error|warning): code should be", out.stdout, re.MULTILINE))
    for path in places:
        yield f"{path}: not formatted (make format)"
    if out.returncode != 0 and not places:
        yield out.stdout.strip()
