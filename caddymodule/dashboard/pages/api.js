// The admin API, which is served below api/ beside these pages.

export class APIError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const PATIENCE = 30000;

// get returns the answer to a GET; parameters that are empty are left out. A gateway that hangs is one that does not answer.
export async function get(path, parameters = {}, signal) {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value));
  return request(path + (query.size ? '?' + query : ''), { signal: AbortSignal.any([AbortSignal.timeout(PATIENCE), ...(signal ? [signal] : [])]) });
}

// post returns the answer to a POST of a JSON body.
export async function post(path, body) {
  return request(path, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

// clock returns the gateway's time, in whole seconds, as the API reads times.
export async function clock() {
  const { response } = await respond('access', { method: 'HEAD' });
  return new Date(Date.parse(response.headers.get('Date'))).toISOString();
}

async function respond(path, options) {
  try {
    const response = await fetch('api/' + path, options);
    return { response, text: await response.text() };
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new APIError(0, 'unreachable', 'The gateway does not answer. It may be restarting, or your connection is down.');
  }
}

async function request(path, options) {
  const { response, text } = await respond(path, options);
  let answer;
  try {
    answer = JSON.parse(text, exact);
  } catch {
    throw new APIError(response.status, 'unreadable', `The gateway answered ${response.status} without JSON. Something between it and this page may need you to sign in again.`);
  }
  if (!response.ok) throw new APIError(response.status, answer.error, answer.message);
  return answer;
}

// exact keeps a number that JavaScript would change, such as an id of 20 digits, as it is written, where the browser can.
function exact(key, value, context) {
  if (typeof value === 'number' && context?.source && JSON.rawJSON && String(value) !== context.source) {
    return JSON.rawJSON(context.source);
  }
  return value;
}

// segment escapes a name for a path.
export const segment = encodeURIComponent;

let access;

// mayWrite returns whether this browser may change anything.
export async function mayWrite() {
  access ??= get('access').then((answer) => answer.writes, (error) => {
    access = undefined;
    throw error;
  });
  return access;
}
