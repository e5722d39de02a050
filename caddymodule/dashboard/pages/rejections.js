import { h } from './dom.js';
import { get, post, segment } from './api.js';
import { follow } from './live.js';
import { bytes, moment } from './format.js';
import { action, ask, empty, field, headers, link, notice, options, pager, region } from './parts.js';
import { body } from './body.js';

// rejections lists the callbacks that were refused lately, and takes one in after all.
export function rejections(main, { parameters, signal }) {
  const { source = '', cursor = '' } = parameters;
  const sources = h('select', { name: 'source' }, options('All', [], source));
  get('status', {}, signal).then((status) => sources.replaceChildren(...options('All', status.sources.map((one) => [one.name, one.name]), source)), () => {});
  const list = region(signal, async () => {
    const { rejections: all, next } = await get('rejections', { source, cursor }, signal);
    if (!all.length && !cursor) return empty('No rejected callback', 'What a source refuses (a stranger’s address, a wrong signature, an unreadable body) is kept in this gateway’s memory for a look.');
    return [all.length ? all.map((r) => rejection(r, list.refresh)) : empty('Nothing on this page', 'What was here has given way to newer rejections.'), pager('rejections', { source }, cursor, next)];
  });
  const apply = (change) => {
    change.preventDefault();
    location.hash = link('rejections', { source: sources.value });
  };
  main.append(h('h1', null, 'Rejections'), h('form', { class: 'filters', onchange: apply, onsubmit: apply }, field('Source', sources)), list.element);
  list.refresh();
  if (!cursor) follow(list.refresh, signal);
}

function rejection(r, refresh) {
  const connection = r.remote.replace(/:\d+$/, '').replace(/^\[|\]$/g, ''); // without its port
  const from = r.client && r.client !== connection ? `${r.client}, through ${connection}` : connection;
  return h('article', { class: 'card rejection', data: { row: r.id } },
    h('div', { class: 'bar' }, h('p', { class: 'grow' }, h('b', null, r.source), ' ', h('span', { class: 'badge dead' }, h('b', null, r.result), ` ${r.status}`), ' ', moment(r.at)),
      r.accepted && h('a', { class: 'button', href: link(`events/${segment(r.accepted)}`), data: { key: `event ${r.id}` } }, 'Show the event'),
      r.can_accept && action('Accept…', () => accept(r, refresh), { 'aria-label': `Accept the callback of ${r.task_id || r.remote}`, data: { key: `accept ${r.id}` } })),
    h('p', { class: 'error' }, sentence(r.message)),
    h('p', { class: 'note' }, `From ${from}`, r.bytes ? ` · ${bytes(r.bytes)}` : null, r.task_id ? [' · task ', h('span', { class: 'id' }, r.task_id)] : null),
    h('details', { data: { key: `details ${r.id}` } }, h('summary', null, r.payload === undefined ? 'Headers' : 'Body and headers'),
      r.payload === undefined ? null : body('Body', r.payload, null, r.id), headers(r.headers ?? {})));
}

function accept(r, refresh) {
  ask({
    title: 'Accept this callback after all?',
    body: h('p', null, `It was refused: ${sentence(r.message)} If you know that ${r.source} sent it, it becomes an event and is delivered, as if it had passed.`),
    confirm: 'Accept',
    run: async () => {
      const answer = await post(`rejections/${segment(r.id)}/accept`);
      notice(['Taken in: ', answer.result, '. ', h('a', { href: link(`events/${segment(answer.event_id)}`) }, 'Show the event')]);
      await refresh();
    },
  });
}

// sentence ends a reason with a full stop, unless it has one.
const sentence = (text) => (/[.!?]$/.test(text) ? text : `${text}.`);
