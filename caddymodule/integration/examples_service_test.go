package integration

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// settings reads a unit: its settings by name, each as often as it is there.
func settings(t *testing.T, unit string) map[string][]string {
	t.Helper()
	found := map[string][]string{}
	for line := range strings.Lines(unit) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			found[name] = append(found[name], value)
		}
	}
	return found
}

// TestExampleUnit runs the commands of the systemd unit as systemd does, but with the paths of this test.
func TestExampleUnit(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	c := newConsumer(t)
	text := g.example("production.caddyfile", "\n\tmetrics\n\n", "\n\n",
		"https://billing.example.com/hooks/vocals", c.URL(), "https://library.example.com/hooks/vocals", c.URL())
	file := g.write(text)
	here := strings.NewReplacer("/usr/local/bin/caddy", binary, "/etc/caddy-relay/Caddyfile", file, "/var/lib/caddy-relay", g.home)
	unit := here.Replace(read(t, examples+"caddy-relay.service"))
	checkUnit(t, unit)
	set := settings(t, unit)
	command := func(line string) *exec.Cmd {
		fields := strings.Fields(line)
		cmd := exec.Command(fields[0], fields[1:]...)
		cmd.Env = append(os.Environ(), strings.Fields(set["Environment"][0])...)
		return cmd
	}

	notices := filepath.Join(g.home, "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notices, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	run := command(set["ExecStart"][0])
	run.Env = append(run.Env, "NOTIFY_SOCKET="+notices)
	g.process = startProcess(t, run)
	awaitNotice(t, socket, "READY=1")
	g.awaitSite()
	g.accept("/callbacks/vocals?token="+exampleSecrets["CALLBACK_TOKEN"], callback(t, "a"))
	c.waitFor(2)
	if _, err := os.Stat(g.database()); err != nil {
		t.Errorf("the store is not below StateDirectory: %v", err)
	}

	reload := command(set["ExecReload"][0] + " --address " + g.admin)
	output(t, reload)
	awaitNotice(t, socket, "RELOADING=1")
	awaitNotice(t, socket, "READY=1")

	limit, err := time.ParseDuration(set["TimeoutStopSec"][0])
	if err != nil {
		t.Fatal(err)
	}
	if grace, drain := duration(t, text, "grace_period"), duration(t, text, "drain"); limit <= grace+drain {
		t.Errorf("TimeoutStopSec is %s, and grace_period %s and drain %s", limit, grace, drain)
	}
	if took := g.stop(); took > limit {
		t.Errorf("the gateway stops after %s", took)
	}
}

// checkUnit has systemd read the unit, where it is installed.
func checkUnit(t *testing.T, unit string) {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("systemd-analyze is not here: the unit is only run")
		return
	}
	file := filepath.Join(t.TempDir(), "caddy-relay.service")
	if err := os.WriteFile(file, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file)
	if out, err := verify.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze: %v\n%s", err, out)
	}
}

func awaitNotice(t *testing.T, socket *net.UnixConn, want string) {
	t.Helper()
	if err := socket.SetReadDeadline(time.Now().Add(2 * patience)); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); ; {
		n, err := socket.Read(buf)
		if err != nil {
			t.Fatalf("%s is not announced: %v", want, err)
		}
		if slices.Contains(strings.Fields(string(buf[:n])), want) {
			return
		}
	}
}

func duration(t *testing.T, caddyfile, option string) time.Duration {
	t.Helper()
	match := regexp.MustCompile(`(?m)^\s+` + option + ` (\S+)$`).FindStringSubmatch(caddyfile)
	if match == nil {
		t.Fatalf("no %s", option)
	}
	d, err := time.ParseDuration(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var instruction = regexp.MustCompile(`^(FROM|WORKDIR|COPY|RUN|ENV|VOLUME|EXPOSE|USER|ENTRYPOINT|CMD) (.+)$`)

// TestExampleContainer checks what can be checked of the Containerfile without an engine: that what it copies is all that the
// build needs, that the gateway runs as an ordinary user, and that the store is in the volume.
func TestExampleContainer(t *testing.T) {
	t.Parallel()
	last := map[string]string{} // of the last stage
	root := t.TempDir()
	for line := range strings.Lines(read(t, examples+"Containerfile")) {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		match := instruction.FindStringSubmatch(line)
		if match == nil {
			t.Fatalf("not an instruction: %s", line)
		}
		if match[1] == "FROM" {
			clear(last)
		}
		last[match[1]] = match[2]
		if arguments := strings.Fields(match[2]); match[1] == "COPY" && !strings.HasPrefix(arguments[0], "--") {
			for _, from := range arguments[:len(arguments)-1] {
				copyInto(t, root, from, arguments[len(arguments)-1])
			}
		}
	}
	build := exec.Command("make", "--dry-run", "build")
	build.Dir = root
	output(t, build)
	for _, module := range []string{".", "caddymodule/xcaddy"} {
		list := exec.Command("go", "list", "-deps", "./...")
		list.Dir = filepath.Join(root, module)
		output(t, list)
	}
	if user := last["USER"]; user == "" || strings.HasPrefix(user, "0") || strings.HasPrefix(user, "root") {
		t.Errorf("the user is %q", user)
	}
	if !strings.Contains(last["ENV"], "XDG_DATA_HOME="+last["VOLUME"]) {
		t.Errorf("the volume is %s, and the environment %s", last["VOLUME"], last["ENV"])
	}
	if last["ENTRYPOINT"] != `["/usr/local/bin/caddy"]` || last["CMD"] != `["run", "--config", "/etc/caddy/Caddyfile"]` {
		t.Errorf("the command is %s %s", last["ENTRYPOINT"], last["CMD"])
	}
}

// copyInto copies a file or a folder of the repository as COPY does.
func copyInto(t *testing.T, root, from, to string) {
	t.Helper()
	source, target := filepath.Join("../..", from), filepath.Join(root, to)
	info, err := os.Stat(source)
	if err != nil {
		t.Fatal(err)
	}
	if info.IsDir() {
		err = os.CopyFS(target, os.DirFS(source))
	} else if err = os.MkdirAll(target, 0o700); err == nil {
		err = os.WriteFile(filepath.Join(target, filepath.Base(from)), []byte(read(t, source)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}
