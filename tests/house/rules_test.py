#!/usr/bin/python3
"""rules_test: every house rule finds what it is there to find, in a small tree that breaks it, and
is content with a tree that does not. A rule without an example here is a failure too."""
import os
import subprocess
import tempfile

import rules
import harness

ERROR_H = """/* error.h: codes. */
#define IL_API __attribute__((visibility("default")))
#define IL_CODES(X) \\
    X(OK, 0, "no error") \\
    X(EBAD, 1, "it is bad, and " \\
               "that takes two lines")
"""
PUBLIC_H = """/* client.h: clients. */
#ifndef CLIENT_H
#define CLIENT_H
#include "interloop/error.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Opens one. Thread: any. */
IL_API int il_client_open(void (*on_done)(void *arg), void *arg);
IL_API int il_client_open_twice(void);

IL_API int il_client_count(void); /* How many. Any thread. */

#ifdef __cplusplus
}
#endif
#endif
"""
GOOD = {
    "include/interloop/meson.build": "install_headers('client.h', 'error.h')\n",
    "include/interloop/error.h": ERROR_H,
    "include/interloop/client.h": PUBLIC_H,
    "docs/errors.md": "## IL_OK (0)\n> no error\n\n## IL_EBAD (1)\n> it is bad, and\n> that takes two lines\n",
    "src/il.map": "X_0 {\nglobal:\n il_client_open;\n il_client_open_twice;\n il_client_count;\nlocal: *;\n};\n",
    "src/base/base.h": "/* base.h: all. */\n#include <stdio.h>\n",
    "src/base/meson.build": "files('pool.c', 'pool_test.c')\n",
    "src/base/pool.c": '/* pool.c: says "//" and may not malloc(). */\n#include "base.h"\n\n'
                       'const char *a = "http://host/ read(fd)";\nint b = sys_close(1) + pool->read(2);\n',
    "src/base/pool_test.c": '#include "tests/check.h"\n#include <pthread.h>\nint a = close(1);\n',
    "src/base/pool_check.h": '/* pool_check.h: shared. */\n#include "tests/check.h"\nint a = fork();\n',
    "src/net/net.h": '/* net.h: network. */\n#include "base/bytes.h"\n#include "sys/sys.h"\n#include <ares.h>\n',
    "src/sys/sys.h": '/* sys.h: kernel. */\n#include <sys/epoll.h>\nstatic int a = close(1);\n',
    "lab/server.c": '/* server.c: serves. */\n#include <llhttp.h>\n#include <pthread.h>\n\n#include "base/base.h"\n',
    "lab/lab.h": "/* lab.h: lab. */\n",
    "lab/meson.build": "files('server.c')\n",
    "cli/main.c": '/* main.c: the command. */\n#include "interloop/client.h"\n#include "lab/lab.h"\n',
    "cli/meson.build": "files('main.c')\n",
    "examples/one.c": '/* one.c: one. */\n#include <interloop/client.h>\n',
    "examples/meson.build": "foreach name : ['one']\n",
    "doctor/doctor.h": '/* doctor.h: finds. */\n#include "base/base.h"\n',
    "tests/check.h": "/* check.h: harness. */\n",
    "README.md": "see [errors](docs/errors.md#x), [the tools](tools), [it](https://example.org/a)\n",
    "tools/run.sh": "#!/bin/bash\nmktemp -t aXXXXXX\n",
    "tools/run.py": "print('fine')\n",
    "tools/format": "#!/bin/bash\ntrue\n",
    "bench/Cargo.lock": "registry+https://github.com/rust-lang/crates.io-index\n",
}

