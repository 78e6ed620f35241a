#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what is missing on Debian 12, through apt-get, with sudo where not root.
# usage: packages.sh build | check
set -e
build="gcc libc6-dev make autoconf automake libtool pkg-config libunwind-dev libbsd-dev libck-dev libsmartcols-dev libjansson-dev systemtap-sdt-dev"
check="check mandoc gdb clang g++ shellcheck xz-utils python3-minimal libxml2-utils"
want=$build
[ "${1:-build}" = check ] && want="$build $check"
missing=
for p in $want; do
    dpkg-query -W -f '${Status}' "$p" 2> /dev/null | grep -q 'ok installed' || missing="$missing $p"
done
[ -z "$missing" ] && exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
echo "installing:$missing"
$sudo apt-get update -qq
# shellcheck disable=SC2086 # a list of words
DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing > /dev/null
