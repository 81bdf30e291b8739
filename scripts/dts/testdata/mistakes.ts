// Each line after a marker has the mistake that the marker says.
export default function transform(event: SwitchhookEvent<"order.created">, request: SwitchhookRequest) {
  const order = event.data
  // @ts-expect-error no such member
  order.custmer
  // @ts-expect-error a number
  const total: string = order.total
  // @ts-expect-error may be missing
  order.customer.address.city.length
  // @ts-expect-error not one of the enum
  if (order.state === "gone") return 1
  // @ts-expect-error no such method
  request.method = "GET"
  // @ts-expect-error no such property
  request.host = "evil.example"
  // @ts-expect-error a reason is a text
  if (total) drop(5)
  // @ts-expect-error no such algorithm
  crypto.hmac("md5", "k", "d")
  // @ts-expect-error bytes are no text
  const digest: string = crypto.sha256("x", "bytes")
  // @ts-expect-error no network
  fetch("https://example.com/")
  // @ts-expect-error no timers
  setTimeout(() => 1, 5)
  // @ts-expect-error no Node.js
  process.exit(1)
  // @ts-expect-error no browser
  document.title = digest
  return { a: 1 }
}

// @ts-expect-error a mistyped event type
export const other = (event: SwitchhookEvent<"order.craeted">) => event

// @ts-expect-error nothing is returned
export const forgetful = ((event, request) => { request.path = event.data.id }) satisfies SwitchhookTransform<"order.created">
