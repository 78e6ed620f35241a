#!/bin/sh
# SPDX-License-Identifier: MIT
# REQ K9: gdb lists and unwinds all simulated threads, in a live program and in its core file; and its
# commands stay calm when memory is damaged or debug information is missing.
# Usage: gdb_commands.sh [BUILDDIR]
set -u
LC_ALL=C
export LC_ALL

here=$(cd -- "$(dirname -- "$0")" && pwd) || exit 1
build=${1:-${top_builddir:-.}}
target=$build/tests/gdb_commands_target
script=$here/../tools/gdb/kstacksim-gdb.py
gdb=${GDB:-gdb}
make=${MAKE:-make}

if ! command -v "$gdb" >/dev/null 2>&1; then
    echo "gdb_commands: gdb is not installed"
    exit 77
fi
if [ "$("$gdb" -nx -batch -ex 'python print(6 * 7)' 2>/dev/null)" != 42 ]; then
    echo "gdb_commands: this gdb has no Python"
    exit 77
fi
if ! [ -x "$target" ]; then
    echo "gdb_commands: $target is not there (make check builds it)"
    exit 77
fi

# shellcheck disable=SC2086 # nm may come with options
if ${NM:-nm} "$target" 2>/dev/null | grep -q ' U __asan_init'; then
    echo "gdb_commands: built with AddressSanitizer, whose shadow is too large for a core file"
    exit 77
fi

tmp=$(mktemp -d) || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 1' HUP INT TERM
DEBUGINFOD_URLS=
export DEBUGINFOD_URLS
bad=0

complain()
{
    echo "gdb_commands: $*"
    bad=1
}

# session NAME GDB-ARGUMENTS...: what gdb says, in $tmp/NAME.
session()
{
    name=$1
    shift
    timeout 120 "$gdb" -nx -batch -ex 'set pagination off' -ex 'set width 0' -ex 'set confirm off' \
        -ex 'handle SIGALRM SIGURG SIGSEGV nostop noprint pass' -ex "source $script" -ex "source $tmp/attempt.py" "$@" \
        </dev/null >"$tmp/$name" 2>&1
    if grep -E 'Traceback|Python Exception|Error while executing' "$tmp/$name"; then
        complain "$name: Python's own words, instead of a sentence"
    fi
}

# section NAME MARK: what came after the mark, up to the next one.
section()
{
    awk -v mark="== $2" '/^== / { inside = $0 == mark; next } inside' "$tmp/$1"
}

# wants NAME MARK PATTERN...: these match lines of the section, in this order, others in between.
wants()
{
    name=$1
    mark=$2
    shift 2
    section "$name" "$mark" >"$tmp/lines"
    at=0
    for pattern in "$@"; do
        line=$(awk -v after="$at" -v pattern="$pattern" 'NR > after && $0 ~ pattern { print NR; exit }' "$tmp/lines")
        if [ -z "$line" ]; then
            complain "$name, $mark: no line matches '$pattern' where it should be:"
            sed 's/^/    /' "$tmp/lines"
            return
        fi
        at=$line
    done
}

# The picture as JSON: its parts follow each other from the upper guard to the lower one.
cat >"$tmp/json.py" <<'END'
import json
def whole(tid):
    k = json.loads(gdb.execute('kss-stack --json %d' % tid, to_string=True))
    parts = k['parts']
    assert k['thread'] == tid and k['canary_intact'], k
    assert parts[0]['high'] == k['high'] + k['guard_high'], k
    assert parts[-1]['low'] == k['low'] - k['guard_low'], k
    assert all(a['low'] == b['high'] for a, b in zip(parts, parts[1:])), k
    assert k['sp'] is None or any(p['low'] == k['sp'] for p in parts), k
    assert k['high'] - k['high_water'] in [p['low'] for p in parts], k
    return ' '.join(p['kind'] for p in parts)
END

# A script ends at its first error, unless that is asked for.
cat >"$tmp/attempt.py" <<'END'
def attempt(command):
    try:
        gdb.execute(command)
    except gdb.error as e:
        print(e)
END

# ---- live ----------------------------------------------------------------------------------------

