#!/bin/sh
# SPDX-License-Identifier: MIT
# The layers: the kernel (lib/) sees no host, the machine (sim/) sees no policy, one file set knows the
# processor, and whoever uses the library sees include/ only.
set -u
LC_ALL=C
export LC_ALL

if [ -n "${top_srcdir:-}" ]; then
    top=$top_srcdir
else
    top=$(dirname -- "$0")/..
fi
cd -- "$top" || exit 1
if ! [ -f lib/platform.h ]; then
    echo "layers: $top is not the source tree"
    exit 1
fi

bad=0
scanned=0

# code FILE [nostrings]: the file without comments; every line keeps its number.
code()
{
    awk -v nostrings="${2:-}" '
    {
        out = ""
        n = length($0)
        for (i = 1; i <= n; i++) {
            c = substr($0, i, 1)
            two = substr($0, i, 2)
            if (comment) {
                if (two == "*/") { comment = 0; i++; out = out " " }
            } else if (quote != "") {
                if (c == "\\") { if (!nostrings) out = out two; i++ }
                else if (c == quote) { quote = ""; out = out c }
                else if (!nostrings) out = out c
            } else if (two == "/*") { comment = 1; i++ }
            else if (two == "//") break
            else { if (c == "\"" || c == "\047") quote = c; out = out c }
        }
        quote = ""
        print out
    }' "$1"
}

# forbid FILE TEXT PATTERN MESSAGE: TEXT is the code of FILE.
forbid()
{
    found=$(printf '%s\n' "$2" | grep -nE -- "$3") || return 0
    bad=1
    printf '%s\n' "$found" | while IFS= read -r line; do
        echo "$1:${line%%:*}: $4:${line#*:}"
    done
}

# The names of headers in some folders as alternatives of a pattern.
names()
{
    for header in "$@"; do
        [ -f "$header" ] && basename -- "$header"
    done | sed 's/\./\\./g' | paste -sd '|' -
}

include='^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]'
host='signal\.h|pthread\.h|ucontext\.h|sys/ucontext\.h|sys/mman\.h|sys/syscall\.h|libunwind[^>"]*'
calls='(^|[^[:alnum:]_])(mmap|munmap|mprotect|madvise|sigaction|sigaltstack|pthread_[a-z_]+|u?context_t|'
calls="$calls"'getcontext|makecontext|swapcontext|setcontext|timer_create)([^[:alnum:]_]|$)'
regs='(^|[^[:alnum:]_])([re][abcd]x|[re][sd]i|[re][sb]p|[re]ip|r(8|9|1[0-5])|[re]flags|xmm[0-9]+|mxcsr|'
regs="$regs"'REG_[A-Z0-9]+|__x86_64__|rt_sigreturn)([^[:alnum:]_]|$)|%%?[fg]s([^[:alnum:]_]|$)'
sim=$(names sim/*.h)
lib=$(names lib/*.h)

for file in lib/*.[ch]; do
    scanned=$((scanned + 1))
    text=$(code "$file")
    forbid "$file" "$text" "$include([^\">]*/)?sim/|$include($sim)[\">]" "the kernel includes a header of sim/"
    forbid "$file" "$text" "$include($host)[\">]" "the kernel includes a header of the host"
    text=$(code "$file" nostrings)
    forbid "$file" "$text" "$calls" "the kernel calls the host"
done

for file in sim/*.[chS]; do
    scanned=$((scanned + 1))
    text=$(code "$file")
    rest=$(printf '%s\n' "$text" | sed 's/"platform\.h"/ /')
    forbid "$file" "$rest" "$include([^\">]*/)?lib/|$include($lib)[\">]" \
        "the machine includes a header of the kernel that is not platform.h"
done

for file in lib/*.[ch] sim/*.[chS]; do
    case $file in
    sim/*x86_64*) continue ;;
    esac
    forbid "$file" "$(code "$file")" "$regs" "a register of x86-64 outside sim/*x86_64*"
done

for file in examples/*.[chS] tests/*.[chS] tests/*.cc bench/*.[chS] tools/*.[chS]; do
    [ -f "$file" ] || continue
    scanned=$((scanned + 1))
    text=$(code "$file")
    forbid "$file" "$text" "$include([^\">]*/)?(lib|sim)/|$include($lib|$sim)[\">]" \
        "a header that is not public"
done
for file in examples/local.mk tests/local.mk bench/local.mk tools/local.mk; do
    forbid "$file" "$(sed 's/#.*//' "$file")" '-I[^[:space:]]*/(lib|sim)([^[:alnum:]]|$)' "an include path that is not public"
done

if [ "$scanned" -lt 50 ]; then
    echo "layers: only $scanned files found in $top"
    exit 1
fi
[ "$bad" -eq 0 ] && echo "layers: $scanned files keep to their layer"
exit "$bad"
