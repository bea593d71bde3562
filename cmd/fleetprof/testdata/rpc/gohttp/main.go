// SPDX-License-Identifier: Apache-2.0

// Gohttp is a server on net/http: `gohttp ADDRESS [CERTIFICATE KEY]`. Which
// route a thread works for is in the names of the functions on its stack: workX
// runs in the goroutine of the request, childX in goroutines it waits for, and
// background in one that outlives the request that started it.
//
// With ROUTES=labels in the environment the true routes are in pprof labels, and the
// patterns of the ServeMux are others.
package main

import (
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	mux := routes{http.NewServeMux(), os.Getenv("ROUTES") == "labels"}
	mux.handle("GET", "/work/{id}", func(w http.ResponseWriter, _ *http.Request) {
		workA()
		io.WriteString(w, "a")
	})
	mux.handle("GET", "/tree/{id}/leaves", func(w http.ResponseWriter, _ *http.Request) {
		workB()
		io.WriteString(w, "b")
	})
	mux.handle("POST", "/orders/{id}/items", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		workC()
		io.WriteString(w, "c")
	})
	mux.handle("GET", "/files/{name...}", func(w http.ResponseWriter, _ *http.Request) {
		startBackground()
		workD()
		io.WriteString(w, "d")
	})
	server := &http.Server{Addr: os.Args[1], Handler: light(mux.ServeMux)}
	if len(os.Args) > 2 {
		log.Fatal(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
	}
	log.Fatal(server.ListenAndServe())
}

// routes is a ServeMux that knows the true routes, or has them in labels.
type routes struct {
	*http.ServeMux
	labels bool
}

func (m routes) handle(method, route string, handler http.HandlerFunc) {
	if !m.labels {
		m.HandleFunc(method+" "+route, handler)
		return
	}
	misleading := strings.NewReplacer("{id}", "{wrong}", "{name...}", "{wrong...}").Replace(route)
	m.HandleFunc(method+" "+misleading, func(w http.ResponseWriter, r *http.Request) {
		labels := pprof.Labels("http.route", route, "http.request.method", r.Method)
		pprof.Do(r.Context(), labels, func(context.Context) { handler(w, r) })
	})
}

// light answers requests that ask for no work with a text, which begins as the
// answer does.
func light(mux *http.ServeMux) http.Handler {
	letters := map[string]string{"work": "a", "tree": "b", "orders": "c", "files": "d"}
	text := strings.Repeat(" Lorem ipsum dolor sit amet.", 2800)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Light") == "" {
			mux.ServeHTTP(w, r)
			return
		}
		first, _, _ := strings.Cut(r.URL.Path[1:], "/")
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, letters[first]+text)
	})
}

//go:noinline
func workA() { burn(2) }

// workB lets two children work at the same time as itself.
//
//go:noinline
func workB() {
	var children sync.WaitGroup
	for range 2 {
		children.Go(childB)
	}
	burn(1)
	children.Wait()
}

//go:noinline
func childB() { burn(2) }

// workC sleeps between slices, so that it goes on on other threads.
//
//go:noinline
func workC() {
	for range 4 {
		burn(1)
		time.Sleep(time.Millisecond)
	}
}

// workD sleeps too, and waits for a child.
//
//go:noinline
func workD() {
	burn(2)
	time.Sleep(time.Millisecond)
	done := make(chan struct{})
	go childD(done)
	<-done
	burn(2)
}

//go:noinline
func childD(done chan<- struct{}) {
	burn(2)
	close(done)
}

// startBackground starts background unless it runs.
func startBackground() {
	if running.CompareAndSwap(false, true) {
		go background()
	}
}

var running atomic.Bool

// background is started by a handler and goes on long after that has answered,
// while its goroutine may serve the next requests of the connection: it belongs
// to none of them.
//
//go:noinline
func background() {
	pprof.SetGoroutineLabels(context.Background())
	time.Sleep(200 * time.Millisecond) // the request has an answer by now
	for range 20 {
		burn(3)
		time.Sleep(40 * time.Millisecond)
	}
	running.Store(false)
}

// burn works for about so many milliseconds.
//
//go:noinline
func burn(ms int) {
	x := uint64(88172645463325252)
	for range ms * 450_000 {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	sink.Store(x)
}

var sink atomic.Uint64
