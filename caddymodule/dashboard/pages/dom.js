// Elements are made of data by these functions alone. Texts become text nodes, whatever they hold: no page parses HTML.

// h returns an element with properties and children. A property on… is a listener, data is a map of data attributes, and
// null, undefined and false leave a property or a child out.
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

// s returns an SVG element.
export function s(tag, properties, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'data') Object.assign(element.dataset, value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  element.append(...present(children));
  return element;
}

function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

const keyed = (root) => [...root.querySelectorAll('[data-key]')];

// withKey returns the element that has a key.
export const withKey = (root, key) => keyed(root).find((element) => element.dataset.key === key);

// swap replaces what a region shows, and leaves alone what has not changed, the keyboard's focus, and which details are open:
// a region is swapped while somebody reads it.
export function swap(region, ...children) {
  const next = h('div', null, ...children);
  for (const open of keyed(region).filter((element) => element.open)) {
    const same = withKey(next, open.dataset.key);
    if (same) same.open = true;
  }
  const old = [...region.childNodes];
  const fresh = [...next.childNodes];
  const equal = (i) => old.length && fresh.length && old.at(i).isEqualNode(fresh.at(i));
  for (; equal(0); fresh.shift()) old.shift();
  const focused = region.contains(document.activeElement) ? document.activeElement.closest('[data-key]')?.dataset.key : null;
  let after = null;
  for (; equal(-1); fresh.pop()) after = old.pop();
  for (const node of old) node.remove();
  for (const node of fresh) region.insertBefore(node, after);
  if (focused) withKey(region, focused)?.focus({ preventScroll: true });
}
