#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs every example as a user would, good input and bad, and looks at what it says.
# REQ I8 P2 (the narrated runs), P11 (deep_path)
top=${top_builddir:-.}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
failed=0
# An input of at least 1 MiB that every machine has: the library itself is smaller, so make one.
awk 'BEGIN { for (i = 0; i < 60000; i++) printf "%07d line of the input\n", i }' > "$tmp/input"

fail() {
    echo "FAILED: $*"
    failed=$((failed + 1))
}

# expect STATUS PATTERN COMMAND...: exit status, and a pattern in the output (both streams).
expect() {
    want=$1 pattern=$2
    shift 2
    "$@" > "$tmp/out" 2>&1 < "${stdin:-/dev/null}"
    got=$?
    if [ "$got" != "$want" ]; then
        fail "$* ended with $got, not $want"
        tail -n 20 "$tmp/out"
    elif ! grep -q -- "$pattern" "$tmp/out"; then
        fail "$* did not say \"$pattern\""
        tail -n 20 "$tmp/out"
    else
        echo "ok: $*" | sed "s|$tmp|TMP|g"
    fi
}

ex=$top/examples
expect 0 'EFAULT\|fault' "$ex/hello_syscall"
expect 0 'EFAULT\|fault' "$ex/hello_syscall" --entry gate
expect 0 'timer' "$ex/timer_story"
printf 'one\ntwx\177o\n' > "$tmp/keys"
stdin=$tmp/keys expect 0 'two' "$ex/keyboard_echo"
expect 0 'preempt' "$ex/two_threads"
expect 0 'ZOMBIE\|zombie' "$ex/zombie"
expect 0 'ZOMBIE\|zombie' "$ex/zombie" --free
expect 0 'high-water' "$ex/recursion"
expect 0 'overflow' "$ex/recursion" --overflow
expect 0 'all 2 CPUs were in the kernel at once' "$ex/many_cpus" # REQ M4
expect 0 'all 5 CPUs were in the kernel at once' "$ex/many_cpus" --cpus 5
expect 2 '1 to 16 are allowed' "$ex/many_cpus" --cpus 17
expect 0 'kernel stack overflow' "$ex/deep_path" # REQ P11
grep -q '^kernel stack of thread .*(reader), RUNNING' "$tmp/out" || fail "no picture of the deepest point"
grep -q 'socket_deliver+' "$tmp/out" || fail "the network's path is not in the report of the overflow"
grep -q 'driver_start_request+' "$tmp/out" || fail "nor the file system's"
grep -q "bytes are as they were" "$tmp/out" || fail "no word on the bystander's stack"
awk '$1 == "a" && $4 == "kernel" && $NF == $2 { a = 1 }
     $1 == "b" && $5 == "fits" && $6 < $2 && $10 == $6 + $7 + $8 + $9 { b = 1; small = $2 }
     $1 == "c" && $4 == "fits" && $5 > small && $5 < $2 && $9 == $5 + $8 { c = 1 }
     END { exit !(a && b && c) }' "$tmp/out" || fail "deep_path's table is not what it should be"
for p in hello_syscall timer_story keyboard_echo two_threads zombie recursion many_cpus preempted_write deep_path; do
    expect 0 'usage' "$ex/$p" --help
    expect 2 'usage\|invalid\|unrecognized' "$ex/$p" --no-such-option
done

pw=$ex/preempted_write
expect 0 'equals' "$pw" "$tmp/input" "$tmp/copy"
cmp -s "$tmp/input" "$tmp/copy" || fail "the copy differs"
grep -q 'stack pointer .* saved' "$tmp/out" || fail "no context switch in the story"
grep -q 'DMA on output is done' "$tmp/out" || fail "no completion in the story"
grep -q 'kernel stack of thread' "$tmp/out" || fail "no picture of the blocked writer's stack"
grep -q ' NO$' "$tmp/out" && fail "an interrupt account does not add up"
expect 0 'equals' "$pw" --entry gate --tick 5000 --chunk 4096 --rate 0 --seek 0 "$tmp/input" "$tmp/copy"
expect 0 '"equal":true' "$pw" --json "$tmp/input" "$tmp/copy"
if command -v python3 > /dev/null; then
    python3 -c 'import json,sys; json.load(open(sys.argv[1]))' "$tmp/out" || fail "--json is not JSON"
fi
: > "$tmp/empty"
expect 0 'equals' "$pw" "$tmp/empty" "$tmp/copy"
expect 1 "can't read" "$pw" "$tmp/missing" "$tmp/copy"
expect 1 'directory' "$pw" /tmp "$tmp/copy"
expect 1 'directory' "$pw" "$tmp/input" /tmp
expect 1 'same file' "$pw" "$tmp/input" "$tmp/input"
expect 1 'No space left' "$pw" "$tmp/input" /dev/full
expect 1 "can't open" "$pw" "$tmp/input" "$tmp/no/such/place"
expect 1 'tick_hz is 0' "$pw" --tick 0 "$tmp/input" "$tmp/copy"
expect 1 'tick_hz is 1000000' "$pw" --tick 1000000 "$tmp/input" "$tmp/copy"
expect 1 'kstack_size is 1000' "$pw" --kstack 1000 "$tmp/input" "$tmp/copy"
expect 1 'kstack_size is 2048.*at least' "$pw" --kstack 2048 "$tmp/input" "$tmp/copy"
expect 1 'bytes of memory' "$pw" --kstack 1125899906842624 "$tmp/input" "$tmp/copy"
expect 2 'a number from' "$pw" --chunk x "$tmp/input" "$tmp/copy"
expect 2 'usage' "$pw" "$tmp/input"
cmp -s "$tmp/input" "$tmp/input" || fail "the input has changed"

# Interrupted, it stops in order: told so, with what had been done. It is slow enough to be met.
"$pw" --rate 64 "$tmp/input" "$tmp/copy" > "$tmp/out" 2>&1 &
pid=$!
while [ ! -s "$tmp/copy" ] && kill -0 "$pid" 2> /dev/null; do :; done
kill -INT "$pid" 2> /dev/null
wait "$pid"
got=$?
[ "$got" = 130 ] || fail "interrupted, it ended with $got, not 130"
grep -q 'incomplete' "$tmp/out" || fail "interrupted, it did not say that the output is incomplete"

[ "$failed" = 0 ] || exit 1
echo "all examples behave"
