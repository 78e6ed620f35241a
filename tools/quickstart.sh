#!/bin/sh
# SPDX-License-Identifier: MIT
# From a fresh clone on Debian 12 to the main example, on a real file.
set -e
cd "$(dirname "$0")/.."
top=$PWD
sh tools/packages.sh build
[ -x configure ] || { echo "making configure"; ./bootstrap > build-bootstrap.log 2>&1 || { cat build-bootstrap.log; exit 1; }; }
mkdir -p build
cd build
[ -f Makefile ] || { echo "configuring"; "$top/configure" -q; }
echo "building"
make -j"$(nproc)" --no-print-directory

# Any file of at least 1 MiB does: the C library this machine runs on, or the largest library near it.
input=$(ldd ./examples/.libs/preempted_write ./examples/preempted_write 2> /dev/null | awk '/libc\.so/ { print $3; exit }')
[ -r "$input" ] || input=$(find /usr/lib /lib -name 'libc.so.6' 2> /dev/null | head -n 1)
output=$(mktemp)
trap 'rm -f "$output"' EXIT
echo
echo "\$ examples/preempted_write $input $output"
./examples/preempted_write "$input" "$output"
