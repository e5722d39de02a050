import { h } from './dom.js';
import { get, post, segment } from './api.js';
import { follow } from './live.js';
import { count, counted, moment, plural, span } from './format.js';
import { action, badge, empty, link, notice, region } from './parts.js';

// destinations shows each destination, and pauses and resumes it.
export function destinations(main, { parameters, signal }) {
  const list = region(signal, async () => {
    const status = await get('status', {}, signal);
    const sources = [...new Set([...status.sources.map((one) => one.name), ...status.destinations.map((d) => d.source)])]
      .filter((name) => !parameters.source || name === parameters.source).sort();
    if (!sources.length) return empty('No destination', 'A source and its destinations are defined by the directive ', h('code', null, 'relay'), ' in the Caddyfile.');
    const { store } = status;
    return [store.up || store.unread ? null : h('p', { class: 'stale', role: 'alert' }, `Not up to date. The store is not available: ${store.error}.`), parameters.source ? h('p', null, h('a', { href: '#/destinations' }, 'All sources')) : null, sources.map((name) => {
      const open = status.sources.find((one) => one.name === name)?.open;
      return h('section', null, h('h2', null, name, ' ', open && h('span', { class: 'badge', title: 'Neither allow nor verify keeps anyone from calling.' }, 'open to anyone')),
        h('div', { class: 'cards' }, status.destinations.filter((d) => d.source === name).map((d) => card(d, status, list.refresh))));
    })];
  });
  main.append(h('h1', null, 'Destinations'), list.element);
  list.refresh();
  follow(list.refresh, signal);
}

function card(d, status, refresh) {
  const own = { source: d.source, destination: d.name };
  const path = `destinations/${segment(d.source)}/${segment(d.name)}/`;
  const change = (what, done) => async () => {
    await post(path + what);
    notice(done);
    await refresh();
  };
  const counts = [
    ['Delivered', d.counts.delivered], ['In flight', d.counts.in_flight], ['Waiting', d.counts.pending],
    ['Held', d.counts.held], ['Paused', d.counts.paused], ['Orphaned', d.counts.orphaned], ['Dead', d.counts.dead],
  ].filter(([name, n]) => n || ['Delivered', 'In flight', 'Waiting', 'Dead'].includes(name));
  return h('article', { class: 'card', data: { row: `${d.source}/${d.name}` } },
    h('div', { class: 'bar' }, h('h3', { class: 'grow' }, d.name), badge(d.state)),
    h('dl', { class: 'counts' }, counts.map(([name, n]) => h('div', null, h('dt', null, name), h('dd', null, counted(status, n))))),
    about(d),
    h('div', { class: 'buttons' },
      d.state === 'orphaned' ? null : d.paused
        ? action('Resume', change('resume', `${d.name} is resumed.`), { class: 'primary', 'aria-label': `Resume ${d.name}`, data: { key: `pause ${d.source}/${d.name}` } })
        : action('Pause', change('pause', `${d.name} is paused. What it should get waits.`), { 'aria-label': `Pause ${d.name}`, data: { key: `pause ${d.source}/${d.name}` } }),
      h('a', { class: 'button', href: link('events', own), data: { key: `events ${d.source}/${d.name}` } }, 'Events'),
      d.counts.dead > 0 && h('a', { class: 'button', href: link('dead-letters', own), data: { key: `dead ${d.source}/${d.name}` } }, 'Dead letters')));
}

function about(d) {
  const all = [];
  if (d.oldest_pending_seconds) all.push(`The oldest has waited for ${span(d.oldest_pending_seconds)}. `);
  if (d.breaker.state === 'open') all.push(`It has failed ${count(d.breaker.failures)} times in a row and is held`, d.breaker.next_probe ? [', next probe at ', moment(d.breaker.next_probe)] : '', '. ');
  else if (d.breaker.failures) all.push(`${plural(d.breaker.failures, 'failure')} in a row. `);
  if (d.state === 'orphaned') all.push('No configuration has it any more: hand its deliveries to another name with caddy relay reassign, or discard them.');
  return all.length ? h('p', { class: 'note' }, all) : null;
}
