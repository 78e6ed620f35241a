#!/bin/sh
# SPDX-License-Identifier: MIT
# Writes the fuzzer's seeds into a folder. An input is 40 bytes for the configuration and what is set up, and eight
# programs of equal length: fuzz/fuzz_api.c.
# usage: make-corpus.sh FOLDER
set -eu
mkdir -p "$1"

# repeat N BYTE...: octal numbers
repeat() {
    n=$1
    shift
    while [ "$n" -gt 0 ]; do
        for byte in "$@"; do
            # shellcheck disable=SC2059 # the byte is the format
            printf "\\$byte"
        done
        n=$((n - 1))
    done
}

# seed NAME HEAD-BYTE PROGRAM-BYTE...: the head is that byte, a few times; each of the eight programs has the same
# bytes, turned a little further.
seed() {
    name=$1 head=$2
    shift 2
    {
        repeat 40 "$head"
        for turn in 1 2 3 4 5 6 7 8; do
            repeat 4 "$@"
            [ "$turn" = 8 ] && break
            first=$1
            shift
            set -- "$@" "$first"
        done
    } >"$folder/$name"
}

folder=$1
seed defaults 000 000 001 002 003
seed spawn 000 004 000 001 006 001 002 010 001
seed kernel-calls 001 017 001 000 037 020 002 010 037
seed interrupts 022 017 001 004 037 004 050 007 005 051 007
seed waits 010 017 002 007 037 007 001 001 011 002 050 002
seed faults 020 027 001 027 002 027 003 004 001 027 004
seed kernel-faults 041 017 003 023 037 023 005 023 006
seed files 034 013 177 001 002 013 024 003 100 013 204 000
seed handles 200 030 377 001 007 030 377 017 024 077 003
seed class 006 001 004 000 001 002 020 006 001 004 001
seed first-entry 010 004 002 017 001 006 037 027 003 001
seed gate 100 000 001 017 002 001 037 010 001 004 000
seed small-guards 044 017 004 023 037 023 004 017 004 023
seed host 376 377 001 007 041 020 003 141 005 031 100
