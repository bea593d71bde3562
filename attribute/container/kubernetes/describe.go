// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"encoding/hex"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/fleetprof/fleetprof/sample"
)

// The annotations of a mirror pod, pkg/kubelet/types of Kubernetes: both have the UID that
// the kubelet itself gave the static pod, in hexadecimal digits.
const (
	configHash   = "kubernetes.io/config.hash"
	configMirror = "kubernetes.io/config.mirror"
)

const (
	// maxName is the longest name of an object, maxUID of what the kubelet may call a pod
	// (36 characters, or 32).
	maxName = 253
	maxUID  = 64
)

// reference is an object that owns another, and the namespace of both.
type reference struct {
	resource             schema.GroupVersionResource
	namespace, name, uid string
}

// kind is a kind of workload.
type kind struct{ group, name string }

// workloads are the kinds of workloads that OpenTelemetry's conventions name, and the label
// of each. Others may have the same kind in groups of their own.
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/k8s/
var workloads = map[kind]string{
	{"apps", "Deployment"}:  sample.LabelDeployment,
	{"apps", "ReplicaSet"}:  sample.LabelReplicaSet,
	{"apps", "StatefulSet"}: sample.LabelStatefulSet,
	{"apps", "DaemonSet"}:   sample.LabelDaemonSet,
	{"batch", "Job"}:        sample.LabelJob,
	{"batch", "CronJob"}:    sample.LabelCronJob,
}

// intermediate are the workloads that other workloads make.
var intermediate = map[string]schema.GroupVersionResource{
	sample.LabelReplicaSet: {Group: "apps", Version: "v1", Resource: "replicasets"},
	sample.LabelJob:        {Group: "batch", Version: "v1", Resource: "jobs"},
}

// controller gives the label of the workload that controls an object, and the workload
// itself where it may have an owner in turn. All is empty if no workload that is known
// controls it; ok is false if its name cannot be that of one.
func controller(o *metav1.PartialObjectMetadata) (label, name string, up reference, ok bool) {
	ref := metav1.GetControllerOfNoCopy(o)
	if ref == nil {
		return "", "", reference{}, true
	}
	group, err := schema.ParseGroupVersion(ref.APIVersion)
	if err != nil {
		return "", "", reference{}, false
	}
	label = workloads[kind{group.Group, ref.Kind}]
	if label == "" {
		return "", "", reference{}, true
	}
	if !isName(ref.Name) {
		return "", "", reference{}, false
	}
	if resource, further := intermediate[label]; further && isName(o.Namespace) {
		up = reference{resource, o.Namespace, ref.Name, string(ref.UID)}
	}
	return label, ref.Name, up, true
}

// isName reports whether a text can be the name of an object: a DNS subdomain, RFC 1123.
// Nobody checks that of the names in ownerReferences, which become parts of paths here.
func isName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i, c := range []byte(s) {
		within := 0 < i && i < len(s)-1 && (c == '-' || c == '.')
		if !within && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// isMirror reports whether a pod stands for a static one, which has no workload, and gives
// what the kubelet calls that. A hash is no UUID, so it is never the UID of another pod.
func isMirror(o *metav1.PartialObjectMetadata) (uid string, mirror bool) {
	hash, ok := o.Annotations[configMirror]
	if !ok {
		return "", false
	}
	digits, err := hex.DecodeString(hash)
	return hash, err == nil && len(digits) == 16 && o.Annotations[configHash] == hash
}
