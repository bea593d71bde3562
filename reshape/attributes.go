// SPDX-License-Identifier: Apache-2.0

package reshape

import (
	"strconv"
	"strings"

	common "go.opentelemetry.io/proto/otlp/common/v1"

	"github.com/fleetprof/fleetprof/sample"
)

// attribute is the name of a label in OpenTelemetry's semantic conventions. A label that is none of
// them keeps its name. Whoever spells dots as underscores again gets our labels.
// https://opentelemetry.io/docs/specs/semconv/registry/attributes/
func attribute(label string) string {
	if pod, ok := strings.CutPrefix(label, sample.LabelPodPrefix); ok {
		return "k8s.pod.label." + pod
	}
	switch label {
	case sample.LabelHost, sample.LabelService, sample.LabelPID, sample.LabelExecutable, sample.LabelThread,
		sample.LabelContainer, sample.LabelContainerName, sample.LabelImage,
		sample.LabelHTTPMethod, sample.LabelHTTPRoute, sample.LabelURLTemplate, sample.LabelRPCMethod, sample.LabelRPCSystem,
		sample.LabelNamespace, sample.LabelPod, sample.LabelPodUID, sample.LabelPodContainer, sample.LabelNode,
		sample.LabelDeployment, sample.LabelReplicaSet, sample.LabelStatefulSet, sample.LabelDaemonSet, sample.LabelJob, sample.LabelCronJob,
		sample.LabelECSTask, sample.LabelECSFamily, sample.LabelECSRevision:
		return strings.ReplaceAll(label, "_", ".")
	}
	return label
}

// ofResource reports whether a label says where samples come from rather than what they are.
func ofResource(label string) bool {
	for _, prefix := range []string{"container_", "k8s_", "aws_"} {
		if strings.HasPrefix(label, prefix) {
			return true
		}
	}
	return label == sample.LabelHost || label == sample.LabelService || label == sample.LabelUnit
}

// anyValue is the value of an attribute: a number where the conventions say so.
func anyValue(label, value string) *common.AnyValue {
	if label == sample.LabelPID {
		if pid, err := strconv.ParseInt(value, 10, 64); err == nil {
			return &common.AnyValue{Value: &common.AnyValue_IntValue{IntValue: pid}}
		}
	}
	return &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}
}
