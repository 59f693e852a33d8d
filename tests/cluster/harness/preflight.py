"""Whether this machine can hold a real node; everything that is missing is named at once."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from . import build
from .base import Failure, cache_dir, state_root, succeeds
from .fetch import missing_tools

GIGABYTE = 1_000_000_000
NAMESPACES = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--propagation", "private"]
ELSEWHERE = """A cluster that exists already serves as well (kind and minikube among them):
  make demo KUBE_CONTEXT=<context of your kubeconfig>"""


def preflight_build() -> None:
    """Raise if a build cannot succeed; it needs no root."""
    problems = _memory() + _disk([(cache_dir(), 1 if build.is_cached() else 6)])
    if problems:
        raise Failure("Kubernetes cannot be built here:\n" + "\n".join(f"  - {problem}" for problem in problems))


def preflight() -> None:
    """Raise with everything that is missing."""
    problems = problems_found()
    if problems:
        raise Failure("a real Kubernetes node cannot run here:\n" + "\n".join(f"  - {problem}" for problem in problems) + f"\n{ELSEWHERE}")


def problems_found() -> list[str]:
    """What is missing, in words that say what to do."""
    if platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"):
        return [f"Linux on x86_64 or aarch64 is needed; this is {platform.system()} on {platform.machine()}"]
    problems = []
    if os.geteuid() != 0:
        return ["root is needed for namespaces, mounts and cgroups (sudo, or a privileged container)"]
    for command, package in missing_tools().items():
        problems.append(f"{command} is not on PATH (package {package})")
    if not missing_tools() and not succeeds([*NAMESPACES, "true"]):
        problems.append("mount, network and pid namespaces cannot be made (a container needs --privileged)")
    elif not missing_tools() and not succeeds([*NAMESPACES, "nft", "add", "table", "ip", "probe"]):
        problems.append("the kernel has no nf_tables (modprobe nf_tables)")
    if "\toverlay\n" not in Path("/proc/filesystems").read_text() and not succeeds(["modprobe", "overlay"]):
        problems.append("the kernel has no overlay file system (modprobe overlay)")
    if not any(line.split()[2] in ("cgroup", "cgroup2") for line in Path("/proc/mounts").read_text().splitlines()):
        problems.append("no cgroup file system is mounted")
    if not Path("/etc/hosts").exists():
        problems.append("there is no /etc/hosts; containerd copies it into pods")
    return problems + _memory() + _disk([(cache_dir(), 1 if build.is_cached() else 6), (_existing_parent(state_root()), 2)])


def _memory() -> list[str]:
    """3 GB to build, 1.5 GB to run (0.8 GiB measured, without workloads)."""
    needed = 1.5 if build.is_cached() else 3
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024 / GIGABYTE
            if available < needed:
                return [f"{needed} GB of free memory are needed, there are {available:.1f} GB"]
    return []


def _disk(folders: list) -> list[str]:
    """A first build takes 3 GB of build cache and 1.5 GB of modules; images and etcd take 1 GB."""
    problems = []
    for path, needed in folders:
        free = shutil.disk_usage(path).free / GIGABYTE
        if free < needed:
            problems.append(f"{needed} GB of disk are needed under {path}, {free:.1f} GB are free (XDG_CACHE_HOME, WEIR_CLUSTER_STATE)")
    return problems


def _existing_parent(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
