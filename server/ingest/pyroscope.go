// SPDX-License-Identifier: Apache-2.0

package ingest

import (
	"context"
	"net/http"

	pushv1 "github.com/grafana/pyroscope/api/gen/proto/go/push/v1"
)

// registerPyroscope adds Pyroscope's own protocol.
func (h *Handler) registerPyroscope(mux *http.ServeMux) {
	handle(h, mux, protocolPyroscope, "/push.v1.PusherService/Push", h.pushPyroscope)
}

func (h *Handler) pushPyroscope(ctx context.Context, m *pushv1.PushRequest, body []byte) (*pushv1.PushResponse, error) {
	all := batch{h: h, protocol: protocolPyroscope, body: body}
	for _, series := range m.GetSeries() {
		labels := make([]label, len(series.GetLabels()))
		for i, l := range series.GetLabels() {
			labels[i] = label{l.GetName(), l.GetValue()}
		}
		for _, sample := range series.GetSamples() {
			if err := all.takePProf(ctx, sample.GetRawProfile(), labels); err != nil {
				return nil, err
			}
		}
	}
	return &pushv1.PushResponse{}, all.refused()
}
