// SPDX-License-Identifier: Apache-2.0

// Package kubernetes learns from the API server of Kubernetes which workload the pods of
// this node are part of: their Deployment, StatefulSet, DaemonSet, Job, CronJob.
//
// A [Source] lists the pods of the node and watches them from then on; only metadata is
// asked for (PartialObjectMetadata). Who owns a ReplicaSet or a Job that owns a pod is
// asked for once, by its name, and believed if its UID is the one that the pod says. What
// is learned goes into [Owners], where it stays when the API server goes away. Nothing that
// is sampled waits for any of this.
//
// What bites: the pods of a node are not its kubelet's only. The kubelet calls a static pod
// by a hash of its configuration, the API server knows its mirror by another UID. And who
// makes a pod writes its ownerReferences: names in them may be any text.
package kubernetes
