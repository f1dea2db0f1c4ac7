#!/usr/bin/env bash
# SLURM's daemons for `make test-cluster`: controller, node, accounting with its database, munge. Only the programs:
# no service is left running or switched on, and the tests start their own copies, with their own files.
# Installs as root on Debian and Ubuntu; elsewhere it says what is missing, and the tests that need SLURM skip by name.
set -euo pipefail

programs="munged slurmctld slurmd slurmdbd sbatch srun sacct sacctmgr scontrol mariadbd mariadb-install-db mariadb"
packages="munge slurm-wlm slurmdbd mariadb-server mariadb-client"
PATH=$PATH:/usr/sbin:/sbin

missing() { for name in $programs; do command -v "$name" >/dev/null || echo "$name"; done; }

if [ -z "$(missing)" ]; then exit; fi
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "SLURM is not installed here ($(missing | paste -sd' ')); its tests will be skipped." \
        "As root on Debian or Ubuntu, this script installs it."
    exit
fi

# Packages start their services when they are installed; a test machine must not become a cluster. The policy file
# forbids it, and is taken away again (one that was there before forbids or allows what its owner wants).
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
fi

log=$(mktemp)
# Without a network, or with another apt at work, it must give up soon: a connection is waited for 20 s, a lock 60 s.
apt() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20 \
        -o Acquire::Retries=1 -o DPkg::Lock::Timeout=60 "$@" </dev/null
}
get() { apt --no-install-recommends install $packages; }
echo "SLURM: installing $packages ..."
# The package lists of a machine may be old or absent: try, refresh, try again.
if ! { get || { apt update && get; }; } >"$log" 2>&1; then
    # Addresses are kept out: they may be a private mirror's.
    sed -E 's#(https?|file)://[^ ,]*#<address>#g' "$log" | tail -n 15 | sed 's/^/    /'
    echo "SLURM could not be installed; its tests will be skipped."
fi
rm -f "$log"
