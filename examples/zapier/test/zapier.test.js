// Runs the integration as Zapier does, against a running router:
// SWITCHHOOK_URL=http://127.0.0.1:8080 SWITCHHOOK_KEY=swk_… npm test
const assert = require('node:assert/strict');
const http = require('node:http');
const { after, before, test } = require('node:test');

const zapier = require('zapier-platform-core');
const { Webhook } = require('standardwebhooks');
const App = require('../index');

const appTester = zapier.createAppTester(App);
const authData = { server: process.env.SWITCHHOOK_URL, api_key: process.env.SWITCHHOOK_KEY };
const inputData = { event_type: 'order.created' };
const trigger = App.triggers.new_event.operation;

// What stands in for hooks.zapier.com: it keeps what comes, as bytes.
const inbox = [];
const zapierHooks = http.createServer(async (req, res) => {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  inbox.push({ headers: req.headers, body: Buffer.concat(chunks) });
  res.writeHead(200).end('{"status": "success"}');
});
let targetUrl;
before(async () => {
  await new Promise((done) => zapierHooks.listen(0, '127.0.0.1', done));
  targetUrl = `http://127.0.0.1:${zapierHooks.address().port}/hooks/standard/1/a/`;
});
after(() => zapierHooks.close());

const api = async (method, path, body) => {
  const response = await fetch(authData.server + path, {
    method,
    headers: { Authorization: `Bearer ${authData.api_key}`, 'Content-Type': 'application/json' },
    body: body && JSON.stringify(body),
  });
  return { status: response.status, body: response.status === 204 ? null : await response.json() };
};

const delivered = async (count) => {
  const deadline = Date.now() + 30_000;
  while (inbox.length < count) {
    assert.ok(Date.now() < deadline, `${inbox.length} of ${count} hooks came`);
    await new Promise((again) => setTimeout(again, 20));
  }
  return inbox[count - 1];
};

test('the connection is checked', async () => {
  const me = await appTester(App.authentication.test, { authData });
  assert.equal(me.data?.account ?? me.account, 'default');
  await assert.rejects(appTester(App.authentication.test, { authData: { ...authData, api_key: 'wrong-key-wrong-key' } }), /401|not known/);
});

test('the editor lists event types', async () => {
  const types = await appTester(App.triggers.event_types.operation.perform, { authData });
  assert.ok(types.some((type) => type.id === 'order.created'), JSON.stringify(types));
});

test('a Zap is turned on, gets hooks, and is turned off', async () => {
  const subscribeData = await appTester(trigger.performSubscribe, { authData, inputData, targetUrl });
  assert.ok(subscribeData.id, JSON.stringify(subscribeData));
  assert.equal(subscribeData.hookUrl, targetUrl, 'it finds its URL under its own name');

  // Zapier turns a Zap on again without turning it off before.
  const again = await appTester(trigger.performSubscribe, { authData, inputData, targetUrl });
  assert.equal(again.id, subscribeData.id);

  const order = { id: 1001, total: 129.5, customer: { name: 'Ada', country: 'GB' } };
  const published = await api('POST', '/api/v1/events', { type: 'order.created', data: order });
  assert.equal(published.status, 202);
  assert.equal(published.body.matched, 1, 'one subscription, not two');
  const hook = await delivered(1);

  new Webhook(subscribeData.secret).verify(hook.body.toString(), hook.headers);

  const live = await appTester(trigger.perform, { authData, inputData, cleanedRequest: JSON.parse(hook.body) });
  assert.deepEqual(live, [order]);

  // The samples look like the hooks, or fields mapped in the editor would be empty later.
  const samples = await appTester(trigger.performList, { authData, inputData });
  assert.deepEqual(samples[0], live[0]);

  const unsubscribed = { authData, inputData, subscribeData };
  await appTester(trigger.performUnsubscribe, unsubscribed);
  await assert.rejects(appTester(trigger.performUnsubscribe, unsubscribed), /404|no subscription/);
  const after = await api('POST', '/api/v1/events', { type: 'order.created', data: order });
  assert.equal(after.body.matched, 0);
});

test('samples come from the catalogue before anything has happened', async () => {
  const samples = await appTester(trigger.performList, { authData, inputData: { event_type: 'customer.created' } });
  assert.deepEqual(samples, [{ id: 7, name: 'Ada', country: 'GB' }]);
});
