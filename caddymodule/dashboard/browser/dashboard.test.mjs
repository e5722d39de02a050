// What an operator does with the dashboard, step by step.
import { after, before, test } from 'node:test';
import assert from 'node:assert/strict';
import path from 'node:path';
import { mkdir } from 'node:fs/promises';
import { setTimeout } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { callback, startConsumer, startGateway } from './gateway.mjs';

let billing; // answers as its field status says
let library;
let provider;
let gateway;
let browser;
let page;
const complaints = []; // of the console: refused by the policy, or thrown
const foreign = []; // requests that leave the gateway

before(async () => {
  billing = await startConsumer();
  library = await startConsumer();
  provider = await startConsumer();
  gateway = await startGateway(billing, library, provider);
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--headless', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update',
      '--disable-sync', ...(process.getuid() === 0 ? ['--no-sandbox'] : [])],
  });
  page = await open();
});

after(async () => {
  await browser?.close();
  await gateway?.stop();
  billing?.server.close();
  library?.server.close();
  provider?.server.close();
});

async function open(options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  context.setDefaultTimeout(10000);
  const tab = await context.newPage();
  tab.on('console', (message) => {
    // A failed request is shown on the page, and checked there.
    if (['error', 'warning'].includes(message.type()) && !message.text().startsWith('Failed to load resource')) complaints.push(`${message.text()} ${message.location().url}`);
  });
  tab.on('pageerror', (error) => complaints.push(String(error.stack)));
  tab.on('request', (request) => {
    if (!request.url().startsWith(gateway.origin) && !request.url().startsWith('data:')) foreign.push(request.url());
  });
  await tab.goto(gateway.dashboard);
  return tab;
}

// until waits for something outside of the page.
async function until(happened) {
  for (const end = Date.now() + 10000; !happened(); await setTimeout(20)) assert.ok(Date.now() < end, String(happened));
}

// secondOver waits until the gateway's clock, which bounds what is redriven and discarded, shows another second.
const secondOver = () => setTimeout(1020 - (Date.now() % 1000));

const show = (address) => page.goto(`${gateway.dashboard}#/${address}`);
const row = (task) => page.locator('tbody tr', { hasText: task });

async function accept(task, extra) {
  const answer = await gateway.post('vocals', callback(task, extra));
  assert.equal(answer.status, 200);
  assert.ok(answer.id, 'the callback did not get to the relay');
  return answer.id;
}

test('an event arrives without a reload', async () => {
  await show('events');
  await page.getByText('No event yet').waitFor();
  await page.evaluate(() => { window.unloaded = false; });
  await accept('task-one');
  await row('task-one').getByText('delivered').first().waitFor();
  assert.equal(await page.evaluate(() => window.unloaded), false);
});

test('it is found by its task id, with the keyboard alone', async () => {
  await accept('task-two');
  await row('task-two').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('task-one');
  await page.keyboard.press('Enter');
  await row('task-two').waitFor({ state: 'detached' });
  await row('task-one').waitFor();
  assert.match(page.url(), /task_id=task-one/);
});

