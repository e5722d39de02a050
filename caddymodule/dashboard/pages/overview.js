import { h, swap } from './dom.js';
import { get } from './api.js';
import { WINDOW, connection, follow, listen, observed, series, total } from './live.js';
import { bytes, count, counted, plural, span } from './format.js';
import { chart } from './chart.js';
import { badge, empty, link, region, table } from './parts.js';

// overview shows how the gateway is: what needs somebody, figures, charts, and each destination.
export function overview(main, { signal }) {
  const tiles = h('div');
  const accepted = chart('Callbacks accepted, by the second', ['Accepted'], ['--accent'], signal);
  const attempts = chart('Attempts, by the second', ['Delivered', 'Failed'], ['--good', '--bad'], signal);
  let status;

  const figures = () => {
    if (!status) return;
    const seconds = observed();
    const window = seconds >= WINDOW ? `in the last ${WINDOW / 60} minutes` : seconds < 60 ? 'since this page was opened' : `since this page was opened, ${span(seconds)} ago`;
    const recent = (n) => (connection() === 'live' ? count(n) : '–');
    const sum = (...names) => status.destinations.reduce((all, d) => names.reduce((n, name) => n + d.counts[name], all), 0);
    const dead = sum('dead');
    const waiting = sum('pending', 'in_flight', 'held', 'paused', 'orphaned') + (status.spool?.events ?? 0);
    const oldest = Math.max(status.spool?.oldest_seconds ?? 0, ...status.destinations.map((d) => d.oldest_pending_seconds));
    const failed = total('retrying', 'dead');
    const stored = (n) => counted(status, n);
    swap(tiles, h('dl', { class: 'tiles' },
      tile('Accepted', recent(total('accepted')), connection() === 'live' ? window : 'needs the live stream', '#/events'),
      tile('Delivered', recent(total('delivered')), `${stored(sum('delivered'))} in the store`, '#/events?state=delivered'),
      tile('Failing', recent(failed), status.store.unread ? 'dead letters unknown' : plural(dead, 'dead letter'), '#/dead-letters', failed ? 'bad' : ''),
      tile('Waiting', stored(waiting), status.store.unread ? 'unknown until the store is open' : waiting ? parts(status) : 'nothing waits', '#/events?state=pending'),
      tile('Oldest waiting', waiting ? span(oldest) : '–', 'since it was accepted', '#/destinations', oldest > 3600 ? 'bad' : '')));
  };
  const list = region(signal, async () => {
    status = await get('status', {}, signal);
    figures();
    return [attention(status), perDestination(status), about(status)];
  });

  main.append(h('h1', null, 'Overview'), tiles, h('div', { class: 'charts' }, accepted.element, attempts.element), list.element);
  list.refresh();
  follow(list.refresh, signal);
  const tick = () => {
    const [seconds, taken, delivered, failed] = series();
    accepted.set([seconds, taken]);
    attempts.set([seconds, delivered, failed]);
    figures();
  };
  tick();
  listen(({ kind }) => kind === connection() && tick(), signal);
  const ticking = setInterval(() => document.hidden || tick(), 1000);
  signal.addEventListener('abort', () => clearInterval(ticking));
}

function tile(label, value, note, href, kind = '') {
  return h('div', { class: `tile ${kind}` }, h('dt', null, h('a', { href, data: { key: label } }, label)), h('dd', { class: 'value' }, value), h('dd', { class: 'note' }, note));
}

function parts(status) {
  const sum = (name) => status.destinations.reduce((n, d) => n + d.counts[name], 0);
  return ['in_flight', 'held', 'paused', 'orphaned'].filter((name) => sum(name))
    .map((name) => `${count(sum(name))} ${name.replace('_', ' ')}`).concat(status.spool?.events ? [`${count(status.spool.events)} spooled`] : [])
    .join(', ') || 'for their next attempt';
}

// attention lists what an operator may have to do something about.
function attention(status) {
  const items = [];
  const add = (bad, ...text) => items.push(h('li', { class: bad ? 'bad' : '' }, text));
  if (!status.store.up) add(true, status.store.unread ? 'The store is not open yet, so no count is known: ' : 'The store is not available: ', status.store.error, '.');
  if (status.spool && !status.spool.up) add(true, 'The spool is not available: ', status.spool.error, '.');
  if (status.spool?.events) add(true, `${plural(status.spool.events, 'callback')} in the spool, the oldest for ${span(status.spool.oldest_seconds)}: the store does not take them.`);
  if (status.spool?.stuck) add(true, `${plural(status.spool.stuck, 'callback')} set aside in the spool, since the store refuses them.`);
  if (status.drift) add(true, 'Gateways that share the store are configured differently.');
  for (const d of status.destinations) {
    const name = h('a', { href: link('destinations', { source: d.source }) }, `${d.source} / ${d.name}`);
    if (d.breaker.state === 'open') add(true, name, ` does not answer: ${plural(d.breaker.failures, 'failure')} in a row, ${plural(d.counts.held, 'delivery', 'deliveries')} held until it does.`);
    if (d.state === 'orphaned') add(true, name, ` is in no configuration any more; ${plural(d.counts.orphaned, 'delivery', 'deliveries')} cannot go anywhere.`);
    if (d.paused) add(false, name, ` is paused; ${plural(d.counts.paused, 'delivery', 'deliveries')} wait.`);
    if (d.counts.dead) add(true, h('a', { href: link('dead-letters', { source: d.source, destination: d.name }) }, plural(d.counts.dead, 'dead letter')), ` of ${d.source} / ${d.name}.`);
  }
  for (const { name, tasks } of status.sources) {
    if (tasks?.overdue) add(true, h('a', { href: link('tasks', { source: name, state: 'overdue' }) }, plural(tasks.overdue, 'overdue task')), ` of ${name}: no callback has come in time.`);
  }
  for (const source of status.sources.filter((one) => one.open)) add(false, `Anyone can call the source ${source.name}: it has neither allow nor verify.`);
  return items.length ? h('section', { class: 'attention' }, h('h2', null, 'Needs attention'), h('ul', null, items)) : null;
}

function perDestination(status) {
  if (!status.destinations.length) {
    return empty('No destination yet', 'A source and its destinations are defined by the directive ', h('code', null, 'relay'), ' in the Caddyfile.');
  }
  const n = (name) => (d) => counted(status, d.counts[name]);
  return h('section', null, h('h2', null, 'Destinations'), table('Destinations', [
    ['Destination', (d) => h('a', { href: link('events', { source: d.source, destination: d.name }), data: { key: `${d.source}/${d.name}` } }, d.source, ' / ', h('b', null, d.name))],
    ['State', (d) => badge(d.state)],
    ['Delivered', n('delivered'), 'number'],
    ['In flight', n('in_flight'), 'number'],
    ['Waiting', (d) => counted(status, d.counts.pending + d.counts.held + d.counts.paused + d.counts.orphaned), 'number'],
    ['Dead', n('dead'), 'number'],
    ['Oldest waiting', (d) => (d.oldest_pending_seconds ? span(d.oldest_pending_seconds) : '–'), 'number'],
  ], status.destinations, (d) => `${d.source}/${d.name}`));
}

function about(status) {
  const { store, nodes } = status;
  return h('p', { class: 'about' }, `Store: ${store.driver}${store.location ? ` at ${store.location}` : ''}`,
    store.free_bytes > 0 ? `, ${bytes(store.free_bytes)} free` : '', `. ${plural(nodes.length, 'gateway')}: ${nodes.map((node) => node.name).join(', ')}.`,
    ' Charts and recent figures are those of the gateway that serves this page.');
}
