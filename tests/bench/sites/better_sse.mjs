// better-sse on Node's own HTTP server. Arguments: port, and the folder that has better-sse in node_modules.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { setImmediate as turn } from "node:timers/promises";

const [port, folder] = process.argv.slice(2);
const { createChannel, createEventBuffer, createSession } = createRequire(`${folder}/`)("better-sse");
const channel = createChannel();
const asIs = (text) => text;

// The clock that Python's time.monotonic() reads.
const text = (number) =>
  `${String(number).padStart(8, "0")} ${(Number(process.hrtime.bigint()) / 1e9).toFixed(9).padStart(25, "0")}`;

const id = (number) => `1~AAAAAAAA.${number + 1}.0123456789`;

async function carryOut(query) {
  const [first, count, each, rate] = ["first", "count", "each", "rate"].map((name) => Number(query.get(name)));
  const began = performance.now();
  for (let start = first; start < first + count; start += each) {
    if (rate) {
      const due = began + (1000 * (start - first)) / rate;
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, due - performance.now())));
    }
    if (each === 1) {
      channel.broadcast(text(start), "message", { eventId: id(start) });
    } else {
      const buffer = createEventBuffer({ serializer: asIs });
      for (let number = start; number < Math.min(start + each, first + count); number++) {
        buffer.push(text(number), "message", id(number));
      }
      for (const session of channel.activeSessions) session.batch(buffer);
    }
    await turn();
  }
}

createServer(async (request, response) => {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/events/") {
    const session = await createSession(request, response, { serializer: asIs });
    session.push("", "open");
    channel.register(session);
    return;
  }
  if (url.pathname === "/order") setTimeout(() => carryOut(url.searchParams), 50);
  response.end("ok");
}).listen(Number(port), "127.0.0.1", 2048);
