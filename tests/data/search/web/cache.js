/** Keeps the most recently used entries and evicts the others. */
export class LruCache {
  constructor(size) {
    this.size = size;
    this.entries = new Map();
  }

  get(key) {
    const value = this.entries.get(key);
    this.entries.delete(key);
    this.entries.set(key, value);
    return value;
  }

  put(key, value) {
    if (this.entries.size >= this.size) {
      this.entries.delete(this.entries.keys().next().value);
    }
    this.entries.set(key, value);
  }
}
