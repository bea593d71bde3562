// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"connectrpc.com/connect"
	debuginfopb "github.com/parca-dev/parca/gen/proto/go/parca/debuginfo/v1alpha1"

	"github.com/fleetprof/fleetprof/internal/endpoint"
	"github.com/fleetprof/fleetprof/uploader"
	"github.com/fleetprof/fleetprof/uploader/reshaped"
)

const (
	parcaService = "/parca.debuginfo.v1alpha1.DebuginfoService/"
	// stallTime is how long a store may take nothing of what is sent, and not answer.
	stallTime = 90 * time.Second
	// dialTimeout bounds how long a connection to what a signed URL names takes.
	dialTimeout = 30 * time.Second
	// inProgress is in Parca's reason not to begin because another host is sending. There is no code for it:
	// https://github.com/parca-dev/parca/blob/v0.28.0/pkg/debuginfo/store.go
	inProgress = "still in-progress"
	// maxGNU is the length of the longest GNU build ID that is read, in hex digits; that of the Go linker is longer.
	maxGNU = 128
)

// Parca is Parca's debuginfo service, tested against the messages of v0.28:
// https://github.com/parca-dev/parca/blob/v0.28.0/proto/parca/debuginfo/v1alpha1/debuginfo.proto
//
// It cannot go on with an upload that was broken off. It has others wait for a quarter of an hour then, and
// us too.
type Parca struct {
	to       *endpoint.Endpoint
	should   *connect.Client[debuginfopb.ShouldInitiateUploadRequest, debuginfopb.ShouldInitiateUploadResponse]
	initiate *connect.Client[debuginfopb.InitiateUploadRequest, debuginfopb.InitiateUploadResponse]
	upload   *connect.Client[debuginfopb.UploadRequest, debuginfopb.UploadResponse]
	finish   *connect.Client[debuginfopb.MarkUploadFinishedRequest, debuginfopb.MarkUploadFinishedResponse]
	// signed is for URLs that have their credentials in them.
	signed *http.Client
	stall  time.Duration
}

// NewParca takes the address of a Parca, see endpoint.Parse.
func NewParca(address string) (*Parca, error) {
	to, err := endpoint.Parse(address, "store", endpoint.Parca)
	if err != nil {
		return nil, err
	}
	return &Parca{
		to:       to,
		should:   reshaped.GRPC[debuginfopb.ShouldInitiateUploadRequest, debuginfopb.ShouldInitiateUploadResponse](to, parcaService+"ShouldInitiateUpload"),
		initiate: reshaped.GRPC[debuginfopb.InitiateUploadRequest, debuginfopb.InitiateUploadResponse](to, parcaService+"InitiateUpload"),
		upload:   reshaped.Stream[debuginfopb.UploadRequest, debuginfopb.UploadResponse](to, parcaService+"Upload"),
		finish:   reshaped.GRPC[debuginfopb.MarkUploadFinishedRequest, debuginfopb.MarkUploadFinishedResponse](to, parcaService+"MarkUploadFinished"),
		signed: &http.Client{Transport: toBuckets(), CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // it was signed for one address
		}},
		stall: stallTime,
	}, nil
}

// toBuckets is for addresses that a store names. Those of the link are of the host itself, where clouds have what tells
// a program its credentials: nobody keeps files there.
func toBuckets() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DialContext = (&net.Dialer{Timeout: dialTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if ip := to.Addr().Unmap(); err == nil && (ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast()) {
			return errLinkLocal
		}
		return err
	}}).DialContext
	return t
}

var errLinkLocal = errors.New("it is a link-local address: no debug information is sent there")

// String gives the address without what is secret.
func (p *Parca) String() string { return p.to.String() }

// kindOf is what Parca is told of a build ID: it asks servers of debuginfod for GNU ones alone.
func kindOf(buildID string) debuginfopb.BuildIDType {
	if len(buildID) > maxGNU {
		return debuginfopb.BuildIDType_BUILD_ID_TYPE_GO
	}
	return debuginfopb.BuildIDType_BUILD_ID_TYPE_GNU
}

// Ask asks whether an upload should be begun.
func (p *Parca) Ask(ctx context.Context, buildID string) (Standing, error) {
	resp, err := p.should.CallUnary(ctx, connect.NewRequest(&debuginfopb.ShouldInitiateUploadRequest{
		BuildId: buildID, BuildIdType: kindOf(buildID),
	}))
	switch {
	case err != nil:
		return Wanted, fmt.Errorf("ask %v for debug information: %w", p, refusal(err))
	case resp.Msg.ShouldInitiateUpload:
		return Wanted, nil
	case strings.Contains(resp.Msg.Reason, inProgress):
		return Busy, nil
	}
	return Present, nil
}

// refusal is what an error before an upload means: others than Parca have no such service.
func refusal(err error) error {
	if connect.IsWireError(err) && connect.CodeOf(err) == connect.CodeUnimplemented {
		return uploader.Retry{Err: err, After: unknownPause}
	}
	return reshaped.CallError(err, connect.CodeInvalidArgument)
}

