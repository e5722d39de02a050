// What happens on this node, and what it amounts to over the last minutes.
import { stream } from './stream.js';

// WINDOW is how many seconds are kept for the charts.
export const WINDOW = 300;

const POLL = 5000;

const counts = { accepted: new Map(), delivered: new Map(), retrying: new Map(), dead: new Map() }; // by the second
const listeners = new Set();
let state = 'connecting';
let opened = 0;

const now = () => Math.floor(Date.now() / 1000);

// connect listens to the stream, which all tabs share where the browser can.
export function connect() {
  if (!window.SharedWorker) {
    stream(hear);
    return;
  }
  const shared = new SharedWorker('worker.js', { type: 'module' });
  shared.port.onmessage = ({ data }) => hear(data);
  shared.onerror = () => stream(hear);
}

function hear(what) {
  if (what.id === undefined) change(what.kind);
  else arrive(what);
}

function arrive(what) {
  const second = now();
  const seconds = counts[what.kind];
  seconds.set(second, (seconds.get(second) ?? 0) + 1);
  for (const old of seconds.keys()) {
    if (old >= second - WINDOW) break;
    seconds.delete(old);
  }
  notify(what);
}

function change(to) {
  if (to === 'live') opened ||= now();
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
