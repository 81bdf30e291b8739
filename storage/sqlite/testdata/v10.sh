#!/bin/bash
# Makes the database of v10.sql: a router of schema 10 that was killed, with subscriptions, scripts that
# have versions and cases, deliveries in every state, keys, an account, an event type, a replay.
# It was made with the switchhook of commit 1cb1896, which is the last of schema 10:
#   git worktree add /tmp/v10 1cb1896 && (cd /tmp/v10 && go build -o /tmp/switchhook-v10 .)
#   bash v10.sh /tmp/switchhook-v10 /tmp/v10-data
# and dump it, which is v10.sql: python3 -c 'import sqlite3; print("\n".join(sqlite3.connect("/tmp/v10-data/switchhook.db").iterdump()))'
# A port on which nothing listens makes deliveries fail.
set -eu
bin=$1 data=$2
export SWITCHHOOK_ADMIN_KEY=v10-admin-key-0123456789
export SWITCHHOOK_ENCRYPTION_KEY=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
address=127.0.0.1:23410
"$bin" serve --listen $address --data "$data" --allow-targets 127.0.0.0/8 --retries 0s,720h --log-level error &
pid=$!
api() { curl -sS --fail-with-body --retry 20 --retry-connrefused --retry-delay 1 -X "$1" -H "Authorization: Bearer $SWITCHHOOK_ADMIN_KEY" -H 'Content-Type: application/json' "http://$address/api/v1$2" -d "${3:-}"; echo; }
id() { sed -E 's/^\{"id":"([^"]+)".*/\1/'; }

api POST /event-types '{"name":"order.created","description":"An order","schema":{"type":"object","properties":{"n":{"type":"integer"}}},"samples":[{"n":1}]}'
api PATCH /accounts/acme '{"quota":{"subscriptions":7},"retention":{"dead":"1000h"}}'
api POST /keys '{"name":"reader","account":"acme","scopes":["read"]}'
api POST /keys '{"name":"publisher","account":"acme","scopes":["publish"]}'

# A transform whose third version came with other cases: those of version 1 are gone.
api POST /scripts '{"account":"acme","name":"shape","kind":"transform","description":"Shape","source":"export default e => ({n: e.data.n})","cases":[{"name":"first","event":{"type":"order.created","data":{"n":1}},"expect":{"body":{"n":1}}}]}'
api POST '/scripts/shape/versions?account=acme' '{"source":"export default e => ({n: e.data.n, v: 2})","note":"two"}'
api PATCH '/scripts/shape?account=acme' '{"cases":[{"name":"second","event":{"type":"order.created","data":{"n":1}},"expect":{"body":{"n":1,"v":2}}}]}'
api PUT '/scripts/shape/live?account=acme' '{"version":2}'
api POST '/scripts/shape/versions?account=acme' '{"source":"export default e => ({n: e.data.n, v: 3})","note":"three, not live"}'
api POST /scripts '{"account":"acme","name":"large","kind":"filter","source":"data.n > 1"}'
api POST '/scripts/large/versions?account=acme' '{"source":"data.n > 2"}'
api PUT '/scripts/large/live?account=acme' '{"version":2}'
api POST /scripts '{"account":"acme","name":"draft","kind":"filter","cases":[{"name":"none","event":{"type":"order.created","data":{"n":1}},"expect":{"matches":true}}]}'

good=$(api POST /subscriptions "{\"account\":\"acme\",\"event\":\"order.created\",\"target_url\":\"http://127.0.0.1:23411/good\",\"transform_script\":\"shape\",\"headers\":{\"Authorization\":\"Bearer hush\"},\"metadata\":{\"kind\":\"good\"}}" | id)
paused=$(api POST /subscriptions "{\"account\":\"acme\",\"event\":\"order.*\",\"target_url\":\"http://127.0.0.1:23411/paused\",\"filter_script\":\"large\",\"metadata\":{\"kind\":\"paused\"},\"policy\":{\"ordering\":\"fifo\"}}" | id)
dead=$(api POST /subscriptions '{"account":"acme","event":"order.created","target_url":"http://127.0.0.1:23411/dead","secret":"whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=","policy":{"retries":["0s"]},"metadata":{"kind":"dead"}}' | id)
python3 -c '
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200 if self.path == "/good" else 500); self.send_header("Content-Length", "2"); self.end_headers(); self.wfile.write(b"ok")
    def log_message(self, *a): pass
http.server.HTTPServer(("127.0.0.1", 23411), H).serve_forever()' &
receiver=$!
sleep 1
for n in 1 2; do api POST /events "{\"account\":\"acme\",\"type\":\"order.created\",\"id\":\"order-$n\",\"data\":{\"n\":$n},\"headers\":{\"x\":\"ü\"}}"; done
sleep 2
api PATCH "/subscriptions/$paused" '{"active":false}'
kill $receiver
api POST /events '{"account":"acme","type":"order.created","id":"order-3","data":{"n":3}}'
api PATCH "/subscriptions/$paused" '{"active":true}'
api POST /events '{"account":"acme","type":"order.created","id":"order-4","data":{"n":4}}'
sleep 2
sleep 1
api POST /replays "{\"subscriptions\":[\"$dead\"],\"since\":\"2020-01-01T00:00:00Z\",\"status\":[\"succeeded\"]}" || true
api GET '/deliveries?account=acme' | python3 -c 'import json,sys
for d in json.load(sys.stdin)["data"]: print(d["id"], d["status"])'
# What a router that is killed leaves: a delivery with a row that is pending, and one without a row.
python3 -c '
import socket, time
l = socket.socket(); l.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); l.bind(("127.0.0.1", 23411)); l.listen(9); time.sleep(60)' &
receiver=$!
sleep 1
api POST /events '{"account":"acme","type":"order.created","id":"order-5","data":{"n":2}}'
sleep 2
api POST /events '{"account":"acme","type":"order.created","id":"order-6","data":{"n":2}}'
kill -9 $pid
kill $receiver
