"""The first process of an instance's namespaces: starts the components, restarts what dies, reaps orphans.

Inside, `/run` is a file system of its own: containerd and runc have fixed paths there.
"""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import time
from pathlib import Path

from . import node
from .base import HERE, Failure, run, succeeds, tail
from .instance import Instance

LINK_TIMEOUT = 30
READY_TIMEOUT = 120
# how long a failed start stays up for its starter to dump it
EVIDENCE_SECONDS = 60


def main(number: int) -> None:
    """Never returns while the instance is up. Process 1 only reaps: pods leave orphans behind."""
    supervisor = os.fork()
    if supervisor == 0:
        try:
            Supervisor(Instance(number)).run()
        except Exception as failure:  # whatever it was, the starter has to hear of it
            text = str(failure) if isinstance(failure, Failure) else repr(failure)
            (Instance(number).home / "failed").write_text(text)
            time.sleep(EVIDENCE_SECONDS)
        os._exit(1)
    while True:
        child, _ = os.wait()
        if child == supervisor:
            os._exit(1)


class Supervisor:
    """The components of one instance."""

    def __init__(self, instance: Instance):
        self.instance = instance
        self.home = instance.home
        self.record = instance.record()
        self.binaries = self.record["binaries"]
        self.commands: dict[str, list[str]] = {}
        self.processes: dict[str, subprocess.Popen] = {}
        self.environment = {**os.environ, "PATH": node.path_for(self.binaries)}

    def run(self) -> None:
        self.wait_for("the network link", lambda: (self.home / "linked").exists(), LINK_TIMEOUT)
        self.prepare()
        whole = not self.record["controlPlaneOnly"]
        plane = node.control_plane(self.instance, self.binaries, self.record["apiserverArguments"])
        self.start("etcd", plane["etcd"])
        self.start("kube-apiserver", plane["kube-apiserver"])
        if whole:
            parts = node.node(self.instance, self.binaries)
            self.start("containerd", parts["containerd"])
            self.wait_for("containerd", lambda: succeeds([*self.ctr(), "version"]))
            for archive in self.record["baseImages"]:
                run([*self.ctr(), "images", "import", archive])
        self.wait_for("kube-apiserver", lambda: self.get("/readyz") is not None)
        self.start("kube-controller-manager", plane["kube-controller-manager"])
        if whole:
            self.start("kubelet", parts["kubelet"])
            self.start("kube-scheduler", plane["kube-scheduler"])
            self.start("kube-proxy", parts["kube-proxy"])
            self.apply_dns()
            self.wait_for("the node", self.node_is_ready)
            self.wait_for("CoreDNS", self.dns_is_ready)
        (self.home / "ready").touch()
        while True:
            self.revive()
            time.sleep(0.2)

    def prepare(self) -> None:
        """Mounts and sysctls, private to the namespaces."""
        run(["mount", "--make-rshared", "/"])
        run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
        for folder in ("lock", "netns", "containerd"):
            Path("/run", folder).mkdir()
        if not self.record["controlPlaneOnly"]:
            # kubelet's device plugin socket has a fixed path
            run(["mount", "-t", "tmpfs", "-o", "mode=750", "tmpfs", "/var/lib/kubelet"])
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for folder in ("pid", "stopped"):
            (self.home / folder).mkdir(exist_ok=True)

    def start(self, name: str, command: list[str]) -> None:
        self.commands[name] = command
        with open(self.home / "log" / f"{name}.log", "ab") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, cwd=self.home)
        self.processes[name] = process
        (self.home / "pid" / name).write_text(str(process.pid))

    def revive(self) -> None:
        """Restart what died, unless somebody wants it stopped."""
        for name, process in self.processes.items():
            if process.poll() is None or (self.home / "stopped" / name).exists():
                continue
            with open(self.home / "log" / f"{name}.log", "a") as log:
                log.write(f"weir-cluster: exited with status {process.returncode}, starting it again\n")
            time.sleep(0.3)
            self.start(name, self.commands[name])

    def wait_for(self, what: str, ready, timeout: float = READY_TIMEOUT) -> None:
        deadline = time.monotonic() + timeout
        while not ready():
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Failure(f"{name} exited with status {process.returncode}:\n{tail(self.home / 'log' / f'{name}.log')}")
            if time.monotonic() > deadline:
                raise Failure(f"{what}: not ready after {timeout:.0f} s")
            time.sleep(0.05)

    def ctr(self) -> list[str]:
        return [self.binaries["ctr"], "--address", str(self.instance.containerd_socket), "--namespace", "k8s.io"]

    def get(self, path: str):
        """Body of an API request, None unless the answer is 200."""
        certs = self.instance.certs
        context = ssl.create_default_context(cafile=certs / "ca.crt")
        context.load_cert_chain(certs / "admin.crt", certs / "admin.key")
        connection = http.client.HTTPSConnection(self.instance.node_ip, self.instance.port, timeout=5, context=context)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
            return body if answer.status == 200 else None
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def node_is_ready(self) -> bool:
        body = self.get("/api/v1/nodes/node1")
        conditions = json.loads(body)["status"].get("conditions", []) if body else []
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def dns_is_ready(self) -> bool:
        body = self.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns")
        return bool(body) and json.loads(body)["status"].get("readyReplicas", 0) > 0

    def apply_dns(self) -> None:
        manifest = (HERE / "manifests/dns.yaml").read_text().replace("@DNS@", self.instance.dns)
        command = [self.record["kubectl"], f"--kubeconfig={self.instance.kubeconfig}", "apply", "--validate=false", "-f", "-"]
        run(command, input=manifest, env={**self.environment, "KUBECACHEDIR": str(self.home / "kubecache")})
