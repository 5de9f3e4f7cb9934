#!/bin/bash
# install.sh: what `make install` puts in place is enough to build and run a program against it.
. "$(dirname "$0")/../check.sh"

# One installation for all checks: of the build under test, into a DESTDIR.
stage=$CHECK_ROOT/stage
installed() { # path below the prefix, wherever the system keeps its libraries
    find "$stage" -path "*/$1" | head -n 1
}

install_puts_everything_below_destdir() {
    make --no-print-directory -C "$IL_SOURCE" install BUILD="$IL_BUILD" DESTDIR="$stage"
    for path in libinterloop.a libinterloop.so libinterloop.so.0 pkgconfig/interloop.pc interloop/error.h \
        man/man1/interloop.1 man/man1/interloop-doctor.1 man/man3/il_client.3 man/man3/il_get.3; do
        [ -n "$(installed "$path")" ] || fail "$path is not installed"
    done
    [ "$(ls "$stage" "$stage/usr")" = "$stage:
usr

$stage/usr:
local" ] || fail "installed outside the prefix: $(ls "$stage" "$stage/usr")"
}

install_follows_prefix() {
    make --no-print-directory -n -C "$IL_SOURCE" install BUILD="$CHECK_DIR/build" PREFIX=/opt/il >commands
    grep -qF "tools/configure plain \"$CHECK_DIR/build\"" commands || fail "make install does not configure: $(cat commands)"
    PREFIX=/opt/il "$IL_SOURCE/tools/configure" plain "$CHECK_DIR/build"
    grep -qx 'prefix=/opt/il' build/meson-private/interloop.pc || fail "$(cat build/meson-private/interloop.pc)"
    PREFIX=/opt/other "$IL_SOURCE/tools/configure" plain "$CHECK_DIR/build" # a second thought is heard, too
    ninja -C build build.ninja
    grep -qx 'prefix=/opt/other' build/meson-private/interloop.pc || fail "$(cat build/meson-private/interloop.pc)"
}

pkg_config() { # as it answers a user whose root is the stage
    PKG_CONFIG_LIBDIR=$(dirname "$(installed pkgconfig/interloop.pc)"):$(pkg-config --variable pc_path pkg-config) \
        PKG_CONFIG_SYSROOT_DIR=$stage \
        PKG_CONFIG_ALLOW_SYSTEM_LIBS=1 PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1 pkg-config "$@"
}

library_is_where_the_dynamic_linker_looks() {
    multiarch=$("$CC" -print-multiarch)
    [ -n "$multiarch" ] && [ -d "/usr/lib/$multiarch" ] || skip "no multiarch system: meson decides"
    [ -e "$stage/usr/local/lib/$multiarch/libinterloop.so.0" ] || fail "it is $(installed libinterloop.so.0)"
}

pkg_config_names_the_version_of_the_project() {
    version=$(sed -n "s/^ *version : '\([0-9.]*\)',$/\1/p" "$IL_SOURCE/meson.build" | head -n 1)
    [ "$(pkg_config --modversion interloop)" = "$version" ] || fail "$(pkg_config --modversion interloop) is not $version"
}

program_links_the_shared_library() {
    # shellcheck disable=SC2046 # options are meant to be split
    "$CC" -Wall -Werror "$IL_SOURCE/tests/install/user.c" -o user $(pkg_config --cflags --libs interloop)
    readelf -d user | grep -q 'NEEDED.*\[libinterloop\.so\.0\]' || fail "does not need libinterloop.so.0"
    LD_LIBRARY_PATH=$(dirname "$(installed libinterloop.so.0)") ./user
}

program_links_the_static_library() {
    # -l: finds the archive because the shared library is not there
    mkdir lib
    cp "$(installed libinterloop.a)" lib/
    # shellcheck disable=SC2046
    "$CC" -Wall -Werror "$IL_SOURCE/tests/install/user.c" -o user $(pkg_config --cflags interloop) -Llib \
        $(pkg_config --static --libs interloop | sed 's/-L[^ ]*//g')
    ! readelf -d user | grep -q 'NEEDED.*libinterloop' || fail "needs the shared library all the same"
    ./user
}

program_in_cpp_links_the_library() {
    command -v g++ >/dev/null || skip "g++ is not here"
    # shellcheck disable=SC2046
    g++ -std=c++17 -Wall -Werror -x c++ "$IL_SOURCE/tests/install/user.c" -o user $(pkg_config --cflags --libs interloop)
    LD_LIBRARY_PATH=$(dirname "$(installed libinterloop.so.0)") ./user
}

shared_library_exports_what_il_map_lists_and_nothing_else() {
    nm -D --defined-only "$(installed libinterloop.so.0)" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort >exported
    sed -n '/^global:/,/^local:/s/^ *\(il_[a-z0-9_]*\);$/\1/p' "$IL_SOURCE/src/il.map" | sort >listed
    [ -s listed ] || fail "src/il.map lists nothing"
    diff listed exported || fail "< listed but not exported (not defined?), > exported but not listed"
}

static_library_defines_what_il_map_lists() {
    nm --defined-only "$(installed libinterloop.a)" | awk '{ print $3 }' | sort -u >defined
    sed -n '/^global:/,/^local:/s/^ *\(il_[a-z0-9_]*\);$/\1/p' "$IL_SOURCE/src/il.map" | sort >listed
    missing=$(comm -23 listed defined)
    [ -z "$missing" ] || fail "listed but not defined: $missing"
}

linked_files_are_hardened() {
    files=("$(installed libinterloop.so.0)")
    [ ! -x "$IL_BUILD/interloop" ] || files+=("$IL_BUILD/interloop")
    for file in "${files[@]}"; do
        readelf -W -l "$file" >segments
        readelf -W -d "$file" >dynamic
        grep -q 'GNU_STACK .* RW ' segments || fail "$file: its stack is executable"
        grep -q 'GNU_RELRO' segments || fail "$file: no RELRO"
        grep -Eq 'BIND_NOW|FLAGS.* NOW' dynamic || fail "$file: not bound at start"
        ! grep -q 'TEXTREL' dynamic || fail "$file: text relocations"
        readelf -h "$file" | grep -q 'Type: *DYN' || fail "$file: not position-independent"
    done
    readelf -W --dyn-syms "$(installed libinterloop.so.0)" >symbols # not a pipe: grep -q ends at the first hit
    grep -q '__stack_chk_fail' symbols || fail "no stack protector"
    grep -Eq '__[a-z]+_chk(@|$| )' symbols || fail "no checked buffer functions"
}

uninstall_leaves_no_file() {
    [ -n "$(installed libinterloop.a)" ] || fail "nothing to uninstall"
    make --no-print-directory -C "$IL_SOURCE" uninstall BUILD="$IL_BUILD"
    left=$([ ! -d "$stage" ] || find "$stage" -type f -o -type l)
    [ -z "$left" ] || fail "still there: $left"
}

check_pattern= check install_puts_everything_below_destdir # the other checks need it
check install_follows_prefix
check library_is_where_the_dynamic_linker_looks
check pkg_config_names_the_version_of_the_project
check program_links_the_shared_library
check program_links_the_static_library
check program_in_cpp_links_the_library
check shared_library_exports_what_il_map_lists_and_nothing_else
check static_library_defines_what_il_map_lists
check linked_files_are_hardened
check uninstall_leaves_no_file # the last: it takes away what the others look at
check_done
