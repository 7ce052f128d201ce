#!/usr/bin/env bash
# Installs the peers of the interop tests that are Debian's packages: ngtcp2's client and server, and Chromium (113 MB to
# fetch). As root, or through sudo; asks for nothing that is there already. Peers from PyPI come with the group `interop`.
set -euo pipefail

packages=()
command -v gtlsclient >/dev/null || packages+=(ngtcp2-client)
PATH="$PATH:/usr/sbin" command -v gtlsserver >/dev/null || packages+=(ngtcp2-server)
command -v chromium >/dev/null || packages+=(chromium)
if ((${#packages[@]} == 0)); then
    echo "ngtcp2 and Chromium are there"
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo "no apt-get here to install ${packages[*]} with: the tests of these peers will be skipped" >&2
    exit 1
fi

elevate=()
if ((EUID != 0)); then elevate=(sudo -n); fi
export DEBIAN_FRONTEND=noninteractive
for pause in 5 20 60 0; do  # mirrors have bad moments
    if "${elevate[@]}" apt-get -o Acquire::Retries=3 update &&
        "${elevate[@]}" apt-get -o Acquire::Retries=3 install -y --no-install-recommends "${packages[@]}"; then
        exit 0
    fi
    sleep "$pause"
done
echo "could not install ${packages[*]}" >&2
exit 1