test('it is replayed, and the same page shows it', async () => {
  const before = billing.got.length;
  await row('task-one').getByRole('link').click();
  await page.getByRole('button', { name: 'Replay…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('library').uncheck();
  await dialog.getByRole('button', { name: 'Replay' }).click();
  await page.getByText('1 delivery replayed').waitFor();
  await dialog.waitFor({ state: 'detached' });
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Replay…');
  await page.locator('.delivery', { hasText: 'replay 1' }).getByText('delivered', { exact: true }).waitFor();
  assert.equal(billing.got.length, before + 1);
  assert.equal(billing.got.at(-1)['relay-replay'], '1');
  assert.equal(await page.locator('.delivery', { hasText: 'library' }).getByText('replay').count(), 0);
});

test('a task is shown from its registration to its callback', async () => {
  await gateway.expect('vocals', 'task-expected');
  await show('tasks');
  await row('task-expected').getByText('expected', { exact: true }).waitFor();
  await page.getByLabel('State').selectOption('called_back');
  await page.getByText('No task matches').waitFor();
  await accept('task-expected');
  await row('task-expected').getByText('called back', { exact: true }).waitFor();
  await row('task-expected').getByRole('link', { name: 'task-expected' }).click();
  await page.locator('.attempts').getByText('called back').waitFor();
  await page.locator('.facts').getByRole('link').click();
  await page.getByRole('heading', { name: 'Task', exact: true }).waitFor();
  await page.getByRole('link', { name: 'Show the task' }).click();
  assert.match(page.url(), /tasks\/vocals\/task-expected/);
});

test('a task whose callback does not come is shown with what the provider says of it', async () => {
  await show('tasks');
  const data = { taskId: 'c3f0a1d27e564b0c9d21e1', successFlag: 'SUCCESS', response: { vocalUrl: 'https://files.example.com/recovered.mp3' } };
  provider.answer = JSON.stringify({ code: 200, data });
  await gateway.expect('music', data.taskId);
  await row(data.taskId).getByText('recovered', { exact: true }).waitFor();
  provider.answer = JSON.stringify({ code: 200, data: null });
  await gateway.expect('music', 'c3f0a1d27e564b0c9d21e2');
  await row('c3f0a1d27e564b0c9d21e2').getByText('overdue', { exact: true }).waitFor();
  await row('c3f0a1d27e564b0c9d21e2').getByText('the task is not known yet').waitFor();
  await show('');
  await page.locator('.attention').getByText('1 overdue task of music').waitFor();
  await page.getByRole('link', { name: '1 overdue task' }).click();
  assert.match(page.url(), /tasks\?source=music&state=overdue/);
  await show('tasks');
  await row(data.taskId).getByRole('link').nth(1).click();
  await page.locator('.delivery', { hasText: 'player' }).getByText('delivered', { exact: true }).waitFor();
});

test('a payload of HTML and script changes nothing', async () => {
  const hostile = '</pre></script><script>window.hit=1</script><img src="https://evil.example/x" onerror="window.hit=2"><b id="hit">bold</b>';
  library.answer = hostile;
  const id = await accept('task-hostile', {
    msg: hostile,
    data: { task_id: 'task-hostile', [hostile]: hostile, number: 1, vocal_removal_info: { vocal_url: 'javascript:window.hit=3', instrumental_url: 'https://files.example.com/"><script>window.hit=4</script>' } },
  });
  // Another body of the same task is a variant, shown beside it.
  await accept('task-hostile', { msg: `another ${hostile}`, data: { task_id: 'task-hostile', vocal_removal_info: { vocal_url: 'https://files.example.com/other.mp3' } } });
  await show(`events/${id}`);
  await page.getByRole('heading', { name: 'Variant 1' }).waitFor();
  assert.ok(await page.locator('pre', { hasText: hostile.replaceAll('"', '\\"') }).count() >= 1);
  assert.ok(await page.locator('mark', { hasText: 'another' }).count() >= 1);
  await page.locator('.delivery', { hasText: 'library' }).locator('summary').click();
  await page.locator('.attempts pre', { hasText: hostile }).waitFor();
  assert.equal(await page.evaluate(() => window.hit), undefined);
  assert.equal(await page.locator('main script, main img, #hit, main a[href^="javascript:"]').count(), 0);
  library.answer = 'ok';
});

test('an attempt that was refused before any request shows why, and no time', async () => {
  const id = await accept('task-not-asked');
  const error = "data.audio_url: its host files.example.com is not in the archive's hosts";
  await page.route(`**/api/events/${id}`, async (route) => {
    const response = await route.fetch();
    const event = await response.json();
    const attempt = { at: event.received_at, duration_ms: 0, status: 0, error, response: '' };
    event.deliveries = [{ destination: 'archive', state: 'dead', attempts: [attempt] }];
    await route.fulfill({ response, json: event });
  });
  await show(`events/${id}`);
  const shown = page.locator('.attempts li', { hasText: error });
  await shown.waitFor();
  assert.doesNotMatch(await shown.textContent(), /no answer|took/);
  assert.match(await page.locator('.timeline .bad title').textContent(), /archive's hosts after 0 ms$/);
  const ticks = await page.locator('.timeline .tick').allTextContents();
  assert.equal(new Set(ticks).size, ticks.length, `the axis repeats itself: ${ticks}`);
  await page.unroute(`**/api/events/${id}`);
});

test('a number keeps its digits', async () => {
  const answer = await gateway.post('vocals', '{"code":200,"msg":"","data":{"task_id":"task-digits","seed":12345678901234567890}}');
  await show(`events/${answer.id}`);
  await page.locator('pre', { hasText: '12345678901234567890' }).waitFor();
});

test('a dead letter is found, its reason read, and redriven', async () => {
  library.status = 410;
  library.answer = 'the shelf is gone';
  const id = await accept('task-dead');
  await show('dead-letters');
  await row('task-dead').getByText('410').waitFor();
  await row('task-dead').getByRole('link').click();
  await page.locator('.attempts summary', { hasText: '410' }).click();
  await page.getByText('the shelf is gone').waitFor();
  assert.ok(page.url().includes(id));

  library.status = 200;
  await page.getByRole('link', { name: 'Dead letters' }).click();
  await page.getByRole('button', { name: 'Redrive task-dead to library' }).click();
  await page.getByText('No dead letter').waitFor();
  await page.getByText('Redriven to library.').waitFor();
});

test('a dead letter that somebody else has redriven meanwhile is not sent again', async () => {
  library.status = 410;
  const id = await accept('task-shared');
  await row('task-shared').waitFor();
  library.status = 200;
  await page.route('**/api/dead-letters?*', (route) => route.abort()); // this page does not hear of it
  const before = library.got.length;
  await gateway.replay(id, 'library');
  await until(() => library.got.length > before);
  await page.getByRole('button', { name: 'Redrive task-shared to library' }).click();
  await page.getByText('Somebody else has redriven it already.').waitFor();
  assert.equal(library.got.length, before + 1);
  await page.unroute('**/api/dead-letters?*');
  await page.getByText('No dead letter').waitFor();
});

test('a dead letter that somebody else has discarded meanwhile is not said to be redriven', async () => {
  library.status = 410;
  await accept('task-thrown-away');
  await row('task-thrown-away').waitFor();
  await secondOver();
  await page.route('**/api/dead-letters?*', (route) => route.abort()); // this page does not hear of it
  const discarded = await page.evaluate(async () => (await import('./api.js')).post('dead-letters/discard', { destination: 'library' }));
  assert.deepEqual(discarded, { discarded: 1 });
  await page.getByRole('button', { name: 'Redrive task-thrown-away to library' }).click();
  await page.getByText('Somebody else has discarded or reassigned it.').waitFor();
  await page.unroute('**/api/dead-letters?*');
  await page.getByText('No dead letter').waitFor();
});

test('a dead letter is redriven with the body that it carries', async () => {
  library.status = 410;
  const id = await accept('task-variant');
  await accept('task-variant', { msg: 'said otherwise', data: { task_id: 'task-variant', vocal_removal_info: { vocal_url: 'https://files.example.com/other.mp3' } } });
  await gateway.replay(id, 'library', 1);
  await show(`events/${id}`);
  const delivery = page.locator('.delivery', { hasText: 'with the body of variant 1' });
  await delivery.getByText('dead letter', { exact: true }).waitFor();
  library.status = 200;
  const before = library.bodies.length;
  await show('dead-letters');
  await page.getByRole('button', { name: 'Redrive task-variant to library' }).click();
  await until(() => library.bodies.length > before);
  assert.equal(JSON.parse(library.bodies.at(-1)).msg, 'said otherwise');
  await page.getByText('No dead letter').waitFor();
});

test('reasons are written in words, and names in errors stay what they are', async () => {
  await show('dead-letters');
  const spelled = (text) => page.evaluate(async (reason) => (await import('./format.js')).spelled(reason), text);
  assert.equal(await spelled('payload_missing'), 'payload missing');
  assert.equal(await spelled('lookup hooks_of_billing: no such host'), 'lookup hooks_of_billing: no such host');
});

test('dead letters are redriven and discarded in bulk, after their count was confirmed', async () => {
  library.status = 410;
  for (const task of ['task-a', 'task-b', 'task-c']) await accept(task);
  await page.getByText('3 dead letters', { exact: true }).waitFor();
  await secondOver();
  await page.getByRole('button', { name: 'Redrive all…' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Redrive 3 dead letters').waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  library.status = 200;
  const before = library.got.length;
  await page.getByRole('button', { name: 'Redrive all…' }).click();
  await dialog.getByRole('button', { name: 'Redrive 3' }).click();
  await page.getByText('3 dead letters redriven.').waitFor();
  await page.getByText('No dead letter').waitFor();
  await until(() => library.got.length === before + 3);

  library.status = 410;
  await accept('task-d');
  await row('task-d').waitFor();
  await secondOver();
  await page.getByRole('button', { name: 'Discard all…' }).click();
  await dialog.waitFor();
  await accept('task-e'); // was not asked about
  await page.getByText('2 dead letters', { exact: true }).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), 'Cancel');
  await dialog.getByRole('button', { name: 'Discard 1' }).click();
  await page.getByText('1 dead letter discarded.').waitFor();
  await row('task-d').waitFor({ state: 'detached' });
  library.status = 200;
  await page.getByRole('button', { name: 'Redrive task-e to library' }).click();
  await page.getByText('No dead letter').waitFor();
});

test('a destination is paused and resumed', async () => {
  await show('destinations');
  const card = page.locator('.card', { hasText: 'library' });
  await card.getByRole('button', { name: 'Pause library' }).click();
  await card.getByRole('button', { name: 'Resume library' }).waitFor();
  const before = library.got.length;
  const id = await accept('task-paused');
  await show(`events/${id}`);
  await page.locator('.delivery', { hasText: 'library' }).getByText('paused', { exact: true }).waitFor();
  assert.equal(library.got.length, before);
  await show('destinations');
  await card.getByRole('button', { name: 'Resume library' }).press('Enter');
  await card.getByRole('button', { name: 'Pause library' }).waitFor();
  await show(`events/${id}`);
  await page.locator('.delivery', { hasText: 'library' }).getByText('delivered', { exact: true }).waitFor();
  assert.equal(library.got.length, before + 1);
});

test('a button whose work is under way is not pressed again, though a refresh replaces it', async () => {
  await show('destinations');
  const button = page.locator('.card', { hasText: 'library' }).getByRole('button', { name: 'Pause library' });
  await button.waitFor();
  let asked = 0;
  let go;
  const held = new Promise((resolve) => { go = resolve; });
  await page.route('**/library/pause', async (route) => {
    asked++;
    await held;
    await route.continue();
  });
  await button.click();
  const first = await button.elementHandle();
  await accept('task-busy'); // changes the counts
  await page.waitForFunction((one) => !one.isConnected, first);
  assert.equal(await button.getAttribute('aria-busy'), 'true');
  await button.click();
  go();
  await page.getByRole('button', { name: 'Resume library' }).click();
  await button.waitFor();
  assert.equal(await button.getAttribute('aria-busy'), null);
  assert.equal(asked, 1);
  await page.unroute('**/library/pause');
});

test('a refresh leaves alone what has not changed, in a browser that may only look too', async () => {
  const tab = await open();
  await tab.route('**/api/access', (route) => route.fulfill({ json: { writes: false } }));
  await tab.goto(`${gateway.dashboard}#/destinations`);
  await tab.reload();
  const button = tab.getByRole('button', { name: 'Pause library' });
  await button.waitFor();
  assert.ok(await button.isDisabled());
  const shown = await button.elementHandle();
  for (let refreshed = 0; refreshed < 3; refreshed++) { // the third begins when the second has been shown
    const next = tab.waitForRequest('**/api/status');
    await tab.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    await next;
  }
  assert.ok(await shown.evaluate((one) => one.isConnected));
  await tab.context().close();
});

test('what was rejected is found with its reason, and taken in', async () => {
  const answer = await gateway.post('music', callback('task-refused'));
  assert.equal(answer.status, 401);
  await show('rejections');
  const card = page.locator('.rejection', { hasText: 'music' });
  await card.getByText('unverified').waitFor();
  const before = billing.got.length;
  await card.getByRole('button', { name: 'Accept the callback of' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Accept' }).click();
  await card.getByRole('link', { name: 'Show the event' }).click();
  await page.locator('.delivery', { hasText: 'player' }).getByText('delivered', { exact: true }).waitFor();
  assert.equal(billing.got.length, before + 1);
});

test('the overview counts and draws', async () => {
  await show('');
  await page.locator('.chart canvas').nth(1).waitFor();
  await page.getByText('Live', { exact: true }).waitFor();
  const accepted = page.locator('.tile .value').first();
  const before = Number(await accepted.textContent());
  await accept('task-counted');
  await page.waitForFunction((n) => Number(document.querySelector('.tile .value').textContent) > n, before);
  await page.locator('tbody tr', { hasText: 'vocals / library' }).waitFor();
});

test('failures are drawn in red once there are any', async () => {
  const tab = await open();
  const red = () => {
    const bad = getComputedStyle(document.documentElement).getPropertyValue('--bad').trim().match(/[0-9a-f]{2}/g).map((two) => parseInt(two, 16));
    const canvas = document.querySelectorAll('.chart canvas')[1];
    const copy = Object.assign(document.createElement('canvas'), { width: canvas.width, height: canvas.height }).getContext('2d');
    copy.drawImage(canvas, 0, 0);
    const { data } = copy.getImageData(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < data.length; i += 4) {
      if (data[i + 3] === 255 && bad.every((part, j) => Math.abs(part - data[i + j]) < 16)) return true;
    }
    return false;
  };
  // Two seconds that are over make a line, which is drawn within another one.
  while (await tab.evaluate(async () => (await import('./live.js')).observed()) < 4) await tab.waitForTimeout(100);
  assert.equal(await tab.evaluate(red), false);
  library.status = 410;
  await accept('task-red');
  await tab.waitForFunction(red);
  library.status = 200;
  await tab.context().close();
});

test('what is not there is said in words', async () => {
  await show('events/none');
  await page.getByText('Not found', { exact: true }).waitFor();
  await show('nowhere');
  await page.getByText('There is no such page.').waitFor();
  await show('events?task_id=nobody');
  await page.getByText('No event matches').waitFor();
});

test('a phone has no sideways scrolling', async () => {
  const phone = await open({ viewport: { width: 390, height: 844 } });
  for (const address of ['', 'events', 'dead-letters', 'destinations', 'rejections', 'tasks']) {
    await phone.goto(`${gateway.dashboard}#/${address}`);
    await phone.locator('.loading').waitFor({ state: 'detached' });
    assert.ok(await phone.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${address} is too wide`);
  }
  await phone.context().close();
});

test('more tabs than a browser opens connections show what happens', async () => {
  const context = await browser.newContext();
  context.setDefaultTimeout(10000);
  const tabs = [];
  for (let i = 0; i < 7; i++) {
    const tab = await context.newPage();
    tabs.push(tab);
    await tab.goto(`${gateway.dashboard}#/events`);
    await tab.locator('.live.connected').waitFor();
    await tab.locator('tbody tr').first().waitFor();
  }
  await accept('task-tabs');
  for (const tab of tabs) await tab.locator('tbody tr', { hasText: 'task-tabs' }).waitFor();
  await context.close();
});

test('a filter that is set with the keyboard keeps it', async () => {
  await show('tasks');
  await page.locator('.loading').waitFor({ state: 'detached' });
  const state = page.getByLabel('State');
  await state.focus();
  for (const chosen of ['expected', 'overdue', 'recovered']) {
    await page.keyboard.press('ArrowDown');
    await page.waitForURL(new RegExp(`state=${chosen}`));
    assert.equal(await page.evaluate(() => document.activeElement.name), 'state');
  }
  await page.getByRole('link', { name: 'Events', exact: true }).click();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'main');
});

test('a question goes with its page, and what became of it is told though it was closed', async () => {
  library.status = 410;
  await accept('task-question');
  await show('events');
  await show('dead-letters');
  await row('task-question').waitFor();
  const dialog = page.getByRole('dialog');
  await page.getByRole('button', { name: 'Discard all…' }).click();
  await dialog.waitFor();
  await page.goBack();
  await dialog.waitFor({ state: 'detached' });
  await page.goForward();
  await secondOver();
  await page.getByRole('button', { name: 'Redrive all…' }).click();
  let go;
  const held = new Promise((resolve) => { go = resolve; });
  await page.route('**/redrive', async (route) => {
    await held;
    await route.fulfill({ status: 503, json: { error: 'unavailable', message: 'The store is away.' } });
  });
  await dialog.getByRole('button', { name: /^Redrive \d/ }).click();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  go();
  await page.locator('.notice.bad', { hasText: 'The store is away.' }).waitFor();
  await page.unroute('**/redrive');
});

test('the times of a filter are shown whole', async () => {
  for (const width of [1280, 390]) {
    const tab = await open({ viewport: { width, height: 844 }, locale: 'en-US' });
    await tab.goto(`${gateway.dashboard}#/events?since=2026-11-29T22:44:00Z&until=2026-12-29T23:44:00Z`);
    const { width: shown } = await tab.getByLabel('Received from').boundingBox();
    assert.ok(shown >= 220, `${shown} px at ${width}`); // as wide as 12/29/2026, 10:44 PM and what opens the calendar
    await tab.context().close();
  }
});

test('an older page that has become empty leads on', async () => {
  for (const [address, list] of [['dead-letters', 'dead_letters'], ['rejections', 'rejections']]) {
    await page.route(`**/api/${address}?*`, (route) => route.fulfill({ json: { [list]: [], next: '' } }));
    await show(`${address}?cursor=old`);
    await page.getByText('Nothing on this page').waitFor();
    await page.unroute(`**/api/${address}?*`);
    await page.getByRole('link', { name: 'Newest' }).click();
  }
  library.status = 200;
  await show('dead-letters');
  await page.getByRole('button', { name: 'Redrive task-question to library' }).click();
  await row('task-question').waitFor({ state: 'detached' });
});

test('a delivery that is held has no next attempt, and an event for nobody no replay', async () => {
  const id = await accept('task-held');
  let deliveries = [{ destination: 'billing', state: 'held', attempts: [], next_attempt_at: new Date(Date.now() - 60000).toISOString() }];
  await page.route(`**/api/events/${id}`, async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), deliveries } });
  });
  await show(`events/${id}`);
  await page.locator('.delivery').getByText('held', { exact: true }).waitFor();
  assert.equal(await page.getByText('next attempt').count(), 0);
  assert.equal(await page.locator('.timeline .next').count(), 0);
  deliveries = [];
  await page.getByText('or what was given up has been discarded').waitFor();
  assert.equal(await page.getByRole('button', { name: 'Replay…' }).count(), 0);
  await page.unroute(`**/api/events/${id}`);
});

