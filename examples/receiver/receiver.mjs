// A webhook receiver for Node 20 and later, without dependencies. Each check stands in a
// function of its own, to be taken over alone.
//
//   WEBHOOK_SECRET=whsec_… node receiver.mjs            webhook-signature, v1 (HMAC-SHA256)
//   WEBHOOK_SECRET=whpk_…  node receiver.mjs            webhook-signature, v1a (ed25519, the public key)
//   WEBHOOK_SECRET=whsec_… node receiver.mjs hook       X-Hook-Signature
//   WEBHOOK_SECRET=anything node receiver.mjs url       a secret in the URL: /webhooks?token=anything
import { createHmac, createPublicKey, timingSafeEqual, verify } from 'node:crypto';
import { createServer } from 'node:http';

const secret = process.env.WEBHOOK_SECRET ?? '';
const method = process.argv[2] ?? (secret.startsWith('whpk_') ? 'ed25519' : 'standard');
const tolerance = 5 * 60; // seconds

if (!secret || !['standard', 'ed25519', 'hook', 'url'].includes(method)) { // anybody can sign with an empty secret
  console.error(secret ? `"${method}" is not known: use standard, ed25519, hook or url` : 'a secret is needed: set WEBHOOK_SECRET');
  process.exit(2);
}

const same = (a, b) => {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
};

// What Standard Webhooks signs. An old timestamp may be a repeat by somebody who listened.
function signedContent(headers, body) {
  const timestamp = headers['webhook-timestamp'];
  if (!(Math.abs(Date.now() / 1000 - Number(timestamp)) <= tolerance)) return null;
  return Buffer.concat([Buffer.from(`${headers['webhook-id']}.${timestamp}.`), body]);
}

// The header may hold several signatures: while a secret is rotated, old and new ones.
const signatures = (headers, version) => (headers['webhook-signature'] ?? '').split(' ')
  .filter((one) => one.startsWith(version + ',')).map((one) => one.slice(version.length + 1));

const checks = {
  standard(headers, body) {
    const content = signedContent(headers, body);
    if (!content) return false;
    const key = Buffer.from(secret.replace(/^whsec_/, ''), 'base64');
    const expected = createHmac('sha256', key).update(content).digest('base64');
    return signatures(headers, 'v1').some((one) => same(one, expected));
  },

  ed25519(headers, body) {
    const content = signedContent(headers, body);
    if (!content) return false;
    const x = Buffer.from(secret.replace(/^whpk_/, ''), 'base64').toString('base64url');
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' });
    return signatures(headers, 'v1a').some((one) => verify(null, content, key, Buffer.from(one, 'base64')));
  },

  hook(headers, body) {
    const expected = createHmac('sha256', secret).update(body).digest('hex');
    return same(headers['x-hook-signature'] ?? '', expected);
  },

  url(headers, body, url) {
    return same(url.searchParams.get('token') ?? '', secret);
  },
};

const seen = new Set(); // a real receiver keeps ids in its database

const server = createServer(async (req, res) => {
  // CloudEvents routers ask first whether they may send.
  if (req.method === 'OPTIONS' && req.headers['webhook-request-origin']) {
    console.log('allowed', req.headers['webhook-request-origin']);
    return res.writeHead(204, { 'WebHook-Allowed-Origin': req.headers['webhook-request-origin'], 'WebHook-Allowed-Rate': '600' }).end();
  }
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  // REST Hooks routers may ask whether the subscription is wanted: the echo says yes.
  if (req.headers['x-hook-secret']) {
    console.log('confirmed');
    return res.writeHead(200, { 'X-Hook-Secret': req.headers['x-hook-secret'] }).end();
  }
  if (!checks[method](req.headers, body, new URL(req.url, 'http://localhost'))) {
    console.log('refused');
    return res.writeHead(401).end('the signature is wrong');
  }
  const id = req.headers['webhook-id'];
  console.log(seen.has(id) ? `repeated ${id}` : `received ${id} ${body}`);
  seen.add(id);
  res.writeHead(204).end();
});
server.listen(Number(process.env.PORT ?? 9000), '127.0.0.1', () => {
  console.log(`receiving on http://127.0.0.1:${server.address().port}/webhooks`);
});
process.on('SIGTERM', () => { server.close(() => process.exit(0)); server.closeAllConnections(); });
