#!/bin/sh
# SPDX-License-Identifier: MIT
# tests/every.def has every public function once: none is left out of the tests of bad input.
set -u
LC_ALL=C
export LC_ALL

top=${top_srcdir:-$(dirname -- "$0")/..}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

# A public function is the first name with a parenthesis behind KSS_API; what has none is a variable.
cat "$top"/include/kstacksim/*.h | tr '\n' ' ' | sed 's/KSS_API/\n&/g' |
    sed -n 's/^KSS_API [^(;{#]*[ *]\(kss_[a-z0-9_]*\)(.*/\1/p' | sort >"$tmp/headers"
sed -n 's/^X(\(kss_[a-z0-9_]*\), .*\1(.*/\1/p' "$top/tests/every.def" | sort >"$tmp/table"

if [ "$(wc -l <"$tmp/headers")" -lt 100 ]; then
    echo "every: only $(wc -l <"$tmp/headers") public functions found in $top/include/kstacksim"
    exit 1
fi
if ! diff "$tmp/headers" "$tmp/table" >"$tmp/diff"; then
    echo "every: public functions that tests/every.def does not call (<), has twice, or has and are none (>):"
    cat "$tmp/diff"
    exit 1
fi
echo "every: $(wc -l <"$tmp/table" | tr -d ' ') public functions are called with bad input"
