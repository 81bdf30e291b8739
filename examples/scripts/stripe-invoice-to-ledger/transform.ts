// A paid Stripe invoice becomes one balanced entry of a ledger, in the currency's smallest
// unit, so that no amount is ever a fraction.

interface Line { account: string; debit: number; credit: number }

interface Invoice {
  id: string
  number: string
  currency: string
  amount_paid: number
  tax: number | null
  customer: string
  status_transitions: { paid_at: number }
}

const ACCOUNTS = { bank: "1200", revenue: "8400", tax: "1776" }

export default function transform(event: { id: string; data: { object: Invoice } }, request: any) {
  const invoice = event.data.object
  const tax = invoice.tax ?? 0
  const lines: Line[] = [
    { account: ACCOUNTS.bank, debit: invoice.amount_paid, credit: 0 },
    { account: ACCOUNTS.revenue, debit: 0, credit: invoice.amount_paid - tax },
  ]
  if (tax > 0) lines.push({ account: ACCOUNTS.tax, debit: 0, credit: tax })

  const balance = lines.reduce((sum, line) => sum + line.debit - line.credit, 0)
  if (balance !== 0) throw new Error(`entry for ${invoice.number} is out of balance by ${balance}`)

  // The ledger takes each entry under an address of its own: a repeat changes nothing.
  request.method = "PUT"
  request.path = `${request.path.replace(/\/$/, "")}/${encodeURIComponent(invoice.id)}`
  return {
    reference: invoice.number,
    booked_on: new Date(invoice.status_transitions.paid_at * 1000).toISOString().slice(0, 10),
    currency: invoice.currency.toUpperCase(),
    customer: invoice.customer,
    lines,
  }
}
