// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"

	"github.com/fleetprof/fleetprof/server/columns"
)

// Assumptions about the fleet; docs/performance.md says them in words.
const (
	podsOfHost = 8
	// builders is how many hosts there are to one that also runs the compiler.
	builders = 10
	// ownTenths of the stacks of a service go through code that no other service has.
	ownTenths = 3
	// shellPercent of the samples of a host are of short programs outside of pods.
	shellPercent = 2
	// compilePercent of those of a builder are of the compiler.
	compilePercent = 40
	// maxHistory bounds what is known of the samples of a service.
	maxHistory = 1 << 16
)

const (
	ciService = "ci"
	cronUnit  = "cron.service"
)

// shortLived are the labels by which one knows programs whose processes do not last.
var shortLived = []pair{{"service_name", ciService}, {"systemd_unit", cronUnit}}

// catalogue is how many services there are of each program.
var catalogue = []struct {
	program  string
	services int
}{{"go", 14}, {"python", 10}, {"node", 10}, {"nginx", 6}}

// fleet is all hosts. It is not safe for concurrent use.
type fleet struct {
	growing  bool
	random   *rand.Rand
	services []*service // the catalogue, those that have the most pods first
	ci       *service
	shell    *service
	hosts    []*host
	numbered int // services

	places    numbered[placeKey, place] // all there are
	mappings  numbered[mappingKey, columns.Mapping]
	functions numbered[functionKey, columns.Function]
	texts     numbered[string, string]
	sender    *sender // nil if profiles come without numbers
}

// service is some pods that run the same program.
type service struct {
	*program
	number int
	label  string
	image  string
	lasts  bool       // its processes live for many windows
	own    [][]uint32 // the places of recorded lines, where they are known

	drawn   int     // samples so far, with those recorded
	grown   int     // stacks that were not recorded
	history []stack // some of all samples so far, each as likely as the others
}

type host struct {
	name    string
	pods    []*pod
	windows int
}

// pod is a service on a host, or, without labels of a pod, what a host runs by itself.
type pod struct {
	*service
	labels []pair
	pids   []int
	weight int // percent of the host's samples
}

// newFleet makes hosts. Without growing, all stacks are recorded ones.
func newFleet(hosts int, growing bool, seed uint64) (*fleet, error) {
	programs, err := readRecording(recorded)
	if err != nil {
		return nil, err
	}
	f := &fleet{growing: growing, random: rand.New(rand.NewPCG(seed, 0))}
	for _, c := range catalogue {
		for i := range c.services {
			s := f.service(programs[c.program], fmt.Sprintf("%s-%02d", c.program, i))
			s.lasts = true
			f.services = append(f.services, s)
		}
	}
	f.random.Shuffle(len(f.services), func(i, j int) { f.services[i], f.services[j] = f.services[j], f.services[i] })
	f.ci, f.shell = f.service(programs["compile"], ciService), f.service(programs["shell"], "")
	for i := range hosts {
		f.hosts = append(f.hosts, f.host(i))
	}
	return f, nil
}

func (f *fleet) service(p *program, label string) *service {
	f.numbered++
	s := &service{
		program: p, number: f.numbered, label: label, image: "registry.example/" + label + ":v1",
		own: make([][]uint32, len(p.lines)),
	}
	for line, count := range p.counts {
		for range count {
			s.keep(stack{line: line}, f.random)
		}
	}
	for s.drawn < p.samples && f.growing { // what was recorded of other lines
		s.grown++
		s.keep(stack{grown: s.grown}, f.random)
	}
	return s
}

// keep counts a sample.
func (s *service) keep(of stack, r *rand.Rand) {
	s.drawn++
	if len(s.history) < maxHistory {
		s.history = append(s.history, of)
	} else if i := r.IntN(s.drawn); i < len(s.history) {
		s.history[i] = of
	}
}

func (f *fleet) host(i int) *host {
	h := &host{name: fmt.Sprintf("node-%04d.example.net", i)}
	left := 100 - shellPercent
	h.pods = append(h.pods, f.pod(h, f.shell, shellPercent))
	if i%builders == 0 {
		left -= compilePercent
		h.pods = append(h.pods, f.pod(h, f.ci, compilePercent))
	}
	for n := range podsOfHost {
		// The first services have most of the pods.
		rank := int(math.Pow(float64(len(f.services)), f.random.Float64())) - 1
		weight := (left + podsOfHost - n - 1) / (podsOfHost - n)
		if n < podsOfHost-1 {
			weight = max(1, f.random.IntN(2*weight))
		}
		weight = min(weight, left)
		left -= weight
		h.pods = append(h.pods, f.pod(h, f.services[rank], weight))
	}
	return h
}

func (f *fleet) pod(h *host, s *service, weight int) *pod {
	p := &pod{service: s, weight: weight}
	for range s.processes {
		p.pids = append(p.pids, 1000+f.random.IntN(4_000_000))
	}
	p.labels = []pair{{"host_name", h.name}, {"process_executable_name", s.name}}
	if s.label == "" {
		p.labels = append(p.labels, pair{"service_name", s.name}, pair{"systemd_unit", cronUnit})
		return p
	}
	id := f.random.Uint64()
	p.labels = append(p.labels,
		pair{"service_name", s.label}, pair{"k8s_namespace_name", "team-" + strconv.Itoa(s.number%7)},
		pair{"k8s_deployment_name", s.label}, pair{"k8s_pod_name", fmt.Sprintf("%s-%010x-%05x", s.label, uint64(s.number)*0x9e3779b97f>>8, id&0xfffff)},
		pair{"k8s_container_name", "main"}, pair{"container_image_name", s.image}, pair{"container_id", fmt.Sprintf("%016x%016x%016x%016x", id, ^id, id*3, id*5)},
	)
	return p
}

// choose gives one of the pods by their weights.
func (h *host) choose(r *rand.Rand) *pod {
	n := r.IntN(100)
	for _, p := range h.pods {
		if n -= p.weight; n < 0 {
			return p
		}
	}
	return h.pods[len(h.pods)-1]
}

// stack is a stack of a service: a recorded line, or if grown is not 0 one made of two.
type stack struct {
	line, grown int
}

// drawStack gives the stack of one sample: a new one now and then, so that the number of stacks
// grows as it did in the recording, or else that of any sample before, so that those that
// come often go on doing so.
func (f *fleet) drawStack(s *service) (of stack) {
	if f.growing && f.random.Float64() < s.rate(float64(s.drawn)) {
		s.grown++
		of.grown = s.grown
	} else {
		of = s.history[f.random.IntN(len(s.history))]
	}
	s.keep(of, f.random)
	return of
}
