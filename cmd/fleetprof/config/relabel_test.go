// SPDX-License-Identifier: Apache-2.0

package config

import (
	"maps"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	prom "github.com/prometheus/prometheus/model/relabel"

	"github.com/fleetprof/fleetprof/attribute/relabel"
	"github.com/fleetprof/fleetprof/sample"
)

// The labels of the process in the cases below, and what rules see besides.
func testLabels() map[string]string {
	return map[string]string{
		"host_name": "node-1", "process_executable_name": "Checkout", "process_pid": "4711",
		"container_id": "c0ffee", "service_name": "shop", "k8s_namespace_name": "shop",
	}
}

func testMeta() map[string]string {
	all := map[string]string{
		"__meta_process_executable_path": "/srv/Checkout", "__meta_process_cgroup": "/kubepods/burstable/pod1/c0ffee",
	}
	for name, value := range testLabels() {
		all["__meta_"+name] = value
	}
	return all
}

// relabelCases are lists of rules, and what they leave of testLabels: changes, with an
// empty value for a label that is gone.
var relabelCases = []struct {
	name, rules string
	dropped     bool
	changed     map[string]string
}{
	{name: "no rules", rules: `[]`},
	{name: "replace: defaults", rules: `[{source_labels: [service_name], target_label: team}]`, changed: map[string]string{"team": "shop"}},
	{name: "replace: literal", rules: `[{target_label: team, replacement: payments}]`, changed: map[string]string{"team": "payments"}},
	{name: "replace: groups", rules: `[{source_labels: [host_name], regex: '(.*)-(\d+)', target_label: rack, replacement: '${2}_$1'}]`, changed: map[string]string{"rack": "1_node"}},
	{name: "replace: the regex is anchored", rules: `[{source_labels: [host_name], regex: node, target_label: rack, replacement: x}]`},
	{name: "replace: sources joined", rules: `[{source_labels: [service_name, host_name], target_label: both}]`, changed: map[string]string{"both": "shop;node-1"}},
	{name: "replace: separator", rules: `[{source_labels: [service_name, host_name], separator: "", target_label: both}]`, changed: map[string]string{"both": "shopnode-1"}},
	{name: "replace: source that is not there", rules: `[{source_labels: [nothing], target_label: service_name}]`, changed: map[string]string{"service_name": ""}},
	{name: "replace: empty replacement removes", rules: `[{source_labels: [service_name], target_label: service_name, replacement: ""}]`, changed: map[string]string{"service_name": ""}},
	{name: "replace: name from a value", rules: `[{source_labels: [service_name], target_label: 'of_$1', replacement: "yes"}]`, changed: map[string]string{"of_shop": "yes"}},
	{name: "replace: name that is none", rules: `[{source_labels: [host_name], target_label: 'of_$1', replacement: "yes"}]`},
	{name: "replace: numbers are texts", rules: `[{source_labels: [process_pid], regex: 4711, target_label: n, replacement: 12}]`, changed: map[string]string{"n": "12"}},
	{name: "replace: empty regex", rules: `[{source_labels: [nothing], regex: "", target_label: found, replacement: none}]`, changed: map[string]string{"found": "none"}},
	{name: "replace: a dot is any character", rules: `[{source_labels: [host_name], regex: 'node.1', target_label: a, replacement: b}]`, changed: map[string]string{"a": "b"}},
	{name: "replace: path", rules: `[{source_labels: [__meta_process_executable_path], regex: '/srv/(.+)', target_label: service_name}]`, changed: map[string]string{"service_name": "Checkout"}},
	{name: "keep", rules: `[{source_labels: [k8s_namespace_name], regex: shop|bank, action: keep}]`},
	{name: "keep: not", rules: `[{source_labels: [k8s_namespace_name], regex: bank, action: keep}]`, dropped: true},
	{name: "keep: in capitals", rules: `[{source_labels: [k8s_namespace_name], regex: bank, action: KEEP}]`, dropped: true},
	{name: "drop", rules: `[{source_labels: [__meta_process_executable_name], regex: Check.*, action: drop}]`, dropped: true},
	{name: "drop: not", rules: `[{source_labels: [__meta_process_executable_name], regex: Check, action: drop}]`},
	{name: "drop: everything", rules: `[{action: drop}]`, dropped: true},
	{name: "drop: by cgroup", rules: `[{source_labels: [__meta_process_cgroup], regex: '/kubepods/.*', action: drop}]`, dropped: true},
	{name: "keepequal", rules: `[{source_labels: [service_name], target_label: k8s_namespace_name, action: keepequal}]`},
	{name: "keepequal: not", rules: `[{source_labels: [service_name], target_label: host_name, action: keepequal}]`, dropped: true},
	{name: "dropequal", rules: `[{source_labels: [service_name], target_label: k8s_namespace_name, action: dropequal}]`, dropped: true},
	{name: "dropequal: not", rules: `[{source_labels: [service_name], target_label: host_name, action: dropequal}]`},
	{name: "hashmod", rules: `[{source_labels: [service_name], modulus: 8, target_label: shard, action: hashmod}]`, changed: map[string]string{"shard": "5"}},
	{name: "hashmod: one of two shards", rules: "- {source_labels: [process_pid], modulus: 2, target_label: __tmp_shard, action: hashmod}\n- {source_labels: [__tmp_shard], regex: '2', action: keep}", dropped: true},
	{name: "labelmap", rules: `[{regex: __meta_k8s_(.+), action: labelmap}]`, changed: map[string]string{"namespace_name": "shop"}},
	{name: "labelmap: replacement", rules: `[{regex: __meta_k8s_(.+)_name, replacement: 'kube_$1', action: labelmap}]`, changed: map[string]string{"kube_namespace": "shop"}},
	{name: "labeldrop", rules: `[{regex: process_pid|container_id, action: labeldrop}]`, changed: map[string]string{"process_pid": "", "container_id": ""}},
	{name: "labelkeep", rules: `[{regex: host_name|service_name, action: labelkeep}]`, changed: map[string]string{"process_pid": "", "container_id": "", "process_executable_name": "", "k8s_namespace_name": ""}},
	{name: "lowercase", rules: `[{source_labels: [process_executable_name], target_label: service_name, action: lowercase}]`, changed: map[string]string{"service_name": "checkout"}},
	{name: "uppercase", rules: `[{source_labels: [service_name, host_name], separator: /, target_label: service_name, action: uppercase}]`, changed: map[string]string{"service_name": "SHOP/NODE-1"}},
	{name: "in order", rules: "- {target_label: a, replacement: x}\n- {source_labels: [a], target_label: b, replacement: '${1}y'}\n- {source_labels: [b], regex: xy, action: keep}", changed: map[string]string{"a": "x", "b": "xy"}},
	{name: "dropped by the first", rules: "- {action: drop}\n- {target_label: a, replacement: x}", dropped: true},
	{name: "names with two underscores go", rules: `[{target_label: __a, replacement: x}, {source_labels: [__a], target_label: b}]`, changed: map[string]string{"b": "x"}},
	{name: "meta labels can be changed", rules: `[{target_label: __meta_host_name, replacement: x}, {source_labels: [__meta_host_name], target_label: b}]`, changed: map[string]string{"b": "x"}},
	{name: "the host has another name", rules: `[{target_label: host_name, replacement: x}]`, changed: map[string]string{"host_name": "x"}},
	{name: "the host has no name", rules: `[{regex: host_name, action: labeldrop}]`, changed: map[string]string{"host_name": ""}},
}

