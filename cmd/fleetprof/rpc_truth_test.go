// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// truth says what a thread was really at: the letter of a route, or one of
// these two.
type truth func(*profile.Sample) string

const (
	// around is the server's own work for requests, such as parsing, of which it
	// does not say for which.
	around = ""
	// elsewhere is work for no request.
	elsewhere = "none"
)

var (
	goWork    = regexp.MustCompile(`^main\.(?:work|child)([A-D])\b`)
	goOutside = regexp.MustCompile(`^(?:main\.background|runtime\.(?:gcBgMarkWorker|bgsweep|bgscavenge|schedule|sysmon))\b`)
)

// truthByFunction knows from the functions on the stack, see
// testdata/rpc/gohttp.
func truthByFunction(s *profile.Sample) string {
	at := around
	switching := false // the scheduler has chosen the goroutine, whose own this is from some point on
	for _, function := range names(s) {
		if match := goWork.FindStringSubmatch(function); match != nil {
			return strings.ToLower(match[1])
		}
		if goOutside.MatchString(function) && !switching {
			at = elsewhere
		}
		switching = switching || strings.HasPrefix(function, "runtime.execute")
	}
	return at
}

// runtimeThreads are how the names of threads begin that never serve requests: of
// our own, of the Java virtual machine, and of node, whose main thread is named
// otherwise by then.
var runtimeThreads = []string{"backgrnd", "C1 ", "C2 ", "GC ", "G1 ", "VM ", "Sweeper", "V8Worker", "libuv-worker", "node"}

// truthByThread knows from the name of the thread, which the program under test
// changes around its work.
func truthByThread(s *profile.Sample) string {
	name := strings.Join(s.Label["thread_name"], ",")
	if route, is := strings.CutPrefix(name, "work-"); is {
		return route
	}
	if slices.ContainsFunc(runtimeThreads, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
		return elsewhere
	}
	return around
}

// claim is what a sample's labels say.
type claim struct {
	attribution string
	// route is the letter of a route, or what is wrong with the labels; empty
	// without a claim.
	route string
}

// claimOf reads the labels of a sample, and holds them against how the server's
// routes are called.
func (s *handlerServer) claimOf(sample *profile.Sample) claim {
	label := func(name string) string { return strings.Join(sample.Label[name], ",") }
	c := claim{attribution: label("request_attribution")}
	if c.attribution != "exact" && c.attribution != "inferred" {
		for _, name := range handlerLabels {
			if label(name) != "" {
				c.route = fmt.Sprintf("%s=%s though %s", name, label(name), c.attribution)
			}
		}
		return c
	}
	said := make(map[string]string)
	var all []string
	for _, name := range handlerLabels {
		if value := label(name); value != "" {
			said[name] = value
			all = append(all, name+"="+value)
		}
	}
	for i := range handlerRoutes {
		if s.says(&handlerRoutes[i], said) {
			c.route = handlerRoutes[i].letter
			return c
		}
	}
	c.route = "not one of the routes: " + strings.Join(all, " ")
	return c
}

// handlerLabels are those that name a handler, besides the certainty.
var handlerLabels = []string{"http_request_method", "http_route", "url_template", "rpc_method", "rpc_system_name", "request_attribution_source"}

// says reports whether labels are those of a route, and no others: what a framework
// calls its route, where there is one, else a template of the path.
func (s *handlerServer) says(r *handlerRoute, said map[string]string) bool {
	if s.protocol == grpc {
		return said["rpc_method"] == strings.TrimPrefix(r.rpc, "/") && said["rpc_system_name"] == "grpc" &&
			said["http_route"] == "" && said["url_template"] == ""
	}
	if said["http_request_method"] != s.method(r) || said["rpc_method"] != "" || said["rpc_system_name"] != "" {
		return false
	}
	if route := said["http_route"]; route != "" {
		return s.knowsRoutes() && route == r.pattern && said["url_template"] == ""
	}
	return r.template.MatchString(said["url_template"])
}

// knowsRoutes reports whether the server's framework has routes that an agent
// can know: http_route is never to be derived from a path.
func (s *handlerServer) knowsRoutes() bool { return strings.HasPrefix(s.name, "go-") }
