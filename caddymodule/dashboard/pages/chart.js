// Charts of the last minutes, drawn by uPlot.
/* global uPlot */
import { h } from './dom.js';

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// chart returns an element with one line for each label, and a function that shows other data. colors are names of custom
// properties.
export function chart(title, labels, colors, signal) {
  const element = h('div', { class: 'chart' });
  let data = [[], ...labels.map(() => [])];
  let plot;

  const draw = () => {
    plot?.destroy();
    const own = (i) => color(colors[i - 1]);
    const axis = { stroke: color('--quiet'), grid: { stroke: color('--line'), width: 1 }, ticks: { show: false } };
    plot = new uPlot({
      width: Math.max(element.clientWidth, 200), height: 180,
      cursor: { y: false, drag: { x: false, y: false } },
      legend: { live: true, markers: { stroke: (u, i) => own(i) } },
      scales: { y: { range: (u, low, high) => [0, Math.max(high * 1.1, 5)] } },
      axes: [
        { ...axis, values: [[60, '{HH}:{mm}'], [1, '{HH}:{mm}:{ss}']], space: 60, size: 28 },
        { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] },
      ],
      series: [
        { label: 'Time', value: '{HH}:{mm}:{ss}' },
        ...labels.map((label, i) => ({
          // A line along zero is nothing to be alarmed by.
          label, stroke: (u, n) => (u.data[n].some(Boolean) ? own(n) : color('--quiet')), width: 2, fill: color(colors[i]) + '22', points: { show: false },
          value: (u, v) => (v === null || v === undefined ? '–' : String(v)),
        })),
      ],
    }, data, element);
  };

  // uPlot paints on a canvas, whose size and colours do not follow the page by themselves.
  const sizes = new ResizeObserver(() => {
    if (!plot) draw();
    else if (plot.width !== element.clientWidth) plot.setSize({ width: Math.max(element.clientWidth, 200), height: 180 });
  });
  sizes.observe(element);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw, { signal });
  signal.addEventListener('abort', () => {
    sizes.disconnect();
    plot?.destroy();
  });

  return {
    element: h('figure', null, h('figcaption', null, title), element),
    set: (next) => {
      data = next;
      plot?.setData(data);
    },
  };
}
