// SPDX-License-Identifier: Apache-2.0

// Tiny is a server on net/http whose handler does next to nothing: `tiny ADDRESS`.
package main

import (
	"io"
	"log"
	"net/http"
	"os"
)

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	mux.HandleFunc("GET /fail", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("POST /notes", func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	log.Fatal(http.ListenAndServe(os.Args[1], mux))
}
