// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	goyaml "github.com/goccy/go-yaml"
)

// composition is what we use of a compose file; another field is a mistake.
// https://github.com/compose-spec/compose-spec/blob/main/spec.md
type composition struct {
	Name     string
	Services map[string]composed
	Volumes  map[string]struct{}
}

type composed struct {
	Image, User, Pid, Uts string
	Build                 struct{ Context, Dockerfile string }
	Entrypoint, Command   []string
	Environment           map[string]string
	Ports, Volumes, Tmpfs []string
	CapAdd                []string `yaml:"cap_add"`
	CapDrop               []string `yaml:"cap_drop"`
	SecurityOpt           []string `yaml:"security_opt"`
	DependsOn             []string `yaml:"depends_on"`
	ReadOnly              bool     `yaml:"read_only"`
	MemLimit              string   `yaml:"mem_limit"`
	StopGracePeriod       string   `yaml:"stop_grace_period"`
	Restart               string
}

var (
	// pinned is an image that can be had from elsewhere by a variable, with a tag.
	pinned = regexp.MustCompile(`^\$\{[A-Z]+_IMAGE:-[a-z-]+(/[a-z-]+)?:[a-z0-9.]+\}$`)
	// loopback is a port that only this host reaches.
	loopback = regexp.MustCompile(`^127\.0\.0\.1:(\d+):(\d+)$`)
	address  = regexp.MustCompile(`(?:http|parca)://([a-z]+):(\d+)`)
)

// checkComposition lists what is wrong with a compose file in this folder.
func checkComposition(text string) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	var c composition
	if err := goyaml.UnmarshalWithOptions([]byte(text), &c, goyaml.Strict()); err != nil {
		return []string{err.Error()}
	}
	used := make(map[string]bool)
	for name, s := range c.Services {
		if !pinned.MatchString(s.Image) {
			fault("%s: image %q", name, s.Image)
		}
		if s.Build.Dockerfile != "" && !exists(filepath.Join(s.Build.Context, s.Build.Dockerfile)) {
			fault("%s: there is no %s", name, s.Build.Dockerfile)
		}
		for _, port := range s.Ports {
			if !loopback.MatchString(port) {
				fault("%s: port %s is not of this host only", name, port)
			}
		}
		for _, other := range s.DependsOn {
			if _, ok := c.Services[other]; !ok {
				fault("%s: depends on %s, which is not there", name, other)
			}
		}
		for _, to := range address.FindAllStringSubmatch(strings.Join(s.Command, " "), -1) {
			if _, ok := c.Services[to[1]]; !ok {
				fault("%s: %s is no service", name, to[0])
			}
		}
		for _, one := range s.CapAdd {
			if !slices.Contains(capabilities(), one) {
				fault("%s: capability %s", name, one)
			}
		}
		for _, volume := range s.Volumes {
			source, _, _ := strings.Cut(volume, ":")
			switch {
			case strings.HasPrefix(source, "."):
				if !exists(source) {
					fault("%s: mounts %s, which is not there", name, source)
				}
			case strings.HasPrefix(source, "/"): // the host's
			default:
				if _, ok := c.Volumes[source]; !ok {
					fault("%s: there is no volume %s", name, source)
				}
				used[source] = true
			}
		}
	}
	for name := range c.Volumes {
		if !used[name] {
			fault("nothing mounts the volume %s", name)
		}
	}
	return faults
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestComposition(t *testing.T) {
	text := read(t, "compose.yaml")
	for _, fault := range checkComposition(text) {
		t.Error(fault)
	}
	for _, tt := range []struct{ name, old, new, fault string }{
		{"misspelt field", "cap_drop", "cap_dropped", "cap_dropped"},
		{"text for a list", "cap_drop: [ALL]", "cap_drop: ALL", "sequence is expected"},
		{"image without tag", ":v3.5.0", "", "prometheus: image"},
		{"image of another host", "parca-dev/parca", "other.example/parca-dev/parca", "parca: image"},
		{"open port", "127.0.0.1:7171:7171", "7171:7171", "not of this host only"},
		{"mounted file", "./compose/parca.yaml", "./compose/parka.yaml", "parka.yaml, which is not there"},
		{"mounted folder", "./grafana/dashboards", "./grafana/boards", "boards, which is not there"},
		{"volume", "agent:/var", "agents:/var", "no volume agents"},
		{"unused volume", "volumes:\n  server:\n", "volumes:\n  server:\n  more:\n", "nothing mounts the volume more"},
		{"service", "parca://parca:7070", "parca://parka:7070", "parka:7070 is no service"},
		{"dependency", "[server, pyroscope, prometheus]", "[server, loki]", "depends on loki"},
		{"capability", "SYSLOG, SYS_ADMIN]", "SYSLOG, SYS_MODULE]", "capability SYS_MODULE"},
		{"Dockerfile", "deploy/Dockerfile", "Dockerfile", "no Dockerfile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if !strings.Contains(text, tt.old) {
				t.Fatalf("there is no %q", tt.old)
			}
			faults := checkComposition(strings.Replace(text, tt.old, tt.new, 1))
			if !strings.Contains(strings.Join(faults, "\n"), tt.fault) {
				t.Errorf("faults %q, want one with %q", faults, tt.fault)
			}
		})
	}
}

