// Subscribes to orders, publishes one, waits for its delivery and unsubscribes. Every path, parameter
// and answer is checked against the router's OpenAPI document when this is compiled.
import { setTimeout as sleep } from "node:timers/promises";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Delivery = components["schemas"]["Delivery"];
type Problem = components["schemas"]["Problem"];

function setting(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`set ${name}`);
  return value;
}

const client = createClient<paths>({
  baseUrl: setting("SWITCHHOOK_URL"),
  headers: { Authorization: `Bearer ${setting("SWITCHHOOK_KEY")}` },
});

/** Returns the body of a 2xx answer, and throws what a problem says (RFC 9457). */
function body<T>(answer: { data?: T; error?: Problem }): T {
  if (answer.error) throw new Error(`${answer.error.code}: ${answer.error.detail}`);
  return answer.data as T;
}

/** Waits until a delivery of the subscription succeeded. */
async function delivered(subscription: string): Promise<Delivery> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const page = body(await client.GET("/api/v1/deliveries", {
      params: { query: { subscription_id: subscription, status: "succeeded" } },
    }));
    const list = Array.isArray(page) ? page : page.data; // an array only if it is asked for
    if (list[0]) return list[0];
    await sleep(100);
  }
  throw new Error("nothing was delivered within 10 seconds");
}

const subscription = body(await client.POST("/api/v1/subscriptions", {
  params: { header: { "Idempotency-Key": crypto.randomUUID() } }, // a repeat creates no second one
  body: { event: "order.*", target_url: setting("TARGET_URL"), filter: "data.total > 100" },
}));
console.log(`subscribed: ${subscription.id} to ${subscription.events.join(", ")}`);
try {
  const published = body(await client.POST("/api/v1/events", {
    body: { type: "order.created", data: { id: 1001, total: 129.5 } },
  }));
  if (!("id" in published)) throw new Error("a single event is answered with its id");
  const delivery = await delivered(subscription.id);
  console.log(`delivered: ${delivery.event_type} in attempt ${delivery.attempt_count}`);
  const event = body(await client.GET("/api/v1/events/{id}", { params: { path: { id: published.id } } }));
  console.log(`event: ${JSON.stringify(event.data)}`);
} finally {
  body(await client.DELETE("/api/v1/subscriptions/{id}", { params: { path: { id: subscription.id } } }));
  console.log("unsubscribed");
}
