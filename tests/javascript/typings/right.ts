declare namespace DjangoSSE {
  interface Events {
    price: { bid: number; ask: number };
    "note-created": { pk: number; text: string };
  }
}

const undo: () => void = sse.on("price", ({ bid, ask }, { id, raw }) => {
  document.title = `${(ask - bid).toFixed(2)} ${id.length} ${raw.length}`;
});
undo();

sse.on("sse-open", ({ topics, refused }) => console.log(topics.join(), refused.length));
sse.on("*", (data, { event }) => console.log(event, data));
sse.on<{ pk: number }>("order-created", ({ pk }) => pk.toFixed());

const connection = sse.connect("/answer/", { lastId: "1~" }, (data: string, detail) => {
  if (detail.event === "end") connection.close();
  else document.body.append(data);
});
const onstate = (state: DjangoSSE.State) => state === "denied" && other.close();
const other = sse.connect(new URL("/answer/", location.href), { onstate }, (data, { raw }) => console.log(data, raw));

document.addEventListener("sse:price", (event) => {
  const spread: number = event.detail.data.ask - event.detail.data.bid;
  if (spread > 1) event.preventDefault();
});
document.addEventListener("sse:order-created", (event) => console.log(event.detail.event, event.detail.data.pk));
document.body.addEventListener("sse-fragment", ({ detail }) => {
  const swap: DjangoSSE.Swap = detail.data.swap;
  console.log(swap, detail.data.target, detail.data.html);
});
window.addEventListener("sse-reset", ({ detail }) => {
  if (detail.data.topics.includes("board")) location.reload();
});
document.addEventListener("sse-close", ({ detail }) => detail.data.reconnect || console.log(detail.data.reason));
document.addEventListener("sse-state", ({ detail }) => {
  switch (detail.state) {
    case "open":
      return;
    case "denied":
    case "closed":
    case "connecting":
    case "reconnecting":
      document.title = detail.state;
  }
});

const stream: HTMLElement | null = document.querySelector("sse-stream");
stream?.setAttribute("src", "/events/?topic=board");
const state: DjangoSSE.State | "" | undefined = window.sse?.state;
console.log(state === "open", sse.state === "");
