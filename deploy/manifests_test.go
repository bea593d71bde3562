// SPDX-License-Identifier: Apache-2.0

// Package deploy_test holds what is deployed against what it is to fit: the schema of
// Kubernetes and of compose files, the files that are mounted, and each other.
package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	goyaml "github.com/goccy/go-yaml"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// manifests are the files of a folder by name.
func manifests(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob("kubernetes/*.yaml")
	if err != nil || len(paths) < 5 {
		t.Fatalf("manifests %q, %v", paths, err)
	}
	all := make(map[string]string)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Base(path)] = string(text)
	}
	return all
}

// kustomization is what we use of one.
type kustomization struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Resources  []string
	Images     []struct {
		Name    string
		NewName string `yaml:"newName"`
		NewTag  string `yaml:"newTag"`
	}
}

// workload is what a DaemonSet and a StatefulSet have in common.
type workload struct {
	name     string
	selector *metav1.LabelSelector
	template corev1.PodTemplateSpec
	claims   []corev1.PersistentVolumeClaim
}

// cluster is all objects together.
type cluster struct {
	faults    []string
	workloads []workload
	services  map[string]*corev1.Service
	accounts  map[string]bool
	roles     map[string]bool
	bindings  []*rbacv1.ClusterRoleBinding
	policies  []*networkingv1.NetworkPolicy
	images    []string
}

func (c *cluster) fault(format string, args ...any) {
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

// check lists what is wrong with manifests.
func check(files map[string]string) []string {
	c := &cluster{services: map[string]*corev1.Service{}, accounts: map[string]bool{}, roles: map[string]bool{}}
	files = maps.Clone(files)
	c.kustomize(files["kustomization.yaml"], files)
	delete(files, "kustomization.yaml")
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		objects, faults := decodeObjects([]byte(files[name]))
		for _, f := range faults {
			c.fault("%s: %s", name, f)
		}
		for _, o := range objects {
			id := fmt.Sprintf("%T %s", o.Object, o.meta.GetName())
			if seen[id] {
				c.fault("%s: %s is there twice", name, id)
			}
			seen[id] = true
			c.take(o)
		}
	}
	for _, w := range c.workloads {
		c.checkWorkload(w)
	}
	c.checkReferences()
	return c.faults
}

func (c *cluster) kustomize(text string, files map[string]string) {
	var k kustomization
	if err := goyaml.UnmarshalWithOptions([]byte(text), &k, goyaml.Strict()); err != nil {
		c.fault("kustomization.yaml: %v", err)
		return
	}
	for name := range files {
		if name != "kustomization.yaml" && !slices.Contains(k.Resources, name) {
			c.fault("kustomization.yaml does not list %s", name)
		}
	}
	for _, name := range k.Resources {
		if _, ok := files[name]; !ok {
			c.fault("kustomization.yaml lists %s, which is not there", name)
		}
	}
	for _, i := range k.Images {
		c.images = append(c.images, i.Name)
	}
}

func (c *cluster) take(o object) {
	cluster := false
	switch o := o.Object.(type) {
	case *appsv1.DaemonSet:
		c.workloads = append(c.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template, nil})
	case *appsv1.StatefulSet:
		c.workloads = append(c.workloads, workload{o.Name, o.Spec.Selector, o.Spec.Template, o.Spec.VolumeClaimTemplates})
	case *corev1.Service:
		c.services[o.Name] = o
	case *corev1.ServiceAccount:
		c.accounts[o.Name] = true
	case *rbacv1.ClusterRole:
		c.roles[o.Name], cluster = true, true
	case *rbacv1.ClusterRoleBinding:
		c.bindings, cluster = append(c.bindings, o), true
	case *networkingv1.NetworkPolicy:
		c.policies = append(c.policies, o)
	case *corev1.Namespace:
		cluster = true
	default:
		c.fault("the test knows no %T", o)
	}
	if cluster != (o.meta.GetNamespace() == "") || !cluster && o.meta.GetNamespace() != "fleetprof" {
		c.fault("%s: its namespace is %q", o.meta.GetName(), o.meta.GetNamespace())
	}
}

