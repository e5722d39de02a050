// How numbers, times and sizes are written.
import { h } from './dom.js';

export const count = (n) => (n ?? 0).toLocaleString('en');

// counted writes a count that a status tells of: a dash where it is unknown, since the store has not been read yet.
export const counted = (status, n) => (status.store.unread ? '–' : count(n));

export const plural = (n, one, many = one + 's') => `${count(n)} ${n === 1 ? one : many}`;

// spelled writes a reason such as payload_missing in words. Any other text stays as it is, since it may have names and URLs.
export const spelled = (reason) => (/^[a-z_]+$/.test(reason) ? reason.replaceAll('_', ' ') : reason);

const pad = (n, width = 2) => String(n).padStart(width, '0');

// moment writes a time of the API in the reader's time zone, and the date where it is not today.
export function moment(text, precise) {
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return '';
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}${precise ? '.' + pad(at.getMilliseconds(), 3) : ''}`;
  const date = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return h('time', { datetime: text, title: at.toString() }, at.toDateString() === new Date().toDateString() ? clock : `${date} ${clock}`);
}

// span writes a duration in seconds with its two largest units.
export function span(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const units = [[86400, 'd'], [3600, 'h'], [60, 'm'], [1, 's']];
  const first = units.findIndex(([size]) => seconds >= size);
  let rest = Math.round(seconds);
  return units.slice(first, first + 2).map(([size, unit]) => {
    const n = Math.floor(rest / size);
    rest -= n * size;
    return n ? `${n} ${unit}` : '';
  }).filter(Boolean).join(' ');
}

export function bytes(n) {
  if (n < 1024) return `${n} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  let i = -1;
  do { n /= 1024; i++; } while (n >= 1024 && i < units.length - 1);
  return `${n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

// took writes, after a separator, how long an attempt lasted: nothing for one that had no answer to wait for, such as that
// of an archive which refuses to ask a host.
export const took = (attempt, separator) => (attempt.status || attempt.duration_ms ? `${separator}took ${span(attempt.duration_ms / 1000)}` : '');
