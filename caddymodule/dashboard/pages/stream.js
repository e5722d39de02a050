// The gateway's stream of what happens.

const KINDS = ['accepted', 'delivered', 'retrying', 'dead'];
const RETRY = 15000;

// stream opens the stream, opens it again whenever it ends, and calls tell with { kind, id } of whatever happens. The kinds
// live, connecting and polling are those of the connection.
export function stream(tell) {
  const source = new EventSource('api/stream');
  source.onopen = () => tell({ kind: 'live' });
  source.onerror = () => {
    // The browser reconnects by itself unless the answer was an error.
    const ended = source.readyState === EventSource.CLOSED;
    tell({ kind: ended ? 'polling' : 'connecting' });
    if (ended) setTimeout(stream, RETRY, tell);
  };
  for (const kind of KINDS) source.addEventListener(kind, (message) => tell({ kind, id: subject(message.data) }));
}

function subject(data) {
  try {
    const happened = JSON.parse(data);
    return happened.event_id ?? happened.id ?? '';
  } catch {
    return ''; // what is not readable still happened
  }
}
