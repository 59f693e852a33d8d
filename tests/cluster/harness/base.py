"""What every part uses: messages, commands, locks, folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
REPOSITORY = HERE.parent.parent
_started = time.monotonic()


class Failure(Exception):
    """What went wrong, in words for whoever typed the command."""


def say(message: str) -> None:
    """Progress goes to stderr; stdout carries results only."""
    print(f"[{time.monotonic() - _started:6.1f}s] {message}", file=sys.stderr, flush=True)


def cache_dir() -> Path:
    """What is expensive to make and safe to delete."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = base / "weir"
    path.mkdir(parents=True, exist_ok=True)
    return path


def state_root() -> Path:
    """Running instances. Short, because unix socket paths end at 107 bytes; on a disk, because images are unpacked there."""
    return Path(os.environ.get("WEIR_CLUSTER_STATE") or "/var/lib/weir-cluster")


def run(command: list, *, quiet: bool = True, timeout: float = 600, **options) -> str:
    """Stdout of a command that must succeed; the Failure carries the end of its stderr."""
    words = [str(word) for word in command]
    stderr = subprocess.PIPE if quiet else None
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=stderr, text=True, timeout=timeout, **options)
    except FileNotFoundError as error:
        raise Failure(f"{words[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{' '.join(words)}: no end after {timeout:.0f} s") from error
    if done.returncode:
        tail = "\n".join(((done.stderr or "") + done.stdout).strip().splitlines()[-12:])
        raise Failure(f"{' '.join(words)}: exit status {done.returncode}\n{tail}".rstrip())
    return done.stdout


def succeeds(command: list, **options) -> bool:
    """Whether a command exits 0; its output is dropped."""
    words = [str(word) for word in command]
    try:
        return subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options).returncode == 0
    except FileNotFoundError:
        return False


def digest(*parts: bytes) -> str:
    """A short name for content, with each part delimited."""
    total = hashlib.sha256()
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()[:16]


@contextlib.contextmanager
def file_lock(path: Path):
    """One process at a time; the kernel frees the lock of a killed one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process that is making {path.stem}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def state_lock():
    """Lock on the state folder itself, which its last user removes."""
    root = state_root()
    while True:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(handle, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.stat(root).st_ino == os.fstat(handle).st_ino:
                break
        os.close(handle)
    try:
        yield root
    finally:
        with contextlib.suppress(OSError):
            root.rmdir()
        os.close(handle)


def made_once(final: Path, make) -> Path:
    """`final`, made by `make(folder)` in a temporary folder beside it and renamed when complete."""
    if final.is_dir():
        return final
    with file_lock(final.parent / f".{final.name}.lock"):
        if final.is_dir():
            return final
        for stale in final.parent.glob(f".{final.name}.tmp*"):
            shutil.rmtree(stale, ignore_errors=True)
        folder = final.parent / f".{final.name}.tmp{os.getpid()}"
        folder.mkdir(parents=True)
        try:
            make(folder)
            folder.rename(final)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    return final


def start_time(pid: int) -> str | None:
    """When a process started, in clock ticks: with its pid, its identity. None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] in "ZX" else fields[19]


def identity(pid: int) -> dict:
    """A process, told from a later one with the same number."""
    return {"pid": pid, "start": start_time(pid)}


def is_alive(process: dict | None) -> bool:
    """Whether the very process of `identity` still runs."""
    return bool(process) and process["start"] is not None and start_time(process["pid"]) == process["start"]


def tail(path: Path, lines: int = 12) -> str:
    """The end of a log."""
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return ""
