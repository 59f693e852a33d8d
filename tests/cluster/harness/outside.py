"""An address outside of the cluster, in the network namespace that this process was started in: it accepts, counts and closes."""

import socket
import subprocess
import sys
from pathlib import Path

address, gateway, port, count = sys.argv[1:]


def ip(*words: str, node: bool = False) -> None:
    """`ip` in this namespace, or in the node's, whose first process is 1."""
    subprocess.run([*(["nsenter", "-t", "1", "-n"] if node else []), "ip", *words], check=True)


ip("link", "add", "name", "eth0", "type", "veth", "peer", "name", "outside0", "netns", "1")
ip("address", "add", f"{address}/24", "dev", "eth0")
ip("link", "set", "lo", "up")
ip("link", "set", "eth0", "up")
ip("address", "add", f"{gateway}/24", "dev", "outside0", node=True)
ip("link", "set", "outside0", "up", node=True)
ip("route", "add", "default", "via", gateway)
with socket.create_server((address, int(port))) as listener:
    connected = 0
    while True:
        whole = Path(f"{count}.tmp")
        whole.write_text(str(connected))
        whole.rename(count)
        listener.accept()[0].close()
        connected += 1