cat >"$tmp/look" <<END
echo == ps\n
kss-ps
echo == blocked\n
kss-bt 4
echo == preempted\n
kss-bt 6
echo == running\n
kss-bt 2
echo == all\n
kss-bt all
echo == stack\n
kss-stack 6
echo == json\n
source $tmp/json.py
python print(whole(4)); print(whole(6)); print(whole(2)); print(whole(0))
END
cat >"$tmp/live.gdb" <<END
echo == none\n
python attempt('kss-ps')
break stop_in_user
break stop_in_kernel
run
echo == before\n
thread
bt
source $tmp/look
echo == after\n
thread
bt
echo == irq\n
kss-irq
echo == machine\n
kss-machine
echo == mistakes\n
python attempt('kss-bt')
python attempt('kss-bt soup')
python attempt('kss-bt 4711')
python attempt('kss-stack --json')
python attempt('kss-stack 3:4')
echo == kernel\n
continue
kss-bt 2
kss-stack 2
echo == core\n
kss-core $tmp/core
source $tmp/look
echo == end\n
continue
END
session live -x "$tmp/live.gdb" "$target"
if grep -qE 'ptrace: Operation not permitted|Could not trace|Cannot PTRACE' "$tmp/live"; then
    echo "gdb_commands: this host does not let gdb trace a program"
    exit 77
fi

wants live none '^no program is being debugged'
wants live ps '^ID ' '^ 0 .* idle +READY ' '^ 1 .* init +SLEEPING .*wait for a child' '^ 2 .* main +RUNNING +user +0 +0/' \
    '^ 3 +3 +2 +guest +SLEEPING +kernel .* tea$' '^ 4 .* guest +SLEEPING' '^ 5 .* guest +SLEEPING' \
    '^ 6 .* grinder +READY +kernel' '^ 7 .* stroller +READY +user'
wants live blocked 'thread 4 [(]guest[)], SLEEPING: tea' 'kernel .* in kssi_schedule ' 'kernel .* in wait_for_tea ' \
    'kernel .* in sys_drink ' 'kernel .* in kssi_trap ' 'trap +system call drink in user mode' 'user .* in kss_syscall ' \
    'user .* in guest ' 'user .* in kssi_user_start '
wants live preempted 'kernel .* in kssi_schedule ' 'kernel .* in kssi_trap ' 'trap +interrupt of line .* in kernel mode' \
    'kernel .* in sys_grind ' 'kernel .* in kssi_trap ' 'trap +system call grind in user mode' 'user .* in grinder ' \
    'user .* in kssi_user_start '
wants live running 'thread 2 [(]main[)], RUNNING on CPU 0' '^#0 +user .* in stop_in_user ' 'user .* in host ' \
    'user .* in kssi_user_start '
wants live all 'thread 0 [(]idle[)]' 'in idle_main' 'thread 1 [(]init[)]' 'in init_main' 'thread 7 [(]stroller[)]' \
    'trap +interrupt of line .* in user mode' 'user .* in stroller '
wants live stack 'kernel stack of thread 6 [(]grinder[)], READY' 'guard' 'trap frame: system call grind in user mode' \
    'sys_grind[+]' 'trap frame: interrupt .* in kernel mode, at sys_grind[+]' 'kssi_schedule[+]' '<-- stack pointer' \
    'high-water mark' 'never used: poison' 'canary, intact' 'thread_info: preempt_count' 'guard'
wants live json '^guard (padding )?trap-frame frame .* canary thread-info guard$' 'frame red-zone .*trap-frame .* unused ' \
    '^guard used unused canary thread-info guard$' '^guard padding frame '
wants live irq '^machine 0, CPU 0: user mode, interrupts on' '^LINE ' '^ +0 +14 .* timer [(]on_tick[)]'
wants live machine '^Machine 0 at 0x[0-9a-f]+: running' 'kstack_size 32768' 'context_switches [1-9]'
wants live mistakes '^kss-bt takes one thread id' '^soup is no thread id' '^there is no thread 4711' \
    '^kss-stack takes one thread id' '^there is no thread 3:4'
wants live kernel 'kernel .* in stop_in_kernel ' 'kernel .* in sys_look ' 'trap +system call look in user mode' \
    'user .* in host ' 'trap frame: system call look' 'sys_look[+]' 'stop_in_kernel' '<-- stack pointer'
wants live end 'gdb_commands_target: status 0' 'exited normally'
section live before >"$tmp/before"
section live after | diff "$tmp/before" - || complain "gdb's thread or frame is not what it was before the commands"
if section live all | grep -E 'corrupt|DAMAGED|cannot|\?\?'; then
    complain "not every thread can be unwound to its first frame"
