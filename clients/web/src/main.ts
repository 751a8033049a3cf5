/** Owns the start of the page: signed in or not, and the way between the two. */
import "./app.css";
import { type Info, open } from "./api.ts";
import { h } from "./dom.ts";
import { suggestedUser } from "./route.ts";
import { Session } from "./session.ts";
import { showSignIn } from "./signin.ts";
import { startTheme } from "./theme.ts";
import { count } from "./words.ts";
import { Workspace } from "./workspace.ts";

const root = document.getElementById("app") ?? document.body.appendChild(h("div"));

/** The workspace of a login that ended while changes were not saved: they wait in it. */
let waiting: Workspace | null = null;

function enter(session: Session, info: Info | null): void {
  const workspace = waiting?.login === session.user.login ? waiting : new Workspace(root, session, info);
  if (workspace === waiting) workspace.resume(session);
  else waiting?.destroy();
  waiting = null;
  session.onEnded = (reason) => {
    const kept = reason ? workspace.unsaved : 0;
    if (kept) {
      workspace.pause();
      waiting = workspace;
    } else {
      workspace.destroy();
    }
    gate(info, kept ? `${reason} ${count(kept, "change")} of ${workspace.login} ${kept === 1 ? "is" : "are"} kept in this window.` : reason);
  };
}

function gate(info: Info | null, reason: string): void {
  showSignIn(root, info, reason, (answer) => enter(Session.begin(answer), info));
}

async function start(): Promise<void> {
  startTheme();
  const info = await open.info().catch(() => null);
  const session = Session.restore();
  const wanted = suggestedUser();
  if (session && (wanted === null || wanted === session.user.login)) return enter(session, info);
  // An address that names somebody else asks for their sign-in in this window.
  session?.forget();
  gate(info, info ? "" : "The hub cannot be reached right now. Is it running?");
}

void start();
