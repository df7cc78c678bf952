/** A connection to a broker, real (MQTT) or in memory. Everything above speaks to this interface. */

export interface LinkMessage {
  topic: string;
  payload: Uint8Array;
  retained: boolean;
}

export interface PublishOptions {
  retain?: boolean;
  /** Give up waiting for the broker's acknowledgement after this long. Default 30 s. */
  timeoutMs?: number;
  /** Asked when it is its turn, right before it goes to the broker; a message that may not leave any more is dropped. */
  mayLeave?: () => boolean;
}

export interface Link {
  readonly clientId: string;
  readonly online: boolean;
  /** Payload bytes handed to and received from the broker since the link was made. */
  readonly counters: { readonly bytesSent: number; readonly bytesReceived: number };
  /**
   * QoS 1. Resolves when the broker took the message, which is flow control and not delivery.
   * @throws AppError BROKER_UNREACHABLE when offline or not acknowledged in time
   */
  publish(topic: string, payload: Uint8Array, options?: PublishOptions): Promise<void>;
  /** Handlers are called in order of arrival; a handler that throws is logged and does not stop the link. Subscriptions survive reconnects. Returns unsubscribe. */
  subscribe(
    filter: string,
    handler: (message: LinkMessage) => void | Promise<void>,
  ): Promise<() => Promise<void>>;
  /** `listener(true)` at each connection, `listener(false)` when it is lost. Returns remove. */
  onStatus(listener: (online: boolean) => void): () => void;
  close(): Promise<void>;
}
