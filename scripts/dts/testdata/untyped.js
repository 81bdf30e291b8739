// JavaScript, and event types without a schema.
import * as helpers from "switchhook"

export default /** @type {SwitchhookTransform<"free.form">} */ (async (event, request) => {
  request.headers["X-Any"] = event.data.what.ever
  return { id: helpers.hex.encode(event.id), any: event.data.whatever }
})
