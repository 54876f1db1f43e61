# shellcheck shell=bash
# The reference implementation's miner, translator and pool, built once from their published sources into the cache.
#
#   sri_prepare        exports ADIT_SRI_MINING_DEVICE, ADIT_SRI_TRANSLATOR and ADIT_SRI_POOL
#   sri_pool_prepare   exports only the last
#
# Each may be set beforehand to a program of your own; it is then not built.

# sri_install ROOT PACKAGE VERSION PROGRAM: builds one program with the versions that its authors locked.
sri_install() {
    local root=$1 package=$2 version=$3 program=$4
    if [ -x "$root/bin/$program" ] && grep -qF "\"$package $version " "$root/.crates.toml" 2>/dev/null; then
        return
    fi
    need "building $package" g++ command -v c++
    say "building $program of $package $version, once (ten minutes on two cores)"
    CARGO_TARGET_DIR="$root/target" cargo install --quiet --locked --root "$root" --version "$version" \
        --bin "$program" "$package" ||
        fail "could not build $package $version" "see the compiler's message above; it comes from Rust's package registry"
}

sri_pool_prepare() {
    local root="${cache:?common.sh sets it}/sri"
    mkdir -p "$root"
    if [ -z "${ADIT_SRI_POOL:-}" ]; then
        sri_install "$root" pool_sv2 0.7.0 pool_sv2
        ADIT_SRI_POOL="$root/bin/pool_sv2"
    fi
    # Nothing but the programs is needed any more, and the rest is large.
    rm -rf "$root/target"
    export ADIT_SRI_POOL
}

sri_prepare() {
    local root="${cache:?common.sh sets it}/sri"
    mkdir -p "$root"
    if [ -z "${ADIT_SRI_TRANSLATOR:-}" ]; then
        sri_install "$root" translator_sv2 0.6.0 translator_sv2
        ADIT_SRI_TRANSLATOR="$root/bin/translator_sv2"
    fi
    if [ -z "${ADIT_SRI_MINING_DEVICE:-}" ]; then
        sri_install "$root" integration_tests_sv2 0.6.0 mining_device
        ADIT_SRI_MINING_DEVICE="$root/bin/mining_device"
    fi
    sri_pool_prepare
    export ADIT_SRI_TRANSLATOR ADIT_SRI_MINING_DEVICE
}
