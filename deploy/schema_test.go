// SPDX-License-Identifier: Apache-2.0

package deploy_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"

	goyaml "github.com/goccy/go-yaml"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
)

// The schema of Kubernetes is its API types: names and kinds of fields by strict decoding,
// what is required by what has no omitempty, values of enumerations by the constants below.

// object is a manifest, decoded.
type object struct {
	runtime.Object
	meta metav1.Object
}

// decodeObjects reads the documents of a manifest as strictly as an API server with
// fieldValidation=Strict.
func decodeObjects(text []byte) (all []object, faults []string) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme, networkingv1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := k8syaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return all, faults
		}
		var decoded runtime.Object
		if err == nil {
			decoded, _, err = decoder.Decode(document, nil, nil)
		}
		var tree any
		if err == nil {
			err = goyaml.Unmarshal(document, &tree)
		}
		if err != nil {
			return all, append(faults, err.Error())
		}
		meta := decoded.(metav1.Object)
		for _, wrong := range validation.IsDNS1123Subdomain(meta.GetName()) {
			faults = append(faults, fmt.Sprintf("metadata.name: %s", wrong))
		}
		faults = append(faults, checkFields(meta.GetName(), tree, reflect.TypeOf(decoded))...)
		all = append(all, object{decoded, meta})
	}
}

// enumerations lists values of those types that have few of them.
var enumerations = map[reflect.Type][]string{
	reflect.TypeFor[corev1.PullPolicy]():                 {"Always", "IfNotPresent", "Never"},
	reflect.TypeFor[corev1.URIScheme]():                  {"HTTP", "HTTPS"},
	reflect.TypeFor[corev1.SeccompProfileType]():         {"RuntimeDefault", "Unconfined", "Localhost"},
	reflect.TypeFor[corev1.AppArmorProfileType]():        {"RuntimeDefault", "Unconfined", "Localhost"},
	reflect.TypeFor[corev1.TolerationOperator]():         {"Exists", "Equal"},
	reflect.TypeFor[corev1.HostPathType]():               {"", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket"},
	reflect.TypeFor[corev1.PersistentVolumeAccessMode](): {"ReadWriteOnce", "ReadWriteOncePod"},
	reflect.TypeFor[networkingv1.PolicyType]():           {"Ingress", "Egress"},
	reflect.TypeFor[corev1.Capability]():                 append(capabilities(), "ALL"),
}

// capabilities are those that deploy/ may give, as docs/operating.md has them.
func capabilities() []string {
	return []string{"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH", "CHECKPOINT_RESTORE", "SYSLOG", "SYS_ADMIN"}
}

// free are types of strings that may have any value here.
var free = []reflect.Type{reflect.TypeFor[string](), reflect.TypeFor[corev1.ResourceName](), reflect.TypeFor[types.UID]()}

// checkFields compares what stands in a manifest with the type that it is decoded into.
func checkFields(path string, value any, want reflect.Type) (faults []string) {
	for want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	switch value := value.(type) {
	case map[string]any:
		if want.Kind() == reflect.Map {
			for key, one := range value {
				faults = append(faults, checkFields(path+"."+key, one, want.Elem())...)
			}
			return faults
		}
		return checkStruct(path, value, want)
	case []any:
		for i, one := range value {
			faults = append(faults, checkFields(fmt.Sprintf("%s[%d]", path, i), one, want.Elem())...)
		}
	case string:
		known, is := enumerations[want]
		if is && !slices.Contains(known, value) {
			return []string{fmt.Sprintf("%s: %q is none of %q", path, value, known)}
		}
		if !is && want.Kind() == reflect.String && !slices.Contains(free, want) {
			return []string{fmt.Sprintf("%s: the test does not know which values a %s may have", path, want)}
		}
	}
	return faults
}

func checkStruct(path string, value map[string]any, want reflect.Type) (faults []string) {
	if want.Kind() != reflect.Struct {
		return nil // a quantity and the like, which read themselves
	}
	for field := range want.Fields() {
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" && field.Anonymous { // inlined
			faults = append(faults, checkStruct(path, value, field.Type)...)
			continue
		}
		one, there := value[name]
		switch {
		case there:
			faults = append(faults, checkFields(path+"."+name, one, field.Type)...)
		case options == "" && name != "-" && name != "":
			faults = append(faults, fmt.Sprintf("%s: the required field %s is missing", path, name))
		}
	}
	return faults
}
