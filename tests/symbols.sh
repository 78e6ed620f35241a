#!/bin/sh
# SPDX-License-Identifier: MIT
# REQ C1: contexts, host threads and timers are the host's own (ucontext, pthreads, POSIX timers), and
# the library exports its public functions and nothing else.
# Usage: symbols.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

build=${1:-${top_builddir:-.}}
so=$build/.libs/libkstacksim.so
nm=${NM:-nm}
bad=0

if ! [ -f "$so" ]; then
    echo "symbols: $so is not there (make it, or give the build folder)"
    exit 77
fi
# shellcheck disable=SC2086 # nm may come with options
undefined=$($nm -D --undefined-only "$so" | awk '{ sub(/@.*/, "", $NF); print $NF }')
# shellcheck disable=SC2086
defined=$($nm -D --defined-only "$so" | awk '$(NF - 1) != "A" { sub(/@.*/, "", $NF); print $NF }')
if [ -z "$undefined" ] || [ -z "$defined" ]; then
    echo "symbols: $nm finds nothing in $so"
    exit 1
fi

for name in getcontext makecontext swapcontext pthread_create pthread_join timer_create timer_settime \
    sigaction sigaltstack; do
    if ! printf '%s\n' "$undefined" | grep -qxF -- "$name"; then
        echo "symbols: $name of the host is not used"
        bad=1
    fi
done
foreign=$(printf '%s\n' "$defined" | grep -vE '^(kss_.*|__stack_chk_fail)$')
if [ -n "$foreign" ]; then
    echo "symbols: exported, but not public:" "$foreign"
    bad=1
fi
for name in kss_machine_create kss_machine_run kss_syscall kss_last_error kss_sched_rr; do
    if ! printf '%s\n' "$defined" | grep -qxF -- "$name"; then
        echo "symbols: $name is not exported"
        bad=1
    fi
done
[ "$bad" -eq 0 ] && echo "symbols: $(printf '%s\n' "$defined" | wc -l | tr -d ' ') exported, all of them kss_ but for the compiler's __stack_chk_fail; ucontext, pthreads and POSIX timers in use"
exit "$bad"
