#!/usr/bin/env bash
# What is not Python: compiler, Boost (for KenLM), sox (optional audio backend). Idempotent.
# With root or passwordless sudo and apt: installs what is missing. Without: unpacks Boost under build/sysroot,
# which needs no rights, and names the command to type for the rest.
# Usage: envs/system.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1

boost_dev="libboost-program-options-dev libboost-system-dev libboost-thread-dev libboost-test-dev"

has_compiler() { command -v "${CXX:-g++}" >/dev/null && command -v make >/dev/null; }
has_venv() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }
has_sox() { sox --help 2>/dev/null | grep -w mp3 >/dev/null; } # not -q: it would end sox with SIGPIPE
# A link test sees every place the compiler sees, also conda's.
has_boost() {
    # shellcheck disable=SC2086
    printf '#include <boost/version.hpp>\nint main() { return 0; }\n' | "${CXX:-g++}" ${CPPFLAGS:-} ${CXXFLAGS:-} -x c++ - -o /dev/null ${LDFLAGS:-} \
        -lboost_program_options -lboost_system -lboost_thread -lboost_unit_test_framework 2>/dev/null
}

as_root() {
    if [ "$(id -u)" = 0 ]; then env "$@"; else sudo -n env "$@"; fi
}
can_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}
# The package lists of a machine may be old or absent: try, refresh, try again.
install() {
    local get="DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install"
    # shellcheck disable=SC2086
    as_root $get "$@" || { as_root apt-get -qq update && as_root $get "$@"; }
}

# apt reads and downloads as anyone once its lists lie in a folder of one's own.
boost_without_root() {
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || return 1
    local apt="$PWD/build/apt" sysroot="$PWD/build/sysroot"
    rm -rf "$apt" "$sysroot" "$sysroot.part" && mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/debs"
    printf 'Dir::State::Lists "%s/lists";\nDir::Cache "%s/cache";\n' "$apt" "$apt" >"$apt/apt.conf"
    export APT_CONFIG="$apt/apt.conf"
    apt-get -qq update || return 1
    local names
    # shellcheck disable=SC2086
    names=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances $boost_dev | grep '^libboost' | sort -u) || return 1
    # shellcheck disable=SC2086
    (cd "$apt/debs" && apt-get -qq download $names) || return 1
    for deb in "$apt"/debs/*.deb; do dpkg-deb -x "$deb" "$sysroot.part" || return 1; done
    mv "$sysroot.part" "$sysroot" && rm -rf "$apt" # the final name only for a complete one
}

needed=()
has_compiler || needed+=(g++ make)
has_venv || needed+=(python3-venv)
[ -d build/sysroot ] || { has_compiler && has_boost; } || needed+=($boost_dev)

if can_install; then
    [ ${#needed[@]} = 0 ] || install "${needed[@]}" || true # what is still missing is named below
    has_sox || install sox libsox-fmt-mp3 || true # optional
fi

missing=()
has_compiler || missing+=(g++ make)
has_venv || missing+=(python3-venv)
if has_compiler && ! [ -d build/sysroot ] && ! has_boost; then
    boost_without_root || missing+=($boost_dev)
fi
if [ ${#missing[@]} != 0 ]; then
    echo "Missing on this machine; type one of:"
    echo "    sudo apt-get install ${missing[*]}"
    echo "    conda env create -f envs/tools.yaml && conda activate thaw-tools"
    echo "and then the same make command again. Other systems: a C++ compiler, make and Boost's development files."
    exit 1
fi
