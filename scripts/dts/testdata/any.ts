export default (event: SwitchhookAnyEvent) => {
  switch (event.type) {
    case "order.created":
      return { id: event.data.id }
    case "free.form":
      return { x: event.data.x.y }
  }
}

export const general = (event: SwitchhookEvent) => event.data.a.b
