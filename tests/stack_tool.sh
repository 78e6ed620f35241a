#!/bin/sh
# SPDX-License-Identifier: MIT
# kstacksim stack as a user runs it: the demonstration, reports good and bad, a core file; what it draws is read by
# others. REQ K9 (folded stacks)
# Usage: stack_tool.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

build=${1:-${top_builddir:-.}}
tool=$build/kstacksim
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
bad=0

fail()
{
    echo "stack_tool: $*"
    bad=1
}

# expect STATUS PATTERN ARGUMENT...: of kstacksim stack; the pattern in either stream.
expect()
{
    want=$1 pattern=$2
    shift 2
    timeout 60 "$tool" stack "$@" >"$tmp/out" 2>&1 <"${stdin:-/dev/null}"
    got=$?
    if [ "$got" != "$want" ] || ! grep -qe "$pattern" "$tmp/out"; then
        fail "stack $*: ended with $got, not $want, or did not say \"$pattern\":"
        head -n 20 "$tmp/out"
    fi
}

well_formed()
{
    if command -v xmllint >/dev/null; then
        xmllint --noout "$1" || fail "$1 is not well-formed"
    elif python3 -c 'import xml.dom.minidom' 2>/dev/null; then
        python3 -c 'import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])' "$1" || fail "$1 is not well-formed"
    fi
}

# ---- the demonstration -----------------------------------------------------------------------------
expect 0 'kernel stack of thread [0-9]* (writer), SLEEPING: disk'
for what in 'disk_io+' '(indexer), READY' 'trap frame: timer interrupt in kernel mode' 'checksum_file+' \
    '(prober), RUNNING' 'device_handler+' 'urgent_handler+' '<-- stack pointer' '<-- high-water mark' 'canary, intact'; do
    grep -q "$what" "$tmp/out" || fail "the demonstration does not show \"$what\""
done
expect 0 '(init)' --all
expect 0 '(writer)' --thread writer
grep -q '(prober)' "$tmp/out" && fail "--thread writer shows another one"
expect 0 '(init)' --thread 1
expect 1 "no thread 'nobody'.*There are: 1 (init)" --thread nobody
expect 0 '3 stacks' --svg "$tmp/three.svg"
well_formed "$tmp/three.svg"
grep -q 'http' "$tmp/three.svg" && grep 'http' "$tmp/three.svg" | grep -vq 'http://www.w3.org/2000/svg' &&
    fail "the SVG refers to the network"
expect 0 '<svg ' --svg - --thread prober
expect 1 "can't write" --svg "$tmp/no/such/folder.svg"
[ -c /dev/full ] && expect 1 "can't write" --svg /dev/full
expect 0 '^urgent\|^checksum_block *kernel' --functions
expect 0 '^indexer;kssi_user_start;index_files;.*;\[system call\];.*;sys_index;checksum_file;.* [0-9]*$' --folded -
expect 0 'samples' --folded "$tmp/folded"
awk '!/^[^ ;]+(;.+)+ [1-9][0-9]*$/ { print "not a folded stack: " $0; bad = 1 } END { exit bad || !NR }' "$tmp/folded" ||
    fail "--folded"

# ---- the command line ------------------------------------------------------------------------------
expect 0 'usage: kstacksim stack' --help
expect 2 "no option '--no-such-option'.*help" --no-such-option
expect 2 "'--svg' needs a value" --svg
expect 2 'number of a process' --pid abc
expect 2 'takes no arguments' something
expect 2 'one of them' --thread 1 --all
expect 2 'one of them' --report x --pid 1
expect 2 'needs --exe' --core x
expect 2 'goes with --core' --exe x
expect 2 'about one stack' --report x --all
expect 2 'about the demonstration' --report x --functions

# ---- reports ---------------------------------------------------------------------------------------
"$tool" stack --report /dev/null 2>&1 | grep -q jansson && json=no || json=yes
if [ "$json" = yes ]; then
    timeout 100 "$tool" faults --json kernel-stack-overflow >"$tmp/report" || fail "no report"
    stdin=$tmp/report expect 0 'kernel stack overflow' --report -
    expect 0 '1 stack' --report "$tmp/report" --svg "$tmp/report.svg"
    well_formed "$tmp/report.svg"
    sed -n 1p "$tmp/report" >"$tmp/one"
    size=$(wc -c <"$tmp/one")
    at=1
    while [ "$at" -lt "$size" ]; do # cut anywhere, it is malformed
        head -c "$at" "$tmp/one" >"$tmp/cut"
        expect 2 "cut:1:[0-9]*: " --report "$tmp/cut"
        at=$((at + 97))
    done
    n=0
    while IFS='|' read -r text message; do
        printf '%b' "$text" >"$tmp/bad"
        expect 2 "bad.*$message" --report "$tmp/bad"
        n=$((n + 1))
    done <<'END'
