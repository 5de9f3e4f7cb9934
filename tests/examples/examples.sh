#!/bin/bash
# examples.sh: every example runs against the project's own server, and says what it should.
. "$(dirname "$0")/../check.sh"

server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$CHECK_ROOT"' EXIT
coproc SERVE { exec "$IL_BUILD/interloop" serve --json; }
server=$SERVE_PID
read -r -t 20 line <&"${SERVE[0]}" || { echo "interloop serve did not start"; exit 1; }
port=$(sed -n 's/.*"port": *\([0-9]*\).*/\1/p' <<<"$line")
[ -n "$port" ] || { echo "no port in: $line"; exit 1; }

# Run an example; its output is in the file `out`.
run() {
    timeout 30 "$IL_BUILD/examples/example-$1" "http://127.0.0.1:$port/id/token" >out || fail "exit status $?: $(cat out)"
    cat out
}

says() { # a line, and how often
    [ "$(grep -cxF -- "$1" out)" = "$2" ] || fail "want $2 times: $1"
}

default_client_serves_two_runtimes_and_a_thread_over_one_connection() {
    run default_client
    says "task of A: status 200, 5 bytes" 1
    says "task of B: status 200, 5 bytes" 1
    says "main thread: status 200, 5 bytes" 1
    says "1 connection, opened in A, moved 2 times" 1
}

single_serves_its_own_tasks_and_others() {
    run single
    says "task of the single runtime: status 200, 5 bytes" 1
    says "task of another runtime: status 200, 5 bytes" 1
    says "main thread: status 200, 5 bytes" 1
}

per_runtime_refuses_the_other_runtime() {
    run per_runtime
    says "task of A: status 200, 5 bytes" 1
    grep -q "^task of B: refused: client 'A' belongs to runtime 'A'" out || fail "not refused"
}

factory_lets_go_of_clients_whose_runtimes_have_ended() {
    run factory
    says "task of a short-lived runtime: status 200, 5 bytes" 3
    says "main thread: status 200, 5 bytes" 1
    says "clients now: 1" 1
}

proxy_serves_others_until_its_owner_ends() {
    run proxy
    says "task of another runtime: status 200, 5 bytes" 1
    says "main thread: status 200, 5 bytes" 1
    grep -q "^after the owner's end: proxy 'proxy': runtime 'owner'" out || fail "no clear error"
}

service_answers_all_ten() {
    run service
    says "task of another runtime: status 200, 5 bytes" 10
}

every_example_is_named_in_the_readme_and_run_here() {
    for source in "$IL_SOURCE"/examples/*.c; do
        name=$(basename "$source" .c)
        grep -qF "[$name.c]($name.c)" "$IL_SOURCE/examples/README.md" || fail "$name is not in the README"
        grep -qx "    run $name" "$IL_SOURCE/tests/examples/examples.sh" || fail "$name is not run"
    done
}

example_without_a_url_says_how_it_is_used() {
    for source in "$IL_SOURCE"/examples/*.c; do
        name=example-$(basename "$source" .c)
        "$IL_BUILD/examples/$name" 2>err && fail "$name: no failure"
        [ "$?" = 2 ] || fail "$name: exit status"
        grep -q "^usage: " err || fail "$name: $(cat err)"
    done
}

check default_client_serves_two_runtimes_and_a_thread_over_one_connection
check single_serves_its_own_tasks_and_others
check per_runtime_refuses_the_other_runtime
check factory_lets_go_of_clients_whose_runtimes_have_ended
check proxy_serves_others_until_its_owner_ends
check service_answers_all_ten
check every_example_is_named_in_the_readme_and_run_here
check example_without_a_url_says_how_it_is_used
check_done
