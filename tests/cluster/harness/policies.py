"""NetworkPolicies enforced on the node, which its bridge plugin does not do, and connections tried from its pods."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from . import build
from .base import HERE, Failure, cache_dir, digest, identity, is_alive, made_once, run, say, tail
from .fetch import apt_install
from .instance import Instance
from .workloads import enter, kubectl

QUEUE = 100
_METRICS_PORT = 9180
_SOURCES = ("go.mod", "go.sum", "main.go")
# Packets of connections that begin: what follows of one that was let in is let through.
_RULE = ["FORWARD", "-m", "conntrack", "--ctstate", "NEW", "-j", "NFQUEUE", "--queue-num", str(QUEUE)]
_BRIDGED = "net.bridge.bridge-nf-call-iptables"
_PACKETS = re.compile(r'^kube_network_policies_packet_count\{.*verdict="(\w+)".*\} (\S+)$', re.MULTILINE)
# A test network of RFC 5737: nobody's address, held in a namespace beside the node.
OUTSIDE, OUTSIDE_GATEWAY = "203.0.113.10", "203.0.113.1"


def enforce(instance: Instance) -> None:
    """From now on packets that no policy allows are dropped; returns when the engine has heard of every pod and policy."""
    binary = _binary()
    if not shutil.which("iptables"):
        apt_install(["iptables"])
    words = [binary, f"--kubeconfig={instance.certs}/admin.kubeconfig", "--node=node1", f"--queue={QUEUE}", f"--metrics={instance.node_ip}:{_METRICS_PORT}"]
    _start(instance, "policies", words)
    _wait_until("the policy engine reads pods and policies", lambda: verdicts(instance) is not None, instance.home / "log/policies.log")
    # Pods of one node talk over a bridge, whose packets the rule sees only so. Answers of Services may need it too.
    before = run(enter(instance, ["sysctl", "-n", _BRIDGED])).strip()
    (instance.home / "bridged").write_text(before)
    run(enter(instance, ["sysctl", "-qw", f"{_BRIDGED}=1"]))
    run(enter(instance, ["iptables", "-w", "-I", *_RULE]))


def release(instance: Instance) -> None:
    """Everything is let through again."""
    run(enter(instance, ["iptables", "-w", "-D", *_RULE]))
    before = (instance.home / "bridged").read_text()
    run(enter(instance, ["sysctl", "-qw", f"{_BRIDGED}={before}"]))
    _stop(instance, "policies")


def verdicts(instance: Instance) -> dict[str, int] | None:
    """Packets by verdict since the engine started; None while it is not there."""
    try:
        with urllib.request.urlopen(f"http://{instance.node_ip}:{_METRICS_PORT}/metrics", timeout=2) as answer:
            page = answer.read().decode()
    except OSError:
        return None
    total: dict[str, int] = {}
    for verdict, count in _PACKETS.findall(page):
        total[verdict] = total.get(verdict, 0) + int(float(count))
    return total


def hold_outside(instance: Instance, port: int) -> None:
    """Somebody listens at an address outside of the cluster, and counts who connects."""
    words = ["unshare", "--net", sys.executable, HERE / "harness/outside.py", OUTSIDE, OUTSIDE_GATEWAY, str(port), instance.home / "outside.count"]
    (instance.home / "outside.count").unlink(missing_ok=True)
    _start(instance, "outside", words)
    _wait_until("the outside listens", lambda: (instance.home / "outside.count").exists(), instance.home / "log/outside.log")


def leave_outside(instance: Instance) -> int:
    """It is gone again; how many had connected."""
    connected = int((instance.home / "outside.count").read_text())
    _stop(instance, "outside")
    return connected


def connect(instance: Instance, namespace: str, pod: str, address: str, port: int, timeout: float) -> bool:
    """Whether a pod, by its own network, gets a TCP connection."""
    uid = json.loads(kubectl(instance, "get", "pod", "-n", namespace, pod, "-o", "json"))["metadata"]["uid"]
    find = f"grep -l {uid} /proc/[0-9]*/cgroup | head -n 1"
    found = run(enter(instance, ["sh", "-c", find])).strip()
    if not found:
        raise Failure(f"pod {namespace}/{pod} has no process")
    code = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3])).close()"
    words = ["nsenter", "-t", found.split("/")[2], "-n", sys.executable, "-c", code, address, str(port), str(timeout)]
    done = subprocess.run(enter(instance, words), capture_output=True, text=True, timeout=timeout + 20)
    if done.returncode and not re.search(r"TimeoutError|timed out|ConnectionRefused|unreachable|No route", done.stderr):
        raise Failure(f"connecting from {namespace}/{pod}: {done.stderr.strip()}")
    return done.returncode == 0


def _binary() -> Path:
    source = HERE / "policies"
    key = digest(*((source / name).read_bytes() for name in _SOURCES))

    def make(folder: Path) -> None:
        say("building the policy engine")
        build.go_build(source, folder, ["."], build.PLAIN_LDFLAGS)

    return made_once(cache_dir() / f"policies-{key}", make) / "policies"


def _start(instance: Instance, name: str, words: list) -> None:
    """A process of the node that nothing restarts; it ends with the cluster."""
    record = instance.home / f"{name}.json"
    if record.exists() and is_alive(json.loads(record.read_text())):
        raise Failure(f"{name} runs already")
    with open(instance.home / f"log/{name}.log", "ab") as log:
        environment = {**os.environ, "WEIR_CLUSTER_INSTANCE": str(instance.home)}
        parent = subprocess.Popen(enter(instance, words), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    _wait_until(f"{name} starts", lambda: children.exists() and children.read_text().strip() or parent.poll() is not None, instance.home / f"log/{name}.log")
    record.write_text(json.dumps(identity(int(children.read_text().split()[0]))))


def _stop(instance: Instance, name: str) -> None:
    record = instance.home / f"{name}.json"
    process = json.loads(record.read_text())
    with contextlib.suppress(ProcessLookupError):
        if is_alive(process):
            os.kill(process["pid"], signal.SIGKILL)
    _wait_until(f"{name} ends", lambda: not is_alive(process), instance.home / f"log/{name}.log")
    record.unlink()


def _wait_until(what: str, holds, log: Path, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not after {timeout:.0f} s\n{tail(log)}")
        time.sleep(0.05)
