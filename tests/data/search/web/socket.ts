/** Keeps a WebSocket open and comes back after failures. */
export class ReconnectingSocket {
  private attempts = 0;

  constructor(private url: string, private onMessage: (data: string) => void) {}

  connect(): void {
    const socket = new WebSocket(this.url);
    socket.onmessage = (event) => this.onMessage(event.data);
    socket.onclose = () => setTimeout(() => this.connect(), this.backoff());
  }

  /** Exponential delay with jitter. */
  private backoff(): number {
    this.attempts += 1;
    return Math.min(30000, 2 ** this.attempts * 100) * Math.random();
  }
}
