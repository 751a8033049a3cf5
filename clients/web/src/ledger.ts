/**
 * Owns the count of one document's local changes that the hub has not yet confirmed as durable.
 * The provider's own `unsyncedChanges` starts again at 1 with each connection, while the changes
 * that it queued while offline bring a confirmation each: it reads 0 after the first of them. Here a
 * change counts as durable once a frame that is known to carry it is confirmed. Pure: no socket.
 */
export class Ledger {
  #made = 0;
  #durable = 0;
  #refused = false;
  /** Of each frame that waits for its confirmation: up to which local change it carries all. */
  #covers: number[] = [];
  /** Whether this connection has told the hub everything that this side holds. */
  #told = false;

  /** How many local changes are not known to be durable. */
  get unsaved(): number {
    return this.#made - this.#durable;
  }

  /** Whether nothing is unsaved and no confirmation is under way. */
  get settled(): boolean {
    return this.unsaved === 0 && this.#covers.length === 0;
  }

  /** Whether the hub has said no to a change that exists only here. */
  get refused(): boolean {
    return this.#refused && this.unsaved > 0;
  }

  /** This side changed the document. */
  made(): void {
    this.#made += 1;
  }

  /** A new conversation about this document begins: confirmations of the last one will not come. */
  opened(): void {
    this.#covers = [];
    this.#told = false;
    this.#refused = false;
  }

  /** A frame with everything that this side holds left. */
  sentAll(): void {
    this.#told = true;
    this.#covers.push(this.#made);
  }

  /** A frame with one change left; until all was told it may lean on changes that are still here. */
  sentOne(): void {
    this.#covers.push(this.#told ? this.#made : 0);
  }

  /** The hub answered the oldest waiting frame. */
  answered(saved: boolean): void {
    const cover = this.#covers.shift();
    if (cover === undefined || cover <= this.#durable) return;
    if (saved) this.#durable = cover;
    else this.#refused = true;
  }
}