// selects reports whether a selector that selects something selects the pods of a workload.
func (c *cluster) selects(what string, s *metav1.LabelSelector, w workload) bool {
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		c.fault("%s: %v", what, err)
		return false
	}
	return !selector.Empty() && selector.Matches(labels.Set(w.template.Labels))
}

func (c *cluster) checkWorkload(w workload) {
	if !c.selects(w.name, w.selector, w) {
		c.fault("%s: its selector does not match the labels %v of its template", w.name, w.template.Labels)
	}
	spec := w.template.Spec
	if spec.ServiceAccountName != "" && !c.accounts[spec.ServiceAccountName] {
		c.fault("%s: there is no service account %s", w.name, spec.ServiceAccountName)
	}
	volumes := make(map[string]bool)
	for _, v := range spec.Volumes {
		volumes[v.Name] = true
	}
	for _, claim := range w.claims {
		volumes[claim.Name] = true
	}
	for _, one := range spec.Containers {
		if !slices.Contains(c.images, one.Image) {
			c.fault("%s: kustomization.yaml has no image %s", w.name, one.Image)
		}
		for _, m := range one.VolumeMounts {
			if !volumes[m.Name] {
				c.fault("%s: %s mounts the volume %s, which is not there", w.name, one.Name, m.Name)
			}
			volumes[m.Name] = true
		}
		for _, p := range []*corev1.Probe{one.LivenessProbe, one.ReadinessProbe, one.StartupProbe} {
			if p != nil && (p.HTTPGet == nil || !c.hasPort(w, &p.HTTPGet.Port)) {
				c.fault("%s: a probe of %s asks a port that is not there", w.name, one.Name)
			}
		}
	}
}

func (c *cluster) hasPort(w workload, port *intstr.IntOrString) bool {
	for _, one := range w.template.Spec.Containers {
		for _, p := range one.Ports {
			if port.StrVal == p.Name && p.Name != "" || port.IntVal == p.ContainerPort {
				return true
			}
		}
	}
	return false
}

// checkReferences looks at what is named by other objects.
func (c *cluster) checkReferences() {
	for name, s := range c.services {
		c.checkSelected("service "+name, &metav1.LabelSelector{MatchLabels: s.Spec.Selector}, func(w workload) {
			for _, p := range s.Spec.Ports {
				if !c.hasPort(w, &p.TargetPort) {
					c.fault("service %s: %s has no port %s", name, w.name, &p.TargetPort)
				}
			}
		})
	}
	for _, n := range c.policies {
		c.checkSelected("network policy "+n.Name, &n.Spec.PodSelector, func(w workload) {
			for _, rule := range n.Spec.Ingress {
				for _, p := range rule.Ports {
					if !c.hasPort(w, p.Port) {
						c.fault("network policy %s: %s has no port %s", n.Name, w.name, p.Port)
					}
				}
			}
		})
	}
	for _, b := range c.bindings {
		if b.RoleRef.Kind != "ClusterRole" || !c.roles[b.RoleRef.Name] {
			c.fault("binding %s: there is no %s %s", b.Name, b.RoleRef.Kind, b.RoleRef.Name)
		}
		for _, s := range b.Subjects {
			if s.Kind != "ServiceAccount" || s.Namespace != "fleetprof" || !c.accounts[s.Name] {
				c.fault("binding %s: there is no %s %s/%s", b.Name, s.Kind, s.Namespace, s.Name)
			}
		}
	}
}

// checkSelected calls with the workloads that are selected, of which there must be one.
func (c *cluster) checkSelected(what string, s *metav1.LabelSelector, do func(workload)) {
	selected := 0
	for _, w := range c.workloads {
		if c.selects(what, s, w) {
			selected++
			do(w)
		}
	}
	if selected != 1 {
		c.fault("%s selects %d workloads, want 1", what, selected)
	}
}

