// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/pprof/profile"

	"github.com/fleetprof/fleetprof/internal/procfs"
)

// servingHandlers is a server that runs.
type servingHandlers struct {
	server  *handlerServer
	address string
	// pids are its processes, the first one's parent of the others.
	pids []int
	// service is how the agent calls it.
	service string
	log     string // a file
	stop    func() // idempotent
}

// start returns once the server accepts connections. Those upstream of it are
// started too, unless they are in running, where it is put itself.
func (h *handlerHost) start(t *testing.T, s *handlerServer, running map[string]*servingHandlers) *servingHandlers {
	t.Helper()
	p := &servingHandlers{server: s, address: freeAddress(t), log: h.dir + "/" + s.name + ".log"}
	known := map[string]string{"DIR": h.dir, "PORT": port(p.address)}
	for i, name := range s.upstream {
		if running[name] == nil {
			h.start(t, handlerServerNamed(name), running)
		}
		known[[]string{"FIRST", "SECOND"}[i]] = port(running[name].address)
	}
	expand := func(text string) string {
		return os.Expand(text, func(name string) string {
			if value, is := known[name]; is {
				return value
			}
			return "$" + name // a variable of nginx
		})
	}
	if s.config != "" {
		text, err := os.ReadFile("testdata/rpc/" + s.config)
		if err == nil {
			err = os.WriteFile(h.dir+"/"+s.config, []byte(expand(string(text))), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	command := strings.Fields(expand(s.run))
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir, cmd.Env = "testdata/rpc", append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	for _, variable := range s.env {
		cmd.Env = append(cmd.Env, expand(variable))
	}
	log, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	p.stop = sync.OnceFunc(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
	h.t.Cleanup(p.stop) // others may need it
	p.await(t, cmd.Process.Pid, ended)
	running[s.name] = p
	return p
}

func port(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

// await waits until the server accepts connections, and finds its processes.
func (p *servingHandlers) await(t *testing.T, pid int, ended <-chan struct{}) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", p.address)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-ended:
			t.Fatalf("%s has ended\n%s", p.server.name, p.said())
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v\n%s", p.server.name, err, p.said())
		}
	}
	p.pids = []int{pid}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			t.Fatal(err)
		}
		p.pids = append(p.pids, pid)
	}
	executable, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	p.service = filepath.Base(executable)
}

// said is what the server printed.
func (p *servingHandlers) said() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// client is a new client of the server.
func (p *servingHandlers) client(trusted *x509.CertPool) *handlerClient {
	return &handlerClient{server: p.server, address: p.address, trusted: trusted}
}

// owns reports whether a sample is one of the server's.
func (p *servingHandlers) owns(s *profile.Sample) bool {
	return slices.ContainsFunc(p.pids, func(pid int) bool {
		return slices.Equal(s.Label["process_pid"], []string{strconv.Itoa(pid)})
	})
}

// cpu is what the server has used so far, in seconds.
func (p *servingHandlers) cpu(t *testing.T) (seconds float64) {
	t.Helper()
	for _, pid := range p.pids {
		stat, err := procfs.New("/proc").Stat(uint32(pid))
		if err != nil {
			t.Fatalf("%s: %v\n%s", p.server.name, err, p.said())
		}
		seconds += float64(stat.User+stat.System) / procfs.TicksPerSecond
	}
	return seconds
}

// metrics are the lines of the agent's /metrics.
func (w watcher) metrics(t *testing.T) []string {
	t.Helper()
	answer, err := http.Get("http://" + w.address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(text), "\n")
}

// certificate is one for 127.0.0.1, in cert.pem and key.pem.
type certificate struct{ trusted *x509.CertPool }

func newCertificate(t *testing.T, dir string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "fleetprof test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{x509.NewCertPool()}
	for name, block := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: der}, "key.pem": {Type: "PRIVATE KEY", Bytes: secret}} {
		text := pem.EncodeToMemory(block)
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		c.trusted.AppendCertsFromPEM(text)
	}
	return c
}
