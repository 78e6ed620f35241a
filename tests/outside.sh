#!/bin/sh
# SPDX-License-Identifier: MIT
# REQ C4: installed somewhere, the library serves a program outside the tree that knows pkg-config only:
# as a shared library and statically.
# Usage: outside.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

build=${1:-${top_builddir:-.}}
build=$(cd -- "$build" && pwd) || exit 1
make=${MAKE:-make}
cc=${CC:-cc}
pc=${PKG_CONFIG:-pkg-config}

if ! [ -f "$build/libkstacksim.la" ]; then
    echo "outside: $build/libkstacksim.la is not there (make it, or give the build folder)"
    exit 77
fi
if ! command -v "$pc" >/dev/null 2>&1; then
    echo "outside: pkg-config is not installed"
    exit 77
fi

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
tmp=$(cd -- "$tmp" && pwd -P)

fail()
{
    echo "outside: $*"
    [ ! -s "$tmp/messages" ] || sed 's/^/    /' "$tmp/messages"
    exit 1
}

# ---- install ---------------------------------------------------------------------------------------

# Not the outer make's flags: its job server is not for us.
unset MAKEFLAGS MFLAGS MAKELEVEL
$make -C "$build" install DESTDIR="$tmp/root" >"$tmp/messages" 2>&1 || fail "make install failed:"
: >"$tmp/messages"
pcfile=$(find "$tmp/root" -name kstacksim.pc)
[ -f "$pcfile" ] || fail "make install put no kstacksim.pc anywhere, or two"
lib=$(find "$tmp/root" -name libkstacksim.so)
libdir=$(dirname -- "$lib")
[ -f "$lib" ] || fail "make install put no libkstacksim.so anywhere, or two"
[ -f "$libdir/libkstacksim.a" ] || fail "there is no libkstacksim.a beside $lib"
echo "outside: installed $(find "$tmp/root" -type f | wc -l | tr -d ' ') files below $tmp/root"

PKG_CONFIG_PATH=$(dirname -- "$pcfile")${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}
export PKG_CONFIG_PATH
# What DESTDIR is to make: only for kstacksim, so libunwind's flags are asked for without it.
sysroot=$tmp/root
flags()
{
    PKG_CONFIG_SYSROOT_DIR=$sysroot "$pc" "$@" kstacksim
}

# ---- a program outside the tree --------------------------------------------------------------------

mkdir "$tmp/project" && cd "$tmp/project" || exit 1
cat >hello.c <<'END'
#include <kstacksim/kstacksim.h>
#include <stdio.h>

static long child(void *arg)
{
    volatile unsigned long n = 0;
    while (n < 20000000ul)
        n++;
    (void)arg;
    return 3;
}

static long first(void *arg)
{
    int status = -1;
    long pid = kss_spawn(child, NULL, NULL);
    (void)arg;
    kss_sleep(5000000);
    return kss_wait(pid, &status) == pid && KSS_WEXITSTATUS(status) == 3 ? 42 : 1;
}

int main(void)
{
    struct kss_config config;
    struct kss_machine *machine;
    int status = -1;

    kss_config_init(&config);
    if (kss_machine_create(&machine, &config) < 0 || kss_machine_run(machine, first, NULL, &status) < 0) {
        printf("%s\n", kss_last_error());
        return 1;
    }
    kss_machine_destroy(machine);
    printf("libkstacksim %s, headers %s, exit status %d\n", kss_version(), KSS_VERSION_STRING, KSS_WEXITSTATUS(status));
    return KSS_WEXITSTATUS(status) != 42;
}
END

# attempt WHAT COMMAND...: shows the command and what it says when it fails.
attempt()
{
    what=$1
    shift
    "$@" >"$tmp/messages" 2>&1 || fail "$what: $*:"
}

run()
{
    attempt "$1" timeout 60 "./$2"
    echo "outside: $1: $(cat "$tmp/messages")"
}

version=$(flags --modversion) || fail "pkg-config does not find kstacksim"
[ -z "${VERSION:-}" ] || [ "$version" = "$VERSION" ] || fail "pkg-config says version $version, not $VERSION"

cflags=$(flags --cflags) || fail "pkg-config --cflags fails"
libs=$(flags --libs) || fail "pkg-config --libs fails"
# A library built with AddressSanitizer needs its run-time library in the program, before all others.
# shellcheck disable=SC2086 # nm may come with options
if ${NM:-nm} -D "$lib" 2>/dev/null | grep -q ' U __asan_init'; then
    cc="$cc ${LDFLAGS:--fsanitize=address}"
fi
# shellcheck disable=SC2086
attempt "shared" $cc -o hello hello.c $cflags $libs
LD_LIBRARY_PATH=$libdir${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
run "shared" hello
unset LD_LIBRARY_PATH

# shellcheck disable=SC2086 # nm may come with options
if ${NM:-nm} "$libdir/libkstacksim.a" 2>/dev/null | grep -qE ' U __(ubsan|asan|tsan)_'; then
    echo "outside: the library is built with a sanitizer: not linked statically"
    exit 0
fi

libs=$(flags --static --libs) || fail "pkg-config --static --libs fails"
# A wholly static program needs the static archives of libunwind and of libc.
echo 'int main(void) { return 0; }' >empty.c
# shellcheck disable=SC2046,SC2086
if $cc -static -o empty empty.c $("$pc" --static --libs libunwind) >"$tmp/messages" 2>&1; then
    # shellcheck disable=SC2086
    attempt "static" $cc -static -o hello_static hello.c $cflags $libs
    run "static" hello_static
else
    echo "outside: no wholly static program: the host has no static libunwind or libc"
fi
# The archive, and the host's shared libraries.
rm -f "$libdir"/libkstacksim.so*
# shellcheck disable=SC2086
attempt "archive" $cc -o hello_archive hello.c $cflags $libs
run "archive" hello_archive
exit 0
