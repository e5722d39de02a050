package command

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/callbackrelay/caddy-relay/caddymodule/api"
)

var now = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// want compares what was written with what is expected, and no line with more characters than there are.
func want(t *testing.T, got string, width int, expected string) {
	t.Helper()
	if got != strings.TrimPrefix(expected, "\n") {
		t.Errorf("got:\n%s\nexpected:%s", got, expected)
	}
	for line := range strings.Lines(got) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); width > 0 && n > width {
			t.Errorf("%d characters: %s", n, line)
		}
	}
}

func sampleStatus() *api.Status {
	return &api.Status{
		Store: api.StoreStatus{Driver: "redis", Location: "127.0.0.1:6379", FreeBytes: -1, Up: true, EvictionPolicy: "allkeys-lru"},
		Spool: &api.SpoolStatus{Location: "/data/spool.db", FreeBytes: 40 << 20, Up: true, Events: 1204, Stuck: 2, Bytes: 3 << 20, OldestSeconds: 95},
		Nodes: []api.NodeStatus{{Name: "a", PID: 7, Config: "1"}, {Name: "b", PID: 8, Config: "2"}}, Drift: true,
		Sources: []api.SourceStatus{{Name: "stems"}, {Name: "vocals", Open: true}},
		Destinations: []api.DestinationStatus{
			{Source: "stems", Name: "library", State: "active", Counts: api.StateCounts{Delivered: 1234567}, Client: "caddy"},
			{
				Source: "vocals", Name: "a-destination-with-a-long-name", State: "held",
				Counts: api.StateCounts{Held: 10000, InFlight: 1, Dead: 12}, OldestPendingSeconds: 7500, Client: "lean",
			},
		},
	}
}

func TestStatusTable(t *testing.T) {
	const wide = `
store       redis 127.0.0.1:6379, up, loses data at maxmemory (allkeys-lru)
spool       /data/spool.db, 1,204 callbacks, 3.0 MiB, the oldest 1m35s old, and 2 that the store refuses, 40 MiB free
gateways    a (process 7), b (process 8)
            they are configured differently: reload those with the old configuration
sources     stems, vocals (open to everyone)

SOURCE  DESTINATION                     STATE   WAITING  IN FLIGHT  DELIVERED  DEAD  OLDEST  CLIENT
stems   library                         active        0          0  1,234,567     0          caddy
vocals  a-destination-with-a-long-name  held     10,000          1          0    12   2h05m  lean
`
	for width, expected := range map[int]string{
		0: wide,
		28: `
store       redis
            127.0.0.1:6379,
            up, loses data
            at maxmemory
            (allkeys-lru)
spool       /data/spool.db,
            1,204 callbacks,
            3.0 MiB, the
            oldest 1m35s
            old, and 2 that
            the store
            refuses, 40 MiB
            free
gateways    a (process 7), b
            (process 8)
            they are
            configured
            differently:
            reload those
            with the old
            configuration
sources     stems, vocals
            (open to
            everyone)

DEST…  STATE   WAITING  DEAD
libr…  active        0     0
a-de…  held     10,000    12
`,
		40: `
store       redis 127.0.0.1:6379, up,
            loses data at maxmemory
            (allkeys-lru)
spool       /data/spool.db, 1,204
            callbacks, 3.0 MiB, the
            oldest 1m35s old, and 2 that
            the store refuses, 40 MiB
            free
gateways    a (process 7), b (process 8)
            they are configured
            differently: reload those
            with the old configuration
sources     stems, vocals (open to
            everyone)

SOURCE  DESTINAT…  STATE   WAITING  DEAD
stems   library    active        0     0
vocals  a-destin…  held     10,000    12
`,
		80: `
store       redis 127.0.0.1:6379, up, loses data at maxmemory (allkeys-lru)
spool       /data/spool.db, 1,204 callbacks, 3.0 MiB, the oldest 1m35s old, and
            2 that the store refuses, 40 MiB free
gateways    a (process 7), b (process 8)
            they are configured differently: reload those with the old
            configuration
sources     stems, vocals (open to everyone)

SOURCE  DESTINATION  STATE   WAITING  IN FLIGHT  DELIVERED  DEAD  OLDEST  CLIENT
stems   library      active        0          0  1,234,567     0          caddy
vocals  a-destinat…  held     10,000          1          0    12   2h05m  lean
`,
		120: wide,
	} {
		var b strings.Builder
		if err := writeStatus(&b, width, sampleStatus()); err != nil {
			t.Fatal(err)
		}
		want(t, b.String(), width, expected)
	}
}

func TestStatusOfWhatIsAway(t *testing.T) {
	var b strings.Builder
	if err := writeStatus(&b, 40, &api.Status{Store: api.StoreStatus{Driver: "sqlite", Location: "/data/relay.db", Error: "the disk is full"}}); err != nil {
		t.Fatal(err)
	}
	want(t, b.String(), 40, `
store       sqlite /data/relay.db, away:
            the disk is full
gateways
sources
`)
}

