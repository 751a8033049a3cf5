/** Owns the smallest observer: who listens is told that something changed. Carries no payload. */
export class Signal {
  readonly #listeners = new Set<() => void>();

  /** Calls `listener` at each change; the answer ends that. */
  listen(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Tells every listener; one that is added meanwhile waits for the next change. */
  emit(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
