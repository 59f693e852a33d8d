// Enforces the NetworkPolicies of a cluster on one node, for tests: the engine of sigs.k8s.io/kube-network-policies, with a
// kubeconfig in the place of a pod's own credentials. Kernels here refuse its nftables rule, so who starts it queues new
// connections by iptables.
package main

import (
	"context"
	"flag"
	"net/http"
	"os/signal"
	"syscall"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "kubeconfig of a user who may read pods, namespaces and NetworkPolicies")
	node := flag.String("node", "", "name of the node")
	queue := flag.Int("queue", 100, "number of the netfilter queue")
	metrics := flag.String("metrics", "127.0.0.1:9080", "address of /metrics: packets by verdict")
	klog.InitFlags(nil)
	flag.Parse()
	if err := run(*kubeconfig, *node, *queue, *metrics); err != nil {
		klog.Exit(err)
	}
}

func run(kubeconfig, node string, queue int, metrics string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	configuration, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(configuration)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	controller, err := networkpolicy.NewController(
		client,
		factory.Networking().V1().NetworkPolicies(),
		factory.Core().V1().Namespaces(),
		factory.Core().V1().Pods(),
		nil, nil, nil, nil,
		// containerd's plugin interface is not there, which the engine reports and survives; told so, version 0.8.0 panics.
		networkpolicy.Config{QueueID: queue, NodeName: node},
	)
	if err != nil {
		return err
	}
	http.Handle("/metrics", promhttp.Handler())
	go func() { klog.Error(http.ListenAndServe(metrics, nil)) }()
	factory.Start(ctx.Done())
	return controller.Run(ctx)
}
