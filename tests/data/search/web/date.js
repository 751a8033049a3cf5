/** Tells how long ago something was: "5 minutes ago". */
export function relativeTime(then, now) {
  const minutes = Math.round((now - then) / 60000);
  if (minutes < 60) return `${minutes} minutes ago`;
  return `${Math.round(minutes / 60)} hours ago`;
}
