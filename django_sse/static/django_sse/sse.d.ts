// Types of django_sse's script, for TypeScript. A project names its own events in one place:
//
//   declare namespace DjangoSSE {
//     interface Events {
//       price: { bid: number; ask: number };
//     }
//   }

declare namespace DjangoSSE {
  /** The data of the project's events, by their names. Events that are not named here have `any` data. */
  interface Events {}

  /** The data of the events that streams send by themselves. */
  interface ReservedEvents {
    /** The stream has begun. */
    "sse-open": { topics: string[]; hashes: string[]; fresh: string[]; refused: string[]; heartbeat: number };
    /** Events were missed and cannot be brought: ask for the present state again. */
    "sse-reset": { topics: string[]; reason: string };
    /** The server ended the stream. */
    "sse-close": { reason: string; reconnect: boolean };
    /** A fragment of HTML has come. */
    "sse-fragment": { target: string; swap: Swap; html: string };
  }

  type Swap = "append" | "prepend" | "before" | "after" | "replace" | "html" | "remove";

  type State = "connecting" | "open" | "reconnecting" | "closed" | "denied";

  /** An event as it came. */
  interface Detail<Data = any> {
    /** Its name. */
    readonly event: string;
    /** The JSON that it carries, parsed; its text where that is none. */
    readonly data: Data;
    /** Its text. */
    readonly raw: string;
    /** The cursor of the stream behind it; empty where it has none. */
    readonly id: string;
  }

  type Handler<Data = any> = (data: Data, detail: Detail<Data>) => unknown;

  interface ConnectOptions {
    /** Where to go on: the `id` of the last event that was seen. */
    lastId?: string;
    /** Called with each state of the stream. */
    onstate?: (state: State) => unknown;
  }

  /** A stream that a script has opened. */
  interface Connection {
    /** End it. */
    close(): void;
  }

  interface Script {
    /** Call a function for each event of this name, or with "*" for all of them; returns its undo. */
    on<Name extends keyof (Events & ReservedEvents)>(
      name: Name,
      handler: Handler<(Events & ReservedEvents)[Name]>,
    ): () => void;
    on<Data = any>(name: string, handler: Handler<Data>): () => void;

    /** Open a stream without an element, whose events come to this function alone. */
    connect(url: string | URL, options: ConnectOptions | undefined, handler: Handler): Connection;

    /** The state of the page's streams, of several the worst; empty where there are none. */
    readonly state: State | "";
  }

  type DomEvents = {
    [Name in keyof Events & string as `sse:${Name}`]: CustomEvent<Detail<Events[Name]>>;
  } & {
    [Name in keyof ReservedEvents]: CustomEvent<Detail<ReservedEvents[Name]>>;
  };
}

/** There once the script, which is deferred, has run. */
declare const sse: DjangoSSE.Script;

interface Window {
  /** Not there where the page has no stream, or the script has not run yet. */
  readonly sse?: DjangoSSE.Script;
}

// Of elements, documents and windows: the events bubble.
interface GlobalEventHandlersEventMap extends DjangoSSE.DomEvents {
  [name: `sse:${string}`]: CustomEvent<DjangoSSE.Detail>;
  "sse-state": CustomEvent<{ readonly state: DjangoSSE.State }>;
}

interface HTMLElementTagNameMap {
  "sse-stream": HTMLElement;
}
