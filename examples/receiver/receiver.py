"""A webhook receiver for Python 3.9 and later, of the standard library; only ed25519 needs
the package "cryptography". Each check stands in a function of its own, to be taken over
alone.

  WEBHOOK_SECRET=whsec_… python3 receiver.py          webhook-signature, v1 (HMAC-SHA256)
  WEBHOOK_SECRET=whpk_…  python3 receiver.py          webhook-signature, v1a (ed25519, the public key)
  WEBHOOK_SECRET=whsec_… python3 receiver.py hook     X-Hook-Signature
  WEBHOOK_SECRET=anything python3 receiver.py url     a secret in the URL: /webhooks?token=anything
"""

import base64
import hashlib
import hmac
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SECRET = os.environ.get("WEBHOOK_SECRET", "")
METHOD = sys.argv[1] if len(sys.argv) > 1 else "ed25519" if SECRET.startswith("whpk_") else "standard"
TOLERANCE = 5 * 60  # seconds


def signed_content(headers, body):
    """What Standard Webhooks signs. An old timestamp may be a repeat by somebody who listened."""
    timestamp = headers.get("webhook-timestamp", "")
    if not timestamp.isdigit() or abs(time.time() - int(timestamp)) > TOLERANCE:
        return None
    return f"{headers.get('webhook-id')}.{timestamp}.".encode() + body


def signatures(headers, version):
    """The header may hold several signatures: while a secret is rotated, old and new ones."""
    for one in headers.get("webhook-signature", "").split():
        name, _, signature = one.partition(",")
        if name == version:
            yield signature


def standard(headers, body, path):
    content = signed_content(headers, body)
    if content is None:
        return False
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.digest(key, content, "sha256")).decode()
    return any(hmac.compare_digest(one, expected) for one in signatures(headers, "v1"))


def ed25519(headers, body, path):
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    content = signed_content(headers, body)
    if content is None:
        return False
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(SECRET.removeprefix("whpk_")))
    for one in signatures(headers, "v1a"):
        try:
            key.verify(base64.b64decode(one), content)
            return True
        except (InvalidSignature, ValueError):
            pass
    return False


def hook(headers, body, path):
    expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("X-Hook-Signature", ""), expected)


def url(headers, body, path):
    token = parse_qs(urlsplit(path).query).get("token", [""])[0]
    return hmac.compare_digest(token.encode(), SECRET.encode())


CHECK = {"standard": standard, "ed25519": ed25519, "hook": hook, "url": url}.get(METHOD)
if not SECRET:  # anybody can sign with an empty one
    sys.exit("a secret is needed: set WEBHOOK_SECRET")
if not CHECK:
    sys.exit(f'"{METHOD}" is not known: use standard, ed25519, hook or url')
SEEN = set()  # a real receiver keeps ids in its database


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_OPTIONS(self):
        """CloudEvents routers ask first whether they may send."""
        origin = self.headers.get("WebHook-Request-Origin", "")
        print("allowed", origin, flush=True)
        self.answer(204, {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "600"})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # REST Hooks routers may ask whether the subscription is wanted: the echo says yes.
        if self.headers.get("X-Hook-Secret"):
            print("confirmed", flush=True)
            return self.answer(200, {"X-Hook-Secret": self.headers["X-Hook-Secret"], "Content-Length": "0"})
        if not CHECK(self.headers, body, self.path):
            print("refused", flush=True)
            return self.answer(401, {"Content-Length": "0"})
        event = self.headers["webhook-id"]
        print("repeated" if event in SEEN else "received", event, body.decode(), flush=True)
        SEEN.add(event)
        self.answer(204, {})

    def answer(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", 9000))), Receiver)
print(f"receiving on http://127.0.0.1:{server.server_port}/webhooks", flush=True)
server.serve_forever()
