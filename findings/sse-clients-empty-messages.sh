#!/bin/sh
# Clients of server-sent events hand out empty messages that nobody has sent: @microsoft/fetch-event-source 2.0.1 and
# extended-eventsource 2.1.0 for Node, and for Go tmaxmax/go-sse v0.12.0, launchdarkly/eventsource v1.11.0, r3labs/sse v2.10.0
# and donovanhide/eventsource of 2021-08-30.
#
# Expected: a block of a stream without data is no event. The HTML standard ends the processing of a blank line where the data
#           buffer is empty, and has servers send comments to keep a connection alive. So eventsource 5.1.5, eventsource-client
#           1.2.0 and launchdarkly-eventsource 2.2.0 for Node hand out one message of the stream below.
# Actual:   the two for Node above hand out the two comments and the `retry` of that stream as messages with empty data, at which
#           a handler that reads JSON throws. Those for Go hand out the `retry` so.
set -eu
temp=$(mktemp -d)
trap 'rm -rf "$temp"' EXIT
cd "$temp"

cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"

	donovan "github.com/donovanhide/eventsource"
	darkly "github.com/launchdarkly/eventsource"
	labs "github.com/r3labs/sse/v2"
	tmaxmax "github.com/tmaxmax/go-sse"
)

// messages counts what a client hands out until the last one that the server sends has come.
type messages struct {
	sync.Mutex
	empty, full int
	over        chan struct{}
}

func (m *messages) add(data string) {
	m.Lock()
	defer m.Unlock()
	switch data {
	case "":
		m.empty++
	case "last":
		close(m.over)
	default:
		m.full++
	}
}

func (m *messages) report(client string) {
	select {
	case <-m.over:
	case <-time.After(20 * time.Second):
		fmt.Println(client, "has not come to the end")
		os.Exit(2)
	}
	m.Lock()
	defer m.Unlock()
	fmt.Printf("%s: %d message, %d empty\n", client, m.full, m.empty)
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	url := os.Args[1]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	request := func() *http.Request {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		check(err)
		return r
	}

	m := &messages{over: make(chan struct{})}
	connection := tmaxmax.NewConnection(request())
	connection.SubscribeToAll(func(e tmaxmax.Event) { m.add(e.Data) })
	go func() { _ = connection.Connect() }()
	m.report("tmaxmax/go-sse")

	m = &messages{over: make(chan struct{})}
	d, err := darkly.SubscribeWithRequest("", request())
	check(err)
	go func() {
		for e := range d.Events {
			m.add(e.Data())
		}
	}()
	m.report("launchdarkly/eventsource")

	m = &messages{over: make(chan struct{})}
	go func() {
		_ = labs.NewClient(url).SubscribeRawWithContext(ctx, func(e *labs.Event) { m.add(string(e.Data)) })
	}()
	m.report("r3labs/sse")

	m = &messages{over: make(chan struct{})}
	o, err := donovan.SubscribeWithRequest("", request())
	check(err)
	go func() {
		for e := range o.Events {
			m.add(e.Data())
		}
	}()
	m.report("donovanhide/eventsource")
}
GO
cat >main.mjs <<'JS'
import { execFile } from "node:child_process";
import { createServer } from "node:http";
import { getLines, getMessages } from "@microsoft/fetch-event-source/lib/cjs/parse.js";
import { EventSource } from "eventsource";
import { createEventSource } from "eventsource-client";
import { EventSource as Extended } from "extended-eventsource";
import darkly from "launchdarkly-eventsource";

const blocks = ["retry: 2000", ": alive", 'data: {"a":1}', ":", "data: last"];
const server = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.write(blocks.map((block) => `${block}\n\n`).join(""));
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const url = `http://127.0.0.1:${server.address().port}/`;

// watch tells how many messages a client hands out until the last one that the server sends.
async function watch(name, start) {
  const got = { empty: 0, full: 0 };
  let stop;
  await new Promise((over, failed) => {
    setTimeout(() => failed(new Error(`${name} has not come to the end`)), 20000).unref();
    stop = start((data) => (data === "last" ? over() : data === "" ? got.empty++ : got.full++));
  });
  stop();
  console.log(`${name}: ${got.full} message, ${got.empty} empty`);
}

for (const [name, Source] of [["eventsource", EventSource], ["launchdarkly-eventsource", darkly.EventSource ?? darkly], ["extended-eventsource", Extended]]) {
  await watch(name, (take) => {
    const source = new Source(url);
    source.onmessage = (message) => take(message.data);
    return () => source.close();
  });
}
await watch("eventsource-client", (take) => {
  const source = createEventSource({ url, onMessage: (message) => take(message.data) });
  return () => source.close();
});
// Its fetchEventSource needs a browser's document; these two are what it reads a response with.
await watch("fetch-event-source", (take) => {
  const end = new AbortController();
  const ignored = () => {};
  fetch(url, { signal: end.signal }).then(async (response) => {
    const read = getLines(getMessages(ignored, ignored, (message) => take(message.data)));
    for await (const chunk of response.body) read(chunk);
  }).catch(ignored);
  return () => end.abort();
});
await new Promise((over, failed) => {
  execFile("./finding", [url], (error, output) => {
    process.stdout.write(output);
    error ? failed(error) : over();
  });
});
process.exit(0);
JS
export GOTOOLCHAIN=go1.26.8 GOWORK=off GOFLAGS=-mod=mod CGO_ENABLED=0
go mod init finding 2>go.log
go get github.com/tmaxmax/go-sse@v0.12.0 github.com/launchdarkly/eventsource@v1.11.0 github.com/r3labs/sse/v2@v2.10.0 \
	github.com/donovanhide/eventsource@v0.0.0-20210830082556-c59027999da0 2>go.log || { echo "the clients for Go cannot be downloaded" >&2; exit 2; }
go build -o finding . || exit 2
npm install --ignore-scripts --no-audit --no-fund @microsoft/fetch-event-source@2.0.1 extended-eventsource@2.1.0 eventsource@5.1.5 \
	eventsource-client@1.2.0 launchdarkly-eventsource@2.2.0 >npm.log 2>&1 || { echo "the clients for Node cannot be downloaded" >&2; exit 2; }

echo "a stream of two messages, two comments and a retry, each with a blank line behind it"
echo "expected: 1 message before the last, 0 empty, from each client"
echo "actual:   the comments before the last message, and the retry, are messages for some"
node main.mjs >saw || { cat saw; exit 2; }
sed 's/^/saw: /' saw
cat >found <<'FOUND'
eventsource: 1 message, 0 empty
launchdarkly-eventsource: 1 message, 0 empty
extended-eventsource: 1 message, 3 empty
eventsource-client: 1 message, 0 empty
fetch-event-source: 1 message, 3 empty
tmaxmax/go-sse: 1 message, 1 empty
launchdarkly/eventsource: 1 message, 1 empty
r3labs/sse: 1 message, 1 empty
donovanhide/eventsource: 1 message, 1 empty
FOUND
cmp -s saw found || { echo "CHANGED: this is not what was found"; exit 1; }