test('a body stays where it is while its deliveries change', async () => {
  const id = await accept('task-read');
  await show(`events/${id}`);
  const body = await page.locator('.body pre').elementHandle();
  await gateway.replay(id, 'billing');
  await page.locator('.delivery', { hasText: 'replay 1' }).getByText('delivered', { exact: true }).waitFor();
  assert.ok(await body.evaluate((one) => one.isConnected));
});

test('what waits in the spool alone has waited since it was accepted', async () => {
  const tab = await open();
  await tab.route('**/status', async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, json: { ...await response.json(), spool: { up: true, events: 2, oldest_seconds: 90, stuck: 0 } } });
  });
  await tab.locator('.tile', { hasText: 'Oldest waiting' }).getByText('1 m 30 s').waitFor();
  await tab.context().close();
});

test('a gateway that hangs is said not to answer', async () => {
  const tab = await open();
  await tab.addInitScript(() => {
    const timeout = AbortSignal.timeout.bind(AbortSignal);
    AbortSignal.timeout = (ms) => timeout(ms / 100);
  });
  await tab.route('**/api/events', () => {});
  await tab.goto(`${gateway.dashboard}#/events`);
  await tab.reload();
  await tab.getByText('The gateway does not answer.').waitFor();
  await tab.context().close();
});

