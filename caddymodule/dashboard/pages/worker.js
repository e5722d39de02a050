// One stream for all tabs of a browser, which opens no more than six connections to a host over HTTP/1.1: six tabs with a
// stream each would leave none to load anything.
import { stream } from './stream.js';

const tabs = [];
let state = 'connecting';

self.onconnect = ({ ports: [tab] }) => {
  tabs.push(tab); // nobody says when a tab is closed, and what is sent to one is dropped
  tab.postMessage({ kind: state });
};

stream((what) => {
  if (what.id === undefined) state = what.kind;
  for (const tab of tabs) tab.postMessage(what);
});
