#!/bin/bash
# readme.sh: the programs that README.md shows build, as it says, and do what it says.
. "$(dirname "$0")/../check.sh"

# The Nth C program of README.md.
program() {
    awk -v wanted="$1" '/^```c$/ { n++; inside = 1; next } /^```$/ { inside = 0 } inside && n == wanted' \
        "$IL_SOURCE/README.md"
}

# Build the Nth program against this build, as pkg-config says.
build_program() {
    program "$1" >program.c
    [ -s program.c ] || fail "README.md has no C program number $1"
    # shellcheck disable=SC2046 # options are meant to be split
    "$CC" -Wall -Wextra -Werror program.c -o program \
        $(PKG_CONFIG_PATH=$IL_BUILD/meson-uninstalled pkg-config --cflags --libs interloop)
}

# Run the program against `interloop serve`; its output goes to `said`.
run_program() {
    local server url status=0
    mkfifo ready
    "$IL_BUILD/interloop" serve --json >ready &
    server=$!
    read -r line <ready
    url=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["url"])' "$line")
    LD_LIBRARY_PATH=$IL_BUILD timeout 60 ./program "${url%/}/$1" >said || status=$?
    kill "$server"
    wait "$server" || fail "the server ended with $?"
    return $status
}

first_program_gets_an_answer() {
    build_program 1
    run_program id/blue
    [ "$(cat said)" = "200 blue" ] || fail "it said: $(cat said)"
}

second_program_moves_a_connection_from_a_runtime_that_is_not_driven() {
    build_program 2
    run_program hello
    [ "$(tr '\n' ',' <said)" = "A: 200,B: 200,1 connection, moved 1 time," ] || fail "it said: $(cat said)"
}

check first_program_gets_an_answer
check second_program_moves_a_connection_from_a_runtime_that_is_not_driven
check_done
