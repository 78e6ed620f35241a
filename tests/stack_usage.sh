#!/bin/sh
# SPDX-License-Identifier: MIT
# The frames that a walk over a stack measures are those that the compiler planned: for each function of static
# size the same number, return address included, as in the .su file of -fstack-usage.
# Usage: stack_usage.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

build=${1:-${top_builddir:-.}}
target=$build/tests/stack_usage_target
if ! [ -x "$target" ]; then
    echo "stack_usage: $target is not there: the compiler has no -fstack-usage"
    exit 77
fi
su=$(find "$build/tests" -name '*stack_usage_target*.su' | head -n 1)
if [ -z "$su" ]; then
    echo "stack_usage: the compiler has written no .su file for stack_usage_target.c"
    exit 1
fi

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
if ! "$target" >"$tmp/measured"; then
    cat "$tmp/measured"
    exit 1
fi

# GCC: file:line:column:name, size with the return address; clang: file:line:name, size without it.
awk -F '\t' '{
    n = split($1, place, ":")
    sub(/\..*/, "", place[n])
    print place[n], $2 + (place[n - 1] ~ /^[0-9]+$/ && place[n - 2] ~ /^[0-9]+$/ ? 0 : 8), $3
}' "$su" >"$tmp/planned"

awk '
NR == FNR { planned[$1] = $2; kind[$1] = $3; next }
!($1 in planned) { print $1 ": not in the .su file"; bad = 1; next }
kind[$1] != "static" {
    print $1 ": " $2 " bytes measured, " kind[$1] ", " planned[$1] " without what it has at run time"
    dynamic += $2 > planned[$1]
    next
}
$2 != planned[$1] { print $1 ": " $2 " bytes measured, " planned[$1] " planned"; bad = 1; next }
{ print $1 ": " $2 " bytes, measured and planned; deepest " $3; same++ }
END {
    if (same < 9 || dynamic != 1) {
        print "stack_usage: " same + 0 " functions agree, " dynamic + 0 " is dynamic: 9 and 1 were expected"
        bad = 1
    }
    exit bad
}' "$tmp/planned" "$tmp/measured" || exit 1

# The program shows both columns, and knows a wrong number from a right one.
tool=$build/kstacksim
if ! [ -x "$tool" ]; then
    echo "stack_usage: $tool is not there"
    exit 1
fi
mkdir "$tmp/su" "$tmp/none"
printf 'a.c:1:1:checksum_file\t144\tstatic\na.c:2:1:disk_io.constprop\t8\tstatic\nb.c:9:x\t8\tdynamic,bounded\n' >"$tmp/su/a.su"
"$tool" stack --su "$tmp/su" >"$tmp/out" || exit 1
grep -q '^disk_io .* DIFFER: more than the compiler says' "$tmp/out" || {
    echo "stack_usage: a wrong size was not told:"
    cat "$tmp/out"
    exit 1
}
printf 'nonsense\n' >"$tmp/su/b.su"
"$tool" stack --su "$tmp/su" >/dev/null 2>"$tmp/out" && exit 1
grep -q 'b.su:1: ' "$tmp/out" || exit 1
"$tool" stack --su "$tmp/none" >/dev/null 2>"$tmp/out" && exit 1
grep -q 'no .su file' "$tmp/out" || exit 1
echo "stack_usage: measured frames are what the compiler planned"
