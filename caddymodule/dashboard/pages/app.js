// Shows the page that the address names: #/events?source=vocals is the list of events, with that parameter.
import { h } from './dom.js';
import { mayWrite } from './api.js';
import { connect, connection, listen } from './live.js';
import { failure } from './parts.js';
import { overview } from './overview.js';
import { events } from './events.js';
import { event } from './event.js';
import { deadLetters } from './deadletters.js';
import { destinations } from './destinations.js';
import { rejections } from './rejections.js';
import { task, tasks } from './tasks.js';

// A page fills main, until its signal; parameters are those of the address, name is what follows its path.
const pages = [
  { path: '', label: 'Overview', show: overview },
  { path: 'events', label: 'Events', show: events, one: event },
  { path: 'dead-letters', label: 'Dead letters', show: deadLetters },
  { path: 'destinations', label: 'Destinations', show: destinations },
  { path: 'tasks', label: 'Tasks', show: tasks, one: task },
  { path: 'rejections', label: 'Rejections', show: rejections },
];

const main = document.getElementById('main');
const nav = document.getElementById('nav');
let leave = new AbortController();
let shown;

function show(first) {
  leave.abort();
  leave = new AbortController();
  const [path, query] = location.hash.replace(/^#\/?/, '').split('?');
  const [name, ...rest] = path.split('/');
  const page = pages.find((p) => p.path === name);
  // A filter that changes the address keeps the keyboard.
  const filter = page === shown && document.activeElement.closest('.filters [name]')?.name;
  shown = page;
  document.querySelector('dialog')?.close(); // it asks about the page that is left
  main.replaceChildren();
  nav.replaceChildren(...pages.map((p) => h('a', { href: `#/${p.path}`, 'aria-current': p === page && 'page' }, p.label)));
  nav.querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  const parameters = Object.fromEntries(new URLSearchParams(query));
  if (!page || (rest.length && !page.one)) {
    main.append(h('h1', null, 'Not found'), failure(new Error('There is no such page.')));
  } else if (rest.length) {
    page.one(main, { name: decode(rest.join('/')), parameters, signal: leave.signal });
  } else {
    page.show(main, { parameters, signal: leave.signal });
  }
  document.title = `${main.querySelector('h1')?.textContent ?? ''} · Caddy Relay`;
  if (!first) {
    ((filter && main.querySelector(`.filters [name=${filter}]`)) || main).focus({ preventScroll: true });
    scrollTo(0, 0);
  }
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function showConnection() {
  const words = { live: 'Live', connecting: 'Connecting…', polling: 'Every 5 s' };
  const titles = {
    live: 'Shows what happens as it happens.',
    connecting: 'The connection to the gateway is being opened.',
    polling: 'There is no live stream now, so the figures are fetched every few seconds.',
  };
  const live = document.getElementById('live');
  live.className = connection() === 'live' ? 'live connected' : 'live';
  live.title = titles[connection()];
  live.textContent = words[connection()];
}

document.querySelector('.skip').addEventListener('click', (click) => {
  click.preventDefault(); // the address names the page
  main.focus();
});

// The key / goes to the search, as on many pages that have one.
document.addEventListener('keydown', (press) => {
  const search = main.querySelector('input[type=search]');
  if (press.key !== '/' || !search || press.target.closest('input, textarea, select, dialog')) return;
  press.preventDefault();
  search.focus();
});

mayWrite().then((allowed) => {
  if (!allowed) document.getElementById('live').before(h('span', { class: 'badge', title: 'Replay, redrive, pause and the like need an authenticated user, a client certificate, or a browser on the gateway’s own machine.' }, 'Read only'));
}, () => {}); // the page itself shows that the gateway does not answer

addEventListener('hashchange', () => show());
listen((what) => what.kind === connection() && showConnection());
showConnection();
connect();
show(true);
