import { h } from './dom.js';
import { clock, get, post, segment } from './api.js';
import { follow } from './live.js';
import { count, moment, plural, spelled } from './format.js';
import { action, ask, empty, field, link, notice, options, pager, region, table } from './parts.js';

// deadLetters lists the deliveries that were given up, by what the address selects, and redrives or discards them.
export function deadLetters(main, { parameters, signal }) {
  const { source = '', destination = '', cursor = '' } = parameters;
  let status;
  const sources = h('select', { name: 'source' }, options('All', [], source));
  const names = h('select', { name: 'destination' }, options('All', [], destination));
  const apply = (change) => {
    change.preventDefault();
    location.hash = link('dead-letters', { source: sources.value, destination: names.value });
  };
  const list = region(signal, async () => {
    const [page, now] = await Promise.all([get('dead-letters', { source, destination, cursor }, signal), get('status', {}, signal)]);
    if (!status) {
      const all = (name) => [...new Set(now.destinations.map((d) => d[name]))].sort().map((one) => [one, one]);
      sources.replaceChildren(...options('All', all('source'), source));
      names.replaceChildren(...options('All', all('name'), destination));
    }
    status = now;
    const total = selectedDead(now, source, destination);
    if (!page.dead_letters.length && !page.next && !cursor) {
      return empty('No dead letter', source || destination ? 'None of what is selected was given up.' : 'Every delivery was made, or is still being tried. One that is given up stays here until it is redriven or discarded.');
    }
    // The end of the selection comes before its count: what is given up while somebody reads the question was not asked about.
    const counted = (question) => async () => {
      const until = await clock();
      const total = selectedDead(await get('status'), source, destination);
      if (!signal.aborted) question(total, { ...(source && { source }), ...(destination && { destination }), until }, words(source, destination), list.refresh);
    };
    return [
      h('div', { class: 'bar' }, h('p', { class: 'grow' }, h('b', null, plural(total, 'dead letter')), ` ${words(source, destination)}`),
        action('Redrive all…', counted(redrive), { class: 'primary', data: { key: 'redrive' } }),
        action('Discard all…', counted(discard), { class: 'danger', data: { key: 'discard' } })),
      page.dead_letters.length ? rows(page.dead_letters, list.refresh)
        : empty('Nothing on this page', 'What was here has been redriven or discarded, or only a part of the dead letters was looked at. Go on with another page.'),
      pager('dead-letters', { source, destination }, cursor, page.next),
    ];
  });
  main.append(h('h1', null, 'Dead letters'),
    h('form', { class: 'filters', onchange: apply, onsubmit: apply }, field('Source', sources), field('Destination', names)), list.element);
  list.refresh();
  if (!cursor) follow(list.refresh, signal);
}

const words = (source, destination) => (!source && !destination ? 'of all destinations' : `of ${source || 'every source'} / ${destination || 'every destination'}`);

function selectedDead(status, source, destination) {
  return status.destinations.filter((d) => (!source || d.source === source) && (!destination || d.name === destination))
    .reduce((n, d) => n + d.counts.dead, 0);
}

function rows(letters, refresh) {
  return table('Dead letters, newest event first', [
    ['Given up', (l) => moment(l.dead_at)],
    ['Task', (l) => h('a', { class: 'id', href: link(`events/${segment(l.event_id)}`), data: { key: key(l) } }, l.task_id || l.event_id)],
    ['Destination', (l) => [l.source, ' / ', h('b', null, l.destination)]],
    ['Attempts', (l) => count(l.attempts), 'number'],
    ['Why', (l) => h('span', { class: 'error' }, [l.last_status || '', spelled(l.last_error)].filter(Boolean).join(' · ') || 'unknown')],
    ['', (l) => action('Redrive', async () => {
      const path = `events/${segment(l.event_id)}`;
      const { deliveries } = await get(path);
      const delivery = deliveries.find((d) => d.destination === l.destination);
      const answer = delivery?.state === 'dead' && await post(`${path}/replay`, { destinations: [l.destination], variant: delivery.variant });
      notice(answer?.replayed ? `Redriven to ${l.destination}.` : delivery ? 'Somebody else has redriven it already.' : 'Somebody else has discarded or reassigned it.');
      await refresh();
    }, { 'aria-label': `Redrive ${l.task_id} to ${l.destination}`, data: { key: `redrive ${key(l)}` } }), 'act'],
  ], letters, key);
}

const key = (letter) => `${letter.event_id}/${letter.destination}`;

const LATER = 'Those that are given up from now on, or were within the last second, are not among them.';

function redrive(total, selection, which, refresh) {
  const rate = h('input', { type: 'text', inputmode: 'numeric', placeholder: 'no limit', size: 8 });
  ask({
    title: `Redrive ${plural(total, 'dead letter')} ${which}?`,
    body: [
      h('p', null, 'Each is tried again with a fresh budget of retries. ', LATER),
      field('At most, a second', rate),
    ],
    confirm: `Redrive ${count(total)}`,
    run: async () => {
      const limit = rate.value.trim();
      const answer = await post('dead-letters/redrive', { ...selection, ...(limit && { rate: /^\d+(\.\d+)?$/.test(limit) ? Number(limit) : limit }) });
      notice(`${plural(answer.redriven, 'dead letter')} redriven.`);
      await refresh();
    },
  });
}

function discard(total, selection, which, refresh) {
  ask({
    title: `Discard ${plural(total, 'dead letter')} ${which}?`,
    body: h('p', null, 'They are not delivered any more, and this cannot be undone. Their events stay visible until their retention ends. ', LATER),
    confirm: `Discard ${count(total)}`,
    danger: true,
    run: async () => {
      const answer = await post('dead-letters/discard', selection);
      notice(`${plural(answer.discarded, 'dead letter')} discarded.`);
      await refresh();
    },
  });
}
