// The stream of what happens on this node, and what it amounts to over the last minutes.

// WINDOW is how many seconds are kept for the charts.
export const WINDOW = 300;

const KINDS = ['accepted', 'delivered', 'retrying', 'dead'];
const POLL = 5000;

const counts = Object.fromEntries(KINDS.map((kind) => [kind, new Map()])); // by the second
const listeners = new Set();
let state = 'connecting';
let opened = 0;
let source;
let retry;

const now = () => Math.floor(Date.now() / 1000);

// connect opens the stream, and opens it again whenever it ends.
export function connect() {
  clearTimeout(retry);
  source?.close();
  source = new EventSource('api/stream');
  source.onopen = () => {
    opened ||= now();
    change('live');
  };
  source.onerror = () => {
    // The browser reconnects by itself unless the answer was an error.
    const ended = source.readyState === EventSource.CLOSED;
    change(ended ? 'polling' : 'connecting');
    if (ended) retry = setTimeout(connect, POLL * 3);
  };
  for (const kind of KINDS) source.addEventListener(kind, (message) => arrive(kind, message));
}

function arrive(kind, message) {
  const second = now();
  counts[kind].set(second, (counts[kind].get(second) ?? 0) + 1);
  for (const old of counts[kind].keys()) {
    if (old >= second - WINDOW) break;
    counts[kind].delete(old);
  }
  let happened = {};
  try {
    happened = JSON.parse(message.data);
  } catch { /* what is not readable still happened */ }
  notify({ kind, id: happened.event_id ?? happened.id ?? '' });
}

function change(to) {
  if (state === to) return;
  state = to;
  notify({ kind: to });
}

function notify(what) {
  for (const listener of listeners) listener(what);
}

// listen calls a function with { kind, id } of whatever happens, a change of the connection included, until the signal.
export function listen(listener, signal) {
  listeners.add(listener);
  signal?.addEventListener('abort', () => listeners.delete(listener));
}

// connection returns live, connecting, or polling where there is no stream.
export const connection = () => state;

// follow calls a function soon after something happened, at most once a second, and every few seconds anyway, until the
// signal; never while the page is hidden.
export function follow(refresh, signal, concerns = () => true) {
  let waiting;
  let running = false;
  const run = async () => {
    waiting = undefined;
    if (document.hidden || signal.aborted) return;
    running = true;
    try {
      await refresh();
    } finally {
      running = false;
    }
  };
  const soon = () => {
    if (waiting === undefined) waiting = setTimeout(running ? again : run, 700);
  };
  const again = () => {
    waiting = undefined;
    soon();
  };
  listen((what) => concerns(what) && soon(), signal);
  const poll = setInterval(soon, POLL);
  document.addEventListener('visibilitychange', soon, { signal });
  signal.addEventListener('abort', () => {
    clearInterval(poll);
    clearTimeout(waiting);
  });
}

// total returns how often something happened within the window.
export const total = (...kinds) => kinds.reduce((sum, kind) => {
  const since = now() - WINDOW;
  for (const [second, n] of counts[kind]) if (second > since) sum += n;
  return sum;
}, 0);

// observed returns for how many seconds of the window the stream has been watched.
export const observed = () => (opened ? Math.min(WINDOW, now() - opened) : 0);

// series returns the seconds of the window, and what happened in each: null before the stream was watched. The window grows
// with the time it has been watched, from a minute on.
export function series() {
  const end = now() - 1; // the current second is not over
  const length = Math.max(60, observed());
  const seconds = Array.from({ length }, (_, i) => end - length + 1 + i);
  const of = (...kinds) => seconds.map((second) => (!opened || second < opened ? null
    : kinds.reduce((sum, kind) => sum + (counts[kind].get(second) ?? 0), 0)));
  return [seconds, of('accepted'), of('delivered'), of('retrying', 'dead')];
}
