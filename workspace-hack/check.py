#!/usr/bin/env python3
"""Fail where a binary takes a dependency with other features than the workspace as a whole does, and say what to add."""

import collections
import subprocess
import sys

BINARIES = {
    "weir-operator": ["-p", "weir-operator"],
    "weir-gateway": ["-p", "weir-gateway"],
    "weir-gateway of the local plane": ["-p", "weir-gateway", "--no-default-features"],
    "weir-node-agent": ["-p", "weir-node-agent"],
    "weir-engine": ["-p", "weir-engine-server"],
    "weir-tests": ["-p", "weir-tests", "--features", "e2e"],
}


def features(selection: list[str]) -> dict[str, set[str]]:
    """Features of every dependency that a build of these packages links, by name and version."""
    command = ["cargo", "tree", "--locked", *selection, "--edges", "normal", "--prefix", "none", "--no-dedupe", "--format", "{p}|{f}"]
    found: dict[str, set[str]] = collections.defaultdict(set)
    for line in subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines():
        package, separator, names = line.partition("|")
        if separator and "(/" not in package:
            found[package.split(" (")[0]].update(filter(None, names.split(",")))
    return found


def main() -> int:
    everything = features(["--workspace"])
    missing: dict[str, set[str]] = collections.defaultdict(set)
    for binary, selection in BINARIES.items():
        for package, names in features(selection).items():
            for name in everything[package] - names:
                missing[f"{package} [{name}]"].add(binary)
    for what, binaries in sorted(missing.items()):
        print(f"{what} is not asked for by {', '.join(sorted(binaries))}", file=sys.stderr)
    if missing:
        print("add them to workspace-hack/Cargo.toml", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