# rule: (what to put in place of a file of GOOD, what the finding must say), one or more
BAD = {
    "folder_includes_only_what_stands_above_it": [
        ({"src/base/pool.c": '/* */\n#include "net/net.h"\n'}, "src/base/pool.c:2: net/net.h"),
        ({"src/net/net.h": '/* */\n#include "loop/poller.h"\n'}, "private to src/loop"),
        ({"src/net/net.h": '/* */\n#include "../base/base.h"\n'}, "src/net/net.h:2"),
        ({"src/net/net.h": '/* */\n#include "lab/lab.h"\n'}, "lab/lab.h"),
        ({"src/base/pool.c": "/* */\n#include <pthread.h>\n"}, "<pthread.h> is for src/sys"),
        ({"src/base/pool.c": "/* */\n#include <assert.h>\n"}, "il_assert"),
        ({"lab/server.c": '/* */\n#include "net/net.h"\n'}, "lab/server.c:2"),
        ({"lab/lab.h": '/* */\n#include "base/base.h"\n'}, "lab/lab.h:2"),
        ({"lab/lab.h": "/* */\n#include <llhttp.h>\n"}, "lab/lab.h:2"),
        ({"cli/main.c": '/* */\n#include "base/base.h"\n'}, "cli/main.c:2"),
        ({"examples/one.c": '/* */\n#include "lab/lab.h"\n'}, "examples/one.c:2"),
        ({"doctor/doctor.h": '/* */\n#include "net/net.h"\n'}, "doctor/doctor.h:2"),
        ({"include/interloop/client.h": '/* */\n#include "base/base.h"\n'}, "only public ones"),
    ],
    "kernel_is_reached_through_sys_only": [
        ({"src/base/pool.c": "int a = close(1);\n"}, "pool.c:1: close(): instead: sys_close"),
        ({"src/base/pool.c": "\nint a = clock_gettime(1, 0);\n"}, "pool.c:2: clock_gettime()"),
        ({"src/base/pool.c": "int a = pthread_mutex_lock(0);\n"}, "sys_mutex_"),
        ({"src/base/pool.c": "void *a = malloc (1);\n"}, "il_malloc"),
        ({"src/base/pool.c": "int a = getrandom(0);\n"}, "sys_random"),
        ({"src/base/pool.c": "int a = !epoll_create1(0);\n"}, "sys_poller_open"),
        ({"src/base/pool.c": 'int a = printf("x");\n'}, "never prints"),
        ({"src/base/pool.c": "static _Thread_local int a;\n"}, "sys_thread_self"),
        ({"src/base/assert.c": "int a = 1;\n"}, "no longer calls write()"),
    ],
    "public_function_says_who_may_call_it": [
        ({"include/interloop/client.h": PUBLIC_H.replace(" Thread: any.", "")}, "il_client_open_twice: neither"),
        ({"include/interloop/client.h": PUBLIC_H.replace("/* Opens one. Thread: any. */\n", "")}, "no comment above"),
        ({"include/interloop/client.h": PUBLIC_H.replace(" Any thread.", "")}, "il_client_count: neither"),
        ({"include/interloop/client.h": PUBLIC_H.replace(" il_client_open(", " client_open(")}, "not an il_ name"),
    ],
    "il_map_lists_every_public_symbol_and_no_other": [
        ({"src/il.map": "X_0 {\nglobal:\n il_client_open;\n};\n"}, "il_client_open_twice is not in"),
        ({"src/il.map": GOOD["src/il.map"].replace("local", "il_gone;\nlocal")}, "il_gone is in no public"),
        ({"include/interloop/client.h": PUBLIC_H.replace("_twice", "")}, "a second time"),
    ],
    "public_header_is_installed": [
        ({"include/interloop/meson.build": "install_headers('error.h')\n"}, "client.h: not in"),
    ],
    "public_header_compiles_alone_as_c11": [
        ({"include/interloop/client.h": PUBLIC_H + "struct open_end { int a; };\n"}, "redefinition"),
        ({"include/interloop/client.h": PUBLIC_H.replace("twice(void)", "twice(size_t size)")}, "size_t"),
        ({"include/interloop/client.h": PUBLIC_H.replace('#include "interloop/error.h"\n', "")}, "IL_API"),
    ],
    "public_header_compiles_alone_as_cpp17": [
        ({"include/interloop/client.h": PUBLIC_H.replace("twice(void)", "twice(int class)")}, "client.h: does not compile"),
    ],
    "every_error_code_is_documented": [
        ({"docs/errors.md": "## IL_OK (0)\n> no error\n"}, "IL_EBAD (1)"),
        ({"docs/errors.md": GOOD["docs/errors.md"].replace("(1)", "(2)")}, "IL_EBAD is 1, not 2"),
        ({"docs/errors.md": GOOD["docs/errors.md"].replace("two", "three")}, "does not quote"),
        ({"docs/errors.md": GOOD["docs/errors.md"] + "## IL_EOLD (9)\n"}, "IL_EOLD is no error code"),
        ({"include/interloop/error.h": "/* error.h: none */\n"}, "no codes found"),
    ],
    "link_in_a_document_leads_somewhere": [
        ({"README.md": "\nsee [errors](docs/eror.md)\n"}, "README.md:2: there is no docs/eror.md"),
        ({"docs/errors.md": "[up](../READYOU.md)\n"}, "there is no READYOU.md"),
    ],
    "nothing_is_left_unfinished": [
        ({"tools/run.py": "# TO" "DO: later\n"}, "tools/run.py:1"),
        ({"src/base/pool.c": "\n/* FIX" "ME */\n"}, "pool.c:2"),
    ],
    "no_file_names_the_machine_it_was_written_on": [
        ({"tools/run.sh": "#!/bin/bash\ncd /wo" "rk/main\n"}, "tools/run.sh:2"),
        ({"docs/errors.md": "from https://registry." "npmjs.org/x\n"}, "docs/errors.md:1"),
        ({"docs/errors.md": "see static.crates" ".io\n"}, "docs/errors.md:1"),
    ],
    "no_source_is_longer_than_1000_lines": [
        ({"src/base/pool.c": "\n" * 1001}, "pool.c: 1001 lines"),
        ({"tools/format": "#!/bin/bash\n" * 1001}, "tools/format: 1001 lines"),
    ],
    "source_opens_with_what_it_is": [
        ({"src/base/pool.c": "/* another.c: x */\n"}, "pool.c:1"),
        ({"src/base/pool.c": "int a;\n"}, "pool.c:1"),
    ],
    "comment_is_for_keeping": [
        ({"src/base/pool.c": '/* pool.c: x */\nconst char *a = "//"; // scratch\n'}, "pool.c:2"),
    ],
    "source_is_part_of_the_build": [
        ({"src/base/meson.build": "files('pool.c')\n"}, "pool_test.c"),
        ({"examples/meson.build": "foreach name : ['two']\n"}, "examples/one.c"),
    ],
    "script_can_be_read_by_its_interpreter": [
        ({"tools/run.sh": "#!/bin/bash\nif\n"}, "tools/run.sh"),
        ({"tools/run.py": "def (:\n"}, "tools/run.py:1"),
    ],
    "source_is_formatted": [
        ({"tools/format": "#!/bin/bash\necho src/a.c:1:2: error: code should be clang-formatted\nexit 1\n"},
         "src/a.c: not formatted"),
        ({"tools/format": "#!/bin/bash\necho broken\nexit 1\n"}, "broken"),
    ],
}


