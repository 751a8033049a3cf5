/** Owns how numbers and times read. Pure. */

const MINUTE_MS = 60_000;

/** "1 change", "3 changes". */
export function count(number: number, noun: string): string {
  return `${grouped(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** "12,345". */
export function grouped(number: number): string {
  return new Intl.NumberFormat("en").format(number);
}

/** "just now", "5 min ago", "3 h ago", then the date. Two clocks differ: what lies ahead is now. */
export function ago(time: number, now: number): string {
  const minutes = Math.floor((now - time) / MINUTE_MS);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.floor(minutes / 60)} h ago`;
  return new Intl.DateTimeFormat("en", { day: "numeric", month: "short", year: "numeric" }).format(time);
}

/** "20 min", "1 h", "1 h 30 min". */
export function minutesLong(minutes: number): string {
  const hours = Math.floor(minutes / 60);
  const rest = minutes % 60;
  if (!hours) return `${rest} min`;
  return rest ? `${grouped(hours)} h ${rest} min` : `${grouped(hours)} h`;
}

/** As `minutesLong`, of milliseconds. */
export function lasting(ms: number): string {
  return ms > 0 && ms < MINUTE_MS ? "less than a minute" : minutesLong(Math.round(ms / MINUTE_MS));
}
