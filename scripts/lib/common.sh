# shellcheck shell=bash
# What every script starts with: strict mode, the top of the repository, headings, and tools that are fetched when missing.
# A script sources this file first; it then stands in the top folder.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Slow foreign builds live outside the checkout, so that `git clean` and a second clone do not repeat them.
cache="${XDG_CACHE_HOME:-$HOME/.cache}/adit"

heading() { printf '\n== %s\n' "$*"; }
say() { printf '   %s\n' "$*"; }

# fail WHAT TO-DO: ends the script with what happened and what to do about it.
fail() {
    printf '\nfailed: %s\n' "$1" >&2
    printf 'to do:  %s\n' "$2" >&2
    exit 1
}

# step WHAT TO-DO COMMAND...: runs the command under a heading; when it fails, says what to do.
step() {
    local what=$1 todo=$2
    shift 2
    heading "$what"
    "$@" || fail "$what" "$todo"
}

# need PURPOSE PACKAGE TEST...: when the command TEST fails, installs the Debian package; elsewhere says what is missing.
need() {
    local purpose=$1 package=$2
    shift 2
    if "$@" >/dev/null 2>&1; then
        return
    fi
    if ! command -v apt-get >/dev/null; then
        fail "$purpose needs what Debian packages as $package" "install it with your system's package tool and run this again"
    fi
    say "installing $package ($purpose needs it)"
    as_root apt-get install --yes --quiet=2 --no-install-recommends "$package" >/dev/null 2>&1 ||
        { as_root apt-get update --quiet=2 && as_root apt-get install --yes --quiet=2 --no-install-recommends "$package" >/dev/null; } ||
        fail "could not install $package, which $purpose needs" "install it by hand and run this again"
}

# as_root COMMAND...: runs it as root, through sudo where that is needed.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    elif command -v sudo >/dev/null; then
        sudo env DEBIAN_FRONTEND=noninteractive "$@"
    else
        fail "cannot become root to run: $*" "run it as root yourself, then run this again"
    fi
}

# The compilers that every build needs.
need_compilers() {
    if ! command -v cargo >/dev/null; then
        fail "cargo is missing" "install Rust with rustup (see https://rustup.rs) and run this again"
    fi
    if ! cargo --version >/dev/null 2>&1; then
        say "installing the Rust toolchain that rust-toolchain.toml names"
        rustup toolchain install >/dev/null || fail "no pinned Rust toolchain" "run \`rustup toolchain install\` here"
    fi
    need "compiling cryptography" gcc command -v cc
    # The linker of the target's C library; gcc alone does not bring its headers.
    need "compiling cryptography" libc6-dev sh -c 'echo "#include <stdlib.h>" | cc -E -'
    need "compiling the interface to Bitcoin Core" capnproto command -v capnp
    # The descriptions that the compiler's own imports name.
    [ ! -e /etc/debian_version ] ||
        need "compiling the interface to Bitcoin Core" libcapnp-dev test -e /usr/include/capnp/c++.capnp
}

# Cargo shows its progress on a terminal, and only what is wrong elsewhere.
# shellcheck disable=SC2034 # for the scripts that source this file
if [ -t 2 ]; then cargo_quiet=(); else cargo_quiet=(--quiet); fi

# Where cargo puts the programs of the dev profile.
# shellcheck disable=SC2034 # for the scripts that source this file
programs="${CARGO_TARGET_DIR:-target}/debug"

# build_programs CARGO-OPTION...: builds programs with the features that the whole workspace asks for, so that demo, examples
# and interop share what they compile.
build_programs() {
    cargo build --locked --workspace "${cargo_quiet[@]}" "$@"
}

# need_cargo_program PROGRAM VERSION [PACKAGE]: installs a program that Rust's package registry has into the cache, and
# puts it first on the path.
need_cargo_program() {
    local program=$1 version=$2 package=${3:-$1} root="$cache/tools"
    PATH="$root/bin:$PATH"
    if [ -x "$root/bin/$program" ] && grep -qF "\"$package $version " "$root/.crates.toml" 2>/dev/null; then
        return
    fi
    say "compiling $package $version, once (some minutes)"
    cargo install --quiet --locked --root "$root" --version "$version" "$package" ||
        fail "could not install $package $version" "look at the messages above; it comes from Rust's package registry"
}

mkdir -p "$cache"
