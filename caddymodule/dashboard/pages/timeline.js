// The attempts of an event's deliveries along one axis of time.
import { s } from './dom.js';
import { span, took } from './format.js';

const RIGHT = 36;
const ROW = 30;
const SHORTEST = 4; // milliseconds, so that no two ticks of the axis say the same

// due reports whether a delivery is tried at the time that is set for it. One that is held, paused or orphaned is not.
export const due = (d) => d.state === 'pending' && d.next_attempt_at;

// timeline draws a row for each destination, in a picture as wide as the page, so that its texts stay readable on a phone: the attempts as dots, filled where they delivered, and the next one as a ring.
export function timeline(e, width) {
  const left = Math.min(150, width / 3.5);
  const start = Date.parse(e.received_at);
  const times = e.deliveries.flatMap((d) => [...(d.attempts ?? []).map((a) => Date.parse(a.at) + a.duration_ms), ...(due(d) ? [Date.parse(d.next_attempt_at)] : [])]);
  const length = Math.max(SHORTEST, ...times.map((time) => time - start));
  const x = (time) => left + Math.max(0, Math.min(1, (time - start) / length)) * (width - left - RIGHT);
  const height = e.deliveries.length * ROW + 28;
  const bottom = height - 22;
  const attempts = e.deliveries.reduce((n, d) => n + (d.attempts?.length ?? 0), 0);
  return s('svg', { class: 'timeline', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': `${attempts} attempts within ${span(length / 1000)} of the callback` },
    (width < 600 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1]).map((part) => {
      const at = left + part * (width - left - RIGHT);
      return [
        s('line', { class: 'grid', x1: at, x2: at, y1: 4, y2: bottom }),
        s('text', { class: 'tick', x: at, y: height - 6, 'text-anchor': 'middle' }, part ? `+${span(part * length / 1000)}` : 'received'),
      ];
    }),
    e.deliveries.map((d, row) => {
      const y = row * ROW + ROW / 2 + 4;
      return [
        s('text', { class: 'name', x: 0, y: y + 4 }, d.destination.length > left / 8 ? d.destination.slice(0, left / 8 - 1) + '…' : d.destination),
        s('line', { class: 'track', x1: left, x2: width - RIGHT, y1: y, y2: y }),
        (d.attempts ?? []).map((a) => {
          const good = a.status >= 200 && a.status < 300;
          const from = x(Date.parse(a.at));
          const to = x(Date.parse(a.at) + a.duration_ms);
          return s('g', { class: good ? 'good' : 'bad' },
            s('title', null, `${a.status || a.error || 'no answer'} after ${span((Date.parse(a.at) - start) / 1000)}${took(a, ', ')}`),
            s('line', { class: 'took', x1: from, x2: Math.max(to, from), y1: y, y2: y }),
            s('circle', { cx: from, cy: y, r: 6 }));
        }),
        due(d) && s('g', { class: 'next' }, s('title', null, 'next attempt'), s('circle', { cx: x(Date.parse(d.next_attempt_at)), cy: y, r: 6 })),
      ];
    }));
}
