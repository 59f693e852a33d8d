"""Up, down, and what stays behind."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import build, certs, cgroups, fetch, init, workloads
from .base import HERE, Failure, identity, is_alive, run, say, state_lock, state_root, succeeds, tail
from .instance import MARKER, MAXIMUM, Instance, allocate, by_name, existing
from .preflight import NAMESPACES, preflight

KUBELET_FOLDER = Path("/var/lib/kubelet")


def up(name: str, *, fresh: bool, control_plane_only: bool, owner: int | None, apiserver_arguments: list[str]) -> Instance:
    """A running instance of this name; one that is already up is kept, unless `fresh`."""
    fetch.install_small_tools()
    preflight()
    binaries, images, clients = _ingredients(control_plane_only)
    begun = time.monotonic()
    with state_lock():
        kept = _settle_previous(name, fresh, control_plane_only)
        if kept:
            say(f"cluster {name} is up already")
            return kept
        instance = allocate()
        instance.home.mkdir(mode=0o755)
        (instance.home / "log").mkdir()
        instance.write_record(
            name=name,
            token=secrets.token_hex(8),
            starter=identity(os.getpid()),
            owner=identity(owner) if owner else None,
            controlPlaneOnly=control_plane_only,
            binaries={key: str(path) for key, path in binaries.items()},
            baseImages=[str(path) for path in images],
            apiserverArguments=apiserver_arguments,
            created=int(time.time()),
            **{key: str(path) for key, path in clients.items()},
        )
    try:
        certs.write(instance.certs, instance.server, instance.node_ip, instance.service_ip)
        _wait_until_ready(instance, _spawn_keeper(instance))
    except BaseException as failure:
        with _uninterrupted():
            kept = _keep_evidence(instance) if isinstance(failure, Failure) else None
            down(instance)
        if kept:
            raise Failure(f"{failure}\nlogs and objects are in {kept}") from failure
        raise
    say(f"cluster {name} is ready after {time.monotonic() - begun:.1f} s (instance {instance.number})")
    return instance


def _keep_evidence(instance: Instance) -> Path:
    """What is known of a start that failed, in a folder that outlives it."""
    folder = Path(tempfile.mkdtemp(prefix="weir-cluster-failure-"))
    workloads.dump(instance, folder)
    return folder


def _ingredients(control_plane_only: bool) -> tuple[dict, list, dict]:
    binaries = {**build.binaries(), **fetch.node_binaries()}
    binaries.update(build.assets())
    images = [] if control_plane_only else build.base_images()
    return binaries, images, fetch.clients()


def _settle_previous(name: str, fresh: bool, control_plane_only: bool) -> Instance | None:
    """The instance that may be kept; whatever a killed start left is removed."""
    for instance in existing():
        if instance.init() is None and not is_alive(instance.record().get("starter")):
            say(f"removing what instance {instance.number} left behind")
            sweep(instance)
    instance = by_name(name)
    if instance is None:
        return None
    record = instance.record()
    if not instance.is_ready() and is_alive(record.get("starter")):
        raise Failure(f"cluster {name} is being started by process {record['starter']['pid']}")
    if instance.is_ready() and not fresh and record["controlPlaneOnly"] == control_plane_only:
        return instance
    sweep(instance)
    return None


def _spawn_keeper(instance: Instance) -> subprocess.Popen:
    """In a session of its own: it outlives the starter and Ctrl-C in its terminal."""
    command = [sys.executable, str(HERE / "weir-cluster"), "_keep", str(instance.number)]
    environment = {**os.environ, MARKER: str(instance.home)}
    with open(instance.home / "log/keeper.log", "ab") as log:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd="/", env=environment)


def _wait_until_ready(instance: Instance, keeper: subprocess.Popen) -> None:
    failed = instance.home / "failed"
    deadline = time.monotonic() + init.READY_TIMEOUT * 2
    while not (instance.home / "ready").exists():
        if failed.exists():
            raise Failure(failed.read_text())
        if keeper.poll() is not None:
            raise Failure(f"the cluster's keeper ended:\n{tail(instance.home / 'log/keeper.log')}")
        if time.monotonic() > deadline:
            raise Failure(f"the cluster is not ready after {init.READY_TIMEOUT * 2} s")
        time.sleep(0.05)


@contextlib.contextmanager
def _uninterrupted():
    """A second Ctrl-C does not stop the cleaning up."""
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def keep(number: int) -> None:
    """The keeper: makes the namespaces and the link; when the owner is gone it removes the instance."""
    instance = Instance(number)
    record = instance.record()
    if not KUBELET_FOLDER.exists():
        (state_root() / "made-kubelet-folder").touch()
        KUBELET_FOLDER.mkdir(parents=True, exist_ok=True)
    cgroups.create(instance.cgroup)
    # --kill-child: the namespaces end with `unshare`
    command = [NAMESPACES[0], "--kill-child", *NAMESPACES[1:], sys.executable, str(HERE / "weir-cluster"), "_init", str(number)]
    outer = subprocess.Popen(command)
    first = _only_child(outer)
    instance.write_record(init=identity(first))
    _join(instance, first)
    (instance.home / "linked").touch()
    while outer.poll() is None:
        owner = instance.record().get("owner")
        if owner and not is_alive(owner):
            with state_lock():
                if instance.record().get("token") == record["token"]:
                    sweep(instance)
            return
        time.sleep(0.3)


def _only_child(process: subprocess.Popen) -> int:
    while process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.005)
    raise Failure(f"unshare exited with status {process.returncode}: namespaces cannot be made here")


def _join(instance: Instance, first: int) -> None:
    """A veth pair between the host and the node's network namespace, and the host's routes through it."""
    inside = ["nsenter", "-t", first, "-n", "ip"]
    run(["ip", "link", "add", instance.link, "type", "veth", "peer", "name", "eth0", "netns", first])
    run(["ip", "address", "add", f"{instance.host_ip}/30", "dev", instance.link])
    run(["ip", "link", "set", instance.link, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "add", f"{instance.node_ip}/30", "dev", "eth0"])
    run([*inside, "link", "set", "eth0", "up"])
    run([*inside, "route", "add", "default", "via", instance.host_ip])
    for network in instance.routes:
        run(["ip", "route", "add", network, "via", instance.node_ip])


def down(instance: Instance) -> None:
    """Remove an instance and everything of it."""
    with state_lock():
        sweep(instance)


def sweep(instance: Instance) -> None:
    """Kill the first process: processes, mounts, links and nftables rules go with it. Then cgroups and state. Call it under the state lock."""
    for _ in range(200):
        remaining = processes(instance)
        if not remaining:
            break
        for process in remaining:
            _kill(process)
        time.sleep(0.02)
    succeeds(["ip", "link", "delete", instance.link])
    cgroups.remove(instance.cgroup)
    shutil.rmtree(instance.home, ignore_errors=True)
    # the next cluster at this address is another one
    discovered = Path(os.environ.get("KUBECACHEDIR") or Path.home() / ".kube/cache") / "discovery"
    shutil.rmtree(discovered / f"{instance.node_ip}_{instance.port}", ignore_errors=True)
    if instance.home.exists():
        raise Failure(f"{instance.home} cannot be removed")
    if not existing() and (state_root() / "made-kubelet-folder").exists():
        with contextlib.suppress(OSError):
            KUBELET_FOLDER.rmdir()
        (state_root() / "made-kubelet-folder").unlink()


def processes(instance: Instance) -> list[int]:
    """Host-side pids of every other process that carries the instance's marker, the first process of its namespaces first."""
    found = []
    marker = instance.marker.encode()
    for path in Path("/proc").iterdir():
        if not path.name.isdigit() or int(path.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in (path / "environ").read_bytes().split(b"\0"):
                found.append(int(path.name))
    first = (instance.record().get("init") or {}).get("pid")
    return sorted(found, key=lambda process: (process != first, process))


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def leftovers(instance: Instance) -> list[str]:
    """What is still there of an instance that should be gone."""
    found = [f"process {process}: {_command(process)}" for process in processes(instance)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line.split()[4]}" for line in mounts if f"{instance.home}/" in line]
    if Path("/sys/class/net", instance.link).exists():
        found.append(f"link {instance.link}")
    prefixes = [f"10.95.{instance.number}.", *(network.rsplit(".", 2)[0] + "." for network in (instance.services, instance.cluster_pods))]
    routes = run(["ip", "-4", "route", "show", "table", "all"]).splitlines()
    found += [f"route {line.strip()}" for line in routes if any(word.startswith(prefix) for prefix in prefixes for word in line.split())]
    rules = run(["nft", "list", "ruleset"]).splitlines()
    found += [f"nftables rule {line.strip()}" for line in rules if any(f" {prefix}" in line for prefix in prefixes)]
    found += [f"cgroup {path}" for path in cgroups.folders(instance.cgroup)]
    if instance.home.exists():
        found.append(f"state folder {instance.home}")
    return found


def check_clean() -> list[str]:
    """What is left of instances that are not running."""
    found = []
    for number in range(MAXIMUM):
        instance = Instance(number)
        if instance.init() is None and not is_alive(instance.record().get("starter")):
            found += leftovers(instance)
    if not existing():
        found += [str(path) for path in (KUBELET_FOLDER,) if (state_root() / "made-kubelet-folder").exists()]
        found += [f"network namespace {path}" for path in Path("/run/netns").glob("cni-*")]
    return found


def _command(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return "?"


def listing() -> list[dict]:
    """Every instance, with its state."""
    result = []
    for instance in existing():
        state = "ready" if instance.is_ready() else "starting" if instance.init() else "dead"
        result.append({**instance.description(), "state": state})
    return result


def as_json(value) -> str:
    return json.dumps(value, indent=1)
