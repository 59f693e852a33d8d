"""One instance: its number, and the names, addresses and folders that follow from it."""

from __future__ import annotations

import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

from .base import Failure, is_alive, run, state_root

MAXIMUM = 16
MARKER = "WEIR_CLUSTER_INSTANCE"


@dataclass(frozen=True)
class Instance:
    """Everything derives from the number, so two instances never share a link, a range, a folder or a cgroup."""

    number: int
    port: int = 6443

    @property
    def home(self) -> Path:
        return state_root() / str(self.number)

    @property
    def marker(self) -> str:
        """In the environment of every component: finds them even when no file says who they are."""
        return f"{MARKER}={self.home}"

    @property
    def certs(self) -> Path:
        return self.home / "certs"

    @property
    def kubeconfig(self) -> Path:
        return self.certs / "admin.kubeconfig"

    @property
    def audit_log(self) -> Path:
        return self.home / "log/audit.log"

    @property
    def containerd_socket(self) -> Path:
        return self.home / "containerd.sock"

    @property
    def link(self) -> str:
        return f"weir{self.number}"

    @property
    def cgroup(self) -> str:
        return f"weir-{self.number}"

    @property
    def node_ip(self) -> str:
        return f"10.95.{self.number}.1"

    @property
    def host_ip(self) -> str:
        return f"10.95.{self.number}.2"

    @property
    def services(self) -> str:
        return f"10.{96 + self.number}.0.0/16"

    @property
    def service_ip(self) -> str:
        return f"10.{96 + self.number}.0.1"

    @property
    def dns(self) -> str:
        return f"10.{96 + self.number}.0.10"

    @property
    def cluster_pods(self) -> str:
        return f"10.{112 + self.number}.0.0/16"

    @property
    def pods(self) -> str:
        """Pods of the real node."""
        return f"10.{112 + self.number}.0.0/24"

    @property
    def fake_pods(self) -> str:
        """Pods of fake nodes: local in the node's network namespace, so that one process there answers for all of them."""
        return f"10.{128 + self.number}.0.0/16"

    @property
    def server(self) -> str:
        return f"https://{self.node_ip}:{self.port}"

    @property
    def networks(self) -> list[str]:
        """Ranges that must be free on the host."""
        return [f"10.95.{self.number}.0/30", self.services, self.cluster_pods]

    @property
    def routes(self) -> list[str]:
        """What the host reaches through the link."""
        return [self.services, self.pods]

    def record(self) -> dict:
        """What was written down when it was started; empty when nothing was."""
        try:
            return json.loads((self.home / "instance.json").read_text())
        except (OSError, ValueError):
            return {}

    def write_record(self, **changes) -> dict:
        """Merge into the record, whole or not at all."""
        record = {**self.record(), **changes}
        temporary = self.home / f".instance.{os.getpid()}"
        temporary.write_text(json.dumps(record, indent=1))
        temporary.rename(self.home / "instance.json")
        return record

    def init(self) -> dict | None:
        """The first process of the namespaces, or None when it does not run."""
        process = self.record().get("init")
        return process if is_alive(process) else None

    def is_ready(self) -> bool:
        """Whether it runs and its start was completed."""
        return self.init() is not None and (self.home / "ready").exists()

    def description(self) -> dict:
        """What callers need, as `up --json` prints it."""
        record = self.record()
        log = self.home / "log"
        return {
            "name": record.get("name"),
            "number": self.number,
            "kubeconfig": str(self.kubeconfig),
            "server": self.server,
            "controlPlaneOnly": record.get("controlPlaneOnly", False),
            "initPid": (record.get("init") or {}).get("pid"),
            "nodeIp": self.node_ip,
            "hostIp": self.host_ip,
            "services": self.services,
            "pods": self.pods,
            "fakePods": self.fake_pods,
            "dns": self.dns,
            "auditLog": str(self.audit_log),
            "logs": str(log),
            "kubectl": record.get("kubectl"),
            "helm": record.get("helm"),
        }


def existing() -> list[Instance]:
    """Every instance that has a state folder, alive or left behind."""
    root = state_root()
    numbers = sorted(int(path.name) for path in root.iterdir() if path.name.isdigit()) if root.is_dir() else []
    return [Instance(number) for number in numbers if number < MAXIMUM]


def by_name(name: str) -> Instance | None:
    """The instance of a name, alive or left behind."""
    return next((instance for instance in existing() if instance.record().get("name") == name), None)


def running(name: str) -> Instance:
    """The instance of a name, which must be up."""
    instance = by_name(name)
    if instance is None or instance.init() is None:
        others = ", ".join(str(other.record().get("name")) for other in existing() if other.init()) or "none"
        raise Failure(f"no cluster named {name} is running (running: {others}); `weir-cluster up --name {name}` starts it")
    return instance


def allocate() -> Instance:
    """The lowest number that nobody uses and whose ranges the host does not route already. Call it under the state lock."""
    taken = {instance.number for instance in existing()}
    routes = host_networks()
    for number in range(MAXIMUM):
        instance = Instance(number)
        wanted = [ipaddress.ip_network(network) for network in instance.networks]
        if number not in taken and not any(network.overlaps(route) for network in wanted for route in routes):
            return instance
    raise Failure(f"no free instance number: {len(taken)} in use, the host routes the ranges of the others (`ip route`)")


def host_networks() -> list:
    """Networks that the host routes or has addresses in. A route wider than /16 is no conflict: ours are more specific."""
    destinations = [route.get("dst", "") for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]) or "[]")]
    networks = []
    for destination in destinations:
        try:
            network = ipaddress.ip_network(destination, strict=False)
        except ValueError:
            continue
        if network.prefixlen >= 16:
            networks.append(network)
    return networks
