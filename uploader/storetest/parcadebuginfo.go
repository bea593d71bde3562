// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"testing"

	debuginfopb "github.com/parca-dev/parca/gen/proto/go/parca/debuginfo/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ParcaDebuginfo takes debug information as Parca v0.28 does, in the order that it wants. Its words are from
// https://github.com/parca-dev/parca/blob/v0.28.0/pkg/debuginfo/store.go
type ParcaDebuginfo struct {
	Server
	debuginfopb.UnimplementedDebuginfoServiceServer
	// Most is the largest file it takes.
	Most int64
	// Patience is how often it refuses an upload because another one is in progress, before that is stale; 0
	// is always.
	Patience int
	// Signed has it want files at URLs, which it makes of that of Bucket.
	Signed bool
	Bucket Bucket

	uploads map[string]*parcaUpload
	number  int
}

// parcaUpload is what is known of a build ID.
type parcaUpload struct {
	id, hash string
	size     int64
	kind     debuginfopb.BuildIDType
	bytes    []byte
	finished bool
	asked    int // for it while it is in progress
}

// Serve serves until the test ends, and gives the address.
func (p *ParcaDebuginfo) Serve(t testing.TB) (address string) {
	p.uploads = map[string]*parcaUpload{}
	s := grpc.NewServer()
	debuginfopb.RegisterDebuginfoServiceServer(s, p)
	host, _ := p.serve(t, s, false)
	p.Bucket.start(t)
	return "parca://" + host
}

// Files are those that are finished, by build ID.
func (p *ParcaDebuginfo) Files() map[string][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string][]byte{}
	for id, u := range p.uploads {
		if u.finished {
			all[id] = u.bytes
			if p.Signed {
				all[id] = p.Bucket.get(id)
			}
		}
	}
	return all
}

// Begin has some other host have begun an upload.
func (p *ParcaDebuginfo) Begin(buildID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.uploads[buildID] = &parcaUpload{id: "another"}
}

// Kind is of what kind a build ID was said to be.
func (p *ParcaDebuginfo) Kind(buildID string) debuginfopb.BuildIDType {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.uploads[buildID].kind
}

// Stale has an upload that was begun and is not finished be stale.
func (p *ParcaDebuginfo) Stale(buildID string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.uploads[buildID]; u != nil && !u.finished {
		delete(p.uploads, buildID)
	}
}

// ShouldInitiateUpload is that of the service.
func (p *ParcaDebuginfo) ShouldInitiateUpload(_ context.Context, r *debuginfopb.ShouldInitiateUploadRequest) (*debuginfopb.ShouldInitiateUploadResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if u := p.uploads[r.BuildId]; u != nil && !u.finished {
		if u.asked++; u.asked == p.Patience {
			delete(p.uploads, r.BuildId)
		}
	}
	should, reason := p.should(r.BuildId)
	return &debuginfopb.ShouldInitiateUploadResponse{ShouldInitiateUpload: should, Reason: reason}, nil
}

func (p *ParcaDebuginfo) should(buildID string) (bool, string) {
	switch u := p.uploads[buildID]; {
	case u == nil:
		return true, "First time we see this Build ID, and it does not exist in debuginfod, therefore please upload!"
	case !u.finished:
		return false, "A previous upload is still in-progress and not stale yet (only stale uploads can be retried)."
	}
	return false, "Debuginfo already exists and is not marked as invalid, therefore no new upload is needed."
}

// InitiateUpload is that of the service.
func (p *ParcaDebuginfo) InitiateUpload(_ context.Context, r *debuginfopb.InitiateUploadRequest) (*debuginfopb.InitiateUploadResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if r.Hash == "" || r.Size == 0 {
		return nil, status.Error(codes.InvalidArgument, "hash and size must be set")
	}
	if should, reason := p.should(r.BuildId); !should {
		return nil, status.Errorf(codes.FailedPrecondition, "upload should not have been attempted to be initiated, a previous check should have failed with: %s", reason)
	}
	if p.Most > 0 && r.Size > p.Most {
		return nil, status.Errorf(codes.InvalidArgument, "upload size %d exceeds maximum allowed size %d", r.Size, p.Most)
	}
	p.number++
	u := &parcaUpload{id: strconv.Itoa(p.number), hash: r.Hash, size: r.Size, kind: r.BuildIdType}
	p.uploads[r.BuildId] = u
	how := &debuginfopb.UploadInstructions{
		BuildId: r.BuildId, UploadId: u.id, Type: r.Type, UploadStrategy: debuginfopb.UploadInstructions_UPLOAD_STRATEGY_GRPC,
	}
	if p.Signed {
		how.UploadStrategy, how.SignedUrl = debuginfopb.UploadInstructions_UPLOAD_STRATEGY_SIGNED_URL, p.Bucket.sign(r.BuildId)
	}
	return &debuginfopb.InitiateUploadResponse{UploadInstructions: how}, nil
}

// Upload is that of the service.
func (p *ParcaDebuginfo) Upload(stream debuginfopb.DebuginfoService_UploadServer) error {
	first, err := stream.Recv()
	if err != nil || first.GetInfo() == nil {
		return status.Errorf(codes.Unknown, "failed to receive upload info: %v", err)
	}
	var content bytes.Buffer
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		content.Write(m.GetChunkData())
	}
	if err := p.keep(first.GetInfo(), content.Bytes()); err != nil {
		return err
	}
	return stream.SendAndClose(&debuginfopb.UploadResponse{BuildId: first.GetInfo().BuildId, Size: uint64(content.Len())})
}

func (p *ParcaDebuginfo) keep(info *debuginfopb.UploadInfo, content []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.uploads[info.BuildId]
	switch {
	case u == nil:
		return status.Error(codes.FailedPrecondition, "metadata not found, this indicates that the upload was not previously initiated")
	case u.id != info.UploadId:
		return status.Error(codes.InvalidArgument, "the upload ID does not match the one returned by the InitiateUpload call")
	case p.Signed:
		return status.Error(codes.Unimplemented, "signed URL uploads are the only supported upload strategy for this service")
	}
	u.bytes = content
	return nil
}

// MarkUploadFinished is that of the service.
func (p *ParcaDebuginfo) MarkUploadFinished(_ context.Context, r *debuginfopb.MarkUploadFinishedRequest) (*debuginfopb.MarkUploadFinishedResponse, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.uploads[r.BuildId]
	if u == nil {
		return nil, status.Error(codes.NotFound, "no debuginfo metadata found for build id")
	}
	if u.id != r.UploadId {
		return nil, status.Error(codes.InvalidArgument, "upload id mismatch")
	}
	u.finished = true
	return &debuginfopb.MarkUploadFinishedResponse{}, nil
}

// Bucket takes files at signed URLs, which are its only credentials.
type Bucket struct {
	Server
	url   string
	files map[string][]byte
}

// signature is the part of a URL that says that its bearer may write.
const signature = "signature=secret"

func (b *Bucket) start(t testing.TB) {
	b.files = map[string][]byte{}
	host, _ := b.serve(t, http.HandlerFunc(b.put), false)
	b.url = "http://" + host
}

func (b *Bucket) sign(id string) string { return b.url + "/" + id + "?" + signature }

func (b *Bucket) get(id string) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.files)[id]
}

// put wants all that is signed: method, path and length; and no other credentials.
func (b *Bucket) put(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut || r.URL.RawQuery != signature || r.Header.Get("Authorization") != "" || r.ContentLength <= 0 {
		http.Error(w, "SignatureDoesNotMatch", http.StatusForbidden)
		return
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.files[strings.TrimPrefix(r.URL.Path, "/")] = content
}