|no stack in it
{}|no stack in it
[]|no stack in it
nonsense|:1:
{"stack":|:1:
{"a":1}\n{"a":\n2,}|:3:
{"a":1,"a":2}|duplicate
\0377\0376|:1:
{"a":"\0001"}|:1:
{"stack":{}}|kind
{"kind":"no-such","stack":{"kind":"task stack"}}|'kind' must be one of
{"kind":"invariant","stack":{"kind":"task"}}|'stack.kind' must be one of
{"kind":"invariant","stack":{"kind":"task stack","low":true}}|'stack.low' must be an address
{"kind":"invariant","stack":{"kind":"task stack","low":"0xzz"}}|'stack.low' must be an address
{"kind":"invariant","stack":{"kind":"task stack","low":"0x1ffffffffffffffff"}}|'stack.low' must be an address
{"kind":"invariant","stack":{"kind":"task stack","low":-1}}|'stack.low' must be an address
{"kind":"invariant","stack":{"kind":"task stack","guard_low":-1}}|'stack.guard_low' must be a whole number
{"kind":"invariant","stack":{"kind":"task stack","high_water":1.5}}|'stack.high_water' must be a whole number
{"kind":"invariant","stack":{"kind":"task stack","canary_intact":1}}|'stack.canary_intact' must be true or false
{"kind":"invariant","thread":7,"stack":{"kind":"task stack"}}|'thread' must be a string
{"kind":"invariant","frames":{},"stack":{"kind":"task stack"}}|'frames' must be an array
{"kind":"invariant","frames":[1],"stack":{"kind":"task stack"}}|'frames\[0\].kind' must be one of
{"kind":"invariant","frames":[{"kind":"user","size":"9"}],"stack":{"kind":"task stack"}}|'frames\[0\].size' must be
{"kind":"invariant","stack":{"kind":"task stack","low":"0x1000","high":"0x800"}}|no stack in it
{"kind":"invariant","stack":{"kind":"task stack","low":"0x1000","high":"0x1008"}}|that is none
{"kind":"invariant","stack":{"kind":"user stack","low":8,"high":"0xfffffffffffffff8"}}|1 TiB
{"parts":7}|'parts' must be an array
{"parts":[]}|picture has 0 parts
{"parts":[{"kind":"frame","low":1,"high":2}]}|not empty
{"low":4096,"high":8192,"parts":[{"kind":"frame","low":4096,"high":8000}]}|not all of the stack
{"low":4096,"high":8192,"parts":[{"kind":"hole","low":4096,"high":8192}]}|must be one of
END
    [ "$n" -gt 25 ] || fail "only $n malformed reports were tried"
    expect 1 "can't read" --report "$tmp/missing"
    expect 1 "can't read" --report "$tmp"
else
    echo "stack_tool: no reports: built without jansson"
fi

# ---- through gdb -------------------------------------------------------------------------------------
KSTACKSIM_GDB_SCRIPT=$tmp/missing.py expect 1 'commands for gdb are not there' --pid 1
: >"$tmp/script.py"
KSTACKSIM_GDB=$tmp/no-gdb KSTACKSIM_GDB_SCRIPT=$tmp/script.py expect 1 'gdb is needed' --pid 1

# A core file with its kernel stacks, drawn by the commands for gdb that are in the source tree. Not in a build with
# AddressSanitizer, whose shadow is too large for a core file.
gdb=${GDB:-gdb} script=$(cd "$(dirname -- "$0")/.." && pwd)/tools/gdb/kstacksim-gdb.py
target=$build/tests/gdb_commands_target
# shellcheck disable=SC2086 # nm may come with options
if ${NM:-nm} "$target" 2>/dev/null | grep -q ' U __asan_init'; then
    json=no
fi
if [ "$json" = yes ] && [ -x "$target" ] && command -v "$gdb" >/dev/null 2>&1; then
    DEBUGINFOD_URLS='' timeout 120 "$gdb" -nx -batch -ex 'handle SIGALRM SIGURG SIGSEGV nostop noprint pass' \
        -ex "source $script" -ex 'break stop_in_kernel' -ex run -ex "kss-core $tmp/core" -ex kill "$target" \
        >"$tmp/gdb" 2>&1 </dev/null
    export KSTACKSIM_GDB_SCRIPT="$script"
    if [ -f "$tmp/core" ]; then
        expect 0 '(grinder), READY' --core "$tmp/core" --exe "$target"
        grep -q '(guest), SLEEPING' "$tmp/out" || fail "the core file's sleeping thread is not shown"
        expect 0 '1 stack' --core "$tmp/core" --exe "$target" --thread grinder --svg "$tmp/core.svg"
        well_formed "$tmp/core.svg"
        grep -q 'sys_grind' "$tmp/core.svg" || fail "the preempted function is not in the SVG of the core file"
        expect 0 '(grinder)' --core "$tmp/core" --exe "$target" --thread 6
        expect 1 'no thread' --core "$tmp/core" --exe "$target" --thread 99
        expect 1 "no thread 'nobody'" --core "$tmp/core" --exe "$target" --thread nobody
    else
        echo "stack_tool: no core file: $(tail -n 1 "$tmp/gdb")"
    fi
    expect 1 'not a core dump' --core "$0" --exe "$target"
    expect 1 'No such process' --pid 999999999
else
    echo "stack_tool: no core files: gdb, jansson or the program to look at is missing, or it has a sanitizer"
fi

[ "$bad" = 0 ] || exit 1
echo "stack_tool: the demonstration, reports and bad input"
