// What several pages are made of.
import { h, swap, withKey } from './dom.js';
import { mayWrite } from './api.js';

const WORDS = {
  in_flight: 'in flight', pending: 'waiting', dead: 'dead letter', held: 'held', paused: 'paused', orphaned: 'orphaned',
  delivered: 'delivered', active: 'active', given_up: 'given up', called_back: 'called back',
};

// badge shows a state, by its word and not only by its colour.
export function badge(state, before) {
  return h('span', { class: `badge ${state}` }, before ? `${before} ` : null, h('b', null, WORDS[state] ?? state));
}

// table shows rows; columns are [heading, cell(row), class]. On a phone each row becomes a card with its headings inside.
export function table(caption, columns, rows, key) {
  return h('table', { class: 'list' },
    h('caption', { class: 'hidden' }, caption),
    h('thead', null, h('tr', null, columns.map(([heading, , kind]) => h('th', { scope: 'col', class: kind }, heading)))),
    h('tbody', null, rows.map((row) => h('tr', { data: { row: key(row) } },
      columns.map(([heading, cell, kind]) => h('td', { class: kind, data: { label: heading } }, h('div', null, cell(row))))))));
}

// empty explains why there is nothing to see, and what would change that.
export function empty(title, ...explanation) {
  return h('div', { class: 'empty' }, h('p', { class: 'title' }, title), h('p', null, ...explanation));
}

// failure shows an error in the place of what could not be shown.
export function failure(error, again) {
  return h('div', { class: 'failure', role: 'alert' },
    h('p', { class: 'title' }, error.status === 404 ? 'Not found' : 'This cannot be shown'),
    h('p', null, error.message || String(error)),
    again && h('button', { type: 'button', onclick: again, data: { key: 'again' } }, 'Try again'));
}

// region is a part of a page that load fills, and fills again when it is refreshed. A failed refresh keeps what is shown,
// and says that it is old.
export function region(signal, load) {
  const note = h('div');
  const content = h('div', { class: 'region' }, h('p', { class: 'loading' }, 'Loading…'));
  let shown = false;
  const refresh = async () => {
    try {
      readOnly = !await mayWrite();
      const children = await load();
      if (signal.aborted) return;
      swap(content, children);
      note.replaceChildren();
      shown = true;
    } catch (error) {
      if (signal.aborted || error.name === 'AbortError') return;
      if (shown && error.status !== 404) swap(note, h('p', { class: 'stale', role: 'alert' }, 'Not up to date. ', error.message));
      else swap(content, failure(error, refresh));
    }
  };
  return { element: h('div', null, note, content), refresh };
}

// notice shows for a while what an action came to.
export function notice(text, kind = 'good') {
  const element = h('p', { class: `notice ${kind}` }, text,
    h('button', { type: 'button', class: 'plain', 'aria-label': 'Dismiss', onclick: () => element.remove() }, '×'));
  document.getElementById('notices').append(element);
  setTimeout(() => element.remove(), kind === 'good' ? 8000 : 20000);
}

let readOnly = false; // known before the first region is filled
const busy = new Set(); // what is under way: the keys of buttons, which outlive them, or buttons that have none

// action is a button of a region that changes something. It is off where the browser may only read.
export function action(label, run, properties) {
  const button = h('button', {
    type: 'button', ...properties, onclick: () => attempt(button, run), disabled: readOnly, 'aria-busy': busy.has(properties.data.key) && 'true',
    title: readOnly && 'You can only look: sign in, or use a browser on the gateway’s own machine.',
  }, label);
  return button;
}

// attempt runs what a button asks for, once at a time, and shows what went wrong. Meanwhile a refresh may put another button
// in its place.
export async function attempt(button, run) {
  const of = (one) => one.dataset.key ?? one;
  const key = of(button);
  if (busy.has(key)) return;
  busy.add(key);
  button.ariaBusy = 'true';
  try {
    await run();
  } catch (error) {
    notice(error.message, 'bad');
  } finally {
    busy.delete(key);
    for (const one of document.querySelectorAll('[aria-busy]')) if (of(one) === key) one.ariaBusy = null;
  }
}

// ask shows a dialog whose confirming button runs what is asked about; it closes once that has worked.
export function ask({ title, body, confirm, danger, run }) {
  const problem = h('p', { class: 'problem', role: 'alert' });
  const yes = h('button', {
    type: 'button', class: danger ? 'danger' : 'primary', onclick: () => attempt(yes, async () => {
      problem.replaceChildren();
      try {
        await run();
        dialog.close();
      } catch (error) {
        if (!dialog.open) throw error; // closed meanwhile: a notice tells
        problem.replaceChildren(error.message);
      }
    }),
  }, confirm);
  const no = h('button', { type: 'button', autofocus: danger, onclick: () => dialog.close() }, 'Cancel');
  const asked = document.activeElement.dataset.key;
  const dialog = h('dialog', { 'aria-labelledby': 'dialog-title', onclose: () => {
    dialog.remove();
    if (document.activeElement !== document.body) return;
    // A refresh has replaced the button that had the keyboard, or left it out.
    (withKey(document, asked) ?? document.getElementById('main')).focus({ preventScroll: true });
  } },
    h('h2', { id: 'dialog-title' }, title), body, problem, h('div', { class: 'buttons' }, no, yes));
  document.body.append(dialog);
  dialog.showModal();
}

// options returns the choices of a select, of which one is chosen. One that is not among them is added, since an address may
// name it.
export function options(all, names, chosen) {
  const known = chosen && !names.some(([value]) => value === chosen) ? [...names, [chosen, chosen]] : names;
  return [h('option', { value: '' }, all),
    ...known.map(([value, label]) => h('option', { value, selected: value === chosen }, label))];
}

// field is a labelled control.
export const field = (label, control) => h('label', { class: 'field' }, h('span', null, label), control);

// link returns the address of a page with parameters; empty ones are left out.
export function link(path, parameters = {}) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  return `#/${path}${query.size ? '?' + query : ''}`;
}

// pager links to the newest rows of a list, and to those that are older than what is shown.
export function pager(path, selected, cursor, next) {
  return h('nav', { class: 'buttons', 'aria-label': 'Pages of the list' },
    cursor && h('a', { class: 'button', href: link(path, selected), data: { key: 'newest' } }, 'Newest'),
    next && h('a', { class: 'button', href: link(path, { ...selected, cursor: next }), data: { key: 'older' } }, 'Older'));
}

// headers shows the headers of a callback.
export function headers(all) {
  return h('table', { class: 'pairs' }, h('tbody', null, Object.entries(all).sort().map(([name, value]) => h('tr', null, h('th', { scope: 'row' }, name), h('td', null, value)))));
}
