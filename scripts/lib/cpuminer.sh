# shellcheck shell=bash
# An SV1 miner for processors that somebody else wrote, built once from its published source into the cache.
#
#   cpuminer_prepare   exports ADIT_CPUMINER
#
# It is the one in Parasite pool's toolkit, `para miner`, which Rust's package registry has whole. No Debian release from 11 to 13 carries
# pooler's cpuminer, the usual one; whoever has it sets ADIT_CPUMINER to the program `minerd`, and the same tests run with that.

cpuminer_prepare() {
    if [ -z "${ADIT_CPUMINER:-}" ]; then
        need_cargo_program para 0.6.0
        ADIT_CPUMINER="${cache:?common.sh sets it}/tools/bin/para"
    fi
    case "${ADIT_CPUMINER##*/}" in
    para* | minerd*) ;;
    *) fail "ADIT_CPUMINER names $ADIT_CPUMINER, which is neither para nor minerd" "name one of these, or none" ;;
    esac
    "$ADIT_CPUMINER" --version >/dev/null ||
        fail "$ADIT_CPUMINER does not start" "see its message above; without ADIT_CPUMINER one is built"
    export ADIT_CPUMINER
}
