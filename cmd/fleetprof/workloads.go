// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/fleetprof/fleetprof/attribute/container"
	"github.com/fleetprof/fleetprof/attribute/container/containerd"
	"github.com/fleetprof/fleetprof/attribute/container/kubernetes"
	"github.com/fleetprof/fleetprof/attribute/service"
	"github.com/fleetprof/fleetprof/internal/procfs"
	"github.com/fleetprof/fleetprof/sample"
	"github.com/fleetprof/fleetprof/symbolize"
)

// naming is the flags of what containers and services are called.
type naming struct {
	Containerd string             `help:"Socket of containerd, which knows the names, images and pods of containers; auto is the first of the usual places that exists, empty is none." default:"auto" placeholder:"PATH"`
	PodLabels  []string           `help:"Labels of Kubernetes pods to put on samples, as k8s_pod_label_NAME." placeholder:"NAME,…"`
	Kubernetes string             `help:"API of Kubernetes, which knows the owners of this node's pods, such as k8s_deployment_name: a kubeconfig file; auto is the service account of the agent's own pod, if it has one; empty is none." default:"auto" placeholder:"FILE"`
	Demangle   symbolize.Demangle `help:"Names of C++ and Rust: full, with parameters and arguments of templates; simplified, without; or none, as the linker has them." enum:"full,simplified,none" default:"simplified"`
	Symbolize  string             `help:"Who names code of files that have a build ID: agent, here, or store: profiles then have build IDs and addresses, and the store needs the debug information. Code of the kernel, generated code and files without a build ID are named here all the same." enum:"agent,store" default:"agent"`
	NodeName   string             `help:"Name of this node in Kubernetes, spec.nodeName of its pods. Default: this host's name." placeholder:"NAME"`
}

// symbolizeStore is the --symbolize that leaves names to the store.
const symbolizeStore = "store"

// The bounds of what is remembered: more than the containers of any host, those that
// ended in the last minutes included, and the processes sampled in one window.
const (
	cgroupsRemembered    = 16384
	containersRemembered = 8192
	executionsRemembered = 16384
	podsRemembered       = 2048
)

// declarationTime bounds how long the metrics of a process, and all that is in a window, wait for its own name,
// which takes a fraction of a millisecond.
const declarationTime = 10 * time.Millisecond

// workloads knows where a process runs and what that is called. All it says comes from
// memory; what fills that runs beside the sampling.
type workloads struct {
	places   *container.Resolver // nil where containers cannot be told apart
	names    *container.Table
	source   *containerd.Source // nil if nobody is to be asked
	owners   *kubernetes.Owners
	cluster  *kubernetes.Source // nil if nobody is to be asked
	declared *service.Declarations
}

func newWorkloads(n naming, proc procfs.FS, h container.Hierarchy, reg prometheus.Registerer, log *slog.Logger) (*workloads, error) {
	w := &workloads{
		names:    container.NewTable(containersRemembered, reg),
		owners:   kubernetes.NewOwners(podsRemembered, reg),
		declared: service.NewDeclarations(proc, executionsRemembered, reg),
	}
	if h.MountPoint != "" {
		w.places = container.New(container.Options{
			FS: proc, Hierarchy: h, CacheSize: cgroupsRemembered, Logger: log, Registerer: reg,
		})
	}
	if n.Containerd == "" {
		return w, nil // without it no container is known to be a pod's
	}
	var err error
	w.source, err = containerd.New(containerd.Options{
		Socket: n.Containerd, PodLabels: n.PodLabels, Table: w.names, Logger: log, Registerer: reg,
	})
	if err != nil {
		return nil, fmt.Errorf("--pod-labels: %w", err)
	}
	w.cluster, err = n.cluster(w.owners, reg, log)
	return w, err
}

// cluster is the API of Kubernetes that is to be asked, nil if none is.
func (n naming) cluster(owners *kubernetes.Owners, reg prometheus.Registerer, log *slog.Logger) (*kubernetes.Source, error) {
	if n.Kubernetes == "" {
		return nil, nil
	}
	node := n.NodeName
	if node == "" {
		name, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("learn the host's name: %w; set --node-name", err)
		}
		node = strings.ToLower(name) // as the kubelet does
	}
	source, err := kubernetes.New(kubernetes.Options{
		Config: n.Kubernetes, Node: node, Owners: owners, Logger: log, Registerer: reg,
	})
	if errors.Is(err, kubernetes.ErrNoCluster) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--kubernetes: %w", err)
	}
	return source, nil
}

// Run learns names until ctx ends.
func (w *workloads) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { w.declared.Run(ctx) })
	if w.source != nil {
		running.Go(func() { w.source.Run(ctx) })
	}
	if w.cluster != nil {
		running.Go(func() { w.cluster.Run(ctx) })
	}
	running.Wait()
}

// meet gives the labels of a process that cannot be learned later.
func (w *workloads) meet(p sample.Process, cgroupID uint64) sample.Labels {
	w.declared.Meet(p)
	l := sample.Labels{
		Executable: p.Executable,
		PID:        strconv.FormatUint(uint64(p.PID), 10),
		Execution:  p.Execution,
	}
	if w.places != nil {
		place := w.places.Place(cgroupID, p.PID)
		l.Container, l.Unit = place.Container, place.Unit
	}
	return l
}

// complete gives labels what is known by now; known says that no more will be.
func (w *workloads) complete(l sample.Labels) (complete sample.Labels, known bool) {
	declared, known := w.declared.Of(l.Execution)
	described, told := w.names.Lookup(l.Container)
	l.More = described.Labels
	if uid := l.More.Get(sample.LabelPodUID); uid != "" && w.cluster != nil {
		owners, all := w.owners.Lookup(uid)
		l.More, told = l.More.With(owners), told && all
	}
	l.Service = serviceName(declared, described, l.Unit, l.Executable)
	l.Execution = 0
	return l, known && (told || l.Container == "")
}

// living gives what is known of a process that lives, and the cgroup it is in.
func (w *workloads) living(p sample.Process) (l sample.Labels, cgroupID uint64, known bool) {
	if w.places != nil {
		cgroupID, _ = w.places.CgroupOfProcess(p.PID) // it may have ended
	}
	w.declared.Wait(p, declarationTime)
	l, known = w.complete(w.meet(p, cgroupID))
	return l, cgroupID, known
}

func serviceName(declared string, described container.Metadata, unit, executable string) string {
	return service.Evidence{
		Declared: declared,
		App:      described.App,
		Container: cmp.Or(
			described.Labels.Get(sample.LabelPodContainer),
			described.Labels.Get(sample.LabelContainerName),
		),
		Unit:       unit,
		Executable: executable,
	}.Name()
}
