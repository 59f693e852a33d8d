"""A real single-node Kubernetes on one machine, made of namespaces and removed by killing one process."""