test('the longest names fit', async () => {
  const id = await accept('task-long');
  const name = `${'n'.repeat(61)}_x`;
  for (const viewport of [{ width: 390, height: 844 }, { width: 1280, height: 800 }]) {
    const tab = await open({ viewport });
    await tab.route('**/api/*', async (route) => {
      const response = await route.fetch();
      const text = (await response.text()).replaceAll('"vocals"', `"${name}"`).replaceAll('"billing"', `"${name}"`)
        .replaceAll('task-long', 't'.repeat(128)).replaceAll('"complete"', `"${'s'.repeat(128)}"`);
      await route.fulfill({ response, body: text });
    });
    await tab.route('**/api/events/*', async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, body: (await response.text()).replaceAll('"billing"', `"${name}"`) });
    });
    await tab.route('**/api/dead-letters*', (route) => route.fulfill({ json: { dead_letters: [{
      event_id: id, source: name, destination: name, task_id: 't'.repeat(128), attempts: 1, last_status: 503, last_error: 'e'.repeat(300), dead_at: new Date().toISOString(),
    }] } }));
    for (const address of ['', 'events', `events/${id}`, 'dead-letters', 'destinations', 'tasks', 'rejections']) {
      await tab.goto(`${gateway.dashboard}#/${address}`);
      await tab.reload();
      await tab.locator('.loading').waitFor({ state: 'detached' });
      const wide = await tab.evaluate(() => [...document.querySelectorAll('main *')].filter((one) => !one.closest('.chart, pre') && one.getBoundingClientRect().right > innerWidth).map((one) => one.outerHTML.slice(0, 80)));
      assert.deepEqual(wide, [], `${address} at ${viewport.width}`);
    }
    await tab.context().close();
  }
});

