package filter_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/callbackrelay/caddy-relay/relay"
	"github.com/callbackrelay/caddy-relay/relay/filter"
	"github.com/callbackrelay/caddy-relay/relay/payload"
)

func parseWhen(tb testing.TB, expr string) *filter.Filter {
	tb.Helper()
	w, err := filter.Parse(expr)
	if err != nil {
		tb.Fatalf("%s: %v", expr, err)
	}
	return w
}

func TestFilter(t *testing.T) {
	ev := &relay.Event{
		Source: "vocals", TaskID: "t1", Stage: "complete", Code: "200",
		Headers: relay.Headers{"content-type": "application/json"},
		Body: []byte(`{"code":200,"msg":"all done","data":{"n":5,"whole":5.0,"huge":12345678901234567890,"half":0.5,
			"s":"x","no":null,"yes":true,"list":[1,2,{"url":"https://a"}],"big":9007199254740993}}`),
	}
	for expr, want := range map[string]string{
		`code == 200 && stage == "complete"`:                 "true",
		`code >= 400`:                                        "false",
		`code in [400, 451]`:                                 "false",
		`task_id == "t1" && source == "vocals"`:              "true",
		`headers["content-type"].startsWith("application/")`: "true",
		`"x-not-there" in headers`:                           "false",
		`headers["x-not-there"] == ""`:                       "error",
		`msg.contains("done") && msg.matches("^all")`:        "true",
		`data.n == 5 && data.whole == 5 && data.half < 1`:    "true",
		`data.n + 1 == 6`:                                    "true",
		`data.half > 0 && data.n > 4.5`:                      "true",
		`data.big == 9007199254740993`:                       "true",
		`data.huge > 1e19`:                                   "true",
		`data.no == null && data.yes`:                        "true",
		`data.list[2].url == "https://a"`:                    "true",
		`data.list.exists(x, x == 2)`:                        "true",
		`has(data.s) && !has(data.absent)`:                   "true",
		`data.absent == 1`:                                   "error",
		`data.s`:                                             "error", // dyn, and no bool at last
		`data.yes`:                                           "true",
		`data.s.upperAscii() == "X"`:                         "true",
		`data.s.replace("x", "yy").size() == 2`:              "true",
		`data.n.contains("x")`:                               "error",
	} {
		matched, err := parseWhen(t, expr).Match(&relay.View{Event: ev})
		got := fmt.Sprint(matched)
		if err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%s: %s (%v), not %s", expr, got, err, want)
		}
	}
}

func TestFilterLeavesWhatIsAbsentUnset(t *testing.T) {
	for _, c := range []struct {
		ev   relay.Event
		expr string
		err  bool
	}{
		{relay.Event{Body: []byte(`{}`)}, `code == 0`, true},
		{relay.Event{Code: "ok", Body: []byte(`{}`)}, `code == 0`, true},
		{relay.Event{Code: "1.5", Body: []byte(`{}`)}, `code == 1`, true},
		{relay.Event{Body: []byte(`{}`)}, `msg == ""`, true},
		{relay.Event{Body: []byte(`{"msg":7}`)}, `msg == ""`, true},
		{relay.Event{Body: []byte(`{}`)}, `has(data.x)`, true},
		{relay.Event{Body: []byte(`{"data":null}`)}, `data == null`, false},
		{relay.Event{Body: []byte("\xef\xbb\xbf" + `{"msg":"after a byte order mark"}`)}, `msg != ""`, false},
		{relay.Event{Body: []byte(`{}`)}, `stage == "" && task_id == "" && headers.size() == 0`, false},
	} {
		matched, err := parseWhen(t, c.expr).Match(&relay.View{Event: &c.ev})
		if (err != nil) != c.err || matched == c.err {
			t.Errorf("%s on %s: %v, %v", c.expr, c.ev.Body, matched, err)
		}
	}
}

func TestParseWhenRefuses(t *testing.T) {
	for expr, want := range map[string]string{
		``:                                 "",
		`code`:                             "must be a bool, not int",
		`msg + "x"`:                        "must be a bool, not string",
		`code == "200"`:                    "no matching overload",
		`unknown == 1`:                     "undeclared reference",
		`msg.matches("(")`:                 "",
		`msg.matches(data.regex)`:          "must be a literal",
		`matches(msg, msg)`:                "must be a literal",
		`msg.replace("a", msg) == ""`:      "must be a literal",
		`msg.replace(msg, "a", 1) == ""`:   "must be a literal",
		`["a"].join(msg) == ""`:            "must be a literal",
		`msg.indexOf(msg) == 0`:            "must be a literal",
		`msg.lastIndexOf(msg) == 0`:        "must be a literal",
		`data.all(x, msg.indexOf(x) == 0)`: "must be a literal",
		strings.Repeat("(", 1000):          "",
	} {
		_, err := filter.Parse(expr)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, not %q", expr, err, want)
		}
	}
}

