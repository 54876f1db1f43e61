#!/usr/bin/env bash
# Bitcoin Core with its IPC interface for tests, built once into a cache folder.
#
#   eval "$(scripts/lib/core.sh)"           exports ADIT_CORE and ADIT_CORE_CLI
#   . scripts/lib/core.sh && core_prepare   the same, inside another script
#
# No distribution packages a node with IPC yet. A crate that wraps Core's validation carries Core's whole source, so cargo fetches
# it (and checks it) like any other; the node and its command line are built from that, without wallet, and only they are kept.
#
# Settings, all optional:
#   ADIT_CORE         a bitcoin-node of your own (Bitcoin Core 30 or later); nothing is built then
#   ADIT_CORE_CLI     the matching bitcoin-cli
#   ADIT_CORE_CACHE   where to keep them; default ${XDG_CACHE_HOME:-$HOME/.cache}/adit/core

# The crate that carries the source, and its version.
core_crate=libbitcoinkernel-sys
core_crate_version=0.4.1

core_say() { printf 'core: %s\n' "$*" >&2; }

# core_installed PACKAGE: whether the Debian package is there.
core_installed() { [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

# Installs what the build needs, where apt can.
core_packages() {
    local package missing=() root=()
    command -v dpkg-query >/dev/null || return 0
    for package in cmake ninja-build g++ pkg-config capnproto libcapnp-dev libevent-dev libboost-dev; do
        core_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    core_say "installing ${missing[*]}"
    [ "$(id -u)" -eq 0 ] || root=(sudo)
    root+=(env DEBIAN_FRONTEND=noninteractive apt-get --yes --quiet=2)
    "${root[@]}" install --no-install-recommends "${missing[@]}" >/dev/null 2>&1 ||
        { "${root[@]}" update && "${root[@]}" install --no-install-recommends "${missing[@]}" >/dev/null; } >&2 || {
        core_say "could not install them; install them by hand"
        return 1
    }
}

# core_source WORK: puts the source into WORK/vendor. A package of its own names the crate, so cargo needs nothing of this one.
core_source() {
    local work=$1
    mkdir -p "$work/fetch/src"
    : >"$work/fetch/src/lib.rs"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n[workspace]\n' \
        "$core_crate" "$core_crate_version" >"$work/fetch/Cargo.toml"
    cargo vendor --quiet --versioned-dirs --manifest-path "$work/fetch/Cargo.toml" "$work/vendor" >/dev/null || {
        core_say "cargo could not fetch $core_crate $core_crate_version; see its message above"
        return 1
    }
}

# core_compile WORK: builds into WORK/root, all or nothing.
core_compile() {
    local work=$1 log=$1/build.log
    {
        cmake -S "$work/vendor/$core_crate-$core_crate_version/bitcoin" -B "$work/build" -G Ninja \
            -DCMAKE_BUILD_TYPE=Release -DENABLE_IPC=ON -DENABLE_WALLET=OFF -DBUILD_TESTS=OFF -DWITH_EMBEDDED_ASMAP=OFF &&
            cmake --build "$work/build" --target bitcoin-node bitcoin-cli
    } >"$log" 2>&1 || {
        core_say "the build failed; its last words:"
        tail -n 30 "$log" >&2
        return 1
    }
    mkdir -p "$work/root/bin"
    local program
    for program in bitcoin-node bitcoin-cli; do
        strip -o "$work/root/bin/$program" "$(find "$work/build" -type f -name "$program" -perm -u+x | head -n 1)" || return 1
    done
    "$work/root/bin/bitcoin-node" -version >/dev/null
}

# core_build CACHE: fills CACHE; others that want the same wait for it.
core_build() (
    cache=$1
    mkdir -p "$(dirname "$cache")" || exit 1
    exec 9>"$cache.lock" || exit 1
    flock 9 || exit 1
    [ ! -x "$cache/bin/bitcoin-node" ] || exit 0
    core_packages || exit 1
    for tool in cargo cmake ninja capnp strip; do
        command -v "$tool" >/dev/null || {
            core_say "$tool is missing; install it, or set ADIT_CORE to a bitcoin-node of your own"
            exit 1
        }
    done
    work=$(mktemp -d "$cache.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
    core_say "building Bitcoin Core with IPC, once (about seven minutes on two cores)"
    core_source "$work" && core_compile "$work" || exit 1
    rm -rf "$cache" && mv "$work/root" "$cache"
)

# Exports ADIT_CORE and ADIT_CORE_CLI, building what they name if need be.
core_prepare() {
    if [ -z "${ADIT_CORE:-}" ]; then
        local cache=${ADIT_CORE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adit/core}
        [ -x "$cache/bin/bitcoin-node" ] || core_build "$cache" || return 1
        # A cache that outlives its machine does not bring the libraries that the node was linked with.
        "$cache/bin/bitcoin-node" -version >/dev/null 2>&1 || core_packages || return 1
        ADIT_CORE=$cache/bin/bitcoin-node
        ADIT_CORE_CLI=$cache/bin/bitcoin-cli
    fi
    "$ADIT_CORE" -version >/dev/null || {
        core_say "$ADIT_CORE does not start"
        return 1
    }
    export ADIT_CORE ADIT_CORE_CLI="${ADIT_CORE_CLI:-bitcoin-cli}"
}

# Sourced, this file only defines the functions.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -eu -o pipefail
    core_prepare
    printf 'export ADIT_CORE=%q ADIT_CORE_CLI=%q\n' "$ADIT_CORE" "$ADIT_CORE_CLI"
fi