test('destinations whose store is away are said to be as they were', async () => {
  const tab = await open();
  await tab.route('**/status', async (route) => {
    const response = await route.fetch();
    const status = await response.json();
    await route.fulfill({ response, json: { ...status, store: { ...status.store, up: false, error: 'i/o timeout' } } });
  });
  await tab.goto(`${gateway.dashboard}#/destinations`);
  await tab.getByText('Not up to date. The store is not available: i/o timeout.').waitFor();
  await tab.context().close();
});

test('a store that is not open yet shows no zeros', async () => {
  const context = await browser.newContext();
  const tab = await context.newPage();
  await tab.route('**/status', async (route) => {
    const response = await route.fetch();
    const status = await response.json();
    status.store = { driver: 'sqlite', location: '/data/relay.db', free_bytes: -1, unread: true, up: false, error: 'the disk is full' };
    await route.fulfill({ response, json: status });
  });
  await tab.goto(gateway.dashboard);
  await tab.getByText('The store is not open yet, so no count is known: the disk is full.').waitFor();
  await tab.getByText('Store: sqlite at /data/relay.db').waitFor();
  const cells = await tab.getByRole('row', { name: /billing/ }).locator('.number').allTextContents();
  assert.deepEqual(cells, ['–', '–', '–', '–', '–']);
  await tab.goto(`${gateway.dashboard}#/destinations`);
  await tab.locator('.counts dd').first().waitFor();
  const counts = await tab.locator('.counts dd').allTextContents();
  assert.ok(counts.length > 0 && counts.every((text) => text === '–'), String(counts));
  await context.close();
});

