// A Shopify order becomes the list that somebody walks through the warehouse with: what
// can be shipped, sorted by shelf, one line for each article.

export default function transform(event, request) {
  const order = event.data
  const picks = new Map()
  for (const item of order.line_items) {
    if (!item.requires_shipping || item.fulfillable_quantity === 0) continue
    if (!item.sku) throw new Error(`"${item.title}" has no SKU, so nobody can find it`)
    const known = picks.get(item.sku)
    if (known) known.quantity += item.fulfillable_quantity
    else picks.set(item.sku, { shelf: shelf(item), sku: item.sku, title: item.title, quantity: item.fulfillable_quantity })
  }
  const express = order.shipping_lines.some(line => /express|overnight/i.test(line.title))

  request.query.priority = express ? "high" : "normal"
  request.headers["X-Shop"] = event.headers["X-Shopify-Shop-Domain"]
  return {
    order: order.name,
    order_id: order.id, // beyond 2^53: it arrives as a BigInt and leaves digit by digit
    ship_to: address(order.shipping_address),
    express,
    grams: order.line_items.reduce((sum, item) => sum + item.grams * item.fulfillable_quantity, 0),
    picks: [...picks.values()].sort((a, b) => a.shelf < b.shelf ? -1 : a.shelf > b.shelf ? 1 : 0),
    note: order.note || undefined, // undefined leaves the member out
  }
}

// The shelf stands in the SKU: "B07-TEA-100" lies on shelf B07.
const shelf = item => item.sku.split("-")[0]

const address = a => [a.name, a.company, a.address1, a.address2, `${a.zip} ${a.city}`, a.country_code].filter(Boolean)
