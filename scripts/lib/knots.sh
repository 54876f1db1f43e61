#!/usr/bin/env bash
# Bitcoin Knots for tests, unpacked beside the system instead of installed into it.
#
#   eval "$(scripts/lib/knots.sh)"            exports ADIT_BITCOIND and ADIT_BITCOIN_CLI
#   . scripts/lib/knots.sh && knots_prepare   the same, inside another script
#
# Debian carries Knots in trixie-backports. Its packages, and every library they need down to the loader, are fetched with apt
# (which checks Debian's signatures) but with lists and state of our own, so the machine's own apt never notices; they are
# unpacked into a cache folder and started through the unpacked loader. So it works on older releases, and without root.
#
# Settings, all optional:
#   ADIT_BITCOIND       a bitcoind-compatible program to use instead; nothing is fetched then
#   ADIT_BITCOIN_CLI    the matching bitcoin-cli
#   ADIT_KNOTS_CACHE    where to unpack; default ${XDG_CACHE_HOME:-$HOME/.cache}/adit/knots
#   ADIT_DEBIAN_MIRROR  a Debian mirror to ask before those that the machine's apt sources name

knots_say() { printf 'knots: %s\n' "$*" >&2; }

# Prints the mirrors to ask, best first. A mirror without the suite costs one request; a false one fails the signature check.
knots_mirrors() {
    {
        [ -z "${ADIT_DEBIAN_MIRROR:-}" ] || printf '%s\n' "$ADIT_DEBIAN_MIRROR"
        apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null
    } | sed 's,/*$,,' | grep -v -e '-security$' -e '^file:' -e '^cdrom:' | awk '!seen[$0]++'
}

# knots_apt WORK ARGS...: apt-get that reads and writes nothing of the system's but its trust, its proxy and its logins.
knots_apt() {
    local work=$1
    shift
    apt-get -q \
        -o Dir::State="$work/state" -o Dir::State::status="$work/state/status" -o Dir::Cache="$work/cache" \
        -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts="$work/none" \
        -o Dir::Etc::preferences="$work/none/x" -o Dir::Etc::preferencesparts="$work/none" \
        -o Dir::Log="$work/log" -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 \
        -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false -o Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false \
        "$@"
}

# knots_download WORK MIRROR: puts Knots and the libraries it needs into WORK/debs.
knots_download() {
    local work=$1 mirror=$2 keyring=/usr/share/keyrings/debian-archive-keyring.gpg option=
    [ ! -e "$keyring" ] || option="[signed-by=$keyring] "
    rm -rf "$work/state" "$work/cache" "$work/debs"
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial" "$work/none" "$work/log" "$work/debs"
    : >"$work/state/status" # an empty system, so that every library counts as missing
    printf 'deb %s%s %s main\n' "$option" "$mirror" trixie "$option" "$mirror" trixie-backports >"$work/sources.list"

    knots_apt "$work" update -o APT::Update::Error-Mode=any >"$work/log/update" 2>&1 || {
        knots_say "$mirror does not serve trixie-backports: $(grep -m1 '^E:' "$work/log/update")"
        return 1
    }
    # The packages around the daemon (its service manager, mount and so on) are of no use here.
    local packages
    packages=$(knots_apt "$work" install -s --no-install-recommends -t trixie-backports bitcoin-knots 2>"$work/log/resolve" |
        awk '$1 == "Inst" && $2 ~ /^(bitcoin-knots$|lib|zlib1g)/ && $2 !~ /^libsystemd-shared/ { print $2 }')
    case "$packages" in
    *bitcoin-knots*) ;;
    *)
        knots_say "$mirror has no bitcoin-knots for $(dpkg --print-architecture): $(grep -m1 '^E:' "$work/log/resolve")"
        return 1
        ;;
    esac
    # shellcheck disable=SC2086 # one word per package is what is wanted
    (cd "$work/debs" && knots_apt "$work" -t trixie-backports download $packages) >"$work/log/download" 2>&1 || {
        knots_say "the download from $mirror failed: $(grep -m1 '^E:' "$work/log/download")"
        return 1
    }
}

