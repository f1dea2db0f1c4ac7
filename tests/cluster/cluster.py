"""A SLURM cluster on this machine: real daemons, everything of theirs in one folder, nothing of the system's touched.

Two nodes of two CPUs and one GPU (a stand-in: /dev/null) each, a partition `main` whose jobs are requeued when one of
`urgent` needs their place, and accounting. By hand, to try things out:

    python -m tests.cluster.cluster sinfo          # starts it, runs the command, stops it
    python -m tests.cluster.cluster bash
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PROGRAMS = (
    *("munged", "mariadbd", "mariadb-install-db", "mariadb", "slurmdbd", "slurmctld", "slurmd"),
    *("sbatch", "srun", "sacct", "sacctmgr", "scontrol", "sinfo", "squeue", "scancel"),
)
NODES = ("thaw1", "thaw2")
START_SECONDS = 60.0  # that a daemon may take to answer; on a busy machine MariaDB takes longest
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

SLURM_CONF = """\
ClusterName=thaw
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser=root
AuthType=auth/munge
# A requeued job waits as long as an old credential lives: 2 minutes unless told.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=1,bf_interval=5,sched_interval=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=1
MailProg=/bin/true
MpiDefault=none
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={accounting}
# Not a password: the munge socket of the way to slurmdbd.
AccountingStoragePass={folder}/munge.socket
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
GresTypes=gpu
{nodes}
PartitionName=main Nodes=ALL Default=YES State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=urgent Nodes=ALL State=UP PriorityTier=10 PreemptMode=OFF
"""
NODE = (
    "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=2 RealMemory=64000 Gres=gpu:1 State=UNKNOWN"
)
SLURMDBD_CONF = """\
DbdHost=localhost
DbdPort={accounting}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={database}
StorageUser=slurm
StoragePass={password}
StorageLoc=slurm_acct_db
"""


def why_not() -> str:
    """Why no cluster can be started here; empty where one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "starting SLURM's daemons needs Linux and root"
    missing = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    return f"not installed: {', '.join(missing)} (envs/slurm.sh installs them)" if missing else ""


