// Each use is a mistake: where the declarations let one pass, the line above it is an error.

// @ts-expect-error: a handler is missing
sse.on("price");
// @ts-expect-error: a price has no such part
sse.on("price", ({ last }) => last);
// @ts-expect-error: what is returned is the undo
sse.on("price", () => {}).close();
// @ts-expect-error: names are strings
sse.on(5, () => {});
// @ts-expect-error: topics is a list
sse.on("sse-open", ({ topics }) => topics.toFixed());
// @ts-expect-error: a state is read only
sse.state = "open";
// @ts-expect-error: there is no such state
sse.state === "opened";
// @ts-expect-error: a function is needed that the events come to
sse.connect("/answer/");
// @ts-expect-error: options come before it
sse.connect("/answer/", () => {});
// @ts-expect-error: there is no such option
sse.connect("/answer/", { lastID: "1~" }, () => {});
// @ts-expect-error: a connection ends by close()
sse.connect("/answer/", {}, () => {}).end();
// @ts-expect-error: a bid is a number
document.addEventListener("sse:price", ({ detail }) => detail.data.bid.trim());
// @ts-expect-error: the event is no part of itself
document.addEventListener("sse:order-created", ({ detail }) => detail.name);
// @ts-expect-error: the reason is a text
document.addEventListener("sse-reset", ({ detail }) => detail.data.reason.toFixed());
// @ts-expect-error: there is no such swap
document.addEventListener("sse-fragment", ({ detail }) => detail.data.swap === "afterend");
// @ts-expect-error: it has a state, and no data
document.addEventListener("sse-state", ({ detail }) => detail.data);
// @ts-expect-error: the script may not be there yet
window.sse.on("price", () => {});
