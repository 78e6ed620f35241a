#!/bin/sh
# SPDX-License-Identifier: MIT
# Each public header stands alone, in strict C11 and in C++17, and the two programs that use them as
# strict C11 and as C++17 compile.
# Usage: headers.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

here=$(dirname -- "$0")
top=${top_srcdir:-$here/..}
build=${1:-${top_builddir:-.}}
cc=${CC:-cc}
cxx=${CXX:-c++}

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

if ! [ -f "$build/include/kstacksim/version.h" ]; then
    echo "headers: $build is not a build folder: include/kstacksim/version.h is missing"
    exit 1
fi

strict='-Wall -Wextra -Werror -pedantic-errors -fsyntax-only'
bad=0
count=0

# compile COMPILER LANGUAGE FILE WHAT: as strict as can be; both may hold more than one word.
compile()
{
    # shellcheck disable=SC2086
    if ! $1 $2 $strict -I"$top/include" -I"$build/include" "$3" >"$tmp/messages" 2>&1; then
        echo "headers: $4 does not compile with $1 $2:"
        cat "$tmp/messages"
        bad=1
    fi
}

have_cxx=yes
echo 'int main() { return 0; }' >"$tmp/probe.cc"
# shellcheck disable=SC2086
$cxx -std=c++17 -fsyntax-only "$tmp/probe.cc" >/dev/null 2>&1 || have_cxx=no

for header in "$top"/include/kstacksim/*.h "$build/include/kstacksim/version.h"; do
    name=$(basename -- "$header")
    # Alone; twice, for the guard; and with something in it, since an empty unit is not C.
    printf '#include <kstacksim/%s>\n#include <kstacksim/%s>\nint nothing;\n' "$name" "$name" >"$tmp/alone.c"
    cp "$tmp/alone.c" "$tmp/alone.cc"
    compile "$cc" -std=c11 "$tmp/alone.c" "$name"
    [ "$have_cxx" = no ] || compile "$cxx" -std=c++17 "$tmp/alone.cc" "$name"
    count=$((count + 1))
done

compile "$cc" -std=c11 "$top/tests/compile_c11.c" compile_c11.c
[ "$have_cxx" = no ] || compile "$cxx" -std=c++17 "$top/tests/compile_cxx.cc" compile_cxx.cc

if [ "$count" -lt 10 ]; then
    echo "headers: only $count headers found in $top/include/kstacksim"
    exit 1
fi
[ "$bad" -eq 0 ] || exit 1
if [ "$have_cxx" = no ]; then
    echo "headers: $count headers, C11 only: there is no C++17 compiler ($cxx)"
    exit 77
fi
echo "headers: $count headers, C11 and C++17"