class Cluster:
    """Daemons, from `start` to `stop`, and the commands that talk to them. Use `running` where possible."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.database, self.accounting, self.controller, *self.node_ports = free_ports(3 + len(NODES))
        self.password = secrets.token_hex(16)
        self.said = ""  # by the last command, for error messages

    @property
    def environment(self) -> dict[str, str]:
        """What SLURM's commands need in order to find this cluster."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "SBATCH"))}
        path = f"{self.folder / 'bin'}{os.pathsep}{PATH}"
        return {**clean, "SLURM_CONF": str(self.folder / "slurm.conf"), "PATH": path}

    # --- from nothing to a cluster ------------------------------------------------------------

    def start(self) -> None:
        """Start everything, each daemon once the one that it needs answers. Raises RuntimeError with the log's end."""
        self.configure()
        socket_, key = self.folder / "munge.socket", self.folder / "munge.key"
        files = [f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
        self.launch("munged", "--force", "--foreground", f"--socket={socket_}", *files)
        self.until("munged", lambda: self.works("munge", "-n", "-S", str(socket_)))
        assert key.stat().st_mode & 0o077 == 0
        self.start_database()
        self.launch("slurmdbd", "-D")
        self.until("slurmdbd", lambda: self.works("sacctmgr", "-n", "list", "cluster"))
        for what in ("cluster thaw", "account thaw", "user root account=thaw"):
            self.run("sacctmgr", "-i", "add", *what.split())
        self.launch("slurmctld", "-D", "-i")
        self.until("slurmctld", lambda: self.works("scontrol", "ping"))
        for node in NODES:
            self.start_node(node)
        for node in NODES:
            self.until(node, lambda: self.idle_nodes() == len(NODES))

    def configure(self) -> None:
        """Write the key and all configuration files."""
        host = socket.gethostname()
        ports = zip(NODES, self.node_ports, strict=True)
        facts = {
            "host": host,
            "folder": self.folder,
            "database": self.database,
            "accounting": self.accounting,
            "controller": self.controller,
            "password": self.password,
            "nodes": "\n".join(NODE.format(node=node, host=host, port=port) for node, port in ports),
        }
        self.folder.chmod(0o755)  # munged refuses a folder that others may write to
        private(self.folder / "munge.key", secrets.token_bytes(1024))
        private(self.folder / "slurmdbd.conf", SLURMDBD_CONF.format(**facts).encode())
        (self.folder / "slurm.conf").write_text(SLURM_CONF.format(**facts))
        (self.folder / "gres.conf").write_text("".join(f"NodeName={node} Name=gpu File=/dev/null\n" for node in NODES))
        # Nothing here uses cgroups. The plugin for version 2 wants to write where many containers may only read, and to
        # find any is an error; that for version 1 does nothing until it is asked.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        for name in ("bin", "controller", "database", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        # Snakemake's plugin takes SLURM_CONF away from the srun inside a job, which then looks in /etc/slurm.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {shutil.which("srun", path=PATH)} "$@"\n')
        srun.chmod(0o755)

    def start_database(self) -> None:
        """MariaDB for the accounting, with its own data and its own port."""
        data = self.folder / "database"
        self.run(
            *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={data}"),
            *("--auth-root-authentication-method=normal", "--skip-test-db"),
        )
        where = self.folder / "mariadb.socket"
        self.launch(
            *("mariadbd", "--no-defaults", "--user=root", f"--datadir={data}", f"--socket={where}"),
            *(f"--pid-file={self.folder}/mariadbd.pid", "--bind-address=127.0.0.1", f"--port={self.database}"),
            *("--innodb-flush-log-at-trx-commit=0", "--innodb-lock-wait-timeout=900"),
        )
        client = ("mariadb", "--no-defaults", f"--socket={where}", "-e")
        self.until("mariadbd", lambda: self.works(*client, "select 1"))
        login = f"slurm@'127.0.0.1' identified by '{self.password}'"
        self.run(
            *client,
            f"create database slurm_acct_db; create user {login}; grant all on slurm_acct_db.* to slurm@'127.0.0.1'",
        )

    def start_node(self, node: str) -> None:
        """Start a node's daemon (again)."""
        self.launch("slurmd", "-D", "-N", node, name=node)

    def launch(self, program: str, *arguments: str, name: str = "") -> None:
        """Start a daemon in the foreground, its output in a log beside its files."""
        name = name or program
        with (self.folder / f"{name}.log").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                [shutil.which(program, path=PATH) or program, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def until(self, name: str, ready: Callable[[], bool], seconds: float = START_SECONDS) -> None:
        """Wait until something is ready. Raises RuntimeError, with the end of the daemon's log, where it is not."""
        end = time.monotonic() + seconds
        while not ready():
            died = self.daemons[name].poll() is not None
            if died or time.monotonic() > end:
                log = (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]
                raise RuntimeError(f"{name} {'ended' if died else 'does not answer'}:\n{self.said}\n{log}")
            time.sleep(0.2)

    # --- back to nothing ----------------------------------------------------------------------

    def stop(self) -> None:
        """End all jobs and daemons, and whatever they left. Safe to call at any time, also twice."""
        if "slurmctld" in self.daemons:
            self.attempt("scancel", "--user=root")
        for name in ("slurmctld", *NODES, "slurmdbd", "mariadbd", "munged"):
            self.end(name)
        # Jobs and their keepers live apart from the daemons; what carries this cluster's address is this cluster's.
        address = f"SLURM_CONF={self.folder / 'slurm.conf'}".encode()
        for pid in processes(lambda folder: address in (folder / "environ").read_bytes().split(b"\0")):
            if pid != os.getpid():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one daemon and wait until it is gone."""
        daemon = self.daemons.pop(name, None)
        if daemon is None:
            return
        daemon.send_signal(number)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    # --- commands -----------------------------------------------------------------------------

    def attempt(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command that talks to this cluster, whatever comes of it."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=60)
        self.said = done.stdout + done.stderr
        return done

    def works(self, *command: str) -> bool:
        return self.attempt(*command).returncode == 0

    def run(self, *command: str) -> str:
        """The output of a command. Raises RuntimeError, with what it said, where it fails."""
        done = self.attempt(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {self.said}")
        return done.stdout

    def idle_nodes(self) -> int:
        """How many nodes are up with nothing to do."""
        lines = self.attempt("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T").stdout.split()
        return lines.count("idle")

    def jobs(self, comment: str, state: str = "RUNNING") -> list[str]:
        """Ids of the jobs in a state whose comment, which names Snakemake's rule and wildcards, holds `comment`."""
        rows = self.run("squeue", "--noheader", f"--states={state}", "--format=%i|%k").splitlines()
        return [id_ for id_, _, text in (row.partition("|") for row in rows) if comment in text]

    def queue(self) -> str:
        """All jobs of late and all nodes, for messages."""
        return self.attempt("squeue", "--states=all").stdout + self.attempt("sinfo", "--Node", "--long").stdout

    def history(self, job: str) -> list[str]:
        """The states that each start of a job ended in, e.g. ["REQUEUED", "COMPLETED"]."""
        return self.run("sacct", "-X", "-n", "-P", "-D", "-j", job, "--format=State").split("\n")[:-1]


def private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def processes(wanted: Callable[[Path], bool]) -> list[int]:
    """Ids of the processes whose folder under /proc is wanted; those that end meanwhile are not."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if wanted(folder):
                found.append(int(folder.name))
    return found


@contextmanager
def running() -> Iterator[Cluster]:
    """A cluster for the length of a block, in a new folder that is deleted with it."""
    # Sockets have short names at most, so not below pytest's own folders.
    folder = Path(tempfile.mkdtemp(prefix="thaw-slurm-"))
    cluster = Cluster(folder)
    # A plain kill must not leave daemons behind either.
    earlier = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        cluster.start()
        yield cluster
    finally:
        signal.signal(signal.SIGTERM, earlier)
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(command: list[str]) -> int:
    """Run one command with a cluster around it."""
    if reason := why_not():
        print(reason, file=sys.stderr)
        return 1
    with running() as cluster:
        return subprocess.run(command, env=cluster.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
