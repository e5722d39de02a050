import { h } from './dom.js';
import { get, post, segment } from './api.js';
import { follow } from './live.js';
import { bytes, count, moment, plural, spelled, took } from './format.js';
import { action, ask, badge, field, headers, notice, region } from './parts.js';
import { due, timeline } from './timeline.js';
import { bodies } from './body.js';
import { origin } from './tasks.js';

// event shows one event: what came, and what became of it at each destination.
export function event(main, { name, signal }) {
  const page = region(signal, async () => {
    const e = await get(`events/${segment(name)}`, {}, signal);
    const { tasks: [task] } = await get('tasks', { source: e.source, task_id: e.task_id }, signal);
    return view(e, task, page.refresh);
  });
  main.append(h('p', { class: 'crumb' }, h('a', { href: '#/events' }, 'Events')), h('h1', { class: 'id' }, name), page.element);
  page.refresh();
  follow(page.refresh, signal, (what) => !what.id || what.id === name);
}

function view(e, task, refresh) {
  const facts = [
    ['Task', h('a', { class: 'id', href: `#/events?task_id=${segment(e.task_id)}` }, e.task_id)],
    ['Source', e.source],
    ['Stage', e.stage || '–'],
    ['Code', e.code || '–'],
    ['Received', moment(e.received_at, true)],
    ['Origin', e.origin],
    ['Repeated', e.duplicates ? `${count(e.duplicates)}×` : 'never'],
    ['With other content', e.conflicts ? `${count(e.conflicts)}×` : 'never'],
  ];
  return [
    h('div', { class: 'bar' }, badge(e.state), e.deliveries.length > 0 && action('Replay…', () => replay(e, refresh), { data: { key: 'replay' } }),
      h('a', { class: 'button', href: `api/events/${segment(e.id)}`, data: { key: 'json' } }, 'As JSON'),
      h('a', { class: 'button', href: `api/events/${segment(e.id)}/body`, download: true, data: { key: 'download' } }, 'Download the body')),
    h('dl', { class: 'facts' }, facts.map(([term, value]) => h('div', null, h('dt', null, term), h('dd', null, value)))),
    h('section', null, h('h2', null, 'Deliveries'), e.deliveries.length
      ? [timeline(e, Math.max(300, document.getElementById('main').clientWidth - 72)), e.deliveries.map(delivery)]
      : h('p', null, 'None. No destination wanted this event, since none of their conditions (', h('code', null, 'when'), ') held for it, or what was given up has been discarded.')),
    origin(task),
    h('section', null, h('h2', null, e.variants.length ? 'Payload and variants' : 'Payload'), e.variants.length
      ? h('p', { class: 'note' }, 'Callbacks of the same dedupe key that said something else. Lines that the first one does not have are marked. A replay can send a variant.') : null, bodies(e)),
    h('section', null, h('h2', null, 'Files'), e.files.length ? h('ul', { class: 'files' }, e.files.map(file)) : h('p', null, 'The callback names none.')),
    h('section', null, h('h2', null, 'Headers'), h('details', { data: { key: 'headers' } }, h('summary', null, `${plural(Object.keys(e.headers).length, 'header')}, without those that carry secrets`), headers(e.headers))),
    h('p', { class: 'note' }, 'Dedupe key ', h('code', { class: 'id' }, e.key)),
  ];
}

// file links to a file of the callback only where that is a web address: a payload can name anything. One without a copy in
// the archive is its address alone.
function file(f) {
  const address = f.url ?? f;
  const web = URL.canParse(address) && ['https:', 'http:'].includes(new URL(address).protocol);
  return h('li', null, web ? h('a', { href: address, target: '_blank', rel: 'noopener noreferrer' }, address) : address,
    f.object ? h('small', null, h('br'), `archived as ${f.object} · ${bytes(f.size)} · SHA-256 `, h('code', { class: 'id' }, f.sha256)) : null);
}

function delivery(d) {
  const about = [];
  if (d.replay) about.push(`replay ${d.replay}`);
  if (d.variant) about.push(`with the body of variant ${d.variant}`);
  if (due(d)) about.push(h('span', null, 'next attempt at ', moment(d.next_attempt_at)));
  if (d.dead_at) about.push(h('span', null, 'given up at ', moment(d.dead_at)));
  if (d.reason) about.push(spelled(d.reason));
  if (d.state === 'held') about.push('the destination does not answer, and is probed');
  if (d.state === 'paused') about.push('the destination is paused');
  if (d.state === 'orphaned') about.push('the destination is in no configuration any more');
  return h('article', { class: 'delivery' },
    h('h3', null, d.destination, ' ', badge(d.state), h('small', null, about.map((one) => [' · ', one]))),
    d.attempts?.length ? h('ol', { class: 'attempts' }, d.attempts.map((a, i) => attempt(d, a, i))) : h('p', { class: 'note' }, 'Not tried yet.'));
}

function attempt(d, a, i) {
  const good = a.status >= 200 && a.status < 300;
  const text = [
    a.status || !a.error ? h('b', null, a.status || 'no answer') : null, ' ', a.error ? h('span', { class: 'error' }, a.error) : null,
    h('small', null, moment(a.at, true), took(a, ' · ')),
  ];
  return h('li', { class: good ? 'good' : 'bad' }, a.response
    ? h('details', { data: { key: `${d.destination}/${i}` } }, h('summary', null, text), h('pre', { tabindex: 0, 'aria-label': 'Response' }, a.response))
    : h('div', null, text));
}

function replay(e, refresh) {
  const boxes = e.deliveries.map((d) => h('input', { type: 'checkbox', value: d.destination, checked: ['delivered', 'dead'].includes(d.state), disabled: !['delivered', 'dead'].includes(d.state) }));
  const body = h('select', null, h('option', { value: '0' }, 'The first body'), e.variants.map((v) => h('option', { value: String(v.n) }, `Variant ${v.n}`)));
  ask({
    title: 'Replay this event?',
    body: [
      h('p', null, 'The destinations get it again, with the same webhook-id and a fresh budget of retries. Only what is settled (delivered, or a dead letter) can be replayed.'),
      h('fieldset', null, h('legend', null, 'To'), e.deliveries.map((d, i) => h('label', { class: 'choice' }, boxes[i], ' ', d.destination, ' ', badge(d.state)))),
      e.variants.length ? field('Send', body) : null,
    ],
    confirm: 'Replay',
    run: async () => {
      const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
      if (!chosen.length) throw new Error('Choose at least one destination.');
      const answer = await post(`events/${segment(e.id)}/replay`, { destinations: chosen, variant: Number(body.value) });
      notice(`${plural(answer.replayed, 'delivery', 'deliveries')} replayed${answer.skipped ? `, ${count(answer.skipped)} skipped, since they were not settled` : ''}.`);
      await refresh();
    },
  });
}