test('an open page goes on after a reload', async () => {
  await show('events');
  await gateway.reload();
  await accept('task-after');
  await row('task-after').waitFor();
});

test('nothing left the gateway, and the policy had nothing to refuse', () => {
  assert.deepEqual(foreign, []);
  assert.deepEqual(complaints, []);
});

test('pictures of every page', { skip: !process.env.SCREENSHOTS }, async () => {
  const folder = path.resolve(process.env.SCREENSHOTS);
  await mkdir(folder, { recursive: true });
  for (let i = 0; i < 12; i++) await accept(`5c79be8e4a4f4bb2a3b5c0${i + 10}`);
  billing.status = 503;
  billing.answer = '{"error":"maintenance"}';
  library.status = 410;
  library.answer = 'gone';
  const failing = await accept('e2a91fd0c6d94a7b8f10a77b');
  await accept('e2a91fd0c6d94a7b8f10a77c');
  const variant = { data: { task_id: 'e2a91fd0c6d94a7b8f10a77b', vocal_removal_info: { vocal_url: 'https://files.example.com/remix.mp3' } } };
  await accept('e2a91fd0c6d94a7b8f10a77b', variant);
  await gateway.post('music', callback('b7d04a9c2f'));
  await gateway.post('vocals', [1, 2]);
  for (const task of ['e2a91fd0c6d94a7b8f10a77e', 'e2a91fd0c6d94a7b8f10a77f']) await gateway.expect('vocals', task);
  await accept('e2a91fd0c6d94a7b8f10a77e');
  for (const scheme of ['light', 'dark']) {
    for (const [device, viewport] of [['desktop', { width: 1280, height: 800 }], ['phone', { width: 390, height: 844 }]]) {
      const tab = await open({ viewport, colorScheme: scheme });
      // Some seconds of traffic, so that the charts have something to draw.
      const rounds = device === 'desktop' ? 14 : 3;
      library.status = billing.status = 200;
      for (let i = 0; i < rounds; i++) {
        for (let n = 0; n < 3 + Math.round(4 * Math.abs(Math.sin(i))); n++) await accept(`load-${scheme}-${device}-${i}-${n}`);
        if (i % 5 === 4) library.status = 500;
        await accept(`load-${scheme}-${device}-${i}-last`);
        await tab.waitForTimeout(600);
        library.status = 200;
      }
      const pages = { overview: '', events: 'events', event: `events/${failing}`, 'dead-letters': 'dead-letters', destinations: 'destinations', rejections: 'rejections', tasks: 'tasks', empty: 'events?task_id=nobody' };
      for (const [name, address] of Object.entries(pages)) {
        await tab.goto(`${gateway.dashboard}#/${address}`);
        await tab.locator('.loading').waitFor({ state: 'detached' });
        await tab.waitForTimeout(name === 'overview' ? 1500 : 300);
        const height = await tab.evaluate(() => Math.min(document.documentElement.scrollHeight, 1600));
        await tab.setViewportSize({ ...viewport, height: Math.max(height, viewport.height) });
        await tab.screenshot({ path: path.join(folder, `${name}-${scheme}-${device}.png`) });
        await tab.setViewportSize(viewport);
      }
      await tab.goto(`${gateway.dashboard}#/dead-letters`);
      await tab.getByRole('button', { name: 'Discard all…' }).click();
      await tab.screenshot({ path: path.join(folder, `dialog-${scheme}-${device}.png`) });
      await tab.context().close();
    }
  }
});

// Only a gateway that ends waits for its connections, for 5 s here, so this is the last step. Caddy stops its apps in any order,
// and the relay's would end the page's stream as well: TestDashboardShutdown leaves that to no chance.
test('an open page does not hold up the end of the gateway', async () => {
  await show('events');
  await page.getByText('Live', { exact: true }).waitFor();
  const start = Date.now();
  await gateway.stop();
  const took = Date.now() - start;
  assert.ok(took < 2500, `it took ${took} ms`);
});
