// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Auto for Options.Config means the service account of the pod that this runs in.
const Auto = "auto"

// ErrNoCluster says that this does not run in a pod that has a service account.
var ErrNoCluster = errors.New("not in a pod with a service account")

const (
	// callTime bounds one call, and the wait for a watch to begin.
	callTime = 30 * time.Second
	// watchTime is how long the server is asked to let a watch last. The client ends it
	// a callTime later.
	watchTime = 8 * time.Minute
	// maxAnswer bounds an answer in bytes: the metadata of a pod are some 5 KiB, and a
	// node has 110 pods, seldom 250. A watch with more to tell goes on in another one.
	maxAnswer = 8 << 20
	// perSecond and atOnce bound the requests; client-go holds back what is more.
	perSecond, atOnce = 20, 50
)

var podResource = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// connect prepares a client; nothing is asked yet. path is a kubeconfig file, or Auto.
func connect(path string) (metadata.Interface, error) {
	config, err := configure(path)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = perSecond, atOnce
	config.WarningHandler = rest.NoWarnings{}
	config.UserAgent = "fleetprof"
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return bounding{next} })
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("configure client of Kubernetes: %w", err)
	}
	return client, nil
}

func configure(path string) (*rest.Config, error) {
	if path != Auto {
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			return nil, fmt.Errorf("read kubeconfig %s: %w", path, err)
		}
		return config, nil
	}
	config, err := rest.InClusterConfig()
	switch {
	case errors.Is(err, rest.ErrNotInCluster), errors.Is(err, fs.ErrNotExist):
		return nil, ErrNoCluster
	case err != nil:
		return nil, fmt.Errorf("read service account: %w", err)
	}
	return config, nil
}

var errTooLarge = errors.New("answer is too large")

// bounding bounds answers.
type bounding struct{ next http.RoundTripper }

func (b bounding) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := b.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	beyond := errTooLarge
	if r.URL.Query().Get("watch") != "" {
		beyond = io.EOF // what comes then comes again
	}
	answer.Body = &boundedBody{answer.Body, maxAnswer, beyond}
	return answer, nil
}

type boundedBody struct {
	io.ReadCloser
	left   int
	beyond error
}

func (b *boundedBody) Read(p []byte) (n int, err error) {
	if b.left == 0 {
		return 0, b.beyond
	}
	n, err = b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