// What nobody has counted yet is no zero.
func TestStatusOfWhatWasNotRead(t *testing.T) {
	s := sampleStatus()
	s.Store = api.StoreStatus{Driver: "redis", Location: "127.0.0.1:6379", FreeBytes: -1, Unread: true, Error: "connection refused"}
	s.Spool, s.Drift = &api.SpoolStatus{Error: "it is being opened"}, false
	s.Sources[0].Tasks = &api.TaskCounts{}
	for i := range s.Destinations {
		s.Destinations[i].Counts, s.Destinations[i].State = api.StateCounts{}, "active"
	}
	var b strings.Builder
	if err := writeStatus(&b, 0, s); err != nil {
		t.Fatal(err)
	}
	want(t, b.String(), 0, `
store       redis 127.0.0.1:6379, not open yet: connection refused
spool       away: it is being opened
gateways    a (process 7), b (process 8)
sources     stems, vocals (open to everyone)

SOURCE  DESTINATION                     STATE   WAITING  IN FLIGHT  DELIVERED  DEAD  OLDEST  CLIENT
stems   library                         active        -          -          -     -       -  caddy
vocals  a-destination-with-a-long-name  active        -          -          -     -       -  lean
`)
}

// What senders and consumers have written can neither break a line nor move the cursor.
func TestForeignTextInTables(t *testing.T) {
	var b strings.Builder
	err := deadLetters.write(&b, 0, []api.DeadLetter{{
		EventID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", DeadAt: now.Add(-time.Minute), Source: "vocals", Destination: "billing", TaskID: "7",
		Attempts: 4, LastStatus: 500, LastError: "body\r\n\x1b[2J\x1b]0;title\x07 cut \u202e\xff",
	}}, now)
	if err != nil {
		t.Fatal(err)
	}
	want(t, b.String(), 0, `
EVENT                       GIVEN UP   SOURCE  DESTINATION  TASK  TRIES  LAST ANSWER
01K2Q7ZJ0V3E8Y4M6T5R9W1XAB  1m00s ago  vocals  billing      7         4  500 body  �[2J�]0;title� cut ��
`)
}

func TestShow(t *testing.T) {
	e := &api.Event{
		ID: "01K2Q7ZJ0V3E8Y4M6T5R9W1XAB", Source: "vocals", TaskID: "7", Code: "200", Origin: "callback", State: "pending", Conflicts: 1,
		ReceivedAt: now.Add(-time.Hour),
		Deliveries: []api.Delivery{{
			Destination: "billing", State: "pending", Replay: 2, NextAttemptAt: now.Add(90 * time.Second),
			Attempts: []api.Attempt{{At: now.Add(-time.Hour), DurationMS: 12, Status: 500, Response: "out of\torder\x1b[0m\n"}},
		}},
		EventDetails: &api.EventDetails{
			Headers: map[string]string{"content-type": "application/json"}, Payload: []byte(`{"code":200,"data":{}}`), Files: []api.File{
				{URL: "https://files.example.com/a.mp3", Object: "vocals/2026-01-02/t/a.mp3", Size: 1200, SHA256: "00ff"}, {URL: "https://files.example.com/b.mp3"},
			},
			Variants: []api.Variant{{N: 1, ReceivedAt: now, Payload: []byte(`"plain\ntext"`)}},
		},
	}
	local := func(d time.Duration) string { return moment(now.Add(d)) }
	var b strings.Builder
	if err := writeEvent(&b, 0, e, now); err != nil {
		t.Fatal(err)
	}
	want(t, b.String(), 0, `
event       01K2Q7ZJ0V3E8Y4M6T5R9W1XAB
source      vocals
task        7
stage
code        200
received    `+local(-time.Hour)+`, 1h00m ago
origin      callback
state       pending
conflicts   1

billing: pending, replayed 2 times, next attempt in 1m30s
  `+local(-time.Hour)+`  500  (12 ms)
    out of    order�[0m

files
  https://files.example.com/a.mp3
    vocals/2026-01-02/t/a.mp3, 1200 bytes, SHA-256 00ff
  https://files.example.com/b.mp3

headers
  content-type: application/json

payload
  {
    "code": 200,
    "data": {}
  }

variant 1, `+local(0)+`, headers

variant 1, payload
  plain
  text
`)
}

func TestFormat(t *testing.T) {
	for n, expected := range map[int]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != expected {
			t.Errorf("%d: %s", n, got)
		}
	}
	for d, expected := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m01s", 45 * time.Minute: "45m", 26 * time.Hour: "26h00m", 50 * time.Hour: "2d",
	} {
		if got := span(d); got != expected {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestProgressLine(t *testing.T) {
	p := &progress{label: "redriving", total: 100_000}
	for _, c := range []struct {
		done     int
		elapsed  time.Duration
		expected string
	}{
		{0, 0, "redriving [........................]   0%  0/100,000  0/s"},
		{25_000, 5 * time.Second, "redriving [######..................]  25%  25,000/100,000  5,000/s  15s left"},
		{100_500, 20 * time.Second, "redriving [########################] 100%  100,000/100,000  5,025/s  0s left"},
	} {
		if got := p.line(c.done, c.elapsed); got != c.expected {
			t.Errorf("got %q, expected %q", got, c.expected)
		}
	}
	p.width = 40
	if got := p.line(25_000, 5*time.Second); got != "redriving  25%  25,000/100,000  5,000/…" {
		t.Errorf("got %q", got)
	}
	if got := (&progress{label: "counting"}).line(1500, time.Second); got != "counting 1,500  1,500/s" {
		t.Errorf("got %q", got)
	}
}
