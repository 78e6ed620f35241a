#!/bin/sh
# SPDX-License-Identifier: MIT
# The program's faults: all of them in one process, slow ticks and quick ones; what it lists, says and refuses.
# Usage: faults.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

top=${top_srcdir:-$(dirname -- "$0")/..}
build=${1:-${top_builddir:-.}}
kstacksim=$build/kstacksim
golden=$top/tests/golden/faults
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
failed=0

fail()
{
    echo "FAILED: $*"
    failed=$((failed + 1))
}

# expect STATUS PATTERN COMMAND...: exit status, and a pattern in the output (both streams).
expect()
{
    want=$1 pattern=$2
    shift 2
    "$@" >"$tmp/out" 2>&1 </dev/null
    got=$?
    if [ "$got" != "$want" ]; then
        fail "$* ended with $got, not $want"
        tail -n 40 "$tmp/out"
    elif ! grep -q -- "$pattern" "$tmp/out"; then
        fail "$* did not say \"$pattern\""
        tail -n 20 "$tmp/out"
    else
        echo "ok: $*"
    fi
}

# ---- every one, in one process ---------------------------------------------------------------------

expect 0 ' caught, 0 not caught' "$kstacksim" faults --all --tick 250
expect 0 ' caught, 0 not caught' "$kstacksim" faults --all --tick 10000
grep ' skipped: ' "$tmp/out"

# ---- names: each has a golden file, each golden file has a name ---------------------------------------------

"$kstacksim" faults | awk '{ print $1 }' | tr / . | sort >"$tmp/names"
for file in "$golden"/*.txt; do
    basename -- "$file" .txt
done | sort >"$tmp/files"
cmp -s "$tmp/names" "$tmp/files" || fail "the list and $golden differ: $(diff "$tmp/names" "$tmp/files")"

sed 's/\..*//' "$tmp/names" | sort -u | while IFS= read -r row; do
    grep -qxF -- ".B $row" "$top/man/kstacksim-faults.7" || echo "$row"
done >"$tmp/unknown"
[ -s "$tmp/unknown" ] && fail "kstacksim-faults(7) does not describe" "$(cat "$tmp/unknown")"

# ---- one of them: text and JSON ------------------------------------------------------------------------------

expect 0 'ok      culprit     recurse_too_deep()' "$kstacksim" faults kernel-stack-overflow
expect 0 'kernel NULL dereference' "$kstacksim" faults page-fault
expect 0 '^{"fault":"page-fault/kernel","result":"caught"' "$kstacksim" faults --json page-fault
[ "$(grep -c '^{"kind":"' "$tmp/out")" = 2 ] || fail "two variants of page-fault did not give two reports"
expect 0 '"row":"host-signal"' "$kstacksim" faults --json
"$kstacksim" faults --all --json --seed 7 >"$tmp/json" || fail "--all --json ended with $?"
if command -v python3 >/dev/null 2>&1; then
    python3 -c '
import json, sys
results = [o for o in map(json.loads, open(sys.argv[1])) if "fault" in o]
assert len(results) == int(sys.argv[2]), len(results)
assert all(c["ok"] for o in results for c in o.get("checks", []))' "$tmp/json" "$(wc -l <"$tmp/names")" ||
        fail "what --json printed is not what it should be"
fi

# ---- help, and what is refused ---------------------------------------------------------------------------------

expect 0 '^usage: kstacksim SUBCOMMAND' "$kstacksim" --help
expect 0 '^usage: kstacksim faults' "$kstacksim" faults --help
expect 0 '^usage: kstacksim faults' "$kstacksim" help faults
expect 0 '^kstacksim [0-9.]*, libkstacksim' "$kstacksim" version
expect 2 'no subcommand' "$kstacksim"
expect 2 "no subcommand 'none'" "$kstacksim" none
expect 2 "no fault 'none'" "$kstacksim" faults none
expect 2 "no option '--none'" "$kstacksim" faults --none
expect 2 "'--tick' needs a value" "$kstacksim" faults --tick
expect 2 "tick is '0'" "$kstacksim" faults --tick 0 page-fault
expect 2 "tick is '20001'" "$kstacksim" faults --tick 20001 page-fault
expect 2 "tick is 'x'" "$kstacksim" faults --tick=x page-fault
expect 2 "repeat is '0'" "$kstacksim" faults --repeat 0 page-fault
expect 2 "seed is '-1'" "$kstacksim" faults --seed=-1 page-fault
expect 2 "none is named" "$kstacksim" faults --repeat 3
expect 2 "beside --all" "$kstacksim" faults --all page-fault

[ "$failed" -eq 0 ] && echo "faults: $(wc -l <"$tmp/names" | tr -d ' ') of them"
[ "$failed" -eq 0 ]
