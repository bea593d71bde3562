// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"testing"
	"time"

	grpcgo "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// cri asks a runtime what the kubelet asks it, by the CRI:
// https://github.com/kubernetes/cri-api/blob/master/pkg/apis/runtime/v1/api.proto
// Of its messages only the few fields needed are made, by their numbers.
type cri struct{ connection *grpcgo.ClientConn }

func newCRI(t testing.TB, socket string) cri {
	t.Helper()
	connection, err := grpcgo.NewClient("unix:"+socket, grpcgo.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return cri{connection}
}

// fields is a message: a string, fields or int for each number.
type fields map[protowire.Number][]any

func one(values ...any) []any { return values }

func (f fields) encode() (m []byte) {
	for number, values := range f {
		for _, value := range values {
			switch v := value.(type) {
			case int:
				m = protowire.AppendTag(m, number, protowire.VarintType)
				m = protowire.AppendVarint(m, uint64(v))
			case string:
				m = protowire.AppendTag(m, number, protowire.BytesType)
				m = protowire.AppendString(m, v)
			case fields:
				m = protowire.AppendTag(m, number, protowire.BytesType)
				m = protowire.AppendBytes(m, v.encode())
			}
		}
	}
	return m
}

// criLabels is a map of strings, as a field.
func criLabels(labels map[string]string) (all []any) {
	for name, value := range labels {
		all = append(all, fields{1: one(name), 2: one(value)})
	}
	return all
}

// raw passes messages that are encoded already.
type raw struct{ encoding.CodecV2 }

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// call returns the first field of the answer, a string.
func (c cri) call(t testing.TB, method string, request fields) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var asked, answer = request.encode(), []byte(nil)
	if err := c.connection.Invoke(ctx, "/runtime.v1.RuntimeService/"+method, &asked, &answer, grpcgo.ForceCodecV2(raw{})); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	if len(answer) == 0 {
		return ""
	}
	_, _, n := protowire.ConsumeTag(answer)
	id, m := protowire.ConsumeString(answer[n:])
	if m < 0 {
		t.Fatalf("%s: answer %q", method, answer)
	}
	return id
}

// criPod is a pod with host network, as the kubelet has it made.
type criPod struct {
	cri
	config fields
	id     string
	labels map[string]string // those that the kubelet adds
}

// pod makes a pod, which is removed at the end of the test.
func (c cri) pod(t *testing.T, namespace, name, uid string, labels map[string]string) *criPod {
	t.Helper()
	p := &criPod{cri: c, labels: map[string]string{
		"io.kubernetes.pod.namespace": namespace, "io.kubernetes.pod.name": name, "io.kubernetes.pod.uid": uid,
	}}
	all := make(map[string]string)
	for _, from := range []map[string]string{labels, p.labels} {
		for name, value := range from {
			all[name] = value
		}
	}
	hostNetwork := fields{1: one(fields{1: one(2)})}
	p.config = fields{
		1: one(fields{1: one(name), 2: one(uid), 3: one(namespace)}),
		6: criLabels(all),
		8: one(fields{1: one("/kubepods/burstable/pod" + uid), 2: one(hostNetwork)}),
	}
	p.id = c.call(t, "RunPodSandbox", fields{1: one(p.config)})
	t.Cleanup(func() {
		c.call(t, "StopPodSandbox", fields{1: one(p.id)})
		c.call(t, "RemovePodSandbox", fields{1: one(p.id)})
		removeGroups(t, "/kubepods/burstable/pod"+uid, "/kubepods/burstable", "/kubepods")
	})
	return p
}

// container starts a container of the pod and returns its id.
func (p *criPod) container(t testing.TB, name string, args ...string) string {
	t.Helper()
	labels := map[string]string{"io.kubernetes.container.name": name}
	for name, value := range p.labels {
		labels[name] = value
	}
	config := fields{1: one(fields{1: one(name)}), 2: one(fields{1: one(containerImage)}), 9: criLabels(labels)}
	for _, arg := range args {
		config[4] = append(config[4], arg)
	}
	id := p.call(t, "CreateContainer", fields{1: one(p.id), 2: one(config), 3: one(p.config)})
	p.call(t, "StartContainer", fields{1: one(id)})
	return id
}

// remove kills a container and removes it.
func (p *criPod) remove(t testing.TB, id string) {
	t.Helper()
	p.call(t, "StopContainer", fields{1: one(id), 2: one(0)})
	p.call(t, "RemoveContainer", fields{1: one(id)})
}
