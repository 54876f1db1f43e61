# shellcheck shell=bash
# The reference implementation's programs, built once from their published sources into the cache.
#
#   sri_prepare [NAME...]   exports ADIT_SRI_MINING_DEVICE, ADIT_SRI_TRANSLATOR, ADIT_SRI_POOL and ADIT_SRI_JD_CLIENT, or of
#                           these only the ones of the names given: mining_device, translator, pool, jd_client.
#                           Without a name it is the first three.
#   sri_pool_prepare        sri_prepare pool
#   sri_jd_client_prepare   sri_prepare jd_client
#
# Each variable may be set beforehand to a program of your own; that one is then not built. What one call builds, it builds
# together, so that the programs share what they compile: name all that you need in one call.

# sri_install ROOT PACKAGE VERSION PROGRAM: builds one program with the versions that its authors locked.
sri_install() {
    local root=$1 package=$2 version=$3 program=$4
    if [ -x "$root/bin/$program" ] && grep -qF "\"$package $version " "$root/.crates.toml" 2>/dev/null; then
        return
    fi
    need "building $package" g++ command -v c++
    say "building $program of $package $version, once (up to ten minutes on two cores)"
    CARGO_TARGET_DIR="$root/target" cargo install --quiet --locked --root "$root" --version "$version" \
        --bin "$program" "$package" ||
        fail "could not build $package $version" "see the compiler's message above; it comes from Rust's package registry"
}

# sri_program ROOT VARIABLE PACKAGE VERSION PROGRAM: exports the variable, with a program built for it when it has none.
sri_program() {
    local root=$1 variable=$2 package=$3 version=$4 program=$5
    if [ -z "${!variable:-}" ]; then
        sri_install "$root" "$package" "$version" "$program"
        printf -v "$variable" %s "$root/bin/$program"
    fi
    export "${variable?}"
}

sri_prepare() {
    local root="${cache:?common.sh sets it}/sri" name
    mkdir -p "$root"
    [ $# -gt 0 ] || set -- translator mining_device pool
    for name; do
        case $name in
        translator) sri_program "$root" ADIT_SRI_TRANSLATOR translator_sv2 0.6.0 translator_sv2 ;;
        mining_device) sri_program "$root" ADIT_SRI_MINING_DEVICE integration_tests_sv2 0.6.0 mining_device ;;
        pool) sri_program "$root" ADIT_SRI_POOL pool_sv2 0.7.0 pool_sv2 ;;
        jd_client) sri_program "$root" ADIT_SRI_JD_CLIENT jd_client_sv2 0.6.0 jd_client_sv2 ;;
        *) fail "the reference implementation has no program called $name here" "see the names in scripts/lib/sri.sh" ;;
        esac
    done
    # Nothing but the programs is needed any more, and the rest is large.
    rm -rf "$root/target"
}

sri_pool_prepare() { sri_prepare pool; }

sri_jd_client_prepare() { sri_prepare jd_client; }