def findings(rule, files):
    with tempfile.TemporaryDirectory() as root:
        for path, text in files.items():
            full = os.path.join(root, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as file:
                file.write(text)
        os.chmod(os.path.join(root, "tools/format"), 0o755)
        return list(rule(rules.Tree(root)))


def check_rule(rule):
    """What is wrong with a rule; nothing if it works."""
    for finding in findings(rule, GOOD):
        yield f"finds fault with a good tree: {finding}"
    if not BAD.get(rule.__name__):
        yield "has no example that breaks it"
    for change, wanted in BAD.get(rule.__name__, []):
        found = findings(rule, {**GOOD, **change})
        if not any(wanted in finding for finding in found):
            yield f"does not find `{wanted}` in {change}, but {found}"


def git_and_archive_list_the_same_files():
    """The files of a checkout and of an unpacked archive of it."""
    with tempfile.TemporaryDirectory() as root:
        for path in ("a.c", "src/b.c", "build-x/c.c"):
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                file.write("\n")
        plain = rules.csource.project_files(root)
        try:
            subprocess.run(["git", "init", "-q", root], check=True)
        except OSError:
            raise harness.Skip("git is not here")
        with open(os.path.join(root, ".git/info/exclude"), "w", encoding="utf-8") as file:
            file.write("/build*/\n")
        if not plain == rules.csource.project_files(root) == ["a.c", "src/b.c"]:
            yield f"archive: {plain}, git: {rules.csource.project_files(root)}"


if __name__ == "__main__":
    harness.run([("rule_finds_what_it_is_for: " + rule.__name__, lambda rule=rule: check_rule(rule))
                 for rule in rules.RULES]
                + [("git_and_archive_list_the_same_files", git_and_archive_list_the_same_files)])
