// SPDX-License-Identifier: Apache-2.0

// Package containerd learns from containerd what its containers are called: names,
// images, pods.
//
// A [Source] lists the containers of all namespaces once it is connected and follows
// containerd's events from then on: a container is asked for when it is made, so that
// one that lives for a second only is known. What it learns goes into a
// [container.Table], where it stays when the connection breaks; until it is there again
// only new containers lack names. Nothing that is sampled waits for any of this.
//
// The protocol is gRPC on a Unix socket, services containerd.services.containers.v1,
// events.v1 and namespaces.v1 of github.com/containerd/containerd/api, which containerd
// 1.3 and later serve.
//
// What bites: labels of a container can come from its image, which anybody may have
// made (see describe.go). And ids are unique in one namespace only.
package containerd
