// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"maps"
	"slices"
	"strings"
)

// The labels of workloads, see Labels.More.
const (
	LabelContainerName = "container_name"
	LabelImage         = "container_image_name"
	LabelNamespace     = "k8s_namespace_name"
	LabelPod           = "k8s_pod_name"
	LabelPodUID        = "k8s_pod_uid"
	LabelPodContainer  = "k8s_container_name"
	LabelNode          = "k8s_node_name"
	LabelDeployment    = "k8s_deployment_name"
	LabelReplicaSet    = "k8s_replicaset_name"
	LabelStatefulSet   = "k8s_statefulset_name"
	LabelDaemonSet     = "k8s_daemonset_name"
	LabelJob           = "k8s_job_name"
	LabelCronJob       = "k8s_cronjob_name"
	LabelECSTask       = "aws_ecs_task_arn"
	LabelECSFamily     = "aws_ecs_task_family"
	LabelECSRevision   = "aws_ecs_task_revision"

	// LabelPodPrefix begins the names of pod labels.
	LabelPodPrefix = "k8s_pod_label_"
)

// LabelSet is a set of labels that does not change. Two are equal if they have the
// same labels, so that it can be part of a map key. The zero value has none.
type LabelSet struct {
	// text is name, NUL, value, NUL for each label, ordered by name.
	text string
}

// NewLabelSet makes a set. Empty names and values are left out, as are those with a NUL,
// which no label has.
func NewLabelSet(labels map[string]string) LabelSet {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		value := labels[name]
		if name == "" || value == "" || strings.Contains(name+value, "\x00") {
			continue
		}
		text.WriteString(name + "\x00" + value + "\x00")
	}
	return LabelSet{text.String()}
}

// With is the set with the labels of another, which win.
func (s LabelSet) With(more LabelSet) LabelSet {
	if s.text == "" || more.text == "" {
		return LabelSet{s.text + more.text}
	}
	all := make(map[string]string)
	add := func(name, value string) { all[name] = value }
	s.Each(add)
	more.Each(add)
	return NewLabelSet(all)
}

// Each calls f for every label, ordered by name.
func (s LabelSet) Each(f func(name, value string)) {
	for s.text != "" {
		var name, value string
		name, value, s = s.first()
		f(name, value)
	}
}

// Get is the value of a label, "" if it is absent.
func (s LabelSet) Get(name string) (value string) {
	s.Each(func(n, v string) {
		if n == name {
			value = v
		}
	})
	return value
}

// Bytes is the memory that the names and values take.
func (s LabelSet) Bytes() int { return len(s.text) }

// eachBelow does as Each for the labels that come before a name, and returns the others.
func (s LabelSet) eachBelow(limit string, f func(name, value string)) LabelSet {
	for s.text != "" {
		name, value, rest := s.first()
		if name >= limit {
			break
		}
		f(name, value)
		s = rest
	}
	return s
}

// first splits a set that is not empty.
func (s LabelSet) first() (name, value string, rest LabelSet) {
	name, after, _ := strings.Cut(s.text, "\x00")
	value, text, _ := strings.Cut(after, "\x00")
	return name, value, LabelSet{text}
}
