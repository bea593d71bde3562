// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// store keeps what has been downloaded, and the package lists of other Debian
// releases. The host's own package management is not touched.
type store struct{ dir string }

// vmlinuz returns the file to boot.
func (s store) vmlinuz(k kernel) (string, error) {
	a, err := s.open(k.suite)
	if err != nil {
		return "", err
	}
	name, err := a.dependency("linux-image-cloud-"+k.arch, k.arch, "linux-image-")
	if err != nil {
		return "", err
	}
	// Since Linux 6.17 the file is in a package of its own.
	binary, err := a.dependency(name, k.arch, "linux-binary-")
	if err != nil && !errors.Is(err, errNoDependency) {
		return "", err
	}
	dir, err := a.unpack(cmp.Or(binary, name), k.arch)
	if err != nil {
		return "", err
	}
	return findVmlinuz(dir)
}

func findVmlinuz(dir string) (string, error) {
	for _, pattern := range []string{"boot/vmlinuz-*", "usr/lib/modules/*/vmlinuz"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("find vmlinuz in %s: not there", dir)
}

// busybox returns a static program that is sh, sleep, taskset and more.
func (s store) busybox(arch string) (string, error) {
	a, err := s.open("bookworm")
	if err != nil {
		return "", err
	}
	dir, err := a.unpack("busybox-static", arch)
	return filepath.Join(dir, "bin/busybox"), err
}

// apt is package management for one Debian suite, in a directory of its own.
type apt struct{ suite, dir string }

// open brings the package lists of a suite up to date.
func (s store) open(suite string) (apt, error) {
	a := apt{suite, filepath.Join(s.dir, suite)}
	for _, below := range []string{"lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(a.dir, below), 0o755); err != nil {
			return apt{}, err
		}
	}
	archive, err := hostArchive()
	if err != nil {
		return apt{}, err
	}
	for name, text := range map[string]string{
		"status":       "",
		"sources.list": "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] " + archive + " " + suite + " main\n",
		"apt.conf":     a.config(),
	} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return apt{}, err
		}
	}
	_, err = a.run(a.dir, "apt-get", "update")
	return a, err
}

// hostArchive is the address of the Debian archive that the host itself uses.
func hostArchive() (string, error) {
	text, err := output(exec.Command("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"))
	if err != nil {
		return "", err
	}
	for address := range strings.Lines(text) {
		if address = strings.TrimSpace(address); strings.HasSuffix(strings.TrimSuffix(address, "/"), "/debian") {
			return address, nil
		}
	}
	return "", errors.New("find the Debian archive this host uses: apt-get indextargets names none; run apt-get update first")
}

func (a apt) config() string {
	return fmt.Sprintf(`Dir::Etc::SourceList "%[1]s/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::State::Lists "%[1]s/lists";
Dir::State::Status "%[1]s/status";
Dir::Cache "%[1]s/cache";
APT::Architectures { "amd64"; "arm64"; };
APT::Sandbox::User "";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
`, a.dir)
}

// run runs one of apt's commands in a directory.
func (a apt) run(dir, name string, args ...string) (stdout string, err error) {
	cmd := exec.Command(name, append([]string{"-q"}, args...)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	return output(cmd)
}

// show returns the newest description of a package.
func (a apt) show(name, arch string) (string, error) {
	return a.run(a.dir, "apt-cache", "show", "--no-all-versions", name+":"+arch)
}

var errNoDependency = errors.New("there is none")

// dependency returns the package with a version in its name, such as
// linux-image-6.1.0-50-cloud-amd64, that another one depends on.
func (a apt) dependency(name, arch, prefix string) (string, error) {
	text, err := a.show(name, arch)
	if err != nil {
		return "", err
	}
	if found := findDependency(text, prefix); found != "" {
		return found, nil
	}
	return "", fmt.Errorf("find %s* among the dependencies of %s in %s: %w", prefix, name, a.suite, errNoDependency)
}

func findDependency(description, prefix string) string {
	depends := regexp.MustCompile(`(?m)^Depends: .*$`).FindString(description)
	return regexp.MustCompile(regexp.QuoteMeta(prefix) + `[0-9][^ ,]*`).FindString(depends)
}

// unpack returns a directory with the content of a package.
func (a apt) unpack(name, arch string) (string, error) {
	text, err := a.show(name, arch)
	if err != nil {
		return "", err
	}
	sum := regexp.MustCompile(`(?m)^SHA256: ([0-9a-f]{64})$`).FindStringSubmatch(text)
	if sum == nil {
		return "", fmt.Errorf("find package %s for %s in %s: not there", name, arch, a.suite)
	}
	dir := filepath.Join(a.dir, sum[1])
	return dir, unpackOnce(dir, func(work string) error {
		_, err := a.run(work, "apt-get", "download", name+":"+arch)
		return err
	})
}

// unpackOnce makes a directory with the content of the one package that fetch
// puts into a directory, unless it is there already.
func unpackOnce(dir string, fetch func(work string) error) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(filepath.Dir(dir), "unpack-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := fetch(work); err != nil {
		return err
	}
	found, _ := filepath.Glob(filepath.Join(work, "*.deb"))
	if len(found) != 1 {
		return fmt.Errorf("unpack into %s: %d packages fetched, want 1", dir, len(found))
	}
	content := filepath.Join(work, "content")
	if err := run(exec.Command("dpkg", "-x", found[0], content)); err != nil {
		return err
	}
	return os.Rename(content, dir)
}