// Our reader and cache around Prometheus' implementation give what Prometheus gives
// when it reads the same text, and what the documentation of the actions says.
func TestRelabellingAgreesWithPrometheus(t *testing.T) {
	for _, tt := range relabelCases {
		t.Run(tt.name, func(t *testing.T) {
			var want map[string]string
			if !tt.dropped {
				want = testLabels()
				maps.Copy(want, tt.changed)
				maps.DeleteFunc(want, func(_, value string) bool { return value == "" })
			}
			file := "relabel_configs:\n" + indented(tt.rules)
			if got := byPrometheus(t, file); !maps.Equal(got, want) {
				t.Errorf("Prometheus: %v\nwant        %v", got, want)
			}
			if got := byUs(t, file); !maps.Equal(got, want) {
				t.Errorf("we:  %v\nwant %v", got, want)
			}
		})
	}
}

func indented(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n" }

// byPrometheus gives what Prometheus leaves of the labels; nil if it drops the process.
func byPrometheus(t *testing.T, text string) map[string]string {
	t.Helper()
	var file struct {
		Rules []*prom.Config `yaml:"relabel_configs"`
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Rules {
		if err := c.Validate(model.LegacyValidation); err != nil {
			t.Fatal(err)
		}
	}
	builder := labels.NewBuilder(labels.FromMap(testLabels()))
	for name, value := range testMeta() {
		builder.Set(name, value)
	}
	if !prom.ProcessBuilder(builder, file.Rules...) {
		return nil
	}
	left := builder.Labels().Map()
	maps.DeleteFunc(left, func(name, _ string) bool { return strings.HasPrefix(name, "__") })
	return left
}

// byUs gives what samples of the process carry; nil if it is dropped.
func byUs(t *testing.T, text string) map[string]string {
	t.Helper()
	f, err := Parse("test.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	given, meta := testLabels(), testMeta()
	r := relabel.New(relabel.Options{
		Host: given["host_name"], Cgroup: func(uint64, uint32) string { return meta["__meta_process_cgroup"] },
		Registerer: prometheus.NewRegistry(), CacheSize: 1,
	})
	r.Use(f.Rules)
	d := r.Decide(relabel.Process{Process: sample.Process{PID: 4711, Path: meta["__meta_process_executable_path"]}, Labels: sample.Labels{
		Executable: given["process_executable_name"], PID: given["process_pid"], Container: given["container_id"],
		More: sample.NewLabelSet(map[string]string{
			"service_name": given["service_name"], "k8s_namespace_name": given["k8s_namespace_name"],
		}),
	}})
	if !d.Keep {
		return nil
	}
	left := make(map[string]string)
	if !d.Labels.NoHost && d.Labels.More.Get(sample.LabelHost) == "" {
		left[sample.LabelHost] = given["host_name"] // as the window adds it
	}
	d.Labels.Each(func(name, value string) { left[name] = value })
	return left
}

// Every action of Prometheus is in the table, so that it stays complete.
func TestAllActionsAreInTheTable(t *testing.T) {
	for _, action := range []prom.Action{
		prom.Replace, prom.Keep, prom.Drop, prom.KeepEqual, prom.DropEqual, prom.HashMod, prom.LabelMap, prom.LabelDrop,
		prom.LabelKeep, prom.Lowercase, prom.Uppercase,
	} {
		found := false
		for _, tt := range relabelCases {
			found = found || strings.Contains(tt.rules, "action: "+string(action)) || action == prom.Replace
		}
		if !found {
			t.Errorf("no case of %s", action)
		}
	}
}
