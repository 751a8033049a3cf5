/**
 * Owns the look at Hocuspocus frames as they really leave and arrive, on the provider's own socket,
 * so that ledgers can count. Changes no frame and sends none.
 */
import * as decoding from "lib0/decoding";

/** Who is told of the frames of a document, by the name that the frame carries. */
export interface FrameWatch {
  opened(): void;
  sentAll(document: string): void;
  sentOne(document: string): void;
  answered(document: string, saved: boolean): void;
}

const SYNC = 0;
const SYNC_STATUS = 8;
const STEP_2 = 1;
const UPDATE = 2;

/** A WebSocket class for the provider that tells `watch` what passes. */
export function watchedWebSocket(watch: FrameWatch): typeof WebSocket {
  return class WatchedWebSocket extends WebSocket {
    constructor(url: string | URL, protocols?: string | string[]) {
      super(url, protocols);
      this.addEventListener("open", () => watch.opened());
      this.addEventListener("message", (event: MessageEvent) => {
        if (event.data instanceof ArrayBuffer) received(watch, new Uint8Array(event.data));
      });
    }

    override send(data: string | ArrayBufferLike | Blob | ArrayBufferView<ArrayBuffer>): void {
      if (data instanceof Uint8Array) sent(watch, data);
      super.send(data);
    }
  };
}

function sent(watch: FrameWatch, frame: Uint8Array): void {
  if (frame.length < 3) return;
  const decoder = decoding.createDecoder(frame);
  const name = decoding.readVarString(decoder);
  if (decoding.readVarUint(decoder) !== SYNC) return;
  const kind = decoding.readVarUint(decoder);
  if (kind === STEP_2) watch.sentAll(name);
  else if (kind === UPDATE) watch.sentOne(name);
}

function received(watch: FrameWatch, frame: Uint8Array): void {
  if (frame.length < 3) return;
  try {
    const decoder = decoding.createDecoder(frame);
    const name = decoding.readVarString(decoder);
    if (decoding.readVarUint(decoder) === SYNC_STATUS) watch.answered(name, decoding.readVarUint(decoder) === 1);
  } catch {
    // A frame that cannot be read is the provider's to complain about.
  }
}
