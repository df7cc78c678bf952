/** Tells whoever listens that rows have changed. */

export interface ChangeListeners {
  /** @returns how to stop */
  add(listener: () => void): () => void;
  /** Listeners hear of it once the transaction is over in which this was called, and once for all changes in it. */
  tell(): void;
}

export function createChangeListeners(): ChangeListeners {
  const listeners = new Set<() => void>();
  let isTelling = false;
  return {
    add(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    tell() {
      if (isTelling) return;
      isTelling = true;
      queueMicrotask(() => {
        isTelling = false;
        for (const listener of listeners) listener();
      });
    },
  };
}
