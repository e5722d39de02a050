import { h } from './dom.js';
import { get } from './api.js';
import { follow } from './live.js';
import { count, moment } from './format.js';
import { badge, empty, field, link, options, pager, region, table } from './parts.js';

const FILTERS = ['task_id', 'source', 'destination', 'state', 'since', 'until'];

// events lists events, newest first, by what the address selects. The newest page follows what arrives.
export function events(main, { parameters, signal }) {
  const selected = Object.fromEntries(FILTERS.filter((name) => parameters[name]).map((name) => [name, parameters[name]]));
  const filtered = Object.keys(selected).length > 0;
  const list = region(signal, async () => {
    const page = await get('events', { ...selected, cursor: parameters.cursor }, signal);
    return [page.events.length ? rows(page.events) : none(filtered, page.next), pager('events', selected, parameters.cursor, page.next)];
  });
  main.append(h('h1', null, 'Events'), form(selected, signal), list.element);
  list.refresh();
  if (!parameters.cursor) follow(list.refresh, signal);
}

function form(selected, signal) {
  const source = h('select', { name: 'source' }, options('All', [], selected.source));
  const destination = h('select', { name: 'destination' }, options('All', [], selected.destination));
  get('status', {}, signal).then((status) => {
    const names = [...new Set(status.destinations.map((d) => d.name))].sort();
    source.replaceChildren(...options('All', status.sources.map((one) => [one.name, one.name]), selected.source));
    destination.replaceChildren(...options('All', names.map((name) => [name, name]), selected.destination));
  }, () => {}); // the list shows what is wrong
  const state = h('select', { name: 'state' },
    options('All', [['pending', 'Waiting'], ['delivered', 'Delivered'], ['dead', 'Dead letter']], selected.state));
  const time = (name) => h('input', { type: 'datetime-local', name, value: local(selected[name]) });
  const apply = (submit) => {
    submit.preventDefault();
    const chosen = Object.fromEntries(new FormData(element));
    for (const name of ['since', 'until']) if (chosen[name]) chosen[name] = new Date(chosen[name]).toISOString();
    chosen.task_id = chosen.task_id.trim();
    location.hash = link('events', chosen);
  };
  const element = h('form', { class: 'filters', role: 'search', onsubmit: apply, onchange: (change) => change.target.matches('select') && apply(change) },
    field('Task id', h('input', { type: 'search', name: 'task_id', value: selected.task_id ?? '', placeholder: 'The whole id', autocomplete: 'off', spellcheck: 'false', 'aria-keyshortcuts': '/' })),
    field('Source', source), field('Destination', destination), field('State', state),
    field('Received from', time('since')), field('Received until', time('until')),
    h('div', { class: 'buttons' }, h('button', { class: 'primary' }, 'Search'), Object.keys(selected).length > 0 && h('a', { class: 'button', href: '#/events' }, 'Clear')));
  return element;
}

// local writes a time of the API as the control for it has it, in the reader's time zone.
function local(text) {
  const at = new Date(text ?? '');
  if (Number.isNaN(at.getTime())) return '';
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

function rows(list) {
  return table('Events, newest first', [
    ['Received', (e) => moment(e.received_at)],
    ['Task', (e) => h('a', { class: 'id', href: link(`events/${encodeURIComponent(e.id)}`), data: { key: e.id } }, e.task_id || e.id)],
    ['Source', (e) => e.source],
    ['Stage', (e) => [e.stage, e.code && e.code !== '200' ? ` ${e.code}` : ''].join('') || '–'],
    ['State', (e) => [badge(e.state), notes(e)]],
    ['Deliveries', (e) => (e.deliveries.length ? h('span', { class: 'badges' }, e.deliveries.map((d) => badge(d.state, d.destination))) : 'none')],
  ], list, (e) => e.id);
}

function notes(e) {
  const all = [];
  if (e.duplicates) all.push(`${count(e.duplicates)}× repeated`);
  if (e.conflicts) all.push(`${count(e.conflicts)}× with other content`);
  if (e.origin !== 'callback') all.push(e.origin);
  return all.length ? h('small', null, ' ', all.join(', ')) : null;
}

function none(filtered, next) {
  if (next) return empty('Nothing on this page', 'A filter that has no index looks at a part of the events at a time. Go on to the next page.');
  if (filtered) return empty('No event matches', 'A task id is compared as a whole. Events are kept for the configured retention after their last delivery.');
  return empty('No event yet', 'As soon as a provider calls back, the event is here, without a reload. To see one now, run ', h('code', null, 'caddy relay send <source>'), '.');
}
