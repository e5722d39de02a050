// A gateway with two consumers, at addresses of loopback.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import path from 'node:path';

// startConsumer returns a server that answers as it is told, and keeps what it got.
export async function startConsumer() {
  const consumer = { status: 200, answer: 'ok', got: [], bodies: [] };
  consumer.server = http.createServer((request, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text) => { body += text; }).on('end', () => {
      consumer.got.push(request.headers);
      consumer.bodies.push(body);
      response.writeHead(consumer.status, { 'Content-Type': 'text/plain' }).end(consumer.answer);
    });
  }).listen(0, '127.0.0.1');
  await once(consumer.server, 'listening');
  consumer.url = `http://127.0.0.1:${consumer.server.address().port}/hook`;
  return consumer;
}

// startGateway returns a gateway that serves, with its dashboard below a prefix. provider is asked about tasks.
export async function startGateway(billing, library, provider) {
  const home = process.env.RELAY_HOME;
  const { RELAY_ADMIN: admin, RELAY_ADDRESS: address } = process.env;
  const port = address.split(':').at(-1);
  const file = path.join(home, 'Caddyfile');
  await writeFile(file, `{
	admin ${admin}
	http_port ${port}
	grace_period 5s
	relay {
		store sqlite ${path.join(home, 'relay.db')}
	}
}

http://localhost:${port} {
	bind 127.0.0.1
	handle_path /ops/relay/* {
		relay_dashboard
	}
	relay /callbacks/vocals vocals {
		allow 127.0.0.1
		recover {
			after 1h
		}
		to billing ${billing.url} {
			retry 1s 1h
		}
		to library ${library.url} {
			retry off
		}
	}
	relay /callbacks/music music {
		verify token s3cret-of-the-source {
			query token
		}
		recover ${provider.url} {
			after 1s
			every 1s
		}
		to player ${billing.url}
	}
	respond 404
}
`);
  const child = spawn(process.env.RELAY_CADDY, ['run', '--config', file, '--adapter', 'caddyfile'], {
    env: { ...process.env, HOME: home, XDG_DATA_HOME: home, XDG_CONFIG_HOME: home },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  await new Promise((resolve, reject) => {
    child.stderr.setEncoding('utf8').on('data', (text) => {
      log += text;
      if (log.includes('serving initial configuration')) resolve();
    });
    child.on('exit', (code) => reject(new Error(`the gateway ended with ${code}:\n${log}`)));
  });
  const command = async (...words) => {
    const run = spawn(process.env.RELAY_CADDY, [...words, '--address', admin], { stdio: 'ignore', env: { ...process.env, HOME: home } });
    const [code] = await once(run, 'exit');
    if (code !== 0) throw new Error(`${words.join(' ')}: ${code}`);
  };
  const origin = `http://localhost:${port}`;
  return {
    origin,
    dashboard: `${origin}/ops/relay/`,
    log: () => log,
    // post sends a callback, or a text as it is, and returns the answer's status and headers. Each has a connection of its
    // own, since a reload closes those that are idle.
    post: async (source, body) => {
      const headers = { 'Content-Type': 'application/json', 'X-Note': '<b>note</b>' };
      const request = http.request(`${origin}/callbacks/${source}`, { method: 'POST', headers, agent: false });
      request.end(typeof body === 'string' ? body : JSON.stringify(body));
      const [response] = await once(request, 'response');
      response.resume();
      return { status: response.statusCode, id: response.headers['relay-event-id'] };
    },
    // expect registers a task, about which nobody is asked before the test ends.
    expect: (source, task) => command('relay', 'expect', source, task, '--api', 'api/v1/vocal-removal/generate'),
    // replay sends an event to a destination again, as another operator would.
    replay: (id, destination, variant = 0) => command('relay', 'replay', id, '--destination', destination, '--variant', String(variant)),
    // reload loads the same configuration again.
    reload: () => command('reload', '--force', '--config', file, '--adapter', 'caddyfile'),
    // stop ends the gateway as an operator does, unless it has ended.
    stop: async () => {
      if (child.exitCode !== null) return;
      child.removeAllListeners('exit');
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      const late = setTimeout(() => child.kill('SIGKILL'), 20000);
      await ended;
      clearTimeout(late);
    },
  };
}

// callback is a callback of the vocal separation of a task.
export function callback(task, extra = {}) {
  return {
    code: 200,
    msg: 'vocal Removal generated successfully.',
    data: {
      task_id: task,
      vocal_removal_info: {
        instrumental_url: `https://files.example.com/${task}_instrumental.mp3`,
        vocal_url: `https://files.example.com/${task}_vocals.mp3`,
      },
    },
    ...extra,
  };
}
