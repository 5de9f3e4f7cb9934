#!/bin/bash
# setup.sh: tools/setup installs what is missing, or says what to type; played out in a world of
# stand-ins for dpkg-query, apt-get, id and sudo, in which nothing else is on the PATH.
. "$(dirname "$0")/../check.sh"

# Makes a world in the check's folder: $1 is the user id, $2 the packages that are installed.
world() {
    mkdir bin
    for tool in bash env sed cat mktemp rm tail; do
        ln -s "$(type -P "$tool")" bin/
    done
    printf '%s\n' $2 >installed
    stand_in id "echo $1"
    stand_in dpkg-query 'shift 3; for p in "$@"; do
        while read -r i; do [ "$i" != "$p" ] || echo "ii  $p"; done <installed
    done'
    stand_in apt-get 'echo "apt-get $*" >>calls
        [ ! -e apt-fails ] || { echo "E: the archive is on fire"; exit 100; }
        [ ! -e apt-lies ] || exit 0
        case " $* " in *" install "*) shift $(($# < 6 ? $# : 6)); printf "%s\n" "$@" >>installed ;; esac'
}

stand_in() { # name, body
    printf '#!%s\n%s\n' "$(type -P bash)" "$2" >"bin/$1"
    chmod +x "bin/$1"
}

# Runs tools/setup in the world; its words are in `said`, its exit status in $status.
setup() {
    : >calls
    status=0
    PATH=$PWD/bin "$(type -P bash)" "$IL_SOURCE/tools/setup" "$@" >said 2>&1 </dev/null || status=$?
    cat said calls
}

expect_status() {
    [ "$status" = "$1" ] || fail "exit status $status, want $1"
}

said() {
    grep -qF -- "$1" said || fail "does not say: $1"
}

# What building needs, without the packages named.
all_but() {
    local package
    for package in $("$IL_SOURCE/tools/setup" --list build); do
        [[ " $* " == *" $package "* ]] || echo "$package"
    done
}

nothing_is_called_and_nothing_said_when_nothing_is_missing() {
    world 1000 "$(all_but)"
    setup build
    expect_status 0
    [ ! -s said ] && [ ! -s calls ]
}

root_installs_what_is_missing_and_only_that() {
    world 0 "$(all_but meson)"
    setup build
    expect_status 0
    grep -q 'install --no-install-recommends meson$' calls || fail "meson was not installed alone"
}

tests_need_what_building_needs_and_more() {
    world 0 ""
    setup test
    expect_status 0
    for package in gcc meson clang libclang-rt-dev; do
        grep -qx "$package" installed || fail "$package was not installed"
    done
}

user_with_sudo_installs_through_it() {
    world 1000 ""
    stand_in sudo 'echo "sudo $*" >>calls; shift; case $1 in true) ;; *) exec "$@" ;; esac'
    setup build
    expect_status 0
    grep -q '^sudo -n env DEBIAN_FRONTEND=noninteractive apt-get ' calls || fail "not through sudo"
}

user_without_root_is_told_the_command() {
    world 1000 "$(all_but meson libc-ares-dev)"
    setup build
    expect_status 3
    said "apt-get update && apt-get install --no-install-recommends meson libc-ares-dev"
    [ ! -s calls ] || fail "apt-get was called"
}

user_whose_sudo_refuses_is_told_the_command() {
    world 1000 ""
    stand_in sudo 'exit 1'
    setup build
    expect_status 3
    said "As root, type:"
    [ ! -s calls ] || fail "apt-get was called"
}

system_without_apt_is_told_what_is_missing() {
    world 0 ""
    rm bin/apt-get bin/dpkg-query
    setup build
    expect_status 3
    said "there is no apt-get here"
    said "command meson (Debian package: meson)"
    said "header ares.h (Debian package: libc-ares-dev)"
}

tool_that_is_there_without_its_package_counts() {
    world 1000 "$(all_but meson)"
    stand_in meson 'exit 0'
    setup build
    expect_status 0
}

failing_apt_is_quoted_after_a_second_attempt_with_new_lists() {
    world 0 ""
    touch apt-fails
    setup build
    expect_status 3
    said "E: the archive is on fire"
    said "apt-get could not install: gcc"
    grep -q ' update$' calls || fail "the package lists were not brought up to date"
}

what_is_still_missing_after_installing_is_named() {
    world 0 "$(all_but meson)"
    touch apt-lies
    setup build
    expect_status 3
    said "installed, and still not found:"
    said "command meson"
}

check_only_looks() {
    world 0 ""
    setup --check build
    expect_status 3
    said "command meson (Debian package: meson)"
    [ ! -s calls ] || fail "apt-get was called"
}

unknown_purpose_is_wrong_usage() {
    world 0 ""
    setup nonsense
    expect_status 2
}

check nothing_is_called_and_nothing_said_when_nothing_is_missing
check root_installs_what_is_missing_and_only_that
check tests_need_what_building_needs_and_more
check user_with_sudo_installs_through_it
check user_without_root_is_told_the_command
check user_whose_sudo_refuses_is_told_the_command
check system_without_apt_is_told_what_is_missing
check tool_that_is_there_without_its_package_counts
check failing_apt_is_quoted_after_a_second_attempt_with_new_lists
check what_is_still_missing_after_installing_is_named
check check_only_looks
check unknown_purpose_is_wrong_usage
check_done
