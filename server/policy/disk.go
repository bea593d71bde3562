// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	rules "github.com/fleetprof/fleetprof/policy"
	"github.com/fleetprof/fleetprof/server/durable"
)

const (
	versionsDir = "versions"
	auditFile   = "audit.log"
	auditBefore = "audit.log.1"
	suffix      = ".json"
	// versionDigits make the names of versions sort as the numbers do.
	versionDigits = 10
	// keptVersions is how many versions stay on disk, the one in force included.
	keptVersions = 50
	// maxAudit bounds each of the two files of the audit log, in bytes.
	maxAudit = 1 << 20
	// maxChange and maxChanges bound what one entry says of the rules, in bytes
	// and lines.
	maxChange  = 512
	maxChanges = 20
)

// directory is the path of the keeper's files.
type directory string

func (d directory) path(parts ...string) string {
	return filepath.Join(append([]string{string(d)}, parts...)...)
}

// open makes what is missing and reads the newest version; the zero Policy if
// there is none.
func (d directory) open() (rules.Policy, error) {
	if err := os.MkdirAll(d.path(versionsDir), 0o700); err != nil {
		return rules.Policy{}, fmt.Errorf("make directory of the policy: %w", err)
	}
	all, err := d.versions()
	if err != nil || len(all) == 0 {
		return rules.Policy{}, err
	}
	newest := all[len(all)-1]
	p, err := readVersion(d.path(versionsDir, newest.name), newest.number)
	if err != nil {
		return p, fmt.Errorf("read policy %s: %w: mend the file, or move it away to have the version before it in force", d.path(versionsDir, newest.name), err)
	}
	return p, nil
}

func readVersion(path string, number uint64) (p rules.Policy, err error) {
	f, err := os.Open(path)
	if err != nil {
		return p, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, rules.MaxBytes+1))
	if err != nil {
		return p, err
	}
	if p, err = rules.ParseJSON(text); err != nil {
		return p, err
	}
	if p.Version != number {
		return p, fmt.Errorf("it says version %d", p.Version)
	}
	return p, nil
}

// version is a file in the directory of versions.
type version struct {
	number uint64
	name   string
}

// versions lists the versions on disk, the oldest first. Other files are left
// alone.
func (d directory) versions() (all []version, err error) {
	files, err := os.ReadDir(d.path(versionsDir))
	if err != nil {
		return nil, fmt.Errorf("read directory of the policy: %w", err)
	}
	for _, f := range files {
		digits, ok := strings.CutSuffix(f.Name(), suffix)
		number, err := strconv.ParseUint(digits, 10, 63)
		if ok && err == nil && versionName(number) == f.Name() {
			all = append(all, version{number, f.Name()})
		}
	}
	slices.SortFunc(all, func(a, b version) int { return cmp.Compare(a.number, b.number) })
	return all, nil
}

func versionName(number uint64) string {
	return fmt.Sprintf("%0*d%s", versionDigits, number, suffix)
}

// write makes a version durable. The audit log goes first, so that there is no
// change that it does not tell of.
func (d directory) write(s Snapshot, entry auditEntry) error {
	if err := d.audit(entry); err != nil {
		return fmt.Errorf("write audit log of the policy: %w", err)
	}
	name := d.path(versionsDir, versionName(s.Policy.Version))
	temp := name + ".tmp"
	f, err := os.OpenFile(temp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.Write(append(slices.Clone(s.Body), '\n'))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = os.Rename(temp, name)
	}
	if err == nil {
		err = durable.SyncDir(d.path(versionsDir))
	}
	if err != nil {
		return fmt.Errorf("write policy: %w", err)
	}
	return nil
}

// trim removes the versions beyond the kept ones.
func (d directory) trim() error {
	all, err := d.versions()
	for _, v := range all[:max(0, len(all)-keptVersions)] {
		err = errors.Join(err, os.Remove(d.path(versionsDir, v.name)))
	}
	return err
}

// auditEntry is one line of the audit log.
type auditEntry struct {
	Time    time.Time `json:"time"`
	Remote  string    `json:"remote"`
	User    string    `json:"user,omitempty"`
	By      string    `json:"by,omitempty"`
	What    string    `json:"what"`
	Version uint64    `json:"version"`
	Before  string    `json:"before"`
	After   string    `json:"after"`
	Changes []string  `json:"changes"`
}

// describe says what becomes of the rules, within bounds.
func (e *auditEntry) describe(changes []string) {
	e.Changes = []string{}
	for i, c := range changes {
		if i == maxChanges {
			e.Changes = append(e.Changes, fmt.Sprintf("and %d more", len(changes)-i))
			break
		}
		if len(c) > maxChange {
			c = strings.ToValidUTF8(c[:maxChange], "") + "…"
		}
		e.Changes = append(e.Changes, c)
	}
}

// audit appends a line. A file that is full becomes the one before it.
func (d directory) audit(entry auditEntry) error {
	line, err := json.Marshal(entry)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if info, err := os.Stat(d.path(auditFile)); err == nil && info.Size()+int64(len(line)) > maxAudit {
		if err := os.Rename(d.path(auditFile), d.path(auditBefore)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(d.path(auditFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(line)
	return errors.Join(err, f.Sync(), f.Close())
}
