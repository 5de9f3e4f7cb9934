# check.sh: the harness of the tests that are shell scripts.
#
#     . "$(dirname "$0")/../check.sh"
#
#     library_is_installed() {
#         [ -e "$prefix/lib/libinterloop.a" ] || fail "no library in $prefix"
#     }
#     check library_is_installed
#     check_done
#
# A check is a function named for what holds. It runs in a subshell under `set -e`, in a folder of
# its own ($CHECK_DIR, which is removed at the end); what it prints is shown only if it fails. Call
# `check` as a plain command: in an `if` or `&&` the shell would ignore its `set -e`. The script's
# argument, if any, is a text that the names of the checks to run contain. IL_SOURCE and IL_BUILD are
# the project and its build.
# shellcheck shell=bash

set -u -o pipefail

IL_SOURCE=$(cd "${IL_SOURCE:-$(dirname "${BASH_SOURCE[0]}")/..}" && pwd)
IL_BUILD=$(cd "${IL_BUILD:-$IL_SOURCE/build}" && pwd) || exit 3
CC=${CC:-gcc}
export IL_SOURCE IL_BUILD CC

check_pattern=${1:-}
check_passed=0 check_failed=0 check_skipped=0
CHECK_ROOT=$(mktemp -d)
trap 'rm -rf "$CHECK_ROOT"' EXIT

fail() {
    printf '%s\n' "$*"
    exit 1
}

skip() {
    printf '%s\n' "$*"
    exit 77
}

check() {
    local name=$1 status
    [[ $name == *"$check_pattern"* ]] || return 0
    export CHECK_DIR=$CHECK_ROOT/$name
    mkdir -p "$CHECK_DIR"
    (
        set -e
        cd "$CHECK_DIR"
        "$@"
    ) >"$CHECK_ROOT/output" 2>&1 </dev/null
    status=$?
    case $status in
    0)
        check_passed=$((check_passed + 1))
        printf 'ok      %s\n' "$name"
        ;;
    77)
        check_skipped=$((check_skipped + 1))
        cat "$CHECK_ROOT/output"
        printf 'skipped %s\n' "$name"
        ;;
    *)
        check_failed=$((check_failed + 1))
        cat "$CHECK_ROOT/output"
        printf 'exit status %d\n' "$status"
        printf 'FAILED  %s\n' "$name"
        ;;
    esac
}

check_done() {
    local skipped=
    [ "$check_skipped" -eq 0 ] || skipped=", $check_skipped skipped"
    printf '%d passed, %d failed%s\n' "$check_passed" "$check_failed" "$skipped"
    [ "$check_failed" -eq 0 ]
    exit
}
