import { h } from './dom.js';
import { get, segment } from './api.js';
import { follow } from './live.js';
import { count, moment, plural } from './format.js';
import { badge, empty, field, link, options, pager, region, table } from './parts.js';

const STATES = [['expected', 'Expected'], ['overdue', 'Overdue'], ['recovered', 'Recovered'], ['given_up', 'Given up'], ['called_back', 'Called back']];

// A poll that finds nothing is no event, and so nothing that the stream would tell.
const LOOK_EVERY = 10000;

// tasks lists the tasks whose callback is or was expected, newest first, by what the address selects.
export function tasks(main, { parameters, signal }) {
  const { source = '', state = '', cursor = '' } = parameters;
  const sources = h('select', { name: 'source' }, options('All', [], source));
  const states = h('select', { name: 'state' }, options('All', STATES, state));
  const apply = (change) => {
    change.preventDefault();
    location.hash = link('tasks', { source: sources.value, state: states.value });
  };
  const list = region(signal, async () => {
    const page = await get('tasks', { source, state, cursor }, signal);
    return [
      page.tasks.length ? rows(page.tasks) : none(source || state, page.next),
      pager('tasks', { source, state }, cursor, page.next),
    ];
  });
  get('status', {}, signal).then((status) => {
    sources.replaceChildren(...options('All', status.sources.map((one) => [one.name, one.name]), source));
  }, () => {}); // the list shows what is wrong
  main.append(h('h1', null, 'Tasks'),
    h('form', { class: 'filters', onchange: apply, onsubmit: apply }, field('Source', sources), field('State', states)), list.element);
  list.refresh();
  if (!cursor) keepCurrent(list.refresh, signal);
}

// task shows one task; its name is its source and its id.
export function task(main, { name, signal }) {
  const [source, ...rest] = name.split('/');
  const id = rest.join('/');
  const page = region(signal, async () => {
    const { tasks: [found] } = await get('tasks', { source, task_id: id }, signal);
    return found ? view(found) : empty('Nothing is known of this task', 'It was never expected, or it ended longer ago than tasks are kept.');
  });
  main.append(h('p', { class: 'crumb' }, h('a', { href: '#/tasks' }, 'Tasks')), h('h1', { class: 'id' }, id), page.element);
  page.refresh();
  keepCurrent(page.refresh, signal);
}

function keepCurrent(refresh, signal) {
  follow(refresh, signal);
  const timer = setInterval(refresh, LOOK_EVERY);
  signal.addEventListener('abort', () => clearInterval(timer));
}

const address = (t) => link(`tasks/${segment(t.source)}/${segment(t.task_id)}`);
const eventLink = (id) => h('a', { class: 'id', href: link(`events/${segment(id)}`), data: { key: id } }, id);

function rows(list) {
  return table('Tasks, newest first', [
    ['Expected', (t) => moment(t.expected_at)],
    ['Task', (t) => h('a', { class: 'id', href: address(t), data: { key: key(t) } }, t.task_id)],
    ['Source', (t) => t.source],
    ['State', (t) => badge(t.state)],
    ['Polls', (t) => count(t.polls), 'number'],
    ['Next poll', (t) => (t.next_poll_at ? moment(t.next_poll_at) : '–')],
    ['Event or reason', (t) => (t.event_id ? eventLink(t.event_id) : t.reason || '–')],
  ], list, key);
}

const key = (t) => `${t.source}/${t.task_id}`;

function none(filtered, next) {
  if (next) return empty('Nothing on this page', 'A state is looked for in a part of the tasks at a time. Go on to the next page.');
  if (filtered) return empty('No task matches', 'Tasks are kept for the configured retention after their end.');
  return empty('No task is expected', 'A task that is submitted through ', h('code', null, 'relay_submit'), ' is here, or one that ', h('code', null, 'caddy relay expect'), ' has named.');
}

function view(t) {
  const facts = [['Source', t.source], ['Submitted to', t.api || '–'], ['Polls', count(t.polls)], ['Event', t.event_id ? eventLink(t.event_id) : '–']];
  return [
    h('div', { class: 'bar' }, badge(t.state), h('a', { class: 'button', href: link('events', { source: t.source, task_id: t.task_id }), data: { key: 'events' } }, 'Its events')),
    h('dl', { class: 'facts' }, facts.map(([term, value]) => h('div', null, h('dt', null, term), h('dd', null, value)))),
    h('section', null, h('h2', null, 'What has happened'), life(t)),
  ];
}

// life lists what has happened to a task, from its registration to its end.
export function life(t) {
  const steps = [[t.expected_at, 'its callback is expected', true]];
  if (t.polls) steps.push([t.last_poll_at, `${plural(t.polls, 'poll')} of its details, the last one${t.reason ? `: ${t.reason}` : ''}`, t.state !== 'given_up']);
  if (t.next_poll_at && t.state === 'overdue') steps.push([t.next_poll_at, 'the next poll', true]);
  const ends = {
    recovered: 'recovered: the details had its result', called_back: 'called back', given_up: `given up: ${t.reason}`,
  };
  if (t.ended_at) steps.push([t.ended_at, ends[t.state], t.state !== 'given_up']);
  return h('ol', { class: 'attempts' }, steps.map(([at, what, good]) => h('li', { class: good ? 'good' : 'bad' }, h('b', null, what), h('small', null, moment(at, true)))));
}

// origin shows on the page of an event what is known of its task; nothing where that was never expected.
export function origin(t) {
  return t && h('section', null, h('h2', null, 'Task'), life(t), h('p', null, h('a', { href: address(t), data: { key: 'task' } }, 'Show the task')));
}
