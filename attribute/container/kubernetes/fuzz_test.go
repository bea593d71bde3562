// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"encoding/json"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fleetprof/fleetprof/sample"
)

// Whatever a pod says, what samples carry of it and what is asked for are names of objects.
func FuzzPod(f *testing.F) {
	static := podOf("a", "u", "v1", "Node", "n", "n")
	static.Annotations = map[string]string{configHash: mirrored, configMirror: mirrored}
	for _, o := range []object{static, podOf("a", "u", "apps/v1", "ReplicaSet", "../x", "r"), podOf("a", "u", "batch/v1", "Job", "j", "r")} {
		text, err := json.Marshal(o.PartialObjectMetadata)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var o metav1.PartialObjectMetadata
		if json.Unmarshal(text, &o) != nil {
			return
		}
		registry := prometheus.NewRegistry()
		s := &Source{node: "node-1", owners: NewOwners(4, registry), metrics: newMetrics(registry)}
		s.put(&o)
		labels, _ := s.owners.Lookup(s.uid(&o))
		workloads := 0
		labels.Each(func(name, value string) {
			if name != sample.LabelNode {
				workloads++
			}
			if !isName(value) {
				t.Errorf("%s is %q", name, value)
			}
		})
		if workloads > 1 {
			t.Errorf("a pod of %d workloads: %v", workloads, labels)
		}
		for r := range s.owners.unsettled() {
			if !isName(r.name) || !isName(r.namespace) {
				t.Errorf("%+v would be asked for", r)
			}
		}
	})
}
