"""Things that tests ask of a running cluster: images, volumes, fake GPUs, stopped components, a dump."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

from .base import Failure, run, say, succeeds
from .instance import Instance

GPU = "nvidia.com~1gpu"
PRINTED_SECRETS = "secrets"


def enter(instance: Instance, command: list) -> list[str]:
    """A command line that runs in the node's namespaces. Not `ip netns exec`: that hides the cgroup mounts."""
    first = instance.init()
    if first is None:
        raise Failure(f"instance {instance.number} is not running")
    return ["nsenter", "-t", str(first["pid"]), "-m", "-n", "-p", *(str(word) for word in command)]


def kubectl(instance: Instance, *words: str, **options) -> str:
    """kubectl as the cluster's admin."""
    return run([instance.record()["kubectl"], f"--kubeconfig={instance.kubeconfig}", *words], **options)


def import_images(instance: Instance, archives: list[Path]) -> list[str]:
    """Put archives into the node's image store; those that are there already are skipped."""
    ctr = _ctr(instance)
    present = set(run(enter(instance, [*ctr, "images", "list", "--quiet"])).split())
    imported = []
    for archive in archives:
        references = _references(archive)
        if not references <= present:
            run(enter(instance, [*ctr, "images", "import", archive.resolve()]))
            say(f"imported {', '.join(sorted(references))}")
        imported += sorted(references)
    return imported


def remove_image(instance: Instance, reference: str) -> None:
    """Forget an image, so that pods which need it must pull it."""
    run(enter(instance, [*_ctr(instance), "images", "remove", "--sync", reference]))


def _ctr(instance: Instance) -> list:
    ctr = instance.record()["binaries"]["ctr"]
    return [ctr, "--address", instance.containerd_socket, "--namespace", "k8s.io"]


def _references(archive: Path) -> set[str]:
    with tarfile.open(archive) as content:
        manifest = json.load(content.extractfile("manifest.json"))
    return {tag for image in manifest for tag in image["RepoTags"]}


def fake_gpus(instance: Instance, count: int, product: str) -> None:
    """Give the real node GPU capacity that is not there, and the labels of GPU feature discovery. It survives kubelet's status updates."""
    patch = [{"op": "add", "path": f"/status/{field}/{GPU}", "value": str(count)} for field in ("capacity", "allocatable")]
    kubectl(instance, "patch", "node", "node1", "--subresource=status", "--type=json", "-p", json.dumps(patch))
    labels = {"nvidia.com/gpu.product": product, "nvidia.com/gpu.count": str(count), "nvidia.com/gpu.present": "true"}
    kubectl(instance, "label", "node", "node1", "--overwrite", *(f"{key}={value}" for key, value in labels.items()))


def volume(namespace: str, claim: str, path: Path, size: str) -> str:
    """A PersistentVolume of a host folder and the claim that is bound to it. Pod Security `restricted` allows the claim, not hostPath."""
    name = f"{namespace}-{claim}"
    access = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    items = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": name},
            "spec": {
                **access,
                "capacity": {"storage": size},
                "persistentVolumeReclaimPolicy": "Retain",
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": {"path": str(path.resolve()), "type": "Directory"},
            },
        },
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {**access, "volumeName": name, "resources": {"requests": {"storage": size}}},
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items}, indent=1)


def component(instance: Instance, name: str, action: str) -> None:
    """Stop, start, restart, pause or resume one component: what tests of faults need. Returns when it is done."""
    home = instance.home
    process = home / "pid" / name
    if not process.exists():
        known = ", ".join(sorted(path.name for path in (home / "pid").glob("*")))
        raise Failure(f"no component {name}; there are {known}")
    number = process.read_text()
    stopped = home / "stopped" / name
    if action == "stop":
        stopped.touch()
    if action in ("stop", "restart"):
        succeeds(enter(instance, ["kill", "-KILL", number]))
        # a killed process lives on for a moment, and the supervisor looks now and then
        if action == "stop":
            _wait_for(f"{name} has ended", lambda: not succeeds(enter(instance, ["kill", "-0", number])))
        else:
            _wait_for(f"{name} runs again", lambda: process.read_text() not in ("", number))
    elif action == "start":
        stopped.unlink(missing_ok=True)
    else:
        run(enter(instance, ["kill", {"pause": "-STOP", "resume": "-CONT"}[action], number]))


def _wait_for(what: str, holds, timeout: float = 30) -> None:
    deadline = time.monotonic() + timeout
    while not holds():
        if time.monotonic() > deadline:
            raise Failure(f"{what}: not after {timeout:.0f} s")
        time.sleep(0.05)


def dump(instance: Instance, folder: Path) -> None:
    """Objects, events, logs and audit lines into a folder, as far as they can be had."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("log", "podlogs"):
        if (instance.home / name).exists():
            shutil.copytree(instance.home / name, folder / name, dirs_exist_ok=True, symlinks=False, ignore_dangling_symlinks=True)
    if instance.init() is None:
        return
    commands = {
        "processes.txt": enter(instance, ["ps", "axo", "pid,ppid,rss,etime,args"]),
        "network.txt": enter(instance, ["sh", "-c", "ip address; ip route; nft list ruleset"]),
    }
    base = [instance.record()["kubectl"], f"--kubeconfig={instance.kubeconfig}", "--request-timeout=10s"]
    everything = [*base, "get", "--all-namespaces", "--ignore-not-found"]
    commands["events.txt"] = [*everything, "events", "--sort-by=.lastTimestamp"]
    commands["overview.txt"] = [*everything, "nodes,all,pv,pvc", "-o", "wide"]
    commands["inference.txt"] = [*everything, "inference", "-o", "wide"]
    commands["describe.txt"] = [*base, "describe", "--all-namespaces", "nodes,pods,deployments,services,pvc"]
    with contextlib.suppress(Failure):
        listed = run([*base, "api-resources", "--verbs=list", "-o", "name", "--cached=false"]).split()
        for kind in listed:
            if kind != PRINTED_SECRETS and not kind.startswith("events"):
                commands[f"objects/{kind}.yaml"] = [*everything, kind, "-o", "yaml", "--show-managed-fields"]
    for name, command in commands.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(Failure):
            content = run(command, timeout=30)
            if content.strip():
                (folder / name).write_text(content)
    say(f"dumped to {folder}")


def exec_in(instance: Instance, command: list[str]) -> int:
    """Run a command in the node's namespaces with this terminal; its exit status."""
    child = subprocess.Popen(enter(instance, command))
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid, signal.SIGINT)
