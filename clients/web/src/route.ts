/** Owns the address of what is on screen: `#/project/path/of/file`, and who `?user=` suggests. */

/** A project and perhaps a file in it. */
export interface Route {
  project: string | null;
  path: string | null;
}

/** What the address names. */
export function currentRoute(): Route {
  const parts = location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decode);
  const [project, ...path] = parts;
  return { project: project ?? null, path: path.length ? path.join("/") : null };
}

/** The address of a file or a project. */
export function routeTo(project: string, path?: string): string {
  const parts = [project, ...(path ? path.split("/") : [])];
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

/** Puts an address into the bar without a step in the history. */
export function replaceRoute(hash: string): void {
  history.replaceState(null, "", hash);
}

/** Puts an address into the bar as a step in the history; who calls shows what it names. */
export function pushRoute(hash: string): void {
  history.pushState(null, "", hash);
}

/** The login that `?user=` suggests. */
export function suggestedUser(): string | null {
  return new URLSearchParams(location.search).get("user");
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