fi
[ "$bad" -eq 0 ] && echo "gdb_commands: live: all threads, in" \
    "$(sed '/^== core$/,$d' "$tmp/live" | awk '/^== / { all = $0 == "== all" } all && /^#/' | wc -l) frames"

# ---- damaged, and without debug information --------------------------------------------------------

cat >"$tmp/damage.gdb" <<'END'
break stop_in_user
run
python
import struct
m = gdb.parse_and_eval('kssi_machines[0]').dereference()
def thread(n):
    return m['by_id'][n].dereference()
def write(address, data):
    gdb.selected_inferior().write_memory(int(address), data)
write(thread(3)['ti'], b'A' * 64)
write(int(thread(4)['ti']), b'A' * 32768)
write(thread(5)['context'], b'\x11' * 512)
write(thread(6)['tf'], b'A' * 64)
write(m['by_id'][7], b'A' * 64)
end
echo == damaged\n
python attempt('kss-ps')
python attempt('kss-bt 3')
python attempt('kss-bt 4')
python attempt('kss-bt 5')
python attempt('kss-bt 6')
python attempt('kss-stack 3')
python attempt('kss-stack 4')
python attempt('kss-stack 5')
python attempt('kss-stack 6')
python attempt('kss-stack --json 4')
python attempt('kss-bt all')
python write(m['platform'].address, b'A' * 32)
python attempt('kss-ps')
python attempt('kss-bt 3')
python attempt('kss-irq')
python attempt('kss-machine')
kill
END
session damage -x "$tmp/damage.gdb" "$target"
wants damage damaged 'DAMAGED at' 'thread 5 ' 'thread 6 ' 'trap frame at 0x[0-9a-f]+ is DAMAGED' 'canary, OVERWRITTEN' \
    'thread_info: OVERWRITTEN' '"canary_intact": false' 'a thread at 0x[0-9a-f]+ is DAMAGED' 'Machine 0 at'

if command -v strip >/dev/null 2>&1 && strip --strip-debug -o "$tmp/program" "$target" 2>"$tmp/strip"; then
    session stripped -ex 'break stop_in_user' -ex run -ex 'echo == no debug information\n' \
        -ex kss-ps -ex kill "$tmp/program"
    wants stripped 'no debug information' '^libkstacksim has no debug information here'
fi

# ---- where gdb looks for the script ----------------------------------------------------------------

# Not the outer make's flags: its job server is not for us.
unset MAKEFLAGS MFLAGS MAKELEVEL
if $make -C "$build" install-libLTLIBRARIES install-gdbDATA install-dist_gdbmodulesDATA DESTDIR="$tmp/root" \
    >"$tmp/install" 2>&1; then
    so=$(find "$tmp/root" -type f -name 'libkstacksim.so.*[0-9]')
    path=$(find "$tmp/root" -name '*-gdb.py')
    modules=$(sed -n "s/^MODULES = '\(.*\)'/\1/p" "$path")
    case $path in
    */gdb/auto-load"${so#"$tmp/root"}"-gdb.py) ;;
    *) complain "gdb does not look for ${path#"$tmp/root"}, since the library is ${so#"$tmp/root"}" ;;
    esac
    grep -qF -- "${path#"$tmp/root"}" "$so" || complain "the library does not name ${path#"$tmp/root"}"
    [ -f "$tmp/root$modules/kstacksim_gdb/commands.py" ] || complain "the script's modules are not in $modules"
else
    complain "make install fails:"
    sed 's/^/    /' "$tmp/install"
fi

# ---- core file -------------------------------------------------------------------------------------

if ! section live core | grep -q 'core file with [1-9][0-9]* simulated stacks'; then
    section live core | head -n 5
    echo "gdb_commands: no core file could be made"
    [ "$bad" -eq 0 ] && exit 77
    exit 1
fi
session post -x "$tmp/look" -ex 'echo == end\n' "$target" "$tmp/core"
# The sections after the mark "core" are what the live program showed where the core file was made.
sed '1,/^== core$/d' "$tmp/live" >"$tmp/atcore"
for mark in ps blocked preempted running all stack json; do
    section atcore "$mark" >"$tmp/expected"
    section post "$mark" >"$tmp/found"
    [ -s "$tmp/expected" ] || complain "no section $mark"
    diff "$tmp/expected" "$tmp/found" || complain "$mark: the core file shows something else than the live program"
done
[ "$bad" -eq 0 ] && echo "gdb_commands: the core file shows the same"
exit "$bad"
