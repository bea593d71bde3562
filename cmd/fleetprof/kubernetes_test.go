// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
)

// newClusterAPI is an API server of Kubernetes that knows two pods of the node node-1, by
// their UIDs: one of the Deployment cart, one of the StatefulSet ledger. It answers once
// ready is closed. It returns a kubeconfig file.
func newClusterAPI(t *testing.T, ready <-chan struct{}, cart, ledger string) string {
	t.Helper()
	const head = `"apiVersion":"meta.k8s.io/v1","kind":"PartialObjectMetadata`
	object := func(name, uid, kind, owner, ownerUID string) string {
		return fmt.Sprintf(`{%s","metadata":{"name":%q,"namespace":"shop","uid":%q,"ownerReferences":[`+
			`{"apiVersion":"apps/v1","kind":%q,"name":%q,"uid":%q,"controller":true}]}}`, head, name, uid, kind, owner, ownerUID)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-ready:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		switch {
		case r.URL.Path == "/apis/apps/v1/namespaces/shop/replicasets/cart-5d8f":
			fmt.Fprint(w, object("cart-5d8f", "set", "Deployment", "cart", "deployment"))
		case r.URL.Path != "/api/v1/pods" || r.URL.Query().Get("fieldSelector") != "spec.nodeName=node-1":
			http.NotFound(w, r)
		case r.URL.Query().Get("watch") != "":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			fmt.Fprintf(w, `{%sList","metadata":{"resourceVersion":"7"},"items":[%s]}`, head, strings.Join([]string{
				object("cart-0", cart, "ReplicaSet", "cart-5d8f", "set"), object("ledger-0", ledger, "StatefulSet", "ledger", "stateful"),
			}, ","))
		}
	}))
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf("{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: c}}], clusters: [{name: c, cluster: {server: %q}}]}", server.URL)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// What is known of a pod is not all before its owner is known, so that nothing is excluded
// for want of it; then what was decided is decided anew.
func TestOwnersAreWaitedFor(t *testing.T) {
	ready := make(chan struct{})
	config := newClusterAPI(t, ready, "uid-cart", "uid-ledger")
	w, err := newWorkloads(naming{Containerd: t.TempDir() + "/none", Kubernetes: config, NodeName: "node-1"},
		procfs.New("/proc"), container.Hierarchy{}, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for id, labels := range map[string]map[string]string{
		"of a pod": {sample.LabelPodUID: "uid-cart"}, "of none": {sample.LabelContainerName: "lone"},
	} {
		w.names.Put(container.Description{Namespace: "k8s.io", ID: id, Labels: sample.NewLabelSet(labels)})
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	if l, known := w.complete(sample.Labels{Container: "of none"}); !known {
		t.Errorf("a container of no pod waits for owners: %v", l)
	}
	if l, known := w.complete(sample.Labels{Container: "of a pod"}); known {
		t.Errorf("all is known of a pod before anybody told: %v", l)
	}
	close(ready)
	select {
	case <-w.owners.Late():
	case <-time.After(time.Minute):
		t.Fatal("nobody is told that owners came late")
	}
	l, known := w.complete(sample.Labels{Container: "of a pod"})
	if !known || l.Get(sample.LabelDeployment) != "cart" || l.Get(sample.LabelReplicaSet) != "cart-5d8f" || l.Get(sample.LabelPodUID) != "uid-cart" {
		t.Errorf("known %v: %v", known, l)
	}
}

// A program that rules exclude as long as nobody tells of its owner is sampled again once
// the API server answers.
func TestLateOwnersAreObeyed(t *testing.T) {
	needRoot(t)
	const uid = "0a1b2c3d-0000-4000-8000-000000000003"
	config := filepath.Join(t.TempDir(), "config.yaml")
	rules := "relabel_configs: [{source_labels: [process_executable_name, k8s_deployment_name], regex: 'burn;', action: drop}]\n"
	if err := os.WriteFile(config, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	c, ready := newContainerd(t), make(chan struct{})
	agent := newWatcher(t, "--config="+config, "--containerd="+c.socket,
		"--kubernetes="+newClusterAPI(t, ready, uid, "uid-ledger"), "--node-name=node-1")
	pod := plainPod{c: c, podLabels: podLabels{namespace: "shop", pod: "cart-0", uid: uid}, namespace: "k8s.io"}
	pod.start(t, "web", "0")
	excluded := func() float64 { return metrics(t, agent.address)["fleetprof_selection_processes"] }
	awaitTrue(t, "to be excluded", func() bool { return excluded() == 1 })
	close(ready)
	awaitTrue(t, "to be included again", func() bool { return excluded() == 0 })
	awaitTrue(t, "samples", func() bool { return len(deployments(agent.read(t, 0))) > 0 })
	if got := deployments(agent.read(t, 0)); len(got) != 1 || got["cart"] == 0 {
		t.Errorf("samples by Deployment: %v, want those of cart", got)
	}
}

// deployments counts the samples of the program burn by their Deployment.
func deployments(windows []*profile.Profile) map[string]int {
	counts := make(map[string]int)
	for _, w := range windows {
		for _, s := range w.Sample {
			if strings.Join(s.Label["process_executable_name"], "") == "burn" {
				counts[strings.Join(s.Label["k8s_deployment_name"], "")]++
			}
		}
	}
	return counts
}
