"""A Ray cluster of several nodes on this machine. A program of its own: Ray reads its settings once in a process.

``python hetee_ray_cluster.py NAME...`` starts a node for each name, and prints address and folder as JSON. Each line
of its input is the name of a node, which is killed. It ends the cluster when its input ends.
"""

from __future__ import annotations

import json
import sys

STORE_BYTES = 80 << 20


def main() -> None:
    """Run the program."""
    from ray.cluster_utils import Cluster

    cluster, nodes = Cluster(), {}
    for name in sys.argv[1:]:
        nodes[name] = cluster.add_node(
            num_cpus=1,
            node_name=name,
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            wait=False,
        )
    folder = next(iter(nodes.values())).get_session_dir_path()
    print(json.dumps({"address": cluster.address, "folder": folder}), flush=True)
    for line in sys.stdin:
        cluster.remove_node(nodes.pop(line.strip()), allow_graceful=False)
        print("{}", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
