#!/bin/sh
# SPDX-License-Identifier: MIT
# Everything that must hold, from a fresh clone on Debian 12. Its last line is "N passed, N failed".
cd "$(dirname "$0")/.." || exit 1
top=$PWD
passed=0 failed=0
log=$(mktemp -d) || exit 1
trap 'rm -rf "$log"' EXIT

# step NAME COMMAND...: shows the command's progress, counts it, keeps going.
step() {
    name=$1
    shift
    echo "== $name"
    start=$(date +%s)
    "$@" > "$log/out" 2>&1 < /dev/null &
    pid=$!
    while kill -0 "$pid" 2> /dev/null; do
        sleep 2
        [ -t 1 ] && printf '\r   %s s, %s lines ' "$(($(date +%s) - start))" "$(wc -l < "$log/out")"
    done
    [ -t 1 ] && printf '\r'
    if wait "$pid"; then
        passed=$((passed + 1))
        echo "   passed ($(($(date +%s) - start)) s)"
    else
        failed=$((failed + 1))
        tail -n 60 "$log/out"
        echo "   FAILED: $name"
    fi
}

# The tests that make check ran count one by one, not as a step of their own.
count_tests() {
    p=$(sed -n 's/^# PASS: *//p' "$log/out" | tail -n 1)
    f=$(sed -n 's/^# \(FAIL\|ERROR\): *//p' "$log/out" | awk '{ n += $1 } END { print n + 0 }')
    echo "   tests: ${p:-0} passed, ${f:-0} failed"
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0}))
    [ -f "$1/test-suite.log" ] && [ "${f:-0}" != 0 ] && tail -n 200 "$1/test-suite.log"
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
    exit $?
}

# shellcheck disable=SC2317 # called through step
build() {
    rm -rf "${top:?}/$1" && mkdir "$top/$1" && cd "$top/$1" || return 1
    shift
    "$top/configure" --enable-werror "$@" && make -j"$(nproc)"
}

step "packages" sh tools/packages.sh check
step "bootstrap" ./bootstrap
step "configure and build (gcc)" build _gcc
[ "$failed" = 0 ] || finish
jobs=$(nproc)
# Passes after the first leave out what they would only repeat.
# shellcheck disable=SC2016 # make's variables
live='TESTS=$(LIVE_TESTS) $(ERROR_TESTS) tests/examples.sh'
step "make check" make -C _gcc -j"$jobs" check
count_tests _gcc
step "make check, call gate" env KSS_TEST_ENTRY=gate KSS_TEST_PREEMPTIONS=20000 make -C _gcc -j"$jobs" check "$live"
count_tests _gcc
step "make check, order of locks" env KSS_TEST_LOCK_ORDER=1 KSS_TEST_PREEMPTIONS=5000 make -C _gcc -j"$jobs" check "$live"
count_tests _gcc
step "configure and build (clang, costly checks)" build _clang CC=clang CXX=clang++ --enable-checks
step "make check (clang)" env KSS_TEST_PREEMPTIONS=20000 make -C _clang -j"$jobs" check
count_tests _clang
step "configure and build (UBSan)" build _ubsan CFLAGS="-O1 -g -fsanitize=undefined -fno-sanitize-recover=all" \
    LDFLAGS=-fsanitize=undefined
step "make check (UBSan)" env KSS_TEST_PREEMPTIONS=5000 make -C _ubsan -j"$jobs" check
count_tests _ubsan
step "configure and build (ASan)" build _asan CFLAGS="-O1 -g -fsanitize=address" LDFLAGS=-fsanitize=address
step "make check (ASan)" env KSS_TEST_PREEMPTIONS=5000 make -C _asan -j"$jobs" check
count_tests _asan
step "configure and build (fuzzer)" build _fuzz CC=clang CXX=clang++ CFLAGS="-O1 -g" --enable-fuzzers
# shellcheck disable=SC2016 # the inner shell's
step "fuzzer, 40 s" sh -c 'sh fuzz/make-corpus.sh "$1/corpus" && _fuzz/fuzz/fuzz_api -max_total_time=40 "$1/corpus"' sh "$log"
step "soak, 60 s" env KSS_SOAK_SECONDS=60 make -C _gcc soak
# shellcheck disable=SC2016 # make's variables
step "make check, 4 CPUs" env KSS_TEST_CPUS=4 KSS_TEST_PREEMPTIONS=5000 make -C _gcc -j"$jobs" check 'TESTS=$(SMP_TESTS)'
count_tests _gcc
step "bench runs" sh -c 'make -C _gcc bench/kss_bench && _gcc/bench/kss_bench --rounds 1 --json'
step "shell scripts" shellcheck bootstrap tools/quickstart.sh tools/check.sh tools/packages.sh tests/*.sh fuzz/*.sh
step "make distcheck" env KSS_TEST_PREEMPTIONS=20000 make -C _gcc -j"$jobs" distcheck
finish
