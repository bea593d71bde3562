// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"errors"
	"net/http"

	"connectrpc.com/connect"
	profilestorev1alpha1 "github.com/parca-dev/parca/gen/proto/go/parca/profilestore/v1alpha1"
)

const parcaService = "/parca.profilestore.v1alpha1.ProfileStoreService/"

// errArrow answers the two other ways of writing to Parca.
var errArrow = errors.New("this server takes WriteRaw and OTLP profiles, no Arrow records: have the agent send one of those")

// registerParca adds the part of Parca's service that takes pprof.
func (h *Handler) registerParca(mux *http.ServeMux) {
	handle(h, mux, protocolParca, parcaService+"WriteRaw", h.writeRaw)
	answer := connect.NewErrorWriter()
	refuse := func(w http.ResponseWriter, r *http.Request) {
		h.count(protocolParca, resultInvalid)
		_ = answer.Write(w, r, connect.NewError(connect.CodeUnimplemented, errArrow)) // the client may be gone
	}
	mux.HandleFunc("POST "+parcaService+"Write", refuse)
	mux.HandleFunc("POST "+parcaService+"WriteArrow", refuse)
}

func (h *Handler) writeRaw(ctx context.Context, m *profilestorev1alpha1.WriteRawRequest, body []byte) (*profilestorev1alpha1.WriteRawResponse, error) {
	all := batch{h: h, protocol: protocolParca, body: body}
	for _, series := range m.GetSeries() {
		set := series.GetLabels().GetLabels()
		labels := make([]label, len(set))
		for i, l := range set {
			labels[i] = label{l.GetName(), l.GetValue()}
		}
		for _, sample := range series.GetSamples() {
			if err := all.takePProf(ctx, sample.GetRawProfile(), labels); err != nil {
				return nil, err
			}
		}
	}
	return &profilestorev1alpha1.WriteRawResponse{}, all.refused()
}
