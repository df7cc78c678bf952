/** The broker's twin in memory: retained messages, last wills, filters with wildcards. For simulations and tests. */
import { AppError } from '../shared/errors.ts';
import { type Logger, silentLogger } from '../shared/logger.ts';
import type { Link, LinkMessage } from './link.ts';
import type { Will } from './mqtt-session.ts';
import { createSubscriptions } from './subscriptions.ts';
import { topicMatches } from './topics.ts';

export interface MemoryLink extends Link {
  /** Breaks the connection as a network would: the will is published, and the link is back after a moment. */
  interrupt(): void;
}

export interface MemoryBroker {
  connect(options: { clientId: string; will?: () => Will }): MemoryLink;
  /** As a broker that is killed: all connections break, retained messages and wills are lost. */
  stop(): void;
  /** Links come back by themselves. */
  start(): void;
}

export interface MemoryBrokerOptions {
  /** Whether a client may publish on a topic or subscribe to a filter. Default: everything. */
  mayPublish?(clientId: string, topic: string): boolean;
  maySubscribe?(clientId: string, filter: string): boolean;
  logger?: Logger;
}

interface Connection {
  readonly clientId: string;
  attach(): void;
  detach(): void;
  deliver(message: LinkMessage): void;
}

interface BrokerState {
  running: boolean;
  readonly options: MemoryBrokerOptions;
  readonly connections: Set<Connection>;
  readonly retained: Map<string, Uint8Array>;
  route(message: LinkMessage): void;
}

export function createMemoryBroker(options: MemoryBrokerOptions = {}): MemoryBroker {
  const state: BrokerState = {
    running: true,
    options,
    connections: new Set(),
    retained: new Map(),
    route(message) {
      if (message.retained) {
        if (message.payload.length === 0) state.retained.delete(message.topic);
        else state.retained.set(message.topic, message.payload);
      }
      for (const connection of state.connections) connection.deliver({ ...message, retained: false });
    },
  };
  return {
    connect: (linkOptions) => createMemoryLink(state, linkOptions),
    stop() {
      state.running = false;
      state.retained.clear();
      for (const connection of state.connections) connection.detach();
    },
    start() {
      state.running = true;
      for (const connection of state.connections) connection.attach();
    },
  };
}

function createMemoryLink(
  state: BrokerState,
  { clientId, will }: { clientId: string; will?: () => Will },
): MemoryLink {
  const logger = state.options.logger ?? silentLogger;
  const subscriptions = createSubscriptions(logger);
  const filters = new Set<string>();
  const listeners = new Set<(online: boolean) => void>();
  const counters = { bytesSent: 0, bytesReceived: 0 };
  let online = false;
  let lastWill: Will | null = null;

  function setOnline(value: boolean): void {
    if (online === value) return;
    online = value;
    if (value) {
      lastWill = will?.() ?? null;
      for (const filter of filters) sendRetained(filter);
    }
    for (const listener of [...listeners]) listener(value);
  }

  function sendRetained(filter: string): void {
    for (const [topic, payload] of state.retained) {
      if (topicMatches(filter, topic)) receive({ topic, payload, retained: true });
    }
  }

  /** Like a network, hands messages over later; `publish` has made the copy. */
  function receive(message: LinkMessage): void {
    setImmediate(() => {
      if (!online) return;
      counters.bytesReceived += message.payload.length;
      subscriptions.dispatch(message);
    });
  }

  const connection: Connection = {
    clientId,
    attach: () => setImmediate(() => setOnline(state.running && state.connections.has(connection))),
    detach: () => setOnline(false),
    deliver(message) {
      if (online && [...filters].some((filter) => topicMatches(filter, message.topic))) receive(message);
    },
  };

  function leave(withWill: boolean): void {
    if (!online) return;
    setOnline(false);
    if (withWill && lastWill !== null && state.running) {
      state.route({ topic: lastWill.topic, payload: lastWill.payload, retained: lastWill.retain });
    }
  }

  state.connections.add(connection);
  if (state.running) setOnline(true);

  return {
    clientId,
    counters,
    get online() {
      return online;
    },
    async publish(topic, payload, publishOptions = {}) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!online) throw new AppError('BROKER_UNREACHABLE', 'There is no connection to the broker.');
      if (publishOptions.mayLeave?.() === false) return;
      counters.bytesSent += payload.length;
      // As with MQTT 3.1.1 over Mosquitto: what is forbidden is acknowledged and goes nowhere.
      if (state.options.mayPublish?.(clientId, topic) === false) return;
      state.route({ topic, payload: payload.slice(), retained: publishOptions.retain ?? false });
    },
    async subscribe(filter, handler) {
      if (state.options.maySubscribe?.(clientId, filter) === false) {
        throw new AppError('BROKER_REFUSED', 'The broker does not let this installation subscribe.');
      }
      const remove = subscriptions.add(filter, handler);
      filters.add(filter);
      if (online) sendRetained(filter);
      return async () => {
        if (remove()) filters.delete(filter);
      };
    },
    onStatus(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    interrupt() {
      leave(true);
      connection.attach();
    },
    async close() {
      leave(false);
      state.connections.delete(connection);
      subscriptions.clear();
      listeners.clear();
    },
  };
}