# knots_wrap ROOT PROGRAM: a script that starts PROGRAM through the unpacked loader; it finds itself, so the cache may move.
knots_wrap() {
    local root=$1 program=$2 loader library
    loader=$(cd "$root" && find usr/lib* -maxdepth 2 -name 'ld-linux*.so.*' | LC_ALL=C sort | head -n 1)
    library=$(cd "$root" && find usr/lib -maxdepth 2 -name libc.so.6 | head -n 1)
    [ -n "$loader" ] && [ -n "$library" ] && [ -x "$root/usr/bin/$program" ] || return 1
    mkdir -p "$root/bin"
    cat >"$root/bin/$program" <<END
#!/bin/sh
root=\$(cd "\$(dirname "\$0")/.." && pwd -P) || exit 1
exec "\$root/$loader" --library-path "\$root/${library%/*}" "\$root/usr/bin/$program" "\$@"
END
    chmod +x "$root/bin/$program"
}

# knots_unpack WORK: makes WORK/root of WORK/debs and tries it out.
knots_unpack() {
    local work=$1 deb
    rm -rf "$work/root"
    mkdir -p "$work/root"
    for deb in "$work"/debs/*.deb; do
        dpkg-deb -x "$deb" "$work/root" || return 1
    done
    rm -rf "$work/root/usr/share" "$work/root/etc"
    knots_wrap "$work/root" bitcoind && knots_wrap "$work/root" bitcoin-cli && "$work/root/bin/bitcoind" -version >/dev/null
}

# knots_fetch CACHE: fills CACHE, all or nothing; others that want the same wait for it.
knots_fetch() (
    cache=$1
    for tool in apt-get dpkg-deb flock; do
        command -v "$tool" >/dev/null || {
            knots_say "$tool is missing: this is not a Debian-like machine. Get a bitcoind (Bitcoin Core 28 or later, or Knots)" \
                "and set ADIT_BITCOIND to it"
            exit 1
        }
    done
    mkdir -p "$(dirname "$cache")" || exit 1
    exec 9>"$cache.lock" || exit 1
    flock 9 || exit 1
    [ ! -x "$cache/bin/bitcoind" ] || exit 0
    work=$(mktemp -d "$cache.XXXXXX") || exit 1
    trap 'rm -rf "$work"' EXIT
    for mirror in $(knots_mirrors); do
        knots_say "fetching Bitcoin Knots from $mirror (about 35 MB, once)"
        knots_download "$work" "$mirror" || continue
        knots_unpack "$work" || {
            knots_say "the unpacked bitcoind does not start"
            continue
        }
        rm -rf "$cache" && mv "$work/root" "$cache" && exit 0
        exit 1
    done
    knots_say "no Debian mirror of this machine's apt sources gave the package bitcoin-knots of trixie-backports." \
        "Set ADIT_DEBIAN_MIRROR to one that has it, or ADIT_BITCOIND to a bitcoind of your own"
    exit 1
)

# Exports ADIT_BITCOIND and ADIT_BITCOIN_CLI, fetching what they name if need be.
knots_prepare() {
    if [ -z "${ADIT_BITCOIND:-}" ]; then
        local cache=${ADIT_KNOTS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/adit/knots}
        [ -x "$cache/bin/bitcoind" ] || knots_fetch "$cache" || return 1
        ADIT_BITCOIND=$cache/bin/bitcoind
        ADIT_BITCOIN_CLI=$cache/bin/bitcoin-cli
    fi
    "$ADIT_BITCOIND" -version >/dev/null || {
        knots_say "$ADIT_BITCOIND does not start"
        return 1
    }
    export ADIT_BITCOIND ADIT_BITCOIN_CLI="${ADIT_BITCOIN_CLI:-bitcoin-cli}"
}

# Sourced, this file only defines the functions.
if [ "${BASH_SOURCE[0]}" = "$0" ]; then
    set -eu -o pipefail
    knots_prepare
    printf 'export ADIT_BITCOIND=%q ADIT_BITCOIN_CLI=%q\n' "$ADIT_BITCOIND" "$ADIT_BITCOIN_CLI"
fi
