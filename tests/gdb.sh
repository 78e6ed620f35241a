#!/bin/sh
# SPDX-License-Identifier: MIT
# gdb stops in an interrupt handler, shows the whole way from there across the mode switch to the first
# function in user mode, and the program goes on to its end.
# Usage: gdb.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

build=${1:-${top_builddir:-.}}
target=$build/tests/gdb_target
gdb=${GDB:-gdb}

if ! command -v "$gdb" >/dev/null 2>&1; then
    echo "gdb: gdb is not installed"
    exit 77
fi
if ! [ -x "$target" ]; then
    echo "gdb: $target is not there (make check builds it)"
    exit 77
fi

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
DEBUGINFOD_URLS=
export DEBUGINFOD_URLS
# In a build with AddressSanitizer: its search for leaks can't run in a program that is being traced.
ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0
export ASAN_OPTIONS

look()
{
    timeout 120 "$gdb" -nx -batch \
        -ex 'set pagination off' -ex 'set width 0' -ex 'set confirm off' \
        -ex 'handle SIGALRM SIGURG nostop noprint pass' -ex 'handle SIGSEGV nostop noprint pass' \
        -ex 'break isr_breakpoint' -ex run -ex bt -ex delete -ex continue \
        "$target" </dev/null >"$tmp/out" 2>&1
}

# The functions of the backtrace, innermost first.
frames()
{
    sed -n -e 's/^#[0-9]* .*<signal handler called>.*/kssi_trap_entry/p' \
        -e 's/^#[0-9]* *\(0x[0-9a-f]* in \)\{0,1\}\([[:alnum:]_]*\)[.[:alnum:]]* (.*/\2/p' "$tmp/out"
}

# Each name occurs, one after the other, others in between; the last one ends the backtrace.
in_order()
{
    frames | awk -v want="$1" '
    BEGIN { n = split(want, name, " "); at = 1 }
    {
        last = $0
        if (at <= n && ($0 == name[at] || (name[at] == "kssi_trap" && $0 == "kssi_trap_again") ||
                        (name[at] == "kssi_trap_entry" && $0 ~ /^kssi_trap_exit/)))
            at++
    }
    END { exit !(at == n + 1 && last == name[n]) }'
}

# An interrupt may also come while the kernel runs, at a tick: then the backtrace has more frames.
for attempt in 1 2 3; do
    look
    if grep -qE 'ptrace: Operation not permitted|Could not trace|Cannot PTRACE' "$tmp/out"; then
        echo "gdb: this host does not let gdb trace a program"
        exit 77
    fi
    if grep -qiE 'corrupt stack|Backtrace stopped|Cannot access memory' "$tmp/out"; then
        break
    fi
    if in_order 'isr_breakpoint my_isr kssi_trap kssi_trap_entry user_inner user_function kssi_user_start' &&
        grep -q 'exited normally' "$tmp/out"; then
        echo "gdb: $(frames | wc -l | tr -d ' ') frames, from the interrupt handler to user mode's first:"
        frames | sed 's/^/    /'
        exit 0
    fi
    echo "gdb: attempt $attempt shows something else"
done
echo "gdb: not the backtrace that was expected:"
sed 's/^/    /' "$tmp/out"
exit 1