func TestManifests(t *testing.T) {
	for _, fault := range check(manifests(t)) {
		t.Error(fault)
	}
}

// What the check is for, it finds.
func TestManifestsWithMistakes(t *testing.T) {
	for _, tt := range []struct{ name, file, old, new, fault string }{
		{"misspelt field", "agent.yaml", "hostPID: true", "hostPid: true", `unknown field "spec.template.spec.hostPid"`},
		{"misspelt field, deep", "server.yaml", "periodSeconds: 5", "periodSecond: 5", "periodSecond"},
		{"field twice", "server.yaml", "replicas: 1", "replicas: 1\n  replicas: 2", "replicas"},
		{"number for a text", "agent.yaml", "name: agent\n", "name: 7\n", "cannot unmarshal number"},
		{"text for a number", "server.yaml", "replicas: 1", "replicas: one", "replicas"},
		{"text for a list", "agent.yaml", "drop: [ALL]", "drop: ALL", "drop"},
		{"no quantity", "server.yaml", "memory: 2Gi", "memory: 2GB much", "quantities"},
		{"required field", "agent.yaml", ", mountPath: /sys/fs/cgroup", "", "required field mountPath is missing"},
		{"unknown value", "server.yaml", "scheme: HTTPS", "scheme: https", `"https" is none of`},
		{"unknown capability", "agent.yaml", "PERFMON", "PERFMOM", `"PERFMOM" is none of`},
		{"unknown kind", "rbac.yaml", "kind: ServiceAccount\nmeta", "kind: ServiceAcount\nmeta", "no kind"},
		{"unknown version", "agent.yaml", "apps/v1", "apps/v2", "no kind"},
		{"no name of an object", "server.yaml", "name: fleetprof-server,", "name: fleetprof_server,", "RFC 1123"},
		{"selector", "agent.yaml", "matchLabels: {app.kubernetes.io/name: fleetprof-agent}", "matchLabels: {app.kubernetes.io/name: agent}", "does not match the labels"},
		{"empty selector", "agent.yaml", "matchLabels: {app.kubernetes.io/name: fleetprof-agent}", "matchLabels: {}", "does not match the labels"},
		{"mount without volume", "agent.yaml", "- {name: tracing, hostPath", "- {name: trace, hostPath", "mounts the volume tracing, which is not there"},
		{"mount without claim", "server.yaml", "metadata: {name: data}", "metadata: {name: store}", "mounts the volume data, which is not there"},
		{"port of a probe", "agent.yaml", "name: metrics, containerPort", "name: metric, containerPort", "a port that is not there"},
		{"port of a service", "server.yaml", "targetPort: https", "targetPort: http", "has no port http"},
		{"service of nobody", "server.yaml", "selector: {app.kubernetes.io/name: fleetprof-server}", "selector: {app: server}", "selects 0 workloads"},
		{"policy of nobody", "network.yaml", "fleetprof-agent}\n  policy", "agent}\n  policy", "selects 0 workloads"},
		{"service account", "agent.yaml", "serviceAccountName: fleetprof-agent", "serviceAccountName: agent", "no service account agent"},
		{"role", "rbac.yaml", "kind: ClusterRole, name: fleetprof-agent", "kind: ClusterRole, name: agent", "no ClusterRole agent"},
		{"namespace", "server.yaml", "name: fleetprof, namespace: fleetprof", "name: fleetprof", `namespace is ""`},
		{"file not listed", "kustomization.yaml", "  - agent.yaml\n", "", "does not list agent.yaml"},
		{"misspelt field of kustomize", "kustomization.yaml", "newTag", "newtag", "newtag"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := manifests(t)
			if !strings.Contains(files[tt.file], tt.old) {
				t.Fatalf("%s has no %q", tt.file, tt.old)
			}
			files[tt.file] = strings.Replace(files[tt.file], tt.old, tt.new, 1)
			faults := check(files)
			if !strings.Contains(strings.Join(faults, "\n"), tt.fault) {
				t.Errorf("faults %q, want one with %q", faults, tt.fault)
			}
		})
	}
}
