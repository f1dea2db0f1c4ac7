#!/usr/bin/env bash
# Set-up, for `make setup`: system packages, .venv from the lock, KenLM's tools, thaw itself.
# Each stage leaves a stamp with the hash of the files it was made from; a stage whose stamp fits is skipped.
# A stage that was interrupted left no stamp, so calling this again is always right.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD logs=build/logs
lock=envs/requirements-dev.txt
unset PYTHONPATH PIP_USER # pip would take packages from elsewhere for installed

say() { echo "set-up: $*"; }
hash_of() { cat "$@" | { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-64; }

# The folder is part of a venv's stamp: its scripts hold absolute paths, so a copied or moved venv is broken.
python_wants="$(hash_of $lock) $root"
project_wants="$(hash_of pyproject.toml) $root"
kenlm_wants=$(hash_of envs/kenlm.sh envs/kenlm.txt envs/build.txt)
python_stamp=.venv/.thaw-lock project_stamp=.venv/.thaw-project kenlm_stamp=build/kenlm/.stamp
fits() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }
python_done() { fits $python_stamp "$python_wants" && [ -x .venv/bin/python ]; }
project_done() { fits $project_stamp "$project_wants"; }
kenlm_done() { fits $kenlm_stamp "$kenlm_wants" && [ -x build/kenlm/bin/lmplz ]; }
all_done() { python_done && project_done && kenlm_done; }

# stage LABEL LOG COMMAND...: one line when it starts, one with seconds when it ends; on failure the log's end.
# Addresses are kept out of the log: they may be a private mirror's.
stage() {
    local label=$1 log=$logs/$2.log start=$SECONDS
    shift 2
    say "$label ..."
    if "$@" </dev/null 2>&1 | sed -uE 's#(https?|file)://[^ ,]*#<address>#g' >"$log"; then
        say "$label: done in $((SECONDS - start)) s"
    else
        tail -n 15 "$log" | sed 's/^/    /'
        # pip says that a package has no such version where it could not ask for versions at all.
        if grep -qE 'from versions: none|Max retries exceeded|Could not fetch URL|[Cc]onnection (broken|refused|to .* timed out)|NewConnectionError|NameResolutionError|Temporary failure in name resolution|Retrying \(Retry' "$log"; then
            say "$label: no package index was reached, or it lacks this package: look at the network, or at the index that pip is told to use (pip config list)"
        fi
        say "$label: FAILED after $((SECONDS - start)) s; the whole log is $log"
        return 1
    fi
}

is_supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null; }
# The interpreter below any active venv: ours may be about to be rebuilt.
find_python() {
    local candidate PATH=${PATH//"$root/.venv/bin:"/}
    for candidate in ${PYTHON:-python3.11 python3.12 python3}; do
        if is_supported "$candidate"; then
            "$candidate" -c 'import sys; print(getattr(sys, "_base_executable", sys.executable))' && return
        fi
    done
    say "no Python 3.11 or 3.12 found (looked for: ${PYTHON:-python3.11 python3.12 python3}); install one, or name it: make setup PYTHON=/path/to/python3.11" >&2
    return 1
}

make_python() {
    local started=.venv/.thaw-started
    # Half-installed packages can look whole to pip, so an interrupted venv starts afresh; so does a moved one.
    if [ -e $started ] || ! is_supported .venv/bin/python ||
        { [ -f $python_stamp ] && [ "$(cut -d' ' -f2- $python_stamp)" != "$root" ]; }; then
        rm -rf .venv
    fi
    rm -f $python_stamp $project_stamp
    mkdir -p .venv && touch $started &&
        { .venv/bin/python -m pip --version 2>/dev/null || "$python" -m venv .venv; } &&
        .venv/bin/python -m pip install --no-input --require-hashes -r $lock &&
        rm $started && echo "$python_wants" >$python_stamp
}
make_project() {
    .venv/bin/python -m pip install --no-input --no-deps --no-build-isolation -e . &&
        echo "$project_wants" >$project_stamp
}
make_kenlm() { envs/kenlm.sh "$python" && echo "$kenlm_wants" >$kenlm_stamp; }

if all_done; then
    say "nothing to do (to use it: source .venv/bin/activate)"
    exit
fi

python=$(find_python)
mkdir -p $logs
# Two set-ups at once (say, two terminals) would tread on each other: the second waits, then finds the work done.
if command -v flock >/dev/null; then
    exec 9>build/.setup-lock
    flock -n 9 || { say "waiting for another set-up of this folder" && flock 9; }
fi

kenlm_done || stage "system packages" system envs/system.sh "$python"
kenlm_job=
if ! kenlm_done; then # two minutes of network beside half a minute of compiler
    set -m # a process group of its own, so that it can be stopped whole
    stage "KenLM tools" kenlm make_kenlm &
    kenlm_job=$!
    set +m
    trap '[ -z "$kenlm_job" ] || kill -- -$kenlm_job 2>/dev/null || true' EXIT
    trap 'exit 130' INT TERM
fi
python_done || stage "Python packages (about 3 GB)" python make_python
project_done || stage "thaw" project make_project
if [ -n "$kenlm_job" ]; then
    wait $kenlm_job
    kenlm_job=
fi
sox --help 2>/dev/null | grep -w mp3 >/dev/null || say "note: sox with MP3 is not installed, so the audio backend \`sox\` is off (the default one needs nothing)"
say "done in $SECONDS s. To use it: source .venv/bin/activate"
