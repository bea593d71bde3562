// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// process is a fleetprof server that runs on one core.
type process struct {
	cmd  *exec.Cmd
	url  string
	data string
	logs chan struct{} // closed when its log has ended
}

// startServer builds the server and starts it on a free port, with its data below dir.
func startServer(ctx context.Context, dir string) (*process, error) {
	binary := filepath.Join(dir, "fleetprof")
	build := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/fleetprof/fleetprof/cmd/fleetprof")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build server: %w: %s", err, out)
	}
	p := &process{data: filepath.Join(dir, "data"), logs: make(chan struct{})}
	// All agents have one address here, so they are not limited by it.
	p.cmd = exec.CommandContext(ctx, binary, "server", "--listen=127.0.0.1:0", "--data="+p.data, "--max-bytes=64GiB",
		"--ingest-rate=0", "--ingest-requests=0")
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	p.cmd.Cancel = func() error { return p.cmd.Process.Signal(unix.SIGTERM) }
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines, page := bufio.NewScanner(stderr), regexp.MustCompile(`page=(\S+)`)
	for p.url == "" {
		if !lines.Scan() {
			return nil, errors.Join(errors.New("the server ended before it listened"), p.cmd.Wait())
		}
		if m := page.FindStringSubmatch(lines.Text()); m != nil {
			p.url = m[1]
		} else {
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}
	go func() {
		defer close(p.logs)
		for lines.Scan() {
			fmt.Fprintln(os.Stderr, lines.Text())
		}
	}()
	return p, nil
}

// stop ends the server.
func (p *process) stop() error {
	if err := p.cmd.Process.Signal(unix.SIGTERM); err != nil {
		return err
	}
	<-p.logs
	return p.cmd.Wait()
}

// cpu is the CPU time the server has taken.
func (p *process) cpu() (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	var ticks int64
	for _, f := range fields[11:13] { // utime and stime, see proc_pid_stat(5)
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time of the server: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond, nil
}

// peak is the most memory that was resident, in bytes.
func peak(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	var kB int64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	return kB << 10, nil
}

// resetPeak gives the most memory that was resident of this process since it was last called,
// in bytes, see clear_refs in proc(5).
func resetPeak() (int64, error) {
	most, err := peak(os.Getpid())
	return most, errors.Join(err, os.WriteFile("/proc/self/clear_refs", []byte("5"), 0))
}

// metric adds up the series of a metric of the server that have some text in their labels.
func (p *process) metric(name, labels string) (sum float64, err error) {
	resp, err := http.Get(p.url + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	for _, l := range strings.Split(string(text), "\n") {
		series, value, _ := strings.Cut(l, " ")
		own, rest, _ := strings.Cut(series, "{")
		if own != name || !strings.Contains(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("read metric %s: %w", name, err)
		}
		sum += v
	}
	return sum, err
}

// diskUsage is what the files below a directory take, in bytes.
func diskUsage(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil // it was removed meanwhile
		}
		if err == nil {
			total += info.Size()
		}
		return err
	})
	return total, err
}
