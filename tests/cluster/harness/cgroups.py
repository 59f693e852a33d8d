"""The cgroup of an instance, in the unified hierarchy or in every version 1 one."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

_V1_COPIED = ("cpuset.cpus", "cpuset.mems")


def hierarchies() -> list[Path]:
    """Mount points of cgroup file systems."""
    points = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind = line.split()[:3]
        if kind in ("cgroup", "cgroup2"):
            points.append(Path(point))
    return points


def create(name: str) -> None:
    """The kubelet's cgroup root must exist before it starts."""
    for hierarchy in hierarchies():
        folder = hierarchy / name
        controllers = hierarchy / "cgroup.controllers"
        if controllers.exists():
            enabled = " ".join(f"+{controller}" for controller in controllers.read_text().split())
            with contextlib.suppress(OSError):
                (hierarchy / "cgroup.subtree_control").write_text(enabled)
        folder.mkdir(exist_ok=True)
        if controllers.exists() and enabled:
            with contextlib.suppress(OSError):
                (folder / "cgroup.subtree_control").write_text(enabled)
        for file in _V1_COPIED:
            if (hierarchy / file).exists() and not (folder / file).read_text().strip():
                (folder / file).write_text((hierarchy / file).read_text())


def folders(name: str) -> list[Path]:
    """Every folder of an instance's cgroup, deepest first."""
    found: list[Path] = []
    for hierarchy in hierarchies():
        for path, _, _ in os.walk(hierarchy / name, topdown=False):
            found.append(Path(path))
    return found


def remove(name: str) -> None:
    """Kill what is still in it, then remove it."""
    for _ in range(100):
        remaining = folders(name)
        if not remaining:
            return
        for folder in remaining:
            with contextlib.suppress(OSError):
                folder.rmdir()
                continue
            with contextlib.suppress(OSError):
                for process in (folder / "cgroup.procs").read_text().split():
                    os.kill(int(process), signal.SIGKILL)
        time.sleep(0.02)
