import { drop, formatDate } from "switchhook"
import { hmac, sha256 as hash } from "switchhook:crypto"

interface Line { code: string; cost: number }

/** What the shop's partner wants. */
export default function transform(event: SwitchhookEvent<"order.created">, request: SwitchhookRequest) {
  const order = event.data
  if (order.test) drop("test order")
  const lines: Line[] = order.items.map(i => ({ code: i.sku, cost: i.price * i.quantity }))
  const state: "new" | "paid" = order.state
  const big: number | bigint = order.number
  const note: string | null | undefined = order.note
  const city: string | undefined = order.customer.address?.city
  const link = new URL("/orders?x=1", "https://shop.example/")
  link.searchParams.set("id", order.id)
  request.path = "/in/" + encodeURIComponent(order.id)
  request.method = "PUT"
  request.headers["X-Signature"] = hmac("sha256", base64.decode("AAECAw==", "bytes"), JSON.stringify(order))
  request.query.tags = ["a", "b"]
  console.log(order.tags?.["a"], hash("x"), event.headers["X-Source"])
  const copy = structuredClone(order)
  return {
    ...copy, lines, state, big, note, city, link, one: order.pair[0], two: order.pair[1],
    day: formatDate(event.time, "dd.MM.yyyy", "Europe/Berlin"),
    text: new TextDecoder().decode(new TextEncoder().encode(btoa("a"))),
  }
}

import { URL as Link, drop as skip } from "switchhook"
export class Deep extends Link { depth = 1 }
export function narrow(link: Link | null): string {
  if (!link) skip("no link")
  return link.href
}