// The agent may in a pod, in a container and as a unit the same.
func TestSameCapabilitiesEverywhere(t *testing.T) {
	want := strings.Join(capabilities(), ", ")
	for _, file := range []string{"compose.yaml", "kubernetes/agent.yaml"} {
		if !strings.Contains(read(t, file), "["+want+"]") {
			t.Errorf("%s does not give [%s]", file, want)
		}
	}
	unit := "CapabilityBoundingSet=CAP_" + strings.ReplaceAll(want, ", ", " CAP_") + "\n"
	if !strings.Contains(read(t, "systemd/fleetprof-agent.service"), unit) {
		t.Errorf("the unit does not have %s", unit)
	}
	page := read(t, "../docs/operating.md")
	for _, c := range capabilities() {
		if !strings.Contains(page, "| `CAP_"+c+"` |") {
			t.Errorf("docs/operating.md does not say what CAP_%s is for", c)
		}
	}
}

// The files that are mounted name services that there are, at the ports that these have.
func TestMountedFilesNameServices(t *testing.T) {
	var c composition
	if err := goyaml.Unmarshal([]byte(read(t, "compose.yaml")), &c); err != nil {
		t.Fatal(err)
	}
	ports := map[string]string{"server": "7171", "agent": "7172", "pyroscope": "4040", "parca": "7070", "prometheus": "9090"}
	for _, name := range []string{"server", "agent"} {
		if !slices.Contains(c.Services[name].Command, "--listen=:"+ports[name]) {
			t.Errorf("%s does not listen on %s", name, ports[name])
		}
	}
	target := regexp.MustCompile(`"([a-z]+):(\d+)"`)
	named := address.FindAllStringSubmatch(read(t, "grafana/provisioning/datasources/fleetprof.yaml"), -1)
	named = append(named, target.FindAllStringSubmatch(read(t, "compose/prometheus.yaml"), -1)...)
	named = append(named, address.FindAllStringSubmatch(strings.Join(c.Services["agent"].Command, " "), -1)...)
	if len(named) != 8 {
		t.Errorf("%d addresses %q", len(named), named)
	}
	for _, n := range named {
		if _, ok := c.Services[n[1]]; !ok || ports[n[1]] != n[2] {
			t.Errorf("%s is no service at that port", n[0])
		}
	}
}

// dashboard is what a dashboard has to have right to show something.
type dashboard struct {
	UID    string
	Panels []struct {
		Title, Type string
		Targets     []struct {
			Datasource struct{ Type, UID string }
		}
	}
}

// Dashboards use data sources that are provisioned, each under its own name.
func TestDashboards(t *testing.T) {
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool `yaml:"isDefault"`
		}
	}
	text := read(t, "grafana/provisioning/datasources/fleetprof.yaml")
	if err := goyaml.UnmarshalWithOptions([]byte(text), &sources, goyaml.Strict()); err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	for _, s := range sources.Datasources {
		types[s.UID] = s.Type
	}
	if want := map[string]string{
		"fleetprof": "grafana-pyroscope-datasource", "pyroscope": "grafana-pyroscope-datasource", "prometheus": "prometheus",
	}; !maps.Equal(types, want) {
		t.Errorf("data sources %q, want %q", types, want)
	}
	paths, err := filepath.Glob("grafana/dashboards/*.json")
	if err != nil || len(paths) != 2 {
		t.Fatalf("%q, %v", paths, err)
	}
	uids := make(map[string]bool)
	for _, path := range paths {
		var d dashboard
		if err := json.Unmarshal([]byte(read(t, path)), &d); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if d.UID == "" || uids[d.UID] {
			t.Errorf("%s has the uid %q", path, d.UID)
		}
		uids[d.UID] = true
		for _, p := range d.Panels {
			if len(p.Targets) == 0 && p.Type != "row" {
				t.Errorf("%s: %q shows nothing", path, p.Title)
			}
			for _, target := range p.Targets {
				if s := target.Datasource; s.Type == "" || types[s.UID] != s.Type {
					t.Errorf("%s: %q asks %+v", path, p.Title, s)
				}
			}
		}
	}
}

// The image is built by make build, with the Go that go.mod asks for.
func TestDockerfile(t *testing.T) {
	text := read(t, "Dockerfile")
	version := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "../go.mod"))
	for _, want := range []string{
		"FROM golang:" + version[1] + " AS build\n", "make build VERSION=", "COPY --from=build /src/fleetprof /fleetprof\n",
		"\nUSER 65532:65532\n", `ENTRYPOINT ["/fleetprof"]`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q", want)
		}
	}
	if build := regexp.MustCompile(`(?m)^build:.*\n\t(.*)$`).FindStringSubmatch(read(t, "../Makefile")); build == nil ||
		!strings.Contains(build[1], "-o fleetprof ") || !strings.Contains(build[1], "CGO_ENABLED=0") {
		t.Errorf("make build does %q", build)
	}
	for _, file := range []string{"kubernetes/server.yaml", "kubernetes/agent.yaml"} {
		if user := map[string]string{"server": "runAsUser: 65532", "agent": "runAsUser: 0"}[strings.TrimSuffix(filepath.Base(file), ".yaml")]; !strings.Contains(read(t, file), user) {
			t.Errorf("%s does not say %s", file, user)
		}
	}
}
