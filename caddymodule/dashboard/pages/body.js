// Bodies of callbacks, as texts.
import { h } from './dom.js';
import { moment } from './format.js';

// MOST is how much of a body is shown, in characters: a browser that lays out megabytes of text stops answering.
const MOST = 256 << 10;

// write returns a body as text: JSON with one value a line, anything else as it came.
export const write = (payload) => (typeof payload === 'string' ? payload : JSON.stringify(payload, null, 2) ?? '');

// body shows one body, and marks the lines that are not among those of another. Its key is its own on the page.
export function body(label, payload, others, key = label) {
  const text = write(payload);
  const cut = text.length > MOST;
  const shown = cut ? text.slice(0, MOST) : text;
  const copy = h('button', { type: 'button', data: { key: `copy ${key}` }, onclick: async () => {
    await navigator.clipboard.writeText(text);
    copy.textContent = 'Copied';
    setTimeout(() => { copy.textContent = 'Copy'; }, 2000);
  } }, 'Copy');
  return h('div', { class: 'body' },
    h('div', { class: 'bar' }, h('h3', null, label), navigator.clipboard && copy),
    h('pre', { tabindex: 0, 'aria-label': label }, others ? marked(shown, others) : shown),
    cut && h('p', { class: 'note' }, `The first 256 KiB of ${Math.ceil(text.length / 1024)} KiB. “Download the body” has all of it, byte for byte.`));
}

function marked(text, others) {
  return text.split('\n').map((line) => (others.has(bare(line)) ? line + '\n' : h('mark', null, line + '\n')));
}

const bare = (line) => line.trim().replace(/,$/, ''); // a comma depends on what follows

// bodies shows the body of an event and of its variants side by side.
export function bodies(e) {
  const first = e.variants.length ? new Set(write(e.payload).split('\n').map(bare)) : undefined;
  return h('div', { class: 'bodies' }, body(e.variants.length ? 'First body' : 'Body', e.payload),
    e.variants.map((v) => h('div', null, body(`Variant ${v.n}`, v.payload, first), h('p', { class: 'note' }, 'received ', moment(v.received_at)))));
}
