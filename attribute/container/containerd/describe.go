// SPDX-License-Identifier: Apache-2.0

package containerd

import (
	"cmp"
	"fmt"
	"strings"

	containers "github.com/containerd/containerd/api/services/containers/v1"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/sample"
)

// kubernetes is the namespace of all containers that containerd's CRI plugin makes
// (K8sContainerdNamespace in containerd's internal/cri/constants). Only there labels
// are taken for the kubelet's: elsewhere whoever made the image may have set them. The
// kubelet sets all of them, and what it sets goes before what the image has.
const kubernetes = "k8s.io"

// The labels that the kubelet sets, pkg/kubelet/types/labels.go of Kubernetes. It puts
// those of a pod on its sandbox, with its own.
const (
	podName       = "io.kubernetes.pod.name"
	podNamespace  = "io.kubernetes.pod.namespace"
	podUID        = "io.kubernetes.pod.uid"
	containerName = "io.kubernetes.container.name"
)

// kind is set by the CRI plugin: "sandbox" for the container that holds a pod's
// namespaces, "container" for the others (internal/cri/labels of containerd).
const kind = "io.cri-containerd.kind"

// The labels that Amazon ECS sets, see "Amazon ECS container metadata" of its manual.
const (
	ecsTask      = "com.amazonaws.ecs.task-arn"
	ecsFamily    = "com.amazonaws.ecs.task-definition-family"
	ecsRevision  = "com.amazonaws.ecs.task-definition-version"
	ecsContainer = "com.amazonaws.ecs.container-name"
)

// nerdctlName is set by nerdctl, pkg/labels of it.
const nerdctlName = "nerdctl/name"

// maxValue bounds the bytes of one value: references to images may have 255 bytes of
// name, 128 of tag and 71 of digest; everything of Kubernetes is shorter.
const maxValue = 512

// describer makes of containerd's description what the table keeps.
type describer struct {
	// podLabels are the pod labels asked for, by name: the label each becomes.
	podLabels map[string]string
	// tooLong counts values that were left out.
	tooLong prometheus.Counter
}

// newDescriber makes one for the pod labels of these names.
func newDescriber(podLabels []string, tooLong prometheus.Counter) (describer, error) {
	d := describer{podLabels: make(map[string]string), tooLong: tooLong}
	from := make(map[string]string)
	for _, name := range podLabels {
		label := podLabel(name)
		if other, taken := from[label]; taken && other != name {
			return d, fmt.Errorf("pod labels %q and %q: both would be the label %s", other, name, label)
		}
		from[label], d.podLabels[name] = name, label
	}
	return d, nil
}

// podLabel is the label that shows a pod label: k8s.pod.label.NAME of OpenTelemetry, with
// an underscore for everything that no label name of Prometheus has.
func podLabel(name string) string {
	return sample.LabelPodPrefix + strings.Map(func(r rune) rune {
		letter := 'a' <= r|0x20 && r|0x20 <= 'z' && r < 0x80
		if letter || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, name)
}

// describe is pure. Nothing of the message is kept in memory, which is far larger
// than what is wanted of it.
func (d describer) describe(namespace string, c *containers.Container) container.Description {
	get := func(name string) string { return d.bounded(c.Labels[name]) }
	described := container.Description{Namespace: strings.Clone(namespace), ID: strings.Clone(c.ID), Created: c.CreatedAt.AsTime()}
	labels := map[string]string{sample.LabelImage: d.bounded(c.Image)}
	if namespace == kubernetes {
		described.PodUID = get(podUID)
		labels[sample.LabelNamespace] = get(podNamespace)
		labels[sample.LabelPod] = get(podName)
		labels[sample.LabelPodUID] = described.PodUID
		labels[sample.LabelPodContainer] = get(containerName)
		labels[sample.LabelContainerName] = labels[sample.LabelPodContainer]
		if c.Labels[kind] == "sandbox" {
			described.Pod = d.pod(c.Labels)
		}
	} else {
		labels[sample.LabelECSTask] = get(ecsTask)
		labels[sample.LabelECSFamily] = get(ecsFamily)
		labels[sample.LabelECSRevision] = get(ecsRevision)
		labels[sample.LabelContainerName] = cmp.Or(get(ecsContainer), get(nerdctlName))
	}
	if labels[sample.LabelContainerName] == "" && !container.IsRandom(c.ID) {
		labels[sample.LabelContainerName] = described.ID // ctr has no other name
	}
	described.Labels = sample.NewLabelSet(labels)
	return described
}

// pod takes from the labels of a sandbox those of its pod.
func (d describer) pod(labels map[string]string) *container.Pod {
	chosen := make(map[string]string)
	for name, label := range d.podLabels {
		chosen[label] = d.bounded(labels[name])
	}
	return &container.Pod{
		Labels: sample.NewLabelSet(chosen),
		App:    cmp.Or(d.bounded(labels["app.kubernetes.io/name"]), d.bounded(labels["app"])),
	}
}

// bounded is a copy of a value, or nothing of one that is too long.
func (d describer) bounded(value string) string {
	if len(value) > maxValue {
		d.tooLong.Inc()
		return ""
	}
	return strings.Clone(value)
}
