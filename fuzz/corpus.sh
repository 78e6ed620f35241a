#!/bin/sh
# SPDX-License-Identifier: MIT
# The fuzzer's corpus, each input once: it was interesting, or a find.
set -u
top=${top_srcdir:-$(dirname -- "$0")/..}
build=${top_builddir:-.}
tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM

sh "$top/fuzz/make-corpus.sh" "$tmp/corpus" || exit 1
if ! timeout 120 "$build/fuzz/replay" "$tmp"/corpus/* >"$tmp/out" 2>&1; then
    tail -n 60 "$tmp/out"
    exit 1
fi
echo "corpus: $(find "$tmp/corpus" -type f | wc -l | tr -d ' ') inputs"