// Send begins an upload, sends the file as it is told to, and says that it is finished.
func (p *Parca) Send(ctx context.Context, buildID string, c *Content) (Standing, error) {
	begun, err := p.initiate.CallUnary(ctx, connect.NewRequest(&debuginfopb.InitiateUploadRequest{
		BuildId: buildID, BuildIdType: kindOf(buildID), Size: c.Size, Hash: c.SHA256,
	}))
	if connect.IsWireError(err) {
		switch connect.CodeOf(err) {
		case connect.CodeAlreadyExists: // this very file, and Parca could not read it
			return Present, nil
		case connect.CodeFailedPrecondition:
			return Busy, nil // another host was faster
		}
	}
	if err != nil {
		return Wanted, fmt.Errorf("begin upload to %v: %w", p, refusal(err))
	}
	if err := p.send(ctx, c, buildID, begun.Msg.UploadInstructions); err != nil {
		return Wanted, fmt.Errorf("send debug information to %v: %w", p, reshaped.CallError(err))
	}
	return Present, nil
}

func (p *Parca) send(ctx context.Context, c *Content, buildID string, how *debuginfopb.UploadInstructions) (err error) {
	switch s := how.GetUploadStrategy(); s {
	case debuginfopb.UploadInstructions_UPLOAD_STRATEGY_GRPC:
		err = p.stream(ctx, c, buildID, how)
	case debuginfopb.UploadInstructions_UPLOAD_STRATEGY_SIGNED_URL:
		err = p.put(ctx, c, how.SignedUrl)
	default:
		return uploader.Permanent{Err: fmt.Errorf("it wants an upload in a way that is not known: %v", s)}
	}
	if err != nil {
		return err
	}
	_, err = p.finish.CallUnary(ctx, connect.NewRequest(&debuginfopb.MarkUploadFinishedRequest{
		BuildId: buildID, UploadId: how.UploadId, Type: how.Type,
	}))
	return err
}

// errStalled is why a request was given up.
var errStalled = errors.New("the store takes nothing for too long")

// watch ends a context when alive was not called for too long.
func (p *Parca) watch(ctx context.Context) (watched context.Context, alive func(), end func()) {
	watched, cancel := context.WithCancelCause(ctx)
	t := time.AfterFunc(p.stall, func() { cancel(errStalled) })
	return watched, func() { t.Reset(p.stall) }, func() { t.Stop(); cancel(nil) }
}

// stream sends by gRPC: first which upload it is, then the file in pieces.
func (p *Parca) stream(ctx context.Context, c *Content, buildID string, how *debuginfopb.UploadInstructions) error {
	ctx, alive, end := p.watch(ctx)
	defer end()
	stream := p.upload.CallClientStream(ctx)
	err := stream.Send(&debuginfopb.UploadRequest{Data: &debuginfopb.UploadRequest_Info{
		Info: &debuginfopb.UploadInfo{BuildId: buildID, UploadId: how.UploadId, Type: how.Type},
	}})
	var piece []byte
	for off := int64(0); err == nil && off < c.Size; off += int64(len(piece)) {
		alive()
		if piece, err = c.Piece(ctx, off, mostPiece, piece); err != nil {
			return cause(ctx, err) // the stream ends with ctx
		}
		alive()
		err = stream.Send(&debuginfopb.UploadRequest{Data: &debuginfopb.UploadRequest_ChunkData{ChunkData: piece}})
	}
	if err != nil && !errors.Is(err, io.EOF) { // after EOF the answer says why
		return cause(ctx, err)
	}
	alive()
	resp, err := stream.CloseAndReceive()
	switch {
	case err != nil:
		return cause(ctx, err)
	case resp.Msg.Size != uint64(c.Size):
		return fmt.Errorf("it has received %d bytes of %d", resp.Msg.Size, c.Size)
	}
	return nil
}

// cause is why ctx has ended, if it has.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// put sends to a signed URL, which is a secret: it is in no error. Nothing of the store's own credentials goes there.
func (p *Parca) put(ctx context.Context, c *Content, signed string) error {
	u, err := url.Parse(signed)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || p.to.URL().Scheme == "https") {
		return uploader.Permanent{Err: errors.New("it wants an upload to an address that is no https:// URL")}
	}
	ctx, alive, end := p.watch(ctx)
	defer end()
	body := &watched{c.Reader(ctx), alive}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		return endpoint.Redacted(err)
	}
	req.ContentLength = c.Size
	req.Header.Set("User-Agent", "fleetprof")
	req.Header.Set("X-Upload-Content-Length", strconv.FormatInt(c.Size, 10)) // Google's storage has it signed
	resp, err := p.signed.Do(req)
	if err != nil {
		return fmt.Errorf("upload to %s: %w", u.Host, cause(ctx, endpoint.Redacted(err)))
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, answerBytes)) // what is there will do
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		// What is wrong with it may be right with the next one.
		return fmt.Errorf("upload to %s: %s: %.200q", u.Host, resp.Status, text)
	}
	return nil
}

// watched tells that something is read.
type watched struct {
	io.Reader
	alive func()
}

func (w *watched) Read(b []byte) (int, error) {
	w.alive()
	return w.Reader.Read(b)
}
