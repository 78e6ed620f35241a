#!/bin/sh
# SPDX-License-Identifier: MIT
# REQ C6: every public name has a page or a link to the page that describes it, no page describes what
# is not there, references lead somewhere, and mandoc has nothing to say.
# Usage: manpages.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

here=$(dirname -- "$0")
top=${top_srcdir:-$here/..}
build=${1:-${top_builddir:-.}}
man=$top/man
so=$build/.libs/libkstacksim.so
nm=${NM:-nm}

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
bad=0
complain()
{
    echo "manpages: $*"
    bad=1
}

# ---- what there is ---------------------------------------------------------------------------------

if ! [ -f "$so" ]; then
    echo "manpages: $so is not there (make it, or give the build folder)"
    exit 77
fi
# shellcheck disable=SC2086 # nm may come with options
$nm -D --defined-only "$so" | awk '$NF ~ /^kss_/ { sub(/@.*/, "", $NF); print $NF }' | sort -u >"$tmp/symbols"
if ! [ -s "$tmp/symbols" ]; then
    echo "manpages: $so exports no kss_ symbol"
    exit 1
fi

# Macros; structs, enums, function types and inline functions that the headers define, opaque structs among them.
for header in "$top"/include/kstacksim/*.h "$top"/include/kstacksim/*.h.in; do
    sed -n \
        -e 's/^#[[:space:]]*define[[:space:]]\{1,\}\([Kk][Ss][Ss]_[[:alnum:]_]*\).*/\1/p' \
        -e 's/^struct \(kss_[a-z_]*\)[[:space:]]*[{;].*/\1/p' \
        -e 's/^enum \(kss_[a-z_]*\)[[:space:]]*{.*/\1/p' \
        -e 's/^enum \(kss_[a-z_]*\)$/\1/p' \
        -e 's/^typedef .*(\*\(kss_[a-z_]*\))(.*/\1/p' \
        -e 's/^static inline .*[ *]\(kss_[a-z_]*\)(.*/\1/p' "$header"
done | grep -vxE 'KSS_(API|PRINTF|BEGIN_DECLS|END_DECLS)|KSTACKSIM_.*_H' | sort -u >"$tmp/types"
sort -u "$tmp/symbols" "$tmp/types" >"$tmp/names"

# ---- pages -----------------------------------------------------------------------------------------

# The names that a page's NAME section lists, one a line.
page_names()
{
    awk '
    /^\.S[Hh]/ { inside = /NAME/; next }
    inside && !/^\.\\"/ {
        sub(/^\.(B|BR|I|Nm) +/, "")
        gsub(/\\f[A-Z]|"/, "")
        text = text " " $0
    }
    END {
        sub(/ (\\-|-|\\\(en) .*/, "", text)
        n = split(text, word, /[ ,]+/)
        for (i = 1; i <= n; i++)
            if (word[i] != "")
                print word[i]
    }' "$1"
}

links=0
pages=0
: >"$tmp/described"
for file in "$man"/*.1 "$man"/*.3 "$man"/*.7; do
    name=$(basename -- "$file")
    name=${name%.*}
    target=$(sed -n '1s/^\.so \(man[0-9]\/\)\{0,1\}//p' "$file")
    if [ -n "$target" ]; then
        links=$((links + 1))
        if ! [ -f "$man/$target" ]; then
            complain "$name is a link to $target, which is not there"
            continue
        elif grep -q '^\.so ' "$man/$target"; then
            complain "$name is a link to $target, which is a link itself"
            continue
        fi
        page=$man/$target
    else
        pages=$((pages + 1))
        page=$file
        echo "$file" >>"$tmp/real"
        page_names "$file" | sed "s/\$/(${file##*.})/" >>"$tmp/described"
    fi
    page_names "$page" | grep -qxF -- "$name" ||
        complain "$name is not in the NAME section of $(basename -- "$page")"
    grep -qF -- "man/$(basename -- "$file")" "$man/local.mk" ||
        complain "$(basename -- "$file") is not in man/local.mk: run man/gen-list.sh"
    case $file in
    *.3)
        grep -qxF -- "$name" "$tmp/names" || complain "$name has a page, but the library and its headers have no such name"
        ;;
    esac
done
while IFS= read -r name; do
    [ -f "$man/$name.3" ] || complain "$name has no page"
done <"$tmp/names"
sort "$tmp/described" | uniq -d | while IFS= read -r name; do
    echo "manpages: $name is in the NAME section of two pages"
done >"$tmp/twice"
if [ -s "$tmp/twice" ]; then
    cat "$tmp/twice"
    bad=1
fi

# ---- references ------------------------------------------------------------------------------------

while IFS= read -r file; do
    sed -e 's/\\f[A-Z]//g' -e 's/"//g' -e 's/\\(en/-/g' \
        -e 's/^\.[BI]R\{0,1\} \([[:alnum:]_]*\) (\([137]\))/\1(\2)/' "$file" |
        grep -oE '(kss|KSS|kstacksim)[[:alnum:]_]*\([0-9]\)' | sort -u |
        while IFS= read -r reference; do
            section=${reference##*(}
            [ -f "$man/${reference%%(*}.${section%)}" ] ||
                echo "manpages: $(basename -- "$file") refers to $reference, which is not there"
        done
done <"$tmp/real" >"$tmp/references"
if [ -s "$tmp/references" ]; then
    cat "$tmp/references"
    bad=1
fi

# ---- mandoc ----------------------------------------------------------------------------------------

mandoc=${MANDOC:-mandoc}
if command -v "$mandoc" >/dev/null 2>&1; then
    linted=linted
    while IFS= read -r file; do
        "$mandoc" -Tlint -W warning "$file" || bad=1
    done <"$tmp/real"
else
    linted="not linted: mandoc is not installed"
fi

echo "manpages: $(wc -l <"$tmp/symbols" | tr -d ' ') symbols, $(wc -l <"$tmp/types" | tr -d ' ') macros and types;" \
    "$pages pages, $links links, $linted"
[ "$bad" -eq 0 ] || exit 1
case $linted in
linted) exit 0 ;;
*) exit 77 ;;
esac