// Whatever the body, an evaluation ends soon, with an error where it would cost too much.
func TestFilterIsBounded(t *testing.T) {
	ones := strings.TrimSuffix(strings.Repeat("1,", 100_000), ",")
	text := strings.Repeat("a", 1<<20)
	ev := &relay.Event{Code: "200", Body: []byte(`{"msg":"` + text + `","data":{"list":[` + ones + `],"text":"` + text + `"}}`)}
	for _, expr := range []string{
		`data.list.all(x, data.list.all(y, x == y))`,
		`data.list.all(x, size(msg) > 0)`,
		`data.list.all(x, msg != "b")`,
		`data.list.map(x, msg + msg).size() > 0`,
		`msg.matches("(a|aa)+b")`,
		`data.text.matches("(a|aa)+b")`,
		`data.text.replace("", "0123456789").replace("", "0123456789").size() > 0`,
		`msg.split("").join("0123456789") == ""`,
		`data.text.contains(msg)`,
	} {
		w := parseWhen(t, expr)
		start := time.Now()
		_, err := w.Match(&relay.View{Event: ev})
		if took := time.Since(start); err == nil || took > 20*time.Second {
			t.Errorf("%s: %v after %v", expr, err, took)
		} else {
			t.Logf("%s: %v after %v", expr, err, took)
		}
	}
}

func TestFilterIsUsedConcurrently(t *testing.T) {
	w := parseWhen(t, `data.list.exists(x, x == code)`)
	done := make(chan error)
	for i := range 8 {
		go func() {
			ev := &relay.Event{Code: fmt.Sprint(i), Body: fmt.Appendf(nil, `{"data":{"list":[%d]}}`, i)}
			matched, err := w.Match(&relay.View{Event: ev})
			if err == nil && !matched {
				err = fmt.Errorf("%d: no match", i)
			}
			done <- err
		}()
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

func FuzzWhen(f *testing.F) {
	whens := []*filter.Filter{
		parseWhen(f, `code == 200 && data.n == 5 || msg.matches("a+b")`),
		parseWhen(f, `data.list.exists(x, x.url.startsWith("https://")) || data.list.map(x, x + x).size() > 1`),
		parseWhen(f, `data == data || data.a.b < data.c`),
		parseWhen(f, `data`),
	}
	f.Add([]byte(`{"code":200,"msg":"aab","data":{"n":5.0,"list":[{"url":"https://a"},1e400,-0]}}`), "200")
	f.Add([]byte(strings.Repeat(`{"data":`, 100)), "")
	f.Fuzz(func(t *testing.T, body []byte, code string) {
		in := &relay.View{Event: &relay.Event{Code: code, Body: body}}
		for _, w := range whens {
			_, _ = w.Match(in)
		}
	})
}

func fixture(tb testing.TB, name string) []byte {
	tb.Helper()
	b, err := os.ReadFile("../testdata/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func FuzzParse(f *testing.F) {
	f.Add(`code == 200 && data.list.exists(x, x.url.matches("^a"))`)
	f.Add(`"%s %.9999999999f".format([msg, data]) == ""`)
	ev := &relay.Event{Code: "200", Body: fixture(f, "callback-music-complete.json")}
	f.Fuzz(func(t *testing.T, expr string) {
		if w, err := filter.Parse(expr); err == nil {
			_, _ = w.Match(&relay.View{Event: ev})
		}
	})
}

func BenchmarkFilter(b *testing.B) {
	ev := &relay.Event{Code: "200", Stage: "complete", Body: fixture(b, "callback-separate-vocal.json")}
	for name, expr := range map[string]string{"envelope": `code == 200 && stage == "complete"`, "data": `has(data.vocal_removal_info.vocal_url)`} {
		w := parseWhen(b, expr)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.Match(&relay.View{Event: ev}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func TestFormats(t *testing.T) {
	const jsonBody = `{"msg":"done","data":{"plan":"pro"}}`
	for _, c := range []struct {
		format     payload.Format
		body, expr string
		want       string
	}{
		{payload.Form, "plan=pro+%26+more&msg=done&data=x", `data.plan == "pro & more" && msg == "done" && data.data == "x"`, "true"},
		{payload.Form, "n=5", `data.n == "5"`, "true"},
		{payload.Form, "n=5&n=6", `data.n == "6"`, "true"},
		{payload.Form, "", `has(data.n)`, "false"},
		{payload.Form, "a=%zz", `has(data.a)`, "error"},
		{payload.Form, jsonBody, `has(data.plan)`, "false"},
		{payload.Any, jsonBody, `data.plan == "pro" && msg == "done"`, "true"},
		{payload.Any, "\xef\xbb\xbf" + jsonBody, `data.plan == "pro"`, "true"},
		{payload.Any, `[` + jsonBody + `]`, `data.plan == "pro"`, "error"},
		{payload.Any, jsonBody + "x", `data.plan == "pro"`, "error"},
		{payload.Any, "data=1", `data != null`, "error"},
		{payload.Any, `{"data":1,"data":2}`, `data == 1`, "error"},
		{payload.Any, strings.Repeat(`{"data":`, 1<<20), `data != null`, "error"},
	} {
		matched, err := parseWhen(t, c.expr).Match(&relay.View{Event: &relay.Event{Body: []byte(c.body)}, Format: c.format})
		got := fmt.Sprint(matched)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("%s on %.60q as %s: %s, %v; want %s", c.expr, c.body, c.format, got, err, c.want)
		}
	}
}
