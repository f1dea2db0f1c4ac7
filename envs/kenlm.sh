#!/usr/bin/env bash
# Builds lmplz, build_binary and query into build/kenlm/bin from KenLM's source distribution (pinned by hash).
# Usage: envs/kenlm.sh PYTHON
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
unset MAKEFLAGS MAKELEVEL MFLAGS # an outer make's job server is not ours

work=$PWD/build/kenlm-work tools=$PWD/build/kenlm-work/tools
rm -rf "$work"
mkdir -p "$work"

# pip looks into a source distribution before it keeps it, so its build tools come first: ours, with hashes.
"$python" -m venv "$tools"
"$tools/bin/pip" install --no-input --require-hashes -r envs/build.txt
"$tools/bin/pip" download --no-input --no-deps --no-binary kenlm --no-build-isolation --require-hashes \
    -r envs/kenlm.txt -d "$work"
tar -xzf "$work"/kenlm-*.tar.gz -C "$work"

prefixes=${CONDA_PREFIX:-}
static=OFF
if [ -d build/sysroot ]; then # see envs/system.sh; static, so that the binaries outlive it
    prefixes=$PWD/build/sysroot/usr static=ON
fi
"$tools/bin/cmake" -S "$work"/kenlm-*/ -B "$work/make" -G "Unix Makefiles" -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_PREFIX_PATH="$prefixes" -DBoost_USE_STATIC_LIBS=$static -Wno-dev
"$tools/bin/cmake" --build "$work/make" --parallel "$(getconf _NPROCESSORS_ONLN)" --target lmplz build_binary query

# Try them before they count as built.
bin=$work/make/bin
printf 'a b c\na b d\nb c d\n' >"$work/text"
"$bin/lmplz" -o 3 -S 64M -T "$work/" --discount_fallback --text "$work/text" --arpa "$work/lm.arpa"
"$bin/build_binary" trie "$work/lm.arpa" "$work/lm.trie"
echo 'a b d' | "$bin/query" "$work/lm.trie" | grep '^Perplexity including OOVs'

rm -rf build/kenlm
mkdir -p build/kenlm/bin
cp "$bin/lmplz" "$bin/build_binary" "$bin/query" build/kenlm/bin/
rm -rf "$work"
