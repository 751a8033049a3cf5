const routes = new Map();

/** Registers a handler for a path with parameters like /user/:id. */
function addRoute(pattern, handler) {
  routes.set(pattern, handler);
}

/** Finds the handler whose pattern fits, and its parameters. */
function matchRoute(path) {
  for (const [pattern, handler] of routes) {
    const names = [];
    const regex = pattern.replace(/:(\w+)/g, (_, name) => (names.push(name), '([^/]+)'));
    const found = new RegExp(`^${regex}$`).exec(path);
    if (found) return { handler, params: names.map((name, at) => [name, found[at + 1]]) };
  }
  return null;
}
